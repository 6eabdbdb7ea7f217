//! What is known of one call in flight: what has been received for it, and who is to be notified of more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::notify::{Listener, Notification};
use super::reply::Kept;
use crate::error::Error;
use crate::fds::FDS_MAX;

/// A call in flight. It has a slot from when it was sent until its last reply has been taken, or it is cancelled.
pub(super) struct Slot {
    /// What has been received and not been taken.
    kept: VecDeque<Result<Kept, Error>>,
    /// Length of the texts in `kept`, in bytes.
    bytes: usize,
    /// Descriptors in `kept`.
    fds: usize,
    /// Nothing more will be kept.
    ended: bool,
    /// It is answered in many parts.
    many: bool,
    pub(super) listener: Listener,
    /// When the listener is to be notified although nothing has come.
    pub(super) deadline: Option<Instant>,
}

impl Slot {
    /// Makes the slot of a call that has one reply.
    pub(super) fn one() -> Self {
        Self {
            kept: VecDeque::new(),
            bytes: 0,
            fds: 0,
            ended: false,
            many: false,
            listener: Listener::None,
            deadline: None,
        }
    }

    /// Makes the slot of a call that is answered in many parts.
    pub(super) fn many() -> Self {
        Self {
            many: true,
            ..Self::one()
        }
    }

    /// Takes a reply to keep it, unless the last has been kept. Returns false if there is no room for it: then the call
    /// has ended with [`Error::Full`].
    ///
    /// One always fits. Of the parts of a reply in many, up to 1024 with `budget` bytes and [`FDS_MAX`] descriptors do.
    pub(super) fn keep(&mut self, reply: &mut Option<Kept>, budget: usize) -> bool {
        /// As many small ones as a budget of 1 MiB holds at 1 KiB each.
        const COUNT: usize = 1024;
        let Some(kept) = reply.as_ref().filter(|_| !self.ended) else {
            return true;
        };
        let bytes = self.bytes.saturating_add(kept.text.len());
        let fds = self.fds + kept.fds.len();
        let fits = self.kept.len() < COUNT && bytes <= budget && fds <= FDS_MAX;
        if !(fits || self.kept.is_empty()) {
            self.end(Error::Full);
            return false;
        }
        (self.bytes, self.fds) = (bytes, fds);
        self.ended = !self.many || kept.is_last();
        if self.ended && self.kept.is_empty() {
            self.kept.reserve_exact(1);
        }
        self.kept.extend(reply.take().map(Ok));
        true
    }

    /// Keeps the reason why no more will come.
    pub(super) fn end(&mut self, error: Error) {
        if !std::mem::replace(&mut self.ended, true) {
            self.kept.push_back(Err(error));
        }
    }

    /// Takes the oldest that is kept.
    pub(super) fn pop(&mut self) -> Option<Result<Kept, Error>> {
        let kept = self.kept.pop_front()?;
        if let Ok(kept) = &kept {
            self.bytes -= kept.text.len();
            self.fds -= kept.fds.len();
        }
        Some(kept)
    }

    /// Returns true if nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns true if it is answered in many parts.
    pub(super) fn is_many(&self) -> bool {
        self.many
    }

    /// Returns true if a reply may still come.
    pub(super) fn is_open(&self) -> bool {
        !self.ended
    }

    /// Takes whom to notify that something has been kept. A callback stays for what comes next.
    pub(super) fn notification(&mut self, id: u64) -> Option<Notification> {
        if let Listener::Callback(callback) = &self.listener {
            return Some(Notification::Callback(id, Arc::clone(callback)));
        }
        match std::mem::take(&mut self.listener) {
            Listener::Thread(seat) => Some(Notification::Thread(seat)),
            Listener::Task(waker) => Some(Notification::Task(waker)),
            Listener::None | Listener::Callback(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fds::Fds;
    use crate::limits::{Bounds, Limits};
    use std::fs::File;

    fn kept(length: usize, fds: usize) -> Kept {
        let null = || File::open("/dev/null").unwrap().into();
        Kept {
            text: vec![b' '; length],
            depth: Bounds::from(&Limits::default()).depth,
            fds: Fds::from((0..fds).map(|_| null()).collect::<Vec<_>>()),
            damage: None,
            more: Some(true),
        }
    }

    /// How many such parts are kept before there is no room.
    fn capacity(length: usize, fds: usize) -> usize {
        let mut slot = Slot::many();
        let count = (0..)
            .find(|_| !slot.keep(&mut Some(kept(length, fds)), 1000))
            .unwrap();
        let parts = std::iter::from_fn(|| slot.pop());
        let errors: Vec<_> = parts.filter_map(Result::err).collect();
        assert!(matches!(&errors[..], [Error::Full]), "{errors:?}");
        count
    }

    #[test]
    fn parts_are_kept_up_to_their_number_their_bytes_and_their_descriptors() {
        assert_eq!(capacity(0, 0), 1024);
        assert_eq!(capacity(250, 0), 4);
        assert_eq!(capacity(251, 0), 3);
        assert_eq!(capacity(1001, 0), 1, "one always fits");
        assert_eq!(capacity(0, 23), 11);
        assert_eq!(capacity(0, 24), 10);
        assert_eq!(capacity(0, 253), 1);
    }

    #[test]
    fn what_has_been_taken_makes_room() {
        let mut slot = Slot::many();
        for _ in 0..10 {
            assert!(slot.keep(&mut Some(kept(1000, 253)), 1000));
            assert!(slot.pop().unwrap().is_ok());
        }
        assert!(slot.is_open() && slot.is_empty());
    }
}
