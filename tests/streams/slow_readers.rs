//! Streams that are faster than their reader: overflow policies, and bounded memory.

use std::time::Instant;

use jsoncomm::stream::Items;
use jsoncomm::{CallError, Fault, Kind};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone};

use super::{Brick, MANY, TickerClient, Yard, start};

/// Sends items from another connection until they are refused, while the reader does not read.
fn fill(
    (server, kind): (&Running<Yard>, Kind),
    overflow: usize,
    end: u32,
) -> (TickerClient, Items<Brick>, Option<u32>) {
    let ticker = TickerClient::new(server.connect());
    let mason = TickerClient::new(server.connect());
    let stream = ticker.bricks(overflow, 4).unwrap();
    assert_eq!(ticker.plain(0).unwrap(), 0);
    // Items beyond the buffer are refused until the handler has returned. Then the socket takes more.
    // On a datagram socket such a reader would block all replies, also those to the other client.
    let mut refused = None;
    loop {
        let again = mason.lay(end).unwrap()[0];
        if again == refused || again.is_none() || kind == Kind::Datagram {
            return (mason, stream, again);
        }
        refused = again;
    }
}

#[test]
fn a_slow_reader_causes_backpressure_and_nothing_is_lost() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let (mason, mut stream, refused) = fill((&server, kind), 0, MANY);
        let mut refused = refused.unwrap();
        assert!(refused < MANY, "no item was refused");
        // It continues whenever there is room again.
        let mut read = 0;
        while read < MANY {
            let (_, room, _) = mason.stats().unwrap();
            refused = mason.lay(MANY).unwrap()[0].unwrap_or(MANY);
            while read < refused {
                assert_eq!(stream.next().unwrap().unwrap().number, read);
                read += 1;
            }
            let until = Instant::now() + PATIENCE;
            while mason.stats().unwrap().1 == room {
                assert!(Instant::now() < until, "{kind:?}: on_room did not run");
            }
        }
        mason.finish().unwrap();
        assert!(stream.next().is_none());
        let (_, counts) = server.stop();
        assert_eq!(counts.undelivered, 0);
    }
}

#[test]
fn a_slow_reader_gets_the_latest_item_if_the_policy_is_latest() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let (mason, stream, refused) = fill((&server, kind), 1, MANY);
        assert_eq!(refused, None);
        mason.finish().unwrap();
        let seen: Vec<u32> = stream.map(|brick| brick.unwrap().number).collect();
        assert_eq!(seen.last(), Some(&(MANY - 1)));
        assert!(seen.is_sorted() && seen.len() < MANY as usize);
        // Those in the socket, those being sent, and the newest.
        let gap = seen
            .windows(2)
            .filter(|pair| pair[1] != pair[0] + 1)
            .count();
        assert_eq!(gap, 1, "{seen:?}");
        let (_, counts) = server.stop();
        assert_eq!(counts.undelivered, (MANY as usize - seen.len()) as u64);
    }
}

#[test]
fn a_slow_reader_gets_the_last_items_if_the_policy_is_drop_oldest() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let (mason, stream, refused) = fill((&server, kind), 2, MANY);
        assert_eq!(refused, None);
        mason.finish().unwrap();
        let seen: Vec<u32> = stream.map(|brick| brick.unwrap().number).collect();
        let tail = &seen[seen.len() - 4..];
        assert_eq!(tail, [MANY - 4, MANY - 3, MANY - 2, MANY - 1]);
        assert_ne!(seen[seen.len() - 5], MANY - 5);
        let (_, counts) = server.stop();
        assert_eq!(counts.undelivered, (MANY as usize - seen.len()) as u64);
    }
}

#[test]
fn a_slow_reader_ends_the_stream_if_the_policy_is_end() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let (mason, stream, refused) = fill((&server, kind), 3, MANY);
        let refused = refused.unwrap();
        assert_eq!(mason.stats().unwrap().0, 0, "the stream has ended");
        let mut seen = 0;
        for brick in stream {
            match brick {
                Ok(brick) => {
                    assert_eq!(brick.number, seen);
                    seen += 1;
                }
                Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::BUSY),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(seen, refused);
    }
}
