//! A server and two clients that send arbitrary messages in any order, and may not read.
//!
//! The input is a character for the sockets (`s` seqpacket, `d` datagram, `b` bare), then a line per step: a
//! [`Header`] and a datagram, from the first client or the second; or `t` for a turn of the server, `r` for the
//! clients to read, `x` for the first client to disconnect. Each reply must be valid, belong to a call, and be the only
//! one to it. In the end each valid call has its reply, and the server replies to one more.

#![no_main]

mod ledger;

use std::fmt;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::Duration;

use jsoncomm::message::{RawMessage, UnusedFds, WithFds};
use jsoncomm::socket::{Received, Socket};
use jsoncomm::{Call, Deferred, Handler, Limits, Message, Reply, Server, Stream};
use jsoncomm_fuzz::{Cargo, Header, assert_nothing_leaks};
use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use ledger::Ledger;

/// Most steps of one input.
const STEPS: usize = 64;

#[derive(Debug, Message)]
enum Trouble {
    NoLuck { number: u32 },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no luck")
    }
}

#[derive(Debug, Message)]
struct Gift {
    number: u32,
    #[fd]
    file: Option<OwnedFd>,
}

#[jsoncomm::service(name = "fuzz.desk")]
trait Desk {
    fn add(&mut self, a: i64, b: Option<u32>) -> i64;
    fn echo(&mut self, text: &str, tags: Vec<String>) -> Result<String, Trouble>;
    fn open(&mut self, #[fd] file: OwnedFd, #[fd] more: Vec<File>) -> Result<Gift, Trouble>;
    fn keep(&mut self, call: &mut Call, number: u32) -> Deferred<Gift, Trouble>;
    fn give(&mut self) -> usize;
    fn lose(&mut self) -> usize;
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32, Trouble>;
    #[oneway]
    fn log_to(&mut self, #[fd] sink: Option<OwnedFd>);
}

#[derive(Debug, Message)]
#[message(service = "fuzz.ask", reply = Tell)]
enum Ask {
    Run {
        program: String,
        #[fd]
        stdout: OwnedFd,
    },
    Wait {
        job: u32,
    },
}

#[derive(Debug, Message)]
enum Tell {
    Started(u32),
}

/// Requests without an envelope.
#[derive(Debug, Message)]
#[message(reply = Gift)]
enum Bare {
    Give {
        number: u32,
        #[fd]
        file: Option<OwnedFd>,
    },
    Keep(u32),
}

#[derive(Debug, Default)]
struct State {
    kept: Vec<(u32, Reply<Gift, Trouble>)>,
    asked: Vec<Reply<Tell>>,
    bare: Vec<Reply<Gift>>,
}

impl Desk for State {
    fn add(&mut self, a: i64, b: Option<u32>) -> i64 {
        a.wrapping_add(i64::from(b.unwrap_or(1)))
    }

    fn echo(&mut self, text: &str, tags: Vec<String>) -> Result<String, Trouble> {
        match u32::try_from(tags.len()) {
            Ok(number @ 3..) => Err(Trouble::NoLuck { number }),
            _ => Ok(text.repeat(2)),
        }
    }

    fn open(&mut self, file: OwnedFd, more: Vec<File>) -> Result<Gift, Trouble> {
        let number = u32::try_from(more.len()).expect("not many");
        let file = Some(file);
        Ok(Gift { number, file })
    }

    fn keep(&mut self, call: &mut Call, number: u32) -> Deferred<Gift, Trouble> {
        call.defer(|reply| self.kept.push((number, reply)))
    }

    fn give(&mut self) -> usize {
        let count = self.kept.len();
        for (number, reply) in self.kept.drain(..) {
            let file = (number % 2 == 0).then(|| File::open("/dev/null").expect("null").into());
            reply.send_result(match number {
                7 => Err(Trouble::NoLuck { number }),
                _ => Ok(Gift { number, file }),
            });
        }
        for (number, reply) in (0..).zip(self.asked.drain(..)) {
            reply.send(Tell::Started(number));
        }
        count
    }

    fn lose(&mut self) -> usize {
        self.bare.clear();
        self.asked.clear();
        self.kept.drain(..).count()
    }

    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32, Trouble> {
        let end = end % 100;
        let trouble = (end % 3 == 0).then_some(Err(Trouble::NoLuck { number: end }));
        call.stream(|sink| sink.feed((0..end).map(Ok).chain(trouble)))
    }

    fn log_to(&mut self, sink: Option<OwnedFd>) {
        drop(sink);
    }
}

impl Handler<Ask> for State {
    fn handle(&mut self, _: &mut Call, ask: Ask, reply: Reply<Tell>) {
        match ask {
            Ask::Run { program, stdout } => {
                drop(stdout);
                reply.send(Tell::Started(program.len().try_into().expect("not long")));
            }
            Ask::Wait { job: 0 } => drop(reply),
            Ask::Wait { .. } => self.asked.push(reply),
        }
    }
}

impl Handler<Bare> for State {
    fn handle(&mut self, _: &mut Call, ask: Bare, reply: Reply<Gift>) {
        match ask {
            Bare::Give { number, file } => reply.send(Gift { number, file }),
            Bare::Keep(_) => self.bare.push(reply),
        }
    }
}

/// The kind of socket, and whether it is a bare endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Seqpacket,
    Datagram,
    Bare,
}

/// A client: its socket, and its calls and replies.
struct Client {
    socket: Option<Socket>,
    ledger: Ledger,
}

impl Client {
    fn new(fd: OwnedFd) -> Self {
        let mut socket = Socket::from_fd(fd).expect("a connected socket");
        socket.set_surplus(UnusedFds::Close);
        Self {
            socket: Some(socket),
            ledger: Ledger::default(),
        }
    }

    fn send(&mut self, cargo: &Cargo, header: Header, text: &[u8]) {
        if let Some(socket) = &self.socket {
            if cargo.send(socket, header, text) {
                self.ledger.note_sent(text);
            }
        }
    }

    /// Reads all messages that are there. Returns true if there were any.
    fn read(&mut self, mode: Mode) -> bool {
        let Some(socket) = &mut self.socket else {
            return false;
        };
        let mut any = false;
        loop {
            match socket.try_receive::<RawMessage>() {
                Ok(Received::Message(RawMessage { json, fds }, _)) => {
                    // An id is returned unchanged, also one that a `Value` rounds.
                    let json = serde_json::from_str(&json).expect("the server sends JSON");
                    let message = WithFds { json, fds };
                    match mode {
                        Mode::Bare => self.ledger.check_bare(&message.json),
                        Mode::Seqpacket | Mode::Datagram => self.ledger.check(&message),
                    }
                }
                Ok(Received::Pending) => return any,
                // The server disconnects a client that sends too many malformed messages.
                Ok(Received::Closed) => {
                    self.socket = None;
                    return true;
                }
                Err(error) if error.is_bad_message() => panic!("the server sent that: {error}"),
                Err(_) => {
                    self.socket = None;
                    return true;
                }
            }
            any = true;
        }
    }
}

/// The server, its state and its clients.
struct Stage {
    mode: Mode,
    server: Server<State>,
    state: State,
    name: Option<SocketAddrUnix>,
    clients: [Client; 2],
}

impl Stage {
    fn new(mode: Mode) -> Self {
        let mut limits = Limits::default();
        limits.retry_backoff = Duration::from_millis(1);
        limits.message = 64 << 10;
        let mut server = Server::new(limits).expect("a server");
        let name = (mode == Mode::Datagram).then(|| {
            let (socket, name) = bound();
            serve(mode, &mut server, socket);
            name
        });
        let clients = [(); 2].map(|()| Client::new(connect(mode, &mut server, name.as_ref())));
        Self {
            mode,
            server,
            state: State::default(),
            name,
            clients,
        }
    }

    fn turn(&mut self, wait: Duration) {
        let turn = self.server.run_once(&mut self.state, Some(wait));
        assert_eq!(turn.expect("the loop goes on"), ControlFlow::Continue(()));
    }

    fn read(&mut self) -> bool {
        let [first, second] = &mut self.clients;
        first.read(self.mode) | second.read(self.mode)
    }

    fn step(&mut self, cargo: &Cargo, line: &[u8]) {
        match line.split_first() {
            None => {}
            Some((b'r', _)) => drop(self.read()),
            Some((b'x', _)) => self.clients[0].socket = None,
            Some((0x60.., _)) => self.turn(Duration::ZERO),
            Some((header, text)) => {
                let header = Header(*header);
                self.clients[usize::from(header.is_other())].send(cargo, header, text);
            }
        }
    }

    /// Lets all calls end.
    fn finish(&mut self) {
        // Deferred calls get their replies when a third client calls, which also shows that the server serves.
        self.settle();
        let fd = connect(self.mode, &mut self.server, self.name.as_ref());
        let mut last = Client::new(fd);
        let calls = match self.mode {
            Mode::Bare => vec![r#"{"Give":{"number":1}}"#],
            Mode::Seqpacket | Mode::Datagram => vec![
                r#"{"jsonrpc":"2.0","id":1,"method":"fuzz.desk.add","params":[1]}"#,
                r#"{"jsonrpc":"2.0","id":2,"method":"fuzz.desk.give"}"#,
            ],
        };
        for call in calls {
            last.send(&Cargo::new(), Header(b'0'), call.as_bytes());
            // On a datagram socket the messages of the first client are handled first.
            let replied = (0..STEPS).any(|_| {
                self.turn(Duration::ZERO);
                self.turn(Duration::ZERO);
                last.read(self.mode)
            });
            assert!(replied, "the server no longer replies");
            last.ledger.assert_all_replied();
        }
        self.state.bare.clear();
        self.settle();
        let counts = self.server.counts();
        for client in &self.clients {
            if client.socket.is_some() && self.mode != Mode::Bare && counts.undelivered == 0 {
                client.ledger.assert_all_replied();
            }
        }
    }

    /// Takes turns until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.turn(Duration::ZERO);
            if self.read() {
                continue;
            }
            // A reply that found no room on a datagram socket is retried by a timer.
            let waits = self
                .clients
                .iter()
                .any(|client| client.socket.is_some() && !client.ledger.is_settled());
            let wait = if waits && self.mode == Mode::Datagram {
                3
            } else {
                0
            };
            self.turn(Duration::from_millis(wait));
            if !self.read() {
                return;
            }
        }
        panic!("it never ends");
    }
}

/// Returns a datagram socket with a name that the kernel chose.
fn bound() -> (OwnedFd, SocketAddrUnix) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).expect("one");
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed()).expect("a name");
    let name = rustix::net::getsockname(&socket).expect("a name");
    let name = name.try_into().expect("a unix socket");
    (socket, name)
}

/// Adds a socket to the server.
fn serve(mode: Mode, server: &mut Server<State>, socket: OwnedFd) {
    let endpoint = server.adopt(socket).expect("a socket");
    match mode {
        Mode::Bare => endpoint.bare::<Bare>(),
        Mode::Seqpacket | Mode::Datagram => endpoint.serve::<dyn Desk>().handle::<Ask>(),
    };
}

/// Returns the socket of a new client.
fn connect(mode: Mode, server: &mut Server<State>, name: Option<&SocketAddrUnix>) -> OwnedFd {
    if let Some(name) = name {
        let (socket, _) = bound();
        rustix::net::connect(&socket, name).expect("the server");
        return socket;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).expect("a pair");
    serve(mode, server, theirs);
    ours
}

thread_local! {
    static CARGO: Cargo = Cargo::new();
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, steps)) = input.split_first() else {
        return;
    };
    let mode = match mode {
        b'd' => Mode::Datagram,
        b'b' => Mode::Bare,
        _ => Mode::Seqpacket,
    };
    let mut stage = Stage::new(mode);
    CARGO.with(|cargo| {
        for line in steps.split(|byte| *byte == b'\n').take(STEPS) {
            stage.step(cargo, line);
        }
    });
    stage.finish();
    drop(stage);
    assert_nothing_leaks();
});
