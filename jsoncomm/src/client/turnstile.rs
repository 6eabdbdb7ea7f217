//! One at a time, with a deadline: what a mutex is to those who can wait for ever.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::caught;

/// What is inside a [`Turnstile`], and what can be left for it.
pub(super) trait Inside {
    /// Something to do that need not be waited for.
    type Note;

    /// Does it.
    fn attend(&mut self, note: Self::Note);

    /// Says whether a note says nothing that the last one does not say.
    fn is_said(last: &Self::Note, note: &Self::Note) -> bool;

    /// What to call once nobody is inside, so that it may enter itself.
    fn take_ready(&mut self) -> Vec<Ready>;
}

/// A function that is called by who leaves.
pub(super) type Ready = Box<dyn FnOnce() + Send>;

/// For how long somebody is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// While it sends or takes in what is there.
    Brief,
    /// Until what it waits for comes.
    Long,
}

/// Lets one thread at a time at what is inside.
pub(super) struct Turnstile<T: Inside> {
    gate: Mutex<Gate<T>>,
    free: Condvar,
}

struct Gate<T: Inside> {
    /// Absent while somebody has it.
    inside: Option<Box<T>>,
    /// How long that one stays.
    stay: Stay,
    /// For whoever has it, to attend to before giving it back.
    notes: Vec<T::Note>,
    /// How many wait for it. Telling nobody would cost a system call each time.
    waiting: usize,
}

impl<T: Inside> Turnstile<T> {
    pub(super) fn new(inside: T) -> Self {
        Self {
            gate: Mutex::new(Gate {
                inside: Some(Box::new(inside)),
                stay: Stay::Brief,
                notes: Vec::new(),
                waiting: 0,
            }),
            free: Condvar::new(),
        }
    }

    /// Enters if nobody is inside. Leaves a note if somebody is; never waits.
    pub(super) fn enter_or_leave(&self, note: T::Note) -> Option<Entered<'_, T>> {
        let mut gate = self.lock();
        let entered = self.take(&mut gate, Stay::Brief);
        if entered.is_none() {
            gate.leave(note);
        }
        entered
    }

    /// Attends to a note if nobody is inside. Leaves it if somebody is; never waits.
    pub(super) fn attend_or_leave(&self, note: T::Note) {
        let mut gate = self.lock();
        match self.take(&mut gate, Stay::Brief) {
            Some(mut entered) => {
                drop(gate);
                entered.attend(note);
            }
            None => gate.leave(note),
        }
    }

    /// Waits until nobody has it; `None` when `deadline` has passed before.
    pub(super) fn enter(&self, deadline: Option<Instant>, stay: Stay) -> Option<Entered<'_, T>> {
        let mut gate = self.lock();
        loop {
            if let Some(entered) = self.take(&mut gate, stay) {
                return Some(entered);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            gate = self.wait(gate, left);
        }
    }

    /// Waits for those who stay briefly only; `None` while somebody stays longer.
    pub(super) fn enter_soon(&self) -> Option<Entered<'_, T>> {
        /// Nobody tells when one who stays longer has come before us.
        const LOOK: Duration = Duration::from_millis(1);
        let mut gate = self.lock();
        loop {
            if let Some(entered) = self.take(&mut gate, Stay::Brief) {
                return Some(entered);
            }
            if gate.stay == Stay::Long {
                return None;
            }
            gate = self.wait(gate, Some(LOOK));
        }
    }

    fn wait<'g>(
        &self,
        mut gate: MutexGuard<'g, Gate<T>>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'g, Gate<T>> {
        gate.waiting += 1;
        gate = match timeout {
            None => self.free.wait(gate).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.free.wait_timeout(gate, timeout);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        gate.waiting -= 1;
        gate
    }

    fn take(&self, gate: &mut Gate<T>, stay: Stay) -> Option<Entered<'_, T>> {
        let taken = gate.inside.take()?;
        gate.stay = stay;
        Some(Entered {
            turnstile: self,
            taken: Some(taken),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Gate<T>> {
        // It is held for a move only, which does not panic.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Inside> Gate<T> {
    fn leave(&mut self, note: T::Note) {
        if !self.notes.iter().any(|said| T::is_said(said, &note)) {
            self.notes.push(note);
        }
    }
}

/// The right to what is inside a [`Turnstile`]; given back when dropped, also by a panic. Who drops it calls what has
/// become ready meanwhile.
pub(super) struct Entered<'t, T: Inside> {
    turnstile: &'t Turnstile<T>,
    /// Taken out only by `drop`.
    taken: Option<Box<T>>,
}

impl<T: Inside> Deref for Entered<'_, T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "only drop takes it out")]
    fn deref(&self) -> &T {
        self.taken.as_ref().expect("it is inside until dropped")
    }
}

impl<T: Inside> DerefMut for Entered<'_, T> {
    #[expect(clippy::expect_used, reason = "only drop takes it out")]
    fn deref_mut(&mut self) -> &mut T {
        self.taken.as_mut().expect("it is inside until dropped")
    }
}

impl<'t, T: Inside> Entered<'t, T> {
    /// Attends to the notes, and to those that are left meanwhile.
    #[inline(never)]
    fn attend_all(&mut self, mut gate: MutexGuard<'t, Gate<T>>) -> MutexGuard<'t, Gate<T>> {
        while !gate.notes.is_empty() {
            let notes = std::mem::take(&mut gate.notes);
            drop(gate);
            notes.into_iter().for_each(|note| self.attend(note));
            gate = self.turnstile.lock();
        }
        gate
    }
}

impl<T: Inside> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        let mut gate = self.turnstile.lock();
        if !gate.notes.is_empty() {
            gate = self.attend_all(gate);
        }
        let ready = self.take_ready();
        gate.inside = self.taken.take();
        if gate.waiting > 0 {
            self.turnstile.free.notify_one();
        }
        drop(gate);
        if !ready.is_empty() {
            call_all(ready);
        }
    }
}

#[inline(never)]
fn call_all(ready: Vec<Ready>) {
    for call in ready {
        // One that panics leaves the others told, and the loop as it is: it is the peer who causes the call.
        let _ = caught(call);
    }
}
