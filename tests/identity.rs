//! Who called, as the kernel says: user and groups.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use jsoncomm::{Call, Endpoint, Fault, Kind, Peer};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

/// What is asked, and by whom is told the test.
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

/// A server that tells who has called.
fn start(
    kind: Kind,
    serve: impl FnOnce(Endpoint<'_, Tells>) -> Endpoint<'_, Tells>,
) -> (Running<Tells>, Receiver<Option<Peer>>) {
    let (tell, told) = channel();
    let server = Running::start(kind, Tells(tell), |endpoint| {
        serve(endpoint).serve::<dyn Who>()
    });
    open_to_all(&server.path);
    (server, told)
}

/// Lets every user connect.
fn open_to_all(path: &Path) {
    for path in [path.parent().unwrap(), path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
}

fn heard(told: &Receiver<Option<Peer>>) -> Peer {
    told.recv_timeout(PATIENCE).unwrap().unwrap()
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tests.who.am_i","params":{}}"#;

/// A client in a process of its own.
struct Client(Child);

/// The user that such a client is, and the first of its groups, where it is not the test's own.
const STRANGER: u32 = 4711;

impl Client {
    /// A client with so many groups besides its own, from [`STRANGER`] on; `None` for the test's own identity.
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
    except BrokenPipeError: pass # who is turned away is told why
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

    /// Makes one call, and returns its answer.
    fn call(&mut self) -> Value {
        self.tell("call");
        let mut answer = Vec::new();
        let output = self.0.stdout.as_mut().unwrap();
        while answer.last() != Some(&b'\n') {
            let mut byte = [0];
            assert!(is_readable(output.as_fd()), "no answer");
            assert_eq!(output.read(&mut byte).unwrap(), 1, "it has ended");
            answer.extend(byte);
        }
        serde_json::from_slice(&answer).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until it is.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)).unwrap() == 1
}

/// Says whether the kernel is of this version or a later one.
fn has_linux(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= version
}

/// Says whether a test can be somebody else.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not tested: only root can be another user");
    }
    root
}

#[test]
fn who_connected_is_known_with_its_own_groups() {
    let _alone = alone();
    let (server, told) = start(Kind::Seqpacket, |endpoint| endpoint);
    assert!(WhoClient::new(server.connect()).am_i().unwrap());
    let peer = heard(&told);
    let own = rustix::process::getgroups().unwrap();
    let own: Vec<u32> = own.into_iter().map(|group| group.as_raw()).collect();
    assert_eq!(peer.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(peer.gid(), rustix::process::getegid().as_raw());
    assert_eq!(peer.pid(), Some(std::process::id()));
    if has_linux((4, 13)) && own.len() <= 1024 {
        assert_eq!(peer.groups(), Some(&own[..]));
    }
}

#[test]
fn groups_are_known_up_to_the_limit_and_on_connections_only() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    for kind in KINDS {
        let (server, told) = start(kind, |endpoint| endpoint);
        for count in [0, 1, 2, 1024, 1025, 65536] {
            let mut client = Client::start(&server.path, kind, Some(count));
            assert_eq!(client.call()["result"], true);
            let peer = heard(&told);
            assert_eq!((peer.uid(), peer.gid()), (STRANGER, STRANGER));
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
fn a_rule_admits_the_members_of_a_group() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let operators = STRANGER + 2;
    let (server, _told) = start(Kind::Seqpacket, |endpoint| {
        endpoint.admit(move |peer| peer.is_in_group(operators))
    });
    for (groups, want) in [(2, Some(Fault::REFUSED)), (3, None), (10, None)] {
        let mut client = Client::start(&server.path, Kind::Seqpacket, Some(groups));
        let answer = client.call();
        assert_eq!(answer["error"]["code"].as_i64(), want, "{groups}");
    }
}
