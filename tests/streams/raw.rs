//! Streams on the wire, from both ends.

use crate::streams::{TickerClient, start};
use std::convert::Infallible;
use std::os::fd::AsFd;

use jsoncomm::message::Json;
use jsoncomm::socket::Socket;
use jsoncomm::stream::Items;
use jsoncomm::{CallError, Connection, Error, Fault, Kind, Message};
use jsoncomm_tests::{KINDS, PATIENCE, alone, pair, send_raw};

fn socket(path: &std::path::Path, kind: Kind) -> Socket {
    let mut socket = Socket::connect(path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    socket
}

#[test]
fn each_item_has_the_more_flag_and_the_end_is_null() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let mut socket = socket(&server.path, kind);
        let call =
            br#"{"jsonrpc":"2.0","id":"a","method":"example.ticker.count","params":{"end":2}}"#;
        send_raw(&socket, call, &[]).unwrap();
        let mut next = || {
            let Json(value): Json<serde_json::Value> = socket.receive().unwrap().0;
            value
        };
        let more =
            |number| serde_json::json!({"jsonrpc":"2.0","id":"a","result":number,"more":true});
        assert_eq!(next(), more(0));
        assert_eq!(next(), more(1));
        let end = serde_json::json!({"jsonrpc":"2.0","id":"a","result":null});
        assert_eq!(next(), end);
    }
}

#[test]
fn a_stream_without_a_recipient_is_not_started() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let ticker = TickerClient::new(server.connect());
        let socket = socket(&server.path, kind);
        let call = br#"{"jsonrpc":"2.0","method":"example.ticker.bricks","params":{"overflow":0,"capacity":1}}"#;
        send_raw(&socket, call, &[]).unwrap();
        while ticker.lay(1).unwrap().is_empty() {}
        assert_eq!(ticker.lay(1).unwrap(), [Some(0)]);
        assert_eq!(ticker.stats().unwrap().0, 0);
    }
}

#[test]
fn calling_a_stream_for_one_reply_is_an_error_and_cancels_it() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let connection = server.connect();
        let ticker = TickerClient::new(connection.clone());
        let bricks = |connection: &Connection| {
            connection.start::<crate::streams::Brick, Infallible>("example.ticker.bricks", &(0, 4))
        };
        let is_stream = |reply: Result<crate::streams::Brick, CallError>| {
            assert!(matches!(reply, Err(CallError::Stream)), "{reply:?}");
        };
        let (first, second) = (bricks(&connection).unwrap(), bricks(&connection).unwrap());
        assert_eq!(ticker.lay(1).unwrap(), [None, None]);
        is_stream(first.wait());
        assert_ne!(
            ticker.stats().unwrap().2,
            0,
            "the server gets the cancellation"
        );
        let (sender, receiver) = std::sync::mpsc::channel();
        second.on_complete(move |reply| sender.send(reply).unwrap());
        is_stream(receiver.recv_timeout(PATIENCE).unwrap());
        assert_eq!(ticker.stats().unwrap().2, 2);
        // Whatever the method, also while it waits.
        let count: Result<String, CallError> = connection.call("example.ticker.count", &(2,));
        assert!(matches!(count, Err(CallError::Stream)), "{count:?}");
        assert_eq!(ticker.plain(7).unwrap(), 7);
    }
}

#[derive(Debug, Message)]
struct Nothing {}

/// Returns the server's end of a connection, which the test drives, and a stream from it.
fn foreign(kind: Kind) -> (Socket, Items<u32>, u64) {
    let (server, _, items, id) = connected(kind);
    (server, items, id)
}

fn connected(kind: Kind) -> (Socket, Connection, Items<u32>, u64) {
    let (mut server, client) = pair(kind);
    let client = client.as_fd().try_clone_to_owned().unwrap();
    let connection = Connection::from_fd(client).unwrap().with_timeout(PATIENCE);
    let items = connection.stream("example.any.thing", &Nothing {}).unwrap();
    let Json(call): Json<serde_json::Value> = server.receive().unwrap().0;
    assert_eq!(call.get("timeout"), None, "a stream has no total timeout");
    let id = call["id"].as_u64().unwrap();
    (server, connection, items, id)
}

#[test]
fn the_last_item_may_omit_the_more_flag() {
    alone!();
    for kind in KINDS {
        let (server, mut items, id) = foreign(kind);
        for text in [
            format!(r#"{{"more":true,"jsonrpc":"2.0","result":1,"id":{id}}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":2}}"#),
        ] {
            send_raw(&server, text.as_bytes(), &[]).unwrap();
        }
        assert_eq!(items.next().unwrap().unwrap(), 1);
        assert_eq!(items.next().unwrap().unwrap(), 2);
        assert!(items.next().is_none());
        let (sender, receiver) = std::sync::mpsc::channel();
        items.for_each(move |item| sender.send(item.is_none()).is_ok());
        assert_eq!(
            receiver.try_iter().collect::<Vec<_>>(),
            [true],
            "only the end is left"
        );
        let (server, mut items, id) = foreign(kind);
        let end = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":null,"more":false}}"#);
        send_raw(&server, end.as_bytes(), &[]).unwrap();
        assert!(items.next().is_none());
    }
}

#[test]
fn an_unreadable_item_ends_the_stream_and_cancels_it() {
    alone!();
    for kind in KINDS {
        let (mut server, mut items, id) = foreign(kind);
        let bad = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"one","more":true}}"#);
        send_raw(&server, bad.as_bytes(), &[]).unwrap();
        let error = items.next().unwrap().unwrap_err();
        assert!(
            matches!(error, CallError::Io(Error::Decode(_))),
            "{error:?}"
        );
        assert!(items.next().is_none());
        receive_cancellation(&mut server, id);
    }
}

/// Receives the cancellation of a stream.
fn receive_cancellation(server: &mut Socket, id: u64) {
    let Json(cancel): Json<serde_json::Value> = server.receive().unwrap().0;
    assert_eq!(cancel["method"], "rpc.cancel");
    assert_eq!(cancel["params"]["id"], id);
}

#[test]
fn an_invalid_reply_ends_the_stream_and_cancels_it() {
    alone!();
    for kind in KINDS {
        for waits in [true, false] {
            let (mut server, connection, mut items, id) = connected(kind);
            let cut = format!(r#"{{"jsonrpc":"2.0","id":{id},"more":true,"result":"#);
            send_raw(&server, cut.as_bytes(), &[]).unwrap();
            if !waits {
                while connection.run_once().unwrap() {}
            }
            let item = items.next().unwrap();
            let decoding = matches!(item, Err(CallError::Io(Error::Decode(_))));
            assert!(decoding, "{item:?}");
            assert!(items.next().is_none());
            receive_cancellation(&mut server, id);
        }
        // The client assigns this fault to the stream because no other call is in flight.
        let (mut server, mut items, id) = foreign(kind);
        send_raw(&server, b"rubbish", &[]).unwrap();
        items.next().unwrap().unwrap_err();
        assert!(items.next().is_none());
        receive_cancellation(&mut server, id);
    }
}

#[test]
fn a_stream_whose_call_was_unreadable_leaves_nothing_behind() {
    alone!();
    for kind in KINDS {
        let (mut server, connection, mut items, _) = connected(kind);
        let unread = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}"#;
        send_raw(&server, unread.as_bytes(), &[]).unwrap();
        let item = items.next().unwrap();
        assert!(matches!(item, Err(CallError::Fault(_))), "{item:?}");
        assert!(items.next().is_none());
        // So that such a fault can belong to the next call only.
        let call = connection.start::<u32, Infallible>("example.any.thing", &Nothing {});
        server.receive::<Json<serde_json::Value>>().unwrap();
        send_raw(&server, unread.as_bytes(), &[]).unwrap();
        while connection.run_once().unwrap() {}
        let reply = call.unwrap().wait();
        assert!(matches!(reply, Err(CallError::Fault(_))), "{reply:?}");
    }
}

#[test]
fn an_unreadable_end_of_a_stream_is_an_error() {
    alone!();
    for kind in KINDS {
        for end in [
            r#""result":nullx}"#,
            r#""result":null"#,
            r#""result":null} x"#,
            r#""result":null,"x":1,"x":2}"#,
            r#""result":null,"more":false,"more":false}"#,
            r#""result":null,"error":{"code":-32005,"message":"late"}}"#,
        ] {
            let (server, mut items, id) = foreign(kind);
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{end}"#);
            send_raw(&server, text.as_bytes(), &[]).unwrap();
            let error = items.next().map(Result::unwrap_err);
            assert!(
                matches!(error, Some(CallError::Io(Error::Decode(_)))),
                "{end}: {error:?}"
            );
            assert!(items.next().is_none());
        }
    }
}

#[test]
fn a_cancel_request_may_pass_its_id_by_position() {
    alone!();
    for kind in KINDS {
        let server = start(kind);
        let mut socket = socket(&server.path, kind);
        for params in [r#"{"id":"a"}"#, r#"["a"]"#, r#" [ "a" ] "#] {
            let call =
                br#"{"jsonrpc":"2.0","id":"a","method":"example.ticker.bricks","params":[0,1]}"#;
            send_raw(&socket, call, &[]).unwrap();
            let cancel = format!(r#"{{"jsonrpc":"2.0","method":"rpc.cancel","params":{params}}}"#);
            send_raw(&socket, cancel.as_bytes(), &[]).unwrap();
            let Json(reply): Json<serde_json::Value> = socket.receive().unwrap().0;
            assert_eq!(reply["id"], "a");
            assert_eq!(reply["error"]["code"], Fault::CANCELLED);
        }
        for params in [r#"["a","b"]"#, "[]", "[[]]"] {
            let cancel =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"rpc.cancel","params":{params}}}"#);
            send_raw(&socket, cancel.as_bytes(), &[]).unwrap();
            let Json(reply): Json<serde_json::Value> = socket.receive().unwrap().0;
            assert_eq!(reply["error"]["code"], Fault::INVALID_PARAMS, "{params}");
        }
    }
}

#[test]
fn a_cancel_request_under_backpressure_is_sent_later() {
    alone!();
    for kind in KINDS {
        let (mut server, connection, items, id) = connected(kind);
        connection.set_driven();
        // A server that does not read.
        let mut waiting = 0;
        while connection.notify("example.any.thing", &Nothing {}).is_ok() {
            waiting += 1;
        }
        drop(items);
        let mut next = || {
            let Json(call): Json<serde_json::Value> = server.receive().unwrap().0;
            call
        };
        for _ in 0..waiting {
            assert_eq!(next()["method"], "example.any.thing");
        }
        connection.notify("example.any.thing", &Nothing {}).unwrap();
        let cancel = next();
        assert_eq!(cancel["method"], "rpc.cancel");
        assert_eq!(cancel["params"]["id"], id);
    }
}
