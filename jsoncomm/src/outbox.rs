//! Answers that a peer has no room for yet, within a budget.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::{Account, Charge, Cost};
use crate::limits::Limits;
use crate::sys::file;

/// Wants to know when a letter is on its way no longer.
pub(crate) trait Sender: Send + Sync {
    /// The letter has been `sent`, or has come to nothing.
    fn passed(self: Arc<Self>, sent: bool);
}

/// One answer that could not be sent at once. It owns its descriptors.
pub(crate) struct Letter {
    pub(crate) text: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    sender: Option<Arc<dyn Sender>>,
    /// What it costs the user who it is for, while it waits.
    charge: Option<Charge>,
}

impl Letter {
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

    /// Charges it to the user who it is for, once. Says whether that is within the user's limits.
    fn try_charge(&mut self, account: &Arc<Account>) -> bool {
        if self.charge.is_none() {
            self.charge = account.try_charge(self.cost());
        }
        self.charge.is_some()
    }

    /// The kernel has it.
    pub(crate) fn sent(mut self) {
        if let Some(sender) = self.sender.take() {
            sender.passed(true);
        }
    }

    /// Lends the descriptors in the form they are sent in.
    pub(crate) fn lend(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}

impl From<Vec<u8>> for Letter {
    fn from(text: Vec<u8>) -> Self {
        Self {
            text,
            fds: Vec::new(),
            sender: None,
            charge: None,
        }
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.passed(false);
        }
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter")
            .field("text", &String::from_utf8_lossy(&self.text))
            .field("fds", &self.fds)
            .finish_non_exhaustive()
    }
}

/// An answer on its way out: lent by whoever wrote it, or a letter.
#[derive(Debug)]
pub(crate) enum Mail<'m> {
    Lent(&'m [u8], &'m [BorrowedFd<'m>]),
    Letter(Letter),
}

impl Mail<'_> {
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

    /// As [`Letter::is_item`].
    pub(crate) fn is_item(&self) -> bool {
        matches!(self, Self::Letter(letter) if letter.is_item())
    }

    /// The kernel has it.
    pub(crate) fn sent(self) {
        if let Self::Letter(letter) = self {
            letter.sent();
        }
    }

    /// What can be kept; `None` when descriptors have run out.
    pub(crate) fn into_letter(self) -> Option<Letter> {
        match self {
            Self::Lent(text, fds) => Letter::new(text.to_vec(), fds),
            Self::Letter(letter) => Some(letter),
        }
    }
}

/// The letters for one peer, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    letters: VecDeque<Letter>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len()
    }

    /// Queues a letter behind the others, or gives it back when it exceeds the peer's budget or its user's. One
    /// letter always fits the peer's, whatever its size: [`Limits::message`] bounds that already.
    pub(crate) fn push(
        &mut self,
        mut letter: Letter,
        limits: &Limits,
        account: &Arc<Account>,
    ) -> Result<(), Letter> {
        let bytes = self.bytes.saturating_add(letter.text.len());
        let fits = self.letters.len() < limits.waiting_answers && bytes <= limits.waiting_bytes;
        if (!fits && !self.letters.is_empty()) || !letter.try_charge(account) {
            return Err(letter);
        }
        self.bytes = bytes;
        self.letters.push_back(letter);
        Ok(())
    }

    /// Lends the oldest letter.
    pub(crate) fn front(&self) -> Option<&Letter> {
        self.letters.front()
    }

    /// Removes the oldest letter, which the kernel has.
    pub(crate) fn pop_sent(&mut self) {
        if let Some(letter) = self.letters.pop_front() {
            self.bytes -= letter.text.len();
            letter.sent();
        }
    }
}

/// The letters for one datagram peer, and when to try it again. The kernel does not say when such a
/// peer has room, so it is tried by timer, at doubling intervals.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) outbox: Outbox,
    pause: Duration,
    due: Instant,
}

impl Backlog {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            outbox: Outbox::default(),
            pause: limits.retry,
            due: now + limits.retry,
        }
    }

    /// When to try next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// The peer took a letter: it is alive, so be quick again.
    pub(crate) fn progressed(&mut self, limits: &Limits) {
        self.pause = limits.retry;
    }

    /// The peer is still full. Doubles the pause; says `false` when it has been full for too long.
    pub(crate) fn postpone(&mut self, limits: &Limits, now: Instant) -> bool {
        /// The last pause is this many times the first.
        const LONGEST: u32 = 100;
        let longest = limits.retry.saturating_mul(LONGEST);
        if self.pause >= longest {
            return false;
        }
        self.pause = self.pause.saturating_mul(2).min(longest);
        self.due = now + self.pause;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Accounts;

    fn letter(size: usize) -> Letter {
        Letter::from(vec![0; size])
    }

    #[test]
    fn letters_are_taken_up_to_the_budget_and_no_further() {
        let mut limits = Limits::default();
        (limits.waiting_answers, limits.waiting_bytes) = (2, 10);
        limits.user_waiting_bytes = 11;
        let mut outbox = Outbox::default();
        let account = Accounts::new(&limits).of(None);
        assert!(outbox.push(letter(5), &limits, &account).is_ok());
        let above = outbox.push(letter(6), &limits, &account);
        assert!(above.is_err(), "one byte above");
        let at = outbox.push(letter(5), &limits, &account);
        assert!(at.is_ok(), "at the limit");
        let above = outbox.push(letter(0), &limits, &account);
        assert!(above.is_err(), "one letter above");
        outbox.pop_sent();
        assert!(outbox.push(letter(5), &limits, &account).is_ok());
        outbox.pop_sent();
        outbox.pop_sent();
        assert!(outbox.is_empty());
        let first = outbox.push(letter(11), &limits, &account);
        assert!(first.is_ok(), "a first letter always fits");
        let mut other = Outbox::default();
        let above = other.push(letter(1), &limits, &account);
        assert!(above.is_err(), "but not beyond what its user may");
        outbox.pop_sent();
        assert!(other.push(letter(1), &limits, &account).is_ok());
    }

    #[test]
    fn a_peer_that_stays_full_is_given_up_after_doubling_pauses() {
        let limits = Limits::default();
        let now = Instant::now();
        let mut backlog = Backlog::new(&limits, now);
        let mut pauses = vec![backlog.due() - now];
        while backlog.postpone(&limits, now) {
            pauses.push(backlog.due() - now);
        }
        let millis: Vec<u128> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1000]);
        backlog.progressed(&limits);
        assert!(backlog.postpone(&limits, now));
    }
}
