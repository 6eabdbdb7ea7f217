//! JSON text to serde and back, strict: cursor, reader, writer, escapes, depth.

mod cursor;
mod depth;
mod escape;
mod reader;
mod writer;

pub(crate) use cursor::Cursor;
pub(crate) use depth::check_size;
pub(crate) use escape::put_string;
pub(crate) use reader::{Broken, Lost, MADE_UP, NUMBER, Reader, UNREAD, repeated};
pub(crate) use writer::{Writer, put_unsigned};

/// Most bytes of a peer's text that a complaint repeats.
const QUOTE_MAX: usize = 256;

/// White space, as JSON has it.
pub(crate) const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// Puts a member before the path of what is inside it.
pub(crate) fn put_before(path: &mut String, member: &str) {
    if !path.is_empty() && !path.starts_with('[') {
        path.insert(0, '.');
    }
    path.insert_str(0, clip(member));
}

/// Cuts `text` so that a complaint about a peer's message is not as long as the message.
pub(crate) fn clip(text: &str) -> &str {
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
