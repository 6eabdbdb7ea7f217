//! Slow streams that share the backlog of one user.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::streams::{Brick, MANY, brick, tally};
use jsoncomm::address::Address;
use jsoncomm::message::Json;
use jsoncomm::socket::Socket;
use jsoncomm::stream::{Items, Overflow, SendError, StreamSender};
use jsoncomm::{Call, Fault, Kind, Limits, Stream};
use jsoncomm_tests::{PATIENCE, Running, alone};
use serde_json::{Value, json};

/// Streams more than its readers read.
#[jsoncomm::service(name = "example.quarry")]
trait Quarry {
    /// Sends items from an iterator.
    fn feed(&mut self, call: &mut Call, end: u32) -> Stream<Brick>;
    /// Sends as many items as there is room for at once, and then no more.
    fn heap(&mut self, call: &mut Call) -> Stream<Brick>;
    /// Sends all items at once. The newest replaces all that wait, or the oldest.
    fn pile(&mut self, call: &mut Call, end: u32, of_oldest: bool) -> Stream<Brick>;
    /// Returns how many items were made, and how many were refused although there was room.
    fn stats(&mut self) -> (u32, u32);
    /// Ends the streams of `heap`.
    fn finish(&mut self) -> u32;
}

#[derive(Default)]
struct Pit {
    made: Arc<AtomicU32>,
    refused: u32,
    heaps: Vec<StreamSender<Brick>>,
}

impl Quarry for Pit {
    fn feed(&mut self, call: &mut Call, end: u32) -> Stream<Brick> {
        let made = Arc::clone(&self.made);
        let bricks = (0..end).map(move |number| {
            tally(&made)();
            Ok(brick(number))
        });
        call.stream(|sink| sink.feed(bricks))
    }

    fn heap(&mut self, call: &mut Call) -> Stream<Brick> {
        call.stream(|sink: StreamSender<Brick>| {
            sink.set_capacity(MANY as usize);
            for number in 0.. {
                if !sink.has_room() {
                    break;
                }
                match sink.send(&brick(number)) {
                    Ok(()) => tally(&self.made)(),
                    Err(SendError::Full) => {
                        self.refused += 1;
                        break;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            self.heaps.push(sink);
        })
    }

    fn pile(&mut self, call: &mut Call, end: u32, of_oldest: bool) -> Stream<Brick> {
        call.stream(|sink: StreamSender<Brick>| {
            sink.set_overflow(if of_oldest {
                Overflow::DropOldest
            } else {
                Overflow::Latest
            });
            for number in 0..end {
                sink.send(&brick(number)).unwrap();
            }
            sink.end();
        })
    }

    fn stats(&mut self) -> (u32, u32) {
        (self.made.load(Ordering::SeqCst), self.refused)
    }

    fn finish(&mut self) -> u32 {
        let heaps = u32::try_from(self.heaps.len()).unwrap();
        self.heaps.drain(..).for_each(StreamSender::end);
        heaps
    }
}

/// Starts a server with this backlog in bytes for all streams of a user: a few items of 20 kB.
fn start(bytes: usize) -> Running<Pit> {
    let mut limits = Limits::default();
    limits.user_backlog_bytes = bytes;
    Running::with_limits(limits, Kind::Seqpacket, Pit::default(), |endpoint| {
        endpoint.serve::<dyn Quarry>()
    })
}

fn numbers(items: Items<Brick>) -> Vec<u32> {
    items.map(|brick| brick.unwrap().number).collect()
}

#[test]
fn items_are_requested_only_within_the_backlog_of_the_user_and_none_is_lost() {
    alone!();
    let server = start(200_000);
    let quarry = QuarryClient::new(server.connect());
    let readers = [(); 4].map(|()| QuarryClient::new(server.connect()));
    let streams = readers.each_ref().map(|reader| reader.feed(MANY).unwrap());
    // Each call has been handled, and no client reads.
    server.finish_turn();
    let mut made = 0;
    loop {
        let again = quarry.stats().unwrap().0;
        if again == made {
            break;
        }
        made = again;
    }
    assert!(made < 4 * MANY, "{made} items were made without room");
    let all: Vec<u32> = (0..MANY).collect();
    for stream in streams {
        assert_eq!(numbers(stream), all);
    }
    let (_, counts) = server.stop();
    assert_eq!((counts.undelivered, counts.disconnected), (0, 0));
}

#[test]
fn an_item_is_accepted_after_room_was_reported() {
    alone!();
    for bytes in [0, 1, 30_000, 50_000] {
        let server = start(bytes);
        let quarry = QuarryClient::new(server.connect());
        let heap = quarry.heap().unwrap();
        let (made, refused) = quarry.stats().unwrap();
        assert_eq!(refused, 0, "{bytes}");
        assert_eq!(quarry.finish().unwrap(), 1);
        assert_eq!(numbers(heap), (0..made).collect::<Vec<u32>>());
        assert_eq!(server.stop().1.undelivered, 0);
    }
}

#[test]
fn the_newest_item_has_the_room_of_the_item_it_replaces() {
    alone!();
    let server = start(30_000);
    let quarry = QuarryClient::new(server.connect());
    for of_oldest in [true, false] {
        for end in [10, 11] {
            let pile = quarry.pile(end, of_oldest).unwrap();
            // One is being sent, and one waits.
            assert_eq!(numbers(pile), [0, end - 1]);
        }
    }
}

#[test]
fn a_stream_whose_item_exceeds_the_backlog_of_a_datagram_peer_ends_once() {
    alone!();
    let mut limits = Limits::default();
    // One item of the first stream may wait for the peer, and the fault of the second.
    limits.backlog_bytes = 21_000;
    let server = Running::with_limits(limits, Kind::Datagram, Pit::default(), |endpoint| {
        endpoint.serve::<dyn Quarry>()
    });
    let mut peer = Socket::unconnected().unwrap();
    peer.set_timeout(Some(PATIENCE));
    let address = Address::from(&server.path);
    let ask = |peer: &mut Socket, id: u32, method: &str, params: &[u32]| {
        let method = format!("example.quarry.{method}");
        let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        peer.send_to(&Json(call), &address).unwrap();
    };
    for id in [1, 2] {
        ask(&mut peer, id, "feed", &[30]);
    }
    // Both have been handled when another call gets its reply, and the peer has read nothing.
    QuarryClient::new(server.connect()).stats().unwrap();
    let receive = |peer: &mut Socket| {
        let Json(reply): Json<Value> = peer.receive().unwrap().0;
        reply
    };
    let mut ends = Vec::new();
    while !ends.iter().any(|end: &Value| end["id"] == 1) {
        let reply = receive(&mut peer);
        if reply["more"] != true {
            ends.push(reply);
        }
    }
    // The next message is the reply to the next call.
    ask(&mut peer, 3, "finish", &[]);
    ends.push(receive(&mut peer));
    let ids: Vec<_> = ends.iter().map(|end| end["id"].clone()).collect();
    assert_eq!(ids, [2, 1, 3], "{ends:?}");
    assert_eq!(ends[0]["error"]["code"], Fault::BUSY);
    assert!(ends[1]["result"].is_null() && ends[1]["error"].is_null());
}
