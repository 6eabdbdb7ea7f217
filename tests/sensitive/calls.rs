//! Calls: no fault, event or error repeats a sensitive value.

use super::silent;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::channel;

use jsoncomm::message::Json;
use jsoncomm::observe::EventKind;
use jsoncomm::socket::Socket;
use jsoncomm::{Call, CallError, Connection, Error, Fault, Handler, Kind, Limits, Message};
use jsoncomm::{Reply, Server};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, pair, send_raw};
use serde_json::{Value, json};

#[jsoncomm::service(name = "test.door")]
trait Door {
    fn open(&mut self, user: &str, #[sensitive] pin: u16) -> Result<Opened, Closed>;
    fn unlock(
        &mut self,
        #[sensitive]
        #[serde(rename = "pass")]
        password: &str,
    ) -> u8;
    fn enroll(
        &mut self,
        #[fd]
        #[sensitive]
        key: OwnedFd,
        #[sensitive] of: Option<&str>,
    ) -> String;
    #[oneway]
    fn forget(&mut self, #[sensitive] all: &[u8]);
    fn nested(&mut self, #[sensitive] pins: BTreeMap<String, u8>) -> u8;
}

#[derive(Message, PartialEq)]
struct Opened {
    #[sensitive]
    token: u32,
}

#[derive(Message, PartialEq, thiserror::Error)]
enum Closed {
    #[error("no user of that name")]
    Unknown {
        #[sensitive]
        pin: u16,
    },
}

#[derive(Message)]
#[message(service = "test.asks", reply = u8)]
enum Ask {
    Open {
        user: String,
        #[sensitive]
        pin: u16,
    },
}

#[derive(Default)]
struct Porter;

impl Door for Porter {
    fn open(&mut self, user: &str, pin: u16) -> Result<Opened, Closed> {
        match user {
            "alice" => Ok(Opened {
                token: u32::from(pin) + 1,
            }),
            _ => Err(Closed::Unknown { pin }),
        }
    }

    fn unlock(&mut self, password: &str) -> u8 {
        u8::from(password == "hunter2")
    }

    fn enroll(&mut self, key: OwnedFd, of: Option<&str>) -> String {
        let mut text = String::from(of.unwrap_or_default());
        File::from(key).read_to_string(&mut text).unwrap();
        text
    }

    fn forget(&mut self, _all: &[u8]) {}

    fn nested(&mut self, pins: BTreeMap<String, u8>) -> u8 {
        pins.into_values().sum()
    }
}

impl Handler<Ask> for Porter {
    fn handle(&mut self, _: &mut Call, ask: Ask, reply: Reply<u8>) {
        let Ask::Open { user, pin } = ask;
        reply.send(u8::from(user == "alice" && pin == 7));
    }
}

fn start(kind: Kind) -> Running<Porter> {
    Running::start(kind, Porter, |endpoint| {
        endpoint.serve::<dyn Door>().handle::<Ask>()
    })
}

#[test]
fn sensitive_arguments_and_replies_arrive() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = start(kind);
        let door = DoorClient::new(server.connect());
        assert_eq!(door.open("alice", 7).unwrap(), Opened { token: 8 });
        assert_eq!(door.unlock("hunter2").unwrap(), 1);
        let null = File::open("/dev/null").unwrap();
        assert_eq!(door.enroll(&null, Some("x")).unwrap(), "x");
        door.forget(b"x").unwrap();
        assert_eq!(
            door.nested(BTreeMap::from([(String::new(), 7)])).unwrap(),
            7
        );
        let error = door.open("bob", 7).unwrap_err();
        assert_eq!(silent(&error), "no user of that name");
        let shown = format!("{error:?}");
        assert_eq!(shown, "Service(Unknown { pin: <sensitive> })");
        let ask = Ask::Open {
            user: "alice".into(),
            pin: 7,
        };
        assert_eq!(server.connect().request(&ask).unwrap(), 1);
    }
    assert_open_fds(before);
}

/// Returns invalid calls, the argument that the fault names, and its text.
fn wrong() -> Vec<(&'static str, Value, Option<&'static str>, &'static str)> {
    let unexpected = "not what is expected";
    vec![
        (
            "door.open",
            json!({"user": "a", "pin": "hunter2"}),
            Some("pin"),
            unexpected,
        ),
        (
            "door.open",
            json!({"user": "a", "pin": 271_828}),
            Some("pin"),
            unexpected,
        ),
        (
            "door.open",
            json!(["a", "hunter2"]),
            Some("pin"),
            unexpected,
        ),
        ("door.open", json!(["a", 271_828]), Some("pin"), unexpected),
        (
            "door.open",
            json!(["a", 1, "hunter2"]),
            None,
            "expected the arguments of open",
        ),
        ("door.open", json!("hunter2"), None, ""),
        (
            "door.unlock",
            json!({"pass": 271_828}),
            Some("pass"),
            unexpected,
        ),
        ("door.unlock", json!([271_828]), Some("pass"), unexpected),
        (
            "door.enroll",
            json!({"key": 271_828}),
            Some("key"),
            "not the descriptor that is expected",
        ),
        (
            "door.enroll",
            json!({"key": "hunter2"}),
            Some("key"),
            unexpected,
        ),
        ("door.enroll", json!([0, 271_828]), Some("of"), unexpected),
        (
            "door.forget",
            json!({"all": [271_828]}),
            Some("all"),
            unexpected,
        ),
        (
            "door.nested",
            json!({"pins": {"hunter2": 271_828}}),
            Some("pins"),
            unexpected,
        ),
        (
            "asks.open",
            json!({"user": "a", "pin": 271_828}),
            Some("pin"),
            unexpected,
        ),
        (
            "asks.open",
            json!(["a", "hunter2"]),
            Some("pin"),
            unexpected,
        ),
        ("asks.open", json!("hunter2"), None, ""),
    ]
}

#[test]
fn a_fault_names_a_sensitive_argument_without_its_value() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = start(kind);
        let mut client = Socket::connect(&server.path, kind).unwrap();
        client.set_timeout(Some(PATIENCE));
        let null = File::open("/dev/null").unwrap();
        for (method, params, field, reason) in wrong() {
            let method = format!("test.{method}");
            let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            let fds = [null.as_fd()];
            let fds = &fds[..usize::from(method.ends_with("enroll"))];
            send_raw(&client, call.to_string().as_bytes(), fds).unwrap();
            let Json(reply): Json<Value> = client.receive().unwrap().0;
            silent(&reply);
            assert_eq!(reply["error"]["data"]["field"].as_str(), field, "{call}");
            let message = reply["error"]["message"].as_str().unwrap();
            assert!(message.ends_with(reason), "{call}: {message}");
        }
    }
    assert_open_fds(before);
}

#[test]
fn events_do_not_contain_sensitive_values() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("door.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        server.bind(&path, kind).unwrap().serve::<dyn Door>();
        let (sender, events) = channel();
        server.observe(move |event| sender.send(event.clone()).unwrap());
        let client = Socket::connect(&path, kind).unwrap();
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"test.door.open","params":["a","hunter2"]}"#;
        send_raw(&client, call.as_bytes(), &[]).unwrap();
        let mut refused = false;
        while !refused {
            let _ = server.run_once(&mut Porter, Some(PATIENCE)).unwrap();
            for event in events.try_iter() {
                silent(&event);
                refused |= event.kind == EventKind::Refused(Fault::INVALID_PARAMS);
            }
        }
    }
}

#[test]
fn a_decoding_error_of_a_reply_does_not_contain_sensitive_values() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let replies = [
            (
                r#""result":{"token":"hunter2"}"#,
                "token: not what is expected",
            ),
            (r#""result":"hunter2""#, "expected struct Opened"),
        ];
        for (reply, want) in replies {
            let error = answered(kind, reply);
            let CallError::Io(Error::Decode(error)) = error else {
                unreachable!("{error:?}");
            };
            assert_eq!(silent(&error), want);
        }
        let unread = r#""error":{"code":1,"message":"no","data":{"Unknown":{"pin":271828}}}"#;
        assert!(matches!(answered(kind, unread), CallError::Fault(_)));
    }
    assert_open_fds(before);
}

/// Returns the error of a call with this reply.
fn answered(kind: Kind, reply: &str) -> CallError<Closed> {
    let (mut server, client) = pair(kind);
    let client = client.as_fd().try_clone_to_owned().unwrap();
    let door = DoorClient::new(Connection::from_fd(client).unwrap().with_timeout(PATIENCE));
    let pending = door.start().open("alice", 7).unwrap();
    let Json(call): Json<Value> = server.receive().unwrap().0;
    let id = call.get("id").unwrap();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{reply}}}"#);
    send_raw(&server, text.as_bytes(), &[]).unwrap();
    let error = pending.wait().unwrap_err();
    silent(&error);
    error
}
