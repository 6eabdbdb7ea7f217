//! Peers that die, do not read, or cannot be replied to.

use jsoncomm::Server;
use jsoncomm::message::Json;
use jsoncomm_tests::pair;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket};

use super::*;

/// Starts a server whose `wait` reports each call, and blocks until the test releases it.
pub(super) fn gated(kind: Kind) -> (Fixture, Receiver<()>, Sender<()>) {
    let ((here, is_here), (open, is_open)) = (channel(), channel());
    let gate = Some((here, is_open));
    let fixture = Fixture::with(
        kind,
        State {
            gate,
            ..State::default()
        },
    );
    (fixture, is_here, open)
}

#[test]
fn a_peer_that_dies_during_its_call_loses_only_its_own_reply() {
    alone!();
    for kind in KINDS {
        let (mut fixture, is_here, open) = gated(kind);
        for _ in 0..3 {
            let dying = raw(&fixture.server, kind);
            send_raw(&dying, call(5, "wait", "{}").as_bytes(), &[]).unwrap();
            is_here.recv_timeout(PATIENCE).unwrap();
            drop(dying);
            open.send(()).unwrap();
            fixture.assert_healthy();
        }
        let (_, counts) = fixture.stop();
        assert_eq!(counts.undelivered, 3);
    }
}

#[test]
fn calls_sent_before_a_peer_died_are_carried_out() {
    alone!();
    for kind in KINDS {
        let (mut fixture, is_here, open) = gated(kind);
        fixture.send(call(5, "wait", "{}"), &[]);
        is_here.recv_timeout(PATIENCE).unwrap();
        // While the server is blocked, messages with descriptors queue up, and their sender dies.
        let dying = raw(&fixture.server, kind);
        let null = null();
        for _ in 0..5 {
            let tell = r#"{"jsonrpc":"2.0","method":"test.vault.tell","params":[0]}"#;
            send_raw(&dying, tell.as_bytes(), &[null.as_fd()]).unwrap();
        }
        drop((dying, null));
        open.send(()).unwrap();
        drop(fixture.receive());
        let start = Instant::now();
        while fixture.polite.stats().unwrap() < 5 {
            assert!(start.elapsed() < PATIENCE);
        }
        fixture.assert_healthy();
        fixture.stop();
    }
}

#[test]
fn a_connection_that_never_reads_stalls_itself_only() {
    alone!();
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let null = null();
    let mut stalled = raw(&fixture.server, Kind::Seqpacket);
    rustix::io::ioctl_fionbio(&stalled, true).unwrap();
    let mut sent = 0;
    // It sends until the server has not read from it for many turns.
    let mut refused = 0;
    while refused < 50 {
        let swap = call(sent, "swap", r#"{"label":"x","file":0}"#);
        match send_raw(&stalled, swap.as_bytes(), &[null.as_fd()]) {
            Ok(()) => (sent, refused) = (sent + 1, 0),
            Err(_) => refused += 1,
        }
        fixture.ping();
    }
    assert!(sent > 10);
    // When it reads at last, all replies are there, in order.
    for id in 0..sent {
        let (reply, _) = stalled.receive::<WithFds<Value>>().unwrap();
        assert_eq!((reply.json["id"].as_u64(), reply.fds.len()), (Some(id), 1));
    }
    drop((stalled, null));
    fixture.assert_healthy();
    let (_, counts) = fixture.stop();
    assert_eq!(counts.undelivered, 0);
}

#[test]
fn a_connection_that_dies_with_unread_replies_frees_its_resources() {
    alone!();
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let null = null();
    for _ in 0..3 {
        let stalled = raw(&fixture.server, Kind::Seqpacket);
        rustix::io::ioctl_fionbio(&stalled, true).unwrap();
        let mut refused = 0;
        while refused < 20 {
            let swap = call(5, "swap", r#"{"label":"x","file":0}"#);
            match send_raw(&stalled, swap.as_bytes(), &[null.as_fd()]) {
                Ok(()) => refused = 0,
                Err(_) => refused += 1,
            }
            fixture.ping();
        }
    }
    drop(null);
    fixture.assert_healthy();
    fixture.stop();
}

#[test]
fn a_datagram_peer_that_never_reads_loses_only_its_own_replies() {
    alone!();
    const CALLS: u64 = 100;
    let mut fixture = Fixture::start(Kind::Datagram);
    let null = null();
    let mut stalled = Socket::unconnected().unwrap();
    stalled.set_timeout(Some(PATIENCE));
    let server = jsoncomm::address::Address::from(&fixture.server.path);
    for id in 0..CALLS {
        let json: Value =
            serde_json::from_str(&call(id, "swap", r#"{"label":"x","file":0}"#)).unwrap();
        let fds = Fds::from(vec![OwnedFd::from(null.try_clone().unwrap())]);
        stalled.send_to(&WithFds { json, fds }, &server).unwrap();
        fixture.ping();
    }
    // The replies that had room are there, in order. The rest is dropped when their caller closes.
    let mut received = 0;
    while let Received::Message(reply, _) = stalled.try_receive::<WithFds<Value>>().unwrap() {
        assert_eq!(reply.json["id"].as_u64(), Some(received));
        received += 1;
    }
    assert!(0 < received && received < CALLS);
    drop((stalled, null));
    fixture.assert_healthy();
    let (_, counts) = fixture.stop();
    assert!(
        counts.undelivered > 0 && counts.undelivered <= CALLS - received,
        "{counts:?}"
    );
}

#[test]
fn a_connected_datagram_peer_that_never_reads_blocks_the_socket_until_it_closes() {
    alone!();
    let mut fixture = Fixture::start(Kind::Datagram);
    let stalled = raw(&fixture.server, Kind::Datagram);
    fixture.count_fds();
    let ping = call(5, "ping", "[1]");
    let hurried = fixture.server.connect();
    let short = hurried.with_timeout(std::time::Duration::from_millis(100));
    let short = VaultClient::new(short);
    let start = Instant::now();
    while fixture.server.stats().backlog == 0 {
        assert!(start.elapsed() < PATIENCE, "the send buffer has no end");
        for _ in 0..100 {
            send_raw(&stalled, ping.as_bytes(), &[]).unwrap();
        }
    }
    let unheard = short.ping(1);
    assert!(matches!(unheard, Err(jsoncomm::CallError::Deadline)));
    drop(stalled);
    // Its resources are free, and the waiting reply is late.
    let start = Instant::now();
    while short.ping(2).is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    drop((short, hurried));
    fixture.count_fds();
    fixture.ping();
    let (_, counts) = fixture.stop();
    assert!(counts.undelivered > 0, "{counts:?}");
}

#[test]
fn an_unreachable_sender_gets_no_reply_and_is_counted() {
    alone!();
    let mut fixture = Fixture::start(Kind::Datagram);
    let null = null();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("client.sock");
    let server = SocketAddrUnix::new(&fixture.server.path).unwrap();
    let family = AddressFamily::UNIX;
    let unbound = socket(family, SocketType::DGRAM, None).unwrap();
    connect(&unbound, &server).unwrap();
    let on_path = socket(family, SocketType::DGRAM, None).unwrap();
    bind(&on_path, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    connect(&on_path, &server).unwrap();
    fixture.count_fds();
    let calls = [
        call(5, "ping", r#"{"number":1}"#),
        call(5, "swap", r#"{"label":"x","file":0}"#),
        call(5, "none", "{}"),
        late_drop(),
        String::from("nope"),
    ];
    for sender in [&unbound, &on_path] {
        for text in &calls {
            let fds = &[null.as_fd()][usize::from(!text.contains("file"))..];
            send_raw(sender, text.as_bytes(), fds).unwrap();
            fixture.assert_healthy();
        }
        let nothing = rustix::net::recv(sender, &mut [0_u8; 16], rustix::net::RecvFlags::DONTWAIT);
        assert_eq!(nothing.unwrap_err(), rustix::io::Errno::AGAIN);
    }
    drop((unbound, on_path, null));
    let (_, counts) = fixture.stop();
    assert_eq!(counts.undelivered, 2 * calls.len() as u64);
}

#[test]
fn a_peer_of_a_socket_pair_needs_no_address_for_replies() {
    alone!();
    let (near, mut far) = pair(Kind::Datagram);
    let mut server = Server::new(Limits::default()).unwrap();
    let adopted = near.as_fd().try_clone_to_owned().unwrap();
    server.adopt(adopted).unwrap().serve::<dyn Vault>();
    let mut state = State::default();
    // There is room for a few replies only. The others wait.
    set_socket_send_buffer_size(&near, 0).unwrap();
    let calls = 0..20;
    for id in calls.clone() {
        send_raw(&far, call(id, "ping", r#"{"number":1}"#).as_bytes(), &[]).unwrap();
        while server.counts().received <= id {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
    }
    assert!(server.stats().backlog > 0, "{:?}", server.stats());
    let serving = std::thread::spawn(move || {
        while server.stats().backlog > 0 {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
        server.counts()
    });
    for id in calls.clone() {
        let (Json(reply), _) = far.receive::<Json<Value>>().unwrap();
        assert_eq!((&reply["id"], &reply["result"]), (&id.into(), &1.into()));
    }
    assert_eq!(serving.join().unwrap().undelivered, 0);
}

fn late_drop() -> String {
    handlers::late(5, "drop", r#"{"file":0}"#)
}

#[test]
fn a_sender_with_a_108_byte_path_gets_no_reply() {
    alone!();
    let mut fixture = Fixture::start(Kind::Datagram);
    let directory = tempfile::tempdir().unwrap();
    let room = 108 - directory.path().as_os_str().len() - 1;
    let path = directory.path().join("c".repeat(room));
    let longest = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    fixture.count_fds();
    bind(&longest, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    connect(
        &longest,
        &SocketAddrUnix::new(&fixture.server.path).unwrap(),
    )
    .unwrap();
    send_raw(&longest, call(5, "ping", "[1]").as_bytes(), &[]).unwrap();
    fixture.assert_healthy();
    drop(longest);
    let (_, counts) = fixture.stop();
    assert_eq!(counts.undelivered, 1);
}

#[test]
fn a_sender_with_a_relative_or_replaced_path_gets_no_reply() {
    alone!();
    let mut fixture = Fixture::start(Kind::Datagram);
    let directory = tempfile::tempdir().unwrap();
    std::env::set_current_dir(directory.path()).unwrap();
    let server = SocketAddrUnix::new(&fixture.server.path).unwrap();
    let [relative, swapped, stranger] =
        [(); 3].map(|()| socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap());
    bind(&relative, &SocketAddrUnix::new("client.sock").unwrap()).unwrap();
    let path = directory.path().join("swapped.sock");
    let address = SocketAddrUnix::new(&path).unwrap();
    bind(&swapped, &address).unwrap();
    std::fs::remove_file(&path).unwrap();
    bind(&stranger, &address).unwrap();
    fixture.count_fds();
    for sender in [&relative, &swapped] {
        connect(sender, &server).unwrap();
        send_raw(sender, call(5, "ping", "[1]").as_bytes(), &[]).unwrap();
        fixture.assert_healthy();
    }
    for socket in [&relative, &swapped, &stranger] {
        let nothing = rustix::net::recv(socket, &mut [0_u8; 16], rustix::net::RecvFlags::DONTWAIT);
        assert_eq!(nothing.unwrap_err(), rustix::io::Errno::AGAIN);
    }
    drop((relative, swapped, stranger));
    let (_, counts) = fixture.stop();
    assert_eq!(counts.undelivered, 2);
}

#[test]
fn a_sender_with_any_abstract_name_gets_replies() {
    alone!();
    let mut fixture = Fixture::start(Kind::Datagram);
    let pid = std::process::id().to_string();
    // The longest abstract name has 107 bytes.
    let rest = 107 - pid.len();
    for fill in [b"\0", b"\xff", b"/", b"\n", b"x"] {
        let name = [pid.as_bytes(), &fill.repeat(rest)].concat();
        let sender = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        bind(&sender, &SocketAddrUnix::new_abstract_name(&name).unwrap()).unwrap();
        connect(&sender, &SocketAddrUnix::new(&fixture.server.path).unwrap()).unwrap();
        fixture.count_fds();
        let mut sender = Socket::from_fd(sender).unwrap();
        sender.set_timeout(Some(PATIENCE));
        send_raw(&sender, call(5, "ping", "[7]").as_bytes(), &[]).unwrap();
        let reply = sender.receive::<WithFds<Value>>().unwrap().0;
        assert_eq!(reply.json["result"], 7);
        fixture.assert_healthy();
    }
    let (_, counts) = fixture.stop();
    assert_eq!(counts.undelivered, 0);
}

#[test]
fn an_empty_packet_ends_its_own_connection_only() {
    alone!();
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let mut empty = raw(&fixture.server, Kind::Seqpacket);
    send_raw(&empty, b"", &[]).unwrap();
    let end = empty.receive::<WithFds<Value>>();
    assert!(matches!(end, Err(jsoncomm::Error::Closed)), "{end:?}");
    drop(empty);
    fixture.assert_healthy();
    fixture.stop();
}

#[test]
fn an_empty_packet_with_a_descriptor_is_refused_with_parse_error() {
    alone!();
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let null = null();
    fixture.count_fds();
    fixture.assert_refused("", &[null.as_fd()], Value::Null, Fault::PARSE_ERROR, None);
    drop(null);
    fixture.stop();
}

#[test]
fn connections_that_come_and_go_leak_nothing() {
    alone!();
    let mut fixture = Fixture::start(Kind::Seqpacket);
    for round in 0..200 {
        let visitor = raw(&fixture.server, Kind::Seqpacket);
        if round % 2 == 0 {
            send_raw(&visitor, b"{\"half", &[]).unwrap();
        }
    }
    // Clients are accepted in the order of their connect(2).
    let mut last = raw(&fixture.server, Kind::Seqpacket);
    send_raw(&last, call(5, "stats", "{}").as_bytes(), &[]).unwrap();
    last.receive::<WithFds<Value>>().unwrap();
    drop(last);
    fixture.assert_healthy();
    let (_, counts) = fixture.stop();
    assert_eq!(counts.accepted, 203);
    assert_eq!(counts.refused, 100);
}
