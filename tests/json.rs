//! Strict JSON: which texts are accepted, and the errors for all others.
//!
//! Each promise is tested in both directions (what a client sends, what a server replies) and for bare messages. After
//! each malformed message the next one is served, and no descriptor is left open.

mod depth;
mod differential;
mod keys;
mod numbers;
mod properties;
mod texts;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use jsoncomm::message::{DecodeError, EncodeError};
use jsoncomm::message::{Json, WithFds};
use jsoncomm::observe::Counts;
use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Error, Fault};
use jsoncomm::{Kind, Limits, Message};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds};
use jsoncomm_tests::{pair, send_raw, servers_are_gone};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use serde_json::{Value, json};

/// A service that takes any JSON, with a descriptor.
#[jsoncomm::service(name = "test.json")]
trait Taker {
    /// Returns the number.
    fn ping(&mut self, number: u64) -> u64;
    /// Returns its arguments.
    fn any(&mut self, value: Value, #[fd] file: OwnedFd) -> ValueWithFile;
    /// Takes a struct that ignores unknown members.
    fn take(&mut self, #[fd] plain: Plain) -> u64;
    /// Returns the numbers.
    fn numbers(&mut self, #[fd] all: Numbers) -> Numbers;
    /// Returns, or fails with, a value that JSON cannot express.
    fn weigh(&mut self, fail: bool, #[fd] file: OwnedFd) -> Result<Weight, Weight>;
    /// Returns, or fails with, this many nested arrays.
    fn nest(&mut self, levels: usize, fail: bool) -> Result<Json<Value>, Nested>;
}

#[derive(Debug, Message)]
struct ValueWithFile {
    value: Value,
    #[fd]
    file: OwnedFd,
}

#[derive(Debug, Message)]
struct Plain {
    number: u64,
}

/// A number of each type.
#[derive(Debug, Default, Message)]
struct Numbers {
    #[serde(skip_serializing_if = "Option::is_none")]
    u8: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    i8: Option<i8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u64: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    i64: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u128: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    i128: Option<i128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f32: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f64: Option<f64>,
}

#[derive(Debug, Message, thiserror::Error)]
#[error("heavy")]
struct Weight {
    #[fd]
    file: OwnedFd,
    weight: f64,
}

#[derive(Debug, Message, thiserror::Error)]
#[error("nested")]
struct Nested {
    levels: Value,
}

struct Server;

impl Taker for Server {
    fn ping(&mut self, number: u64) -> u64 {
        number
    }

    fn any(&mut self, value: Value, file: OwnedFd) -> ValueWithFile {
        ValueWithFile { value, file }
    }

    fn take(&mut self, plain: Plain) -> u64 {
        plain.number
    }

    fn numbers(&mut self, all: Numbers) -> Numbers {
        all
    }

    fn weigh(&mut self, fail: bool, file: OwnedFd) -> Result<Weight, Weight> {
        let weight = f64::NAN;
        if fail {
            Err(Weight { file, weight })
        } else {
            Ok(Weight { file, weight })
        }
    }

    fn nest(&mut self, levels: usize, fail: bool) -> Result<Json<Value>, Nested> {
        let levels = nested(levels);
        if fail {
            Err(Nested { levels })
        } else {
            Ok(Json(levels))
        }
    }
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Returns this many nested arrays.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(7), |inner, _| json!([inner]))
}

/// Returns enough of a text to identify it.
fn quote(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(150).collect()
}

/// Returns the text of a call with the id 5.
fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":5,"method":"test.json.{method}","params":{params}}}"#)
}

/// A server, a client that sends anything, and a client that keeps to the rules.
struct Served {
    server: Running<Server>,
    raw: Socket,
    polite: TakerClient,
    /// Number of descriptors that are open meanwhile.
    fds: usize,
    before: usize,
}

impl Served {
    fn start(kind: Kind, mut limits: Limits) -> Self {
        servers_are_gone();
        let before = open_fds();
        (limits.malformed, limits.user_descriptors) = (usize::MAX, usize::MAX);
        let server = Running::with_limits(limits.clone(), kind, Server, |endpoint| {
            endpoint.serve::<dyn Taker>()
        });
        let mut raw = Socket::connect(&server.path, kind).unwrap();
        raw.set_timeout(Some(PATIENCE));
        raw.set_depth_limit(usize::MAX);
        let polite = server.connect();
        polite.set_depth_limit(limits.depth);
        let mut served = Self {
            server,
            raw,
            polite: TakerClient::new(polite),
            fds: 0,
            before,
        };
        // The first call of each client has the server accept its connection.
        served.polite.ping(1).unwrap();
        assert_eq!(served.ask(call("ping", "[1]"), 0)["result"], 1);
        served.fds = open_fds();
        served
    }

    /// Sends a text with this many descriptors and returns the reply.
    #[track_caller]
    fn ask(&mut self, text: impl AsRef<[u8]>, fds: usize) -> Value {
        let null = null();
        send_raw(&self.raw, text.as_ref(), &vec![null.as_fd(); fds]).unwrap();
        self.raw.receive::<WithFds<Value>>().unwrap().0.json
    }

    /// Sends a text and returns the text of its reply.
    #[track_caller]
    fn ask_text(&self, text: &str) -> String {
        send_raw(&self.raw, text.as_bytes(), &[]).unwrap();
        set_socket_timeout(&self.raw, Timeout::Recv, Some(PATIENCE)).unwrap();
        let mut reply = vec![0; 10_000];
        let (length, _) = recv(&self.raw, &mut *reply, RecvFlags::empty()).unwrap();
        reply.truncate(length);
        String::from_utf8(reply).unwrap()
    }

    /// Asserts that a text gets this fault with this id, and has no other effect.
    #[track_caller]
    fn assert_refused(
        &mut self,
        text: impl AsRef<[u8]>,
        fds: usize,
        (code, id): (i64, Option<u64>),
        field: Option<&str>,
    ) {
        let quote = quote(text.as_ref());
        let reply = self.ask(text, fds);
        let error = &reply["error"];
        assert_eq!(error["code"], code, "{quote}: {reply}");
        assert_eq!(reply["id"], json!(id), "{quote}: {reply}");
        assert_eq!(error["data"]["field"].as_str(), field, "{quote}: {reply}");
        assert!(reply.to_string().len() < 1000, "{reply}");
        self.assert_healthy();
    }

    /// Asserts that the other client is served, and no descriptor is left.
    #[track_caller]
    fn assert_healthy(&mut self) {
        assert_eq!(self.polite.ping(2).unwrap(), 2);
        assert_open_fds(self.fds);
    }

    /// Stops the server, and asserts that nothing is left open.
    #[track_caller]
    fn stop(self) -> Counts {
        let (_, counts) = self.server.stop();
        drop((self.raw, self.polite));
        assert_open_fds(self.before);
        counts
    }
}

/// Replies to calls with these texts, in which `ID` is the id, with one descriptor each, and to each following call
/// with a valid reply. Passes the results of the calls to `check`.
#[track_caller]
fn answered(texts: &[Vec<u8>], check: impl Fn(&str, Result<ValueWithFile, CallError<Nested>>)) {
    for kind in KINDS {
        let before = open_fds();
        let (connection, far) = against(kind, texts.to_vec());
        for text in texts {
            let quote = quote(text);
            check(&quote, connection.call("test.json.any", &[0]));
            let good: Result<ValueWithFile, CallError> = connection.call("test.json.any", &[0]);
            assert_eq!(good.unwrap().value, 7, "after {quote}");
        }
        drop((connection, far.join().unwrap()));
        assert_open_fds(before);
    }
}

/// Returns two connected sockets.
fn sockets(kind: Kind) -> (OwnedFd, OwnedFd) {
    let of = match kind {
        Kind::Datagram => SocketType::DGRAM,
        Kind::Seqpacket => SocketType::SEQPACKET,
    };
    socketpair(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None).unwrap()
}

/// Returns a connection and the thread that replies to it.
fn against(kind: Kind, texts: Vec<Vec<u8>>) -> (Connection, JoinHandle<()>) {
    let (near, far) = sockets(kind);
    let thread = std::thread::spawn(move || {
        let mut far = Socket::from_fd(far).unwrap();
        far.set_timeout(Some(PATIENCE));
        let null = null();
        let good = br#"{"jsonrpc":"2.0","id":ID,"result":{"value":7,"file":0}}"#.to_vec();
        for text in texts {
            for text in [&text, &good] {
                let call = far.receive::<WithFds<Value>>().unwrap().0.json;
                let text = with_id(text, &call["id"].to_string());
                send_raw(&far, &text, &[null.as_fd()]).unwrap();
            }
        }
    });
    (
        Connection::from_fd(near).unwrap().with_timeout(PATIENCE),
        thread,
    )
}

/// Replaces `ID` by the id.
fn with_id(text: &[u8], id: &str) -> Vec<u8> {
    let mut parts = text.to_vec();
    while let Some(at) = parts.windows(2).position(|pair| pair == b"ID") {
        parts.splice(at..at + 2, id.bytes());
    }
    parts
}
