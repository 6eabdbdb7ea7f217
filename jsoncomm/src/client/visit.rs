//! A thread at the exchange, and what it does when it leaves.

use std::ops::{Deref, DerefMut};

use super::exchange::Exchange;
use super::turnstile::Entered;

/// A thread at the exchange. When it leaves, it calls the functions that have become ready meanwhile: not
/// before, so that they may enter themselves.
pub(super) struct Visit<'t> {
    /// Taken out only by `drop`.
    entered: Option<Entered<'t, Exchange>>,
}

impl<'t> Visit<'t> {
    pub(super) fn new(entered: Entered<'t, Exchange>) -> Self {
        Self {
            entered: Some(entered),
        }
    }

    #[inline(never)]
    fn leave_and_call(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        self.entered = None;
        for call in ready {
            call();
        }
    }
}

impl Deref for Visit<'_> {
    type Target = Exchange;

    #[expect(clippy::expect_used, reason = "only drop takes it out")]
    fn deref(&self) -> &Exchange {
        self.entered.as_ref().expect("it is inside until dropped")
    }
}

impl DerefMut for Visit<'_> {
    #[expect(clippy::expect_used, reason = "only drop takes it out")]
    fn deref_mut(&mut self) -> &mut Exchange {
        self.entered.as_mut().expect("it is inside until dropped")
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.ready.is_empty() {
            self.leave_and_call();
        }
    }
}
