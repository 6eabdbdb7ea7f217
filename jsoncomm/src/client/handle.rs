//! What [`PendingCall`](super::PendingCall) and [`Items`](super::Items) share: a call in flight that is cancelled when
//! its handle is dropped.

use std::task::{Context, Poll};
use std::time::Instant;

use super::Connection;
use super::notify::Listener;
use super::slot::{Entry, NoReply};
use crate::error::Error;

/// A call in flight.
pub(super) struct Handle {
    pub(super) connection: Connection,
    pub(super) id: u64,
    /// The last reply has been given out or belongs to a callback, or the call has been cancelled.
    pub(super) done: bool,
}

impl Handle {
    pub(super) fn new(connection: Connection, id: u64) -> Self {
        Self {
            connection,
            id,
            done: false,
        }
    }

    /// Takes the next entry, or registers the task to be woken when there is one or at the deadline.
    pub(super) fn poll(&self, cx: &Context<'_>, deadline: Option<Instant>) -> Poll<Entry> {
        let shared = &*self.connection.shared;
        if let Err(error) = shared.check_process() {
            return Poll::Ready(Err(error.into()));
        }
        let listener = Listener::Task(cx.waker().clone());
        let mut table = shared.lock();
        if let Some(entry) = table.pop(self.id) {
            return Poll::Ready(entry);
        }
        let replaced = table.listen(self.id, listener, deadline);
        drop(table);
        drop(replaced);
        let why = if deadline.is_some_and(|at| at <= Instant::now()) {
            NoReply::TimedOut
        } else if shared.is_driven() {
            return Poll::Pending;
        } else {
            NoReply::Failed(Error::NotDriven)
        };
        shared.cancel(self.id);
        Poll::Ready(Err(why))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.done {
            self.connection.shared.cancel(self.id);
        }
    }
}
