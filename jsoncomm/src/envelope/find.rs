//! What can be found in a text that is not understood, or not decoded: whom it is about.

use super::Id;
use super::object::Members;
use crate::error::DecodeError;
use crate::json::{BLANK, Cursor};
use crate::limits::Depth;
use crate::message;

/// Finds the id of a text that is otherwise not understood, if it can be read.
pub(crate) fn find_id(text: &[u8]) -> Option<Id<'static>> {
    let mut members = Members::open(std::str::from_utf8(text).ok()?).ok()?;
    while let Some(name) = members.next_name().ok()? {
        let value = members.raw().ok()?;
        if name == "id" {
            return Id::from_json(value).map(Id::into_owned);
        }
    }
    None
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

/// Says whether a text that is not understood looks like an answer, which must not be answered.
pub(crate) fn looks_like_answer(text: &[u8]) -> bool {
    let names = || -> Option<bool> {
        let mut members = Members::open(std::str::from_utf8(text).ok()?).ok()?;
        let mut answer = false;
        while let Ok(Some(name)) = members.next_name() {
            match &*name {
                "method" => return Some(false),
                "result" | "error" => answer = true,
                _ => {}
            }
            if members.raw().is_err() {
                break;
            }
        }
        Some(answer)
    };
    names().unwrap_or(false)
}
