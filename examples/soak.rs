//! Soak test: a server and 50 clients, polite, slow, dying and hostile ones. Checks for unexpected faults, leaked
//! descriptors, growing memory, and calls that are never completed.
//!
//! ```text
//! cargo run --release --example soak -- [SECONDS [SEED]]     10 seconds by default
//! cargo run --release --example soak -- measure [WORD]       what each hostile client costs a polite one
//! ```
//!
//! The server is a process of its own, so that its resources can be measured from outside. The exit status is 1 if a
//! check fails, and the last lines name the failures.

#[path = "soak/hostile.rs"]
mod hostile;
#[path = "soak/measure.rs"]
mod measure;
#[path = "soak/observed.rs"]
mod observed;
#[path = "soak/polite.rs"]
mod polite;
#[path = "soak/raw.rs"]
mod raw;
#[path = "soak/server.rs"]
mod server;
#[path = "soak/tally.rs"]
mod tally;
#[path = "soak/troubled.rs"]
mod troubled;

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use jsoncomm::Kind;

use hostile::ATTACKS;
use observed::Observed;
use tally::{Client, Random, Tally};

/// Longer than any reply takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Result of a client's step.
type Trouble = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // 50 threads send hundreds of descriptors each.
    jsoncomm::server::raise_descriptor_limit()?;
    let reasons = match arguments[..] {
        ["serve", directory] => return server::serve(directory.as_ref()),
        ["measure"] => measure::all("")?,
        ["measure", word] => measure::all(word)?,
        [] => soak(Duration::from_secs(10), clock())?,
        [seconds] => soak(Duration::from_secs(seconds.parse()?), clock())?,
        [seconds, seed] => soak(Duration::from_secs(seconds.parse()?), seed.parse()?)?,
        _ => return Err("usage: soak [SECONDS [SEED] | measure [WORD]]".into()),
    };
    for reason in &reasons {
        writeln!(io::stdout(), "OFF: {reason}")?;
    }
    if reasons.is_empty() {
        Ok(writeln!(io::stdout(), "nothing is off")?)
    } else {
        Err(format!("{} things are off", reasons.len()).into())
    }
}

/// Returns a different seed each time.
fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() ^ u64::from(now.subsec_nanos()) << 20)
}

/// How much the server's memory may grow between two idle times, in KiB. The allocator keeps what was needed at the
/// busiest moment, and each moment may be busier than those before. A leak of 100 bytes per call exceeds this within
/// seconds.
const GROWTH_KIB: u64 = 8 << 10;

fn soak(time: Duration, seed: u64) -> Result<Vec<String>, Box<dyn Error>> {
    writeln!(io::stdout(), "seed {seed}")?;
    let server = Observed::start()?;
    let before = server.descriptors()?;
    let warm_up = (time / 5).min(Duration::from_secs(30));
    let warm = crowd(&server, warm_up, seed);
    let mut reasons = left(&server, before);
    let memory = server.memory()?;
    let mut tally = crowd(&server, time.saturating_sub(warm_up), !seed);
    tally.add(warm);
    reasons.extend(left(&server, before));
    let (descriptors, grown) = (server.descriptors()?, server.memory()?);
    let mut out = io::stdout().lock();
    write!(out, "{tally}")?;
    writeln!(out, "server: {descriptors} descriptors, {before} before")?;
    writeln!(out, "server: {grown} KiB resident, {memory} KiB when warm")?;
    if grown > memory + GROWTH_KIB {
        reasons.push(format!("memory grew by {} KiB", grown - memory));
    }
    reasons.extend(server.probe().err().map(|error| error.to_string()));
    writeln!(out, "server: {}", server.stop()?)?;
    reasons.extend(tally.into_wrong());
    Ok(reasons)
}

/// Reports what a server still holds after its clients have disconnected.
fn left(server: &Observed, before: usize) -> Vec<String> {
    let wait = |what: &str, done: &dyn Fn() -> Result<bool, Box<dyn Error>>| {
        let until = Instant::now() + PATIENCE;
        loop {
            match done() {
                Ok(true) => return None,
                Ok(false) if Instant::now() < until => thread::yield_now(),
                Ok(false) => return Some(format!("{what} are left")),
                Err(error) => return Some(format!("{what}: {error}")),
            }
        }
    };
    let calls = wait("calls", &|| Ok(server.settled()? == 0));
    let descriptors = wait("descriptors", &|| Ok(server.descriptors()? <= before));
    calls.into_iter().chain(descriptors).collect()
}

/// A client's behaviour, which it repeats.
type Act = fn(&mut Client) -> Result<(), Trouble>;

/// Runs 50 clients for a while.
fn crowd(server: &Observed, time: Duration, seed: u64) -> Tally {
    let mut random = Random::new(seed);
    let mut members: Vec<(&str, Kind, Act)> = Vec::new();
    let mut add = |count, role, kind, act| {
        members.extend(std::iter::repeat_n((role, kind, act), count));
    };
    add(12, "polite", Kind::Seqpacket, polite::act as Act);
    add(8, "polite datagram", Kind::Datagram, polite::act);
    add(6, "slow", Kind::Seqpacket, troubled::slow);
    add(8, "dying", Kind::Seqpacket, troubled::dying);
    // A datagram server gets no hang-up, so there are fewer ways to disconnect.
    add(
        2,
        "dying datagram",
        Kind::Datagram,
        troubled::dying_datagram,
    );
    add(ATTACKS.len(), "hostile", Kind::Seqpacket, hostile::act);
    add(2, "hostile datagram", Kind::Datagram, hostile::act_datagram);
    let until = Instant::now() + time;
    let started = members
        .into_iter()
        .enumerate()
        .map(|(number, (role, kind, act))| {
            let client = Client {
                number,
                kind,
                path: server.path(kind),
                until,
                bout: Duration::from_millis(200),
                random: Random::new(random.next()),
                tally: Tally::of(role),
            };
            thread::spawn(move || live(client, act))
        });
    let threads: Vec<_> = started.collect();
    let mut tally = Tally::default();
    for thread in threads {
        match thread.join() {
            Ok(one) => tally.add(one),
            Err(_) => tally.wrong("a client panicked"),
        }
    }
    tally
}

fn live(mut client: Client, act: Act) -> Tally {
    while !client.is_over() {
        if let Err(trouble) = act(&mut client) {
            client.tally.wrong(&trouble.to_string());
        }
    }
    client.tally
}

/// Returns the address of the server's socket of this kind.
fn path_in(directory: &Path, kind: Kind) -> std::path::PathBuf {
    directory.join(match kind {
        Kind::Datagram => "datagram.sock",
        _ => "seqpacket.sock",
    })
}
