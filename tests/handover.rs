//! Handing over: the next server goes on with the sockets of the one before, and no client notices.

mod bare;
mod crowd;
mod damaged;
mod files;
mod peers;
mod programs;
mod sessions;
mod waiting;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use jsoncomm::server::Handover;
use jsoncomm::stream::StreamSender;
use jsoncomm::{
    Call, CallError, Connection, Deferred, Endpoint, Error, Fault, Kind, Limits, Message, Reply,
    Server, Stream,
};
use jsoncomm_tests::PATIENCE;
use tempfile::TempDir;

#[jsoncomm::service(name = "test.desk")]
trait Desk {
    /// Counts a call, and returns how many there were of this client.
    fn count(&mut self, client: u32) -> u64;
    /// Counts without a reply.
    #[oneway]
    fn note(&mut self, client: u32);
    /// Counts, and gets its reply later.
    fn later(&mut self, call: &mut Call, client: u32) -> Deferred<u64>;
    /// Never ends by itself.
    fn follow(&mut self, call: &mut Call) -> Stream<u64>;
    /// Returns a text of this many bytes and a descriptor.
    fn make(&mut self, size: usize) -> Made;
    /// Takes a descriptor, and returns how many have been taken.
    fn keep(&mut self, #[fd] file: File) -> usize;
    /// Returns the caller's user.
    fn user(&mut self, call: &mut Call) -> Option<u32>;
}

#[derive(Debug, Message)]
struct Made {
    text: String,
    #[fd]
    file: File,
}

#[derive(Debug, Default)]
struct State {
    counts: std::collections::HashMap<u32, u64>,
    waiting: Vec<(Reply<u64>, u64)>,
    streams: Vec<StreamSender<u64>>,
    files: Vec<File>,
}

impl State {
    fn add(&mut self, client: u32) -> u64 {
        let count = self.counts.entry(client).or_default();
        *count += 1;
        *count
    }

    fn reply(&mut self) {
        for (reply, count) in self.waiting.drain(..) {
            reply.send(count);
        }
    }
}

impl Desk for State {
    fn count(&mut self, client: u32) -> u64 {
        self.add(client)
    }

    fn note(&mut self, client: u32) {
        self.add(client);
    }

    fn later(&mut self, call: &mut Call, client: u32) -> Deferred<u64> {
        let count = self.add(client);
        call.defer(|reply| self.waiting.push((reply, count)))
    }

    fn follow(&mut self, call: &mut Call) -> Stream<u64> {
        call.stream(|sender| {
            sender.send(&0).unwrap();
            self.streams.push(sender);
        })
    }

    fn make(&mut self, size: usize) -> Made {
        Made {
            text: "x".repeat(size),
            file: File::open("/dev/null").unwrap(),
        }
    }

    fn keep(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len()
    }

    fn user(&mut self, call: &mut Call) -> Option<u32> {
        Some(call.peer()?.uid())
    }
}

/// Where clients find the servers, one after the other.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn path(&self, kind: Kind) -> PathBuf {
        self.directory.path().join(name(kind))
    }

    fn connect(&self, kind: Kind) -> DeskClient {
        let connection = Connection::open(self.path(kind)).unwrap();
        DeskClient::new(connection.with_timeout(PATIENCE))
    }

    /// Starts the first server, with a socket of each kind.
    fn server(&self) -> Server<State> {
        self.server_with(Limits::default())
    }

    fn server_with(&self, limits: Limits) -> Server<State> {
        let mut server = Server::new(limits).unwrap();
        for kind in jsoncomm_tests::KINDS {
            let endpoint = server.bind(self.path(kind), kind).unwrap();
            serve("", endpoint.named(name(kind))).unwrap();
        }
        server
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Datagram => "datagrams",
        Kind::Seqpacket => "connections",
    }
}

fn serve(_name: &str, endpoint: Endpoint<'_, State>) -> Result<(), Error> {
    endpoint.serve::<dyn Desk>();
    Ok(())
}

/// Hands over, through a descriptor as to another process, and returns the next server.
fn next(server: Server<State>, state: &mut State, grace: Duration) -> Server<State> {
    next_with(Limits::default(), server, state, grace)
}

fn next_with(
    limits: Limits,
    mut server: Server<State>,
    state: &mut State,
    grace: Duration,
) -> Server<State> {
    let handover = server.hand_over(state, grace).unwrap();
    let fd = handover.to_fd().unwrap();
    drop((handover, server));
    let mut next = Server::new(limits).unwrap();
    next.take_over(Handover::from_fd(fd).unwrap(), serve)
        .unwrap();
    next
}

/// Runs the loop until nothing is left to do.
fn run_dry(server: &mut Server<State>, state: &mut State) {
    loop {
        let before = server.counts();
        let _ = server.run_once(state, Some(Duration::ZERO)).unwrap();
        if server.counts() == before {
            return;
        }
    }
}

fn is_shutting_down<T>(reply: &Result<T, CallError>) -> bool {
    matches!(reply, Err(CallError::Fault(fault)) if fault.code == Fault::SHUTTING_DOWN)
}
