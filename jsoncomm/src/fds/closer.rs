//! Closing received descriptors on another thread.
//!
//! close(2) can take as long as the sender of the descriptor likes: of a socket with `SO_LINGER`, of a socket with such a
//! one unread in it, or of a file on FUSE or NFS.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use super::Discard;
use crate::sys::lock;
use crate::sys::process::Origin;
use crate::sys::socket::stop_lingering;

/// A value whose destructor may wait.
type Load = Box<dyn Send>;

/// Drops values on its own thread, one after another. The thread is started when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Closer {
    thread: Mutex<Option<Sender<Load>>>,
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
        if !self.is_own_process() {
            return drop(load);
        }
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            *thread = start();
        }
        if let Some(thread) = &*thread {
            // The thread runs for as long as this sender exists.
            let _ = thread.send(Box::new(load));
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if !self.is_own_process() {
            // Dropping the sender would take a lock that the parent's thread may have held at the fork.
            Box::leak(Box::new(std::mem::take(&mut self.thread)));
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

/// Starts the thread, which ends when its sender is dropped.
fn start() -> Option<Sender<Load>> {
    let (sender, loads) = channel::<Load>();
    let thread = std::thread::Builder::new().name("jsoncomm-close".into());
    let started = thread.spawn(move || loads.into_iter().for_each(drop));
    started.ok().map(|_| sender)
}
