//! Plain data, which uses its own serde impls and has no descriptors.

use super::{Pack, Packer, Unpack, Unpacker, WithoutFds, whole};
use crate::shape::{Definition, Field, Form, Item, Shape, Type};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString};
use std::hash::BuildHasher;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{NonZero, Saturating, Wrapping};
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, SystemTime};

/// Implements [`Pack`] by [`Serialize`], with the shape that serde gives the type.
macro_rules! pack {
    (@ [$($generics:tt)*] $shape:expr => $plain:ty) => {
        impl<$($generics)*> Pack for $plain {
            fn pack<'a, S: Serializer>(
                &'a self,
                _: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                self.serialize(out)
            }

            fn shape() -> Shape {
                $shape
            }
        }

        impl<$($generics)*> WithoutFds for $plain {}
    };
    ($($generics:tt $shape:expr => $($plain:ty)+;)*) => {
        $($(pack! { @ $generics $shape => $plain })+)*
    };
}

/// Implements [`Unpack`] by [`Deserialize`].
macro_rules! unpack {
    (@ [$($generics:tt)*] $plain:ty) => {
        impl<'de, $($generics)*> Unpack<'de> for $plain
        where
            Self: Deserialize<'de>,
        {
            fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
                whole(Self::deserialize(from))
            }
        }
    };
    ($($generics:tt $($plain:ty)+;)*) => {
        $($(unpack! { @ $generics $plain })+)*
    };
}

/// Implements both for types without parameters, by their shape.
macro_rules! plain {
    ($($shape:expr => $($plain:ty)+;)*) => {
        pack! { $([] $shape => $($plain)+;)* }
        unpack! { $([] $($plain)+;)* }
    };
}

plain! {
    Shape::Boolean => bool;
    Shape::Text => char String PathBuf;
    Shape::Text => IpAddr Ipv4Addr Ipv6Addr SocketAddr SocketAddrV4 SocketAddrV6;
    integer(Self::MIN, Self::MAX)
        => u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize;
    integer(Self::MIN.get(), Self::MAX.get())
        => NonZero<u8> NonZero<u16> NonZero<u32> NonZero<u64> NonZero<u128> NonZero<usize>
        NonZero<i8> NonZero<i16> NonZero<i32> NonZero<i64> NonZero<i128> NonZero<isize>;
    Shape::Number => f32 f64;
    <[u8]>::shape() => CString;
    foreign::<Self>() => OsString;
    Shape::Boolean => AtomicBool;
    integer(u8::MIN, u8::MAX) => AtomicU8;
    integer(u16::MIN, u16::MAX) => AtomicU16;
    integer(u32::MIN, u32::MAX) => AtomicU32;
    integer(u64::MIN, u64::MAX) => AtomicU64;
    integer(usize::MIN, usize::MAX) => AtomicUsize;
    integer(i8::MIN, i8::MAX) => AtomicI8;
    integer(i16::MIN, i16::MAX) => AtomicI16;
    integer(i32::MIN, i32::MAX) => AtomicI32;
    integer(i64::MIN, i64::MAX) => AtomicI64;
    integer(isize::MIN, isize::MAX) => AtomicIsize;
    Shape::Defined(&DURATION) => Duration;
    Shape::Defined(&SYSTEM_TIME) => SystemTime;
}

pack! {
    [] Shape::Null => ();
    [] Shape::Text => str Path;
    [] <[u8]>::shape() => CStr;
    [T: Serialize + ToOwned + ?Sized] foreign::<Self>() => Cow<'_, T>;
    [T: Serialize, H: BuildHasher] Shape::set(Type::foreign::<T>()) => HashSet<T, H>;
    [T: Serialize] Shape::set(Type::foreign::<T>()) => BTreeSet<T>;
    [T: Serialize] Shape::list(Type::foreign::<T>(), None) => BinaryHeap<T>;
    [T: ?Sized] Shape::Null => PhantomData<T>;
    [T: Serialize] foreign::<T>() => Wrapping<T> Saturating<T> Reverse<T>;
    [T: Serialize + Copy] foreign::<T>() => Cell<T>;
    [T: Serialize + ?Sized] foreign::<T>() => RefCell<T> Mutex<T> RwLock<T>;
}

unpack! {
    [] () Box<CStr>;
    ['b] &'b str &'b Path;
    ['b, T: ToOwned + ?Sized] Cow<'b, T>;
    [T, H] HashSet<T, H>;
    [T: ?Sized] PhantomData<T>;
    [T] BTreeSet<T> BinaryHeap<T> Wrapping<T> Reverse<T> Cell<T> RefCell<T> Mutex<T> RwLock<T>;
    // serde reads it by its integer.
    [] Saturating<u8> Saturating<u16> Saturating<u32> Saturating<u64> Saturating<usize>
        Saturating<i8> Saturating<i16> Saturating<i32> Saturating<i64> Saturating<isize>;
}

fn foreign<T: ?Sized>() -> Shape {
    Type::foreign::<T>().shape()
}

/// Returns the shape of an integer with these bounds.
fn integer<T>(least: T, most: T) -> Shape
where
    i128: TryFrom<T>,
    u128: TryFrom<T>,
{
    Shape::Integer {
        least: i128::try_from(least).unwrap_or(i128::MIN),
        most: u128::try_from(most).unwrap_or(u128::MAX),
    }
}

/// Returns a member of the object that serde makes of a time.
const fn member<T: Pack>(name: &'static str, docs: &'static str) -> Field {
    Field::new(Item::new(name, docs), Type::of::<T>())
}

const NANOS: &str = "Nanoseconds, less than a second.";

const DURATION: Definition = Definition::new(
    std::any::type_name::<Duration>,
    "Duration",
    "A span of time.",
    Form::Members(&[
        member::<u64>("secs", "Whole seconds."),
        member::<u32>("nanos", NANOS),
    ]),
);

const SYSTEM_TIME: Definition = Definition::new(
    std::any::type_name::<SystemTime>,
    "SystemTime",
    "A point in time, counted from the beginning of 1970 in UTC.",
    Form::Members(&[
        member::<u64>("secs_since_epoch", "Whole seconds."),
        member::<u32>("nanos_since_epoch", NANOS),
    ]),
);

impl Pack for Infallible {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }

    fn shape() -> Shape {
        Shape::Never
    }
}

impl WithoutFds for Infallible {}

/// Refuses any value.
impl<'de> Unpack<'de> for Infallible {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, _: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("a value of a type that has none"))
    }
}
