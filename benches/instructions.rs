//! How many instructions a call takes: nearly the same number every time, so a guard where times are too noisy for one.
//!
//! Client and server are in one thread, so nothing waits: the client starts a call, the server takes a turn, the client
//! takes the answer. callgrind counts the instructions of that in user space, for some calls and for twice as many; the
//! difference is theirs, without what starts and ends the program.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::case::Wire;
use crate::cases::{TURNS, turn};
use crate::table::Table;

/// So many calls are counted.
const CALLS: u64 = 1000;

/// So often: ids begin anywhere, and one in five has a digit less than the others. The median has most.
const TIMES: usize = 5;

/// `instructions`: a table.
pub(crate) fn main() -> Outcome {
    let mut table = Table::new(&["instructions in user space", "socket", "a call"]);
    for name in TURNS {
        for wire in [Wire::Seqpacket, Wire::Datagram] {
            let some = median(name, wire, CALLS)?;
            let more = median(name, wire, 2 * CALLS)?;
            let each = more.saturating_sub(some) / CALLS;
            table.push(vec![name.to_owned(), wire.to_string(), each.to_string()]);
        }
    }
    Ok(writeln!(io::stdout(), "{table}")?)
}

fn median(name: &str, wire: Wire, calls: u64) -> Outcome<u64> {
    let counts = (0..TIMES).map(|_| count(name, wire, calls));
    let mut counts = counts.collect::<Outcome<Vec<u64>>>()?;
    counts.sort_unstable();
    Ok(counts.get(TIMES / 2).copied().unwrap_or_default())
}

/// Runs so many calls in callgrind and says how many instructions that took in all.
fn count(name: &str, wire: Wire, calls: u64) -> Outcome<u64> {
    let directory = tempfile::tempdir()?;
    let report = directory.path().join("report");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", report.display()))
        .arg(std::env::current_exe()?)
        .args(["turns", name, &wire.to_string(), &calls.to_string()])
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !status.success() {
        return Err(format!("{name} over {wire}: {status}").into());
    }
    let report = fs::read_to_string(&report)?;
    let totals = report
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    Ok(totals.ok_or("callgrind wrote no totals")?.trim().parse()?)
}

/// `turns NAME WIRE COUNT`: makes calls in one thread.
pub(crate) fn turns(words: &[&str]) -> Outcome {
    let &[name, wire, count] = words else {
        return Err("arguments: NAME WIRE COUNT".into());
    };
    turn(name, wire.parse()?, count.parse()?)
}
