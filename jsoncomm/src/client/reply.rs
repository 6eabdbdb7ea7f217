//! Replies: whose they are, what they say, and what is kept of them until they are asked for.

use crate::envelope::{self, Envelope, ErrorObject, Id, Part};
use crate::error::{CallError, DecodeError, Error, Fault};
use crate::fds::Fds;
use crate::limits::Depth;
use crate::message::{self, Message, UnusedFds};

/// Which call a datagram is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Call(u64),
    /// A fault about something that the server could not read: the only call in flight, unless it is about one
    /// without an id.
    Unknown,
    /// It cannot be read, and no id can be found in it: the only call in flight, if there is only one.
    Unreadable,
    /// None of ours.
    Nothing,
}

/// Finds out which call a text is about, and whether another part follows; `None` if it cannot be read.
pub(super) fn about(text: &[u8], depth: Depth) -> (About, Option<bool>) {
    let mut envelope = match Envelope::open(text, depth) {
        Ok(envelope) => envelope,
        Err(_) => {
            let about = match envelope::find_id(text) {
                Some(Id::Number(id)) => About::Call(id),
                Some(Id::Text(_)) => About::Nothing,
                None => About::Unreadable,
            };
            return (about, None);
        }
    };
    let about = match envelope.id() {
        _ if envelope.method().is_some() => About::Nothing,
        Some(Id::Number(id)) => About::Call(*id),
        Some(Id::Text(_)) => About::Nothing,
        None if envelope.has_null_id() && envelope.part() == Some(Part::Error) => About::Unknown,
        None => About::Nothing,
    };
    let more = envelope.skip().is_ok().then(|| envelope.has_more());
    (about, more)
}

/// Opens a text if it is plainly the reply to this call.
#[inline]
pub(super) fn open_reply(text: &[u8], depth: Depth, id: u64) -> Option<Envelope<'_>> {
    let envelope = Envelope::open(text, depth).ok()?;
    let ours = envelope.id() == Some(&Id::Number(id)) && envelope.method().is_none();
    ours.then_some(envelope)
}

/// A reply, or a part of one, that has been received for another thread or for later.
pub(super) struct Kept {
    pub(super) text: Vec<u8>,
    /// How deep it may be.
    pub(super) depth: Depth,
    pub(super) fds: Fds,
    pub(super) damage: Option<Error>,
    /// Whether another part follows; `None` if it cannot be read.
    pub(super) more: Option<bool>,
}

impl Kept {
    /// Returns true if no other part follows. After one that cannot be read it does, for all we know.
    pub(super) fn is_last(&self) -> bool {
        self.more == Some(false) && self.damage.is_none()
    }

    /// Reads the whole reply.
    pub(super) fn read<T: Message, E: Message>(self) -> Result<T, CallError<E>> {
        self.read_as(Parts::One)
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

    /// Reads one part of an answer.
    pub(super) fn read_frame<T: Message, E: Message>(self) -> Frame<T, E> {
        if !self.is_last() {
            return match self.read_as(Parts::Many) {
                Ok(item) => Frame::Item(item),
                Err(error) => Frame::Broken(error),
            };
        }
        // What is broken behind the `null` is for `read` to tell.
        let empty = Envelope::open(&self.text, self.depth)
            .is_ok_and(|mut envelope| envelope.has_null_result() && envelope.skip().is_ok());
        match empty && self.damage.is_none() {
            true => Frame::End,
            false => Frame::Last(self.read_as(Parts::Many)),
        }
    }
}

/// Reads a reply, or one part of one, that came by no socket.
pub(crate) fn read_part<T: Message, E: Message>(
    text: Vec<u8>,
    fds: Fds,
) -> Result<T, CallError<E>> {
    let kept = Kept {
        text,
        depth: Depth::MAX,
        fds,
        damage: None,
        more: None,
    };
    kept.read_as(Parts::Many)
}

/// One part of a reply in many.
pub(super) enum Frame<T, E> {
    Item(T),
    /// None follows. Foreign servers may send an item like this.
    Last(Result<T, CallError<E>>),
    /// It cannot be read; more would follow.
    Broken(CallError<E>),
    End,
}

/// In how many parts a reply is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    One,
    Many,
}

/// Reads what a reply says. Descriptors that the types do not take are closed.
pub(super) fn read<T: Message, E: Message>(
    mut envelope: Envelope<'_>,
    fds: Fds,
    parts: Parts,
) -> Result<T, CallError<E>> {
    if envelope.part() != Some(Part::Result) {
        return Err(read_error(envelope, fds));
    }
    let fds = envelope.unpacker(fds);
    let result = envelope
        .decode(|text| message::decode_front(text, &fds))
        .map_err(|fault| undecodable(envelope.unreadable(&fault)))?;
    // Whatever the type of its items is.
    if envelope.has_more() && parts == Parts::One {
        return Err(CallError::Stream);
    }
    let result = result.map_err(undecodable)?;
    fds.finish(UnusedFds::Close).map_err(undecodable)?;
    Ok(result)
}

/// Reads an answer that is not a result.
#[inline(never)]
fn read_error<E: Message>(mut envelope: Envelope<'_>, fds: Fds) -> CallError<E> {
    if envelope.part() != Some(Part::Error) {
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
    let service = match error.is_fault() {
        true => None,
        false => E::of_error(said, error.data, &fds),
    };
    match service {
        Some(Ok(error)) => CallError::Service(error),
        // The framework's own, or one that our type does not know.
        Some(Err(_)) | None => CallError::Fault(error.into_fault()),
    }
}

/// Says that the server's answer is none, or not what the types say.
#[cold]
fn undecodable<E>(error: DecodeError) -> CallError<E> {
    CallError::Io(Error::Decode(error))
}
