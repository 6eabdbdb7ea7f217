//! Between a value and serde_json: what is not to be written, and strings that are written faster.
//!
//! serde_json writes `null` for NaN and infinity, and whoever reads it takes that for something else, or for
//! nothing. [`Finite`] stands between a value and serde_json, refuses them and notes where they were. It costs
//! nothing where there are no floating-point numbers. It also counts what is open, so that no value, however
//! deep, takes the stack down: what is deeper than any reader of ours goes, is not written to its end.
//!
//! A long string takes serde_json most of the time of its message. It writes the quotes, and we what is between them
//! ([`escape`](super::escape)).

use super::escape::put_escaped;
use super::strict::MADE_UP;
use super::unpacker::put_before;
use crate::error::EncodeError;
use crate::limits::Bounds;
use serde::ser::{
    Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{self, Write};

/// A text while it is written, and what serde's errors cannot carry: what was refused, and the path of the member
/// that failed.
#[derive(Debug)]
pub(super) struct Writing<'t> {
    /// Written to by serde_json and, between quotes, by us.
    text: RefCell<&'t mut Vec<u8>>,
    refused: Cell<Option<Refused>>,
    path: RefCell<String>,
    /// How many more arrays and objects may be open at once.
    left: Cell<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Refused {
    NotFinite,
    TooDeep,
}

impl<'t> Writing<'t> {
    /// Writes to the end of `text`.
    pub(super) fn new(text: &'t mut Vec<u8>) -> Self {
        Self {
            text: RefCell::new(text),
            refused: Cell::default(),
            path: RefCell::default(),
            left: Cell::new(Bounds::DEPTH_MAX),
        }
    }

    /// Writes `string` between the quotes of the empty string that was written last.
    fn fill(&self, string: &str) {
        let text = &mut **self.text.borrow_mut();
        text.pop();
        text.reserve(string.len() + 1);
        put_escaped(text, string);
        text.push(b'"');
    }

    /// Counts arrays and objects that are opened, unless there are too many.
    #[inline]
    fn open<E: Error>(&self, levels: usize) -> Result<(), E> {
        let Some(left) = self.left.get().checked_sub(levels) else {
            self.refused.set(Some(Refused::TooDeep));
            return Err(E::custom("too deep"));
        };
        self.left.set(left);
        Ok(())
    }

    #[inline]
    fn close(&self, levels: usize) {
        self.left.set(self.left.get() + levels);
    }

    fn within(&self, member: &str) {
        put_before(&mut self.path.borrow_mut(), member);
    }

    /// Makes the error out of what serde_json reports and what was noted.
    pub(super) fn explain(&self, error: &serde_json::Error) -> EncodeError {
        match self.refused.get() {
            Some(Refused::NotFinite) => EncodeError::NotFinite {
                field: Some(self.path.take()).filter(|path| !path.is_empty()),
            },
            Some(Refused::TooDeep) => EncodeError::TooDeep {
                limit: Bounds::DEPTH_MAX,
            },
            None => EncodeError::Json {
                reason: error.to_string(),
            },
        }
    }
}

impl Write for &Writing<'_> {
    #[inline]
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.text.borrow_mut().extend_from_slice(part);
        Ok(part.len())
    }

    #[inline]
    fn write_all(&mut self, part: &[u8]) -> io::Result<()> {
        self.text.borrow_mut().extend_from_slice(part);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A serializer that refuses NaN and infinity.
pub(super) struct Finite<'f, S> {
    to: S,
    writing: &'f Writing<'f>,
}

impl<'f, S: Serializer> Finite<'f, S> {
    pub(super) fn new(to: S, writing: &'f Writing<'f>) -> Self {
        Self { to, writing }
    }

    fn refuse(self) -> Result<S::Ok, S::Error> {
        self.writing.refused.set(Some(Refused::NotFinite));
        Err(S::Error::custom("not a finite number"))
    }

    /// Wraps what an array or an object is written with, which opens so many; `variant` is what it is the
    /// content of, or empty.
    fn parts<P>(
        self,
        levels: usize,
        variant: &'static str,
        make: impl FnOnce(S) -> Result<P, S::Error>,
    ) -> Result<Parts<'f, P>, S::Error> {
        self.writing.open(levels)?;
        Ok(Parts {
            to: make(self.to)?,
            writing: self.writing,
            levels,
            variant,
            index: 0,
        })
    }
}

/// A value inside another.
struct Inner<'f, 'v, T: ?Sized>(&'v T, &'f Writing<'f>);

impl<T: Serialize + ?Sized> Serialize for Inner<'_, '_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Finite::new(to, self.1))
    }
}

/// Forwards methods that write a whole value.
macro_rules! values {
    ($($method:ident($($argument:ident: $of:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $($argument: $of),*) -> Result<S::Ok, S::Error> {
            self.to.$method($($argument),*)
        }
    )*};
}

/// Forwards methods that begin a value of several parts.
macro_rules! parts {
    ($($method:ident($($argument:ident: $of:ty),*) -> $parts:ident;)*) => {$(
        #[inline]
        fn $method(self, $($argument: $of),*) -> Result<Self::$parts, S::Error> {
            self.parts(1, "", |to| to.$method($($argument),*))
        }
    )*};
}

impl<'f, S: Serializer> Serializer for Finite<'f, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'f, S::SerializeSeq>;
    type SerializeTuple = Parts<'f, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'f, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'f, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'f, S::SerializeMap>;
    type SerializeStruct = Parts<'f, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'f, S::SerializeStructVariant>;

    values! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    parts! {
        serialize_seq(length: Option<usize>) -> SerializeSeq;
        serialize_tuple(length: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, length: usize) -> SerializeTupleStruct;
        serialize_map(length: Option<usize>) -> SerializeMap;
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        // A struct to serde that is a number or a text to serde_json.
        let levels = usize::from(!name.starts_with(MADE_UP));
        self.parts(levels, "", |to| to.serialize_struct(name, length))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.parts(2, variant, |to| {
            to.serialize_tuple_variant(name, index, variant, length)
        })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.parts(2, variant, |to| {
            to.serialize_struct_variant(name, index, variant, length)
        })
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        /// Shorter ones serde_json writes as fast.
        const LONG: usize = 32;
        if value.len() < LONG {
            return self.to.serialize_str(value);
        }
        let done = self.to.serialize_str("")?;
        self.writing.fill(value);
        Ok(done)
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => self.to.serialize_f32(value),
            false => self.refuse(),
        }
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => self.to.serialize_f64(value),
            false => self.refuse(),
        }
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.serialize_some(&Inner(value, self.writing))
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.to
            .serialize_newtype_struct(name, &Inner(value, self.writing))
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let (inner, writing) = (Inner(value, self.writing), self.writing);
        writing.open(1)?;
        self.to
            .serialize_newtype_variant(name, index, variant, &inner)
            .inspect(|_| writing.close(1))
            .inspect_err(|_| writing.within(variant))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.to.is_human_readable()
    }
}

/// An array or an object that is being written.
pub(super) struct Parts<'f, P> {
    to: P,
    writing: &'f Writing<'f>,
    levels: usize,
    variant: &'static str,
    /// How many elements have been written.
    index: usize,
}

impl<P> Parts<'_, P> {
    /// Notes which member failed.
    #[cold]
    fn blame(&self, member: &str) {
        self.writing.within(member);
        if !self.variant.is_empty() {
            self.writing.within(self.variant);
        }
    }
}

/// Forwards the traits of arrays, whose parts have no names.
macro_rules! arrays {
    ($($of:ident $method:ident;)*) => {$(
        impl<P: $of> $of for Parts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
                let written = self.to.$method(&Inner(value, self.writing));
                written.inspect_err(|_| self.blame(&format!("[{}]", self.index)))?;
                self.index += 1;
                Ok(())
            }

            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.writing.close(self.levels);
                self.to.end()
            }
        }
    )*};
}

arrays! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

/// Forwards the traits of objects whose parts have names.
macro_rules! objects {
    ($($of:ident)*) => {$(
        impl<P: $of> $of for Parts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), P::Error> {
                let written = self.to.serialize_field(name, &Inner(value, self.writing));
                written.inspect_err(|_| self.blame(name))
            }

            #[inline]
            fn skip_field(&mut self, name: &'static str) -> Result<(), P::Error> {
                self.to.skip_field(name)
            }

            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.writing.close(self.levels);
                self.to.end()
            }
        }
    )*};
}

objects! { SerializeStruct SerializeStructVariant }

impl<P: SerializeMap> SerializeMap for Parts<'_, P> {
    type Ok = P::Ok;
    type Error = P::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), P::Error> {
        self.to.serialize_key(&Inner(key, self.writing))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
        self.to.serialize_value(&Inner(value, self.writing))
    }

    #[inline]
    fn end(self) -> Result<P::Ok, P::Error> {
        self.writing.close(self.levels);
        self.to.end()
    }
}
