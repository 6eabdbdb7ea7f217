//! A server that is a client: passes the calls of `example.files` on to another server, and its replies back, with
//! their descriptors, on one thread and without waiting for either side.
//!
//! Run it with `cargo run --example relay`. The daemon behind the relay is `Folder` of `examples/lib.rs`.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use jsoncomm::client::Started;
use jsoncomm::{Call, CallError, Connection, Deferred, Kind, Limits, Server};
use jsoncomm_examples::{Files, FilesClient, FilesError, Folder, Opened, Put};

/// The relayed service: its methods reply when the other server has replied.
#[jsoncomm::service(name = "example.files")]
trait Relayed {
    fn open(&mut self, call: &mut Call, path: &str) -> Deferred<Opened, FilesError>;
    fn list(&mut self, call: &mut Call) -> Deferred<Vec<String>, FilesError>;
    fn put(
        &mut self,
        call: &mut Call,
        path: &str,
        #[fd] content: OwnedFd,
    ) -> Deferred<Put, FilesError>;
}

/// Has a connection to that server.
struct Relay {
    behind: FilesClient<Started>,
}

impl Relayed for Relay {
    fn open(&mut self, call: &mut Call, path: &str) -> Deferred<Opened, FilesError> {
        call.defer(|reply| match self.behind.open(path) {
            Ok(pending) => pending.on_complete(|result| reply.forward(result)),
            Err(error) => reply.forward(Err(error)),
        })
    }

    fn list(&mut self, call: &mut Call) -> Deferred<Vec<String>, FilesError> {
        call.defer(|reply| match self.behind.list() {
            Ok(pending) => pending.on_complete(|result| reply.forward(result)),
            Err(error) => reply.forward(Err(error)),
        })
    }

    fn put(&mut self, call: &mut Call, path: &str, content: OwnedFd) -> Deferred<Put, FilesError> {
        call.defer(|reply| match self.behind.put(path, content) {
            Ok(pending) => pending.on_complete(|result| reply.forward(result)),
            Err(error) => reply.forward(Err(error)),
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let sockets = std::env::temp_dir();
    let daemon = sockets.join(format!("relay-{}-daemon.sock", std::process::id()));
    let relay = sockets.join(format!("relay-{}.sock", std::process::id()));

    let mut folder = Folder::new(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let mut server = Server::new(Limits::default())?;
    server.bind(&daemon, Kind::Seqpacket)?.serve::<dyn Files>();
    let stop_daemon = server.handle();
    let daemon_runs = thread::spawn(move || server.run(&mut folder));

    let connection = Connection::open(&daemon)?;
    let mut server = Server::new(Limits::default())?;
    server.bind(&relay, Kind::Seqpacket)?.serve::<dyn Relayed>();
    server.drive(&connection)?;
    let stop_relay = server.handle();
    let behind = FilesClient::new(connection).start();
    let relay_runs = thread::spawn(move || server.run(&mut Relay { behind }));

    let files = FilesClient::new(Connection::open(&relay)?);
    let mut out = io::stdout();
    writeln!(out, "through the relay: {} files", files.list()?.len())?;
    let mut text = String::new();
    File::from(files.open("relay.rs")?.file).read_to_string(&mut text)?;
    let first = text.lines().next().unwrap_or_default();
    writeln!(out, "a descriptor came through both: {first}")?;
    match files.open("../Cargo.toml") {
        Err(CallError::Service(error)) => writeln!(out, "so did an error: {error}")?,
        _ => return Err("it leads out of the folder".into()),
    }
    stop_relay.stop();
    relay_runs.join().map_err(|_| "the relay panicked")??;
    stop_daemon.stop();
    daemon_runs.join().map_err(|_| "the daemon panicked")??;
    Ok(())
}
