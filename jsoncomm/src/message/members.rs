//! Reading structs: the derive fills in a table per struct, the visitor here does the work.
//!
//! A struct is a map, or an array by position, as in serde. A member that comes twice is refused;
//! one that the type does not know is skipped, or refused where the table is strict. Whatever fails,
//! the member's name is put before the failure's path.

use super::{UnpackPart, Unpacker};
use serde::de::{Deserialize, Visitor};
use serde::de::{DeserializeSeed, Error, Expected, IgnoredAny, MapAccess, SeqAccess, Unexpected};
use serde::{Deserializer, forward_to_deserialize_any};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The members of a struct or of an enum's variant, while they are being read. The derive implements
/// it on a type that has an `Option` for each.
#[doc(hidden)]
pub trait Members<'de>: Sized {
    /// What the members make up.
    type Value;
    /// What it is, for complaints: `struct Opened`.
    const EXPECTING: &'static str;
    /// The members' names, or `[0]`, `[1]` … where they have none.
    const NAMES: &'static [&'static str];
    /// The names that are accepted, aliases included; empty where members have no names.
    const KNOWN: &'static [&'static str];
    /// Whether members have names, so that a map is accepted.
    const NAMED: bool;
    /// Whether an unknown member is refused.
    const STRICT: bool;
    /// Whether they are a method's arguments, of which one that is optional by name is so by position, too.
    const ARGUMENTS: bool = false;

    /// Makes the table with all members absent.
    fn new() -> Self;
    /// Tells which member has this name or alias.
    fn find(name: &str) -> Option<usize>;
    /// Says whether a member is there already.
    fn is_read(&self, index: usize) -> bool;
    /// Reads one member.
    fn read<D: Deserializer<'de>>(
        &mut self,
        index: usize,
        fds: &Unpacker,
        from: D,
    ) -> Result<(), D::Error>;
    /// Makes the value; what is absent comes from defaults or from `absence`.
    fn finish<E: Error>(self, absence: Absence<'_>) -> Result<Self::Value, E>;
}

/// What a member is that did not come: nothing, if its type allows for that, or an error.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Absence<'f> {
    fds: &'f Unpacker,
    from: From,
}

#[derive(Debug, Clone, Copy)]
enum From {
    /// A map.
    Map,
    /// An array of that many elements, where something of more was expected.
    Array(usize, Length),
    /// The same of a method's arguments.
    Arguments(usize, Length),
    /// An adjacently tagged enum: the member that holds the content.
    Enum(&'static str),
}

#[doc(hidden)]
impl<'f> Absence<'f> {
    /// Of the content of an adjacently tagged enum.
    pub(super) fn of_content(fds: &'f Unpacker, content: &'static str) -> Self {
        let from = From::Enum(content);
        Self { fds, from }
    }

    /// Makes the value of a field that goes through [`Unpack`](super::Unpack).
    pub fn fd<'de, T: UnpackPart<'de>, E: Error>(self, name: &'static str) -> Result<T, E> {
        match T::absent_part() {
            Some(value) if !matches!(self.from, From::Array(..)) => Ok(value),
            _ => self.refuse(name),
        }
    }

    /// Makes the value of a field that goes through serde.
    pub fn plain<'de, T: Deserialize<'de>, E: Error>(self, name: &'static str) -> Result<T, E> {
        match absent() {
            Some(value) if !matches!(self.from, From::Array(..)) => Ok(value),
            _ => self.refuse(name),
        }
    }

    /// Blames the field: it has to be there.
    pub fn refuse<T, E: Error>(self, name: &'static str) -> Result<T, E> {
        match self.from {
            From::Map => {
                self.fds.within(name);
                Err(E::missing_field(name))
            }
            From::Array(length, expected) | From::Arguments(length, expected) => {
                self.fds.within(name);
                Err(E::invalid_length(length, &expected))
            }
            From::Enum(content) => {
                self.fds.within(content);
                Err(E::missing_field(content))
            }
        }
    }
}

/// How many elements something has, for complaints: `struct Pair with 2 elements`.
#[derive(Debug, Clone, Copy)]
struct Length(&'static str, usize);

impl Expected for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.1 == 1 { "" } else { "s" };
        write!(f, "{} with {} element{plural}", self.0, self.1)
    }
}

/// Reads a struct, from a map or an array.
#[doc(hidden)]
pub fn members<'de, M: Members<'de>, D: Deserializer<'de>>(
    fds: &Unpacker,
    from: D,
) -> Result<M::Value, D::Error> {
    let visitor = Table::<M>(fds, PhantomData);
    if M::NAMED {
        from.deserialize_struct("", M::KNOWN, visitor)
    } else {
        from.deserialize_tuple(M::NAMES.len(), visitor)
    }
}

/// Reads the only member of a struct or variant that is written as that member.
#[doc(hidden)]
pub fn newtype<'de, M: Members<'de>, D: Deserializer<'de>>(
    fds: &Unpacker,
    from: D,
) -> Result<M::Value, D::Error> {
    let mut members = M::new();
    members.read(0, fds, from)?;
    let from = From::Map;
    members.finish(Absence { fds, from })
}

/// Makes the value of an absent member of a newtype variant.
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

struct Table<'f, M>(&'f Unpacker, PhantomData<M>);

impl<M> Table<'_, M> {
    /// Refuses a member that is there already, then reads it.
    fn read<'de, E: Error>(
        &self,
        members: &mut M,
        index: usize,
        next: impl FnOnce(Member<'_, '_, M>) -> Result<(), E>,
    ) -> Result<(), E>
    where
        M: Members<'de>,
    {
        let name = M::NAMES.get(index).copied().unwrap_or_default();
        let result = if members.is_read(index) {
            Err(E::duplicate_field(name))
        } else {
            next(Member(members, index, self.0))
        };
        result.inspect_err(|_| self.0.within(name))
    }
}

impl<'de, M: Members<'de>> Visitor<'de> for Table<'_, M> {
    type Value = M::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(M::EXPECTING)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M::Value, A::Error> {
        if !M::NAMED {
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
        let from = From::Map;
        members.finish(Absence { fds: self.0, from })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<M::Value, A::Error> {
        let expected = Length(M::EXPECTING, M::NAMES.len());
        let mut members = M::new();
        let mut length = 0;
        while length < M::NAMES.len() {
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
        if length == M::NAMES.len() && seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(length + 1, &expected));
        }
        let from = match M::ARGUMENTS {
            true => From::Arguments(length, expected),
            false => From::Array(length, expected),
        };
        members.finish(Absence { fds: self.0, from })
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

/// The seed of a member's name: its index, or `None` for a stranger that may be skipped.
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
        if found.is_none() && M::STRICT {
            self.0.within(name);
            return Err(E::unknown_field(name, M::KNOWN));
        }
        Ok(found)
    }
}

/// Makes the value of an absent plain member as serde does: `None` for an `Option`.
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
