//! Containers of messages: what serde does for its own types, with the descriptors passed down.

use super::{Pack, PackPart, Packed, Packer, Unpack, UnpackPart, Unpacker, WithoutFds};
use crate::shape::{Shape, Type};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, LinkedList, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

impl<T: PackPart> Pack for Option<T> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => out.serialize_some(&Packed(value, fds)),
            None => out.serialize_none(),
        }
    }

    fn shape() -> Shape {
        Shape::Optional(Type::of::<T>())
    }
}

impl<T: WithoutFds> WithoutFds for Option<T> {}

impl<'de, T: UnpackPart<'de>> Unpack<'de> for Option<T> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        from.deserialize_option(Seed::<Self>::new(fds))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Implements [`Pack`] for a list, by the number of its elements if that is fixed.
macro_rules! pack {
    ($([$($size:tt)*] $list:ty: $length:expr;)*) => {$(
        impl<T: PackPart $($size)*> Pack for $list {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                out.collect_seq(self.iter().map(|item| Packed(item, fds)))
            }

            fn shape() -> Shape {
                Shape::list(Type::of::<T>(), $length)
            }
        }

        impl<T: WithoutFds $($size)*> WithoutFds for $list {}
    )*};
}

pack! {
    [] [T]: None;
    [, const N: usize] [T; N]: Some(N);
}

/// Implements both traits for a list and the function that adds an element.
macro_rules! lists {
    ($($list:ident $push:ident;)*) => {$(
        pack! { [] $list<T>: None; }

        impl<'de, T: UnpackPart<'de>> Unpack<'de> for $list<T> {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                from.deserialize_seq(Seed::<Self>::new(fds))
            }
        }

        impl<'de, T: UnpackPart<'de>> Visitor<'de> for Seed<'_, $list<T>> {
            type Value = $list<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = $list::new();
                while let Some(item) = seq.next_element_seed(Seed::<T>::new(self.0))? {
                    all.$push(item);
                }
                Ok(all)
            }
        }
    )*};
}

lists! {
    Vec push;
    VecDeque push_back;
    LinkedList push_back;
}

impl<'de, T: UnpackPart<'de>, const N: usize> Unpack<'de> for [T; N] {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        from.deserialize_tuple(N, Seed::<Self>::new(fds))
    }
}

/// Implements both traits for a map, whose keys need these traits.
macro_rules! maps {
    ($($map:ident<K, V $(, $hasher:ident)?>: $($bound:path),+;)*) => {$(
        impl<K: Serialize, V: PackPart $(, $hasher)?> Pack for $map<K, V $(, $hasher)?> {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                out.collect_map(self.iter().map(|(key, item)| (key, Packed(item, fds))))
            }

            fn shape() -> Shape {
                Shape::Map(Type::of::<V>())
            }
        }

        impl<K, V: WithoutFds $(, $hasher)?> WithoutFds for $map<K, V $(, $hasher)?> {}

        impl<'de, K, V $(, $hasher)?> Unpack<'de> for $map<K, V $(, $hasher)?>
        where
            K: Deserialize<'de> $(+ $bound)+,
            V: UnpackPart<'de>,
            $($hasher: BuildHasher + Default,)?
        {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                from.deserialize_map(Seed::<Self>::new(fds))
            }
        }

        impl<'de, K, V $(, $hasher)?> Visitor<'de> for Seed<'_, $map<K, V $(, $hasher)?>>
        where
            K: Deserialize<'de> $(+ $bound)+,
            V: UnpackPart<'de>,
            $($hasher: BuildHasher + Default,)?
        {
            type Value = $map<K, V $(, $hasher)?>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Self::Value::default();
                while let Some(key) = map.next_key()? {
                    let item = map.next_value_seed(Seed::<V>::new(self.0))?;
                    // Or one of two descriptors would be lost without notice.
                    if all.insert(key, item).is_some() {
                        return Err(A::Error::custom("the same key twice"));
                    }
                }
                Ok(all)
            }
        }
    )*};
}

maps! {
    HashMap<K, V, H>: Eq, Hash;
    BTreeMap<K, V>: Ord;
}

/// Implements both traits for the tuple of each length.
macro_rules! tuples {
    ($($length:literal: $($item:ident $index:tt),+;)*) => {$(
        impl<$($item: PackPart),+> Pack for ($($item,)+) {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                let mut tuple = out.serialize_tuple($length)?;
                $(tuple.serialize_element(&Packed(&self.$index, fds))?;)+
                tuple.end()
            }

            fn shape() -> Shape {
                Shape::Tuple(const { &[$(Type::of::<$item>()),+] })
            }
        }

        impl<$($item: WithoutFds),+> WithoutFds for ($($item,)+) {}

        impl<'de, $($item: UnpackPart<'de>),+> Unpack<'de> for ($($item,)+) {
            fn unpack<De: Deserializer<'de>>(fds: &Unpacker, from: De) -> Result<Self, De::Error> {
                from.deserialize_tuple($length, Seed::<Self>::new(fds))
            }
        }

        impl<'de, $($item: UnpackPart<'de>),+> Visitor<'de> for Seed<'_, ($($item,)+)> {
            type Value = ($($item,)+);

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a tuple of size {}", $length)
            }

            fn visit_seq<Seq: SeqAccess<'de>>(
                self,
                mut seq: Seq,
            ) -> Result<Self::Value, Seq::Error> {
                let all = ($(
                    seq.next_element_seed(Seed::<$item>::new(self.0))?
                        .ok_or_else(|| Seq::Error::invalid_length($index, &self))?,
                )+);
                self.end(seq, $length)?;
                Ok(all)
            }
        }
    )*};
}

tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
    13: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12;
    14: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13;
    15: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14;
    16: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15;
}

/// Reads a `T`: the visitor of a container and the seed of its elements.
pub(super) struct Seed<'f, T>(pub(super) &'f Unpacker, PhantomData<T>);

impl<'f, T> Seed<'f, T> {
    pub(super) fn new(fds: &'f Unpacker) -> Self {
        Self(fds, PhantomData)
    }

    /// Refuses an element after the last.
    fn end<'de, A: SeqAccess<'de>>(&self, mut seq: A, length: usize) -> Result<(), A::Error>
    where
        Self: Visitor<'de>,
    {
        match seq.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::invalid_length(length + 1, self)),
            None => Ok(()),
        }
    }
}

impl<'de, T: UnpackPart<'de>> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        T::unpack_part(self.0, from)
    }
}

impl<'de, T: UnpackPart<'de>> Visitor<'de> for Seed<'_, Option<T>> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("option")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        T::unpack_part(self.0, from).map(Some)
    }
}

impl<'de, T: UnpackPart<'de>, const N: usize> Visitor<'de> for Seed<'_, [T; N]> {
    type Value = [T; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of length {N}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while all.len() < N {
            match seq.next_element_seed(Seed::<T>::new(self.0))? {
                Some(item) => all.push(item),
                None => return Err(A::Error::invalid_length(all.len(), &self)),
            }
        }
        self.end(seq, N)?;
        <[T; N]>::try_from(all).map_err(|_| A::Error::invalid_type(Unexpected::Seq, &"an array"))
    }
}
