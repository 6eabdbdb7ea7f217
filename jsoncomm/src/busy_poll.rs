//! Looking for a while before going to sleep: whether, and for how long.
//!
//! A process that sleeps has to be woken, and across two processors that takes ten times as long as anything else in a
//! call. One that keeps looking is there at once, and uses a processor for it. [`Spin`] says when that is worth
//! trying: it is off unless asked for, each time is short, and looking in vain makes it rarer.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Whether to look before sleeping, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    /// For how long at most; nothing when it is off.
    longest: Duration,
    /// How often to sleep at once after looking in vain.
    rest: u32,
    /// How often still.
    left: u32,
}

impl Spin {
    /// The longest time that is looked, whatever was asked for.
    const LONGEST: Duration = Duration::from_millis(1);
    /// After looking in vain again and again, every so often is still tried.
    const MOST_REST: u32 = 63;

    /// Looks for so long from now on, or not at all. On a single processor it never does: whoever should answer
    /// would have to wait for it.
    pub(crate) fn set(&mut self, longest: Duration) {
        let alone = available_parallelism().is_ok_and(|count| count.get() < 2);
        *self = Self {
            longest: if alone {
                Duration::ZERO
            } else {
                longest.min(Self::LONGEST)
            },
            ..Self::default()
        };
    }

    /// Returns true unless it never looks.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.longest.is_zero()
    }

    /// Says until when to look this time, if at all.
    #[inline]
    pub(crate) fn until(&mut self) -> Option<Instant> {
        if !self.is_on() {
            return None;
        }
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        Some(Instant::now() + self.longest)
    }

    /// Notes whether looking has found something.
    pub(crate) fn note(&mut self, found: bool) {
        self.rest = match found {
            true => 0,
            false => (2 * self.rest + 1).min(Self::MOST_REST),
        };
        self.left = self.rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin() -> Spin {
        Spin {
            longest: Duration::from_micros(50),
            ..Spin::default()
        }
    }

    #[test]
    fn it_is_off_unless_asked_for_and_short_whatever_is_asked_for() {
        assert_eq!(Spin::default().until(), None);
        let mut spin = Spin::default();
        spin.set(Duration::MAX);
        assert!(spin.longest <= Spin::LONGEST);
        spin.set(Duration::ZERO);
        assert_eq!(spin.until(), None);
    }

    #[test]
    fn looking_in_vain_makes_it_rarer_and_success_frequent_again() {
        let mut spin = spin();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let mut pause = 0;
            while spin.until().is_none() {
                pause += 1;
            }
            pauses.push(pause);
            spin.note(false);
        }
        assert_eq!(pauses, [0, 1, 3, 7, 15, 31, 63, 63]);
        while spin.until().is_none() {}
        spin.note(true);
        assert!(spin.until().is_some());
    }
}
