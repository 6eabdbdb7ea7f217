//! The table of calls in flight, which the threads of a connection share.
//!
//! Its lock is held for moves and for sending without waiting, never while code of the program runs.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connector::Connector;
use super::leader::Receiver;
use super::notify::{Listener, Notification, Seat};
use super::reply::{About, Kept};
use super::slot::Slot;
use crate::busy_poll::BusyPoll;
use crate::envelope;
use crate::error::Error;
use crate::sys::control::Wait;
use crate::sys::process::Origin;
use crate::transport::{Kind, SendAttempt, Transport};

/// How often a client looks whether a datagram server is still there, while a call waits for it: the kernel says
/// nothing by itself. Also how soon it tries again to receive what could not be received.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// So many buffers of each sort are kept for the next call: as many threads as often call at the same time.
const POOL: usize = 4;

/// What the clones of a connection share.
pub(super) struct Shared {
    /// The socket, for loops that wait for it.
    pub(super) fd: Arc<OwnedFd>,
    /// Where the server is; `None` when the socket came from elsewhere.
    pub(super) dial: Option<Connector>,
    /// An event loop drives the connection: starting a call never waits.
    driven: AtomicBool,
    /// The process that has made it, and counts its calls.
    origin: Origin,
    table: Mutex<Table>,
}

impl Shared {
    pub(super) fn new(line: Transport, dial: Option<Connector>, first_id: u64) -> Self {
        Self {
            fd: line.share_fd(),
            dial,
            driven: AtomicBool::new(false),
            origin: Origin::here(),
            table: Mutex::new(Table::new(line, first_id)),
        }
    }

    /// Refuses to be used in a forked child: it would use the same ids and receive the same replies as its parent, and
    /// the table may be locked by a thread that it does not have. So this comes before the table is locked for whatever
    /// the program does with a connection or a call.
    #[inline]
    pub(super) fn check_process(&self) -> Result<(), Error> {
        if self.origin.is_here() {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that is done under it panics and leaves it half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_driven(&self) {
        self.driven.store(true, Ordering::Relaxed);
    }

    /// Returns true if an event loop drives the connection.
    pub(super) fn is_driven(&self) -> bool {
        self.driven.load(Ordering::Relaxed)
    }
}

/// Calls in flight, and what is needed to send and to receive.
pub(super) struct Table {
    pub(super) line: Arc<Transport>,
    calls: HashMap<u64, Slot, BuildHasherDefault<OwnId>>,
    next_id: u64,
    /// Calls that were cancelled, and of which the server is still to be told.
    pub(super) cancelled: Vec<u64>,
    /// A call without an id has gone out since the last reply: a fault without one may be about that.
    pub(super) notified: bool,
    /// A thread receives, or has been chosen to.
    pub(super) led: bool,
    /// A loop could not receive, since a thread did: nothing reports again what that one leaves.
    pub(super) missed: bool,
    /// The kernel was short of memory for what has come: it is readable, and cannot be received.
    pub(super) short: bool,
    /// Threads that wait for replies while another receives, those that have waited longest first.
    pub(super) followers: VecDeque<Arc<Seat>>,
    /// When a loop is to receive again although nothing is readable, for the reasons of [`LOOK`].
    pub(super) look: Option<Instant>,
    /// When to receive before the next call is sent, on a datagram socket; `None` is now.
    pub(super) save_at: Option<Instant>,
    /// So many calls that find no room at a datagram server receive at once: the last has waited in vain.
    pub(super) crowded: u8,
    /// Whether to look for replies before sleeping.
    pub(super) spin: BusyPoll,
    /// Buffers for what is sent.
    texts: Vec<Vec<u8>>,
    /// Buffers for what is received.
    #[expect(
        clippy::vec_box,
        reason = "they are taken out and put back by each call"
    )]
    receivers: Vec<Box<Receiver>>,
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

impl Table {
    fn new(line: Transport, first_id: u64) -> Self {
        Self {
            line: Arc::new(line),
            calls: HashMap::default(),
            next_id: first_id,
            cancelled: Vec::new(),
            notified: false,
            led: false,
            missed: false,
            short: false,
            followers: VecDeque::new(),
            look: None,
            save_at: None,
            crowded: 0,
            spin: BusyPoll::default(),
            texts: Vec::new(),
            receivers: Vec::new(),
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        // After 2^52 calls from a start below it, every JSON reader still holds the id exactly.
        self.next_id += 1;
        id
    }

    /// Changes what is known about the socket. A thread that is receiving goes by the old until it has.
    pub(super) fn change_line(&mut self, change: impl FnOnce(&mut Transport)) {
        let mut line = Transport::clone(&self.line);
        change(&mut line);
        self.line = Arc::new(line);
    }

    /// Notes that a loop could not receive, since a thread did. That one looks for the server, too, so it is not due at
    /// once again.
    pub(super) fn miss(&mut self, now: Instant) {
        self.missed = true;
        if self.look.is_some_and(|at| at <= now) {
            self.look = Some(now + LOOK);
        }
    }

    /// Takes a buffer to write a call into.
    pub(super) fn take_text(&mut self) -> Vec<u8> {
        self.texts.pop().unwrap_or_default()
    }

    pub(super) fn give_text(&mut self, text: Vec<u8>) {
        if self.texts.len() < POOL {
            self.texts.push(text);
        }
    }

    /// Takes a buffer to receive into.
    pub(super) fn take_receiver(&mut self) -> Box<Receiver> {
        match self.receivers.pop() {
            Some(mut receiver) => {
                receiver.set_line(&self.line);
                receiver
            }
            None => Box::new(Receiver::new(&self.line)),
        }
    }

    pub(super) fn give_receiver(&mut self, receiver: Box<Receiver>) {
        if self.receivers.len() < POOL {
            self.receivers.push(receiver);
        }
    }

    /// Enters a call that has been sent.
    pub(super) fn insert(&mut self, id: u64, slot: Slot) {
        self.calls.insert(id, slot);
        if self.line.kind() == Kind::Datagram && self.look.is_none() {
            self.look = Some(Instant::now() + LOOK);
        }
    }

    /// Removes a call.
    pub(super) fn remove(&mut self, id: u64) -> Option<Slot> {
        self.calls.remove(&id)
    }

    /// Takes what is kept for a call, the oldest first. A call that has ended is removed with its last.
    pub(super) fn pop(&mut self, id: u64) -> Option<Result<Kept, Error>> {
        let slot = self.calls.get_mut(&id)?;
        let kept = slot.pop();
        if slot.is_empty() && !slot.is_open() {
            self.calls.remove(&id);
        }
        kept
    }

    /// Returns true if waiting for a call has an end: something is kept for it, or it is not in flight.
    pub(super) fn is_due(&self, id: u64) -> bool {
        self.calls.get(&id).is_none_or(|slot| !slot.is_empty())
    }

    /// Returns true if something is kept for a call.
    pub(super) fn has_kept(&self, id: u64) -> bool {
        self.calls.get(&id).is_some_and(|slot| !slot.is_empty())
    }

    /// Sets who is notified when something is kept for a call, or at the deadline. Returns the notification if something
    /// is kept already, and the listener before.
    pub(super) fn listen(
        &mut self,
        id: u64,
        listener: Listener,
        deadline: Option<Instant>,
    ) -> (Option<Notification>, Listener) {
        let Some(slot) = self.calls.get_mut(&id) else {
            return (None, listener);
        };
        slot.deadline = deadline;
        let before = std::mem::replace(&mut slot.listener, listener);
        let now = (!slot.is_empty()).then(|| slot.notification(id));
        (now.flatten(), before)
    }

    /// Keeps a reply in the slot of its call; any other is late, repeated or foreign, and is left to be dropped with the
    /// table unlocked: its descriptors may be slow to close. Returns which call that is, and whom to notify.
    pub(super) fn keep(
        &mut self,
        about: About,
        kept: &mut Option<Kept>,
    ) -> Option<(u64, Option<Notification>)> {
        // The server reads again when it has sent.
        self.send_cancels();
        let id = match about {
            About::Call(id) => id,
            About::Unknown if self.notified => return None,
            About::Unknown | About::Unreadable => self.only_open()?,
            About::Nothing => return None,
        };
        let slot = self.calls.get_mut(&id)?;
        // The reply may be the first part of a stream that nobody expects.
        let unexpected = slot.is_open() && !slot.is_many() && kept.as_ref()?.more == Some(true);
        if !slot.keep(kept, self.line.bounds().message) || unexpected {
            self.cancelled.push(id);
        }
        let notification = slot.notification(id);
        if let Some(Notification::Thread(seat)) = &notification {
            let seat = Arc::clone(seat);
            self.unfollow(&seat);
        }
        self.send_cancels();
        Some((id, notification))
    }

    /// The only call that a reply may still come for, if there is only one.
    fn only_open(&self) -> Option<u64> {
        let mut open = self.calls.iter().filter(|(_, slot)| slot.is_open());
        let (first, second) = (open.next(), open.next());
        first.map(|(id, _)| *id).filter(|_| second.is_none())
    }

    /// Ends all calls: no reply will come. Returns whom to notify.
    #[must_use]
    pub(super) fn end_all(&mut self) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for (id, slot) in &mut self.calls {
            if slot.is_open() {
                slot.end(Error::Closed);
                notifications.extend(slot.notification(*id));
            }
        }
        // All that wait for a call have been notified; those that wait to lead are chosen in turn.
        for notification in &notifications {
            if let Notification::Thread(seat) = notification {
                self.followers.retain(|other| !Arc::ptr_eq(other, seat));
            }
        }
        notifications
    }

    /// Ends the calls with a callback whose deadline has passed. Returns whom to notify: tasks see the time.
    #[must_use]
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for (id, slot) in &mut self.calls {
            if slot.deadline.is_none_or(|at| at > now) {
                continue;
            }
            slot.deadline = None;
            if matches!(slot.listener, Listener::Callback(_)) && slot.is_open() {
                slot.end(Error::Deadline);
                self.cancelled.push(*id);
            }
            notifications.extend(slot.notification(*id));
        }
        self.send_cancels();
        notifications
    }

    /// When the next listener is to be notified although nothing has come, or it is time to look for the server, or to
    /// receive again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let look = self.look.filter(|_| self.is_awaited());
        let deadlines = self.calls.values().filter_map(|slot| slot.deadline);
        deadlines.chain(look).min()
    }

    /// Returns true if calls are in flight that a reply may still come for.
    pub(super) fn is_awaited(&self) -> bool {
        self.calls.values().any(Slot::is_open)
    }

    /// Returns true if no call is in flight.
    pub(super) fn has_none(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns true if no call is in flight, and none is left to be cancelled.
    #[cfg(all(test, feature = "derive"))]
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.cancelled.is_empty()
    }

    /// Removes a thread from those that wait while another receives.
    pub(super) fn unfollow(&mut self, seat: &Arc<Seat>) {
        self.followers.retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// Chooses the thread that receives next; returns it to be notified. If none waits, whoever comes does.
    #[must_use]
    pub(super) fn hand_over(&mut self) -> Option<Notification> {
        let next = self.followers.pop_front();
        match &next {
            Some(seat) => seat.set_leads(),
            None => self.led = false,
        }
        next.map(Notification::Thread)
    }

    /// Tells the server which replies are not wanted any more. What finds no room is told later: a stream would go on
    /// for ever.
    #[inline]
    pub(super) fn send_cancels(&mut self) {
        if !self.cancelled.is_empty() {
            self.try_cancels();
        }
    }

    #[inline(never)]
    fn try_cancels(&mut self) {
        while let Some(id) = self.cancelled.last() {
            let mut text = Vec::new();
            envelope::write_cancel(&mut text, *id);
            let sent = self.line.send(&text, &[], None, Wait::Never);
            if let Ok(SendAttempt::Full | SendAttempt::Exhausted(_)) = sent {
                return;
            }
            self.cancelled.pop();
        }
    }
}
