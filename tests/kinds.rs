//! Kinds of descriptors: each that can be asked for with `#[fd(...)]` against each that can be sent.

mod fields;
mod sent;
mod silent;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Instant;

use jsoncomm::fds::{FdKind, Fds};
use jsoncomm::message::{DecodeError, EncodeError, FdProblem, Json, UnusedFds, WithFds, decode};
use jsoncomm::{CallError, Connection, Error, Fault, Message};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, alone, assert_open_fds, has_linux, open_fds, skip, wait_for,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

/// Declares the service with a method for each word, and calls the stub's method for one.
macro_rules! kinds {
    ($($method:ident $word:literal [$($asked:tt)*];)*) => {
        #[jsoncomm::service(name = "test.kinds")]
        trait Kinds {
            $(fn $method(&mut self, #[fd($($asked)*)] fd: OwnedFd) -> bool {
                drop(fd);
                true
            })*
        }

        /// The words, and the methods that ask for them.
        const ASKED: &[(&str, &str)] = &[$(($word, stringify!($method))),*];

        /// Calls through the stub.
        fn call_typed(kinds: &KindsClient, word: &str, fd: &OwnedFd) -> Result<bool, CallError> {
            match word {
                $($word => kinds.$method(fd),)*
                _ => panic!("{word}"),
            }
        }
    };
}

kinds! {
    regular "regular" [regular];
    directory "directory" [directory];
    pipe "pipe" [pipe];
    memfd "memfd" [memfd];
    sealed "memfd(sealed)" [memfd(sealed)];
    pidfd "pidfd" [pidfd];
    socket "socket" [socket];
    stream "socket(stream)" [socket(stream)];
    datagram "socket(datagram)" [socket(datagram)];
    seqpacket "socket(seqpacket)" [socket(seqpacket)];
    readable "read" [read];
    writable "write" [write];
    path "path" [path];
    // A kind and how it is open.
    readable_file "regular, read" [regular, read];
    readable_directory "directory, read" [directory, read];
    place "directory, path" [path, directory];
    output "pipe, write" [pipe, write];
    writable_memory "memfd, read, write" [memfd, read, write];
    readable_seals "memfd(sealed), read" [memfd(sealed), read];
}

#[derive(Default)]
struct Checked;

impl Kinds for Checked {}

/// Calls without the stub, which would not send what does not fit.
fn call_untyped(connection: &Connection, method: &str, fd: &OwnedFd) -> Result<Value, CallError> {
    #[derive(Debug, Message)]
    struct Untyped<'a> {
        #[fd]
        fd: BorrowedFd<'a>,
    }

    let method = format!("test.kinds.{method}");
    let reply = connection.call::<Json<Value>, _>(&method, &Untyped { fd: fd.as_fd() });
    reply.map(|Json(value)| value)
}

#[test]
fn a_process_that_has_ended_is_a_pidfd_and_is_not_reaped() {
    if !has_linux((5, 4)) {
        return skip("waitid(2) knows no pidfds");
    }
    let mut child = Command::new("true").spawn().unwrap();
    let id = Pid::from_child(&child);
    let pidfd = pidfd_open(id, PidfdFlags::empty()).unwrap();
    wait_for(&pidfd, Instant::now() + PATIENCE);
    assert!(FdKind::PIDFD.fits(&pidfd));
    assert!(child.wait().unwrap().success());
    assert!(FdKind::PIDFD.fits(&pidfd), "also one that nobody waits for");
}

#[test]
fn each_kind_is_accepted_where_it_is_asked_for_and_refused_elsewhere() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = Running::start(kind, Checked, |endpoint| endpoint.serve::<dyn Kinds>());
        let connection = server.connect();
        let stub = KindsClient::new(server.connect());
        for sent in sent::all() {
            let is: FdKind = sent.kind();
            assert_eq!(FdKind::of(&sent.fd), is, "{}", sent.name);
            for (asked, method) in ASKED {
                let wanted = asked.split(", ").map(|word| FdKind::named(word).unwrap());
                let wanted = wanted.fold(FdKind::ANY, FdKind::and);
                let cell = format!("{asked} is asked for, and {} sent", sent.name);
                let untyped = call_untyped(&connection, method, &sent.fd);
                let handled = server.stats().counts.handled;
                let typed = call_typed(&stub, asked, &sent.fd);
                assert_eq!(wanted.fits(&sent.fd), is.contains(wanted), "{cell}");
                if is.contains(wanted) {
                    assert_eq!(
                        (untyped.unwrap(), typed.unwrap()),
                        (json!(true), true),
                        "{cell}"
                    );
                    continue;
                }
                let Err(CallError::Fault(fault)) = untyped else {
                    panic!("{cell}: {untyped:?}");
                };
                let text = format!("fd: descriptor 0 is `{is}`, and not `{wanted}`");
                assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS, "{cell}");
                assert_eq!(fault.field.as_deref(), Some("fd"), "{cell}");
                assert_eq!(fault.message, text, "{cell}");
                let Err(CallError::NotSent(Error::Encode(error))) = typed else {
                    panic!("{cell}: {typed:?}");
                };
                let problem = FdProblem::Unfit {
                    index: 0,
                    wanted,
                    came: is,
                };
                assert!(
                    matches!(&error, EncodeError::Descriptor { field: Some(field), problem: found }
                        if field == "fd" && *found == problem),
                    "{cell}: {error:?}"
                );
                assert_eq!(
                    server.stats().counts.handled,
                    handled,
                    "{cell}: nothing is sent"
                );
            }
        }
        server.stop();
    }
    assert_open_fds(before);
}

/// Some of the cells, by name: where two kinds fit.
#[test]
fn a_descriptor_may_be_of_two_kinds() {
    let is = |name: &str| {
        let found = sent::all().into_iter().find(|sent| sent.name == name);
        found.map(|sent| FdKind::of(&sent.fd).to_string())
    };
    for (name, kinds) in [
        // A memfd is a regular file of a file system without a name.
        ("a memfd", "regular, memfd, read, write"),
        ("a sealed memfd", "regular, memfd(sealed), read, write"),
        // With its size alone sealed it can still be written.
        (
            "a memfd whose size is sealed",
            "regular, memfd, read, write",
        ),
        // A file with a name on tmpfs can be sealed, too, and is in memory, but for everybody who can open it.
        ("a file on tmpfs", "regular, memfd, read, write"),
        // `O_PATH` reads as read-only, and a memfd does not answer through it.
        ("the path of a memfd", "regular, path"),
        ("the path of a file", "regular, path"),
        ("the path of a directory", "directory, path"),
        ("the path of a FIFO", "pipe, path"),
        // It is a directory that stands for a process, and pidfd_send_signal(2) takes it.
        ("the directory of a process", "directory, read"),
        // It is not a socket: the file only has its name.
        ("the path of a socket file", "path"),
        ("an eventfd", "read, write"),
    ] {
        if let Some(found) = is(name) {
            assert_eq!(found, kinds, "{name}");
        }
    }
}
