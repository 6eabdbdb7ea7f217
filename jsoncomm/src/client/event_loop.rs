//! A connection in an event loop.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::Connection;
use crate::error::Error;

/// When a loop looks again at a connection from which another thread was receiving: nothing says when that one stops.
const MISSED: Duration = Duration::from_millis(10);

impl Connection {
    /// Has an event loop drive the connection, and all its clones: from now on starting a call and `#[oneway]` calls do
    /// not wait for room; they end with [`Error::Full`]. Calls that are waited for go on as before. This cannot be undone.
    ///
    /// [`Server::drive`](crate::Server::drive) does all of it; a foreign loop waits until [`as_fd`](AsFd::as_fd) is readable
    /// or [`next_deadline`](Connection::next_deadline) has come, and then calls [`run_once`](Connection::run_once). Nothing checks
    /// that a loop really does: without one, what is awaited never ends. From now on the connection stays with its
    /// server: [`reconnecting`](Connection::reconnecting) does nothing, since the loop would not know.
    ///
    /// A thread that waits for a call of its own on a clone receives the answers to all calls. It runs their callbacks
    /// and wakes their tasks, and the descriptor does not become readable for the loop. So a loop that polls futures on
    /// the thread that sleeps for the descriptor has to be woken by their [`Waker`](std::task::Waker) as well, for example
    /// through an eventfd(2) that it waits for too; with [`Waker::noop`](std::task::Waker::noop) it would sleep on.
    pub fn set_driven(&self) {
        self.shared.set_driven();
    }

    /// Takes in the answers that have come, ends the calls whose deadline has passed, and has
    /// [`PendingCall::on_complete`](crate::client::PendingCall::on_complete) told of both; never waits. Says whether there may be more to take in. While another
    /// thread waits for an answer of its own, that one takes in all.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the server has gone: all calls have been told. [`Error::Os`] for whatever else
    /// [recvmsg(2)] reports.
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
        let taken = self.shared.take_in();
        // Deadlines pass as well while nothing can be received.
        let notifications = self.shared.lock().expire(Instant::now());
        self.shared.give_all(notifications);
        taken
    }

    /// Says when [`run_once`](Connection::run_once) is due although nothing is readable; never waits. That is when the next
    /// call expires of those that somebody is to be told of, and on [`Kind::Datagram`](crate::Kind::Datagram), while calls are in flight,
    /// every 100 ms to look whether the server is still there. It is soon as well when the last turn could not receive,
    /// also because another thread did.
    ///
    /// Starting a call can make it earlier, so ask again before each wait. A task of a runtime that sleeps meanwhile
    /// hears nothing of calls that other tasks start: it should sleep 100 ms at most, or those tasks should give
    /// their calls the runtime's own timeouts. `None` in a forked child, where [`run_once`](Connection::run_once) is an error.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.shared.check_process().ok()?;
        let table = self.shared.lock();
        let missed = table.missed.then(|| Instant::now() + MISSED);
        table.next_due().into_iter().chain(missed).min()
    }
}

impl AsFd for Connection {
    /// The socket, to wait for; reading from it or writing to it is the connection's business.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CallError;
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket::{self as sys, Type};
    use rustix::io::Errno;
    use std::convert::Infallible;
    use std::sync::mpsc::channel;

    #[test]
    fn a_deadline_passes_as_well_while_nothing_can_be_received() {
        let (near, _far) = sys::socketpair(Type::Seqpacket).unwrap();
        let connection = Connection::from_fd(near)
            .unwrap()
            .with_timeout(Duration::ZERO);
        connection.set_driven();
        let (tell, told) = channel();
        let call = connection.start::<u64, Infallible>("a.b", &(1,)).unwrap();
        call.on_complete(move |answer| tell.send(answer).unwrap());
        let (call, times, errno) = ("recvmsg", 0..usize::MAX, Errno::IO);
        inject::begin(Some(Plan { call, times, errno }));
        let turned = connection.run_once();
        inject::end();
        assert!(matches!(turned, Err(Error::Os { .. })), "{turned:?}");
        assert!(matches!(told.try_recv(), Ok(Err(CallError::Deadline))));
        assert!(connection.next_deadline().is_none());
    }
}
