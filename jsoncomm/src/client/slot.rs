//! The slot of a call in flight: the replies that have been received for it and not been taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::notify::Listener;
use super::reply::BufferedReply;
use crate::error::{CallError, Error};
use crate::fds::FDS_MAX;

/// A call in flight. It has a slot from when it was sent until its last reply has been taken, or it is cancelled.
pub(super) struct Slot {
    entries: VecDeque<Entry>,
    /// Length of the texts in `entries`, in bytes.
    bytes: usize,
    /// Descriptors in `entries`.
    fds: usize,
    /// Nothing more will be stored.
    ended: bool,
    /// The reply comes in many parts.
    streamed: bool,
    pub(super) listener: Option<Listener>,
    /// When the listener is notified even if nothing has been stored.
    pub(super) deadline: Option<Instant>,
}

/// A reply, or why no more will come.
pub(super) type Entry = Result<BufferedReply, Ended>;

/// Why no more replies to a call will come.
pub(super) enum Ended {
    /// The server has closed the connection.
    Closed,
    TimedOut,
    /// More parts came than a slot holds.
    Overflow,
    /// The call cannot be waited for.
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<E> From<Ended> for CallError<E> {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Closed => Self::Closed,
            Ended::TimedOut => Self::Deadline,
            Ended::Overflow => Self::Io(Error::Full),
            Ended::Failed(error) => Self::Io(error),
        }
    }
}

/// What became of a reply that was given to a slot.
pub(super) enum Stored {
    Yes,
    /// No: the call had ended before.
    Late(BufferedReply),
    /// No: there was no room. The call has ended with [`Ended::Overflow`].
    Overflow(BufferedReply),
}

impl Slot {
    /// Makes the slot of a call that has one reply.
    pub(super) fn single() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            fds: 0,
            ended: false,
            streamed: false,
            listener: None,
            deadline: None,
        }
    }

    /// Makes the slot of a call whose reply comes in many parts.
    pub(super) fn streamed() -> Self {
        Self {
            streamed: true,
            ..Self::single()
        }
    }

    /// Stores a reply. One always fits; of a reply in many parts, up to 1024 with `budget` bytes and [`FDS_MAX`]
    /// descriptors do.
    pub(super) fn store(&mut self, reply: BufferedReply, budget: usize) -> Stored {
        /// As many small ones as a budget of 1 MiB holds at 1 KiB each.
        const COUNT: usize = 1024;
        if self.ended {
            return Stored::Late(reply);
        }
        let bytes = self.bytes.saturating_add(reply.text.len());
        let fds = self.fds + reply.fds.len();
        let fits = self.entries.len() < COUNT && bytes <= budget && fds <= FDS_MAX;
        if !(fits || self.entries.is_empty()) {
            self.end(Ended::Overflow);
            return Stored::Overflow(reply);
        }
        (self.bytes, self.fds) = (bytes, fds);
        self.ended = !self.streamed || reply.is_last();
        if self.ended && self.entries.is_empty() {
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(Ok(reply));
        Stored::Yes
    }

    /// Stores why no more replies will come, unless the last has been stored.
    pub(super) fn end(&mut self, why: Ended) {
        if !std::mem::replace(&mut self.ended, true) {
            self.entries.push_back(Err(why));
        }
    }

    /// Takes the oldest entry.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        if let Ok(reply) = &entry {
            self.bytes -= reply.text.len();
            self.fds -= reply.fds.len();
        }
        Some(entry)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns true if its reply comes in many parts.
    pub(super) fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Returns true if a reply may still come.
    pub(super) fn is_open(&self) -> bool {
        !self.ended
    }

    /// Takes the listener to notify it. A callback stays for the entries that follow.
    #[must_use = "a listener that is not notified may wait for ever"]
    pub(super) fn take_listener(&mut self) -> Option<Listener> {
        match &self.listener {
            Some(Listener::Callback(callback)) => Some(Listener::Callback(Arc::clone(callback))),
            _ => self.listener.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fds::Fds;
    use crate::limits::{Bounds, Limits};
    use std::fs::File;

    fn reply(length: usize, fds: usize) -> BufferedReply {
        let null = || File::open("/dev/null").unwrap().into();
        BufferedReply {
            text: vec![b' '; length],
            depth: Bounds::from(&Limits::default()).depth,
            fds: Fds::from((0..fds).map(|_| null()).collect::<Vec<_>>()),
            damage: None,
            more: Some(true),
        }
    }

    /// How many such parts are stored before there is no room.
    fn capacity(length: usize, fds: usize) -> usize {
        let mut slot = Slot::streamed();
        let count = (0..)
            .find(|_| matches!(slot.store(reply(length, fds), 1000), Stored::Overflow(_)))
            .unwrap();
        let entries = std::iter::from_fn(|| slot.pop());
        let ends: Vec<_> = entries.filter_map(Result::err).collect();
        assert!(matches!(&ends[..], [Ended::Overflow]));
        count
    }

    #[test]
    fn parts_are_stored_up_to_their_number_their_bytes_and_their_descriptors() {
        assert_eq!(capacity(0, 0), 1024);
        assert_eq!(capacity(250, 0), 4);
        assert_eq!(capacity(251, 0), 3);
        assert_eq!(capacity(1001, 0), 1, "one always fits");
        assert_eq!(capacity(0, 23), 11);
        assert_eq!(capacity(0, 24), 10);
        assert_eq!(capacity(0, 253), 1);
    }

    #[test]
    fn a_part_that_is_taken_makes_room_for_another() {
        let mut slot = Slot::streamed();
        for _ in 0..10 {
            assert!(matches!(slot.store(reply(1000, 253), 1000), Stored::Yes));
            assert!(slot.pop().unwrap().is_ok());
        }
        assert!(slot.is_open() && slot.is_empty());
    }
}
