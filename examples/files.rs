//! A small real daemon for the service `example.files`, and its client.
//!
//! ```text
//! cargo run --example files -- serve --socket PATH --root DIR [--seqpacket]
//! cargo run --example files -- open --socket PATH NAME
//! cargo run --example files -- list --socket PATH
//! cargo run --example files -- put --socket PATH NAME < input
//! ```
//!
//! The daemon prints `listening on PATH` when it is ready. SIGTERM and SIGINT stop it: its socket is removed, and every
//! pending call gets a reply.

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use jsoncomm::{Connection, Kind, Limits, Server};
use jsoncomm_examples::{Files, FilesClient, Folder};
use signal_hook::consts::{SIGINT, SIGTERM};

const USAGE: &str = "usage: files serve --socket PATH --root DIR [--seqpacket]
       files open --socket PATH NAME
       files list --socket PATH
       files put --socket PATH NAME < input";

/// How long pending calls have to complete when it stops.
const GRACE: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read(env::args().skip(1).collect())?;
    match &*options.command {
        "serve" => serve(&options),
        "open" => open(&options),
        "list" => list(&options),
        "put" => put(&options),
        _ => Err(USAGE.into()),
    }
}

/// Serves until a signal arrives.
fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let root = options.root.as_ref().ok_or(USAGE)?;
    let mut folder = Folder::new(root)?;
    let mut server = Server::new(Limits::default())?;
    server
        .bind(&options.socket, options.kind)?
        .serve::<dyn Files>();
    let (signals, raise) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, raise.try_clone()?)?;
    }
    server.watch(signals, |_, control| {
        control.remove();
        control.shut_down(GRACE);
    })?;
    writeln!(io::stdout(), "listening on {}", options.socket.display())?;
    server.run(&mut folder)?;
    Ok(())
}

/// Prints a file, read through the descriptor that the daemon opened.
fn open(options: &Options) -> Result<(), Box<dyn Error>> {
    let opened = options.connect()?.open(options.name()?)?;
    io::copy(&mut File::from(opened.file), &mut io::stdout())?;
    Ok(())
}

/// Prints the names of the files, one per line.
fn list(options: &Options) -> Result<(), Box<dyn Error>> {
    for name in options.connect()?.list()? {
        writeln!(io::stdout(), "{name}")?;
    }
    Ok(())
}

/// Passes standard input to the daemon, which copies from it.
fn put(options: &Options) -> Result<(), Box<dyn Error>> {
    let stored = options.connect()?.put(options.name()?, plain_input()?)?;
    writeln!(io::stdout(), "stored {} bytes", stored.len)?;
    Ok(())
}

/// Returns standard input if it is a regular file. The daemon does not wait for data from a pipe, so that is read into
/// memory first.
fn plain_input() -> Result<OwnedFd, Box<dyn Error>> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let mut input = File::from(stdin);
    if input.metadata()?.is_file() {
        return Ok(input.into());
    }
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut memory = File::from(rustix::fs::memfd_create("input", flags)?);
    io::copy(&mut input, &mut memory)?;
    rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
    Ok(memory.into())
}

/// The command line.
struct Options {
    command: String,
    socket: PathBuf,
    root: Option<PathBuf>,
    kind: Kind,
    name: Option<String>,
}

impl Options {
    fn read(mut arguments: VecDeque<String>) -> Result<Self, Box<dyn Error>> {
        let command = arguments.pop_front().ok_or(USAGE)?;
        let (mut socket, mut root, mut name) = (None, None, None);
        let mut kind = Kind::Datagram;
        while let Some(argument) = arguments.pop_front() {
            match &*argument {
                "--socket" => socket = arguments.pop_front().map(PathBuf::from),
                "--root" => root = arguments.pop_front().map(PathBuf::from),
                "--seqpacket" => kind = Kind::Seqpacket,
                _ if name.is_none() && !argument.starts_with("--") => name = Some(argument),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(Self {
            command,
            socket: socket.ok_or(USAGE)?,
            root,
            kind,
            name,
        })
    }

    fn name(&self) -> Result<&str, Box<dyn Error>> {
        Ok(self.name.as_deref().ok_or(USAGE)?)
    }

    fn connect(&self) -> Result<FilesClient, Box<dyn Error>> {
        Ok(FilesClient::new(Connection::open(&self.socket)?))
    }
}
