//! Shutdown: calls in progress get their replies, nothing waits without a limit, and no peer can prevent it.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jsoncomm::message::Json;
use jsoncomm::observe::Counts;
use jsoncomm::server::ServerHandle;
use jsoncomm::socket::Socket;
use jsoncomm::{Call, CallError, Connection, Deferred, Error, Fault, Kind, Limits, Reply, Server};
use jsoncomm_tests::{Bound, KINDS, PATIENCE, alone, assert_open_fds, open_fds, send_raw};
use serde_json::Value;
use tempfile::TempDir;

#[jsoncomm::service(name = "example.desk")]
trait Desk {
    fn echo(&mut self, number: u32) -> u32;
    fn large(&mut self, size: usize) -> String;
    /// Gets its reply when the test sends it.
    fn keep(&mut self, call: &mut Call) -> Deferred<u32>;
    /// Blocks the server until the test releases it.
    fn hold(&mut self) -> u32;
}

struct Clerk {
    here: Sender<()>,
    kept: Sender<Reply<u32>>,
    gate: Receiver<()>,
}

impl Desk for Clerk {
    fn echo(&mut self, number: u32) -> u32 {
        number
    }

    fn large(&mut self, size: usize) -> String {
        "x".repeat(size)
    }

    fn keep(&mut self, call: &mut Call) -> Deferred<u32> {
        call.defer(|reply| self.kept.send(reply).unwrap())
    }

    fn hold(&mut self) -> u32 {
        self.here.send(()).unwrap();
        self.gate.recv_timeout(PATIENCE).unwrap();
        0
    }
}

/// A server on its thread, until it stops.
struct Office {
    handle: ServerHandle<Clerk>,
    kept: Receiver<Reply<u32>>,
    here: Receiver<()>,
    gate: Sender<()>,
    thread: JoinHandle<(Server<Clerk>, Clerk)>,
    directory: TempDir,
}

impl Office {
    fn open(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::new(Limits::default()).unwrap();
        let path = directory.path().join("desk.sock");
        server.bind(path, kind).unwrap().serve::<dyn Desk>();
        let ((keep, kept), (sender, here), (gate, wait)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let mut clerk = Clerk {
            here: sender,
            kept: keep,
            gate: wait,
        };
        Self {
            handle: server.handle(),
            kept,
            here,
            gate,
            thread: std::thread::spawn(move || {
                server.run(&mut clerk).unwrap();
                (server, clerk)
            }),
            directory,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("desk.sock")
    }

    fn connect(&self) -> DeskClient {
        DeskClient::new(
            Connection::open(self.path())
                .unwrap()
                .with_timeout(PATIENCE),
        )
    }

    fn raw(&self, kind: Kind) -> Socket {
        let mut socket = Socket::connect(self.path(), kind).unwrap();
        socket.set_timeout(Some(PATIENCE));
        socket
    }

    /// Returns the next deferred reply.
    fn kept(&self) -> Reply<u32> {
        self.kept.recv_timeout(PATIENCE).unwrap()
    }

    fn counts(self) -> Counts {
        self.thread.join().unwrap().0.counts()
    }
}

fn is_stopping<T>(reply: &Result<T, CallError>) -> bool {
    matches!(reply, Err(CallError::Fault(fault)) if fault.code == Fault::SHUTTING_DOWN)
}

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn deferred_replies_are_sent_and_new_calls_refused() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let office = Office::open(kind);
        let (asking, other) = (office.connect(), office.connect());
        let first = asking.start().keep().unwrap();
        let second = other.start().keep().unwrap();
        let (one, two) = (office.kept(), office.kept());
        office.handle.shut_down(LONG);
        while office.path().exists() {
            std::thread::yield_now();
        }
        assert!(
            Connection::open(office.path()).is_err(),
            "the path is unlinked"
        );
        assert!(one.is_wanted() && two.is_wanted());
        if kind == Kind::Seqpacket {
            assert!(is_stopping(&asking.echo(1)), "no more work");
        } else {
            // New connections are refused.
            assert!(asking.echo(1).is_err());
        }
        one.send(1);
        two.send(2);
        let mut replies = [first.wait().unwrap(), second.wait().unwrap()];
        replies.sort_unstable();
        assert_eq!(replies, [1, 2], "{kind:?}");
        assert_eq!(office.counts().undelivered, 0);
    }
    assert_open_fds(before);
}

#[test]
fn calls_of_a_removed_endpoint_do_not_delay_the_shutdown() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("desk.sock");
    let mut server = Server::new(Limits::default()).unwrap();
    let endpoint = server.bind(&path, Kind::Datagram).unwrap();
    let token = endpoint.serve::<dyn Desk>().token();
    let ((here, _), (keep, kept), (_, gate)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let mut clerk = Clerk {
        here,
        kept: keep,
        gate,
    };
    let client = DeskClient::new(Connection::open(&path).unwrap());
    let _call = client.start().keep().unwrap();
    while server.stats().deferred == 0 {
        let turn = server.run_once(&mut clerk, Some(PATIENCE));
        assert_eq!(turn.unwrap(), ControlFlow::Continue(()));
    }
    let reply = kept.try_recv().unwrap();
    let (sender, receiver) = mpsc::channel();
    reply.on_cancel(move || sender.send(()).unwrap());
    assert!(server.remove(token));
    assert_eq!(server.stats().deferred, 0);
    assert!(!reply.is_wanted());
    receiver.try_recv().unwrap();
    assert_stops(&mut server, &mut clerk);
}

/// Asserts that an idle server stops at once.
fn assert_stops(server: &mut Server<Clerk>, clerk: &mut Clerk) {
    server.shut_down(LONG).unwrap();
    let start = Instant::now();
    while server.run_once(clerk, Some(PATIENCE)).unwrap() == ControlFlow::Continue(()) {}
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_server_without_endpoints_stops_at_once() {
    let ((here, _), (kept, _), (_, gate)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let mut server = Server::new(Limits::default()).unwrap();
    assert_stops(&mut server, &mut Clerk { here, kept, gate });
}

#[test]
fn calls_without_a_reply_get_a_fault_at_the_end_of_the_shutdown() {
    alone!();
    for kind in KINDS {
        let office = Office::open(kind);
        let caller = office.connect();
        let call = caller.start().keep().unwrap();
        let reply = office.kept();
        office.handle.shut_down(Duration::from_millis(20));
        assert!(is_stopping(&call.wait()), "{kind:?}");
        office.thread.join().unwrap();
        assert!(!reply.is_wanted());
        reply.send(1);
    }
}

#[test]
fn calls_sent_before_the_shutdown_get_replies() {
    alone!();
    for kind in KINDS {
        let office = Office::open(kind);
        let mut socket = office.raw(kind);
        let call = |id: u32, method: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"example.desk.{method}"}}"#)
        };
        send_raw(&socket, call(0, "hold").as_bytes(), &[]).unwrap();
        office.here.recv_timeout(PATIENCE).unwrap();
        for id in 1..6 {
            send_raw(&socket, call(id, "hold").as_bytes(), &[]).unwrap();
        }
        office.handle.shut_down(LONG);
        for _ in 0..6 {
            // As many as are sent before it stops.
            office.gate.send(()).unwrap();
        }
        let mut refused = 0;
        for id in 0..6 {
            let Json(reply): Json<Value> = socket.receive().unwrap().0;
            assert_eq!(reply["id"], id, "{kind:?}");
            refused += u32::from(reply["error"]["code"] == Fault::SHUTTING_DOWN);
        }
        assert!(refused < 6, "the first call was in progress");
        if kind == Kind::Seqpacket {
            let end = socket.receive::<Json<Value>>();
            assert!(matches!(end, Err(Error::Closed)));
        }
        office.thread.join().unwrap();
    }
}

#[test]
fn backlogged_replies_are_sent_if_their_peer_reads_in_time() {
    alone!();
    let office = Office::open(Kind::Seqpacket);
    let mut slow = office.raw(Kind::Seqpacket);
    let large = r#"{"jsonrpc":"2.0","id":1,"method":"example.desk.large","params":[100000]}"#;
    // The last ones are in the backlog of the server, which applies backpressure.
    let mut asked = 0;
    while asked < 100
        && slow
            .try_send(&Json::<Value>(serde_json::from_str(large).unwrap()))
            .unwrap()
            == jsoncomm::socket::SendStatus::Done
    {
        asked += 1;
    }
    office.connect().echo(1).unwrap();
    office.handle.shut_down(LONG);
    let mut answered = 0;
    while let Ok((Json(reply), _)) = slow.receive::<Json<Value>>() {
        let whole = reply["result"]
            .as_str()
            .is_some_and(|text| text.len() == 100_000);
        assert!(whole || reply["error"]["code"] == Fault::SHUTTING_DOWN);
        answered += 1;
    }
    assert_eq!(answered, asked);
    assert_eq!(office.counts().undelivered, 0);
}

#[test]
fn no_peer_can_prevent_a_shutdown() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let office = Office::open(kind);
        // One does not read, one waits for ever, one calls all the time.
        let stalled = office.raw(kind);
        let large = br#"{"jsonrpc":"2.0","id":1,"method":"example.desk.large","params":[1000000]}"#;
        for _ in 0..3 {
            send_raw(&stalled, large, &[]).unwrap();
        }
        let waiting = office.connect();
        let forever = waiting.start().keep().unwrap();
        let reply = office.kept();
        let socket = office.raw(kind);
        let flood = std::thread::spawn(move || {
            let echo = br#"{"jsonrpc":"2.0","method":"example.desk.echo","params":[1]}"#;
            while send_raw(&socket, echo, &[]).is_ok() {}
        });
        office.handle.shut_down(Duration::from_millis(50));
        office.thread.join().unwrap();
        flood.join().unwrap();
        assert!(forever.wait().is_err());
        drop((reply, stalled));
    }
    assert_open_fds(before);
}

#[test]
fn a_stopped_server_can_serve_again() {
    alone!();
    for kind in KINDS {
        let office = Office::open(kind);
        assert_eq!(office.connect().echo(1).unwrap(), 1);
        office.handle.shut_down(LONG);
        let (mut server, mut clerk) = office.thread.join().unwrap();
        let path = office.directory.path().join("again.sock");
        server.bind(&path, kind).unwrap().serve::<dyn Desk>();
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run(&mut clerk).unwrap());
        let again = DeskClient::new(Connection::open(&path).unwrap().with_timeout(PATIENCE));
        assert_eq!(again.echo(2).unwrap(), 2);
        handle.stop();
        thread.join().unwrap();
    }
}

#[test]
fn a_server_stops_when_its_stop_on_close_connection_closes() {
    alone!();
    let before = open_fds();
    for ended in [true, false] {
        let (ours, theirs) = Socket::pair(Kind::Seqpacket).unwrap();
        let adopted = theirs.as_fd().try_clone_to_owned().unwrap();
        drop(theirs);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("desk.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        server
            .bind(&path, Kind::Seqpacket)
            .unwrap()
            .serve::<dyn Desk>();
        let endpoint = server.adopt(adopted).unwrap();
        let endpoint = if ended {
            endpoint.stop_on_close().unwrap()
        } else {
            endpoint
        };
        endpoint.serve::<dyn Desk>();
        let handle = server.handle();
        let ((here, _), (keep, _), (_, gate)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let mut clerk = Clerk {
            here,
            kept: keep,
            gate,
        };
        let (sender, over) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            server.run(&mut clerk).unwrap();
            sender.send(server.counts().handled).unwrap();
            // It can be run again.
            let _ = server.run_once(&mut clerk, Some(Duration::ZERO)).unwrap();
        });
        let connection = Connection::from_fd(ours.as_fd().try_clone_to_owned().unwrap());
        let one = DeskClient::new(connection.unwrap().with_timeout(PATIENCE));
        drop(ours);
        let other = || DeskClient::new(Connection::open(&path).unwrap().with_timeout(PATIENCE));
        assert_eq!(
            other().echo(1).unwrap(),
            1,
            "another connection does not stop the server"
        );
        let last = one.start().echo(2).unwrap();
        drop((one, last));
        if !ended {
            assert_eq!(other().echo(3).unwrap(), 3);
            handle.stop();
        }
        let handled = over.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            handled,
            if ended { 2 } else { 3 },
            "the sent call is carried out"
        );
        thread.join().unwrap();
    }
    assert_open_fds(before);
}

#[test]
fn stop_on_close_needs_a_connection() {
    alone!();
    let mut server = Server::<Clerk>::new(Limits::default()).unwrap();
    let (near, _far) = Socket::pair(Kind::Datagram).unwrap();
    let near = near.as_fd().try_clone_to_owned().unwrap();
    let datagrams = server.adopt(near).unwrap().stop_on_close();
    assert!(matches!(datagrams, Err(Error::Address { .. })));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("desk.sock");
    let listening = server.bind(path, Kind::Seqpacket).unwrap().stop_on_close();
    assert!(matches!(listening, Err(Error::Address { .. })));
}

/// A service manager keeps the socket, and passes it to the next server.
#[test]
fn an_adopted_socket_is_left_unchanged_for_the_next_server() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("desk.sock");
        let manager = Bound::at(&path, kind).unwrap();
        let serve = || {
            let mut server = Server::new(Limits::default()).unwrap();
            let socket = manager.as_fd().try_clone_to_owned().unwrap();
            server.adopt(socket).unwrap().serve::<dyn Desk>();
            server
        };
        let connect = || DeskClient::new(Connection::open(&path).unwrap().with_timeout(PATIENCE));
        let ((here, _), (keep, kept), (_, gate)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let mut clerk = Clerk {
            here,
            kept: keep,
            gate,
        };
        let mut first = serve();
        let begun = connect().start().keep().unwrap();
        while first.stats().deferred == 0 {
            let _ = first.run_once(&mut clerk, Some(PATIENCE)).unwrap();
        }
        let queued = connect().start().echo(7).unwrap();
        first.shut_down(LONG).unwrap();
        let late = connect().start().echo(8).unwrap();
        kept.recv_timeout(PATIENCE).unwrap().send(1);
        while first.run_once(&mut clerk, Some(PATIENCE)).unwrap() == ControlFlow::Continue(()) {}
        drop(first);
        assert_eq!(
            begun.wait().unwrap(),
            1,
            "the call in progress gets its reply"
        );

        let mut second = serve();
        while second.counts().handled < 2 {
            let _ = second.run_once(&mut clerk, Some(PATIENCE)).unwrap();
        }
        let replies = (queued.wait().unwrap(), late.wait().unwrap());
        assert_eq!(replies, (7, 8), "{kind:?}");
        assert!(path.exists());
    }
}
