//! A place in a JSON text, and what is usual there: text without escapes, whole numbers, no white space.
//!
//! Envelopes and what is in them are read with the same few functions. Whatever they do not find, somebody else looks
//! for.

use super::BLANK;
use super::escape::plain_front;
use std::fmt;

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

    /// How many bytes have been read.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// All of the text.
    pub(crate) fn whole(&self) -> &'t str {
        self.text
    }

    /// What is still to be read.
    #[inline]
    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn bytes(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Goes on so many bytes from here.
    #[inline]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Tells what stands here, behind white space (RFC 8259, section 2), of which there hardly ever is any: a byte,
    /// or 0, which no JSON has there, at the end.
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

    /// Says whether nothing but white space follows.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek();
        self.bytes().is_empty()
    }

    /// Steps over an ASCII character, and white space before it, if that is what stands here.
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

    /// Reads a number, if one of usual size, without sign, fraction or exponent, stands right here.
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
        // What does not fit has too many digits.
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

    /// Takes a number of so many digits, unless the first of them or what comes next forbids it.
    #[inline]
    fn end_number(&mut self, number: u64, count: usize, [first, next]: [u8; 2]) -> Option<u64> {
        /// So many always fit.
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

/// So many digits are read at once.
const WORD: usize = 8;

/// The number that the digits at the front of `text` write, and how many they are.
///
/// The digits that stand beside one another are put together at once, and so are the pairs and the fours that become
/// of them.
#[inline]
fn front_digits(text: [u8; WORD]) -> (u64, usize) {
    const ONES: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(text) ^ (ONES * b'0' as u64);
    // A byte above nine has its highest bit set, or gets it; so may those behind it.
    let others = (word | word.wrapping_add(ONES * (0x7f - 9))) & (ONES << 7);
    let bits = others.trailing_zeros() & !7;
    // The digits are moved to the end, and zeros stand before them.
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
    fn digits_are_read_at_once_up_to_what_is_none() {
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
