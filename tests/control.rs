//! Timers, watches, and changes to a running server.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use jsoncomm::Server;
use jsoncomm::client::PendingCall;
use jsoncomm::message::Json;
use jsoncomm::server::ServerHandle;
use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Error, Kind, Limits, Message};
use jsoncomm_tests::{PATIENCE, pair, send_raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

#[jsoncomm::service(name = "example.count")]
trait Count {
    /// Returns how often the timers have fired.
    fn ticks(&mut self) -> (u32, u32);
    /// Binds another socket, from inside a handler.
    fn open(&mut self, path: &str) -> bool;
    #[oneway]
    fn stop(&mut self);
}

#[derive(Default)]
struct State {
    every: u32,
    once: u32,
    received: Vec<u8>,
    handle: Option<ServerHandle<State>>,
}

impl Count for State {
    fn ticks(&mut self) -> (u32, u32) {
        (self.every, self.once)
    }

    fn open(&mut self, path: &str) -> bool {
        let path = path.to_owned();
        let Some(handle) = &self.handle else {
            return false;
        };
        handle.post(move |server| {
            if let Ok(endpoint) = server.bind(path, Kind::Seqpacket) {
                endpoint.serve::<dyn Count>();
            }
        });
        true
    }

    fn stop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.stop();
        }
    }
}

/// Runs the loop until `done`. Fails after a timeout.
fn turns(server: &mut Server<State>, state: &mut State, mut done: impl FnMut(&mut State) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done(state) {
        assert!(Instant::now() < until, "it takes too long");
        let turn = server.run_once(state, Some(Duration::from_millis(100)));
        assert!(turn.is_ok_and(|turn| turn == ControlFlow::Continue(())));
    }
}

/// Returns a server with a socket in a new directory.
fn served() -> (Server<State>, PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut server = Server::new(Limits::default()).unwrap();
    server
        .bind(&path, Kind::Seqpacket)
        .unwrap()
        .serve::<dyn Count>();
    (server, path, directory)
}

/// Waits until the descriptor is readable, as another event loop does.
fn readable(fd: impl AsFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn a_periodic_timer_fires_until_it_is_removed_and_a_one_shot_timer_once() {
    let (mut server, mut state) = (Server::new(Limits::default()).unwrap(), State::default());
    let period = Duration::from_millis(2);
    server
        .every(period, |state: &mut State, control| {
            state.every += 1;
            if state.every == 3 {
                control.remove();
            }
        })
        .unwrap();
    server.after(period, |state, _| state.once += 1).unwrap();
    turns(&mut server, &mut state, |state| state.every == 3);
    let (late, mut waited) = (Instant::now() + 10 * period, false);
    server
        .after(10 * period, |_, control| control.stop())
        .unwrap();
    while !waited {
        waited = server.run_once(&mut state, None).unwrap() == ControlFlow::Break(());
    }
    assert!(Instant::now() >= late);
    assert_eq!((state.every, state.once), (3, 1));
}

#[test]
fn a_removed_timer_does_not_fire_and_its_token_is_not_reused() {
    let (mut server, mut state) = (Server::new(Limits::default()).unwrap(), State::default());
    let never = server
        .after(Duration::ZERO, |state: &mut State, _| state.once += 100)
        .unwrap();
    assert!(server.remove(never));
    assert!(!server.remove(never));
    // It gets the slot of the removed timer, which was due.
    let period = Duration::from_millis(1);
    server.every(period, |state, _| state.every += 1).unwrap();
    assert!(!server.remove(never));
    turns(&mut server, &mut state, |state| state.every > 2);
    assert_eq!(state.once, 0);
}

#[test]
fn very_long_timers_never_fire_early() {
    let (mut server, mut state) = (Server::new(Limits::default()).unwrap(), State::default());
    for delay in [Duration::from_secs(3_600), Duration::MAX] {
        server
            .after(delay, |state: &mut State, _| state.once += 1)
            .unwrap();
        server.every(delay, |state, _| state.once += 1).unwrap();
    }
    server
        .after(Duration::ZERO, |state, _| state.every += 1)
        .unwrap();
    turns(&mut server, &mut state, |state| state.every == 1);
    assert_eq!(state.once, 0);
}

#[test]
fn a_watch_is_level_triggered() {
    let (mut server, mut state) = (Server::new(Limits::default()).unwrap(), State::default());
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut reading = far.try_clone().unwrap();
    server
        .watch(far, move |state: &mut State, control| {
            let mut byte = [0];
            match reading.read(&mut byte) {
                Ok(1) => state.received.extend(byte),
                _ => control.remove(),
            }
        })
        .unwrap();
    near.write_all(b"abc").unwrap();
    turns(&mut server, &mut state, |state| state.received == b"abc");
    drop(near);
    turns(&mut server, &mut state, |state| {
        state.every += 1;
        state.every > 3
    });
}

#[test]
fn a_removed_watch_or_client_can_be_registered_again() {
    let (mut server, path, _directory) = served();
    let connection = Connection::open(&path).unwrap();
    let (mut near, far) = UnixStream::pair().unwrap();
    for _ in 0..3 {
        let driven = server.drive(&connection).unwrap();
        let watched = far.try_clone().unwrap();
        let watch = server.watch(watched, |state, _| state.once += 1).unwrap();
        assert!(server.remove(driven) && server.remove(watch));
    }
    // No registration is left.
    let mut state = State::default();
    while readable(&server, Duration::ZERO) {
        let _ = server.run_once(&mut state, Some(Duration::ZERO)).unwrap();
    }
    near.write_all(b"x").unwrap();
    assert!(!readable(&server, Duration::ZERO));
    assert_eq!(state.once, 0);
}

#[test]
fn a_descriptor_that_cannot_be_polled_is_refused() {
    let mut server = Server::<State>::new(Limits::default()).unwrap();
    let directory = std::fs::File::open("/").unwrap();
    for file in [tempfile::tempfile().unwrap(), directory] {
        let error = server.watch(file, |_, _| {}).unwrap_err();
        assert!(matches!(error, jsoncomm::Error::NotPollable), "{error:?}");
        assert!(error.to_string().contains("cannot be polled"), "{error}");
    }
}

#[test]
fn a_handler_and_a_timer_change_the_server_between_turns() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut server = Server::new(Limits::default()).unwrap();
    let first = server.bind(path("first"), Kind::Seqpacket).unwrap();
    let token = first.serve::<dyn Count>().token();
    let mut state = State {
        handle: Some(server.handle()),
        ..State::default()
    };
    let third = path("third");
    server
        .after(Duration::ZERO, move |_, control| {
            control.post(move |server: &mut Server<State>| {
                if let Ok(endpoint) = server.bind(third, Kind::Datagram) {
                    endpoint.serve::<dyn Count>();
                }
            });
        })
        .unwrap();
    let handle = server.handle();
    let running = std::thread::spawn(move || server.run(&mut state));
    let until = Instant::now() + PATIENCE;
    // A change is made between two turns, and not necessarily before the next reply.
    let client = |name| loop {
        if let Ok(connection) = Connection::open(path(name)) {
            break CountClient::new(connection.with_timeout(PATIENCE));
        }
        assert!(Instant::now() < until);
    };
    let count = client("first");
    assert!(count.open(path("second").to_str().unwrap()).unwrap());
    client("second").ticks().unwrap();
    client("third").ticks().unwrap();
    handle.post(move |server| assert!(server.remove(token)));
    // A removed endpoint accepts no more connections. Its accepted connections stay.
    while Connection::open(path("first")).is_ok() {
        assert!(Instant::now() < until);
    }
    count.ticks().unwrap();
    count.stop().unwrap();
    running.join().unwrap().unwrap();
}

#[test]
fn functions_posted_to_a_dropped_server_are_dropped() {
    let server = Server::<State>::new(Limits::default()).unwrap();
    let handle = server.handle();
    let (sender, receiver) = channel::<()>();
    let late = sender.clone();
    handle.post(move |_| sender.send(()).unwrap());
    drop(server);
    handle.post(move |_| late.send(()).unwrap());
    // All senders are dropped.
    let received = receiver.recv_timeout(PATIENCE);
    assert_eq!(received, Err(RecvTimeoutError::Disconnected));
}

#[test]
fn another_event_loop_sees_calls_timers_and_replies_on_one_descriptor() {
    let (mut server, path, _directory) = served();
    let mut state = State::default();
    let mut turn = |server: &mut Server<State>| {
        let turn = server.run_once(&mut state, Some(Duration::ZERO));
        assert!(turn.is_ok());
        state.every
    };
    while readable(&server, Duration::ZERO) {
        turn(&mut server);
    }
    let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
    let calling = std::thread::spawn(move || CountClient::new(connection).ticks());
    while !calling.is_finished() {
        if readable(&server, Duration::from_millis(100)) {
            turn(&mut server);
        }
    }
    assert_eq!(calling.join().unwrap().unwrap(), (0, 0));
    server
        .after(Duration::from_millis(1), |state: &mut State, _| {
            state.every += 1
        })
        .unwrap();
    while turn(&mut server) == 0 {
        assert!(
            readable(&server, PATIENCE),
            "the timer shows on the descriptor"
        );
    }
}

#[test]
fn another_event_loop_drives_a_client_by_its_descriptor() {
    let (mut server, path, _directory) = served();
    let mut state = State::default();
    let connection = Connection::open(&path).unwrap();
    connection.set_driven();
    let count = CountClient::new(connection.clone()).start();
    let (sender, receiver) = channel();
    for _ in 0..3 {
        let sender = sender.clone();
        let call = count.ticks().unwrap();
        call.on_complete(move |reply| sender.send(reply.is_ok()).unwrap());
    }
    assert!(!connection.run_once().unwrap());
    assert!(connection.next_deadline().is_some());
    assert!(receiver.try_recv().is_err(), "there is no reply yet");
    // The server accepts the connection, and then replies.
    while server
        .run_once(&mut state, Some(Duration::from_millis(20)))
        .unwrap()
        == ControlFlow::Continue(())
        && server.counts().handled < 3
    {}
    assert!(readable(&connection, PATIENCE));
    while connection.run_once().unwrap() {}
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [true, true, true]);
    assert_eq!(connection.next_deadline(), None);

    // This call gets no reply, and its timeout is reported.
    let hasty = connection.with_timeout(Duration::from_millis(1));
    let call = CountClient::new(hasty).start().ticks().unwrap();
    call.on_complete(move |reply| {
        sender
            .send(matches!(reply, Err(CallError::Deadline)))
            .unwrap()
    });
    let due = connection.next_deadline().unwrap();
    while Instant::now() < due {
        std::hint::spin_loop();
    }
    assert!(!connection.run_once().unwrap());
    assert_eq!(receiver.try_recv(), Ok(true));
    drop(server);
    assert!(matches!(connection.run_once(), Err(Error::Closed)));
}

thread_local! {
    /// Reports that the reply is being decoded, and blocks until the test continues.
    static GATE: RefCell<Option<(Sender<()>, Receiver<()>)>> = const { RefCell::new(None) };
}

/// A reply whose decoding blocks.
#[derive(Debug, Message)]
struct Slow {
    number: Gated,
}

#[derive(Debug, serde::Serialize)]
struct Gated(u32);

impl<'de> serde::Deserialize<'de> for Gated {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if let Some((reached, go)) = GATE.take() {
            reached.send(()).unwrap();
            go.recv_timeout(PATIENCE).unwrap();
        }
        u32::deserialize(from).map(Self)
    }
}

/// Returns a connection that the test drives, and its other end.
fn driven() -> (Connection, Socket) {
    let (near, far) = pair(Kind::Seqpacket);
    let near = near.as_fd().try_clone_to_owned().unwrap();
    let connection = Connection::from_fd(near).unwrap();
    connection.set_driven();
    (connection, far)
}

fn start(connection: &Connection) -> PendingCall<u32> {
    connection.start("example.any", &(1,)).unwrap()
}

/// Receives a call and returns its id.
fn receive(far: &mut Socket) -> serde_json::Value {
    let (Json(mut call), _) = far.receive::<Json<serde_json::Value>>().unwrap();
    call.pointer_mut("/id").unwrap().take()
}

fn send_reply(far: &Socket, id: &serde_json::Value, result: &str) {
    let reply = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    send_raw(far, reply.as_bytes(), &[]).unwrap();
}

#[test]
fn an_event_loop_does_not_wait_for_a_thread_that_decodes_its_reply() {
    let (connection, mut far) = driven();
    let (sender, receiver) = channel();
    let (answered, late) = (
        start(&connection),
        start(&connection.with_timeout(Duration::from_millis(1))),
    );
    let id = receive(&mut far);
    receive(&mut far);
    let telling = sender.clone();
    answered.on_complete(move |reply| telling.send(reply.ok()).unwrap());

    let (reached, reading) = channel();
    let (go_on, go) = channel();
    let calling = connection.clone();
    let calling = std::thread::spawn(move || {
        GATE.set(Some((reached, go)));
        calling.call::<Slow, Infallible>("example.slow", &(1,))
    });
    let slow = receive(&mut far);
    send_reply(&far, &slow, r#"{"number":2}"#);
    reading.recv_timeout(PATIENCE).unwrap();

    // None of this waits for the other thread.
    send_reply(&far, &id, "1");
    assert!(readable(&connection, PATIENCE));
    let deadline = late.deadline().unwrap();
    late.on_complete(move |reply| {
        let late = matches!(reply, Err(CallError::Deadline));
        sender.send(late.then_some(0)).unwrap();
    });
    while Instant::now() < deadline {
        std::hint::spin_loop();
    }
    while connection.run_once().unwrap() {}
    let mut received: Vec<_> = receiver.try_iter().collect();
    received.sort_unstable();
    assert_eq!(received, [Some(0), Some(1)]);
    assert_eq!(connection.next_deadline(), None);
    let quick = start(&connection);
    let (Json(cancel), _) = far.receive::<Json<serde_json::Value>>().unwrap();
    assert_eq!(
        cancel["method"], "rpc.cancel",
        "the call that timed out is cancelled"
    );
    let id = receive(&mut far);
    send_reply(&far, &id, "3");
    assert_eq!(quick.wait().unwrap(), 3);

    go_on.send(()).unwrap();
    assert_eq!(calling.join().unwrap().unwrap().number.0, 2);
}

#[test]
fn an_event_loop_polls_again_during_and_after_a_receive_by_another_thread() {
    let (connection, mut far) = driven();
    let calling = connection.clone();
    let calling = std::thread::spawn(move || calling.call::<u32, Infallible>("a.b", &(1,)));
    let id = receive(&mut far);
    let until = Instant::now() + PATIENCE;
    // The thread has sent its call, and starts to receive a moment later.
    while connection.next_deadline().is_none() {
        assert!(!connection.run_once().unwrap());
        assert!(Instant::now() < until);
    }
    send_reply(&far, &id, "2");
    assert_eq!(calling.join().unwrap().unwrap(), 2);
    assert!(!connection.run_once().unwrap());
    assert_eq!(connection.next_deadline(), None);
}

#[test]
fn a_panic_in_one_callback_does_not_keep_others_from_running() {
    let (connection, mut far) = driven();
    let (sender, receiver) = channel();
    for number in 0..3 {
        let sender = sender.clone();
        start(&connection).on_complete(move |reply| {
            assert_ne!(number, 1, "this one panics");
            sender.send(reply.unwrap()).unwrap();
        });
    }
    for number in ["0", "1", "2"] {
        let id = receive(&mut far);
        send_reply(&far, &id, number);
    }
    while connection.run_once().unwrap() {}
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 2]);

    let items = connection.stream::<u32, Infallible>("example.any", &(1,));
    let mut times = 0;
    items.unwrap().for_each(move |_| {
        times += 1;
        sender.send(times).unwrap();
        panic!("at the first item");
    });
    let id = receive(&mut far);
    for _ in 0..2 {
        let item = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1,"more":true}}"#);
        send_raw(&far, item.as_bytes(), &[]).unwrap();
    }
    while connection.run_once().unwrap() {}
    let (Json(cancel), _) = far.receive::<Json<serde_json::Value>>().unwrap();
    assert_eq!(
        (&cancel["method"], &cancel["params"]["id"]),
        (&"rpc.cancel".into(), &id)
    );
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
}
