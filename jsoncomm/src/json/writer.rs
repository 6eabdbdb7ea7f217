//! Values to JSON text: what serde_json writes, byte for byte, but strings and the names of members faster.
//!
//! serde_json looks at each byte of a string, and takes each name of a member for a string that it has not seen; that
//! is most of what writing a message costs. It still writes the numbers, the keys of maps and what is its own
//! ([`MADE_UP`]); what is between them is written here.
//!
//! serde_json also writes `null` for NaN and infinity, and whoever reads it takes that for something else, or for
//! nothing: they are refused. What is open is counted, so that no value, however deep, takes the stack down: what is
//! deeper than any reader of ours goes, is not written to its end.

use super::escape::{plain_words, put_escaped, put_string};
use super::put_before;
use super::reader::MADE_UP;
use crate::error::EncodeError;
use crate::limits::Depth;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};
use serde_json::Error;
use std::fmt::{self, Display, Write};

/// A text while it is written, and what serde's errors cannot carry: what was refused, and the path of the member
/// that failed.
pub(crate) struct Writer<'t> {
    text: &'t mut Vec<u8>,
    refused: Option<Refused>,
    path: String,
    depth: Depth,
}

#[derive(Debug, Clone, Copy)]
enum Refused {
    NotFinite,
    TooDeep,
}

impl<'t> Writer<'t> {
    /// Writes to the end of `text`.
    pub(crate) fn new(text: &'t mut Vec<u8>, depth: Depth) -> Self {
        Self {
            text,
            refused: None,
            path: String::new(),
            depth,
        }
    }

    /// Makes the error out of what was reported and what was noted.
    pub(crate) fn explain(self, error: &Error) -> EncodeError {
        match self.refused {
            Some(Refused::NotFinite) => EncodeError::NotFinite {
                field: Some(self.path).filter(|path| !path.is_empty()),
            },
            Some(Refused::TooDeep) => EncodeError::TooDeep {
                limit: self.depth.limit(),
            },
            None => EncodeError::Json {
                field: Some(self.path).filter(|path| !path.is_empty()),
                reason: error.to_string(),
            },
        }
    }

    #[inline]
    fn put(&mut self, part: &str) {
        self.text.extend_from_slice(part.as_bytes());
    }

    /// Appends what serde_json writes.
    #[inline]
    fn put_theirs<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.text, value)
    }

    #[cold]
    fn refuse(&mut self, what: Refused, reason: &str) -> Error {
        self.refused = Some(what);
        Error::custom(reason)
    }

    #[inline]
    fn check_finite(&mut self, finite: bool) -> Result<(), Error> {
        match finite {
            true => Ok(()),
            false => Err(self.refuse(Refused::NotFinite, "not a finite number")),
        }
    }

    /// Counts arrays and objects that are opened, unless there are too many.
    #[inline]
    fn open(&mut self, levels: u8) -> Result<(), Error> {
        match self.depth.left.checked_sub(levels) {
            Some(left) => self.depth.left = left,
            None => return Err(self.refuse(Refused::TooDeep, "too deep")),
        }
        Ok(())
    }

    /// Appends what serde_json makes of one of its own, which may be a text that nobody has looked at.
    fn put_made_up<T: Serialize + ?Sized>(&mut self, value: &MadeUp<'_, T>) -> Result<(), Error> {
        let start = self.text.len();
        self.put_theirs(value)?;
        let written = self.text.get(start..).unwrap_or_default();
        match self.depth.check_written(written) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.refuse(Refused::TooDeep, "too deep")),
        }
    }

    /// Begins an array or an object, the content of `variant` if there is one.
    #[inline]
    fn parts<'w>(
        &'w mut self,
        variant: Option<&'static str>,
        brackets: Brackets,
    ) -> Result<Parts<'w, 't>, Error> {
        self.open(1)?;
        if let Some(variant) = variant {
            self.open(1)?;
            self.text.push(b'{');
            self.put_name(variant);
        }
        self.put(brackets.open);
        Ok(Parts {
            to: self,
            variant,
            brackets,
            count: 0,
        })
    }

    /// Writes the name of a member. The compiler knows it nearly always, and then that it needs no escapes.
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

    /// Notes that the value of this member failed.
    #[cold]
    fn within(&mut self, member: &str) {
        put_before(&mut self.path, member);
    }
}

/// What stands around the parts of a value.
#[derive(Debug, Clone, Copy)]
struct Brackets {
    open: &'static str,
    close: &'static str,
}

const ARRAY: Brackets = Brackets {
    open: "[",
    close: "]",
};
const OBJECT: Brackets = Brackets {
    open: "{",
    close: "}",
};

/// Appends a number, which cannot fail. A function of its own, as few bytes of code at each place that calls it: a
/// processor that comes back from the kernel has none of them at hand.
#[inline(never)]
pub(crate) fn put_unsigned(text: &mut Vec<u8>, number: u64) {
    let _ = serde_json::to_writer(text, &number);
}

#[inline(never)]
fn put_signed(text: &mut Vec<u8>, number: i64) {
    let _ = serde_json::to_writer(text, &number);
}

/// Has integers written by these functions.
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
    ($($method:ident($($argument:ident: $of:ty),*) -> $parts:ident, $variant:expr, $brackets:ident;)*) => {$(
        #[inline]
        fn $method(self, $($argument: $of),*) -> Result<Self::$parts, Error> {
            self.parts($variant, $brackets)
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
    type SerializeStruct = Struct<'w, 't>;
    type SerializeStructVariant = Parts<'w, 't>;

    numbers! {
        put_unsigned: serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64);
        put_signed: serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64);
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.put_theirs(&value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.put_theirs(&value)
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
    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Struct<'w, 't>, Error> {
        match name.starts_with(MADE_UP) {
            true => Ok(Struct::MadeUp(self, name)),
            false => self.parts(None, OBJECT).map(Struct::Object),
        }
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.put(if value { "true" } else { "false" });
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.check_finite(value.is_finite())?;
        self.put_theirs(&value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.check_finite(value.is_finite())?;
        self.put_theirs(&value)
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
        struct Within<'t>(&'t mut Vec<u8>);

        impl fmt::Write for Within<'_> {
            fn write_str(&mut self, part: &str) -> fmt::Result {
                put_escaped(self.0, part);
                Ok(())
            }
        }

        self.put("\"");
        write!(Within(self.text), "{value}").map_err(Error::custom)?;
        self.put("\"");
        Ok(())
    }
}

/// An array or an object that is being written.
pub(crate) struct Parts<'w, 't> {
    to: &'w mut Writer<'t>,
    variant: Option<&'static str>,
    brackets: Brackets,
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
        written.inspect_err(|_| self.blame(&format!("[{}]", self.count - 1)))
    }

    #[inline(always)]
    fn put_field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.next();
        self.to.put_name(name);
        let written = value.serialize(&mut *self.to);
        written.inspect_err(|_| self.blame(name))
    }

    /// Notes which part failed.
    #[cold]
    fn blame(&mut self, part: &str) {
        self.to.within(part);
        if let Some(variant) = self.variant {
            self.to.within(variant);
        }
    }

    #[inline]
    fn finish(self) {
        self.to.put(self.brackets.close);
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

            #[inline]
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
    SerializeStructVariant::serialize_field(name) = put_field;
}

impl SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    /// Has serde_json, which knows what can be a key, write an object of this key alone. Its bracket stands for ours,
    /// or where the comma goes.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let text = &mut *self.to.text;
        let before = match self.count {
            0 => text.pop(),
            _ => Some(b','),
        };
        let start = text.len();
        serde_json::to_writer(&mut *text, &Alone(key))?;
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

/// A key in an object of its own.
struct Alone<'k, T: ?Sized>(&'k T);

impl<T: Serialize + ?Sized> Serialize for Alone<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &())?;
        map.end()
    }
}

/// A struct that is being written.
pub(crate) enum Struct<'w, 't> {
    Object(Parts<'w, 't>),
    /// One to serde that is a number or a text to serde_json.
    MadeUp(&'w mut Writer<'t>, &'static str),
}

impl SerializeStruct for Struct<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        match self {
            Self::Object(parts) => parts.put_field(name, value),
            Self::MadeUp(to, of) => to.put_made_up(&MadeUp { of, name, value }),
        }
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        if let Self::Object(parts) = self {
            parts.finish();
        }
        Ok(())
    }
}

/// A struct of one field, as serde_json makes it up.
struct MadeUp<'v, T: ?Sized> {
    of: &'static str,
    name: &'static str,
    value: &'v T,
}

impl<T: Serialize + ?Sized> Serialize for MadeUp<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut parts = to.serialize_struct(self.of, 1)?;
        parts.serialize_field(self.name, self.value)?;
        parts.end()
    }
}
