//! Closing what peers have sent, where it may take its time.
//!
//! close(2) of a socket with `SO_LINGER`, of a socket with such a one unread in it, or of a file on FUSE or NFS, waits
//! for as long as whoever made it likes.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::Discard;
use crate::sys::process::Origin;
use crate::sys::socket::stop_lingering;

/// Something to be dropped elsewhere.
type Load = Box<dyn Send>;

/// Drops things on a thread of its own, which there is only once it is needed. Each waits for the one before.
#[derive(Default)]
pub(crate) struct Closer {
    thread: Mutex<Option<Sender<Load>>>,
    /// Descriptors that a client has let go of.
    waiting: AtomicUsize,
    /// The process that has the thread.
    origin: Origin,
}

/// While more descriptors that a client has let go of wait to be closed, others do not.
const WAITING_MAX: usize = 128;

impl Closer {
    /// Returns true if this is the process in which it was made: a forked child has no thread that closes.
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// Drops `load` there; here if there cannot be a thread, and in a forked child: there the parent has it open, too.
    pub(crate) fn close(&self, load: impl Send + 'static) {
        if !self.is_here() {
            return drop(load);
        }
        // It is held for a move only.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = start();
        }
        if let Some(thread) = &*thread {
            // It ends with this sender and not before.
            let _ = thread.send(Box::new(load));
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if self.is_here() {
            return;
        }
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = thread.take() {
            // Dropping it would take a lock that the parent's thread may have held at the fork.
            Box::leak(Box::new(sender));
        }
    }
}

/// For who has one peer and counts nobody's descriptors. Once that peer has sent too many that are slow to close,
/// whoever receives from it waits for its next ones.
impl Discard for Closer {
    fn discard(self: Arc<Self>, fds: Vec<OwnedFd>) {
        /// Descriptors that are counted until they are closed.
        struct Waiting(Unwanted, Arc<Closer>);

        impl Drop for Waiting {
            fn drop(&mut self) {
                let Self(Unwanted(fds), closer) = self;
                let count = fds.len();
                drop(Unwanted(std::mem::take(fds)));
                closer.waiting.fetch_sub(count, Ordering::Relaxed);
            }
        }

        if !self.is_here() {
            // They may be wanted in the parent: they are closed as they are.
            return;
        }
        let count = fds.len();
        let waiting = self.waiting.fetch_add(count, Ordering::Relaxed);
        let load = Waiting(Unwanted(fds), Arc::clone(&self));
        if waiting <= WAITING_MAX {
            self.close(load);
        }
    }
}

/// Descriptors that are closed with as little waiting as can be.
pub(crate) struct Unwanted(pub(crate) Vec<OwnedFd>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        for fd in self.0.drain(..) {
            stop_lingering(fd.as_fd());
        }
    }
}

/// Starts the thread. It ends when there is nobody left to send it anything.
fn start() -> Option<Sender<Load>> {
    let (sender, loads) = channel::<Load>();
    let name = String::from("jsoncomm-close");
    let thread = std::thread::Builder::new().name(name);
    let started = thread.spawn(move || loads.into_iter().for_each(drop));
    started.ok().map(|_| sender)
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer").finish_non_exhaustive()
    }
}
