//! Calls in flight that no thread waits for right now, and what has come for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::time::Instant;

use crate::envelope::{self, Envelope, ErrorObject, Part};
use crate::error::{CallError, DecodeError, Error, Fault};
use crate::fds::Fds;
use crate::limits::Depth;
use crate::message::{self, Message, Surplus};

/// What has become of a call in flight.
pub(super) enum Started {
    /// Nothing yet; who is to be woken then, or at the deadline.
    Waiting(Option<(Waker, Option<Instant>)>),
    Come(Result<Held, Error>),
    /// Somebody is to be told.
    Then(Then),
    /// Answers in many parts, fetched one by one.
    Stream(Frames),
    /// Answers in many parts, told one by one.
    Each(Arc<Each>),
}

impl Started {
    /// Says whether something may still come.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Come(_) => false,
            Self::Stream(frames) => !frames.is_ended(),
            Self::Waiting(_) | Self::Then(_) | Self::Each(_) => true,
        }
    }
}

/// Who is to be told of an answer, and until when it is waited for.
pub(super) struct Then {
    pub(super) tell: Tell,
    pub(super) deadline: Option<Instant>,
}

/// Takes an answer, or why there is none.
pub(super) type Tell = Box<dyn FnOnce(Result<Held, Error>) + Send>;

/// The answer to a call that nobody waits for yet.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) text: Vec<u8>,
    /// How deep it may be.
    pub(super) depth: Depth,
    pub(super) fds: Fds,
    pub(super) damage: Option<Error>,
    /// No other part follows.
    pub(super) last: bool,
}

impl Held {
    /// Looks whether another part follows. After one that cannot be read it does, for all we know.
    pub(super) fn part(mut self) -> Self {
        let more = Envelope::open(&self.text, self.depth).and_then(|mut envelope| {
            envelope.skip()?;
            Ok(envelope.has_more())
        });
        self.last = self.damage.is_none() && more.is_ok_and(|more| !more);
        self
    }

    /// Reads the whole answer.
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
        if !self.last {
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

/// One part of an answer in many.
pub(super) enum Frame<T, E> {
    Item(T),
    /// None follows. Foreign servers may send an item like this.
    Last(Result<T, CallError<E>>),
    /// It cannot be read; more would follow.
    Broken(CallError<E>),
    End,
}

/// The parts of an answer that have come and not been fetched.
#[derive(Default)]
pub(super) struct Frames {
    held: VecDeque<Result<Held, Error>>,
    bytes: usize,
    /// Nothing more comes.
    ended: bool,
    /// Who is to be woken when something comes.
    pub(super) waker: Option<Waker>,
}

impl Frames {
    /// Keeps one, if there is room. One always fits.
    pub(super) fn push(&mut self, held: Held, budget: usize) -> bool {
        /// As many small ones as a budget of 1 MiB holds at 1 KiB each.
        const COUNT: usize = 1024;
        let bytes = self.bytes.saturating_add(held.text.len());
        let fits = self.held.len() < COUNT && bytes <= budget;
        if self.ended || !(fits || self.held.is_empty()) {
            return self.ended;
        }
        self.bytes = bytes;
        self.ended = held.last;
        self.held.push_back(Ok(held));
        self.wake();
        true
    }

    /// Keeps the reason why no more will come.
    pub(super) fn end(&mut self, error: Error) {
        if !std::mem::replace(&mut self.ended, true) {
            self.held.push_back(Err(error));
        }
        self.wake();
    }

    /// Gives out the oldest.
    pub(super) fn pop(&mut self) -> Option<Result<Held, Error>> {
        let held = self.held.pop_front()?;
        self.bytes -= held.as_ref().map_or(0, |held| held.text.len());
        Some(held)
    }

    /// Says whether nothing more comes from the server.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Says whether all has been given out.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.held.is_empty()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Takes the parts of an answer, or why there are no more.
pub(super) type TellEach = Box<dyn FnMut(Result<Held, Error>) + Send>;

/// Who is to be told of the parts of an answer, in their order, by whichever thread takes them in.
pub(super) struct Each {
    come: Mutex<VecDeque<Result<Held, Error>>>,
    tell: Mutex<TellEach>,
}

impl Each {
    pub(super) fn new(tell: TellEach) -> Self {
        Self {
            come: Mutex::default(),
            tell: Mutex::new(tell),
        }
    }

    /// Keeps one until [`tell`](Self::tell).
    pub(super) fn push(&self, held: Result<Held, Error>) {
        self.come().push_back(held);
    }

    /// Tells all that has come, unless another thread, or this one further up, is at it and goes on with them.
    pub(super) fn tell(&self) {
        while !self.come().is_empty() {
            let mut tell = match self.tell.try_lock() {
                Ok(tell) => tell,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            loop {
                let held = self.come().pop_front();
                let Some(held) = held else { break };
                tell(held);
            }
        }
    }

    fn come(&self) -> MutexGuard<'_, VecDeque<Result<Held, Error>>> {
        // It is held for a push or a pop only.
        self.come.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In how many parts an answer is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    One,
    Many,
}

/// Reads what an answer says. Descriptors that the types do not take are closed.
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
    fds.finish(Surplus::Close).map_err(undecodable)?;
    Ok(result)
}

/// Reads an answer that is not a result.
#[inline(never)]
fn read_error<E: Message>(mut envelope: Envelope<'_>, fds: Fds) -> CallError<E> {
    if envelope.part() != Some(Part::Error) {
        let fault = Fault::new(Fault::NOT_A_CALL, "neither result nor error");
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
