//! The limits of length and nesting, for a text that is not read or written by type.

use crate::error::{DecodeError, EncodeError};
use crate::limits::Depth;

impl Depth {
    /// Refuses to read a text that is deeper.
    pub(crate) fn check(self, text: &[u8]) -> Result<(), DecodeError> {
        let limit = self.limit();
        if is_deeper(text, self.left.into()) {
            return Err(DecodeError::TooDeep { limit });
        }
        Ok(())
    }

    /// Refuses to write a text that is deeper.
    pub(crate) fn check_written(self, text: &[u8]) -> Result<(), EncodeError> {
        let limit = self.limit();
        self.check(text).map_err(|_| EncodeError::TooDeep { limit })
    }
}

/// Refuses a text that is too long to be sent.
pub(crate) fn check_size(text: &[u8], limit: usize) -> Result<(), EncodeError> {
    let size = text.len();
    if size > limit {
        return Err(EncodeError::TooLarge { size, limit });
    }
    Ok(())
}

/// Returns true if more than `limit` arrays and objects are open at once anywhere in `text`, which need not be JSON.
///
/// A reader that stops at the first mistake finds the text no deeper up to there.
fn is_deeper(text: &[u8], limit: usize) -> bool {
    // Most texts have no more brackets than that in all, and those are counted faster.
    text.len() > limit && brackets(text) > limit && scan(text, limit)
}

/// Counts `[` and `{`, which differ in one bit.
fn brackets(text: &[u8]) -> usize {
    // In bytes, of which a register holds many.
    let count =
        |chunk: &[u8]| -> u8 { chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum() };
    text.chunks(255)
        .map(|chunk| usize::from(count(chunk)))
        .sum()
}

fn scan(text: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string) = (0_usize, false);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match (byte, in_string) {
            (b'"', _) => in_string = !in_string,
            // What follows does not end the string, whatever it is.
            (b'\\', true) => drop(bytes.next()),
            (b'[' | b'{', false) if depth == limit => return true,
            (b'[' | b'{', false) => depth += 1,
            (b']' | b'}', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_objects_count_while_they_are_open() {
        for (text, depth) in [
            ("", 0),
            ("7", 0),
            ("[]", 1),
            ("[[],[],{}]", 2),
            (r#"{"a":[{"b":[]}]}"#, 4),
            ("]]]][[", 2),
            ("[[[[[[[[", 8),
            (r#"[[["]]]",[]]]]"#, 4),
            (r#"["[[[[[["]"#, 1),
            (r#"["\"[[[[[["]"#, 1),
            (r#"["\\",[["\\\\"]]]"#, 3),
            (r#"["[[[[\"#, 1),
        ] {
            assert!(!is_deeper(text.as_bytes(), depth), "{text}");
            let below = depth.checked_sub(1);
            assert!(
                below.is_none_or(|below| is_deeper(text.as_bytes(), below)),
                "{text}"
            );
        }
    }

    #[test]
    fn many_sibling_arrays_are_not_deep() {
        let flat = format!("[{}[]]", "[],{},".repeat(30_000));
        assert!(!is_deeper(flat.as_bytes(), 2));
        assert!(is_deeper(flat.as_bytes(), 1));
    }
}
