//! A serde `Deserializer` for JSON text. It gives `serde_json`'s values, faster, and refuses texts that readers could
//! understand differently.
//!
//! `serde_json` lets the last of two equal keys win, and checks little of what a type skips. [`Reader`] refuses repeated
//! keys and lone surrogates everywhere. A type that asks for an integer gets no float.
//!
//! A `Deserialize` impl may swallow our error and continue. Therefore a syntax or depth error is kept in `fatal`, and
//! [`finish`](Reader::finish) returns it. After any other error inside an array or object the position is unknown, so the
//! reader is *poisoned*: moved past the end, where every read fails.

mod key;
mod keys;
mod number;
mod parts;
#[cfg(test)]
mod tests;
mod variant;

pub(crate) use keys::{NUMBER, RESERVED, repeated};
pub(crate) use parts::{Elements, Entries, Unseen};

use super::BLANK;
use super::cursor::{Cursor, NO_COLON, NO_COMMA};
use super::error::{Cause, Error};
use super::escape::unescape;
use crate::limits::Depth;
use keys::Keys;
use number::unread_float;
use parts::TagFirst;
use serde::Deserializer;
use serde::de::value::{BorrowedStrDeserializer, CowStrDeserializer, MapDeserializer};
use serde::de::{Expected, IgnoredAny, Visitor};
use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use variant::VariantReader;

/// Name of a newtype that holds any value as text, to be read later: its visitor gets the bytes.
pub(crate) const UNREAD: &str = "$jsoncomm::unread";

/// Name of a struct with two fields, the tag and the content of an enum. The visitor gets the tag first, wherever it stands.
pub(crate) const ADJACENT: &str = "$jsoncomm::adjacent";

/// Start of the name of a struct with a sensitive field, which continues with what is expected. An error about the struct as
/// a whole says no more than that.
const SENSITIVE: &str = "$jsoncomm::sensitive ";

/// A text while values are read from it.
#[derive(Debug)]
pub(crate) struct Reader<'de> {
    cursor: Cursor<'de>,
    /// How many more arrays and objects may be open at once.
    depth: Depth,
    /// Set by `deserialize_ignored_any`. The type did not check this key for repetition, so `Entries` must.
    skipped: bool,
    /// The first syntax or depth error, which [`finish`](Reader::finish) returns even if a type swallows it.
    fatal: Option<Error>,
}

impl<'de> Reader<'de> {
    /// Reads from the front of `text`.
    pub(crate) fn new(text: &'de str, depth: Depth) -> Self {
        Self {
            cursor: Cursor::new(text),
            depth,
            skipped: false,
            fatal: None,
        }
    }

    /// Returns the value and how many bytes it took, or the error that counts.
    pub(crate) fn finish<T>(self, read: Result<T, Error>) -> Result<(T, usize), Error> {
        match (self.fatal, read) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(_)) if self.cursor.position() > self.cursor.whole().len() => {
                Err(continued_after_error())
            }
            (None, Ok(value)) => Ok((value, self.cursor.position())),
        }
    }

    /// Reads a value with every check (syntax, depth, repeated keys, surrogates) and keeps nothing of it.
    pub(crate) fn skip(&mut self) -> Result<(), Error> {
        self.pass(IgnoredAny).map(drop)
    }

    /// Returns the first byte of the value.
    pub(crate) fn peek(&mut self) -> u8 {
        self.cursor.peek()
    }

    /// Skips a value with every check and returns its text.
    fn skip_text(&mut self) -> Result<&'de str, Error> {
        self.cursor.peek();
        let start = self.cursor.position();
        self.skip()?;
        Ok(self.cursor.since(start))
    }

    /// Makes the error of a text that is not JSON.
    #[cold]
    fn syntax_error(&mut self, reason: &str) -> Error {
        let error = self.cursor.syntax_error(reason);
        self.fail_for_good(error)
    }

    /// Makes the error of a text in which no value begins here.
    #[cold]
    fn no_value(&mut self) -> Error {
        let error = self.cursor.no_value();
        self.fail_for_good(error)
    }

    /// Ends the reading with an error that stays, whatever a type makes of the one that is returned.
    #[cold]
    fn fail_for_good(&mut self, error: Error) -> Error {
        // A reader that is poisoned has an earlier error. What follows from it does not count.
        if self.cursor.position() <= self.cursor.whole().len() {
            self.fatal = Some(error);
        }
        self.poison(continued_after_error())
    }

    /// Moves past the end of the text, where every read fails.
    #[cold]
    fn poison(&mut self, error: Error) -> Error {
        self.cursor.advance(self.cursor.whole().len() + 1);
        error
    }

    /// Makes the error of a value of another type. Steps over the value if it is one token.
    #[cold]
    pub(crate) fn invalid_type(&mut self, expected: &dyn Expected) -> Error {
        match self.pass(Unwanted(expected)) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Reads a string.
    #[inline]
    fn string(&mut self) -> Result<Cow<'de, str>, Error> {
        match self.cursor.string() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.escaped().map(Cow::Owned),
        }
    }

    /// Reads a string with escapes.
    #[cold]
    fn escaped(&mut self) -> Result<String, Error> {
        let start = self.cursor.position();
        self.cursor
            .skip_string()
            .map_err(|error| self.fail_for_good(error))?;
        let text = unescape(self.cursor.since(start));
        text.ok_or_else(|| self.poison(Error::data(LONE_SURROGATE)))
    }

    /// Reads an array or an object from bracket to bracket.
    #[inline]
    fn nested<T>(
        &mut self,
        end: u8,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.depth.left.checked_sub(1) {
            Some(left) => self.depth.left = left,
            None => return Err(self.fail_for_good(Error::new(Cause::TooDeep(self.depth.limit())))),
        }
        self.cursor.advance(1);
        let value = read(self).map_err(|error| self.poison(error))?;
        self.depth.left += 1;
        if self.cursor.over(end) {
            Ok(value)
        } else {
            Err(self.unread())
        }
    }

    /// Makes the error of an array or object that its visitor has not read to its end.
    #[cold]
    fn unread(&mut self) -> Error {
        // The visitor stopped too early if another part follows: after a comma, or at the first part, right after the
        // bracket. Anything else is a syntax error.
        let here = self.cursor.peek();
        let read = self.cursor.since(0).trim_end_matches(BLANK);
        if here == b',' || here != 0 && read.ends_with(['[', '{']) {
            self.poison(Error::data("trailing characters"))
        } else {
            self.syntax_error(NO_COMMA)
        }
    }

    /// Steps to the next part of an array or an object; returns false at its end.
    #[inline]
    fn step(&mut self, end: u8, is_first: bool) -> Result<bool, Error> {
        let here = self.cursor.peek();
        if here == end {
            return Ok(false);
        }
        if !is_first {
            if here != b',' {
                return Err(self.syntax_error(NO_COMMA));
            }
            self.cursor.advance(1);
            if end == b']' && self.cursor.peek() == end {
                return Err(self.no_value());
            }
        }
        Ok(true)
    }

    /// Steps over what is between a key and its value.
    #[inline]
    fn colon(&mut self) -> Result<(), Error> {
        if self.cursor.over(b':') {
            Ok(())
        } else {
            Err(self.syntax_error(NO_COLON))
        }
    }

    /// Reads an array, whose elements may have names.
    #[inline]
    fn array<V: Visitor<'de>>(
        &mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.elements(names, |elements| visitor.visit_seq(elements))
    }

    /// Reads the elements of an array.
    #[inline]
    pub(crate) fn elements<T>(
        &mut self,
        names: &'static [&'static str],
        read: impl FnOnce(Elements<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let count = 0;
        self.nested(b']', |from| read(Elements { from, names, count }))
    }

    /// Reads the members of an object.
    #[inline]
    pub(crate) fn members<T>(
        &mut self,
        unseen: Unseen,
        read: impl FnOnce(Entries<'_, '_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.nested(b'}', |from| {
            let mut keys = Keys::default();
            let value = read(Entries::new(from, unseen, &mut keys))?;
            keys.finish().map(|()| value)
        })
    }

    /// Reads an object.
    #[inline]
    fn object<V: Visitor<'de>>(&mut self, unseen: Unseen, visitor: V) -> Result<V::Value, Error> {
        self.members(unseen, |entries| visitor.visit_map(entries))
    }
}

const LONE_SURROGATE: &str =
    r"a lone surrogate is not a character: \ud800 to \udbff and \udc00 to \udfff come in pairs";

/// Makes the error of a type that continues after an error.
#[cold]
fn continued_after_error() -> Error {
    Error::data("an error within an array or an object was passed over")
}

/// Replaces an error about the whole of a [sensitive](SENSITIVE) struct.
#[cold]
pub(crate) fn without_secrets(name: &'static str, error: Error) -> Error {
    match name.strip_prefix(SENSITIVE) {
        Some(expected) if error.is_of_whole() => Error::data(format_args!("expected {expected}")),
        _ => error,
    }
}

/// The visitor of a value of another type than was expected: its methods all fail and say so.
struct Unwanted<'e>(&'e dyn Expected);

impl Visitor<'_> for Unwanted<'_> {
    type Value = Infallible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads values of which the first byte tells the type.
macro_rules! begin_with {
    ($($first:literal: $method:ident = $read:expr;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.cursor.peek() {
                $first => $read(self, visitor),
                _ => Err(self.invalid_type(&visitor)),
            }
        }
    )*};
}

/// Forwards each `deserialize_*` method to a `read_*` function.
macro_rules! forward {
    ($($read:ident: $($method:ident)*;)*) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.$read(visitor)
        }
    )*)*};
}

impl<'de> Reader<'de> {
    #[inline]
    fn read_text<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b'"' => match self.cursor.string() {
                Some(text) => visitor.visit_borrowed_str(text),
                None => visitor.visit_string(self.escaped()?),
            },
            _ => Err(self.invalid_type(&visitor)),
        }
    }

    #[inline]
    fn read_bytes<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b'[' => self.array(&[], visitor),
            b'"' => match self.string()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
                Cow::Owned(text) => visitor.visit_byte_buf(text.into()),
            },
            _ => Err(self.invalid_type(&visitor)),
        }
    }

    /// Reads any value. An integer that would lose digits is refused.
    #[inline]
    fn read_any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b'-' | b'0'..=b'9' => self.read_any_number(visitor),
            _ => self.read_no_number(visitor),
        }
    }

    /// Reads any value for a visitor that does not use it. It gets 0 for a number that is no integer of up to 64 bits.
    fn pass<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b'-' | b'0'..=b'9' => self.number(unread_float, visitor),
            _ => self.read_no_number(visitor),
        }
    }

    /// Reads any value but a number.
    #[inline]
    fn read_no_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b'"' => self.read_text(visitor),
            b'[' => self.array(&[], visitor),
            b'{' => self.object(Unseen::All, visitor),
            _ if self.cursor.over_word("null") => visitor.visit_unit(),
            _ if self.cursor.over_word("true") => visitor.visit_bool(true),
            _ if self.cursor.over_word("false") => visitor.visit_bool(false),
            _ => Err(self.no_value()),
        }
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    forward! {
        read_integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64;
        read_number: deserialize_f64;
        read_f32: deserialize_f32;
        read_text: deserialize_char deserialize_str deserialize_string deserialize_identifier;
        read_bytes: deserialize_bytes deserialize_byte_buf;
        read_any: deserialize_any;
    }

    begin_with! {
        b'n': deserialize_unit = Reader::read_no_number;
        b'[': deserialize_seq = |from: &mut Reader<'de>, visitor| from.array(&[], visitor);
        b'{': deserialize_map = |from: &mut Reader<'de>, visitor| from.object(Unseen::All, visitor);
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b't' if self.cursor.over_word("true") => visitor.visit_bool(true),
            b'f' if self.cursor.over_word("false") => visitor.visit_bool(false),
            b't' | b'f' => Err(self.no_value()),
            _ => Err(self.invalid_type(&visitor)),
        }
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = self.wide_integer(&visitor)?;
        visitor.visit_i128(number)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = self.wide_integer(&visitor)?;
        visitor.visit_u128(number)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b'n' if self.cursor.over_word("null") => visitor.visit_none(),
            b'n' => Err(self.no_value()),
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == UNREAD {
            visitor.visit_borrowed_bytes(self.skip_text()?.as_bytes())
        } else if name.starts_with(RESERVED) {
            // `serde_json` passes on a text that is kept as it is in this way.
            let text = BorrowedStrDeserializer::new(self.skip_text()?);
            visitor.visit_map(MapDeserializer::new([(name, text)].into_iter()))
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
            .map_err(|error| without_secrets(name, error))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let read = match (self.cursor.peek(), fields) {
            (b'{', [tag, content]) if name == ADJACENT => self
                .members(Unseen::Skipped, |entries| {
                    visitor.visit_map(TagFirst::new(entries, [tag, content]))
                }),
            (b'{', _) => self.object(Unseen::Skipped, visitor),
            // Types of ours list what stands there by position, and nothing else.
            (b'[', _) if name.is_empty() || name.starts_with(SENSITIVE) => {
                self.array(fields, visitor)
            }
            (b'[', _) => self.array(&[], visitor),
            _ => Err(self.invalid_type(&visitor)),
        };
        read.map_err(|error| without_secrets(name, error))
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.cursor.peek() {
            b'"' => visitor.visit_enum(CowStrDeserializer::new(self.string()?)),
            b'{' => self.nested(b'}', |from| {
                visitor.visit_enum(VariantReader { from, name: "" })
            }),
            _ => {
                let error = self.invalid_type(&visitor);
                Err(self.poison(error))
            }
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let skipped = self.skip();
        self.skipped = true;
        skipped.map_err(Error::in_skipped)?;
        visitor.visit_unit()
    }
}
