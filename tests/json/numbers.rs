//! Numbers: at and beyond the limits of their types, inexact, not finite.

use super::*;

use std::collections::{BTreeMap, HashMap};

use jsoncomm::Message;
use jsoncomm::fds::Fds;
use jsoncomm::message::{Json, Pack, Packer, UnusedFds, WithFds, decode, encode};
use serde::{Deserialize, Deserializer, Serialize};

/// A type, the numbers that it accepts with their results, and those that it refuses.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const TABLE: [Row; 8] = [
    (
        "u8",
        &[("0", "0"), ("255", "255")],
        &[
            "256", "-1", "-0", "1.0", "1e2", "0.5", "1e999", "\"1\"", "true",
        ],
    ),
    (
        "i8",
        &[("-128", "-128"), ("127", "127")],
        &["-129", "128", "-0", "-1.0", "1E0"],
    ),
    (
        "u64",
        &[("18446744073709551615", "18446744073709551615")],
        &[
            "18446744073709551616",
            "-1",
            "1.0",
            "1e3",
            "18446744073709551615.0",
            "1e999",
        ],
    ),
    (
        "i64",
        &[
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775807", "9223372036854775807"),
        ],
        &[
            "-9223372036854775809",
            "9223372036854775808",
            "-1e3",
            "-0",
            "-0.0",
        ],
    ),
    (
        "u128",
        &[(
            "340282366920938463463374607431768211455",
            "340282366920938463463374607431768211455",
        )],
        &["340282366920938463463374607431768211456", "-1"],
    ),
    (
        "i128",
        &[(
            "-170141183460469231731687303715884105728",
            "-170141183460469231731687303715884105728",
        )],
        &[
            "-170141183460469231731687303715884105729",
            "170141183460469231731687303715884105728",
        ],
    ),
    (
        "f32",
        &[
            ("3.4028235e38", "3.4028235e38"),
            ("1e-45", "1e-45"),
            ("0.1", "0.1"),
            ("16777217", "16777216.0"),
        ],
        &["3.5e38", "-3.5e38", "1e999"],
    ),
    (
        "f64",
        &[
            ("1.7976931348623157e308", "1.7976931348623157e308"),
            ("-1.7976931348623157E+308", "-1.7976931348623157e308"),
            ("5e-324", "5e-324"),
            ("1e-999", "0.0"),
            ("-0", "-0.0"),
            ("-0.0", "-0.0"),
            ("0.1", "0.1"),
            // The nearest number of the type.
            ("0.1000000000000000055511151231257827", "0.1"),
            ("9007199254740993", "9007199254740992.0"),
            ("18446744073709551615", "1.8446744073709552e19"),
            ("123456789012345678901234567890", "1.2345678901234568e29"),
        ],
        &[
            "1.8e308",
            "-1.8e308",
            "1e999",
            "1e99999999999999999999",
            "\"NaN\"",
            "null, \"f64\": 1",
        ],
    ),
];

/// Returns a number with very many digits.
fn endless() -> String {
    "9".repeat(400)
}

#[test]
fn a_number_argument_fits_its_type_or_is_refused_by_name() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, Limits::default());
        let endless = endless();
        for (of, taken, refused) in TABLE {
            let ask = |number: &str| call("numbers", &format!(r#"{{"all":{{"{of}":{number}}}}}"#));
            for (number, reply) in taken {
                let back = served.ask_text(&ask(number));
                let end = format!(r#""result":{{"{of}":{reply}}}}}"#);
                assert!(back.replace("e+", "e").ends_with(&end), "{number}: {back}");
            }
            let field = format!("all.{of}");
            for number in refused.iter().chain([&&*endless]) {
                let fault = (Fault::INVALID_PARAMS, Some(5));
                served.assert_refused(ask(number), 0, fault, Some(&field));
            }
        }
        // A number of more than 128 bits ends there, and the rest is not a number.
        for of in ["u128", "i128"] {
            for number in ["1.0", "1e3", "0.5"] {
                let text = call("numbers", &format!(r#"{{"all":{{"{of}":{number}}}}}"#));
                let reply = served.ask(text, 0);
                assert_eq!(reply["error"]["code"], Fault::INVALID_PARAMS, "{reply}");
            }
        }
        served.stop();
    }
}

#[test]
fn a_number_in_a_reply_fits_its_type_or_is_an_error_with_its_field() {
    alone!();
    let endless = endless();
    for kind in KINDS {
        for (of, taken, refused) in TABLE {
            let numbers = taken.iter().map(|(number, _)| *number);
            let numbers = numbers.chain(refused.iter().copied()).chain([&*endless]);
            let reply =
                |number| format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"{of}":{number}}}}}"#);
            let texts: Vec<_> = numbers.map(|number| reply(number).into_bytes()).collect();
            let (connection, far) = against(kind, texts);
            for at in 0..=taken.len() + refused.len() {
                let result: Result<Numbers, CallError> = connection.call("test.json.numbers", &[0]);
                match (taken.get(at), result) {
                    (Some((_, text)), Ok(numbers)) => {
                        let back = written(&numbers).replace("e+", "e");
                        assert_eq!(back, format!(r#"{{"{of}":{text}}}"#));
                    }
                    (
                        None,
                        Err(CallError::Io(Error::Decode(error @ DecodeError::Shape { .. }))),
                    ) => {
                        assert_eq!(error.field(), Some(of));
                    }
                    (_, other) => panic!("{of} {at}: {other:?}"),
                }
                let _: Result<ValueWithFile, CallError> = connection.call("test.json.any", &[0]);
            }
            far.join().unwrap();
        }
    }
}

/// Returns a message as JSON.
#[track_caller]
fn written(message: &impl Pack) -> String {
    let mut text = Vec::new();
    encode(message, &mut text, &Packer::new()).unwrap();
    String::from_utf8(text).unwrap()
}

#[derive(Debug, Default, Message)]
struct Weighed {
    #[serde(default)]
    name: String,
    weight: f64,
    #[serde(default)]
    light: Option<f32>,
    #[serde(default)]
    more: Vec<(u8, f64)>,
    #[serde(default)]
    by_name: BTreeMap<String, f64>,
    #[fd]
    inner: Option<Box<Weighed>>,
    #[fd]
    shape: Shape,
}

#[derive(Debug, Default, Message)]
enum Shape {
    #[default]
    None,
    Round(f64),
    Square(f32, f32),
    Long {
        length: f64,
    },
}

/// Written by serde.
#[derive(Debug, Serialize)]
enum Serdes {
    One(f64),
    Two(f32, f64),
    Three { x: Option<f64> },
}

#[derive(Debug, Serialize)]
struct Unit(f64);

/// Returns why a message cannot be written. Asserts that text and descriptors are unchanged.
#[track_caller]
fn unwritable(message: &impl Pack) -> EncodeError {
    let (mut text, fds) = (b"before".to_vec(), Packer::new());
    let error = encode(message, &mut text, &fds).unwrap_err();
    assert_eq!((&*text, fds.len()), (&b"before"[..], 0));
    error
}

#[test]
fn nan_and_infinity_are_not_written_and_the_error_names_the_field() {
    #[track_caller]
    fn refused(message: &impl Pack, path: Option<&str>) {
        let error = unwritable(message);
        let EncodeError::NotFinite { field } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(field.as_deref(), path);
        let text = path.map_or(String::new(), |path| format!("{path}: "));
        assert_eq!(error.to_string(), text + "not a finite number");
    }
    for bad in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        #[expect(clippy::cast_possible_truncation, reason = "no finite number")]
        let single = bad as f32;
        let fine = Weighed::default;
        refused(&bad, None);
        refused(&single, None);
        refused(
            &Weighed {
                weight: bad,
                ..fine()
            },
            Some("weight"),
        );
        refused(
            &Weighed {
                light: Some(single),
                ..fine()
            },
            Some("light"),
        );
        refused(
            &Weighed {
                more: vec![(0, 1.0), (1, bad)],
                ..fine()
            },
            Some("more[1][1]"),
        );
        refused(
            &Weighed {
                by_name: BTreeMap::from([("a".into(), bad)]),
                ..fine()
            },
            Some("by_name"),
        );
        refused(
            &Weighed {
                shape: Shape::Round(bad),
                ..fine()
            },
            Some("shape.Round"),
        );
        refused(
            &Weighed {
                shape: Shape::Square(0.0, single),
                ..fine()
            },
            Some("shape.Square[1]"),
        );
        let shape = Shape::Long { length: bad };
        let inner = Some(Box::new(Weighed { shape, ..fine() }));
        refused(
            &Weighed { inner, ..fine() },
            Some("inner.shape.Long.length"),
        );
        refused(&Json(Serdes::One(bad)), Some("One"));
        refused(&Json(Serdes::Two(single, 0.0)), Some("Two[0]"));
        refused(&Json([Serdes::Three { x: Some(bad) }]), Some("[0].Three.x"));
        refused(&Json(Unit(bad)), None);
        refused(&Json(HashMap::from([("a", [(1, bad)])])), Some("[0][1]"));
        refused(&HashMap::from([(1, bad)]), None);
        refused(&(null(), bad), Some("[1]"));
    }
    // Values that serde refuses are still refused.
    let error = unwritable(&Json(HashMap::from([((1, 2), 3)])));
    assert!(matches!(error, EncodeError::Json { .. }), "{error:?}");
}

#[test]
fn every_finite_number_is_read_back_as_written() {
    for number in [
        0.0,
        -0.0,
        1.0,
        0.1,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        f64::EPSILON,
        9e15,
        1e21,
    ] {
        let text = written(&number);
        let back: f64 = decode(text.as_bytes(), Fds::new(), UnusedFds::Refuse).unwrap();
        assert_eq!(back.to_bits(), number.to_bits(), "{text}");
    }
}

#[test]
fn a_call_with_nan_is_not_sent() {
    alone!();
    for kind in KINDS {
        let served = Served::start(kind, Limits::default());
        let connection = served.server.connect();
        let numbers = |number| Numbers {
            f64: Some(number),
            ..Numbers::default()
        };
        let client = TakerClient::new(connection.clone());
        match client.numbers(&numbers(f64::NAN)) {
            Err(CallError::NotSent(Error::Encode(EncodeError::NotFinite { field }))) => {
                assert_eq!(field.as_deref(), Some("all.f64"));
            }
            other => panic!("{other:?}"),
        }
        let sent = connection.notify("test.json.ping", &(f64::INFINITY,));
        assert!(
            matches!(
                sent,
                Err(CallError::NotSent(Error::Encode(
                    EncodeError::NotFinite { .. }
                )))
            ),
            "{sent:?}"
        );
        let started = connection.start::<u64, Nested>("test.json.ping", &(f64::INFINITY,));
        assert!(matches!(
            started,
            Err(CallError::NotSent(Error::Encode(
                EncodeError::NotFinite { .. }
            )))
        ));
        assert_eq!(client.numbers(&numbers(0.5)).unwrap().f64, Some(0.5));
        drop((client, connection));
        let counts = served.stop();
        assert_eq!(counts.received, 3);
    }
}

#[test]
fn a_reply_with_nan_is_replaced_by_a_fault() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, Limits::default());
        for (fail, field) in [(false, "weight"), (true, "weight")] {
            match served.polite.weigh(fail, null()) {
                Err(CallError::Fault(fault)) => {
                    assert_eq!(fault.code, Fault::INTERNAL_ERROR);
                    assert_eq!(
                        fault.message,
                        format!("the reply: {field}: not a finite number")
                    );
                }
                other => panic!("{other:?}"),
            }
            served.assert_healthy();
        }
        served.stop();
    }
}

#[test]
fn a_bare_message_with_nan_is_not_sent() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        let sent = left.send(&(1, f64::NAN));
        assert!(
            matches!(sent, Err(Error::Encode(EncodeError::NotFinite { .. }))),
            "{sent:?}"
        );
        left.send(&(1, 0.5)).unwrap();
        assert_eq!(right.receive::<(u8, f64)>().unwrap().0, (1, 0.5));
    }
}

/// A key: the bits of an `f32`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bits(u32);

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        f32::deserialize(from).map(|number| Self(number.to_bits()))
    }
}

/// The nearest `f32` of a number can differ from the nearest `f32` of its nearest `f64`.
#[test]
fn a_number_key_is_read_as_the_same_number_as_a_value() {
    for text in [
        "16777217.0000000000001",
        "16777217",
        "-0.1",
        "3.4028235e38",
        "1e-45",
        "3.5e38",
        "1e999",
    ] {
        let value: Option<f32> = decode(text.as_bytes(), Fds::new(), UnusedFds::Refuse).ok();
        let object = format!(r#"{{"{text}":null}}"#);
        let map =
            decode::<Json<BTreeMap<Bits, ()>>>(object.as_bytes(), Fds::new(), UnusedFds::Refuse);
        let keys = map.ok().map(|map| map.0.into_keys().collect::<Vec<_>>());
        assert_eq!(
            keys,
            value.map(|number| vec![Bits(number.to_bits())]),
            "{text}"
        );
    }
}

#[derive(Debug, Message, thiserror::Error)]
#[error("wide")]
struct Wide(u128);

/// The integer ends at the point, and the rest does not belong to the member.
#[test]
fn a_fraction_is_refused_for_a_128_bit_integer() {
    alone!();
    let replies = [
        r#"{"jsonrpc":"2.0","id":ID,"result":NUMBER}"#,
        r#"{"jsonrpc":"2.0","result":NUMBER,"id":ID}"#,
        r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"m","data":NUMBER}}"#,
        r#"{"jsonrpc":"2.0","error":{"data":NUMBER,"code":1,"message":"m"},"id":ID}"#,
    ];
    for number in ["1.5", "1.0", "2e30"] {
        let texts = replies.map(|text| text.replace("NUMBER", number).into_bytes());
        let (connection, far) = against(Kind::Seqpacket, texts.to_vec());
        for reply in replies {
            let read: Result<u128, CallError<Wide>> = connection.call("test.json.numbers", &[0]);
            let refused = matches!(
                read,
                Err(CallError::Io(Error::Decode(_)) | CallError::Fault(_))
            );
            assert!(refused, "{number} in {reply}: {read:?}");
            let _: Result<ValueWithFile, CallError> = connection.call("test.json.any", &[0]);
        }
        far.join().unwrap();
    }
}

#[test]
fn an_integer_too_wide_for_value_is_refused_by_its_member() {
    use serde_json::Value;
    fn typed<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
        let read = decode::<Json<T>>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
        read.map(|json| json.0).map_err(|error| error.to_string())
    }
    let refused = |text: &str| {
        let read = decode::<WithFds<Value>>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
        read.map(|message| message.json.to_string())
            .unwrap_err()
            .to_string()
    };
    let big = "340282366920938463463374607431768211455";
    let rewritten = serde_json::from_str::<Value>(big).unwrap().to_string();
    if rewritten == big {
        // With `arbitrary_precision` no digit is lost, and nothing is refused.
        let nested = format!(r#"{{"a":[{big},{{"b":-{big}0}}]}}"#);
        for text in [big, &nested] {
            let read = decode::<WithFds<Value>>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
            assert_eq!(read.unwrap().json.to_string(), text);
        }
        return;
    }
    let said = format!("integer {big} has more than 64 bits");
    assert_eq!(refused(big), said);
    assert_eq!(
        refused(&format!(r#"{{"a":{{"b c":{big}}}}}"#)),
        format!("a.b c: {said}")
    );
    assert_eq!(
        refused(&format!(r#"{{"a":[0,{{"b":{big}}}]}}"#)),
        format!("a[1].b: {said}")
    );
    for just in ["18446744073709551616", "-9223372036854775809"] {
        assert_eq!(
            refused(just),
            format!("integer {just} has more than 64 bits")
        );
    }
    let long = refused(&"9".repeat(300));
    assert_eq!(
        long,
        format!("integer {}… has more than 64 bits", "9".repeat(40))
    );
    // These keep all digits, as integers or as floats that are written with the same digits.
    for kept in [
        "18446744073709551615",
        "-9223372036854775808",
        "100000000000000000000",
        "18446744073709556000",
        "1e300",
        "1.5",
    ] {
        let read = decode::<WithFds<Value>>(kept.as_bytes(), Fds::new(), UnusedFds::Refuse);
        let (json, number) = (read.unwrap().json, kept.parse::<f64>().unwrap());
        assert_eq!(json.as_f64(), Some(number), "{kept}");
    }
    // Accepted where the type is known, or the value is ignored.
    assert_eq!(typed::<u128>(big), Ok(u128::MAX));
    assert!(typed::<f64>(big).is_ok() && typed::<serde::de::IgnoredAny>(big).is_ok());
    #[derive(Message)]
    struct Within {
        number: u128,
        #[serde(default)]
        any: Value,
        #[sensitive]
        #[serde(default)]
        secret: Value,
    }
    let within = |text: &str| decode::<Within>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
    let read = within(&format!(r#"{{"number":{big},"strange":[{big}]}}"#)).unwrap();
    assert_eq!((read.number, read.any), (u128::MAX, Value::Null));
    let any = within(&format!(r#"{{"number":1,"any":{{"x":{big}}}}}"#)).unwrap_err();
    assert_eq!(any.to_string(), format!("any: x: {said}"));
    let secret = within(&format!(r#"{{"number":1,"secret":{{"x":{big}}}}}"#)).unwrap_err();
    assert_eq!(secret.to_string(), "secret: not what is expected");
}
