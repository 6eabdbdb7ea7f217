//! Closing what peers have sent, where it may take its time.
//!
//! close(2) of a socket with `SO_LINGER`, or of a file on FUSE or NFS, waits for as long as whoever made it likes.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

/// Something to be dropped elsewhere.
type Load = Box<dyn Send>;

/// Drops things on a thread of its own, which there is only once it is needed.
#[derive(Default)]
pub(crate) struct Closer {
    thread: Mutex<Option<Sender<Load>>>,
}

impl Closer {
    /// Drops `load` there; here if there cannot be a thread.
    pub(crate) fn close(&self, load: impl Send + 'static) {
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
