//! One at a time, with a deadline: what a mutex is to those who can wait for ever.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is inside a [`Turnstile`], and what can be left for it.
pub(super) trait Inside {
    /// Something to do that need not be waited for.
    type Note;

    /// Does it.
    fn attend(&mut self, note: Self::Note);

    /// What to call once nobody is inside, so that it may enter itself.
    fn take_ready(&mut self) -> Vec<Ready>;
}

/// A function that is called by who leaves.
pub(super) type Ready = Box<dyn FnOnce() + Send>;

/// Lets one thread at a time at what is inside.
pub(super) struct Turnstile<T: Inside> {
    gate: Mutex<Gate<T>>,
    free: Condvar,
}

struct Gate<T: Inside> {
    /// Absent while somebody has it.
    inside: Option<Box<T>>,
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
                notes: Vec::new(),
                waiting: 0,
            }),
            free: Condvar::new(),
        }
    }

    /// Enters if nobody is inside. Leaves a note if somebody is; never waits.
    pub(super) fn enter_or_leave(&self, note: T::Note) -> Option<Entered<'_, T>> {
        let mut gate = self.lock();
        let entered = self.take(&mut gate);
        if entered.is_none() {
            gate.notes.push(note);
        }
        entered
    }

    /// Attends to a note if nobody is inside. Leaves it if somebody is; never waits.
    pub(super) fn attend_or_leave(&self, note: T::Note) {
        let mut gate = self.lock();
        match self.take(&mut gate) {
            Some(mut entered) => {
                drop(gate);
                entered.attend(note);
            }
            None => gate.notes.push(note),
        }
    }

    /// Waits until nobody has it; `None` when `deadline` has passed before.
    pub(super) fn enter(&self, deadline: Option<Instant>) -> Option<Entered<'_, T>> {
        let mut gate = self.lock();
        loop {
            if let Some(entered) = self.take(&mut gate) {
                return Some(entered);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            gate.waiting += 1;
            gate = match left {
                None => self.free.wait(gate).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.free.wait_timeout(gate, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            gate.waiting -= 1;
        }
    }

    fn take(&self, gate: &mut Gate<T>) -> Option<Entered<'_, T>> {
        let taken = gate.inside.take()?;
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
        call();
    }
}
