//! Counters and events of a server. Neither repeats what peers have sent.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use jsoncomm::message::Json;
use jsoncomm::observe::{Counts, DisconnectReason, Event, EventKind, UndeliveredReason};
use jsoncomm::socket::Socket;
use jsoncomm::{Call, Connection, Deferred, Fault, Kind, Limits, Peer, Reply, Server};
use jsoncomm_tests::{KINDS, PATIENCE, alone, send_raw};
use serde_json::Value;

#[jsoncomm::service(name = "example.desk")]
trait Desk {
    fn echo(&mut self, text: String) -> String;
    fn panics(&mut self) -> u32;
    fn keep(&mut self, call: &mut Call) -> Deferred<u32>;
}

#[derive(Default)]
struct Clerk {
    kept: Vec<Reply<u32>>,
}

impl Desk for Clerk {
    fn echo(&mut self, text: String) -> String {
        text
    }

    fn panics(&mut self) -> u32 {
        panic!("on purpose")
    }

    fn keep(&mut self, call: &mut Call) -> Deferred<u32> {
        call.defer(|reply| self.kept.push(reply))
    }
}

/// A server that the test drives, and its reported events.
struct Watched {
    server: Server<Clerk>,
    clerk: Clerk,
    events: Receiver<Event>,
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Watched {
    fn new(kind: Kind, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("desk.sock");
        let mut server = Server::new(limits).unwrap();
        server.bind(&path, kind).unwrap().serve::<dyn Desk>();
        let (sender, events) = channel();
        server.observe(move |event| sender.send(event.clone()).unwrap());
        Self {
            server,
            clerk: Clerk::default(),
            events,
            path,
            _directory: directory,
        }
    }

    fn connect(&self, kind: Kind) -> Socket {
        let mut socket = Socket::connect(&self.path, kind).unwrap();
        socket.set_timeout(Some(PATIENCE));
        socket
    }

    /// Runs the loop until the counters meet a condition.
    fn until(&mut self, done: impl Fn(&Counts) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(&self.server.counts()) {
            assert!(Instant::now() < until, "{:?}", self.server.counts());
            let a_while = Some(Duration::from_millis(10));
            let turn = self.server.run_once(&mut self.clerk, a_while);
            assert_eq!(turn.unwrap(), ControlFlow::Continue(()));
        }
    }

    /// Returns the reported events.
    fn events(&self) -> Vec<EventKind> {
        self.events.try_iter().map(|event| event.kind).collect()
    }
}

fn call(id: u32, method: &str, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"example.desk.{method}","params":{params}}}"#)
        .into_bytes()
}

#[test]
fn each_event_is_reported_as_its_kind() {
    alone!();
    let mut limits = Limits::default();
    (limits.malformed, limits.connections) = (1, 1);
    let mut watched = Watched::new(Kind::Seqpacket, limits);
    let socket = watched.connect(Kind::Seqpacket);
    let me = rustix::process::geteuid().as_raw();
    send_raw(&socket, &call(1, "echo", r#"["secret"]"#), &[]).unwrap();
    send_raw(&socket, &call(2, "nothing", "[]"), &[]).unwrap();
    send_raw(&socket, &call(3, "echo", "[5]"), &[]).unwrap();
    send_raw(&socket, br#"{"jsonrpc":"2.0","id":1,"result":1}"#, &[]).unwrap();
    send_raw(&socket, &call(4, "panics", "[]"), &[]).unwrap();
    send_raw(&socket, &call(5, "keep", "[]"), &[]).unwrap();
    let cancel = br#"{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":5}}"#;
    send_raw(&socket, cancel, &[]).unwrap();
    watched.until(|counts| counts.cancelled == 1);
    let other = watched.connect(Kind::Seqpacket);
    watched.until(|counts| counts.rejected == 1);
    send_raw(&socket, b"secret", &[]).unwrap();
    send_raw(&socket, b"{}", &[]).unwrap();
    watched.until(|counts| counts.closed == 1);
    watched.clerk.kept.pop().unwrap().send(1);
    watched.until(|counts| counts.unwanted == 1);
    drop((socket, other));
    let counts = watched.server.counts();
    let events: Vec<Event> = watched.events.try_iter().collect();
    let want = [
        (EventKind::Accepted, counts.accepted),
        (
            EventKind::Refused(Fault::METHOD_NOT_FOUND),
            counts.refused_with(Fault::METHOD_NOT_FOUND),
        ),
        (
            EventKind::Refused(Fault::INVALID_PARAMS),
            counts.refused_with(Fault::INVALID_PARAMS),
        ),
        (EventKind::Ignored, 1),
        (
            EventKind::Panicked("example.desk", "panics"),
            counts.panicked,
        ),
        (
            EventKind::Refused(Fault::INTERNAL_ERROR),
            counts.refused_with(Fault::INTERNAL_ERROR),
        ),
        (EventKind::Cancelled, counts.cancelled),
        (
            EventKind::Refused(Fault::CANCELLED),
            counts.refused_with(Fault::CANCELLED),
        ),
        (EventKind::Rejected(Fault::BUSY), counts.rejected),
        (
            EventKind::Refused(Fault::BUSY),
            counts.refused_with(Fault::BUSY),
        ),
        (
            EventKind::Refused(Fault::PARSE_ERROR),
            counts.refused_with(Fault::PARSE_ERROR),
        ),
        (
            EventKind::Refused(Fault::INVALID_REQUEST),
            counts.refused_with(Fault::INVALID_REQUEST),
        ),
        (
            EventKind::Disconnected(DisconnectReason::Malformed),
            counts.disconnected,
        ),
        (EventKind::Closed, counts.closed),
        (EventKind::Unwanted, counts.unwanted),
    ];
    for (kind, count) in want {
        let found: Vec<&Event> = events.iter().filter(|event| event.kind == kind).collect();
        assert_eq!((found.len(), count), (1, 1), "{kind:?} in {events:?}");
        let known = kind != EventKind::Unwanted;
        assert_eq!(found[0].peer.as_ref().map(Peer::uid), known.then_some(me));
    }
    assert_eq!(events.len(), want.len(), "{events:?}");
    let printed = format!("{events:?}") + &events.iter().map(Event::to_string).collect::<String>();
    assert!(!printed.contains("secret") && !printed.contains("nothing"));
}

#[test]
fn undelivered_replies_are_reported_with_the_reason() {
    alone!();
    let mut limits = Limits::default();
    (limits.backlog_replies, limits.event_pause) = (1, Duration::ZERO);
    let mut watched = Watched::new(Kind::Seqpacket, limits.clone());
    let stalled = watched.connect(Kind::Seqpacket);
    let echo = call(1, "echo", &format!(r#"["{}"]"#, "x".repeat(50_000)));
    while watched.server.counts().disconnected == 0 {
        send_raw(&stalled, &echo, &[]).unwrap();
        let turn = watched
            .server
            .run_once(&mut watched.clerk, Some(Duration::ZERO));
        assert_eq!(turn.unwrap(), ControlFlow::Continue(()));
        if watched.server.stats().backlog == 1 {
            break;
        }
    }
    assert_eq!(watched.server.stats().backlog, 1, "it waits");
    assert_eq!(watched.server.stats().connections, 1);
    drop(stalled);
    watched.until(|counts| counts.closed == 1);
    let events = watched.events();
    assert!(
        events.contains(&EventKind::Undelivered(UndeliveredReason::Disconnected)),
        "{events:?}"
    );
    let stats = watched.server.stats();
    assert_eq!(
        (stats.backlog, stats.connections, stats.deferred),
        (0, 0, 0)
    );
    // On a datagram socket a caller may have no address to reply to.
    let mut watched = Watched::new(Kind::Datagram, limits);
    let nameless = std::os::unix::net::UnixDatagram::unbound().unwrap();
    nameless
        .send_to(&call(1, "echo", r#"["x"]"#), &watched.path)
        .unwrap();
    watched.until(|counts| counts.undelivered == 1);
    assert_eq!(
        watched.events(),
        [EventKind::Undelivered(UndeliveredReason::NoAddress)]
    );
}

#[test]
fn repeated_events_of_a_peer_are_reported_once_and_counted() {
    alone!();
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.malformed = usize::MAX;
        let mut watched = Watched::new(kind, limits);
        let mut socket = watched.connect(kind);
        for number in 1..=100 {
            send_raw(&socket, b"no call", &[]).unwrap();
            watched.until(|counts| counts.refused == number);
            let Json(reply): Json<Value> = socket.receive().unwrap().0;
            assert_eq!(reply["error"]["code"], Fault::PARSE_ERROR);
        }
        let events: Vec<Event> = watched.events.try_iter().collect();
        let refused: Vec<&Event> = events
            .iter()
            .filter(|event| event.kind == EventKind::Refused(Fault::PARSE_ERROR))
            .collect();
        assert_eq!(refused.len(), 1, "{events:?}");
        assert_eq!(refused[0].count, 1);
        assert_eq!(
            watched.server.counts().refused_with(Fault::PARSE_ERROR),
            100
        );
    }
}

#[test]
fn large_messages_are_reported() {
    alone!();
    let mut limits = Limits::default();
    limits.message = 16 << 20;
    let mut watched = Watched::new(Kind::Seqpacket, limits);
    let desk = Connection::open(&watched.path)
        .unwrap()
        .with_timeout(PATIENCE);
    desk.set_message_limit(16 << 20);
    let client = std::thread::spawn(move || {
        let text = "x".repeat(9 << 20);
        DeskClient::new(desk).echo(text).unwrap().len()
    });
    watched.until(|counts| counts.closed == 1);
    assert_eq!(client.join().unwrap(), 9 << 20);
    assert_eq!(watched.server.counts().large_messages, 1);
    assert!(watched.events().contains(&EventKind::LargeMessage));
}

#[test]
fn calls_and_faults_are_counted_by_method() {
    use jsoncomm::message::{RawError, RawMessage};
    use jsoncomm::{Connection, Fault};

    #[jsoncomm::service(name = "test.counted")]
    trait Counted {
        #[serde(alias = "older")]
        fn add(&mut self, number: u8) -> u8;
        fn fail(&mut self) -> Result<u8, String>;
        fn panics(&mut self) -> u8;
        #[oneway]
        fn note(&mut self);
        fn never(&mut self) -> u8;
    }

    struct Sum;

    impl Counted for Sum {
        fn add(&mut self, number: u8) -> u8 {
            number
        }

        fn fail(&mut self) -> Result<u8, String> {
            Err("as always".to_owned())
        }

        #[allow(clippy::panic, reason = "it is the point")]
        fn panics(&mut self) -> u8 {
            panic!("as always")
        }

        fn note(&mut self) {}

        fn never(&mut self) -> u8 {
            0
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::new(Limits::default()).unwrap();
    let paths = [Kind::Seqpacket, Kind::Datagram].map(|kind| {
        let path = directory.path().join(format!("{kind:?}"));
        let endpoint = server.bind(&path, kind).unwrap().serve::<dyn Counted>();
        endpoint.authorize_method("test.counted.never", |_| false);
        path
    });
    let handle = server.handle();
    let server = std::thread::spawn(move || {
        server.run(&mut Sum).unwrap();
        server
    });
    for path in &paths {
        let connection = Connection::open(path).unwrap().with_timeout(PATIENCE);
        let counted = CountedClient::new(connection.clone());
        assert_eq!(counted.add(1).unwrap(), 1);
        let ask = |method: &str, params: &str| {
            let params = RawMessage::new(params);
            let reply = connection.call::<u8, RawError>(method, &params);
            match reply {
                Err(jsoncomm::CallError::Fault(fault)) => Some(fault.code),
                _ => None,
            }
        };
        assert_eq!(ask("test.counted.older", "[2]"), None);
        assert_eq!(
            ask("test.counted.add", "[300]"),
            Some(Fault::INVALID_PARAMS)
        );
        assert!(counted.fail().is_err());
        assert_eq!(
            ask("test.counted.panics", "{}"),
            Some(Fault::INTERNAL_ERROR)
        );
        counted.note().unwrap();
        assert_eq!(ask("test.counted.never", "{}"), Some(Fault::NOT_AUTHORIZED));
        assert_eq!(
            ask("test.counted.none", "{}"),
            Some(Fault::METHOD_NOT_FOUND)
        );
    }
    handle.stop();
    let server = server.join().unwrap();
    let counts: Vec<_> = server
        .method_counts()
        .into_iter()
        .map(|one| (one.method, one.calls, one.faults, one.time.is_zero()))
        .collect();
    assert_eq!(
        counts,
        [
            ("add", 6, 2, true),
            ("fail", 2, 0, true),
            ("never", 0, 2, true),
            ("note", 2, 0, true),
            ("panics", 2, 2, true),
        ]
    );
}

#[test]
#[cfg(feature = "tracing")]
fn events_can_be_logged_with_tracing() {
    use std::sync::{Arc, Mutex};
    use tracing::{Id, Metadata, Subscriber, field, span};

    /// Collects the fields of events.
    #[derive(Clone, Default)]
    struct Collect(Arc<Mutex<String>>);

    impl field::Visit for Collect {
        fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
            let mut text = self.0.lock().unwrap();
            *text += &format!("{}={value:?} ", field.name());
        }
    }

    impl Subscriber for Collect {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "jsoncomm"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    alone!();
    let collect = Collect::default();
    let mut watched = Watched::new(Kind::Datagram, Limits::default());
    watched.server.trace();
    let socket = watched.connect(Kind::Datagram);
    send_raw(&socket, b"no call", &[]).unwrap();
    tracing::subscriber::with_default(collect.clone(), || {
        watched.until(|counts| counts.refused == 1);
    });
    let me = rustix::process::geteuid().as_raw();
    let text = collect.0.lock().unwrap().clone();
    assert_eq!(text, format!("kind=Refused(-32700) count=1 user={me} "));
}

#[test]
#[cfg(feature = "tracing")]
fn each_handler_runs_in_a_span_with_the_trace_of_its_caller() {
    use std::sync::{Arc, Mutex};
    use tracing::{Event, Id, Metadata, Subscriber, field, span};

    /// Writes down which spans are entered and left, and what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);

    impl field::Visit for Log {
        fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
            *self.0.lock().unwrap() += &format!("{}={value:?} ", field.name());
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_span() || metadata.target() == "handler"
        }
        fn new_span(&self, span: &span::Attributes<'_>) -> Id {
            *self.0.lock().unwrap() += span.metadata().name();
            *self.0.lock().unwrap() += " ";
            span.record(&mut self.clone());
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            *self.0.lock().unwrap() += "handler ";
        }
        fn enter(&self, _: &Id) {
            *self.0.lock().unwrap() += "< ";
        }
        fn exit(&self, _: &Id) {
            *self.0.lock().unwrap() += ">";
        }
    }

    #[jsoncomm::service(name = "test.spans")]
    trait Spans {
        fn quick(&mut self) -> u8;
        fn late(&mut self, call: &mut jsoncomm::Call) -> jsoncomm::Deferred<u8>;
    }

    struct Runs;

    impl Spans for Runs {
        fn quick(&mut self) -> u8 {
            tracing::event!(target: "handler", tracing::Level::INFO, "it runs");
            1
        }

        fn late(&mut self, call: &mut jsoncomm::Call) -> jsoncomm::Deferred<u8> {
            tracing::event!(target: "handler", tracing::Level::INFO, "it runs");
            call.defer(|reply| {
                reply.send(2);
            })
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.sock");
    let mut server = Server::new(Limits::default()).unwrap();
    let endpoint = server.bind(&path, Kind::Seqpacket).unwrap();
    endpoint.serve::<dyn Spans>();
    let log = Log::default();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let connection = jsoncomm::Connection::open(&path).unwrap();
    let traced = SpansClient::new(connection.with_trace(trace.parse().unwrap())).start();
    let plain = SpansClient::new(connection).start();
    let calls = [traced.quick().unwrap(), plain.late().unwrap()];
    tracing::subscriber::with_default(log.clone(), || {
        while server.counts().handled < 2 {
            let _ = server.run_once(&mut Runs, Some(PATIENCE)).unwrap();
        }
    });
    for call in calls {
        call.wait().unwrap();
    }
    let user = rustix::process::geteuid().as_raw();
    let text = log.0.lock().unwrap().clone();
    let call = "call service=\"test.spans\" method=";
    assert_eq!(
        text,
        format!(
            "{call}\"quick\" user={user} traceparent={trace} < handler >\
             {call}\"late\" user={user} < handler >"
        )
    );
}
