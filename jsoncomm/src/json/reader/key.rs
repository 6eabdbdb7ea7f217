//! An object's key, a string that is read as the type of the map's keys.

use crate::json::Error;
use serde::de::value::StrDeserializer;
use serde::de::{Error as _, IgnoredAny, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use std::borrow::Cow;
use std::str::FromStr;

/// Reads a key by the rules that `serde_json` has for keys.
pub(super) struct Key<'k, 'de>(pub(super) &'k Cow<'de, str>);

impl<'de> Key<'_, 'de> {
    /// Reads the whole key as a number or a boolean. More is a number for Rust than is for JSON.
    fn parse<T: FromStr>(&self) -> Option<T> {
        let is_json = || serde_json::from_str::<IgnoredAny>(self.0).is_ok();
        self.0.parse().ok().filter(|_| is_json())
    }

    fn refuse<T>(&self, visitor: &impl Visitor<'de>) -> Result<T, Error> {
        Err(Error::invalid_type(Unexpected::Str(self.0), visitor))
    }
}

/// Reads numbers of up to 64 bits, as the given float if they are not integers.
macro_rules! numbers {
    ($($real:ident: $($method:ident)*;)*) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if let Some(number) = self.parse::<u64>() {
                return visitor.visit_u64(number);
            }
            // A zero with a sign is a float.
            if let Some(number) = self.parse::<i64>().filter(|number| *number != 0) {
                return visitor.visit_i64(number);
            }
            match self.parse::<$real>().filter(|number| number.is_finite()) {
                Some(number) => visitor.visit_f64(number.into()),
                None => self.refuse(&visitor),
            }
        }
    )*)*};
}

/// Reads values of which the key as a whole is the only form.
macro_rules! parsed {
    ($($method:ident $visit:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.parse() {
                Some(value) => visitor.$visit(value),
                None => self.refuse(&visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'_, 'de> {
    type Error = Error;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_str(text),
        }
    }

    numbers! {
        f64: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f64;
        f32: deserialize_f32;
    }

    parsed! { deserialize_i128 visit_i128 deserialize_u128 visit_u128 deserialize_bool visit_bool }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            Cow::Owned(text) => visitor.visit_bytes(text.as_bytes()),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(StrDeserializer::new(self.0))
    }

    forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
