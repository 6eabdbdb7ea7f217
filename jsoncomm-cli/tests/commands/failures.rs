//! What goes wrong, and what is said of it: outputs that cannot be written, JSON that is none, what is no service.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use jsoncomm::Kind;
use jsoncomm::message::RawMessage;
use jsoncomm::socket::SendStatus;
use jsoncomm_tests::KINDS;

use crate::common::{Double, Ended, Example, file, jsoncomm, run, said, through};

/// Returns every command that has output, with a server to call.
fn printing<'a>(address: &'a str, listen: &'a str) -> Vec<Vec<&'a str>> {
    vec![
        vec!["call", address, "example.files.list"],
        vec!["list", address],
        vec!["describe", address],
        vec!["describe", "--json", address],
        vec!["peer", address],
        vec!["bench", "--calls", "1", address, "example.files.list"],
        vec!["tap", listen, address],
        vec!["completions", "bash"],
        vec!["man"],
        vec!["--help"],
        vec!["call", "--help"],
        vec!["--version"],
    ]
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let example = Example::start(Kind::Seqpacket);
    let listen = example.folder.path().join("tap.sock").display().to_string();
    for arguments in printing(example.address(), &listen) {
        for (redirect, complaint) in [
            (">&-", "standard output: it is closed"),
            (
                "1</dev/null",
                "standard output: it is open for reading only",
            ),
            (">/dev/full", "standard output: No space left"),
        ] {
            // It listens, and prints the messages.
            if arguments[0] == "tap" && redirect == ">/dev/full" {
                continue;
            }
            let Ended { code, stderr, .. } = run(&mut through(redirect, &arguments));
            assert_eq!(code, Some(2), "{arguments:?} {redirect}: {stderr}");
            assert!(stderr.contains(complaint), "{arguments:?}: {stderr}");
        }
        // Discarding the output is no error, whichever way it was opened.
        for redirect in [">/dev/null", "1<>/dev/null"] {
            if arguments[0] != "tap" {
                let ended = run(&mut through(redirect, &arguments));
                assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
            }
        }
    }
}

#[test]
fn output_is_checked_before_the_call_is_made() {
    let example = Example::start(Kind::Seqpacket);
    let text = example.write("text", "new");
    let content = format!("content={}", text.display());
    let put = [
        "call",
        example.address(),
        "example.files.put",
        r#"{"path":"made"}"#,
        "--fd",
        &content,
    ];
    let save = ["--save", ".=-"];
    let exec = ["--exec", "--", "true"];
    for (redirect, more) in [(">&-", &[][..]), ("2>&-", &save), ("2>&-", &exec)] {
        let arguments = [&put, more].concat();
        let ended = run(&mut through(redirect, &arguments));
        assert_eq!(ended.code, Some(2), "{redirect}: {ended:?}");
        assert!(!example.folder.path().join("made").exists(), "{redirect}");
    }
    // Commands without output need no standard output.
    let oneway = [&put[..], &["--oneway"]].concat();
    let ended = run(&mut through(">&- 2>&-", &oneway));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_non_blocking_pipe_gets_the_whole_reply() {
    let long = format!("[\"{}\"]", "x".repeat(500_000));
    let double = Double::result(&long, Vec::new());
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut call = jsoncomm(&["call", double.address(), "a.b"]);
    let mut child = call.stdout(write).stderr(Stdio::piped()).spawn().unwrap();
    drop(call);
    assert_eq!(crate::common::contents(read), format!("{long}\n"));
    assert_eq!(crate::common::wait(&mut child).code(), Some(0));
}

#[test]
fn malformed_json_arguments_are_reported_with_their_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("args.json");
    std::fs::write(&path, "{\"a\":\n  b}").unwrap();
    let at = format!("@{}", path.display());
    let not_text = folder.path().join("not-text");
    std::fs::write(&not_text, b"[\"\xff\"]").unwrap();
    let not_text = format!("@{}", not_text.display());
    for (json, complaint) in [
        (
            "{a:1}",
            "the argument {a:1} is not JSON: key must be a string at line 1 column 2",
        ),
        (
            "{'a':1}",
            "the argument {'a':1} is not JSON: key must be a string",
        ),
        ("hello", "the argument hello is not JSON: expected value"),
        ("[NaN]", "NaN and infinity are not JSON"),
        (r#"["\ud800"]"#, "a lone surrogate is not a character"),
        (r#"{"a":1,"a":2}"#, "key \"a\" is repeated"),
        ("[1] [2]", "trailing characters at line 1 column 5"),
        (
            "7",
            "the argument 7 cannot be the arguments: they are an object",
        ),
        ("\"x\"", "an array, [value]"),
        ("", "the JSON is empty"),
        ("-", "standard input is empty"),
        (
            &at,
            "args.json is not JSON: expected value at line 2 column 3",
        ),
        (
            &not_text,
            "not-text is not JSON: invalid utf-8 sequence of 1 bytes from index 2",
        ),
        ("@/not/there", "/not/there: No such file"),
        ("@/", "/: Is a directory"),
    ] {
        for command in ["call", "bench"] {
            // Before the server is called.
            let ended = said(&[command, "/not/there.sock", "a.b", json]);
            assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
            assert!(ended.stderr.contains(complaint), "{json}: {ended:?}");
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        }
    }
}

#[test]
fn a_message_may_be_any_json_and_must_be_the_last_argument() {
    let ended = said(&["call", "--bare", "/not/there.sock", "7"]);
    assert_eq!(ended.code, Some(4), "a message may be anything: {ended:?}");
    // The shell has split the argument.
    let ended = said(&["call", "./a", "a.b", "{\"a\":", "1}"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("1}: one word too many"), "{ended:?}");
    assert!(ended.stderr.contains("quotes"), "{ended:?}");
}

#[test]
fn an_unusable_service_is_reported() {
    if !jsoncomm_tests::has_proc() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain").display().to_string();
    std::fs::write(&plain, "x").unwrap();
    let directory = folder.path().display().to_string();
    let undescribed = || {
        Double::text(
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"unknown method rpc.discover"}}"#,
        )
    };
    for command in ["list", "describe"] {
        let ended = said(&[command, undescribed().address()]);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let complaint = "the service does not describe itself: the server has no rpc.discover";
        assert!(ended.stderr.contains(complaint), "{ended:?}");
    }
    for arguments in [
        &["list"][..],
        &["describe"],
        &["peer"],
        &["call", "ADDRESS", "a.b"],
    ] {
        let ask = |address: &str| match arguments {
            [command] => said(&[command, address]),
            _ => said(&["call", address, "a.b"]),
        };
        for (address, complaint) in [
            (&*plain, "is a file, not a socket"),
            (&*directory, "is a directory, not a socket"),
            ("/not/there.sock", "does not exist"),
            (
                "fd:9",
                "fd:9 is not open: jsoncomm has to be started with it",
            ),
            (
                "fd:0",
                "fd:0 is not a socket, but character device /dev/null read-only",
            ),
        ] {
            let ended = ask(address);
            assert_eq!((ended.code, &*ended.stdout), (Some(4), ""), "{ended:?}");
            assert!(ended.stderr.contains(complaint), "{address}: {ended:?}");
        }
    }
    let ended = said(&["list", "name.sock"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("name.sock is not one"), "{ended:?}");
    let mut list = jsoncomm(&["list"]);
    let ended = run(list.env("JSONCOMM_ADDRESS", "fd:x"));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("JSONCOMM_ADDRESS: fd:x: "),
        "{ended:?}"
    );
}

#[test]
fn an_inherited_socket_must_have_the_requested_kind() {
    for kind in KINDS {
        let (_near, far) = jsoncomm_tests::pair(kind);
        let far: OwnedFd = std::os::fd::AsFd::as_fd(&far).try_clone_to_owned().unwrap();
        let other = match kind {
            Kind::Seqpacket => "datagram",
            Kind::Datagram => "seqpacket",
        };
        let mut call = jsoncomm(&["call", "--kind", other, "fd:0", "a.b"]);
        let ended = run(call.stdin(far));
        assert_eq!(ended.code, Some(4), "{ended:?}");
        assert!(
            ended.stderr.contains("a socket of another kind"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_message_above_the_limit_is_an_error_that_names_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let of = |length: usize| format!("[\"{}\"]", "x".repeat(length - 4));
    let path = folder.path().join("args");
    let at = format!("@{}", path.display());
    // The size of the envelope.
    let around =
        r#"{"jsonrpc":"2.0","id":9007199254740991,"method":"a.b","params":,"timeout":25000}"#;
    let limit = (2 << 20) + around.len();
    for (length, options, complaint) in [
        ((1 << 20) - around.len(), &[][..], ""),
        (
            (1 << 20) + 1,
            &[],
            "is longer than 1048576 bytes: --limit raises that",
        ),
        (2 << 20, &[&*limit.to_string()], ""),
        (limit + 1, &[&*limit.to_string()], "--limit raises that"),
        // The limit is for the whole message, not only for its arguments.
        (1 << 20, &[], "the call of 10"),
        (200 << 10, &["100K"], "is longer than 102400 bytes"),
    ] {
        let json = of(length);
        std::fs::write(&path, &json).unwrap();
        for from in [&at, "-"] {
            // One for each call: it ends with its connection.
            let server = Double::result("7", Vec::new());
            let mut call = jsoncomm(&["call", server.address(), "a.b"]);
            let ended = run(limited(&mut call, options).arg(from).stdin(file(&json)));
            let code = if complaint.is_empty() { 0 } else { 2 };
            assert_eq!(ended.code, Some(code), "{length}: {}", ended.stderr);
            assert!(ended.stderr.contains(complaint), "{ended:?}");
        }
    }
    // A reply.
    let long = of(2 << 20);
    for (options, code) in [(&[][..], 3), (&["1M"], 3), (&["3M"], 0)] {
        let double = Double::result(&long, Vec::new());
        let mut call = jsoncomm(&["call", double.address(), "a.b"]);
        let ended = run(limited(&mut call, options));
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert_eq!(
            ended.stdout.len(),
            if code == 0 { long.len() + 1 } else { 0 }
        );
        assert_eq!(code == 3, ended.stderr.contains("--limit raises that"));
    }
}

fn limited<'c>(command: &'c mut Command, limit: &[&str]) -> &'c mut Command {
    for limit in limit {
        command.args(["--limit", limit]);
    }
    command
}

#[test]
fn messages_up_to_the_depth_limit_are_accepted() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let double = Double::result(&deep(120), Vec::new());
    let ended = said(&["call", double.address(), "a.b", &deep(120)]);
    assert_eq!(
        (ended.code, ended.stdout),
        (Some(0), format!("{}\n", deep(120)))
    );
    let ended = said(&["call", "/not/there.sock", "a.b", &deep(500)]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("nested deeper than"), "{ended:?}");
}

#[test]
fn a_call_under_backpressure_reports_that_it_was_not_sent() {
    let (near, far) = jsoncomm_tests::pair(Kind::Seqpacket);
    let brick = RawMessage::new(format!("[\"{}\"]", "x".repeat(50_000)));
    let mut far = far;
    while far.try_send(&brick).unwrap() != SendStatus::Full {}
    for more in [&[][..], &["--oneway"], &["--follow"]] {
        let far: OwnedFd = std::os::fd::AsFd::as_fd(&far).try_clone_to_owned().unwrap();
        let mut call = jsoncomm(&["call", "--timeout", "50ms", "fd:0", "a.b"]);
        let ended = run(call.args(more).stdin(far));
        assert_eq!(ended.code, Some(124), "{ended:?}");
        let complaint = "jsoncomm: the deadline passed before the call could be sent\n";
        assert_eq!(ended.stderr, complaint);
    }
    drop(near);
}

#[test]
fn exhausted_descriptors_are_reported_as_the_cause() {
    let fds = (0..20).map(|_| file("")).collect();
    let indices: Vec<String> = (0..20).map(|index| index.to_string()).collect();
    let double = Double::result(&format!("[{}]", indices.join(",")), fds);
    let ended = run(Command::new("sh")
        .args(["-c", "ulimit -n 12; exec \"$@\"", "sh"])
        .args([
            env!("CARGO_BIN_EXE_jsoncomm"),
            "call",
            double.address(),
            "a.b",
        ])
        .stdin(Stdio::null()));
    assert_eq!((ended.code, &*ended.stdout), (Some(3), ""), "{ended:?}");
    assert!(ended.stderr.contains("limit of open files"), "{ended:?}");
}

#[test]
fn an_unusable_inherited_socket_is_refused_with_the_reason() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, listen, socket_with};
    let socket = |family, sort| socket_with(family, sort, SocketFlags::CLOEXEC, None).unwrap();
    let unix = |sort| socket(AddressFamily::UNIX, sort);
    let listening = unix(SocketType::SEQPACKET);
    rustix::net::bind(&listening, &rustix::net::SocketAddrUnix::new_unnamed()).unwrap();
    listen(&listening, 1).unwrap();
    let calls = [&["call", "fd:0", "a.b"][..], &["peer", "fd:0"]];
    let serve = ["serve", "fd:0", "a.b", "--", "true"];
    let stream = || socket(AddressFamily::INET, SocketType::STREAM);
    for (socket, arguments, complaint) in [
        (stream(), calls[0], "no unix socket"),
        (stream(), &serve, "no unix socket"),
        (unix(SocketType::STREAM), calls[0], "no unix socket"),
        (
            unix(SocketType::DGRAM),
            calls[0],
            "a socket that is not connected",
        ),
        (
            unix(SocketType::SEQPACKET),
            calls[1],
            "a socket that is not connected",
        ),
        (
            unix(SocketType::SEQPACKET),
            &serve,
            "neither listens nor is connected",
        ),
        (listening, calls[0], "a socket that listens, for serve"),
    ] {
        let ended = run(jsoncomm(arguments).stdin(socket));
        let code = if arguments[0] == "serve" { 2 } else { 4 };
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(complaint), "{arguments:?}: {ended:?}");
    }
}
