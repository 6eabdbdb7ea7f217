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

/// Returns true if a text that cannot be read looks like a response. No reply must be sent to one.
pub(crate) fn looks_like_answer(text: &[u8]) -> bool {
    let names = || -> Option<bool> {
        let mut members = ObjectReader::open(std::str::from_utf8(text).ok()?).ok()?;
        let mut is_response = false;
        while let Ok(Some(name)) = members.next_name() {
            match &*name {
                "method" => return Some(false),
                "result" | "error" => is_response = true,
                _ => {}
            }
            if members.raw().is_err() {
                break;
            }
        }
        Some(is_response)
    };
    names().unwrap_or(false)
}
