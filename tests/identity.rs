//! The identity of a caller, as the kernel reports it: user, groups and process.

mod adopted;

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use jsoncomm::{Call, CallError, Endpoint, Fault, Kind, Limits, Peer, Server};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, alone, assert_open_fds, can_be_others, has_linux, has_proc, open_fds,
    skip,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

/// A service whose caller is reported to the test.
#[jsoncomm::service(name = "tests.who")]
trait Who {
    fn am_i(&mut self, call: &mut Call) -> bool;
}

struct Tells(Sender<Option<Peer>>);

impl Who for Tells {
    fn am_i(&mut self, call: &mut Call) -> bool {
        self.0.send(call.peer().cloned()).is_ok()
    }
}

/// Starts a server that reports the peer of each call.
fn start(
    kind: Kind,
    serve: impl FnOnce(Endpoint<'_, Tells>) -> Endpoint<'_, Tells>,
) -> (Running<Tells>, Receiver<Option<Peer>>) {
    let (sender, receiver) = channel();
    let server = Running::start(kind, Tells(sender), |endpoint| {
        serve(endpoint).serve::<dyn Who>()
    });
    open_to_all(&server.path);
    (server, receiver)
}

/// Lets every user connect to the socket file.
fn open_to_all(path: &Path) {
    for path in [path.parent().unwrap(), path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
}

fn received(callers: &Receiver<Option<Peer>>) -> Peer {
    callers.recv_timeout(PATIENCE).unwrap().unwrap()
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tests.who.am_i","params":{}}"#;

/// A client in another process.
struct Client(Child);

/// User of such a client, and the first of its groups, unless it has the identity of the test.
const STRANGER: u32 = 4711;

impl Client {
    /// Starts a client with this many extra groups, from [`STRANGER`] on; `None` for the identity of the test.
    fn start(path: &Path, kind: Kind, groups: Option<u32>) -> Self {
        const CLIENT: &str = "import os, socket, sys
path, kind, groups, call = sys.argv[1:]
if groups != 'own':
    os.setgroups(range(4711, 4711 + int(groups)))
    os.setgid(4711)
    os.setuid(4711)
s = socket.socket(socket.AF_UNIX, getattr(socket, kind))
s.settimeout(20)
s.connect(path)
if kind == 'SOCK_DGRAM':
    s.bind('')
def answer():
    try: return s.recv(65536)
    except ConnectionResetError: return s.recv(65536)
for line in sys.stdin:
    try: s.send(call.encode())
    except BrokenPipeError: pass # a client that is not authorized gets a fault
    if line == 'call\\n':
        print(answer().decode(), flush=True)
    elif line == 'send and end\\n':
        break";
        let kind = match kind {
            Kind::Datagram => "SOCK_DGRAM",
            Kind::Seqpacket => "SOCK_SEQPACKET",
        };
        let groups = groups.map_or("own".into(), |count| count.to_string());
        let client = Command::new("python3")
            .args(["-c", CLIENT])
            .arg(path)
            .args([kind, &groups, CALL])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(client.unwrap())
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Makes one call and returns its reply.
    fn call(&mut self) -> Value {
        self.tell("call");
        let mut reply = Vec::new();
        let output = self.0.stdout.as_mut().unwrap();
        while reply.last() != Some(&b'\n') {
            let mut byte = [0];
            assert!(is_readable(output.as_fd()), "no reply");
            assert_eq!(output.read(&mut byte).unwrap(), 1, "it has ended");
            reply.extend(byte);
        }
        serde_json::from_slice(&reply).unwrap()
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the descriptor is readable, or a timeout.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)).unwrap() == 1
}

/// Returns true if the descriptor is readable now.
fn is_readable_now(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec::default();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).unwrap() == 1
}

/// Returns the process of a pidfd, from /proc: 0 or less if it is not visible.
fn process_of(pidfd: BorrowedFd<'_>) -> Option<i64> {
    if !has_proc() {
        return None;
    }
    let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.unwrap().trim().parse().ok()
}

#[test]
fn the_peer_of_a_connection_is_known_with_its_groups() {
    alone!();
    let (server, callers) = start(Kind::Seqpacket, |endpoint| endpoint);
    assert!(WhoClient::new(server.connect()).am_i().unwrap());
    let peer = received(&callers);
    let own = rustix::process::getgroups().unwrap();
    let own: Vec<u32> = own.into_iter().map(|group| group.as_raw()).collect();
    assert_eq!(peer.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(peer.gid(), Some(rustix::process::getegid().as_raw()));
    assert_eq!(peer.pid(), Some(std::process::id()));
    if has_linux((4, 13)) && own.len() <= 1024 {
        assert_eq!(peer.groups(), Some(&own[..]));
    }
}

#[test]
fn groups_are_known_up_to_the_limit_and_on_connections_only() {
    alone!();
    if !can_be_others() {
        return;
    }
    for kind in KINDS {
        let (server, callers) = start(kind, |endpoint| endpoint);
        for count in [0, 1, 2, 1024, 1025, 65536] {
            let mut client = Client::start(&server.path, kind, Some(count));
            assert_eq!(client.call()["result"], true);
            let peer = received(&callers);
            assert_eq!((peer.uid(), peer.gid()), (STRANGER, Some(STRANGER)));
            let known = kind == Kind::Seqpacket && count <= 1024;
            let groups: Vec<u32> = (STRANGER..STRANGER + count).collect();
            assert_eq!(peer.groups(), known.then_some(&groups[..]), "{count}");
            assert!(peer.is_in_group(STRANGER) && !peer.is_in_group(STRANGER - 1));
            let in_second = peer.is_in_group(STRANGER + 1);
            assert_eq!(in_second, known && count > 1, "{count}");
        }
    }
}

#[test]
fn a_rule_can_authorize_the_members_of_a_group() {
    alone!();
    if !can_be_others() {
        return;
    }
    let operators = STRANGER + 2;
    let (server, _told) = start(Kind::Seqpacket, |endpoint| {
        endpoint.authorize(move |peer| peer.is_in_group(operators))
    });
    for (groups, want) in [(2, Some(Fault::NOT_AUTHORIZED)), (3, None), (10, None)] {
        let mut client = Client::start(&server.path, Kind::Seqpacket, Some(groups));
        let reply = client.call();
        assert_eq!(reply["error"]["code"].as_i64(), want, "{groups}");
    }
}

#[test]
fn a_pidfd_refers_to_the_connecting_or_sending_process_and_reports_its_end() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (server, callers) = start(kind, |endpoint| endpoint.with_pidfds());
        let mut clients = [(); 2].map(|()| Client::start(&server.path, kind, None));
        for _ in 0..2 {
            for client in &mut clients {
                assert_eq!(client.call()["result"], true);
            }
        }
        let peers = [(); 4].map(|()| received(&callers));
        if peers[0].pidfd().is_none() && !has_linux((6, 5)) {
            skip("pidfds of peers need Linux 6.5");
            continue;
        }
        for (peer, client) in peers.iter().zip(clients.iter().cycle()) {
            let pidfd = peer.pidfd().unwrap();
            let process = process_of(pidfd).is_none_or(|id| id == i64::from(client.0.id()));
            assert!(process, "{kind:?}");
            assert!(!is_readable_now(pidfd));
        }
        let [first, second] = clients;
        first.kill();
        assert!(is_readable(peers[0].pidfd().unwrap()), "{kind:?}");
        assert!(!is_readable_now(peers[1].pidfd().unwrap()), "{kind:?}");
        // A pidfd that was taken outlives the server.
        drop((server, second));
        assert!(is_readable(peers[3].pidfd().unwrap()), "{kind:?}");
        assert_eq!(peers[0], peers[2]);
    }
    assert_open_fds(before);
}

#[test]
fn a_pidfd_is_held_with_its_connection_or_while_its_message_is_handled() {
    alone!();
    for kind in KINDS {
        let pidfds = usize::from(has_linux((6, 5)) && kind == Kind::Seqpacket);
        let (server, callers) = start(kind, |endpoint| endpoint.with_pidfds());
        let before = open_fds();
        let clients = [(); 3].map(|()| server.connect());
        for client in &clients {
            for _ in 0..3 {
                assert!(WhoClient::new(client.clone()).am_i().unwrap());
                drop(received(&callers));
            }
        }
        let each = match kind {
            Kind::Datagram => 1,
            Kind::Seqpacket => 2,
        };
        assert_open_fds(before + 3 * (each + pidfds));
        drop(clients);
        assert_open_fds(before);
    }
}

#[test]
fn an_endpoint_has_pidfds_only_if_requested() {
    alone!();
    for kind in KINDS {
        let (server, callers) = start(kind, |endpoint| endpoint);
        assert!(WhoClient::new(server.connect()).am_i().unwrap());
        assert!(received(&callers).pidfd().is_none());
    }
}

#[test]
fn an_adopted_socket_with_so_passpidfd_passes_none_unless_requested() {
    /// Sets `SO_PASSPIDFD` on the standard input.
    const SET: &str = "import socket
try: socket.socket(fileno=0).setsockopt(socket.SOL_SOCKET, 76, 1)
except OSError: print('unknown')";
    alone!();
    let before = open_fds();
    let directory = tempfile::tempdir().unwrap();
    for asks in [false, true] {
        let path = directory.path().join(format!("{asks}.sock"));
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let input = OwnedFd::from(socket.try_clone().unwrap());
        let set = Command::new("python3")
            .args(["-c", SET])
            .stdin(input)
            .output()
            .unwrap();
        assert!(set.status.success());
        let mut server = Server::new(Limits::default()).unwrap();
        let mut endpoint = server.adopt(socket.into()).unwrap();
        if asks {
            endpoint = endpoint.with_pidfds();
        }
        endpoint.serve::<dyn Who>();
        let held = open_fds();
        let (sender, receiver) = channel();
        let mut state = Tells(sender);
        let client = jsoncomm::Connection::open(&path).unwrap();
        for _ in 0..3 {
            let mut started = WhoClient::new(client.clone()).start().am_i().unwrap();
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
            let peer = received(&receiver);
            let known = peer.pidfd().is_some();
            assert_eq!(known, asks && set.stdout.is_empty());
            assert!(started.try_wait().unwrap().unwrap());
        }
        assert_open_fds(held + 1);
    }
    assert_open_fds(before);
}

/// Like a service manager with `PassCredentials=yes`.
#[test]
fn the_sender_of_a_datagram_queued_before_adopt_is_known_with_so_passcred() {
    for asked in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("who.sock");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        rustix::net::sockopt::set_socket_passcred(&socket, asked).unwrap();
        let client = jsoncomm::Connection::open(&path)
            .unwrap()
            .with_timeout(PATIENCE);
        let client = WhoClient::new(client).start();
        let (early, mut server) = (
            client.am_i().unwrap(),
            Server::new(Limits::default()).unwrap(),
        );
        let me = rustix::process::geteuid().as_raw();
        let endpoint = server.adopt(socket.into()).unwrap();
        endpoint
            .authorize(move |peer| peer.uid() == me)
            .serve::<dyn Who>();
        let late = client.am_i().unwrap();
        let (sender, _told) = channel();
        let mut state = Tells(sender);
        while server.counts().received < 2 {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
        match early.wait() {
            Ok(known) => assert!(known && asked),
            Err(CallError::Fault(fault)) => {
                assert_eq!((fault.code, asked), (Fault::NOT_AUTHORIZED, false));
            }
            Err(other) => panic!("{other}"),
        }
        assert!(late.wait().unwrap());
    }
}

#[test]
fn a_peer_that_has_exited_is_known_and_never_confused_with_another() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("who.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.bind(&path, kind).unwrap();
        let me = rustix::process::geteuid().as_raw();
        endpoint
            .with_pidfds()
            .authorize(move |peer| peer.uid() == me)
            .serve::<dyn Who>();
        let mut client = Client::start(&path, kind, None);
        client.tell("send and end");
        assert!(client.0.wait().unwrap().success());
        let (sender, receiver) = channel();
        let mut state = Tells(sender);
        let peer = loop {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
            if let Ok(peer) = receiver.try_recv() {
                break peer.unwrap();
            }
            assert_eq!(server.counts().refused + server.counts().closed, 0);
        };
        assert_eq!(peer.pid(), Some(client.0.id()));
        if let Some(pidfd) = peer.pidfd() {
            assert!(
                is_readable(pidfd) && process_of(pidfd).is_none_or(|id| id <= 0),
                "{kind:?}"
            );
        }
    }
    assert_open_fds(before);
}

#[test]
fn a_rule_that_panics_authorizes_no_client_and_the_server_continues() {
    for kind in KINDS {
        let (server, callers) = start(kind, |endpoint| endpoint.authorize(|_| panic!("a rule")));
        for _ in 0..3 {
            let reply = WhoClient::new(server.connect()).am_i();
            let Err(CallError::Fault(fault)) = reply else {
                panic!("{reply:?}");
            };
            assert_eq!(fault.code, Fault::NOT_AUTHORIZED);
        }
        server.stop();
        assert_eq!(callers.try_iter().count(), 0);
    }
}
