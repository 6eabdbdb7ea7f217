//! Sources of the loop that wait until another thread has closed something.
//!
//! The loop does not look again and again: whoever closes something names the sources that may go on, and wakes it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::sys::process::Origin;

/// Ends the wait of the loop, and has it look for what may go on.
type Wake = Box<dyn Fn() + Send + Sync>;

/// The sources of the loop that may go on, by their keys.
#[derive(Default)]
pub(crate) struct Resumed {
    keys: Mutex<Vec<u64>>,
    wake: OnceLock<Wake>,
    /// The process that has the loop.
    origin: Origin,
}

impl Resumed {
    /// Has the loop woken by this.
    pub(super) fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Names sources that may go on.
    fn add(&self, keys: impl Iterator<Item = u64>) {
        lock(&self.keys).extend(keys);
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Takes the keys of those that may go on.
    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.keys))
    }
}

/// The sources that wait for the same, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Vec<u64>>);

impl Waiters {
    /// Has a source wait while `must_wait` holds. Returns true if it does; then it is resumed once it does not hold any
    /// more. That may also be for another reason, so the source asks again.
    pub(super) fn wait(&self, key: u64, must_wait: impl FnOnce() -> bool) -> bool {
        let mut keys = lock(&self.0);
        // What is closed from now on waits for the lock, and finds the source.
        let waits = must_wait();
        if waits && !keys.contains(&key) {
            keys.push(key);
        }
        waits
    }

    /// Forgets a source that has gone.
    pub(super) fn forget(&self, key: u64) {
        lock(&self.0).retain(|other| *other != key);
    }

    /// Resumes as many of them as there is `room` for, those that have waited longest, after something has been closed.
    pub(super) fn resume(&self, resumed: &Resumed, room: impl FnOnce() -> usize) {
        if !resumed.origin.is_here() {
            // In a forked child nothing waits, and a lock may be held by a thread that it does not have.
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

/// Each is held for a few moves only, and left in order by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_waits_is_resumed_once_in_order_and_only_when_there_is_room() {
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
