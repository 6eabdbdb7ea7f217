//! JSON text to values: what serde_json makes of it, but nothing that has more than one meaning, and faster.
//!
//! What is usual is read here: arrays and objects, text without escapes, whole numbers. What is not, a text with
//! escapes, a fraction, a number of 128 bits, serde_json reads, and from a mistake on it says what is wrong.
//!
//! serde_json lets the last one win where an object has a key twice, and takes texts that are none for something that
//! nobody asks for. [`Reader`] refuses both, wherever they stand: what a type skips is read like the rest.

mod key;
mod keys;
mod lost;
mod parts;
#[cfg(test)]
mod tests;
mod variant;

pub(crate) use keys::repeated;
pub(crate) use keys::{MADE_UP, NUMBER};
pub(crate) use lost::Lost;

/// A newtype of this name is any value, which is kept as text to be read later: its visitor gets the bytes.
pub(crate) const UNREAD: &str = "$jsoncomm::unread";

use super::cursor::Cursor;
use crate::limits::Depth;
use keys::Keys;
use parts::{Elements, Entries, Unseen};
use serde::de::value::MapDeserializer;
use serde::de::{Error as _, Expected, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Error;
use std::borrow::Cow;
use std::fmt;
use variant::Variant;

/// A text while values are read from it.
#[derive(Debug)]
pub(crate) struct Reader<'de> {
    at: Cursor<'de>,
    /// How many more arrays and objects may be open at once.
    left: u8,
    /// Something has been skipped: the names of what is around it are no member's of a type.
    skipped: bool,
    broken: Option<Broken>,
    lost: Option<Lost>,
}

/// What serde's errors cannot carry of a text that was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It may be no JSON, or a value of another type, or the end of an array, was due.
    Syntax,
    /// More is open at once than may be.
    TooDeep,
}

/// What comes next in an array or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Part,
    End,
    Mistake,
}

/// serde_json's own reader.
type Theirs<'de> = serde_json::Deserializer<serde_json::de::StrRead<'de>>;

impl<'de> Reader<'de> {
    /// Reads from the front of `text`.
    pub(crate) fn new(text: &'de str, depth: Depth) -> Self {
        Self {
            at: Cursor::new(text),
            left: depth.left,
            skipped: false,
            broken: None,
            lost: None,
        }
    }

    /// How many bytes have been read.
    pub(crate) fn position(&self) -> usize {
        self.at.position()
    }

    /// Why reading failed, unless it was for what the text says.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// The last number that was refused for losing digits.
    pub(crate) fn take_lost(&mut self) -> Option<Lost> {
        self.lost.take()
    }

    /// Reads a value and keeps nothing of it.
    pub(crate) fn skip(&mut self) -> Result<(), Error> {
        IgnoredAny::deserialize(self).map(drop)
    }

    /// Says that something else should stand here.
    #[cold]
    fn fail(&mut self, reason: &str) -> Error {
        self.broken = Some(Broken::Syntax);
        self.give_up(Error::custom(reason))
    }

    /// Goes behind the end, where nothing is read and nobody may stop: whoever makes something of an error in the
    /// midst of an array or an object cannot tell where that ends.
    #[cold]
    fn give_up(&mut self, error: Error) -> Error {
        self.at.advance(self.at.whole().len() + 1);
        error
    }

    /// Says that what stands here is of another type, as serde_json does, and steps over it if it is one token: who
    /// makes something of the error goes on behind it.
    #[cold]
    fn mistaken(&mut self, expected: &dyn Expected) -> Error {
        let several = matches!(self.at.peek(), b'[' | b'{');
        let error = self.theirs(|theirs| match theirs.deserialize_any(Mistaken(expected)) {
            Ok(never) => match never {},
            Err(error) if error.is_data() && !several => Ok(error),
            Err(error) => Err(error),
        });
        error.unwrap_or_else(|error| error)
    }

    /// Has serde_json read what stands here, which is one value.
    fn theirs<T>(
        &mut self,
        read: impl FnOnce(&mut Theirs<'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut theirs = serde_json::Deserializer::from_str(self.at.rest());
        let value = read(&mut theirs).map_err(|error| match error.is_data() {
            true => error,
            false => {
                self.broken = Some(Broken::Syntax);
                self.give_up(error)
            }
        })?;
        let length = theirs.into_iter::<IgnoredAny>().byte_offset();
        self.at.advance(length);
        Ok(value)
    }

    /// Reads a number that is negative, a fraction or long, with `theirs` if need be.
    #[inline(never)]
    fn other_number(
        &mut self,
        theirs: fn(&mut Theirs<'de>) -> Result<Number, Error>,
    ) -> Result<Number, Error> {
        let before = self.at.clone();
        if self.at.over(b'-') {
            // The least of them is left to serde_json, as is a zero: it is no integer with a sign.
            let number = self.at.unsigned().map(i64::try_from);
            if let Some(Ok(number @ 1..)) = number {
                return Ok(Number::Negative(-number));
            }
            self.at = before;
        }
        self.theirs(theirs)
    }

    /// Reads a text.
    #[inline]
    fn string(&mut self) -> Result<Cow<'de, str>, Error> {
        match self.at.string() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.escaped().map(Cow::Owned),
        }
    }

    /// Reads a text with escapes, or what is none.
    #[cold]
    fn escaped(&mut self) -> Result<String, Error> {
        self.theirs(|theirs| String::deserialize(theirs))
    }

    /// Steps into an array or an object.
    #[inline]
    fn open(&mut self) -> Result<(), Error> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return Err(self.too_deep()),
        }
        self.at.advance(1);
        Ok(())
    }

    #[cold]
    fn too_deep(&mut self) -> Error {
        self.broken = Some(Broken::TooDeep);
        Error::custom("too deep")
    }

    /// Steps out of it, if all of it was read.
    #[inline]
    fn close(&mut self, bracket: u8, otherwise: &str) -> Result<(), Error> {
        self.left += 1;
        match self.at.over(bracket) {
            true => Ok(()),
            false => Err(self.fail(otherwise)),
        }
    }

    /// Steps to the next part of an array or an object.
    fn step(&mut self, bracket: u8, first: &mut bool) -> Step {
        let here = self.at.peek();
        if here == bracket {
            return Step::End;
        }
        if std::mem::take(first) {
            return Step::Part;
        }
        self.at.advance(1);
        match here == b',' && self.at.peek() != bracket {
            true => Step::Part,
            false => Step::Mistake,
        }
    }

    /// Says that a part should have been followed by another one, or by the end.
    #[cold]
    fn ends_badly(&mut self) -> Error {
        self.fail("expected a comma and more, or the end")
    }

    /// Steps over what is between a key and its value.
    #[inline]
    fn colon(&mut self) -> Result<(), Error> {
        match self.at.over(b':') {
            true => Ok(()),
            false => Err(self.fail("expected a colon")),
        }
    }

    /// Reads an array.
    #[inline]
    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.open()?;
        let (from, first) = (&mut *self, true);
        let value = visitor.visit_seq(Elements { from, first });
        let value = value.map_err(|error| self.give_up(error))?;
        self.close(b']', "trailing characters")?;
        Ok(value)
    }

    /// Reads an object, of whose keys some or all can be there twice without the visitor seeing it.
    #[inline]
    fn object<V: Visitor<'de>>(&mut self, unseen: Unseen, visitor: V) -> Result<V::Value, Error> {
        self.open()?;
        let mut keys = Keys::default();
        let value = visitor.visit_map(Entries {
            from: &mut *self,
            first: true,
            unseen,
            key: Cow::Borrowed(""),
            keys: &mut keys,
        });
        let value = value.and_then(|value| keys.finish().map(|()| value));
        let value = value.map_err(|error| self.give_up(error))?;
        self.close(b'}', "trailing characters")?;
        Ok(value)
    }
}

/// What serde_json is asked for where it is to find a mistake.
struct Mistaken<'e>(&'e dyn Expected);

/// Nothing.
enum Never {}

impl Visitor<'_> for Mistaken<'_> {
    type Value = Never;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug)]
enum Number {
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    /// To the letter, where a program has every digit kept.
    Text(String),
}

impl Number {
    #[inline(never)]
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Unsigned(number) => visitor.visit_u64(number),
            Self::Negative(number) => visitor.visit_i64(number),
            Self::Float(number) => visitor.visit_f64(number),
            // Made up as serde_json does.
            Self::Text(text) => {
                visitor.visit_map(MapDeserializer::new([(NUMBER, text)].into_iter()))
            }
        }
    }
}

struct NumberVisitor;

impl<'de> Visitor<'de> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(Number::Negative(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
        Ok(Number::Float(number))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
        let member = map.next_entry::<IgnoredAny, String>()?;
        Ok(Number::Text(member.unwrap_or_default().1))
    }
}

/// Reads what is one token.
macro_rules! tokens {
    ($($read:ident: $($method:ident)*;)*) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.$read(visitor)
        }
    )*)*};
}

/// Reads what has several parts, or is a mistake.
macro_rules! several {
    ($($method:ident($($argument:ident: $of:ty),*): $($bracket:literal => $read:ident($($unseen:ident)?))+;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(
            self,
            $($argument: $of,)*
            visitor: V,
        ) -> Result<V::Value, Error> {
            match self.at.peek() {
                $($bracket => self.$read($(Unseen::$unseen,)? visitor),)+
                _ => Err(self.mistaken(&visitor)),
            }
        }
    )*};
}

impl<'de> Reader<'de> {
    #[inline]
    fn read_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.number(|theirs| theirs.deserialize_f64(NumberVisitor), visitor)
    }

    /// The nearest `f32` to what is written is not always the nearest one to the nearest `f64`.
    #[inline]
    fn read_f32<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.number(|theirs| theirs.deserialize_f32(NumberVisitor), visitor)
    }

    /// Reads a number, with `theirs` if it is an unusual one.
    #[inline]
    fn number<V: Visitor<'de>>(
        &mut self,
        theirs: fn(&mut Theirs<'de>) -> Result<Number, Error>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let first = self.at.peek();
        match (self.at.unsigned(), first) {
            (Some(number), _) => visitor.visit_u64(number),
            (None, b'-' | b'0'..=b'9') => self.other_number(theirs)?.visit(visitor),
            (None, _) => Err(self.mistaken(&visitor)),
        }
    }

    #[inline]
    fn read_text<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.at.peek() {
            b'"' => match self.at.string() {
                Some(text) => visitor.visit_borrowed_str(text),
                None => visitor.visit_string(self.escaped()?),
            },
            _ => Err(self.mistaken(&visitor)),
        }
    }

    #[inline]
    fn read_bytes<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.at.peek() {
            b'[' => self.array(visitor),
            b'"' => match self.string()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
                Cow::Owned(text) => visitor.visit_byte_buf(text.into()),
            },
            _ => Err(self.mistaken(&visitor)),
        }
    }

    #[inline]
    fn read_bool<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.at.peek();
        if self.at.over_word("true") {
            visitor.visit_bool(true)
        } else if self.at.over_word("false") {
            visitor.visit_bool(false)
        } else {
            Err(self.mistaken(&visitor))
        }
    }

    #[inline]
    fn read_null<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.at.peek();
        match self.at.over_word("null") {
            true => visitor.visit_unit(),
            false => Err(self.mistaken(&visitor)),
        }
    }

    /// Reads a number as what it is: there is no type that it has to fit.
    fn read_any_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let start = self.position();
        if let Some(number) = self.at.unsigned() {
            return visitor.visit_u64(number);
        }
        let number = self.other_number(|theirs| theirs.deserialize_any(NumberVisitor))?;
        if let Number::Float(float) = &number {
            self.check_digits(start, *float)?;
        }
        number.visit(visitor)
    }

    #[inline]
    fn read_any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.at.peek() {
            b'"' => self.read_text(visitor),
            b'[' => self.array(visitor),
            b'{' => self.object(Unseen::All, visitor),
            b'-' | b'0'..=b'9' => self.read_any_number(visitor),
            b'n' => self.read_null(visitor),
            _ => self.read_bool(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    tokens! {
        read_number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_f64
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64;
        read_f32: deserialize_f32;
        read_text: deserialize_char deserialize_str deserialize_string deserialize_identifier;
        read_bytes: deserialize_bytes deserialize_byte_buf;
        read_bool: deserialize_bool;
        read_null: deserialize_unit;
        read_any: deserialize_any;
    }

    several! {
        deserialize_seq(): b'[' => array();
        deserialize_tuple(_length: usize): b'[' => array();
        deserialize_tuple_struct(_name: &'static str, _length: usize): b'[' => array();
        deserialize_map(): b'{' => object(All);
        deserialize_struct(_name: &'static str, _fields: &'static [&'static str]):
            b'{' => object(Skipped) b'[' => array();
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.theirs(|theirs| theirs.deserialize_i128(visitor))
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.theirs(|theirs| theirs.deserialize_u128(visitor))
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.at.peek() {
            b'n' => match self.at.over_word("null") {
                true => visitor.visit_none(),
                false => Err(self.mistaken(&visitor)),
            },
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.read_null(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == UNREAD {
            self.at.peek();
            let start = self.position();
            self.skip()?;
            let text = self.at.whole().get(start..self.position());
            return visitor.visit_borrowed_bytes(text.unwrap_or_default().as_bytes());
        }
        if name.starts_with(MADE_UP) {
            // A text that is handed over unread is one that is skipped.
            let before = self.at.clone();
            self.skip()?;
            self.at = before;
            return self.theirs(|theirs| theirs.deserialize_newtype_struct(name, visitor));
        }
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.at.peek() {
            b'"' => visitor.visit_enum(Variant {
                from: self,
                alone: true,
            }),
            b'{' => {
                self.open()?;
                let (from, alone) = (&mut *self, false);
                let value = visitor.visit_enum(Variant { from, alone });
                let value = value.map_err(|error| self.give_up(error))?;
                self.close(b'}', "expected value")?;
                Ok(value)
            }
            _ => Err(self.fail("expected value")),
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skipped = true;
        match self.at.peek() {
            b'-' | b'0'..=b'9' => {
                self.number(|theirs| theirs.deserialize_any(NumberVisitor), IgnoredAny)?
            }
            _ => self.read_any(IgnoredAny)?,
        };
        visitor.visit_unit()
    }
}
