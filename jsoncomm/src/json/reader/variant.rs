//! A variant of an enum that is an object with its name and what it holds.

use super::Reader;
use crate::json::Error;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::de::{DeserializeSeed, EnumAccess, VariantAccess};

/// A variant's name and what it holds.
pub(super) struct VariantReader<'r, 'de> {
    pub(super) from: &'r mut Reader<'de>,
    /// The name, once it is read.
    pub(super) name: &'de str,
}

impl<'de> VariantReader<'_, 'de> {
    /// Reads what the variant holds.
    fn content<T>(
        self,
        read: impl FnOnce(&mut Reader<'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        read(self.from).map_err(|error| error.within(self.name))
    }
}

impl<'de> EnumAccess<'de> for VariantReader<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), Error> {
        self.from.cursor.peek();
        let start = self.from.cursor.position();
        let variant = seed.deserialize(&mut *self.from)?;
        self.name = self.from.cursor.since(start).trim_matches('"');
        self.from.colon()?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for VariantReader<'_, 'de> {
    type Error = Error;

    #[inline]
    fn unit_variant(self) -> Result<(), Error> {
        self.content(|from| Deserialize::deserialize(from))
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.content(|from| seed.deserialize(from))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.content(|from| from.deserialize_seq(visitor))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content(|from| {
            // A name, so that the fields are not taken for positions.
            from.deserialize_struct("variant", fields, visitor)
        })
    }
}
