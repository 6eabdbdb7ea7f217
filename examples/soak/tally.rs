//! Counts of the clients, and their random numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use jsoncomm::Kind;

/// Marsaglia's xorshift64*: the same seed gives the same numbers.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    /// Returns a size below `end`.
    pub(crate) fn size(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    /// Returns true once in this many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    pub(crate) until: Instant,
    /// How long it repeats one behaviour at most.
    pub(crate) bout: Duration,
    pub(crate) random: Random,
    pub(crate) tally: Tally,
}

impl Client {
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Sleeps for up to this many milliseconds.
    pub(crate) fn idle(&mut self, most: u64) {
        let time = Duration::from_millis(self.random.below(most + 1));
        let until = self.until.min(Instant::now() + time);
        while let Some(rest) = until.checked_duration_since(Instant::now()) {
            thread::park_timeout(rest.max(Duration::from_micros(1)));
        }
    }
}

/// Counts of calls and faults, by behaviour and kind.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    role: &'static str,
    counts: BTreeMap<(&'static str, String), u64>,
    wrong: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn of(role: &'static str) -> Self {
        Self {
            role,
            ..Self::default()
        }
    }

    pub(crate) fn count(&mut self, what: &str) {
        self.count_many(what, 1);
    }

    pub(crate) fn count_many(&mut self, what: &str, number: u64) {
        *self.counts.entry((self.role, what.to_owned())).or_default() += number;
    }

    /// Returns all counts.
    pub(crate) fn sum(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Records a failure.
    pub(crate) fn wrong(&mut self, what: &str) {
        let what = format!("{}: {what}", self.role);
        *self.wrong.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (what, number) in other.counts {
            *self.counts.entry(what).or_default() += number;
        }
        for (what, number) in other.wrong {
            *self.wrong.entry(what).or_default() += number;
        }
    }

    pub(crate) fn into_wrong(self) -> impl Iterator<Item = String> {
        let wrong = self.wrong.into_iter();
        wrong.map(|(what, number)| format!("{what} ({number} times)"))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((role, what), number) in &self.counts {
            writeln!(f, "{role:18} {what:34} {number:>10}")?;
        }
        Ok(())
    }
}
