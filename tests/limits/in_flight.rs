//! Budgets for what is sent and unread: descriptors, and large replies in memfds.

use super::*;
use jsoncomm::Stream;
use rustix::net::{Shutdown, shutdown};

/// The limit of descriptors in flight.
const DESCRIPTORS: usize = 16;

/// Descriptors of one reply: four replies reach the limit.
const FILES: usize = 4;

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.user_descriptors = DESCRIPTORS;
    limits
}

/// Calls for this many descriptors.
fn give(client: &Socket, id: u64, files: usize) {
    let params = format!(r#"{{"files":{files},"size":0}}"#);
    send_raw(client, call(id, "limits.give", &params).as_bytes(), &[]).unwrap();
}

/// Receives the next reply. Returns its text and number of descriptors.
fn take(client: &mut Socket) -> (Value, usize) {
    let message = client.receive::<WithFds<Value>>().unwrap().0;
    (message.json, message.fds.len())
}

/// Makes a call without descriptors. When it gets its reply, all earlier calls on other connections have been
/// handled.
fn ping(client: &mut Socket, id: u64) {
    let reply = ask(client, &call(id, "limits.make", "[1]"));
    assert_eq!((&reply["id"], &reply["result"]), (&id.into(), &"x".into()));
}

fn wait_for_stats(server: &Running<State>, what: impl Fn(&jsoncomm::observe::Stats) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = server.stats();
        if what(&stats) {
            return;
        }
        assert!(Instant::now() < until, "{stats:?}");
    }
}

#[test]
fn descriptors_are_in_flight_up_to_the_limit_and_replies_without_them_overtake_the_rest() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = serve(kind, limits());
        let mut client = raw(&server, kind);
        let each = [4, 8, 4, 1, 2, 1];
        for (count, (id, files)) in (1_usize..).zip((0..).zip(each)) {
            give(&client, id, files);
            // All calls sent so far get replies, in order.
            let sum: usize = each.iter().take(count).sum();
            wait_for_stats(&server, |stats| {
                let held = count.saturating_sub(3);
                (stats.fds_in_flight, stats.backlog) == (sum.min(DESCRIPTORS), held)
            });
        }
        send_raw(&client, call(9, "limits.make", "[1]").as_bytes(), &[]).unwrap();
        server.finish_turn();
        let mut received = Vec::new();
        for _ in 0..=each.len() {
            let (reply, files) = take(&mut client);
            received.push((reply["id"].as_u64().unwrap(), files));
        }
        // Three were sent before it arrived.
        let want = [(0, 4), (1, 8), (2, 4), (9, 0), (3, 1), (4, 2), (5, 1)];
        assert_eq!(received, want, "{kind:?}");
        ping(&mut client, 10);
        wait_for_stats(&server, |stats| {
            (stats.fds_in_flight, stats.bytes_in_flight, stats.backlog) == (0, 0, 0)
        });
        assert_eq!(server.stop().1.undelivered, 0);
    }
    assert_open_fds(before);
}

#[test]
fn a_client_gets_more_descriptors_than_the_limit_as_it_reads() {
    alone!();
    let before = open_fds();
    let server = serve(Kind::Seqpacket, limits());
    let mut client = raw(&server, Kind::Seqpacket);
    const MANY: u64 = 300;
    for id in 0..MANY {
        give(&client, id, 1);
    }
    for id in 0..MANY {
        let (reply, files) = take(&mut client);
        assert_eq!((reply["id"].as_u64(), files), (Some(id), 1));
    }
    server.assert_busy_with(1);
    drop(client);
    assert_eq!(server.stop().1.undelivered, 0);
    assert_open_fds(before);
}

#[test]
fn a_reply_above_the_limit_alone_is_sent_when_no_descriptors_are_in_flight() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = serve(kind, limits());
        let mut client = raw(&server, kind);
        for files in [DESCRIPTORS + 1, 253] {
            give(&client, 1, 1);
            give(&client, 2, files);
            assert_eq!(take(&mut client).1, 1);
            let (reply, given) = take(&mut client);
            assert_eq!((&reply["id"], given), (&2.into(), files), "{reply}");
        }
    }
    assert_open_fds(before);
}

#[test]
fn another_connection_of_the_user_waits_until_the_first_reads_or_closes() {
    alone!();
    let before = open_fds();
    for goes in [false, true] {
        let server = serve(Kind::Seqpacket, limits());
        let mut stalled = raw(&server, Kind::Seqpacket);
        (0..4).for_each(|id| give(&stalled, id, FILES));
        wait_for_stats(&server, |stats| stats.fds_in_flight == DESCRIPTORS);
        let mut other = raw(&server, Kind::Seqpacket);
        give(&other, 7, FILES);
        wait_for_stats(&server, |stats| stats.backlog == 1);
        ping(&mut other, 8);
        if goes {
            drop(stalled)
        } else {
            assert_eq!(take(&mut stalled).1, FILES)
        }
        let (reply, files) = take(&mut other);
        assert_eq!((&reply["id"], files), (&7.into(), FILES), "{reply}");
    }
    assert_open_fds(before);
}

#[test]
fn descriptors_sent_on_a_closed_connection_count_until_they_are_read() {
    alone!();
    let before = open_fds();
    for goes in [false, true] {
        let server = serve(Kind::Seqpacket, limits());
        let mut half = raw(&server, Kind::Seqpacket);
        (0..4).for_each(|id| give(&half, id, FILES));
        wait_for_stats(&server, |stats| stats.fds_in_flight == DESCRIPTORS);
        shutdown(half.as_fd(), Shutdown::Write).unwrap();
        let mut next = raw(&server, Kind::Seqpacket);
        give(&next, 7, FILES);
        wait_for_stats(&server, |stats| {
            let found = (stats.fds_in_flight, stats.backlog, stats.connections);
            found == (DESCRIPTORS, 1, 2) && stats.counts.closed == 1
        });
        if goes {
            drop(half)
        } else {
            for id in 0..4 {
                assert_eq!(take(&mut half).0["id"], id);
            }
            assert!(matches!(
                half.receive::<WithFds<Value>>(),
                Err(Error::Closed)
            ));
        }
        assert_eq!(take(&mut next).1, FILES);
        server.assert_busy_with(1);
    }
    assert_open_fds(before);
}

#[test]
fn a_reply_that_is_held_back_is_dropped_when_its_call_is_cancelled() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = serve(kind, limits());
        let mut client = raw(&server, kind);
        (0..4).for_each(|id| give(&client, id, FILES));
        (4..6).for_each(|id| give(&client, id, 1));
        wait_for_stats(&server, |stats| stats.backlog == 2);
        let cancel = r#"{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":4}}"#;
        send_raw(&client, cancel.as_bytes(), &[]).unwrap();
        wait_for_stats(&server, |stats| {
            (stats.backlog, stats.counts.cancelled) == (1, 1)
        });
        let ids = (0..6).map(|_| take(&mut client).0["id"].as_u64().unwrap());
        assert_eq!(ids.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    }
    assert_open_fds(before);
}

#[test]
fn a_reply_beyond_the_limit_of_held_back_ones_is_a_busy_fault_without_a_disconnect() {
    alone!();
    let before = open_fds();
    let server = serve(Kind::Seqpacket, limits());
    let mut clients: Vec<Socket> = (0..10).map(|_| raw(&server, Kind::Seqpacket)).collect();
    for (count, client) in (1..).zip(&mut clients) {
        give(client, 1, FILES);
        if count <= 8 {
            wait_for_stats(&server, |stats| {
                let found = (stats.fds_in_flight / FILES, stats.backlog);
                found == (count.min(4), count.saturating_sub(4))
            });
        } else {
            assert_eq!(receive(client)["error"]["code"], Fault::BUSY);
            ping(client, 2);
        }
    }
    assert_eq!(server.stats().counts.disconnected, 0);
    drop(clients);
    server.assert_busy_with(0);
    drop(server);
    assert_open_fds(before);
}

#[test]
fn a_large_reply_waits_for_the_one_before_and_small_ones_overtake_it() {
    /// Too large for any datagram.
    const LARGE: usize = 5_000_000;
    const TEXT: usize = LARGE + r#"{"jsonrpc":"2.0","id":5,"result":""}"#.len();
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.message = 16 << 20;
        // At the limit, below it, and where one alone exceeds it.
        for (bytes, together) in [(2 * TEXT, 2), (2 * TEXT - 1, 1), (TEXT - 1, 1), (0, 1)] {
            limits.user_backlog_bytes = bytes;
            let server = serve(kind, limits.clone());
            let mut client = raw(&server, kind);
            client.set_message_limit(16 << 20);
            let mut want: Vec<u64> = (0..=together).collect();
            let in_flight = want.len() - 1;
            for id in &want {
                let large = call(*id, "limits.make", &format!("[{LARGE}]"));
                send_raw(&client, large.as_bytes(), &[]).unwrap();
            }
            wait_for_stats(&server, |stats| {
                let found = (stats.fds_in_flight, stats.bytes_in_flight, stats.backlog);
                found == (in_flight, in_flight * TEXT, 1)
            });
            send_raw(&client, call(9, "limits.make", "[1]").as_bytes(), &[]).unwrap();
            server.finish_turn();
            let received = (0..together + 2).map(|_| receive(&mut client)["id"].as_u64().unwrap());
            // A connection is not read while its held-back replies use more than half of their limit.
            let place = match kind {
                Kind::Datagram => in_flight,
                _ => in_flight + 1,
            };
            want.insert(place, 9);
            assert_eq!(received.collect::<Vec<_>>(), want, "{kind:?} {bytes}");
            wait_for_stats(&server, |stats| {
                (stats.fds_in_flight, stats.bytes_in_flight, stats.backlog) == (0, 0, 0)
            });
        }
    }
    assert_open_fds(before);
}

/// Sends numbered items with descriptors.
#[jsoncomm::service(name = "test.files")]
trait Items {
    fn items(&mut self, call: &mut Call, count: usize) -> Stream<Item>;
}

#[derive(Debug, Message)]
struct Item {
    number: usize,
    #[fd]
    files: Vec<File>,
}

/// Requests this many descriptors, without an envelope.
#[derive(Debug, Message)]
#[message(reply = Item)]
enum Bare {
    Give { number: usize, files: usize },
}

struct Files;

fn item(number: usize, files: usize) -> Item {
    let null = |_| File::open("/dev/null").unwrap();
    let files = (0..files).map(null).collect();
    Item { number, files }
}

impl Items for Files {
    fn items(&mut self, call: &mut Call, count: usize) -> Stream<Item> {
        call.stream(|sink| sink.feed((0..count).map(|number| Ok(item(number, FILES)))))
    }
}

impl Handler<Bare> for Files {
    fn handle(&mut self, _call: &mut Call, ask: Bare, reply: Reply<Item>) {
        let Bare::Give { number, files } = ask;
        reply.send(item(number, files));
    }
}

#[test]
fn the_items_of_a_stream_and_its_end_stay_in_order() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = Running::with_limits(limits(), kind, Files, |endpoint| {
            endpoint.serve::<dyn Items>()
        });
        let client = ItemsClient::new(server.connect());
        let mut items = client.items(20).unwrap();
        for number in 0..20 {
            let item = items.next().unwrap().unwrap();
            assert_eq!((item.number, item.files.len()), (number, FILES));
            if number % 8 == 0 {
                // The limit is reached, and the next item is held back.
                let until = Instant::now() + PATIENCE;
                while server.stats().backlog == 0 && number < 12 {
                    assert!(Instant::now() < until, "{:?}", server.stats());
                }
            }
        }
        assert!(items.next().is_none(), "{kind:?}");
    }
    assert_open_fds(before);
}

#[test]
fn replies_without_an_envelope_stay_in_order_with_or_without_descriptors() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server =
            Running::with_limits(limits(), kind, Files, |endpoint| endpoint.bare::<Bare>());
        let mut client = Socket::connect(&server.path, kind).unwrap();
        client.set_timeout(Some(PATIENCE));
        for number in 0..8 {
            let files = if number < 6 { FILES } else { 0 };
            client.send(&Bare::Give { number, files }).unwrap();
        }
        let until = Instant::now() + PATIENCE;
        while server.stats().backlog == 0 {
            assert!(Instant::now() < until, "{:?}", server.stats());
        }
        for number in 0..8 {
            let item = client.receive::<Item>().unwrap().0;
            assert_eq!(item.number, number, "{kind:?}");
        }
    }
    assert_open_fds(before);
}

#[test]
fn held_back_replies_leave_the_server_idle() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits.sock");
        let mut limits = limits();
        // On a datagram socket they would be dropped.
        limits.retry_backoff = Duration::from_millis(50);
        let mut server = jsoncomm::Server::new(limits).unwrap();
        server.bind(&path, kind).unwrap().serve::<dyn Probe>();
        let clients: Vec<Socket> = (0..8)
            .map(|_| Socket::connect(&path, kind).unwrap())
            .collect();
        let mut state = State::default();
        for client in &clients {
            // More than are read from a connection with this many held back.
            for id in 0..3 {
                give(client, id, 2);
                let _ = server.run_once(&mut state, Some(Duration::ZERO)).unwrap();
            }
        }
        let began = Instant::now();
        let mut turns = 0;
        while began.elapsed() < Duration::from_millis(500) {
            let hundred = Some(Duration::from_millis(100));
            let _ = server.run_once(&mut state, hundred).unwrap();
            turns += 1;
        }
        let stats = server.stats();
        assert_eq!(stats.fds_in_flight, DESCRIPTORS, "{kind:?}");
        assert!(stats.backlog > 0, "{stats:?}");
        // A loop that spins has some ten thousand turns.
        assert!(turns < 200, "{turns} turns, {kind:?}");
    }
}
