//! Who sent a message, and where the reply to it goes.

use std::sync::Arc;

use crate::accounts::Account;
use crate::peer::Peer;
use crate::sys::name::Name;

/// Where a reply goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ReplyRoute {
    /// The reactor's key of the connection or datagram socket, as bits.
    pub(crate) key: u64,
    /// The address to send to, on a datagram socket.
    pub(crate) to: Option<Name>,
}

/// The sender of the message that is being handled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'c> {
    /// The reactor's key of the connection or datagram socket, as bits.
    pub(crate) key: u64,
    /// The address to reply to, on a datagram socket.
    pub(crate) to: Option<&'c Name>,
    /// The account of its user.
    pub(crate) account: &'c Arc<Account>,
    /// Its identity, if the kernel or the program reported one.
    pub(crate) peer: Option<&'c Peer>,
    /// The tag of its session or adopted connection.
    pub(crate) tag: Option<u64>,
}

impl Caller<'_> {
    /// Where replies to it go.
    pub(crate) fn route(&self) -> ReplyRoute {
        ReplyRoute {
            key: self.key,
            to: self.to.copied(),
        }
    }

    /// Returns true if `route` leads to this caller.
    pub(super) fn is_at(&self, route: &ReplyRoute) -> bool {
        self.key == route.key && self.to == route.to.as_ref()
    }
}
