//! Fault injection for tests: any system call, any error, at the n-th time.
//!
//! The plan and the counts belong to the thread, so concurrent tests do not affect each other. A call that is to fail
//! is not made.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rustix::io::Errno;

/// Which of a thread's system calls fail, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The manual-page name of the call.
    pub(crate) call: &'static str,
    /// Which times, counted from 0.
    pub(crate) times: Range<usize>,
    pub(crate) errno: Errno,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    counts: BTreeMap<&'static str, usize>,
    failed: usize,
    /// The optional calls that are missing ([`super::optional`]).
    missing: BTreeSet<&'static str>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Resets the counts, forgets which optional calls are missing, and sets which calls fail.
pub(crate) fn begin(plan: Option<Plan>) {
    STATE.set(State {
        plan,
        ..State::default()
    });
}

/// Stops injecting faults; counting goes on.
pub(crate) fn end() {
    STATE.with_borrow_mut(|state| state.plan = None);
}

/// Returns how often each system call was to be made since [`begin`].
pub(crate) fn counts() -> BTreeMap<&'static str, usize> {
    STATE.with_borrow(|state| state.counts.clone())
}

/// Returns how many calls have failed as planned.
pub(crate) fn failed() -> usize {
    STATE.with_borrow(|state| state.failed)
}

/// Returns true if an optional call was missing since [`begin`].
pub(super) fn is_missing(optional: &'static str) -> bool {
    STATE.with_borrow(|state| state.missing.contains(optional))
}

/// Remembers that an optional call is missing.
pub(super) fn set_missing(optional: &'static str) {
    STATE.with_borrow_mut(|state| state.missing.insert(optional));
}

/// Counts a call that is about to be made, or fails in its place.
pub(super) fn count(call: &'static str) -> Result<(), Errno> {
    STATE.with_borrow_mut(|state| {
        let count = state.counts.entry(call).or_default();
        let time = *count;
        *count += 1;
        match &state.plan {
            Some(plan) if plan.call == call && plan.times.contains(&time) => {
                state.failed += 1;
                Err(plan.errno)
            }
            _ => Ok(()),
        }
    })
}

mod tests {
    use super::*;
    use crate::sys::wait;

    #[test]
    fn the_planned_call_fails_and_those_before_and_after_are_made() {
        let (call, errno) = ("timerfd_create", Errno::MFILE);
        begin(Some(Plan {
            call,
            times: 1..2,
            errno,
        }));
        let results = [wait::timerfd(), wait::timerfd(), wait::timerfd()];
        let errors = results.map(|result| result.err().map(|error| (error.operation, error.errno)));
        assert_eq!(errors, [None, Some((call, errno)), None]);
        assert_eq!((counts()[call], failed()), (3, 1));
        begin(Some(Plan {
            call,
            times: 0..2,
            errno,
        }));
        assert!(wait::timerfd().is_err());
        end();
        assert!(wait::timerfd().is_ok());
    }
}
