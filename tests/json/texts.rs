//! Texts that are not JSON, and JSON that is ambiguous.

use super::*;

use std::collections::BTreeMap;

use jsoncomm::fds::Fds;
use jsoncomm::message::{UnusedFds, decode};
use serde::{Deserialize, Deserializer};

/// Values that violate the grammar.
const BROKEN: [&[u8]; 44] = [
    b"NaN",
    b"nan",
    b"Infinity",
    b"-Infinity",
    b"-",
    b"+1",
    b"01",
    b"-01",
    b"1.",
    b".5",
    b"1e",
    b"1e+",
    b"0x10",
    b"1_000",
    b"tru",
    b"True",
    b"nul",
    b"undefined",
    b"'a'",
    b"\"a",
    b"\"a\nb\"",
    b"\"a\tb\"",
    b"\"a\0b\"",
    b"\"a\x1fb\"",
    b"\"\\x\"",
    b"\"\\u12\"",
    b"\"\\u00g0\"",
    b"\"\\\"",
    b"[1",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"{\"a\":1",
    b"{\"a\":1,}",
    b"{\"a\"}",
    b"{\"a\" 1}",
    b"{a:1}",
    b"{1:1}",
    b"{,}",
    b"/**/1",
    b"1//",
    b"1 2",
    b"\0",
    b"",
];

/// Values that are ambiguous: readers refuse them, or disagree on them.
const UNCLEAR: [&str; 13] = [
    r#""\ud800""#,
    r#""\udc00""#,
    r#""a\ud800b""#,
    r#""\ud800\u0041""#,
    r#""\ud800\ud800""#,
    r#""\udc00\ud800""#,
    r#"["\udfff"]"#,
    r#"{"\ud800":1}"#,
    r#"{"a":1,"a":1}"#,
    r#"{"a":1,"b":2,"\u0061":3}"#,
    r#"[{"x":{"":1,"":2}}]"#,
    r#"{"a\u0000":1,"a\u0000":2}"#,
    r#"{"\ud83d\ude00":1,"😀":2}"#,
];

/// Strings that are not UTF-8: invalid bytes, overlong forms, surrogates, code points beyond the last, truncated
/// characters.
const NOT_UTF8: [&[u8]; 12] = [
    b"\"\xff\"",
    b"\"\xfe\xff\"",
    b"\"\x80\"",
    b"\"\xc0\x80\"",
    b"\"\xc0\xaf\"",
    b"\"\xe0\x80\xaf\"",
    b"\"\xf0\x80\x80\xaf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xed\xb0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe2\x82\"",
    b"\"\xf8\x88\x80\x80\x80\"",
];

/// Replaces `VALUE` by a value.
fn with(text: &str, value: &[u8]) -> Vec<u8> {
    let (before, after) = text.split_once("VALUE").unwrap();
    [before.as_bytes(), value, after.as_bytes()].concat()
}

/// Returns the text in other encodings, with and without a byte order mark.
fn encodings(text: &str) -> Vec<Vec<u8>> {
    let little = |unit: u16| unit.to_le_bytes();
    let wide: Vec<u8> = text.encode_utf16().flat_map(little).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let widest: Vec<u8> = text
        .chars()
        .flat_map(|letter| u32::from(letter).to_le_bytes())
        .collect();
    vec![
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [b"\xff\xfe", &*wide].concat(),
        [b"\xfe\xff", &*big].concat(),
        wide,
        big,
        widest,
    ]
}

/// Returns the text with something invalid around it.
fn surrounded(text: &str) -> Vec<Vec<u8>> {
    let around: [(&[u8], &[u8]); 14] = [
        (b"", b"\0"),
        (b"", b" \0"),
        (b"\0", b""),
        (b"", b"x"),
        (b"", b","),
        (b"", b"{}"),
        (b"", b"[]"),
        (b"", b" 7"),
        (b"", b"\x0b"),
        (b"\x0c", b""),
        (b"\xc2\xa0", b""),
        (b"", b"\xe2\x80\xa8"),
        (b",", b""),
        (b"", b"}"),
    ];
    let around = around.iter();
    around
        .map(|(before, after)| [before, text.as_bytes(), after].concat())
        .collect()
}

#[test]
fn a_call_that_is_not_json_is_refused_with_parse_error() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, Limits::default());
        let ping = call("ping", "[1]");
        let (known, unknown) = ((Fault::PARSE_ERROR, Some(5)), (Fault::PARSE_ERROR, None));
        let places = [
            (call("any", r#"{"value":VALUE,"file":0}"#), known),
            (call("any", r#"{"file":0,"value":[1,VALUE]}"#), known),
            (call("any", r#"{"value":1,"file":0,"more":VALUE}"#), known),
            (call("ping", r#"{"number":"x","more":[VALUE,1]}"#), known),
            (call("none", "[1,VALUE]"), known),
            (call("ping", "VALUE"), known),
            (ping.replace('}', r#","x":VALUE}"#), known),
            (ping.replacen('{', r#"{"x":VALUE,"#, 1), unknown),
        ];
        for (text, fault) in &places {
            for value in BROKEN {
                served.assert_refused(with(text, value), 1, *fault, None);
            }
            for value in NOT_UTF8 {
                served.assert_refused(with(text, value), 1, unknown, None);
            }
        }
        for text in encodings(&ping) {
            served.assert_refused(text, 1, unknown, None);
        }
        for text in surrounded(&ping) {
            let fault = if text.starts_with(b"{") {
                known
            } else {
                unknown
            };
            served.assert_refused(text, 1, fault, None);
        }
        if kind == Kind::Datagram {
            served.assert_refused("", 1, unknown, None);
        }
        served.stop();
    }
}

#[test]
fn ambiguous_json_in_a_call_is_refused() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, Limits::default());
        let ping = call("ping", "[1]");
        let (argument, envelope) = (Fault::INVALID_PARAMS, Fault::INVALID_REQUEST);
        let places = [
            (
                call("any", r#"{"value":VALUE,"file":0}"#),
                argument,
                Some("value"),
            ),
            (
                call("any", r#"{"file":0,"value":[{"a":VALUE}]}"#),
                argument,
                Some("value"),
            ),
            (call("any", "[VALUE,0]"), argument, Some("value")),
            (
                call("take", r#"{"plain":{"number":1,"more":VALUE}}"#),
                argument,
                Some("plain"),
            ),
            (ping.replace('}', r#","x":VALUE}"#), envelope, None),
            (ping.replacen('{', r#"{"x":VALUE,"#, 1), envelope, None),
        ];
        for (text, code, field) in places {
            for value in UNCLEAR {
                served.assert_refused(with(&text, value.as_bytes()), 1, (code, Some(5)), field);
            }
        }
        for (name, value, id) in [
            (r#""x":1,"y":2,"x""#, "1", Some(5)),
            (r#""x":{},"\u0078""#, "{}", Some(5)),
            (r#""\ud800""#, "1", None),
            (r#""id":6,"id""#, "6", Some(6)),
            (r#""jsonrpc":"2.0","x""#, "1", Some(5)),
        ] {
            let text = ping.replacen('{', &format!("{{{name}:{value},"), 1);
            served.assert_refused(text, 1, (envelope, id), None);
        }
        for (good, bad, id) in [
            ("5", r#""\ud800""#, None),
            ("5", r#""a\udc00b""#, None),
            (r#""2.0""#, r#""\udc00""#, Some(5)),
            ("test.json.ping", r"test.json.\ud800", Some(5)),
            ("jsonrpc", r"jsonrpc\udc00", None),
        ] {
            served.assert_refused(ping.replacen(good, bad, 1), 1, (envelope, id), None);
        }
        served.stop();
    }
}

#[test]
fn a_call_may_use_any_equivalent_spelling_of_json() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, Limits::default());
        let ping = call("ping", r#"{"number":1}"#);
        for text in [
            format!(" \t\r\n{ping}\n \r\t"),
            ping.replace(':', "\n:\t").replace(',', " ,\r"),
            ping.replace("2.0", r"\u0032\u002e0"),
            ping.replace("\"method", r#""\u006dethod"#)
                .replace("test.", r"\u0074est\u002E"),
            ping.replace("number", r"n\u0075mb\u0065r"),
            ping.replace(
                "}}",
                r#"},"x":[{"a":1},{"a":2}],"\u0000":"\ud83d\ude00","":1,"\u007f":2}"#,
            ),
        ] {
            assert_eq!(served.ask(&text, 0)["result"], 1, "{text}");
            served.assert_healthy();
        }
        for id in [
            r#""\u0000""#,
            r#""\ud83d\ude00""#,
            r#""\\ud800""#,
            r#""\n\"""#,
        ] {
            let reply = served.ask(ping.replace('5', id), 0);
            assert_eq!(reply["id"], serde_json::from_str::<Value>(id).unwrap());
        }
        served.stop();
    }
}

/// Returns replies with `VALUE` replaced by each of the values.
fn replies(template: &str, values: &[&[u8]]) -> Vec<Vec<u8>> {
    values.iter().map(|value| with(template, value)).collect()
}

/// Asserts that each of these replies ends its call in a decoding error for which `is_right` is true.
#[track_caller]
fn undecodable(texts: &[Vec<u8>], is_right: impl Fn(&DecodeError) -> bool) {
    answered(texts, |text, result| match result {
        Err(CallError::Io(Error::Decode(error))) => assert!(is_right(&error), "{text}: {error:?}"),
        other => panic!("{text}: {other:?}"),
    });
}

#[test]
fn a_reply_that_is_not_json_is_a_decoding_error() {
    alone!();
    let good = r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0}}"#;
    let syntax = |error: &DecodeError| matches!(error, DecodeError::Syntax { .. });
    for template in [
        r#"{"jsonrpc":"2.0","id":ID,"result":{"value":VALUE,"file":0}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"file":0,"value":[1,VALUE]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0,"more":VALUE}}"#,
        r#"{"jsonrpc":"2.0","result":{"value":VALUE,"file":0},"id":ID}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0},"x":VALUE}"#,
        r#"{"jsonrpc":"2.0","x":VALUE,"id":ID,"result":{"value":1,"file":0}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"m","data":VALUE}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"m","data":[1,VALUE]}}"#,
    ] {
        undecodable(&replies(template, &BROKEN), syntax);
        undecodable(&replies(template, &NOT_UTF8), syntax);
    }
    undecodable(&encodings(good), syntax);
    undecodable(&surrounded(good), syntax);
    let others = ["{}", "[]", "null", "7", "\"\"", "[", &"[]".repeat(30_000)];
    undecodable(&others.map(|text| text.as_bytes().to_vec()), syntax);
}

#[test]
fn decoding_errors_mention_nan_and_lone_surrogates() {
    alone!();
    let why = |text: &[u8]| {
        let error = decode::<WithFds<Value>>(text, Fds::new(), UnusedFds::Close).unwrap_err();
        error.to_string()
    };
    for value in [&b"NaN"[..], b"nan", b"Infinity", b"-Infinity", b"inf"] {
        for text in ["VALUE", "[1,\n VALUE]", r#"{"a":{"b":VALUE}}"#] {
            let why = why(&with(text, value));
            assert!(why.contains("NaN and infinity are not JSON"), "{why}");
        }
    }
    assert!(why(b"[1,\n NaN]").ends_with("at line 2 column 2"));
    for other in [&b"[nul]"[..], b"{nan:1}", b"[\"nan\",]", b"[tru, inf"] {
        let why = why(other);
        assert!(!why.contains("NaN"), "{why}");
    }
    let lone = UNCLEAR.iter().take(8);
    for value in lone {
        let why = why(value.as_bytes());
        assert!(why.contains("a lone surrogate is not a character"), "{why}");
    }
    // In every reply, also where its text is skipped.
    let nan = |error: &DecodeError| error.to_string().contains("NaN and infinity");
    for template in [
        r#"{"jsonrpc":"2.0","id":ID,"result":{"value":VALUE,"file":0}}"#,
        r#"{"jsonrpc":"2.0","result":{"value":VALUE,"file":0},"id":ID}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0},"x":VALUE}"#,
    ] {
        undecodable(&replies(template, &[b"NaN"]), nan);
    }
}

#[test]
fn an_empty_reply_is_a_decoding_error() {
    alone!();
    // On a connection an empty packet is the end of file.
    let (connection, far) = against(Kind::Datagram, vec![Vec::new()]);
    let empty: Result<ValueWithFile, CallError> = connection.call("test.json.any", &[0]);
    assert!(
        matches!(
            empty,
            Err(CallError::Io(Error::Decode(DecodeError::Syntax { .. })))
        ),
        "{empty:?}"
    );
    let good: Result<ValueWithFile, CallError> = connection.call("test.json.any", &[0]);
    assert_eq!(good.unwrap().value, 7);
    far.join().unwrap();
}

#[test]
fn an_ambiguous_reply_is_a_decoding_error() {
    alone!();
    let values = UNCLEAR.map(str::as_bytes);
    let shape = |error: &DecodeError| matches!(error, DecodeError::Shape { .. });
    for (template, field) in [
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"value":VALUE,"file":0}}"#,
            Some("value"),
        ),
        (
            r#"{"jsonrpc":"2.0","result":{"file":0,"value":[VALUE]},"id":ID}"#,
            Some("value"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0,"more":VALUE}}"#,
            None,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"m","data":VALUE}}"#,
            None,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"m","x":VALUE}}"#,
            None,
        ),
    ] {
        undecodable(&replies(template, &values), |error| {
            shape(error) && error.field() == field
        });
    }
    for template in [
        r#"{"jsonrpc":"2.0","x":VALUE,"id":ID,"result":{"value":1,"file":0}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0},"x":VALUE}"#,
    ] {
        undecodable(&replies(template, &values), |_| true);
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0},"x":1,"x":1}"#,
        r#"{"x":1,"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0},"\u0078":1}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"m","code":1}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"m","data":{"levels":1},"data":null}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"\ud800"}}"#,
    ] {
        undecodable(&[text.as_bytes().to_vec()], |_| true);
    }
}

#[test]
fn an_unreadable_reply_ends_the_call_with_its_id() {
    alone!();
    for kind in KINDS {
        let before = open_fds();
        let (near, far) = sockets(kind);
        let mut far = Socket::from_fd(far).unwrap();
        far.set_timeout(Some(PATIENCE));
        let connection = Connection::from_fd(near).unwrap().with_timeout(PATIENCE);
        let start = || {
            connection
                .start::<ValueWithFile, Nested>("test.json.any", &[0])
                .unwrap()
        };
        let (first, second, third) = (start(), start(), start());
        let mut id = || far.receive::<WithFds<Value>>().unwrap().0.json["id"].to_string();
        let ids = [id(), id(), id()];
        let texts = [
            r#"{"jsonrpc":"2.0","id":ID,"result":{"value":1,"file":0}} x"#,
            r#"{"jsonrpc":"2.0","id":ID,"x":{"a":1,"a":1},"result":{"value":1,"file":0}}"#,
            r#"{"jsonrpc":"2.0","id":ID,"result":{"value":7,"file":0}}"#,
        ];
        for (text, id) in std::iter::zip(texts, ids) {
            send_raw(&far, &with_id(text.as_bytes(), &id), &[null().as_fd()]).unwrap();
        }
        // The third waits while the replies to the others arrive.
        assert_eq!(third.wait().unwrap().value, 7);
        for call in [first, second] {
            let ended = call.wait();
            assert!(
                matches!(ended, Err(CallError::Io(Error::Decode(_)))),
                "{ended:?}"
            );
        }
        drop((connection, far));
        assert_open_fds(before);
    }
}

#[test]
fn a_bare_message_that_is_not_json_is_refused_and_the_next_received() {
    alone!();
    for kind in KINDS {
        let (left, mut right) = pair(kind);
        let fds = open_fds();
        let texts = BROKEN.into_iter().chain(NOT_UTF8).map(<[u8]>::to_vec);
        let nested = BROKEN.into_iter().map(|value| with("[1,VALUE]", value));
        let texts = texts
            .chain(nested)
            .chain(encodings("[1]"))
            .chain(surrounded("[1]"));
        for text in texts.chain(["[]".repeat(30_000).into_bytes()]) {
            // End of file on a connection.
            if text.is_empty() && kind == Kind::Seqpacket {
                continue;
            }
            send_raw(&left, &text, &[null().as_fd()]).unwrap();
            let refused = right.receive::<Json<Value>>();
            let quote = String::from_utf8_lossy(&text);
            assert!(
                matches!(refused, Err(Error::Decode(DecodeError::Syntax { .. }))),
                "{quote}: {refused:?}"
            );
            send_raw(&left, b" [7]\n", &[]).unwrap();
            assert_eq!(right.receive::<Json<Value>>().unwrap().0.0, json!([7]));
            assert_open_fds(fds);
        }
        for text in UNCLEAR {
            send_raw(&left, text.as_bytes(), &[null().as_fd()]).unwrap();
            let refused = right.receive::<Json<Value>>();
            assert!(
                matches!(refused, Err(Error::Decode(DecodeError::Shape { .. }))),
                "{text}: {refused:?}"
            );
        }
        assert_open_fds(fds);
    }
}

/// Returns the default for a value that cannot be read.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(T::deserialize(from).unwrap_or_default())
}

#[derive(Debug, Message, PartialEq)]
struct Lax {
    #[serde(default, deserialize_with = "or_default")]
    number: u8,
    #[serde(default, deserialize_with = "or_default")]
    truth: bool,
    #[serde(default, deserialize_with = "or_default")]
    text: String,
    #[serde(default, deserialize_with = "or_default")]
    list: Vec<u8>,
    #[serde(default, deserialize_with = "or_default")]
    pair: [u8; 1],
    #[serde(default, deserialize_with = "or_default")]
    map: BTreeMap<String, u8>,
    #[serde(default, deserialize_with = "or_default")]
    either: Option<Result<u8, u8>>,
    end: u8,
}

#[derive(Debug, Message)]
#[serde(tag = "kind", content = "is")]
enum LaxContent {
    List(#[serde(deserialize_with = "or_default")] Vec<u8>),
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Loose {
    #[serde(deserialize_with = "or_default")]
    _list: Vec<u8>,
}

#[test]
fn a_field_with_an_error_default_skips_one_token_and_no_more() {
    let read = |text: &str| decode::<Lax>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
    let tokens = "null true false 1 -1 300 1.5 \"x\" \"\\n\"";
    for member in ["number", "truth", "text", "list", "pair", "map"] {
        for token in tokens.split(' ') {
            let text = format!(r#"{{"{member}": {token} ,"end":7}}"#);
            assert_eq!(read(&text).map(|lax| lax.end), Ok(7), "{text}");
        }
    }
    // After an error inside a value it is unknown where the value ends.
    for text in [
        r#"{"list":[300],"end":7}"#,
        r#"{"map":{"a":300},"end":7}"#,
        r#"{"list":[300,"end":7}"#,
        r#"{"list":["x","end":7}"#,
        r#"{"list":[[300,"x"],"end":7}"#,
        r#"{"pair":[1,"end":7}"#,
        r#"{"map":{"a":"x","end":7}"#,
        r#"{"either":{"Ok":300,"end":7}"#,
        r#"{"either":{"Ok":"x","end":7}"#,
        r#"{"end":7,"map":{"a":1,"a":2}"#,
        r#"{"end":7,"either":{"Ok":"x"}"#,
        r#"{"number":,"end":7}"#,
        r#"{"number":,"truth":,"end":7}"#,
        r#"{"end":7,"number":}"#,
        r#"{"number","end":7}"#,
        r#"{"end":7,"text":nul}"#,
        r#"{"end":7,"text":"x}"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    for (content, is_read) in [("[1]", true), ("300", true), ("[300]", false)] {
        for text in [
            format!(r#"{{"kind":"List","is":{content}}}"#),
            format!(r#"{{"is":{content},"kind":"List"}}"#),
        ] {
            let read = decode::<LaxContent>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
            assert_eq!(read.is_ok(), is_read, "{text}: {read:?}");
        }
    }
    for text in ["[300", "[300,1]", "[", "[1 2]"] {
        let read = decode::<Json<Loose>>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
        assert!(read.is_err(), "{text}");
    }
}
