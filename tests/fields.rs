//! Connections and stubs as fields of messages: endpoints that are passed, and who may pass which.

mod foreign;
mod hostile;

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use jsoncomm::client::PendingCall;
use jsoncomm::describe::{Describe, Field};
use jsoncomm::server::{ServerHandle, TestCall};
use jsoncomm::socket::Socket;
use jsoncomm::{
    Call, CallError, Connection, Deferred, Endpoint, Fault, Kind, Limits, Message, Server, Stream,
};
use jsoncomm_tests::{PATIENCE, Running, alone, assert_open_fds, open_fds, wait_until};

/// What a client serves on the connection that it passes.
#[jsoncomm::service(name = "test.events")]
trait Events {
    fn changed(&mut self, key: &str) -> usize;
    #[oneway]
    fn noted(&mut self, key: &str);
}

/// Tells the test what it was told.
struct Listener(Sender<String>);

impl Events for Listener {
    fn changed(&mut self, key: &str) -> usize {
        self.0.send(key.to_owned()).unwrap();
        key.len()
    }

    fn noted(&mut self, key: &str) {
        self.0.send(format!("noted {key}")).unwrap();
    }
}

#[jsoncomm::service(name = "test.hub")]
trait Hub {
    /// Calls `changed` and passes its reply on.
    fn ask(&mut self, call: &mut Call, #[fd] events: EventsClient) -> Deferred<usize>;
    /// Keeps what it gets and returns how many it has.
    fn keep(&mut self, #[fd] peers: Vec<Connection>, #[fd] one: Option<EventsClient>) -> usize;
    /// Calls `noted` of all that it has.
    fn note(&mut self, key: &str) -> usize;
    /// Starts so many calls of the last, and keeps them. Returns how many it has started.
    fn pile(&mut self, count: usize) -> usize;
    /// Returns the last that it has.
    fn last(&mut self) -> Option<Named>;
    /// Sends all that it has.
    fn all(&mut self, call: &mut Call) -> Stream<Named>;
    /// Drops all and returns how many it had.
    fn clear(&mut self) -> usize;
}

#[derive(Debug, Message)]
struct Named {
    name: String,
    #[fd]
    events: EventsClient,
}

#[derive(Default)]
struct Board {
    kept: Vec<EventsClient>,
    piled: Vec<PendingCall<usize>>,
    handle: Arc<OnceLock<ServerHandle<Board>>>,
}

impl Board {
    /// Returns one that has a connection.
    fn with(fd: OwnedFd) -> Self {
        let kept = vec![EventsClient::new(Connection::from_fd(fd).unwrap())];
        Self {
            kept,
            ..Self::default()
        }
    }

    fn named(&self) -> impl DoubleEndedIterator<Item = Named> {
        let kept = self.kept.iter().enumerate();
        kept.map(|(index, events)| Named {
            name: format!("number {index}"),
            events: events.clone(),
        })
    }
}

impl Hub for Board {
    fn ask(&mut self, call: &mut Call, events: EventsClient) -> Deferred<usize> {
        let handle = self.handle.get().unwrap().clone();
        call.defer(|reply| {
            handle.post(move |server| {
                server.drive(events.as_ref()).unwrap();
                let pending = events.start().changed("asked").unwrap();
                pending.on_complete(move |result| {
                    let _keeps = events;
                    reply.forward(result);
                });
            });
        })
    }

    fn keep(&mut self, peers: Vec<Connection>, one: Option<EventsClient>) -> usize {
        self.kept.extend(peers.into_iter().map(EventsClient::from));
        self.kept.extend(one);
        self.kept.len()
    }

    fn note(&mut self, key: &str) -> usize {
        let told = self.kept.iter().filter(|one| one.noted(key).is_ok());
        told.count()
    }

    fn pile(&mut self, count: usize) -> usize {
        let events = self.kept.last().unwrap().start();
        let calls = std::iter::repeat_with(|| events.changed("x"));
        let before = self.piled.len();
        self.piled.extend(calls.take(count).map_while(Result::ok));
        self.piled.len() - before
    }

    fn last(&mut self) -> Option<Named> {
        self.named().next_back()
    }

    fn all(&mut self, call: &mut Call) -> Stream<Named> {
        let all: Vec<_> = self.named().map(Ok).collect();
        call.stream(|sender| sender.feed(all))
    }

    fn clear(&mut self) -> usize {
        self.piled.clear();
        std::mem::take(&mut self.kept).len()
    }
}

/// Starts a hub.
fn hub(serve: impl FnOnce(Endpoint<'_, Board>) -> Endpoint<'_, Board>) -> Running<Board> {
    hub_of(Kind::Seqpacket, Limits::default(), serve)
}

fn hub_of(
    kind: Kind,
    limits: Limits,
    serve: impl FnOnce(Endpoint<'_, Board>) -> Endpoint<'_, Board>,
) -> Running<Board> {
    let board = Board::default();
    let handle = Arc::clone(&board.handle);
    let hub = Running::with_limits(limits, kind, board, |endpoint| {
        serve(endpoint).serve::<dyn Hub>()
    });
    let _ = handle.set(hub.handle.clone());
    hub
}

/// Returns both ends of a seqpacket pair of this process.
fn ends() -> (OwnedFd, OwnedFd) {
    let (left, right) = Socket::pair(Kind::Seqpacket).unwrap();
    let fd = |socket: Socket| socket.as_fd().try_clone_to_owned().unwrap();
    (fd(left), fd(right))
}

/// A server of events on the one end of a pair, and the other.
struct Served {
    handle: ServerHandle<Listener>,
    told: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start() -> (Self, EventsClient) {
        let (near, far) = ends();
        let (sender, told) = channel();
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.adopt(near).unwrap();
        endpoint.stop_on_close().unwrap().serve::<dyn Events>();
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run(&mut Listener(sender)).unwrap());
        let thread = Some(thread);
        let events = EventsClient::new(Connection::from_fd(far).unwrap());
        let served = Self {
            handle,
            told,
            thread,
        };
        (served, events)
    }

    fn told(&self) -> String {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until the other end is closed everywhere.
    fn ends(mut self) {
        let thread = self.thread.take().unwrap();
        wait_until(|| thread.is_finished());
        thread.join().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_handler_calls_back_through_a_stub_that_came_in_a_call() {
    let hub = hub(|endpoint| endpoint);
    let (served, events) = Served::start();
    let client = HubClient::new(hub.connect());
    assert_eq!(client.ask(&events).unwrap(), "asked".len());
    assert_eq!(served.told(), "asked");
    // The sender's own copy still works once nobody else reads from it.
    assert_eq!(client.keep(&Vec::new(), &Some(events)).unwrap(), 1);
    assert_eq!(client.note("one").unwrap(), 1);
    assert_eq!(served.told(), "noted one");
}

#[test]
fn connections_travel_in_lists_options_results_and_streams() {
    alone!();
    let before = open_fds();
    {
        let hub = hub(|endpoint| endpoint);
        let (mut served, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (one, events) = Served::start();
            served.push(one);
            peers.push(AsRef::<Connection>::as_ref(&events).clone());
        }
        let client = HubClient::new(hub.connect());
        assert!(client.last().unwrap().is_none());
        let one = peers.pop().map(EventsClient::new);
        assert_eq!(client.keep(&peers, &one).unwrap(), 3);
        drop((peers, one));
        let last = client.last().unwrap().unwrap();
        assert_eq!(
            (&*last.name, last.events.changed("xy").unwrap()),
            ("number 2", 2)
        );
        let all: Result<Vec<_>, _> = client.all().unwrap().collect();
        for (served, named) in served.iter().zip(all.unwrap()) {
            named.events.noted(&named.name).unwrap();
            let told = std::iter::from_fn(|| Some(served.told()));
            let expected = format!("noted {}", named.name);
            assert!(told.take(2).any(|told| told == expected));
        }
        drop(last);
        assert_eq!(client.clear().unwrap(), 3);
        served.into_iter().for_each(Served::ends);
    }
    assert_open_fds(before);
}

#[test]
fn the_other_end_sees_that_a_received_connection_is_dropped() {
    let hub = hub(|endpoint| endpoint);
    let (served, events) = Served::start();
    let client = HubClient::new(hub.connect());
    assert_eq!(client.keep(&Vec::new(), &Some(events)).unwrap(), 1);
    // Only the hub has it.
    assert_eq!(client.note("here").unwrap(), 1);
    assert_eq!(served.told(), "noted here");
    assert_eq!(client.clear().unwrap(), 1);
    served.ends();
}

#[test]
fn a_received_connection_reports_that_the_other_end_is_closed() {
    let hub = hub(|endpoint| endpoint);
    let (served, events) = Served::start();
    let client = HubClient::new(hub.connect());
    assert_eq!(client.keep(&Vec::new(), &Some(events)).unwrap(), 1);
    drop(served);
    assert_eq!(client.note("anybody").unwrap(), 0);
    let passed_on = client.last().unwrap().unwrap();
    assert!(matches!(
        passed_on.events.changed("x"),
        Err(CallError::Closed)
    ));
}

#[test]
fn a_connection_is_described_with_the_service_at_its_other_end() {
    let document = <dyn Hub as Describe>::DESCRIPTION.open_rpc();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let endpoint = |service: &str| {
        serde_json::json!({
            "type": "integer", "minimum": 0, "x-file-descriptor": true, "x-service": service,
            "description": "a connected unix seqpacket socket",
        })
    };
    let methods = document["methods"].as_array().unwrap();
    let keep = methods.iter().find(|one| one["name"] == "test.hub.keep");
    let params = &keep.unwrap()["params"];
    assert_eq!(params[0]["schema"]["items"], endpoint(""));
    assert_eq!(params[1]["schema"]["anyOf"][0], endpoint("test.events"));
    let named = &document["components"]["schemas"]["Named"];
    assert_eq!(named["properties"]["events"], endpoint("test.events"));
    let described = <dyn Hub as Describe>::DESCRIPTION.methods();
    let ask = described.iter().find(|method| method.name() == "ask");
    assert!(ask.unwrap().parameters().iter().all(Field::is_descriptor));
}

#[test]
fn a_unit_test_of_a_handler_gets_the_connections_that_it_sends() {
    let (_near, far) = ends();
    let mut board = Board::with(far);
    let mut test = TestCall::new();
    let _ = board.all(test.call());
    let item = test.reply::<Option<Named>, Infallible>().unwrap().unwrap();
    assert_eq!(item.unwrap().name, "number 0");
    let end = test.reply::<Option<Named>, Infallible>().unwrap().unwrap();
    assert!(end.is_none());
}
