//! One connection's traffic: calls out, answers in, each to whoever waits for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::started::{Each, Held, Started, Tell, TellEach, Then, read, unreadable};
use super::turnstile::Inside;
use crate::envelope::{self, Envelope, Id, Part};
use crate::error::{CallError, DecodeError, Error, Fault};
use crate::line::{BUFFER_KEPT, Datagram, Heard, Inbox, Line, Sent};
use crate::message::{Message, Pack, Packer};
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
    /// What the server is still to be told that it is not wanted any more.
    cancelled: Vec<u64>,
    /// A call without an id has gone out since the last answer: a fault without one may be its.
    pub(super) notified: bool,
    /// Sending never waits: an event loop drives the connection.
    pub(super) driven: bool,
    /// Functions to call once nobody is at the exchange, so that they may call again.
    pub(super) ready: Vec<Box<dyn FnOnce() + Send>>,
}

impl Exchange {
    pub(super) fn new(line: Line, next_id: u64) -> Self {
        Self {
            line,
            inbox: Inbox::default(),
            text: Vec::new(),
            next_id,
            started: HashMap::new(),
            cancelled: Vec::new(),
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

    /// Sends a call, and waits for room, unless it is `driven`.
    pub(super) fn send(
        &mut self,
        id: Option<u64>,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
        driven: bool,
    ) -> Result<(), Error> {
        self.send_cancels();
        let fds = self.encode(id, method, params, timeout)?.into_fds();
        if !driven && self.started.is_empty() {
            return self.line.send_by(&self.text, &fds, None, deadline);
        }
        // While there is no room, answers are taken in: the server may be waiting for that itself.
        while self.line.send(&self.text, &fds, None, Wait::Never)? == Sent::Full {
            if driven {
                return Err(Error::Full);
            }
            self.line.wait(wait::For::Either, deadline)?;
            self.take_in()?;
        }
        Ok(())
    }

    /// Notes that a call is in flight.
    pub(super) fn begin(&mut self, id: u64, started: Started) {
        self.started.insert(id, started);
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
        // The server reads again when it has sent.
        self.send_cancels();
        let text = self.inbox.text(&datagram);
        let id = match Envelope::open(text)
            .ok()
            .and_then(|envelope| envelope.id().cloned())
        {
            Some(Id::Number(id)) => id,
            _ => return,
        };
        let Entry::Occupied(mut started) = self.started.entry(id) else {
            return;
        };
        let held = || Held {
            text: text.to_vec(),
            fds: datagram.fds,
            damage: datagram.damage,
            last: true,
        };
        match started.get_mut() {
            Started::Come(_) => {}
            Started::Waiting(waker) => {
                let waker = waker.take();
                started.insert(Started::Come(held()));
                if let Some((waker, _)) = waker {
                    waker.wake();
                }
            }
            Started::Then(_) => {
                let held = held();
                if let Started::Then(then) = started.remove() {
                    self.ready.push(Box::new(move || (then.tell)(Ok(held))));
                }
            }
            Started::Stream(frames) => {
                if !frames.push(held().part(), self.line.limit()) {
                    frames.end(Error::Full);
                    self.send_cancel(id);
                }
            }
            Started::Each(each) => {
                let (each, held) = (Arc::clone(each), held().part());
                if held.last {
                    started.remove();
                }
                each.push(Ok(held));
                self.ready.push(Box::new(move || each.tell()));
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

    /// Has `waker` woken when the answer to a call comes, or at the deadline.
    pub(super) fn wake(&mut self, id: u64, deadline: Option<Instant>, waker: &Waker) {
        match self.started.get_mut(&id) {
            Some(Started::Waiting(wake)) => *wake = Some((waker.clone(), deadline)),
            Some(Started::Stream(frames)) => frames.waker = Some(waker.clone()),
            _ => {}
        }
    }

    /// Has `tell` told of the parts of an answer, beginning with those that have come.
    pub(super) fn tell_each(&mut self, id: u64, tell: TellEach) {
        let each = Arc::new(Each::new(tell));
        let Some(Started::Stream(mut frames)) = self.started.remove(&id) else {
            return;
        };
        while let Some(held) = frames.pop() {
            each.push(held);
        }
        if !frames.is_ended() {
            self.started.insert(id, Started::Each(Arc::clone(&each)));
        }
        self.ready.push(Box::new(move || each.tell()));
    }

    /// Gives out what has come of a stream.
    pub(super) fn pop(&mut self, id: u64) -> Option<Result<Held, Error>> {
        let Some(Started::Stream(frames)) = self.started.get_mut(&id) else {
            return Some(Err(Error::Closed));
        };
        let held = frames.pop();
        if frames.is_over() {
            self.started.remove(&id);
        }
        held
    }

    /// Waits for the next part of an answer. After a deadline it can still come.
    pub(super) fn wait_item(&mut self, id: u64, deadline: Option<Instant>) -> Result<Held, Error> {
        loop {
            if let Some(held) = self.pop(id) {
                return held;
            }
            let datagram = match self.line.receive_by(&mut self.inbox, deadline) {
                Ok(datagram) => datagram,
                Err(Error::Closed) => {
                    self.close();
                    continue;
                }
                Err(error) => return Err(error),
            };
            let sole = !self.notified && self.started.len() == 1;
            let text = self.inbox.text(&datagram);
            match answers(text, id, sole) {
                // About what the server could not read, which was this call.
                Whose::Ours(envelope) if envelope.has_null_id() => {
                    return Ok(Held {
                        text: text.to_vec(),
                        fds: datagram.fds,
                        damage: datagram.damage,
                        last: true,
                    });
                }
                Whose::Unreadable(fault) => {
                    let reason = fault.message;
                    let undecodable = || Error::Decode(DecodeError::Syntax { reason });
                    return Err(datagram.damage.unwrap_or_else(undecodable));
                }
                Whose::Ours(_) | Whose::Another => {}
            }
            self.keep(datagram);
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
            if let Some(Started::Waiting(wake)) = self.started.get_mut(&id) {
                // Whoever is woken sees the time.
                if let Some((waker, _)) = wake.take() {
                    waker.wake();
                }
            } else if let Some(Started::Then(then)) = self.cancel(id) {
                self.ready
                    .push(Box::new(move || (then.tell)(Err(Error::Deadline))));
            }
        }
    }

    /// When the next call expires that somebody is to be told of.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.deadlines().map(|(at, _)| at).min()
    }

    fn deadlines(&self) -> impl Iterator<Item = (Instant, u64)> {
        self.started
            .iter()
            .filter_map(|(id, started)| match started {
                Started::Then(then) => Some((then.deadline?, *id)),
                Started::Waiting(wake) => Some((wake.as_ref()?.1?, *id)),
                Started::Come(_) | Started::Stream(_) | Started::Each(_) => None,
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
                Started::Stream(mut frames) => {
                    frames.end(Error::Closed);
                    self.started.insert(id, Started::Stream(frames));
                }
                Started::Each(each) => {
                    each.push(Err(Error::Closed));
                    self.ready.push(Box::new(move || each.tell()));
                }
                Started::Waiting(waker) => {
                    if let Some((waker, _)) = waker {
                        waker.wake();
                    }
                }
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

    /// Gives a call up and tells the server that its answer is not wanted any more. The answer is dropped
    /// anyway.
    pub(super) fn cancel(&mut self, id: u64) -> Option<Started> {
        let started = self.started.remove(&id);
        match &started {
            Some(Started::Come(_)) => {}
            Some(Started::Stream(frames)) if frames.is_ended() => {}
            _ => self.send_cancel(id),
        }
        started
    }

    fn send_cancel(&mut self, id: u64) {
        self.cancelled.push(id);
        self.send_cancels();
    }

    /// Tells the server what is not wanted any more. What finds no room is told later: a stream would go on
    /// for ever.
    fn send_cancels(&mut self) {
        while let Some(id) = self.cancelled.last() {
            let mut text = Vec::new();
            envelope::write_cancel(&mut text, *id);
            if let Ok(Sent::Full) = self.line.send(&text, &[], None, Wait::Never) {
                return;
            }
            self.cancelled.pop();
        }
    }
}

/// What is left for whoever is at the exchange, by those who do not wait for it.
pub(super) enum Note {
    /// Nobody wants the answer to this call any more.
    Cancel(u64),
    /// Somebody wants to come in.
    Wake(Waker),
}

impl Inside for Exchange {
    type Note = Note;

    fn attend(&mut self, note: Note) {
        match note {
            Note::Cancel(id) => drop(self.cancel(id)),
            Note::Wake(waker) => waker.wake(),
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
