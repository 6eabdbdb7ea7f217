//! JSON-RPC 2.0 objects: read from bytes and written to bytes, without I/O.
//!
//! ```text
//! call          {"jsonrpc":"2.0","id":7,"method":"example.files.open","params":{"path":"a.txt"},"timeout":500}
//! one-way       {"jsonrpc":"2.0","method":"example.files.log_to","params":{"sink":0}}
//! response      {"jsonrpc":"2.0","id":7,"result":{"len":12,"file":0}}
//! stream item   {"jsonrpc":"2.0","id":7,"result":{"line":"…"},"more":true}
//! its end       {"jsonrpc":"2.0","id":7,"result":null}
//! service error {"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no file a.txt","data":{"NotFound":{"path":"a.txt"}}}}
//! fault         {"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"…","data":{"field":"path"}}}
//! ```
//!
//! `id` is an integer or a string. `params` is an object, or an array by position; it may be absent. `timeout` is what is
//! left of the caller's budget in milliseconds; it may be absent, and so may `traceparent`. Other members are skipped; none may be repeated. An object
//! with `method` and with `result` or `error` is refused.
//!
//! A text is read in one pass: members are read up to the body (`params`, `result` or `error`), whose owner decodes it in
//! place, since `method` or `id` says as what; then the rest is read. Where the body comes first, it is skipped and decoded
//! last.

mod batch;
mod error;
mod find;
mod id;
mod object;
mod write;

use std::borrow::Cow;

use crate::error::{DecodeError, Fault};
use crate::fds::Fds;
use crate::json::{Cursor, repeated};
use crate::limits::Depth;
use crate::message::{self, Unpacker};
use crate::trace::TraceParent;

pub(crate) use batch::{is_batch, split};
pub(crate) use error::{ErrorObject, unreadable};
pub(crate) use find::{MessageKind, find_id, front_id, kind_of};
pub(crate) use id::Id;
pub(crate) use write::{
    add_trace, response_matcher, write_call, write_cancel, write_end, write_error, write_fault,
    write_item, write_result,
};

use object::ObjectReader;

/// How nearly every envelope begins, ours included.
const USUAL: &str = "{\"jsonrpc\":\"2.0\"";

/// The member that is the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Params,
    Result,
    Error,
}

/// A JSON-RPC object while it is read.
#[derive(Clone)]
pub(crate) struct Envelope<'t> {
    members: ObjectReader<'t>,
    version: Option<bool>,
    /// `Some(None)` is `null`: a fault about a message whose id could not be read.
    id: Option<Option<Id<'t>>>,
    method: Option<Cow<'t, str>>,
    /// The caller's budget in milliseconds. Known only after [`decode`](Self::decode).
    pub(crate) timeout: Option<u64>,
    /// The text of the member `traceparent`, of whatever type.
    trace: Option<&'t str>,
    more: Option<bool>,
    /// What the body is; `None` if there is none.
    pub(crate) part: Option<Part>,
    /// The text of a body that was skipped, because what came before it did not tell what it is.
    skipped: Option<&'t str>,
    /// Names of the members that were skipped.
    unknown: Vec<Cow<'t, str>>,
    /// Limit of nesting, for all of the text.
    depth: Depth,
}

impl<'t> Envelope<'t> {
    /// Reads up to the body, if by then it is known what it is, or to the end.
    ///
    /// The error says what is wrong; [`find_id`] finds the id to send it to.
    pub(crate) fn open(text: &'t [u8], depth: Depth) -> Result<Self, Fault> {
        let text = utf8(text)?;
        let usual = text.starts_with(USUAL);
        let members = if usual {
            ObjectReader::behind(text, USUAL.len())
        } else {
            depth.check(text.as_bytes())?;
            ObjectReader::open(text)?
        };
        let mut envelope = Self {
            members,
            version: usual.then_some(true),
            id: None,
            method: None,
            timeout: None,
            trace: None,
            more: None,
            part: None,
            skipped: None,
            unknown: Vec::new(),
            depth,
        };
        if !usual {
            envelope.walk()?;
        } else if !envelope.walk_as_usual() {
            envelope.walk_on()?;
        }
        Ok(envelope)
    }

    /// Reads members in the usual order without white space. Returns true if that reached the body.
    #[inline]
    fn walk_as_usual(&mut self) -> bool {
        let members = &mut self.members;
        let id = members.usual(",\"id\":", Cursor::unsigned);
        self.id = id.map(|id| Some(Id::Number(id)));
        let method = members.usual(",\"method\":", Cursor::string);
        self.method = method.map(Cow::Borrowed);
        let (name, part) = match (id, method) {
            (_, Some(_)) => (",\"params\":", Part::Params),
            (Some(_), None) => (",\"result\":", Part::Result),
            (None, None) => return false,
        };
        let found = members.at.over_word(name);
        if found {
            members.at.peek();
            self.part = Some(part);
        }
        found
    }

    /// Reads the members after the body, to the end.
    #[inline]
    fn finish(&mut self) -> Result<(), Fault> {
        if self.timeout.is_none() {
            self.timeout = self.members.usual(",\"timeout\":", Cursor::unsigned);
        }
        let ends = self.members.at.rest() == "}";
        if ends && self.version == Some(true) && !self.has_null_id() && self.unknown.is_empty() {
            Ok(())
        } else {
            self.walk_on()
        }
    }

    /// Reads members in any order. Nesting is checked before: skipping does not count it.
    #[inline(never)]
    fn walk_on(&mut self) -> Result<(), Fault> {
        self.depth.check(self.members.at.whole().as_bytes())?;
        self.walk()
    }

    /// Reads members until the body can be decoded in place, or to the end.
    fn walk(&mut self) -> Result<(), Fault> {
        while let Some(name) = self.members.next_name()? {
            let part = match &*name {
                "params" => Part::Params,
                "result" => Part::Result,
                "error" => Part::Error,
                _ => {
                    self.read_member(name)?;
                    continue;
                }
            };
            self.check_alone(part, &name)?;
            let is_known = match part {
                Part::Params => self.method.is_some(),
                Part::Result | Part::Error => self.id.is_some() && self.method.is_none(),
            };
            if is_known {
                self.part = Some(part);
                return Ok(());
            }
            (self.part, self.skipped) = (Some(part), Some(self.members.raw()?));
        }
        if let Some(reason) = repeated(&self.unknown) {
            Err(invalid(reason))
        } else if self.version != Some(true) {
            Err(invalid("jsonrpc is not \"2.0\""))
        } else if self.has_null_id() && self.method.is_some() {
            Err(invalid(BAD_ID))
        } else if self.method.is_some() && matches!(self.part, Some(Part::Result | Part::Error)) {
            // Or a server would take it for a call, and a client for its response.
            Err(invalid(BOTH))
        } else {
            Ok(())
        }
    }

    /// Reads a member that is not the body.
    fn read_member(&mut self, name: Cow<'t, str>) -> Result<(), Fault> {
        let members = &mut self.members;
        match &*name {
            "jsonrpc" => once(&mut self.version, members.string(&name)? == "2.0", &name),
            "id" => {
                let id = match members.raw()? {
                    "null" => None,
                    text => Some(Id::from_json(text).ok_or_else(|| invalid(BAD_ID))?),
                };
                once(&mut self.id, id, &name)
            }
            "method" => once(&mut self.method, members.string(&name)?, &name),
            "timeout" => {
                let timeout = members.raw()?.parse();
                let timeout = timeout.map_err(|_| invalid(BAD_TIMEOUT))?;
                once(&mut self.timeout, timeout, &name)
            }
            "traceparent" => once(&mut self.trace, members.raw()?, &name),
            "more" => {
                let more = members.raw()?.parse();
                let more = more.map_err(|_| invalid("more is not a boolean"))?;
                once(&mut self.more, more, &name)
            }
            _ => {
                members.skip()?;
                self.unknown.push(name);
                Ok(())
            }
        }
    }
    /// Refuses a second member that carries a message.
    fn check_alone(&self, part: Part, name: &str) -> Result<(), Fault> {
        let reason = match (self.part, part) {
            (None, _) => return Ok(()),
            (Some(other), part) if other == part => {
                return Err(invalid(format!("{name} is repeated")));
            }
            (Some(Part::Params), _) | (_, Part::Params) => BOTH,
            _ => "both a result and an error",
        };
        Err(invalid(reason))
    }

    /// Returns the trace that the caller says the call belongs to. Known only after [`decode`](Self::decode).
    pub(crate) fn trace_parent(&self) -> Option<TraceParent> {
        // One that is malformed is none, as if it had not been sent.
        self.trace?
            .strip_prefix('"')?
            .strip_suffix('"')?
            .parse()
            .ok()
    }

    /// Returns the method's name; `None` if this is not a call.
    pub(crate) fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// Returns true if another response to the same call follows. Known only after [`decode`](Self::decode).
    pub(crate) fn has_more(&self) -> bool {
        self.more == Some(true)
    }

    /// Returns the id, if it has been read. Known only after [`decode`](Self::decode).
    pub(crate) fn id(&self) -> Option<&Id<'t>> {
        self.id.as_ref()?.as_ref()
    }

    /// Returns true if the id is `null`, as in a fault about a message whose id could not be read.
    pub(crate) fn has_null_id(&self) -> bool {
        matches!(self.id, Some(None))
    }

    /// Returns true if this looks like a response. No reply is ever sent to one.
    pub(crate) fn is_response(&self) -> bool {
        self.method.is_none() && matches!(self.part, Some(Part::Result | Part::Error))
    }

    /// Returns true if the result is `null`. Known only before [`decode`](Self::decode).
    pub(crate) fn has_null_result(&self) -> bool {
        let text = self.skipped.unwrap_or(self.members.at.rest());
        self.part == Some(Part::Result) && text.starts_with("null")
    }

    /// Decodes the body and reads the rest, so that nothing is acted on before all of the text is known to be sound.
    /// `decode` gets the text from the body on and returns how many bytes the body took. Absent params are an empty object.
    ///
    /// The outer result is about the envelope, the inner one about the body.
    pub(crate) fn decode<T>(
        &mut self,
        decode: impl FnOnce(&'t str) -> Result<(T, usize), DecodeError>,
    ) -> Result<Result<T, DecodeError>, Fault> {
        match decode(self.begin_body()?) {
            Ok((value, length)) => Ok(self.end_body(length)?.map(|()| value)),
            Err(error) => self.skip_body(error).map(Err),
        }
    }

    /// Returns the text from the body on.
    fn begin_body(&mut self) -> Result<&'t str, Fault> {
        let Some(part) = self.part else {
            return Ok("{}");
        };
        let text = self.skipped.unwrap_or(self.members.at.rest());
        let checked = check_params(part, text);
        if checked.is_err() && self.skipped.is_none() {
            // The text may not be JSON at all, which comes first.
            self.members.raw()?;
            self.walk_on()?;
        }
        checked.map(|()| text)
    }

    /// Reads what is behind a body of so many bytes.
    fn end_body(&mut self, length: usize) -> Result<Result<(), DecodeError>, Fault> {
        match (self.part, self.skipped) {
            (None, _) => Ok(Ok(())),
            (_, Some(text)) => Ok(message::check_end(text, length)),
            (_, None) => {
                self.members.at.advance(length);
                self.finish().map(Ok)
            }
        }
    }

    /// Reads what is behind a body that could not be decoded. Returns the error that counts.
    #[cold]
    fn skip_body(&mut self, error: DecodeError) -> Result<DecodeError, Fault> {
        if self.part.is_some() && self.skipped.is_none() {
            let whole = self.members.at.whole().as_bytes();
            if let Err(deep) = self.depth.check(whole) {
                return Ok(deep);
            }
            self.members.raw()?;
            self.finish()?;
        }
        Ok(error)
    }

    /// Reads to the end without decoding the body.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        self.depth.check(self.members.at.whole().as_bytes())?;
        let skip = |text| {
            let mut at = Cursor::new(text);
            at.skip()?;
            Ok(((), at.position()))
        };
        self.decode(skip)?.map_err(Fault::from)
    }

    /// Returns the limit of nesting for the body.
    pub(crate) fn depth(&self) -> Depth {
        self.depth.inside(1)
    }

    /// Returns the error of a response that cannot be read.
    pub(crate) fn unreadable(&self, fault: &Fault) -> DecodeError {
        unreadable(self.members.at.whole().as_bytes(), self.depth, fault)
    }

    /// Returns what decodes the body, with the descriptors that came.
    pub(crate) fn unpacker(&self, fds: Fds) -> Unpacker {
        Unpacker::at_depth(self.depth(), fds)
    }
}

const BOTH: &str = "both a call and a response";
const BAD_ID: &str = "id is neither an integer nor a string";
const BAD_TIMEOUT: &str = "timeout is not a whole number of milliseconds";

fn utf8(text: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(text)
        .map_err(|error| Fault::new(Fault::PARSE_ERROR, format!("not UTF-8: {error}")))
}

fn invalid(reason: impl Into<String>) -> Fault {
    Fault::new(Fault::INVALID_REQUEST, reason)
}

/// Keeps the value of a member, unless it is repeated.
fn once<T>(member: &mut Option<T>, value: T, name: &str) -> Result<(), Fault> {
    if member.is_some() {
        return Err(invalid(format!("{name} is repeated")));
    }
    *member = Some(value);
    Ok(())
}

fn check_params(part: Part, text: &str) -> Result<(), Fault> {
    if part == Part::Params && !text.starts_with(['{', '[']) {
        return Err(invalid("params is neither an object nor an array"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
