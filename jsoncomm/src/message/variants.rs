//! Reading enums: the derive fills in a table of variants, the visitors here do the work.
//!
//! An externally tagged enum is a string, or an object with one member: `"Wait"`, `{"Open":{"path":"a"}}`. An adjacently
//! tagged one has its tag and its content in two members, in any order: `{"t":"Open","c":{"path":"a"}}`. The reader of
//! [`json`](crate::json) gives the tag first; other deserializers have to find it first.

use super::Unpacker;
use super::members::{Absence, Members, NoArguments, members, newtype};
use super::unknown::{Copied, UnknownVariant};
use crate::json::{ADJACENT, ADJACENT_SENSITIVE, RESERVED};
use serde::Deserializer;
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

    /// Whether a variant's content is sensitive.
    const SENSITIVE: bool = false;

    /// Makes the variant for names that the enum does not have.
    const OTHER: Option<fn(UnknownVariant) -> Self> = None;

    /// Returns the index of the variant with this name or alias.
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

/// Content that is a value.
struct Value<D>(D);

/// Content that is the parameters of a call: a unit variant takes `{}` or `[]`.
pub(super) struct Params<D>(pub(super) D);

/// Implements [`Content`] for what is read from a deserializer, by the way that it reads a unit variant.
macro_rules! contents {
    ($($of:ident: |$fds:ident, $from:ident| $unit:expr;)*) => {$(
        impl<'de, D: Deserializer<'de>> Content<'de> for $of<D> {
            type Error = D::Error;

            fn unit(self, $fds: &Unpacker) -> Result<(), D::Error> {
                let $from = self.0;
                $unit
            }

            fn newtype<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
                newtype::<M, D>(fds, self.0)
            }

            fn members<M: Members<'de>>(self, fds: &Unpacker) -> Result<M::Value, D::Error> {
                members::<M, D>(fds, self.0)
            }
        }
    )*};
}

contents! {
    Value: |_fds, from| serde::Deserialize::deserialize(from);
    Params: |fds, from| members::<NoArguments, D>(fds, from);
}

/// A variant's name alone, in a string.
struct Bare<E>(PhantomData<E>);

impl<'de, E: Error> Content<'de> for Bare<E> {
    type Error = E;

    fn unit(self, _: &Unpacker) -> Result<(), E> {
        Ok(())
    }

    fn newtype<M: Members<'de>>(self, _: &Unpacker) -> Result<M::Value, E> {
        Err(E::invalid_type(Unexpected::UnitVariant, &"newtype variant"))
    }

    fn members<M: Members<'de>>(self, _: &Unpacker) -> Result<M::Value, E> {
        Err(M::RULES.unexpected(Unexpected::UnitVariant))
    }
}

/// A tag without its content member, which has this name.
struct Tagged<E>(&'static str, PhantomData<E>);

impl<'de, E: Error> Content<'de> for Tagged<E> {
    type Error = E;

    fn unit(self, _: &Unpacker) -> Result<(), E> {
        Ok(())
    }

    fn newtype<M: Members<'de>>(self, _: &Unpacker) -> Result<M::Value, E> {
        M::new().finish(Absence::Content(self.0))
    }

    fn members<M: Members<'de>>(self, _: &Unpacker) -> Result<M::Value, E> {
        Err(E::missing_field(self.0))
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
    let name = if V::SENSITIVE {
        ADJACENT_SENSITIVE
    } else {
        ADJACENT
    };
    from.deserialize_struct(name, names, visitor)
}

struct External<'f, V>(&'f Unpacker, PhantomData<V>);

impl<'de, V: Variants<'de>> Visitor<'de> for External<'_, V> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(V::EXPECTING)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V, E> {
        find::<V, E>(name)?.with(Bare(PhantomData), self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V, A::Error> {
        let Some(which) = map.next_key_seed(Tag::<V>(PhantomData))? else {
            return Err(A::Error::invalid_length(
                0,
                &"one member, named as a variant",
            ));
        };
        match &which {
            // A number's digits, as `serde_json` passes them on.
            Which::Other(name, _) if name.starts_with(RESERVED) => {
                return Err(A::Error::invalid_type(Unexpected::Other("number"), &self));
            }
            _ => {}
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
        while let Some(found) = map.next_key_seed(Half(&self))? {
            match found {
                Found::Tag if !tagged => {
                    tagged = true;
                    which = Some(map.next_value_seed(Tag::<V>(PhantomData))?);
                }
                Found::Tag => return Err(A::Error::duplicate_field(tag)),
                Found::Content if value.is_some() => {
                    return Err(A::Error::duplicate_field(content));
                }
                Found::Content => match which.take() {
                    Some(which) => value = Some(map.next_value_seed(Held(which, self.fds))?),
                    None => {
                        return Err(A::Error::custom(format_args!(
                            "`{tag}` must come before `{content}`"
                        )));
                    }
                },
                Found::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (value, which) {
            (Some(value), _) => Ok(value),
            (None, Some(which)) => which.with(Tagged(content, PhantomData), self.fds),
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

/// Which half of an adjacently tagged enum a member is.
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
            _ if self.0.strict => Err(E::unknown_field(name, self.0.names)),
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

impl<V> Which<V> {
    /// Makes the variant of a name without a value beside it.
    fn with<'de, C: Content<'de>>(self, content: C, fds: &Unpacker) -> Result<V, C::Error>
    where
        V: Variants<'de>,
    {
        match self {
            Self::Known(index) => V::variant(index, content, fds),
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
            Which::Known(index) => V::variant(index, Value(from), self.1),
            Which::Other(name, make) => Ok(make(UnknownVariant {
                name,
                content: Some(Copied.deserialize(from)?),
            })),
        }
    }
}
