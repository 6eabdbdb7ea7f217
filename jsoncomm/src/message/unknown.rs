//! Variants that a newer peer sends and that this program's enum does not have.

use crate::json::{BLANK, NUMBER, UNREAD, Writer};
use crate::limits::Depth;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt::{self, Write};

/// Most characters of an unknown variant's name that are displayed.
const NAME_SHOWN: usize = 128;

/// A variant that the reader's enum does not have: its name, and what it holds.
///
/// A newtype variant with `#[message(other)]` that holds one takes every variant that is not known, so that a
/// client outlives variants that its server adds to a reply or an error. Descriptors that it names are not
/// kept: a client closes them, a server refuses the message. For the same reason it can be read and not
/// written: its indices would name other descriptors.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{UnusedFds, UnknownVariant, decode};
/// use jsoncomm::fds::Fds;
/// use jsoncomm::Message;
///
/// #[derive(Debug, Message, PartialEq)]
/// enum State {
///     Running { pid: u32 },
///     #[message(other)]
///     Other(UnknownVariant),
/// }
///
/// let state: State = decode(br#"{"Paused":{"since": 7}}"#, Fds::new(), UnusedFds::Close)?;
/// let unknown = UnknownVariant { name: "Paused".into(), content: Some(r#"{"since":7}"#.into()) };
/// assert_eq!(state, State::Other(unknown));
/// # Ok::<(), jsoncomm::message::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnknownVariant {
    /// The variant's name on the wire.
    pub name: String,
    /// What it holds, as JSON to the letter but without white space; `None` for a name alone.
    pub content: Option<String>,
}

impl fmt::Display for UnknownVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown variant ")?;
        let name = self.name.escape_debug().take(NAME_SHOWN);
        name.into_iter().try_for_each(|letter| f.write_char(letter))
    }
}

/// Copies values that are one token.
macro_rules! tokens {
    ($($method:ident($of:ty))*) => {$(
        fn $method<E: Error>(self, value: $of) -> Result<String, E> {
            token(value)
        }
    )*};
}

/// The seed of a value as JSON text.
#[derive(Debug)]
pub(crate) struct Copied;

impl<'de> DeserializeSeed<'de> for Copied {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_newtype_struct(UNREAD, self)
    }
}

impl<'de> Visitor<'de> for Copied {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_bytes<E: Error>(self, text: &'de [u8]) -> Result<String, E> {
        std::str::from_utf8(text).map(compact).map_err(E::custom)
    }

    // For deserializers that are not ours, which cannot return the text.

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        token(())
    }

    tokens! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Copied)? {
            items.push(item);
        }
        Ok(format!("[{}]", items.join(",")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            // A number's digits, as `serde_json` passes them on.
            if key == NUMBER {
                return map.next_value();
            }
            let (key, value) = (token(key)?, map.next_value_seed(Copied)?);
            members.push(format!("{key}:{value}"));
        }
        Ok(format!("{{{}}}", members.join(",")))
    }
}

/// Writes a value that is one token.
fn token<E: Error>(value: impl serde::Serialize) -> Result<String, E> {
    let mut text = Vec::new();
    let written = value.serialize(&mut Writer::new(&mut text, Depth::MAX));
    written.map_err(E::custom)?;
    String::from_utf8(text).map_err(E::custom)
}

/// Removes white space from a JSON text, but not in its strings.
fn compact(text: &str) -> String {
    let (mut within, mut escaped) = (false, false);
    let is_kept = |letter: &char| {
        let ends = *letter == '"' && !escaped;
        escaped = within && *letter == '\\' && !escaped;
        within ^= ends;
        within || !BLANK.contains(letter)
    };
    text.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_copied_unchanged() {
        let json =
            r#"{"a":[1,-2,2.5,true,null,"\"ä\n\\"],"":{},"x":[[],{"y":18446744073709551615}]}"#;
        let mut reader = serde_json::Deserializer::from_str(json);
        assert_eq!(Copied.deserialize(&mut reader).unwrap(), json);
    }

    #[test]
    fn white_space_is_removed_outside_strings() {
        let spaced = " { \"a b\" : [ 1.50 ,\n\"\\\" \\\\\" , \" \" ] }\t";
        assert_eq!(compact(spaced), r#"{"a b":[1.50,"\" \\"," "]}"#);
    }

    #[test]
    fn a_name_is_shown_in_one_line() {
        let name = format!("a\n{}", "b".repeat(500));
        let unknown = UnknownVariant {
            name,
            content: None,
        };
        let shown = unknown.to_string();
        assert!(shown.starts_with(r"unknown variant a\nbbb"));
        assert_eq!(shown.len(), "unknown variant ".len() + NAME_SHOWN);
    }
}
