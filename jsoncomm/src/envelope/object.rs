//! One JSON object, read member by member.

use std::borrow::Cow;

use super::invalid;
use crate::error::{DecodeError, Fault};
use crate::json::{self, Cursor};
use crate::limits::Depth;
use crate::message::{self, Unpack, Unpacker};

/// Reads the members of one JSON object, in their order.
#[derive(Debug, Clone)]
pub(super) struct ObjectReader<'t> {
    /// Before or after a member, or before a value.
    pub(super) at: Cursor<'t>,
    started: bool,
}

impl<'t> ObjectReader<'t> {
    /// Starts at an object; any other text is refused.
    pub(super) fn open(text: &'t str) -> Result<Self, Fault> {
        let mut at = Cursor::new(text);
        if !at.over(b'{') {
            // The fault tells a text that is not JSON from another JSON value.
            at.skip().map_err(not_json)?;
            ended(&mut at)?;
            return Err(invalid("not a JSON object"));
        }
        let started = false;
        Ok(Self { at, started })
    }

    /// Starts after a member of an object, so many bytes from its beginning.
    #[inline]
    pub(super) fn behind(text: &'t str, bytes: usize) -> Self {
        let (mut at, started) = (Cursor::new(text), true);
        at.advance(bytes);
        Self { at, started }
    }

    /// Reads the next member's name; `None` at the end, where nothing may follow.
    pub(super) fn next_name(&mut self) -> Result<Option<Cow<'t, str>>, Fault> {
        if self.at.over(b'}') {
            ended(&mut self.at)?;
            return Ok(None);
        }
        if self.started && !self.at.over(b',') {
            return Err(not_json(self.at.syntax_error("expected `,` or `}`")));
        }
        self.started = true;
        if self.at.peek() != b'"' {
            return Err(not_json(self.at.syntax_error("key must be a string")));
        }
        let name = self.string("name")?;
        if !self.at.over(b':') {
            return Err(not_json(self.at.syntax_error("expected `:`")));
        }
        self.at.peek();
        Ok(Some(name))
    }

    /// Reads the next member, if `name` stands right here, with its comma and colon, and a value that `read` reads.
    #[inline]
    pub(super) fn usual<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Cursor<'t>) -> Option<T>,
    ) -> Option<T> {
        let mut at = self.at.clone();
        let value = at.over_word(name).then(|| read(&mut at)).flatten();
        if value.is_some() {
            self.at = at;
        }
        value
    }

    /// Skips the next value and returns its text.
    pub(super) fn raw(&mut self) -> Result<&'t str, Fault> {
        self.at.skip().map_err(not_json)
    }

    /// Returns true if no text is left, not even the end of the object.
    pub(super) fn is_at_end(&self) -> bool {
        self.at.rest().is_empty()
    }

    /// Skips the value of an unknown member, with every check.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let skipped = message::skip_front(self.at.rest(), Depth::MAX);
        let length = skipped.map_err(|error| blamed("a member", error))?;
        self.at.advance(length);
        Ok(())
    }

    /// Reads the next value, a string.
    pub(super) fn string(&mut self, name: &str) -> Result<Cow<'t, str>, Fault> {
        if let Some(text) = self.at.string() {
            return Ok(Cow::Borrowed(text));
        }
        let string = String::front(self.at.rest(), &Unpacker::default());
        let (value, length) = string.map_err(|error| blamed(name, error))?;
        self.at.advance(length);
        Ok(Cow::Owned(value))
    }
}

/// Reads the text of a value that is a string; `None` if it is none.
pub(super) fn read_string(text: &str) -> Option<String> {
    let read = Unpack::front(text, &Unpacker::default());
    read.ok().map(|(string, _)| string)
}

/// Makes the fault of a text that is not JSON, or of a member that is not what it has to be.
fn blamed(name: &str, error: DecodeError) -> Fault {
    match error {
        DecodeError::Shape { .. } => invalid(format!("{name}: {error}")),
        other => Fault::from(other),
    }
}

pub(super) fn not_json(error: json::Error) -> Fault {
    DecodeError::from(error).into()
}

/// Returns the text of an object's first member with this name; `None` if the text is not JSON before it.
pub(super) fn find<'t>(object: &'t str, name: &str) -> Option<&'t str> {
    let mut members = ObjectReader::open(object).ok()?;
    while let Some(next) = members.next_name().ok()? {
        let value = members.raw().ok()?;
        if next == name {
            // A number may go on where the text was cut off.
            return Some(value).filter(|_| !members.is_at_end());
        }
    }
    None
}

pub(super) fn ended(at: &mut Cursor<'_>) -> Result<(), Fault> {
    if at.is_at_end() {
        Ok(())
    } else {
        Err(not_json(at.syntax_error("trailing characters")))
    }
}
