//! Many clients at once, and half-closed ones: the others are served as usual.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jsoncomm::socket::SendStatus;
use jsoncomm::{Connection, Error, Server};
use rustix::net::{Shutdown, shutdown};

use super::*;

/// A client that sends this and reads replies in a loop, and reconnects when it is disconnected.
fn flood(
    path: &std::path::Path,
    kind: Kind,
    text: String,
    over: &Arc<AtomicBool>,
) -> JoinHandle<u64> {
    let (path, over) = (path.to_owned(), Arc::clone(over));
    std::thread::spawn(move || {
        let mut replies = 0;
        // On a slow machine all is over before each has had its turn.
        let goes_on = |replies| replies == 0 || !over.load(Ordering::Relaxed);
        while goes_on(replies) {
            let mut socket = Socket::connect(&path, kind).unwrap();
            socket.set_timeout(Some(PATIENCE));
            while goes_on(replies) && send_raw(&socket, text.as_bytes(), &[]).is_ok() {
                match socket.receive::<WithFds<Value>>() {
                    Ok(_) => replies += 1,
                    Err(Error::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        replies
    })
}

#[test]
fn fifty_busy_and_ten_hostile_clients_do_not_delay_another() {
    alone!();
    for kind in KINDS {
        servers_are_gone();
        let before = open_fds();
        let server = Running::start(kind, State::default(), |endpoint| {
            endpoint.serve::<dyn Vault>().handle::<Ask>()
        });
        let over = Arc::new(AtomicBool::new(false));
        let ping = (0..50).map(|number| call(5, "ping", &format!("[{number}]")));
        let nonsense = (0..10).map(|number| format!("{{nonsense {number}"));
        let flood = |text| flood(&server.path, kind, text, &over);
        let floods: Vec<_> = ping.chain(nonsense).map(flood).collect();
        let polite = VaultClient::new(server.connect());
        for number in 0..300 {
            assert_eq!(polite.ping(number).unwrap(), number, "{kind:?}");
        }
        over.store(true, Ordering::Relaxed);
        for flood in floods {
            assert!(flood.join().unwrap() > 0, "{kind:?}");
        }
        server.assert_busy_with(usize::from(kind == Kind::Seqpacket));
        let (_, counts) = server.stop();
        assert!(counts.refused_with(Fault::PARSE_ERROR) >= 10, "{counts:?}");
        assert_eq!(counts.undelivered + counts.panicked, 0, "{counts:?}");
        drop(polite);
        assert_open_fds(before);
    }
}

#[test]
fn ten_clients_disconnected_in_a_loop_do_not_lock_out_another_of_their_user() {
    alone!();
    handlers::quiet();
    servers_are_gone();
    let before = open_fds();
    let mut limits = Limits::default();
    // Less than could be closing at the same time.
    (limits.user_connections, limits.user_closing) = (16, 4);
    let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let over = Arc::new(AtomicBool::new(false));
    let floods = [(); 10].map(|()| {
        let (path, over) = (server.path.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let mut socket = Socket::connect(&path, Kind::Seqpacket).unwrap();
                socket.set_timeout(Some(PATIENCE));
                // Until there is no more room, so that much is unread when it is disconnected.
                while !over.load(Ordering::Relaxed) && socket.send("nonsense").is_ok() {}
            }
        })
    });
    for number in 0..50 {
        let polite = VaultClient::new(server.connect());
        assert_eq!(polite.ping(number).unwrap(), number);
    }
    over.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    server.assert_busy_with(0);
    let (_, counts) = server.stop();
    assert!(counts.disconnected > 10, "{counts:?}");
    assert_eq!(counts.rejected, 0);
    assert_open_fds(before);
}

#[test]
fn three_hundred_idle_connections_do_not_delay_others() {
    alone!();
    let before = open_fds();
    let mut limits = Limits::default();
    limits.user_connections = 320;
    let server = Running::with_limits(limits, Kind::Seqpacket, State::default(), |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    let idle: Vec<_> = (0..300).map(|_| raw(&server, Kind::Seqpacket)).collect();
    server.assert_busy_with(301);
    for number in 0..100 {
        assert_eq!(polite.ping(number).unwrap(), number);
    }
    // None of them is forgotten.
    let mut last = idle.into_iter().next_back().unwrap();
    send_raw(&last, call(5, "ping", "[7]").as_bytes(), &[]).unwrap();
    assert_eq!(
        last.receive::<WithFds<Value>>().unwrap().0.json["result"],
        7
    );
    server.assert_busy_with(2);
    let (_, counts) = server.stop();
    assert_eq!((counts.accepted, counts.rejected), (301, 0));
    drop((last, polite));
    assert_open_fds(before);
}

#[test]
fn a_peer_that_shut_down_its_sending_still_gets_replies_and_is_then_closed() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        let mut half = raw(&fixture.server, kind);
        for id in 5..8 {
            let swap = call(id, "swap", r#"["x",0]"#);
            send_raw(&half, swap.as_bytes(), &[null.as_fd()]).unwrap();
        }
        shutdown(&half, Shutdown::Write).unwrap();
        for id in 5..8 {
            let (reply, _) = half.receive::<WithFds<Value>>().unwrap();
            assert_eq!((&reply.json["id"], reply.fds.len()), (&json!(id), 1));
        }
        if kind == Kind::Seqpacket {
            let end = half.receive::<WithFds<Value>>();
            assert!(matches!(end, Err(Error::Closed)), "{end:?}");
        }
        drop((half, null));
        let (_, counts) = fixture.stop();
        assert_eq!((counts.refused, counts.undelivered), (0, 0));
    }
}

#[test]
fn a_peer_that_shut_down_its_receiving_loses_only_its_own_replies() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        let half = raw(&fixture.server, kind);
        shutdown(&half, Shutdown::Read).unwrap();
        for id in 5..8 {
            let swap = call(id, "swap", r#"["x",0]"#);
            // The first reply that cannot be sent ends a connection.
            let _ = send_raw(&half, swap.as_bytes(), &[null.as_fd()]);
            fixture.ping();
        }
        drop((half, null));
        fixture.assert_healthy();
        let (_, counts) = fixture.stop();
        assert!((1..=3).contains(&counts.undelivered), "{counts:?}");
    }
}

#[test]
fn calls_of_a_client_that_died_before_accept_are_carried_out() {
    alone!();
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let null = null();
    fixture.server.while_blocked(|| {
        for number in 0..40 {
            let dying = raw(&fixture.server, Kind::Seqpacket);
            if number % 2 == 0 {
                let tell = r#"{"jsonrpc":"2.0","method":"test.vault.tell","params":[0]}"#;
                send_raw(&dying, tell.as_bytes(), &[null.as_fd()]).unwrap();
                send_raw(&dying, b"nonsense", &[null.as_fd()]).unwrap();
            }
        }
    });
    drop(null);
    fixture.assert_healthy();
    let (state, counts) = fixture.stop();
    assert_eq!((state.tells, counts.accepted, counts.closed), (20, 42, 40));
    assert_eq!(counts.refused_with(Fault::PARSE_ERROR), 20);
}

/// Returns a client. Over datagrams it is unconnected: a connected one could use up the room that all replies share.
fn stuck(path: &std::path::Path, kind: Kind) -> Socket {
    match kind {
        Kind::Datagram => Socket::unconnected().unwrap(),
        Kind::Seqpacket => Socket::connect(path, kind).unwrap(),
    }
}

/// Sends a call if there is room.
fn try_say(socket: &mut Socket, path: &std::path::Path, text: &str, fds: Fds) -> SendStatus {
    let json = serde_json::from_str::<Value>(text).unwrap();
    let call = WithFds { json, fds };
    match socket.kind() {
        Kind::Datagram => socket.try_send_to(&call, &path.into()).unwrap(),
        Kind::Seqpacket => socket.try_send(&call).unwrap(),
    }
}

#[test]
fn stuck_peers_leave_the_server_idle() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.bind(&path, kind).unwrap();
        endpoint.serve::<dyn Vault>().handle::<Ask>();
        let mut state = State::default();
        // One does not read, one waits for a reply, one has shut down one direction, and one does nothing.
        let mut clients = [(); 4].map(|()| stuck(&path, kind));
        let [stalled, keeping, half, _idle] = &mut clients;
        while server.stats().backlog == 0 {
            let _ = try_say(stalled, &path, &call(5, "ping", "[1]"), Fds::new());
            let _ = server.run_once(&mut state, Some(Duration::ZERO)).unwrap();
        }
        let keep = handlers::late(5, "keep", r#"{"file":0}"#);
        let sent = try_say(keeping, &path, &keep, Fds::from(vec![null().into()]));
        assert_eq!(sent, SendStatus::Done);
        shutdown(half.as_fd(), Shutdown::Read).unwrap();
        let start = Instant::now();
        let mut turns = 0;
        while start.elapsed() < Duration::from_millis(500) {
            let hundred = Some(Duration::from_millis(100));
            let _ = server.run_once(&mut state, hundred).unwrap();
            turns += 1;
        }
        // A loop that spins has some ten thousand turns.
        assert!(turns < 200, "{turns} turns, {kind:?}");
        let polite = Connection::open(&path).unwrap().with_timeout(PATIENCE);
        let mut pong = VaultClient::new(polite).start().ping(7).unwrap();
        let reply = loop {
            let ten = Some(Duration::from_millis(10));
            let _ = server.run_once(&mut state, ten).unwrap();
            if let Some(reply) = pong.try_wait() {
                break reply;
            }
            assert!(start.elapsed() < PATIENCE);
        };
        assert_eq!(reply.unwrap(), 7);
        let stats = server.stats();
        assert!(stats.deferred == 1 && stats.backlog > 0, "{stats:?}");
    }
}
