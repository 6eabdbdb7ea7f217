//! Duplicate keys.

use super::*;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};

use jsoncomm::fds::Fds;
use jsoncomm::message::{Packer, Unpack, UnusedFds, decode, encode};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Our derive, lenient.
#[derive(Debug, Message, PartialEq)]
struct Ours {
    a: u8,
    #[serde(default, alias = "bee")]
    b: Option<u8>,
}

/// The derive of serde.
#[derive(Debug, Deserialize, PartialEq)]
struct Serdes {
    a: u8,
    #[serde(alias = "bee")]
    b: Option<u8>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "b")]
enum Tagged {
    #[serde(rename = "2")]
    Two { a: u8 },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "b", content = "a")]
enum Adjacent {
    #[serde(rename = "2")]
    Two(u8),
}

#[derive(Debug, Message, PartialEq)]
#[serde(tag = "b", content = "a")]
enum OurAdjacent {
    #[serde(rename = "2")]
    Two(u8),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Map(BTreeMap<char, Value>),
}

#[derive(Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
enum Key {
    A,
    B,
    More,
}

/// The raw text of a value, as serde_json's `RawValue`. Without that feature, the value.
#[derive(Debug, PartialEq)]
struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                map.next_key::<IgnoredAny>()?;
                let value = serde_json::from_str(map.next_value()?);
                value.map(Raw).map_err(A::Error::custom)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Raw, D::Error> {
                Value::deserialize(from).map(Raw)
            }
        }

        from.deserialize_newtype_struct("$serde_json::private::RawValue", Text)
    }
}

fn read<M: for<'de> Unpack<'de>>(text: &str) -> Result<M, DecodeError> {
    decode(text.as_bytes(), Fds::new(), UnusedFds::Refuse)
}

/// Asserts that objects with keys `a` and `b` are read, and refused if a key occurs twice.
#[track_caller]
fn once<M: for<'de> Unpack<'de> + Debug>() {
    // In some cases one of them is a tag.
    let goods = [r#"{"b":"2","a":1}"#, r#"{"b":2,"a":1}"#];
    let good = goods.into_iter().find(|good| read::<M>(good).is_ok());
    let good = good.unwrap();
    let rest = good.strip_prefix('{').unwrap();
    for twice in [
        format!(r#"{{"a":1,{rest}"#),
        format!(r#"{{"a":1,"\u0061":1,{rest}"#),
        format!(r#"{{"\u0061":1,{rest}"#),
        good.replace('}', r#","\u0062":2}"#),
        good.replace('}', r#","b":"2"}"#),
    ] {
        let refused = read::<M>(&twice);
        assert!(
            matches!(refused, Err(DecodeError::Shape { .. })),
            "{twice}: {refused:?}"
        );
    }
}

#[test]
fn an_object_with_a_duplicate_key_is_refused_for_every_type() {
    once::<Ours>();
    once::<Json<Serdes>>();
    once::<Json<Flat>>();
    once::<Json<Tagged>>();
    once::<Json<Adjacent>>();
    once::<OurAdjacent>();
    once::<Json<Untagged>>();
    once::<Json<Value>>();
    once::<Json<IgnoredAny>>();
    once::<Json<Raw>>();
    once::<Json<BTreeMap<String, Value>>>();
    once::<Json<HashMap<char, Value>>>();
    once::<Json<HashMap<Key, Value>>>();
    once::<HashMap<Key, Json<Value>>>();
    once::<Option<BTreeMap<String, Json<Option<Value>>>>>();
}

#[test]
fn a_duplicate_key_is_found_in_unknown_members() {
    fn lenient<M: for<'de> Unpack<'de> + Debug>() {
        let all = |more: &str| read::<M>(&format!(r#"{{"a":1,"more":{more},"b":2,"also":[3]}}"#));
        for good in [
            "1",
            r#"{"a":1,"b":[{"a":1},{"a":2}]}"#,
            r#""\ud83d\ude00""#,
            "123456789012345678901",
        ] {
            assert!(all(good).is_ok(), "{good}");
        }
        for bad in [
            r#"1,"more":1"#,
            r#"1,"also":1"#,
            r#"1,"m\u006fre":1"#,
            r#"{"a":1,"a":1}"#,
            r#"[[{"x":{"a":1,"b":2,"\u0061":1}}]]"#,
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
        ] {
            let refused = all(bad);
            assert!(
                matches!(refused, Err(DecodeError::Shape { field: None, .. })),
                "{bad}: {refused:?}"
            );
        }
    }
    lenient::<Ours>();
    lenient::<Json<Serdes>>();
    lenient::<Json<Option<Serdes>>>();
}

#[test]
fn a_name_and_its_alias_are_the_same_member() {
    for text in [r#"{"a":1,"b":1,"bee":1}"#, r#"{"bee":1,"a":1,"b":null}"#] {
        assert!(read::<Ours>(text).is_err());
        assert!(read::<Json<Serdes>>(text).is_err());
    }
}

#[test]
fn descriptors_are_closed_when_their_map_has_a_duplicate_key() {
    alone!();
    let before = open_fds();
    for text in [r#"{"a":0,"b":1,"a":2}"#, r#"{"a":0,"b":1,"\u0061":2}"#] {
        let fds = Fds::from(vec![null(), null(), null()]);
        let read = decode::<HashMap<String, OwnedFd>>(text.as_bytes(), fds, UnusedFds::Refuse);
        assert!(matches!(read, Err(DecodeError::Shape { .. })), "{read:?}");
        assert_open_fds(before);
    }
}

#[test]
fn a_duplicate_key_can_be_written_and_is_refused_when_read() {
    let rest = BTreeMap::from([(String::from("a"), json!(2))]);
    let mut text = Vec::new();
    encode(&Json(Flat { a: 1, rest }), &mut text, &Packer::new()).unwrap();
    assert_eq!(text, br#"{"a":1,"a":2}"#);
    assert!(read::<Json<Value>>(r#"{"a":1,"a":2}"#).is_err());
}

#[test]
fn private_keys_of_serde_json_are_refused() {
    for key in ["RawValue", "Number", "anything"] {
        for text in [
            format!(r#"{{"$serde_json::private::{key}":"1"}}"#),
            format!(r#"[{{"\u0024serde_json::private::{key}":"[[{{}}]]"}}]"#),
            format!(r#"{{"a":1,"$serde_json::private::{key}":"1"}}"#),
        ] {
            assert!(read::<Json<Value>>(&text).is_err(), "{text}");
        }
    }
    let text = r#"{"$serde_json":1,"serde_json::private::Number":2}"#;
    assert!(read::<Json<Value>>(text).is_ok());
}

#[test]
fn a_call_with_a_duplicate_key_is_refused_by_argument() {
    alone!();
    for kind in KINDS {
        let mut served = Served::start(kind, Limits::default());
        for (params, field) in [
            (r#"{"value":{"a":1,"a":2},"file":0}"#, Some("value")),
            (
                r#"{"file":0,"value":[{"a":1,"b":2,"\u0061":2}]}"#,
                Some("value"),
            ),
            (r#"[{"a":1,"b":{},"a":2},0]"#, Some("value")),
            (r#"{"value":1,"file":0,"value":1}"#, Some("value")),
            (r#"{"value":1,"file":0,"f\u0069le":1}"#, Some("file")),
            (r#"{"value":1,"file":0,"more":1,"more":1}"#, Some("more")),
        ] {
            served.assert_refused(
                call("any", params),
                1,
                (Fault::INVALID_PARAMS, Some(5)),
                field,
            );
        }
        served.stop();
    }
}

#[test]
fn a_reply_with_a_duplicate_key_is_a_decoding_error() {
    alone!();
    let reply =
        |result: &str| format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{result}}}"#).into_bytes();
    let texts =
        |results: &[&str]| -> Vec<_> { results.iter().map(|result| reply(result)).collect() };
    let named = [
        r#"{"value":{"a":1,"a":2},"file":0}"#,
        r#"{"value":{"a":1,"\u0061":2},"file":0}"#,
        r#"{"file":0,"value":1,"value":1}"#,
    ];
    answered(&texts(&named), |text, result| match result {
        Err(CallError::Io(Error::Decode(error @ DecodeError::Shape { .. }))) => {
            assert_eq!(error.field(), Some("value"), "{text}");
        }
        other => panic!("{text}: {other:?}"),
    });
    let skipped = [
        r#"{"value":1,"file":0,"more":1,"more":1}"#,
        r#"{"more":[{"a":1,"a":1}],"value":1,"file":0}"#,
        r#"{"value":1,"file":0,"more":"\udc00"}"#,
    ];
    answered(&texts(&skipped), |text, result| match result {
        Err(CallError::Io(Error::Decode(DecodeError::Shape { field: None, .. }))) => {}
        other => panic!("{text}: {other:?}"),
    });
}

#[test]
fn a_bare_message_with_a_duplicate_key_is_refused_and_the_next_received() {
    alone!();
    for kind in KINDS {
        let (left, mut right) = pair(kind);
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"more":1,"more":2}"#] {
            send_raw(&left, text.as_bytes(), &[null().as_fd()]).unwrap();
            let refused = right.receive::<Ours>();
            assert!(
                matches!(refused, Err(Error::Decode(DecodeError::Shape { .. }))),
                "{refused:?}"
            );
            send_raw(&left, br#"{"a":1,"more":1}"#, &[]).unwrap();
            assert_eq!(right.receive::<Ours>().unwrap().0, Ours { a: 1, b: None });
        }
    }
}
