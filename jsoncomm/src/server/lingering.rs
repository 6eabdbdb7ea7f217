//! Connections that are closed while something that was sent to them is unread.
//!
//! What is in flight stays so when the server closes its socket, but then the kernel cannot be asked about it any more.
//! So the socket is shut down and kept, and the connection counts, until its peer has read everything or is gone.
//! Otherwise a peer could have any number of descriptors in flight, by calling from one connection after another.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::{SourceAction, close_if_empty};
use super::{Server, Source};
use crate::accounts::{Account, Charge, InFlight};
use crate::service::ServerContext;
use crate::sys::socket::{Shutdown, shut_down};
use crate::transport::Transport;

/// What is kept of a closed connection.
#[derive(Debug)]
pub(super) struct Lingering {
    transport: Transport,
    account: Arc<Account>,
    /// Counts the connection to its user.
    charge: Option<Charge>,
    in_flight: InFlight,
    pause: Duration,
}

impl Lingering {
    /// Shuts the connection down.
    pub(super) fn new(
        transport: Transport,
        account: Arc<Account>,
        charge: Option<Charge>,
        in_flight: InFlight,
    ) -> Self {
        // It fails only if the peer is gone.
        let _ = shut_down(transport.as_fd(), Shutdown::Both);
        Self {
            transport,
            account,
            charge,
            in_flight,
            pause: Duration::from_millis(1),
        }
    }

    /// Returns how many descriptors, and how many bytes in memfds, have been sent and may be unread.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        self.in_flight.unread(self.transport.shared_fd())
    }

    /// Closes the socket if everything has been read. No event reports that, so the next look is by timer, with backoff.
    pub(super) fn act(&mut self) -> SourceAction {
        const LONGEST: Duration = Duration::from_secs(1);
        if !self.in_flight.is_unread(self.transport.shared_fd()) {
            return SourceAction::Close;
        }
        self.pause = (2 * self.pause).min(LONGEST);
        SourceAction::At(Instant::now() + self.pause)
    }

    /// Closes the socket.
    pub(super) fn close(self, context: &ServerContext) {
        drop(self.charge);
        if let Some(transport) = close_if_empty(self.transport) {
            context.accounts.close(&self.account, transport);
        }
    }
}

impl<S> Server<S> {
    /// Keeps a closed connection, which counts as one.
    pub(super) fn linger(&mut self, mut lingering: Lingering) {
        let action = lingering.act();
        let source = Box::new(Source::Lingering(lingering));
        // Adding cannot fail, as nothing of it is watched.
        if let Ok(key) = self.reactor.add(source) {
            if let Some(source) = self.reactor.take(key) {
                self.apply(key, source, action);
            }
        }
    }
}
