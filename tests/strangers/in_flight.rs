//! Descriptors in flight to users that do not read, from a server whose own limit they count against.

use std::time::{Duration, Instant};

use jsoncomm::address::Bind;
use jsoncomm::{CallError, Connection, Kind, Limits, Server};
use jsoncomm_tests::{PATIENCE, can_be_others};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::users::open_to_all;
use super::*;

/// Unused user ids. Descriptors in flight count for all processes of a user, so each test has its own.
const SERVERS: [u32; 2] = [4721, 4722];
const DEAF: u32 = 4723;

/// The server's limit of open files, and its user's of descriptors in flight.
const FILES: u64 = 256;

/// Requests descriptors until there are no more replies, and never reads.
const FLOOD: &str = r#"import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.setblocking(False)
stuck = time.monotonic() + 0.5
sent = 0
while sent < 2000 and time.monotonic() < stuck:
    try:
        s.send(b'{"jsonrpc":"2.0","id":5,"method":"test.gate.open"}')
        sent += 1
    except BlockingIOError:
        continue
    stuck = time.monotonic() + 0.5
print(sent, flush=True)
sys.stdin.read()"#;

/// Another process of the server's user, which has the maximum of descriptors in flight until it is told to end.
const CROWD: &str = r#"import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
pairs = []
null = os.open("/dev/null", os.O_RDONLY)
try:
    while True:
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        a.setblocking(False)
        pairs.append((a, b))
        for _ in range(20):
            socket.send_fds(a, [b"x"], [null] * 200)
except OSError as error:
    print(error.errno, flush=True)
sys.stdin.read()"#;

/// A process of another user that runs a program in Python and prints one line.
struct Python {
    process: Child,
    said: String,
}

impl Python {
    fn start(user: u32, program: &str, arguments: &[&Path]) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", program]).args(arguments);
        command.uid(user).gid(user).current_dir("/");
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        Self { process, said }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn serves_descriptors_to_all() {
    let Some(path) = elsewhere() else { return };
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut server = Server::new(Limits::default()).unwrap();
    let at = Bind::at(path).mode(0o777);
    let endpoint = server.bind(at, Kind::Seqpacket).unwrap();
    endpoint.serve::<dyn Gate>();
    report("ready");
    server.run(&mut Guard::default()).unwrap();
}

/// Starts a server as that user, which has no capabilities if it is not root.
fn serve(user: u32, directory: &Path) -> (Other, PathBuf) {
    let path = directory.join("gate.sock");
    let mut other = Other::start_as(user, "in_flight::serves_descriptors_to_all", &path);
    assert_eq!(other.receive(), "ready");
    (other, path)
}

/// Makes a call as a client that reads, and returns its duration.
fn open(gate: &GateClient) -> Duration {
    let began = Instant::now();
    drop(gate.open().unwrap());
    began.elapsed()
}

fn client(path: &Path) -> GateClient {
    GateClient::new(Connection::open(path).unwrap().with_timeout(PATIENCE))
}

/// Returns the number of open descriptors of the process.
fn files(of: &Other) -> usize {
    let path = format!("/proc/{}/fd", of.process.id());
    std::fs::read_dir(path).unwrap().count()
}

#[test]
fn a_user_that_never_reads_descriptors_does_not_block_other_users() {
    if !can_be_others() {
        return;
    }
    for user in [SERVERS[0], 0] {
        let directory = tempfile::tempdir().unwrap();
        open_to_all(directory.path());
        let (server, path) = serve(user, directory.path());
        let gate = client(&path);
        open(&gate);
        // Together they request more than may be in flight.
        let stalled: Vec<Python> = (0..3)
            .map(|_| Python::start(DEAF, FLOOD, &[&path]))
            .collect();
        for python in &stalled {
            assert!(python.said.trim().parse::<u64>().unwrap() > FILES / 4);
        }
        for _ in 0..300 {
            open(&gate);
            assert_eq!(gate.who().unwrap(), Some(0));
        }
        // Held-back descriptors are open there.
        assert!(files(&server) as u64 <= FILES / 2, "{}", files(&server));
        drop(stalled);
    }
}

#[test]
fn descriptors_in_flight_from_another_process_delay_only_replies_with_descriptors() {
    if !can_be_others() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path());
    let (_server, path) = serve(SERVERS[1], directory.path());
    let gate = client(&path);
    open(&gate);
    let crowd = Python::start(SERVERS[1], CROWD, &[]);
    let too_many = rustix::io::Errno::TOOMANYREFS.raw_os_error();
    assert_eq!(crowd.said.trim(), too_many.to_string());
    let hasty = GateClient::new(
        Connection::open(&path)
            .unwrap()
            .with_timeout(Duration::from_millis(50)),
    );
    // Each cancelled call makes room for the next.
    for _ in 0..20 {
        let late = hasty.open();
        assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
        assert_eq!(gate.who().unwrap(), Some(0));
    }
    let mut waits = gate.clone().start().open().unwrap();
    assert_eq!(gate.who().unwrap(), Some(0));
    assert!(waits.try_wait().is_none());
    drop(crowd);
    waits.wait().unwrap();
    open(&gate);
}
