//! Clients that ask for descriptors and never read the replies. What is sent and not yet read is in flight: the kernel
//! charges it to the server's user, and keeps the files open.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use jsoncomm::address::Bind;
use jsoncomm::message::RawMessage;
use jsoncomm::socket::{SendStatus, Socket};
use jsoncomm::{Connection, Kind, Limits, Message, Server};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

use crate::Trouble;
use crate::stage::{ABUSER, POLITE, SERVER, Stage, open_files, pause, say};

/// An open file.
#[derive(Debug, Message)]
pub(crate) struct Opened {
    #[fd]
    file: OwnedFd,
}

/// Returns descriptors, and sums, which need none.
#[jsoncomm::service(name = "abuse.opener")]
pub(crate) trait Opener {
    /// Returns a descriptor of a file that no other process has open.
    fn open(&mut self) -> Opened;
    /// Returns the sum.
    fn add(&mut self, left: u32, right: u32) -> u32;
}

struct Files;

impl Opener for Files {
    fn open(&mut self) -> Opened {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("abuse", flags);
        Opened {
            // If descriptors have run out, the reply has another one.
            file: file.unwrap_or_else(|_| null()),
        }
    }

    fn add(&mut self, left: u32, right: u32) -> u32 {
        left.wrapping_add(right)
    }
}

/// Returns a descriptor that is always available.
fn null() -> OwnedFd {
    #[expect(clippy::expect_used, reason = "there is no reply without a descriptor")]
    File::open("/dev/null").expect("a descriptor").into()
}

pub(crate) fn play(role: &[&str]) -> Result<(), Trouble> {
    match role {
        [] => {
            one(SERVER, 1)?;
            one(0, 20)
        }
        ["serve", path, limit] => serve(path, limit.parse()?),
        ["flood", path, connections] => flood(path, connections.parse()?),
        ["ask", path] => ask(path),
        _ => Err("there is no such role".into()),
    }
}

/// Runs the scenario with a server of this user.
fn one(server: u32, connections: usize) -> Result<(), Trouble> {
    /// The usual limit of open files of a process.
    const FILES: &str = "1024";
    let stage = Stage::new("in_flight")?;
    let whose = match (geteuid().is_root(), server) {
        (false, _) => "this user, and so are all (start it as root)",
        (true, 0) => "root",
        (true, _) => "an ordinary user",
    };
    writeln!(
        io::stdout(),
        "the server is {whose}; {connections} connections ask and never read"
    )?;
    let _server = stage.start(server, "serve", &[FILES])?;
    let mut polite = stage.start(POLITE, "ask", &[])?;
    writeln!(io::stdout(), "  a polite user, before: {}", {
        polite.go_on()?;
        polite.hear()?
    })?;
    let before = open_files()?;
    let mut abuser = stage.start(ABUSER, "flood", &[&connections.to_string()])?;
    writeln!(io::stdout(), "  {}", abuser.hear()?)?;
    let files = open_files()?.saturating_sub(before);
    writeln!(io::stdout(), "  files open for it: {files}")?;
    polite.go_on()?;
    writeln!(io::stdout(), "  the polite user, now: {}", polite.hear()?)?;
    Ok(())
}

/// The server, with this limit of open descriptors.
fn serve(path: &str, files: u64) -> Result<(), Trouble> {
    let files = Some(files);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files,
            maximum: files,
        },
    )?;
    let mut server = Server::new(Limits::default())?;
    let at = Bind::at(path).mode(0o666);
    server.bind(at, Kind::Seqpacket)?.serve::<dyn Opener>();
    say("ready")?;
    Ok(server.run(&mut Files)?)
}

/// Sends calls on each connection until none has room, and reads nothing.
fn flood(path: &str, connections: usize) -> Result<(), Trouble> {
    /// Calls of one connection.
    const MOST: usize = 3000;
    /// How long to wait for room.
    const STUCK: Duration = Duration::from_secs(1);
    let mut sockets = Vec::new();
    for _ in 0..connections {
        sockets.push((Socket::connect(path, Kind::Seqpacket)?, 0));
    }
    say("ready")?;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"abuse.opener.open"}"#;
    let call = RawMessage::new(call);
    let mut progress = Instant::now();
    while progress.elapsed() < STUCK {
        let mut full = true;
        for (socket, sent) in &mut sockets {
            if *sent < MOST && matches!(socket.try_send(&call), Ok(SendStatus::Done)) {
                *sent += 1;
                full = false;
            }
        }
        if full {
            std::thread::yield_now();
        } else {
            progress = Instant::now();
        }
    }
    let sent: usize = sockets.iter().map(|(_, sent)| sent).sum();
    say(&format!("calls sent: {sent}"))?;
    Ok(pause()?)
}

/// When told to, asks for a descriptor and for a sum.
fn ask(path: &str) -> Result<(), Trouble> {
    /// A deadline that is long for a call that takes microseconds.
    const DEADLINE: Duration = Duration::from_secs(2);
    let connection = Connection::open(path)?.with_timeout(DEADLINE);
    let client = OpenerClient::new(connection);
    say("ready")?;
    while pause().is_ok() {
        let opened = timed(|| client.open().map(drop).map_err(|error| error.to_string()));
        let added = timed(|| {
            client
                .add(1, 2)
                .map(drop)
                .map_err(|error| error.to_string())
        });
        say(&format!("open {opened}, add {added}"))?;
    }
    Ok(())
}

/// Returns how a call ended and how long it took.
fn timed(call: impl FnOnce() -> Result<(), String>) -> String {
    let began = Instant::now();
    let how = call().map_or_else(|error| error, |()| "well".into());
    format!("{how} ({} us)", began.elapsed().as_micros())
}
