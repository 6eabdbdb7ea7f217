//! A client against servers of all sorts: each call ends, with its own reply or with an error that says why.

mod batching;
mod connecting;
mod replies;

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jsoncomm::message::DecodeError;
use jsoncomm::message::WithFds;
use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Error, Fault, Kind, Message};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, send_raw};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};

/// A short timeout.
const MOMENT: Duration = Duration::from_millis(30);

/// A service with descriptors.
#[jsoncomm::service(name = "test.files")]
trait Files {
    /// Opens a file.
    fn open(&mut self, path: &str) -> Result<Opened, FilesError>;
    /// Logs, without a reply.
    #[oneway]
    fn log(&mut self, line: &str, #[fd] sink: OwnedFd);
}

/// A service without descriptors.
#[jsoncomm::service(name = "test.counter")]
trait Counter {
    /// Returns the number and the padding as text.
    fn echo(&mut self, number: u64, padding: &str) -> String;
    /// Returns how many lines were logged.
    fn logged(&mut self) -> u64;
}

#[derive(Debug, Message)]
struct Opened {
    len: u64,
    #[fd]
    file: File,
}

#[derive(Debug, PartialEq, Message, thiserror::Error)]
enum FilesError {
    #[error("no file {path}")]
    NotFound { path: String },
}

#[derive(Debug, Default)]
struct State {
    logged: u64,
}

impl Files for State {
    fn open(&mut self, path: &str) -> Result<Opened, FilesError> {
        let path = path.to_owned();
        let file = File::open(&path).map_err(|_| FilesError::NotFound { path })?;
        Ok(Opened { len: 0, file })
    }

    fn log(&mut self, _line: &str, _sink: OwnedFd) {
        self.logged += 1;
    }
}

impl Counter for State {
    fn echo(&mut self, number: u64, padding: &str) -> String {
        format!("{number}{padding}")
    }

    fn logged(&mut self) -> u64 {
        self.logged
    }
}

fn serve(kind: Kind) -> Running<State> {
    Running::start(kind, State::default(), |endpoint| {
        endpoint.serve::<dyn Files>().serve::<dyn Counter>()
    })
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

/// The server's end of a connection, driven by the test.
#[derive(Debug)]
struct FarEnd {
    socket: Socket,
}

impl FarEnd {
    /// Receives a call and returns its id.
    fn receive(&mut self) -> Value {
        self.call().json["id"].clone()
    }

    /// Receives a call and then its cancellation. Returns its id.
    fn receive_cancelled_call(&mut self) -> Value {
        let id = self.receive();
        self.receive_cancellation(&id);
        id
    }

    /// Receives the cancellation of a call.
    fn receive_cancellation(&mut self, id: &Value) {
        let cancel = json!({"jsonrpc": "2.0", "method": "rpc.cancel", "params": {"id": id}});
        assert_eq!(self.call().json, cancel);
    }

    fn call(&mut self) -> WithFds<Value> {
        self.socket.receive().unwrap().0
    }

    fn send(&self, text: impl AsRef<[u8]>, fds: &[BorrowedFd<'_>]) {
        send_raw(&self.socket, text.as_ref(), fds).unwrap();
    }

    /// Sends a valid reply to a call of `Files::open`.
    fn open(&self, id: &Value, len: u64) {
        self.send(opened(id, len), &[null().as_fd()]);
    }
}

fn opened(id: &Value, len: u64) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"len": len, "file": 0}}).to_string()
}

/// Returns a connection and the thread that runs a script at its other end.
fn against<T: Send + 'static>(
    kind: Kind,
    script: impl FnOnce(FarEnd) -> T + Send + 'static,
) -> (Connection, JoinHandle<T>) {
    let of = match kind {
        Kind::Datagram => SocketType::DGRAM,
        Kind::Seqpacket => SocketType::SEQPACKET,
    };
    let (near, far) = socketpair(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None).unwrap();
    let mut socket = Socket::from_fd(far).unwrap();
    socket.set_timeout(Some(PATIENCE));
    let thread = std::thread::spawn(move || script(FarEnd { socket }));
    let connection = Connection::from_fd(near).unwrap().with_timeout(PATIENCE);
    (connection, thread)
}

/// Makes a call that exceeds its short deadline.
fn time_out(connection: &Connection) {
    let reply = FilesClient::new(connection.with_timeout(MOMENT)).open("late");
    assert!(matches!(reply, Err(CallError::Deadline)), "{reply:?}");
}

#[test]
fn a_call_has_the_documented_wire_format() {
    alone!();
    for kind in KINDS {
        let (connection, far) = against(kind, |mut far| {
            let texts: Vec<Value> = (0..4)
                .map(|_| {
                    let call = far.call();
                    let id = &call.json["id"];
                    if !id.is_null() {
                        far.open(id, 1);
                    }
                    assert_eq!(call.fds.len(), usize::from(id.is_null()));
                    call.json
                })
                .collect();
            texts
        });
        let files = |connection| FilesClient::new(connection);
        files(connection.with_timeout(Duration::from_millis(2500)))
            .open("a")
            .unwrap();
        files(connection.without_timeout()).open("b").unwrap();
        files(connection.with_timeout(PATIENCE))
            .log("c", null())
            .unwrap();
        let _: Opened = connection
            .without_timeout()
            .call::<_, FilesError>("x.y", &("d", 1))
            .unwrap();
        let texts = far.join().unwrap();
        let id = texts[0]["id"].as_u64().unwrap();
        assert!(id < 1 << 52);
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "test.files.open", "params": {"path": "a"}, "timeout": 2500});
        assert_eq!(texts[0], call);
        let call = json!({"jsonrpc": "2.0", "id": id + 1, "method": "test.files.open", "params": {"path": "b"}});
        assert_eq!(texts[1], call);
        let call = json!({"jsonrpc": "2.0", "method": "test.files.log", "params": {"line": "c", "sink": 0}});
        assert_eq!(texts[2], call);
        let call = json!({"jsonrpc": "2.0", "id": id + 2, "method": "x.y", "params": ["d", 1]});
        assert_eq!(texts[3], call);
    }
}

#[test]
fn a_call_without_a_reply_times_out_and_the_connection_stays_usable() {
    alone!();
    for kind in KINDS {
        let (connection, far) = against(kind, |mut far| {
            far.receive_cancelled_call();
            let id = far.receive();
            far.open(&id, 7);
        });
        time_out(&connection);
        assert_eq!(FilesClient::new(connection).open("a").unwrap().len, 7);
        far.join().unwrap();
    }
}

#[test]
fn a_call_under_backpressure_times_out_and_the_connection_stays_usable() {
    alone!();
    for kind in KINDS {
        let (full, is_full) = channel();
        let (connection, far) = against(kind, move |mut far| {
            is_full.recv_timeout(PATIENCE).unwrap();
            // On a busy machine a deadline may have passed although there was room, for the last one.
            let call = loop {
                let call = far.call().json;
                if call["params"]["path"] == "a" {
                    break call;
                }
            };
            far.open(&call["id"], 7);
        });
        let hasty = connection.with_timeout(MOMENT);
        let error = loop {
            if let Err(error) = hasty.notify("x.y", &("x".repeat(10_000),)) {
                break error;
            }
        };
        let unsent = |error: &_| matches!(error, CallError::NotSent(Error::Deadline));
        assert!(unsent(&error), "{error:?}");
        let error = FilesClient::new(hasty).open("late").unwrap_err();
        let unsent = matches!(error, CallError::NotSent(Error::Deadline));
        assert!(unsent, "{error:?}");
        full.send(()).unwrap();
        assert_eq!(FilesClient::new(connection).open("a").unwrap().len, 7);
        far.join().unwrap();
    }
}

#[test]
fn a_call_fails_with_closed_when_the_server_closes() {
    alone!();
    let before = open_fds();
    // While the call waits: only a connection reports the end.
    let (connection, far) = against(Kind::Seqpacket, |mut far| drop(far.receive()));
    let files = FilesClient::new(connection);
    assert!(matches!(files.open("a"), Err(CallError::Closed)));
    far.join().unwrap();
    assert!(
        matches!(files.open("a"), Err(CallError::Closed)),
        "the connection stays closed"
    );
    drop(files);
    // Before the call, with unread messages on both sides.
    for kind in KINDS {
        let (connection, far) = against(kind, drop);
        far.join().unwrap();
        let notified = connection.notify("x.y", &(1,));
        assert!(matches!(notified, Err(CallError::Closed)), "{kind:?}");
        let files = FilesClient::new(connection);
        assert!(
            matches!(files.open("a"), Err(CallError::Closed)),
            "{kind:?}"
        );
        assert!(
            matches!(files.log("a", null()), Err(CallError::Closed)),
            "{kind:?}"
        );
    }
    assert_open_fds(before);
}

#[test]
fn a_restarted_datagram_server_is_reached_by_a_new_connection() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let first = Socket::bind(&path).unwrap();
    let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
    drop(first);
    let error = FilesClient::new(connection).open("a").unwrap_err();
    assert!(matches!(error, CallError::Closed), "{error:?}");
    let mut second = Socket::bind(&path).unwrap();
    second.set_timeout(Some(PATIENCE));
    Connection::open(&path)
        .unwrap()
        .notify("x.y", &(1,))
        .unwrap();
    assert_eq!(
        second.receive::<WithFds<Value>>().unwrap().0.json["params"],
        json!([1])
    );
}

#[test]
fn a_reply_sent_before_the_server_closed_is_received() {
    alone!();
    let (of, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (near, far) = socketpair(AddressFamily::UNIX, of, flags, None).unwrap();
    let same = near.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let mut socket = Socket::from_fd(far).unwrap();
        socket.set_timeout(Some(PATIENCE));
        let mut far = FarEnd { socket };
        let id = far.receive();
        far.open(&id, 7);
        // What it leaves unread makes the kernel report ECONNRESET first.
        send_raw(&same, b"unread", &[]).unwrap();
    });
    let files = FilesClient::new(Connection::from_fd(near).unwrap().with_timeout(PATIENCE));
    // Sent, but not received before the server has closed.
    assert_eq!(files.open("a").unwrap().len, 7);
    thread.join().unwrap();
    assert!(matches!(files.open("a"), Err(CallError::Closed)));
}

#[test]
fn stubs_and_threads_share_a_connection() {
    alone!();
    let before = open_fds();
    const THREADS: u64 = 4;
    const CALLS: u64 = 50;
    for kind in KINDS {
        let server = serve(kind);
        let connection = server.connect();
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let files = FilesClient::new(connection.clone());
                let counter = CounterClient::new(connection.clone());
                std::thread::spawn(move || {
                    for round in 0..CALLS {
                        let number = thread * CALLS + round;
                        // Sometimes more than fits into a datagram.
                        let padding = "x".repeat(if round == 25 { 500_000 } else { 1 });
                        assert_eq!(
                            counter.echo(number, &padding).unwrap(),
                            format!("{number}{padding}")
                        );
                        let opened = files.open("/dev/null").unwrap();
                        files.log("line", opened.file).unwrap();
                        assert!(matches!(
                            files.open("none"),
                            Err(CallError::Service(FilesError::NotFound { .. }))
                        ));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(
            CounterClient::new(connection).logged().unwrap(),
            THREADS * CALLS
        );
        let (_, counts) = server.stop();
        assert_eq!((counts.refused, counts.undelivered), (0, 0));
        assert_eq!(counts.handled, THREADS * CALLS * 4 + 1);
    }
    assert_open_fds(before);
}

#[test]
fn a_call_that_waits_for_another_thread_keeps_its_deadline() {
    alone!();
    for kind in KINDS {
        let ((received, is_heard), (ended, has_ended)) = (channel(), channel());
        let (connection, far) = against(kind, move |mut far| {
            let id = far.receive();
            received.send(()).unwrap();
            // The first call gets its reply only after the second has timed out.
            let in_time = has_ended.recv_timeout(PATIENCE / 4).is_ok();
            far.open(&id, 7);
            in_time
        });
        let first = FilesClient::new(connection.clone());
        let first = std::thread::spawn(move || first.open("a"));
        is_heard.recv_timeout(PATIENCE).unwrap();
        time_out(&connection);
        let sent = ended.send(());
        let in_time = far.join().unwrap();
        assert_eq!(first.join().unwrap().unwrap().len, 7);
        assert!(
            in_time && sent.is_ok(),
            "the second call waited for the first"
        );
    }
}

#[test]
fn one_deadline_is_kept_over_connecting_and_calling() {
    alone!();
    let before = open_fds();
    let name = format!("jsoncomm-client-{}", std::process::id());
    let address = jsoncomm::address::Address::abstract_name(name).unwrap();
    let (of, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let server = rustix::net::socket_with(AddressFamily::UNIX, of, flags, None).unwrap();
    let at = rustix::net::SocketAddrUnix::new_abstract_name(address.as_abstract_name().unwrap());
    rustix::net::bind(&server, &at.unwrap()).unwrap();
    // It accepts no connection; one may wait in its backlog.
    rustix::net::listen(&server, 0).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let first = Connection::open_by(address.clone(), deadline).unwrap();
    let soon = || Instant::now() + MOMENT;
    let late = |opened: Result<(), Error>| {
        assert!(matches!(opened, Err(Error::Deadline)), "{opened:?}");
    };
    late(Connection::open_by(address.clone(), soon()).map(drop));
    late(Connection::connect_by(address.clone(), Kind::Seqpacket, soon()).map(drop));
    late(Socket::open_by(address.clone(), soon()).map(drop));
    late(Socket::connect_by(address.clone(), Kind::Seqpacket, soon()).map(drop));
    late(Connection::open_by(address.clone(), Instant::now()).map(drop));
    time_out(&first);
    drop((first, server));
    assert_open_fds(before);
}

/// Parameters of a method that has none.
#[derive(Debug, Message)]
struct Unit;

#[test]
fn the_unit_type_is_sent_without_params() {
    alone!();
    for kind in KINDS {
        let server = serve(kind);
        let connection = server.connect();
        let method = "test.counter.logged";
        assert_eq!(connection.call::<u64, Infallible>(method, &()).unwrap(), 0);
        assert_eq!(
            connection.call::<u64, Infallible>(method, &Unit).unwrap(),
            0
        );
        let (connection, far) = against(kind, |mut far| far.call().json);
        connection.notify("x.y", &()).unwrap();
        let call = json!({"jsonrpc": "2.0", "method": "x.y"});
        assert_eq!(far.join().unwrap(), call);
    }
}

/// Has a map with keys that JSON does not allow.
#[derive(Debug, Message)]
struct Listed {
    files: Vec<Named>,
}

#[derive(Debug, Message)]
struct Named {
    path: std::collections::BTreeMap<(u8, u8), u8>,
}

#[test]
fn a_call_that_was_not_sent_has_its_cause_and_field() {
    alone!();
    let (connection, far) = against(Kind::Seqpacket, drop);
    let named = |keys: &[(u8, u8)]| Named {
        path: keys.iter().map(|key| (*key, 1)).collect(),
    };
    let files = vec![named(&[]), named(&[(1, 2)])];
    let error = connection.notify("x.y", &Listed { files }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the call was not sent: files[1].path cannot be written as JSON: key must be a string"
    );
    assert!(
        std::error::Error::source(&error).is_none(),
        "the message contains the cause"
    );
    let error = connection.notify("x.y", "text").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the call was not sent: params cannot be written as JSON: they are neither a struct, nor a tuple, nor a unit"
    );
    let large = ("x".repeat(2 << 20),);
    let error = connection.notify("x.y", &large).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("the call was not sent: message of "),
        "{said}"
    );
    far.join().unwrap();
    // A call whose connection cannot be opened has not been sent either.
    let open = |path: &str| -> Result<u64, CallError> { Connection::open(path)?.call("x.y", &()) };
    let error = open("/nowhere/at/all").unwrap_err();
    assert!(
        matches!(error, CallError::NotSent(Error::Address { .. })),
        "{error:?}"
    );
    let refused = std::io::Error::from_raw_os_error(13);
    let error: CallError = Error::Os {
        operation: "recvmsg",
        source: refused,
    }
    .into();
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("13"), "{source}");
}
