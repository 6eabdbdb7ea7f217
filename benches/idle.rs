//! What clients that are connected and silent cost a server: memory.

use std::fs;
use std::io::{self, Write};

use crate::Outcome;
use crate::case::{Load, Wire};
use crate::cases;
use crate::process::{Pair, Process};
use crate::table::Table;

/// How many silent clients there are.
const CLIENTS: [usize; 3] = [0, 1000, 10_000];

/// What `/proc` says of a process, in KiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// `VmRSS` in proc(5): pages that are in memory.
    resident: u64,
    /// `Pss` of `smaps_rollup`: the same, with what is shared divided by those who share it.
    proportional: u64,
    /// `Private_Dirty` of `smaps_rollup`: what would not be there without the process.
    private: u64,
}

impl Memory {
    fn of(process: &Process) -> Outcome<Self> {
        let read = |file: &str, name: &str| -> Outcome<u64> {
            let text = fs::read_to_string(format!("/proc/{}/{file}", process.id()))?;
            let line = text.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(number
                .ok_or_else(|| format!("no {name} in {file}"))?
                .parse()?)
        };
        Ok(Self {
            resident: read("status", "VmRSS:")?,
            proportional: read("smaps_rollup", "Pss:")?,
            private: read("smaps_rollup", "Private_Dirty:")?,
        })
    }
}

/// `idle`: a table.
pub(crate) fn main() -> Outcome {
    let head = [
        "",
        "socket",
        "clients",
        "VmRSS KiB",
        "Pss KiB",
        "private KiB",
        "bytes a client",
    ];
    let mut table = Table::new(&head);
    for name in ["by hand", "jsoncomm #[service]"] {
        let peer = cases::find(name)?;
        for wire in [Wire::Seqpacket, Wire::Datagram] {
            let mut alone = None;
            for clients in CLIENTS {
                let mut pair = Pair::start(peer, wire, Load::Idle(clients))?;
                pair.run(1)?;
                let memory = Memory::of(&pair.server)?;
                let alone = *alone.get_or_insert(memory.private);
                let more = memory.private.saturating_sub(alone) * 1024;
                let each = more.checked_div(clients as u64);
                table.push(vec![
                    name.to_owned(),
                    wire.to_string(),
                    clients.to_string(),
                    memory.resident.to_string(),
                    memory.proportional.to_string(),
                    memory.private.to_string(),
                    each.map(|bytes| bytes.to_string()).unwrap_or_default(),
                ]);
            }
        }
    }
    writeln!(
        io::stdout(),
        "\nMemory of a server whose clients are silent\n\n{table}"
    )?;
    Ok(())
}
