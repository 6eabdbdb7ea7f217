//! The table of calls in flight, shared by all threads that use a connection.
//!
//! It is locked for moves and for sends that do not wait, never while user code runs.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::connector::Connector;
use super::notify::Listener;
use super::passed::Received;
use super::reply::{BufferedReply, Target};
use super::slot::{Entry, Slot};
use crate::busy_poll::BusyPoll;
use crate::envelope;
use crate::error::Error;
use crate::sys::control::Wait;
use crate::sys::lock;
use crate::sys::process::Origin;
use crate::transport::{Inbox, Kind, SendAttempt, Transport};

/// How often a client checks that a datagram server still exists while a call waits for it: the kernel does not report
/// its end. Also how soon a failed receive is tried again.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Buffers of each sort that are kept for the next call: as many as threads usually call at the same time.
const POOL: usize = 4;

/// What the clones of a connection share.
pub(super) struct Shared {
    /// The socket, for loops that wait for it.
    pub(super) fd: Arc<OwnedFd>,
    /// How to connect to the server again; `None` if the socket was passed in.
    pub(super) connector: Option<Connector>,
    /// An event loop drives the connection: starting a call never waits.
    pub(super) driven: AtomicBool,
    /// The process that has made the connection and numbers its calls.
    origin: Origin,
    next_id: AtomicU64,
    table: Mutex<Table>,
    /// Last, so that it is dropped after all else that has the socket.
    pub(super) received: Option<Received>,
}

impl Shared {
    pub(super) fn new(transport: Transport, connector: Option<Connector>, first_id: u64) -> Self {
        Self {
            fd: Arc::clone(&transport.fd),
            connector,
            driven: AtomicBool::new(false),
            origin: Origin::here(),
            next_id: AtomicU64::new(first_id),
            table: Mutex::new(Table::new(transport)),
            received: None,
        }
    }

    /// Refuses use in a forked child, which would use the same ids and receive the same replies as its parent. To be
    /// called before the table is locked: in the child, it may be locked by a thread that does not exist there.
    #[inline]
    pub(super) fn check_process(&self) -> Result<(), Error> {
        let here = self.origin.is_own_process();
        here.then_some(()).ok_or(Error::Forked)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that is done under the lock panics and leaves the table inconsistent.
        lock(&self.table)
    }

    /// Returns the id of the next call. It starts below 2^52: after 2^52 calls, every JSON reader still holds it exactly.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the oldest entry of a call. The table is unlocked afterwards.
    pub(super) fn pop(&self, id: u64) -> Option<Entry> {
        self.lock().pop(id)
    }

    /// Returns true if a call that is started waits for room: not if that would block an event loop.
    pub(super) fn waits_for_room(&self) -> bool {
        !self.is_driven() && !self.is_of_handler()
    }

    /// Returns true if the connection came in a call to a server.
    fn is_of_handler(&self) -> bool {
        self.received.as_ref().is_some_and(Received::is_of_handler)
    }

    /// Fails if a handler got the connection, and as many calls are in flight as may be: who sent it may never reply.
    #[inline]
    pub(super) fn check_in_flight(&self) -> Result<(), Error> {
        if self.received.is_some() && self.has_too_many_in_flight() {
            return Err(Error::Full);
        }
        Ok(())
    }

    #[inline(never)]
    fn has_too_many_in_flight(&self) -> bool {
        const IN_FLIGHT_MAX: usize = 64;
        self.is_of_handler() && self.lock().calls.len() >= IN_FLIGHT_MAX
    }

    /// Returns true if an event loop drives the connection.
    pub(super) fn is_driven(&self) -> bool {
        self.driven.load(Ordering::Relaxed)
    }
}

impl Drop for Shared {
    /// Sends what is still gathered, if there is room: calls without a reply, since each other has a handle.
    fn drop(&mut self) {
        if self.check_process().is_ok() {
            // An error is returned by `flush`, for those who ask.
            let _ = self.lock().try_batch();
        }
    }
}

/// The calls in flight, and what sending and receiving need.
pub(super) struct Table {
    /// The socket and its settings. A thread that is receiving uses the old ones until it has received.
    pub(super) transport: Arc<Transport>,
    pub(super) calls: HashMap<u64, Slot, BuildHasherDefault<IdHasher>>,
    /// Calls that are cancelled and whose server has not been told yet.
    pub(super) to_cancel: Vec<u64>,
    /// A call without an id has been sent since the last reply: a fault without one may be about it.
    pub(super) notified: bool,
    /// A thread is the leader, or has been chosen to be.
    pub(super) has_leader: bool,
    /// An event loop found another thread receiving. No event reports what that thread leaves in the socket.
    pub(super) drain_skipped: bool,
    /// The last drain failed, for lack of kernel memory for example: the socket is readable all the same.
    pub(super) drain_failed: bool,
    /// Threads that wait while another receives; the one that has waited longest comes first.
    pub(super) followers: VecDeque<Arc<Condvar>>,
    /// The follower that has been chosen as the leader, until it knows.
    pub(super) chosen: Option<Arc<Condvar>>,
    /// When an event loop has to receive even if nothing is readable; see [`CHECK_INTERVAL`].
    pub(super) next_check: Option<Instant>,
    /// When to drain a datagram socket before the next call is sent; `None` is now.
    pub(super) next_drain: Option<Instant>,
    /// How many more calls that find no room at a datagram server receive at once: waiting did not help the last.
    pub(super) congestion: u8,
    pub(super) busy_poll: BusyPoll,
    /// Calls that have not been sent.
    pub(super) batch: Batch,
    /// Buffers to encode into.
    pub(super) buffers: Vec<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "each call takes one out and puts it back")]
    pub(super) inboxes: Vec<Box<Inbox>>,
}

/// A hasher for ids: they are counted up by us, so no peer can choose them.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        // Fibonacci hashing: neighbours differ in the highest bits and in the lowest.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Puts a buffer back into its pool, unless that is full.
pub(super) fn recycle<T>(pool: &mut Vec<T>, buffer: T) {
    if pool.len() < POOL {
        pool.push(buffer);
    }
}

impl Table {
    fn new(transport: Transport) -> Self {
        Self {
            transport: Arc::new(transport),
            calls: HashMap::default(),
            to_cancel: Vec::new(),
            notified: false,
            has_leader: false,
            drain_skipped: false,
            drain_failed: false,
            followers: VecDeque::new(),
            chosen: None,
            next_check: None,
            next_drain: None,
            congestion: 0,
            busy_poll: BusyPoll::default(),
            batch: Batch::default(),
            buffers: Vec::new(),
            inboxes: Vec::new(),
        }
    }

    pub(super) fn is_datagram(&self) -> bool {
        self.transport.kind == Kind::Datagram
    }

    /// Returns true if a send can lose replies to other calls, and no leader receives them: if a datagram server is dead,
    /// a send has the kernel discard what the server sent before.
    pub(super) fn may_lose_replies(&self) -> bool {
        self.is_datagram() && !self.has_leader && !self.calls.is_empty()
    }

    /// Returns true if a call that finds no room waits for a while without receiving: the queue of a datagram server is full
    /// whenever it is busy. If that does not help, the server may itself be waiting for room, and the next calls receive at
    /// once.
    pub(super) fn postpones_receiving(&self) -> bool {
        self.is_datagram() && self.congestion == 0
    }

    /// Schedules the next check of a datagram server, since a call has been sent.
    pub(super) fn schedule_check(&mut self) {
        if self.is_datagram() && self.next_check.is_none() {
            self.next_check = Some(Instant::now() + CHECK_INTERVAL);
        }
    }

    /// Adds a call that has been sent or gathered.
    pub(super) fn insert(&mut self, id: u64) -> &mut Slot {
        self.schedule_check();
        self.calls.entry(id).or_default()
    }

    /// Takes the oldest entry of a call. A call that has ended is removed with its last entry.
    pub(super) fn pop(&mut self, id: u64) -> Option<Entry> {
        let slot = self.calls.get_mut(&id)?;
        let entry = slot.pop();
        if slot.is_empty() && slot.has_ended() {
            self.calls.remove(&id);
        }
        entry
    }

    /// Returns true if there is nothing to wait for: the call has an entry, or is not in flight.
    pub(super) fn is_ready(&self, id: u64) -> bool {
        self.calls.get(&id).is_none_or(|slot| !slot.is_empty())
    }

    pub(super) fn has_entry(&self, id: u64) -> bool {
        self.calls.get(&id).is_some_and(|slot| !slot.is_empty())
    }

    /// Sets what is notified of the next entry of a call, or at the deadline. Returns the listener that it replaces, or
    /// the new one if the call is not in flight; to be dropped with the table unlocked.
    #[must_use = "user code runs when it is dropped: unlock the table before"]
    pub(super) fn listen(
        &mut self,
        id: u64,
        listener: Listener,
        deadline: Option<Instant>,
    ) -> Option<Listener> {
        let Some(slot) = self.calls.get_mut(&id) else {
            return Some(listener);
        };
        slot.deadline = deadline;
        slot.listener.replace(listener)
    }

    /// Stores a reply in the slot of its call, unless it is late, repeated or foreign. Returns the call, and what to
    /// notify; and the reply if it was not stored, to be dropped with the table unlocked: closing its descriptors may be
    /// slow.
    pub(super) fn deliver(
        &mut self,
        target: Target,
        reply: BufferedReply,
    ) -> (Option<(u64, Option<Listener>)>, Option<BufferedReply>) {
        // The server reads again when it has sent.
        self.send_cancels();
        let id = match target {
            Target::Call(id) => Some(id),
            Target::Unknown if self.notified => None,
            Target::Unknown | Target::Unreadable => self.only_open(),
        };
        let slot = id.and_then(|id| Some((id, self.calls.get_mut(&id)?)));
        let Some((id, slot)) = slot.filter(|(_, slot)| !slot.gathered) else {
            return (None, Some(reply));
        };
        // It may be the first part of a stream that the caller does not expect.
        let unexpected = !slot.streamed && reply.more == Some(true);
        let open = slot.is_open();
        let rejected = slot.store(reply, self.transport.bounds.message).err();
        let listener = slot.take_listener();
        if let Some(Listener::Thread(follower)) = &listener {
            self.remove_follower(follower);
        }
        if open && (unexpected || rejected.is_some()) {
            self.to_cancel.push(id);
            self.send_cancels();
        }
        (Some((id, listener)), rejected)
    }

    /// Returns the call that a reply may still come for, if there is exactly one.
    fn only_open(&self) -> Option<u64> {
        let mut open = self.calls.iter().filter(|(_, slot)| slot.is_open());
        let (first, second) = (open.next(), open.next());
        first.map(|(id, _)| *id).filter(|_| second.is_none())
    }

    /// Ends all calls because the server has closed; those that are gathered only if asked to. Returns what to notify.
    #[must_use = "a listener that is not notified may wait for ever"]
    pub(super) fn end_all(&mut self, gathered: bool) -> Vec<Listener> {
        let mut listeners = Vec::new();
        for slot in self.calls.values_mut() {
            if slot.is_open() || gathered && slot.gathered {
                slot.end(Error::Closed);
                listeners.extend(slot.take_listener());
            }
        }
        if gathered {
            drop(self.batch.take());
        }
        // The followers that remain wait for no call but to lead, and are chosen in turn.
        for listener in &listeners {
            if let Listener::Thread(follower) = listener {
                self.remove_follower(follower);
            }
        }
        listeners
    }

    /// Ends the calls with a callback whose deadline has passed. Returns what to notify, tasks included: they check
    /// their deadline themselves.
    #[must_use = "a listener that is not notified may wait for ever"]
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Listener> {
        let mut listeners = Vec::new();
        for (id, slot) in &mut self.calls {
            if slot.deadline.is_none_or(|at| at > now) {
                continue;
            }
            slot.deadline = None;
            if matches!(slot.listener, Some(Listener::Callback(_))) && !slot.has_ended() {
                if slot.gathered {
                    self.batch.remove(*id);
                } else {
                    self.to_cancel.push(*id);
                }
                slot.end(Error::Deadline);
            }
            listeners.extend(slot.take_listener());
        }
        self.send_cancels();
        listeners
    }

    /// Returns when an event loop has to run although nothing is readable: for the deadline of a listener, or for
    /// [`next_check`](Table::next_check).
    pub(super) fn next_due(&self) -> Option<Instant> {
        let check = self.next_check.filter(|_| self.expects_reply());
        let deadlines = self.calls.values().filter_map(|slot| slot.deadline);
        deadlines.chain(check).min()
    }

    /// Returns true if a reply may still come for a call in flight.
    pub(super) fn expects_reply(&self) -> bool {
        self.calls.values().any(Slot::is_open)
    }

    pub(super) fn remove_follower(&mut self, follower: &Arc<Condvar>) {
        self.followers.retain(|other| !Arc::ptr_eq(other, follower));
    }

    /// Tells the server which calls are cancelled. Those that find no room are sent later: the server would send items
    /// of a stream for ever.
    #[inline]
    pub(super) fn send_cancels(&mut self) {
        if !self.to_cancel.is_empty() {
            self.try_cancels();
        }
    }

    #[inline(never)]
    fn try_cancels(&mut self) {
        while let Some(id) = self.to_cancel.last() {
            let mut text = Vec::new();
            envelope::write_cancel(&mut text, *id);
            let sent = self.transport.send(&text, &[], None, Wait::Never);
            if let Ok(SendAttempt::Full | SendAttempt::Exhausted(_)) = sent {
                return;
            }
            self.to_cancel.pop();
        }
    }
}
