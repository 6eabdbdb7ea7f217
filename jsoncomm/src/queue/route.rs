//! Where a reply goes, and who asked for it.

use std::sync::Arc;

use crate::accounts::Account;
use crate::peer::Peer;
use crate::sys::name::Name;

/// Where a reply goes: which thing of the loop, and which address if it serves several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ReplyRoute {
    /// The reactor's key, as bits.
    pub(crate) key: u64,
    pub(crate) to: Option<Name>,
}

/// Who sent a message, in the terms of all who deal with it, while it is dealt with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'c> {
    /// Which thing of the loop its answers go through: the reactor's key, as bits.
    pub(crate) key: u64,
    /// Where they go from there.
    pub(crate) to: Option<&'c Name>,
    /// What its user costs.
    pub(crate) account: &'c Arc<Account>,
    /// Who it is, as far as the kernel says.
    pub(crate) peer: Option<&'c Peer>,
}

impl Caller<'_> {
    /// Where its answers go.
    pub(crate) fn ticket(&self) -> ReplyRoute {
        ReplyRoute {
            key: self.key,
            to: self.to.copied(),
        }
    }

    /// Says whether that is where its answers go.
    pub(super) fn has(&self, ticket: &ReplyRoute) -> bool {
        self.key == ticket.key && self.to == ticket.to.as_ref()
    }
}
