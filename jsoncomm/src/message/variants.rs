//! Reading enums: the derive fills in a table of variants, the visitors here do the work.
//!
//! An externally tagged enum is a string, or an object with one member: `"Wait"`, `{"Open":{"path":"a"}}`. An adjacently
//! tagged one has its tag and its content in two members, in any order: `{"t":"Open","c":{"path":"a"}}`. The reader of
//! [`json`](crate::json) gives the tag first; other deserializers have to find it first.

use super::members::{Absence, Members, NoArguments, members, newtype};
use super::unknown::{Copied, UnknownVariant};
use super::{Text, Unpacker};
use crate::json::{ADJACENT, RESERVED};
use serde::Deserializer;
use serde::de::value::UnitDeserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// An enum that is read by its variants. The derive implements it.
#[doc(hidden)]
pub trait Variants<'de>: Sized {
    /// What it is, for errors: `enum Ask`.
    const EXPECTING: &'static str;
    /// The variants' names.
    const NAMES: &'static [&'static str];
    /// The names that are accepted, aliases included.
    const KNOWN: &'static [&'static str];

    /// Makes the variant for names that the enum does not have.
    const OTHER: Option<fn(UnknownVariant) -> Self> = None;

    /// Returns the index of the variant with this name or alias.
    fn find(name: &str) -> Option<usize>;
    /// Reads what the variant holds.
    fn variant<D: Deserializer<'de>>(
        index: usize,
        content: Content<D>,
        fds: &Unpacker,
    ) -> Result<Self, D::Error>;
}

/// What stands where a variant's content is expected.
#[doc(hidden)]
#[derive(Debug)]
pub enum Content<D> {
    /// A value.
    Value(D),
    /// The parameters of a call: a unit variant takes `{}` or `[]`.
    Params(D),
    /// Nothing: the variant's name is alone, in a string.
    Bare,
    /// Nothing: there is a tag without the content member, which has this name.
    Tagged(&'static str),
}

#[doc(hidden)]
impl<'de, D: Deserializer<'de>> Content<D> {
    /// Reads nothing, for a unit variant.
    pub fn unit(self, fds: &Unpacker) -> Result<(), D::Error> {
        match self {
            Self::Value(from) => serde::Deserialize::deserialize(from),
            Self::Params(from) => members::<NoArguments, D>(fds, from),
            Self::Bare | Self::Tagged(_) => Ok(()),
        }
    }

    /// Reads the only member of a newtype variant.
    pub fn newtype<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
        match self {
            Self::Value(from) | Self::Params(from) => newtype::<M, D>(fds, from),
            Self::Bare => {
                let found = Unexpected::UnitVariant;
                Err(D::Error::invalid_type(found, &"newtype variant"))
            }
            Self::Tagged(content) => M::new().finish(Absence::Content(content)),
        }
    }

    /// Reads the members of a struct or tuple variant.
    pub fn members<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
        match self {
            Self::Value(from) | Self::Params(from) => members::<M, D>(fds, from),
            Self::Bare => Err(M::RULES.unexpected(Unexpected::UnitVariant)),
            Self::Tagged(content) => Err(D::Error::missing_field(content)),
        }
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
    from.deserialize_struct(ADJACENT, names, visitor)
}

struct External<'f, V>(&'f Unpacker, PhantomData<V>);

impl<'de, V: Variants<'de>> Visitor<'de> for External<'_, V> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(V::EXPECTING)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V, E> {
        find::<V, E>(name)?.alone(Content::Bare, self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V, A::Error> {
        let Some(which) = map.next_key_seed(Tag::<V>(PhantomData))? else {
            return Err(A::Error::invalid_length(
                0,
                &"one member, named as a variant",
            ));
        };
        // A number's digits, as `serde_json` passes them on.
        if matches!(&which, Which::Other(name, _) if name.starts_with(RESERVED)) {
            return Err(A::Error::invalid_type(Unexpected::Other("number"), &self));
        }
        let value = map.next_value_seed(Held(which, self.0))?;
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
        let (mut which, mut value, mut tagged) = (None, None, false);
        while let Some(name) = map.next_key::<Text<'_>>()? {
            match &*name {
                name if name == tag && tagged => return Err(A::Error::duplicate_field(tag)),
                name if name == tag => {
                    tagged = true;
                    which = Some(map.next_value_seed(Tag::<V>(PhantomData))?);
                }
                name if name == content && value.is_some() => {
                    return Err(A::Error::duplicate_field(content));
                }
                name if name == content => match which.take() {
                    Some(which) => value = Some(map.next_value_seed(Held(which, self.fds))?),
                    None => {
                        return Err(A::Error::custom(format_args!(
                            "`{tag}` must come before `{content}`"
                        )));
                    }
                },
                name if self.strict => return Err(A::Error::unknown_field(name, self.names)),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (value, which) {
            (Some(value), _) => Ok(value),
            (None, Some(which)) => which.alone(Content::Tagged(content), self.fds),
            (None, None) => Err(A::Error::missing_field(tag)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<V, A::Error> {
        let Some(which) = seq.next_element_seed(Tag::<V>(PhantomData))? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        let Some(value) = seq.next_element_seed(Held(which, self.fds))? else {
            return Err(A::Error::invalid_length(1, &self));
        };
        match seq.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::invalid_length(3, &self)),
            None => Ok(value),
        }
    }
}

/// Which variant a name means.
enum Which<V> {
    Known(usize),
    /// None of the enum's own: its name, and what makes the variant for such.
    Other(String, fn(UnknownVariant) -> V),
}

impl<V> Which<V> {
    /// Makes the variant of a name without a value beside it.
    fn alone<'de, E: Error>(
        self,
        nothing: Content<UnitDeserializer<E>>,
        fds: &Unpacker,
    ) -> Result<V, E>
    where
        V: Variants<'de>,
    {
        match self {
            Self::Known(index) => V::variant(index, nothing, fds),
            Self::Other(name, make) => Ok(make(UnknownVariant {
                name,
                content: None,
            })),
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
struct Held<'f, V>(Which<V>, &'f Unpacker);

impl<'de, V: Variants<'de>> DeserializeSeed<'de> for Held<'_, V> {
    type Value = V;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<V, D::Error> {
        match self.0 {
            Which::Known(index) => V::variant(index, Content::Value(from), self.1),
            Which::Other(name, make) => Ok(make(UnknownVariant {
                name,
                content: Some(Copied.deserialize(from)?),
            })),
        }
    }
}
