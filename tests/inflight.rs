//! Several calls in flight on one connection: replies in any order, waits in any order.

use std::fs::File;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use jsoncomm::client::PendingCall;
use jsoncomm::message::Json;
use jsoncomm::socket::Socket;
use jsoncomm::{Call, CallError, Deferred, Kind, Message, Reply};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds};

/// Replies in pairs: each second call gets its reply first, and then the one before it.
#[jsoncomm::service(name = "example.swap")]
trait Swap {
    fn swap(&mut self, call: &mut Call, number: u32) -> Deferred<Paired>;
    fn plain(&mut self, number: u32) -> u32;
    fn large(&mut self, size: usize) -> String;
}

#[derive(Debug, Message)]
struct Paired {
    number: u32,
    #[fd]
    null: File,
}

#[derive(Debug, Default)]
struct Pairs {
    waiting: Option<(u32, Reply<Paired>)>,
}

fn paired(number: u32) -> Paired {
    let null = File::open("/dev/null");
    Paired {
        number,
        null: null.unwrap_or_else(|error| unreachable!("{error}")),
    }
}

impl Swap for Pairs {
    fn swap(&mut self, call: &mut Call, number: u32) -> Deferred<Paired> {
        call.defer(|reply| match self.waiting.take() {
            None => self.waiting = Some((number, reply)),
            Some((before, first)) => {
                reply.send(paired(number));
                first.send(paired(before));
            }
        })
    }

    fn plain(&mut self, number: u32) -> u32 {
        number
    }

    fn large(&mut self, size: usize) -> String {
        "x".repeat(size)
    }
}

fn start(kind: Kind) -> Running<Pairs> {
    Running::start(kind, Pairs::default(), |endpoint| {
        endpoint.serve::<dyn Swap>()
    })
}

/// Starts a server that has accepted a client. Returns the number of open descriptors then.
fn accepted(kind: Kind) -> (Running<Pairs>, SwapClient, usize) {
    let server = start(kind);
    let swap = SwapClient::new(server.connect());
    // A reply shows that the connection was accepted.
    assert_eq!(swap.plain(0).unwrap(), 0);
    let open = open_fds();
    (server, swap, open)
}

#[test]
fn each_reply_is_matched_to_its_call_in_any_order() {
    alone!();
    for kind in KINDS {
        let (_server, swap, before) = accepted(kind);
        let first = swap.start().swap(1).unwrap();
        let second = swap.start().swap(2).unwrap();
        // A blocking call between the others gets its own reply.
        assert_eq!(swap.plain(9).unwrap(), 9);
        assert_eq!(first.wait().unwrap().number, 1);
        assert_eq!(second.wait().unwrap().number, 2);
        // When the server replies to the next call, it has dropped what it sent before.
        assert_eq!(swap.plain(9).unwrap(), 9);
        assert_open_fds(before);
    }
}

#[test]
fn wait_any_returns_the_first_reply_and_wait_all_all_in_order() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let swap = SwapClient::new(server.connect()).start();
        let mut calls: Vec<_> = (0..4).map(|number| swap.swap(number).unwrap()).collect();
        let mut order = Vec::new();
        while let Some((_, reply)) = PendingCall::wait_any(&mut calls) {
            order.push(reply.unwrap().number);
        }
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
        let calls = (0..6).map(|number| swap.plain(number).unwrap());
        let replies: Vec<u32> = PendingCall::wait_all(calls.collect::<Vec<_>>())
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(replies, [0, 1, 2, 3, 4, 5]);
        assert!(PendingCall::<u32>::wait_any(&mut Vec::new()).is_none());
    }
}

#[test]
fn try_wait_never_blocks() {
    alone!();
    let server = start(Kind::Seqpacket);
    let swap = SwapClient::new(server.connect());
    let mut first = swap.start().swap(1).unwrap();
    assert_eq!(swap.plain(0).unwrap(), 0);
    assert!(first.try_wait().is_none());
    let mut second = swap.start().swap(2).unwrap();
    let until = Instant::now() + PATIENCE;
    let look = |call: &mut PendingCall<Paired>| loop {
        if let Some(reply) = call.try_wait() {
            break reply.unwrap().number;
        }
        assert!(Instant::now() < until);
    };
    assert_eq!(look(&mut second), 2);
    assert_eq!(look(&mut first), 1);
    assert!(matches!(first.try_wait(), Some(Err(CallError::Closed))));
}

#[test]
fn a_call_whose_reply_was_taken_is_closed() {
    alone!();
    let server = start(Kind::Seqpacket);
    let swap = SwapClient::new(server.connect()).start();
    let until = Instant::now() + PATIENCE;
    let given = || {
        let mut call = swap.plain(1).unwrap();
        while call.try_wait().is_none() {
            assert!(Instant::now() < until);
        }
        call
    };
    assert!(matches!(given().wait(), Err(CallError::Closed)));
    let (sender, receiver) = channel();
    given().on_complete(move |reply| sender.send(reply).unwrap());
    let reply = receiver.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
    let mut calls = vec![swap.plain(2).unwrap(), given()];
    let (place, reply) = PendingCall::wait_any(&mut calls).unwrap();
    assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
    assert_eq!((place, calls.remove(0).wait().unwrap()), (1, 2));
}

#[test]
fn a_deadline_ends_only_its_own_call() {
    alone!();
    let server = start(Kind::Seqpacket);
    let connection = server.connect();
    let hasty = SwapClient::new(connection.with_timeout(Duration::from_millis(5))).start();
    let patient = SwapClient::new(connection).start();
    let mut calls = vec![patient.swap(1).unwrap(), patient.swap(2).unwrap()];
    let (place, reply) = PendingCall::wait_any(&mut calls).unwrap();
    assert_eq!(
        (place, reply.unwrap().number),
        (1, 2),
        "it has its reply before the first"
    );
    assert_eq!(calls.remove(0).wait().unwrap().number, 1);
    // This call gets its reply only when another arrives.
    calls.push(hasty.swap(3).unwrap());
    let (place, reply) = PendingCall::wait_any(&mut calls).unwrap();
    assert!(matches!((place, reply), (0, Err(CallError::Deadline))));
    assert!(calls.is_empty());
}

#[test]
fn a_dropped_call_leaves_no_descriptor_behind() {
    alone!();
    for kind in KINDS {
        let (_server, swap, before) = accepted(kind);
        // One is dropped after its reply was received and stored, the other before.
        let first = swap.start().swap(1).unwrap();
        let second = swap.start().swap(2).unwrap();
        assert_eq!(swap.plain(0).unwrap(), 0);
        drop((first, second));
        drop((swap.start().swap(3).unwrap(), swap.start().swap(4).unwrap()));
        assert_eq!(swap.plain(1).unwrap(), 1);
        assert_eq!(swap.plain(2).unwrap(), 2);
        assert_open_fds(before);
    }
}

#[test]
fn more_calls_than_the_socket_has_room_for_all_get_replies() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let swap = SwapClient::new(server.connect()).start();
        let calls: Vec<_> = (0..5_000)
            .map(|number| swap.plain(number).unwrap())
            .collect();
        for (number, call) in (0..).zip(calls).backwards() {
            assert_eq!(call.wait().unwrap(), number);
        }
    }
    let server = start(Kind::Seqpacket);
    let swap = SwapClient::new(server.connect()).start();
    let calls: Vec<_> = (0..100).map(|_| swap.large(100_000).unwrap()).collect();
    assert!(
        calls
            .into_iter()
            .all(|call| call.wait().unwrap().len() == 100_000)
    );
}

/// Iterates in reverse order.
trait Backwards: Iterator + Sized {
    fn backwards(self) -> std::iter::Rev<std::vec::IntoIter<Self::Item>> {
        self.collect::<Vec<_>>().into_iter().rev()
    }
}

impl<I: Iterator> Backwards for I {}

#[test]
fn several_threads_share_a_connection_and_each_keeps_its_deadline() {
    alone!();
    let server = start(Kind::Seqpacket);
    let connection = server.connect();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let swap = SwapClient::new(connection.clone());
            scope.spawn(move || {
                for number in 0..200 {
                    let number = thread * 1_000 + number;
                    assert_eq!(swap.plain(number).unwrap(), number);
                }
            });
        }
    });
    let waiting = SwapClient::new(connection.clone()).start().swap(1).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| waiting.wait());
        let hasty = SwapClient::new(connection.with_timeout(Duration::ZERO));
        for number in 0..20 {
            // Whichever thread receives: this one keeps its timeout, and delays no other.
            let late = hasty.plain(number);
            assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
            assert_eq!(
                SwapClient::new(connection.clone()).plain(number).unwrap(),
                number
            );
        }
        let mut other = Socket::connect(&server.path, Kind::Seqpacket).unwrap();
        other.set_timeout(Some(PATIENCE));
        let call = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": "example.swap.swap", "params": [2],
        });
        other.send(&Json(call)).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().number, 1);
    });
}

#[test]
fn a_reply_is_never_matched_to_a_later_call_with_the_same_id() {
    alone!();
    // Ids are counted over all clones, and a cancelled call does not free its id.
    let server = start(Kind::Seqpacket);
    let connection = server.connect();
    let hasty = SwapClient::new(connection.with_timeout(Duration::ZERO));
    for number in 0..100 {
        let _ = hasty.plain(number);
        let swap = SwapClient::new(connection.clone());
        assert_eq!(swap.plain(number + 1_000).unwrap(), number + 1_000);
    }
}
