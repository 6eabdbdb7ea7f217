//! Reading enums: the derive says what each variant holds, the visitors here find it.
//!
//! Externally tagged, as serde does by default: `"Denied"` or `{"NotFound":{"path":"a"}}`. Adjacently
//! tagged, with `#[serde(tag = "t", content = "c")]`: `{"t":"NotFound","c":{"path":"a"}}`. Content that comes
//! before its tag is skipped, and its text is read again once the tag says as what: in a buffer, as serde has
//! one, descriptors and 128-bit integers do not survive.

use super::Unpacker;
use super::members::{Absence, Members, NoArguments, members, newtype, no_newtype};
use super::unknown::{Copied, UnknownVariant};
use crate::json::{MADE_UP, Reader, UNREAD};
use crate::limits::Depth;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// An enum that is read by its variants. The derive implements it.
#[doc(hidden)]
pub trait Variants<'de>: Sized {
    /// What it is, for complaints: `enum Ask`.
    const EXPECTING: &'static str;
    /// The variants' names.
    const NAMES: &'static [&'static str];
    /// The names that are accepted, aliases included.
    const KNOWN: &'static [&'static str];

    /// Whether a variant holds something sensitive.
    const SENSITIVE: bool = false;

    /// Makes the variant that stands for all that the enum does not have.
    const OTHER: Option<fn(UnknownVariant) -> Self> = None;

    /// Tells which variant has this name or alias.
    fn find(name: &str) -> Option<usize>;
    /// Reads what the variant holds.
    fn variant<C: Content<'de>>(index: usize, content: C, fds: &Unpacker)
    -> Result<Self, C::Error>;
}

/// What stands where a variant's content is expected.
#[doc(hidden)]
pub trait Content<'de>: Sized {
    type Error: Error;

    /// Reads nothing, for a unit variant.
    fn unit(self, fds: &Unpacker) -> Result<(), Self::Error>;
    /// Reads the only member of a newtype variant.
    fn newtype<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, Self::Error>;
    /// Reads the members of a struct or tuple variant.
    fn members<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, Self::Error>;
}

/// A value.
struct Value<D>(D);

impl<'de, D: Deserializer<'de>> Content<'de> for Value<D> {
    type Error = D::Error;

    fn unit(self, _: &Unpacker) -> Result<(), D::Error> {
        serde::Deserialize::deserialize(self.0)
    }

    fn newtype<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
        newtype::<M, D>(fds, self.0)
    }

    fn members<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
        members::<M, D>(fds, self.0)
    }
}

/// The parameters of a call: a unit variant takes `{}` or `[]`.
pub(super) struct Params<D>(pub(super) D);

impl<'de, D: Deserializer<'de>> Content<'de> for Params<D> {
    type Error = D::Error;

    fn unit(self, fds: &Unpacker) -> Result<(), D::Error> {
        members::<NoArguments, D>(fds, self.0)
    }

    fn newtype<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
        newtype::<M, D>(fds, self.0)
    }

    fn members<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
        members::<M, D>(fds, self.0)
    }
}

/// The variant's name alone, in a string.
struct Bare<E>(PhantomData<E>);

impl<'de, E: Error> Content<'de> for Bare<E> {
    type Error = E;

    fn unit(self, _: &Unpacker) -> Result<(), E> {
        Ok(())
    }

    fn newtype<M: Members<'de>>(self, _: &Unpacker) -> Result<M::Value, E> {
        Err(E::invalid_type(Unexpected::UnitVariant, &"newtype variant"))
    }

    fn members<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, E> {
        let error = E::invalid_type(Unexpected::UnitVariant, &M::RULES);
        M::RULES.in_place(fds, Err(error))
    }
}

/// A tag without its content member, which has this name.
struct Tagged<E>(&'static str, PhantomData<E>);

impl<'de, E: Error> Content<'de> for Tagged<E> {
    type Error = E;

    fn unit(self, _: &Unpacker) -> Result<(), E> {
        Ok(())
    }

    fn newtype<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, E> {
        no_newtype::<M, E>(Absence::of_content(fds, self.0))
    }

    fn members<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, E> {
        Absence::of_content(fds, self.0).required(None, self.0)
    }
}

/// Reads an externally tagged enum.
#[doc(hidden)]
pub fn external<'de, V: Variants<'de>, D: Deserializer<'de>>(
    fds: &Unpacker,
    from: D,
) -> Result<V, D::Error> {
    from.deserialize_any(External(fds, PhantomData))
}

/// Reads an adjacently tagged enum; `strict` refuses members beside `tag` and `content`.
#[doc(hidden)]
pub fn adjacent<'de, V: Variants<'de>, D: Deserializer<'de>>(
    fds: &Unpacker,
    from: D,
    names: &'static [&'static str; 2],
    strict: bool,
) -> Result<V, D::Error> {
    let visitor = Adjacent {
        fds,
        names,
        strict,
        of: PhantomData,
    };
    from.deserialize_struct("", names, visitor)
}

struct External<'f, V>(&'f Unpacker, PhantomData<V>);

impl<'de, V: Variants<'de>> Visitor<'de> for External<'_, V> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(V::EXPECTING)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V, E> {
        match find::<V, E>(name)? {
            Which::Known(index) => V::variant(index, Bare(PhantomData), self.0),
            Which::Other(name, make) => Ok(make(UnknownVariant {
                name,
                content: None,
            })),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V, A::Error> {
        let Some(which) = map.next_key_seed(Tag::<V>(PhantomData))? else {
            return Err(A::Error::invalid_length(
                0,
                &"one member, named as a variant",
            ));
        };
        let known = match &which {
            Which::Known(index) => V::NAMES.get(*index).copied().unwrap_or_default(),
            // Made up by serde_json around a number's digits.
            Which::Other(name, _) if name.starts_with(MADE_UP) => {
                return Err(A::Error::invalid_type(Unexpected::Other("number"), &self));
            }
            Which::Other(..) => "",
        };
        let value = map
            .next_value_seed(Variant(which, self.0))
            .inspect_err(|_| self.0.within(known))?;
        match map.next_key::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom("more than one variant")),
            None => Ok(value),
        }
    }
}

struct Adjacent<'f, V> {
    fds: &'f Unpacker,
    names: &'static [&'static str; 2],
    strict: bool,
    of: PhantomData<V>,
}

impl<'de, V: Variants<'de>> Visitor<'de> for Adjacent<'_, V> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(V::EXPECTING)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V, A::Error> {
        let [tag, content] = *self.names;
        let mut which = None;
        let mut value = None;
        let mut unread = None;
        while let Some(found) = map.next_key_seed(Half(&self))? {
            match (found, &which) {
                (Found::Tag, None) => {
                    let tagged = map.next_value_seed(Tag::<V>(PhantomData));
                    let tagged = tagged.inspect_err(|_| self.fds.within(tag))?;
                    if let Some(text) = unread.take() {
                        let held = self.read_again(tagged.clone(), text);
                        value = Some(held.inspect_err(|_| self.fds.within(content))?);
                    }
                    which = Some(tagged);
                }
                (Found::Content, Some(which)) if value.is_none() => {
                    let seed = Variant(which.clone(), self.fds);
                    let held = map.next_value_seed(seed);
                    value = Some(held.inspect_err(|_| self.fds.within(content))?);
                }
                (Found::Content, None) if unread.is_none() => {
                    let skipped = map.next_value_seed(Unread(*self.names));
                    let skipped = match V::SENSITIVE {
                        true => self.fds.sensitive(skipped),
                        false => skipped,
                    };
                    unread = Some(skipped.inspect_err(|_| self.fds.within(content))?);
                }
                (Found::Tag | Found::Content, _) => {
                    let twice = if found == Found::Tag { tag } else { content };
                    self.fds.within(twice);
                    return Err(A::Error::duplicate_field(twice));
                }
                (Found::Other, _) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (which, value) {
            (_, Some(value)) => Ok(value),
            (Some(Which::Known(index)), None) => {
                V::variant(index, Tagged(content, PhantomData), self.fds)
            }
            (Some(Which::Other(name, make)), None) => Ok(make(UnknownVariant {
                name,
                content: None,
            })),
            (None, None) => {
                self.fds.within(tag);
                Err(A::Error::missing_field(tag))
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<V, A::Error> {
        let Some(which) = seq.next_element_seed(Tag::<V>(PhantomData))? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        let seed = Variant(which, self.fds);
        let Some(value) = seq.next_element_seed(seed)? else {
            return Err(A::Error::invalid_length(1, &self));
        };
        match seq.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::invalid_length(3, &self)),
            None => Ok(value),
        }
    }
}

impl<V> Adjacent<'_, V> {
    /// Reads the content that stood before its tag.
    fn read_again<'de, E: Error>(&self, which: Which<V>, text: &'de str) -> Result<V, E>
    where
        V: Variants<'de>,
    {
        // How deep it is has been found good as it was skipped.
        let mut reader = Reader::new(text, Depth::MAX);
        let value = Variant(which, self.fds).deserialize(&mut reader);
        match value {
            Ok(value) if reader.position() == text.len() => Ok(value),
            Ok(_) => Err(E::custom("trailing characters")),
            Err(error) => Err(E::custom(error)),
        }
    }
}

/// The seed of content that comes before its tag: its text. It has the names of the two for who cannot give that.
struct Unread([&'static str; 2]);

impl<'de> DeserializeSeed<'de> for Unread {
    type Value = &'de str;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<&'de str, D::Error> {
        from.deserialize_newtype_struct(UNREAD, self)
    }
}

impl<'de> Visitor<'de> for Unread {
    type Value = &'de str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tag, content] = self.0;
        write!(f, "`{tag}` before `{content}`")
    }

    fn visit_borrowed_bytes<E: Error>(self, text: &'de [u8]) -> Result<&'de str, E> {
        std::str::from_utf8(text).map_err(E::custom)
    }

    /// What is no reader of ours.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, _: D) -> Result<&'de str, D::Error> {
        let [tag, content] = self.0;
        Err(D::Error::custom(format_args!(
            "`{tag}` must come before `{content}`"
        )))
    }
}

/// Which half of an adjacently tagged enum a member is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Tag,
    Content,
    Other,
}

/// The seed of such a member's name.
struct Half<'a, 'f, V>(&'a Adjacent<'f, V>);

impl<'de, V> DeserializeSeed<'de> for Half<'_, '_, V> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl<V> Visitor<'_> for Half<'_, '_, V> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tag, content] = self.0.names;
        write!(f, "`{tag}` or `{content}`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Found, E> {
        let [tag, content] = self.0.names;
        match name {
            _ if name == *tag => Ok(Found::Tag),
            _ if name == *content => Ok(Found::Content),
            _ if self.0.strict => {
                self.0.fds.within(name);
                Err(E::unknown_field(name, self.0.names))
            }
            _ => Ok(Found::Other),
        }
    }
}

/// Which variant a name means.
enum Which<V> {
    Known(usize),
    /// None of the enum's own: its name, and what makes the variant for such.
    Other(String, fn(UnknownVariant) -> V),
}

impl<V> Clone for Which<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Known(index) => Self::Known(*index),
            Self::Other(name, make) => Self::Other(name.clone(), *make),
        }
    }
}

/// The seed of a variant's name.
struct Tag<V>(PhantomData<V>);

impl<'de, V: Variants<'de>> DeserializeSeed<'de> for Tag<V> {
    type Value = Which<V>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Which<V>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de, V: Variants<'de>> Visitor<'de> for Tag<V> {
    type Value = Which<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "variant of {}", V::EXPECTING)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Which<V>, E> {
        find::<V, E>(name)
    }
}

fn find<'de, V: Variants<'de>, E: Error>(name: &str) -> Result<Which<V>, E> {
    match (V::find(name), V::OTHER) {
        (Some(index), _) => Ok(Which::Known(index)),
        (None, Some(make)) => Ok(Which::Other(name.to_owned(), make)),
        (None, None) => Err(E::unknown_variant(name, V::KNOWN)),
    }
}

/// The seed of what a variant holds.
struct Variant<'f, V>(Which<V>, &'f Unpacker);

impl<'de, V: Variants<'de>> DeserializeSeed<'de> for Variant<'_, V> {
    type Value = V;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<V, D::Error> {
        match self.0 {
            Which::Known(index) => V::variant(index, Value(from), self.1),
            Which::Other(name, make) => Ok(make(UnknownVariant {
                name,
                content: Some(Copied.deserialize(from)?),
            })),
        }
    }
}
