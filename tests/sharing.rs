//! Threads that share one connection: none waits for the call of another.

mod program;

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use jsoncomm::client::PendingCall;
use jsoncomm::message::Json;
use jsoncomm::socket::Socket;
use jsoncomm::stream::{Items, StreamSender};
use jsoncomm::{Call, CallError, Connection, Deferred, Error, Kind, Message, Reply, Stream};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, Slow, alone, assert_open_fds, nested, open_fds, pair, scaled,
    send_raw, wait_until,
};

/// Some calls get their reply at once, some when another call is made.
#[jsoncomm::service(name = "test.shared")]
trait Shared {
    fn quick(&mut self, number: u64) -> u64;
    /// Gets its reply from `give`.
    fn wait(&mut self, call: &mut Call, number: u64) -> Deferred<u64>;
    /// Returns how many calls of `wait` have no reply yet.
    fn waiting(&mut self) -> usize;
    /// Replies to them. Returns how many there were.
    fn give(&mut self) -> usize;
    #[oneway]
    fn note(&mut self, number: u64);
    /// Returns how many notes have arrived.
    fn notes(&mut self) -> u64;
    /// Sends the numbers below `end`.
    fn count(&mut self, call: &mut Call, end: u64) -> Stream<u64>;
    /// Returns a stream that never ends.
    fn open(&mut self, call: &mut Call) -> Stream<u64>;
    /// Returns the file.
    fn swap(&mut self, number: u64, #[fd] file: OwnedFd) -> Swapped;
}

#[derive(Debug, Message)]
struct Swapped {
    number: u64,
    #[fd]
    file: File,
}

#[derive(Default)]
struct State {
    kept: Vec<(u64, Reply<u64>)>,
    sinks: Vec<StreamSender<u64>>,
    notes: u64,
}

impl Shared for State {
    fn quick(&mut self, number: u64) -> u64 {
        number
    }

    fn wait(&mut self, call: &mut Call, number: u64) -> Deferred<u64> {
        call.defer(|reply| self.kept.push((number, reply)))
    }

    fn waiting(&mut self) -> usize {
        self.kept.len()
    }

    fn give(&mut self) -> usize {
        let kept = self.kept.drain(..);
        kept.map(|(number, reply)| reply.send(number)).count()
    }

    fn note(&mut self, _: u64) {
        self.notes += 1;
    }

    fn notes(&mut self) -> u64 {
        self.notes
    }

    fn count(&mut self, call: &mut Call, end: u64) -> Stream<u64> {
        call.stream(|sink| sink.feed((0..end).map(Ok)))
    }

    fn open(&mut self, call: &mut Call) -> Stream<u64> {
        call.stream(|sink| self.sinks.push(sink))
    }

    fn swap(&mut self, number: u64, file: OwnedFd) -> Swapped {
        let file = File::from(file);
        Swapped { number, file }
    }
}

fn start(kind: Kind) -> Running<State> {
    Running::start(kind, State::default(), |endpoint| {
        endpoint.serve::<dyn Shared>()
    })
}

/// Starts a thread that waits for a deferred reply. `give` of the returned client sends that reply.
fn waiting_thread(
    server: &Running<State>,
    connection: &Connection,
) -> (SharedClient, Receiver<Result<u64, CallError>>) {
    let other = SharedClient::new(server.connect());
    let (sender, receiver) = channel();
    let shared = SharedClient::new(connection.clone());
    std::thread::spawn(move || sender.send(shared.wait(7)));
    wait_until(|| other.waiting().unwrap() > 0);
    (other, receiver)
}

#[test]
fn a_waiting_call_does_not_delay_other_threads() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let (other, result) = waiting_thread(&server, &connection);
        let shared = SharedClient::new(connection);
        for number in 0..20 {
            assert_eq!(shared.quick(number).unwrap(), number);
            let call = shared.start().quick(number).unwrap();
            shared.note(number).unwrap();
            assert_eq!(call.wait().unwrap(), number);
            let mut call = shared.start().quick(number).unwrap();
            let until = Instant::now() + PATIENCE;
            let reply = loop {
                if let Some(reply) = call.try_wait() {
                    break reply;
                }
                assert!(Instant::now() < until);
            };
            assert_eq!(reply.unwrap(), number);
            let calls = [0, 1].map(|_| shared.start().quick(number).unwrap());
            let (_, reply) = PendingCall::wait_any(&mut Vec::from(calls)).unwrap();
            assert_eq!(reply.unwrap(), number);
        }
        let counted = shared.count(500).unwrap().map(Result::unwrap);
        assert!(counted.eq(0..500));
        let (sender, called) = channel();
        let call = shared.start().quick(9).unwrap();
        call.on_complete(move |reply| sender.send(reply).unwrap());
        assert_eq!(called.recv_timeout(PATIENCE).unwrap().unwrap(), 9);
        assert_eq!(shared.notes().unwrap(), 20);
        assert!(result.try_recv().is_err());
        assert_eq!(other.give().unwrap(), 1);
        assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap(), 7);
    }
}

#[test]
fn waiting_for_a_stream_item_does_not_delay_other_threads() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let shared = SharedClient::new(server.connect());
        let mut items = shared.open().unwrap();
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(items.next().is_some()));
        for number in 0..100 {
            assert_eq!(shared.quick(number).unwrap(), number);
            shared.note(number).unwrap();
        }
        assert!(receiver.try_recv().is_err());
        drop(server);
        assert!(receiver.recv_timeout(PATIENCE).unwrap());
    }
}

#[test]
fn several_threads_wait_for_replies_at_the_same_time() {
    alone!();
    const THREADS: u64 = 4;
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let other = SharedClient::new(server.connect());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let shared = SharedClient::new(connection.clone());
                scope.spawn(move || assert_eq!(shared.wait(thread).unwrap(), thread));
            }
            wait_until(|| other.waiting().unwrap() >= 4);
            other.give().unwrap();
        });
    }
}

#[test]
fn each_deadline_is_kept_whichever_thread_receives() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        std::thread::scope(|scope| {
            for thread in 1..6 {
                let hasty = connection.with_timeout(Duration::from_millis(20 * thread));
                scope.spawn(move || {
                    let reply = SharedClient::new(hasty).wait(thread);
                    assert!(matches!(reply, Err(CallError::Deadline)), "{reply:?}");
                });
            }
            let patient = SharedClient::new(connection.clone());
            let patient = scope.spawn(move || patient.wait(9));
            let other = SharedClient::new(server.connect());
            wait_until(|| other.waiting().unwrap() >= 6);
            // The other calls have ended before this one, so its own thread has to receive.
            let late = connection.with_timeout(Duration::from_millis(150));
            let late = SharedClient::new(late).wait(0);
            assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
            other.give().unwrap();
            assert_eq!(patient.join().unwrap().unwrap(), 9);
        });
    }
}

#[test]
fn all_waiting_threads_are_woken_by_a_hang_up() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect().without_timeout();
        let (sender, receiver) = channel();
        for thread in 0..5 {
            let (shared, sender) = (SharedClient::new(connection.clone()), sender.clone());
            std::thread::spawn(move || sender.send(shared.wait(thread)));
        }
        let other = SharedClient::new(server.connect());
        wait_until(|| other.waiting().unwrap() >= 5);
        drop(server);
        for _ in 0..5 {
            let reply = receiver.recv_timeout(PATIENCE).unwrap();
            let ended = matches!(reply, Err(CallError::Closed | CallError::Fault(_)));
            assert!(ended, "{reply:?}");
        }
    }
}

#[test]
fn a_thread_that_only_starts_calls_receives_under_backpressure() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let (other, result) = waiting_thread(&server, &connection);
        let shared = SharedClient::new(connection).start();
        let calls: Vec<_> = (0..3000).map(|n| shared.quick(n).unwrap()).collect();
        for (number, call) in (0..).zip(calls) {
            assert_eq!(call.wait().unwrap(), number);
        }
        other.give().unwrap();
        assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap(), 7);
    }
}

#[test]
fn a_callback_may_call_again_while_others_wait() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let (other, result) = waiting_thread(&server, &connection);
        let shared = SharedClient::new(connection);
        let (sender, called) = channel();
        let again = SharedClient::new(server.connect());
        let same = shared.clone();
        shared.start().quick(1).unwrap().on_complete(move |first| {
            // The thread that receives also runs the callback.
            let second = same.quick(2).unwrap();
            let third = again.quick(3).unwrap();
            sender.send((first.unwrap(), second, third)).unwrap();
        });
        assert_eq!(called.recv_timeout(PATIENCE).unwrap(), (1, 2, 3));
        other.give().unwrap();
        assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap(), 7);
    }
}

/// Counts its wake-ups, and polls again at once.
struct Eager {
    call: std::sync::Mutex<Option<PendingCall<u64>>>,
    polls: AtomicU64,
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        self.polls.fetch_add(1, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self));
        let mut call = self.call.lock().unwrap();
        let Some(pending) = &mut *call else { return };
        let polled = std::pin::Pin::new(pending).poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(reply) = polled {
            assert_eq!(reply.unwrap(), 5);
            *call = None;
        }
    }
}

#[test]
fn a_waker_that_polls_again_at_once_is_woken_once() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        connection.set_driven();
        let (other, result) = waiting_thread(&server, &connection);
        let call = SharedClient::new(connection.clone())
            .start()
            .wait(5)
            .unwrap();
        let eager = Arc::new(Eager {
            call: std::sync::Mutex::new(Some(call)),
            polls: AtomicU64::new(0),
        });
        // The first poll, while another thread receives.
        Arc::clone(&eager).wake();
        wait_until(|| other.waiting().unwrap() >= 2);
        for number in 0..100 {
            assert_eq!(other.quick(number).unwrap(), number);
        }
        assert_eq!(
            eager.polls.load(Ordering::SeqCst),
            1,
            "no reply has arrived"
        );
        other.give().unwrap();
        assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap(), 7);
        let until = Instant::now() + PATIENCE;
        while eager.call.lock().unwrap().is_some() {
            assert!(Instant::now() < until, "it is not woken");
            // The other thread may have had its reply first.
            connection.run_once().unwrap();
        }
        assert_eq!(eager.polls.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn deadlines_are_kept_while_unused_descriptors_are_slow_to_close() {
    alone!();
    for kind in KINDS {
        let (connection, mut far) = by_hand(kind);
        let call = connection.start::<u64, Infallible>("a.b", &(1,)).unwrap();
        let (Json(received), _) = far.receive::<Json<serde_json::Value>>().unwrap();
        let late = br#"{"jsonrpc":"2.0","id":1,"result":1}"#;
        // So many that the receiving thread has to close some itself in the end.
        let null = File::open("/dev/null").unwrap();
        let ends = [(); 2].map(|()| {
            let Slow { fd, end } = nested();
            send_raw(&far, late, &[fd.as_fd()]).unwrap();
            send_raw(&far, late, &[null.as_fd(); 150]).unwrap();
            end
        });
        let thread = std::thread::spawn(move || call.wait());
        // One of the three threads has to.
        let (sender, receiver) = channel();
        for _ in 0..2 {
            let (hasty, sender) = (
                connection.with_timeout(Duration::from_millis(50)),
                sender.clone(),
            );
            std::thread::spawn(move || {
                for _ in 0..2 {
                    let reply = hasty.call::<u64, Infallible>("a.b", &(2,));
                    let _ = sender.send(reply);
                }
            });
        }
        for _ in 0..2 {
            let reply = receiver.recv_timeout(PATIENCE).unwrap();
            assert!(matches!(reply, Err(CallError::Deadline)), "{reply:?}");
        }
        drop(ends);
        let reply = format!(r#"{{"jsonrpc":"2.0","id":{},"result":1}}"#, received["id"]);
        send_raw(&far, reply.as_bytes(), &[]).unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), 1);
    }
}

#[test]
fn a_callback_runs_for_each_item_while_its_thread_waits() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let shared = SharedClient::new(connection.clone());
        let items = shared.count(20_000).unwrap();
        let (sender, receiver) = channel();
        let mut next = 0;
        items.for_each(move |item| {
            match item {
                Some(item) => assert_eq!(item.unwrap(), next),
                None => sender.send(next).unwrap(),
            }
            next += 1;
            true
        });
        let hasty = connection.with_timeout(Duration::from_millis(20));
        let until = Instant::now() + scaled(PATIENCE);
        let count = loop {
            assert!(Instant::now() < until);
            // The items are not queued until it returns.
            assert!(SharedClient::new(hasty.clone()).wait(1).is_err());
            if let Ok(count) = receiver.try_recv() {
                break count;
            }
        };
        assert_eq!(count, 20_000);
    }
}

/// Deterministic pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Makes a call of a random kind, and checks its result.
fn one_of_all(shared: &SharedClient, random: &mut Random, called: &Arc<AtomicU64>) {
    let number = random.below(1 << 40);
    match random.below(10) {
        0 | 1 => assert_eq!(shared.quick(number).unwrap(), number),
        2 => {
            let calls = [0, 1, 2].map(|n| shared.start().quick(number + n).unwrap());
            let mut replies = PendingCall::wait_all(calls).into_iter().map(Result::unwrap);
            assert!((0..3).all(|n| replies.next() == Some(number + n)));
        }
        3 => {
            let swapped = shared
                .swap(number, File::open("/dev/null").unwrap())
                .unwrap();
            assert_eq!(swapped.number, number);
            drop(swapped.file);
        }
        4 => shared.note(number).unwrap(),
        5 => {
            let end = random.below(60);
            assert!(shared.count(end).unwrap().map(Result::unwrap).eq(0..end));
        }
        6 => {
            // Dropped in the middle.
            let mut items: Items<u64> = shared.count(100).unwrap();
            assert_eq!(items.next().unwrap().unwrap(), 0);
        }
        7 => drop(shared.start().quick(number).unwrap()),
        8 => {
            let called = Arc::clone(called);
            called.fetch_add(1, Ordering::SeqCst);
            shared
                .start()
                .quick(number)
                .unwrap()
                .on_complete(move |reply| {
                    assert_eq!(reply.unwrap(), number);
                    called.fetch_sub(1, Ordering::SeqCst);
                });
        }
        _ => {
            let mut calls: Vec<_> = (0..4).map(|n| shared.start().quick(n).unwrap()).collect();
            let mut sum = 0;
            while let Some((_, reply)) = PendingCall::wait_any(&mut calls) {
                sum += reply.unwrap();
            }
            assert_eq!(sum, 6);
        }
    }
}

#[test]
fn calls_of_all_kinds_from_many_threads_get_their_own_replies() {
    const THREADS: u64 = 6;
    const CALLS: u64 = 400;
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        SharedClient::new(connection.clone()).quick(0).unwrap();
        let before = open_fds();
        let called = Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let shared = SharedClient::new(connection.clone());
                let hasty = connection.with_timeout(Duration::from_millis(1 + thread));
                let called = Arc::clone(&called);
                scope.spawn(move || {
                    let mut random = Random(thread);
                    for _ in 0..CALLS {
                        one_of_all(&shared, &mut random, &called);
                        if random.below(50) == 0 {
                            let late = SharedClient::new(hasty.clone()).wait(0);
                            let unsent = matches!(late, Err(CallError::NotSent(Error::Deadline)));
                            assert!(
                                unsent || matches!(late, Err(CallError::Deadline)),
                                "{late:?}"
                            );
                        }
                    }
                });
            }
        });
        let shared = SharedClient::new(connection.clone());
        let until = Instant::now() + PATIENCE;
        while called.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < until, "a callback did not run");
            shared.quick(1).unwrap();
        }
        shared.give().unwrap();
        shared.quick(1).unwrap();
        assert_open_fds(before);
    }
}

#[test]
fn a_call_that_could_not_be_sent_fails_with_not_sent() {
    alone!();
    for kind in KINDS {
        let (near, far) = pair(kind);
        let near = near.as_fd().try_clone_to_owned().unwrap();
        let connection = Connection::from_fd(near).unwrap();
        let hasty = connection.with_timeout(Duration::from_millis(10));
        while hasty.notify("a.b", &("x".repeat(10_000),)).is_ok() {}
        let unsent = |error: &CallError| matches!(error, CallError::NotSent(Error::Deadline));
        let call = hasty.call::<u64, Infallible>("a.b", &(1,)).unwrap_err();
        assert!(unsent(&call), "{call:?}");
        assert_eq!(call.to_string(), "the call was not sent: deadline passed");
        let started = hasty.start::<u64, Infallible>("a.b", &(1,)).unwrap_err();
        assert!(unsent(&started), "{started:?}");
        let stream = hasty.stream::<u64, Infallible>("a.b", &(1,)).unwrap_err();
        assert!(unsent(&stream), "{stream:?}");
        drop(far);
    }
}

/// Returns a connection, and its other end, which the test drives.
fn by_hand(kind: Kind) -> (Connection, Socket) {
    let (near, far) = pair(kind);
    let near = near.as_fd().try_clone_to_owned().unwrap();
    let connection = Connection::from_fd(near).unwrap().with_timeout(PATIENCE);
    (connection, far)
}

#[test]
fn a_fault_without_an_id_ends_no_call_while_several_threads_wait() {
    alone!();
    for kind in KINDS {
        let (connection, mut far) = by_hand(kind);
        let threads = [1, 2].map(|number| {
            let connection = connection.clone();
            std::thread::spawn(move || connection.call::<u64, Infallible>("a.b", &(number,)))
        });
        let mut ids = Vec::new();
        for _ in 0..2 {
            let (Json(call), _) = far.receive::<Json<serde_json::Value>>().unwrap();
            ids.push((call["id"].clone(), call["params"][0].clone()));
        }
        let fault = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}"#;
        send_raw(&far, fault, &[]).unwrap();
        send_raw(&far, b"nonsense", &[]).unwrap();
        for (id, number) in ids.iter().rev() {
            let reply = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{number}}}"#);
            send_raw(&far, reply.as_bytes(), &[]).unwrap();
        }
        for (number, thread) in (1..).zip(threads) {
            assert_eq!(thread.join().unwrap().unwrap(), number);
        }
    }
}
