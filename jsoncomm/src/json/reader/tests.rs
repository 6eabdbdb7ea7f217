use super::*;
use crate::error::DecodeError;
use crate::message::{Json, UnusedFds, check_end, decode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fmt::Debug;

fn strict<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    let read = decode::<Json<T>>(text.as_bytes(), crate::fds::Fds::new(), UnusedFds::Refuse);
    read.map(|json| json.0).map_err(|error| error.to_string())
}

#[test]
fn a_map_with_a_duplicate_key_is_refused_with_its_name() {
    let repeated = |key: &str| Err(format!("key {key:?} is repeated"));
    let text = r#"{"a":1,"b":2,"c":3,"b":4}"#;
    assert_eq!(strict::<HashMap<String, u8>>(text).map(drop), repeated("b"));
    assert_eq!(strict::<BTreeMap<&str, u8>>(text).map(drop), repeated("b"));
    assert_eq!(strict::<Value>(text).map(drop), repeated("b"));
    assert_eq!(strict::<IgnoredAny>(text).map(drop), repeated("b"));
    for text in [r#"{"b":1,"\u0062":2}"#, r#"{"\u0062":1,"b":2}"#] {
        assert_eq!(strict::<Value>(text).map(drop), repeated("b"), "{text}");
    }
    let numbers = strict::<HashMap<u8, u8>>(r#"{"1":1,"2":2,"1":3}"#);
    assert_eq!(numbers.map(drop), repeated("1"));
    let long = "x".repeat(1000);
    let error = strict::<Value>(&format!(r#"{{"{long}":1,"{long}":2}}"#)).unwrap_err();
    assert!(error.len() < 500, "{error}");
}

#[test]
fn an_escape_is_decoded_unless_it_is_a_lone_surrogate() {
    for raw in [
        "",
        r#"\"\\\/\b\f\n\r\t"#,
        r"a\u00e4ä\u0000\uFFFF",
        r"\ud83d\ude00😀\uD83D\uDE00b",
    ] {
        let quoted = format!("\"{raw}\"");
        let read: String = serde_json::from_str(&quoted).unwrap();
        assert_eq!(strict(&quoted), Ok(read));
    }
    for half in [
        r"\ud83d",
        r"\ude00",
        r"\ud83dx",
        r"\ud83d\n",
        r"\ud83d\u0041",
        r"\ude00\ud83d",
    ] {
        let error = strict::<String>(&format!("\"{half}\"")).unwrap_err();
        assert_eq!(error, LONE_SURROGATE, "{half}");
    }
}

#[test]
fn the_same_key_may_occur_in_different_objects() {
    let text = r#"[{"a":{"a":[{"a":1},{"a":2}],"b":{"a":3}},"b":{}},{"a":null}]"#;
    assert_eq!(
        strict(text),
        Ok(serde_json::from_str::<Value>(text).unwrap())
    );
    for text in [
        r#"[{},{"a":{"b":[{"x":1,"x":2}]}}]"#,
        r#"{"a":{"x":1},"b":[],"a":{"x":1}}"#,
        r#"{"":1,"":2}"#,
    ] {
        assert!(strict::<Value>(text).is_err(), "{text}");
        assert!(strict::<IgnoredAny>(text).is_err(), "{text}");
    }
}

/// Where serde_json has a rule for keys, it is kept. It has none for an escaped digit, and cuts a
/// character in two where it looks for `true`.
#[test]
fn keys_are_read_as_serde_json_reads_them() {
    fn same<K: DeserializeOwned + Ord + Debug>() {
        let wide = [u128::MAX.to_string(), i128::MIN.to_string()];
        let keys = "0 1 -1 01 +1 1.0 1e0 -0 - x \\n true false null 255 256 1e999 18446744073709551615 \
                    18446744073709551616 -9223372036854775808";
        let keys = keys.split(' ').chain(["", " 1", "1 "]);
        for key in keys.chain(wide.iter().map(|key| &**key)) {
            let text = format!(r#"{{"{key}":0}}"#);
            let read: Option<BTreeMap<K, u8>> = strict(&text).ok();
            assert_eq!(read, serde_json::from_str(&text).ok(), "{text}");
        }
    }
    same::<u8>();
    same::<u64>();
    same::<i64>();
    same::<u128>();
    same::<i128>();
    same::<bool>();
    same::<char>();
    same::<String>();
    same::<Option<String>>();
    same::<std::cmp::Reverse<i32>>();
    same::<()>();
    same::<Vec<u8>>();
    assert!(strict::<HashMap<bool, u8>>(r#"{"ä":1}"#).is_err());
    assert_eq!(strict(r#"{"\u0031":2}"#), Ok(HashMap::from([(1, 2)])));
}

#[test]
fn skipped_values_obey_the_same_rules() {
    let read = |text: &str| strict::<(u8, IgnoredAny)>(text);
    assert!(read(r#"[1,{"a":[1e999,{"a":"\ud83d\ude00"}],"b":123456789012345678901}]"#).is_ok());
    for skipped in [
        r#"[{"a":1,"a":2}]"#,
        r#"{"more":1,"also":2,"m\u006fre":3}"#,
        r#""\ud800""#,
        r#"{"\udc00":1}"#,
    ] {
        assert!(read(&format!("[1,{skipped}]")).is_err(), "{skipped}");
    }
}

#[test]
fn values_read_or_skipped_are_at_most_127_levels_deep() {
    let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
    let read = |text: &str| {
        let fds = crate::fds::Fds::new;
        let value = decode::<Json<Value>>(text.as_bytes(), fds(), UnusedFds::Refuse).map(drop);
        let nothing = decode::<Json<IgnoredAny>>(text.as_bytes(), fds(), UnusedFds::Refuse);
        assert_eq!(value, nothing.map(drop));
        value
    };
    let limit = 127;
    assert_eq!(read(&nested(limit)), Ok(()));
    assert_eq!(
        read(&nested(limit + 1)),
        Err(DecodeError::TooDeep { limit })
    );
    assert_eq!(read(&nested(50_000)), Err(DecodeError::TooDeep { limit }));
}

#[test]
fn bytes_are_accepted_like_text() {
    let read = |text| strict::<CString>(text).map(CString::into_bytes);
    assert_eq!(read(r#""a\u00e4\n""#), Ok("aä\n".into()));
    assert_eq!(read("[97,98]"), Ok("ab".into()));
    assert_eq!(strict::<&[u8]>(r#""ab""#), Ok(&b"ab"[..]));
    for text in [
        r#""\ud800""#,
        "\"a\nb\"",
        r#""a\u0000""#,
        "[97,256]",
        "1",
        "null",
        "{}",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn text_is_borrowed_and_128_bit_numbers_are_exact() {
    assert_eq!(strict(r#"["a",["b"]]"#), Ok(("a", vec!["b"])));
    assert_eq!(
        strict::<BTreeMap<&str, &str>>(r#"{"a":"b"}"#).unwrap()["a"],
        "b"
    );
    assert_eq!(strict(&u128::MAX.to_string()), Ok(u128::MAX));
    assert_eq!(strict(&i128::MIN.to_string()), Ok(i128::MIN));
    assert_eq!(strict(&format!("[{}]", i128::MAX)), Ok(Some([i128::MAX])));
}

/// A visitor that wants two members and asks for no more.
struct Two;

impl<'de> Visitor<'de> for Two {
    type Value = [u8; 2];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<[u8; 2], A::Error> {
        let mut next = || map.next_entry::<IgnoredAny, u8>();
        Ok([next()?, next()?].map(|member| member.map_or(0, |(_, value)| value)))
    }
}

impl<'de> Deserialize<'de> for Two {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Two).map(|_| Two)
    }
}

#[test]
fn a_duplicate_key_is_refused_even_if_the_visitor_stops_early() {
    assert!(strict::<Two>(r#"{"a":1,"b":2}"#).is_ok());
    let error = strict::<Two>(r#"{"a":1,"a":2}"#).map(drop).unwrap_err();
    assert_eq!(error, r#"key "a" is repeated"#);
    let error = strict::<Two>(r#"{"a":1,"b":2,"c":3}"#).map(drop);
    assert_eq!(error.unwrap_err(), "trailing characters");
}

/// A visitor that goes on though a value is none of its own.
#[derive(Debug)]
struct Forgiving;

impl<'de> Visitor<'de> for Forgiving {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            let _ = map.next_value::<u8>();
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Forgiving {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self)
    }
}

#[test]
fn a_duplicate_key_is_refused_even_if_an_error_in_its_value_is_ignored() {
    assert!(strict::<Forgiving>(r#"{"a":"x","b":300,"c":null,"d":1}"#).is_ok());
    for value in ["\"x\"", "300", "null"] {
        let error = strict::<Forgiving>(&format!(r#"{{"a":{value},"a":1}}"#));
        assert_eq!(error.unwrap_err(), r#"key "a" is repeated"#);
        assert!(strict::<Forgiving>(&format!(r#"{{"a":[{value}],"b":1}}"#)).is_err());
        assert!(strict::<Forgiving>(&format!(r#"{{"a":[{value},"b":1}}"#)).is_err());
    }
}

/// Asserts that a text is read as `serde_json` reads it, or refused as it does.
fn same<T: DeserializeOwned + Debug + PartialEq>(text: &str) {
    let theirs = serde_json::from_str::<T>(text);
    let mut reader = Reader::new(text, Depth::MAX);
    let read = T::deserialize(&mut reader);
    let read = reader.finish(read).map_err(DecodeError::from);
    let ours = read.and_then(|(value, length)| check_end(text, length).map(|()| value));
    let reason = match &ours {
        Err(DecodeError::Shape { reason, .. }) => reason.as_str(),
        _ => "",
    };
    // Of which serde_json makes a float without a word.
    if reason.ends_with("has more than 64 bits") {
        assert!(theirs.is_ok() && text.len() >= 19, "{text}");
        return;
    }
    assert_eq!(ours.as_ref().ok(), theirs.as_ref().ok(), "{text}");
    // Of what is JSON they say the same, but ours repeats no float, and has the path beside it.
    if let Some(theirs) = theirs.err().filter(serde_json::Error::is_data) {
        let position = format!(" at line {} column {}", theirs.line(), theirs.column());
        let theirs = theirs.to_string().replace(&position, "");
        let theirs = match theirs.split('`').collect::<Vec<_>>()[..] {
            ["invalid type: floating point ", _, expected] => {
                format!("invalid type: floating point number{expected}")
            }
            _ => theirs,
        };
        assert_eq!(reason, theirs, "{text}");
    }
}

#[test]
fn a_token_is_read_or_refused_as_by_serde_json() {
    let numbers = "0 -0 1 -1 9 10 127 128 -128 -129 255 256 65535 65536 4294967295 4294967296 \
        9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 \
        18446744073709551615 18446744073709551616 -18446744073709551616 1.5 -1.5 1e3 1E-3 1.0 0.1 \
        16777217 16777216.9999999999999999 1e400 -1e400 1e-400 123456789.125 00 01 -01 1. .5 1e 1e+ - +1";
    let others = r#"true false null nul tru falsee "" "a" "ä😀" "\n" "a\u0062c" "\ud83d\ude00" "\x" "a [] [1] [1,2] [1,] [,] [1 {} {"a":1} {"a":1,} {"a"} {a:1} { [ ] } , : NaN Infinity"#;
    let odd = [
        "",
        " ",
        "\u{a0}1",
        "\0",
        "1\0",
        "\u{feff}1",
        "\"\n\"",
        "\"\0\"",
        "1 2",
        "[1 2]",
    ];
    let long = [
        "\"a text of more than thirty-two bytes, without anything odd\"",
        "[1234567,12345678,123456789]",
    ];
    let texts = numbers
        .split_whitespace()
        .chain(others.split(' '))
        .chain(odd)
        .chain(long);
    for text in texts {
        for text in [
            text.to_owned(),
            format!(" \t\r\n{text} "),
            format!("[{text}]"),
        ] {
            same::<Value>(&text);
            same::<bool>(&text);
            same::<u8>(&text);
            same::<i8>(&text);
            same::<u16>(&text);
            same::<i16>(&text);
            same::<u32>(&text);
            same::<i32>(&text);
            same::<u64>(&text);
            same::<i64>(&text);
            same::<u128>(&text);
            same::<i128>(&text);
            same::<f32>(&text);
            same::<f64>(&text);
            same::<char>(&text);
            same::<String>(&text);
            same::<()>(&text);
            same::<Option<u32>>(&text);
            same::<Vec<f32>>(&text);
            same::<Vec<String>>(&text);
            same::<[i64; 2]>(&text);
            same::<(u8, Option<bool>)>(&text);
            same::<BTreeMap<String, u8>>(&text);
            same::<Result<u8, String>>(&text);
        }
    }
    for text in [
        r#"{"Ok":1}"#,
        r#"{ "Ok" : 1 }"#,
        r#"{"Err":"x"}"#,
        r#"{"Ok":"x"}"#,
        r#"{"Ok":1,"Err":"x"}"#,
        r#"{"Ok"}"#,
        r#"{"Ok":1"#,
        r#"{"No":1}"#,
        r#""Ok""#,
        "{}",
        "{1:2}",
    ] {
        same::<Result<u8, String>>(text);
    }
}
