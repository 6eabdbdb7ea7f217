//! Batches: arrays of calls or of responses.

use std::ops::Range;

use super::object::{ended, not_json};
use super::{invalid, utf8};
use crate::error::Fault;
use crate::json::{Brackets, Cursor};

/// Returns true if a text can only be an array, if it is JSON.
pub(crate) fn is_batch(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'[')
}

/// Returns where the elements of a batch are. All of the text is JSON then, of any depth.
///
/// Each element is a text of its own, with the limit of depth for itself. A text that is not JSON is refused, and so is an
/// array that is empty or has more than `limit` elements; reading ends at the first above it.
pub(crate) fn split(text: &[u8], limit: usize) -> Result<Vec<Range<usize>>, Fault> {
    let mut at = Cursor::new(utf8(text)?);
    let (mut elements, mut open) = (Vec::new(), Brackets::default());
    at.over(b'[');
    while !at.over(b']') {
        if !elements.is_empty() && !at.over(b',') {
            return Err(not_json(at.syntax_error("expected `,` or `]`")));
        }
        let element = at.skip_with(&mut open).map_err(not_json)?;
        if elements.len() == limit {
            return Err(invalid(format!("a batch of more than {limit} calls")));
        }
        elements.push(at.position() - element.len()..at.position());
    }
    ended(&mut at)?;
    if elements.is_empty() {
        return Err(invalid("a batch of no calls"));
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the elements, or the code of the fault.
    fn elements(text: &str, limit: usize) -> Result<Vec<&str>, i64> {
        assert!(is_batch(text.as_bytes()), "{text}");
        let elements = split(text.as_bytes(), limit).map_err(|fault| fault.code)?;
        Ok(elements.into_iter().map(|at| &text[at]).collect())
    }

    #[test]
    fn a_batch_is_split_into_the_texts_of_its_elements() {
        assert_eq!(elements("[1]", 9), Ok(vec!["1"]));
        let spaced = " [ {\"a\" : [1, 2]} ,\t[[]]\n,\"]\" ] \r";
        let parts = vec!["{\"a\" : [1, 2]}", "[[]]", "\"]\""];
        assert_eq!(elements(spaced, 3), Ok(parts));
        let deep = format!("[{}1{}]", "[".repeat(9_999), "]".repeat(9_999));
        assert_eq!(elements(&deep, 1).map(|all| all.len()), Ok(1));
        for text in ["{}", "", " ", "1", "\u{b}[]", "{\"a\":[]}"] {
            assert!(!is_batch(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_batch_is_refused_unless_all_of_it_is_json() {
        for text in [
            "[",
            "[,",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "[1]]",
            "[1],",
            "[{]}",
            "[\"a]",
            "[1,2,01]",
            "[1] x",
            "[nan]",
            "[\"\\x\"]",
        ] {
            assert_eq!(elements(text, 9), Err(Fault::PARSE_ERROR), "{text}");
        }
        let broken = split(b"[1,\"\xff\"]", 9).unwrap_err();
        assert_eq!(broken.code, Fault::PARSE_ERROR);
    }

    #[test]
    fn a_batch_has_from_one_element_to_the_limit() {
        for (text, limit, fits) in [
            ("[]", 9, false),
            (" [ ] ", 9, false),
            ("[1,2]", 3, true),
            ("[1,2,3]", 3, true),
            ("[1,2,3,4]", 3, false),
            ("[1]", 0, false),
        ] {
            let expected = if fits {
                Ok(())
            } else {
                Err(Fault::INVALID_REQUEST)
            };
            assert_eq!(elements(text, limit).map(drop), expected, "{text}");
        }
        let many = format!("[{}[]]", "[],".repeat(350_000));
        assert_eq!(elements(&many, 64), Err(Fault::INVALID_REQUEST));
    }
}
