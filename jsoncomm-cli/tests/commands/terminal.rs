//! What is printed on a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::common::{Double, Example, file, is_readable, jsoncomm, wait};
use jsoncomm::Kind;
use jsoncomm_tests::PATIENCE;

/// Returns both ends of a terminal: that of its user, and that of the program.
fn terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = open(&name, flags, Mode::empty()).unwrap();
    (File::from(ours), theirs)
}

/// Runs a command whose standard output is a terminal. Returns its output there, and its exit status.
fn seen(command: &mut Command) -> (String, Option<i32>) {
    let (mut ours, theirs) = terminal();
    let mut child = command
        .env("TERM", "xterm")
        .stderr(theirs.try_clone().unwrap())
        .stdout(theirs)
        .spawn()
        .unwrap();
    // The process closes its ends when it exits. Ours are closed with the command.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let (mut text, mut bytes) = (Vec::new(), [0; 4096]);
    while is_readable(&ours, PATIENCE) {
        // EIO: the other end is closed.
        match ours.read(&mut bytes) {
            Ok(count @ 1..) => text.extend_from_slice(&bytes[..count]),
            Ok(_) | Err(_) => break,
        }
    }
    let code = wait(&mut child).code();
    (String::from_utf8(text).unwrap().replace("\r\n", "\n"), code)
}

#[test]
fn a_reply_is_indented_and_coloured_on_a_terminal() {
    let example = Example::start(Kind::Seqpacket);
    example.write("a.txt", "hello");
    let open = [
        "call",
        example.address(),
        "example.files.open",
        r#"["a.txt"]"#,
    ];
    let (text, code) = seen(&mut jsoncomm(&open));
    assert_eq!(code, Some(0));
    let expected = "{\n  \x1b[1m\x1b[34m\"len\"\x1b[0m: \x1b[36m5\x1b[0m,\n  \x1b[1m\x1b[34m\"file\"\x1b[0m: \x1b[36m0\x1b[0m\n}\n";
    assert_eq!(text, expected);
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = jsoncomm(&open);
        let (text, _) = match variable {
            "TERM" => seen(command.env("CLICOLOR", "0")),
            _ => seen(command.env(variable, value)),
        };
        assert_eq!(text, "{\n  \"len\": 5,\n  \"file\": 0\n}\n");
    }
    // Here, too, an item is one line.
    let double = Double::text(r#"{"jsonrpc":"2.0","id":ID,"result":{"a":[1]}}"#);
    let mut follow = jsoncomm(&["call", "--follow", double.address(), "a.b"]);
    let (text, _) = seen(follow.env("NO_COLOR", "1"));
    assert_eq!(text, "{\"a\":[1]}\n");
}

#[test]
fn a_hostile_reply_cannot_control_a_terminal() {
    let result = "{\"a\u{9b}2J\":\"\u{7f}\u{202e}\\u001b\"}";
    let double = Double::result(result, Vec::new());
    let mut call = jsoncomm(&["call", double.address(), "a.b"]);
    let (text, _) = seen(call.env("NO_COLOR", "1"));
    assert_eq!(text, "{\n  \"a\\u009b2J\": \"\\u007f\\u202e\\u001b\"\n}\n");

    let error = "{\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":3,\"message\":\"\u{9b}\u{202e}\\u001b[2J\"}}";
    let double = Double::text(error);
    let mut call = jsoncomm(&["call", double.address(), "a.b"]);
    let (text, code) = seen(call.env("NO_COLOR", "1"));
    assert_eq!(code, Some(1));
    assert_eq!(
        text,
        "{\n  \"code\": 3,\n  \"message\": \"\\u009b\\u202e\\u001b[2J\"\n}\n"
    );

    let fault = "{\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":-32000,\"message\":\"\u{9b}\\u001b[2J\"}}";
    let double = Double::text(fault);
    let mut call = jsoncomm(&["call", double.address(), "a.b"]);
    let (text, _) = seen(call.env("NO_COLOR", "1"));
    assert_eq!(text, "jsoncomm: \\u{9b}\\u{1b}[2J (-32000)\n");
}

#[test]
fn the_content_of_a_descriptor_is_printed_unchanged_on_a_terminal() {
    let double = Double::result("0", vec![file("plain\n")]);
    let (text, _) = seen(&mut jsoncomm(&[
        "call",
        double.address(),
        "a.b",
        "--save",
        ".=-",
    ]));
    assert!(text.ends_with("plain\n"), "{text}");
}
