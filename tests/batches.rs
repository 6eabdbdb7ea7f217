//! Batches: each call of one is handled as if it had come alone.

mod hostile;

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use jsoncomm::message::WithFds;
use jsoncomm::observe::Counts;
use jsoncomm::socket::Socket;
use jsoncomm::{Call, Deferred, Endpoint, Fault, Handler, Kind, Limits, Message, Reply, Stream};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, send_raw, send_text,
    servers_are_gone,
};
use serde_json::{Value, json};

#[jsoncomm::service(name = "test.batch")]
trait Probe {
    fn echo(&mut self, number: u64) -> u64;
    /// Returns a text of this many `x`.
    fn make(&mut self, size: usize) -> String;
    /// Returns a descriptor.
    fn give(&mut self) -> Given;
    /// Takes a descriptor.
    fn take(&mut self, #[fd] file: File) -> u64;
    /// Gets its reply from the next `ring`.
    fn wait(&mut self, call: &mut Call) -> Deferred<u64>;
    /// Replies to all that wait, and returns how many they are.
    fn ring(&mut self) -> usize;
    /// Replies with the items from 0 up, and ends the stream.
    fn count(&mut self, call: &mut Call, items: u64) -> Stream<u64>;
    /// Records a client.
    #[oneway]
    fn note(&mut self, who: char);
    /// Returns the recorded clients, in order.
    fn notes(&mut self) -> String;
    /// Does not return.
    fn crash(&mut self) -> u64;
    /// Takes its time.
    fn sleep(&mut self) -> u64;
}

/// Requests whose replies are sent by the handler.
#[derive(Debug, Message)]
#[message(service = "test.ask", reply = u64)]
enum Ask {
    /// Gets its reply in the handler.
    Now { number: u64 },
    /// Gets its reply from the next `ring`.
    Later,
}

#[derive(Debug, Message)]
struct Given {
    #[fd]
    file: File,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Reply<u64>>,
    notes: String,
}

impl Probe for State {
    fn echo(&mut self, number: u64) -> u64 {
        number
    }

    fn make(&mut self, size: usize) -> String {
        "x".repeat(size)
    }

    fn give(&mut self) -> Given {
        Given { file: null() }
    }

    fn take(&mut self, _file: File) -> u64 {
        1
    }

    fn wait(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.waiting.push(reply))
    }

    fn ring(&mut self) -> usize {
        let waiting = std::mem::take(&mut self.waiting);
        let count = waiting.len();
        waiting.into_iter().for_each(|reply| reply.send(0));
        count
    }

    fn count(&mut self, call: &mut Call, items: u64) -> Stream<u64> {
        call.stream(|sender| {
            (0..items).for_each(|item| sender.send(&item).unwrap());
            sender.end();
        })
    }

    fn note(&mut self, who: char) {
        self.notes.push(who);
    }

    fn notes(&mut self) -> String {
        std::mem::take(&mut self.notes)
    }

    fn crash(&mut self) -> u64 {
        panic!("as it is meant to")
    }

    fn sleep(&mut self) -> u64 {
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        1
    }
}

impl Handler<Ask> for State {
    fn handle(&mut self, _call: &mut Call, ask: Ask, reply: Reply<u64>) {
        match ask {
            Ask::Now { number } => reply.send(number),
            Ask::Later => self.waiting.push(reply),
        }
    }
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

/// Returns the text of a call.
fn call(id: impl Into<Value>, method: &str, params: &str) -> String {
    let id: Value = id.into();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"test.{method}","params":{params}}}"#)
}

fn echo(number: u64) -> String {
    call(number, "batch.echo", &format!("[{number}]"))
}

fn note(who: char) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"test.batch.note","params":["{who}"]}}"#)
}

/// Returns the text of a batch.
fn batch(elements: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let elements: Vec<_> = elements.into_iter().collect();
    let elements: Vec<_> = elements.iter().map(AsRef::as_ref).collect();
    format!("[{}]", elements.join(","))
}

fn result(id: impl Into<Value>, result: impl Into<Value>) -> Value {
    let (id, result): (Value, Value) = (id.into(), result.into());
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// Replaces the errors of replies by their codes, so that they can be compared.
fn codes(mut reply: Value) -> Value {
    match &mut reply {
        Value::Array(all) => all.iter_mut().for_each(|one| *one = codes(one.take())),
        one if one["error"].is_object() => one["error"] = one["error"]["code"].clone(),
        _ => {}
    }
    reply
}

fn fault(id: impl Into<Value>, code: i64) -> Value {
    let id: Value = id.into();
    json!({"jsonrpc": "2.0", "id": id, "error": code})
}

/// A server, and a client that sends raw texts.
struct Fixture {
    server: Running<State>,
    raw: Socket,
    before: usize,
}

impl Fixture {
    fn start(kind: Kind) -> Self {
        Self::with(kind, |_| {})
    }

    fn with(kind: Kind, set: impl FnOnce(&mut Limits)) -> Self {
        Self::serving(kind, set, |endpoint| endpoint)
    }

    fn serving(
        kind: Kind,
        set: impl FnOnce(&mut Limits),
        serve: impl FnOnce(Endpoint<'_, State>) -> Endpoint<'_, State>,
    ) -> Self {
        servers_are_gone();
        let before = open_fds();
        let mut limits = Limits::default();
        set(&mut limits);
        let server = Running::with_limits(limits, kind, State::default(), |endpoint| {
            serve(endpoint).serve::<dyn Probe>().handle::<Ask>()
        });
        let raw = connect(&server, kind);
        Self {
            server,
            raw,
            before,
        }
    }

    fn send(&self, text: impl AsRef<[u8]>) {
        send_text(&self.raw, text.as_ref(), &[]).unwrap();
    }

    /// Receives the next message, with the codes of errors.
    #[track_caller]
    fn receive(&mut self) -> Value {
        receive(&mut self.raw)
    }

    #[track_caller]
    fn ask(&mut self, text: impl AsRef<[u8]>) -> Value {
        self.send(text);
        self.receive()
    }

    /// Receives this many replies, alone or in arrays. Returns them, and the sizes of the arrays.
    #[track_caller]
    fn replies(&mut self, count: usize) -> (Vec<Value>, Vec<usize>) {
        let (mut replies, mut arrays) = (Vec::new(), Vec::new());
        while replies.len() < count {
            match self.receive() {
                Value::Array(array) => {
                    arrays.push(array.len());
                    replies.extend(array);
                }
                reply => replies.push(reply),
            }
        }
        assert_eq!(replies.len(), count);
        (replies, arrays)
    }

    /// Asserts that nothing has been sent but the reply to the next call.
    #[track_caller]
    fn assert_nothing_comes(&mut self) {
        assert_eq!(self.ask(echo(999)), result(999, 999));
    }

    /// Stops the server. Asserts that nothing is left.
    #[track_caller]
    fn stop(self) -> (State, Counts) {
        let connections = usize::from(self.raw.kind() == Kind::Seqpacket);
        self.server.assert_busy_with(connections);
        let (mut state, counts) = self.server.stop();
        // A reply keeps the server's waker.
        state.waiting.clear();
        drop(self.raw);
        assert_open_fds(self.before);
        (state, counts)
    }
}

fn connect(server: &Running<State>, kind: Kind) -> Socket {
    let mut socket = Socket::connect(&server.path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    socket
}

#[track_caller]
fn receive(socket: &mut Socket) -> Value {
    let WithFds { json, .. } = socket.receive::<WithFds<Value>>().unwrap().0;
    codes(json)
}

#[test]
fn each_element_of_a_batch_is_handled_as_if_it_had_come_alone() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let elements = [
            (echo(1), Some(result(1, 1))),
            (
                call("a", "batch.echo", r#"{"number":2}"#),
                Some(result("a", 2)),
            ),
            (note('n'), None),
            (
                call(3, "batch.other", "[]"),
                Some(fault(3, Fault::METHOD_NOT_FOUND)),
            ),
            (
                call(4, "batch.echo", "[true]"),
                Some(fault(4, Fault::INVALID_PARAMS)),
            ),
            (
                echo(5).replace("[5]", "[5],\"timeout\":0"),
                Some(fault(5, Fault::DEADLINE_EXCEEDED)),
            ),
            (
                String::from("7"),
                Some(fault(Value::Null, Fault::INVALID_REQUEST)),
            ),
            (
                String::from("{}"),
                Some(fault(Value::Null, Fault::INVALID_REQUEST)),
            ),
            (
                batch([echo(8)]),
                Some(fault(Value::Null, Fault::INVALID_REQUEST)),
            ),
            (
                String::from("[]"),
                Some(fault(Value::Null, Fault::INVALID_REQUEST)),
            ),
            (String::from(r#"{"jsonrpc":"2.0","id":9,"result":1}"#), None),
            (
                String::from(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#),
                None,
            ),
            (
                String::from(r#"{"jsonrpc":"2.0","id":9,"method":1}"#),
                Some(fault(9, Fault::INVALID_REQUEST)),
            ),
            (
                format!(" {} ", call(10, "ask.now", "[10]")),
                Some(result(10, 10)),
            ),
            (
                call(11, "batch.crash", "[]"),
                Some(fault(11, Fault::INTERNAL_ERROR)),
            ),
            (call(12, "batch.notes", "[]"), Some(result(12, "n"))),
        ];
        let expected: Vec<_> = elements
            .iter()
            .filter_map(|(_, reply)| reply.clone())
            .collect();
        let text = format!(" \n{}\t", batch(elements.iter().map(|(text, _)| text)));
        assert_eq!(fixture.ask(text), Value::Array(expected));
        fixture.assert_nothing_comes();
        let (_, counts) = fixture.stop();
        assert_eq!((counts.received, counts.panicked), (2, 1));
        assert_eq!(counts.handled, 7);
        assert_eq!(counts.refused_with(Fault::INVALID_REQUEST), 5);
        // Two elements are ignored.
        assert_eq!(counts.refused, 11);
    }
}

#[test]
fn replies_with_descriptors_deferred_ones_and_streams_travel_alone() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let text = batch([
            call(1, "batch.wait", "[]"),
            call(2, "ask.later", "{}"),
            call(3, "batch.give", "[]"),
            call(4, "batch.count", "[3]"),
            echo(5),
            call(6, "batch.ring", "[]"),
            call(7, "ask.now", "[7]"),
        ]);
        fixture.send(text);
        let mut alone = Vec::new();
        let array = loop {
            match fixture.receive() {
                Value::Array(array) => break array,
                reply => alone.push(reply),
            }
        };
        assert_eq!(array, [result(5, 5), result(6, 2), result(7, 7)]);
        let item = |item: u64| {
            let mut reply = result(4, item);
            reply["more"] = true.into();
            reply
        };
        let expected = [
            result(3, json!({"file": 0})),
            item(0),
            item(1),
            item(2),
            result(4, Value::Null),
            result(1, 0),
            result(2, 0),
        ];
        assert_eq!(alone, expected);
        fixture.assert_nothing_comes();
        fixture.stop();
    }
}

#[test]
fn a_cancel_in_a_batch_ends_a_call_of_the_same_batch_or_of_another() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let cancel = |own: &str, id: u64| {
            format!(r#"{{"jsonrpc":"2.0",{own}"method":"rpc.cancel","params":[{id}]}}"#)
        };
        fixture.send(call(1, "batch.wait", "[]"));
        let text = batch([
            call(2, "batch.wait", "[]"),
            cancel("", 2),
            cancel(r#""id":3,"#, 1),
            cancel("", 4),
        ]);
        let expected = [
            fault(2, Fault::CANCELLED),
            fault(1, Fault::CANCELLED),
            result(3, Value::Null),
        ];
        assert_eq!(fixture.ask(text), json!(expected));
        fixture.assert_nothing_comes();
        assert_eq!(fixture.stop().1.cancelled, 2);
    }
}

#[test]
fn a_batch_that_needs_no_reply_gets_none() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        fixture.send(batch(
            ["a", "b", "c"].map(|who| note(who.chars().next().unwrap())),
        ));
        let reply = r#"{"jsonrpc":"2.0","id":1,"result":1}"#;
        fixture.send(batch([reply; 64]));
        let unknown = r#"{"jsonrpc":"2.0","method":"test.batch.other"}"#;
        fixture.send(batch([unknown]));
        fixture.assert_nothing_comes();
        assert_eq!(fixture.stop().0.notes, "abc");
    }
}

#[test]
fn the_description_of_an_endpoint_can_be_asked_for_in_a_batch() {
    alone!();
    let discover = r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#;
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let alone = fixture.ask(discover);
    let replies = fixture.ask(batch([discover, &echo(2)]));
    assert_eq!(replies, json!([alone, result(2, 2)]));
    fixture.stop();
}
