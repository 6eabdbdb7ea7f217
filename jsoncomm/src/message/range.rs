//! Ranges and bounds, in the form that serde gives them: `{"start":1,"end":5}`, `{"Included":1}` or `"Unbounded"`.

use super::container::Seed;
use super::{
    Absence, MemberRules, Members, Pack, PackPart, Packed, Packer, Unpack, UnpackPart, Unpacker,
    WithoutFds, members,
};
use crate::shape::{Definition, Field, Form, Shape, Type, Variant};
use serde::de::{EnumAccess, Error, VariantAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserializer, Serializer};
use std::any::type_name;
use std::fmt;
use std::ops::{Bound, Range, RangeFrom, RangeInclusive, RangeTo};

/// The ends of a range while they are read.
struct Ends<T, R> {
    start: Option<T>,
    end: Option<T>,
    make: std::marker::PhantomData<R>,
}

const fn end<T: PackPart>(name: &'static str) -> Field {
    Field::new(name, "", Type::of::<T>())
}

/// Implements both traits for a range, by its ends and the function that makes it of them.
macro_rules! ranges {
    ($($range:ident, $name:literal: $($end:ident $place:literal = $told:ident $(($call:tt))?),+ => $make:expr;)*) => {$(
        impl<T: PackPart> Pack for $range<T> {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                let mut range = out.serialize_struct($name, [$($place),+].len())?;
                $(
                    let end = ranges!(@told self $told $($call)?);
                    range.serialize_field(stringify!($end), &Packed::new(end, fds))?;
                )+
                range.end()
            }

            fn shape() -> Shape {
                Shape::Defined(const {
                    &Definition::new(
                        type_name::<Self>,
                        $name,
                        "",
                        Form::Members(const { &[$(end::<T>(stringify!($end))),+] }),
                    )
                })
            }
        }

        impl<T: WithoutFds> WithoutFds for $range<T> {}

        impl<'de, T: UnpackPart<'de>> Unpack<'de> for $range<T> {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                members::<Ends<T, Self>, D>(fds, from)
            }
        }

        impl<'de, T: UnpackPart<'de>> Members<'de> for Ends<T, $range<T>> {
            type Value = $range<T>;
            const RULES: MemberRules =
                MemberRules::members(concat!("struct ", $name), &[$(stringify!($end)),+]).strict();

            fn new() -> Self {
                Self {
                    start: None,
                    end: None,
                    make: std::marker::PhantomData,
                }
            }

            fn find(name: &str) -> Option<usize> {
                match name {
                    $(stringify!($end) => Some($place),)+
                    _ => None,
                }
            }

            fn is_read(&self, index: usize) -> bool {
                match index {
                    $($place => self.$end.is_some(),)+
                    _ => false,
                }
            }

            fn read<D: Deserializer<'de>>(
                &mut self,
                index: usize,
                fds: &Unpacker,
                from: D,
            ) -> Result<(), D::Error> {
                match index {
                    $($place => self.$end = Some(T::unpack_part(fds, from)?),)+
                    _ => {}
                }
                Ok(())
            }

            fn finish<E: Error>(self, absence: Absence) -> Result<Self::Value, E> {
                let make: fn($(ranges!(@end T $end)),+) -> $range<T> = $make;
                Ok(make($(absence.fd(self.$end, stringify!($end))?),+))
            }
        }
    )*};
    (@told $self:ident $told:ident) => { &$self.$told };
    (@told $self:ident $told:ident $call:tt) => { $self.$told() };
    (@end $ty:ident $end:ident) => { $ty };
}

ranges! {
    Range, "Range": start 0 = start, end 1 = end => |start, end| start..end;
    RangeInclusive, "RangeInclusive": start 0 = start (call), end 1 = end (call) => Self::Value::new;
    RangeFrom, "RangeFrom": start 0 = start => |start| start..;
    RangeTo, "RangeTo": end 0 = end => |end| ..end;
}

impl<T: PackPart> Pack for Bound<T> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        let (index, name, end) = match self {
            Self::Unbounded => return out.serialize_unit_variant("Bound", 0, UNBOUNDED),
            Self::Included(end) => (1, INCLUDED, end),
            Self::Excluded(end) => (2, EXCLUDED, end),
        };
        out.serialize_newtype_variant("Bound", index, name, &Packed::new(end, fds))
    }

    fn shape() -> Shape {
        Shape::Defined(
            const {
                &Definition::new(
                    type_name::<Self>,
                    "Bound",
                    "",
                    Form::Variants(
                        const {
                            &[
                                Variant::new(UNBOUNDED, 1, "", Form::Unit),
                                bound::<T>(INCLUDED, 2),
                                bound::<T>(EXCLUDED, 3),
                            ]
                        },
                        None,
                    ),
                )
            },
        )
    }
}

const UNBOUNDED: &str = "Unbounded";
const INCLUDED: &str = "Included";
const EXCLUDED: &str = "Excluded";
const NAMES: &[&str] = &[UNBOUNDED, INCLUDED, EXCLUDED];

const fn bound<T: PackPart>(name: &'static str, code: i64) -> Variant {
    let form = Form::Whole(Type::of::<T>());
    Variant::new(name, code, "", form)
}

impl<T: WithoutFds> WithoutFds for Bound<T> {}

impl<'de, T: UnpackPart<'de>> Unpack<'de> for Bound<T> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        from.deserialize_enum("Bound", NAMES, Seed::<Self>::new(fds))
    }
}

impl<'de, T: UnpackPart<'de>> Visitor<'de> for Seed<'_, Bound<T>> {
    type Value = Bound<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("enum Bound")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Self::Value, A::Error> {
        let (name, content) = from.variant::<String>()?;
        let make = match &*name {
            UNBOUNDED => return content.unit_variant().map(|()| Bound::Unbounded),
            INCLUDED => Bound::Included,
            EXCLUDED => Bound::Excluded,
            _ => return Err(A::Error::unknown_variant(&name, NAMES)),
        };
        content
            .newtype_variant_seed(Seed::<T>::new(self.0))
            .map(make)
    }
}
