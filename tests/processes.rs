//! Descriptors that a process inherits across execve(2).

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use jsoncomm::Connection;
use jsoncomm::fds::inherited_fd;
use jsoncomm_tests::{PATIENCE, wait_for};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

/// Set in a process that a test has started.
const PART: &str = "JSONCOMM_TESTS_PART";

/// Starts the test of this thread in another process, which inherits `stdout` as descriptor 3.
fn start(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Child {
    let test = std::thread::current().name().unwrap().to_owned();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"exec 3>&1 >/dev/null; exec "$0" "$@""#])
        .arg(std::env::args_os().next().unwrap())
        .args(["--exact", &test])
        .env(PART, "");
    shell.stdin(stdin).stdout(stdout).spawn().unwrap()
}

#[test]
fn a_worker_that_closes_its_inherited_descriptor_is_noticed_at_once() {
    if std::env::var_os(PART).is_some() {
        let connection = Connection::from_fd(inherited_fd(3).unwrap()).unwrap();
        // A child process does not inherit it.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(connection);
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        return;
    }
    let (family, of, flags) = (
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
    );
    let (near, far) = socketpair(family, of, flags, None).unwrap();
    let (gate, open) = UnixStream::pair().unwrap();
    let mut worker = start(OwnedFd::from(gate), far);
    wait_for(&near, Instant::now() + PATIENCE);
    assert_eq!(recv(&near, &mut [0; 8], RecvFlags::empty()).unwrap().0, 0);
    assert!(worker.try_wait().unwrap().is_none(), "it goes on");
    drop(open);
    assert!(worker.wait().unwrap().success());
}
