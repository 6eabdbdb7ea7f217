//! Plain data: what goes through its own serde impls and carries no descriptors.

use super::{Pack, Packer, Unpack, Unpacker};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::ffi::CString;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8,
    NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Implements [`Pack`] by [`Serialize`].
macro_rules! pack {
    ($([$($generics:tt)*] $plain:ty;)*) => {$(
        impl<$($generics)*> Pack for $plain {
            fn pack<'a, S: Serializer>(
                &'a self,
                _: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                self.serialize(out)
            }
        }
    )*};
}

/// Implements [`Unpack`] by [`Deserialize`].
macro_rules! unpack {
    ($([$($generics:tt)*] $plain:ty;)*) => {$(
        impl<'de, $($generics)*> Unpack<'de> for $plain {
            fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
                Self::deserialize(from)
            }
        }
    )*};
}

/// Implements both for types without parameters.
macro_rules! plain {
    ($($plain:ty)*) => {
        pack! { $([] $plain;)* }
        unpack! { $([] $plain;)* }
    };
}

plain! {
    bool char String PathBuf CString Duration SystemTime
    u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64
    NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize
    NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize
    IpAddr Ipv4Addr Ipv6Addr SocketAddr SocketAddrV4 SocketAddrV6
    Box<str> Box<Path>
}

pack! {
    [] ();
    [] str;
    [] Path;
    [T: Serialize + ToOwned + ?Sized] Cow<'_, T>;
    [T: Serialize, H: BuildHasher] HashSet<T, H>;
    [T: Serialize] BTreeSet<T>;
    [T: ?Sized] PhantomData<T>;
}

unpack! {
    [] ();
    ['b, T: ToOwned<Owned: Deserialize<'de>> + ?Sized] Cow<'b, T>;
    [T: Deserialize<'de> + Eq + Hash, H: BuildHasher + Default] HashSet<T, H>;
    [T: Deserialize<'de> + Ord] BTreeSet<T>;
    [T: ?Sized] PhantomData<T>;
}

impl<'de: 'b, 'b> Unpack<'de> for &'b str {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(from)
    }
}

impl<'de: 'b, 'b> Unpack<'de> for &'b Path {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, from: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(from)
    }
}

impl Pack for Infallible {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

/// Nothing can be read as it: where it is expected, whatever comes is refused.
impl<'de> Unpack<'de> for Infallible {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, _: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("a value where there can be none"))
    }
}
