//! Threads of a program beside the waiting ones: wakers, callbacks, loops.

use super::*;

/// Uses its connection when it is dropped, as a task does that its waker owns.
struct Tidy(Connection);

impl Wake for Tidy {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Tidy {
    fn drop(&mut self) {
        let _ = self.0.run_once();
        assert!(
            self.0
                .next_deadline()
                .is_none_or(|at| at > Instant::now() - PATIENCE)
        );
    }
}

#[test]
fn a_waker_may_use_the_connection_while_it_is_dropped() {
    alone!();
    for kind in KINDS {
        for led in [false, true] {
            let server = start(kind);
            let connection = server.connect();
            connection.set_driven();
            let (other, told) = waiting_thread(&server, &connection);
            if !led {
                other.give().unwrap();
                told.recv_timeout(PATIENCE).unwrap().unwrap();
            }
            let mut call = SharedClient::new(connection.clone())
                .start()
                .wait(5)
                .unwrap();
            let waker = Waker::from(Arc::new(Tidy(connection.clone())));
            for waker in [waker.clone(), waker] {
                let polled = std::pin::Pin::new(&mut call).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
            let (sender, answered) = channel();
            std::thread::spawn(move || sender.send(call.wait()));
            while other.waiting().unwrap() < 1 + usize::from(led) {}
            other.give().unwrap();
            assert_eq!(answered.recv_timeout(PATIENCE).unwrap().unwrap(), 5);
        }
    }
}

/// When dropped, makes the server reply to another thread, and then makes a call itself.
struct Calling {
    other: std::sync::Mutex<SharedClient>,
    connection: Connection,
    sender: std::sync::Mutex<std::sync::mpsc::Sender<Result<u64, CallError>>>,
}

impl Wake for Calling {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.other.lock().unwrap().give().unwrap();
        let reply = SharedClient::new(self.connection.clone()).quick(1);
        self.sender.lock().unwrap().send(reply).unwrap();
    }
}

#[test]
fn a_waker_may_call_while_it_is_dropped_by_the_next_receiving_thread() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect().with_timeout(PATIENCE);
        connection.set_driven();
        let (other, told) = waiting_thread(&server, &connection);
        let shared = SharedClient::new(connection.clone());
        let mut call = shared.start().wait(5).unwrap();
        wait_until(|| other.waiting().unwrap() >= 2);
        let (sender, answered) = channel();
        let waker = Waker::from(Arc::new(Calling {
            other: std::sync::Mutex::new(other),
            connection,
            sender: std::sync::Mutex::new(sender),
        }));
        let polled = std::pin::Pin::new(&mut call).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        assert_eq!(call.wait().unwrap(), 5);
        assert_eq!(answered.recv_timeout(PATIENCE).unwrap().unwrap(), 1);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().unwrap(), 7);
    }
}

#[test]
fn a_waker_replaced_by_a_callback_may_use_the_connection() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        connection.set_driven();
        let shared = SharedClient::new(connection.clone());
        let poll = |waker: Waker| {
            let mut call = shared.start().quick(5).unwrap();
            let polled = std::pin::Pin::new(&mut call).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            call
        };
        let call = poll(Waker::from(Arc::new(Tidy(connection.clone()))));
        let (sender, receiver) = channel();
        std::thread::spawn(move || call.on_complete(move |reply| sender.send(reply).unwrap()));
        let until = Instant::now() + PATIENCE;
        let reply = loop {
            if let Ok(reply) = receiver.try_recv() {
                break reply;
            }
            assert!(Instant::now() < until);
            // A call, because `run_once` would block for ever if a lock were held.
            let (connection, (sender, receiver)) = (connection.clone(), channel());
            std::thread::spawn(move || sender.send(connection.run_once().is_ok()));
            assert!(receiver.recv_timeout(PATIENCE).unwrap());
        };
        assert_eq!(reply.unwrap(), 5);
    }
}

#[test]
fn a_hang_up_wakes_threads_before_callbacks_that_wait_for_them() {
    alone!();
    for kind in KINDS {
        let (connection, mut far) = by_hand(kind);
        let ended = Arc::new(AtomicU64::new(0));
        let (sender, receiver) = channel();
        for number in 0..4 {
            let (ended, sender) = (Arc::clone(&ended), sender.clone());
            let call = connection
                .start::<u64, Infallible>("a.b", &(number,))
                .unwrap();
            call.on_complete(move |_| {
                let until = Instant::now() + PATIENCE;
                // All but the thread that runs this.
                while ended.load(Ordering::SeqCst) < 2 && Instant::now() < until {
                    std::thread::yield_now();
                }
                sender.send(ended.load(Ordering::SeqCst) >= 2).unwrap();
            });
        }
        let threads = [0; 3].map(|_| {
            let (connection, ended) = (connection.without_timeout(), Arc::clone(&ended));
            std::thread::spawn(move || {
                let reply = connection.call::<u64, Infallible>("a.b", &(1,));
                ended.fetch_add(1, Ordering::SeqCst);
                reply
            })
        });
        for _ in 0..7 {
            far.receive::<Json<serde_json::Value>>().unwrap();
        }
        drop(far);
        for thread in threads {
            let reply = thread.join().unwrap();
            assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
        }
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [true; 4]);
    }
}

#[test]
fn callbacks_are_not_nested() {
    use std::cell::Cell;
    thread_local!(static DEPTH: Cell<u64> = const { Cell::new(0) });
    alone!();
    let (connection, mut far) = by_hand(Kind::Datagram);
    let deepest = Arc::new(AtomicU64::new(0));
    let count = 8;
    for number in 0..count {
        let (again, deepest) = (connection.clone(), Arc::clone(&deepest));
        let call = connection
            .start::<u64, Infallible>("a.b", &(number,))
            .unwrap();
        call.on_complete(move |_| {
            DEPTH.set(DEPTH.get() + 1);
            deepest.fetch_max(DEPTH.get(), Ordering::SeqCst);
            again.notify("a.b", &(1,)).unwrap();
            DEPTH.set(DEPTH.get() - 1);
        });
        let (Json(call), _) = far.receive::<Json<serde_json::Value>>().unwrap();
        let reply = format!(r#"{{"jsonrpc":"2.0","id":{},"result":1}}"#, call["id"]);
        send_raw(&far, reply.as_bytes(), &[]).unwrap();
    }
    // Until the next call receives the queued messages before it is sent.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    connection.notify("a.b", &(1,)).unwrap();
    while connection.run_once().unwrap() {}
    // The callbacks do not overlap.
    let deepest = deepest.load(Ordering::SeqCst);
    assert!((1..count / 2).contains(&deepest), "{deepest}");
}

#[test]
fn an_event_loop_sleeps_while_another_thread_receives() {
    alone!();
    for kind in KINDS {
        let (connection, mut far) = by_hand(kind);
        connection.set_driven();
        let calling = connection.clone();
        let thread = std::thread::spawn(move || calling.call::<u64, Infallible>("a.b", &(1,)));
        let (Json(call), _) = far.receive::<Json<serde_json::Value>>().unwrap();
        let start = Instant::now();
        // Longer than the interval of the liveness check.
        while start.elapsed() < Duration::from_millis(250) {
            let now = Instant::now();
            assert!(!connection.run_once().unwrap());
            let Some(due) = connection.next_deadline() else {
                continue;
            };
            assert!(due > now, "the deadline has passed already");
            let left = due.saturating_duration_since(Instant::now());
            rustix::event::poll(&mut [], Some(&left.try_into().unwrap())).unwrap();
        }
        let reply = format!(r#"{{"jsonrpc":"2.0","id":{},"result":1}}"#, call["id"]);
        send_raw(&far, reply.as_bytes(), &[]).unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), 1);
    }
}
