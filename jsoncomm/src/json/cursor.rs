//! A position in a JSON text, and what is read there without a type.
//!
//! Strings without escapes and unsigned integers, which is nearly all that comes, have functions of their own that look at
//! eight bytes at a time.

use super::Brackets;
use super::escape::plain_front;
use super::{BLANK, Error, error::Cause};
use std::fmt;

/// Reasons why a text is not JSON.
pub(super) const NO_KEY: &str = "key must be a string";
pub(super) const NO_COLON: &str = "expected `:`";
pub(super) const NO_COMMA: &str = "expected `,` or the end of the array or object";

/// A text and how much of it has been read.
#[derive(Clone)]
pub(crate) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

/// Prints nothing of the text.
impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({} of {} bytes)", self.at, self.text.len())
    }
}

impl<'t> Cursor<'t> {
    #[inline]
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns how many bytes have been read.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Returns all of the text.
    pub(crate) fn whole(&self) -> &'t str {
        self.text
    }

    /// Returns what is still to be read.
    #[inline]
    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Returns what has been read since `start`.
    pub(super) fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    #[inline]
    fn bytes(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Moves forward by so many bytes.
    #[inline]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Skips white space, which is rare, and returns the byte after it; 0 at the end, where JSON never has one.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        match self.text.as_bytes().get(self.at) {
            Some(here @ b'!'..) => *here,
            _ => self.peek_behind_blanks(),
        }
    }

    #[cold]
    fn peek_behind_blanks(&mut self) -> u8 {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(BLANK).len();
        self.bytes().first().copied().unwrap_or_default()
    }

    /// Returns true if nothing but white space follows.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek();
        self.bytes().is_empty()
    }

    /// Steps over an ASCII character and the white space before it, if that is what follows.
    #[inline]
    pub(crate) fn over(&mut self, character: u8) -> bool {
        let found = self.peek() == character;
        self.at += usize::from(found);
        found
    }

    /// Steps over a word, if it stands right here.
    #[inline]
    pub(crate) fn over_word(&mut self, word: &str) -> bool {
        let found = self.bytes().starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    /// Reads a string, if one without escapes stands right here.
    pub(crate) fn string(&mut self) -> Option<&'t str> {
        let start = self.at + 1;
        let [b'"', after @ ..] = self.bytes() else {
            return None;
        };
        let length = plain_front(after);
        if after.get(length) != Some(&b'"') {
            return None;
        }
        let end = start + length;
        self.at = end + 1;
        self.text.get(start..end)
    }

    /// Steps over the string that stands right here. Its escapes may be halves of surrogate pairs.
    pub(super) fn skip_string(&mut self) -> Result<(), Error> {
        self.at += 1;
        loop {
            self.at += plain_front(self.bytes());
            match self.bytes() {
                [b'"', ..] => break,
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    ..,
                ] => self.at += 2,
                [b'\\', b'u', a, b, c, d, ..]
                    if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
                {
                    self.at += 6
                }
                [] => return Err(self.syntax_error("expected the end of the string")),
                [b'\\', ..] => return Err(self.syntax_error("invalid escape")),
                _ => return Err(self.syntax_error("control character in a string")),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads the number that stands right here, as it is written, and whether it is an integer; `None` if it breaks the rules
    /// of JSON.
    pub(super) fn number(&mut self) -> Option<(&'t str, bool)> {
        let start = self.at;
        let text = self.bytes();
        let unsigned = text.strip_prefix(b"-").unwrap_or(text);
        let mut rest = over_digits(unsigned)?;
        if rest.len() + 1 < unsigned.len() && unsigned.starts_with(b"0") {
            return None;
        }
        let is_integer = !matches!(rest, [b'.' | b'e' | b'E', ..]);
        if let [b'.', fraction @ ..] = rest {
            rest = over_digits(fraction)?;
        }
        if let [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] = rest {
            rest = over_digits(exponent)?;
        }
        self.at += text.len() - rest.len();
        Some((self.since(start), is_integer))
    }

    /// Steps over one value and returns its text. It is JSON, of any depth; keys may be repeated in it.
    pub(crate) fn skip(&mut self) -> Result<&'t str, Error> {
        self.skip_with(&mut Brackets::default())
    }

    /// Does what [`skip`](Self::skip) does, for many values in a row: `open` keeps its memory.
    pub(crate) fn skip_with(&mut self, open: &mut Brackets) -> Result<&'t str, Error> {
        self.peek();
        let start = self.at;
        open.clear();
        loop {
            match self.peek() {
                bracket @ (b'[' | b'{') => {
                    self.at += 1;
                    // `]` and `}` are the second characters after `[` and `{`.
                    let end = bracket + 2;
                    if !self.over(end) {
                        open.push(end);
                        self.skip_key_of(end)?;
                        continue;
                    }
                }
                _ => self.skip_token()?,
            }
            while open.last().is_some_and(|end| self.over(end)) {
                open.pop();
            }
            let Some(end) = open.last() else {
                return Ok(self.since(start));
            };
            if !self.over(b',') {
                return Err(self.syntax_error(NO_COMMA));
            }
            self.skip_key_of(end)?;
        }
    }

    /// Moves to the comma or bracket after the value that begins here, which is not checked if there is one: far faster than
    /// [`skip`](Self::skip).
    pub(super) fn pass_over(&mut self) -> Result<(), Error> {
        let (mut open, mut bytes) = (0_usize, self.bytes().iter());
        let all = bytes.len();
        let left = loop {
            let left = bytes.len();
            match bytes.next() {
                None => return self.skip().map(drop),
                Some(b'"') => loop {
                    match bytes.next() {
                        Some(b'\\') => drop(bytes.next()),
                        Some(b'"') | None => break,
                        Some(_) => {}
                    }
                },
                Some(b'[' | b'{') => open += 1,
                Some(b',' | b']' | b'}') if open == 0 => break left,
                Some(b']' | b'}') => open -= 1,
                Some(_) => {}
            }
        };
        self.at += all - left;
        Ok(())
    }

    /// Steps over the key and colon of the next member, if this is an object.
    fn skip_key_of(&mut self, end: u8) -> Result<(), Error> {
        if end != b'}' {
            return Ok(());
        }
        if self.peek() != b'"' {
            return Err(self.syntax_error(NO_KEY));
        }
        self.skip_string()?;
        if !self.over(b':') {
            return Err(self.syntax_error(NO_COLON));
        }
        Ok(())
    }

    fn skip_token(&mut self) -> Result<(), Error> {
        let found = match self.peek() {
            b'"' => return self.skip_string(),
            // Most numbers are unsigned integers, which are read faster.
            b'-' | b'0'..=b'9' => self.unsigned().is_some() || self.number().is_some(),
            _ => ["null", "true", "false"]
                .iter()
                .any(|word| self.over_word(word)),
        };
        if found { Ok(()) } else { Err(self.no_value()) }
    }

    /// Makes the error of a text in which no value begins here.
    #[cold]
    pub(super) fn no_value(&self) -> Error {
        let word = self.rest().trim_start_matches('-').get(..3);
        let is_word = |other| word.is_some_and(|word| word.eq_ignore_ascii_case(other));
        let reason = match self.bytes().first() {
            // Other libraries write them.
            _ if is_word("nan") || is_word("inf") => "NaN and infinity are not JSON",
            Some(b'-' | b'0'..=b'9') => "invalid number",
            _ => "expected value",
        };
        self.syntax_error(reason)
    }

    /// Makes the error of a text that is not JSON from here on.
    #[cold]
    pub(crate) fn syntax_error(&self, reason: &str) -> Error {
        let before = self.text.as_bytes().get(..self.at);
        let before = before.unwrap_or(self.text.as_bytes());
        let is_end = |byte: &u8| *byte == b'\n';
        let line = 1 + before.iter().filter(|byte| is_end(byte)).count();
        let column = 1 + before.iter().rev().take_while(|byte| !is_end(byte)).count();
        let end = if self.bytes().is_empty() { "EOF, " } else { "" };
        let reason = format!("{end}{reason} at line {line} column {column}");
        Error::new(Cause::Syntax(reason))
    }

    /// Reads an unsigned integer of up to 19 digits, if that stands right here.
    pub(crate) fn unsigned(&mut self) -> Option<u64> {
        let Some(word) = self.bytes().first_chunk() else {
            return self.long_unsigned();
        };
        let (number, count) = front_digits(*word);
        if count == WORD {
            return self.long_unsigned();
        }
        let at = |place| word.get(place).copied().unwrap_or_default();
        self.end_number(number, count, [at(0), at(count)])
    }

    /// Reads a number that is long, or near the end of the text.
    #[inline(never)]
    fn long_unsigned(&mut self) -> Option<u64> {
        let text = self.bytes();
        let (mut number, mut left) = (0_u64, text);
        // A number that wraps around has more digits than are taken.
        while let Some((word, after)) = left.split_first_chunk() {
            let (value, WORD) = front_digits(*word) else {
                break;
            };
            number = number.wrapping_mul(100_000_000).wrapping_add(value);
            left = after;
        }
        while let [digit @ b'0'..=b'9', after @ ..] = left {
            let value = u64::from(digit - b'0');
            number = number.wrapping_mul(10).wrapping_add(value);
            left = after;
        }
        let [first, next] = [text, left].map(|text| text.first().copied().unwrap_or_default());
        self.end_number(number, text.len() - left.len(), [first, next])
    }

    /// Steps over a number of `count` digits, unless a leading zero, the length or the next byte forbids it.
    #[inline]
    fn end_number(&mut self, number: u64, count: usize, [first, next]: [u8; 2]) -> Option<u64> {
        /// Most digits that always fit.
        const DIGITS: usize = 19;
        let leads = count > 1 && first == b'0';
        let goes_on = matches!(next, b'.' | b'e' | b'E');
        if count == 0 || count > DIGITS || leads || goes_on {
            return None;
        }
        self.at += count;
        Some(number)
    }
}

/// Returns what is behind the digits at the front of `text`; `None` if there are none.
#[inline]
fn over_digits(text: &[u8]) -> Option<&[u8]> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.get(count..).filter(|_| count > 0)
}

/// Digits that are read at once.
const WORD: usize = 8;

/// Returns the number that the digits at the front of `text` write, and how many they are.
///
/// All pairs of neighbouring digits are joined at once, then all pairs of pairs, then the two halves.
#[inline]
fn front_digits(text: [u8; WORD]) -> (u64, usize) {
    const ONES: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(text) ^ (ONES * b'0' as u64);
    // The highest bit of the first byte above nine is set; those of later bytes may be.
    let others = (word | word.wrapping_add(ONES * (0x7f - 9))) & (ONES << 7);
    let bits = others.trailing_zeros() & !7;
    // Moves the digits to the end, after zeros.
    let digits = word.checked_shl(64 - bits).unwrap_or(0);
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let value = (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff;
    (value, bits as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_up_to_the_first_other_byte() {
        for number in [0_u64, 7, 12_345_678, 90_000_000, 99_999_999, 10_203_040] {
            let text = format!("{number:08}");
            let word = *text.as_bytes().first_chunk().unwrap();
            assert_eq!(front_digits(word), (number, 8));
            for place in 0..8 {
                let expected = text.get(..place).unwrap().parse().unwrap_or(0);
                for other in (0..=0xff_u8).filter(|byte| !byte.is_ascii_digit()) {
                    let mut word = word;
                    word[place] = other;
                    assert_eq!(front_digits(word), (expected, place), "{other}");
                }
            }
        }
    }

    #[test]
    fn a_number_of_any_length_is_read_if_it_fits() {
        let read = |text: &'static str| {
            let mut cursor = Cursor::new(text);
            (cursor.unsigned(), cursor.rest())
        };
        for digits in 1..=19 {
            let number = "1234567890123456789".get(..digits).unwrap();
            for end in ["", ",", "}", " ", "x", "-", "}}}}}}}}}"] {
                let text = format!("{number}{end}");
                let mut cursor = Cursor::new(&text);
                assert_eq!(cursor.unsigned(), number.parse().ok(), "{text}");
                assert_eq!(cursor.rest(), end, "{text}");
            }
        }
        for text in [
            "",
            "-1,",
            "1.5,",
            "1e3,",
            "1E3,",
            "12345678.5",
            "01,",
            "00000000,",
            "12345678901234567890,",
            "18446744073709551616}",
            "123456781234567812345678,",
        ] {
            assert_eq!(read(text), (None, text));
        }
        assert_eq!(read("0}"), (Some(0), "}"));
        assert_eq!(read("123456789012x,"), (Some(123_456_789_012), "x,"));
    }

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for (number, is_integer) in [
            ("0", true),
            ("-0", true),
            ("-120", true),
            ("18446744073709551616", true),
            ("0.50", false),
            ("-1.5e+10", false),
            ("10E-3", false),
            ("0e0", false),
        ] {
            for end in ["", ",", "}", " ", "]"] {
                let text = format!("{number}{end}");
                let mut cursor = Cursor::new(&text);
                assert_eq!(cursor.number(), Some((number, is_integer)), "{text}");
                assert_eq!(cursor.rest(), end, "{text}");
            }
        }
        for text in [
            "", "-", "+1", ".5", "1.", "1.e1", "1e", "1e+", "01", "-01", "00.5", "-x",
        ] {
            assert_eq!(Cursor::new(text).number(), None, "{text}");
        }
    }

    #[test]
    fn a_string_without_escapes_is_read_in_place() {
        for length in 0..100 {
            let string = "ä".repeat(length);
            let text = format!("\"{string}\"]");
            let mut cursor = Cursor::new(&text);
            assert_eq!(cursor.string(), Some(&*string));
            assert_eq!(cursor.rest(), "]");
            for broken in ["\\n\"", "", "\n\"", "\0\""] {
                let text = format!("\"{string}{broken}");
                let mut cursor = Cursor::new(&text);
                assert_eq!((cursor.string(), cursor.rest()), (None, &*text));
            }
        }
    }

    #[test]
    fn a_value_with_any_keys_and_depth_is_skipped() {
        let deep = "[".repeat(9_999) + "{\"a\" : 1e-3 , \"a\": [ ] }" + &"]".repeat(9_999);
        for value in [&deep, "{}", " [ {}, [-0.5] ]", r#""\ud800\"""#, "null", "0"] {
            let text = format!("{value} ,");
            let mut cursor = Cursor::new(&text);
            assert_eq!(cursor.skip().unwrap(), value.trim_start());
            assert_eq!(cursor.rest(), " ,");
        }
    }

    #[test]
    fn a_value_is_passed_over_up_to_what_follows_it() {
        for value in [
            "1",
            " null ",
            "",
            r#""a,}]\"[""#,
            r#""\\""#,
            r#"{"a":[1,{}],"]":"}"}"#,
            "[[],{}] ",
            "[1}",
        ] {
            for after in [",", "}", "]"] {
                let text = format!("{value}{after}");
                let mut cursor = Cursor::new(&text);
                cursor.pass_over().unwrap();
                assert_eq!(cursor.rest(), after, "{text}");
            }
        }
        let error = Cursor::new("[1}").pass_over().unwrap_err();
        assert!(error.to_string().ends_with("column 3"), "{error}");
    }

    #[test]
    fn a_syntax_error_has_its_reason_line_and_column() {
        for (text, reason) in [
            ("", "EOF, expected value at line 1 column 1"),
            ("[1,\n x]", "expected value at line 2 column 2"),
            (
                "[-Infinity]",
                "NaN and infinity are not JSON at line 1 column 2",
            ),
            ("[1,]", "expected value at line 1 column 4"),
            ("[01]", "invalid number at line 1 column 2"),
            ("1.", "invalid number at line 1 column 1"),
            ("1e+", "invalid number at line 1 column 1"),
            (
                "[1 2]",
                "expected `,` or the end of the array or object at line 1 column 4",
            ),
            ("{1:2}", "key must be a string at line 1 column 2"),
            (r#"{"a" 1}"#, "expected `:` at line 1 column 6"),
            (r#"{"a":1,}"#, "key must be a string at line 1 column 8"),
            (
                "\"a",
                "EOF, expected the end of the string at line 1 column 3",
            ),
            (r#""\x""#, "invalid escape at line 1 column 2"),
            (r#""\u12x4""#, "invalid escape at line 1 column 2"),
            ("\"\n\"", "control character in a string at line 1 column 2"),
        ] {
            let error = Cursor::new(text).skip().unwrap_err();
            assert_eq!(error.to_string(), reason, "{text}");
        }
    }

    #[test]
    fn white_space_is_that_of_json() {
        let mut cursor = Cursor::new(" \t\r\n\u{b}[");
        assert_eq!(cursor.peek(), 0xb);
        let mut cursor = Cursor::new("  [ ]");
        assert!(!cursor.over(b']') && cursor.over(b'[') && cursor.over(b']') && !cursor.over(b']'));
        assert!(cursor.is_at_end());
        assert_eq!(cursor.peek(), 0);
        assert!(!Cursor::new(" \0").is_at_end());
    }
}
