//! The leader, which receives for all, and the threads that follow.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use super::notify::{Listener, Notification, Seat};
use super::reply::{About, Kept, about};
use super::table::{LOOK, Shared, Table};
use crate::error::Error;
use crate::sys::control::Wait;
use crate::transport::{Datagram, Inbox, Kind, ReceiveOutcome, Transport};

/// What is needed to receive.
pub(super) struct Receiver {
    pub(super) line: Arc<Transport>,
    pub(super) inbox: Inbox,
}

impl Receiver {
    pub(super) fn new(line: &Arc<Transport>) -> Self {
        Self {
            line: Arc::clone(line),
            inbox: Inbox::of_one_peer(),
        }
    }

    /// Has it receive by what is known about the socket now.
    pub(super) fn set_line(&mut self, line: &Arc<Transport>) {
        if !Arc::ptr_eq(&self.line, line) {
            self.line = Arc::clone(line);
        }
    }
}

/// Until when a thread receives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// It does not wait.
    Now,
    Deadline(Option<Instant>),
}

/// The right to receive for all; handed over when dropped, also by a panic.
pub(super) struct Lead<'s> {
    shared: &'s Shared,
    held: bool,
}

impl Lead<'_> {
    /// Hands over after `last` has been done, with the table locked once.
    pub(super) fn hand_over<R>(mut self, last: impl FnOnce(&mut Table) -> R) -> R {
        self.held = false;
        let mut table = self.shared.lock();
        let result = last(&mut table);
        let next = table.hand_over();
        drop(table);
        if let Some(next) = next {
            next.give(self.shared);
        }
        result
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if self.held {
            let next = self.shared.lock().hand_over();
            if let Some(next) = next {
                next.give(self.shared);
            }
        }
    }
}

/// A thread that receives for all.
pub(super) struct Leader<'s> {
    pub(super) lead: Lead<'s>,
    pub(super) receiver: Box<Receiver>,
    /// It may look for a while before it sleeps.
    spins: bool,
    /// When to look whether a datagram server is still there.
    look: Option<Instant>,
    /// The server is gone: so many datagrams are still received, without waiting.
    rest: Option<usize>,
}

impl<'s> Leader<'s> {
    pub(super) fn new(lead: Lead<'s>, table: &mut Table) -> Self {
        Self {
            lead,
            receiver: table.take_receiver(),
            spins: table.spin.is_enabled(),
            look: None,
            rest: None,
        }
    }

    pub(super) fn line(&self) -> &Transport {
        &self.receiver.line
    }

    /// Stops leading.
    pub(super) fn leave(self) {
        let Self { lead, receiver, .. } = self;
        lead.hand_over(|table| table.give_receiver(receiver));
    }

    /// Receives a datagram, if there is one before that time. [`Error::Closed`] says that no more will come,
    /// [`Error::Deadline`] that the time has passed.
    #[inline]
    pub(super) fn receive(&mut self, until: Until) -> Result<Option<Datagram>, Error> {
        match until {
            Until::Now => self.try_receive(),
            Until::Deadline(deadline) => self.receive_by(deadline).map(Some),
        }
    }

    fn try_receive(&mut self) -> Result<Option<Datagram>, Error> {
        let Receiver { line, inbox } = &mut *self.receiver;
        match line.receive(inbox, Wait::Never)? {
            ReceiveOutcome::Datagram(datagram) => Ok(Some(datagram)),
            ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => Ok(None),
            ReceiveOutcome::Closed => Err(Error::Closed),
        }
    }

    pub(super) fn receive_by(&mut self, deadline: Option<Instant>) -> Result<Datagram, Error> {
        if self.spins {
            if let Some(datagram) = self.spin(deadline)? {
                return Ok(datagram);
            }
        }
        if self.receiver.line.kind() == Kind::Datagram {
            return self.receive_or_look(deadline);
        }
        let Receiver { line, inbox } = &mut *self.receiver;
        line.receive_by(inbox, deadline, Instant::now())?
            .into_datagram()
    }

    /// Receives from a datagram server, and looks now and then whether it is still there, however much comes from
    /// elsewhere meanwhile.
    fn receive_or_look(&mut self, deadline: Option<Instant>) -> Result<Datagram, Error> {
        loop {
            if let Some(rest) = &mut self.rest {
                // It may have answered just before it went.
                if *rest == 0 {
                    return Err(Error::Closed);
                }
                *rest -= 1;
                return self.try_receive()?.ok_or(Error::Closed);
            }
            let now = Instant::now();
            let look = *self.look.get_or_insert(now + LOOK);
            if now < look {
                let until = deadline.map_or(look, |at| at.min(look));
                let Receiver { line, inbox } = &mut *self.receiver;
                match line.receive_by(inbox, Some(until), now)? {
                    ReceiveOutcome::Empty if Some(until) != deadline => {}
                    // However short each wait is.
                    ReceiveOutcome::Empty if self.lead.shared.finds_nobody(self.line()) => {
                        self.rest = Some(REST);
                        continue;
                    }
                    received => return received.into_datagram(),
                }
            }
            self.look = None;
            if self.lead.shared.is_deserted(&self.receiver.line) {
                self.rest = Some(REST);
            }
        }
    }

    /// Looks for a datagram before waiting for one, if that is [worth it](crate::busy_poll::BusyPoll).
    #[inline(never)]
    fn spin(&mut self, deadline: Option<Instant>) -> Result<Option<Datagram>, Error> {
        let shared = self.lead.shared;
        let Some(until) = shared.lock().spin.next_deadline() else {
            return Ok(None);
        };
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        let found = loop {
            match self.try_receive()? {
                None if Instant::now() < until => std::hint::spin_loop(),
                found => break found,
            }
        };
        shared.lock().spin.record(found.is_some());
        Ok(found)
    }

    /// Keeps a datagram that has just been received for its call. Returns which that is, and whom to notify.
    #[inline(never)]
    pub(super) fn keep(&mut self, datagram: Datagram) -> Option<(u64, Option<Notification>)> {
        let depth = self.receiver.line.bounds().depth;
        let (about, more) = about(self.receiver.inbox.text(&datagram), depth);
        if about == About::Nothing {
            return None;
        }
        let text = self.receiver.inbox.take_text(&datagram);
        let mut kept = Some(Kept {
            text,
            depth,
            fds: datagram.fds,
            damage: datagram.damage,
            more,
        });
        let mut table = self.lead.shared.lock();
        let found = table.keep(about, &mut kept);
        // What is not kept is dropped with the table unlocked.
        drop(table);
        found
    }
}

/// How many datagrams are received from a server that is gone. Its last are among so many: the kernel queues no more
/// for a socket unless `max_dgram_qlen` says so ([unix(7)]).
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
const REST: usize = 1024;

impl Shared {
    /// Makes this thread the leader, if there is none.
    pub(super) fn lead(&self, table: &mut Table) -> Option<Lead<'_>> {
        let free = !std::mem::replace(&mut table.led, true);
        // Not made in vain: it hands over when it is dropped.
        free.then(|| Lead {
            shared: self,
            held: true,
        })
    }

    /// Makes this thread the leader; if there is one, waits until it is chosen to be the next, or something has been
    /// kept for one of these calls.
    pub(super) fn lead_or_follow<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<Option<Leader<'s>>, Error> {
        let lead = match self.lead(&mut table) {
            Some(lead) => Some(lead),
            None => {
                let (again, lead) = self.follow(table, ids, deadline)?;
                table = again;
                lead
            }
        };
        Ok(lead.map(|lead| Leader::new(lead, &mut table)))
    }

    #[inline(never)]
    fn follow<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<(MutexGuard<'s, Table>, Option<Lead<'s>>), Error> {
        let seat = Arc::new(Seat::default());
        let listen = |id: &u64| {
            let listener = Listener::Thread(Arc::clone(&seat));
            table.listen(*id, listener, None).1
        };
        let before: Vec<_> = ids.iter().map(listen).collect();
        if before.iter().any(|of| matches!(of, Listener::Task(_))) {
            // The wakers of tasks that have polled before are dropped with the table unlocked. That may make calls, so
            // this thread must not be chosen meanwhile.
            drop(table);
            drop(before);
            table = self.lock();
            if ids.iter().any(|id| table.is_due(*id)) {
                return Ok((table, None));
            }
            if let Some(lead) = self.lead(&mut table) {
                return Ok((table, Some(lead)));
            }
        }
        table.followers.push_back(Arc::clone(&seat));
        loop {
            if seat.leads() {
                let lead = Lead {
                    shared: self,
                    held: true,
                };
                return Ok((table, Some(lead)));
            }
            if ids.iter().any(|id| table.is_due(*id)) {
                table.unfollow(&seat);
                return Ok((table, None));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                table.unfollow(&seat);
                return Err(Error::Deadline);
            }
            table = match left {
                None => seat
                    .condvar
                    .wait(table)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = seat.condvar.wait_timeout(table, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Waits until this thread is the leader.
    pub(super) fn wait_to_lead(&self, deadline: Option<Instant>) -> Result<Leader<'_>, Error> {
        loop {
            if let Some(leader) = self.lead_or_follow(self.lock(), &[], deadline)? {
                return Ok(leader);
            }
        }
    }

    /// Makes this thread the leader, with the table unlocked afterwards, if there is none.
    pub(super) fn try_to_lead<'s>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
    ) -> Result<Leader<'s>, MutexGuard<'s, Table>> {
        match self.lead(&mut table) {
            Some(lead) => {
                (table.missed, table.short) = (false, false);
                Ok(Leader::new(lead, &mut table))
            }
            None => Err(table),
        }
    }
}
