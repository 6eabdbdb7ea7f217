//! One reply that waits, or is on its way.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::send_queue::Place;
use crate::accounts::{Account, Charge, Cost};
use crate::error::Fault;
use crate::sys::file;

/// Wants to know when a letter is on its way no longer.
pub(crate) trait Sender: Send + Sync {
    /// This is what became of the letter.
    fn passed(self: Arc<Self>, end: End);
}

/// What became of a letter.
#[derive(Debug)]
pub(crate) enum End {
    /// The kernel has it.
    Sent,
    /// It has been dropped, because the peer has no room or is gone.
    Lost,
    /// It cannot be sent at all, for this reason.
    Refused(Fault),
}

/// One answer that could not be sent at once. It owns its descriptors.
pub(crate) struct QueuedReply {
    pub(crate) text: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    sender: Option<Arc<dyn Sender>>,
    /// What it costs the user who it is for, while it waits.
    charge: Option<Charge>,
}

impl QueuedReply {
    /// Keeps an answer and duplicates its descriptors; `None` when descriptors have run out.
    pub(crate) fn new(text: Vec<u8>, fds: &[BorrowedFd<'_>]) -> Option<Self> {
        let fds: Result<_, _> = fds.iter().map(|fd| file::duplicate(*fd)).collect();
        Some(Self {
            text,
            fds: fds.ok()?,
            sender: None,
            charge: None,
        })
    }

    /// Has its sender told what became of it.
    pub(crate) fn set_sender(&mut self, sender: Arc<dyn Sender>) {
        self.sender = Some(sender);
    }

    /// Says whether it is an item of a stream, whose sender tells the caller if it comes to nothing.
    pub(crate) fn is_item(&self) -> bool {
        self.sender.is_some()
    }

    /// What it costs while it waits.
    fn cost(&self) -> Cost {
        Cost {
            bytes: self.text.len(),
            descriptors: self.fds.len(),
            ..Cost::default()
        }
    }

    /// Charges it to the user who it is for, whatever the user's limits.
    pub(crate) fn charge(&mut self, account: &Arc<Account>) {
        self.charge = Some(account.charge(self.cost()));
    }

    /// Charges it to the user who it is for, once. Returns true if that is within the user's limits; if it is held
    /// back, also if nothing else waits for the user's peers.
    pub(super) fn try_charge(&mut self, account: &Arc<Account>, place: Place) -> bool {
        if self.charge.is_none() {
            self.charge = match place {
                Place::Room => account.try_charge(self.cost()),
                Place::Held => account.try_charge_one(self.cost()),
            };
        }
        self.charge.is_some()
    }

    /// Tells its sender what has become of it.
    #[inline]
    pub(crate) fn end(&mut self, end: End) {
        if let Some(sender) = self.sender.take() {
            sender.passed(end);
        }
    }

    /// Lends the descriptors in the form they are sent in.
    pub(crate) fn lend(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}

impl From<Vec<u8>> for QueuedReply {
    fn from(text: Vec<u8>) -> Self {
        Self {
            text,
            fds: Vec::new(),
            sender: None,
            charge: None,
        }
    }
}

impl Drop for QueuedReply {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.passed(End::Lost);
        }
    }
}

impl fmt::Debug for QueuedReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter")
            .field("text", &format_args!("{} bytes", self.text.len()))
            .field("fds", &self.fds)
            .finish_non_exhaustive()
    }
}

/// An answer on its way out: lent by whoever wrote it, or a letter.
pub(crate) enum OutgoingReply<'m> {
    Lent(&'m [u8], &'m [BorrowedFd<'m>]),
    Letter(QueuedReply),
}

impl OutgoingReply<'_> {
    pub(crate) fn text(&self) -> &[u8] {
        match self {
            Self::Lent(text, _) => text,
            Self::Letter(letter) => &letter.text,
        }
    }

    pub(crate) fn fds(&self) -> Cow<'_, [BorrowedFd<'_>]> {
        match self {
            Self::Lent(_, fds) => Cow::Borrowed(fds),
            Self::Letter(letter) => Cow::Owned(letter.lend()),
        }
    }

    /// As [`QueuedReply::is_item`].
    pub(crate) fn is_item(&self) -> bool {
        matches!(self, Self::Letter(letter) if letter.is_item())
    }

    /// Tells its sender what has become of it.
    #[inline]
    pub(crate) fn end(&mut self, end: End) {
        if let Self::Letter(letter) = self {
            letter.end(end);
        }
    }

    /// What can be kept; `None` when descriptors have run out.
    pub(crate) fn into_letter(self) -> Option<QueuedReply> {
        match self {
            Self::Lent(text, fds) => QueuedReply::new(text.to_vec(), fds),
            Self::Letter(letter) => Some(letter),
        }
    }
}
