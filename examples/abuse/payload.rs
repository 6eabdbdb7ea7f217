//! A large payload in a memfd that has gigabytes beyond its size: the last close(2) frees them.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use jsoncomm::socket::{RawDatagram, Socket};
use jsoncomm::{Connection, Kind, Limits, Server};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

use crate::Trouble;
use crate::stage::{ABUSER, POLITE, SERVER, Stage, pause, say};

/// Adds.
#[jsoncomm::service(name = "abuse.summer")]
trait Summer {
    /// The sum.
    fn add(&mut self, left: u32, right: u32) -> u32;
}

struct Sums;

impl Summer for Sums {
    fn add(&mut self, left: u32, right: u32) -> u32 {
        left.wrapping_add(right)
    }
}

/// How much is beyond the end, in bytes; less than the machine has.
const BEYOND: u64 = 5 << 30;

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
    let stage = Stage::new("payload")?;
    let _server = stage.start(SERVER, "serve", &[])?;
    let mut polite = stage.start(POLITE, "ask", &[])?;
    writeln!(
        io::stdout(),
        "a call in a memfd of 56 bytes with {} GiB beyond them",
        BEYOND >> 30
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
    server.bind(at, Kind::Seqpacket)?.serve::<dyn Summer>();
    say("ready")?;
    Ok(server.run(&mut Sums)?)
}

/// Sends it once it is told to, and closes its own copy at once.
fn send(path: &str) -> Result<(), Trouble> {
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"abuse.summer.add","params":[1,2]}"#;
    let file: OwnedFd = memfd_create("abuse", MemfdFlags::CLOEXEC)?;
    rustix::io::pwrite(&file, call, 0)?;
    if let Err(error) = fallocate(file.as_fd(), FallocateFlags::KEEP_SIZE, 4096, BEYOND) {
        say(&format!("there is no room for it: {error}"))?;
    }
    let mut socket = Socket::connect(path, Kind::Seqpacket)?;
    let mut raw = RawDatagram {
        bytes: b"<args-via-fd>".to_vec(),
        ..RawDatagram::default()
    };
    raw.fds.push(file)?;
    say("ready")?;
    pause()?;
    let _ = socket.try_send_raw(&raw, None)?;
    drop(raw);
    let answer = socket.receive_raw()?.0.bytes;
    say(&String::from_utf8_lossy(&answer))?;
    Ok(pause()?)
}

/// Calls for three seconds; says which call took longest.
fn ask(path: &str) -> Result<(), Trouble> {
    const TIME: Duration = Duration::from_secs(3);
    let client = SummerClient::new(Connection::open(path)?);
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
