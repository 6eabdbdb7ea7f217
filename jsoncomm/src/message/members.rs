//! Reading structs and arguments: the derive fills in a table for each, and the visitor here does the work.
//!
//! A struct is a map, or an array by position, as in serde. A member that comes twice is refused. An unknown one is
//! skipped, or refused where the table is strict.

use super::{Pack, Packer, Text, Unpacker};
use crate::json::{self, Reader, Unseen, without_secrets};
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
    fn finish<E: Error>(self, absence: Absence) -> Result<Self::Value, E>;
}

/// The names of members, and what is refused when they are read.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct MemberRules {
    /// What is expected, for errors: `struct Opened`, or a method's name.
    pub expecting: &'static str,
    /// The members' names, or `[0]`, `[1]` … where they have none.
    pub names: &'static [&'static str],
    /// The names that are accepted, aliases included; empty where these are `names`, or where members have none.
    pub known: &'static [&'static str],
    /// Members have names, so a map is accepted.
    pub named: bool,
    /// An unknown member is refused.
    pub strict: bool,
    /// The members are a method's arguments: one that may be absent from a map may be absent from an array, too.
    pub arguments: bool,
    /// Empty, or `$jsoncomm::sensitive ` and what is expected, where a member is sensitive: errors of the reader do not
    /// repeat what is in the place of the members.
    pub sensitive: &'static str,
}

impl MemberRules {
    /// The rules of a method's arguments, without their names.
    pub const ARGUMENTS: Self = Self {
        expecting: "",
        names: &[],
        known: &[],
        named: true,
        strict: true,
        arguments: true,
        sensitive: "",
    };

    /// Returns the error of something in the place of the members, which it does not repeat.
    pub(super) fn unexpected<E: Error>(self, found: Unexpected<'_>) -> E {
        if self.sensitive.is_empty() {
            E::invalid_type(found, &self)
        } else {
            E::custom(format_args!("expected {}", &self as &dyn Expected))
        }
    }

    /// Returns the error of a name that is no member's.
    fn unknown<E: Error>(&self, name: &str) -> E {
        let known = if self.known.is_empty() {
            self.names
        } else {
            self.known
        };
        E::unknown_field(name, known)
    }

    /// Returns the error of an array with more elements than there are members.
    fn too_long<E: Error>(&self) -> E {
        let length = self.names.len();
        let plural = if length == 1 { "" } else { "s" };
        let expected = format!("{} with {length} element{plural}", self as &dyn Expected);
        E::invalid_length(length + 1, &&*expected)
    }

    /// Returns what is the value of a member behind the end of an array.
    fn absence_in_array(&self) -> Absence {
        if self.arguments {
            Absence::Optional
        } else {
            Absence::Required
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
    const RULES: MemberRules = MemberRules {
        expecting: "no arguments",
        arguments: false,
        ..MemberRules::ARGUMENTS
    };

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

    fn finish<E: Error>(self, _: Absence) -> Result<(), E> {
        Ok(())
    }
}

/// Makes the value of an absent member: nothing, if its type allows for that, or an error.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub enum Absence {
    /// From a map, or from a method's arguments: an optional member may be absent.
    Optional,
    /// From an array, in which each element has to be there.
    Required,
    /// From an adjacently tagged enum without this member, which holds the content.
    Content(&'static str),
}

#[doc(hidden)]
impl Absence {
    /// Returns the value of a field that has been read, or its value if it is absent.
    #[inline]
    pub fn or<T, E: Error>(
        self,
        read: Option<T>,
        absent: impl FnOnce() -> Option<T>,
        name: &'static str,
    ) -> Result<T, E> {
        match (read, self) {
            (Some(value), _) => Ok(value),
            (None, Self::Required) => Err(E::missing_field(name)),
            (None, Self::Optional) => absent().ok_or_else(|| E::missing_field(name)),
            (None, Self::Content(content)) => absent().ok_or_else(|| E::missing_field(content)),
        }
    }
}

/// Reads a struct, from a map or an array.
#[doc(hidden)]
pub fn members<'de, M: Members<'de>, D: Deserializer<'de>>(
    fds: &Unpacker,
    from: D,
) -> Result<M::Value, D::Error> {
    let visitor = MembersVisitor::<M>(fds, PhantomData);
    let (name, names) = (M::RULES.sensitive, M::RULES.names);
    if M::RULES.named {
        from.deserialize_struct(name, names, visitor)
    } else {
        from.deserialize_tuple_struct(name, names.len(), visitor)
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
    members.finish(Absence::Optional)
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

/// A method's arguments while they are read, behind a reference.
pub(crate) trait Table<'de> {
    fn rules(&self) -> &'static MemberRules;
    /// Returns the index of an argument that is to be read, or `None` for an unknown one that is skipped.
    fn find(&self, name: &str) -> Result<Option<usize>, json::Error>;
    fn read(
        &mut self,
        index: usize,
        fds: &Unpacker,
        from: &mut Reader<'de>,
    ) -> Result<(), json::Error>;
    /// Makes the arguments' value.
    fn finish(&mut self, absence: Absence) -> Result<(), json::Error>;
}

/// The arguments of one method.
pub(crate) struct Arguments<'de, M: Members<'de>> {
    members: M,
    /// Absent until [`finish`](Table::finish) succeeds.
    pub(crate) value: Option<M::Value>,
}

impl<'de, M: Members<'de>> Arguments<'de, M> {
    pub(crate) fn new() -> Self {
        Self {
            members: M::new(),
            value: None,
        }
    }
}

impl<'de, M: Members<'de>> Table<'de> for Arguments<'de, M> {
    fn rules(&self) -> &'static MemberRules {
        const { &M::RULES }
    }

    fn find(&self, name: &str) -> Result<Option<usize>, json::Error> {
        find(&self.members, name)
    }

    fn read(
        &mut self,
        index: usize,
        fds: &Unpacker,
        from: &mut Reader<'de>,
    ) -> Result<(), json::Error> {
        self.members.read(index, fds, from)
    }

    fn finish(&mut self, absence: Absence) -> Result<(), json::Error> {
        let members = std::mem::replace(&mut self.members, M::new());
        self.value = Some(members.finish(absence)?);
        Ok(())
    }
}

/// Reads arguments as [`members`] reads members, without being compiled for the type: each method has its own.
pub(super) fn arguments<'de>(
    table: &mut dyn Table<'de>,
    fds: &Unpacker,
    from: &mut Reader<'de>,
) -> Result<(), json::Error> {
    let rules = table.rules();
    let skip = |from: &mut Reader<'de>| IgnoredAny::deserialize(from).map(drop);
    let absence = match from.peek() {
        b'{' => from.members(Unseen::Skipped, |mut entries| {
            while entries.next_key()? {
                match table.find(entries.key())? {
                    Some(index) => entries.value(|from| table.read(index, fds, from))?,
                    None => entries.value(skip)?,
                }
            }
            Ok(Absence::Optional)
        }),
        b'[' => from.elements(rules.names, |mut elements| {
            for index in 0..rules.names.len() {
                if elements
                    .next(|from| table.read(index, fds, from))?
                    .is_none()
                {
                    return Ok(rules.absence_in_array());
                }
            }
            match elements.next(skip)? {
                Some(()) => Err(rules.too_long()),
                None => Ok(rules.absence_in_array()),
            }
        }),
        _ => Err(from.invalid_type(rules)),
    };
    let absence = absence.map_err(|error| without_secrets(rules.sensitive, error))?;
    table.finish(absence)
}

/// Returns the index of a member that is to be read, or `None` for an unknown one that is skipped.
fn find<'de, M: Members<'de>, E: Error>(members: &M, name: &str) -> Result<Option<usize>, E> {
    let found = M::find(name);
    match found {
        None if M::RULES.strict => Err(M::RULES.unknown(name)),
        Some(index) if members.is_read(index) => {
            let name = M::RULES.names.get(index).copied();
            Err(E::duplicate_field(name.unwrap_or_default()))
        }
        _ => Ok(found),
    }
}

struct MembersVisitor<'f, M>(&'f Unpacker, PhantomData<M>);

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
        while let Some(found) = map.next_key_seed(Name(&members))? {
            match found {
                Some(index) => map.next_value_seed(Member(&mut members, index, self.0))?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        members.finish(Absence::Optional)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<M::Value, A::Error> {
        let (mut members, length) = (M::new(), M::RULES.names.len());
        for index in 0..length {
            let member = Member(&mut members, index, self.0);
            if seq.next_element_seed(member)?.is_none() {
                return members.finish(M::RULES.absence_in_array());
            }
        }
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(M::RULES.too_long());
        }
        members.finish(M::RULES.absence_in_array())
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

/// The seed of a member's name.
struct Name<'m, M>(&'m M);

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
        find(self.0, name)
    }
}

/// Passes on what a type or function of serde's has read. Of an error within it only the text says where: the fields
/// that [`DecodeError`](crate::error::DecodeError) names are those of messages.
#[doc(hidden)]
#[inline]
pub fn whole<T, E: Error>(read: Result<T, E>) -> Result<T, E> {
    #[cold]
    fn as_whole<E: Error>(error: E) -> E {
        E::custom(error)
    }

    read.map_err(as_whole)
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
    Text::deserialize(from).map(|text| text.0)
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
