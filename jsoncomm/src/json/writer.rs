//! Values to JSON text: what `serde_json` writes, byte for byte, but strings and the names of members faster.
//!
//! `serde_json` looks at each byte of a string, and writes each name of a member like a string that it does not know; that
//! is most of what writing a message costs. It still writes numbers, the keys of maps and its own types ([`RESERVED`]).
//!
//! NaN and infinity, for which `serde_json` writes `null`, are refused. Nesting is counted, so that no value, however deep,
//! overflows the stack.

use super::error::{Cause, Error};
use super::escape::{plain_words, put_string};
use super::reader::RESERVED;
use crate::limits::Depth;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};
use std::fmt::{Display, Write};

/// A text while it is written.
pub(crate) struct Writer<'t> {
    text: &'t mut Vec<u8>,
    depth: Depth,
}

impl<'t> Writer<'t> {
    /// Writes to the end of `text`.
    pub(crate) fn new(text: &'t mut Vec<u8>, depth: Depth) -> Self {
        Self { text, depth }
    }

    #[inline]
    fn put(&mut self, part: &str) {
        self.text.extend_from_slice(part.as_bytes());
    }

    /// Appends what `serde_json` writes.
    #[inline]
    fn delegate<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.text, value).map_err(Error::data)
    }

    /// Appends a float, of which `serde_json` would write NaN and infinity as `null`.
    #[inline]
    fn put_finite<T: Serialize>(&mut self, finite: bool, value: T) -> Result<(), Error> {
        if !finite {
            return Err(Error::new(Cause::NotFinite));
        }
        self.delegate(&value)
    }

    /// Counts an array or object that is opened, unless there are too many.
    #[inline]
    fn open(&mut self) -> Result<(), Error> {
        match self.depth.left.checked_sub(1) {
            Some(left) => self.depth.left = left,
            None => return Err(self.too_deep()),
        }
        Ok(())
    }

    #[cold]
    fn too_deep(&self) -> Error {
        Error::new(Cause::TooDeep(self.depth.limit()))
    }

    /// Appends what `serde_json` makes of a type of its own, which may be a text of any depth. Type and member have one
    /// name.
    fn put_reserved<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let start = self.text.len();
        let mut to = serde_json::Serializer::new(&mut *self.text);
        let parts = to.serialize_struct(name, 1).and_then(|mut parts| {
            SerializeStruct::serialize_field(&mut parts, name, value)?;
            SerializeStruct::end(parts)
        });
        parts.map_err(Error::data)?;
        let written = self.text.get(start..).unwrap_or_default();
        let checked = self.depth.check_written(written);
        checked.map_err(|_| self.too_deep())
    }

    /// Begins an array or an object, which is the content of `variant` if there is one.
    #[inline]
    fn parts<'w>(
        &'w mut self,
        variant: Option<&'static str>,
        bracket: u8,
    ) -> Result<Parts<'w, 't>, Error> {
        self.open()?;
        if let Some(variant) = variant {
            self.open()?;
            self.text.push(b'{');
            self.put_name(variant);
        }
        self.text.push(bracket);
        Ok(Parts {
            to: self,
            variant,
            bracket,
            count: 0,
        })
    }

    /// Appends a member's name. The compiler nearly always knows it, and then that it needs no escapes.
    #[inline(always)]
    fn put_name(&mut self, name: &str) {
        if plain_words(name.as_bytes()) == name.len() {
            self.put("\"");
            self.put(name);
            self.put("\":");
        } else {
            put_string(self.text, name);
            self.put(":");
        }
    }
}

/// How an array and an object begin. They end with the second character after that.
const ARRAY: u8 = b'[';
const OBJECT: u8 = b'{';
/// For a type of `serde_json`'s own, of which it writes the whole.
const NO_BRACKET: u8 = 0;

/// Appends a number, which cannot fail. Not inlined, to keep callers small: after each system call the processor has to
/// load their code anew.
#[inline(never)]
pub(crate) fn put_unsigned(text: &mut Vec<u8>, number: u64) {
    let Ok(short @ 0..10_000) = u32::try_from(number) else {
        return drop(serde_json::to_writer(text, &number));
    };
    let digit = |place| b'0' + (short / place % 10) as u8;
    match short {
        0..10 => text.push(digit(1)),
        10..100 => text.extend_from_slice(&[digit(10), digit(1)]),
        100..1000 => text.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        _ => text.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]),
    }
}

#[inline(never)]
fn put_signed(text: &mut Vec<u8>, number: i64) {
    let _ = serde_json::to_writer(text, &number);
}

/// Writes integers by the given functions.
macro_rules! numbers {
    ($($put:ident: $($method:ident($of:ty))*;)*) => {$($(
        #[inline]
        fn $method(self, value: $of) -> Result<(), Error> {
            $put(self.text, value.into());
            Ok(())
        }
    )*)*};
}

/// Begins values of several parts.
macro_rules! parts {
    ($($method:ident($($argument:ident: $of:ty),*) -> $parts:ident, $variant:expr, $bracket:ident;)*) => {$(
        #[inline]
        fn $method(self, $($argument: $of),*) -> Result<Self::$parts, Error> {
            self.parts($variant, $bracket)
        }
    )*};
}

impl<'w, 't> Serializer for &'w mut Writer<'t> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'w, 't>;
    type SerializeTuple = Parts<'w, 't>;
    type SerializeTupleStruct = Parts<'w, 't>;
    type SerializeTupleVariant = Parts<'w, 't>;
    type SerializeMap = Parts<'w, 't>;
    type SerializeStruct = Parts<'w, 't>;
    type SerializeStructVariant = Parts<'w, 't>;

    numbers! {
        put_unsigned: serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64);
        put_signed: serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64);
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.delegate(&value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.delegate(&value)
    }

    parts! {
        serialize_seq(_length: Option<usize>) -> SerializeSeq, None, ARRAY;
        serialize_tuple(_length: usize) -> SerializeTuple, None, ARRAY;
        serialize_tuple_struct(_name: &'static str, _length: usize) -> SerializeTupleStruct, None, ARRAY;
        serialize_tuple_variant(_name: &'static str, _index: u32, variant: &'static str, _length: usize)
            -> SerializeTupleVariant, Some(variant), ARRAY;
        serialize_map(_length: Option<usize>) -> SerializeMap, None, OBJECT;
        serialize_struct_variant(_name: &'static str, _index: u32, variant: &'static str, _length: usize)
            -> SerializeStructVariant, Some(variant), OBJECT;
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Parts<'w, 't>, Error> {
        if name.starts_with(RESERVED) {
            Ok(Parts {
                to: self,
                variant: None,
                bracket: NO_BRACKET,
                count: 0,
            })
        } else {
            self.parts(None, OBJECT)
        }
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.put(if value { "true" } else { "false" });
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.put_finite(value.is_finite(), value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.put_finite(value.is_finite(), value)
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        put_string(self.text, value);
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.collect_seq(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.put("null");
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut object = self.parts(None, OBJECT)?;
        object.put_field(variant, value)?;
        object.finish();
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        let mut text = String::new();
        write!(text, "{value}").map_err(Error::data)?;
        self.serialize_str(&text)
    }
}

/// An array or an object that is being written.
pub(crate) struct Parts<'w, 't> {
    to: &'w mut Writer<'t>,
    variant: Option<&'static str>,
    bracket: u8,
    /// How many have been written.
    count: usize,
}

impl Parts<'_, '_> {
    /// Writes what stands before a part that is not the first.
    #[inline(always)]
    fn next(&mut self) {
        if self.count > 0 {
            self.to.text.push(b',');
        }
        self.count += 1;
    }

    #[inline]
    fn put_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.next();
        let written = value.serialize(&mut *self.to);
        written.map_err(|error| self.blame(error.within_element(self.count - 1)))
    }

    #[inline(always)]
    fn put_field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.next();
        self.to.put_name(name);
        let written = value.serialize(&mut *self.to);
        written.map_err(|error| self.blame(error.within(name)))
    }

    #[inline(always)]
    fn put_member<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if self.bracket == NO_BRACKET {
            return self.to.put_reserved(name, value);
        }
        self.put_field(name, value)
    }

    /// Blames the variant that the part is in, if it is in one.
    #[cold]
    fn blame(&self, error: Error) -> Error {
        match self.variant {
            Some(variant) => error.within(variant),
            None => error,
        }
    }

    #[inline]
    fn finish(self) {
        if self.bracket == NO_BRACKET {
            return;
        }
        self.to.text.push(self.bracket + 2);
        self.to.depth.left += 1;
        if self.variant.is_some() {
            self.to.put("}");
            self.to.depth.left += 1;
        }
    }
}

/// Implements traits of values of several parts.
macro_rules! several {
    ($($of:ident::$method:ident($($name:ident)?) = $put:ident;)*) => {$(
        impl $of for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), Error> {
                self.$put($($name,)? value)
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.finish();
                Ok(())
            }
        }
    )*};
}

several! {
    SerializeSeq::serialize_element() = put_element;
    SerializeTuple::serialize_element() = put_element;
    SerializeTupleStruct::serialize_field() = put_element;
    SerializeTupleVariant::serialize_field() = put_element;
    SerializeStruct::serialize_field(name) = put_member;
    SerializeStructVariant::serialize_field(name) = put_field;
}

impl SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    /// Lets `serde_json`, which knows what can be a key, write an object of this key alone. Its first bracket becomes ours,
    /// or the comma.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let text = &mut *self.to.text;
        let before = match self.count {
            0 => text.pop(),
            _ => Some(b','),
        };
        let start = text.len();
        let written = serde_json::Serializer::new(&mut *text).collect_map([(key, ())]);
        written.map_err(Error::data)?;
        text.truncate(text.len() - "null}".len());
        if let (Some(byte), Some(before)) = (text.get_mut(start), before) {
            *byte = before;
        }
        self.count += 1;
        Ok(())
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.finish();
        Ok(())
    }
}
