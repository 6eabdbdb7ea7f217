//! The two processes of a case, and the few words in which they report on stdout.
//!
//! A server prints `ready` and serves until it is killed. A client prints `ready` when it is connected; for each
//! `run COUNT` on stdin it makes so many calls and prints a line of [`Run`]. Where allocations are counted the
//! server has a second thread that answers each line with the count so far.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use jsoncomm::server::raise_descriptor_limit;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer};
use crate::cases;

/// What a client says about the calls it made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Run {
    /// How long all of them took, in nanoseconds.
    pub(crate) wall: u64,
    /// How long half of them took at most, in nanoseconds.
    pub(crate) median: u64,
    /// How long 99 in 100 took at most, in nanoseconds.
    pub(crate) p99: u64,
    /// How often the client allocated meanwhile.
    pub(crate) allocations: usize,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {}",
            self.wall, self.median, self.p99, self.allocations
        )
    }
}

impl FromStr for Run {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[wall, median, p99, allocations]) => Ok(Self {
                wall,
                median,
                p99,
                allocations: usize::try_from(allocations).unwrap_or(usize::MAX),
            }),
            _ => Err(format!("a client said {line:?}")),
        }
    }
}

/// Reads `PEER WIRE LOAD PATH`.
fn parse(words: &[&str]) -> Outcome<(&'static dyn Peer, At)> {
    let &[peer, wire, load, path] = words else {
        return Err("arguments: PEER WIRE LOAD PATH".into());
    };
    let at = At {
        path: path.into(),
        wire: wire.parse()?,
        load: load.parse()?,
    };
    Ok((cases::find(peer)?, at))
}

fn say(what: impl fmt::Display) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

/// Is a server.
pub(crate) fn serve(words: &[&str], allocations: Option<fn() -> usize>) -> Outcome {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (peer, at) = parse(words)?;
    if matches!(at.load, Load::Idle(_)) {
        raise_descriptor_limit()?;
    }
    if let Some(allocations) = allocations {
        thread::spawn(move || -> Outcome {
            let (mut lines, mut line) = (io::stdin().lock(), String::with_capacity(80));
            while lines.read_line(&mut line)? > 0 {
                line.clear();
                say(allocations())?;
            }
            Ok(())
        });
    }
    peer.serve(&at, &|| say("ready"))
}

/// Is a client.
pub(crate) fn call(words: &[&str], allocations: Option<fn() -> usize>) -> Outcome {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (peer, at) = parse(words)?;
    let mut caller: Box<dyn Caller> = match at.load {
        Load::Clients(number) | Load::Threads(number) => Box::new(Crowd::start(peer, &at, number)?),
        Load::Idle(number) => Box::new(Beside::start(peer, &at, number)?),
        _ => peer.connect(&at)?,
    };
    say("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let count = line.strip_prefix("run ").ok_or("not a command")?.parse()?;
        let mut laps = Laps::new(count);
        let counted = allocations.map(|allocations| allocations());
        let start = Instant::now();
        caller.run(&mut laps)?;
        let wall = start.elapsed().as_nanos();
        let counted = allocations.map_or(0, |after| after() - counted.unwrap_or(0));
        let mut nanos = laps.into_nanos()?;
        nanos.sort_unstable();
        let at = |percent| nanos.get(nanos.len() * percent / 100).copied();
        say(Run {
            wall: u64::try_from(wall)?,
            median: at(50).unwrap_or(0),
            p99: at(99).unwrap_or(0),
            allocations: counted,
        })?;
    }
    Ok(())
}

/// One client that calls, beside those that have called once.
struct Beside {
    client: Box<dyn Caller>,
    _idle: Vec<Box<dyn Caller>>,
}

impl Beside {
    fn start(peer: &dyn Peer, at: &At, number: usize) -> Outcome<Self> {
        raise_descriptor_limit()?;
        let mut idle = Vec::with_capacity(number);
        for _ in 0..number {
            let mut client = peer.connect(at)?;
            client.run(&mut Laps::new(1))?;
            idle.push(client);
        }
        Ok(Self {
            client: peer.connect(at)?,
            _idle: idle,
        })
    }
}

impl Caller for Beside {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        self.client.run(laps)
    }
}

/// Several clients, each on a thread of its own.
struct Crowd {
    /// To each, how many calls to make; from each, how long they took.
    clients: Vec<(Sender<u64>, Receiver<Times>)>,
}

type Times = Outcome<Vec<u64>>;

impl Crowd {
    fn start(peer: &'static dyn Peer, at: &At, number: usize) -> Outcome<Self> {
        let mut clients = Vec::new();
        for _ in 0..number {
            let (order, orders) = channel::<u64>();
            let (done, dones) = channel();
            let at = at.clone();
            thread::spawn(move || {
                let mut client = match peer.connect(&at) {
                    Ok(client) => client,
                    Err(error) => return drop(done.send(Err(error))),
                };
                let _ = done.send(Ok(Vec::new()));
                for count in orders {
                    let mut laps = Laps::new(count);
                    let ran = client.run(&mut laps).and_then(|()| laps.into_nanos());
                    let _ = done.send(ran);
                }
            });
            dones.recv()??;
            clients.push((order, dones));
        }
        Ok(Self { clients })
    }
}

impl Caller for Crowd {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let (mut total, number) = (0, self.clients.len() as u64);
        while laps.issue().is_some() {
            total += 1;
        }
        for (place, (order, _)) in self.clients.iter().enumerate() {
            let more = u64::from((place as u64) < total % number);
            order.send(total / number + more)?;
        }
        for (_, done) in &self.clients {
            done.recv()??.into_iter().for_each(|_| laps.lap());
        }
        Ok(())
    }
}
