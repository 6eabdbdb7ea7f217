//! Sources of the loop that wait until another thread has closed something.
//!
//! The loop does not poll: the closing thread reports the sources that may go on, and wakes it.

use std::sync::{Mutex, OnceLock};

use crate::sys::lock;
use crate::sys::process::Origin;

/// Wakes the loop and makes it take the resumed sources.
type Wake = Box<dyn Fn() + Send + Sync>;

/// The keys of the sources that may go on.
#[derive(Default)]
pub(crate) struct Resumed {
    keys: Mutex<Vec<u64>>,
    wake: OnceLock<Wake>,
    /// The process that runs the loop.
    origin: Origin,
}

impl Resumed {
    /// Sets what wakes the loop.
    pub(crate) fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Adds sources, and wakes the loop.
    fn add(&self, keys: impl Iterator<Item = u64>) {
        lock(&self.keys).extend(keys);
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Takes all sources.
    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.keys))
    }
}

/// The keys of the sources that wait for the same condition, in order.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<Vec<u64>>);

impl Waiters {
    /// Adds a source if `must_wait` returns true, and returns that. A resumed source has to ask again.
    pub(super) fn wait(&self, key: u64, must_wait: impl FnOnce() -> bool) -> bool {
        let mut keys = lock(&self.0);
        // Under the lock, so that the next `resume` finds the source.
        let waits = must_wait();
        if waits && !keys.contains(&key) {
            keys.push(key);
        }
        waits
    }

    /// Removes a source.
    pub(super) fn forget(&self, key: u64) {
        lock(&self.0).retain(|other| *other != key);
    }

    /// Resumes the first `room` sources, after something has been closed.
    pub(super) fn resume(&self, resumed: &Resumed, room: impl FnOnce() -> usize) {
        if !resumed.origin.is_own_process() {
            // In a forked child nothing waits, and a thread that it lacks may hold the lock.
            return;
        }
        let mut keys = lock(&self.0);
        if keys.is_empty() {
            return;
        }
        let count = room().min(keys.len());
        if count > 0 {
            resumed.add(keys.drain(..count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn sources_are_resumed_once_in_order_and_only_when_there_is_room() {
        let (resumed, waiters) = (Resumed::default(), Waiters::default());
        let wakes = Arc::new(AtomicUsize::new(0));
        let woken = Arc::clone(&wakes);
        resumed.set_wake(move || {
            woken.fetch_add(1, Ordering::Relaxed);
        });
        assert!(!waiters.wait(1, || false));
        for key in [2, 3, 4, 2] {
            assert!(waiters.wait(key, || true));
        }
        waiters.forget(3);
        waiters.resume(&resumed, || 0);
        assert!(resumed.take().is_empty());
        waiters.resume(&resumed, || 1);
        assert_eq!(resumed.take(), [2]);
        waiters.resume(&resumed, || usize::MAX);
        waiters.resume(&resumed, || usize::MAX);
        assert_eq!(resumed.take(), [4]);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }
}
