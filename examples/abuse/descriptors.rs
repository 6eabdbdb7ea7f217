//! Twenty-five datagrams that are not JSON, each with 253 descriptors of `/dev/null`, to a datagram endpoint.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use jsoncomm::address::Address;
use jsoncomm::fds::Fds;
use jsoncomm::socket::{RawDatagram, SendStatus, Socket};
use jsoncomm::{Connection, Kind, Limits, Server};

use crate::Trouble;
use crate::stage::{ABUSER, POLITE, SERVER, Stage, pause, say};

/// A minimal service.
#[jsoncomm::service(name = "abuse.counter")]
trait Counter {
    /// Returns the sum.
    fn add(&mut self, left: u32, right: u32) -> u32;
}

struct Sums;

impl Counter for Sums {
    fn add(&mut self, left: u32, right: u32) -> u32 {
        left.wrapping_add(right)
    }
}

/// How many datagrams are sent.
const MESSAGES: usize = 25;

pub(crate) fn play(role: &[&str]) -> Result<(), Trouble> {
    match role {
        [] => all(),
        ["serve", path] => serve(path),
        ["send", path] => send(path),
        ["ask", path] => ask(path),
        _ => Err("there is no such role".into()),
    }
}

fn all() -> Result<(), Trouble> {
    let stage = Stage::new("descriptors")?;
    let _server = stage.start(SERVER, "serve", &[])?;
    let mut polite = stage.start(POLITE, "ask", &[])?;
    writeln!(
        io::stdout(),
        "{MESSAGES} datagrams that are no JSON, with 253 descriptors each"
    )?;
    polite.go_on()?;
    writeln!(io::stdout(), "  others, before: {}", polite.hear()?)?;
    let mut abuser = stage.start(ABUSER, "send", &[])?;
    polite.go_on()?;
    abuser.go_on()?;
    writeln!(io::stdout(), "  the sender: {}", abuser.hear()?)?;
    writeln!(io::stdout(), "  others, now: {}", polite.hear()?)?;
    Ok(())
}

fn serve(path: &str) -> Result<(), Trouble> {
    let mut server = Server::new(Limits::default())?;
    let at = jsoncomm::address::Bind::at(path).mode(0o666);
    server.bind(at, Kind::Datagram)?.serve::<dyn Counter>();
    say("ready")?;
    Ok(server.run(&mut Sums)?)
}

/// Sends them, each as soon as there is room.
fn send(path: &str) -> Result<(), Trouble> {
    let mut socket = Socket::unconnected()?;
    let null = File::open("/dev/null")?;
    let mut fds = Fds::new();
    for _ in 0..253 {
        fds.push(null.try_clone()?.into())?;
    }
    let raw = RawDatagram {
        bytes: b"{".to_vec(),
        fds,
        peer: None,
    };
    say("ready")?;
    pause()?;
    let (begin, to) = (Instant::now(), Address::from(path));
    for _ in 0..MESSAGES {
        while socket.try_send_raw(&raw, Some(&to))? == SendStatus::Full {
            std::thread::yield_now();
        }
    }
    say(&format!("sent in {} us", begin.elapsed().as_micros()))?;
    Ok(pause()?)
}

/// Calls for three seconds; prints the longest call.
fn ask(path: &str) -> Result<(), Trouble> {
    const TIME: Duration = Duration::from_secs(3);
    let client = CounterClient::new(Connection::open(path)?);
    client.add(1, 2)?;
    say("ready")?;
    while pause().is_ok() {
        let (mut calls, mut longest, begin) = (0_u32, Duration::ZERO, Instant::now());
        while begin.elapsed() < TIME {
            let call = Instant::now();
            client.add(1, 2)?;
            longest = longest.max(call.elapsed());
            calls += 1;
        }
        let longest = longest.as_micros();
        say(&format!("{calls} calls, the longest {longest} us"))?;
    }
    Ok(())
}
