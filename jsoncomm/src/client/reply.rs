//! Replies: which call a datagram belongs to, and decoding.

use super::slot::Entry;
use crate::envelope::{self, Envelope, ErrorObject, Id, Part};
use crate::error::{CallError, DecodeError, Error, Fault};
use crate::fds::Fds;
use crate::limits::Depth;
use crate::message::{Message, UnusedFds};

/// Which call a datagram belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Call(u64),
    /// A fault with `"id":null`, for something that the server could not read: the only call in flight, unless a call
    /// without an id was sent as well.
    Unknown,
    /// It cannot be read and no id can be found in it: the only call in flight.
    Unreadable,
}

/// Returns which call a text belongs to, and whether another part follows: `None` there if the text cannot be read.
///
/// Returns `None` if the text belongs to no call: it is not a reply, or its id is not one of ours.
pub(super) fn target(text: &[u8], depth: Depth) -> Option<(Target, Option<bool>)> {
    let Ok(mut envelope) = Envelope::open(text, depth) else {
        let target = match envelope::find_id(text) {
            Some(Id::Number(id)) => Target::Call(id),
            Some(Id::Text(_)) => return None,
            None => Target::Unreadable,
        };
        return Some((target, None));
    };
    let target = match envelope.id() {
        _ if envelope.method().is_some() => return None,
        Some(Id::Number(id)) => Target::Call(*id),
        None if envelope.has_null_id() && envelope.part == Some(Part::Error) => Target::Unknown,
        Some(Id::Text(_)) | None => return None,
    };
    let more = envelope.skip().is_ok().then(|| envelope.has_more());
    Some((target, more))
}

/// Opens a text if it is plainly the reply to this call.
#[inline]
pub(super) fn open_reply(text: &[u8], depth: Depth, id: u64) -> Option<Envelope<'_>> {
    if envelope::is_batch(text) {
        // An error would say what is wrong with all of it.
        return None;
    }
    let envelope = Envelope::open(text, depth).ok()?;
    let ours = envelope.id() == Some(&Id::Number(id)) && envelope.method().is_none();
    ours.then_some(envelope)
}

/// A reply, or a part of one, that was received for another thread or before it was asked for.
pub(super) struct BufferedReply {
    pub(super) text: Vec<u8>,
    /// How deep the text may nest.
    pub(super) depth: Depth,
    pub(super) fds: Fds,
    /// Why it must not be decoded.
    pub(super) damage: Option<Error>,
    /// Whether another part follows; `None` if the text cannot be read.
    pub(super) more: Option<bool>,
}

impl BufferedReply {
    /// Copies the text, without descriptors.
    pub(super) fn copy(&self) -> Self {
        Self {
            text: self.text.clone(),
            fds: Fds::default(),
            damage: None,
            ..*self
        }
    }

    /// Returns true if no other part follows. After a part that cannot be read, another may.
    pub(super) fn is_last(&self) -> bool {
        self.more == Some(false) && self.damage.is_none()
    }

    fn read_as<T: Message, E: Message>(self, parts: Parts) -> Result<T, CallError<E>> {
        if let Some(damage) = self.damage {
            return Err(CallError::Io(damage));
        }
        match Envelope::open(&self.text, self.depth) {
            Ok(envelope) => read(envelope, self.fds, parts),
            Err(fault) => {
                let why = envelope::unreadable(&self.text, self.depth, &fault);
                Err(undecodable(why))
            }
        }
    }
}

/// Decodes the entry of a call that has one reply.
pub(super) fn read_reply<T: Message, E: Message>(entry: Entry) -> Result<T, CallError<E>> {
    let reply = entry.map_err(CallError::from_error)?;
    reply.read_as(Parts::One)
}

/// Decodes a reply, or a part of one, that came by no socket.
pub(crate) fn read_part<T: Message, E: Message>(
    text: Vec<u8>,
    fds: Fds,
) -> Result<T, CallError<E>> {
    let reply = BufferedReply {
        text,
        depth: Depth::MAX,
        fds,
        damage: None,
        more: None,
    };
    reply.read_as(Parts::Many)
}

/// Decodes an entry of a stream: its item, unless it is the end alone. Returns true if the stream ends with it. After an entry
/// that cannot be decoded, others may come, so the stream is to be cancelled.
pub(super) fn read_item<T: Message, E: Message>(
    entry: Entry,
) -> (Option<Result<T, CallError<E>>>, bool) {
    let reply = match entry {
        Ok(reply) => reply,
        Err(why) => return (Some(Err(CallError::from_error(why))), true),
    };
    if !reply.is_last() {
        let item = reply.read_as(Parts::Many);
        let ended = item.is_err();
        return (Some(item), ended);
    }
    // If the text is damaged after the `null`, `read_as` returns the error. Foreign servers may end with an item.
    let empty = Envelope::open(&reply.text, reply.depth)
        .is_ok_and(|mut envelope| envelope.has_null_result() && envelope.skip().is_ok());
    let item = (!empty).then(|| reply.read_as(Parts::Many));
    (item, true)
}

/// In how many parts a reply is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    One,
    Many,
}

/// Decodes a reply. Descriptors that the types do not take are closed.
pub(super) fn read<T: Message, E: Message>(
    mut envelope: Envelope<'_>,
    fds: Fds,
    parts: Parts,
) -> Result<T, CallError<E>> {
    if envelope.part != Some(Part::Result) {
        return Err(read_error(envelope, fds));
    }
    let fds = envelope.unpacker(fds);
    let result = envelope
        .decode(|text| T::front(text, &fds))
        .map_err(|fault| undecodable(envelope.unreadable(&fault)))?;
    // Whether or not its first item could be decoded.
    if envelope.has_more() && parts == Parts::One {
        return Err(CallError::Stream);
    }
    let result = result.map_err(undecodable)?;
    fds.finish(UnusedFds::Close).map_err(undecodable)?;
    Ok(result)
}

/// Decodes a reply that is not a result.
#[inline(never)]
fn read_error<E: Message>(mut envelope: Envelope<'_>, fds: Fds) -> CallError<E> {
    if envelope.part != Some(Part::Error) {
        let fault = Fault::new(Fault::INVALID_REQUEST, "neither result nor error");
        return undecodable(envelope.unreadable(&fault));
    }
    let fds = envelope.unpacker(fds);
    let error = match envelope.decode(|text| ErrorObject::front(text, fds.depth())) {
        Ok(Ok(error)) => error,
        Ok(Err(error)) => return undecodable(error),
        Err(fault) => return undecodable(envelope.unreadable(&fault)),
    };
    let said = (error.code, &*error.message);
    let service = if error.is_fault() {
        None
    } else {
        E::of_error(said, error.data, &fds)
    };
    match service {
        Some(Ok(error)) => CallError::Service(error),
        // It is the framework's own, or of another type than the service's.
        Some(Err(_)) | None => CallError::Fault(error.into_fault()),
    }
}

/// Makes the error of a reply that is malformed, or not what the types say.
#[cold]
fn undecodable<E>(error: DecodeError) -> CallError<E> {
    CallError::Io(Error::Decode(error))
}
