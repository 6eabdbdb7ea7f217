//! Replies after their handler has returned: deferred, cancelled, expired, from other threads.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jsoncomm::client::PendingCall;
use jsoncomm::message::Json;
use jsoncomm::socket::Socket;
use jsoncomm::{Call, CallError, Deferred, Fault, Kind, Limits, Message, Reply};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, wait_until};

#[derive(Debug, Message, PartialEq, thiserror::Error)]
enum Trouble {
    #[error("no luck")]
    NoLuck,
}

#[derive(Debug, Message)]
struct Gift {
    number: u32,
    #[fd]
    file: Option<File>,
}

/// Keeps deferred replies until it is told to send them.
#[jsoncomm::service(name = "example.keeper")]
trait Keeper {
    /// Gets its reply from `give`.
    fn keep(&mut self, call: &mut Call, number: u32) -> Deferred<Gift, Trouble>;
    /// Gets its reply at once, although it could be deferred.
    fn now(&mut self, call: &mut Call, number: u32) -> Deferred<Gift, Trouble>;
    /// Replies to all kept calls in reverse order. Returns how many were not cancelled.
    fn give(&mut self) -> u32;
    /// Drops all kept replies.
    fn lose(&mut self) -> u32;
    /// Blocks longer than its caller waits.
    fn slow(&mut self, call: &mut Call) -> Result<u32, Trouble>;
    /// Returns how many calls were cancelled, and the timeout of the last caller in milliseconds.
    fn stats(&mut self, call: &mut Call) -> (u32, u64);
    /// Takes its reply, sends 2 if `at_once`, and returns 1.
    fn both(&mut self, call: &mut Call, at_once: bool) -> u32;
    /// Returns the `Deferred` of an earlier call.
    fn spare(&mut self, call: &mut Call) -> Deferred<Gift, Trouble>;
    /// Panics after its reply has been moved elsewhere.
    fn panics(&mut self, call: &mut Call) -> Deferred<Gift, Trouble>;
}

#[derive(Default)]
struct Shelf {
    kept: Vec<(u32, Reply<Gift, Trouble>)>,
    cancelled: Arc<AtomicU32>,
    /// Where replies go that another thread sends.
    away: Option<Sender<(u32, Reply<Gift, Trouble>)>>,
    slow: Option<Receiver<()>>,
    spare: Option<Deferred<Gift, Trouble>>,
    both: Option<Reply<u32>>,
}

fn gift(number: u32) -> Gift {
    let file = (number % 2 == 0).then(|| File::open("/dev/null").unwrap());
    Gift { number, file }
}

impl Keeper for Shelf {
    fn keep(&mut self, call: &mut Call, number: u32) -> Deferred<Gift, Trouble> {
        let cancelled = Arc::clone(&self.cancelled);
        call.defer(|reply: Reply<Gift, Trouble>| {
            assert!(reply.is_wanted());
            reply.on_cancel(move || {
                cancelled.fetch_add(1, Ordering::SeqCst);
            });
            match &self.away {
                Some(away) => away.send((number, reply)).unwrap(),
                None => self.kept.push((number, reply)),
            }
        })
    }

    fn now(&mut self, call: &mut Call, number: u32) -> Deferred<Gift, Trouble> {
        call.defer(|reply| match number {
            0 => reply.fail(Trouble::NoLuck),
            number => reply.send(gift(number)),
        })
    }

    fn give(&mut self) -> u32 {
        let mut wanted = 0;
        for (number, reply) in self.kept.drain(..).rev() {
            wanted += u32::from(reply.is_wanted());
            reply.send_result(Ok(gift(number)));
        }
        wanted
    }

    fn lose(&mut self) -> u32 {
        u32::try_from(self.kept.drain(..).count()).unwrap()
    }

    fn slow(&mut self, call: &mut Call) -> Result<u32, Trouble> {
        // Until the caller reports that it has timed out.
        self.slow.as_ref().unwrap().recv_timeout(PATIENCE).unwrap();
        // The timeout of the caller started earlier than the one here.
        while Instant::now() < call.deadline().unwrap() {
            std::hint::spin_loop();
        }
        Ok(1)
    }

    fn stats(&mut self, call: &mut Call) -> (u32, u64) {
        let left = call.deadline().unwrap() - Instant::now();
        let millis = u64::try_from(left.as_millis()).unwrap();
        (self.cancelled.load(Ordering::SeqCst), millis)
    }

    fn both(&mut self, call: &mut Call, at_once: bool) -> u32 {
        let _ = call.defer(|reply: Reply<u32>| {
            if at_once {
                reply.send(2)
            } else {
                self.both = Some(reply)
            }
        });
        1
    }

    fn spare(&mut self, call: &mut Call) -> Deferred<Gift, Trouble> {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let first = call.defer(|reply| reply.send(gift(1)));
        self.spare = Some(call.defer(drop));
        first
    }

    fn panics(&mut self, call: &mut Call) -> Deferred<Gift, Trouble> {
        let later = call.defer(|reply| self.kept.push((0, reply)));
        match self.kept.len() {
            1.. => panic!("on purpose"),
            0 => later,
        }
    }
}

fn start(kind: Kind, shelf: Shelf) -> Running<Shelf> {
    Running::start(kind, shelf, |endpoint| endpoint.serve::<dyn Keeper>())
}

#[test]
fn deferred_replies_come_in_any_order_with_their_descriptors() {
    alone!();
    for kind in KINDS {
        let server = start(kind, Shelf::default());
        let keeper = KeeperClient::new(server.connect());
        let calls: Vec<_> = (0..8)
            .map(|number| keeper.start().keep(number).unwrap())
            .collect();
        assert_eq!(keeper.now(3).unwrap().number, 3);
        assert!(matches!(
            keeper.now(0),
            Err(CallError::Service(Trouble::NoLuck))
        ));
        assert_eq!(keeper.give().unwrap(), 8);
        for (number, reply) in (0..).zip(PendingCall::wait_all(calls)) {
            let gift = reply.unwrap();
            assert_eq!(gift.number, number);
            assert_eq!(gift.file.is_some(), number % 2 == 0);
        }
        let (state, counts) = server.stop();
        assert_eq!(
            (counts.expired, counts.unwanted, counts.undelivered),
            (0, 0, 0)
        );
        drop(state);
    }
}

#[test]
fn a_dropped_deferred_reply_sends_a_fault_to_its_caller() {
    alone!();
    for kind in KINDS {
        let server = start(kind, Shelf::default());
        let keeper = KeeperClient::new(server.connect());
        let call = keeper.start().keep(1).unwrap();
        assert_eq!(keeper.lose().unwrap(), 1);
        let Err(CallError::Fault(fault)) = call.wait() else {
            panic!("it was dropped");
        };
        assert_eq!(fault.code, Fault::NO_REPLY);
    }
}

#[test]
fn a_cancelled_call_runs_its_on_cancel_callback() {
    alone!();
    for kind in KINDS {
        let server = start(kind, Shelf::default());
        let keeper = KeeperClient::new(server.connect());
        let kept = keeper.start().keep(1).unwrap();
        drop(keeper.start().keep(2).unwrap());
        assert_eq!(keeper.stats().unwrap().0, 1);
        assert_eq!(keeper.give().unwrap(), 1, "the other is not cancelled");
        assert_eq!(kept.wait().unwrap().number, 1);
        let (_, counts) = server.stop();
        assert_eq!((counts.cancelled, counts.unwanted), (1, 1));
    }
}

#[test]
fn a_hang_up_cancels_the_deferred_calls_of_the_caller() {
    alone!();
    let server = start(Kind::Seqpacket, Shelf::default());
    let keeper = KeeperClient::new(server.connect());
    let mine = keeper.start().keep(3).unwrap();
    let mut other = Socket::connect(&server.path, Kind::Seqpacket).unwrap();
    for id in [1, 2] {
        let call = serde_json::json!({
            "jsonrpc": "2.0", "id": id, "method": "example.keeper.keep", "params": [id],
        });
        other.send(&Json(call)).unwrap();
    }
    drop(other);
    wait_until(|| keeper.stats().unwrap().0 >= 2);
    assert_eq!(keeper.give().unwrap(), 1);
    assert_eq!(mine.wait().unwrap().number, 3);
}

#[test]
fn the_timeout_of_a_caller_is_sent_and_limited_by_the_server() {
    alone!();
    let mut limits = Limits::default();
    limits.timeout = Duration::from_secs(5);
    let server = Running::with_limits(limits, Kind::Seqpacket, Shelf::default(), |endpoint| {
        endpoint.serve::<dyn Keeper>()
    });
    let connection = server.connect();
    let timeout_for = |timeout| {
        let keeper = KeeperClient::new(connection.with_timeout(Duration::from_millis(timeout)));
        keeper.stats().unwrap().1
    };
    assert!((1..=3_000).contains(&timeout_for(3_000)));
    assert!((3_001..=5_000).contains(&timeout_for(60_000)));
    assert!((3_001..=5_000).contains(&timeout_for(u64::MAX)));
}

#[test]
fn a_late_reply_is_dropped_on_both_sides_and_the_connection_stays_usable() {
    alone!();
    for kind in KINDS {
        let (go, slow) = mpsc::channel();
        let shelf = Shelf {
            slow: Some(slow),
            ..Shelf::default()
        };
        let server = start(kind, shelf);
        let connection = server.connect();
        let keeper = KeeperClient::new(connection.clone());
        let hasty = KeeperClient::new(connection.with_timeout(Duration::from_millis(20)));
        assert!(matches!(hasty.slow(), Err(CallError::Deadline)));
        go.send(()).unwrap();
        assert!(matches!(hasty.keep(2), Err(CallError::Deadline)));
        assert_eq!(keeper.give().unwrap(), 0);
        assert_eq!(keeper.now(4).unwrap().number, 4);
        let (_, counts) = server.stop();
        assert_eq!(counts.expired, 1, "{counts:?}");
    }
}

#[test]
fn ten_thousand_calls_with_half_timed_out_leave_a_connection_usable() {
    alone!();
    let server = start(Kind::Seqpacket, Shelf::default());
    let connection = server.connect();
    let keeper = KeeperClient::new(connection.clone());
    keeper.now(1).unwrap();
    let before = open_fds();
    let hasty = KeeperClient::new(connection.with_timeout(Duration::ZERO)).start();
    for number in (0..10_000).step_by(2) {
        // Without any timeout: the call may be sent or not, and is cancelled.
        let call = hasty.keep(number);
        assert!(!matches!(call.map(PendingCall::wait), Ok(Ok(_))));
        assert_eq!(keeper.now(number + 1).unwrap().number, number + 1);
        if number % 100 == 0 {
            keeper.give().unwrap();
        }
    }
    keeper.give().unwrap();
    assert_eq!(keeper.now(1).unwrap().number, 1);
    assert_open_fds(before);
}

#[test]
fn a_panic_after_the_reply_was_taken_sends_one_reply() {
    alone!();
    let server = start(Kind::Seqpacket, Shelf::default());
    let keeper = KeeperClient::new(server.connect());
    let Err(CallError::Fault(fault)) = keeper.panics() else {
        panic!("it panics");
    };
    assert_eq!(fault.code, Fault::INTERNAL_ERROR);
    assert_eq!(keeper.give().unwrap(), 0, "the kept call is cancelled");
    assert_eq!(keeper.now(5).unwrap().number, 5);
}

#[test]
fn a_method_that_takes_its_reply_and_returns_a_value_sends_one_reply() {
    alone!();
    for kind in KINDS {
        let server = start(kind, Shelf::default());
        let mut raw = Socket::connect(&server.path, kind).unwrap();
        raw.set_timeout(Some(PATIENCE));
        let mut ask = |id: u32, method: &str, params: &[bool]| {
            let method = format!("example.keeper.{method}");
            let call = serde_json::json!({
                "jsonrpc": "2.0", "id": id, "method": method, "params": params,
            });
            raw.send(&Json(call)).unwrap();
            let Json(reply): Json<serde_json::Value> = raw.receive().unwrap().0;
            (reply["id"].clone(), reply["result"].clone())
        };
        for (id, at_once, result) in [(1, true, 2), (2, false, 1)] {
            assert_eq!(ask(id, "both", &[at_once]), (id.into(), result.into()));
        }
        // The next message is the reply to this call.
        assert_eq!(ask(3, "lose", &[]), (3.into(), 0.into()));
        // The kept reply belongs to no call.
        server.assert_busy_with(usize::from(kind == Kind::Seqpacket));
        assert_eq!(server.stop().1.refused, 0);
    }
}

#[test]
fn returning_the_deferred_of_another_call_is_a_fault() {
    alone!();
    for kind in KINDS {
        let server = start(kind, Shelf::default());
        let keeper = KeeperClient::new(server.connect());
        assert_eq!(keeper.spare().unwrap().number, 1);
        let Err(CallError::Fault(fault)) = keeper.spare() else {
            panic!("no reply could be sent");
        };
        assert_eq!(fault.code, Fault::NO_REPLY);
    }
}

#[test]
fn too_many_deferred_calls_of_one_caller_are_refused_as_busy_and_others_served() {
    alone!();
    let mut limits = Limits::default();
    limits.deferred = 3;
    for kind in KINDS {
        let server = Running::with_limits(limits.clone(), kind, Shelf::default(), |endpoint| {
            endpoint.serve::<dyn Keeper>()
        });
        let keeper = KeeperClient::new(server.connect());
        let other = KeeperClient::new(server.connect());
        let calls: Vec<_> = (0..3)
            .map(|number| keeper.start().keep(number).unwrap())
            .collect();
        let Err(CallError::Fault(fault)) = keeper.keep(3) else {
            panic!("it exceeds the limit");
        };
        assert_eq!(fault.code, Fault::BUSY);
        assert!(
            keeper.stats().is_ok(),
            "a call that is not deferred is served"
        );
        let theirs = other.start().keep(4).unwrap();
        assert_eq!(other.give().unwrap(), 4);
        assert!(PendingCall::wait_all(calls).iter().all(Result::is_ok));
        theirs.wait().unwrap();
        let again = keeper.start().keep(5).unwrap();
        keeper.give().unwrap();
        again.wait().unwrap();
    }
}

#[test]
fn too_many_deferred_calls_in_total_are_refused_as_busy() {
    alone!();
    let mut limits = Limits::default();
    limits.deferred_total = 3;
    let server = Running::with_limits(limits, Kind::Datagram, Shelf::default(), |endpoint| {
        endpoint.serve::<dyn Keeper>()
    });
    let keepers: Vec<_> = (0..4)
        .map(|_| KeeperClient::new(server.connect()))
        .collect();
    let calls: Vec<_> = (0..)
        .zip(&keepers[..3])
        .map(|(number, keeper)| keeper.start().keep(number).unwrap())
        .collect();
    let Err(CallError::Fault(fault)) = keepers[3].keep(3) else {
        panic!("it exceeds the limit");
    };
    assert_eq!(fault.code, Fault::BUSY);
    assert_eq!(
        keepers[3].give().unwrap(),
        3,
        "a call that is not deferred is served"
    );
    assert!(PendingCall::wait_all(calls).iter().all(Result::is_ok));
    let again = keepers[3].start().keep(4).unwrap();
    keepers[3].give().unwrap();
    again.wait().unwrap();
}

#[test]
fn ten_thousand_replies_from_another_thread_in_random_order_are_sent_once_each() {
    alone!();
    const COUNT: u32 = 10_000;
    let (away, replies) = mpsc::channel();
    let shelf = Shelf {
        away: Some(away),
        ..Shelf::default()
    };
    let mut limits = Limits::default();
    limits.deferred = 10_000;
    limits.user_deferred = 10_000;
    limits.deferred_total = 10_000;
    limits.backlog_replies = 10_000;
    limits.backlog_bytes = 16 << 20;
    let server = Running::with_limits(limits, Kind::Seqpacket, shelf, |endpoint| {
        endpoint.serve::<dyn Keeper>()
    });
    let answering = std::thread::spawn(move || {
        // The iteration order of a hash map is random enough.
        let mut kept: HashMap<u32, Reply<Gift, Trouble>> = HashMap::new();
        for _ in 0..COUNT {
            let (number, reply) = replies.recv_timeout(PATIENCE).unwrap();
            kept.insert(number, reply);
        }
        for (number, reply) in kept {
            reply.send(Gift { number, file: None });
        }
    });
    let keeper = KeeperClient::new(server.connect());
    let starting = keeper.start();
    let calls: Vec<_> = (0..COUNT)
        .map(|number| starting.keep(number).unwrap())
        .collect();
    let seen = Mutex::new(vec![false; 10_000]);
    for (number, reply) in (0..).zip(PendingCall::wait_all(calls)) {
        let gift = reply.unwrap();
        assert_eq!(gift.number, number);
        let mut seen = seen.lock().unwrap();
        let first = !std::mem::replace(&mut seen[usize::try_from(number).unwrap()], true);
        assert!(first);
    }
    answering.join().unwrap();
    let (_, counts) = server.stop();
    assert_eq!((counts.handled, counts.undelivered), (u64::from(COUNT), 0));
}
