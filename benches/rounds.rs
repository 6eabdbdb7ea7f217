//! Rows that are measured in rounds: every row once, then every row again, so that what disturbs the machine disturbs all
//! of them. Ratios are taken within a round.

use std::time::Duration;

use crate::Outcome;
use crate::case::{Load, Peer, Wire};
use crate::process::{Cost, Pair, Placement};
use crate::table::median;

/// A row: who, over what, with which load, and each round's cost.
pub(crate) struct Row {
    pub(crate) peer: &'static dyn Peer,
    pub(crate) wire: Wire,
    pub(crate) load: Load,
    /// Calls in a round.
    pub(crate) count: u64,
    /// Why it is not measured, or no more.
    pub(crate) failed: Option<String>,
    pair: Option<Pair>,
    rounds: Vec<Cost>,
}

/// Starts the processes of all rows.
pub(crate) fn start(rows: impl Iterator<Item = (&'static dyn Peer, Wire)>, load: Load) -> Vec<Row> {
    let start = |(peer, wire): (&'static dyn Peer, Wire)| {
        let pair = Pair::start(peer, wire, load);
        Row {
            peer,
            wire,
            load,
            count: 0,
            failed: pair.as_ref().err().map(ToString::to_string),
            pair: pair.ok(),
            rounds: Vec::new(),
        }
    };
    rows.map(start).collect()
}

/// Measures all rows in turn, `rounds` times, each for about `time`. Returns true if there are enough processors.
pub(crate) fn measure(
    rows: &mut [Row],
    placement: Placement,
    rounds: usize,
    time: Duration,
) -> Outcome<bool> {
    for row in &mut *rows {
        row.rounds.clear();
        if let Some(pair) = &mut row.pair {
            if !pair.place(placement)? {
                return Ok(false);
            }
            let count = warm(pair, row.load, time);
            row.count = row.succeeded(count).unwrap_or(0);
        }
    }
    for _ in 0..rounds {
        for row in &mut *rows {
            let count = row.count;
            if let Some(pair) = &mut row.pair {
                let cost = pair.run(count);
                let cost = row.succeeded(cost);
                row.rounds.extend(cost);
            }
        }
    }
    Ok(true)
}

/// Makes calls until they take about `time`, and says how many that is.
fn warm(pair: &mut Pair, load: Load, time: Duration) -> Outcome<u64> {
    let time = time.as_nanos();
    let mut count = match load {
        Load::Clients(calls) | Load::Threads(calls) | Load::Window(calls) => 2 * calls as u64,
        Load::OneWay(calls) => 2 * (calls as u64 + 1),
        _ => 2,
    };
    loop {
        let wall = u128::from(pair.run(count)?.run.wall).max(1);
        if wall * 2 > time {
            return Ok(u64::try_from(u128::from(count) * time / wall)?.max(1));
        }
        count *= u64::try_from((time / wall).clamp(2, 20))?;
    }
}

impl Row {
    /// Notes why something failed; the row is not measured any more.
    fn succeeded<T>(&mut self, outcome: Outcome<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed = Some(error.to_string());
                self.pair = None;
                self.rounds.clear();
                None
            }
        }
    }

    /// Notes why something was not counted; the row goes on.
    pub(crate) fn noted<T>(&mut self, what: &str, outcome: Outcome<T>) -> Option<T> {
        outcome
            .map_err(|error| self.failed = Some(format!("{what}: {error}")))
            .ok()
    }

    /// How long a call takes, in nanoseconds.
    pub(crate) fn time(&self, cost: &Cost) -> f64 {
        if self.load.is_concurrent() {
            per(cost.run.wall, self.count)
        } else {
            cost.run.median as f64
        }
    }

    /// A figure of the middle round.
    pub(crate) fn of(&self, figure: impl Fn(&Self, &Cost) -> f64) -> f64 {
        median(self.rounds.iter().map(|cost| figure(self, cost)))
    }

    /// The row that this is compared with. There is no stream by hand: those rows are compared with
    /// sequenced packets.
    fn beside<'r>(&self, rows: &'r [Self], name: &str) -> Option<&'r Self> {
        let of = |wire| {
            let is = move |row: &&Self| row.peer.name() == name && row.wire == wire;
            rows.iter().find(is)
        };
        of(self.wire).or_else(|| of(Wire::Seqpacket))
    }

    /// The figure beside that of the row it is compared with, in the same round.
    pub(crate) fn ratio(&self, rows: &[Self], figure: impl Fn(&Self, &Cost) -> f64) -> String {
        self.ratio_to(self.peer.beside(), rows, figure)
    }

    /// The figure beside that of the row of another peer, in the same round.
    pub(crate) fn ratio_to(
        &self,
        name: &str,
        rows: &[Self],
        figure: impl Fn(&Self, &Cost) -> f64,
    ) -> String {
        let Some(other) = self.beside(rows, name) else {
            return String::new();
        };
        let rounds = self.rounds.iter().zip(&other.rounds);
        let ratios = rounds.map(|(ours, theirs)| figure(self, ours) / figure(other, theirs));
        format!("{:.2}", median(ratios))
    }
}

/// A time of so many calls, for each.
pub(crate) fn per(nanos: u64, count: u64) -> f64 {
    nanos as f64 / count as f64
}
