//! Calls that are gathered and sent together.

use std::task::{Context, Poll, Waker};

use jsoncomm::Kind::Seqpacket;
use jsoncomm::client::{PendingCall, Started};
use jsoncomm::socket::{Listener, Received};
use jsoncomm_tests::wait_for;

use super::*;

/// How many calls are gathered at most.
const MOST: usize = 64;

/// Returns a connection that gathers calls, and its other end.
fn gathering(kind: Kind) -> (Connection, FarEnd) {
    let (near, mut far) = jsoncomm_tests::pair(kind);
    far.set_timeout(Some(PATIENCE));
    let near = near.as_fd().try_clone_to_owned().unwrap();
    let connection = Connection::from_fd(near).unwrap().with_timeout(PATIENCE);
    (connection.batching(), FarEnd { socket: far })
}

fn counter(connection: &Connection) -> CounterClient<Started> {
    CounterClient::new(connection.clone()).start()
}

fn echo(connection: &Connection, number: u64) -> PendingCall<String> {
    counter(connection).echo(number, "").unwrap()
}

impl FarEnd {
    /// Returns what has been sent, if anything.
    fn sent(&mut self) -> Option<Value> {
        match self.socket.try_receive::<WithFds<Value>>().unwrap() {
            Received::Message(message, _) => Some(message.json),
            _ => None,
        }
    }

    /// Receives this many calls in one datagram and returns their ids.
    fn batch(&mut self, count: usize) -> Vec<Value> {
        let batch = self.call().json;
        let calls = batch.as_array().unwrap();
        assert_eq!(calls.len(), count);
        calls.iter().map(|call| call["id"].clone()).collect()
    }

    /// Replies to calls in one datagram, in reverse order, to each with its index.
    fn reply(&self, ids: &[Value]) {
        let numbered = ids.iter().enumerate().rev();
        let replies: Vec<_> = numbered
            .map(|(index, id)| json!({"jsonrpc": "2.0", "id": id, "result": index.to_string()}))
            .collect();
        self.send(Value::from(replies).to_string(), &[]);
    }
}

#[test]
fn started_calls_leave_together_when_one_is_waited_for() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let calls: Vec<_> = (0..3).map(|number| echo(&connection, number)).collect();
        assert_eq!(far.sent(), None);
        let far = std::thread::spawn(move || {
            let ids = far.batch(3);
            far.reply(&ids);
            far
        });
        let replies: Result<Vec<_>, _> = PendingCall::wait_all(calls).into_iter().collect();
        assert_eq!(replies.unwrap(), ["0", "1", "2"]);
        drop(far.join().unwrap());
    }
}

#[test]
fn gathered_calls_leave_when_one_is_tried_polled_or_has_a_callback() {
    fn tried(call: &mut PendingCall<String>) {
        assert!(call.try_wait().is_none());
    }
    fn polled(call: &mut PendingCall<String>) {
        let mut context = Context::from_waker(Waker::noop());
        let polled = std::pin::Pin::new(call).poll(&mut context);
        assert!(matches!(polled, Poll::Pending));
    }
    for kind in KINDS {
        for trigger in [tried, polled] {
            let (connection, mut far) = gathering(kind);
            connection.set_driven();
            let mut first = echo(&connection, 0);
            let second = echo(&connection, 1);
            trigger(&mut first);
            let ids = far.batch(2);
            let (sender, replies) = channel();
            second.on_complete(move |reply| sender.send(reply).unwrap());
            far.reply(&ids);
            while connection.run_once().unwrap() {}
            assert_eq!(replies.try_recv().unwrap().unwrap(), "1");
            assert_eq!(first.try_wait().unwrap().unwrap(), "0");
            let third = echo(&connection, 2);
            assert_eq!(far.sent(), None);
            third.on_complete(drop);
            assert!(far.sent().is_some());
        }
    }
}

#[test]
fn sixty_four_calls_leave_together() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let mut calls: Vec<_> = (1..MOST as u64)
            .map(|number| echo(&connection, number))
            .collect();
        assert_eq!(far.sent(), None);
        calls.push(echo(&connection, 64));
        far.batch(MOST);
        calls.push(echo(&connection, 65));
        assert_eq!(far.sent(), None);
    }
}

#[test]
fn calls_that_would_exceed_the_datagram_leave_before() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let start = |bytes| counter(&connection).echo(0, &"x".repeat(bytes)).unwrap();
        let thirty = start(30_000);
        let sixty = start(30_000);
        assert_eq!(far.sent(), None);
        let ninety = start(30_000);
        far.batch(2);
        assert_eq!(far.sent(), None);
        connection.set_message_limit(31_000);
        let thousand = start(1000);
        assert!(far.sent().unwrap().is_object(), "one alone is no array");
        let large = start(30_500);
        assert!(far.sent().unwrap().is_object());
        let error = counter(&connection).echo(0, &"x".repeat(31_000));
        assert!(matches!(error, Err(CallError::NotSent(Error::Encode(_)))));
        drop((thirty, sixty, ninety, thousand, large));
    }
}

#[test]
fn a_call_that_is_not_gathered_leaves_after_those_that_are() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        connection.notify("test.first", &(1,)).unwrap();
        let files = FilesClient::new(connection.clone());
        files.log("with a descriptor", null()).unwrap();
        connection.notify("test.third", &(3,)).unwrap();
        let other = Connection::clone(&connection).with_timeout(MOMENT);
        let call = other.call::<String, Infallible>("test.fourth", &(4,));
        assert!(matches!(call, Err(CallError::Deadline)), "{call:?}");
        let methods = ["test.first", "test.files.log", "test.third", "test.fourth"];
        for method in methods {
            assert_eq!(far.call().json["method"], *method);
        }
    }
}

#[test]
fn one_way_calls_are_gathered_until_they_are_flushed_or_the_last_clone_is_dropped() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        for number in 0..3 {
            connection.notify("test.count", &(number,)).unwrap();
        }
        assert_eq!(far.sent(), None);
        connection.clone().flush().unwrap();
        far.batch(3);
        connection.flush().unwrap();
        assert_eq!(far.sent(), None);
        connection.notify("test.count", &(3,)).unwrap();
        drop(connection);
        assert_eq!(far.call().json["params"], json!([3]));
    }
}

#[test]
fn a_call_that_is_dropped_before_it_has_left_is_never_sent() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let calls: Vec<_> = (0..3).map(|number| echo(&connection, number)).collect();
        let [first, second, third] = <[_; 3]>::try_from(calls).unwrap();
        drop(second);
        connection.flush().unwrap();
        let numbers = far.call().json.to_string();
        assert!(numbers.contains(r#""number":0"#) && numbers.contains(r#""number":2"#));
        assert!(!numbers.contains(r#""number":1"#));
        drop(echo(&connection, 3));
        connection.flush().unwrap();
        assert_eq!(far.sent(), None, "nor is a cancellation of it");
        drop((first, third));
        assert!(far.sent().is_some() && far.sent().is_some(), "cancelled");
    }
}

#[test]
fn a_reply_to_a_call_that_has_not_left_is_not_taken() {
    let (connection, mut far) = gathering(Seqpacket);
    let first = echo(&connection, 0);
    connection.flush().unwrap();
    let id = far.receive();
    let mut second = echo(&connection, 1);
    let next = json!(id.as_u64().unwrap() + 1);
    far.reply(&[id, next.clone()]);
    assert_eq!(first.wait().unwrap(), "0");
    assert!(second.try_wait().is_none());
    assert_eq!(far.receive(), next);
    far.reply(&[next]);
    assert_eq!(second.wait().unwrap(), "0");
}

#[test]
fn gathered_calls_end_if_the_server_has_closed() {
    let (connection, far) = gathering(Seqpacket);
    let (first, mut second) = (echo(&connection, 0), echo(&connection, 1));
    let third = echo(&connection, 2);
    let (sender, replies) = channel();
    connection.notify("test.count", &(1,)).unwrap();
    drop(far);
    assert!(matches!(connection.flush(), Err(Error::Closed)));
    third.on_complete(move |reply| sender.send(reply).unwrap());
    for reply in [
        first.wait(),
        second.try_wait().unwrap(),
        replies.try_recv().unwrap(),
    ] {
        assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
    }
    connection.notify("test.count", &(1,)).unwrap();
    let call = connection.call::<String, Infallible>("test.call", &(4,));
    assert!(matches!(call, Err(CallError::Closed)), "{call:?}");
}

#[test]
fn gathered_calls_wait_for_room_until_their_deadline() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let fast = connection.with_timeout(MOMENT);
        let filler = "x".repeat(60_000);
        // Two of them do not fit into one datagram.
        let full = loop {
            if let Err(error) = fast.notify("test.fill", &(&*filler,)) {
                break error;
            }
        };
        assert!(
            matches!(full, CallError::NotSent(Error::Deadline)),
            "{full:?}"
        );
        let late = counter(&fast).echo(0, "late");
        assert!(matches!(
            late,
            Ok(_) | Err(CallError::NotSent(Error::Deadline))
        ));
        let late = late.map(PendingCall::wait);
        assert!(!matches!(late, Ok(Ok(_))));
        // What was gathered before is still sent when there is room.
        connection.set_driven();
        assert!(matches!(connection.flush(), Err(Error::Full)));
        let mut fillers = 0;
        loop {
            let _ = connection.run_once().unwrap();
            let Some(call) = far.sent() else { break };
            assert_eq!(call["method"], "test.fill");
            fillers += 1;
        }
        assert!(fillers > 1);
        connection.flush().unwrap();
        assert_eq!(far.sent(), None);
    }
}

#[test]
fn a_batch_that_is_refused_as_a_whole_ends_each_of_its_calls() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let refusal = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":""}}"#;
        let mut calls: Vec<_> = (0..3).map(|number| echo(&connection, number)).collect();
        connection.flush().unwrap();
        far.batch(3);
        let (sender, replies) = channel();
        calls
            .pop()
            .unwrap()
            .on_complete(move |reply| sender.send(reply).unwrap());
        far.send(refusal, &[]);
        let mut ended: Vec<_> = calls.into_iter().map(PendingCall::wait).collect();
        ended.push(replies.recv_timeout(PATIENCE).unwrap());
        for reply in ended {
            let code = match &reply {
                Err(CallError::Fault(fault)) => fault.code,
                _ => 0,
            };
            assert_eq!(code, Fault::INVALID_REQUEST, "{reply:?}");
        }
        // It could be about either of two batches.
        let (first, second) = (echo(&connection, 0), echo(&connection, 1));
        connection.flush().unwrap();
        let ids = far.batch(2);
        let (third, fourth) = (echo(&connection, 2), echo(&connection, 3));
        connection.flush().unwrap();
        let others = far.batch(2);
        far.send(refusal, &[]);
        far.reply(&ids);
        far.reply(&others);
        for call in [first, second, third, fourth] {
            call.wait().unwrap();
        }
    }
}

#[test]
fn a_gathered_call_whose_deadline_has_passed_is_not_sent_for_its_own_sake() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let late = connection.with_timeout(Duration::ZERO);
        let not_sent = |reply| matches!(reply, Err(CallError::NotSent(Error::Deadline)));
        let mut tried = echo(&late, 1);
        assert!(not_sent(tried.try_wait().unwrap()));
        assert!(not_sent(echo(&late, 2).wait()));
        connection.flush().unwrap();
        assert_eq!(far.sent(), None);
    }
}

#[test]
fn gathered_calls_of_a_driven_connection_leave_when_there_is_room_or_end_with_the_server() {
    for closes in [false, true] {
        let (connection, mut far) = gathering(Seqpacket);
        connection.set_driven();
        let filler = "x".repeat(60_000);
        let full = loop {
            if let Err(error) = connection.notify("test.fill", &(&*filler,)) {
                break error;
            }
        };
        assert!(matches!(full, CallError::NotSent(Error::Full)), "{full:?}");
        let (sender, replies) = channel();
        echo(&connection, 1).on_complete(move |reply| sender.send(reply).unwrap());
        assert!(replies.try_recv().is_err());
        assert!(connection.next_deadline().is_some());
        if closes {
            drop(far);
            while !matches!(connection.run_once(), Err(Error::Closed)) {}
            let reply = replies.try_recv().unwrap();
            assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
            continue;
        }
        let call = loop {
            let call = far.call().json;
            let _ = connection.run_once().unwrap();
            let calls = call.as_array().cloned().unwrap_or(vec![call]);
            if let Some(call) = calls.into_iter().find(|call| !call["id"].is_null()) {
                break call;
            }
        };
        far.reply(&[call["id"].clone()]);
        while connection.run_once().unwrap() {}
        assert_eq!(replies.try_recv().unwrap().unwrap(), "0");
    }
}

#[test]
fn gathered_calls_are_sent_to_a_server_that_has_been_restarted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("restarted.sock");
    let first = Listener::bind(&path).unwrap();
    let connection = Connection::open(&path).unwrap().reconnecting().batching();
    drop(first.accept().unwrap());
    drop(first);
    let calls = [echo(&connection, 0), echo(&connection, 1)];
    let second = Listener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        wait_for(&second, Instant::now() + PATIENCE);
        let socket = second.accept().unwrap().unwrap();
        let mut far = FarEnd { socket };
        let ids = far.batch(2);
        far.reply(&ids);
        far
    });
    let replies: Result<Vec<_>, _> = PendingCall::wait_all(calls).into_iter().collect();
    assert_eq!(replies.unwrap(), ["0", "1"]);
    drop(server.join().unwrap());
}

#[test]
fn an_array_of_replies_is_understood_by_every_client() {
    for kind in KINDS {
        let (batching, mut far) = gathering(kind);
        // A clone cannot stop gathering, so this is what other libraries do with calls of their own.
        let calls: Vec<_> = (0..3).map(|number| echo(&batching, number)).collect();
        batching.flush().unwrap();
        let ids = far.batch(3);
        let before = json!({"jsonrpc": "2.0", "method": "x"});
        let fault = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": ""}});
        let strange = [json!([]), json!(1), before, fault, json!({"id": 1})];
        far.send(Value::from(strange.to_vec()).to_string(), &[null().as_fd()]);
        far.send("[]", &[]);
        far.send("[1", &[]);
        let (sender, receiver) = channel();
        let waiting: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let sender = sender.clone();
                std::thread::spawn(move || sender.send(call.wait()).unwrap())
            })
            .collect();
        far.reply(&ids);
        let mut replies: Vec<_> = (0..3)
            .map(|_| receiver.recv_timeout(PATIENCE).unwrap().unwrap())
            .collect();
        replies.sort();
        assert_eq!(replies, ["0", "1", "2"]);
        waiting
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_server_gets_gathered_calls_in_one_datagram_and_replies_to_each() {
    for kind in KINDS {
        let server = serve(kind);
        let connection = server.connect().batching();
        let counter = CounterClient::new(connection.clone()).start();
        let calls: Vec<_> = (0..MOST as u64)
            .map(|number| counter.echo(number, "!").unwrap())
            .collect();
        let replies: Result<Vec<_>, _> = PendingCall::wait_all(calls).into_iter().collect();
        let expected: Vec<_> = (0..MOST).map(|number| format!("{number}!")).collect();
        assert_eq!(replies.unwrap(), expected);
        let mut window: Vec<_> = (0..32).map(|number| echo(&connection, number)).collect();
        for _ in 0..10 {
            let (_, reply) = PendingCall::wait_any(&mut window).unwrap();
            let number = reply.unwrap().parse().unwrap();
            window.push(echo(&connection, number));
        }
        drop((window, counter, connection));
        let (_, counts) = server.stop();
        // With cancellations of the calls that were dropped.
        assert!(counts.handled >= 96, "{counts:?}");
        assert!(counts.received < counts.handled / 2 + 40, "{counts:?}");
    }
}

#[test]
fn a_stream_that_is_flushed_while_it_is_started_keeps_its_first_item() {
    let (connection, mut far) = gathering(Kind::Datagram);
    let first = echo(&connection, 0);
    // So long ago that the next send receives before.
    let late = connection.with_timeout(MOMENT);
    let late = late.call::<String, Infallible>("test.late", &());
    assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
    let id = far.receive();
    far.receive_cancelled_call();
    far.reply(&[id]);
    let others: Vec<_> = (1..MOST as u64).map(|n| echo(&connection, n)).collect();
    let (clone, (sender, receiver)) = (connection.clone(), channel());
    // It runs while the stream, the 64th call, is being sent; another thread might do that, too.
    first.on_complete(move |_| {
        clone.flush().unwrap();
        let stream = far.batch(MOST).pop().unwrap();
        let item = json!({"jsonrpc": "2.0", "id": stream, "result": 7, "more": true});
        far.send(item.to_string(), &[]);
        sender.send((far, stream)).unwrap();
    });
    let mut items = connection
        .stream::<u64, Infallible>("test.items", &())
        .unwrap();
    let (mut far, stream) = receiver.try_recv().unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 7);
    let end = json!({"jsonrpc": "2.0", "id": stream, "result": null});
    far.send(end.to_string(), &[]);
    assert!(items.next().is_none());
    assert_eq!(far.sent(), None, "it is not cancelled");
    drop(others);
}

#[test]
fn a_driven_connection_notices_that_a_server_is_gone_for_which_one_way_calls_are_gathered() {
    for kind in KINDS {
        let (connection, far) = gathering(kind);
        connection.set_driven();
        connection.notify("test.count", &(1,)).unwrap();
        drop(far);
        assert!(matches!(connection.run_once(), Err(Error::Closed)));
        assert_eq!(connection.next_deadline(), None);
    }
}

#[test]
fn a_reply_that_has_come_waits_for_no_room_for_gathered_calls() {
    for kind in KINDS {
        let (connection, mut far) = gathering(kind);
        let fast = connection.with_timeout(MOMENT);
        let patient = connection.without_timeout();
        let first = echo(&patient, 0);
        connection.flush().unwrap();
        let id = far.receive();
        far.reply(&[id]);
        let filler = "x".repeat(60_000);
        while fast.notify("test.fill", &(&*filler,)).is_ok() {}
        assert!(matches!(fast.flush(), Err(Error::Deadline)));
        let mut calls = vec![echo(&patient, 1), first];
        let (index, reply) = PendingCall::wait_any(&mut calls).unwrap();
        assert_eq!((index, reply.unwrap()), (1, "0".to_owned()));
    }
}

#[test]
fn threads_that_gather_flush_drop_and_wait_on_clones_each_get_their_own_replies() {
    const THREADS: u64 = 6;
    const ROUNDS: u64 = 150;
    for kind in KINDS {
        let server = serve(kind);
        let connection = server.connect().with_timeout(PATIENCE).batching();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let connection = connection.clone();
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let number = thread * 1_000_000 + round * 100;
                        let mut calls: Vec<_> = (0..1 + (thread + round) % 5)
                            .map(|index| echo(&connection, number + index))
                            .collect();
                        match (thread + 3 * round) % 7 {
                            0 => drop(calls.pop()),
                            1 => connection.flush().unwrap(),
                            2 => {
                                let files = FilesClient::new(connection.clone());
                                files.log("in between", null()).unwrap();
                            }
                            3 => {
                                let (_, reply) = PendingCall::wait_any(&mut calls).unwrap();
                                let reply = reply.unwrap().parse::<u64>().unwrap();
                                assert!((number..number + 5).contains(&reply));
                                continue;
                            }
                            4 => {
                                let plain = CounterClient::new(connection.clone());
                                assert_eq!(plain.echo(number, "!").unwrap(), format!("{number}!"));
                            }
                            5 => {
                                let mut last = calls.pop().unwrap();
                                while last.try_wait().is_none() {
                                    std::thread::yield_now();
                                }
                            }
                            _ => {}
                        }
                        for (index, call) in (number..).zip(calls) {
                            assert_eq!(call.wait().unwrap(), index.to_string());
                        }
                    }
                });
            }
        });
        let late = counter(&connection).logged().unwrap();
        assert!(late.wait().unwrap() > 0);
        assert_eq!(connection.next_deadline(), None, "no call is left");
    }
}
