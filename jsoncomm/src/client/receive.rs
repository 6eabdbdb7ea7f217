//! Receiving replies.
//!
//! The leader stores what belongs to other calls in their slots. It hands over when its own reply has come, and before
//! user code runs: a callback, a waker or the decoding of a reply.

use std::sync::MutexGuard;
use std::time::Instant;

use super::leader::{Delivered, Leader};
use super::notify::Listener;
use super::reply::{Parts, open_reply, read, read_reply};
use super::table::{CHECK_INTERVAL, Shared, Table, recycle};
use crate::error::{CallError, Error};
use crate::message::Message;
use crate::sys::OsError;
use crate::transport::{Datagram, ReceiveOutcome};

/// How many datagrams are received in a row without waiting: as many as in one turn of a server.
const TURN: usize = 32;

/// Until when a call waits for its reply.
#[derive(Clone, Copy)]
enum Until {
    /// It does not wait.
    Now,
    Deadline(Option<Instant>),
}

impl Shared {
    /// Waits for the reply to a call that has been sent. The call is over afterwards.
    pub(super) fn wait_for_reply<'s, T: Message, E: Message>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        id: u64,
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        loop {
            let received = match self.lead_or_follow(table, &[id], deadline) {
                Ok(Some(leader)) => self.receive_reply(leader, id, Until::Deadline(deadline)),
                Ok(None) => Ok(None),
                Err(why) => Err(why),
            };
            match received {
                Ok(Some(reply)) => return reply,
                Ok(None) => {}
                Err(why) => {
                    self.cancel(id);
                    return Err(CallError::from_error(why));
                }
            }
            table = self.lock();
            if let Some(entry) = table.pop(id) {
                drop(table);
                return read_reply(entry);
            }
        }
    }

    /// Returns the reply to a call if it has come; never waits. The call is over then.
    pub(super) fn try_reply<T: Message, E: Message>(
        &self,
        id: u64,
    ) -> Option<Result<T, CallError<E>>> {
        for _ in 0..TURN {
            let mut table = self.lock();
            if let Some(entry) = table.pop(id) {
                drop(table);
                return Some(read_reply(entry));
            }
            let leader = self.try_lead(&mut table)?;
            drop(table);
            match self.receive_reply(leader, id, Until::Now) {
                Ok(Some(reply)) => return Some(reply),
                Ok(None) => {}
                Err(Error::Deadline) => {
                    let next_check = self.lock().next_check;
                    if next_check.is_none_or(|at| Instant::now() < at) {
                        break;
                    }
                    // Checks the server. An error shows in the slots, or when the next datagram is received.
                    let _ = self.drain();
                }
                Err(why) => {
                    self.cancel(id);
                    return Some(Err(CallError::from_error(why)));
                }
            }
        }
        None
    }

    /// Receives for all until the reply to this call has come, which is decoded where it was received, without a copy.
    fn receive_reply<T: Message, E: Message>(
        &self,
        mut leader: Leader<'_>,
        id: u64,
        until: Until,
    ) -> Result<Option<Result<T, CallError<E>>>, Error> {
        loop {
            let received = match until {
                Until::Now => leader.try_receive(),
                Until::Deadline(deadline) => leader.receive_by(deadline),
            };
            let datagram = match received {
                Ok(ReceiveOutcome::Datagram(datagram)) => datagram,
                other => return self.stop_receiving(leader, other).map(|()| None),
            };
            let depth = leader.transport.bounds.depth;
            if let Some(envelope) = open_reply(leader.inbox.text(&datagram), depth, id) {
                let slot = leader.leadership.hand_over(|table| {
                    table.notified = false;
                    table.calls.remove(&id)
                });
                // The table is unlocked: the slot may have a waker.
                drop(slot);
                let reply = match datagram.damage {
                    None => read(envelope, datagram.fds, Parts::One),
                    Some(damage) => Err(CallError::Io(damage)),
                };
                let mut table = self.lock();
                recycle(&mut table.inboxes, leader.inbox);
                if matches!(reply, Err(CallError::Stream)) {
                    table.to_cancel.push(id);
                    table.send_cancels();
                }
                return Ok(Some(reply));
            }
            match self.pass_on(leader, datagram, &[id]) {
                Some(still) => leader = still,
                None => return Ok(None),
            }
        }
    }

    /// Stops leading because no datagram was received. Succeeds if the server has closed, which ends all calls.
    #[inline(never)]
    fn stop_receiving(
        &self,
        leader: Leader<'_>,
        received: Result<ReceiveOutcome, OsError>,
    ) -> Result<(), Error> {
        if let Ok(ReceiveOutcome::Closed) = received {
            self.close(leader);
            return Ok(());
        }
        leader.leave();
        received?;
        Err(Error::Deadline)
    }

    /// Stores a datagram in the slot of its call, or of each of its calls, and notifies the listeners there. Returns the
    /// leader, unless it had to hand over because that runs user code, or because a call is one of these.
    fn pass_on<'s>(
        &self,
        mut leader: Leader<'s>,
        datagram: Datagram,
        ids: &[u64],
    ) -> Option<Leader<'s>> {
        match leader.deliver_batch(&datagram) {
            Some(delivered) => self.notify_delivered(leader, delivered, ids),
            None => {
                let (delivered, refused) = leader.deliver(datagram);
                self.notify_delivered(leader, delivered.into_iter().chain(refused), ids)
            }
        }
    }

    fn notify_delivered<'s>(
        &self,
        leader: Leader<'s>,
        delivered: impl IntoIterator<Item = Delivered>,
        ids: &[u64],
    ) -> Option<Leader<'s>> {
        let mut leader = Some(leader);
        for (id, listener) in delivered {
            let user_code = listener.as_ref().is_some_and(Listener::runs_user_code);
            if user_code || ids.contains(&id) {
                leader.take().into_iter().for_each(Leader::leave);
            }
            if let Some(listener) = listener {
                listener.notify(self);
            }
        }
        leader
    }

    /// Waits until one of these calls has an entry or is not in flight, and returns its index.
    pub(super) fn wait_for_any(
        &self,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        self.check_process()?;
        loop {
            let table = self.lock();
            if let Some(index) = ids.iter().position(|id| table.is_ready(*id)) {
                return Ok(index);
            }
            let mut leader = self.lead_or_follow(table, ids, deadline)?;
            while let Some(mut leading) = leader.take() {
                match leading.receive_by(deadline) {
                    Ok(ReceiveOutcome::Datagram(datagram)) => {
                        leader = self.pass_on(leading, datagram, ids);
                    }
                    other => self.stop_receiving(leading, other)?,
                }
            }
        }
    }

    /// Makes this thread the leader for one drain. If there is a leader, notes that the drain was skipped.
    fn lead_drain(&self) -> Option<Leader<'_>> {
        let mut table = self.lock();
        let leader = self.try_lead(&mut table);
        table.drain_skipped = leader.is_none();
        if leader.is_some() {
            table.drain_failed = false;
        } else if table.next_check.is_some_and(|at| at <= Instant::now()) {
            // The leader checks the server as well, so an event loop is not due at once again.
            table.next_check = Some(Instant::now() + CHECK_INTERVAL);
        }
        leader
    }

    /// Receives what has come, for one turn at most; never waits. Returns true if there may be more, and false also if another
    /// thread receives. [`Error::Closed`] means that the server has closed; all calls have ended.
    pub(super) fn drain(&self) -> Result<bool, Error> {
        let mut leader = None;
        let mut gone = false;
        for _ in 0..TURN {
            let Some(mut leading) = leader.take().or_else(|| self.lead_drain()) else {
                return Ok(false);
            };
            match leading.try_receive() {
                Ok(ReceiveOutcome::Datagram(datagram)) => {
                    leader = self.pass_on(leading, datagram, &[]);
                }
                Ok(ReceiveOutcome::Empty) if !gone => {
                    gone = self.server_is_due_and_gone(&leading.transport);
                    if !gone {
                        leading.leave();
                        return Ok(false);
                    }
                    // It may have replied just before it closed.
                    leader = Some(leading);
                }
                Ok(ReceiveOutcome::Closed | ReceiveOutcome::Empty) => {
                    self.close(leading);
                    return Err(Error::Closed);
                }
                failed @ (Ok(ReceiveOutcome::Exhausted) | Err(_)) => {
                    leading.leave();
                    let mut table = self.lock();
                    // No event says when to try again.
                    table.next_check = Some(Instant::now() + CHECK_INTERVAL);
                    table.drain_failed = true;
                    failed?;
                    return Ok(false);
                }
            }
        }
        if let Some(leader) = leader {
            leader.leave();
        }
        // The next drain receives the rest from a server that is gone.
        if gone {
            self.lock().next_check = Some(Instant::now());
        }
        Ok(true)
    }

    /// Ends all calls, since no reply will come, and notifies their listeners.
    #[inline(never)]
    fn close(&self, leader: Leader<'_>) {
        let listeners = self.lock().end_all(self.is_driven());
        leader.leave();
        self.notify_all(listeners);
    }
}
