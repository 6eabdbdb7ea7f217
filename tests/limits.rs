//! Each field of `Limits` that a peer can reach: at, below and above the limit.

mod batches;
mod in_flight;
mod users;
mod waiting;

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use jsoncomm::address::Address;
use jsoncomm::fds::Fds;
use jsoncomm::message::EncodeError;
use jsoncomm::message::WithFds;
use jsoncomm::socket::{Received, SendStatus, Socket};
use jsoncomm::{Call, CallError, Error, Fault, Handler, Kind};
use jsoncomm::{Limits, Message, Reply};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, alone, assert_open_fds, can_be_others, open_fds, pair, send_raw,
};
use rustix::net::sockopt;
use serde_json::Value;

/// The service that the limits are tested with.
#[jsoncomm::service(name = "test.limits")]
trait Probe {
    /// Returns the text.
    fn echo(&mut self, text: String) -> String;
    /// Returns a text of this many `x`.
    fn make(&mut self, size: usize) -> String;
    /// Returns the seconds until the deadline, rounded up.
    fn left(&mut self, call: &mut Call) -> Option<u64>;
    /// Blocks the server until the test releases it.
    fn hold(&mut self) -> u64;
    /// Records a client.
    #[oneway]
    fn note(&mut self, who: char);
    /// Returns the recorded clients, in order.
    fn notes(&mut self) -> String;
    /// Returns the number of descriptors.
    fn pass(&mut self, #[fd] files: Vec<File>) -> usize;
    /// Returns this many descriptors and bytes.
    fn give(&mut self, files: usize, size: usize) -> Given;
}

/// Requests whose replies are deferred, and sent all at once.
#[derive(Debug, Message)]
#[message(service = "test.kept", reply = String)]
enum Ask {
    /// Gets its reply at the next `Release`.
    Keep,
    /// Sends all deferred replies, of this many `x`.
    Release { size: usize },
}

#[derive(Debug, Message)]
struct Given {
    #[fd]
    files: Vec<File>,
    text: String,
}

#[derive(Debug, Default)]
struct State {
    gate: Option<(Sender<()>, Receiver<()>)>,
    notes: String,
    kept: Vec<Reply<String>>,
}

impl Probe for State {
    fn echo(&mut self, text: String) -> String {
        text
    }

    fn make(&mut self, size: usize) -> String {
        "x".repeat(size)
    }

    fn left(&mut self, call: &mut Call) -> Option<u64> {
        let left = call.deadline()?.saturating_duration_since(Instant::now());
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }

    fn hold(&mut self) -> u64 {
        let (here, open) = self.gate.as_ref().unwrap();
        here.send(()).unwrap();
        open.recv_timeout(PATIENCE).unwrap();
        1
    }

    fn pass(&mut self, files: Vec<File>) -> usize {
        files.len()
    }

    fn give(&mut self, files: usize, size: usize) -> Given {
        let null = |_| File::open("/dev/null").unwrap();
        Given {
            files: (0..files).map(null).collect(),
            text: "x".repeat(size),
        }
    }

    fn note(&mut self, who: char) {
        self.notes.push(who);
    }

    fn notes(&mut self) -> String {
        std::mem::take(&mut self.notes)
    }
}

impl Handler<Ask> for State {
    fn handle(&mut self, _call: &mut Call, ask: Ask, reply: Reply<String>) {
        match ask {
            Ask::Keep => self.kept.push(reply),
            Ask::Release { size } => {
                for kept in self.kept.drain(..) {
                    kept.send("x".repeat(size));
                }
                reply.send(String::from("released"));
            }
        }
    }
}

fn serve(kind: Kind, limits: Limits) -> Running<State> {
    Running::with_limits(limits, kind, State::default(), |endpoint| {
        endpoint.serve::<dyn Probe>().handle::<Ask>()
    })
}

fn raw(server: &Running<State>, kind: Kind) -> Socket {
    let mut socket = Socket::connect(&server.path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    socket
}

/// Returns the text of a call.
fn call(id: u64, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"test.{method}","params":{params}}}"#)
}

fn receive(socket: &mut Socket) -> Value {
    socket.receive::<WithFds<Value>>().unwrap().0.json
}

fn ask(socket: &mut Socket, text: &str) -> Value {
    send_raw(&*socket, text.as_bytes(), &[]).unwrap();
    receive(socket)
}

/// Returns a call of exactly this many bytes.
fn call_of(bytes: usize) -> String {
    let short = call(5, "limits.echo", r#"{"text":""}"#);
    call(
        5,
        "limits.echo",
        &format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - short.len())),
    )
}

#[test]
fn a_message_is_received_up_to_the_limit_and_refused_above() {
    alone!();
    let before = open_fds();
    // The second is larger than a send buffer, so it goes through a memfd.
    let datagram = sockopt::socket_send_buffer_size(&pair(Kind::Datagram).0).unwrap();
    for kind in KINDS {
        for limit in [1000, 2 * datagram] {
            let mut limits = Limits::default();
            limits.message = limit;
            let server = serve(kind, limits);
            let mut client = Socket::connect(&server.path, kind).unwrap();
            client.set_timeout(Some(PATIENCE));
            client.set_message_limit(2 * limit);
            for (size, taken) in [
                (limit - 1, true),
                (limit, true),
                (limit + 1, false),
                (2 * limit, false),
            ] {
                let text = call_of(size);
                assert_eq!(text.len(), size);
                let json: Value = serde_json::from_str(&text).unwrap();
                let size_sent = serde_json::to_vec(&json).unwrap().len();
                assert_eq!(size_sent, size);
                client
                    .send(&WithFds {
                        json,
                        fds: Fds::new(),
                    })
                    .unwrap();
                let reply = receive(&mut client);
                if taken {
                    assert_eq!(reply["id"], 5, "{size} of {limit}");
                    assert!(
                        reply["result"]
                            .as_str()
                            .is_some_and(|text| text.len() > size / 2)
                    );
                } else {
                    assert_eq!(reply["id"], 5, "{size} of {limit}");
                    assert_eq!(reply["error"]["code"], Fault::INVALID_REQUEST);
                }
            }
            assert_eq!(server.stop().1.refused, 2);
        }
    }
    assert_open_fds(before);
}

#[test]
fn a_reply_is_sent_up_to_the_limit_and_replaced_by_a_fault_above() {
    alone!();
    for kind in KINDS {
        for limit in [1000, Limits::default().message] {
            let mut limits = Limits::default();
            limits.message = limit;
            let server = serve(kind, limits);
            let mut client = raw(&server, kind);
            client.set_message_limit(2 * limit);
            let around = r#"{"jsonrpc":"2.0","id":5,"result":""}"#.len();
            for (size, fits) in [
                (limit - 1, true),
                (limit, true),
                (limit + 1, false),
                (3 * limit, false),
            ] {
                let size = size - around;
                let reply = ask(&mut client, &call(5, "limits.make", &format!("[{size}]")));
                assert_eq!(reply["id"], 5);
                if fits {
                    assert_eq!(reply["result"].as_str().unwrap().len(), size)
                } else {
                    assert_eq!(reply["error"]["code"], Fault::REPLY_TOO_LARGE)
                }
                // The limit holds for a deferred reply, too.
                send_raw(&client, call(5, "kept.keep", "{}").as_bytes(), &[]).unwrap();
                let text = call(6, "kept.release", &format!("[{size}]"));
                let reply = ask(&mut client, &text);
                if fits {
                    assert_eq!(reply["result"].as_str().unwrap().len(), size)
                } else {
                    assert_eq!(reply["error"]["code"], Fault::REPLY_TOO_LARGE)
                }
                assert_eq!(receive(&mut client)["result"], "released");
            }
            server.stop();
        }
    }
}

#[test]
fn a_client_sends_and_receives_messages_up_to_its_own_limit() {
    alone!();
    for kind in KINDS {
        let server = serve(kind, Limits::default());
        let connection = server.connect();
        let probe = ProbeClient::new(connection.clone());
        let around = r#"{"jsonrpc":"2.0","id":1234567890123456,"result":""}"#.len();
        connection.set_message_limit(1000);
        assert_eq!(probe.make(1000 - around).unwrap().len(), 1000 - around);
        let error = probe.make(1001).unwrap_err();
        assert!(
            matches!(error, CallError::Io(Error::TooLarge { limit: 1000, .. })),
            "{error:?}"
        );
        assert_eq!(probe.make(1).unwrap(), "x", "the connection stays usable");
        let error = probe.echo("x".repeat(1000)).unwrap_err();
        assert!(
            matches!(
                error,
                CallError::NotSent(Error::Encode(EncodeError::TooLarge { limit: 1000, .. }))
            ),
            "{error:?}"
        );
        assert_eq!(probe.echo("x".repeat(800)).unwrap().len(), 800);
        let (_, counts) = server.stop();
        assert_eq!(counts.received, 4, "a message above the limit is not sent");
    }
}

#[test]
fn a_call_or_reply_above_the_limit_of_the_other_end_ends_beside_others_in_flight() {
    alone!();
    /// Too large for one datagram, so that it travels in a memfd.
    const LARGE: usize = 5 << 20;
    for kind in KINDS {
        for size in [1000, LARGE] {
            let mut limits = Limits::default();
            limits.message = size;
            let server = serve(kind, limits);
            let connection = server.connect();
            connection.set_message_limit(2 * size);
            let kept = connection.start::<String, Infallible>("test.kept.keep", &());
            let probe = ProbeClient::new(connection.clone());
            let error = probe.echo("x".repeat(size)).unwrap_err();
            let CallError::Fault(fault) = error else {
                panic!("{kind:?} {size}: {error:?}");
            };
            assert_eq!(fault.code, Fault::INVALID_REQUEST);
            // And the other way round.
            connection.set_message_limit(size / 2);
            let error = probe.make(size / 2).unwrap_err();
            assert!(
                matches!(error, CallError::Io(Error::TooLarge { .. })),
                "{kind:?} {size}: {error:?}"
            );
            let released: Result<String, _> =
                connection.call::<_, Infallible>("test.kept.release", &[2]);
            assert_eq!(released.unwrap(), "released");
            assert_eq!(kept.unwrap().wait().unwrap(), "xx");
            server.stop();
        }
    }
}

#[test]
fn a_socket_sends_and_receives_messages_up_to_its_own_limit() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        left.set_message_limit(100);
        left.send(&"x".repeat(98)).unwrap();
        assert_eq!(right.receive::<String>().unwrap().0.len(), 98);
        let error = left.send(&"x".repeat(99)).unwrap_err();
        assert_eq!(error.to_string(), "message of 101 bytes exceeds 100");
        assert!(matches!(
            right.try_receive::<String>(),
            Ok(Received::Pending)
        ));
        right.send(&"x".repeat(98)).unwrap();
        right.send(&"x".repeat(99)).unwrap();
        assert_eq!(left.receive::<String>().unwrap().0.len(), 98);
        let error = left.receive::<String>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "received message of 101 bytes exceeds 100"
        );
    }
}

/// Connects twice, which is the limit of this server. Asserts that a third connection is refused as busy and closed.
fn connect_up_to_limit(server: &Running<State>) -> [Socket; 2] {
    let ping = call(5, "limits.make", "[0]");
    let mut clients = [raw(server, Kind::Seqpacket), raw(server, Kind::Seqpacket)];
    for client in &mut clients {
        assert_eq!(ask(client, &ping)["result"], "");
    }
    let mut third = raw(server, Kind::Seqpacket);
    assert_eq!(receive(&mut third)["error"]["code"], Fault::BUSY);
    assert!(matches!(
        third.receive::<WithFds<Value>>(),
        Err(Error::Closed)
    ));
    clients
}

#[test]
fn a_connection_above_the_limit_is_refused_as_busy_and_closed() {
    alone!();
    let before = open_fds();
    let mut limits = Limits::default();
    limits.connections = 2;
    let server = serve(Kind::Seqpacket, limits);
    let ping = call(5, "limits.make", "[0]");
    let clients = connect_up_to_limit(&server);
    // A typed client gets the same fault from its first call.
    let probe = ProbeClient::new(server.connect());
    let error = probe.make(0).unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Fault(Fault {
                code: Fault::BUSY,
                ..
            })
        ),
        "{error:?}"
    );
    // The connected ones are served, and when one disconnects there is room again.
    let [mut first, second] = clients;
    assert_eq!(ask(&mut first, &ping)["result"], "");
    drop(second);
    let start = Instant::now();
    let mut turned_away = 2;
    while ProbeClient::new(server.connect()).make(0).is_err() {
        turned_away += 1;
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(ask(&mut first, &ping)["result"], "");
    let (_, counts) = server.stop();
    assert_eq!((counts.accepted, counts.rejected), (3, turned_away));
    drop((first, probe));
    assert_open_fds(before);
}

#[test]
fn connections_take_turns_of_limited_length() {
    alone!();
    let bytes = Limits::default().bytes_per_turn;
    for turn in [1, 2, 3, NOTES + 1, 100] {
        has_turns_of(turn, turn, bytes);
    }
}

#[test]
fn a_turn_ends_after_its_limit_of_bytes() {
    alone!();
    let size = note('a').len();
    // The message that reaches or exceeds the limit is still received.
    for (bytes, turn) in [
        (0, 1),
        (1, 1),
        (size, 1),
        (size + 1, 2),
        (2 * size, 2),
        (3 * size, 3),
        (size * (NOTES + 2), NOTES + 1),
    ] {
        has_turns_of(turn, 100, bytes);
    }
}

/// How many messages each of two clients has sent before the server reads.
const NOTES: usize = 8;

/// Asserts that turns have this many messages with these limits.
fn has_turns_of(turn: usize, messages: usize, bytes: usize) {
    let mut limits = Limits::default();
    (limits.messages_per_turn, limits.bytes_per_turn) = (messages, bytes);
    let ((here, is_here), (open, is_open)) = (channel(), channel());
    let gate = Some((here, is_open));
    let state = State {
        gate,
        ..State::default()
    };
    let server = Running::with_limits(limits, Kind::Seqpacket, state, |endpoint| {
        endpoint.serve::<dyn Probe>()
    });
    let (mut busy, mut other) = (raw(&server, Kind::Seqpacket), raw(&server, Kind::Seqpacket));
    // A connection that has sent this many single messages is polled for a second one after the next.
    for _ in 0..30 {
        for client in [&mut busy, &mut other] {
            assert_eq!(ask(client, &call(1, "limits.notes", "{}"))["result"], "");
        }
    }
    // While the first call blocks the server, the others queue up.
    send_raw(&busy, call(2, "limits.hold", "{}").as_bytes(), &[]).unwrap();
    is_here.recv_timeout(PATIENCE).unwrap();
    for _ in 0..NOTES {
        send_raw(&busy, note('a').as_bytes(), &[]).unwrap();
    }
    send_raw(&other, note('b').as_bytes(), &[]).unwrap();
    open.send(()).unwrap();
    assert_eq!(receive(&mut busy)["id"], 2);
    // The last call of each client comes after its notes.
    for client in [&mut other, &mut busy] {
        assert_eq!(ask(client, &call(3, "limits.make", "[0]"))["id"], 3);
    }
    let notes = ask(&mut busy, &call(4, "limits.notes", "{}"));
    let notes = notes["result"].as_str().unwrap();
    assert_eq!(notes.len(), NOTES + 1);
    let before = notes.find('b').unwrap();
    if turn > NOTES {
        assert_eq!(before, NOTES, "{turn}: {notes}");
    } else {
        assert!(before < 2 * turn, "{turn}: {notes}");
    }
    server.stop();
}

fn note(who: char) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"test.limits.note","params":["{who}"]}}"#)
}

#[test]
fn the_timeout_of_a_caller_is_kept_up_to_the_limit_and_shortened_above() {
    alone!();
    const LIMIT: u64 = 7200;
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.timeout = Duration::from_secs(LIMIT);
        let server = serve(kind, limits);
        let mut client = raw(&server, kind);
        let mut left = |timeout: &str| {
            let text =
                call(5, "limits.left", "{}").replace(r#""id""#, &format!(r#"{timeout}"id""#));
            let reply = ask(&mut client, &text);
            match reply["error"]["code"].as_i64() {
                None => reply["result"].as_u64(),
                // No time is left, so the handler does not run.
                code => {
                    assert_eq!(code, Some(Fault::DEADLINE_EXCEEDED));
                    Some(0)
                }
            }
        };
        assert_eq!(left(""), None);
        assert_eq!(left(r#""timeout":0,"#), Some(0));
        for (milliseconds, most) in [
            (1, 1),
            ((LIMIT - 3600) * 1000, LIMIT - 3600),
            (LIMIT * 1000, LIMIT),
            (LIMIT * 1000 + 1, LIMIT),
            (LIMIT * 2000, LIMIT),
            (u64::MAX, LIMIT),
        ] {
            let left = left(&format!(r#""timeout":{milliseconds},"#)).unwrap();
            let least = most.saturating_sub(PATIENCE.as_secs());
            assert!((least..=most).contains(&left), "{milliseconds}: {left}");
        }
        server.stop();
    }
}
