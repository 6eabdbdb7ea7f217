//! Shapes: what the JSON of a type looks like, for programs that do not have the type.
//!
//! A shape refers to other types by functions that return their shapes, so that a type may contain itself.

#[cfg(feature = "schema")]
mod schema;

#[cfg(feature = "schema")]
pub use schema::{Schema, Schematic};

use crate::fds::FdKind;
use std::any::type_name;
use std::fmt;

/// What the JSON of a type looks like.
///
/// # Examples
///
/// ```
/// use jsoncomm::Message;
/// use jsoncomm::describe::{Form, Shape, Type};
///
/// /// A file and how long it is.
/// #[derive(Debug, Message)]
/// struct Opened { len: u64, #[fd] file: std::fs::File }
///
/// let Shape::Defined(opened) = Type::of::<Opened>().shape() else { panic!() };
/// assert_eq!((opened.name(), opened.docs()), ("Opened", "A file and how long it is."));
/// let Form::Members([len, file]) = opened.form() else { panic!() };
/// assert!(matches!(len.shape(), Shape::Integer { least: 0, .. }));
/// assert!(file.is_descriptor() && file.is_required());
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Shape {
    /// Any value: a type that only serde knows, with its Rust name.
    Anything(&'static str),
    /// No value, as of [`Infallible`](std::convert::Infallible).
    Never,
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// An integer.
    Integer {
        /// The least.
        least: i128,
        /// The greatest.
        most: u128,
    },
    /// A floating-point number.
    Number,
    /// A string.
    Text,
    /// A descriptor, whose index is in the JSON. The text says which the Rust type accepts; it is empty if any will do. What
    /// `#[fd(...)]` asks for is at the [`Type`].
    Descriptor(&'static str),
    /// A connection, whose descriptor's index is in the JSON. The text is the name of the service at its other end; it is empty
    /// if the type does not say.
    Endpoint(&'static str),
    /// This type or `null`; as a member it may be absent.
    Optional(Type),
    /// An array.
    List {
        /// Type of each element.
        item: Type,
        /// Number of elements, if it is fixed.
        length: Option<usize>,
        /// No element is repeated, as in a set.
        distinct: bool,
    },
    /// An array with an element of each of these types.
    Tuple(&'static [Type]),
    /// An object with any keys, whose values have this type.
    Map(Type),
    /// A struct or enum.
    Defined(&'static Definition),
    /// A type that describes itself by `schemars`.
    #[cfg(feature = "schema")]
    #[cfg_attr(docsrs, doc(cfg(feature = "schema")))]
    Schema(Schema),
}

impl Shape {
    /// Returns the shape of a list.
    pub(crate) const fn list(item: Type, length: Option<usize>) -> Self {
        Self::List {
            item,
            length,
            distinct: false,
        }
    }

    /// Returns the shape of a set.
    pub(crate) const fn set(item: Type) -> Self {
        Self::List {
            item,
            length: None,
            distinct: true,
        }
    }
}

/// A type, whose [`Shape`] is found when it is needed.
///
/// # Examples
///
/// ```
/// use jsoncomm::describe::{Shape, Type};
///
/// let Shape::List { item, .. } = Type::of::<Vec<bool>>().shape() else { panic!() };
/// assert!(matches!(item.shape(), Shape::Boolean));
/// ```
#[derive(Clone, Copy)]
pub struct Type {
    shape: fn() -> Shape,
    kind: FdKind,
}

impl Type {
    /// Returns a type of which only the name is known.
    #[doc(hidden)]
    pub const fn foreign<T: ?Sized>() -> Self {
        Self::new(|| Shape::Anything(type_name::<T>()))
    }

    #[doc(hidden)]
    pub const fn new(shape: fn() -> Shape) -> Self {
        let kind = FdKind::ANY;
        Self { shape, kind }
    }

    /// Returns the type with descriptors of this kind only.
    #[doc(hidden)]
    pub const fn of_kind(self, kind: FdKind) -> Self {
        Self { kind, ..self }
    }

    /// Returns what its JSON looks like.
    pub fn shape(self) -> Shape {
        (self.shape)()
    }

    /// Returns what `#[fd(...)]` asks of each descriptor in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Message;
    /// use jsoncomm::describe::{Form, Shape, Type};
    /// use jsoncomm::fds::FdKind;
    ///
    /// #[derive(Debug, Message)]
    /// struct Log(#[fd(regular)] std::fs::File);
    ///
    /// let Shape::Defined(log) = Type::of::<Log>().shape() else { panic!() };
    /// let Form::Whole(file) = log.form() else { panic!() };
    /// assert_eq!(file.kind(), FdKind::REGULAR);
    /// ```
    pub const fn kind(self) -> FdKind {
        self.kind
    }
}

/// Prints nothing of the shape: a type may contain itself.
impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Type").field(&self.kind).finish()
    }
}

/// A struct or enum, as the derive has read it.
///
/// # Examples
///
/// At [`Shape`].
#[derive(Clone, Copy)]
pub struct Definition {
    rust: fn() -> &'static str,
    name: &'static str,
    docs: &'static str,
    form: Form,
}

impl Definition {
    #[doc(hidden)]
    pub const fn new(
        rust: fn() -> &'static str,
        name: &'static str,
        docs: &'static str,
        form: Form,
    ) -> Self {
        Self {
            rust,
            name,
            docs,
            form,
        }
    }

    /// Returns the type's name in Rust, without parameters.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the type's name in Rust, with its path and parameters.
    pub fn rust_name(&self) -> &'static str {
        (self.rust)()
    }

    /// Returns the type's doc comment.
    pub const fn docs(&self) -> &'static str {
        self.docs
    }

    /// Returns what it is made of.
    pub const fn form(&self) -> Form {
        self.form
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// What a struct, an enum or a variant is made of.
///
/// # Examples
///
/// At [`Shape`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Form {
    /// Nothing: `null`, or a variant's name alone.
    Unit,
    /// The value of its only field.
    Whole(Type),
    /// An array of these fields.
    Elements(&'static [Field]),
    /// An object of these fields.
    Members(&'static [Field]),
    /// One of these variants: an object whose only member has the variant's name, or an object with the variant's name
    /// and its content in the members with these names.
    Variants(&'static [Variant], Option<[&'static str; 2]>),
    /// Any variant that an older reader does not know.
    Other,
}

impl Form {
    /// Returns when the content of a tagged variant is there.
    pub(crate) fn beside_tag(&self, way: Way) -> Presence {
        match (way, self) {
            (_, Self::Unit) => Presence::Never,
            (Way::Read, Self::Whole(ty)) if matches!(ty.shape(), Shape::Optional(_)) => {
                Presence::Maybe
            }
            _ => Presence::Always,
        }
    }
}

/// When a field or variant is there.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    Always,
    /// It may be absent.
    Maybe,
    /// Never: it is skipped.
    Never,
}

/// What fields and variants have in common.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Item {
    pub name: &'static str,
    pub docs: &'static str,
    /// When it is there, in what is read.
    pub read: Presence,
    /// When it is there, in what is written.
    pub written: Presence,
    pub aliases: &'static [&'static str],
}

impl Item {
    /// Returns one that is always there, under one name.
    pub const fn new(name: &'static str, docs: &'static str) -> Self {
        Self {
            name,
            docs,
            read: Presence::Always,
            written: Presence::Always,
            aliases: &[],
        }
    }

    const fn presence(&self, way: Way) -> Presence {
        match way {
            Way::Read => self.read,
            Way::Written => self.written,
        }
    }
}

/// A field of a struct or variant, or a parameter of a method.
///
/// # Examples
///
/// At [`Shape`] and [`Method`](crate::describe::Method).
#[derive(Debug, Clone, Copy)]
pub struct Field {
    item: Item,
    ty: Type,
}

impl Field {
    #[doc(hidden)]
    pub const fn new(item: Item, ty: Type) -> Self {
        Self { item, ty }
    }

    /// Returns the name on the wire; empty for an element. A field with different names for reading and writing is listed
    /// under both.
    pub const fn name(&self) -> &'static str {
        self.item.name
    }

    /// Returns the doc comment; a method's parameters have none.
    pub const fn docs(&self) -> &'static str {
        self.item.docs
    }

    /// Returns other names under which the field is read.
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.item.aliases
    }

    /// Returns what its JSON looks like.
    pub fn shape(&self) -> Shape {
        self.ty.shape()
    }

    /// Returns what `#[fd(...)]` asks of each descriptor in it ([`Type::kind`]).
    pub const fn kind(&self) -> FdKind {
        self.ty.kind
    }

    /// Returns true if a sender may not leave it out: it is neither an `Option` nor has a default.
    pub fn is_required(&self) -> bool {
        self.presence(Way::Read) == Presence::Always
    }

    /// Returns true if it is a descriptor, or an `Option` or list of descriptors.
    pub fn is_descriptor(&self) -> bool {
        match self.shape() {
            Shape::Descriptor(_) | Shape::Endpoint(_) => true,
            Shape::Optional(item) | Shape::List { item, .. } => {
                matches!(item.shape(), Shape::Descriptor(_) | Shape::Endpoint(_))
            }
            _ => false,
        }
    }

    pub(crate) const fn ty(&self) -> Type {
        self.ty
    }

    /// Returns when the field is there, as a member of an object.
    pub(crate) fn presence(&self, way: Way) -> Presence {
        match (way, self.in_array(way)) {
            (Way::Read, Presence::Always) if matches!(self.shape(), Shape::Optional(_)) => {
                Presence::Maybe
            }
            (_, presence) => presence,
        }
    }

    /// Returns when the field is there, as an element of an array, where an `Option` may not be left out.
    pub(crate) const fn in_array(&self, way: Way) -> Presence {
        self.item.presence(way)
    }
}

/// A variant of an enum.
///
/// # Examples
///
/// ```
/// use jsoncomm::Message;
/// use jsoncomm::describe::{Form, Shape, Type};
///
/// #[derive(Debug, Message)]
/// enum State { Stopped, Running { pid: u32 } }
///
/// let Shape::Defined(state) = Type::of::<State>().shape() else { panic!() };
/// let Form::Variants([stopped, running], None) = state.form() else { panic!() };
/// assert!(matches!(stopped.form(), Form::Unit));
/// assert_eq!((running.name(), running.code()), ("Running", 2));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    item: Item,
    code: i64,
    form: Form,
}

impl Variant {
    #[doc(hidden)]
    pub const fn new(item: Item, code: i64, form: Form) -> Self {
        Self { item, code, form }
    }

    /// Returns the name on the wire. A variant with different names for reading and writing is listed under both.
    pub const fn name(&self) -> &'static str {
        self.item.name
    }

    /// Returns other names under which the variant is read.
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.item.aliases
    }

    /// Returns the variant's number, counted from 1: the code of a service error.
    pub const fn code(&self) -> i64 {
        self.code
    }

    /// Returns the doc comment.
    pub const fn docs(&self) -> &'static str {
        self.item.docs
    }

    /// Returns what it holds.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Returns true if the variant can be there.
    pub(crate) fn exists(&self, way: Way) -> bool {
        self.presence(way) != Presence::Never
    }

    pub(crate) const fn presence(&self, way: Way) -> Presence {
        self.item.presence(way)
    }
}

/// The direction of a message: what is always written may be absent when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Read,
    Written,
}
