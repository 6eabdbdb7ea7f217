//! Receiving: of the threads that wait, one is the leader and receives for all; the others follow.
//!
//! A leader keeps what is for others in their slots, and hands over to the follower that has waited longest when its
//! own reply has come. Before code of the program runs, be it a callback or the decoding of a reply, it hands over, too.

use std::sync::MutexGuard;
use std::time::Instant;

use super::leader::{Leader, Receiver, Until};
use super::notify::Notification;
use super::reply::{Parts, open_reply, read};
use super::table::{LOOK, Shared, Table};
use crate::error::{CallError, Error};
use crate::message::Message;
use crate::sys::control::Wait;
use crate::transport::{Datagram, ReceiveOutcome};

/// As many datagrams are received without waiting as a server takes in one turn.
const TURN: usize = 32;

/// How an attempt to receive the reply to a call ended.
enum Step<R> {
    Reply(R),
    /// Something was done for which this thread had to hand over, or the reply has been kept.
    Again,
    /// Nothing has come.
    Nothing,
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
                Ok(ReceiveOutcome::Datagram(datagram)) => {
                    leader = self.pass_on(leading, datagram, &[])
                }
                Ok(ReceiveOutcome::Closed) => return Err(self.close(leading)),
                Ok(ReceiveOutcome::Empty) if gone => return Err(self.close(leading)),
                // It may have answered just before.
                Ok(ReceiveOutcome::Empty) if self.finds_nobody(leading.line()) => {
                    gone = true;
                    leader = Some(leading);
                }
                Ok(ReceiveOutcome::Empty) => {
                    leading.leave();
                    return Ok(false);
                }
                // No event says when to try again.
                short @ (Ok(ReceiveOutcome::Exhausted) | Err(_)) => {
                    let mut table = self.lock();
                    table.look = Some(Instant::now() + LOOK);
                    table.short = true;
                    drop(table);
                    leading.leave();
                    short?;
                    return Ok(false);
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
