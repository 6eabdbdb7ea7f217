//! Connections that are over for the server while something that it has sent is unread.
//!
//! What is in flight stays so when the server closes its socket, and then nobody can be asked any more whether it is.
//! So the socket is kept, shut down, and the connection counts until its peer has read what was sent or is gone:
//! otherwise a peer could have any number of descriptors in flight, by calling from one connection after another.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::{SourceAction, close_or_tell};
use super::{Server, Source};
use crate::accounts::{Account, Charge, InFlight};
use crate::service::ServerContext;
use crate::sys::socket::{How, shut_down};
use crate::transport::Transport;

/// What is left of a connection.
#[derive(Debug)]
pub(super) struct Leaving {
    line: Transport,
    account: Arc<Account>,
    /// Counts it to its user.
    charge: Option<Charge>,
    in_flight: InFlight,
    pause: Duration,
}

impl Leaving {
    /// Ends a connection as its peer sees it.
    pub(super) fn new(
        line: Transport,
        account: Arc<Account>,
        charge: Option<Charge>,
        in_flight: InFlight,
    ) -> Self {
        // It fails when there is nobody to tell.
        let _ = shut_down(line.as_fd(), How::Both);
        Self {
            line,
            account,
            charge,
            in_flight,
            pause: Duration::from_millis(1),
        }
    }

    /// How many descriptors, and how many bytes in memfds, may be unread of what was sent.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        self.in_flight.look(self.line.shared_fd())
    }

    /// Looks whether that is over. No event says so, so it looks less and less often.
    pub(super) fn act(&mut self) -> SourceAction {
        const LONGEST: Duration = Duration::from_secs(1);
        if !self.in_flight.is_unread(self.line.shared_fd()) {
            return SourceAction::Close;
        }
        self.pause = (2 * self.pause).min(LONGEST);
        SourceAction::At(Instant::now() + self.pause)
    }

    /// Closes the socket.
    pub(super) fn close(self, desk: &ServerContext) {
        drop(self.charge);
        if let Some(line) = close_or_tell(self.line) {
            desk.accounts.close(&self.account, line);
        }
    }
}

impl<S> Server<S> {
    /// Keeps what is left of a connection, which counts as one.
    pub(super) fn linger(&mut self, mut leaving: Leaving) {
        let next = leaving.act();
        let source = Box::new(Source::Leaving(leaving));
        // Nothing of it is watched, so there is nothing that could fail; it would be closed.
        if let Ok(key) = self.reactor.add(source) {
            if let Some(source) = self.reactor.take(key) {
                self.settle(key, source, next);
            }
        }
    }
}
