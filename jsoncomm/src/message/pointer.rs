//! Pointers to a value or a slice, written and read as what they point to.

use super::{Pack, Packer, Unpack, UnpackPart, Unpacker, WithoutFds};
use crate::error::{DecodeError, EncodeError};
use crate::shape::Shape;
use serde::{Deserializer, Serializer};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// Implements [`Pack`] for pointers.
macro_rules! pack {
    ($($pointer:ty)*) => {$(
        impl<T: Pack + ?Sized> Pack for $pointer {
            fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
                (**self).pack(fds, out)
            }

            fn write<'a>(&'a self, text: &mut Vec<u8>, fds: &Packer<'a>) -> Result<(), EncodeError> {
                (**self).write(text, fds)
            }

            fn code(&self) -> i64 {
                (**self).code()
            }

            const CODES: &'static [&'static str] = T::CODES;

            fn shape() -> Shape {
                T::shape()
            }
        }

        impl<T: WithoutFds + ?Sized> WithoutFds for $pointer {}
    )*};
}

pack! { &T Box<T> Rc<T> Arc<T> }

/// Implements [`Unpack`] for pointers that own their value.
macro_rules! unpack {
    ($($pointer:ident)*) => {$(
        impl<'de, T: Unpack<'de>> Unpack<'de> for $pointer<T> {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                T::unpack(fds, from).map($pointer::new)
            }

            fn absent() -> Option<Self> {
                T::absent().map($pointer::new)
            }

            fn front(text: &'de str, fds: &Unpacker) -> Result<(Self, usize), DecodeError> {
                T::front(text, fds).map(|(value, length)| ($pointer::new(value), length))
            }

            fn of_error(
                said: (i64, &str),
                data: Option<&'de str>,
                fds: &Unpacker,
            ) -> Option<Result<Self, DecodeError>> {
                T::of_error(said, data, fds).map(|error| error.map($pointer::new))
            }
        }

        impl<'de, T: UnpackPart<'de>> Unpack<'de> for $pointer<[T]> {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                Vec::unpack(fds, from).map(Self::from)
            }
        }

        impl<'de> Unpack<'de> for $pointer<str> {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                String::unpack(fds, from).map(Self::from)
            }
        }

        impl<'de> Unpack<'de> for $pointer<Path> {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                PathBuf::unpack(fds, from).map(Self::from)
            }
        }
    )*};
}

unpack! { Box Rc Arc }
