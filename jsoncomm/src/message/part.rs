//! Parts of messages: a message, or a `Result` of two.
//!
//! A `Result` is not a message by itself: a method that returns one replies with its value or fails with its error. Inside a
//! container or a struct it is written as serde writes it, `{"Ok":...}` or `{"Err":...}`.

use super::{Pack, Packed, Packer, Unpack, Unpacker, WithoutFds};
use crate::shape::{Definition, Form, Item, Shape, Type, Variant};
use serde::{Deserializer, Serializer};
use std::any::type_name;

/// A value that can be written as a part of a message.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be written as a message",
    label = "not a message",
    note = "derive `Message` for it; for a foreign serde type wrap it in `Json`",
    note = "a field without descriptors needs no `#[fd]`"
)]
pub trait PackPart {
    fn pack_part<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error>;

    fn part_shape() -> Shape;
}

impl<T: Pack + ?Sized> PackPart for T {
    #[inline]
    fn pack_part<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        self.pack(fds, out)
    }

    fn part_shape() -> Shape {
        T::shape()
    }
}

impl<T: PackPart, E: PackPart> PackPart for Result<T, E> {
    fn pack_part<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Ok(value) => out.serialize_newtype_variant("", 0, "Ok", &Packed(value, fds)),
            Err(error) => out.serialize_newtype_variant("", 1, "Err", &Packed(error, fds)),
        }
    }

    fn part_shape() -> Shape {
        Shape::Defined(
            const {
                &Definition::new(
                    type_name::<Self>,
                    "Result",
                    "",
                    Form::Variants(
                        const { &[variant::<T>("Ok", 1), variant::<E>("Err", 2)] },
                        None,
                    ),
                )
            },
        )
    }
}

/// Returns a variant that holds a `T`.
pub(super) const fn variant<T: PackPart>(name: &'static str, code: i64) -> Variant {
    let form = Form::Whole(Type::of::<T>());
    Variant::new(Item::new(name, ""), code, form)
}

impl Type {
    /// Returns the type `T`.
    pub const fn of<T: PackPart + ?Sized>() -> Self {
        Self::new(T::part_shape)
    }
}

/// A value that can be read as a part of a message.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read as a message",
    label = "not a message",
    note = "derive `Message` for it; for a foreign serde type wrap it in `Json`",
    note = "a field without descriptors needs no `#[fd]`"
)]
pub trait UnpackPart<'de>: Sized {
    fn unpack_part<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error>;

    fn absent_part() -> Option<Self> {
        None
    }
}

impl<'de, T: Unpack<'de>> UnpackPart<'de> for T {
    #[inline]
    fn unpack_part<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        T::unpack(fds, from)
    }

    fn absent_part() -> Option<Self> {
        T::absent()
    }
}

#[cfg(feature = "derive")]
impl<'de, T: UnpackPart<'de>, E: UnpackPart<'de>> UnpackPart<'de> for Result<T, E> {
    fn unpack_part<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        #[derive(jsoncomm_derive::Message)]
        #[message(crate = "crate")]
        #[serde(bound(
            serialize = "T: PackPart, E: PackPart",
            deserialize = "T: UnpackPart<'__de>, E: UnpackPart<'__de>"
        ))]
        #[serde(rename = "Result")]
        enum Either<T, E> {
            Ok(#[fd] T),
            Err(#[fd] E),
        }

        Either::unpack(fds, from).map(|either| match either {
            Either::Ok(value) => Ok(value),
            Either::Err(error) => Err(error),
        })
    }
}

impl<T: WithoutFds, E: WithoutFds> WithoutFds for Result<T, E> {}
