//! Reading structs and arguments: the derive fills in a table for each, and the visitor here does the work.
//!
//! A struct is a map, or an array by position, as in serde. A member that comes twice is refused. An unknown one is
//! skipped, or refused where the table is strict. An error's path begins with the member's name.

use super::{Pack, Packer, UnpackPart, Unpacker};
use serde::de::{Deserialize, Visitor};
use serde::de::{DeserializeSeed, Error, Expected, IgnoredAny, MapAccess, SeqAccess, Unexpected};
use serde::ser::SerializeStruct;
use serde::{Deserializer, Serializer, forward_to_deserialize_any};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The members of a struct, of an enum's variant or of a method's arguments, while they are being read. The derive
/// implements it for a type that has an `Option` for each.
#[doc(hidden)]
pub trait Members<'de>: Sized {
    /// What the members become.
    type Value;
    /// The members' names, and what is refused.
    const RULES: MemberRules;

    /// Returns the table with all members absent.
    fn new() -> Self;
    /// Returns the index of the member with a name or alias.
    fn find(name: &str) -> Option<usize>;
    /// Returns true if a member has been read.
    fn is_read(&self, index: usize) -> bool;
    /// Reads one member.
    fn read<D: Deserializer<'de>>(
        &mut self,
        index: usize,
        fds: &Unpacker,
        from: D,
    ) -> Result<(), D::Error>;
    /// Returns the value; members that are absent come from defaults or from `absence`.
    fn finish<E: Error>(self, absence: Absence<'_>) -> Result<Self::Value, E>;
}

/// The names of members, and what is refused when they are read.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct MemberRules {
    /// What is expected, for errors: `struct Opened`, or a method's name.
    expecting: &'static str,
    /// The members' names, or `[0]`, `[1]` … where they have none.
    names: &'static [&'static str],
    /// The names that are accepted, aliases included; empty where members have no names.
    known: &'static [&'static str],
    /// Members have names, so a map is accepted.
    named: bool,
    /// An unknown member is refused.
    strict: bool,
    /// The members are a method's arguments: one that may be absent from a map may be absent from an array, too.
    arguments: bool,
    /// A member is sensitive: errors do not repeat what is in the place of the members.
    sensitive: bool,
}

#[doc(hidden)]
impl MemberRules {
    /// Members with names.
    pub const fn members(expecting: &'static str, names: &'static [&'static str]) -> Self {
        Self {
            expecting,
            names,
            known: names,
            named: true,
            strict: false,
            arguments: false,
            sensitive: false,
        }
    }

    /// Members without names.
    pub const fn elements(expecting: &'static str, names: &'static [&'static str]) -> Self {
        Self {
            known: &[],
            named: false,
            ..Self::members(expecting, names)
        }
    }

    /// A method's arguments.
    pub const fn arguments(method: &'static str, names: &'static [&'static str]) -> Self {
        Self {
            arguments: true,
            ..Self::members(method, names).strict()
        }
    }

    /// Sets the names that are accepted, where they are not the members' names alone.
    #[must_use]
    pub const fn known(mut self, known: &'static [&'static str]) -> Self {
        self.known = known;
        self
    }

    /// Has errors not repeat what is in the place of the members.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Has unknown members refused.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }
}

impl MemberRules {
    /// Returns what was read in the place of the members, or an error that does not repeat it if one is sensitive.
    pub(super) fn in_place<T, E: Error>(self, fds: &Unpacker, read: Result<T, E>) -> Result<T, E> {
        if self.sensitive {
            fds.in_place(&self, read)
        } else {
            read
        }
    }
}

/// Writes what is expected.
impl Expected for MemberRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.arguments {
            f.write_str("the arguments of ")?;
        }
        f.write_str(self.expecting)
    }
}

/// A method without arguments: an empty object or array.
#[doc(hidden)]
#[derive(Debug)]
pub struct NoArguments;

impl Pack for NoArguments {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_struct("", 0)?.end()
    }
}

impl<'de> Members<'de> for NoArguments {
    type Value = ();
    const RULES: MemberRules = MemberRules::members("no arguments", &[]).strict();

    fn new() -> Self {
        Self
    }

    fn find(_: &str) -> Option<usize> {
        None
    }

    fn is_read(&self, _: usize) -> bool {
        false
    }

    fn read<D: Deserializer<'de>>(&mut self, _: usize, _: &Unpacker, _: D) -> Result<(), D::Error> {
        Ok(())
    }

    fn finish<E: Error>(self, _: Absence<'_>) -> Result<(), E> {
        Ok(())
    }
}

/// Makes the value of an absent member: nothing, if its type allows for that, or an error.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Absence<'f> {
    fds: &'f Unpacker,
    place: Place,
}

/// Where a member is absent.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// A map.
    Map,
    /// An array of so many elements, which is too short.
    Array(usize, Length),
    /// A method's arguments in an array of so many elements.
    Arguments(usize, Length),
    /// An adjacently tagged enum, in the member that holds the content.
    Enum(&'static str),
}

#[doc(hidden)]
impl<'f> Absence<'f> {
    /// The absence of an adjacently tagged enum's content.
    pub(super) fn of_content(fds: &'f Unpacker, content: &'static str) -> Self {
        let place = Place::Enum(content);
        Self { fds, place }
    }

    /// Returns the value of a field that [`Unpack`](super::Unpack) has read, or its value if it is absent.
    #[inline]
    pub fn fd<'de, T: UnpackPart<'de>, E: Error>(
        self,
        read: Option<T>,
        name: &'static str,
    ) -> Result<T, E> {
        self.or(read, T::absent_part, name)
    }

    /// Returns the value of a field that serde has read, or its value if it is absent.
    #[inline]
    pub fn plain<'de, T: Deserialize<'de>, E: Error>(
        self,
        read: Option<T>,
        name: &'static str,
    ) -> Result<T, E> {
        self.or(read, absent, name)
    }

    /// Returns the value of a field that has been read: it is required.
    #[inline]
    pub fn required<T, E: Error>(self, read: Option<T>, name: &'static str) -> Result<T, E> {
        self.or(read, || None, name)
    }

    #[inline]
    fn or<T, E: Error>(
        self,
        read: Option<T>,
        absent: impl FnOnce() -> Option<T>,
        name: &'static str,
    ) -> Result<T, E> {
        match read {
            Some(value) => Ok(value),
            None => match absent() {
                Some(value) if !matches!(self.place, Place::Array(..)) => Ok(value),
                _ => Err(self.error(name)),
            },
        }
    }

    /// Returns the error about a field that is required.
    #[cold]
    fn error<E: Error>(self, name: &'static str) -> E {
        match self.place {
            Place::Map => {
                self.fds.within(name);
                E::missing_field(name)
            }
            Place::Array(length, expected) | Place::Arguments(length, expected) => {
                self.fds.within(name);
                E::invalid_length(length, &expected)
            }
            Place::Enum(content) => {
                self.fds.within(content);
                E::missing_field(content)
            }
        }
    }
}

/// How many elements something has, for errors: `struct Pair with 2 elements`.
#[derive(Debug, Clone, Copy)]
struct Length(MemberRules);

impl Expected for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.names.len();
        let plural = if length == 1 { "" } else { "s" };
        Expected::fmt(&self.0, f)?;
        write!(f, " with {length} element{plural}")
    }
}

/// Reads a struct, from a map or an array.
#[doc(hidden)]
pub fn members<'de, M: Members<'de>, D: Deserializer<'de>>(
    fds: &Unpacker,
    from: D,
) -> Result<M::Value, D::Error> {
    let visitor = MembersVisitor::<M>(fds, PhantomData);
    let read = if M::RULES.named {
        from.deserialize_struct("", M::RULES.known, visitor)
    } else {
        from.deserialize_tuple(M::RULES.names.len(), visitor)
    };
    M::RULES.in_place(fds, read)
}

/// Reads the only member of a struct or variant that is written as that member.
#[doc(hidden)]
pub fn newtype<'de, M: Members<'de>, D: Deserializer<'de>>(
    fds: &Unpacker,
    from: D,
) -> Result<M::Value, D::Error> {
    let mut members = M::new();
    members.read(0, fds, from)?;
    let place = Place::Map;
    members.finish(Absence { fds, place })
}

/// Returns the value of a newtype variant whose only member is absent.
pub(super) fn no_newtype<'de, M: Members<'de>, E: Error>(
    absence: Absence<'_>,
) -> Result<M::Value, E> {
    M::new().finish(absence)
}

/// Reads a unit struct: `null`.
#[doc(hidden)]
pub fn unit_struct<'de, D: Deserializer<'de>>(
    from: D,
    expecting: &'static str,
) -> Result<(), D::Error> {
    struct Null(&'static str);

    impl Visitor<'_> for Null {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_unit<E: Error>(self) -> Result<(), E> {
            Ok(())
        }
    }

    from.deserialize_unit_struct("", Null(expecting))
}

struct MembersVisitor<'f, M>(&'f Unpacker, PhantomData<M>);

impl<M> MembersVisitor<'_, M> {
    /// Reads a member, unless it has been read already, which is an error.
    fn read<'de, E: Error>(
        &self,
        members: &mut M,
        index: usize,
        next: impl FnOnce(Member<'_, '_, M>) -> Result<(), E>,
    ) -> Result<(), E>
    where
        M: Members<'de>,
    {
        let name = M::RULES.names.get(index).copied().unwrap_or_default();
        let result = if members.is_read(index) {
            Err(E::duplicate_field(name))
        } else {
            next(Member(members, index, self.0))
        };
        result.inspect_err(|_| self.0.within(name))
    }
}

impl<'de, M: Members<'de>> Visitor<'de> for MembersVisitor<'_, M> {
    type Value = M::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Expected::fmt(&M::RULES, f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M::Value, A::Error> {
        if !M::RULES.named {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let mut members = M::new();
        while let Some(found) = map.next_key_seed(Name::<M>(self.0, PhantomData))? {
            match found {
                Some(index) => {
                    self.read(&mut members, index, |member| map.next_value_seed(member))?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let place = Place::Map;
        members.finish(Absence { fds: self.0, place })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<M::Value, A::Error> {
        let expected = Length(M::RULES);
        let mut members = M::new();
        let mut length = 0;
        while length < M::RULES.names.len() {
            let mut ended = false;
            self.read(&mut members, length, |member| {
                ended = seq.next_element_seed(member)?.is_none();
                Ok(())
            })?;
            if ended {
                break;
            }
            length += 1;
        }
        if length == M::RULES.names.len() && seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(length + 1, &expected));
        }
        let place = if M::RULES.arguments {
            Place::Arguments(length, expected)
        } else {
            Place::Array(length, expected)
        };
        members.finish(Absence { fds: self.0, place })
    }
}

/// The seed of one member.
struct Member<'m, 'f, M>(&'m mut M, usize, &'f Unpacker);

impl<'de, M: Members<'de>> DeserializeSeed<'de> for Member<'_, '_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.read(self.1, self.2, from)
    }
}

/// The seed of a member's name: its index, or `None` for an unknown one that is skipped.
struct Name<'f, M>(&'f Unpacker, PhantomData<M>);

impl<'de, M: Members<'de>> DeserializeSeed<'de> for Name<'_, M> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl<'de, M: Members<'de>> Visitor<'de> for Name<'_, M> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field identifier")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let found = M::find(name);
        if found.is_none() && M::RULES.strict {
            self.0.within(name);
            return Err(E::unknown_field(name, M::RULES.known));
        }
        Ok(found)
    }
}

/// Returns the value that serde gives an absent member: `None` for an `Option`.
#[doc(hidden)]
pub fn absent<'de, T: Deserialize<'de>>() -> Option<T> {
    struct Absent;

    impl<'de> Deserializer<'de> for Absent {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Error::custom("absent"))
        }

        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            visitor.visit_none()
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
            unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
        }
    }

    T::deserialize(Absent).ok()
}

/// Reads a `Cow<str>` that borrows where the text has no escapes: `#[serde(borrow)]`.
#[doc(hidden)]
pub fn borrow_cow_str<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
) -> Result<Cow<'a, str>, D::Error> {
    struct Text;

    impl<'de> Visitor<'de> for Text {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }

        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }
    }

    from.deserialize_str(Text)
}

/// Reads a `Cow<[u8]>` that borrows where it can: `#[serde(borrow)]`.
#[doc(hidden)]
pub fn borrow_cow_bytes<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
) -> Result<Cow<'a, [u8]>, D::Error> {
    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Cow<'de, [u8]>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte array")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.as_bytes().to_owned()))
        }

        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text.as_bytes()))
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(Cow::Owned(bytes.to_owned()))
        }

        fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(bytes))
        }
    }

    from.deserialize_bytes(Bytes)
}
