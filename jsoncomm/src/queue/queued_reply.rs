//! Encoded replies: borrowed while they are sent, owned while they wait.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::send_queue::WaitsFor;
use crate::accounts::{Account, Charge, Cost};
use crate::envelope::{self, Id};
use crate::error::Fault;
use crate::sys::file;
use crate::sys::opaque_debug;

/// Learns what became of a queued reply.
pub(crate) trait SendObserver: Send + Sync {
    /// Called once, when the reply has been sent or never will be.
    fn finished(self: Arc<Self>, outcome: SendOutcome);
}

/// What became of a reply.
pub(crate) enum SendOutcome {
    /// The kernel accepted it.
    Sent,
    /// It was dropped, because the peer has no room or disconnected.
    Dropped,
    /// It can never be sent, for this reason.
    Refused(Fault),
}

/// An encoded reply that waits. It owns its descriptors.
pub(crate) struct QueuedReply {
    pub(crate) text: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// It was sent before the call's handler had returned.
    pub(super) at_once: bool,
    /// Set for an item of a stream, which sends the next item then.
    pub(crate) observer: Option<Arc<dyn SendObserver>>,
    /// What it costs its recipient's user while it waits. Boxed, since few replies wait.
    charge: Option<Box<Charge>>,
}

impl QueuedReply {
    /// Takes `text` and duplicates `fds`. `None` if the process has no descriptors left.
    pub(crate) fn new(text: Vec<u8>, fds: &[BorrowedFd<'_>]) -> Option<Self> {
        let fds: Result<_, _> = fds.iter().map(|fd| file::duplicate(*fd)).collect();
        let mut reply = Self::from(text);
        reply.fds = fds.ok()?;
        Some(reply)
    }

    /// Makes a response with a fault; `id` is `None` when it could not be read.
    pub(crate) fn fault(id: Option<&Id<'_>>, fault: &Fault) -> Self {
        let mut text = Vec::new();
        envelope::write_fault(&mut text, id, fault);
        Self::from(text)
    }

    /// Returns true for an item of a stream, which reports its own failure to the caller.
    pub(crate) fn is_item(&self) -> bool {
        self.observer.is_some()
    }

    fn cost(&self) -> Cost {
        Cost::queued(self.text.len(), self.fds.len())
    }

    /// The account that the reply is charged to.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.charge.as_ref().map(|charge| charge.account())
    }

    /// Charges the reply to its recipient's user, whatever the user's limits.
    pub(crate) fn charge(&mut self, account: &Arc<Account>) {
        self.charge = Some(Box::new(account.charge(self.cost())));
    }

    /// Charges the reply to its recipient's user unless it has been. Returns false if that would exceed the user's
    /// limits; a reply that waits for [`WaitsFor::InFlight`] may exceed them if the user has nothing else queued.
    pub(super) fn try_charge(&mut self, account: &Arc<Account>, waits_for: WaitsFor) -> bool {
        if self.charge.is_none() {
            let charge = match waits_for {
                WaitsFor::Room => account.try_charge(self.cost()),
                WaitsFor::InFlight => account.try_charge_one(self.cost()),
            };
            self.charge = charge.map(Box::new);
        }
        self.charge.is_some()
    }

    /// Reports the outcome to the observer, if there is one.
    #[inline]
    pub(crate) fn finish(&mut self, outcome: SendOutcome) {
        if let Some(observer) = self.observer.take() {
            observer.finished(outcome);
        }
    }

    /// Borrows the descriptors for sending.
    pub(crate) fn borrow_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}

impl From<Vec<u8>> for QueuedReply {
    fn from(text: Vec<u8>) -> Self {
        Self {
            text,
            fds: Vec::new(),
            at_once: false,
            observer: None,
            charge: None,
        }
    }
}

impl Drop for QueuedReply {
    fn drop(&mut self) {
        self.finish(SendOutcome::Dropped);
    }
}

opaque_debug!(QueuedReply);

/// A reply that is being sent: borrowed from its writer, or taken from a queue.
pub(crate) enum OutgoingReply<'m> {
    Borrowed(&'m [u8], &'m [BorrowedFd<'m>]),
    Queued(QueuedReply),
}

impl OutgoingReply<'_> {
    pub(crate) fn text(&self) -> &[u8] {
        match self {
            Self::Borrowed(text, _) => text,
            Self::Queued(reply) => &reply.text,
        }
    }

    pub(crate) fn fds(&self) -> Cow<'_, [BorrowedFd<'_>]> {
        match self {
            Self::Borrowed(_, fds) => Cow::Borrowed(fds),
            Self::Queued(reply) => Cow::Owned(reply.borrow_fds()),
        }
    }

    /// Returns true for an item of a stream, which reports its own failure to the caller.
    pub(crate) fn is_item(&self) -> bool {
        matches!(self, Self::Queued(reply) if reply.is_item())
    }

    /// Returns true for a reply without descriptors that was given before the call's handler had returned.
    pub(crate) fn is_given_at_once(&self) -> bool {
        match self {
            Self::Borrowed(_, fds) => fds.is_empty(),
            Self::Queued(reply) => reply.at_once && reply.fds.is_empty(),
        }
    }

    /// Reports the outcome to the observer, if there is one.
    #[inline]
    pub(crate) fn finish(&mut self, outcome: SendOutcome) {
        if let Self::Queued(reply) = self {
            reply.finish(outcome);
        }
    }

    /// Converts it to a reply that can be queued. `None` if the process has no descriptors left.
    pub(crate) fn into_queued(self) -> Option<QueuedReply> {
        match self {
            Self::Borrowed(text, fds) => QueuedReply::new(text.to_vec(), fds),
            Self::Queued(reply) => Some(reply),
        }
    }
}
