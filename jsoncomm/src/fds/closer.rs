//! Closing received descriptors on another thread.
//!
//! close(2) can take as long as the sender of the descriptor likes: of a socket with `SO_LINGER`, of a socket with such a
//! one unread in it, or of a file on FUSE or NFS.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Discard, Hold, OverBudget};
use crate::sys::process::Origin;
use crate::sys::socket::stop_lingering;
use crate::sys::{lock, opaque_debug};

/// A value whose destructor may wait.
type Load = Box<dyn Send>;

/// What the thread shares with those that give it something to drop. Not a channel of std: that is 40 KiB of code.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

opaque_debug!(Shared);

#[derive(Default)]
struct Queue {
    loads: VecDeque<Load>,
    has_thread: bool,
    /// Nothing more will come.
    ended: bool,
}

/// Drops values on its own thread, one after another. The thread is started when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Closer {
    shared: Arc<Shared>,
    /// The number of descriptors that a client has discarded and that are still open.
    waiting: AtomicUsize,
    /// The process that has the thread.
    origin: Origin,
}

impl Closer {
    /// Returns true in the process that created it. A forked child does not have the thread.
    pub(crate) fn is_own_process(&self) -> bool {
        self.origin.is_own_process()
    }

    /// Drops `load` on the thread.
    ///
    /// Drops it on this thread if none can be started, or in a forked child, where closing does not wait: the parent has
    /// the same descriptors open.
    pub(crate) fn close(&self, load: impl Send + 'static) {
        self.close_boxed(Box::new(load));
    }

    fn close_boxed(&self, load: Load) {
        if !self.is_own_process() {
            return;
        }
        let mut queue = lock(&self.shared.queue);
        if !queue.has_thread {
            queue.has_thread = start(Arc::clone(&self.shared));
        }
        if queue.has_thread {
            queue.loads.push_back(load);
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if self.is_own_process() {
            lock(&self.shared.queue).ended = true;
            self.shared.changed.notify_one();
        } else {
            // What waits is the parent's to close, whose thread may have held the lock at the fork.
            Box::leak(Box::new(Arc::clone(&self.shared)));
        }
    }
}

/// For a client, which has one peer and no accounts.
///
/// Above a number of open descriptors, the next ones are closed on the thread that received them (backpressure).
impl Discard for Closer {
    fn discard(self: Arc<Self>, fds: Vec<OwnedFd>) {
        /// The number of descriptors that may wait to be closed.
        const WAITING_MAX: usize = 128;

        /// Counts descriptors until this is dropped, after them.
        struct Counted(usize, Arc<Closer>);

        impl Drop for Counted {
            fn drop(&mut self) {
                self.1.waiting.fetch_sub(self.0, Ordering::Relaxed);
            }
        }

        if !self.is_own_process() {
            // Closed without changing their options: the parent may use them.
            return;
        }
        let count = fds.len();
        let waiting = self.waiting.fetch_add(count, Ordering::Relaxed);
        let load = (FdsToClose(fds), Counted(count, Arc::clone(&self)));
        if waiting <= WAITING_MAX {
            self.close(load);
        }
    }

    fn hold(self: Arc<Self>) -> Result<Option<Hold>, OverBudget> {
        Ok(None)
    }
}

/// Descriptors to close without lingering.
pub(crate) struct FdsToClose(pub(crate) Vec<OwnedFd>);

impl Drop for FdsToClose {
    fn drop(&mut self) {
        for fd in self.0.drain(..) {
            stop_lingering(fd.as_fd());
        }
    }
}

/// Starts the thread, which ends after its [`Closer`]. Returns false if that fails.
fn start(shared: Arc<Shared>) -> bool {
    let thread = std::thread::Builder::new().name("jsoncomm-close".into());
    thread.spawn(move || while shared.drop_next() {}).is_ok()
}

impl Shared {
    /// Waits for the next value and drops it. Returns false if there will be none.
    fn drop_next(&self) -> bool {
        let is_idle = |queue: &mut Queue| queue.loads.is_empty() && !queue.ended;
        let queue = self.changed.wait_while(lock(&self.queue), is_idle);
        let load = queue
            .unwrap_or_else(PoisonError::into_inner)
            .loads
            .pop_front();
        // The lock is not held any more.
        load.is_some()
    }
}
