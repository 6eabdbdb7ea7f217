//! A client that asks for large replies and never reads them. Each is in a memfd, which the kernel keeps.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use jsoncomm::address::Bind;
use jsoncomm::message::RawMessage;
use jsoncomm::socket::{SendStatus, Socket};
use jsoncomm::{Connection, Kind, Limits, Server};

use crate::Trouble;
use crate::stage::{ABUSER, POLITE, SERVER, Stage, pause, say};

/// Bytes of a large reply.
const LARGE: usize = 5_000_000;

/// Longest message in bytes.
const MESSAGE: usize = 16 << 20;

/// Returns large texts.
#[jsoncomm::service(name = "abuse.library")]
pub(crate) trait Library {
    /// Returns this many `x`.
    fn text(&mut self, size: usize) -> String;
}

struct Shelf;

impl Library for Shelf {
    fn text(&mut self, size: usize) -> String {
        "x".repeat(size)
    }
}

pub(crate) fn play(role: &[&str]) -> Result<(), Trouble> {
    match role {
        [] => one(),
        ["serve", path] => serve(path),
        ["flood", path] => flood(path),
        ["ask", path] => ask(path),
        _ => Err("there is no such role".into()),
    }
}

fn one() -> Result<(), Trouble> {
    let mut out = io::stdout();
    let stage = Stage::new("spilled")?;
    let server = stage.start(SERVER, "serve", &[])?;
    let mut polite = stage.start(POLITE, "ask", &[])?;
    polite.go_on()?;
    writeln!(out, "  a polite user, before: {}", polite.hear()?)?;
    let before = shared_memory()?;
    let mut abuser = stage.start(ABUSER, "flood", &[])?;
    writeln!(out, "  {}", abuser.hear()?)?;
    let grown = shared_memory()?.saturating_sub(before);
    writeln!(out, "  shared memory has grown by {} MB", grown / 1000)?;
    let most = peak(server.id())?;
    writeln!(
        out,
        "  memory of the server itself, at most: {} MB",
        most / 1000
    )?;
    polite.go_on()?;
    writeln!(out, "  the polite user, now: {}", polite.hear()?)?;
    Ok(())
}

/// Memory of all memfds and tmpfs files, in KB.
fn shared_memory() -> Result<u64, Trouble> {
    field(&fs::read_to_string("/proc/meminfo")?, "Shmem:")
}

/// Peak resident memory of a process, in KB.
fn peak(process: u32) -> Result<u64, Trouble> {
    field(
        &fs::read_to_string(format!("/proc/{process}/status"))?,
        "VmHWM:",
    )
}

fn field(text: &str, name: &str) -> Result<u64, Trouble> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("the kernel does not say")?.parse()?)
}

fn serve(path: &str) -> Result<(), Trouble> {
    let mut limits = Limits::default();
    limits.message = MESSAGE;
    let mut server = Server::new(limits)?;
    let at = Bind::at(path).mode(0o666);
    server.bind(at, Kind::Seqpacket)?.serve::<dyn Library>();
    say("ready")?;
    Ok(server.run(&mut Shelf)?)
}

/// Sends calls until there is no room, and reads nothing.
fn flood(path: &str) -> Result<(), Trouble> {
    const CALLS: usize = 300;
    /// How long to wait for room, and then for the last calls to run.
    const STUCK: Duration = Duration::from_secs(2);
    let mut socket = Socket::connect(path, Kind::Seqpacket)?;
    say("ready")?;
    let call =
        r#"{"jsonrpc":"2.0","id":1,"method":"abuse.library.text","params":{"size":5000000}}"#;
    let call = RawMessage::new(call);
    let (mut sent, mut progress) = (0, Instant::now());
    while progress.elapsed() < STUCK {
        if sent < CALLS && matches!(socket.try_send(&call), Ok(SendStatus::Done)) {
            sent += 1;
            progress = Instant::now();
        } else {
            std::thread::yield_now();
        }
    }
    say(&format!("calls for {} MB sent: {sent}", LARGE / 1_000_000))?;
    Ok(pause()?)
}

/// When told to, asks for a large reply and for a small one.
fn ask(path: &str) -> Result<(), Trouble> {
    const DEADLINE: Duration = Duration::from_secs(5);
    let connection = Connection::open(path)?;
    connection.set_message_limit(MESSAGE);
    let client = LibraryClient::new(connection.with_timeout(DEADLINE));
    say("ready")?;
    while pause().is_ok() {
        let mut line = String::new();
        for size in [LARGE, 1] {
            let began = Instant::now();
            let how = client.text(size).map(drop);
            let how = how.map_or_else(|error| error.to_string(), |()| "well".into());
            line += &format!("{size} B {how} ({} us) ", began.elapsed().as_micros());
        }
        say(line.trim())?;
    }
    Ok(())
}
