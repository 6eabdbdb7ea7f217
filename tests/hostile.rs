//! A server against hostile peers.
//!
//! After each hostile message a valid call gets its reply, and no descriptor is left open.

mod calls;
mod closing;
mod crowds;
mod descriptors;
mod handlers;
mod payloads;
mod peers;
mod unsendable;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Once;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use jsoncomm::Reply;
use jsoncomm::fds::Fds;
use jsoncomm::message::WithFds;
use jsoncomm::observe::Counts;
use jsoncomm::socket::{Received, Socket};
use jsoncomm::{Call, Fault, Handler, Kind, Limits, Message};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, send_raw, servers_are_gone,
};
use serde_json::{Value, json};

/// Takes and returns descriptors.
#[jsoncomm::service(name = "test.vault")]
trait Vault {
    /// Returns its argument.
    fn ping(&mut self, number: u64) -> u64;
    /// Takes a descriptor and returns it.
    fn swap(&mut self, label: &str, #[fd] file: OwnedFd) -> Swapped;
    /// Takes two descriptors.
    fn join(&mut self, #[fd] left: OwnedFd, #[fd] right: OwnedFd) -> u64;
    /// Takes a descriptor and sends no reply.
    #[oneway]
    fn tell(&mut self, #[fd] sink: OwnedFd);
    /// Takes a descriptor and has another thread close it.
    fn part(&mut self, call: &mut Call, #[fd] with: OwnedFd) -> u64;
    /// Takes a socket of one kind.
    fn hang(&mut self, #[fd] on: UnixStream) -> u64;
    /// Blocks the server until the test releases it.
    fn wait(&mut self) -> Swapped;
    /// Returns how often `tell` has run.
    fn stats(&mut self) -> u64;
    /// Takes what may panic while it is read.
    fn read(&mut self, shell: handlers::Shell) -> u64;
    /// Takes what panics when it is dropped.
    fn drop(&mut self, egg: handlers::Egg) -> u64;
    /// Returns what panics when it is dropped.
    fn lay(&mut self) -> handlers::Nest;
    /// Returns what panics when it is dropped, from a method that could defer its reply.
    fn lay_here(&mut self, call: &mut Call) -> handlers::Nest;
    /// Panics, before or while its reply is written.
    fn crash(&mut self, when: u8, #[fd] file: OwnedFd) -> Result<handlers::Bomb, handlers::Bomb>;
}

#[derive(Debug, Message)]
struct Swapped {
    label: String,
    #[fd]
    file: OwnedFd,
}

/// Requests with deferred replies, or none.
#[derive(Debug, Message)]
#[message(service = "test.late", reply = LateReply, error = handlers::Bomb)]
enum Ask {
    /// The handler drops the reply.
    Drop {
        #[fd]
        file: OwnedFd,
    },
    /// The handler panics while it has the reply.
    Panic,
    /// The reply, or the error, panics while it is written.
    Explode { when: u8 },
    /// Another thread replies, after the handler has returned.
    Thread {
        #[fd]
        file: OwnedFd,
    },
    /// The handler keeps the reply until `Release`.
    Keep {
        #[fd]
        file: OwnedFd,
    },
    /// Replies to all kept calls, and then to itself.
    Release,
}

#[derive(Debug, Message)]
enum LateReply {
    Done,
    Back {
        #[fd]
        file: OwnedFd,
    },
    Shell(handlers::Shell),
}

#[derive(Debug, Default)]
struct State {
    /// Reports that `wait` has been called, and blocks it.
    gate: Option<(Sender<()>, Receiver<()>)>,
    tells: u64,
    /// Reports when the thread may reply.
    after: Option<Receiver<()>>,
    kept: Vec<(OwnedFd, Reply<LateReply, handlers::Bomb>)>,
}

impl Vault for State {
    fn ping(&mut self, number: u64) -> u64 {
        number
    }

    fn swap(&mut self, label: &str, file: OwnedFd) -> Swapped {
        let label = label.to_owned();
        Swapped { label, file }
    }

    fn join(&mut self, _left: OwnedFd, _right: OwnedFd) -> u64 {
        2
    }

    fn tell(&mut self, _sink: OwnedFd) {
        self.tells += 1;
    }

    fn stats(&mut self) -> u64 {
        self.tells
    }

    fn part(&mut self, call: &mut Call, with: OwnedFd) -> u64 {
        call.close(with);
        1
    }

    fn hang(&mut self, _on: UnixStream) -> u64 {
        1
    }

    fn drop(&mut self, egg: handlers::Egg) -> u64 {
        drop(egg);
        1
    }

    fn lay(&mut self) -> handlers::Nest {
        handlers::Nest::default()
    }

    fn lay_here(&mut self, _call: &mut Call) -> handlers::Nest {
        handlers::Nest::default()
    }

    fn read(&mut self, _shell: handlers::Shell) -> u64 {
        1
    }

    fn wait(&mut self) -> Swapped {
        let (here, open) = self.gate.as_ref().unwrap();
        here.send(()).unwrap();
        open.recv_timeout(PATIENCE).unwrap();
        let file = null().into();
        let label = String::from("late");
        Swapped { label, file }
    }

    fn crash(&mut self, when: u8, _file: OwnedFd) -> Result<handlers::Bomb, handlers::Bomb> {
        handlers::crash(when)
    }
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

/// Returns the text of a call.
fn call(id: u64, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"test.vault.{method}","params":{params}}}"#)
}

/// A server, a hostile client that sends anything, and a client that keeps to the rules.
#[derive(Debug)]
struct Fixture {
    server: Running<State>,
    raw: Socket,
    polite: VaultClient,
    /// Number of descriptors that are open meanwhile.
    fds: usize,
    before: usize,
    pings: u64,
}

impl Fixture {
    fn start(kind: Kind) -> Self {
        Self::with(kind, State::default())
    }

    fn with(kind: Kind, state: State) -> Self {
        Self::limited(kind, state, Limits::default().message)
    }

    /// Starts one with this limit of bytes in a message.
    fn limited(kind: Kind, state: State, message: usize) -> Self {
        handlers::quiet();
        servers_are_gone();
        let before = open_fds();
        let mut limits = Limits::default();
        // Higher than by default: the hostile client sends many of both.
        (limits.malformed, limits.descriptors) = (usize::MAX, 253);
        (limits.user_descriptors, limits.message) = (usize::MAX, message);
        let server = Running::with_limits(limits, kind, state, |endpoint| {
            endpoint.serve::<dyn Vault>().handle::<Ask>()
        });
        let polite = VaultClient::new(server.connect());
        let mut fixture = Self {
            raw: raw(&server, kind),
            server,
            polite,
            fds: 0,
            before,
            pings: 0,
        };
        fixture.ping();
        assert_eq!(
            fixture.ask(call(1, "ping", r#"{"number":1}"#), &[])["result"],
            1
        );
        fixture.pings += 1;
        fixture.fds = open_fds();
        fixture
    }

    /// Asserts that the other client gets a reply.
    #[track_caller]
    fn ping(&mut self) {
        self.pings += 1;
        assert_eq!(self.polite.ping(self.pings).unwrap(), self.pings);
    }

    /// Takes the number of open descriptors, which includes those of the test, as the one to return to.
    fn count_fds(&mut self) {
        self.fds = open_fds();
    }

    fn send(&self, text: impl AsRef<[u8]>, fds: &[BorrowedFd<'_>]) {
        send_raw(&self.raw, text.as_ref(), fds).unwrap();
    }

    /// Receives the next message at the hostile client.
    #[track_caller]
    fn receive(&mut self) -> (Value, Fds) {
        let message = self.raw.receive::<WithFds<Value>>().unwrap().0;
        (message.json, message.fds)
    }

    #[track_caller]
    fn ask(&mut self, text: impl AsRef<[u8]>, fds: &[BorrowedFd<'_>]) -> Value {
        self.send(text, fds);
        self.receive().0
    }

    /// Asserts that a message gets this fault.
    #[track_caller]
    fn assert_refused(
        &mut self,
        text: impl AsRef<[u8]>,
        fds: &[BorrowedFd<'_>],
        id: impl Into<Value>,
        code: i64,
        field: Option<&str>,
    ) {
        let id: Value = id.into();
        let quote: String = String::from_utf8_lossy(text.as_ref())
            .chars()
            .take(150)
            .collect();
        let reply = self.ask(text, fds);
        let error = &reply["error"];
        assert_eq!(reply["jsonrpc"], "2.0");
        assert_eq!(reply["id"], id, "{quote}: {reply}");
        assert_eq!(error["code"], code, "{quote}: {reply}");
        assert_eq!(error["data"]["field"].as_str(), field, "{quote}: {reply}");
        assert_eq!(reply.as_object().unwrap().len(), 3, "{reply}");
        assert!(reply.to_string().len() < 1000, "{reply}");
        self.assert_healthy();
    }

    /// Asserts that a message gets no reply: the next reply is that to the next call.
    #[track_caller]
    fn assert_ignored(&mut self, text: impl AsRef<[u8]>, fds: &[BorrowedFd<'_>]) {
        self.send(text, fds);
        let reply = self.ask(call(99, "ping", r#"{"number":99}"#), &[]);
        assert_eq!(reply, json!({"jsonrpc": "2.0", "id": 99, "result": 99}));
        self.pings += 1;
        self.assert_healthy();
    }

    /// Asserts that the other client is served and no descriptor is left. Unused ones are closed on another thread, and
    /// those of a disconnected peer when the server notices.
    #[track_caller]
    fn assert_healthy(&mut self) {
        let start = Instant::now();
        self.ping();
        while open_fds() != self.fds && start.elapsed() < PATIENCE {
            self.ping();
        }
        assert_eq!(open_fds(), self.fds);
    }

    /// Stops the server. Asserts that it has only these two connections, no call in progress, and leaves nothing open.
    #[track_caller]
    fn stop(self) -> (State, Counts) {
        let Self {
            server,
            raw,
            polite,
            before,
            ..
        } = self;
        let connections = match raw.kind() {
            Kind::Datagram => 0,
            Kind::Seqpacket => 2,
        };
        server.assert_busy_with(connections);
        let end = server.stop();
        drop((raw, polite));
        assert_open_fds(before);
        end
    }
}

/// Returns a socket that is connected to the server, as a raw client.
fn raw(server: &Running<State>, kind: Kind) -> Socket {
    let mut socket = Socket::connect(&server.path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    socket
}
