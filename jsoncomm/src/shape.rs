//! What a message looks like, told by its type to those who do not have the type.
//!
//! A type's shape names other types by functions that tell theirs, so that a type may hold itself.

#[cfg(feature = "schema")]
mod schema;

#[cfg(feature = "schema")]
pub use schema::{Schema, Schematic};

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
    /// Any value: a type that is left to serde, by its Rust name, or nothing that is known.
    Anything(&'static str),
    /// No value at all, as of [`Infallible`](std::convert::Infallible).
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
    /// A descriptor, whose index stands in the JSON; which kind, or nothing where any will do.
    Descriptor(&'static str),
    /// This or `null`; as a member it may be absent.
    Optional(Type),
    /// An array of any length, or of that one.
    List {
        /// What each element is.
        item: Type,
        /// How many there are, if always the same.
        length: Option<usize>,
        /// Each is there once, as in a set.
        distinct: bool,
    },
    /// An array of these.
    Tuple(&'static [Type]),
    /// An object with any keys, whose values are these.
    Map(Type),
    /// A struct or enum.
    Defined(&'static Definition),
    /// A type that describes itself by `schemars`.
    #[cfg(feature = "schema")]
    #[cfg_attr(docsrs, doc(cfg(feature = "schema")))]
    Schema(Schema),
}

/// A type, which can be asked for its [`Shape`].
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
pub struct Type(fn() -> Shape);

impl Type {
    /// A type of which only the name is known.
    #[doc(hidden)]
    pub const fn foreign<T: ?Sized>() -> Self {
        Self(|| Shape::Anything(type_name::<T>()))
    }

    #[doc(hidden)]
    pub const fn new(shape: fn() -> Shape) -> Self {
        Self(shape)
    }

    /// Tells what its JSON looks like.
    pub fn shape(self) -> Shape {
        (self.0)()
    }
}

/// Says no more than that it is one: a type may hold itself.
impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Type")
    }
}

/// A struct or enum, as its derive has seen it.
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

    /// The type's name in Rust, without parameters.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The type's name in Rust with its path and parameters, which tells it from others.
    pub fn rust_name(&self) -> &'static str {
        (self.rust)()
    }

    /// The type's doc comment.
    pub const fn docs(&self) -> &'static str {
        self.docs
    }

    /// What it is made of.
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
    /// This alone, which stands for the whole.
    Whole(Type),
    /// An array of these.
    Elements(&'static [Field]),
    /// An object of these.
    Members(&'static [Field]),
    /// One of these: an object whose only member has the variant's name, or one that has the variant's name and
    /// content as these members.
    Variants(&'static [Variant], Option<[&'static str; 2]>),
    /// Whatever else there may be, for a reader that is older than the writer.
    Other,
}

impl Form {
    /// When it is there, as the content beside a variant's tag.
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

/// A field of a struct or variant, or a parameter of a method.
///
/// # Examples
///
/// At [`Shape`] and [`Method`](crate::describe::Method).
#[derive(Debug, Clone, Copy)]
pub struct Field {
    name: &'static str,
    docs: &'static str,
    ty: Type,
    read: Presence,
    written: Presence,
    aliases: &'static [&'static str],
}

impl Field {
    #[doc(hidden)]
    pub const fn new(name: &'static str, docs: &'static str, ty: Type) -> Self {
        Self {
            name,
            docs,
            ty,
            read: Presence::Always,
            written: Presence::Always,
            aliases: &[],
        }
    }

    /// Sets when it is there, in what is read and in what is written.
    #[doc(hidden)]
    pub const fn when(mut self, read: Presence, written: Presence) -> Self {
        (self.read, self.written) = (read, written);
        self
    }

    #[doc(hidden)]
    pub const fn known_as(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The name on the wire; empty for an element. A field with a name for reading and another one for writing is
    /// listed by both.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The doc comment; a method's parameters have none.
    pub const fn docs(&self) -> &'static str {
        self.docs
    }

    /// Other names that it is read by as well, of which one may stand in its place.
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// What its JSON looks like.
    pub fn shape(&self) -> Shape {
        self.ty.shape()
    }

    /// Says whether whoever sends it to the type cannot leave it away: it is neither an `Option` nor has a default.
    pub fn is_required(&self) -> bool {
        self.presence(Way::Read) == Presence::Always
    }

    /// Says whether it is a descriptor, or some, or none or one.
    pub fn is_descriptor(&self) -> bool {
        match self.shape() {
            Shape::Descriptor(_) => true,
            Shape::Optional(item) | Shape::List { item, .. } => {
                matches!(item.shape(), Shape::Descriptor(_))
            }
            _ => false,
        }
    }

    pub(crate) const fn ty(&self) -> Type {
        self.ty
    }

    /// When it is there, as a member of an object.
    pub(crate) fn presence(&self, way: Way) -> Presence {
        match (way, self.in_array(way)) {
            (Way::Read, Presence::Always) if matches!(self.shape(), Shape::Optional(_)) => {
                Presence::Maybe
            }
            (_, presence) => presence,
        }
    }

    /// When it is there, as an element of an array, in which nothing is left away for its type alone.
    pub(crate) const fn in_array(&self, way: Way) -> Presence {
        match way {
            Way::Read => self.read,
            Way::Written => self.written,
        }
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
    name: &'static str,
    code: i64,
    docs: &'static str,
    form: Form,
    read: Presence,
    written: Presence,
    aliases: &'static [&'static str],
}

impl Variant {
    #[doc(hidden)]
    pub const fn new(name: &'static str, code: i64, docs: &'static str, form: Form) -> Self {
        Self {
            name,
            code,
            docs,
            form,
            read: Presence::Always,
            written: Presence::Always,
            aliases: &[],
        }
    }

    /// Sets when it can be there, in what is read and in what is written.
    #[doc(hidden)]
    pub const fn when(mut self, read: Presence, written: Presence) -> Self {
        (self.read, self.written) = (read, written);
        self
    }

    #[doc(hidden)]
    pub const fn known_as(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The name on the wire. A variant with a name for reading and another one for writing is listed by both.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Other names that it is read by as well.
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// The variant's number, counted from 1: the code of a service error.
    pub const fn code(&self) -> i64 {
        self.code
    }

    /// The doc comment.
    pub const fn docs(&self) -> &'static str {
        self.docs
    }

    /// What it holds.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Says whether it can be there.
    pub(crate) fn exists(&self, way: Way) -> bool {
        match way {
            Way::Read => self.read != Presence::Never,
            Way::Written => self.written != Presence::Never,
        }
    }
}

/// Which way a message goes, as its type sees it: in what is read some may be absent that is always written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Read,
    Written,
}
