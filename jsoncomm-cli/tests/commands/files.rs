//! Files of every type that are passed with a call or come with its reply.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use jsoncomm::Kind;
use jsoncomm::socket::{RawDatagram, Socket};
use jsoncomm_tests::{PATIENCE, Running, pair};

use crate::common::{
    Desk, Double, Ended, Example, contents, file, good, jsoncomm, run, said, text, through,
};

/// Returns a socket that receives from `call --bare --oneway fd:0`, and that command.
fn receiver() -> (Socket, Command) {
    let (mut near, far) = pair(Kind::Seqpacket);
    near.set_timeout(Some(PATIENCE));
    let far: OwnedFd = far.as_fd().try_clone_to_owned().unwrap();
    let mut call = jsoncomm(&["call", "--bare", "--oneway", "fd:0", "{}"]);
    call.stdin(far);
    (near, call)
}

/// Returns the first descriptor of a message.
fn first(socket: &mut Socket) -> OwnedFd {
    let (RawDatagram { mut fds, .. }, _) = socket.receive_raw().unwrap();
    fds.take(0).unwrap()
}

fn mkfifo(path: &Path) {
    let made = run(Command::new("mkfifo").arg(path));
    assert_eq!(made.code, Some(0), "{made:?}");
}

#[test]
fn a_descriptor_opened_by_the_shell_can_be_passed() {
    let example = Example::start(Kind::Seqpacket);
    let path = example.write("text", "from a descriptor");
    let put = [
        "call",
        example.address(),
        "example.files.put",
        r#"{"path":"made"}"#,
        "--fd",
        "content=fd:5",
    ];
    let ended = run(&mut through(&format!("5<{}", path.display()), &put));
    assert_eq!(good(ended), "{\"len\":17}\n");
    assert_eq!(
        text(example.folder.path().join("made")),
        "from a descriptor"
    );
    let ended = said(&put);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("fd:5 is not open"), "{ended:?}");
    // A closed descriptor is not replaced by another.
    let mut put = put;
    put[5] = "content=-";
    let ended = run(&mut through("<&-", &put));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("standard input: it is closed"),
        "{ended:?}"
    );
    // Nor is one whose content has been read.
    put[3] = "-";
    let ended = said(&put);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let mut put = jsoncomm(&put);
    let ended = run(put.stdin(File::from(file(r#"{"path":"made"}"#))));
    assert!(ended.stderr.contains("cannot be passed, too"), "{ended:?}");
}

#[test]
fn one_descriptor_can_be_passed_twice() {
    let (mut near, far) = pair(Kind::Seqpacket);
    let far: OwnedFd = far.as_fd().try_clone_to_owned().unwrap();
    let call = ["call", "--bare", "--oneway", "fd:0", "{}"];
    let call = [&call[..], &["--fd", "a=fd:5", "--fd", "b=fd:5"]].concat();
    assert_eq!(good(run(through("5</dev/null", &call).stdin(far))), "");
    let (raw, _) = near.receive_raw().unwrap();
    assert_eq!(raw.bytes, br#"{"a":0,"b":1}"#);
    assert_eq!(raw.fds.len(), 2);
}

#[test]
fn a_connected_socket_can_be_passed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let stream = UnixListener::bind(path("stream")).unwrap();
    let datagram = UnixDatagram::bind(path("datagram")).unwrap();
    let seqpacket = jsoncomm::socket::Listener::bind(path("seqpacket")).unwrap();
    let passed = |name: &str| {
        let (mut near, mut call) = receiver();
        call.arg("--fd").arg(format!("f={}", path(name).display()));
        assert_eq!(good(run(&mut call)), "");
        first(&mut near)
    };
    let mut far = UnixStream::from(passed("stream"));
    far.write_all(b"hello").unwrap();
    drop(far);
    let mut heard = String::new();
    stream
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut heard)
        .unwrap();
    assert_eq!(heard, "hello");
    UnixDatagram::from(passed("datagram"))
        .send(b"hello")
        .unwrap();
    let mut bytes = [0; 8];
    assert_eq!(datagram.recv(&mut bytes).unwrap(), 5);
    let _far = passed("seqpacket");
    assert!(seqpacket.accept().unwrap().is_some());
    // A socket without a listener. A program that another test starts has a copy until it is executed.
    drop(stream);
    jsoncomm_tests::wait_until(|| UnixStream::connect(path("stream")).is_err());
    let (_near, mut call) = receiver();
    call.arg("--fd")
        .arg(format!("f={}", path("stream").display()));
    let ended = run(&mut call);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("Connection refused"), "{ended:?}");
}

#[test]
fn a_file_name_may_be_invalid_utf8() {
    let example = Example::start(Kind::Seqpacket);
    let name = OsStr::from_bytes(b"in\xff");
    let path = example.folder.path().join(name);
    std::fs::write(&path, "content").unwrap();
    let option = |field: &str, path: &Path| {
        let mut option = std::ffi::OsString::from(format!("{field}="));
        option.push(path);
        option
    };
    let mut put = jsoncomm(&["call", example.address(), "example.files.put"]);
    put.args([r#"{"path":"copy"}"#, "--fd"]);
    assert_eq!(
        good(run(put.arg(option("content", &path)))),
        "{\"len\":7}\n"
    );
    let saved = example.folder.path().join(OsStr::from_bytes(b"out\xff"));
    let mut open = jsoncomm(&["call", example.address(), "example.files.open"]);
    open.args([r#"["copy"]"#, "--save"]);
    good(run(open.arg(option("file", &saved))));
    assert_eq!(text(saved), "content");
    let json = example.folder.path().join(OsStr::from_bytes(b"args\xff"));
    std::fs::write(&json, r#"["copy"]"#).unwrap();
    let mut at = std::ffi::OsString::from("@");
    at.push(&json);
    let mut open = jsoncomm(&["call", example.address(), "example.files.open"]);
    assert_eq!(good(run(open.arg(at))), "{\"len\":7,\"file\":0}\n");
}

#[test]
fn waiting_before_the_call_ends_at_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo);
    let at = format!("@{}", fifo.display());
    let [lend, save] = ["f=", "f="].map(|field| format!("{field}{}", fifo.display()));
    for arguments in [&["--fd", &*lend][..], &["--save", &save], &[&at]] {
        let call = ["call", "--timeout", "50ms", "/not/there.sock", "a.b"];
        let ended = said(&[&call, arguments].concat());
        assert_eq!(ended.code, Some(124), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stderr, "jsoncomm: the deadline passed\n");
    }
    // Standard input without data, too.
    let mut call = jsoncomm(&["call", "--timeout", "50ms", "/not/there.sock", "a.b", "-"]);
    let (read, _write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let ended = run(call.stdin(read));
    assert_eq!(ended.code, Some(124), "{ended:?}");
}

#[test]
fn a_fifo_is_passed_once_it_has_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo);
    let (mut near, mut call) = receiver();
    call.arg("--fd").arg(format!("f={}", fifo.display()));
    let child = call.stdout(Stdio::piped()).spawn().unwrap();
    let mut to = File::options().write(true).open(&fifo).unwrap();
    to.write_all(b"written").unwrap();
    drop(to);
    let passed = first(&mut near);
    assert_eq!(good(crate::common::ended(child)), "");
    assert_eq!(contents(passed), "written");
}

#[test]
fn no_call_is_made_if_its_output_file_cannot_be_written() {
    let example = Example::start(Kind::Seqpacket);
    let source = example.write("text", "new");
    let content = format!("content={}", source.display());
    let directory = format!("x={}", example.folder.path().display());
    let twice = format!("x={}", example.folder.path().join("twice").display());
    for (save, complaint) in [
        (&["x=/not/there/file"][..], "/not/there/file: No such file"),
        (&[&*directory], "Is a directory"),
        (&["x=fd:9"], "fd:9 is not open"),
        (&["x=fd:0"], "fd:0 is unusable: it is open for reading only"),
        (&["x=/dev/null", "x=-"], "--save x: given twice"),
        (&[&twice, &twice.replace("x=", "y=")], "twice: given twice"),
    ] {
        let mut put = jsoncomm(&["call", example.address(), "example.files.put"]);
        put.args([r#"{"path":"made"}"#, "--fd", &content]);
        for save in save {
            put.args(["--save", save]);
        }
        let ended = run(&mut put);
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains(complaint), "{ended:?}");
        let names: Vec<_> = std::fs::read_dir(example.folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "neither called nor made: {names:?}");
    }
    let put = [
        "call",
        example.address(),
        "example.files.put",
        r#"{"path":"made"}"#,
        "--fd",
        &content,
        "--exec",
        "--",
    ];
    for program in ["/not/there", "no-such-program", "/etc/passwd"] {
        let ended = said(&[&put[..], &[program]].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("no such program"), "{ended:?}");
    }
    assert!(!example.folder.path().join("made").exists());
}

#[test]
fn a_failed_call_leaves_the_output_file_unchanged() {
    let example = Example::start(Kind::Seqpacket);
    let old = example.write("old", "as it was");
    let new = example.folder.path().join("new");
    let link = example.folder.path().join("link");
    std::os::unix::fs::symlink("linked", &link).unwrap();
    for path in [&old, &new] {
        let save = format!("file={}", path.display());
        let open = ["call", example.address(), "example.files.open"];
        let ended = said(&[&open[..], &[r#"["nowhere"]"#, "--save", &save]].concat());
        assert_eq!(ended.code, Some(1), "{ended:?}");
    }
    assert_eq!(text(&old), "as it was");
    assert!(!new.exists(), "what was made is removed");
    // A call that succeeds replaces the whole content, also behind a symlink.
    example.write("a.txt", "one");
    for path in [&old, &new, &link] {
        let save = format!("file={}", path.display());
        let open = ["call", example.address(), "example.files.open"];
        good(said(
            &[&open[..], &[r#"["a.txt"]"#, "--save", &save]].concat(),
        ));
        assert_eq!(text(path), "one");
    }
    assert_eq!(text(example.folder.path().join("linked")), "one");
}

#[test]
fn the_content_of_a_descriptor_can_be_saved_to_a_descriptor() {
    let example = Example::start(Kind::Seqpacket);
    example.write("a.txt", "one");
    let to = example.folder.path().join("to");
    let open = [
        "call",
        example.address(),
        "example.files.open",
        r#"["a.txt"]"#,
        "--save",
        "file=fd:7",
    ];
    let ended = run(&mut through(&format!("7>{}", to.display()), &open));
    assert_eq!(good(ended), "{\"len\":3,\"file\":0}\n");
    assert_eq!(text(to), "one");
}

#[test]
fn a_program_gets_descriptors_from_3_on_whatever_was_inherited() {
    let (mut near, far) = pair(Kind::Seqpacket);
    let far: OwnedFd = far.as_fd().try_clone_to_owned().unwrap();
    let script = "cat <&3; test -e /proc/$$/fd/4 && exit 9; echo \" $LISTEN_FDS\"";
    let call = [
        "call", "--bare", "fd:3", "{}", "--fd", "a=fd:4", "--exec", "--",
    ];
    let call = [&call[..], &["sh", "-c", script]].concat();
    let mut command = through("3<&0 4</dev/zero 0</dev/null", &call);
    let command = command.stdin(far).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let (raw, _) = near.receive_raw().unwrap();
    assert_eq!((&*raw.bytes, raw.fds.len()), (&b"{\"a\":0}"[..], 1));
    jsoncomm_tests::send_raw(&near, b"[0]", &[file("given").as_fd()]).unwrap();
    assert_eq!(good(crate::common::ended(child)), "given 1\n");

    // If the descriptor is in use, no call is made.
    let call = ["call", "/not/there.sock", "a.b", "--exec", "--", "true"];
    let ended = run(&mut through("3</dev/null", &call));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("descriptor 3 is already open"),
        "{ended:?}"
    );
}

#[test]
fn an_unreadable_descriptor_is_reported_and_a_non_blocking_one_is_waited_for() {
    let write_only = File::options().write(true).open("/dev/null").unwrap();
    let double = Double::result("[0]", vec![write_only.into()]);
    let ended = said(&["call", double.address(), "a.b", "--save", "[0]=-"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let complaint = "the descriptor at [0] cannot be read: Bad file descriptor";
    assert!(ended.stderr.contains(complaint), "{ended:?}");

    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK).unwrap();
    let double = Double::result("[0]", vec![read]);
    let mut call = jsoncomm(&["call", double.address(), "a.b", "--save", "[0]=-"]);
    let child = call.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    // The reply shows that it has got this far.
    let mut line = vec![0; 4];
    child
        .stderr
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    assert_eq!(line, b"[0]\n");
    let mut write = File::from(write);
    write.write_all(b"late").unwrap();
    drop(write);
    assert_eq!(crate::common::ended(child).stdout, "late");
}

#[test]
fn connecting_and_calling_share_one_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full");
    let listener = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = Socket::connect(&path, Kind::Seqpacket).unwrap();
    let path = path.to_str().unwrap();
    for arguments in [
        &["call", path, "a.b"][..],
        &["call", "--bare", path, "{}"],
        &["call", "--follow", path, "a.b"],
        &["call", "--oneway", path, "a.b"],
        &["list", path],
        &["peer", path],
        &["bench", path, "a.b"],
    ] {
        let ended = said(&[arguments, &["--timeout", "50ms"]].concat());
        assert_eq!(ended.code, Some(124), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_connection_is_passed_and_its_methods_are_called() {
    let desk = Desk::start();
    // The command calls through what it has received.
    let program = env!("CARGO_BIN_EXE_jsoncomm");
    let arguments = r#"{"words":"from a command"}"#;
    let session = ["call", desk.address(), "test.desk.session", "--exec", "--"];
    let inner = [program, "call", "fd:3", "test.caller.hear", arguments];
    let ended = said(&[&session[..], &inner].concat());
    assert_eq!(
        (&*ended.stdout, &*ended.stderr),
        ("14\n", "0\n"),
        "{ended:?}"
    );
    // It passes one on.
    let (mut near, far) = pair(Kind::Seqpacket);
    near.set_timeout(Some(PATIENCE));
    let far: OwnedFd = far.as_fd().try_clone_to_owned().unwrap();
    let greet = [
        "call",
        desk.address(),
        "test.desk.greet",
        "--fd",
        "caller=fd:0",
    ];
    let ended = run(jsoncomm(&greet).stdin(far));
    assert_eq!(good(ended), "\"greeted\"\n");
    let (call, _) = near.receive_raw().unwrap();
    let call = String::from_utf8(call.bytes).unwrap();
    assert!(
        call.contains(r#""method":"test.caller.hear","params":{"words":"hello"}"#),
        "{call}"
    );
    // Anything else is refused.
    let ended = run(jsoncomm(&greet).stdin(Stdio::null()));
    assert!(
        ended
            .stderr
            .contains("is not a connected unix seqpacket socket"),
        "{ended:?}"
    );
}

#[test]
fn a_descriptor_of_the_wrong_kind_is_refused_before_the_call_is_made() {
    #[jsoncomm::service(name = "test.store")]
    trait Store {
        fn put(&mut self, #[fd(regular, read)] file: File) -> bool;
    }
    struct Shelf(mpsc::Sender<()>);
    impl Store for Shelf {
        fn put(&mut self, _: File) -> bool {
            self.0.send(()).is_ok()
        }
    }
    let (put, puts) = mpsc::channel();
    let server = Running::start(Kind::Seqpacket, Shelf(put), |endpoint| {
        endpoint.serve::<dyn Store>()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    std::fs::write(&path, "one").unwrap();
    let path = path.to_str().unwrap();
    let put = |lend: &str| {
        let address = server.path.to_str().unwrap();
        said(&["call", address, "test.store.put", "--fd", lend])
    };
    let folder = folder.path().to_str().unwrap();
    for (lend, came) in [
        ("file=/dev/null".to_owned(), "device"),
        (format!("file={folder}"), "directory"),
    ] {
        let Ended { code, stderr, .. } = put(&lend);
        assert_eq!(code, Some(2), "{lend}: {stderr}");
        assert!(stderr.contains("file"), "{stderr}");
        assert!(stderr.contains(came), "{stderr}");
    }
    assert!(puts.try_recv().is_err());
    assert_eq!(good(put(&format!("file={path}"))), "true\n");
    puts.try_recv().unwrap();
}
