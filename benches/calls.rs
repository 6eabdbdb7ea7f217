//! What a call costs: a table for each load.

use std::io::{self, Write};
use std::time::Duration;

use crate::Outcome;
use crate::case::{Load, Peer, Wire};
use crate::cases;
use crate::counts::{self, Ends, SystemCalls};
use crate::process::Placement;
use crate::rounds::{self, Row, per};
use crate::table::{Table, micros};

/// What the command line can change.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How often each row is measured.
    pub(crate) rounds: usize,
    /// How long one row takes in one round.
    pub(crate) time: Duration,
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
const LOADS: [(Load, &str); 17] = [
    (Load::Small, "One client, about 100 bytes of JSON each way"),
    (
        Load::Owned,
        "One client, a string and a list that both sides own",
    ),
    (Load::Clients(8), "8 clients"),
    (Load::Threads(1), "A thread on one connection"),
    (Load::Threads(4), "4 threads on one connection"),
    (Load::Threads(8), "8 threads on one connection"),
    (Load::Window(32), "32 calls in flight on one connection"),
    (
        Load::OneWay(32),
        "32 one-way calls and then one with a reply",
    ),
    (Load::Descriptor, "One descriptor each way"),
    (Load::Text(64 << 10), "64 KiB of text each way"),
    (Load::Text(1 << 20), "1 MiB of text each way"),
    (Load::Text(16 << 20), "16 MiB of text each way"),
    (Load::Records(0), "A record that both sides own"),
    (
        Load::RecordAndFile,
        "A record that both sides own and one descriptor each way",
    ),
    (
        Load::Records(64 << 10),
        "A record that both sides own, with 64 KiB of text",
    ),
    (
        Load::Records(1 << 20),
        "A record that both sides own, with 1 MiB of text",
    ),
    (
        Load::Records(16 << 20),
        "A record that both sides own, with 16 MiB of text",
    ),
];

/// `calls`: tables for each load.
pub(crate) fn main(words: &[&str]) -> Outcome {
    let options = Options::parse(words)?;
    let program = counts::program()?;
    let mut out = io::stdout();
    for (load, title) in options.loads() {
        let mut rows = rounds::start(options.rows(load), load);
        let counted: Vec<_> = rows
            .iter_mut()
            .map(|row| {
                let allocations = counts::allocations(&program, row.peer, row.wire, load);
                let calls = counts::system_calls(row.peer, row.wire, load);
                (
                    row.noted("allocations", allocations).flatten(),
                    row.noted("system calls", calls).flatten(),
                )
            })
            .collect();
        let placements: &[_] = match load {
            Load::Small => &[Placement::OneCore, Placement::TwoCores, Placement::Free],
            _ => &[Placement::OneCore],
        };
        for &placement in placements {
            if !rounds::measure(&mut rows, placement, options.rounds, options.time)? {
                continue;
            }
            let counted = match placement {
                Placement::OneCore => &*counted,
                _ => &[],
            };
            let table = table(&rows, counted);
            writeln!(out, "\n{title}; {}\n\n{table}", placement.title())?;
            for (row, reason) in rows
                .iter()
                .filter_map(|row| row.failed.as_ref().map(|why| (row, why)))
            {
                writeln!(
                    out,
                    "{} over {} failed: {reason}",
                    row.peer.name(),
                    row.wire
                )?;
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
        let head = [
            "allocations in a call",
            "socket",
            "client",
            "server",
            "of which values",
        ];
        let mut table = Table::new(&head);
        for (peer, wire) in options.rows(load) {
            if let Some(ends) = counts::allocations(&program, peer, wire, load)? {
                let (client, server) = (often(ends.client), often(ends.server));
                let values = load.values().to_string();
                table.push(vec![
                    peer.name().into(),
                    wire.to_string(),
                    client,
                    server,
                    values,
                ]);
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

/// What is counted of a row.
type Counted = (Option<Ends<f64>>, Option<Ends<SystemCalls>>);

fn table(rows: &[Row], counted: &[Counted]) -> Table {
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
    if !counted.is_empty() {
        head.extend(["allocations, client", "server"]);
        head.extend(["system calls, client", "server"]);
    }
    let apart = rows
        .first()
        .is_some_and(|row| matches!(row.load, Load::Threads(_)));
    if apart {
        head.push("ratio to a connection each");
    }
    let mut table = Table::new(&head);
    for (place, row) in rows.iter().enumerate() {
        let mut line = vec![
            row.peer.name().to_owned(),
            row.wire.to_string(),
            micros(row.of(Row::time)),
            if row.load.is_concurrent() || row.count < 100 {
                String::new()
            } else {
                micros(row.of(|_, cost| cost.run.p99 as f64))
            },
            row.ratio(rows, Row::time),
            micros(row.of(|row, cost| per(cost.client, row.count))),
            micros(row.of(|row, cost| per(cost.server, row.count))),
            row.ratio(rows, |row, cost| per(cost.client + cost.server, row.count)),
        ];
        if let Some((allocations, calls)) = counted.get(place) {
            line.extend(match allocations {
                Some(ends) => [often(ends.client), often(ends.server)],
                None => Default::default(),
            });
            line.extend(match calls {
                Some(ends) => [often(ends.client.sum()), often(ends.server.sum())],
                None => Default::default(),
            });
        }
        if apart {
            line.push(row.ratio_to(cases::APART, rows, Row::time));
        }
        table.push(line);
    }
    table
}
