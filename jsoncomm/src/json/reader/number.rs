//! Numbers that are not plain unsigned integers.

use super::{NUMBER, Reader};
use crate::json::Error;
use serde::de::value::MapDeserializer;
use serde::de::{Deserialize, Error as _, Expected, Unexpected, Visitor};
use std::str::FromStr;
use std::sync::LazyLock;

/// Most digits of a refused integer that the error repeats.
const DIGITS_SHOWN: usize = 40;

const OUT_OF_RANGE: &str = "number out of range";

#[derive(Debug)]
enum Number {
    Unsigned(u64),
    Negative(i64),
    Float(f64),
}

impl Number {
    /// Reads `text`, with `float` if it is not an integer of up to 64 bits; `None` if it is out of range.
    fn parse(text: &str, is_integer: bool, float: fn(&str) -> Option<f64>) -> Option<Self> {
        let integer = if is_integer {
            // A zero with a sign is a float.
            let negative = || text.parse().ok().filter(|number| *number != 0);
            let unsigned = text.parse().ok().map(Self::Unsigned);
            unsigned.or_else(|| negative().map(Self::Negative))
        } else {
            None
        };
        let float = || float(text).filter(|number| number.is_finite());
        integer.or_else(|| float().map(Self::Float))
    }

    #[inline(never)]
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Unsigned(number) => visitor.visit_u64(number),
            Self::Negative(number) => visitor.visit_i64(number),
            Self::Float(number) => visitor.visit_f64(number),
        }
    }
}

impl<'de> Reader<'de> {
    #[inline]
    pub(super) fn read_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.number(|text| text.parse().ok(), visitor)
    }

    /// Reads the nearest `f32`, which the nearest one to the nearest `f64` is not always.
    #[inline]
    pub(super) fn read_f32<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.number(|text| text.parse::<f32>().ok().map(f64::from), visitor)
    }

    /// Reads an integer of up to 64 bits. A program without floats does not contain the code that parses them, of 17 KiB.
    #[inline]
    pub(super) fn read_integer<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let first = self.cursor.peek();
        match (self.cursor.unsigned(), first) {
            (Some(number), _) => visitor.visit_u64(number),
            (None, b'-' | b'0'..=b'9') => match self.other_number(unread_float)? {
                Number::Float(any) => Err(Error::invalid_type(Unexpected::Float(any), &visitor)),
                integer => integer.visit(visitor),
            },
            (None, _) => Err(self.invalid_type(&visitor)),
        }
    }

    /// Reads a number; `float` reads what is not an integer of up to 64 bits.
    #[inline]
    pub(super) fn number<V: Visitor<'de>>(
        &mut self,
        float: fn(&str) -> Option<f64>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let first = self.cursor.peek();
        match (self.cursor.unsigned(), first) {
            (Some(number), _) => visitor.visit_u64(number),
            (None, b'-' | b'0'..=b'9') => self.other_number(float)?.visit(visitor),
            (None, _) => Err(self.invalid_type(&visitor)),
        }
    }

    #[inline(never)]
    fn other_number(&mut self, float: fn(&str) -> Option<f64>) -> Result<Number, Error> {
        let (text, is_integer) = self.number_text()?;
        Number::parse(text, is_integer, float).ok_or_else(|| self.out_of_range())
    }

    /// Reads a number for which there is no type that it has to fit.
    pub(super) fn read_any_number<V: Visitor<'de>>(
        &mut self,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Some(number) = self.cursor.unsigned() {
            return visitor.visit_u64(number);
        }
        let (text, is_integer) = self.number_text()?;
        match Number::parse(text, is_integer, |text| text.parse().ok()) {
            // As `serde_json` passes it on.
            None | Some(Number::Float(_)) if keeps_digits() => {
                visitor.visit_map(MapDeserializer::new([(NUMBER, text)].into_iter()))
            }
            // As the nearest float is written, it has lost nothing.
            Some(Number::Float(float)) if is_integer && float.to_string() != text => {
                Err(lost_digits(text))
            }
            Some(number) => number.visit(visitor),
            None => Err(self.out_of_range()),
        }
    }

    /// Reads an integer of up to 128 bits. Anything else ends the message.
    pub(super) fn wide_integer<N: FromStr>(&mut self, expected: &dyn Expected) -> Result<N, Error> {
        let read = match self.cursor.peek() {
            b'-' | b'0'..=b'9' => self.number_text().and_then(|(text, is_integer)| {
                text.parse().map_err(|_| {
                    if is_integer {
                        Error::data(OUT_OF_RANGE)
                    } else {
                        Error::data(format_args!("invalid type: number, expected {expected}"))
                    }
                })
            }),
            _ => Err(self.invalid_type(expected)),
        };
        read.map_err(|error| self.poison(error))
    }

    fn number_text(&mut self) -> Result<(&'de str, bool), Error> {
        self.cursor.number().ok_or_else(|| self.no_value())
    }

    #[cold]
    fn out_of_range(&mut self) -> Error {
        self.poison(Error::data(OUT_OF_RANGE))
    }
}

/// Stands for a float whose value is not used.
pub(super) fn unread_float(_: &str) -> Option<f64> {
    Some(0.0)
}

/// Refuses an integer for which serde has no number with all digits.
#[cold]
fn lost_digits(text: &str) -> Error {
    let shown = text.get(..DIGITS_SHOWN).unwrap_or(text);
    let more = if shown.len() < text.len() { "…" } else { "" };
    Error::data(format_args!("integer {shown}{more} has more than 64 bits"))
}

/// Returns true if `serde_json` keeps numbers as they are written: its feature `arbitrary_precision`.
fn keeps_digits() -> bool {
    static KEEPS: LazyLock<bool> = LazyLock::new(|| {
        let kept = MapDeserializer::<_, Error>::new([(NUMBER, "1")].into_iter());
        serde_json::Number::deserialize(kept).is_ok()
    });
    *KEEPS
}
