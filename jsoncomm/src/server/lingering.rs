//! Connections that are closed while something that was sent to them is unread.
//!
//! What is in flight stays so when the server closes its socket, but then the kernel cannot be asked about it any more.
//! So the socket is shut down and kept, and the connection counts, until its peer has read everything or is gone.
//! Otherwise a peer could have any number of descriptors in flight, by calling from one connection after another.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::sending::ReplySocket;
use super::source::{SourceAction, close_if_empty};
use crate::accounts::Charge;
use crate::service::ServerContext;
use crate::sys::socket::{Shutdown, shut_down};

/// What is kept of a closed connection.
pub(super) struct Lingering {
    pub(super) socket: ReplySocket,
    /// Counts the connection to its user.
    charge: Option<Charge>,
    pause: Duration,
}

impl Lingering {
    /// Shuts the connection down.
    pub(super) fn new(socket: ReplySocket, charge: Option<Charge>) -> Self {
        // It fails only if the peer is gone.
        let _ = shut_down(socket.transport.as_fd(), Shutdown::Both);
        Self {
            socket,
            charge,
            pause: Duration::from_millis(1),
        }
    }

    /// Closes the socket if everything has been read. No event reports that, so the next look is by timer, with backoff.
    #[inline(never)]
    pub(super) fn act(&mut self) -> SourceAction {
        const LONGEST: Duration = Duration::from_secs(1);
        if self.socket.in_flight() == (0, 0) {
            return SourceAction::Close;
        }
        self.pause = (2 * self.pause).min(LONGEST);
        SourceAction::Keep(Some(Instant::now() + self.pause))
    }

    /// Closes the socket.
    pub(super) fn close(self, context: &ServerContext) {
        drop(self.charge);
        if let Some(transport) = close_if_empty(self.socket.transport) {
            context.accounts.close(&self.socket.account, transport);
        }
    }
}
