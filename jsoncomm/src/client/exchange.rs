//! One connection's traffic: calls out, answers in, each to whoever waits for it.

mod incoming;
mod outgoing;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::dial::Dial;
use super::started::{Each, Held, Parts, Started, Tell, TellEach, Then, read};
use super::turnstile::{Inside, Ready};
use crate::envelope::{self, Envelope, Id, Part};
use crate::error::{CallError, DecodeError, Error};
use crate::limits::Depth;
use crate::line::{Datagram, Inbox, Kind, Line};
use crate::message::Message;
use crate::spin::Spin;

use incoming::LOOK;
pub(super) use outgoing::Outgoing;

/// What the clones of a connection share.
pub(super) struct Exchange {
    pub(super) line: Line,
    /// Where the server is; `None` when the socket came from elsewhere.
    dial: Option<Dial>,
    /// When to take in again although nothing is readable, for the reasons of [`LOOK`].
    look: Option<Instant>,
    /// When to take in what has come before a call goes out, on a datagram socket; `None` is at the next.
    save_at: Option<Instant>,
    /// So many calls, when there is no room for them, have answers taken in at once.
    stuck: u8,
    inbox: Inbox,
    /// Whether to look for answers before waiting for them.
    pub(super) spin: Spin,
    text: Vec<u8>,
    next_id: u64,
    /// The calls in flight that no thread waits for right now.
    started: HashMap<u64, Started, BuildHasherDefault<OwnId>>,
    /// What the server is still to be told that it is not wanted any more.
    cancelled: Vec<u64>,
    /// A call without an id has gone out since the last answer: a fault without one may be its.
    pub(super) notified: bool,
    /// Functions to call once nobody is at the exchange, so that they may call again.
    ready: Vec<Ready>,
}

/// Hashes ids, which are ours and count up: no stranger chooses them.
#[derive(Debug, Default)]
struct OwnId(u64);

impl Hasher for OwnId {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        // The golden ratio, which tells neighbours apart in the highest bits and in the lowest.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Exchange {
    pub(super) fn new(line: Line, dial: Option<Dial>, next_id: u64) -> Self {
        Self {
            line,
            dial,
            look: None,
            save_at: None,
            stuck: 0,
            inbox: Inbox::of_one_peer(),
            spin: Spin::default(),
            text: Vec::new(),
            next_id,
            started: HashMap::default(),
            cancelled: Vec::new(),
            notified: false,
            ready: Vec::new(),
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        // After 2^52 calls from a start below it, every JSON reader still holds the id exactly.
        self.next_id += 1;
        id
    }

    /// Notes that a call is in flight.
    pub(super) fn begin(&mut self, id: u64, started: Started) {
        self.started.insert(id, started);
        if self.line.kind() == Kind::Datagram && self.look.is_none() {
            self.look = Some(Instant::now() + LOOK);
        }
    }

    /// Keeps the answer to a call that was started, or has it told; any other is late, repeated or foreign,
    /// and is dropped. So many calls wait `elsewhere`.
    #[inline(never)]
    fn keep(&mut self, datagram: Datagram, elsewhere: usize) {
        // The server reads again when it has sent.
        self.send_cancels();
        let text = self.inbox.text(&datagram);
        let Some(id) = self.whose(text, elsewhere) else {
            return;
        };
        let Entry::Occupied(mut started) = self.started.entry(id) else {
            return;
        };
        let depth = self.line.bounds().depth;
        let held = || Held {
            text: text.to_vec(),
            depth,
            fds: datagram.fds,
            damage: datagram.damage,
            last: true,
        };
        match started.get_mut() {
            Started::Come(_) => {}
            Started::Waiting(waker) => {
                let waker = waker.take();
                started.insert(Started::Come(Ok(held())));
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
                if !frames.push(held().part(), self.line.bounds().message) {
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

    /// Says whether no call is in flight.
    #[cfg(all(test, feature = "derive"))]
    pub(super) fn is_idle(&self) -> bool {
        self.started.is_empty() && self.cancelled.is_empty()
    }

    /// Says which call a datagram answers. What cannot be read, here or at the server, is about the only call
    /// there is, if there is only one.
    fn whose(&self, text: &[u8], elsewhere: usize) -> Option<u64> {
        let only = || {
            let mut open = self.started.iter().filter(|(_, call)| call.is_open());
            let (first, second) = (open.next(), open.next());
            let sole = second.is_none() && elsewhere == 0 && !self.notified;
            first.map(|(id, _)| *id).filter(|_| sole)
        };
        let Ok(envelope) = Envelope::open(text, self.line.bounds().depth) else {
            // The id can often be read all the same, and who waits for it has to know.
            return match envelope::find_id(text) {
                Some(Id::Number(id)) => Some(id),
                Some(Id::Text(_)) => None,
                None => only(),
            };
        };
        match envelope.id() {
            Some(Id::Number(id)) => Some(*id),
            None if envelope.has_null_id() && envelope.part() == Some(Part::Error) => only(),
            _ => None,
        }
    }

    /// Says whether the answer to a call has come and is kept, or why there is none.
    pub(super) fn has_come(&self, id: u64) -> bool {
        matches!(self.started.get(&id), Some(Started::Come(_)))
    }

    /// Has `tell` told of the answer to a call that was started; soon, if it has come already.
    fn tell(&mut self, id: u64, deadline: Option<Instant>, tell: Tell) {
        match self.started.remove(&id) {
            Some(Started::Come(come)) => self.ready.push(Box::new(move || tell(come))),
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
    fn tell_each(&mut self, id: u64, tell: TellEach) {
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
            let datagram = match self.hear(deadline) {
                Ok(datagram) => datagram,
                Err(Error::Closed) => continue,
                Err(Error::Deadline) => return Err(Error::Deadline),
                Err(error) => return Err(self.give_up(id, error)),
            };
            let (text, depth) = (self.inbox.text(&datagram), self.line.bounds().depth);
            if let Whose::Unreadable(error) = answers(text, depth, id, false) {
                let error = datagram.damage.unwrap_or(Error::Decode(error));
                return Err(self.give_up(id, error));
            }
            self.keep(datagram, 0);
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

    /// Does what a loop had come for while somebody was here.
    fn take_in_for_loop(&mut self) {
        // What is left is for its next turn, and so is trouble.
        if let Ok(true) = self.take_in() {
            self.look = Some(Instant::now());
        }
        self.expire();
    }

    /// When the next call expires that somebody is to be told of, or it is time to look for the server, or again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let look = self.look.filter(|_| self.is_awaited());
        self.deadlines().map(|(at, _)| at).chain(look).min()
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
                    self.started.insert(id, Started::Come(Err(Error::Closed)));
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
        let answer = self.wait_for(id, deadline);
        if matches!(answer, Err(CallError::Stream)) {
            self.cancel(id);
        }
        answer
    }

    fn wait_for<T: Message, E: Message>(
        &mut self,
        id: u64,
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        // Looking into an empty map costs a hash.
        if !self.started.is_empty() {
            if let Some(Started::Come(come)) = self.started.remove(&id) {
                return come.map_err(CallError::from_error)?.read();
            }
        }
        loop {
            let datagram = match self.hear(deadline) {
                Ok(datagram) => datagram,
                Err(error) => return Err(CallError::from_error(self.give_up(id, error))),
            };
            // Whose fault it is when the id is `null` is plain only while there is one call to blame.
            let sole = !self.notified && self.started.is_empty();
            let depth = self.line.bounds().depth;
            match answers(self.inbox.text(&datagram), depth, id, sole) {
                Whose::Ours(envelope) => {
                    self.notified = false;
                    return match datagram.damage {
                        None => read(envelope, datagram.fds, Parts::One),
                        Some(damage) => Err(CallError::Io(damage)),
                    };
                }
                // Nothing says whose answer it should have been.
                Whose::Unreadable(error) => {
                    let error = datagram.damage.unwrap_or(Error::Decode(error));
                    return Err(CallError::Io(error));
                }
                Whose::Another => {}
            }
            self.keep(datagram, 1);
        }
    }

    /// Gives up a call of which nothing more is heard, unless that is over anyway.
    #[inline(never)]
    pub(super) fn give_up(&mut self, id: u64, error: Error) -> Error {
        if !matches!(error, Error::Closed) {
            self.cancel(id);
        }
        error
    }

    /// Waits until the answer to one of these calls has come, or will not come; says to which.
    pub(super) fn wait_any(
        &mut self,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let mut heard = Ok(());
        loop {
            if let Some(position) = ids.iter().position(|id| self.has_come(*id)) {
                return Ok(position);
            }
            heard?;
            heard = self.hear(deadline).map(|datagram| self.keep(datagram, 0));
        }
    }
}

/// What is left for whoever is at the exchange, by those who do not wait for it.
pub(super) enum Note {
    /// Nobody wants the answer to this call any more.
    Cancel(u64),
    /// Somebody wants to come in.
    Wake(Waker),
    /// A loop wants to take in what has come, and to end what is late.
    TakeIn,
    /// Somebody is to be told of the answer to this call, with its deadline.
    Tell(u64, Option<Instant>, Tell),
    /// The same of an answer in many parts.
    TellEach(u64, TellEach),
}

impl Inside for Exchange {
    type Note = Note;

    fn attend(&mut self, note: Note) {
        match note {
            Note::Cancel(id) => drop(self.cancel(id)),
            Note::Wake(waker) => waker.wake(),
            Note::TakeIn => self.take_in_for_loop(),
            Note::Tell(id, deadline, tell) => self.tell(id, deadline, tell),
            Note::TellEach(id, tell) => self.tell_each(id, tell),
        }
    }

    /// A loop may ask again and again while somebody is here.
    fn is_said(last: &Note, note: &Note) -> bool {
        matches!((last, note), (Note::TakeIn, Note::TakeIn))
    }

    fn take_ready(&mut self) -> Vec<Ready> {
        std::mem::take(&mut self.ready)
    }
}

/// Whose answer a datagram is.
enum Whose<'t> {
    Ours(Envelope<'t>),
    Another,
    Unreadable(DecodeError),
}

/// Finds out whether a datagram answers this call. A fault about something that the server could not read
/// does if this is the `sole` call that it can be about.
fn answers(text: &[u8], depth: Depth, id: u64, sole: bool) -> Whose<'_> {
    let envelope = match Envelope::open(text, depth) {
        Ok(envelope) => envelope,
        Err(fault) => {
            return match envelope::find_id(text) {
                Some(found) if found != Id::Number(id) => Whose::Another,
                _ => Whose::Unreadable(envelope::unreadable(text, depth, &fault)),
            };
        }
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
