//! A large payload in a memfd with gigabytes beyond its text: the last close(2) frees them, which takes long.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use jsoncomm::socket::{RawDatagram, Socket};
use jsoncomm::{Connection, Kind, Limits, Server};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

use crate::Trouble;
use crate::stage::{ABUSER, POLITE, SERVER, Stage, pause, say};

/// A minimal service.
#[jsoncomm::service(name = "abuse.summer")]
trait Summer {
    /// Returns the sum.
    fn add(&mut self, left: u32, right: u32) -> u32;
}

struct Sums;

impl Summer for Sums {
    fn add(&mut self, left: u32, right: u32) -> u32 {
        left.wrapping_add(right)
    }
}

/// Bytes beyond the end of the text; less than the machine's memory.
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

/// When told to, sends it and closes its own copy at once.
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
    let reply = socket.receive_raw()?.0.bytes;
    say(&String::from_utf8_lossy(&reply))?;
    Ok(pause()?)
}

/// Calls for three seconds; prints the longest call.
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
