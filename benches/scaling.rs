//! How the cost of a call grows: with clients, methods, calls in flight, and bytes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::calls::Options;
use crate::case::{Load, Wire};
use crate::cases;
use crate::plot::{Line, Plot};
use crate::process::Placement;
use crate::rounds::{self, Row};
use crate::table::{Table, micros};

/// One plot.
struct Curve {
    /// What its file is called.
    name: &'static str,
    title: &'static str,
    /// What is along the horizontal axis.
    along: &'static str,
    points: &'static [usize],
    load: fn(usize) -> Load,
}

const CURVES: [Curve; 4] = [
    Curve {
        name: "clients",
        title: "A call beside clients that are connected and silent",
        along: "connected clients",
        points: &[1, 10, 100, 1000, 10_000],
        load: |clients| Load::Idle(clients - 1),
    },
    Curve {
        name: "methods",
        title: "A call of the last of many methods",
        along: "methods at the endpoint",
        points: &[10, 50, 100, 200, 500],
        load: Load::Methods,
    },
    Curve {
        name: "inflight",
        title: "Calls in flight on one connection",
        along: "calls in flight",
        points: &[1, 10, 32, 100, 1000, 10_000],
        load: Load::Window,
    },
    Curve {
        name: "size",
        title: "A call with a text each way",
        along: "bytes of text each way",
        points: &[
            64,
            256,
            1 << 10,
            4 << 10,
            16 << 10,
            64 << 10,
            256 << 10,
            1 << 20,
            4 << 20,
            16 << 20,
        ],
        load: Load::Text,
    },
];

const PEERS: [&str; 2] = ["by hand", "jsoncomm #[service]"];
const WIRES: [Wire; 2] = [Wire::Seqpacket, Wire::Datagram];

/// `scaling [DIRECTORY]`: tables, and plots in the directory.
pub(crate) fn main(words: &[&str]) -> Outcome {
    let (directory, words) = match words {
        [directory, rest @ ..] if !directory.starts_with('-') => (PathBuf::from(directory), rest),
        _ => (Path::new(env!("CARGO_MANIFEST_DIR")).join("plots"), words),
    };
    let options = Options::parse(words)?;
    fs::create_dir_all(&directory)?;
    for curve in &CURVES {
        let plot = draw(curve, &options)?;
        if plot.lines.is_empty() {
            writeln!(io::stdout(), "not measured: see README.md")?;
            continue;
        }
        fs::write(
            directory.join(curve.name).with_extension("svg"),
            plot.to_string(),
        )?;
    }
    Ok(())
}

fn draw(curve: &Curve, options: &Options) -> Outcome<Plot> {
    let mut out = io::stdout();
    let mut lines: Vec<Line> = Vec::new();
    let mut table = Table::new(&[curve.along, "", "socket", "us a call", "ratio"]);
    for &point in curve.points {
        let load = (curve.load)(point);
        let mut who = Vec::new();
        for name in PEERS {
            let peer = cases::find(name)?;
            who.extend(WIRES.map(|wire| (peer, wire)));
        }
        who.retain(|(peer, wire)| peer.does(*wire, load));
        let mut rows = rounds::start(who.into_iter(), load);
        rounds::measure(&mut rows, Placement::OneCore, options.rounds, options.time)?;
        for row in &rows {
            let name = format!("{}, {}", row.peer.name(), row.wire);
            if let Some(reason) = &row.failed {
                writeln!(out, "{name}, {point} {}: {reason}", curve.along)?;
                continue;
            }
            let time = row.of(Row::time);
            if !lines.iter().any(|line| line.name == name) {
                lines.push(Line::new(&name));
            }
            let line = lines.iter_mut().find(|line| line.name == name);
            line.ok_or("a line")?
                .points
                .push((point as f64, time / 1e3));
            table.push(vec![
                point.to_string(),
                row.peer.name().to_owned(),
                row.wire.to_string(),
                micros(time),
                row.ratio(&rows, Row::time),
            ]);
        }
    }
    writeln!(out, "\n{}\n\n{table}", curve.title)?;
    Ok(Plot {
        title: curve.title.to_owned(),
        along: curve.along.to_owned(),
        up: "microseconds a call".to_owned(),
        lines,
    })
}
