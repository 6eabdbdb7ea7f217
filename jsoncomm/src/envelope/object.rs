//! One JSON object, walked member by member without decoding what nobody asks for.

use std::borrow::Cow;

use serde::de::{Deserialize, IgnoredAny};

use crate::error::{DecodeError, Fault};
use crate::message::{self, BLANK, Unpacker};

/// Leaves out white space (RFC 8259, section 2) at the front. There hardly ever is any.
#[inline]
pub(super) fn trimmed(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(..=b' ') => text.trim_start_matches(BLANK),
        _ => text,
    }
}

/// Steps over one ASCII character at the front; `None` when another stands there.
#[inline]
fn over(text: &str, character: u8) -> Option<&str> {
    match text.as_bytes().first() {
        Some(first) if *first == character => text.get(1..),
        _ => None,
    }
}

/// The members of one JSON object, walked in the order they stand there.
#[derive(Debug, Clone)]
pub(super) struct Members<'t> {
    /// What has not been read yet.
    pub(super) rest: &'t str,
    started: bool,
}

impl<'t> Members<'t> {
    /// Starts at an object; anything else is no JSON, or no call.
    pub(super) fn open(text: &'t str) -> Result<Self, Fault> {
        let rest = trimmed(text);
        let Some(rest) = over(rest, b'{') else {
            // Tell what is no JSON at all from what is some other JSON value.
            let (_, length) = front::<IgnoredAny>(rest)
                .map_err(syntax)
                .map_err(Fault::from)?;
            ended(rest.get(length..).unwrap_or_default())?;
            return Err(Fault::new(Fault::NOT_A_CALL, "not a JSON object"));
        };
        Ok(Self {
            rest,
            started: false,
        })
    }

    /// Goes on behind a member of an object, before the comma or the end.
    pub(super) fn behind(rest: &'t str) -> Self {
        let started = true;
        Self { rest, started }
    }

    /// Steps to the next member and reads its name; `None` after the last, when nothing may follow.
    #[inline]
    pub(super) fn next_name(&mut self) -> Result<Option<Cow<'t, str>>, Fault> {
        match self.next_plain() {
            Some(name) => Ok(Some(Cow::Borrowed(name))),
            None => self.next_written_otherwise(),
        }
    }

    fn next_written_otherwise(&mut self) -> Result<Option<Cow<'t, str>>, Fault> {
        let rest = trimmed(self.rest);
        if let Some(rest) = over(rest, b'}') {
            self.rest = "";
            ended(rest)?;
            return Ok(None);
        }
        let rest = match self.started {
            false => rest,
            true => {
                over(rest, b',').ok_or_else(|| not_json("expected `,` or `}` in the envelope"))?
            }
        };
        self.started = true;
        self.rest = trimmed(rest);
        if !self.rest.starts_with('"') {
            return Err(not_json("expected a member's name in the envelope"));
        }
        let name = self.string("name")?;
        let rest = over(trimmed(self.rest), b':')
            .ok_or_else(|| not_json("expected `:` in the envelope"))?;
        self.rest = trimmed(rest);
        Ok(Some(name))
    }

    /// Steps to the next member, not the first one, if it is written as nearly all are: without white space or
    /// escapes.
    #[inline]
    fn next_plain(&mut self) -> Option<&'t str> {
        let after = self.rest.strip_prefix(",\"").filter(|_| self.started)?;
        let (name, rest) = after.split_at_checked(message::plain_words(after.as_bytes()))?;
        self.rest = trimmed(rest.strip_prefix("\":")?);
        Some(name)
    }

    /// Reads the next value, if it is a number of usual size without sign, fraction or exponent.
    pub(super) fn number(&mut self) -> Option<u64> {
        /// So many digits always fit.
        const DIGITS: usize = 19;
        let (mut number, mut left) = (0, self.rest.as_bytes());
        while let Some((eight, after)) = left.split_first_chunk() {
            let Some(eight) = eight_digits(*eight) else {
                break;
            };
            // What does not fit has too many digits.
            number = eight.wrapping_add(100_000_000_u64.wrapping_mul(number));
            left = after;
        }
        let mut digits = self.rest.len() - left.len();
        for byte in left {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            number = u64::from(digit).wrapping_add(10_u64.wrapping_mul(number));
            digits += 1;
        }
        let (text, rest) = self.rest.split_at_checked(digits)?;
        let leads = digits > 1 && text.starts_with('0');
        let ends = rest.starts_with([',', '}']);
        if digits == 0 || digits > DIGITS || leads || !ends {
            return None;
        }
        self.rest = rest;
        Some(number)
    }

    /// Skips the next value and returns its text.
    pub(super) fn raw(&mut self) -> Result<&'t str, Fault> {
        let (_, length) = front::<IgnoredAny>(self.rest).map_err(syntax)?;
        let (value, rest) = self.rest.split_at_checked(length).unwrap_or_default();
        self.rest = rest;
        Ok(value)
    }

    /// Skips the next value, which nobody asks for and which is held to the rules all the same.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let skipped = message::skip_front(self.rest);
        let length = skipped.map_err(|error| blamed("a member", error))?;
        self.rest = self.rest.get(length..).unwrap_or_default();
        Ok(())
    }

    /// Reads the next value, a string.
    pub(super) fn string(&mut self, name: &str) -> Result<Cow<'t, str>, Fault> {
        // The usual case by hand: a string without escapes needs no copy.
        if let Some(after) = over(self.rest, b'"') {
            let end = message::plain_words(after.as_bytes());
            if let Some((value, rest)) = after.split_at_checked(end) {
                if let Some(rest) = over(rest, b'"') {
                    self.rest = rest;
                    return Ok(Cow::Borrowed(value));
                }
            }
        }
        let string = message::decode_front::<String>(self.rest, &Unpacker::default());
        let (value, length) = string.map_err(|error| blamed(name, error))?;
        self.rest = self.rest.get(length..).unwrap_or_default();
        Ok(Cow::Owned(value))
    }
}

/// The number that eight digits write; `None` if they are none.
///
/// The digits that stand beside one another are put together at once, and so are the pairs and the fours that become
/// of them.
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const ONES: u64 = u64::MAX / 0xff;
    let digits = u64::from_le_bytes(text) ^ (ONES * b'0' as u64);
    // A byte above nine carries into its highest bit, or has it.
    if (digits | digits.wrapping_add(ONES * (0x7f - 9))) & (ONES << 7) != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

/// Decodes a value from the front of `text` and says how long it was.
pub(super) fn front<'t, T: Deserialize<'t>>(
    text: &'t str,
) -> Result<(T, usize), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(&mut reader)?;
    Ok((value, reader.into_iter::<IgnoredAny>().byte_offset()))
}

/// Says that the bytes are not JSON, or that a member of the envelope is not what it has to be.
fn blamed(name: &str, error: DecodeError) -> Fault {
    match error {
        DecodeError::Shape { .. } => Fault::new(Fault::NOT_A_CALL, format!("{name}: {error}")),
        other => Fault::from(other),
    }
}

/// Says that the bytes are not JSON.
pub(super) fn syntax(error: serde_json::Error) -> DecodeError {
    DecodeError::Syntax {
        reason: error.to_string(),
    }
}

fn not_json(message: &str) -> Fault {
    Fault::new(Fault::NOT_JSON, format!("not JSON: {message}"))
}

/// Turns a fault of the walk back into an error of decoding.
pub(super) fn into_decode(fault: Fault) -> DecodeError {
    DecodeError::Syntax {
        reason: fault.message,
    }
}

fn ended(rest: &str) -> Result<(), Fault> {
    match trimmed(rest) {
        "" => Ok(()),
        _ => Err(not_json("something follows the message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_digits_are_read_at_once_and_nothing_else_is() {
        for number in [0, 7, 12_345_678, 90_000_000, 99_999_999, 10_203_040] {
            let text = format!("{number:08}");
            let eight = *text.as_bytes().first_chunk().unwrap();
            assert_eq!(eight_digits(eight), Some(number));
            for place in 0..8 {
                for other in (0..=0xff_u8).filter(|byte| !byte.is_ascii_digit()) {
                    let mut eight = eight;
                    eight[place] = other;
                    assert_eq!(eight_digits(eight), None, "{other} at {place}");
                }
            }
        }
    }

    #[test]
    fn a_number_of_any_length_is_read_if_it_fits_and_ends_there() {
        let read = |text: &str| {
            let mut members = Members::behind(text);
            (members.number(), members.rest.to_owned())
        };
        for digits in 1..=19 {
            let number = "1234567890123456789".get(..digits).unwrap();
            let text = format!("{number},");
            assert_eq!(read(&text), (number.parse().ok(), ",".to_owned()));
        }
        for text in [
            "",
            "-1,",
            "1.5,",
            "1e3,",
            "01,",
            "00000000,",
            "1 ,",
            "123456789012x,",
            "12345678901234567890,",
            "18446744073709551616}",
            "123456781234567812345678,",
        ] {
            assert_eq!(read(text), (None, text.to_owned()));
        }
        assert_eq!(read("0}"), (Some(0), "}".to_owned()));
    }
}
