//! Ten clients that send malformed messages as fast as they can, and reconnect each time they are disconnected; beside
//! them a polite client of the same user that reconnects every ten calls.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use jsoncomm::socket::{RawDatagram, Socket};
use jsoncomm::{CallError, Connection, Fault, Kind, Limits, Server};

use crate::Trouble;
use crate::stage::{POLITE, SERVER, Stage, pause, say};

/// A minimal service.
#[jsoncomm::service(name = "abuse.adder")]
trait Adder {
    /// Returns the sum.
    fn add(&mut self, left: u32, right: u32) -> u32;
}

struct Sums;

impl Adder for Sums {
    fn add(&mut self, left: u32, right: u32) -> u32 {
        left.wrapping_add(right)
    }
}

/// How many clients flood.
const FLOODS: usize = 10;

pub(crate) fn play(role: &[&str]) -> Result<(), Trouble> {
    match role {
        [] => all(),
        ["serve", path] => serve(path),
        ["flood", path] => flood(path),
        ["ask", path] => ask(path),
        _ => Err("there is no such role".into()),
    }
}

fn all() -> Result<(), Trouble> {
    let stage = Stage::new("flood")?;
    let _server = stage.start(SERVER, "serve", &[])?;
    let mut polite = stage.start(POLITE, "ask", &[])?;
    let mut report = |when| -> Result<(), Trouble> {
        polite.go_on()?;
        writeln!(io::stdout(), "  {when}: {}", polite.hear()?)?;
        Ok(())
    };
    writeln!(
        io::stdout(),
        "a polite client, beside {FLOODS} of its user that are disconnected again and again"
    )?;
    report("before")?;
    let _floods = (0..FLOODS)
        .map(|_| stage.start(POLITE, "flood", &[]))
        .collect::<Result<Vec<_>, _>>()?;
    report("now")
}

fn serve(path: &str) -> Result<(), Trouble> {
    let mut server = Server::new(Limits::default())?;
    let at = jsoncomm::address::Bind::at(path).mode(0o666);
    server.bind(at, Kind::Seqpacket)?.serve::<dyn Adder>();
    say("ready")?;
    Ok(server.run(&mut Sums)?)
}

/// Sends text that is not JSON until it is disconnected, again and again.
fn flood(path: &str) -> Result<(), Trouble> {
    say("ready")?;
    let nonsense = RawDatagram {
        bytes: b"{".to_vec(),
        ..RawDatagram::default()
    };
    loop {
        let Ok(mut socket) = Socket::connect(path, Kind::Seqpacket) else {
            continue;
        };
        while socket.try_send_raw(&nonsense, None).is_ok() {}
    }
}

/// When told to, calls for three seconds, on a new connection every ten calls.
fn ask(path: &str) -> Result<(), Trouble> {
    const TIME: Duration = Duration::from_secs(3);
    say("ready")?;
    while pause().is_ok() {
        let (mut calls, mut refused, mut failed) = (0, 0, 0);
        let (begin, mut longest) = (Instant::now(), Duration::ZERO);
        while begin.elapsed() < TIME {
            let client = AdderClient::new(Connection::open(path)?);
            for _ in 0..10 {
                let call = Instant::now();
                let sum = client.add(1, 2);
                longest = longest.max(call.elapsed());
                calls += 1;
                match sum {
                    Ok(_) => {}
                    Err(CallError::Fault(fault)) if fault.code == Fault::BUSY => {
                        refused += 1;
                        break;
                    }
                    Err(_) => {
                        failed += 1;
                        break;
                    }
                }
            }
        }
        let longest = longest.as_micros();
        say(&format!(
            "{calls} calls, {refused} refused, {failed} failed otherwise, the longest {longest} us"
        ))?;
    }
    Ok(())
}
