//! Every kind of type and every odd text, read and written by serde_json and by this library.

use super::*;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroI8;
use std::ops::{Bound, Range};
use std::time::Duration;

use jsoncomm::fds::Fds;
use jsoncomm::message::{Pack, Packer, Unpack, UnusedFds, decode, encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, Serializer};

/// Derives both, so that the two can be compared.
macro_rules! both {
    ($($item:item)*) => {$(
        #[derive(Debug, PartialEq, Serialize, Deserialize, Message)]
        $item
    )*};
}

both! {
    struct Plain {
        a: u8,
        #[serde(default, alias = "bee")]
        b: Option<Option<bool>>,
        #[serde(default = "seven", skip_serializing_if = "Vec::is_empty")]
        list: Vec<i128>,
    }

    #[serde(deny_unknown_fields, rename_all = "UPPERCASE")]
    struct Strict {
        a: String,
        #[serde(default)]
        b: f32,
    }

    struct Pair(u8, Option<String>);

    struct New(i64);

    struct Unit;

    enum External {
        Unit,
        #[serde(alias = "Other")]
        New(u64),
        Tuple(u8, bool),
        Named { a: f64 },
    }

    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        Unit,
        New(Option<u64>),
        Tuple(u8, bool),
        Named { a: Option<u128> },
    }

    #[serde(tag = "t", content = "c", deny_unknown_fields)]
    enum StrictAdjacent {
        Unit,
        New(Vec<External>),
    }
}

fn seven() -> Vec<i128> {
    vec![7]
}

/// Derives what only serde has.
macro_rules! serdes {
    ($($item:item)*) => {$(
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        $item
    )*};
}

serdes! {
    struct Flat {
        a: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    struct FlatOption {
        #[serde(flatten)]
        plain: Option<New2>,
        x: Option<Value>,
    }

    struct New2 {
        a: i16,
    }

    #[serde(tag = "t")]
    enum Internal {
        Unit,
        New(Plain),
        Named { a: f64 },
        #[serde(other)]
        Other,
    }

    #[serde(untagged)]
    enum Untagged {
        Null,
        Int(u64),
        Negative(i8),
        Real(f64),
        Text(String),
        Named { a: u8 },
        List(Vec<Untagged>),
        Map(BTreeMap<String, Untagged>),
    }

    struct Borrowed<'a> {
        a: &'a str,
        #[serde(borrow, default)]
        b: Cow<'a, str>,
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    #[serde(rename = "a")]
    A,
    New,
}

/// Values, right and wrong.
const VALUES: &str = r#"null|true|false|nul|truex|0|-0|1|-1|01|-01|+1|1.|.5|1.5|1e|1e+|1e3|1E-3|1.0|256|-129
    18446744073709551615|18446744073709551616|-9223372036854775808|-9223372036854775809|1e400|-1e400|1e-400
    340282366920938463463374607431768211455|340282366920938463463374607431768211456|0.1|3.4e38|3.5e38
    -170141183460469231731687303715884105728|100000000000000000000|16777217|NaN|-Infinity|-|--1|0x1|1_0
    ""|"a"|"New"|"Unit"|"Named"|"Other"|"1"|"\u0061"|"\u0000"|"\ud83d\ude00"|"\ud83d"|"\ude00"|"\ud83dx"|"\ud83d\ud83d"
    "\u00zz"|"\x"|"ä😀"|"\n\"\\\/"|"a|"127.0.0.1"|"a	b"|"

    []|[1]|[1,2]|[1,"a"]|[1,true]|[1,null]|[1,2,3]|[1,]|[,1]|[1 2]|[|]|[[1]]|[[],[]]|["a","b"]|["Unit",{"New":1}]|["New",1]
    {}|{|}|{"a":1}|{"a":1,}|{"a":1,"b":true}|{"a":1,"b":null}|{"a":"x","b":1}|{"A":"x","B":1}|{"A":"x","B":0.1,"C":1}|{"\u0061":1}
    {"a":1,"bee":true}|{"a":1,"b":true,"bee":true}|{"a":1,"x":[{"y":-0.5}]}|{"a":1,"x":1e400}|{"a":1,"x":"\ud800"}|{"a":1,"\udc00":1}
    {"a":1,"a":2}|{"a":1,"\u0061":1}|{"a":1,"x":{"y":1,"y":2}}|{"x":1,"a":1,"x":2}|{"a":{"a":1}}|{"a" 1}|{"a"}|{1:2}|{a:1}|{"a":1 "b":2}
    {"a":1,"x":18446744073709551616}|{"a":1,"list":[-1,170141183460469231731687303715884105727]}|{"a":1,"list":[1e3]}|{"list":[],"a":255}
    {"1":1}|{"01":1}|{"-1":1}|{"-0":1}|{"1.0":1}|{"1e0":1}|{" 1":1}|{"true":1}|{"ä":1}|{"":1}|{"New":1}|{"New":1,"a":2}|{"256":1}
    {"t":"Unit"}|{"t":"Unit","c":null}|{"c":null,"t":"Unit"}|{"t":"Unit","c":{}}|{"t":"New"}|{"t":"New","c":1}|{"c":1,"t":"New"}|{"c":1}
    {"t":"Tuple","c":[1,true]}|{"c":[1,true],"t":"Tuple"}|{"c":[1],"t":"Tuple"}|{"c":[1,true,2],"t":"Tuple"}|{"c":{"a":1},"t":"Named"}
    {"t":"Named","c":{"a":null}}|{"c":[1],"t":"Named"}|{"t":"New","t":"New","c":1}|{"c":1,"c":1,"t":"New"}|{"c":1,"t":"New","c":1}
    {"t":"New","c":1,"x":2}|{"x":2,"c":1,"t":"New"}|{"x":2,"c":1,"t":"New","x":3}|{"c":[1,],"t":"New"}|{"c":{"a":1,"a":1},"t":"Named"}
    {"t":"New","c":["Unit",{"Named":{"a":1}}]}|{"c":["Unit",{"Tuple":[1,false]}],"t":"New"}|{"t":"No","c":1}|{"c":1,"t":"No"}|{"t":1,"c":1}
    {"c":1 2,"t":"New"}|{"c":,"t":"New"}|{"c":[1}],"t":"New"}|{"c":[1}],"t":"Tuple"}|{"c":nul,"t":"Unit"}|{"c":"],"t":"Unit"}
    {"c" 1,"t":"New"}|{"c":1x,"t":"New"}|{"c":[1,true],,"t":"Tuple"}|{"c": null , "t": "Unit" }|{"c":{"a":1},"t":"Unit"}|{"c":{},"t":1}
    {"c":["\"]},",{}],"t":"New"}|{"c":[{"Named":{"a":1,"\"}":2}}],"t":"New"}|{"c":[],"t":"New","x":[1,]}|{"c":[]}|{"c":[],"t":"New"
    {"t":"New","a":1}|{"a":1,"t":"New","b":null}|{"t":"Named","a":1}|{"a":1e3,"t":"Named"}|{"t":"Else","a":{"b":[]}}
    {"Unit":null}|{"Unit":1}|{"Unit":{}}|{"New":"x"}|{"New":-1}|{"Other":1}|{"New":1,"New":1}|{"Tuple":[1,true]}|{"Tuple":[1]}|{"Tuple":[1,true,1]}
    {"Tuple":{}}|{"Named":{"a":1}}|{"Named":{"a":1,"x":2}}|{"Named":{"a":1,"a":2}}|{"Named":[1]}|{"Named":{}}|{"No":1}|{"Unit"}|{"Unit":null
    {"Ok":1}|{"Err":"x"}|{"Included":1}|"Unbounded"|{"start":1,"end":2}|{"end":2,"start":1}|{"start":1}|{"secs":1,"nanos":2}|[1,1000000000]
    {"secs":1,"nanos":1000000000}|{"secs":18446744073709551615,"nanos":1000000000}|{"V4":[127,0,0,1]}"#;

/// Returns the values as texts: alone, with white space, in arrays and objects, or with something after them.
fn texts() -> Vec<&'static str> {
    let values = VALUES.split(['|']).flat_map(|line| line.split("\n    "));
    let around = [
        ("", ""),
        (" \t\r\n", "\n "),
        ("[", "]"),
        ("[1,", " ]"),
        (r#"{"a":"#, "}"),
        (r#"{"a":1,"x":"#, "}"),
        ("\u{feff}", ""),
        ("", "\0"),
        ("", "\u{a0}"),
    ];
    let texts =
        values.flat_map(|value| around.map(|(before, after)| format!("{before}{value}{after}")));
    let nested = [126, 127].map(|levels| "[".repeat(levels) + &"]".repeat(levels));
    let wide = [
        format!("{{\"{}\":1}}", "k".repeat(70_000)),
        format!("\"{}\\n{}\"", "x".repeat(70_000), "ä".repeat(70_000)),
        format!("1{}", "0".repeat(400)),
        format!("0.{}1", "0".repeat(400)),
        format!("-1{}.5e-400", "0".repeat(400)),
    ];
    texts
        .chain(nested)
        .chain(wide)
        .map(|text| &*text.leak())
        .collect()
}

/// Why this library refuses what serde_json accepts.
const STRICTER: [&str; 5] = [
    "is repeated",
    "the same key twice",
    // In a value that is skipped.
    "a lone surrogate is not a character",
    // In a string that is read as bytes.
    "control character in a string",
    // serde_json makes a float of such an integer.
    "has more than 64 bits",
];

/// Why serde refuses what this library accepts: it buffers content before its tag.
const LAXER: [&str; 2] = [
    "u128 is not supported",
    "invalid type: sequence, expected struct variant",
];

/// Asserts that both read the same from a text, or refuse it, and returns what both have read.
fn read<M: Unpack<'static>, T: Deserialize<'static> + Debug + PartialEq>(
    text: &'static str,
    value: impl Fn(&M) -> &T,
) -> Option<T> {
    let ours = decode::<M>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
    let theirs = serde_json::from_str::<T>(text);
    let of = std::any::type_name::<T>();
    let known = |error: String, reasons: &[&str]| {
        let known = reasons.iter().any(|reason| error.contains(reason));
        assert!(known, "{text} as {of}: {error}");
    };
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(value(&ours), &theirs, "{text} as {of}");
            return Some(theirs);
        }
        (Err(ours), Ok(_)) => known(ours.to_string(), &STRICTER),
        (Ok(_), Err(theirs)) => known(theirs.to_string(), &LAXER),
        (Err(_), Err(_)) => {}
    }
    None
}

/// Asserts that both write the same, or refuse to for the same reason.
fn written<M: Pack + ?Sized>(message: &M, value: &(impl Serialize + ?Sized)) {
    let mut text = Vec::new();
    let ours = encode(message, &mut text, &Packer::new());
    match serde_json::to_vec(value) {
        Ok(theirs) => {
            ours.unwrap();
            assert_eq!(quote(&text), quote(&theirs));
        }
        Err(theirs) => {
            let (ours, theirs) = (ours.unwrap_err().to_string(), theirs.to_string());
            assert!(ours.ends_with(&theirs), "{ours}: {theirs}");
        }
    }
}

fn same<T>(texts: &[&'static str])
where
    T: Serialize + Deserialize<'static> + Debug + PartialEq,
{
    for text in texts {
        if let Some(value) = read::<Json<T>, T>(text, |json| &json.0) {
            written(&Json(&value), &value);
        }
    }
}

fn same_message<T>(texts: &[&'static str])
where
    T: Pack + Unpack<'static> + Serialize + Deserialize<'static> + Debug + PartialEq,
{
    same::<T>(texts);
    for text in texts {
        if let Some(value) = read::<T, T>(text, |message| message) {
            written(&value, &value);
        }
    }
}

#[test]
fn every_kind_of_type_is_read_and_written_as_by_serde_json() {
    let texts = texts();
    let texts = texts.as_slice();
    same_message::<Plain>(texts);
    same_message::<Strict>(texts);
    same_message::<Pair>(texts);
    same_message::<New>(texts);
    same_message::<Unit>(texts);
    same_message::<External>(texts);
    same_message::<Adjacent>(texts);
    same_message::<StrictAdjacent>(texts);
    same_message::<Vec<External>>(texts);
    same_message::<Option<Option<u8>>>(texts);
    same_message::<Option<()>>(texts);
    same_message::<(u8, Option<String>)>(texts);
    same_message::<[i128; 2]>(texts);
    same_message::<BTreeMap<String, f64>>(texts);
    same_message::<HashMap<char, Option<u128>>>(texts);
    same_message::<Range<u8>>(texts);
    same_message::<Bound<i8>>(texts);
    same_message::<Duration>(texts);
    same_message::<IpAddr>(texts);
    same_message::<NonZeroI8>(texts);
    same_message::<CString>(texts);
    same_message::<BTreeSet<char>>(texts);
    same_message::<Box<str>>(texts);
    same_message::<&str>(texts);
    same::<Result<u8, String>>(texts);
    same::<Flat>(texts);
    same::<FlatOption>(texts);
    same::<Internal>(texts);
    same::<Untagged>(texts);
    same::<Borrowed<'static>>(texts);
    same::<Cow<'static, str>>(texts);
    same::<Value>(texts);
    same::<serde_json::Number>(texts);
    same::<BTreeMap<Key, Value>>(texts);
    same::<BTreeMap<Option<i64>, Untagged>>(texts);
    same::<BTreeMap<u128, External>>(texts);
    // serde_json cuts a character in two where it looks for `true`.
    let ascii: Vec<_> = texts
        .iter()
        .copied()
        .filter(|text| text.is_ascii())
        .collect();
    same::<BTreeMap<bool, Adjacent>>(&ascii);
    same::<BTreeMap<String, Internal>>(texts);
    for text in texts {
        read::<Json<IgnoredAny>, IgnoredAny>(text, |json| &json.0);
        read::<Json<&[u8]>, &[u8]>(text, |json| &json.0);
    }
}

/// A map with one key, of any type.
struct Keyed<K>(K);

impl<K: Serialize> Serialize for Keyed<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map([(&self.0, 1), (&self.0, 2)])
    }
}

/// Asserts that both write it as a value and as a key.
fn both_write(value: impl Serialize) {
    written(&Json(&value), &value);
    written(&Json([Some(&value), None]), &[Some(&value), None]);
    let keyed = Keyed(value);
    written(&Json(&keyed), &keyed);
}

#[test]
fn every_kind_of_value_and_key_is_written_as_by_serde_json() {
    for real in [
        0.0,
        -0.0,
        0.1,
        1e15,
        1e16,
        1e21,
        123_456.5,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
    ] {
        both_write(real);
        both_write(-real);
    }
    for short in [0.1_f32, 16_777_216.0, f32::MAX, 1e-45] {
        both_write(short);
    }
    for whole in [0, 9, 10, 99, 100, i64::MAX, i64::MIN] {
        both_write(whole);
        both_write(whole.unsigned_abs());
        both_write(i128::from(whole) * 3);
        both_write(u128::from(whole.unsigned_abs()) * 3);
    }
    both_write((i8::MIN, u8::MAX, i16::MIN, u16::MAX, i32::MIN, u32::MAX));
    both_write(u8::MAX);
    both_write(i32::MIN);
    both_write((u64::MAX, u128::MAX, i128::MIN));
    for letter in ('\0'..'\u{a0}').chain(['\u{2028}', '\u{fffd}', '\u{ffff}', '😀']) {
        both_write(letter);
        both_write(format!("a{letter}b"));
    }
    both_write(());
    both_write(true);
    both_write(Some(Some(1)));
    both_write(None::<u8>);
    both_write(Unit);
    both_write(New(-1));
    both_write(Pair(1, None));
    both_write(Key::A);
    both_write(External::Unit);
    both_write(External::New(1));
    both_write(External::Tuple(1, false));
    both_write(External::Named { a: 0.5 });
    both_write(Internal::Unit);
    both_write(Internal::New(Plain {
        a: 1,
        b: Some(None),
        list: Vec::new(),
    }));
    both_write(Untagged::List(vec![Untagged::Null, Untagged::Real(1.0)]));
    both_write(Keyed(Keyed(1)));
    both_write(Vec::<u8>::new());
    both_write(BTreeMap::<u8, u8>::new());
    both_write(CString::from(c"a\xff"));
    both_write(Duration::new(1, 2));
    both_write(json!({"": [{}, [], null, -1, 0.5, "\u{7f}"]}));
    // A key that is not finite is refused by both; as a value serde_json writes `null`.
    for other in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        written(&Json(Keyed(other)), &Keyed(other));
        let refused = encode(&Json([other]), &mut Vec::new(), &Packer::new());
        assert!(matches!(refused, Err(EncodeError::NotFinite { .. })));
    }
}
