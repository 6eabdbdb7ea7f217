//! An enum's variant, as serde has it: a name alone, or an object with nothing but that name and what it holds.

use super::Reader;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::de::{DeserializeSeed, EnumAccess, Error as _, Expected, Unexpected, VariantAccess};
use serde_json::Error;

/// An enum's variant: its name, and what it holds unless it is `alone`.
pub(super) struct Variant<'r, 'de> {
    pub(super) from: &'r mut Reader<'de>,
    pub(super) alone: bool,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let variant = seed.deserialize(&mut *self.from)?;
        if !self.alone {
            self.from.colon()?;
        }
        Ok((variant, self))
    }
}

impl Variant<'_, '_> {
    /// Refuses a name alone where something else is expected.
    fn check(&self, expected: &dyn Expected) -> Result<(), Error> {
        match self.alone {
            true => Err(Error::invalid_type(Unexpected::UnitVariant, expected)),
            false => Ok(()),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    #[inline]
    fn unit_variant(self) -> Result<(), Error> {
        match self.alone {
            true => Ok(()),
            false => Deserialize::deserialize(self.from),
        }
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.check(&"newtype variant")?;
        seed.deserialize(self.from)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.check(&"tuple variant")?;
        self.from.deserialize_seq(visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check(&"struct variant")?;
        self.from.deserialize_struct("", fields, visitor)
    }
}
