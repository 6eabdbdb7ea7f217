//! Abuse: what one hostile or broken client takes from the others. Each scenario prints its figures.
//!
//! ```text
//! cargo run --release --example abuse            all scenarios
//! cargo run --release --example abuse -- NAME    one scenario
//! ```
//!
//! A scenario is a module with one function. Its server and clients are processes of their own, which run as several
//! users if this program runs as root: the same program, started with the scenario's name and the name of a role.

#[path = "abuse/descriptors.rs"]
mod descriptors;
#[path = "abuse/flood.rs"]
mod flood;
#[path = "abuse/in_flight.rs"]
mod in_flight;
#[path = "abuse/items.rs"]
mod items;
#[path = "abuse/payload.rs"]
mod payload;
#[path = "abuse/spilled.rs"]
mod spilled;
#[path = "abuse/stage.rs"]
mod stage;
#[path = "abuse/threads.rs"]
mod threads;

use std::error::Error;
use std::io::{self, Write};
use std::{env, process};

/// Result of a role.
type Trouble = Box<dyn Error + Send + Sync>;

/// One scenario.
struct Scenario {
    name: &'static str,
    shows: &'static str,
    /// Runs it. With a role and its arguments this process is one part of the scenario, otherwise it starts all of
    /// them.
    play: fn(&[&str]) -> Result<(), Trouble>,
}

/// All scenarios.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "in_flight",
        shows: "clients that ask for descriptors and never read, beside one that does",
        play: in_flight::play,
    },
    Scenario {
        name: "spilled",
        shows: "a client that asks for large replies and never reads, beside one that does",
        play: spilled::play,
    },
    Scenario {
        name: "flood",
        shows: "ten clients that are disconnected again and again, beside a polite one of their user",
        play: flood::play,
    },
    Scenario {
        name: "payload",
        shows: "a large payload that takes long to be closed",
        play: payload::play,
    },
    Scenario {
        name: "descriptors",
        shows: "unsolicited datagrams with the largest number of descriptors",
        play: descriptors::play,
    },
    Scenario {
        name: "threads",
        shows: "threads that share a connection, one of which waits",
        play: threads::play,
    },
    Scenario {
        name: "items",
        shows: "large items for a callback, while another call of the client waits",
        play: items::play,
    },
];

fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [name, role @ ..] = &arguments[..] {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == *name);
        let scenario = scenario.ok_or("there is no such scenario")?;
        return (scenario.play)(role);
    }
    for scenario in SCENARIOS {
        writeln!(io::stdout(), "{:12} {}", scenario.name, scenario.shows)?;
    }
    process::exit(2)
}
