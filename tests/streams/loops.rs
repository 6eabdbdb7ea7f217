//! Streams that are driven by a loop or awaited.

use std::convert::Infallible;
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::streams::{TickerClient, start};
use jsoncomm::stream::{Overflow, Subscribers};
use jsoncomm::{Call, CallError, Connection, Error, Limits, Message, Server, Stream};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, wait_until};
use rustix::event::{PollFd, PollFlags, poll};

/// Forwards the stream of another server.
#[jsoncomm::service(name = "example.relay")]
trait Relay {
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32>;
}

struct Middle {
    ticker: TickerClient,
}

impl Relay for Middle {
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32> {
        call.stream(|sink: jsoncomm::stream::StreamSender<u32>| {
            sink.set_capacity(100_000);
            let mut sink = Some(sink);
            let items = self.ticker.count(end).unwrap();
            items.for_each(move |item| {
                match (item, sink.take()) {
                    (Some(Ok(number)), Some(open)) => {
                        open.send(&number).unwrap();
                        sink = Some(open);
                    }
                    (None, Some(open)) => open.end(),
                    (other, _) => panic!("{other:?}"),
                }
                true
            });
        })
    }
}

#[test]
fn an_event_loop_that_drives_the_connection_gets_each_item() {
    alone!();
    for kind in KINDS {
        let behind = start(kind);
        let connection = behind.connect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("middle.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        server.bind(&path, kind).unwrap().serve::<dyn Relay>();
        server.drive(&connection).unwrap();
        let handle = server.handle();
        let thread = std::thread::spawn(move || {
            let ticker = TickerClient::new(connection);
            server.run(&mut Middle { ticker }).unwrap();
        });
        let relay = RelayClient::new(Connection::open(&path).unwrap().with_timeout(PATIENCE));
        let want: Vec<u32> = (0..2000).collect();
        let got: Vec<u32> = relay.count(2000).unwrap().map(Result::unwrap).collect();
        assert_eq!(got, want);
        handle.stop();
        thread.join().unwrap();
    }
}

#[test]
fn an_item_callback_can_end_the_stream() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        let items = ticker.bricks(0, 4).unwrap();
        let (sender, receiver) = mpsc::channel();
        items.for_each(move |brick| {
            let number = brick.unwrap().unwrap().number;
            sender.send(number).unwrap();
            number < 1
        });
        ticker.lay(4).unwrap();
        // Calls receive the items, and their thread runs the callback.
        wait_until(|| ticker.stats().unwrap().2 > 0);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1]);
    }
}

/// Publishes temperatures.
#[jsoncomm::service(name = "example.thermometer")]
trait Thermometer {
    fn changes(&mut self, call: &mut Call) -> Stream<i32>;
    /// Returns the temperature.
    fn degrees(&mut self) -> i32;
    /// Sets the temperature, and publishes it. Returns the number of subscribers.
    fn warm(&mut self, degrees: i32) -> usize;
}

#[derive(Default)]
struct Room {
    degrees: i32,
    subscribers: Subscribers<i32>,
}

impl Thermometer for Room {
    fn changes(&mut self, call: &mut Call) -> Stream<i32> {
        call.stream(|sink| {
            sink.set_overflow(Overflow::Latest);
            self.subscribers.add(sink);
        })
    }

    fn degrees(&mut self) -> i32 {
        self.degrees
    }

    fn warm(&mut self, degrees: i32) -> usize {
        self.degrees += degrees;
        self.subscribers.send(&self.degrees).unwrap()
    }
}

#[test]
fn a_server_pushes_items_to_its_subscribers() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, Room::default(), |endpoint| {
            endpoint.serve::<dyn Thermometer>()
        });
        let [one, two, three] = [(); 3].map(|()| ThermometerClient::new(server.connect()));
        let mut first = one.changes().unwrap();
        let mut second = two.changes().unwrap();
        // A reply shows that the previous subscription is registered.
        assert_eq!(one.degrees().unwrap() + two.degrees().unwrap(), 0);
        for caller in [&one, &two, &three] {
            assert_eq!(caller.warm(1).unwrap(), 2, "{kind:?}");
        }
        // Items that arrived during its own calls, and later ones. Some may be missing, but not the newest.
        for items in [&mut first, &mut second] {
            let mut last = 0;
            while last < 3 {
                let next = items.next().unwrap().unwrap();
                assert!(next > last, "{next} after {last}");
                last = next;
            }
        }
        drop(second);
        // The server notices it before the next call of the same peer.
        assert_eq!(two.warm(1).unwrap(), 1);
        assert_eq!(first.next().unwrap().unwrap(), 4);
    }
}

/// Runs a future on this thread. Its waker unparks the thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let until = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let left = until.checked_duration_since(Instant::now());
        std::thread::park_timeout(left.expect("it takes for ever"));
    }
}

/// Drives a connection on another thread while `test` runs.
fn driven<T>(connection: &Connection, test: impl FnOnce() -> T) -> T {
    connection.set_driven();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let pause = rustix::time::Timespec {
                    tv_sec: 0,
                    tv_nsec: 10_000_000,
                };
                let fd = connection.as_fd();
                let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&pause));
                if connection.run_once().is_err() {
                    return;
                }
            }
        });
        let result = test();
        stop.store(true, Ordering::SeqCst);
        result
    })
}

#[test]
fn calls_and_streams_can_be_awaited() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let ticker = TickerClient::new(connection.clone()).start();
        let sum = driven(&connection, || {
            block_on(async {
                let mut sum = ticker.plain(1).unwrap().await.unwrap();
                let mut items = ticker.count(1000).unwrap();
                while let Some(number) = poll_fn(|cx| items.poll_next(cx)).await {
                    sum += number.unwrap();
                }
                sum + ticker.plain(1).unwrap().await.unwrap()
            })
        });
        assert_eq!(sum, 999 * 500 + 2);
    }
}

#[derive(Message)]
struct Wall {
    overflow: usize,
    capacity: usize,
}

#[test]
fn an_awaited_call_ends_at_its_deadline_and_with_its_server() {
    alone!();
    let server = start(jsoncomm::Kind::Seqpacket);
    let connection = server.connect();
    let hasty = connection.with_timeout(std::time::Duration::from_millis(1));
    let ticker = TickerClient::new(connection.clone()).start();
    driven(&connection, || {
        // It sends no item until `lay` is called.
        let wall = Wall {
            overflow: 0,
            capacity: 1,
        };
        let late = hasty.start::<u32, Infallible>("example.ticker.bricks", &wall);
        let late = block_on(late.unwrap());
        assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
        let pending = ticker.plain(1).unwrap();
        assert_eq!(block_on(pending).unwrap(), 1);
        let mut items = TickerClient::new(connection.clone()).bricks(0, 1).unwrap();
        drop(server);
        let end = block_on(poll_fn(|cx| items.poll_next(cx)));
        assert!(matches!(end, Some(Err(CallError::Closed))), "{end:?}");
    });
}

#[test]
fn awaiting_on_a_connection_that_is_not_driven_is_an_error() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let ticker = TickerClient::new(connection.clone());
        let not_driven = |error: &_| matches!(error, CallError::Io(Error::NotDriven));
        let error = block_on(ticker.start().plain(1).unwrap()).unwrap_err();
        assert!(not_driven(&error), "{error:?}");
        assert!(error.to_string().contains("Server::drive"), "{error}");
        let mut items = ticker.bricks(0, 4).unwrap();
        let item = block_on(poll_fn(|cx| items.poll_next(cx)));
        let error = item.unwrap().unwrap_err();
        assert!(not_driven(&error), "{error:?}");
        assert!(items.is_done());
        // The server is notified.
        wait_until(|| ticker.stats().unwrap().2 > 0);
        // What has arrived can be read.
        let call = ticker.start().plain(2).unwrap();
        assert_eq!(ticker.plain(3).unwrap(), 3);
        assert_eq!(block_on(call).unwrap(), 2);
    }
}
