//! Who is notified of what has been received for a call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::task::Waker;
use std::time::Instant;

use super::reply::Kept;
use super::table::Shared;
use crate::error::{Error, caught};

/// Who is to be notified when something is kept.
#[derive(Default)]
pub(super) enum Listener {
    #[default]
    None,
    Thread(Arc<Seat>),
    Task(Waker),
    Callback(Arc<Callback>),
}

/// A notification to be given once the table is unlocked.
#[must_use]
pub(super) enum Notification {
    Thread(Arc<Seat>),
    Task(Waker),
    Callback(u64, Arc<Callback>),
}

impl Notification {
    /// Returns true if code of the program runs when it is given: that may call again, so it must not be given by a
    /// thread that receives for others.
    pub(super) fn runs_user_code(&self) -> bool {
        !matches!(self, Self::Thread(_))
    }

    /// Returns true if giving it may take as long as the program likes. A waker only has something done elsewhere.
    pub(super) fn may_wait(&self) -> bool {
        matches!(self, Self::Callback(..))
    }

    /// Notifies.
    pub(super) fn give(self, shared: &Shared) {
        match self {
            Self::Thread(seat) => seat.condvar.notify_one(),
            // It is a peer that causes the call: a waker that panics leaves the others notified.
            Self::Task(waker) => drop(caught(|| waker.wake())),
            Self::Callback(id, callback) => callback.call(shared, id),
        }
    }
}

/// Where a thread waits while another receives.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) condvar: Condvar,
    /// This thread is to receive from now on. Changed under the table's lock.
    leads: AtomicBool,
}

impl Seat {
    pub(super) fn set_leads(&self) {
        self.leads.store(true, Ordering::Relaxed);
    }

    pub(super) fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }
}

/// A function that is called with a reply, or with each part of one in their order, by whichever thread receives it.
pub(super) struct Callback(Mutex<Tell>);

/// Takes a reply, or the reason why there is none.
pub(super) type Tell = Box<dyn FnMut(Result<Kept, Error>) + Send>;

impl Callback {
    pub(super) fn new(tell: impl FnMut(Result<Kept, Error>) + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Box::new(tell))))
    }

    /// Calls it with all that is kept for its call, unless another thread, or this one further up, is doing that: then
    /// that one goes on with it.
    fn call(&self, shared: &Shared, id: u64) {
        while shared.lock().has_kept(id) {
            let mut tell = match self.0.try_lock() {
                Ok(tell) => tell,
                Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
                Err(TryLockError::WouldBlock) => return,
            };
            loop {
                // In a statement of its own, so that the table is not locked during the call.
                let kept = shared.lock().pop(id);
                let Some(kept) = kept else { break };
                // One that panics leaves the others told, and the loop as it is: it is the peer who causes the call.
                let _ = caught(|| tell(kept));
            }
        }
    }
}

impl Shared {
    /// Gives notifications: those that run code of the program last, as it may wait for a thread that is notified here.
    pub(super) fn give_all(&self, mut notifications: Vec<Notification>) {
        notifications.sort_by_key(Notification::may_wait);
        notifications
            .into_iter()
            .for_each(|notification| notification.give(self));
    }

    /// Has a callback called with what comes for a call, or at the deadline, and with what has come already.
    pub(super) fn call_back(&self, id: u64, callback: Arc<Callback>, deadline: Option<Instant>) {
        let mut table = self.lock();
        let (notification, before) = table.listen(id, Listener::Callback(callback), deadline);
        // Wakers are dropped with the table unlocked.
        drop(table);
        drop(before);
        if let Some(notification) = notification {
            notification.give(self);
        }
    }
}
