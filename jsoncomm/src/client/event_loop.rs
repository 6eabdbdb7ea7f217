//! A connection in an event loop.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Connection;
use crate::error::Error;
use crate::queue::Drive;

/// How soon an event loop tries again after it found another thread receiving, or no room to send: no event says when that
/// ends.
const RETRY: Duration = Duration::from_millis(10);

impl Connection {
    /// Declares that an event loop drives this connection and all its clones. Cannot be undone.
    ///
    /// [`Server::drive`](crate::Server::drive) does everything for a [`Server`](crate::Server)'s loop. Another loop calls
    /// [`run_once`](Connection::run_once) whenever the descriptor ([`as_fd`](AsFd::as_fd)) is readable or
    /// [`next_deadline`](Connection::next_deadline) has come. Nothing checks that it does: otherwise futures never
    /// complete.
    ///
    /// | from now on | |
    /// |---|---|
    /// | [`start`](Connection::start), [`stream`](Connection::stream), [`notify`](Connection::notify) | do not wait for room: [`Error::Full`] |
    /// | [`call`](Connection::call), [`PendingCall::wait`](crate::client::PendingCall::wait) | wait as before |
    /// | futures and streams | can be polled |
    /// | [`reconnecting`](Connection::reconnecting), [`idempotent`](Connection::idempotent) | have no effect: the loop waits for the socket as it is |
    ///
    /// A thread that waits for a reply receives for all calls. It then runs callbacks and wakes tasks, and the loop's
    /// descriptor does not become readable. So a loop that polls futures needs a [`Waker`](std::task::Waker) that wakes it,
    /// through an eventfd(2) for example; with [`Waker::noop`](std::task::Waker::noop) it would sleep on.
    pub fn set_driven(&self) {
        self.shared.driven.store(true, Ordering::Relaxed);
    }

    /// Receives the replies that have come, ends the calls whose deadline has passed, and sends those that are
    /// [gathered](Connection::batching); never waits.
    ///
    /// Callbacks run and tasks are woken, on this thread. Returns true if there may be more to receive. While another
    /// thread waits for a reply, that one receives for all, and this returns false.
    ///
    /// # Errors
    ///
    /// | error | when |
    /// |---|---|
    /// | [`Error::Closed`] | the server has closed; all calls have ended |
    /// | [`Error::Os`] | [recvmsg(2)] failed; it is tried again at [`next_deadline`](Connection::next_deadline) |
    /// | [`Error::Forked`] | this process did not make the connection |
    ///
    /// [recvmsg(2)]: https://man7.org/linux/man-pages/man2/recvmsg.2.html
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::client::PendingCall;
    /// use jsoncomm::Connection;
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.set_driven();
    /// let sum: PendingCall<u64> = connection.start("example.counter.add", &(1,))?;
    /// sum.on_complete(|sum| println!("{sum:?}"));
    /// // In a loop of your own, whenever `connection.as_fd()` is readable:
    /// while connection.run_once()? {}
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_once(&self) -> Result<bool, Error> {
        self.shared.check_process()?;
        let drained = self.shared.drain();
        // Deadlines hold even if receiving fails.
        let expired = self.shared.lock().expire(Instant::now());
        self.shared.notify_all(expired);
        let mut table = self.shared.lock();
        let sent = table.try_batch();
        // Those for which there is no room stay gathered. That a datagram server is gone may show nowhere else; other errors
        // show when the socket is read.
        let is_gone = matches!(sent, Err(Error::Closed)) && table.is_datagram();
        if is_gone && !matches!(drained, Ok(true)) {
            let listeners = table.end_all(true);
            drop(table);
            self.shared.notify_all(listeners);
            return Err(Error::Closed);
        }
        drained
    }

    /// Returns when to call [`run_once`](Connection::run_once) even if nothing is readable; never waits.
    ///
    /// It is the earliest of:
    ///
    /// - the deadlines of calls with a callback or a task;
    /// - every 100 ms while calls to a [`Kind::Datagram`](crate::Kind::Datagram) server are in flight, to check that it
    ///   exists;
    /// - 10 ms from now if calls are [gathered](Connection::batching), or the last run could not receive because another thread
    ///   did; 100 ms if receiving failed.
    ///
    /// Starting a call can make it earlier, so ask again before each wait. A task that drives the connection while other
    /// tasks start calls should sleep for 100 ms at most, or those tasks should use their runtime's timeouts. `None` in a
    /// forked child, where [`run_once`](Connection::run_once) fails.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.shared.check_process().ok()?;
        let table = self.shared.lock();
        let retries = table.drain_skipped || !table.batch.is_empty();
        let retry = retries.then(|| Instant::now() + RETRY);
        table.next_due().into_iter().chain(retry).min()
    }
}

impl Drive for Connection {
    fn run_once(&self) -> Result<bool, Error> {
        Connection::run_once(self)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Connection::next_deadline(self)
    }

    fn is_abandoned(&self) -> bool {
        // A call in flight has a clone, unless it is one with a callback.
        Arc::strong_count(&self.shared) == 1 && self.shared.lock().calls.is_empty()
    }
}

impl AsRef<Connection> for Connection {
    fn as_ref(&self) -> &Connection {
        self
    }
}

impl AsFd for Connection {
    /// Returns the socket, to wait until it is readable. Do not read from it or write to it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CallError;
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket::{self as sys, Kind};
    use rustix::io::Errno;
    use std::convert::Infallible;
    use std::sync::mpsc::channel;

    #[test]
    fn a_deadline_is_kept_even_while_receiving_fails() {
        let (near, _far) = sys::socketpair(Kind::Seqpacket).unwrap();
        let connection = Connection::from_fd(near)
            .unwrap()
            .with_timeout(Duration::ZERO);
        connection.set_driven();
        let (sender, receiver) = channel();
        let call = connection.start::<u64, Infallible>("a.b", &(1,)).unwrap();
        call.on_complete(move |reply| sender.send(reply).unwrap());
        let (call, times, errno) = ("recvmsg", 0..usize::MAX, Errno::IO);
        inject::begin(Some(Plan { call, times, errno }));
        let result = connection.run_once();
        inject::end();
        assert!(matches!(result, Err(Error::Os { .. })), "{result:?}");
        assert!(matches!(receiver.try_recv(), Ok(Err(CallError::Deadline))));
        assert!(connection.next_deadline().is_none());
    }
}
