//! The slot of a call in flight: the replies that have been received for it and not been taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::notify::Listener;
use super::reply::BufferedReply;
use crate::error::Error;
use crate::fds::FDS_MAX;

/// A call in flight. It has a slot from when it was sent until its last reply has been taken, or it is cancelled.
#[derive(Default)]
pub(super) struct Slot {
    entries: VecDeque<Entry>,
    /// Length of the texts in `entries`, in bytes.
    bytes: usize,
    /// Descriptors in `entries`.
    fds: usize,
    /// Nothing more will be stored.
    ended: bool,
    /// It has not been sent.
    pub(super) gathered: bool,
    /// The number of the batch in which it was sent; 0 if it was sent alone.
    pub(super) batch: u64,
    /// The reply comes in many parts.
    pub(super) streamed: bool,
    pub(super) listener: Option<Listener>,
    /// When the listener is notified even if nothing has been stored.
    pub(super) deadline: Option<Instant>,
}

/// A reply, or why no more will come.
pub(super) type Entry = Result<BufferedReply, Error>;

impl Slot {
    /// Stores a reply. One always fits; of a reply in many parts, up to 1024 with `budget` bytes and [`FDS_MAX`]
    /// descriptors do.
    ///
    /// Returns a reply that it does not store: the call has ended before, or it ends now with [`Error::Full`].
    pub(super) fn store(
        &mut self,
        reply: BufferedReply,
        budget: usize,
    ) -> Result<(), BufferedReply> {
        /// The number of replies of 1 KiB in a budget of 1 MiB.
        const COUNT: usize = 1024;
        if self.ended {
            return Err(reply);
        }
        let bytes = self.bytes.saturating_add(reply.text.len());
        let fds = self.fds + reply.fds.len();
        let fits = self.entries.len() < COUNT && bytes <= budget && fds <= FDS_MAX;
        if !(fits || self.entries.is_empty()) {
            self.end(Error::Full);
            return Err(reply);
        }
        (self.bytes, self.fds) = (bytes, fds);
        self.ended = !self.streamed || reply.is_last();
        if self.ended && self.entries.is_empty() {
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(Ok(reply));
        Ok(())
    }

    /// Stores why no more replies will come, unless the last has been stored.
    pub(super) fn end(&mut self, why: Error) {
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

    /// Returns true if it has been sent and a reply may still come.
    pub(super) fn is_open(&self) -> bool {
        !self.ended && !self.gathered
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
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

    fn streamed() -> Slot {
        Slot {
            streamed: true,
            ..Slot::default()
        }
    }

    /// Returns how many parts of this length, with so many descriptors, a slot stores.
    fn capacity(length: usize, fds: usize) -> usize {
        let mut slot = streamed();
        let count = (0..)
            .find(|_| slot.store(reply(length, fds), 1000).is_err())
            .unwrap();
        let entries = std::iter::from_fn(|| slot.pop());
        let ends: Vec<_> = entries.filter_map(Result::err).collect();
        assert!(matches!(&ends[..], [Error::Full]));
        count
    }

    #[test]
    fn parts_are_stored_up_to_their_number_their_bytes_and_their_descriptors() {
        assert_eq!(capacity(0, 0), 1024);
        assert_eq!(capacity(250, 0), 4);
        assert_eq!(capacity(251, 0), 3);
        assert_eq!(capacity(1001, 0), 1, "the first always fits");
        assert_eq!(capacity(0, 23), 11);
        assert_eq!(capacity(0, 24), 10);
        assert_eq!(capacity(0, 253), 1);
    }

    #[test]
    fn a_part_that_is_taken_makes_room_for_another() {
        let mut slot = streamed();
        for _ in 0..10 {
            assert!(slot.store(reply(1000, 253), 1000).is_ok());
            assert!(slot.pop().unwrap().is_ok());
        }
        assert!(slot.is_open() && slot.is_empty());
    }
}
