//! JSON-RPC 2.0 objects: bytes to envelope and back; pure, no I/O.
//!
//! ```text
//! call          {"jsonrpc":"2.0","id":7,"method":"example.files.open","params":{"path":"a.txt"},"timeout":500}
//! one-way       {"jsonrpc":"2.0","method":"example.files.log_to","params":{"sink":0}}
//! answer        {"jsonrpc":"2.0","id":7,"result":{"len":12,"file":0}}
//! stream item   {"jsonrpc":"2.0","id":7,"result":{"line":"…"},"more":true}
//! its end       {"jsonrpc":"2.0","id":7,"result":null}
//! service error {"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no file a.txt","data":{"NotFound":{"path":"a.txt"}}}}
//! fault         {"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"…","data":{"field":"path"}}}
//! ```
//!
//! `id` is an integer or a string. `params` is an object, or an array by position; it may be absent.
//! `timeout` is the caller's remaining budget in milliseconds; it may be absent. A member that is not
//! listed is skipped; no member may stand there twice. With `method` and `result` or `error` it is neither call nor
//! answer.
//!
//! A text is read in one pass: the reader walks the members up to the one that matters (`params`,
//! `result` or `error`), lets its owner decode that in place, now that `method` or `id` says as what, and
//! walks on to the end. Where the members come in another order, that one is skipped first and decoded
//! last.

mod error;
mod find;
mod id;
mod object;
mod write;

use std::borrow::Cow;
use std::fmt;

use crate::error::{DecodeError, Fault};
use crate::fds::Fds;
use crate::json::{Cursor, repeated};
use crate::limits::Depth;
use crate::message::{self, Unpacker};

pub(crate) use error::{ErrorObject, unreadable};
pub(crate) use find::{find_id, front_id, looks_like_answer};
pub(crate) use id::Id;
pub(crate) use write::{
    answers_to, write_call, write_cancel, write_document, write_end, write_error, write_fault,
    write_item, write_result,
};

use object::Members;

/// How nearly every envelope begins, and ours do.
const USUAL: &str = "{\"jsonrpc\":\"2.0\"";

/// Which member carries the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Params,
    Result,
    Error,
}

/// Where that member is.
#[derive(Clone, Copy)]
enum Body<'t> {
    /// There is none.
    Absent,
    /// The reader stands right before it.
    Here(Part),
    /// The reader has skipped it; this is its text.
    Skipped(Part, &'t str),
}

/// A JSON-RPC object while it is read.
#[derive(Clone)]
pub(crate) struct Envelope<'t> {
    members: Members<'t>,
    version: Option<bool>,
    id: Option<Id<'t>>,
    /// The id is `null`: an answer to what could not be read.
    null_id: bool,
    method: Option<Cow<'t, str>>,
    timeout: Option<u64>,
    more: Option<bool>,
    body: Body<'t>,
    /// The names of members that are skipped.
    strangers: Vec<Cow<'t, str>>,
    /// How deep all of it may be.
    depth: Depth,
}

/// Prints nothing of the message in it.
impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("id", &self.id)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl<'t> Envelope<'t> {
    /// Reads up to the member that matters, if what it means is known by then, or to the end. All of it may be so
    /// deep.
    ///
    /// The error says what is wrong; [`find_id`] says whom to tell.
    pub(crate) fn open(text: &'t [u8], depth: Depth) -> Result<Self, Fault> {
        let text = std::str::from_utf8(text)
            .map_err(|error| Fault::new(Fault::PARSE_ERROR, format!("not UTF-8: {error}")))?;
        let usual = text.starts_with(USUAL);
        let members = match usual {
            true => Members::behind(text, USUAL.len()),
            false => open_unusual(text, depth)?,
        };
        let mut envelope = Self {
            members,
            version: usual.then_some(true),
            id: None,
            null_id: false,
            method: None,
            timeout: None,
            more: None,
            body: Body::Absent,
            strangers: Vec::new(),
            depth,
        };
        match usual {
            true if envelope.walk_as_usual() => {}
            true => envelope.walk_on()?,
            false => envelope.walk()?,
        }
        Ok(envelope)
    }

    /// Reads members as far as they stand where nearly all do. Says whether that was up to the body.
    #[inline]
    fn walk_as_usual(&mut self) -> bool {
        let members = &mut self.members;
        let id = members.usual(",\"id\":", Cursor::unsigned);
        self.id = id.map(Id::Number);
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
            self.body = Body::Here(part);
        }
        found
    }

    /// Reads on behind the body, to the end.
    #[inline]
    fn finish(&mut self) -> Result<(), Fault> {
        if self.timeout.is_none() {
            self.timeout = self.members.usual(",\"timeout\":", Cursor::unsigned);
        }
        let ends = self.members.at.rest() == "}";
        match ends && self.version == Some(true) && !self.null_id && self.strangers.is_empty() {
            true => Ok(()),
            false => self.walk_on(),
        }
    }

    /// Reads members from where they stand as they like. Some are skipped by who does not count what is open.
    #[inline(never)]
    fn walk_on(&mut self) -> Result<(), Fault> {
        self.depth.check(self.members.at.whole().as_bytes())?;
        self.walk()
    }

    /// Reads members until the body can be decoded in place, or to the end.
    fn walk(&mut self) -> Result<(), Fault> {
        while let Some(name) = self.members.next_name()? {
            let part = match &*name {
                "jsonrpc" => {
                    let version = self.members.string("jsonrpc")?;
                    once(self.version.is_none(), "jsonrpc")?;
                    self.version = Some(version == "2.0");
                    continue;
                }
                "id" => {
                    if let Some(number) = self.members.at.unsigned() {
                        once(self.id.is_none() && !self.null_id, "id")?;
                        self.id = Some(Id::Number(number));
                        continue;
                    }
                    let text = self.members.raw()?;
                    once(self.id.is_none() && !self.null_id, "id")?;
                    self.id = Id::from_json(text);
                    self.null_id = text == "null";
                    if self.id.is_none() && !self.null_id {
                        return Err(bad_id());
                    }
                    continue;
                }
                "method" => {
                    let method = self.members.string("method")?;
                    once(self.method.is_none(), "method")?;
                    self.method = Some(method);
                    continue;
                }
                "timeout" => {
                    let timeout = match self.members.at.unsigned() {
                        Some(timeout) => timeout,
                        None => self.members.raw()?.parse().map_err(|_| bad_timeout())?,
                    };
                    once(self.timeout.is_none(), "timeout")?;
                    self.timeout = Some(timeout);
                    continue;
                }
                "more" => {
                    let more = match self.members.raw()? {
                        "true" => true,
                        "false" => false,
                        _ => {
                            return Err(Fault::new(
                                Fault::INVALID_REQUEST,
                                "more is not a boolean",
                            ));
                        }
                    };
                    once(self.more.is_none(), "more")?;
                    self.more = Some(more);
                    continue;
                }
                "params" => Part::Params,
                "result" => Part::Result,
                "error" => Part::Error,
                _ => {
                    self.members.skip()?;
                    self.strangers.push(name);
                    continue;
                }
            };
            self.check_alone(part, &name)?;
            let known = match part {
                Part::Params => self.method.is_some(),
                Part::Result | Part::Error => {
                    (self.id.is_some() || self.null_id) && self.method.is_none()
                }
            };
            if known {
                self.body = Body::Here(part);
                return Ok(());
            }
            self.body = Body::Skipped(part, self.members.raw()?);
        }
        if let Some(reason) = repeated(&mut self.strangers) {
            return Err(Fault::new(Fault::INVALID_REQUEST, reason));
        }
        if self.version != Some(true) {
            return Err(Fault::new(Fault::INVALID_REQUEST, "jsonrpc is not \"2.0\""));
        }
        if self.null_id && self.method.is_some() {
            return Err(bad_id());
        }
        // Or a server would take the one for params, and a client the other for its answer.
        if self.method.is_some() && matches!(self.part(), Some(Part::Result | Part::Error)) {
            return Err(Fault::new(Fault::INVALID_REQUEST, BOTH));
        }
        Ok(())
    }

    /// Refuses a second member that carries a message.
    fn check_alone(&self, part: Part, name: &str) -> Result<(), Fault> {
        let reason = match (self.part(), part) {
            (None, _) => return Ok(()),
            (Some(other), part) if other == part => return once(false, name),
            (Some(Part::Params), _) | (_, Part::Params) => BOTH,
            _ => "both a result and an error",
        };
        Err(Fault::new(Fault::INVALID_REQUEST, reason))
    }

    /// The method that is called, without quotes; `None` when this is no call.
    pub(crate) fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The caller's budget in milliseconds. Complete only after [`decode`](Self::decode).
    pub(crate) fn timeout(&self) -> Option<u64> {
        self.timeout
    }

    /// Says whether another answer to the same call follows. Complete only after [`decode`](Self::decode).
    pub(crate) fn has_more(&self) -> bool {
        self.more == Some(true)
    }

    /// The id, if it has been met. Complete only after [`decode`](Self::decode).
    pub(crate) fn id(&self) -> Option<&Id<'t>> {
        self.id.as_ref()
    }

    /// Says whether the id is `null`, as in a fault about what could not be read.
    pub(crate) fn has_null_id(&self) -> bool {
        self.null_id
    }

    /// Which member carries the message, if one does.
    pub(crate) fn part(&self) -> Option<Part> {
        match self.body {
            Body::Absent => None,
            Body::Here(part) | Body::Skipped(part, _) => Some(part),
        }
    }

    /// Says whether this is an answer, or pretends to be: those are never answered.
    pub(crate) fn is_answer(&self) -> bool {
        self.method.is_none() && matches!(self.part(), Some(Part::Result | Part::Error))
    }

    /// Says whether this is an answer of `null`. Known only before [`decode`](Self::decode).
    pub(crate) fn has_null_result(&self) -> bool {
        match self.body {
            Body::Here(Part::Result) => self.members.at.rest().starts_with("null"),
            Body::Skipped(Part::Result, text) => text == "null",
            _ => false,
        }
    }

    /// Decodes the member that matters and reads the rest to its end, so that nothing is acted on
    /// before all of it is known to be sound. `decode` gets the text from that member on and says how
    /// much of it was the member. Absent params are an empty object.
    ///
    /// The outer result is about the envelope, the inner one about the member.
    pub(crate) fn decode<T>(
        &mut self,
        decode: impl FnOnce(&'t str) -> Result<(T, usize), DecodeError>,
    ) -> Result<Result<T, DecodeError>, Fault> {
        match self.body {
            Body::Absent => Ok(decode("{}").map(|(value, _)| value)),
            Body::Skipped(part, text) => {
                check_params(part, text)?;
                let whole = |(value, length)| message::check_end(text, length).map(|()| value);
                Ok(decode(text).and_then(whole))
            }
            Body::Here(part) => {
                let text = self.members.at.rest();
                if let Err(fault) = check_params(part, text) {
                    // The whole may be no JSON at all.
                    self.members.raw()?;
                    self.walk_on()?;
                    return Err(fault);
                }
                let value = match decode(text) {
                    Ok((value, length)) => {
                        self.members.at.advance(length);
                        Ok(value)
                    }
                    Err(error) => {
                        let whole = self.members.at.whole().as_bytes();
                        if let Err(deep) = self.depth.check(whole) {
                            return Ok(Err(deep));
                        }
                        self.members.raw()?;
                        Err(error)
                    }
                };
                self.finish()?;
                Ok(value)
            }
        }
    }

    /// Reads on to the end without decoding anything; what there is to find is found then.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        self.depth.check(self.members.at.whole().as_bytes())?;
        let skip = |text| {
            let mut at = Cursor::new(text);
            at.skip()?;
            Ok(((), at.position()))
        };
        self.decode(skip)?.map_err(Fault::from)
    }

    /// How deep what is in it may be.
    pub(crate) fn depth(&self) -> Depth {
        self.depth.inside(1)
    }

    /// Says why it is no answer that can be read.
    pub(crate) fn unreadable(&self, fault: &Fault) -> DecodeError {
        unreadable(self.members.at.whole().as_bytes(), self.depth, fault)
    }

    /// What decodes the member that matters, with the descriptors that came.
    pub(crate) fn unpacker(&self, fds: Fds) -> Unpacker {
        Unpacker::at_depth(self.depth(), fds)
    }
}

/// Starts at an object that does not begin like nearly all, or says that this is none.
#[inline(never)]
fn open_unusual(text: &str, depth: Depth) -> Result<Members<'_>, Fault> {
    depth.check(text.as_bytes())?;
    if Cursor::new(text).peek() == b'[' {
        // A batch, as far as JSON-RPC is concerned.
        return Err(Fault::new(
            Fault::INVALID_REQUEST,
            "a batch is not accepted",
        ));
    }
    Members::open(text)
}

/// What has members of either.
const BOTH: &str = "both a call and an answer";

fn bad_timeout() -> Fault {
    let reason = "timeout is not a whole number of milliseconds";
    Fault::new(Fault::INVALID_REQUEST, reason)
}

fn bad_id() -> Fault {
    Fault::new(
        Fault::INVALID_REQUEST,
        "id is neither an integer nor a string",
    )
}

fn once(fresh: bool, name: &str) -> Result<(), Fault> {
    match fresh {
        true => Ok(()),
        false => Err(Fault::new(
            Fault::INVALID_REQUEST,
            format!("{name} is repeated"),
        )),
    }
}

fn check_params(part: Part, text: &str) -> Result<(), Fault> {
    if part == Part::Params && !text.starts_with(['{', '[']) {
        return Err(Fault::new(
            Fault::INVALID_REQUEST,
            "params is neither an object nor an array",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
