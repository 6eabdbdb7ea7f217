//! Receiving: of the threads that wait, one is the leader and receives for all; the others follow.
//!
//! A leader keeps what is for others in their slots, and hands over to the follower that has waited longest when its
//! own reply has come. Before code of the program runs, be it a callback or the decoding of a reply, it hands over, too.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use super::received::{About, Kept, Parts, about, open_reply, read};
use super::slot::{Listener, Notification, Seat};
use super::table::{LOOK, Shared, Table};
use crate::error::{CallError, Error};
use crate::message::Message;
use crate::sys::control::Wait;
use crate::transport::{Datagram, Heard, Inbox, Kind, Transport};

/// As many datagrams are received without waiting as a server takes in one turn.
const TURN: usize = 32;

/// What is needed to receive.
pub(super) struct Receiver {
    line: Arc<Transport>,
    inbox: Inbox,
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
    fn hand_over<R>(mut self, last: impl FnOnce(&mut Table) -> R) -> R {
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
    lead: Lead<'s>,
    receiver: Box<Receiver>,
    /// It may look for a while before it sleeps.
    spins: bool,
    /// When to look whether a datagram server is still there.
    look: Option<Instant>,
    /// The server is gone: so many datagrams are still received, without waiting.
    rest: Option<usize>,
}

impl<'s> Leader<'s> {
    fn new(lead: Lead<'s>, table: &mut Table) -> Self {
        Self {
            lead,
            receiver: table.take_receiver(),
            spins: table.spin.is_on(),
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
    fn receive(&mut self, until: Until) -> Result<Option<Datagram>, Error> {
        match until {
            Until::Now => self.try_receive(),
            Until::Deadline(deadline) => self.receive_by(deadline).map(Some),
        }
    }

    fn try_receive(&mut self) -> Result<Option<Datagram>, Error> {
        let Receiver { line, inbox } = &mut *self.receiver;
        match line.receive(inbox, Wait::Never)? {
            Heard::Datagram(datagram) => Ok(Some(datagram)),
            Heard::Pending | Heard::Short => Ok(None),
            Heard::Closed => Err(Error::Closed),
        }
    }

    fn receive_by(&mut self, deadline: Option<Instant>) -> Result<Datagram, Error> {
        if self.spins {
            if let Some(datagram) = self.spin(deadline)? {
                return Ok(datagram);
            }
        }
        if self.receiver.line.kind() == Kind::Datagram {
            return self.receive_or_look(deadline);
        }
        let Receiver { line, inbox } = &mut *self.receiver;
        line.receive_from(inbox, deadline, Instant::now())
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
                match line.receive_from(inbox, Some(until), now) {
                    Err(Error::Deadline) if Some(until) != deadline => {}
                    // However short each wait is.
                    Err(Error::Deadline) if self.lead.shared.finds_nobody(self.line()) => {
                        self.rest = Some(REST);
                        continue;
                    }
                    received => return received,
                }
            }
            self.look = None;
            if self.lead.shared.is_deserted(&self.receiver.line) {
                self.rest = Some(REST);
            }
        }
    }

    /// Looks for a datagram before waiting for one, if that is [worth it](crate::busy_poll::Spin).
    #[inline(never)]
    fn spin(&mut self, deadline: Option<Instant>) -> Result<Option<Datagram>, Error> {
        let shared = self.lead.shared;
        let Some(until) = shared.lock().spin.until() else {
            return Ok(None);
        };
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        let found = loop {
            match self.try_receive()? {
                None if Instant::now() < until => std::hint::spin_loop(),
                found => break found,
            }
        };
        shared.lock().spin.note(found.is_some());
        Ok(found)
    }

    /// Keeps a datagram that has just been received for its call. Returns which that is, and whom to notify.
    #[inline(never)]
    fn keep(&mut self, datagram: Datagram) -> Option<(u64, Option<Notification>)> {
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

/// How an attempt to receive the reply to a call ended.
enum Step<R> {
    Reply(R),
    /// Something was done for which this thread had to hand over, or the reply has been kept.
    Again,
    /// Nothing has come.
    Nothing,
}

impl Shared {
    /// Makes this thread the leader, if there is none.
    fn lead(&self, table: &mut Table) -> Option<Lead<'_>> {
        let free = !std::mem::replace(&mut table.led, true);
        // Not made in vain: it hands over when it is dropped.
        free.then(|| Lead {
            shared: self,
            held: true,
        })
    }

    /// Makes this thread the leader; if there is one, waits until it is chosen to be the next, or something has been
    /// kept for one of these calls.
    fn lead_or_follow<'s>(
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

    /// Waits for the reply to a call that has been sent. The call is over afterwards.
    pub(super) fn wait_for_reply<'s, T: Message, E: Message>(
        &'s self,
        mut table: MutexGuard<'s, Table>,
        id: u64,
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        loop {
            let leader = match self.lead_or_follow(table, &[id], deadline) {
                Ok(leader) => leader,
                Err(error) => return Err(CallError::from_error(self.give_up(id, error))),
            };
            if let Some(leader) = leader {
                match self.receive_reply(leader, id, Until::Deadline(deadline)) {
                    Step::Reply(reply) => return reply,
                    Step::Again | Step::Nothing => {}
                }
            }
            table = self.lock();
            if let Some(kept) = table.pop(id) {
                drop(table);
                return kept.map_err(CallError::from_error)?.read();
            }
        }
    }

    /// Looks for the reply to a call; never waits. The call is over if there is one.
    pub(super) fn try_reply<T: Message, E: Message>(
        &self,
        id: u64,
    ) -> Option<Result<T, CallError<E>>> {
        for _ in 0..TURN {
            let mut table = self.lock();
            if let Some(kept) = table.pop(id) {
                drop(table);
                return Some(match kept {
                    Ok(kept) => kept.read(),
                    Err(error) => Err(CallError::from_error(error)),
                });
            }
            let leader = self.lead(&mut table)?;
            let leader = Leader::new(leader, &mut table);
            drop(table);
            match self.receive_reply(leader, id, Until::Now) {
                Step::Reply(reply) => return Some(reply),
                Step::Again => {}
                Step::Nothing if self.look_for_server() => {}
                Step::Nothing => break,
            }
        }
        None
    }

    /// Receives for all until the reply to this call has come, which is read where it was received.
    fn receive_reply<T: Message, E: Message>(
        &self,
        mut leader: Leader<'_>,
        id: u64,
        until: Until,
    ) -> Step<Result<T, CallError<E>>> {
        loop {
            let datagram = match leader.receive(until) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => {
                    leader.leave();
                    return Step::Nothing;
                }
                Err(error) => return self.stop_receiving(leader, id, error),
            };
            let Receiver { line, inbox } = &*leader.receiver;
            if let Some(envelope) = open_reply(inbox.text(&datagram), line.bounds().depth, id) {
                let slot = leader.lead.hand_over(|table| {
                    table.notified = false;
                    table.remove(id)
                });
                // A waker in it is dropped with the table unlocked.
                drop(slot);
                let reply = match datagram.damage {
                    None => read(envelope, datagram.fds, Parts::One),
                    Some(damage) => Err(CallError::Io(damage)),
                };
                let mut table = self.lock();
                table.give_receiver(leader.receiver);
                if matches!(reply, Err(CallError::Stream)) {
                    table.cancelled.push(id);
                    table.send_cancels();
                }
                return Step::Reply(reply);
            }
            match self.pass_on(leader, datagram, &[id]) {
                Some(still) => leader = still,
                None => return Step::Again,
            }
        }
    }

    /// Keeps a datagram for its call, and has the program told. Returns the leader unless it had to hand over for
    /// that, or it is one of these calls.
    fn pass_on<'s>(
        &self,
        mut leader: Leader<'s>,
        datagram: Datagram,
        ids: &[u64],
    ) -> Option<Leader<'s>> {
        let Some((id, notification)) = leader.keep(datagram) else {
            return Some(leader);
        };
        let runs = notification
            .as_ref()
            .is_some_and(Notification::runs_user_code);
        let leader = if runs || ids.contains(&id) {
            leader.leave();
            None
        } else {
            Some(leader)
        };
        if let Some(notification) = notification {
            notification.give(self);
        }
        leader
    }

    /// Stops receiving because of an error. If the server is gone, the slot of the call says so.
    #[inline(never)]
    fn stop_receiving<T, E>(
        &self,
        leader: Leader<'_>,
        id: u64,
        error: Error,
    ) -> Step<Result<T, CallError<E>>> {
        if matches!(error, Error::Closed) {
            self.close(leader);
            return Step::Again;
        }
        leader.leave();
        Step::Reply(Err(CallError::from_error(self.give_up(id, error))))
    }

    /// Waits until something is kept for one of these calls. Returns its place, with the table locked.
    pub(super) fn wait_for_any(
        &self,
        ids: &[u64],
        deadline: Option<Instant>,
    ) -> Result<(MutexGuard<'_, Table>, usize), Error> {
        self.check_process()?;
        loop {
            let table = self.lock();
            if let Some(place) = ids.iter().position(|id| table.is_due(*id)) {
                return Ok((table, place));
            }
            let mut leader = self.lead_or_follow(table, ids, deadline)?;
            while let Some(mut leading) = leader.take() {
                leader = match leading.receive_by(deadline) {
                    Ok(datagram) => self.pass_on(leading, datagram, ids),
                    Err(Error::Closed) => {
                        self.close(leading);
                        None
                    }
                    Err(error) => {
                        leading.leave();
                        return Err(error);
                    }
                };
            }
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

    /// Receives what has come for at most a turn; never waits. Returns true if there may be more. While another thread
    /// receives, it does nothing.
    pub(super) fn take_in(&self) -> Result<bool, Error> {
        let mut leader = None;
        let mut gone = false;
        for _ in 0..TURN {
            let mut leading = match leader.take() {
                Some(leading) => leading,
                None => match self.try_to_lead(self.lock()) {
                    Ok(leading) => leading,
                    Err(mut table) => {
                        table.miss(Instant::now());
                        return Ok(false);
                    }
                },
            };
            let Receiver { line, inbox } = &mut *leading.receiver;
            match line.receive(inbox, Wait::Never) {
                Ok(Heard::Datagram(datagram)) => leader = self.pass_on(leading, datagram, &[]),
                Ok(Heard::Closed) => return Err(self.close(leading)),
                Ok(Heard::Pending) if gone => return Err(self.close(leading)),
                // It may have answered just before.
                Ok(Heard::Pending) if self.finds_nobody(leading.line()) => {
                    gone = true;
                    leader = Some(leading);
                }
                Ok(Heard::Pending) => {
                    leading.leave();
                    return Ok(false);
                }
                // No event says when to try again.
                short @ (Ok(Heard::Short) | Err(_)) => {
                    let mut table = self.lock();
                    table.look = Some(Instant::now() + LOOK);
                    table.short = true;
                    drop(table);
                    leading.leave();
                    return short.map(|_| false);
                }
            }
        }
        if let Some(leader) = leader {
            leader.leave();
        }
        // Of a server that is gone, the next turn finds the rest.
        if gone {
            self.lock().look = Some(Instant::now());
        }
        Ok(true)
    }

    /// Ends all calls, since no reply will come, and has everybody told.
    #[inline(never)]
    fn close(&self, leader: Leader<'_>) -> Error {
        let notifications = self.lock().end_all();
        leader.leave();
        self.give_all(notifications);
        Error::Closed
    }

    /// Gives up a call for which no reply will be received, unless that is over anyway.
    #[inline(never)]
    pub(super) fn give_up(&self, id: u64, error: Error) -> Error {
        self.cancel(id);
        error
    }
}
