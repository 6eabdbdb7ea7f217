//! Ranges and bounds, in the form that serde gives them: `{"start":1,"end":5}`, `{"Included":1}` or `"Unbounded"`.

use super::part::variant;
use super::{Pack, PackPart, Packed, Packer, Unpack, UnpackPart, Unpacker, WithoutFds};
use crate::shape::{Definition, Field, Form, Item, Shape, Type, Variant};
use serde::ser::SerializeStruct;
use serde::{Deserializer, Serializer};
use std::any::type_name;
use std::ops::{Bound, Range, RangeFrom, RangeInclusive, RangeTo};

const fn end<T: PackPart>(name: &'static str) -> Field {
    Field::new(Item::new(name, ""), Type::of::<T>())
}

/// Implements both traits for a range, by its ends, how each is found, and how it is made of them.
macro_rules! ranges {
    ($($range:ident, $name:literal: $($end:ident by $found:expr),+ => $make:expr;)*) => {$(
        impl<T: PackPart> Pack for $range<T> {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                let mut range = out.serialize_struct($name, [$(stringify!($end)),+].len())?;
                $(
                    let end: fn(&'a Self) -> &'a T = $found;
                    range.serialize_field(stringify!($end), &Packed(end(self), fds))?;
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
                #[derive(jsoncomm_derive::Message)]
                #[message(crate = "crate")]
                #[serde(bound(serialize = "T: PackPart", deserialize = "T: UnpackPart<'__de>"))]
                #[serde(deny_unknown_fields)]
                struct $range<T> {
                    $(#[fd] $end: T),+
                }

                let $range { $($end),+ } = $range::<T>::unpack(fds, from)?;
                Ok($make)
            }
        }
    )*};
}

ranges! {
    Range, "Range": start by |range| &range.start, end by |range| &range.end => start..end;
    RangeInclusive, "RangeInclusive": start by Self::start, end by Self::end => Self::new(start, end);
    RangeFrom, "RangeFrom": start by |range| &range.start => start..;
    RangeTo, "RangeTo": end by |range| &range.end => ..end;
}

impl<T: PackPart> Pack for Bound<T> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        let (index, name, end) = match self {
            Self::Unbounded => return out.serialize_unit_variant("Bound", 0, UNBOUNDED),
            Self::Included(end) => (1, INCLUDED, end),
            Self::Excluded(end) => (2, EXCLUDED, end),
        };
        out.serialize_newtype_variant("Bound", index, name, &Packed(end, fds))
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
                                Variant::new(Item::new(UNBOUNDED, ""), 1, Form::Unit),
                                variant::<T>(INCLUDED, 2),
                                variant::<T>(EXCLUDED, 3),
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

impl<T: WithoutFds> WithoutFds for Bound<T> {}

impl<'de, T: UnpackPart<'de>> Unpack<'de> for Bound<T> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        #[derive(jsoncomm_derive::Message)]
        #[message(crate = "crate")]
        #[serde(bound(serialize = "T: PackPart", deserialize = "T: UnpackPart<'__de>"))]
        enum Bound<T> {
            Unbounded,
            Included(#[fd] T),
            Excluded(#[fd] T),
        }

        Ok(match Bound::unpack(fds, from)? {
            Bound::Unbounded => Self::Unbounded,
            Bound::Included(end) => Self::Included(end),
            Bound::Excluded(end) => Self::Excluded(end),
        })
    }
}
