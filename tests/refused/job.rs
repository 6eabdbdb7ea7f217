//! What servers and clients do, in one go: run where system calls are refused.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jsoncomm::address::Bind;
use jsoncomm::message::{RawError, WithFds};
use jsoncomm::server::ServerHandle;
use jsoncomm::socket::{DATAGRAM_MAX, Socket};
use jsoncomm::{
    Call, CallError, Connection, Deferred, Fault, Kind, Limits, Message, Peer, Reply, Server,
};
use jsoncomm_tests::{PATIENCE, send_raw};

#[jsoncomm::service(name = "test.work")]
trait Work {
    fn length(&mut self, text: &str) -> usize;
    fn text(&mut self, length: usize) -> String;
    fn swap(&mut self, #[fd] left: File, #[fd] right: File) -> Pair;
    fn later(&mut self, call: &mut Call) -> Deferred<u64>;
    fn enter(&mut self, #[fd(directory)] place: OwnedFd) -> bool;
    fn wait_for(&mut self, #[fd(pidfd)] process: OwnedFd) -> bool;
}

#[derive(Debug, Message)]
struct Pair {
    #[fd]
    left: File,
    #[fd]
    right: File,
}

#[derive(Default)]
struct Worker(Vec<Reply<u64>>);

impl Work for Worker {
    fn length(&mut self, text: &str) -> usize {
        text.len()
    }

    fn text(&mut self, length: usize) -> String {
        "x".repeat(length)
    }

    fn swap(&mut self, left: File, right: File) -> Pair {
        let (left, right) = (right, left);
        Pair { left, right }
    }

    fn later(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.0.push(reply))
    }

    fn enter(&mut self, _: OwnedFd) -> bool {
        true
    }

    fn wait_for(&mut self, _: OwnedFd) -> bool {
        true
    }
}

/// What the machine gave beyond what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The groups of a peer.
    pub(super) groups: bool,
    /// The pidfd of a peer, on connections.
    pub(super) pidfd: bool,
    /// The pidfd of the sender of a datagram.
    pub(super) sender: bool,
    /// The kernel refuses descriptors at an endpoint that takes none.
    pub(super) refusal: bool,
    /// Which file is a directory.
    pub(super) directories: bool,
    /// Which descriptor is a process.
    pub(super) processes: bool,
}

/// Larger than any datagram.
const LARGE: usize = DATAGRAM_MAX + 1;

struct Running {
    handle: ServerHandle<Worker>,
    thread: JoinHandle<()>,
    peers: Receiver<Peer>,
}

/// Starts a server. It replaces the socket of one that is dead.
fn start(kind: Kind, path: &Path) -> Running {
    let mut limits = Limits::default();
    (limits.message, limits.user_backlog_bytes) = (16 << 20, 16 << 20);
    let mut server = Server::new(limits).unwrap();
    let (tell, peers) = channel();
    // Not the mode that any umask leaves.
    let at = Bind::at(path).mode(0o666);
    let endpoint = server.bind(at, kind).unwrap().with_pidfds();
    let rule = move |peer: &Peer| tell.send(peer.clone()).is_ok();
    endpoint.authorize(rule).serve::<dyn Work>();
    let handle = server.handle();
    let (ready, go) = channel();
    let timer = move |_: &mut Worker, _: &mut _| ready.send(()).unwrap();
    server.after(Duration::from_millis(1), timer).unwrap();
    let thread = thread::spawn(move || {
        let mut worker = Worker::default();
        server.run(&mut worker).unwrap();
        // The sockets close first, as if the process had been killed.
        drop(server);
    });
    go.recv_timeout(PATIENCE).unwrap();
    Running {
        handle,
        thread,
        peers,
    }
}

/// Runs it. The directory is empty, and it is again when this returns.
pub(super) fn run(directory: &Path, pidfd: Option<&OwnedFd>) -> Found {
    let (directories, processes) = tell_kinds(directory, pidfd);
    let groups_and_pidfd = serve(Kind::Seqpacket, directory);
    let (_, sender) = serve(Kind::Datagram, directory);
    let (groups, pidfd) = groups_and_pidfd;
    Found {
        groups,
        pidfd,
        sender,
        refusal: refuse_descriptors(directory),
        directories,
        processes,
    }
}

/// Serves and calls. Returns whether the caller's groups and pidfd were known.
fn serve(kind: Kind, directory: &Path) -> (bool, bool) {
    let path = directory.join(format!("{kind:?}"));
    // A dead socket.
    drop(UnixDatagram::bind(&path).unwrap());
    let server = start(kind, &path);
    let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
    connection.set_message_limit(16 << 20);
    let work = WorkClient::new(connection.reconnecting());
    assert_eq!(work.length("text").unwrap(), 4);
    assert_eq!(work.length(&"x".repeat(LARGE)).unwrap(), LARGE);
    assert_eq!(work.text(LARGE).unwrap().len(), LARGE);
    let null = || File::open(directory).unwrap();
    work.swap(null(), null()).unwrap();
    let peer = server.peers.recv_timeout(PATIENCE).unwrap();
    send_surplus(kind, &path);
    // The server goes in the middle of a call.
    let pending = work.start().later().unwrap();
    assert_eq!(work.length("handled").unwrap(), 7);
    server.handle.stop();
    server.thread.join().unwrap();
    // As one that was killed would have left.
    drop(UnixDatagram::bind(&path).unwrap());
    let ended = pending.wait();
    assert!(matches!(ended, Err(CallError::Closed)), "{ended:?}");
    let server = start(kind, &path);
    assert_eq!(work.length("again").unwrap(), 5);
    server.handle.stop();
    server.thread.join().unwrap();
    (peer.groups().is_some(), peer.pidfd().is_some())
}

/// Sends sockets that no argument takes. The server closes them on another thread.
fn send_surplus(kind: Kind, path: &Path) {
    const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"test.work.length","params":["x"]}"#;
    let mut socket = Socket::connect(path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    let (left, right) = UnixStream::pair().unwrap();
    send_raw(&socket, CALL, &[left.as_fd(), right.as_fd()]).unwrap();
    let (reply, _) = socket.receive::<WithFds<serde_json::Value>>().unwrap();
    let reply = reply.json;
    assert_eq!(
        reply["error"]["code"],
        Fault::INVALID_DESCRIPTORS,
        "{reply}"
    );
}

/// Returns whether a directory and a pidfd are accepted as such. What is not is refused, and nothing else is.
fn tell_kinds(directory: &Path, pidfd: Option<&OwnedFd>) -> (bool, bool) {
    #[derive(Message)]
    struct Untyped<'a>(#[fd] BorrowedFd<'a>);

    let path = directory.join("kinds");
    let server = start(Kind::Seqpacket, &path);
    let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
    let tell = |method: &str, fd: BorrowedFd<'_>| {
        let method = format!("test.work.{method}");
        match connection.call::<bool, RawError>(&method, &vec![Untyped(fd)]) {
            Ok(accepted) => accepted,
            Err(CallError::Fault(fault)) => {
                assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS, "{fault}");
                false
            }
            Err(other) => panic!("{method}: {other:?}"),
        }
    };
    let place = File::open(directory).unwrap();
    let null = File::open("/dev/null").unwrap();
    assert!(!tell("enter", null.as_fd()) && !tell("wait_for", null.as_fd()));
    let told = (
        tell("enter", place.as_fd()),
        pidfd.is_some_and(|pidfd| tell("wait_for", pidfd.as_fd())),
    );
    server.handle.stop();
    server.thread.join().unwrap();
    told
}

/// Returns true if the kernel refuses descriptors, false if the server does.
fn refuse_descriptors(directory: &Path) -> bool {
    let path = directory.join("without");
    let mut server: Server<Worker> = Server::new(Limits::default()).unwrap();
    let endpoint = server.bind(&path, Kind::Seqpacket).unwrap();
    endpoint.without_descriptors().unwrap().serve::<dyn Work>();
    let handle = server.handle();
    let thread = thread::spawn(move || server.run(&mut Worker::default()).unwrap());
    let work = WorkClient::new(Connection::open(&path).unwrap().with_timeout(PATIENCE));
    let file = || File::open(directory).unwrap();
    let refused = work.swap(file(), file()).unwrap_err();
    assert_eq!(work.length("goes on").unwrap(), 7);
    handle.stop();
    thread.join().unwrap();
    match refused {
        CallError::Fault(fault) => {
            assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS, "{fault}");
            false
        }
        CallError::NotSent(_) => true,
        other => panic!("{other:?}"),
    }
}
