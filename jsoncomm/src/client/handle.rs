//! What [`PendingCall`](super::PendingCall) and [`Items`](super::Items) share: a call in flight that is cancelled when
//! its handle is dropped.

use std::task::{Context, Poll};
use std::time::Instant;

use super::Connection;
use super::notify::Listener;
use super::slot::Entry;
use crate::error::Error;

/// A call in flight.
pub(super) struct Handle {
    pub(super) connection: Connection,
    pub(super) id: u64,
    /// The deadline of a call with one reply.
    pub(super) deadline: Option<Instant>,
    /// The last reply has been given out or belongs to a callback, or the call has been cancelled.
    pub(super) done: bool,
}

impl Handle {
    /// Returns an error if no reply can be taken: another process made the call, or it is over.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.connection.shared.check_process()?;
        if self.done {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Sends the call if it is gathered, with all that is, unless its deadline has passed or one of `others` has a reply.
    /// Waits for room until a deadline, or never if that is `None`.
    pub(super) fn flush(
        &self,
        deadline: Option<Option<Instant>>,
        others: &[u64],
    ) -> Result<(), Error> {
        if !self.connection.batching {
            return Ok(());
        }
        let shared = &self.connection.shared;
        shared.check_process()?;
        let table = shared.lock();
        if table.is_gathered(self.id) && !others.iter().any(|id| table.is_ready(*id)) {
            if self.has_expired() {
                return Err(Error::Deadline);
            }
            let (waits, reconnect) = (deadline.is_some(), self.connection.may_reconnect());
            drop(shared.flush(table, deadline.flatten(), waits, reconnect)?);
        }
        Ok(())
    }

    /// Sends the call if it is gathered and there is room. Fails at the deadline if there is none.
    pub(super) fn flush_now(&self) -> Result<(), Error> {
        match self.flush(None, &[]) {
            Err(Error::Full) if !self.has_expired() => Ok(()),
            Err(Error::Full) => Err(Error::Deadline),
            other => other,
        }
    }

    /// Takes the next entry if it has come; never waits.
    pub(super) fn try_next(&self) -> Option<Entry> {
        if let Err(error) = self.check() {
            return Some(Err(error));
        }
        let shared = &*self.connection.shared;
        shared.pop(self.id).or_else(|| {
            let drained = shared.drain();
            shared.pop(self.id).or(drained.err().map(Err))
        })
    }

    /// Takes the next entry, or registers the task to be woken when there is one or at the deadline.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Entry> {
        self.check()?;
        let shared = &*self.connection.shared;
        let listener = Listener::Task(cx.waker().clone());
        let mut table = shared.lock();
        if let Some(entry) = table.pop(self.id) {
            return Poll::Ready(entry);
        }
        let replaced = table.listen(self.id, listener, self.deadline);
        drop(table);
        drop(replaced);
        if self.has_expired() {
            Poll::Ready(Err(Error::Deadline))
        } else if shared.is_driven() {
            Poll::Pending
        } else {
            Poll::Ready(Err(Error::NotDriven))
        }
    }

    pub(super) fn has_expired(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Notes that the last reply has been given out. Cancels the call if it is still in flight.
    pub(super) fn end(&mut self) {
        self.done = true;
        self.connection.shared.cancel(self.id);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.done {
            self.end();
        }
    }
}
