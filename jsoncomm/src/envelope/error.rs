//! Error objects: what a client receives for a call that failed.

use super::object::{self, ObjectReader, read_string};
use crate::error::{DecodeError, Fault};
use crate::limits::Depth;
use crate::message;

/// An error object, as a client reads it.
pub(crate) struct ErrorObject<'t> {
    pub(crate) code: i64,
    pub(crate) message: String,
    /// The JSON text of `data`.
    pub(crate) data: Option<&'t str>,
}

impl<'t> ErrorObject<'t> {
    /// Reads one from the front of `text` and returns how many bytes it took.
    pub(crate) fn front(text: &'t str, depth: Depth) -> Result<(Self, usize), DecodeError> {
        let shape = |reason: &str| DecodeError::Shape {
            field: Some(String::from("error")),
            reason: reason.to_owned(),
        };
        let length = message::skip_front(text, depth)?;
        let object = text.get(..length).unwrap_or_default();
        ObjectReader::open(object).map_err(|_| shape("is not an object"))?;
        let member = |name| object::find(object, name);
        let code = member("code").and_then(|code| code.parse().ok());
        let message = member("message").and_then(read_string);
        let error = Self {
            code: code.ok_or_else(|| shape("has no integer code"))?,
            message: message.ok_or_else(|| shape("has no message"))?,
            data: member("data"),
        };
        Ok((error, length))
    }

    /// Returns true if the code is in the range that JSON-RPC reserves.
    pub(crate) fn is_fault(&self) -> bool {
        (-32768..=-32000).contains(&self.code)
    }

    /// Turns it into a fault, with the field that it names.
    pub(crate) fn into_fault(self) -> Fault {
        let field = self.data.and_then(|data| object::find(data, "field"));
        Fault {
            field: field.and_then(read_string),
            code: self.code,
            message: self.message,
        }
    }
}

/// Returns the error of a text that cannot be read as a response.
#[cold]
pub(crate) fn unreadable(text: &[u8], depth: Depth, fault: &Fault) -> DecodeError {
    let reason = format!("the response: {}", fault.message);
    let syntax = DecodeError::Syntax { reason };
    depth.check(text).err().unwrap_or(syntax)
}
