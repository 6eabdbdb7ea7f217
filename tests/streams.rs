//! Streams: items in order, with descriptors; ended, failed and cancelled.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use jsoncomm::stream::{Items, Overflow, SendError, StreamSender};
use jsoncomm::{Call, CallError, Connection, Error, Fault, Kind, Limits, Message, Stream};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, wait_until};

mod budgets;
mod loops;
mod raw;
mod slow_readers;

#[derive(Debug, Message, PartialEq, thiserror::Error)]
enum Trouble {
    #[error("no more than {items}")]
    NoMore { items: u32 },
}

#[derive(Debug, Message)]
struct Gift {
    number: u32,
    #[fd]
    file: File,
}

/// An item large enough to fill a socket soon.
#[derive(Debug, Message)]
struct Brick {
    number: u32,
    weight: String,
}

/// More items than any socket holds unread: 2 MiB are some hundred.
const MANY: u32 = 400;

fn brick(number: u32) -> Brick {
    let weight = "x".repeat(20_000);
    Brick { number, weight }
}

#[jsoncomm::service(name = "example.ticker")]
trait Ticker {
    /// Sends the numbers below `end`, as fast as they are read.
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32>;
    /// Sends files.
    fn gifts(&mut self, call: &mut Call, end: u32) -> Stream<Gift, Trouble>;
    /// Fails after `items`.
    fn fails(&mut self, call: &mut Call, items: u32) -> Stream<u32, Trouble>;
    /// Drops its sender after `items`.
    fn drops(&mut self, call: &mut Call, items: u32) -> Stream<u32>;
    /// Panics while the state holds its sender.
    fn panics(&mut self, call: &mut Call) -> Stream<Brick>;
    /// Sends the items that `lay` makes.
    fn bricks(&mut self, call: &mut Call, overflow: usize, capacity: usize) -> Stream<Brick>;
    /// Sends items to all open streams up to `end`, or until one is full. Returns the first refused number of each.
    fn lay(&mut self, end: u32) -> Vec<Option<u32>>;
    /// Ends these streams.
    fn finish(&mut self) -> u32;
    /// Returns how many of these streams are open, how often one had room again, and how many were cancelled.
    fn stats(&mut self) -> (u32, u32, u32);
    /// Moves the sender to another thread.
    fn away(&mut self, call: &mut Call) -> Stream<u32>;
    /// Replies at once.
    fn plain(&mut self, number: u32) -> u32;
}

#[derive(Default)]
struct Yard {
    walls: Vec<StreamSender<Brick>>,
    next: HashMap<usize, u32>,
    room: Arc<AtomicU32>,
    cancelled: Arc<AtomicU32>,
    away: Option<Sender<StreamSender<u32>>>,
}

fn tally(count: &Arc<AtomicU32>) -> impl FnOnce() + Send + 'static {
    let count = Arc::clone(count);
    move || {
        count.fetch_add(1, Ordering::SeqCst);
    }
}

impl Ticker for Yard {
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32> {
        call.stream(|sink| sink.feed((0..end).map(Ok)))
    }

    fn gifts(&mut self, call: &mut Call, end: u32) -> Stream<Gift, Trouble> {
        let gift = |number| Gift {
            number,
            file: File::open("/dev/zero").unwrap(),
        };
        call.stream(|sink| sink.feed((0..end).map(move |number| Ok(gift(number)))))
    }

    fn fails(&mut self, call: &mut Call, items: u32) -> Stream<u32, Trouble> {
        let numbers = (0..items).map(Ok);
        let trouble = std::iter::once_with(move || Err(Trouble::NoMore { items }));
        call.stream(|sink| sink.feed(numbers.chain(trouble)))
    }

    fn drops(&mut self, call: &mut Call, items: u32) -> Stream<u32> {
        call.stream(|sink: StreamSender<u32>| {
            for item in 0..items {
                sink.send(&item).unwrap();
            }
        })
    }

    fn panics(&mut self, call: &mut Call) -> Stream<Brick> {
        let stream = call.stream(|sink| self.walls.push(sink));
        match self.walls.len() {
            1.. => panic!("on purpose"),
            0 => stream,
        }
    }

    fn bricks(&mut self, call: &mut Call, overflow: usize, capacity: usize) -> Stream<Brick> {
        let overflow = [
            Overflow::Refuse,
            Overflow::Latest,
            Overflow::DropOldest,
            Overflow::End,
        ][overflow];
        let cancelled = tally(&self.cancelled);
        call.stream(|sink: StreamSender<Brick>| {
            sink.set_overflow(overflow);
            sink.set_capacity(capacity);
            sink.on_cancel(cancelled);
            self.walls.push(sink);
        })
    }

    fn lay(&mut self, end: u32) -> Vec<Option<u32>> {
        let mut refused = Vec::new();
        for (place, wall) in self.walls.iter().enumerate() {
            let next = self.next.entry(place).or_default();
            refused.push(loop {
                if *next == end {
                    break None;
                }
                match wall.send(&brick(*next)) {
                    Ok(()) => *next += 1,
                    Err(SendError::Full | SendError::Closed) => break Some(*next),
                    Err(other) => panic!("{other}"),
                }
            });
            wall.on_room(tally(&self.room));
        }
        refused
    }

    fn finish(&mut self) -> u32 {
        let walls = u32::try_from(self.walls.len()).unwrap();
        self.walls.drain(..).for_each(StreamSender::end);
        walls
    }

    fn stats(&mut self) -> (u32, u32, u32) {
        let wanted = self.walls.iter().filter(|wall| wall.is_wanted()).count();
        (
            u32::try_from(wanted).unwrap(),
            self.room.load(Ordering::SeqCst),
            self.cancelled.load(Ordering::SeqCst),
        )
    }

    fn away(&mut self, call: &mut Call) -> Stream<u32> {
        call.stream(|sink| self.away.as_ref().unwrap().send(sink).unwrap())
    }

    fn plain(&mut self, number: u32) -> u32 {
        number
    }
}

fn start(kind: Kind) -> Running<Yard> {
    Running::start(kind, Yard::default(), |endpoint| {
        endpoint.serve::<dyn Ticker>()
    })
}

fn numbers(items: Items<u32>) -> Vec<u32> {
    items.map(Result::unwrap).collect()
}

#[test]
fn items_arrive_in_order_and_then_the_end() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        for end in [0, 1, 2, 17, 18, 5000] {
            let want: Vec<u32> = (0..end).collect();
            assert_eq!(numbers(ticker.count(end).unwrap()), want, "{kind:?}");
        }
        let mut items = ticker.count(1).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), 0);
        assert!(!items.is_done());
        assert!(items.next().is_none());
        assert!(items.is_done());
        assert!(items.next().is_none() && items.try_next().is_none());
    }
}

#[test]
fn items_carry_descriptors_and_leak_none() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        assert_eq!(ticker.plain(1).unwrap(), 1);
        let before = open_fds();
        let mut seen = 0;
        for gift in ticker.gifts(300).unwrap() {
            let mut gift = gift.unwrap();
            assert_eq!(gift.number, seen);
            gift.file.read_exact(&mut [0; 8]).unwrap();
            seen += 1;
        }
        assert_eq!(seen, 300);
        // Also those of a stream that is dropped in the middle.
        let mut gifts = ticker.gifts(300).unwrap();
        assert_eq!(gifts.next().unwrap().unwrap().number, 0);
        drop(gifts);
        // The first may get its reply before the server has noticed the end.
        for number in 0..50 {
            assert_eq!(ticker.plain(number).unwrap(), number);
        }
        assert_open_fds(before);
    }
}

#[test]
fn a_stream_that_fails_yields_its_items_and_then_the_error() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        for items in [0, 1, 100] {
            let mut stream = ticker.fails(items).unwrap();
            for item in 0..items {
                assert_eq!(stream.next().unwrap().unwrap(), item);
            }
            match stream.next() {
                Some(Err(CallError::Service(trouble))) => {
                    assert_eq!(trouble, Trouble::NoMore { items });
                }
                other => panic!("{other:?}"),
            }
            assert!(stream.next().is_none());
        }
    }
}

#[test]
fn a_dropped_sender_ends_the_stream_with_a_fault() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        let mut stream = ticker.drops(3).unwrap();
        for item in 0..3 {
            assert_eq!(stream.next().unwrap().unwrap(), item);
        }
        let fault = stream.next().unwrap().unwrap_err();
        assert!(matches!(&fault, CallError::Fault(fault) if fault.code == Fault::NO_REPLY));
        assert!(stream.next().is_none());
        let fault = ticker.panics().unwrap().next().unwrap().unwrap_err();
        assert!(matches!(&fault, CallError::Fault(fault) if fault.code == Fault::INTERNAL_ERROR));
        assert_eq!(ticker.stats().unwrap().0, 0, "a stream is still open");
    }
}

#[test]
fn dropping_the_iterator_cancels_the_sender() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        let mut first = ticker.bricks(0, 4).unwrap();
        let mut second = ticker.bricks(0, 4).unwrap();
        assert_eq!(ticker.lay(2).unwrap(), [None, None]);
        assert_eq!(first.next().unwrap().unwrap().number, 0);
        assert_eq!(ticker.stats().unwrap().0, 2);
        drop(first);
        assert_eq!(ticker.stats().unwrap().0, 1);
        assert_eq!(ticker.stats().unwrap().2, 1);
        assert_eq!(ticker.lay(3).unwrap(), [Some(2), None]);
        assert_eq!(ticker.finish().unwrap(), 2);
        for number in 0..3 {
            assert_eq!(second.next().unwrap().unwrap().number, number);
        }
        assert!(second.next().is_none());
        let (_, counts) = server.stop();
        assert_eq!(counts.cancelled, 1);
    }
}

#[test]
fn a_hang_up_cancels_the_sender() {
    alone!();
    let server = start(Kind::Seqpacket);
    let ticker = TickerClient::new(server.connect());
    let other = TickerClient::new(server.connect());
    let _stream = ticker.bricks(0, 4).unwrap();
    assert_eq!(ticker.stats().unwrap().0, 1);
    drop((_stream, ticker));
    wait_until(|| other.stats().unwrap().2 > 0);
    assert_eq!(other.stats().unwrap().0, 0);
}

#[test]
fn a_timeout_for_an_item_does_not_end_the_stream() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        let mut stream = ticker
            .bricks(0, 4)
            .unwrap()
            .with_timeout(Duration::from_millis(1));
        assert!(matches!(stream.next(), Some(Err(CallError::Deadline))));
        assert!(stream.try_next().is_none() && !stream.is_done());
        ticker.lay(1).unwrap();
        let mut stream = stream.without_timeout();
        assert_eq!(stream.next().unwrap().unwrap().number, 0);
        ticker.finish().unwrap();
        assert!(stream.next().is_none());
    }
}

#[test]
fn streams_and_calls_share_a_connection() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let (ticker, other) = (
            TickerClient::new(connection.clone()),
            TickerClient::new(connection).start(),
        );
        let mut first = ticker.count(50).unwrap();
        let mut second = other.count(50).unwrap();
        for number in 0..50 {
            let pending = other.plain(number).unwrap();
            assert_eq!(second.next().unwrap().unwrap(), number);
            assert_eq!(ticker.plain(number + 1).unwrap(), number + 1);
            assert_eq!(first.next().unwrap().unwrap(), number);
            assert_eq!(pending.wait().unwrap(), number);
        }
        assert!(first.next().is_none() && second.next().is_none());
    }
}

#[test]
fn a_stream_that_is_not_read_ends_and_uses_bounded_memory() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        let stream = ticker.count(1_000_000).unwrap();
        // Each call receives the items that have arrived.
        for number in 0..2000 {
            assert_eq!(ticker.plain(number).unwrap(), number);
        }
        let mut error = None;
        let mut read = 0;
        for item in stream {
            match item {
                Ok(item) => {
                    assert_eq!(item, read);
                    read += 1;
                }
                Err(other) => error = Some(other),
            }
        }
        assert!(
            matches!(error, Some(CallError::Io(Error::Full))),
            "{kind:?}: {error:?} after {read}"
        );
        assert_eq!(read, 1024);
        assert_eq!(ticker.plain(7).unwrap(), 7);
    }
}

#[test]
fn another_thread_can_send_items() {
    alone!();
    for kind in KINDS {
        let (away, sinks) = mpsc::channel::<StreamSender<u32>>();
        let yard = Yard {
            away: Some(away),
            ..Yard::default()
        };
        let server = Running::start(kind, yard, |endpoint| endpoint.serve::<dyn Ticker>());
        let worker = std::thread::spawn(move || {
            let sink = sinks.recv_timeout(PATIENCE).unwrap();
            let (sender, room) = mpsc::channel();
            let mut number = 0;
            while number < 3000 {
                match sink.send(&number) {
                    Ok(()) => number += 1,
                    Err(SendError::Full) => {
                        let sender = sender.clone();
                        sink.on_room(move || sender.send(()).unwrap());
                        room.recv_timeout(PATIENCE).unwrap();
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            // The rest from this thread, whichever thread sends them.
            sink.feed((3000..6000).map(Ok));
        });
        let ticker = TickerClient::new(server.connect());
        let want: Vec<u32> = (0..6000).collect();
        assert_eq!(numbers(ticker.away().unwrap()), want);
        worker.join().unwrap();
    }
}

#[test]
fn a_stream_counts_as_one_deferred_call_while_it_lasts() {
    alone!();
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.deferred = 2;
        let server = Running::with_limits(limits, kind, Yard::default(), |endpoint| {
            endpoint.serve::<dyn Ticker>()
        });
        let ticker = TickerClient::new(server.connect());
        let _first = ticker.bricks(0, 4).unwrap();
        let second = ticker.bricks(0, 4).unwrap();
        let busy = |mut stream: Items<Brick>| match stream.next() {
            Some(Err(CallError::Fault(fault))) => fault.code == Fault::BUSY,
            _ => false,
        };
        assert!(busy(ticker.bricks(0, 4).unwrap()));
        drop(second);
        let mut third = ticker.bricks(0, 4).unwrap();
        ticker.lay(1).unwrap();
        assert_eq!(third.next().unwrap().unwrap().number, 0);
    }
}

#[test]
fn a_server_that_stops_ends_its_streams() {
    alone!();
    let server = start(Kind::Seqpacket);
    let ticker = TickerClient::new(server.connect());
    let mut stream = ticker.bricks(0, 4).unwrap();
    ticker.lay(1).unwrap();
    drop(server);
    assert_eq!(stream.next().unwrap().unwrap().number, 0);
    assert!(matches!(stream.next(), Some(Err(CallError::Closed))));
    assert!(stream.next().is_none());
}

#[test]
fn a_connection_can_stream_without_a_stub() {
    alone!();
    let server = start(Kind::Seqpacket);
    let connection: Connection = server.connect();
    #[derive(Message)]
    struct End {
        end: u32,
    }
    let items: Items<u32> = connection
        .stream("example.ticker.count", &End { end: 3 })
        .unwrap();
    assert_eq!(numbers(items), [0, 1, 2]);
}
