//! The call `rpc.discover`.

use super::*;
use jsoncomm::message::WithFds;
use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Fault, Handler, Kind, Limits, Reply};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, send_raw};
use std::os::fd::AsFd;

struct Keeper;

impl Shelf for Keeper {
    fn open(&mut self, path: &str, _: Option<u32>) -> Result<Opened, ShelfError> {
        Err(ShelfError::NotFound { path: path.into() })
    }

    fn list(&self, _: &mut Call, _: u64) -> Vec<String> {
        Vec::new()
    }

    fn follow(&mut self, call: &mut Call, _: &Path) -> Stream<Line, ShelfError> {
        call.stream(|_| {})
    }

    fn log_to(&mut self, _: OwnedFd, _: Vec<File>, _: Option<File>) {}

    fn give(&mut self, _: u8, _: &[String], _: &Line) -> bool {
        true
    }
}

impl Handler<Ask> for Keeper {
    fn handle(&mut self, _: &mut Call, _: Ask, reply: Reply<Tell, String>) {
        reply.send(Tell::Stopped);
    }
}

/// Sends one call and returns its reply.
fn call_raw(running: &Running<Keeper>, kind: Kind, call: &str) -> Value {
    let mut socket = Socket::connect(&running.path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    send_raw(&socket, call.as_bytes(), &[]).unwrap();
    let (reply, _) = socket.receive::<WithFds<Value>>().unwrap();
    reply.json
}

#[test]
fn each_client_can_discover_the_services_of_a_server() {
    for kind in KINDS {
        let running = Running::start(kind, Keeper, |endpoint| endpoint.serve::<dyn Shelf>());
        let stub = ShelfClient::new(running.connect());
        assert!(matches!(stub.open("a", None), Err(CallError::Service(_))));
        let text = running.connect().discover().unwrap();
        let discovered = valid(&text);
        assert_eq!(discovered, document(<dyn Shelf as Describe>::DESCRIPTION));
        assert_eq!(running.connect().discover().unwrap(), text);
        for params in ["", r#","params":{}"#, r#","params":[]"#] {
            let call = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"rpc.discover"{params}}}"#);
            let reply = call_raw(&running, kind, &call);
            assert_eq!(
                reply,
                json!({"jsonrpc": "2.0", "id": "x", "result": discovered})
            );
        }
    }
}

#[test]
fn all_services_of_an_endpoint_are_in_one_document() {
    let running = Running::start(Kind::Seqpacket, Keeper, |endpoint| {
        endpoint.serve::<dyn Shelf>().handle::<Ask>()
    });
    let discovered = valid(&running.connect().discover().unwrap());
    assert_eq!(discovered["info"]["title"], "test.shelf, test.jobs");
    let docs = "Lends files.\n\nOne at a time.\n\nJobs, by an enum.";
    assert_eq!(discovered["info"]["description"], docs);
    assert_eq!(discovered["methods"].as_array().unwrap().len(), 7);
    assert_eq!(method(&discovered, "test.jobs.stop")["params"], json!([]));
}

/// Returns the error for an unknown method.
fn unknown(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "error":
        {"code": Fault::METHOD_NOT_FOUND, "message": format!("unknown method {method}")}})
}

#[test]
fn discovery_can_be_turned_off() {
    const DISCOVER: &str = r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#;
    for kind in KINDS {
        let silent = Running::start(kind, Keeper, |endpoint| {
            endpoint.serve::<dyn Shelf>().without_discovery()
        });
        assert_eq!(call_raw(&silent, kind, DISCOVER), unknown("rpc.discover"));
        let refused = silent.connect().discover();
        assert!(
            matches!(refused, Err(CallError::Fault(fault)) if fault.code == Fault::METHOD_NOT_FOUND)
        );
        let empty = Running::start(kind, Keeper, |endpoint| endpoint);
        assert_eq!(call_raw(&empty, kind, DISCOVER), unknown("rpc.discover"));
    }
}

#[test]
fn a_client_that_is_not_authorized_cannot_discover() {
    for kind in KINDS {
        let running = Running::start(kind, Keeper, |endpoint| {
            endpoint.authorize(|_| false).serve::<dyn Shelf>()
        });
        let refused = running.connect().discover();
        assert!(
            matches!(&refused, Err(CallError::Fault(fault)) if fault.code == Fault::NOT_AUTHORIZED),
            "{refused:?}"
        );
    }
}

#[test]
fn discovery_takes_no_arguments_and_no_descriptors() {
    alone!();
    let before = open_fds();
    {
        let kind = Kind::Seqpacket;
        let running = Running::start(kind, Keeper, |endpoint| endpoint.serve::<dyn Shelf>());
        for (params, code, field) in [
            (r#"{"deep":true}"#, Fault::INVALID_PARAMS, json!("deep")),
            ("[1]", Fault::INVALID_PARAMS, Value::Null),
        ] {
            let call =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"rpc.discover","params":{params}}}"#);
            let reply = call_raw(&running, kind, &call);
            assert_eq!(reply["error"]["code"], code, "{reply}");
            assert_eq!(reply["error"]["data"]["field"], field, "{reply}");
        }
        let mut socket = Socket::connect(&running.path, kind).unwrap();
        socket.set_timeout(Some(PATIENCE));
        let null = File::open("/dev/null").unwrap();
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#;
        send_raw(&socket, call, &[null.as_fd()]).unwrap();
        let (reply, _) = socket.receive::<WithFds<Value>>().unwrap();
        assert_eq!(reply.json["error"]["code"], Fault::INVALID_DESCRIPTORS);
        // Without an id it is a notification, which gets no reply.
        send_raw(
            &socket,
            br#"{"jsonrpc":"2.0","method":"rpc.discover"}"#,
            &[],
        )
        .unwrap();
        send_raw(&socket, call, &[]).unwrap();
        let (reply, _) = socket.receive::<WithFds<Value>>().unwrap();
        assert_eq!(reply.json["result"]["openrpc"], "1.3.2");
    }
    assert_open_fds(before);
}

#[test]
fn a_document_obeys_the_limits_of_a_reply() {
    let running = |message: usize| {
        let mut limits = Limits::default();
        limits.message = message;
        Running::with_limits(limits, Kind::Seqpacket, Keeper, |endpoint| {
            endpoint.serve::<dyn Shelf>()
        })
    };
    let length = running(1 << 20).connect().discover().unwrap().len();
    let refused = running(length).connect().discover();
    let Err(CallError::Fault(fault)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(fault.code, Fault::REPLY_TOO_LARGE);
    let envelope = r#"{"jsonrpc":"2.0","id":4503599627370496,"result":}"#.len();
    assert!(running(length + envelope).connect().discover().is_ok());
}

#[test]
fn discovery_counts_as_a_call() {
    let running = Running::start(Kind::Seqpacket, Keeper, |endpoint| {
        endpoint.serve::<dyn Shelf>()
    });
    let connection = running.connect();
    for _ in 0..3 {
        connection.discover().unwrap();
    }
    assert_eq!(running.stop().1.handled, 3);
}

/// Expands to nearly 20 KiB of text.
macro_rules! long {
    () => {
        include_str!("open-rpc-1.3.2.json")
    };
}

#[doc = concat!(
    long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(),
    long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(), long!(),
)]
#[jsoncomm::service(name = "test.wordy")]
trait Wordy {
    fn say(&mut self) -> bool;
}

impl Wordy for Keeper {
    fn say(&mut self) -> bool {
        true
    }
}

#[test]
fn a_large_document_arrives_whole() {
    for kind in KINDS {
        let running = Running::start(kind, Keeper, |endpoint| endpoint.serve::<dyn Wordy>());
        let text = running.connect().discover().unwrap();
        assert!(text.len() > 400_000, "{}", text.len());
        assert_eq!(valid(&text), document(<dyn Wordy as Describe>::DESCRIPTION));
        assert!(WordyClient::new(running.connect()).say().unwrap());
    }
}
