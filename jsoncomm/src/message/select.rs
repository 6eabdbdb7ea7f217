//! How a field without `#[fd]` travels: by serde's traits if its type has them, or else as a message without descriptors.
//!
//! Autoref specialization: the derive calls a function on a [`Probe`] behind several references, and the compiler takes
//! the trait with the most references whose bounds hold. It decides by the concrete type, and where that has parameters,
//! by what is known of them. The last traits fit any type and require a trait that is never implemented, so that there is
//! one error, which says what to write.

use super::members::{absent, whole};
use super::probe::Probe;
use super::{PackPart, Packed, Packer, UnpackPart, Unpacker};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// A message that holds no descriptors.
///
/// The derive implements it for types without `#[fd]`. A type that implements [`Pack`] by hand may hold descriptors.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has descriptors inside",
    label = "has descriptors inside, or implements `Pack` and `Unpack` by hand",
    note = "write `#[fd]` before the field or argument"
)]
pub trait WithoutFds {}

/// Never implemented: the error for a type that can be written in neither of the two ways.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a message nor does serde know how to write it",
    label = "neither a message nor `serde::Serialize`",
    note = "derive `Message` for it, or serde's `Serialize` and `Deserialize`",
    note = "a container is the one or the other as a whole: beside types that are only messages, wrap one that only \
            serde knows in `jsoncomm::message::Json`",
    note = "if there are descriptors inside, write `#[fd]` before the field or argument"
)]
pub trait Writable {}

/// Never implemented: the error for a type that can be read in neither of the two ways.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a message nor does serde know how to read it",
    label = "neither a message nor `serde::Deserialize`",
    note = "derive `Message` for it, or serde's `Serialize` and `Deserialize`",
    note = "a container is the one or the other as a whole: beside types that are only messages, wrap one that only \
            serde knows in `jsoncomm::message::Json`",
    note = "if there are descriptors inside, write `#[fd]` before the field or argument"
)]
pub trait Readable {}

/// Written by serde.
#[doc(hidden)]
pub trait WriteBySerde<T: Serialize + ?Sized> {
    #[inline]
    fn write_field<'a>(&self, value: &'a T, _: &Packer<'a>) -> &'a T {
        value
    }
}

impl<T: Serialize + ?Sized> WriteBySerde<T> for &&Probe<T> {}

/// Written as a message.
#[doc(hidden)]
pub trait WriteAsMessage<T: PackPart + ?Sized> {
    #[inline]
    fn write_field<'p, 'a>(&self, value: &'a T, fds: &'p Packer<'a>) -> Packed<'p, 'a, T> {
        Packed(value, fds)
    }
}

impl<T: PackPart + WithoutFds + ?Sized> WriteAsMessage<T> for &Probe<T> {}

/// Not written: there are descriptors inside.
#[doc(hidden)]
pub trait WriteWithFds<T: ?Sized> {
    fn write_field(&self, _: &T, _: &Packer<'_>) -> &()
    where
        T: WithoutFds,
    {
        &()
    }
}

impl<T: PackPart + ?Sized> WriteWithFds<T> for Probe<T> {}

/// Not written: nothing knows how.
#[doc(hidden)]
pub trait WriteNothing<T: ?Sized>: Sized {
    fn write_field<'a>(self, _: &'a T, _: &Packer<'a>) -> &'a ()
    where
        T: Writable,
    {
        &()
    }
}

impl<T: ?Sized> WriteNothing<T> for Probe<T> {}

/// Read by serde.
#[doc(hidden)]
pub trait ReadBySerde<'de, T: Deserialize<'de>> {
    #[inline]
    fn read_field<D: Deserializer<'de>>(&self, _: &Unpacker, from: D) -> Result<T, D::Error> {
        whole(T::deserialize(from))
    }

    #[inline]
    fn absent_field(&self) -> Option<T> {
        absent()
    }
}

impl<'de, T: Deserialize<'de>> ReadBySerde<'de, T> for &&Probe<T> {}

/// Read as a message.
#[doc(hidden)]
pub trait ReadAsMessage<'de, T: UnpackPart<'de>> {
    #[inline]
    fn read_field<D: Deserializer<'de>>(&self, fds: &Unpacker, from: D) -> Result<T, D::Error> {
        T::unpack_part(fds, from)
    }

    #[inline]
    fn absent_field(&self) -> Option<T> {
        T::absent_part()
    }
}

impl<'de, T: UnpackPart<'de> + WithoutFds> ReadAsMessage<'de, T> for &Probe<T> {}

/// Not read: there are descriptors inside.
#[doc(hidden)]
pub trait ReadWithFds<'de, T: UnpackPart<'de>> {
    fn read_field<D: Deserializer<'de>>(&self, fds: &Unpacker, from: D) -> Result<T, D::Error>
    where
        T: WithoutFds,
    {
        T::unpack_part(fds, from)
    }

    fn absent_field(&self) -> Option<T> {
        None
    }
}

impl<'de, T: UnpackPart<'de>> ReadWithFds<'de, T> for Probe<T> {}

/// Not read: nothing knows how.
#[doc(hidden)]
pub trait ReadNothing<T>: Sized {
    fn read_field<'de, D: Deserializer<'de>>(self, _: &Unpacker, _: D) -> Result<T, D::Error>
    where
        T: Readable,
    {
        Err(D::Error::custom("nothing can be read as this"))
    }

    fn absent_field(self) -> Option<T> {
        None
    }
}

impl<T> ReadNothing<T> for Probe<T> {}
