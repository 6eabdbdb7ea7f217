//! One connection's traffic: calls out, answers in, each to whoever waits for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::envelope::{self, Envelope, ErrorObject, Id, Part};
use crate::error::{CallError, DecodeError, Error, Fault};
use crate::fds::Fds;
use crate::line::{BUFFER_KEPT, Datagram, Heard, Inbox, Line, Sent};
use crate::message::{self, Message, Pack, Packer, Surplus, Unpacker};
use crate::sys::control::Wait;
use crate::sys::wait;

/// What the clones of a connection share.
pub(super) struct Exchange {
    pub(super) line: Line,
    inbox: Inbox,
    text: Vec<u8>,
    next_id: u64,
    /// The calls in flight that no thread waits for right now.
    started: HashMap<u64, Started>,
    /// A call without an id has gone out since the last answer: a fault without one may be its.
    pub(super) notified: bool,
    /// Sending never waits: an event loop drives the connection.
    pub(super) driven: bool,
    /// Functions to call once nobody is at the exchange, so that they may call again.
    pub(super) ready: Vec<Box<dyn FnOnce() + Send>>,
}

/// What has become of a call in flight.
pub(super) enum Started {
    Waiting,
    Come(Held),
    /// Somebody is to be told.
    Then(Then),
}

/// Who is to be told of an answer, and until when it is waited for.
pub(super) struct Then {
    tell: Tell,
    deadline: Option<Instant>,
}

/// Takes an answer, or why there is none.
pub(super) type Tell = Box<dyn FnOnce(Result<Held, Error>) + Send>;

impl Exchange {
    pub(super) fn new(line: Line, next_id: u64) -> Self {
        Self {
            line,
            inbox: Inbox::default(),
            text: Vec::new(),
            next_id,
            started: HashMap::new(),
            notified: false,
            driven: false,
            ready: Vec::new(),
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        // After 2^52 calls from a start below it, every JSON reader still holds the id exactly.
        self.next_id += 1;
        id
    }

    /// Writes a call into the buffer.
    fn encode<'a>(
        &mut self,
        id: Option<u64>,
        method: &str,
        params: &'a (impl Pack + ?Sized),
        timeout: Option<Duration>,
    ) -> Result<Packer<'a>, Error> {
        let budget = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let timeout = timeout.map(|timeout| budget(timeout).max(1));
        self.text.clear();
        self.text.shrink_to(BUFFER_KEPT);
        let fds = Packer::new();
        envelope::write_call(&mut self.text, id, method, params, timeout, &fds)
            .map_err(Error::Encode)?;
        Ok(fds)
    }

    /// Sends a call, and waits for room.
    pub(super) fn send(
        &mut self,
        id: Option<u64>,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let fds = self.encode(id, method, params, timeout)?.into_fds();
        if self.driven && id.is_none() {
            return match self.line.send(&self.text, &fds, None, Wait::Never)? {
                Sent::Done => Ok(()),
                Sent::Full => Err(Error::Full),
            };
        }
        self.line.send_by(&self.text, &fds, None, deadline)
    }

    /// Sends a call that is waited for later. While there is no room, answers are taken in: the server may
    /// be waiting for that itself.
    pub(super) fn send_and_receive(
        &mut self,
        id: u64,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let fds = self.encode(Some(id), method, params, timeout)?.into_fds();
        while self.line.send(&self.text, &fds, None, Wait::Never)? == Sent::Full {
            if self.driven {
                return Err(Error::Full);
            }
            self.line.wait(wait::For::Either, deadline)?;
            self.take_in()?;
        }
        self.started.insert(id, Started::Waiting);
        Ok(())
    }

    /// Takes in the answers that have come to calls that were started, within reason: says whether there
    /// may be more.
    pub(super) fn take_in(&mut self) -> Result<bool, Error> {
        /// As many as a server takes in one turn.
        const TURN: usize = 32;
        for _ in 0..TURN {
            match self.line.receive(&mut self.inbox, Wait::Never)? {
                Heard::Datagram(datagram) => self.keep(datagram),
                Heard::Pending | Heard::Short => return Ok(false),
                Heard::Closed => return Err(self.close()),
            }
        }
        Ok(true)
    }

    /// Keeps the answer to a call that was started, or has it told; any other is late, repeated or foreign,
    /// and is dropped.
    fn keep(&mut self, datagram: Datagram) {
        let text = self.inbox.text(&datagram);
        let id = match Envelope::open(text)
            .ok()
            .and_then(|envelope| envelope.id().cloned())
        {
            Some(Id::Number(id)) => id,
            _ => return,
        };
        let Some(started) = self.started.remove(&id) else {
            return;
        };
        let held = || Held {
            text: text.to_vec(),
            fds: datagram.fds,
            damage: datagram.damage,
        };
        match started {
            Started::Waiting => {
                let held = Started::Come(held());
                self.started.insert(id, held);
            }
            Started::Then(then) => {
                let held = held();
                self.ready.push(Box::new(move || (then.tell)(Ok(held))));
            }
            come @ Started::Come(_) => {
                self.started.insert(id, come);
            }
        }
    }

    /// Says whether the answer to a call has come and is kept.
    pub(super) fn has_come(&self, id: u64) -> bool {
        matches!(self.started.get(&id), Some(Started::Come(_)))
    }

    /// Has `tell` told of the answer to a call that was started; soon, if it has come already.
    pub(super) fn tell(&mut self, id: u64, deadline: Option<Instant>, tell: Tell) {
        match self.started.remove(&id) {
            Some(Started::Come(held)) => self.ready.push(Box::new(move || tell(Ok(held)))),
            _ => {
                let then = Then { tell, deadline };
                self.started.insert(id, Started::Then(then));
            }
        }
    }

    /// Gives up the calls whose deadline has passed, and tells.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> = self
            .deadlines()
            .filter_map(|(at, id)| (at <= now).then_some(id))
            .collect();
        for id in late {
            if let Some(Started::Then(then)) = self.cancel(id) {
                self.ready
                    .push(Box::new(move || (then.tell)(Err(Error::Deadline))));
            }
        }
    }

    /// When the next call that is to be told of its answer expires.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.deadlines().map(|(at, _)| at).min()
    }

    fn deadlines(&self) -> impl Iterator<Item = (Instant, u64)> {
        self.started
            .iter()
            .filter_map(|(id, started)| match started {
                Started::Then(then) => Some((then.deadline?, *id)),
                Started::Waiting | Started::Come(_) => None,
            })
    }

    /// Tells everybody that no answer will come.
    fn close(&mut self) -> Error {
        for (id, started) in std::mem::take(&mut self.started) {
            match started {
                Started::Then(then) => {
                    self.ready
                        .push(Box::new(move || (then.tell)(Err(Error::Closed))));
                }
                come @ Started::Come(_) => {
                    self.started.insert(id, come);
                }
                Started::Waiting => {}
            }
        }
        Error::Closed
    }

    /// Waits for the answer to a call.
    pub(super) fn wait<T: Message, E: Message>(
        &mut self,
        id: u64,
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        if let Some(Started::Come(held)) = self.started.remove(&id) {
            return held.read();
        }
        loop {
            let datagram = match self.line.receive_by(&mut self.inbox, deadline) {
                Ok(datagram) => datagram,
                Err(error) => {
                    match error {
                        Error::Deadline => drop(self.cancel(id)),
                        Error::Closed => drop(self.close()),
                        _ => {}
                    }
                    return Err(CallError::from_error(error));
                }
            };
            // Whose fault it is when the id is `null` is plain only while there is one call to blame.
            let sole = !self.notified && self.started.is_empty();
            match answers(self.inbox.text(&datagram), id, sole) {
                Whose::Ours(envelope) => {
                    self.notified = false;
                    return match datagram.damage {
                        None => read(envelope, datagram.fds),
                        Some(damage) => Err(CallError::Io(damage)),
                    };
                }
                // Nothing says whose answer it should have been.
                Whose::Unreadable(fault) => {
                    return Err(datagram
                        .damage
                        .map_or_else(|| unreadable(&fault), CallError::Io));
                }
                Whose::Another => {}
            }
            self.keep(datagram);
        }
    }

    /// Waits until the answer to one of these calls has come; says to which.
    pub(super) fn wait_any(
        &mut self,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        loop {
            if let Some(position) = ids.iter().position(|id| self.has_come(*id)) {
                return Ok(position);
            }
            let datagram = self.line.receive_by(&mut self.inbox, deadline)?;
            self.keep(datagram);
        }
    }

    /// Gives a call up and tells the server that its answer is not wanted any more, if there is room for
    /// that. The answer is dropped anyway.
    pub(super) fn cancel(&mut self, id: u64) -> Option<Started> {
        let started = self.started.remove(&id);
        if !matches!(started, Some(Started::Come(_))) {
            self.text.clear();
            envelope::write_cancel(&mut self.text, id);
            let _ = self.line.send(&self.text, &[], None, Wait::Never);
        }
        started
    }
}

/// The answer to a call that nobody waits for yet.
#[derive(Debug)]
pub(super) struct Held {
    text: Vec<u8>,
    fds: Fds,
    damage: Option<Error>,
}

impl Held {
    pub(super) fn read<T: Message, E: Message>(self) -> Result<T, CallError<E>> {
        if let Some(damage) = self.damage {
            return Err(CallError::Io(damage));
        }
        match Envelope::open(&self.text) {
            Ok(envelope) => read(envelope, self.fds),
            Err(fault) => Err(unreadable(&fault)),
        }
    }
}

/// Whose answer a datagram is.
enum Whose<'t> {
    Ours(Envelope<'t>),
    Another,
    Unreadable(Fault),
}

/// Finds out whether a datagram answers this call. A fault about something that the server could not read
/// does if this is the `sole` call that it can be about.
fn answers(text: &[u8], id: u64, sole: bool) -> Whose<'_> {
    let envelope = match Envelope::open(text) {
        Ok(envelope) => envelope,
        Err(fault) => return Whose::Unreadable(fault),
    };
    let ours = match envelope.id() {
        Some(found) => *found == Id::Number(id),
        None => sole && envelope.has_null_id() && envelope.part() == Some(Part::Error),
    };
    match ours && envelope.method().is_none() {
        true => Whose::Ours(envelope),
        false => Whose::Another,
    }
}

/// Reads what an answer says. Descriptors that the types do not take are closed.
fn read<T: Message, E: Message>(mut envelope: Envelope<'_>, fds: Fds) -> Result<T, CallError<E>> {
    let fds = Unpacker::new(fds);
    let undecodable = |error| CallError::Io(Error::Decode(error));
    match envelope.part() {
        Some(Part::Result) => {
            let result = envelope
                .decode(|text| message::decode_front(text, &fds))
                .map_err(|fault| unreadable(&fault))?
                .map_err(undecodable)?;
            fds.finish(Surplus::Close).map_err(undecodable)?;
            Ok(result)
        }
        Some(Part::Error) => {
            let error = envelope
                .decode(ErrorObject::front)
                .map_err(|fault| unreadable(&fault))?
                .map_err(undecodable)?;
            let data = error.data.filter(|_| !error.is_fault());
            match data.map(|data| message::decode_front(data, &fds)) {
                Some(Ok((error, _))) => Err(CallError::Service(error)),
                // The framework's own, or one that our type does not know.
                Some(Err(_)) | None => Err(CallError::Fault(error.into_fault())),
            }
        }
        Some(Part::Params) | None => Err(unreadable(&Fault::new(
            Fault::NOT_A_CALL,
            "neither result nor error",
        ))),
    }
}

/// Says that the server's answer is none.
fn unreadable<E>(fault: &Fault) -> CallError<E> {
    CallError::Io(Error::Decode(DecodeError::Syntax {
        reason: format!("the answer: {}", fault.message),
    }))
}
