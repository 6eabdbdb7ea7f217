//! A process at its limits of descriptors or file sizes: single operations fail, and work again later.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::mpsc::channel;

use jsoncomm::message::WithFds;
use jsoncomm::socket::{DATAGRAM_MAX, Socket};
use jsoncomm::{CallError, Error, Fault, Kind, Limits, Message, Peer};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, send_raw, skip};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

#[jsoncomm::service(name = "example.desk")]
trait Desk {
    fn echo(&mut self, text: String) -> String;
    fn swap(&mut self, #[fd] left: File, #[fd] right: File) -> Pair;
    fn large(&mut self, length: usize) -> String;
}

#[derive(Debug, Message)]
struct Pair {
    #[fd]
    left: File,
    #[fd]
    right: File,
}

struct Clerk;

impl Desk for Clerk {
    fn echo(&mut self, text: String) -> String {
        text
    }

    fn swap(&mut self, left: File, right: File) -> Pair {
        Pair {
            left: right,
            right: left,
        }
    }

    fn large(&mut self, length: usize) -> String {
        "x".repeat(length)
    }
}

fn start(kind: Kind) -> Running<Clerk> {
    let mut limits = Limits::default();
    (limits.message, limits.user_backlog_bytes) = (16 << 20, 16 << 20);
    Running::with_limits(limits, kind, Clerk, |endpoint| endpoint.serve::<dyn Desk>())
}

/// Uses up all free descriptors of the process until it is dropped.
struct Exhausted {
    before: Rlimit,
    plugs: Vec<File>,
}

impl Exhausted {
    fn new() -> Self {
        let before = getrlimit(Resource::Nofile);
        let current = Some(open_fds() as u64 + 64);
        setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
        let plugs = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        Self { before, plugs }
    }

    /// Frees this many.
    fn free(&mut self, count: usize) {
        self.plugs.truncate(self.plugs.len() - count);
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        self.plugs.clear();
        setrlimit(Resource::Nofile, self.before).unwrap();
    }
}

const PING: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"example.desk.echo","params":["x"]}"#;
const SWAP: &[u8] =
    br#"{"jsonrpc":"2.0","id":2,"method":"example.desk.swap","params":{"left":0,"right":1}}"#;

fn receive(socket: &mut Socket) -> Value {
    socket.receive::<WithFds<Value>>().unwrap().0.json
}

#[test]
fn clients_wait_until_accept_has_a_descriptor_and_others_are_served() {
    alone!();
    let before = open_fds();
    let server = start(Kind::Seqpacket);
    let polite = DeskClient::new(server.connect());
    assert_eq!(polite.echo("a").unwrap(), "a");
    let kind = SocketType::SEQPACKET;
    let waiting = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let waiting = waiting.unwrap();
    let exhausted = Exhausted::new();
    let address = SocketAddrUnix::new(&server.path).unwrap();
    rustix::net::connect(&waiting, &address).unwrap();
    send_raw(&waiting, PING, &[]).unwrap();
    for _ in 0..100 {
        assert_eq!(polite.echo("a").unwrap(), "a");
    }
    drop(exhausted);
    let mut waiting = Socket::from_fd(waiting).unwrap();
    waiting.set_timeout(Some(PATIENCE));
    assert_eq!(receive(&mut waiting)["result"], "x");
    let (_, counts) = server.stop();
    assert_eq!((counts.accepted, counts.rejected), (2, 0));
    drop((waiting, polite));
    assert_open_fds(before);
}

#[test]
fn a_message_beyond_the_open_file_limit_is_refused_and_the_next_received() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let mut socket = Socket::connect(&server.path, kind).unwrap();
        socket.set_timeout(Some(PATIENCE));
        let null = File::open("/dev/null").unwrap();
        send_raw(&socket, PING, &[]).unwrap();
        assert_eq!(receive(&mut socket)["result"], "x");
        let before = open_fds();
        let mut exhausted = Exhausted::new();
        // None, and then one of two: the kernel truncates the message in both cases.
        for free in [0, 1] {
            exhausted.free(free);
            send_raw(&socket, SWAP, &[null.as_fd(), null.as_fd()]).unwrap();
            let reply = receive(&mut socket);
            assert_eq!(
                reply["error"]["code"],
                Fault::INVALID_DESCRIPTORS,
                "{reply}"
            );
            let message = reply["error"]["message"].as_str().unwrap();
            assert!(message.contains("limit of open files"), "{reply}");
            assert_eq!(reply["id"], 2);
            send_raw(&socket, PING, &[]).unwrap();
            assert_eq!(receive(&mut socket)["result"], "x");
        }
        drop(exhausted);
        send_raw(&socket, SWAP, &[null.as_fd(), null.as_fd()]).unwrap();
        assert_eq!(receive(&mut socket)["result"]["left"], 0);
        assert_open_fds(before);
    }
}

#[test]
fn lowering_the_limit_below_the_open_descriptors_disconnects_no_client() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let clients = [(); 5].map(|()| DeskClient::new(server.connect()));
        let mut raw = Socket::connect(&server.path, kind).unwrap();
        raw.set_timeout(Some(PATIENCE));
        send_raw(&raw, PING, &[]).unwrap();
        assert_eq!(receive(&mut raw)["result"], "x");
        let kind = match kind {
            Kind::Datagram => SocketType::DGRAM,
            Kind::Seqpacket => SocketType::SEQPACKET,
        };
        let late = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let late = late.unwrap();
        rustix::net::bind(&late, &SocketAddrUnix::new_unnamed()).unwrap();
        let null = File::open("/dev/null").unwrap();
        let before = open_fds();
        let limit = getrlimit(Resource::Nofile);
        let current = Some(3);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let address = SocketAddrUnix::new(&server.path).unwrap();
        rustix::net::connect(&late, &address).unwrap();
        send_raw(&late, PING, &[]).unwrap();
        for _ in 0..20 {
            for client in &clients {
                assert_eq!(client.echo("a").unwrap(), "a");
            }
            send_raw(&raw, SWAP, &[null.as_fd(), null.as_fd()]).unwrap();
            let reply = receive(&mut raw);
            assert_eq!(
                reply["error"]["code"],
                Fault::INVALID_DESCRIPTORS,
                "{reply}"
            );
        }
        setrlimit(Resource::Nofile, limit).unwrap();
        // The clients that connected meanwhile only had to wait.
        let mut late = Socket::from_fd(late).unwrap();
        late.set_timeout(Some(PATIENCE));
        assert_eq!(receive(&mut late)["result"], "x");
        send_raw(&raw, SWAP, &[null.as_fd(), null.as_fd()]).unwrap();
        assert_eq!(receive(&mut raw)["result"]["left"], 0);
        assert_open_fds(before + usize::from(kind == SocketType::SEQPACKET));
        server.assert_busy_with(match kind {
            SocketType::DGRAM => 0,
            _ => 7,
        });
    }
}

/// Larger than any datagram.
const LARGE: usize = DATAGRAM_MAX + 1;

/// Asserts that a call was not sent because no memfd could be opened.
#[track_caller]
fn assert_no_memfd<T: std::fmt::Debug>(reply: Result<T, CallError>) {
    let operation = match &reply {
        Err(CallError::NotSent(Error::Os { operation, .. })) => *operation,
        _ => "",
    };
    assert_eq!(operation, "memfd_create", "{reply:?}");
}

/// Returns a client that can send large messages.
fn large(server: &Running<Clerk>) -> DeskClient {
    let connection = server.connect();
    connection.set_message_limit(16 << 20);
    DeskClient::new(connection)
}

#[test]
fn a_peer_is_served_without_a_pidfd_when_none_can_be_opened() {
    if rustix::process::geteuid().as_raw() == 65534 {
        return skip(
            "nobody is only known where there is a descriptor left to read /proc/self/uid_map",
        );
    }
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (sender, receiver) = channel();
        let server = Running::start(kind, Clerk, |endpoint| {
            let rule = move |peer: &Peer| sender.send(peer.pidfd().is_some()).is_ok();
            endpoint.with_pidfds().authorize(rule).serve::<dyn Desk>()
        });
        // Kept, so that closing it frees no descriptor below.
        let first = DeskClient::new(server.connect());
        assert_eq!(first.echo("a").unwrap(), "a");
        // Unknown before Linux 6.5.
        let known = receiver.recv_timeout(PATIENCE).unwrap();
        let of = match kind {
            Kind::Datagram => SocketType::DGRAM,
            Kind::Seqpacket => SocketType::SEQPACKET,
        };
        let client = rustix::net::socket_with(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None);
        let client = client.unwrap();
        let null = File::open("/dev/null").unwrap();
        // The server may still hold the pidfd of the last caller.
        server.finish_turn();
        let mut exhausted = Exhausted::new();
        let address = SocketAddrUnix::new(&server.path).unwrap();
        rustix::net::connect(&client, &address).unwrap();
        match kind {
            Kind::Datagram => rustix::net::bind(&client, &SocketAddrUnix::new_unnamed()).unwrap(),
            // For the connection itself.
            Kind::Seqpacket => exhausted.free(1),
        }
        let mut client = Socket::from_fd(client).unwrap();
        client.set_timeout(Some(PATIENCE));
        send_raw(&client, PING, &[]).unwrap();
        assert_eq!(receive(&mut client)["result"], "x");
        assert!(!receiver.recv_timeout(PATIENCE).unwrap(), "{kind:?}");
        // Truncated control data: no descriptor fits, and then only the first.
        for free in [0, 1] {
            exhausted.free(free);
            send_raw(&client, SWAP, &[null.as_fd(), null.as_fd()]).unwrap();
            let reply = receive(&mut client);
            assert_eq!(
                reply["error"]["code"],
                Fault::INVALID_DESCRIPTORS,
                "{reply}"
            );
        }
        drop(exhausted);
        let again = DeskClient::new(server.connect());
        assert_eq!(again.echo("a").unwrap(), "a");
        // Each datagram is authorized separately, a connection once.
        let judged = match kind {
            Kind::Datagram => 3,
            Kind::Seqpacket => 1,
        };
        let said: Vec<bool> = (0..judged)
            .map(|_| receiver.recv_timeout(PATIENCE).unwrap())
            .collect();
        assert_eq!(said.last(), Some(&known), "{kind:?}");
        drop((server, first, client, again, null));
        assert_open_fds(before);
    }
}

#[test]
fn a_payload_beyond_the_open_file_limit_is_an_error_and_the_next_is_sent() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let client = large(&server);
        let text = "x".repeat(LARGE);
        let other = large(&server);
        for client in [&client, &other] {
            assert_eq!(client.echo("a").unwrap(), "a");
        }
        let before = open_fds();
        let exhausted = Exhausted::new();
        assert_no_memfd(client.echo(&text));
        assert_eq!(client.echo("a").unwrap(), "a");
        drop(exhausted);
        assert_eq!(client.echo(text).unwrap().len(), LARGE);
        // A reply waits until a descriptor is free. Others do not.
        let exhausted = Exhausted::new();
        let waiting = client.start().large(LARGE).unwrap();
        assert_eq!(other.echo("a").unwrap(), "a");
        drop(exhausted);
        assert_eq!(waiting.wait().unwrap().len(), LARGE);
        assert_open_fds(before);
    }
}

/// Limits the size of files until it is dropped. A process that exceeds it gets SIGXFSZ.
struct Files(Rlimit);

impl Files {
    fn up_to(bytes: usize) -> Self {
        let before = getrlimit(Resource::Fsize);
        let current = Some(bytes as u64);
        setrlimit(Resource::Fsize, Rlimit { current, ..before }).unwrap();
        Self(before)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        setrlimit(Resource::Fsize, self.0).unwrap();
    }
}

#[test]
fn a_payload_above_the_file_size_limit_is_an_error_and_the_next_is_sent() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let client = large(&server);
        assert_eq!(client.echo("a").unwrap(), "a");
        let before = open_fds();
        for limit in [0, LARGE - 1] {
            let _files = Files::up_to(limit);
            assert_no_memfd(client.echo("x".repeat(LARGE)));
            assert_eq!(client.echo("a").unwrap(), "a");
        }
        let files = Files::up_to(0);
        // The server cannot send this, replies with a fault and continues.
        match client.large(LARGE) {
            Err(CallError::Fault(fault)) => {
                assert_eq!(fault.code, Fault::INTERNAL_ERROR, "{fault}")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(client.echo("a").unwrap(), "a");
        drop(files);
        let _files = Files::up_to(2 * LARGE);
        assert_eq!(client.large(LARGE).unwrap().len(), LARGE);
        assert_open_fds(before);
    }
}
