//! Descriptors whose close(2) blocks delay their sender only.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;
use jsoncomm::{Error, Server};
use jsoncomm_tests::{
    Slow, can_be_others, file_of, lingering, needs_proc, nested, wait_until, wait_until_closed,
};
use rustix::fs::{MemfdFlags, memfd_create};

/// Longer than any test.
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Sends it while the server's loop is blocked, and returns what unblocks its close(2).
pub(super) fn send(server: &Running<State>, slow: Slow, raw: &Socket, text: &str) -> TcpStream {
    server.while_blocked(|| leave(slow, raw, text))
}

/// Sends it to a server that receives it only after this returns: the last process to close it blocks, and that must
/// not be this one.
fn leave(slow: Slow, raw: &Socket, text: &str) -> TcpStream {
    let Slow { fd, end } = slow;
    send_raw(raw, text.as_bytes(), &[fd.as_fd()]).unwrap();
    drop(fd);
    end
}

#[test]
fn descriptors_of_refused_calls_are_closed_without_blocking() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let texts = [
            call(5, "ping", r#"{"number":1}"#),
            call(5, "none", "{}"),
            call(5, "tell", r#"{"other":0}"#),
            "no call".to_owned(),
            "{}".to_owned(),
            "<args-via-fd>".to_owned(),
        ];
        let mut ends = Vec::new();
        for text in &texts {
            let end = lingering();
            ends.push(send(&fixture.server, end, &fixture.raw, text));
            assert!(fixture.receive().0["error"].is_object(), "{kind:?}: {text}");
            fixture.ping();
        }
        drop(ends);
        fixture.assert_healthy();
        fixture.stop();
    }
}

/// A call is refused after one of its descriptors was read.
fn refused_half_way(text: &str) {
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let end = lingering();
        let end = send(&fixture.server, end, &fixture.raw, text);
        assert!(fixture.receive().0["error"].is_object(), "{kind:?}: {text}");
        fixture.ping();
        drop(end);
        fixture.assert_healthy();
        fixture.stop();
    }
}

#[test]
fn descriptors_read_before_a_missing_one_are_closed_without_blocking() {
    alone!();
    refused_half_way(&call(5, "join", r#"{"left":0,"right":9}"#));
}

#[test]
fn descriptors_read_before_a_repeated_index_are_closed_without_blocking() {
    alone!();
    refused_half_way(&call(5, "join", r#"{"left":0,"right":0}"#));
}

#[test]
fn descriptors_read_before_an_invalid_argument_are_closed_without_blocking() {
    alone!();
    refused_half_way(&call(5, "swap", r#"{"file":0,"label":1}"#));
}

#[test]
fn descriptors_read_before_an_unknown_argument_are_closed_without_blocking() {
    alone!();
    refused_half_way(&call(5, "part", r#"{"with":0,"other":0}"#));
}

#[test]
fn descriptors_read_before_truncated_json_are_closed_without_blocking() {
    alone!();
    refused_half_way(&call(5, "part", r#"{"with":0"#));
}

#[test]
fn descriptors_of_a_call_past_its_deadline_are_closed_without_blocking() {
    alone!();
    let text = call(5, "part", r#"{"with":0},"timeout":0"#);
    refused_half_way(&text);
}

#[test]
fn descriptors_of_the_wrong_type_are_closed_without_blocking() {
    alone!();
    refused_half_way(&call(5, "hang", r#"{"on":0}"#));
}

#[test]
fn memfds_of_a_refused_call_are_closed_on_another_thread() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        fixture.count_fds();
        // All descriptors of this user are closed after this one.
        let end = send(&fixture.server, nested(), &fixture.raw, "no call");
        assert!(fixture.receive().0["error"].is_object());
        assert_open_fds(fixture.fds + 1);
        for (count, params) in [
            (1, r#"{"file":0,"label":1}"#),
            (2, r#"{"file":0}"#),
            (3, r#"{"file":0,"label":"x","other":1}"#),
        ] {
            let memfd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
            fixture.send(call(5, "swap", params), &[memfd.as_fd()]);
            drop(memfd);
            assert!(fixture.receive().0["error"].is_object());
            fixture.ping();
            assert_eq!(open_fds(), fixture.fds + 1 + count, "closed by the loop");
        }
        drop(end);
        fixture.assert_healthy();
        fixture.stop();
    }
}

#[test]
fn descriptors_of_and_after_an_empty_packet_are_closed_without_blocking() {
    alone!();
    for behind in [false, true] {
        let mut fixture = Fixture::start(Kind::Seqpacket);
        let end = lingering();
        let end = fixture.server.while_blocked(|| {
            if behind {
                send_raw(&fixture.raw, b"", &[]).unwrap();
            }
            leave(end, &fixture.raw, "")
        });
        fixture.ping();
        drop(end);
        fixture.ping();
    }
}

#[test]
fn a_handler_can_close_a_descriptor_on_another_thread() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let text = call(5, "part", r#"{"with":0}"#);
        let end = lingering();
        let end = send(&fixture.server, end, &fixture.raw, &text);
        assert_eq!(fixture.receive().0["result"], 1);
        fixture.ping();
        drop(end);
        fixture.assert_healthy();
        fixture.stop();
    }
}

#[test]
fn messages_of_a_disconnected_peer_are_closed_on_another_thread() {
    alone!();
    handlers::quiet();
    let before = open_fds();
    let mut limits = Limits::default();
    limits.malformed = 0;
    let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    assert_eq!(polite.ping(1).unwrap(), 1);
    let mut raw = raw(&server, Kind::Seqpacket);
    // The message that it is disconnected for, and another one.
    let end = server.while_blocked(|| {
        send_raw(&raw, b"no call", &[]).unwrap();
        leave(lingering(), &raw, "never read")
    });
    assert!(raw.receive::<WithFds<Value>>().unwrap().0.json["error"].is_object());
    assert!(matches!(
        raw.receive::<WithFds<Value>>(),
        Err(Error::Closed)
    ));
    assert_eq!(polite.ping(2).unwrap(), 2);
    drop((end, raw));
    server.stop();
    drop(polite);
    assert_open_fds(before);
}

#[test]
fn a_rejected_connection_is_closed_on_another_thread() {
    alone!();
    let before = open_fds();
    let mut limits = Limits::default();
    limits.connections = 2;
    let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    let other = VaultClient::new(server.connect());
    assert_eq!(polite.ping(1).unwrap() + other.ping(1).unwrap(), 2);
    let (mut third, end) = server.while_blocked(|| {
        let third = raw(&server, Kind::Seqpacket);
        let end = leave(lingering(), &third, "never read");
        (third, end)
    });
    assert_eq!(
        third.receive::<WithFds<Value>>().unwrap().0.json["error"]["code"],
        Fault::BUSY
    );
    assert_eq!(other.ping(2).unwrap(), 2);
    drop((end, third));
    server.stop();
    drop((polite, other));
    assert_open_fds(before);
}

#[test]
fn a_user_above_the_limit_of_unused_descriptors_is_disconnected() {
    alone!();
    let before = open_fds();
    let mut limits = Limits::default();
    (limits.user_descriptors, limits.accept_pause) = (2, HOUR);
    let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    let mut first = raw(&server, Kind::Seqpacket);
    let surplus = call(5, "ping", r#"{"number":1}"#);
    let mut ends = Vec::new();
    for count in 1..=3 {
        ends.push(send(&server, nested(), &first, &surplus));
        let reply = first.receive::<WithFds<Value>>().unwrap().0.json;
        assert_eq!(
            reply["error"]["code"],
            Fault::INVALID_DESCRIPTORS,
            "{count}"
        );
    }
    let end = first.receive::<WithFds<Value>>();
    assert!(matches!(end, Err(Error::Closed)));
    // The user's other connections, and new ones, wait exactly until they are closed.
    let second = VaultClient::new(server.connect());
    let waiting = (
        polite.start().ping(1).unwrap(),
        second.start().ping(2).unwrap(),
    );
    server.finish_turn();
    assert_eq!(server.stats().counts.rejected, 0);
    drop(ends);
    assert_eq!(waiting.0.wait().unwrap() + waiting.1.wait().unwrap(), 3);
    server.stop();
    drop((first, second, polite));
    assert_open_fds(before);
}

#[test]
fn a_user_above_the_limit_by_refused_messages_is_disconnected() {
    alone!();
    let before = open_fds();
    for text in [call(5, "none", "{}"), "no call".to_owned()] {
        let mut limits = Limits::default();
        (limits.user_descriptors, limits.accept_pause) = (2, HOUR);
        let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
            endpoint.serve::<dyn Vault>()
        });
        let mut first = raw(&server, Kind::Seqpacket);
        first.set_timeout(Some(Duration::from_secs(5)));
        let mut ends = Vec::new();
        for count in 1..=3 {
            ends.push(send(&server, nested(), &first, &text));
            let reply = first.receive::<WithFds<Value>>().unwrap().0.json;
            assert!(reply["error"].is_object(), "{count}");
        }
        let end = first.receive::<WithFds<Value>>();
        assert!(matches!(end, Err(Error::Closed)), "{text}: {:?}", end.err());
        drop(ends);
        server.stop();
    }
    assert_open_fds(before);
}

#[test]
fn a_datagram_endpoint_reads_again_once_its_descriptors_are_closed() {
    alone!();
    let before = open_fds();
    let mut limits = Limits::default();
    (limits.user_descriptors, limits.accept_pause) = (2, HOUR);
    let server = Running::with_limits(limits, Kind::Datagram, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    let raw = raw(&server, Kind::Datagram);
    let null = null();
    for (number, count) in [(1, 1), (2, 2), (3, 3), (4, 253), (5, 253), (6, 253)] {
        send_raw(&raw, b"{", &vec![null.as_fd(); count]).unwrap();
        assert_eq!(polite.ping(number).unwrap(), number);
    }
    server.stop();
    drop((null, raw, polite));
    assert_open_fds(before);
}

#[test]
fn dropping_a_server_does_not_wait_for_unread_messages_to_be_closed() {
    alone!();
    let before = open_fds();
    for (kind, accepted) in [
        (Kind::Datagram, false),
        (Kind::Seqpacket, false),
        (Kind::Seqpacket, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dropped.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        server.bind(&path, kind).unwrap().serve::<dyn Vault>();
        let raw = Socket::connect(&path, kind).unwrap();
        if accepted {
            let _ = server
                .run_once(&mut State::default(), Some(PATIENCE))
                .unwrap();
        }
        let end = leave(lingering(), &raw, "never read");
        let (sender, receiver) = std::sync::mpsc::channel();
        let dropping = std::thread::spawn(move || {
            drop(server);
            sender.send(()).unwrap();
        });
        let dropped = receiver.recv_timeout(PATIENCE);
        drop((end, raw));
        dropping.join().unwrap();
        assert!(dropped.is_ok(), "{kind:?} {accepted}");
    }
    assert_open_fds(before);
}

/// Starts a server that closes a connection at its first malformed message, and `user_closing` of one user at once.
fn strict(connections: usize, user_closing: usize) -> Running<State> {
    let mut limits = Limits::default();
    (limits.connections, limits.malformed) = (connections, 0);
    (limits.user_closing, limits.accept_pause) = (user_closing, HOUR);
    Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    })
}

/// Gets a connection closed. Closing it blocks until the returned stream is dropped.
fn stuck(server: &Running<State>) -> TcpStream {
    let mut raw = raw(server, Kind::Seqpacket);
    let slow = nested();
    let file = file_of(&slow.fd);
    let end = send(server, slow, &raw, "no call");
    assert!(raw.receive::<WithFds<Value>>().is_ok());
    wait_until_closed(&file);
    end
}

/// Gets a connection closed that has unread descriptors.
fn cut_off(server: &Running<State>) {
    let null = null();
    let mut raw = raw(server, Kind::Seqpacket);
    server.while_blocked(|| {
        for _ in 0..4 {
            send_raw(&raw, b"no call", &[null.as_fd()]).unwrap();
        }
    });
    while raw.receive::<WithFds<Value>>().is_ok() {}
    server.finish_turn();
}

#[test]
fn new_connections_wait_while_too_many_of_a_user_are_being_closed() {
    alone!();
    needs_proc!();
    handlers::quiet();
    let before = open_fds();
    let server = strict(64, 2);
    let polite = VaultClient::new(server.connect());
    let end = stuck(&server);
    // Below the limit new ones are served at once.
    cut_off(&server);
    assert_eq!(VaultClient::new(server.connect()).ping(1).unwrap(), 1);
    cut_off(&server);
    // At the limit they wait, and are not refused. Existing ones are served.
    let fresh = [2, 3].map(|number| {
        let client = VaultClient::new(server.connect());
        client.start().ping(number).unwrap()
    });
    assert_eq!(polite.ping(4).unwrap(), 4);
    server.finish_turn();
    let stats = server.stats();
    assert_eq!((stats.connections, stats.counts.rejected), (3, 0));
    assert_eq!(stats.counts.handled, 2);
    drop(end);
    for (call, number) in fresh.into_iter().zip([2, 3]) {
        assert_eq!(call.wait().unwrap(), number);
    }
    server.stop();
    drop(polite);
    assert_open_fds(before);
}

#[test]
fn connections_that_wait_for_others_to_close_count_as_connections() {
    alone!();
    needs_proc!();
    handlers::quiet();
    let before = open_fds();
    let server = strict(8, 1);
    let polite = VaultClient::new(server.connect());
    let end = stuck(&server);
    cut_off(&server);
    let null = null();
    for number in 0..64 {
        let raw = raw(&server, Kind::Seqpacket);
        for _ in 0..4 {
            let _ = send_raw(&raw, b"no call", &[null.as_fd()]);
        }
        assert_eq!(polite.ping(number).unwrap(), number);
        let more = open_fds() - before;
        assert!(more < 32, "{number}: {more}");
    }
    assert!(server.stats().connections <= 8);
    drop((null, end));
    // The clients that connected meanwhile are closed, and then new ones are served again.
    wait_until(|| VaultClient::new(server.connect()).ping(1).is_ok());
    server.stop();
    drop(polite);
    assert_open_fds(before);
}

#[test]
fn closing_connections_of_one_user_do_not_delay_another_user() {
    alone!();
    if !can_be_others() {
        return;
    }
    handlers::quiet();
    let server = strict(4, 4);
    let end = stuck(&server);
    for _ in 0..3 {
        cut_off(&server);
    }
    // The maximum for all users is being closed, and two wait.
    let waiting = [raw(&server, Kind::Seqpacket), raw(&server, Kind::Seqpacket)];
    let text = call(5, "part", r#"{"with":0}"#);
    assert_eq!(stranger(&server.path, &text), "20\n");
    drop((end, waiting));
    server.stop();
}

#[test]
fn slow_descriptors_of_one_user_do_not_delay_closing_those_of_another() {
    alone!();
    if !can_be_others() {
        return;
    }
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let slow = nested();
    fixture.count_fds();
    let end = send(&fixture.server, slow, &fixture.raw, "no call");
    assert!(fixture.receive().0["error"].is_object());
    // Only the server still has it: a new process would inherit it, and could be the last to close it.
    fixture.fds -= 1;
    fixture.assert_healthy();
    let text = call(5, "part", r#"{"with":0}"#);
    let output = stranger(&fixture.server.path, &text);
    assert_eq!(output, "20\n");
    fixture.assert_healthy();
    drop(end);
}

#[test]
fn slow_descriptors_of_one_user_do_not_keep_another_from_connecting() {
    alone!();
    if !can_be_others() {
        return;
    }
    handlers::quiet();
    let mut limits = Limits::default();
    (limits.connections, limits.user_connections) = (8, 4);
    let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let mut blocking = raw(&server, Kind::Seqpacket);
    let slow = nested();
    let file = file_of(&slow.fd);
    let end = send(&server, slow, &blocking, "no call");
    assert!(blocking.receive::<WithFds<Value>>().is_ok());
    // A new process would inherit it, and could be the last to close it.
    wait_until_closed(&file);
    // More than its limit, each with an unread message.
    for _ in 0..8 {
        let many = server.while_blocked(|| {
            [(); 4].map(|()| {
                let raw = raw(&server, Kind::Seqpacket);
                send_raw(&raw, b"x", &[]).unwrap();
                raw
            })
        });
        drop(many);
    }
    let text = call(5, "part", r#"{"with":0}"#);
    assert_eq!(stranger(&server.path, &text), "20\n");
    drop(end);
    server.stop();
}

#[test]
fn a_hang_up_is_noticed_under_backpressure() {
    alone!();
    let mut limits = Limits::default();
    limits.user_descriptors = 0;
    let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let idle = VaultClient::new(server.connect());
    assert_eq!(idle.ping(1).unwrap(), 1);
    let mut blocking = raw(&server, Kind::Seqpacket);
    let end = send(&server, nested(), &blocking, "no call");
    assert!(blocking.receive::<WithFds<Value>>().is_ok());
    drop((idle, blocking));
    wait_until(|| server.stats().connections == 0);
    drop(end);
    server.stop();
}

/// Makes twenty calls with a descriptor as another user, and returns the output.
fn stranger(path: &Path, text: &str) -> String {
    const CALLS: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(20)
s.connect(sys.argv[1])
print(sum(1 for _ in range(20) if socket.send_fds(s, [sys.argv[2].encode()], [0]) and s.recv(65536)))
";
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    for file in [path.parent().unwrap(), path] {
        std::fs::set_permissions(file, Clone::clone(&everybody)).unwrap();
    }
    let mut python = Command::new("python3");
    python.args(["-c", CALLS]).arg(path).arg(text);
    let output = python.current_dir("/").uid(4711).gid(4711).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}
