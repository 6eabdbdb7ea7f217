//! System calls that fail on purpose, in tests: any call, with any error, at the n-th time.
//!
//! The plan and the counts belong to the thread, so tests that run beside each other do not meet. A call that
//! is to fail is not made.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use rustix::io::Errno;

/// Which of a thread's system calls fail, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its manual-page name.
    pub(crate) call: &'static str,
    /// Which times, counted from 0.
    pub(crate) times: Range<usize>,
    pub(crate) errno: Errno,
}

#[derive(Default)]
struct Thread {
    plan: Option<Plan>,
    counts: BTreeMap<&'static str, usize>,
    failed: usize,
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::default();
}

/// Counts from 0 again, and has calls fail as planned.
pub(crate) fn begin(plan: Option<Plan>) {
    let counts = BTreeMap::new();
    THREAD.with_borrow_mut(|thread| {
        *thread = Thread {
            plan,
            counts,
            failed: 0,
        }
    });
}

/// Lets all calls be made from now on.
pub(crate) fn end() {
    THREAD.with_borrow_mut(|thread| thread.plan = None);
}

/// How often each system call was to be made since the beginning.
pub(crate) fn counts() -> BTreeMap<&'static str, usize> {
    THREAD.with_borrow(|thread| thread.counts.clone())
}

/// How many calls have failed as planned.
pub(crate) fn failed() -> usize {
    THREAD.with_borrow(|thread| thread.failed)
}

/// Counts a call that is about to be made, or fails in its place.
pub(crate) fn seam(call: &'static str) -> Result<(), Errno> {
    THREAD.with_borrow_mut(|thread| {
        let count = thread.counts.entry(call).or_default();
        *count += 1;
        let this = *count - 1;
        match &thread.plan {
            Some(plan) if plan.call == call && plan.times.contains(&this) => {
                thread.failed += 1;
                Err(plan.errno)
            }
            _ => Ok(()),
        }
    })
}

#[cfg(test)]
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
        let errors = results.map(|result| result.err().and_then(|error| error.raw_os_error()));
        assert_eq!(errors, [None, Some(errno.raw_os_error()), None]);
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
