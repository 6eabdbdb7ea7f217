//! Answers that cannot be sent yet, within a budget.
//!
//! Most wait because the peer has no room, and then nothing overtakes them. Those that bring descriptors can also be
//! held back alone, while too many that were sent before are unread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queued_reply::{End, QueuedReply};
use crate::accounts::Account;
use crate::envelope::{self, Id};
use crate::limits::Limits;

/// Where a letter waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind all that wait until the peer has room.
    Room,
    /// Behind those that are held back because of what they bring.
    Held,
}

/// The letters for one peer, oldest first.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    letters: VecDeque<QueuedReply>,
    /// Of all, those that are held back included.
    bytes: usize,
    /// Elsewhere, as nearly no outbox has any.
    held: Option<Box<Held>>,
}

/// Letters that are held back, and when to try the first of them again. No event says when that is worth it.
#[derive(Debug)]
struct Held {
    letters: VecDeque<QueuedReply>,
    /// The one before these is the first of those that wait for room.
    released: bool,
    pause: Duration,
    due: Instant,
}

impl Held {
    /// The first pause. Much shorter than where the peer has no room: one that reads may wait for just this.
    fn pause(limits: &Limits) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(1);
        (limits.retry_backoff / 8).max(SHORTEST)
    }

    fn new(limits: &Limits) -> Self {
        let pause = Self::pause(limits);
        Self {
            letters: VecDeque::new(),
            released: false,
            pause,
            due: Instant::now() + pause,
        }
    }
}

impl SendQueue {
    /// Returns true if nothing waits at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.letters.is_empty() && self.held.is_none()
    }

    /// Returns true if letters wait until the peer has room.
    pub(crate) fn is_full(&self) -> bool {
        !self.letters.is_empty()
    }

    /// How many letters are held back.
    pub(crate) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.letters.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len() + self.held()
    }

    /// Queues a letter behind the others in this place, or gives it back when it exceeds the peer's budget or its
    /// user's. One letter always fits the peer's, whatever its size: [`Limits::message`] bounds that already.
    pub(crate) fn push(
        &mut self,
        mut letter: QueuedReply,
        place: Place,
        limits: &Limits,
        account: &Arc<Account>,
    ) -> Result<(), Box<QueuedReply>> {
        let bytes = self.bytes.saturating_add(letter.text.len());
        let fits = self.len() < limits.backlog_replies && bytes <= limits.backlog_bytes;
        if (!fits && !self.is_empty()) || !letter.try_charge(account, place) {
            return Err(Box::new(letter));
        }
        self.bytes = bytes;
        match place {
            Place::Room => self.letters.push_back(letter),
            Place::Held => self.held_mut(limits).letters.push_back(letter),
        }
        Ok(())
    }

    fn held_mut(&mut self, limits: &Limits) -> &mut Held {
        self.held.get_or_insert_with(|| Box::new(Held::new(limits)))
    }

    /// Lends the oldest letter of those that wait for room.
    pub(crate) fn front(&self) -> Option<&QueuedReply> {
        self.letters.front()
    }

    /// Removes the oldest letter of those that wait for room.
    pub(crate) fn pop(&mut self) -> Option<QueuedReply> {
        let letter = self.letters.pop_front()?;
        self.bytes -= letter.text.len();
        self.forget_held();
        Some(letter)
    }

    /// Removes the oldest letter, which the kernel has. The peer reads, so what is held back is tried again soon.
    pub(crate) fn pop_sent(&mut self, limits: &Limits) {
        let letter = self.pop();
        if let Some(held) = &mut self.held {
            held.pause = Held::pause(limits);
        }
        if let Some(mut letter) = letter {
            letter.end(End::Sent);
        }
    }

    /// The first of those that wait for room has gone, and perhaps was the last of those that were held back.
    fn forget_held(&mut self) {
        if let Some(held) = &mut self.held {
            held.released = false;
        }
        self.held.take_if(|held| held.letters.is_empty());
    }

    /// Puts a letter in front of all that wait for room, in place of one that was there.
    pub(crate) fn push_front(&mut self, letter: QueuedReply) {
        self.bytes += letter.text.len();
        self.letters.push_front(letter);
    }

    /// Holds the oldest letter of those that wait for room back, in front of the others or behind them.
    pub(crate) fn hold_front(&mut self, in_front: bool, limits: &Limits) {
        if let Some(letter) = self.letters.pop_front() {
            let held = self.held_mut(limits);
            held.released = false;
            if in_front {
                held.letters.push_front(letter);
            } else {
                held.letters.push_back(letter);
            }
        }
    }

    /// Has the first letter that is held back be the next that is sent, if none waits for room. Returns true if the
    /// next is one that was held back.
    pub(crate) fn release(&mut self) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        if self.letters.is_empty() {
            let letter = held.letters.pop_front();
            held.released = letter.is_some();
            self.letters.extend(letter);
        }
        held.released
    }

    /// When to try again what is held back, if anything is.
    pub(crate) fn due(&self) -> Option<Instant> {
        let held = self.held.as_ref()?;
        (!held.letters.is_empty()).then_some(held.due)
    }

    /// What is held back cannot be sent yet. If it was due, doubles the pause, up to so many times [`Limits::retry_backoff`].
    pub(crate) fn postpone(&mut self, limits: &Limits) {
        let now = Instant::now();
        if let Some(held) = self.held.as_mut().filter(|held| held.due <= now) {
            let longest = limits.retry_backoff.saturating_mul(LONGEST).max(held.pause);
            held.pause = held.pause.saturating_mul(2).min(longest);
            held.due = now + held.pause;
        }
    }

    /// Drops the answer to a call, if it is held back. Returns false if it is not.
    pub(crate) fn withdraw(&mut self, id: &Id<'_>) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let answers = envelope::answers_to(id);
        let is_it = |letter: &QueuedReply| !letter.is_item() && answers(&letter.text);
        let place = held.letters.iter().position(is_it);
        let letter = place.and_then(|place| held.letters.remove(place));
        self.bytes -= letter.as_ref().map_or(0, |letter| letter.text.len());
        if held.letters.is_empty() && !held.released {
            self.held = None;
        }
        letter.is_some()
    }
}

/// The last pause is this many times the first for want of room.
const LONGEST: u32 = 100;

/// The letters for one datagram peer, and when to try it again. The kernel does not say when such a
/// peer has room, so it is tried by timer, at doubling intervals.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) outbox: SendQueue,
    pause: Duration,
    due: Instant,
}

impl Backlog {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            outbox: SendQueue::default(),
            pause: limits.retry_backoff,
            due: now + limits.retry_backoff,
        }
    }

    /// When to try next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// The peer took a letter: it is alive, so be quick again.
    pub(crate) fn progressed(&mut self, limits: &Limits) {
        self.pause = limits.retry_backoff;
    }

    /// The peer is still full. Doubles the pause; says `false` when it has been full for too long.
    pub(crate) fn postpone(&mut self, limits: &Limits, now: Instant) -> bool {
        let longest = limits.retry_backoff.saturating_mul(LONGEST);
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
    use crate::accounts::Accounts;

    fn letter(size: usize) -> QueuedReply {
        QueuedReply::from(vec![0; size])
    }

    #[test]
    fn letters_are_taken_up_to_the_budget_and_no_further() {
        let mut limits = Limits::default();
        (limits.backlog_replies, limits.backlog_bytes) = (2, 10);
        limits.user_backlog_bytes = 11;
        let mut outbox = SendQueue::default();
        let account = Accounts::new(&limits).of(None);
        assert!(
            outbox
                .push(letter(5), Place::Room, &limits, &account)
                .is_ok()
        );
        let above = outbox.push(letter(6), Place::Room, &limits, &account);
        assert!(above.is_err(), "one byte above");
        let at = outbox.push(letter(5), Place::Room, &limits, &account);
        assert!(at.is_ok(), "at the limit");
        let above = outbox.push(letter(0), Place::Room, &limits, &account);
        assert!(above.is_err(), "one letter above");
        outbox.pop_sent(&limits);
        assert!(
            outbox
                .push(letter(5), Place::Room, &limits, &account)
                .is_ok()
        );
        outbox.pop_sent(&limits);
        outbox.pop_sent(&limits);
        assert!(outbox.is_empty());
        let first = outbox.push(letter(11), Place::Room, &limits, &account);
        assert!(first.is_ok(), "a first letter always fits");
        let mut other = SendQueue::default();
        let above = other.push(letter(1), Place::Room, &limits, &account);
        assert!(above.is_err(), "but not beyond what its user may");
        outbox.pop_sent(&limits);
        assert!(
            other
                .push(letter(1), Place::Room, &limits, &account)
                .is_ok()
        );
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
