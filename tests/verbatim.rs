//! Untyped calls and datagrams: passed on unchanged, with their descriptors.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use jsoncomm::message::{RawError, RawMessage};
use jsoncomm::{Call, CallError, Connection, Error, Kind, Message, Stream};
use jsoncomm_tests::{KINDS, Running, pair, send_raw};

#[derive(Debug, Message, thiserror::Error)]
enum Trouble {
    #[error("no such thing")]
    Unknown,
    #[error("no room for {what}")]
    NoRoom { what: String },
}

#[derive(Debug, Message)]
struct Named {
    name: String,
    #[fd]
    file: File,
}

#[jsoncomm::service(name = "test.things")]
trait Things {
    fn open(&mut self, path: &str) -> Result<Named, Trouble>;
    fn store(&mut self, number: u128, #[fd] file: File) -> Result<String, Trouble>;
    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32, Trouble>;
}

struct Shelf;

impl Things for Shelf {
    fn open(&mut self, path: &str) -> Result<Named, Trouble> {
        let file = File::open(path).map_err(|_| Trouble::NoRoom { what: path.into() })?;
        let name = path.to_owned();
        Ok(Named { name, file })
    }

    fn store(&mut self, number: u128, mut file: File) -> Result<String, Trouble> {
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|_| Trouble::Unknown)?;
        Ok(format!("{number} {}", text.len()))
    }

    fn count(&mut self, call: &mut Call, end: u32) -> Stream<u32, Trouble> {
        let last = Err(Trouble::NoRoom {
            what: "more".into(),
        });
        call.stream(|sink| sink.feed((0..end).map(Ok).chain([last])))
    }
}

mod fallback;
mod raw;

fn start(kind: Kind) -> Running<Shelf> {
    Running::start(kind, Shelf, |endpoint| endpoint.serve::<dyn Things>())
}

fn file(path: &str) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// A message with one descriptor.
fn with_file(json: &str, path: &str) -> RawMessage {
    let mut message = RawMessage::new(json);
    message.fds.push(file(path)).unwrap();
    message
}

#[test]
fn a_call_with_untyped_arguments_and_reply_can_be_made() {
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let call = |method: &str, params: &RawMessage| {
            connection.call::<RawMessage, RawError>(&format!("test.things.{method}"), params)
        };
        let mut opened = call("open", &RawMessage::new(r#"{"path":"/dev/null"}"#)).unwrap();
        assert_eq!(opened.json, r#"{"name":"/dev/null","file":0}"#);
        assert!(opened.fds.take(0).is_some());
        let number = u128::MAX;
        let params = with_file(
            &format!(r#" {{"file":0, "number":{number}}} "#),
            "/dev/null",
        );
        assert_eq!(
            call("store", &params).unwrap().json,
            format!("\"{number} 0\"")
        );
    }
}

#[test]
fn an_untyped_service_error_is_read_with_its_code_and_message() {
    let server = start(Kind::Seqpacket);
    let params = RawMessage::new(r#"{"path":"/not/there"}"#);
    let reply = server
        .connect()
        .call::<RawMessage, RawError>("test.things.open", &params);
    let Err(CallError::Service(failure)) = reply else {
        unreachable!("{reply:?}")
    };
    assert_eq!(
        (failure.code, &*failure.message),
        (2, "no room for /not/there")
    );
    let data = failure.data.unwrap().json;
    assert_eq!(data, r#"{"NoRoom":{"what":"/not/there"}}"#);
}

#[test]
fn an_error_without_data_is_a_raw_error_and_a_fault_stays_a_fault() {
    let (mut server, client) = pair(Kind::Seqpacket);
    let connection = Connection::from_fd(client.as_fd().try_clone_to_owned().unwrap()).unwrap();
    for (code, service) in [(1, true), (-5, true), (-32001, false)] {
        let pending = connection
            .start::<RawMessage, RawError>("a.b", &RawMessage::new("{}"))
            .unwrap();
        let (call, _) = server.receive_raw().unwrap();
        let call = String::from_utf8(call.bytes).unwrap();
        let id = call.split("\"id\":").nth(1).unwrap();
        let id = id.split(',').next().unwrap();
        let reply =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#);
        send_raw(&server, reply.as_bytes(), &[]).unwrap();
        match pending.wait() {
            Err(CallError::Service(failure)) => {
                assert!(service && failure.code == code && failure.data.is_none());
            }
            Err(CallError::Fault(fault)) => assert!(!service && fault.code == code),
            other => unreachable!("{other:?}"),
        }
    }
}

#[test]
fn untyped_items_arrive_one_by_one_and_the_error_last() {
    for kind in KINDS {
        let server = start(kind);
        let params = RawMessage::new(r#"{"end":3}"#);
        let items = server
            .connect()
            .stream::<RawMessage, RawError>("test.things.count", &params)
            .unwrap();
        let said: Vec<String> = items
            .map(|item| match item {
                Ok(item) => item.json,
                Err(error) => error.to_string(),
            })
            .collect();
        assert_eq!(said, ["0", "1", "2", "no room for more"]);
    }
}

#[test]
fn invalid_raw_messages_are_not_sent() {
    let server = start(Kind::Seqpacket);
    let connection = server.connect();
    for params in ["", "{", "7", r#""text""#, r#"{"a":1,"a":2}"#] {
        let reply =
            connection.call::<RawMessage, RawError>("test.things.open", &RawMessage::new(params));
        let Err(CallError::NotSent(Error::Encode(_))) = reply else {
            unreachable!("{params}: {reply:?}")
        };
    }
    let counts = server.stop().1;
    assert_eq!(counts.handled, 0);
}

#[test]
fn taking_a_descriptor_does_not_change_the_indices_of_the_others() {
    let (mut left, _right) = pair(Kind::Seqpacket);
    let mut message = with_file("[1]", "/dev/null");
    message.fds.push(file("/dev/null")).unwrap();
    message.fds.take(0);
    assert!(matches!(left.send(&message), Err(Error::Encode(_))));
}
