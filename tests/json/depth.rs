//! The nesting limit, for sending and receiving.

use super::*;

use jsoncomm::message::{Packer, encode};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Returns limits with this depth.
fn limits(depth: usize) -> Limits {
    let mut limits = Limits::default();
    limits.depth = depth;
    limits
}

/// Returns texts with this many levels in total, of arrays and of objects.
fn texts(levels: usize) -> [String; 2] {
    let array = "[".repeat(levels) + "7" + &"]".repeat(levels);
    let object = r#"{"a":"#.repeat(levels) + "7" + &"}".repeat(levels);
    [array, object]
}

/// Depths to set, and the resulting limits.
const DEPTHS: [(usize, usize); 6] = [(0, 3), (3, 3), (10, 10), (64, 64), (127, 127), (128, 127)];

#[test]
fn the_default_depth_is_64() {
    assert_eq!(Limits::default().depth, 64);
}

#[test]
fn a_call_is_served_up_to_the_depth_limit_in_every_member() {
    alone!();
    for kind in KINDS {
        for (set, depth) in DEPTHS {
            let mut served = Served::start(kind, limits(set));
            let too_deep = (Fault::PARSE_ERROR, Some(5));
            for (at, above) in std::iter::zip(texts(depth - 2), texts(depth - 1)) {
                let any = |value: &str| call("any", &format!(r#"{{"value":{value},"file":0}}"#));
                let reply = served.ask(any(&at), 1);
                assert_eq!(reply["result"]["value"].to_string(), at);
                served.assert_refused(any(&above), 1, too_deep, None);
                served.assert_refused(call("none", &format!("[{above}]")), 1, too_deep, None);
                served.assert_refused(call("any", &format!(r#"[7,0,{above}]"#)), 1, too_deep, None);
            }
            for (at, above) in std::iter::zip(texts(depth - 1), texts(depth)) {
                // An unknown member of the envelope.
                let ping = |value: &str| {
                    call("ping", "[1]").replacen('{', &format!(r#"{{"x":{value},"#), 1)
                };
                assert_eq!(served.ask(ping(&at), 0)["result"], 1);
                served.assert_refused(ping(&above), 1, too_deep, None);
                served.assert_refused(
                    format!(r#"{{"id":{above}}}"#),
                    1,
                    (Fault::PARSE_ERROR, None),
                    None,
                );
            }
            served.stop();
        }
    }
}

#[test]
fn very_deep_messages_fail_only_their_own_call() {
    alone!();
    const DEPTH: usize = 50_000;
    let [array, object] = texts(DEPTH);
    let open = "[".repeat(DEPTH);
    for kind in KINDS {
        let mut served = Served::start(kind, limits(usize::MAX));
        let (known, unknown) = ((Fault::PARSE_ERROR, Some(5)), (Fault::PARSE_ERROR, None));
        for text in [&object, &open] {
            served.assert_refused(text, 1, unknown, None);
        }
        // A batch, whose only element is too deep.
        let replies = served.ask(&array, 0);
        assert_eq!(replies[0]["error"]["code"], Fault::PARSE_ERROR);
        for deep in [&array, &object] {
            for params in [
                deep,
                &format!(r#"{{"number":{deep}}}"#),
                &format!(r#"{{"number":1,"more":{deep}}}"#),
                &format!(r#"{{"number":1,"more":"[[","more":{deep}}}"#),
            ] {
                served.assert_refused(call("ping", params), 1, known, None);
            }
            let whole = call("ping", "[1]");
            served.assert_refused(
                whole.replacen('{', &format!(r#"{{"x":{deep},"#), 1),
                1,
                known,
                None,
            );
            served.assert_refused(whole.replace('5', deep), 1, unknown, None);
            served.assert_refused(whole.replace("\"test.json.ping\"", deep), 1, known, None);
            // A message that looks like a reply gets none.
            let reply = format!(r#"{{"jsonrpc":"2.0","id":5,"result":{deep}}}"#);
            send_raw(&served.raw, reply.as_bytes(), &[]).unwrap();
            served.assert_healthy();
        }
        served.assert_healthy();
        served.stop();
    }
}

#[test]
fn brackets_in_strings_and_sibling_arrays_do_not_count_as_depth() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, limits(4));
        for value in [
            format!("[{}7]", "[],{},".repeat(10_000)),
            format!(r#""{}""#, "[{".repeat(10_000)),
            format!(r#""\"{}""#, "[{".repeat(10_000)),
            format!(r#"{{"{}\\":"]]"}}"#, "[{".repeat(10_000)),
        ] {
            let text = call("any", &format!(r#"{{"value":{value},"file":0}}"#));
            let reply = served.ask(text, 1);
            assert_eq!(
                reply["result"]["value"],
                serde_json::from_str::<Value>(&value).unwrap()
            );
            served.assert_healthy();
        }
        // A string with escaped quotation marks and brackets.
        let text = call("any", r#"["\\",0,[["\\"]],"]]]]"]"#);
        served.assert_refused(text, 1, (Fault::INVALID_PARAMS, Some(5)), None);
        let text = call("any", r#"["\\",0,[[["\\"]]],"]]]]"]"#);
        served.assert_refused(text, 1, (Fault::PARSE_ERROR, Some(5)), None);
        served.stop();
    }
}

#[test]
fn a_reply_above_the_depth_limit_is_replaced_by_a_fault() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, limits(10));
        served.polite = TakerClient::new(served.server.connect());
        for (fail, most) in [(false, 9), (true, 7)] {
            for levels in [most - 1, most] {
                match served.polite.nest(levels, fail) {
                    Ok(Json(value)) => assert_eq!((fail, value), (false, nested(levels))),
                    Err(CallError::Service(error)) => {
                        assert_eq!((fail, error.levels), (true, nested(levels)))
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            match served.polite.nest(most + 1, fail) {
                Err(CallError::Fault(fault)) => {
                    assert_eq!(fault.code, Fault::REPLY_TOO_LARGE);
                    assert_eq!(fault.message, "the reply: message nested deeper than 10");
                }
                other => panic!("{other:?}"),
            }
            served.polite.ping(1).unwrap();
        }
        served.stop();
    }
}

#[test]
fn a_client_sends_up_to_its_depth_limit_and_not_above() {
    alone!();
    for kind in KINDS {
        let served = Served::start(kind, limits(usize::MAX));
        for (set, depth) in DEPTHS {
            let connection = served.server.connect();
            if set != 64 {
                connection.set_depth_limit(set);
            }
            let client = TakerClient::new(connection);
            assert_eq!(
                client.any(nested(depth - 2), null()).unwrap().value,
                nested(depth - 2)
            );
            match client.any(nested(depth - 1), null()) {
                Err(CallError::NotSent(Error::Encode(EncodeError::TooDeep { limit }))) => {
                    assert_eq!(limit, depth)
                }
                other => panic!("{other:?}"),
            }
            client.ping(1).unwrap();
        }
        let counts = served.stop();
        assert_eq!(counts.received, 2 + 2 * DEPTHS.len() as u64);
    }
}

#[test]
fn a_client_receives_replies_up_to_its_depth_limit_and_the_next_after_a_deeper_one() {
    alone!();
    let replies = |result: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"value":7,"file":0,"x":{result}}}}}"#)
            .into_bytes()
    };
    let good = texts(62).map(|text| replies(&text));
    answered(&good, |text, result| {
        assert_eq!(result.unwrap().value, 7, "{text}")
    });

    let deep = texts(50_000);
    let bad: Vec<_> = texts(63)
        .iter()
        .chain(&deep)
        .map(|text| replies(text))
        .collect();
    let around = deep
        .iter()
        .map(|deep| format!(r#"{{"jsonrpc":"2.0","x":{deep},"id":ID,"result":7}}"#).into_bytes());
    let error = deep.iter().map(|deep| {
        format!(r#"{{"jsonrpc":"2.0","id":ID,"error":{{"code":1,"message":{deep}}}}}"#).into_bytes()
    });
    let whole = deep.iter().map(|deep| deep.clone().into_bytes());
    let bad: Vec<_> = bad
        .into_iter()
        .chain(around)
        .chain(error)
        .chain(whole)
        .collect();
    answered(&bad, |text, result| match result {
        Err(CallError::Io(Error::Decode(DecodeError::TooDeep { limit: 64 }))) => {}
        other => panic!("{text}: {other:?}"),
    });
}

#[test]
fn the_depth_limit_applies_to_a_reply_received_for_another_call() {
    alone!();
    for kind in KINDS {
        let before = open_fds();
        let result = |levels| {
            let [array, object] = texts(levels);
            [array, object].map(|x| format!(r#"{{"value":7,"file":0,"x":{x}}}"#))
        };
        let inside = |levels| {
            let reply = |result| format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{result}}}"#);
            result(levels).map(reply)
        };
        let around = |levels| {
            let reply = |x| {
                format!(r#"{{"x":{x},"jsonrpc":"2.0","id":ID,"result":{{"value":7,"file":0}}}}"#)
            };
            texts(levels).map(reply)
        };
        let good = [inside(62), around(63)].concat();
        let deep = [inside(63), around(64), inside(50_000)].concat();
        let replies = good.iter().chain(&deep);
        let (connection, far) = against(
            kind,
            replies.map(|text| text.clone().into_bytes()).collect(),
        );
        let kept = || {
            let start = || {
                connection
                    .start::<ValueWithFile, Nested>("test.json.any", &[0])
                    .unwrap()
            };
            let (first, second) = (start(), start());
            assert_eq!(second.wait().unwrap().value, 7);
            first.wait()
        };
        for text in &good {
            assert_eq!(kept().unwrap().value, 7, "{text}");
        }
        for text in &deep {
            match kept() {
                Err(CallError::Io(Error::Decode(DecodeError::TooDeep { limit: 64 }))) => {}
                other => panic!("{text}: {other:?}"),
            }
        }
        drop((connection, far.join().unwrap()));
        assert_open_fds(before);
    }
}

#[test]
fn the_depth_limit_applies_to_raw_messages() {
    alone!();
    for kind in KINDS {
        for (set, depth) in DEPTHS {
            let (left, mut right) = pair(kind);
            right.set_depth_limit(set);
            for (at, above) in std::iter::zip(texts(depth), texts(depth + 1)) {
                send_raw(&left, above.as_bytes(), &[null().as_fd()]).unwrap();
                match right.receive_raw() {
                    Err(Error::Decode(DecodeError::TooDeep { limit })) => assert_eq!(limit, depth),
                    other => panic!("{other:?}"),
                }
                send_raw(&left, at.as_bytes(), &[]).unwrap();
                assert_eq!(right.receive_raw().unwrap().0.bytes, at.as_bytes());
            }
        }
    }
}

#[test]
fn a_bare_socket_sends_and_receives_up_to_its_depth_limit() {
    alone!();
    for kind in KINDS {
        for (set, depth) in DEPTHS {
            let (mut left, mut right) = pair(kind);
            for socket in [&mut left, &mut right] {
                socket.set_depth_limit(set);
            }
            left.send(&Json(nested(depth))).unwrap();
            assert_eq!(right.receive::<Json<Value>>().unwrap().0.0, nested(depth));
            match left.send(&Json(nested(depth + 1))) {
                Err(Error::Encode(EncodeError::TooDeep { limit })) => assert_eq!(limit, depth),
                other => panic!("{other:?}"),
            }
            for text in texts(depth + 1).iter().chain(&texts(50_000)) {
                send_raw(&left, text.as_bytes(), &[null().as_fd()]).unwrap();
                match right.receive::<WithFds<Value>>() {
                    Err(Error::Decode(DecodeError::TooDeep { limit })) => assert_eq!(limit, depth),
                    other => panic!("{other:?}"),
                }
            }
            left.send(&Json(1)).unwrap();
            assert_eq!(right.receive::<Json<u8>>().unwrap().0.0, 1);
        }
    }
}

/// Nested arrays of any depth.
#[derive(Debug, Clone)]
struct Chain(Option<Box<Chain>>);

impl Chain {
    fn of(links: usize) -> Self {
        (0..links).fold(Self(None), |chain, _| Self(Some(Box::new(chain))))
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(&self.0)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut link) = next {
            next = link.0.take();
        }
    }
}

#[derive(Debug, Clone, Serialize)]
enum Variant {
    End,
    Next(Box<Variant>),
    Pair(u8, Box<Variant>),
    Named { next: Box<Variant> },
}

/// Writes any serde value and returns the length of its text.
fn length(value: impl Serialize) -> Result<usize, EncodeError> {
    let mut text = Vec::new();
    encode(&Json(value), &mut text, &Packer::new())?;
    Ok(text.len())
}

/// Imitates the way in which serde_json serializes a raw value.
struct MadeUp<T>(T);

impl<T: Serialize> Serialize for MadeUp<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut parts = to.serialize_struct("$serde_json::private::Unlooked", 1)?;
        parts.serialize_field("part", &self.0)?;
        parts.end()
    }
}

#[test]
fn the_depth_limit_applies_to_raw_values_of_serde_json() {
    // It opens a level itself, because serde_json does not know this name.
    let too_deep = |written| matches!(written, Err(EncodeError::TooDeep { limit: 127 }));
    assert!(length(MadeUp(Chain::of(125))).is_ok());
    assert!(too_deep(length(MadeUp(Chain::of(126)))));
    assert!(length([MadeUp(Chain::of(124))]).is_ok());
    assert!(too_deep(length([MadeUp(Chain::of(125))])));
}

#[test]
fn writing_a_very_deep_value_does_not_overflow_the_stack() {
    let too_deep = |written| matches!(written, Err(EncodeError::TooDeep { limit: 127 }));
    assert_eq!(length(Chain::of(126)).unwrap(), 2 * 127);
    for links in [127, 128, 100_000] {
        assert!(too_deep(length(Chain::of(links))));
    }
    let chained = |links, link: fn(Box<Variant>) -> Variant| {
        (0..links).fold(Variant::End, |inner, _| link(Box::new(inner)))
    };
    let variant = |links| chained(links, Variant::Next);
    // Each opens two levels.
    for link in [
        |next| Variant::Pair(0, next),
        |next| Variant::Named { next },
    ] {
        assert!(length(chained(63, link)).is_ok());
        assert!(too_deep(length(chained(64, link))));
    }
    assert!(length(variant(127)).is_ok());
    assert!(too_deep(length(variant(128))));
    // The number of siblings is not limited.
    assert!(length(vec![(variant(125), Chain::of(124)); 200]).is_ok());
    assert!(too_deep(length(vec![(variant(125), Chain::of(125)); 2])));
}
