//! Whose connections are taken: those of the user who sends them, unless the program allows more.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jsoncomm::address::Bind;
use jsoncomm::message::{DecodeError, FdProblem};
use jsoncomm::socket::Listener as Listening;
use jsoncomm::{Error, Kind};
use jsoncomm_tests::{KINDS, can_be_others};
use serde_json::Value;

use super::*;

/// Not the id of any user.
const STRANGER: u32 = 4711;

/// Passes a socket to the hub at `argv[2]`, prints the reply, and then what came by the other end of its pair if it has one.
const PYTHON: &str = r#"import os, socket, sys
how, hub, other = sys.argv[1:]
def connect(path, kind=socket.SOCK_SEQPACKET):
    s = socket.socket(socket.AF_UNIX, kind)
    s.settimeout(20)
    try: s.connect(path)
    except OSError: return connect(path, socket.SOCK_DGRAM)
    if kind == socket.SOCK_DGRAM:
        s.bind("")
    return s
near = None
if how == "pair":
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(20)
elif how == "of another":
    far = connect(other)
elif how == "accepted":
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.settimeout(20)
    listener.bind(other)
    os.chmod(other, 0o777)
    listener.listen()
    print("listens", flush=True)
    far = listener.accept()[0]
to = connect(hub)
call = b'{"jsonrpc":"2.0","id":5,"method":"test.hub.keep","params":{"peers":[],"one":0}}'
socket.send_fds(to, [call], [far.fileno()])
print(to.recv(65536).decode(), flush=True)
to.send(b'{"jsonrpc":"2.0","id":6,"method":"test.hub.note","params":{"key":"secret"}}')
to.recv(65536)
if near:
    print(near.recv(65536).decode(), flush=True)
"#;

/// Runs the script as the stranger.
fn stranger(how: &str, hub: &Path, other: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", PYTHON, how]).args([hub, other]);
    command.uid(STRANGER).gid(STRANGER).current_dir("/");
    command.stdout(Stdio::piped());
    command
}

/// Returns the lines that a process prints, as JSON.
fn said(mut command: Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Lets every user connect to a socket in a new directory.
fn open_to_all(path: &Path) {
    for path in [path.parent().unwrap(), path] {
        std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
}

fn assert_foreign(fault: &Value) {
    assert_eq!(
        fault["error"]["code"],
        Fault::INVALID_DESCRIPTORS,
        "{fault}"
    );
    assert_eq!(fault["error"]["data"]["field"], "one");
    let message = fault["error"]["message"].as_str().unwrap();
    assert!(message.contains("not a connection to a process of the sender's user"));
}

/// A listening socket of this user, which the stranger may connect to.
fn listening() -> (tempfile::TempDir, PathBuf, Listening) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.sock");
    let listener = Listening::bind(Bind::at(&path)).unwrap();
    open_to_all(&path);
    (directory, path, listener)
}

#[test]
fn a_caller_cannot_have_a_server_call_another_service_in_its_own_name() {
    alone!();
    if !can_be_others() {
        return;
    }
    let before = open_fds();
    for allowed in [false, true] {
        let hub = hub(|endpoint| {
            if allowed {
                endpoint.allow_foreign_endpoints()
            } else {
                endpoint
            }
        });
        open_to_all(&hub.path);
        let (_directory, path, listener) = listening();
        let said = said(stranger("of another", &hub.path, &path));
        let mut accepted = listener.accept().unwrap().unwrap();
        accepted.set_timeout(Some(PATIENCE));
        if allowed {
            assert_eq!(said[0]["result"], 1);
            let (message, _) = accepted.receive_raw().unwrap();
            assert!(message.bytes.ends_with(br#"{"key":"secret"}}"#));
        } else {
            assert_foreign(&said[0]);
            // The stranger has closed it, and nothing was sent.
            assert!(matches!(accepted.receive_raw(), Err(Error::Closed)));
        }
    }
    assert_open_fds(before);
}

#[test]
fn a_pair_of_its_caller_is_taken_by_a_server_of_another_user() {
    if !can_be_others() {
        return;
    }
    for kind in KINDS {
        let hub = hub_of(kind, Limits::default(), |endpoint| endpoint);
        open_to_all(&hub.path);
        let said = said(stranger("pair", &hub.path, Path::new("")));
        assert_eq!(said[0]["result"], 1, "{kind:?}");
        assert_eq!(said[1]["params"]["key"], "secret", "{kind:?}");
    }
}

#[test]
fn the_sender_of_a_datagram_gives_no_right_to_another_users_connection() {
    if !can_be_others() {
        return;
    }
    let hub = hub_of(Kind::Datagram, Limits::default(), |endpoint| endpoint);
    open_to_all(&hub.path);
    let (_directory, path, listener) = listening();
    assert_foreign(&said(stranger("of another", &hub.path, &path))[0]);
    let mut accepted = listener.accept().unwrap().unwrap();
    accepted.set_timeout(Some(PATIENCE));
    assert!(matches!(accepted.receive_raw(), Err(Error::Closed)));
}

#[test]
fn a_connection_that_its_caller_has_accepted_from_another_user_is_refused() {
    if !can_be_others() {
        return;
    }
    let hub = hub(|endpoint| endpoint);
    open_to_all(&hub.path);
    let directory = tempfile::tempdir().unwrap();
    open_to_all(&directory.path().join("."));
    let path = directory.path().join("trap.sock");
    let mut process = stranger("accepted", &hub.path, &path).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "listens");
    // This user is lured into connecting there.
    let mut lured = Socket::connect(&path, Kind::Seqpacket).unwrap();
    let fault = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_foreign(&fault);
    lured.set_timeout(Some(PATIENCE));
    assert!(matches!(lured.receive_raw(), Err(Error::Closed)));
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_caller_cannot_pass_on_what_it_got_from_another_user() {
    if !can_be_others() {
        return;
    }
    let first = hub(|endpoint| endpoint);
    open_to_all(&first.path);
    assert_eq!(
        said(stranger("pair", &first.path, Path::new("")))[0]["result"],
        1
    );
    let client = HubClient::new(first.connect());
    // The server's user is ours, and the pair is the stranger's.
    let refused = client.last().unwrap_err();
    let CallError::Io(Error::Decode(DecodeError::Descriptor { field, problem })) = refused else {
        panic!("{refused}");
    };
    assert_eq!(field.as_deref(), Some("events"));
    assert_eq!(problem, FdProblem::Foreign { index: 0 });
    client.as_ref().allow_foreign_endpoints();
    let named = client.last().unwrap().unwrap();
    assert_eq!(named.events.as_ref().peer().unwrap().uid(), STRANGER);
    let second = hub(|endpoint| endpoint);
    let second = HubClient::new(second.connect());
    let Err(CallError::Fault(fault)) = second.keep(&Vec::new(), &Some(named.events)) else {
        panic!("it is taken");
    };
    assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS);
}

#[test]
fn a_server_that_does_not_know_its_caller_takes_none_unless_it_is_told_who_that_is() {
    let uid = rustix::process::getuid().as_raw();
    for (who, taken) in [(None, false), (Some(uid), true), (Some(uid + 1), false)] {
        let mut server = Server::new(Limits::default()).unwrap();
        let (near, far) = ends();
        let endpoint = server.adopt(near).unwrap().serve::<dyn Hub>();
        if let Some(uid) = who {
            endpoint.peer_is(uid, uid).unwrap();
        }
        let client = HubClient::new(Connection::from_fd(far).unwrap()).start();
        let (_other, events) = ends();
        let events = EventsClient::new(Connection::from_fd(events).unwrap());
        let call = client.keep(&Vec::new(), &Some(events)).unwrap();
        let _ = server
            .run_once(&mut Board::default(), Some(PATIENCE))
            .unwrap();
        match call.wait() {
            Ok(kept) => assert!(taken && kept == 1),
            Err(CallError::Fault(fault)) => {
                assert!(!taken);
                assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS);
                assert_eq!(fault.field.as_deref(), Some("one"));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_client_that_does_not_know_its_server_takes_none_unless_allowed() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let mut server = Server::new(Limits::default()).unwrap();
        let path = directory.path().join(format!("{kind:?}"));
        // Over a pair that this process has made, the kernel reports this process.
        let connection = match kind {
            Kind::Datagram => {
                server.bind(&path, kind).unwrap().serve::<dyn Hub>();
                Connection::open(&path).unwrap()
            }
            Kind::Seqpacket => {
                let (near, far) = ends();
                server.adopt(near).unwrap().serve::<dyn Hub>();
                Connection::from_fd(far).unwrap()
            }
        };
        assert!(connection.peer().is_none());
        let (_other, events) = ends();
        let mut board = Board::with(events);
        let client = HubClient::new(connection);
        let mut ask = || {
            let call = client.start().last().unwrap();
            let _ = server.run_once(&mut board, Some(PATIENCE)).unwrap();
            call.wait()
        };
        let refused = ask().unwrap_err();
        assert!(
            refused.to_string().contains("of the sender's user"),
            "{refused}"
        );
        client.as_ref().allow_foreign_endpoints();
        assert!(ask().unwrap().is_some(), "{kind:?}");
    }
}

#[test]
fn what_is_allowed_of_a_connection_is_allowed_after_it_has_connected_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let connect = |server: &mut Server<Board>| {
        server
            .bind(&path, Kind::Datagram)
            .unwrap()
            .serve::<dyn Hub>();
    };
    let mut server = Server::new(Limits::default()).unwrap();
    connect(&mut server);
    let connection = Connection::open(&path).unwrap().reconnecting();
    connection.allow_foreign_endpoints();
    drop(server);
    let mut server = Server::new(Limits::default()).unwrap();
    connect(&mut server);
    let (_other, events) = ends();
    let mut board = Board::with(events);
    let call = HubClient::new(connection).start().last().unwrap();
    let _ = server.run_once(&mut board, Some(PATIENCE)).unwrap();
    assert!(call.wait().unwrap().is_some());
}
