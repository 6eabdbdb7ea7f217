//! Fallback handlers, for methods that no service has.

use std::fs::File;
use std::io::Read;

use jsoncomm::message::{RawError, RawMessage};
use jsoncomm::{Call, CallError, Fault, Kind, Reply};
use jsoncomm_tests::{KINDS, Running, alone, assert_open_fds, open_fds, servers_are_gone};

use super::{file, with_file};

#[jsoncomm::service(name = "test.clock")]
trait Clock {
    fn now(&mut self) -> u32;
}

#[derive(Default)]
struct Shelf {
    kept: Vec<Reply<RawMessage, RawError>>,
    /// `is_wanted` of the replies to `wanted`, in order.
    wanted: Vec<bool>,
}

impl Clock for Shelf {
    fn now(&mut self) -> u32 {
        7
    }
}

fn start(kind: Kind) -> Running<Shelf> {
    Running::start(kind, Shelf::default(), |endpoint| {
        endpoint.serve::<dyn Clock>().fallback(handle_unknown)
    })
}

/// Handles calls of unknown methods.
fn handle_unknown(
    shelf: &mut Shelf,
    call: &mut Call,
    method: &str,
    params: RawMessage,
    reply: Reply<RawMessage, RawError>,
) {
    assert_eq!((call.service(), call.method()), ("", ""));
    match method {
        "echo" => reply.send(params),
        "fail" => reply.fail(RawError {
            code: 77,
            message: "as you wish".into(),
            data: Some(params),
        }),
        "keep" => shelf.kept.push(reply),
        "wanted" => {
            shelf.wanted.push(reply.is_wanted());
            reply.send(params);
        }
        "panic" => unreachable!("on purpose"),
        _ => reply.send_fault(&Fault::new(Fault::METHOD_NOT_FOUND, "not that")),
    }
}

/// JSON with unusual order of members, and numbers that no Rust type here holds.
const ODD: &str =
    r#"{"z":123456789012345678901234567890123456789012345, "a":[-0.10,1E+2],"\u00e9":null}"#;

#[test]
fn a_fallback_gets_unserved_calls_byte_for_byte() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let call =
            |method, params: &RawMessage| connection.call::<RawMessage, RawError>(method, params);
        let mut params = with_file(ODD, "/dev/zero");
        params.fds.push(file("/dev/null")).unwrap();
        let mut echo = call("echo", &params).unwrap();
        assert_eq!(echo.json, ODD);
        let (mut first, mut bytes) = (File::from(echo.fds.take(0).unwrap()), [1; 4]);
        first.read_exact(&mut bytes).unwrap();
        assert_eq!((bytes, echo.fds.len()), ([0; 4], 2));
        // Absent params stay absent.
        assert_eq!(call("echo", &RawMessage::new("[]")).unwrap().json, "[]");

        match call("fail", &with_file(ODD, "/dev/null")) {
            Err(CallError::Service(failure)) => {
                assert_eq!((failure.code, &*failure.message), (77, "as you wish"));
                let data = failure.data.unwrap();
                assert_eq!((&*data.json, data.fds.len()), (ODD, 1));
            }
            other => unreachable!("{other:?}"),
        }
        for (method, code) in [
            ("other", Fault::METHOD_NOT_FOUND),
            ("rpc.other", Fault::METHOD_NOT_FOUND),
            ("panic", Fault::INTERNAL_ERROR),
        ] {
            match call(method, &RawMessage::new("{}")) {
                Err(CallError::Fault(fault)) => assert_eq!(fault.code, code, "{method}"),
                other => unreachable!("{other:?}"),
            }
        }
        // Registered methods are served as before.
        let now = call("test.clock.now", &RawMessage::new("{}")).unwrap();
        assert_eq!(now.json, "7");
        server.stop();
    }
    servers_are_gone();
    assert_open_fds(before);
}

#[test]
fn a_fallback_can_defer_its_reply() {
    let server = start(Kind::Seqpacket);
    let connection = server.connect();
    let pending = connection
        .start::<RawMessage, RawError>("keep", &RawMessage::new("{}"))
        .unwrap();
    connection
        .call::<RawMessage, RawError>("echo", &RawMessage::new("{}"))
        .unwrap();
    let (shelf, _) = server.stop();
    drop(shelf);
    let reply = pending.wait();
    assert!(
        matches!(reply, Err(CallError::Fault(_) | CallError::Closed)),
        "{reply:?}"
    );
}

#[test]
fn a_one_way_call_to_a_fallback_expects_no_reply() {
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let params = RawMessage::new("[]");
        connection.notify("wanted", &params).unwrap();
        connection
            .call::<RawMessage, RawError>("wanted", &params)
            .unwrap();
        assert_eq!(server.stop().0.wanted, [false, true]);
    }
}
