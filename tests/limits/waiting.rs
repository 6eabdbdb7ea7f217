//! Backlogs of replies to peers that do not read.

use super::*;

/// Returns how many messages of this length the socket of a peer that does not read holds.
pub(crate) fn room(kind: Kind, length: usize) -> usize {
    let text = "x".repeat(length - 2);
    let mut fitted = 0;
    match kind {
        Kind::Seqpacket => {
            let (mut left, _right) = pair(kind);
            while left.try_send(&text).unwrap() == SendStatus::Done {
                fitted += 1;
            }
        }
        Kind::Datagram => {
            let (mut left, right) = (
                Socket::unconnected().unwrap(),
                Socket::unconnected().unwrap(),
            );
            let to = right.local_address().unwrap().unwrap();
            while left.try_send_to(&text, &to).unwrap() == SendStatus::Done {
                fitted += 1;
            }
        }
    }
    fitted
}

/// Length of replies of which only a few fit into a send buffer.
pub(crate) const LARGE: usize = 100_000;
pub(crate) const LARGE_TEXT: usize = LARGE + r#"{"jsonrpc":"2.0","id":5,"result":""}"#.len();

/// Keeps `count` replies for a client that does not read, and releases them. Returns how many it receives,
/// and whether its connection was closed.
fn released(mut limits: Limits, count: usize) -> (usize, bool, u64) {
    (limits.deferred, limits.user_deferred) = (count, count + 1);
    let server = serve(Kind::Seqpacket, limits);
    let mut stalled = raw(&server, Kind::Seqpacket);
    for _ in 0..count {
        send_raw(&stalled, call(5, "kept.keep", "{}").as_bytes(), &[]).unwrap();
    }
    // The next call of the same client is handled after those.
    let notes = call(5, "limits.notes", "{}");
    assert_eq!(ask(&mut stalled, &notes)["result"], "");
    let polite = server.connect();
    let release: String = polite.request(&Ask::Release { size: LARGE }).unwrap();
    assert_eq!(release, "released");
    // All are sent, backlogged or dropped before another connection has its turn.
    assert_eq!(ProbeClient::new(server.connect()).make(1).unwrap(), "x");
    let mut received = 0;
    while received < count {
        match stalled.receive::<WithFds<Value>>() {
            Ok((message, _)) => {
                assert_eq!(message.json["result"].as_str().unwrap().len(), LARGE);
                received += 1;
            }
            Err(Error::Closed) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let cut = received < count;
    if !cut {
        assert_eq!(
            ask(&mut stalled, &notes)["result"],
            "",
            "the connection stays usable"
        );
    }
    (received, cut, server.stop().1.undelivered)
}

#[test]
fn a_connection_has_a_backlog_of_replies_and_is_closed_above_the_limit() {
    alone!();
    let before = open_fds();
    let room = room(Kind::Seqpacket, LARGE_TEXT);
    for replies in [1, 3] {
        let mut limits = Limits::default();
        limits.backlog_replies = replies;
        limits.backlog_bytes = usize::MAX;
        let most = room + replies;
        assert_eq!(released(limits.clone(), most - 1), (most - 1, false, 0));
        assert_eq!(released(limits.clone(), most), (most, false, 0));
        // The reply without room is lost, and with the connection its whole backlog.
        assert_eq!(released(limits, most + 1), (room, true, replies as u64 + 1));
    }
    assert_open_fds(before);
}

#[test]
fn a_connection_has_a_backlog_of_bytes_and_is_closed_above_the_limit() {
    alone!();
    let room = room(Kind::Seqpacket, LARGE_TEXT);
    // One reply is backlogged at any size. The second depends on the limit of bytes.
    for (bytes, replies) in [
        (0, 1),
        (2 * LARGE_TEXT - 1, 1),
        (2 * LARGE_TEXT, 2),
        (2 * LARGE_TEXT + 1, 2),
    ] {
        let mut limits = Limits::default();
        limits.backlog_bytes = bytes;
        let most = room + replies;
        assert_eq!(released(limits.clone(), most), (most, false, 0), "{bytes}");
        assert_eq!(
            released(limits, most + 1),
            (room, true, replies as u64 + 1),
            "{bytes}"
        );
    }
}

/// Makes this many calls from each of several peers, which read only when all are done. Asserts that
/// each receives its number of replies and no more. Returns how many were dropped.
fn waited(limits: &Limits, calls: usize, replies: &[usize]) -> u64 {
    let server = serve(Kind::Datagram, limits.clone());
    let address = Address::from(&server.path);
    let probe = ProbeClient::new(server.connect());
    let question = |id, params| {
        let json: Value = serde_json::from_str(&call(id, "limits.make", params)).unwrap();
        let fds = Fds::new();
        WithFds { json, fds }
    };
    let stalled = |_: &usize| {
        let mut peer = Socket::unconnected().unwrap();
        peer.set_timeout(Some(PATIENCE));
        for _ in 0..calls {
            peer.send_to(&question(5, "[20]"), &address).unwrap();
        }
        // All of these have been handled when the next gets its reply.
        assert_eq!(probe.make(1).unwrap(), "x");
        peer
    };
    let mut peers: Vec<Socket> = replies.iter().map(stalled).collect();
    for (peer, replies) in peers.iter_mut().zip(replies) {
        for _ in 0..*replies {
            assert_eq!(receive(peer)["id"], 5);
        }
        peer.send_to(&question(6, "[0]"), &address).unwrap();
        assert_eq!(receive(peer)["id"], 6);
    }
    server.stop().1.undelivered
}

/// Returns limits for peers that read late, but not too late.
fn slow(replies: usize, bytes: usize, peers: usize) -> Limits {
    let mut limits = Limits::default();
    limits.retry_backoff = Duration::from_millis(100);
    (
        limits.backlog_replies,
        limits.backlog_bytes,
        limits.backlog_peers,
    ) = (replies, bytes, peers);
    limits
}

#[test]
fn a_datagram_peer_has_a_backlog_of_replies_and_loses_those_above_the_limit() {
    alone!();
    let before = open_fds();
    let room = room(Kind::Datagram, 50);
    for replies in [1, 3] {
        let (most, limits) = (room + replies, slow(replies, usize::MAX, 1));
        assert_eq!(waited(&limits, most - 1, &[most - 1]), 0);
        assert_eq!(waited(&limits, most, &[most]), 0);
        assert_eq!(waited(&limits, most + 1, &[most]), 1);
        assert_eq!(waited(&limits, most + 5, &[most]), 5);
    }
    assert_open_fds(before);
}

#[test]
fn a_datagram_peer_has_a_backlog_of_bytes_and_loses_replies_above_the_limit() {
    alone!();
    let room = room(Kind::Datagram, 50);
    let text = r#"{"jsonrpc":"2.0","id":5,"result":""}"#.len() + 20;
    for (bytes, replies) in [(0, 1), (3 * text - 1, 2), (3 * text, 3), (4 * text - 1, 3)] {
        let most = room + replies;
        assert_eq!(waited(&slow(100, bytes, 1), most, &[most]), 0, "{bytes}");
        assert_eq!(
            waited(&slow(100, bytes, 1), most + 1, &[most]),
            1,
            "{bytes}"
        );
    }
}

#[test]
fn a_limited_number_of_datagram_peers_have_a_backlog() {
    alone!();
    let room = room(Kind::Datagram, 50);
    let limits = slow(10, usize::MAX, 2);
    assert_eq!(waited(&limits, room + 3, &[room + 3]), 0);
    assert_eq!(waited(&limits, room + 3, &[room + 3, room + 3]), 0);
    assert_eq!(waited(&limits, room + 3, &[room + 3, room + 3, room]), 3);
}

#[test]
fn without_a_retry_timer_a_reply_waits_for_the_next_call_of_its_peer() {
    alone!();
    let room = room(Kind::Datagram, 50);
    let mut limits = slow(1, usize::MAX, 1);
    limits.retry_backoff = Duration::MAX;
    let server = serve(Kind::Datagram, limits);
    let address = Address::from(&server.path);
    let probe = ProbeClient::new(server.connect());
    let mut peer = Socket::unconnected().unwrap();
    peer.set_timeout(Some(PATIENCE));
    for id in 0..=room as u64 {
        let json = serde_json::from_str::<Value>(&call(id, "limits.make", "[20]")).unwrap();
        let fds = Fds::new();
        peer.send_to(&WithFds { json, fds }, &address).unwrap();
        assert_eq!(probe.make(1).unwrap(), "x", "it has been handled");
    }
    for id in 0..room as u64 {
        assert_eq!(receive(&mut peer)["id"], id);
    }
    let json = serde_json::from_str::<Value>(&call(100, "limits.make", "[20]")).unwrap();
    let fds = Fds::new();
    peer.send_to(&WithFds { json, fds }, &address).unwrap();
    for id in [room as u64, 100] {
        assert_eq!(receive(&mut peer)["id"], id);
    }
}

#[test]
fn a_datagram_peer_gets_busy_for_a_reply_beyond_its_backlog_if_that_has_room() {
    alone!();
    let size = 5000;
    let room = room(Kind::Datagram, size + 37);
    let server = serve(Kind::Datagram, slow(10, size + 300, 1));
    let address = Address::from(&server.path);
    let probe = ProbeClient::new(server.connect());
    let mut peer = Socket::unconnected().unwrap();
    peer.set_timeout(Some(PATIENCE));
    for id in 0..room as u64 + 2 {
        let text = call(id, "limits.make", &format!("[{size}]"));
        let (json, fds) = (serde_json::from_str::<Value>(&text).unwrap(), Fds::new());
        peer.send_to(&WithFds { json, fds }, &address).unwrap();
        assert_eq!(probe.make(1).unwrap(), "x", "it has been handled");
    }
    for id in 0..=room as u64 {
        let reply = receive(&mut peer);
        assert_eq!(reply["id"], id);
        assert_eq!(reply["result"].as_str().unwrap().len(), size);
    }
    let fault = receive(&mut peer);
    assert_eq!(fault["id"], room as u64 + 1);
    assert_eq!(fault["error"]["code"], Fault::BUSY, "{fault}");
    assert_eq!(server.stop().1.undelivered, 1);
}
