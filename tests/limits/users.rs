//! Budgets of a user over all of its connections. Other users are not affected.

use super::*;
use crate::limits::waiting::{LARGE, LARGE_TEXT, room};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

#[test]
fn a_message_carries_descriptors_up_to_the_limit_and_is_refused_above() {
    alone!();
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.descriptors = 2;
        let server = serve(kind, limits);
        let mut client = raw(&server, kind);
        let null = File::open("/dev/null").unwrap();
        // A reply shows that the connection was accepted.
        let ping = call(5, "limits.make", "[1]");
        assert_eq!(ask(&mut client, &ping)["result"], "x");
        let before = open_fds();
        let pass = call(5, "limits.pass", r#"{"files":[0,1]}"#);
        let fds: Vec<BorrowedFd<'_>> = vec![null.as_fd(); 3];
        for (count, want) in [(1, None), (2, Some(2)), (3, None)] {
            send_raw(&client, pass.as_bytes(), &fds[..count]).unwrap();
            let reply = receive(&mut client);
            match want {
                Some(count) => assert_eq!(reply["result"], count),
                None => assert_eq!(reply["error"]["code"], Fault::INVALID_DESCRIPTORS),
            }
            if count == 3 {
                assert_eq!(reply["error"]["message"], "3 descriptors exceed 2");
            }
        }
        assert_eq!(ask(&mut client, &ping)["result"], "x");
        assert_open_fds(before);
    }
}

#[test]
fn a_user_has_connections_up_to_the_limit_and_others_have_theirs() {
    alone!();
    let mut limits = Limits::default();
    limits.user_connections = 2;
    let server = serve(Kind::Seqpacket, limits);
    let ping = call(5, "limits.make", "[0]");
    let clients = connect_up_to_limit(&server);
    if let Some(reply) = as_another_user(&server) {
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["result"], "", "another user is served");
    }
    // After one disconnects there is room again.
    let [mut first, second] = clients;
    drop(second);
    let start = Instant::now();
    while ProbeClient::new(server.connect()).make(0).is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(ask(&mut first, &ping)["result"], "");
}

/// Makes a call as an unrelated user; `None` where the test cannot be one.
fn as_another_user(server: &Running<State>) -> Option<String> {
    const CALL: &str = "import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(20)
s.connect(sys.argv[1])
s.send(sys.argv[2].encode())
print(s.recv(65536).decode())";
    if !can_be_others() {
        return None;
    }
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    open(server.path.parent().unwrap());
    open(&server.path);
    let python = Command::new("python3")
        .args(["-c", CALL])
        .arg(&server.path)
        .arg(call(5, "limits.make", "[0]"))
        .current_dir("/")
        .uid(4711)
        .gid(4711)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    Some(String::from_utf8(python.stdout).unwrap())
}

#[test]
fn a_user_has_deferred_calls_up_to_the_limit_over_all_connections() {
    alone!();
    for kind in KINDS {
        let mut limits = Limits::default();
        (limits.deferred, limits.user_deferred) = (2, 3);
        let server = serve(kind, limits);
        let mut clients = [(); 3].map(|()| raw(&server, kind));
        let keep = call(5, "kept.keep", "{}");
        let ping = call(6, "limits.make", "[0]");
        for (client, calls) in clients.iter_mut().zip([2, 1, 0]) {
            for _ in 0..calls {
                send_raw(&*client, keep.as_bytes(), &[]).unwrap();
            }
            assert_eq!(ask(client, &ping)["id"], 6);
        }
        for client in &mut clients {
            let busy = ask(client, &keep);
            assert_eq!(busy["error"]["code"], Fault::BUSY, "{kind:?}");
            assert_eq!(
                ask(client, &ping)["id"],
                6,
                "a call that is not deferred is served"
            );
        }
        // Cancelling makes room for all connections of the user.
        let cancel = br#"{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":5}}"#;
        send_raw(&clients[1], cancel, &[]).unwrap();
        assert_eq!(receive(&mut clients[1])["error"]["code"], Fault::CANCELLED);
        send_raw(&clients[2], keep.as_bytes(), &[]).unwrap();
        assert_eq!(ask(&mut clients[2], &ping)["id"], 6);
        assert_eq!(ask(&mut clients[1], &keep)["error"]["code"], Fault::BUSY);
    }
}

#[test]
fn deferred_calls_with_the_same_id_all_count_until_the_caller_closes() {
    alone!();
    let mut limits = Limits::default();
    limits.deferred = 3;
    let server = serve(Kind::Seqpacket, limits);
    let mut client = raw(&server, Kind::Seqpacket);
    let keep = call(5, "kept.keep", "{}");
    for _ in 0..3 {
        send_raw(&client, keep.as_bytes(), &[]).unwrap();
    }
    assert_eq!(ask(&mut client, &keep)["error"]["code"], Fault::BUSY);
    drop(client);
    server.assert_busy_with(0);
}

/// Fills the backlogs of two connections that do not read. Returns how many are closed for it.
fn cut(limits: Limits, files: usize) -> usize {
    let room = room(Kind::Seqpacket, LARGE_TEXT);
    let server = serve(Kind::Seqpacket, limits);
    let mut stalled = [(); 2].map(|()| raw(&server, Kind::Seqpacket));
    let notes = call(5, "limits.notes", "{}");
    for client in &mut stalled {
        for _ in 0..room {
            send_raw(&*client, call(5, "kept.keep", "{}").as_bytes(), &[]).unwrap();
        }
        assert_eq!(ask(client, &notes)["result"], "");
    }
    let polite = server.connect();
    let _: String = polite.request(&Ask::Release { size: LARGE }).unwrap();
    // One more backlogged reply for each. The second may exceed the limit of the user.
    let give = call(
        5,
        "limits.give",
        &format!(r#"{{"files":{files},"size":{LARGE}}}"#),
    );
    for client in &stalled {
        send_raw(client, give.as_bytes(), &[]).unwrap();
        // It has been handled when another connection has its turn.
        assert_eq!(ProbeClient::new(server.connect()).make(1).unwrap(), "x");
    }
    let whole = |client: &mut Socket| {
        for _ in 0..=room {
            match client.receive::<WithFds<Value>>() {
                Ok(_) => {}
                Err(Error::Closed) => return false,
                Err(other) => panic!("{other}"),
            }
        }
        ask(client, &notes)["result"] == ""
    };
    let cut = stalled
        .iter_mut()
        .filter_map(|client| (!whole(client)).then_some(()));
    let cut = cut.count();
    assert_eq!(ProbeClient::new(polite).make(1).unwrap(), "x");
    cut
}

fn wide() -> Limits {
    let mut limits = Limits::default();
    (limits.deferred, limits.user_deferred) = (1000, 10_000);
    limits
}

#[test]
fn a_user_has_a_limit_of_backlog_bytes_and_is_disconnected_above() {
    alone!();
    let before = open_fds();
    for (bytes, want) in [(2 * LARGE_TEXT + 100, 0), (2 * LARGE_TEXT - 100, 1), (0, 2)] {
        let mut limits = wide();
        limits.user_backlog_bytes = bytes;
        assert_eq!(cut(limits, 0), want, "{bytes}");
    }
    assert_open_fds(before);
}

#[test]
fn a_user_has_a_limit_of_backlog_descriptors_and_is_disconnected_above() {
    alone!();
    let before = open_fds();
    for (descriptors, want) in [(7, 0), (6, 0), (5, 1), (2, 2)] {
        let mut limits = wide();
        limits.user_descriptors = descriptors;
        assert_eq!(cut(limits, 3), want, "{descriptors}");
    }
    assert_open_fds(before);
}

#[test]
fn a_connection_is_closed_for_more_malformed_messages_than_the_limit() {
    alone!();
    for bad in [
        "nonsense",
        "{}",
        "[]",
        r#"{"jsonrpc":"2.0","id":7,"method":5}"#,
    ] {
        let mut limits = Limits::default();
        limits.malformed = 3;
        let server = serve(Kind::Seqpacket, limits);
        let mut client = raw(&server, Kind::Seqpacket);
        let ping = call(5, "limits.make", "[0]");
        let unknown = call(5, "limits.nothing", "[0]");
        for _ in 0..3 {
            assert!(ask(&mut client, bad)["error"].is_object());
            // A call that is refused counts as well.
            assert_eq!(
                ask(&mut client, &unknown)["error"]["code"],
                Fault::METHOD_NOT_FOUND
            );
            assert_eq!(ask(&mut client, &ping)["result"], "");
        }
        assert!(
            ask(&mut client, bad)["error"].is_object(),
            "the fault comes before the end"
        );
        let end = client.receive::<WithFds<Value>>();
        assert!(matches!(end, Err(Error::Closed)));
        // No other client is disconnected.
        assert_eq!(ProbeClient::new(server.connect()).make(1).unwrap(), "x");
    }
}

#[test]
fn the_count_of_malformed_messages_falls_with_time() {
    alone!();
    let mut limits = Limits::default();
    (limits.malformed, limits.malformed_window) = (1, Duration::ZERO);
    let server = serve(Kind::Seqpacket, limits);
    let mut client = raw(&server, Kind::Seqpacket);
    for _ in 0..10 {
        assert!(ask(&mut client, "nonsense")["error"].is_object());
    }
    // Datagram peers cannot be disconnected. Each message is refused.
    let mut limits = Limits::default();
    limits.malformed = 0;
    let server = serve(Kind::Datagram, limits);
    let mut client = raw(&server, Kind::Datagram);
    for _ in 0..10 {
        assert!(ask(&mut client, "nonsense")["error"].is_object());
    }
}

#[test]
fn an_endpoint_without_descriptors_receives_none() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, State::default(), |endpoint| {
            endpoint.without_descriptors().unwrap().serve::<dyn Probe>()
        });
        let mut client = raw(&server, kind);
        let ping = call(5, "limits.make", "[1]");
        assert_eq!(ask(&mut client, &ping)["result"], "x");
        let before = open_fds();
        let null = File::open("/dev/null").unwrap();
        let pass = call(5, "limits.pass", r#"{"files":[0]}"#);
        match send_raw(&client, pass.as_bytes(), &[null.as_fd()]) {
            // Since Linux 6.16 the kernel refuses it.
            Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error())),
            Ok(()) => {
                let error = &receive(&mut client)["error"];
                assert_eq!(error["code"], Fault::INVALID_DESCRIPTORS);
            }
        }
        drop(null);
        assert_eq!(ask(&mut client, &ping)["result"], "x", "{kind:?}");
        assert_open_fds(before);
    }
}
