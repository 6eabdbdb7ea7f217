//! A server that calls another one without waiting for it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use jsoncomm::client::Started;
use jsoncomm::message::Json;
use jsoncomm::server::ServerHandle;
use jsoncomm::socket::Socket;
use jsoncomm::{
    Call, CallError, Connection, Deferred, Fault, Kind, Limits, Message, Reply, Server,
};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, scaled};

#[derive(Debug, Message, PartialEq, thiserror::Error)]
#[error("trouble {code}")]
struct Trouble {
    code: u32,
}

/// The service of the backend.
#[jsoncomm::service(name = "test.work")]
trait Work {
    fn open(&mut self, path: &str) -> Result<Named, Trouble>;
    fn never(&mut self, call: &mut Call) -> Deferred<Named, Trouble>;
    #[oneway]
    fn note(&mut self, text: &str);
}

#[derive(Debug, Message)]
struct Named {
    name: String,
    #[fd]
    file: File,
}

#[derive(Default)]
struct Worker {
    kept: Vec<Reply<Named, Trouble>>,
    notes: u32,
}

impl Work for Worker {
    fn open(&mut self, path: &str) -> Result<Named, Trouble> {
        let file = File::open(path).map_err(|_| Trouble { code: 2 })?;
        let name = path.to_owned();
        Ok(Named { name, file })
    }

    fn never(&mut self, call: &mut Call) -> Deferred<Named, Trouble> {
        call.defer(|reply| self.kept.push(reply))
    }

    fn note(&mut self, _text: &str) {
        self.notes += 1;
    }
}

/// The service of the relay: the same methods, and one that is not forwarded.
#[jsoncomm::service(name = "test.work")]
trait Front {
    fn open(&mut self, call: &mut Call, path: &str) -> Deferred<Named, Trouble>;
    fn never(&mut self, call: &mut Call) -> Deferred<Named, Trouble>;
    /// Makes two calls in sequence, and returns the second reply.
    fn twice(&mut self, call: &mut Call, path: &str) -> Deferred<Named, Trouble>;
    /// Sends notifications until there is no more room. Returns how many.
    fn flood(&mut self) -> u32;
    fn here(&mut self) -> u32;
}

struct Relay {
    behind: WorkClient<Started>,
}

impl Front for Relay {
    fn open(&mut self, call: &mut Call, path: &str) -> Deferred<Named, Trouble> {
        call.defer(|reply| match self.behind.open(path) {
            Ok(pending) => pending.on_complete(|result| reply.forward(result)),
            Err(error) => reply.forward(Err(error)),
        })
    }

    fn never(&mut self, call: &mut Call) -> Deferred<Named, Trouble> {
        call.defer(|reply| match self.behind.never() {
            Ok(pending) => pending.on_complete(|result| reply.forward(result)),
            Err(error) => reply.forward(Err(error)),
        })
    }

    fn twice(&mut self, call: &mut Call, path: &str) -> Deferred<Named, Trouble> {
        let (behind, path) = (self.behind.clone(), path.to_owned());
        call.defer(|reply| match self.behind.open(&path) {
            Ok(pending) => pending.on_complete(move |first| match (first, behind.open(&path)) {
                (Ok(_), Ok(pending)) => pending.on_complete(|result| reply.forward(result)),
                (first, _) => reply.forward(first),
            }),
            Err(error) => reply.forward(Err(error)),
        })
    }

    fn flood(&mut self) -> u32 {
        let mut count = 0;
        while self.behind.note("x").is_ok() && count < 1_000_000 {
            count += 1;
        }
        count
    }

    fn here(&mut self) -> u32 {
        7
    }
}

/// A backend and a relay, and how to stop the relay.
struct Row {
    behind: Option<Running<Worker>>,
    front: PathBuf,
    handle: ServerHandle<Relay>,
    thread: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Row {
    fn start(kind: Kind, timeout: Duration) -> Self {
        let behind = Running::start(kind, Worker::default(), |endpoint| {
            endpoint.serve::<dyn Work>()
        });
        let connection = behind.connect().with_timeout(timeout);
        let mut row = Self::before(connection);
        row.behind = Some(behind);
        row
    }

    fn before(connection: Connection) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let front = directory.path().join("front");
        let mut server = Server::new(Limits::default()).unwrap();
        server
            .bind(&front, Kind::Seqpacket)
            .unwrap()
            .serve::<dyn Front>();
        server.drive(&connection).unwrap();
        let handle = server.handle();
        let behind = WorkClient::new(connection).start();
        let thread = std::thread::spawn(move || {
            server.run(&mut Relay { behind }).unwrap();
        });
        Self {
            behind: None,
            front,
            handle,
            thread: Some(thread),
            _directory: directory,
        }
    }

    fn client(&self) -> FrontClient {
        FrontClient::new(
            Connection::open(&self.front)
                .unwrap()
                .with_timeout(PATIENCE),
        )
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_relay_forwards_replies_errors_and_descriptors() {
    alone!();
    for kind in KINDS {
        let row = Row::start(kind, PATIENCE);
        let client = row.client();
        // Both have accepted their connection when the backend replies.
        client.open("not there").unwrap_err();
        let before = open_fds();
        for _ in 0..50 {
            let mut named = client.open("Cargo.toml").unwrap();
            let mut text = String::new();
            named.file.read_to_string(&mut text).unwrap();
            assert!(text.contains("jsoncomm-tests"));
            assert_eq!(client.twice("Cargo.toml").unwrap().name, "Cargo.toml");
            assert!(matches!(
                client.open("not there"),
                Err(CallError::Service(Trouble { code: 2 }))
            ));
        }
        assert_eq!(client.here().unwrap(), 7);
        assert_open_fds(before);
    }
}

#[test]
fn a_relay_serves_others_while_its_backend_does_not_reply() {
    alone!();
    for kind in KINDS {
        let row = Row::start(kind, scaled(Duration::from_millis(40)));
        let client = row.client();
        let waiting = client.start().never().unwrap();
        assert_eq!(client.here().unwrap(), 7);
        assert_eq!(client.open("Cargo.toml").unwrap().name, "Cargo.toml");
        // The timeout of the relay ends it.
        let Err(CallError::Fault(fault)) = waiting.wait() else {
            panic!("it gets no reply");
        };
        assert_eq!(fault.code, Fault::DEADLINE_EXCEEDED);
        assert_eq!(client.open("Cargo.toml").unwrap().name, "Cargo.toml");
    }
}

#[test]
fn a_relay_survives_the_end_of_its_backend() {
    alone!();
    for kind in KINDS {
        let mut row = Row::start(kind, PATIENCE);
        let client = row.client();
        let waiting = client.start().never().unwrap();
        client.open("Cargo.toml").unwrap();
        drop(row.behind.take());
        for reply in [waiting.wait(), client.open("Cargo.toml")] {
            let Err(CallError::Fault(fault)) = reply else {
                panic!("the backend has ended");
            };
            assert_eq!(fault.code, Fault::INTERNAL_ERROR);
        }
        assert_eq!(client.here().unwrap(), 7);
    }
}

/// Returns a connection whose other end neither reads nor replies.
fn unanswered() -> (Connection, Socket) {
    let (near, far) = Socket::pair(Kind::Seqpacket).unwrap();
    let near = std::os::fd::AsFd::as_fd(&near)
        .try_clone_to_owned()
        .unwrap();
    (Connection::from_fd(near).unwrap(), far)
}

#[test]
fn a_relay_keeps_its_deadline_while_another_thread_waits_on_its_connection() {
    alone!();
    let (connection, mut far) = unanswered();
    far.set_timeout(Some(PATIENCE));
    let mut wait_for_call = || drop(far.receive::<Json<serde_json::Value>>().unwrap());
    let row = Row::before(connection.with_timeout(scaled(Duration::from_millis(40))));
    let client = row.client();
    let waiting = client.start().never().unwrap();
    wait_for_call();
    let other = connection.with_timeout(scaled(Duration::from_millis(80)));
    let other = std::thread::spawn(move || WorkClient::new(other).open("Cargo.toml"));
    wait_for_call();
    // A call started now does not wait for the other.
    let Err(CallError::Fault(fault)) = client.never() else {
        panic!("it gets no reply");
    };
    assert!([Fault::BUSY, Fault::DEADLINE_EXCEEDED].contains(&fault.code));
    assert_eq!(client.here().unwrap(), 7);
    let Err(CallError::Fault(fault)) = waiting.wait() else {
        panic!("it gets no reply");
    };
    assert_eq!(fault.code, Fault::DEADLINE_EXCEEDED);
    assert!(matches!(other.join().unwrap(), Err(CallError::Deadline)));
}

#[test]
fn a_relay_never_blocks_under_backpressure() {
    alone!();
    let (connection, _far_that_reads_nothing) = unanswered();
    let row = Row::before(connection);
    let client = row.client();
    assert!((1..1_000_000).contains(&client.flood().unwrap()));
    let Err(CallError::Fault(fault)) = client.open("Cargo.toml") else {
        panic!("there is no room");
    };
    assert_eq!(fault.code, Fault::BUSY);
    assert_eq!(client.here().unwrap(), 7);
}
