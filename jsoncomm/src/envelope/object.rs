//! One JSON object, walked member by member without decoding what nobody asks for.

use std::borrow::Cow;

use serde::de::{Deserialize, IgnoredAny};

use crate::error::{DecodeError, Fault};
use crate::message::{self, Unpacker};

/// White space of JSON (RFC 8259, section 2).
pub(super) const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

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
        let rest = text.trim_start_matches(BLANK);
        let Some(rest) = rest.strip_prefix('{') else {
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

    /// Steps to the next member and reads its name; `None` after the last, when nothing may follow.
    pub(super) fn next_name(&mut self) -> Result<Option<Cow<'t, str>>, Fault> {
        let rest = self.rest.trim_start_matches(BLANK);
        if let Some(rest) = rest.strip_prefix('}') {
            self.rest = "";
            ended(rest)?;
            return Ok(None);
        }
        let rest = match self.started {
            false => rest,
            true => rest
                .strip_prefix(',')
                .ok_or_else(|| not_json("expected `,` or `}` in the envelope"))?,
        };
        self.started = true;
        self.rest = rest.trim_start_matches(BLANK);
        if !self.rest.starts_with('"') {
            return Err(not_json("expected a member's name in the envelope"));
        }
        let name = self.string("name")?;
        let rest = self.rest.trim_start_matches(BLANK);
        let rest = rest
            .strip_prefix(':')
            .ok_or_else(|| not_json("expected `:` in the envelope"))?;
        self.rest = rest.trim_start_matches(BLANK);
        Ok(Some(name))
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
        if let Some(after) = self.rest.strip_prefix('"') {
            let plain = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < 0x20;
            let end = after.as_bytes().iter().position(plain);
            if let Some((value, rest)) = end.and_then(|end| after.split_at_checked(end)) {
                if let Some(rest) = rest.strip_prefix('"') {
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
    match rest.trim_start_matches(BLANK) {
        "" => Ok(()),
        _ => Err(not_json("something follows the message")),
    }
}
