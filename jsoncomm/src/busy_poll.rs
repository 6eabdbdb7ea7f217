//! Adaptive busy polling: whether to poll before sleeping, and for how long.
//!
//! Waking a thread on another processor takes ten times as long as the rest of a call. A thread that polls notices a
//! message at once, but occupies a processor. [`BusyPoll`] is off by default, polls for a short time only, and backs off
//! while polling finds nothing.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Decides when to poll, from the results so far.
#[derive(Debug, Default)]
pub(crate) struct BusyPoll {
    /// Longest time to poll; zero if disabled.
    duration: Duration,
    /// How many waits sleep at once after polling has found nothing.
    backoff: u32,
    /// How many of these are left.
    skips_left: u32,
}

impl BusyPoll {
    /// Upper bound of the time to poll, whatever was asked for.
    const MAX_DURATION: Duration = Duration::from_millis(1);
    /// Upper bound of the backoff, so that polling is still tried.
    const MAX_BACKOFF: u32 = 63;

    /// Sets how long to poll; zero disables it. Always disabled on a single processor, which the peer needs.
    pub(crate) fn set(&mut self, duration: Duration) {
        let is_single = available_parallelism().is_ok_and(|count| count.get() < 2);
        let duration = duration.min(Self::MAX_DURATION);
        *self = Self {
            duration: if is_single { Duration::ZERO } else { duration },
            ..Self::default()
        };
    }

    /// Returns true if polling is enabled.
    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        !self.duration.is_zero()
    }

    /// Returns until when to poll before this wait; `None` if it should sleep at once.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        if !self.is_enabled() {
            return None;
        }
        if self.skips_left > 0 {
            self.skips_left -= 1;
            return None;
        }
        Some(Instant::now() + self.duration)
    }

    /// Records whether polling has found something.
    pub(crate) fn record(&mut self, found: bool) {
        self.backoff = if found {
            0
        } else {
            (2 * self.backoff + 1).min(Self::MAX_BACKOFF)
        };
        self.skips_left = self.backoff;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_polling_is_off_by_default_and_its_time_is_bounded() {
        assert_eq!(BusyPoll::default().next_deadline(), None);
        let mut poll = BusyPoll::default();
        poll.set(Duration::MAX);
        assert!(poll.duration <= BusyPoll::MAX_DURATION);
        poll.set(Duration::ZERO);
        assert_eq!(poll.next_deadline(), None);
    }

    #[test]
    fn finding_nothing_backs_off_and_finding_something_resets_the_backoff() {
        let mut poll = BusyPoll {
            duration: Duration::from_micros(50),
            ..BusyPoll::default()
        };
        let mut skips = Vec::new();
        for _ in 0..8 {
            let mut skipped = 0;
            while poll.next_deadline().is_none() {
                skipped += 1;
            }
            skips.push(skipped);
            poll.record(false);
        }
        assert_eq!(skips, [0, 1, 3, 7, 15, 31, 63, 63]);
        while poll.next_deadline().is_none() {}
        poll.record(true);
        assert!(poll.next_deadline().is_some());
    }
}
