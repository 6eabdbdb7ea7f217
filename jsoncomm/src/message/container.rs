//! Containers of messages: what serde does for its own types, with the list passed down.

use super::{Pack, Packed, Packer, Shape, Type, Unpack, Unpacker, WithoutFds};
use crate::error::{DecodeError, EncodeError};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

impl<T: Pack + ?Sized> Pack for &T {
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

impl<T: Pack> Pack for Box<T> {
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

impl<'de, T: Unpack<'de>> Unpack<'de> for Box<T> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        T::unpack(fds, from).map(Box::new)
    }

    fn absent() -> Option<Self> {
        T::absent().map(Box::new)
    }

    fn front(text: &'de str, fds: &Unpacker) -> Result<(Self, usize), DecodeError> {
        T::front(text, fds).map(|(value, length)| (Box::new(value), length))
    }

    fn of_error(
        said: (i64, &str),
        data: Option<&'de str>,
        fds: &Unpacker,
    ) -> Option<Result<Self, DecodeError>> {
        T::of_error(said, data, fds).map(|error| error.map(Box::new))
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => out.serialize_some(&Packed::new(value, fds)),
            None => out.serialize_none(),
        }
    }

    fn shape() -> Shape {
        Shape::Optional(Type::of::<T>())
    }
}

impl<'de, T: Unpack<'de>> Unpack<'de> for Option<T> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        from.deserialize_option(Reader::<Self>::new(fds))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Pack> Pack for [T] {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.iter().map(|item| Packed::new(item, fds)))
    }

    fn shape() -> Shape {
        Shape::List {
            item: Type::of::<T>(),
            length: None,
            distinct: false,
        }
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        self.as_slice().pack(fds, out)
    }

    fn shape() -> Shape {
        <[T]>::shape()
    }
}

impl<'de, T: Unpack<'de>> Unpack<'de> for Vec<T> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Reader::<Self>::new(fds))
    }
}

impl<T: Pack, const N: usize> Pack for [T; N] {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        self.as_slice().pack(fds, out)
    }

    fn shape() -> Shape {
        Shape::List {
            item: Type::of::<T>(),
            length: Some(N),
            distinct: false,
        }
    }
}

impl<'de, T: Unpack<'de>, const N: usize> Unpack<'de> for [T; N] {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        from.deserialize_tuple(N, Reader::<Self>::new(fds))
    }
}

/// Implements both traits for one map: how to name it, and what its keys need.
macro_rules! maps {
    ($($map:ident<K, V $(, $hasher:ident)?>: $($bound:path),+;)*) => {$(
        impl<K: Serialize, V: Pack $(, $hasher)?> Pack for $map<K, V $(, $hasher)?> {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                out.collect_map(self.iter().map(|(key, item)| (key, Packed::new(item, fds))))
            }

            fn shape() -> Shape {
                Shape::Map(Type::of::<V>())
            }
        }

        impl<K, V: WithoutFds $(, $hasher)?> WithoutFds for $map<K, V $(, $hasher)?> {}

        impl<'de, K, V $(, $hasher)?> Unpack<'de> for $map<K, V $(, $hasher)?>
        where
            K: Deserialize<'de> $(+ $bound)+,
            V: Unpack<'de>,
            $($hasher: BuildHasher + Default,)?
        {
            fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
                from.deserialize_map(Reader::<Self>::new(fds))
            }
        }

        impl<'de, K, V $(, $hasher)?> Visitor<'de> for Reader<'_, $map<K, V $(, $hasher)?>>
        where
            K: Deserialize<'de> $(+ $bound)+,
            V: Unpack<'de>,
            $($hasher: BuildHasher + Default,)?
        {
            type Value = $map<K, V $(, $hasher)?>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Self::Value::default();
                while let Some(key) = map.next_key()? {
                    let item = map.next_value_seed(Reader::<V>::new(self.fds))?;
                    // Of two descriptors with the same key one would vanish unseen.
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
        impl<$($item: Pack),+> Pack for ($($item,)+) {
            fn pack<'a, S: Serializer>(
                &'a self,
                fds: &Packer<'a>,
                out: S,
            ) -> Result<S::Ok, S::Error> {
                let mut tuple = out.serialize_tuple($length)?;
                $(tuple.serialize_element(&Packed::new(&self.$index, fds))?;)+
                tuple.end()
            }

            fn shape() -> Shape {
                Shape::Tuple(const { &[$(Type::of::<$item>()),+] })
            }
        }

        impl<$($item: WithoutFds),+> WithoutFds for ($($item,)+) {}

        impl<'de, $($item: Unpack<'de>),+> Unpack<'de> for ($($item,)+) {
            fn unpack<De: Deserializer<'de>>(fds: &Unpacker, from: De) -> Result<Self, De::Error> {
                from.deserialize_tuple($length, Reader::<Self>::new(fds))
            }
        }

        impl<'de, $($item: Unpack<'de>),+> Visitor<'de> for Reader<'_, ($($item,)+)> {
            type Value = ($($item,)+);

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a tuple of size {}", $length)
            }

            fn visit_seq<Seq: SeqAccess<'de>>(
                self,
                mut seq: Seq,
            ) -> Result<Self::Value, Seq::Error> {
                let all = ($(
                    self.element::<$item, _>(&mut seq, $index)?
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
}

/// Reads a `T`: the visitor of a container, the seed of an element.
struct Reader<'f, T> {
    fds: &'f Unpacker,
    of: PhantomData<T>,
}

impl<'f, T> Reader<'f, T> {
    fn new(fds: &'f Unpacker) -> Self {
        let of = PhantomData;
        Self { fds, of }
    }

    /// Reads the next element; a failure is blamed on its index.
    fn element<'de, Item: Unpack<'de>, A: SeqAccess<'de>>(
        &self,
        seq: &mut A,
        index: usize,
    ) -> Result<Option<Item>, A::Error> {
        seq.next_element_seed(Reader::<Item>::new(self.fds))
            .inspect_err(|_| self.fds.within(&format!("[{index}]")))
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

impl<'de, T: Unpack<'de>> DeserializeSeed<'de> for Reader<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        T::unpack(self.fds, from)
    }
}

impl<'de, T: Unpack<'de>> Visitor<'de> for Reader<'_, Option<T>> {
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
        T::unpack(self.fds, from).map(Some)
    }
}

impl<'de, T: Unpack<'de>> Visitor<'de> for Reader<'_, Vec<T>> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = self.element(&mut seq, all.len())? {
            all.push(item);
        }
        Ok(all)
    }
}

impl<'de, T: Unpack<'de>, const N: usize> Visitor<'de> for Reader<'_, [T; N]> {
    type Value = [T; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of length {N}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while all.len() < N {
            match self.element(&mut seq, all.len())? {
                Some(item) => all.push(item),
                None => return Err(A::Error::invalid_length(all.len(), &self)),
            }
        }
        self.end(seq, N)?;
        <[T; N]>::try_from(all).map_err(|_| A::Error::invalid_type(Unexpected::Seq, &"an array"))
    }
}
