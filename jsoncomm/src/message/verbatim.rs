//! Messages whose JSON is kept as it was written, for programs that do not know its types.

use super::{Pack, Packer, Unpack, Unpacker, skip_front};
use crate::error::{DecodeError, EncodeError};
use crate::fds::Fds;
use crate::json::BLANK;
use serde::{Deserializer, Serializer};
use std::fmt;

/// The message of whatever type: its JSON text, to the letter, and the descriptors that came or go with it.
///
/// For gateways and tools, which pass on what they do not know. Numbers keep all their digits, members their order,
/// and strings their escapes; only white space around the value is dropped. The text is held to the same rules as
/// any other ([JSON](crate::message#json)), in both directions; a number may be too large for an `f64`, such as `1e999`.
/// Which number in it is the index of a descriptor is the user's to know.
///
/// It is a message as a whole: params, a result, an item of a stream, or what a [`Socket`](crate::socket::Socket) sends. As a
/// part of another message it can be neither written nor read.
///
/// # Examples
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
/// use jsoncomm::Connection;
/// use jsoncomm::message::{RawError, RawMessage};
///
/// let connection = Connection::open(&path)?;
/// let params = RawMessage::new(r#"{"number": 2}"#);
/// let sum: RawMessage = connection.call::<_, RawError>("example.counter.add", &params)?;
/// assert_eq!((&*sum.json, sum.fds.len()), ("2", 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct RawMessage {
    /// The JSON text; checked when it is sent.
    pub json: String,
    /// The descriptors, by the indices that the text names them by.
    pub fds: Fds,
}

/// Prints how long the text is and no part of it: which part is `#[sensitive]`, only its type would know.
impl fmt::Debug for RawMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMessage")
            .field("json", &format_args!("{} bytes", self.json.len()))
            .field("fds", &self.fds)
            .finish()
    }
}

impl RawMessage {
    /// Makes a message without descriptors.
    pub fn new(json: impl Into<String>) -> Self {
        let (json, fds) = (json.into(), Fds::new());
        Self { json, fds }
    }
}

/// Why one inside another message is refused.
const PART: &str = "a verbatim message is no part of another";

impl Pack for RawMessage {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(PART))
    }

    fn write<'a>(&'a self, text: &mut Vec<u8>, fds: &Packer<'a>) -> Result<(), EncodeError> {
        let json = self.json.trim_matches(BLANK);
        let refuse = |reason: &str| EncodeError::Json {
            field: None,
            reason: reason.to_owned(),
        };
        let length = skip_front(json, fds.depth()).map_err(|error| match error {
            DecodeError::TooDeep { limit } => EncodeError::TooDeep { limit },
            error => refuse(&error.to_string()),
        })?;
        if length != json.len() {
            return Err(refuse("more than one value"));
        }
        if !fds.push_all(&self.fds) {
            return Err(refuse("descriptors would change their indices"));
        }
        text.extend_from_slice(json.as_bytes());
        Ok(())
    }
}

impl<'de> Unpack<'de> for RawMessage {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, _: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(PART))
    }

    fn front(text: &'de str, fds: &Unpacker) -> Result<(Self, usize), DecodeError> {
        let length = skip_front(text, fds.depth())?;
        let json = text.get(..length).unwrap_or_default();
        let message = Self {
            json: json.trim_start_matches(BLANK).to_owned(),
            fds: fds.take_all::<crate::json::Error>()?,
        };
        Ok((message, length))
    }
}

/// The service error of whatever type: what its JSON-RPC error object says.
///
/// It is the error type of calls whose own is not known, and of handlers that pass one on. A code from -32768 to
/// -32000 is a [`Fault`](crate::Fault)'s: the receiver takes it for one.
///
/// # Examples
///
/// ```
/// use jsoncomm::message::{RawError, RawMessage};
/// use jsoncomm::{CallError, Connection};
///
/// fn explain(connection: &Connection) {
///     let params = RawMessage::new(r#"{"path":"not-there"}"#);
///     match connection.call::<RawMessage, RawError>("example.files.open", &params) {
///         Err(CallError::Service(failure)) => println!("{} ({})", failure.message, failure.code),
///         other => println!("{other:?}"),
///     }
/// }
/// ```
#[derive(Debug, Default, thiserror::Error)]
#[error("{message}")]
pub struct RawError {
    /// Which error: for a derived enum, its variant counted from 1.
    pub code: i64,
    /// What it says to people.
    pub message: String,
    /// What it says to programs, with its descriptors; `None` when there is no such member.
    pub data: Option<RawMessage>,
}

impl Pack for RawError {
    fn pack<'a, S: Serializer>(&'a self, _: &Packer<'a>, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(PART))
    }

    fn write<'a>(&'a self, text: &mut Vec<u8>, fds: &Packer<'a>) -> Result<(), EncodeError> {
        match &self.data {
            Some(data) => data.write(text, fds),
            None => ().write(text, fds),
        }
    }

    fn code(&self) -> i64 {
        self.code
    }
}

impl<'de> Unpack<'de> for RawError {
    fn unpack<D: Deserializer<'de>>(_: &Unpacker, _: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a failure is an error object"))
    }

    fn of_error(
        (code, message): (i64, &str),
        data: Option<&'de str>,
        fds: &Unpacker,
    ) -> Option<Result<Self, DecodeError>> {
        let data = data.map(|data| RawMessage::front(data, fds)).transpose();
        Some(data.map(|data| Self {
            code,
            message: message.to_owned(),
            data: data.map(|(data, _)| data),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{UnusedFds, decode, encode};

    fn written(json: &str) -> Result<String, EncodeError> {
        let (mut text, message) = (Vec::new(), RawMessage::new(json));
        encode(&message, &mut text, &Packer::new())?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_raw_message_is_sent_and_received_byte_for_byte() {
        let odd = r#"{"b":123456789012345678901234567890, "a":[1.50e+2,"\u00e4\/"],"":{}}"#;
        assert_eq!(written(&format!(" \n{odd}\t")).unwrap(), odd);
        let spaced = format!(" {odd}\r\n");
        let read: RawMessage = decode(spaced.as_bytes(), Fds::new(), UnusedFds::Refuse).unwrap();
        assert_eq!(read.json, odd);
    }

    #[test]
    fn an_invalid_raw_message_is_refused_in_both_directions() {
        let bad = [
            "",
            "{",
            "1 2",
            r#"{"a":1,"a":2}"#,
            r#""\ud800""#,
            "nul",
            "{}x",
        ];
        for json in bad {
            let error = written(json).unwrap_err();
            assert!(matches!(error, EncodeError::Json { .. }), "{json}");
            let read = decode::<RawMessage>(json.as_bytes(), Fds::new(), UnusedFds::Refuse);
            assert!(read.is_err(), "{json}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        let error = written(&deep).unwrap_err();
        assert!(matches!(error, EncodeError::TooDeep { .. }), "{error}");
    }

    #[test]
    fn a_raw_message_cannot_be_nested_in_another_message() {
        let both = (RawMessage::new("1"), 2);
        let error = encode(&both, &mut Vec::new(), &Packer::new()).unwrap_err();
        assert!(error.to_string().ends_with(PART), "{error}");
        let read = decode::<Vec<RawMessage>>(b"[1]", Fds::new(), UnusedFds::Refuse);
        assert!(read.unwrap_err().to_string().contains(PART));
    }

    #[test]
    fn a_reference_or_a_box_is_written_like_its_content() {
        fn json(message: &impl Pack) -> Vec<u8> {
            let mut text = Vec::new();
            encode(message, &mut text, &Packer::new()).unwrap();
            text
        }
        let odd = r#"{"a":1.50}"#;
        assert_eq!(json(&&RawMessage::new(odd)), odd.as_bytes());
        assert_eq!(json(&Box::new(RawMessage::new(odd))), odd.as_bytes());
        let read: Box<RawMessage> = decode(odd.as_bytes(), Fds::new(), UnusedFds::Refuse).unwrap();
        assert_eq!(read.json, odd);
        let failure = Box::<RawError>::of_error((7, "no"), Some(odd), &Unpacker::default());
        let failure = failure.unwrap().unwrap();
        assert_eq!((failure.code(), &*failure.message), (7, "no"));
        assert_eq!(json(&failure), odd.as_bytes());
        let failure = Box::<RawError>::of_error((7, "no"), None, &Unpacker::default());
        assert!(failure.unwrap().unwrap().data.is_none());
    }

    #[test]
    fn a_raw_error_without_data_is_written_as_null() {
        let (mut text, failure) = (Vec::new(), RawError::default());
        encode(&failure, &mut text, &Packer::new()).unwrap();
        assert_eq!(text, b"null");
    }
}
