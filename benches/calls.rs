//! What a call costs, in rounds: every row once, then every row again, so that what disturbs the machine disturbs all
//! of them. Ratios are taken within a round.

use std::io::{self, Write};
use std::time::Duration;

use crate::Outcome;
use crate::case::{Load, Peer, Wire};
use crate::cases;
use crate::counts::{self, Ends, SystemCalls};
use crate::process::{Cost, Pair, Placement};
use crate::table::{Table, median, micros};

/// What the command line can change.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How often each row is measured.
    rounds: usize,
    /// How long one row takes in one round.
    time: Duration,
    /// Rows are measured whose peer has one of these words in its name; all if there are none.
    only: Vec<String>,
    /// Loads that are measured; all if there are none.
    loads: Vec<Load>,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Outcome<Self> {
        let mut options = Self {
            rounds: 7,
            time: Duration::from_millis(200),
            only: Vec::new(),
            loads: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} of what?"))?;
            match *word {
                "--rounds" => options.rounds = value.parse()?,
                "--time" => options.time = Duration::from_millis(value.parse()?),
                "--only" => options.only.push((*value).to_owned()),
                "--load" => options.loads.push(value.parse()?),
                _ => return Err(format!("no such option: {word}").into()),
            }
        }
        Ok(options)
    }

    /// The loads that are wanted.
    fn loads(&self) -> impl Iterator<Item = (Load, &'static str)> {
        let all = LOADS.into_iter();
        all.filter(|(load, _)| self.loads.is_empty() || self.loads.contains(load))
    }

    /// The rows of a load that are wanted.
    fn rows(&self, load: Load) -> impl Iterator<Item = (&'static dyn Peer, Wire)> {
        let each = |wire| cases::ALL.iter().map(move |&peer| (peer, wire));
        let all = Wire::ALL.into_iter().flat_map(each);
        all.filter(move |(peer, wire)| self.wants(*peer) && peer.does(*wire, load))
    }

    /// Whether the peer is wanted, or one that is compared with it.
    fn wants(&self, peer: &dyn Peer) -> bool {
        let named = |peer: &dyn Peer| self.only.iter().any(|word| peer.name().contains(word));
        let beside = |other: &&&dyn Peer| other.beside() == peer.name() && named(**other);
        self.only.is_empty() || named(peer) || cases::ALL.iter().any(|other| beside(&other))
    }
}

/// The loads, with what their tables are called.
const LOADS: [(Load, &str); 8] = [
    (Load::Small, "One client, about 100 bytes of JSON each way"),
    (
        Load::Owned,
        "One client, a string and a list that both sides own",
    ),
    (Load::Clients(8), "8 clients"),
    (Load::Window(32), "32 calls in flight on one connection"),
    (Load::Descriptor, "One descriptor each way"),
    (Load::Text(64 << 10), "64 KiB of text each way"),
    (Load::Text(1 << 20), "1 MiB of text each way"),
    (Load::Text(16 << 20), "16 MiB of text each way"),
];

/// A row: who, over what, and each round's cost.
struct Row {
    peer: &'static dyn Peer,
    wire: Wire,
    pair: Pair,
    /// Calls in a round.
    count: u64,
    rounds: Vec<Cost>,
    allocations: Option<Ends<f64>>,
    system_calls: Option<Ends<SystemCalls>>,
}

/// `calls`: tables for each load.
pub(crate) fn main(words: &[&str]) -> Outcome {
    let options = Options::parse(words)?;
    let program = counts::program()?;
    let mut out = io::stdout();
    for (load, title) in options.loads() {
        let mut rows = start(&options, load)?;
        for row in &mut rows {
            row.allocations = counts::allocations(&program, row.peer, row.wire, load)?;
            row.system_calls = counts::system_calls(row.peer, row.wire, load)?;
        }
        let placements: &[_] = match load {
            Load::Small => &[Placement::OneCore, Placement::TwoCores, Placement::Free],
            _ => &[Placement::OneCore],
        };
        for &placement in placements {
            if measure(&options, load, placement, &mut rows)? {
                let table = table(load, placement, &rows);
                writeln!(out, "\n{title}; {}\n\n{table}", placement.title())?;
            }
        }
    }
    Ok(())
}

/// `allocations`: a table for each load.
pub(crate) fn allocations(words: &[&str]) -> Outcome {
    let options = Options::parse(words)?;
    let program = counts::program()?;
    for (load, title) in options.loads() {
        let mut table = Table::new(&["allocations in a call", "socket", "client", "server"]);
        for (peer, wire) in options.rows(load) {
            if let Some(ends) = counts::allocations(&program, peer, wire, load)? {
                let (client, server) = (often(ends.client), often(ends.server));
                table.push(vec![peer.name().into(), wire.to_string(), client, server]);
            }
        }
        writeln!(io::stdout(), "\n{title}\n\n{table}")?;
    }
    Ok(())
}

/// `syscalls`: a table for each load.
pub(crate) fn system_calls(words: &[&str]) -> Outcome {
    let options = Options::parse(words)?;
    for (load, title) in options.loads() {
        let mut table = Table::new(&["system calls in a call", "socket", "client", "server"]);
        for (peer, wire) in options.rows(load) {
            let ends = counts::system_calls(peer, wire, load)?.ok_or("no strace")?;
            let (client, server) = (ends.client.list(), ends.server.list());
            table.push(vec![peer.name().into(), wire.to_string(), client, server]);
        }
        writeln!(io::stdout(), "\n{title}\n\n{table}")?;
    }
    Ok(())
}

fn often(number: f64) -> String {
    format!("{number:.1}")
}

impl Placement {
    fn title(self) -> &'static str {
        match self {
            Self::OneCore => "both processes on one core",
            Self::TwoCores => "each process on a core of its own",
            Self::Free => "both processes wherever the kernel puts them",
        }
    }
}

/// Starts the processes of all rows.
fn start(options: &Options, load: Load) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (peer, wire) in options.rows(load) {
        let pair = Pair::start(peer, wire, load)
            .map_err(|error| format!("{} over {wire}, {load}: {error}", peer.name()))?;
        rows.push(Row {
            peer,
            wire,
            pair,
            count: 0,
            rounds: Vec::new(),
            allocations: None,
            system_calls: None,
        });
    }
    Ok(rows)
}

/// Measures all rows in turn, `rounds` times. Says whether there are enough processors for that.
fn measure(options: &Options, load: Load, placement: Placement, rows: &mut [Row]) -> Outcome<bool> {
    for row in &mut *rows {
        if !row.pair.place(placement)? {
            return Ok(false);
        }
        row.rounds.clear();
        row.count = warm(&mut row.pair, load, options.time)?;
    }
    for _ in 0..options.rounds {
        for row in &mut *rows {
            let cost = row.pair.run(row.count)?;
            row.rounds.push(cost);
        }
    }
    Ok(true)
}

/// Makes calls until they take about `time`, and says how many that is.
fn warm(pair: &mut Pair, load: Load, time: Duration) -> Outcome<u64> {
    let time = time.as_nanos();
    let mut count = match load {
        Load::Clients(clients) | Load::Window(clients) => 2 * clients as u64,
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
    /// How long a call takes, in nanoseconds.
    fn time(&self, load: Load, cost: &Cost) -> f64 {
        match load.is_concurrent() {
            true => per(cost.run.wall, self.count),
            false => cost.run.median as f64,
        }
    }

    fn of(&self, figure: impl Fn(&Cost) -> f64) -> f64 {
        median(self.rounds.iter().map(figure))
    }

    /// The row that this is compared with. Nobody has written a stream by hand: those rows are compared with
    /// sequenced packets.
    fn beside<'r>(&self, rows: &'r [Self]) -> Option<&'r Self> {
        let of = |wire| {
            let is = move |row: &&Self| row.peer.name() == self.peer.beside() && row.wire == wire;
            rows.iter().find(is)
        };
        of(self.wire).or_else(|| of(Wire::Seqpacket))
    }

    /// The figure beside that of the row it is compared with, in the same round.
    fn ratio(&self, rows: &[Self], figure: impl Fn(&Self, &Cost) -> f64) -> String {
        let Some(other) = self.beside(rows) else {
            return String::new();
        };
        let rounds = self.rounds.iter().zip(&other.rounds);
        let ratios = rounds.map(|(ours, theirs)| figure(self, ours) / figure(other, theirs));
        format!("{:.2}", median(ratios))
    }
}

fn per(nanos: u64, count: u64) -> f64 {
    nanos as f64 / count as f64
}

fn table(load: Load, placement: Placement, rows: &[Row]) -> Table {
    let mut head = vec![
        "",
        "socket",
        "us a call",
        "p99 us",
        "ratio",
        "CPU us, client",
        "server",
        "CPU ratio",
    ];
    let counted = placement == Placement::OneCore;
    if counted {
        head.extend(["allocations, client", "server"]);
        head.extend(["system calls, client", "server"]);
    }
    let mut table = Table::new(&head);
    let cpu = |row: &Row, cost: &Cost| per(cost.client + cost.server, row.count);
    for row in rows {
        let mut line = vec![
            row.peer.name().to_owned(),
            row.wire.to_string(),
            micros(row.of(|cost| row.time(load, cost))),
            match load.is_concurrent() || row.count < 100 {
                true => String::new(),
                false => micros(row.of(|cost| cost.run.p99 as f64)),
            },
            row.ratio(rows, |row, cost| row.time(load, cost)),
            micros(row.of(|cost| per(cost.client, row.count))),
            micros(row.of(|cost| per(cost.server, row.count))),
            row.ratio(rows, cpu),
        ];
        if counted {
            let (some, calls) = (row.allocations, row.system_calls.as_ref());
            line.extend([
                some.map(|ends| often(ends.client)).unwrap_or_default(),
                some.map(|ends| often(ends.server)).unwrap_or_default(),
                calls
                    .map(|ends| often(ends.client.sum()))
                    .unwrap_or_default(),
                calls
                    .map(|ends| often(ends.server.sum()))
                    .unwrap_or_default(),
            ]);
        }
        table.push(line);
    }
    table
}
