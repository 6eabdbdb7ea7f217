//! JSON text to serde and back: strict, fast, with errors that name the value.
//!
//! Text, numbers, arrays and objects are read and written here. `serde_json` does what it is better at: it reads and writes
//! strings with escapes, finds the end of floats, writes floats, wide integers and the keys of maps, and decides whether
//! numbers keep every digit (its feature `arbitrary_precision`).
//! The values that the types of `serde_json` (`RawValue`, `Number`) pass through serde under [reserved names](RESERVED)
//! are read and written too.
//!
//! | part | subject |
//! |---|---|
//! | `cursor` | a position in a text, and what is read without a type: strings, numbers, whole values |
//! | `brackets` | which brackets of a text are open |
//! | `reader` | a [`Deserializer`](serde::Deserializer) that refuses repeated keys, inexact integers and deep nesting |
//! | `writer` | a [`Serializer`](serde::Serializer) that refuses NaN, infinity and deep nesting |
//! | `escape` | which bytes of a string need an escape |
//! | `depth` | the depth and size of texts that are not read or written by type |
//! | `error` | a cause and the path to the value that is to blame |

mod brackets;
mod cursor;
mod depth;
mod error;
mod escape;
mod reader;
mod writer;

pub(crate) use brackets::Brackets;
pub(crate) use cursor::Cursor;
pub(crate) use depth::check_size;
pub(crate) use error::Error;
pub(crate) use escape::put_string;
pub(crate) use reader::{
    ADJACENT, NUMBER, RESERVED, Reader, UNREAD, Unseen, repeated, without_secrets,
};
pub(crate) use writer::{Writer, put_unsigned};

/// Most bytes of a peer's text that an error repeats.
const QUOTE_MAX: usize = 256;

/// White space between tokens (RFC 8259, section 2).
pub(crate) const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// Cuts a peer's text to what an error repeats.
fn clip(text: &str) -> &str {
    let mut end = text.len().min(QUOTE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_cut_between_characters() {
        let long = "ä".repeat(QUOTE_MAX);
        assert_eq!(clip(&long).len(), QUOTE_MAX);
        assert_eq!(clip(&format!("a{long}")).len(), QUOTE_MAX - 1);
        assert_eq!(clip("short"), "short");
    }
}
