//! Ids, by which a caller tells its calls apart.

use std::borrow::Cow;

use super::object::read_string;

/// The longest id that is accepted, in bytes of JSON. Ours have at most 16.
const ID_MAX: usize = 256;

/// The id of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Id<'t> {
    /// The kind that our clients choose.
    Number(u64),
    /// A string or another integer, as JSON text.
    Text(Cow<'t, str>),
}

impl<'t> Id<'t> {
    /// Reads an id from its JSON text; `None` when it is neither an integer nor a string, or too long.
    pub(super) fn from_json(text: &'t str) -> Option<Self> {
        let first = text.bytes().next()?;
        if first.is_ascii_digit() {
            if let Ok(number) = text.parse() {
                return Some(Self::Number(number));
            }
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // It is sent back as it is, so its escapes have to be valid.
        let string = || first == b'"' && (!text.contains('\\') || read_string(text).is_some());
        (text.len() <= ID_MAX && (integer || string())).then_some(Self::Text(text.into()))
    }

    /// Copies the text, so that the id outlives its datagram.
    pub(crate) fn into_owned(self) -> Id<'static> {
        match self {
            Self::Number(number) => Id::Number(number),
            Self::Text(text) => Id::Text(Cow::Owned(text.into_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_an_integer_or_a_string_of_limited_length() {
        let string = |length| format!("\"{}\"", "x".repeat(length));
        assert!(Id::from_json(&string(ID_MAX - 2)).is_some());
        assert!(Id::from_json(&string(ID_MAX - 1)).is_none());
        for other in ["true", "null", "1.0", "1e3", "[1]", "{}", r#""\ud800""#] {
            assert_eq!(Id::from_json(other), None, "{other}");
        }
    }
}
