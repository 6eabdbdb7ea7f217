//! Plain data, which uses its own serde impls and has no descriptors.

use super::{Pack, Packer, Unpack, Unpacker, WithoutFds, whole};
use crate::shape::{Definition, Field, Form, Shape, Type};
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
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8,
    NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize, Saturating, Wrapping,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, SystemTime};

/// Implements [`Pack`] by [`Serialize`], with the shape that serde gives the type.
macro_rules! pack {
    ($([$($generics:tt)*] $plain:ty: $shape:expr;)*) => {$(
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
    )*};
}

/// Implements [`Unpack`] by [`Deserialize`].
macro_rules! unpack {
    ($([$($generics:tt)*] $plain:ty;)*) => {$(
        impl<'de, $($generics)*> Unpack<'de> for $plain
        where
            Self: Deserialize<'de>,
        {
            fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
                whole(Self::deserialize(from))
            }
        }
    )*};
}

/// Implements both for types without parameters, by their shape.
macro_rules! plain {
    ($($shape:expr => $($plain:ty)+;)*) => {$(
        pack! { $([] $plain: $shape;)+ }
        unpack! { $([] $plain;)+ }
    )*};
}

plain! {
    Shape::Boolean => bool;
    Shape::Text => char String PathBuf;
    Shape::Text => IpAddr Ipv4Addr Ipv6Addr SocketAddr SocketAddrV4 SocketAddrV6;
    integer(Self::MIN, Self::MAX)
        => u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize;
    integer(Self::MIN.get(), Self::MAX.get())
        => NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize
        NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize;
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
    [] (): Shape::Null;
    [] str: Shape::Text;
    [] Path: Shape::Text;
    [T: Serialize + ToOwned + ?Sized] Cow<'_, T>: foreign::<Self>();
    [T: Serialize, H: BuildHasher] HashSet<T, H>: Shape::set(Type::foreign::<T>());
    [T: Serialize] BTreeSet<T>: Shape::set(Type::foreign::<T>());
    [T: ?Sized] PhantomData<T>: Shape::Null;
    [] CStr: <[u8]>::shape();
    [T: Serialize] BinaryHeap<T>: Shape::list(Type::foreign::<T>(), None);
    [T: Serialize] Wrapping<T>: foreign::<T>();
    [T: Serialize] Saturating<T>: foreign::<T>();
    [T: Serialize] Reverse<T>: foreign::<T>();
    [T: Serialize + Copy] Cell<T>: foreign::<T>();
    [T: Serialize + ?Sized] RefCell<T>: foreign::<T>();
    [T: Serialize + ?Sized] Mutex<T>: foreign::<T>();
    [T: Serialize + ?Sized] RwLock<T>: foreign::<T>();
}

unpack! {
    [] ();
    ['b] &'b str;
    ['b] &'b Path;
    ['b, T: ToOwned + ?Sized] Cow<'b, T>;
    [T, H] HashSet<T, H>;
    [T] BTreeSet<T>;
    [T: ?Sized] PhantomData<T>;
    [] Box<CStr>;
    [T] BinaryHeap<T>;
    [T] Wrapping<T>;
    [T] Reverse<T>;
    [T] Cell<T>;
    [T] RefCell<T>;
    [T] Mutex<T>;
    [T] RwLock<T>;
}

/// Implements [`Unpack`] for each [`Saturating`], which serde reads by its integer.
macro_rules! saturating {
    ($($integer:ty)*) => {$(
        unpack! { [] Saturating<$integer>; }
    )*};
}

saturating! { u8 u16 u32 u64 usize i8 i16 i32 i64 isize }

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
    Field::new(name, docs, Type::of::<T>())
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
