//! Error objects: what a client receives for a call that failed.

use super::object::{ObjectReader, into_decode, read_string};
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
        let mut members = ObjectReader::open(object).map_err(|_| shape("is not an object"))?;
        let (mut code, mut message, mut data) = (None, None, None);
        while let Some(name) = members.next_name().map_err(into_decode)? {
            let value = members.raw().map_err(into_decode)?;
            match &*name {
                "code" => code = value.parse().ok(),
                "message" => message = read_string(value),
                "data" => data = Some(value),
                _ => {}
            }
        }
        let error = Self {
            code: code.ok_or_else(|| shape("has no integer code"))?,
            message: message.ok_or_else(|| shape("has no message"))?,
            data,
        };
        Ok((error, length))
    }

    /// Returns true if the code is in the range that JSON-RPC reserves.
    pub(crate) fn is_fault(&self) -> bool {
        (-32768..=-32000).contains(&self.code)
    }

    /// Turns it into a fault, with the field that it names.
    pub(crate) fn into_fault(self) -> Fault {
        let field = || -> Option<String> {
            let mut members = ObjectReader::open(self.data?).ok()?;
            while let Some(name) = members.next_name().ok()? {
                let value = members.raw().ok()?;
                if name == "field" {
                    return read_string(value);
                }
            }
            None
        };
        Fault {
            field: field(),
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
