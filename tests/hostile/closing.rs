//! Descriptors that take their time to be closed: nobody waits for them but those who sent them.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use jsoncomm::Error;
use rustix::net::sockopt::set_socket_linger;

/// A connection that close(2) waits for: it lingers for an hour over what the other end does not read.
struct Lingering {
    near: OwnedFd,
    far: TcpStream,
}

fn lingering() -> Lingering {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    loop {
        match near.write(&[0; 1 << 16]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    near.set_nonblocking(false).unwrap();
    set_socket_linger(&near, Some(Duration::from_secs(3600))).unwrap();
    let near = near.into();
    Lingering { near, far }
}

impl Lingering {
    /// Sends it away, and keeps what ends the wait. While the server has not received it, closing it here does
    /// not wait: the last to close it does.
    fn send(self, raw: &Socket, text: &str) -> TcpStream {
        send_raw(raw, text.as_bytes(), &[self.near.as_fd()]).unwrap();
        drop(self.near);
        self.far
    }
}

/// A state whose `wait` holds the server, and what lets it go.
pub(super) struct Gate {
    arrived: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    pub(super) fn new() -> (State, Self) {
        let ((here, arrived), (open, gate)) = (channel(), channel());
        let state = State {
            gate: Some((here, gate)),
            ..State::default()
        };
        (state, Self { arrived, open })
    }

    /// Does something while a handler holds the server.
    pub(super) fn hold<T>(&self, polite: &VaultClient, then: impl FnOnce() -> T) -> T {
        let held = polite.start().wait().unwrap();
        self.arrived.recv_timeout(PATIENCE).unwrap();
        let done = then();
        self.open.send(()).unwrap();
        held.wait().unwrap();
        done
    }
}

#[test]
fn what_nobody_wants_is_closed_without_waiting() {
    alone!();
    for kind in KINDS {
        let (state, gate) = Gate::new();
        let mut bench = Bench::with(kind, state);
        let texts = [
            call(5, "ping", r#"{"number":1}"#),
            call(5, "none", "{}"),
            call(5, "tell", r#"{"other":0}"#),
            "no call".to_owned(),
            "{}".to_owned(),
        ];
        let mut ends = Vec::new();
        for text in &texts {
            let end = lingering();
            ends.push(gate.hold(&bench.polite, || end.send(&bench.raw, text)));
            assert!(bench.hear().0["error"].is_object(), "{kind:?}: {text}");
            bench.ping();
        }
        drop(ends);
        bench.sound();
        bench.stop();
    }
}

#[test]
fn a_handler_that_has_a_descriptor_closed_elsewhere_does_not_wait() {
    alone!();
    for kind in KINDS {
        let (state, gate) = Gate::new();
        let mut bench = Bench::with(kind, state);
        let text = call(5, "part", r#"{"with":0}"#);
        let end = lingering();
        let end = gate.hold(&bench.polite, || end.send(&bench.raw, &text));
        assert_eq!(bench.hear().0["result"], 1);
        bench.ping();
        drop(end);
        bench.sound();
        bench.stop();
    }
}

#[test]
fn a_connection_that_is_cut_off_takes_its_messages_with_it_elsewhere() {
    alone!();
    handlers::quiet();
    let before = open_fds();
    let mut limits = Limits::default();
    limits.malformed = 0;
    let (state, gate) = Gate::new();
    let server = Running::with_limits(limits, Kind::Seqpacket, state, |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    assert_eq!(polite.ping(1).unwrap(), 1);
    let mut raw = raw(&server, Kind::Seqpacket);
    // What it is cut off for, and something behind it.
    let end = gate.hold(&polite, || {
        send_raw(&raw, b"no call", &[]).unwrap();
        lingering().send(&raw, "never read")
    });
    assert!(raw.receive::<Untyped<Value>>().unwrap().0.json["error"].is_object());
    assert!(matches!(
        raw.receive::<Untyped<Value>>(),
        Err(Error::Closed)
    ));
    assert_eq!(polite.ping(2).unwrap(), 2);
    drop((end, raw));
    server.stop();
    drop(polite);
    assert_open_fds(before);
}

#[test]
fn a_connection_that_is_turned_away_takes_its_messages_with_it_elsewhere() {
    alone!();
    let before = open_fds();
    let mut limits = Limits::default();
    limits.connections = 2;
    let (state, gate) = Gate::new();
    let server = Running::with_limits(limits, Kind::Seqpacket, state, |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    let other = VaultClient::new(server.connect());
    assert_eq!(polite.ping(1).unwrap() + other.ping(1).unwrap(), 2);
    let (mut third, end) = gate.hold(&polite, || {
        let third = raw(&server, Kind::Seqpacket);
        let end = lingering().send(&third, "never read");
        (third, end)
    });
    assert_eq!(
        third.receive::<Untyped<Value>>().unwrap().0.json["error"]["code"],
        Fault::BUSY
    );
    assert_eq!(other.ping(2).unwrap(), 2);
    drop((end, third));
    server.stop();
    drop((polite, other));
    assert_open_fds(before);
}

#[test]
fn who_sends_more_of_them_than_a_user_may_is_cut_off() {
    alone!();
    let before = open_fds();
    let mut limits = Limits::default();
    limits.user_descriptors = 2;
    let (state, gate) = Gate::new();
    let server = Running::with_limits(limits, Kind::Seqpacket, state, |endpoint| {
        endpoint.serve::<dyn Vault>()
    });
    let polite = VaultClient::new(server.connect());
    let mut raw = raw(&server, Kind::Seqpacket);
    let surplus = call(5, "ping", r#"{"number":1}"#);
    let mut ends = Vec::new();
    for count in 1..=3 {
        ends.push(gate.hold(&polite, || lingering().send(&raw, &surplus)));
        let answer = raw.receive::<Untyped<Value>>().unwrap().0.json;
        assert_eq!(answer["error"]["code"], Fault::BAD_DESCRIPTORS, "{count}");
    }
    assert!(matches!(
        raw.receive::<Untyped<Value>>(),
        Err(Error::Closed)
    ));
    assert_eq!(polite.ping(1).unwrap(), 1);
    drop((ends, raw));
    // They are closed by now, or soon, and then there is room again.
    server.stop();
    drop(polite);
    assert_open_fds(before);
}
