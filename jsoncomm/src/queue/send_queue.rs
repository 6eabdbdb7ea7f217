//! Replies that cannot be sent yet, bounded by the budgets of their peer and its user.
//!
//! A reply waits for one of two reasons. If the peer has no room, everything waits in order. If too many descriptors or
//! memfds are in flight, only replies that bring more of them are held back, and others may overtake them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queued_reply::{QueuedReply, SendOutcome};
use crate::accounts::Account;
use crate::envelope::{self, Id};
use crate::limits::Limits;

/// What a reply waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// Room at the peer. It is sent after all others that wait for the same.
    Room,
    /// Less in flight: the peers of its user have to read descriptors or memfds first. Such a reply is held back.
    InFlight,
}

/// The longest pause between two attempts, in multiples of [`Limits::retry_backoff`].
const LONGEST_PAUSE: u32 = 100;

/// Exponential backoff between attempts to send.
struct Backoff {
    pause: Duration,
    due: Instant,
}

impl Backoff {
    fn new(pause: Duration, now: Instant) -> Self {
        let due = now + pause;
        Self { pause, due }
    }

    /// Doubles the pause, up to `longest`, and starts it.
    fn double(&mut self, longest: Duration, now: Instant) {
        *self = Self::new(self.pause.saturating_mul(2).min(longest), now);
    }
}

/// The replies for one peer, oldest first.
#[derive(Default)]
pub(crate) struct SendQueue {
    /// Those that wait for room.
    replies: VecDeque<QueuedReply>,
    /// The text of all replies, including those held back.
    bytes: usize,
    /// Boxed, because few queues ever hold a reply back.
    held: Option<Box<HeldBack>>,
}

/// Replies that are held back. They are retried by timer: no event tells when a peer reads.
struct HeldBack {
    /// Oldest first.
    replies: VecDeque<QueuedReply>,
    /// The oldest of these has been moved to the front of those that wait for room, to be tried next.
    released: bool,
    backoff: Backoff,
}

/// The first pause. It is short, because a peer that reads may be waiting for just this reply.
fn first_pause(limits: &Limits) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(1);
    (limits.retry_backoff / 8).max(SHORTEST)
}

impl SendQueue {
    /// Returns true if no reply waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.held.is_none()
    }

    /// Returns true if replies wait for room at the peer.
    pub(crate) fn waits_for_room(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The number of replies held back.
    pub(crate) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.replies.len())
    }

    /// The number of all replies.
    pub(crate) fn len(&self) -> usize {
        self.replies.len() + self.held()
    }

    /// Appends a reply. Gives it back if it exceeds the budget of the peer or of its user.
    ///
    /// An empty queue takes one reply whatever `backlog_bytes` is; [`Limits::message`] bounds it. The user's budget still
    /// applies.
    pub(crate) fn push(
        &mut self,
        mut reply: QueuedReply,
        waits_for: WaitsFor,
        limits: &Limits,
        account: &Arc<Account>,
    ) -> Result<(), Box<QueuedReply>> {
        let bytes = self.bytes.saturating_add(reply.text.len());
        let fits = self.len() < limits.backlog_replies && bytes <= limits.backlog_bytes;
        if (!fits && !self.is_empty()) || !reply.try_charge(account, waits_for) {
            return Err(Box::new(reply));
        }
        self.bytes = bytes;
        match waits_for {
            WaitsFor::Room => self.replies.push_back(reply),
            WaitsFor::InFlight => self.held_mut(limits).replies.push_back(reply),
        }
        Ok(())
    }

    fn held_mut(&mut self, limits: &Limits) -> &mut HeldBack {
        self.held.get_or_insert_with(|| {
            Box::new(HeldBack {
                replies: VecDeque::new(),
                released: false,
                backoff: Backoff::new(first_pause(limits), Instant::now()),
            })
        })
    }

    /// The oldest reply that waits for room.
    pub(crate) fn front(&self) -> Option<&QueuedReply> {
        self.replies.front()
    }

    /// Removes the oldest reply that waits for room.
    pub(crate) fn pop(&mut self) -> Option<QueuedReply> {
        let reply = self.replies.pop_front()?;
        self.bytes -= reply.text.len();
        if let Some(held) = &mut self.held {
            held.released = false;
        }
        self.held.take_if(|held| held.replies.is_empty());
        Some(reply)
    }

    /// Removes the oldest reply that waits for room, after it has been sent.
    /// The next pause of the replies held back is the first, short one again.
    pub(crate) fn pop_sent(&mut self, limits: &Limits) {
        let reply = self.pop();
        if let Some(held) = &mut self.held {
            held.backoff.pause = first_pause(limits);
        }
        if let Some(mut reply) = reply {
            reply.finish(SendOutcome::Sent);
        }
    }

    /// Puts a reply in front of all that wait for room, in place of one that was removed.
    pub(crate) fn push_front(&mut self, reply: QueuedReply) {
        self.bytes += reply.text.len();
        self.replies.push_front(reply);
    }

    /// Holds back the oldest reply that waits for room. `push` puts it before or after those held back already.
    pub(crate) fn hold_front(
        &mut self,
        limits: &Limits,
        push: fn(&mut VecDeque<QueuedReply>, QueuedReply),
    ) {
        if let Some(reply) = self.replies.pop_front() {
            let held = self.held_mut(limits);
            held.released = false;
            push(&mut held.replies, reply);
        }
    }

    /// Makes the first reply held back the next to send, unless another waits for room. Returns true if the next
    /// reply to send was held back.
    pub(crate) fn release(&mut self) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        if self.replies.is_empty() {
            let reply = held.replies.pop_front();
            held.released = reply.is_some();
            self.replies.extend(reply);
        }
        held.released
    }

    /// When to retry the replies held back, if there are any.
    pub(crate) fn due(&self) -> Option<Instant> {
        let held = self.held.as_ref()?;
        (!held.replies.is_empty()).then_some(held.backoff.due)
    }

    /// Doubles the pause if the replies held back were due and could not be sent.
    pub(crate) fn double_pause_if_due(&mut self, limits: &Limits) {
        let now = Instant::now();
        if let Some(HeldBack { backoff, .. }) = self.held.as_deref_mut() {
            if backoff.due <= now {
                let longest = limits.retry_backoff.saturating_mul(LONGEST_PAUSE);
                backoff.double(longest.max(backoff.pause), now);
            }
        }
    }

    /// Appends a reply that has been charged, whatever the budget of the peer.
    pub(crate) fn restore(&mut self, reply: QueuedReply) {
        self.bytes += reply.text.len();
        self.replies.push_back(reply);
    }

    /// Returns all replies, those that wait for room first.
    pub(crate) fn into_replies(self) -> impl Iterator<Item = QueuedReply> {
        let held = self.held.map(|held| held.replies);
        self.replies.into_iter().chain(held.into_iter().flatten())
    }

    /// Drops the reply to call `id`. Returns false if that reply is not held back.
    pub(crate) fn withdraw(&mut self, id: &Id<'_>) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let is_reply = envelope::response_matcher(id);
        let withdrawn = |reply: &QueuedReply| !reply.is_item() && is_reply(&reply.text);
        let Some(index) = held.replies.iter().position(withdrawn) else {
            return false;
        };
        let reply = held.replies.remove(index);
        self.bytes -= reply.map_or(0, |reply| reply.text.len());
        if held.replies.is_empty() && !held.released {
            self.held = None;
        }
        true
    }
}

/// The replies for one datagram peer. They are retried by timer: the kernel does not report when such a peer has room.
pub(crate) struct Backlog {
    pub(crate) queue: SendQueue,
    backoff: Backoff,
}

impl Backlog {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            queue: SendQueue::default(),
            backoff: Backoff::new(limits.retry_backoff, now),
        }
    }

    /// When to retry.
    pub(crate) fn due(&self) -> Instant {
        self.backoff.due
    }

    /// Resets the pause, after the peer has read something.
    pub(crate) fn progressed(&mut self, limits: &Limits) {
        self.backoff.pause = limits.retry_backoff;
    }

    /// Doubles the pause. Returns false if the peer has had no room for too long.
    pub(crate) fn double_pause_or_give_up(&mut self, limits: &Limits, now: Instant) -> bool {
        let longest = limits.retry_backoff.saturating_mul(LONGEST_PAUSE);
        if self.backoff.pause >= longest {
            return false;
        }
        self.backoff.double(longest, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Accounts;

    fn reply(size: usize) -> QueuedReply {
        QueuedReply::from(vec![0; size])
    }

    #[test]
    fn replies_are_queued_up_to_the_budget_and_no_further() {
        let mut limits = Limits::default();
        (limits.backlog_replies, limits.backlog_bytes) = (2, 10);
        limits.user_backlog_bytes = 11;
        let mut queue = SendQueue::default();
        let account = Accounts::new(&limits).of(None);
        assert!(
            queue
                .push(reply(5), WaitsFor::Room, &limits, &account)
                .is_ok()
        );
        let above = queue.push(reply(6), WaitsFor::Room, &limits, &account);
        assert!(above.is_err(), "one byte above");
        let at = queue.push(reply(5), WaitsFor::Room, &limits, &account);
        assert!(at.is_ok(), "at the limit");
        let above = queue.push(reply(0), WaitsFor::Room, &limits, &account);
        assert!(above.is_err(), "one reply above");
        queue.pop_sent(&limits);
        assert!(
            queue
                .push(reply(5), WaitsFor::Room, &limits, &account)
                .is_ok()
        );
        queue.pop_sent(&limits);
        queue.pop_sent(&limits);
        assert!(queue.is_empty());
        let first = queue.push(reply(11), WaitsFor::Room, &limits, &account);
        assert!(first.is_ok(), "a first reply always fits");
        let mut other = SendQueue::default();
        let above = other.push(reply(1), WaitsFor::Room, &limits, &account);
        assert!(above.is_err(), "but not beyond the budget of its user");
        queue.pop_sent(&limits);
        assert!(
            other
                .push(reply(1), WaitsFor::Room, &limits, &account)
                .is_ok()
        );
    }

    #[test]
    fn a_peer_without_room_is_dropped_after_an_exponential_backoff() {
        let limits = Limits::default();
        let now = Instant::now();
        let mut backlog = Backlog::new(&limits, now);
        let mut pauses = vec![backlog.due() - now];
        while backlog.double_pause_or_give_up(&limits, now) {
            pauses.push(backlog.due() - now);
        }
        let millis: Vec<u128> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1000]);
        backlog.progressed(&limits);
        assert!(backlog.double_pause_or_give_up(&limits, now));
    }
}
