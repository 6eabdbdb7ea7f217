//! A variant of an enum: a name alone, or an object with that name and what the variant holds.

use super::Reader;
use crate::json::Error;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::de::{DeserializeSeed, EnumAccess, Error as _, Expected, Unexpected, VariantAccess};

/// A variant's name, and what it holds unless the name is alone.
pub(super) struct VariantReader<'r, 'de> {
    from: &'r mut Reader<'de>,
    /// The name, once it is read.
    name: &'de str,
    alone: bool,
}

impl<'r, 'de> VariantReader<'r, 'de> {
    pub(super) fn alone(from: &'r mut Reader<'de>) -> Self {
        let (name, alone) = ("", true);
        Self { from, name, alone }
    }

    pub(super) fn with_content(from: &'r mut Reader<'de>) -> Self {
        let (name, alone) = ("", false);
        Self { from, name, alone }
    }

    /// Reads what the variant holds, unless its name is alone.
    fn content<T>(
        self,
        expected: &dyn Expected,
        read: impl FnOnce(&mut Reader<'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.alone {
            return Err(Error::invalid_type(Unexpected::UnitVariant, expected));
        }
        read(self.from).map_err(|error| error.within(self.name))
    }
}

impl<'de> EnumAccess<'de> for VariantReader<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), Error> {
        self.from.at.peek();
        let start = self.from.at.position();
        let variant = seed.deserialize(&mut *self.from)?;
        if !self.alone {
            self.name = self.from.at.since(start).trim_matches('"');
            self.from.colon()?;
        }
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for VariantReader<'_, 'de> {
    type Error = Error;

    #[inline]
    fn unit_variant(self) -> Result<(), Error> {
        if self.alone {
            return Ok(());
        }
        self.content(&"unit variant", |from| Deserialize::deserialize(from))
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.content(&"newtype variant", |from| seed.deserialize(from))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.content(&"tuple variant", |from| from.deserialize_seq(visitor))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content(&"struct variant", |from| {
            // A name, so that the fields are not taken for positions.
            from.deserialize_struct("variant", fields, visitor)
        })
    }
}
