//! A thousand clients of a server on one thread, and a hostile one that sends calls without reading the replies and
//! floods the server with one-way calls. Prints what the others notice.
//!
//! Run it with `cargo run --release --example many_clients`.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use jsoncomm::socket::{SendStatus, Socket};
use jsoncomm::{Connection, Kind, Limits, Message, Server};
use rustix::process::{Resource, getrlimit};

#[jsoncomm::service(name = "example.echo")]
trait Echo {
    fn echo(&mut self, text: String) -> String;
    #[oneway]
    fn note(&mut self, text: &str);
}

#[derive(Default)]
struct Room {
    notes: u64,
}

impl Echo for Room {
    fn echo(&mut self, text: String) -> String {
        text
    }

    fn note(&mut self, _: &str) {
        self.notes += 1;
    }
}

/// The JSON text of a call, for a client that does not wait for the reply.
#[derive(Debug, Message)]
struct Ask {
    jsonrpc: &'static str,
    id: u64,
    method: &'static str,
    params: [String; 1],
}

const CLIENTS: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    // This process has both ends of each connection.
    jsoncomm::server::raise_descriptor_limit()?;
    let most = getrlimit(Resource::Nofile).current;
    let clients = most.map_or(CLIENTS, |most| CLIENTS.min(most.saturating_sub(64) / 2));
    let mut limits = Limits::default();
    limits.connections = usize::try_from(clients)? + 2;
    // All clients have the same user.
    limits.user_connections = limits.connections;

    let path = env::temp_dir().join(format!("many_clients-{}.sock", process::id()));
    let mut server = Server::new(limits)?;
    server.bind(&path, Kind::Seqpacket)?.serve::<dyn Echo>();
    let handle = server.handle();
    let client = thread::spawn(move || {
        let done = all(&path, clients).map_err(|error| error.to_string());
        handle.stop();
        done
    });
    let mut room = Room::default();
    server.run(&mut room)?;
    client.join().map_err(|_| "a client panicked")??;
    let (notes, accepted) = (room.notes, server.counts().accepted);
    writeln!(
        io::stdout(),
        "{accepted} connections; of the flood {notes} calls were taken"
    )?;
    Ok(())
}

/// All polite clients make calls, first alone, then beside the hostile one.
fn all(path: &Path, clients: u64) -> Result<(), Box<dyn Error>> {
    let polite = (0..clients).map(|_| Connection::open(path).map(EchoClient::new));
    let polite = polite.collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout();
    writeln!(out, "{clients} clients          {}", time(&polite)?)?;

    let over = AtomicBool::new(false);
    let (asked, with) = thread::scope(|scope| {
        let hostile = scope.spawn(|| harm(path, &over).map_err(|error| error.to_string()));
        let with = time(&polite);
        over.store(true, Ordering::Relaxed);
        (hostile.join(), with)
    });
    let asked = asked.map_err(|_| "the hostile client panicked")??;
    writeln!(out, "and a hostile one     {}", with?)?;
    writeln!(out, "it has sent {asked} calls and read no reply")?;
    Ok(())
}

/// Each client makes some calls. Returns how long a call took.
fn time(clients: &[EchoClient]) -> Result<String, Box<dyn Error>> {
    let mut times = Vec::new();
    for client in [clients; 3].into_iter().flatten() {
        let begun = Instant::now();
        client.echo("hello")?;
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    let micros = |time: Option<Duration>| time.unwrap_or_default().as_micros();
    let (median, p99) = (micros(at(50)), micros(at(99)));
    Ok(format!("median {median} us, p99 {p99} us"))
}

/// Attacks until told to stop; returns how many replies it has not read.
fn harm(path: &Path, over: &AtomicBool) -> Result<u64, Box<dyn Error>> {
    let mut silent = Socket::connect(path, Kind::Seqpacket)?;
    let flood = EchoClient::new(Connection::open(path)?);
    let mut ask = Ask {
        jsonrpc: "2.0",
        id: 0,
        method: "example.echo.echo",
        params: ["x".repeat(1_000)],
    };
    loop {
        // Until the server accepts no more from it.
        while silent.try_send(&ask)? == SendStatus::Done {
            ask.id += 1;
        }
        flood.note("another")?; // waits for room only
        if over.load(Ordering::Relaxed) {
            return Ok(ask.id);
        }
    }
}
