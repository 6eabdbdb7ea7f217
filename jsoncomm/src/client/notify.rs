//! Who waits for the replies to a call, and how they are notified.

use std::sync::{Arc, Condvar, Mutex, TryLockError};
use std::task::Waker;
use std::time::Instant;

use super::slot::Entry;
use super::table::Shared;
use crate::error::caught;

/// What is notified when a reply to a call is stored. To be notified and dropped with the table unlocked: a waker and
/// a callback are user code.
pub(super) enum Listener {
    /// A thread that follows the [leader](super::leader).
    Thread(Arc<Condvar>),
    Task(Waker),
    Callback(Arc<Callback>),
}

impl Listener {
    /// Returns true if notifying it runs user code. That code may make calls, so the leader hands over first.
    pub(super) fn runs_user_code(&self) -> bool {
        !matches!(self, Self::Thread(_))
    }

    /// Returns true for a callback. Of several listeners callbacks are notified last: one may wait for a thread that is
    /// notified too.
    pub(super) fn is_callback(&self) -> bool {
        matches!(self, Self::Callback(_))
    }

    pub(super) fn notify(self, shared: &Shared) {
        match self {
            Self::Thread(follower) => follower.notify_one(),
            // A peer causes this: a waker that panics must not keep the others from being notified.
            Self::Task(waker) => drop(caught(|| waker.wake())),
            Self::Callback(callback) => callback.run(shared),
        }
    }
}

/// A function that is called with each entry of a call's slot, in order, by whichever thread receives it.
pub(super) struct Callback {
    id: u64,
    function: Mutex<Box<dyn FnMut(Entry) + Send>>,
}

impl Callback {
    /// Calls the function with all that is stored for its call. Does nothing if that is already going on, in another
    /// thread or further up in this one: it then goes on there.
    fn run(&self, shared: &Shared) {
        while shared.lock().has_entry(self.id) {
            let mut function = match self.function.try_lock() {
                Ok(function) => function,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            while let Some(entry) = shared.pop(self.id) {
                // A peer causes this: a callback that panics ends neither this thread nor the notification of others.
                let _ = caught(|| function(entry));
            }
        }
    }
}

impl Shared {
    /// Notifies all, callbacks last.
    pub(super) fn notify_all(&self, mut listeners: Vec<Listener>) {
        listeners.sort_by_key(Listener::is_callback);
        for listener in listeners {
            listener.notify(self);
        }
    }

    /// Has a function called with what is stored for a call, now and later. At the deadline the call ends, if an event
    /// loop drives the connection.
    pub(super) fn set_callback(
        &self,
        id: u64,
        deadline: Option<Instant>,
        mut function: impl FnMut(Entry) + Send + 'static,
    ) {
        if let Err(error) = self.check_process() {
            return function(Err(error));
        }
        let function = Mutex::new(Box::new(function) as Box<_>);
        let callback = Arc::new(Callback { id, function });
        let listener = Listener::Callback(Arc::clone(&callback));
        let replaced = self.lock().listen(id, listener, deadline);
        drop(replaced);
        callback.run(self);
    }
}
