//! What can be found in a text that cannot be read: the id of its call.

use super::Id;
use super::object::{self, ObjectReader};
use crate::error::DecodeError;
use crate::json::{BLANK, Cursor};
use crate::limits::Depth;
use crate::message;

/// Returns the id of a text that otherwise cannot be read.
pub(crate) fn find_id(text: &[u8]) -> Option<Id<'static>> {
    let id = object::find(std::str::from_utf8(text).ok()?, "id")?;
    Id::from_json(id).map(Id::into_owned)
}

/// Reads the params of `rpc.cancel` from the front of `text`: the id that they hold, by name or by position.
pub(crate) fn front_id(text: &str, depth: Depth) -> Result<(Id<'static>, usize), DecodeError> {
    let length = message::skip_front(text, depth)?;
    let params = text.get(..length).unwrap_or_default();
    let id = match only(params) {
        Some(id) => Id::from_json(id).map(Id::into_owned),
        None => find_id(params.as_bytes()),
    };
    let id = id.ok_or_else(|| DecodeError::Shape {
        field: Some(String::from("id")),
        reason: String::from("missing, or neither an integer nor a string"),
    })?;
    Ok((id, length))
}

/// The text of an array's element, if it has one and no more.
fn only(array: &str) -> Option<&str> {
    let inner = array.strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner.trim_matches(BLANK);
    Cursor::new(inner).skip().ok().filter(|id| *id == inner)
}

/// What a message is whose envelope has not been opened, or cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    /// A call with this id.
    Call(Id<'static>),
    /// A well-formed one-way call. No reply must be sent to it.
    Notification,
    /// It looks like a response. No reply must be sent to it.
    Response,
    /// Anything else, such as a text that is no JSON object.
    Unknown,
}

/// Finds out what a text is, as far as it can be read. What is in its values is not checked.
pub(crate) fn kind_of(text: &[u8]) -> MessageKind {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let Ok(mut members) = ObjectReader::open(text) else {
        return MessageKind::Unknown;
    };
    let (mut id, mut has_method, mut has_result) = (None, false, false);
    let is_whole = loop {
        let name = match members.next_name() {
            Ok(Some(name)) => name,
            end => break end.is_ok(),
        };
        match &*name {
            "method" => has_method = true,
            "result" | "error" => has_result = true,
            _ => {}
        }
        let Ok(value) = members.raw() else {
            break false;
        };
        if members.is_at_end() {
            // A number may go on where the text was cut off.
            break false;
        }
        if name == "id" && id.is_none() {
            id = Some(Id::from_json(value).map(Id::into_owned));
        }
    };
    match id {
        _ if has_result && !has_method => MessageKind::Response,
        Some(Some(id)) => MessageKind::Call(id),
        None if is_whole && has_method => MessageKind::Notification,
        _ => MessageKind::Unknown,
    }
}
