//! `jsoncomm tap`: what passes, and that it passes unharmed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};

use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Kind};
use jsoncomm_examples::{FilesClient, FilesError};
use jsoncomm_tests::{KINDS, PATIENCE, send_raw};
use rustix::process::Signal;

use crate::common::{Example, contents, file, jsoncomm, said, through};
use crate::serve::Serving;

/// A running tap, and the lines it prints.
struct Tapping {
    tap: Serving,
    lines: Receiver<String>,
}

impl Tapping {
    fn start(service: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("tap.sock").display().to_string();
        let mut command = jsoncomm(&["tap", &address, service]);
        command.stdout(Stdio::piped());
        let mut tap = Serving::of(command, address, directory);
        let lines = lines(tap.child.stdout.take().unwrap());
        Self { tap, lines }
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.tap.address)
            .unwrap()
            .with_timeout(PATIENCE)
    }

    /// Returns the next line.
    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// Returns the next line. Asserts that it begins with `start`.
    #[track_caller]
    fn expect(&self, start: &str) -> String {
        let line = self.line();
        assert!(line.starts_with(start), "{line}");
        line
    }
}

fn lines(from: ChildStdout) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

#[test]
fn both_directions_are_forwarded_and_shown_with_their_descriptors() {
    if !jsoncomm_tests::has_proc() {
        return;
    }
    for kind in KINDS {
        let example = Example::start(kind);
        let path = example.write("a.txt", "hello");
        let tapping = Tapping::start(example.address());
        let files = FilesClient::new(tapping.connect());
        let opened = files.open("a.txt").unwrap();
        assert_eq!(contents(opened.file), "hello");
        let input = example.write("input", "given");
        files.put("b.txt", File::open(&input).unwrap()).unwrap();
        match files.open("../x") {
            Err(CallError::Service(FilesError::Denied { .. })) => {}
            other => panic!("{other:?}"),
        }
        let (uid, pid) = (rustix::process::getuid().as_raw(), std::process::id());
        tapping.expect(&format!("1 + uid {uid}, pid {pid}, /"));
        let call = tapping.expect(r#"1 > {"jsonrpc":"2.0","id":"#);
        assert!(
            call.contains(r#""method":"example.files.open","params":{"path":"a.txt"}"#),
            "{call}"
        );
        let reply = tapping.expect("1 < {");
        assert!(
            reply.ends_with(r#""result":{"len":5,"file":0}}"#),
            "{reply}"
        );
        let path = path.canonicalize().unwrap();
        let descriptor = tapping.line();
        assert_eq!(
            descriptor,
            format!("1 <   descriptor 0: file {} read-only", path.display())
        );
        tapping.expect("1 > {");
        let descriptor = tapping.expect("1 >   descriptor 0: file ");
        assert!(descriptor.ends_with("input read-only"), "{descriptor}");
        tapping.expect("1 < {");
        tapping.expect("1 > {");
        let error = tapping.expect("1 < {");
        assert!(error.contains(r#""error":{"code":2"#), "{error}");
        drop(files);
        if kind == Kind::Seqpacket {
            assert_eq!(tapping.line(), "1 - the client has closed");
        }
        assert_eq!(tapping.tap.stop(Signal::TERM), "");
    }
}

#[test]
fn several_clients_get_their_own_replies() {
    for kind in KINDS {
        let example = Example::start(kind);
        for name in ["0", "1", "2", "3"] {
            example.write(name, &name.repeat(10));
        }
        let tapping = Tapping::start(example.address());
        let clients: Vec<FilesClient> = (0..4)
            .map(|_| FilesClient::new(tapping.connect()))
            .collect();
        std::thread::scope(|scope| {
            for (number, files) in clients.iter().enumerate() {
                scope.spawn(move || {
                    for _ in 0..50 {
                        let opened = files.open(&number.to_string()).unwrap();
                        assert_eq!(contents(opened.file), number.to_string().repeat(10));
                    }
                });
            }
        });
        let mut seen = [0; 5];
        // One line for each client that connects, and three for each call.
        for _ in 0..4 + 4 * 50 * 3 {
            let line = tapping.line();
            let number: usize = line.split(' ').next().unwrap().parse().unwrap();
            seen[number] += 1;
        }
        assert_eq!(seen, [0, 151, 151, 151, 151]);
    }
}

#[test]
fn malformed_messages_are_forwarded_and_shown_escaped() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = directory.path().join(format!("{kind:?}.sock"));
        let bound = jsoncomm_tests::Bound::at(&path, kind).unwrap();
        let tapping = Tapping::start(path.to_str().unwrap());
        let client = Socket::connect(tapping.tap.address.as_str(), kind).unwrap();
        let zero = file("");
        let texts: [(&[u8], &str); 4] = [
            (b"\x1b[2J", "\\u{1b}[2J"),
            (b"\xff{", "\\xff{"),
            ("[\"\u{9b}\"]".as_bytes(), "[\"\\u009b\"]"),
            (b"[1,\n\n 2]", "[1,2]"),
        ];
        for (text, _) in texts {
            send_raw(&client, text, &[zero.as_fd()]).unwrap();
        }
        // The connection that detected its kind has been closed.
        let mut socket = match bound {
            jsoncomm_tests::Bound::Datagram(socket) => socket,
            jsoncomm_tests::Bound::Seqpacket(listener) => {
                drop(listener.accept().unwrap().unwrap());
                assert!(crate::common::is_readable(&listener, PATIENCE));
                listener.accept().unwrap().unwrap()
            }
        };
        socket.set_timeout(Some(PATIENCE));
        tapping.expect("1 + ");
        for (text, shown) in texts {
            let (raw, _) = socket.receive_raw().unwrap();
            assert_eq!((&*raw.bytes, raw.fds.len()), (text, 1));
            assert_eq!(tapping.line(), format!("1 > {shown}"));
            tapping.expect("1 >   descriptor 0: file ");
        }
    }
}

#[test]
fn a_slow_reader_loses_nothing() {
    for kind in KINDS {
        let example = Example::start(kind);
        example.write("a.txt", "hello");
        let tapping = Tapping::start(example.address());
        let connection = tapping.connect();
        let pending: Vec<_> = (0..300)
            .map(|_| {
                connection
                    .start::<Vec<String>, FilesError>("example.files.list", &[(); 0])
                    .unwrap()
            })
            .collect();
        for list in pending {
            assert_eq!(list.wait().unwrap(), ["a.txt"]);
        }
    }
}

#[test]
fn tap_listens_on_an_inherited_socket() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let example = Example::start(kind);
        let path = directory.path().join(format!("{kind:?}"));
        let bound = jsoncomm_tests::Bound::at(&path, kind).unwrap();
        let socket = bound.as_fd().try_clone_to_owned().unwrap();
        let mut command = through("3<&0", &["tap", "fd:3", example.address()]);
        command.stdin(socket).stdout(Stdio::piped());
        let elsewhere = tempfile::tempdir().unwrap();
        let mut tap = Serving::of(command, String::from("fd:3"), elsewhere);
        let told = lines(tap.child.stdout.take().unwrap());
        let connection = Connection::connect(&path, kind)
            .unwrap()
            .with_timeout(PATIENCE);
        let list = connection.call::<Vec<String>, FilesError>("example.files.list", &[(); 0]);
        assert!(list.unwrap().is_empty());
        for start in ["1 + ", "1 > ", "1 < "] {
            let line = told.recv_timeout(PATIENCE).unwrap();
            assert!(line.starts_with(start), "{line}");
        }
        drop(bound);
    }
}

#[test]
fn the_end_of_the_service_is_forwarded_to_the_client() {
    let example = Example::start(Kind::Seqpacket);
    let tapping = Tapping::start(example.address());
    let connection = tapping.connect();
    let list = || connection.call::<Vec<String>, FilesError>("example.files.list", &[(); 0]);
    assert!(list().unwrap().is_empty());
    drop(example);
    assert!(matches!(list(), Err(CallError::Closed)));
    tapping.expect("1 + ");
    tapping.expect("1 > ");
    tapping.expect("1 < ");
    let end = tapping.line();
    assert!(
        end == "1 - the service has closed" || end.starts_with("1 > "),
        "{end}"
    );
    // The next client is refused.
    let next = tapping.connect();
    let reply = next.call::<Vec<String>, FilesError>("example.files.list", &[(); 0]);
    assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
}

#[test]
fn errors_of_tap_are_reported() {
    let example = Example::start(Kind::Seqpacket);
    let ended = said(&["tap", "./tap.sock", "/not/there.sock"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    for arguments in [
        &["tap", "name", example.address()][..],
        &["tap", "/not/there/tap.sock", example.address()],
        &["tap", "fd:0", example.address()],
        &["tap", example.address(), example.address()],
        &["tap", "./tap.sock"],
        &["tap"],
    ] {
        let ended = said(arguments);
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
}
