//! The leader/follower pattern: of the threads that wait for replies, one leads and receives for all.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::notify::Listener;
use super::reply::{BufferedReply, Target, target};
use super::table::{CHECK_INTERVAL, Shared, Table, recycle};
use super::time_left;
use crate::envelope;
use crate::error::Error;
use crate::fds::Fds;
use crate::sys::OsError;
use crate::sys::control::Wait;
use crate::transport::{Datagram, Inbox, Kind, ReceiveOutcome, Transport};

/// After the server is gone, at most this many queued datagrams are read. A socket's queue is shorter (`max_dgram_qlen` in
/// [unix(7)]), so all its last replies are among them.
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
const REMAINING_MAX: usize = 1024;

/// A call for which something was stored, and what to notify.
pub(super) type Delivered = (u64, Option<Listener>);

/// The right to receive for all. It is handed over when dropped, also by a panic.
pub(super) struct Leadership<'s>(&'s Shared);

impl Leadership<'_> {
    /// Hands over after `before`, with the table locked once for both.
    pub(super) fn hand_over<R>(self, before: impl FnOnce(&mut Table) -> R) -> R {
        // `ManuallyDrop`, because `drop` hands over too.
        ManuallyDrop::new(self).0.hand_over(before)
    }
}

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        self.0.hand_over(|_| ());
    }
}

/// A thread that receives for all.
pub(super) struct Leader<'s> {
    pub(super) leadership: Leadership<'s>,
    pub(super) transport: Arc<Transport>,
    pub(super) inbox: Box<Inbox>,
    busy_polls: bool,
    /// When to check that a datagram server still exists.
    next_check: Option<Instant>,
    /// The server is gone: how many datagrams are still received, without waiting.
    remaining: Option<usize>,
}

impl<'s> Leader<'s> {
    fn new(shared: &'s Shared, table: &mut Table) -> Self {
        let inbox = table.inboxes.pop();
        Self {
            leadership: Leadership(shared),
            transport: Arc::clone(&table.transport),
            inbox: inbox.unwrap_or_else(|| Box::new(Inbox::of_one_peer())),
            busy_polls: table.busy_poll.is_enabled(),
            next_check: None,
            remaining: None,
        }
    }

    /// Stops leading.
    pub(super) fn leave(self) {
        let inbox = self.inbox;
        self.leadership
            .hand_over(|table| recycle(&mut table.inboxes, inbox));
    }

    pub(super) fn try_receive(&mut self) -> Result<ReceiveOutcome, OsError> {
        self.transport.receive(&mut self.inbox, Wait::Never)
    }

    pub(super) fn receive_by(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<ReceiveOutcome, OsError> {
        if self.busy_polls {
            match self.busy_poll(deadline)? {
                ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => {}
                received => return Ok(received),
            }
        }
        if self.transport.kind == Kind::Datagram {
            return self.receive_and_check(deadline);
        }
        self.transport
            .receive_by(&mut self.inbox, deadline, Instant::now())
    }

    /// Receives from a datagram server, and checks from time to time that it still exists, even if other
    /// processes keep sending to this socket.
    fn receive_and_check(&mut self, deadline: Option<Instant>) -> Result<ReceiveOutcome, OsError> {
        loop {
            if let Some(remaining) = &mut self.remaining {
                // The server may have replied just before it closed.
                if *remaining == 0 {
                    return Ok(ReceiveOutcome::Closed);
                }
                *remaining -= 1;
                return Ok(match self.try_receive()? {
                    ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => ReceiveOutcome::Closed,
                    received => received,
                });
            }
            let now = Instant::now();
            let check = *self.next_check.get_or_insert(now + CHECK_INTERVAL);
            let until = deadline.map_or(check, |at| at.min(check));
            let mut gone = false;
            if now < check {
                match self
                    .transport
                    .receive_by(&mut self.inbox, Some(until), now)?
                {
                    ReceiveOutcome::Empty if Some(until) != deadline => {}
                    ReceiveOutcome::Empty => {
                        // The deadline came before this thread's check. If every call is that short, no thread gets to
                        // check, so the connection's shared timer is asked.
                        gone = self.leadership.0.server_is_due_and_gone(&self.transport);
                        if !gone {
                            return Ok(ReceiveOutcome::Empty);
                        }
                    }
                    received => return Ok(received),
                }
            }
            self.next_check = None;
            if gone || self.leadership.0.server_is_gone(&self.transport) {
                self.remaining = Some(REMAINING_MAX);
            }
        }
    }

    /// Polls for a datagram without sleeping, if that is [worth it](crate::busy_poll).
    #[inline(never)]
    fn busy_poll(&mut self, deadline: Option<Instant>) -> Result<ReceiveOutcome, OsError> {
        let Some(until) = self.leadership.0.lock().busy_poll.next_deadline() else {
            return Ok(ReceiveOutcome::Empty);
        };
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        let mut received = self.try_receive()?;
        while matches!(received, ReceiveOutcome::Empty | ReceiveOutcome::Exhausted)
            && Instant::now() < until
        {
            std::hint::spin_loop();
            received = self.try_receive()?;
        }
        let found = matches!(received, ReceiveOutcome::Datagram(_));
        self.leadership.0.lock().busy_poll.record(found);
        Ok(received)
    }

    /// Stores a datagram that has just been received for its call, or a fault that refuses a batch for each of its calls.
    #[inline(never)]
    pub(super) fn deliver(&mut self, datagram: Datagram) -> (Option<Delivered>, Vec<Delivered>) {
        let depth = self.transport.bounds.depth;
        let Some((target, more)) = target(self.inbox.text(&datagram), depth) else {
            return (None, Vec::new());
        };
        let reply = BufferedReply {
            text: self.inbox.take_text(&datagram),
            depth,
            fds: datagram.fds,
            damage: datagram.damage,
            more,
        };
        let mut refused = Vec::new();
        if target == Target::Unknown {
            refused = self.leadership.0.lock().only_batch();
        }
        if refused.is_empty() {
            return (self.store(target, reply), Vec::new());
        }
        let store = |id| self.store(Target::Call(id), reply.copy());
        let refused = refused.into_iter().filter_map(store);
        (None, callbacks_last(refused.collect()))
    }

    /// Stores the elements of a batch, each for its call. They have no descriptors, and those that are no
    /// replies are dropped. Returns `None` for any other text, and for an array of nothing that can be read.
    #[inline]
    pub(super) fn deliver_batch(&mut self, datagram: &Datagram) -> Option<Vec<Delivered>> {
        let is_batch = envelope::is_batch(self.inbox.text(datagram));
        is_batch.then(|| self.deliver_elements(datagram))?
    }

    #[inline(never)]
    fn deliver_elements(&mut self, datagram: &Datagram) -> Option<Vec<Delivered>> {
        let depth = self.transport.bounds.depth;
        let text = self.inbox.text(datagram);
        let elements = envelope::split(text, usize::MAX).ok()?;
        let texts = elements.iter().filter_map(|at| text.get(at.clone()));
        let mut unreadable = 0;
        let delivered: Vec<_> = texts
            .filter_map(|text| {
                let (target, more) = target(text, depth)?;
                if target == Target::Unreadable {
                    unreadable += 1;
                    return None;
                }
                let reply = BufferedReply {
                    text: text.to_vec(),
                    depth,
                    fds: Fds::default(),
                    damage: None,
                    more,
                };
                self.store(target, reply)
            })
            .collect();
        (unreadable < elements.len()).then(|| callbacks_last(delivered))
    }

    fn store(&self, target: Target, reply: BufferedReply) -> Option<Delivered> {
        // Not `_`: dropped after the table is unlocked, since closing its descriptors may be slow.
        let (delivered, _rejected) = self.leadership.0.lock().deliver(target, reply);
        delivered
    }
}

/// Sorts what several calls are notified by: a callback may wait for a thread that is notified too.
fn callbacks_last(mut delivered: Vec<Delivered>) -> Vec<Delivered> {
    delivered.sort_by_key(|(_, listener)| listener.as_ref().map(Listener::is_callback));
    delivered
}

impl Shared {
    /// Makes this thread the leader if there is none.
    pub(super) fn try_lead(&self, table: &mut Table) -> Option<Leader<'_>> {
        let led = std::mem::replace(&mut table.has_leader, true);
        (!led).then(|| Leader::new(self, table))
    }

    /// Makes this thread the leader. If there is one, waits until it hands over to this thread. Returns `None` if one of these
    /// calls may have an entry.
    pub(super) fn lead_or_follow<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<Option<Leader<'s>>, Error> {
        match self.try_lead(&mut table) {
            Some(leader) => Ok(Some(leader)),
            None => self.follow(table, ids, deadline),
        }
    }

    #[inline(never)]
    fn follow<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<Option<Leader<'s>>, Error> {
        let follower = Arc::new(Condvar::new());
        let listen = |id: &u64| table.listen(*id, Listener::Thread(Arc::clone(&follower)), None);
        let replaced: Vec<_> = ids.iter().filter_map(listen).collect();
        if replaced.iter().any(Listener::runs_user_code) {
            // Tasks have polled these calls before. Dropping their wakers may make calls, so that happens with the table
            // unlocked and before this thread can be chosen as the leader.
            drop(table);
            return Ok(None);
        }
        table.followers.push_back(Arc::clone(&follower));
        loop {
            let chosen = table.chosen.take_if(|other| Arc::ptr_eq(other, &follower));
            if chosen.is_some() {
                return Ok(Some(Leader::new(self, &mut table)));
            }
            let ready = ids.iter().any(|id| table.is_ready(*id));
            let left = time_left(deadline).unwrap_or(Duration::MAX);
            if ready || left.is_zero() {
                table.remove_follower(&follower);
                return ready.then_some(None).ok_or(Error::Deadline);
            }
            let waited = follower.wait_timeout(table, left);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Chooses the next leader after `before` and wakes it, with the table locked once for both.
    fn hand_over<R>(&self, before: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.lock();
        let result = before(&mut table);
        table.chosen = table.followers.pop_front();
        table.has_leader = table.chosen.is_some();
        let next = table.chosen.clone();
        drop(table);
        if let Some(next) = next {
            next.notify_one();
        }
        result
    }
}
