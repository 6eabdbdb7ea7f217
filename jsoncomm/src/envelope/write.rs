//! Writing envelopes: calls, responses, faults.

use std::io::Write;

use super::Id;
use crate::error::{EncodeError, Fault};
use crate::json::{put_string, put_unsigned};
use crate::message::{self, Pack, Packer};
use crate::trace::TraceParent;

/// Appends a call. `id` is absent for one-way calls.
pub(crate) fn write_call<'a, P: Pack + ?Sized>(
    out: &mut Vec<u8>,
    id: Option<u64>,
    method: &str,
    params: &'a P,
    timeout: Option<u64>,
    fds: &Packer<'a>,
) -> Result<(), EncodeError> {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        put_unsigned(out, id);
    }
    out.extend_from_slice(b",\"method\":");
    put_string(out, method);
    let before = out.len();
    out.extend_from_slice(b",\"params\":");
    let start = out.len();
    fds.open(1);
    message::encode(params, out, fds)?;
    match out.get(start) {
        Some(b'{' | b'[') => {}
        // `null`: there are no params.
        Some(b'n') => out.truncate(before),
        _ => {
            return Err(EncodeError::Json {
                field: Some(String::from("params")),
                reason: String::from("they are neither a struct, nor a tuple, nor a unit"),
            });
        }
    }
    if let Some(timeout) = timeout {
        out.extend_from_slice(b",\"timeout\":");
        put_unsigned(out, timeout);
    }
    out.push(b'}');
    Ok(())
}

/// Adds the trace that a call belongs to.
pub(crate) fn add_trace(out: &mut Vec<u8>, trace: &TraceParent) {
    out.pop();
    // Writing to memory does not fail.
    let _ = write!(out, ",\"traceparent\":\"{trace}\"}}");
}

/// Appends the request to cancel a call.
pub(crate) fn write_cancel(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"rpc.cancel\",\"params\":{\"id\":");
    put_unsigned(out, id);
    out.extend_from_slice(b"}}");
}

/// Appends a response with a result.
pub(crate) fn write_result<'a, M: Pack + ?Sized>(
    out: &mut Vec<u8>,
    id: &Id<'_>,
    result: &'a M,
    fds: &Packer<'a>,
) -> Result<(), EncodeError> {
    open_response(out, Some(id));
    out.extend_from_slice(b",\"result\":");
    fds.open(1);
    message::encode(result, out, fds)?;
    out.push(b'}');
    Ok(())
}

/// Appends one item of a stream.
pub(crate) fn write_item<'a, M: Pack + ?Sized>(
    out: &mut Vec<u8>,
    id: &Id<'_>,
    item: &'a M,
    fds: &Packer<'a>,
) -> Result<(), EncodeError> {
    write_result(out, id, item, fds)?;
    out.pop();
    out.extend_from_slice(b",\"more\":true}");
    Ok(())
}

/// Appends the end of a stream that succeeded.
pub(crate) fn write_end(out: &mut Vec<u8>, id: &Id<'_>) {
    open_response(out, Some(id));
    out.extend_from_slice(b",\"result\":null}");
}

/// Appends a service error: its code, its text and its value.
pub(crate) fn write_error<'a, E: Pack + std::fmt::Display + ?Sized>(
    out: &mut Vec<u8>,
    id: &Id<'_>,
    error: &'a E,
    fds: &Packer<'a>,
) -> Result<(), EncodeError> {
    open_response(out, Some(id));
    put_error(out, error.code(), &error.to_string());
    out.extend_from_slice(b",\"data\":");
    fds.open(2);
    message::encode(error, out, fds)?;
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Appends a fault; `id` is `null` when it could not be read.
pub(crate) fn write_fault(out: &mut Vec<u8>, id: Option<&Id<'_>>, fault: &Fault) {
    open_response(out, id);
    put_error(out, fault.code, &fault.message);
    if let Some(field) = &fault.field {
        out.extend_from_slice(b",\"data\":{\"field\":");
        put_string(out, field);
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
}

/// Returns a test for responses to the call with this id, among those that were written here.
pub(crate) fn response_matcher(id: &Id<'_>) -> impl Fn(&[u8]) -> bool + use<> {
    let mut front = Vec::new();
    open_response(&mut front, Some(id));
    // The end of the id.
    front.push(b',');
    move |text| text.starts_with(&front)
}

fn open_response(out: &mut Vec<u8>, id: Option<&Id<'_>>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    match id {
        Some(Id::Number(number)) => put_unsigned(out, *number),
        Some(Id::Text(text)) => out.extend_from_slice(text.as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

fn put_error(out: &mut Vec<u8>, code: i64, message: &str) {
    // Writing to a `Vec` cannot fail.
    let _ = write!(out, ",\"error\":{{\"code\":{code},\"message\":");
    put_string(out, message);
}
