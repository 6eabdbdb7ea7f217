//! serde's attributes: each type has a twin that derives serde, and both read and write the same.

use super::{read, text};
use jsoncomm::Message;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// Asserts that our type writes and reads the same as its twin with serde, and that both refuse the same.
macro_rules! twins {
    ($({$($item:tt)*} $(=> $value:expr)+; reads $($good:literal)*; refuses $($bad:literal)*)*) => {$({
        mod ours {
            #[allow(unused_imports, reason = "not every pair needs them")]
            use super::*;
            #[derive(Debug, PartialEq, Default, Message)]
            $($item)*
            #[allow(dead_code, reason = "not every pair has a value")]
            pub(super) fn values() -> Vec<Twin> { vec![$($value),+] }
        }
        mod serdes {
            #[allow(unused_imports, reason = "not every pair needs them")]
            use super::*;
            #[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
            $($item)*
            pub(super) fn values() -> Vec<Twin> { vec![$($value),+] }
        }
        for (ours, serdes) in ours::values().iter().zip(&serdes::values()) {
            let json = serde_json::to_string(serdes).unwrap();
            assert_eq!(text(ours), json);
            let serdes: Result<serdes::Twin, _> = serde_json::from_str(&json);
            let ours: Result<ours::Twin, _> = read(&json, 0);
            assert_eq!(format!("{:?}", ours.ok()), format!("{:?}", serdes.ok()));
        }
        $(
            let serdes: serdes::Twin = serde_json::from_str($good).unwrap();
            let ours: ours::Twin = read($good, 0).unwrap();
            assert_eq!(format!("{ours:?}"), format!("{serdes:?}"), "{}", $good);
        )*
        $(
            let serdes: Result<serdes::Twin, _> = serde_json::from_str($bad);
            let ours: Result<ours::Twin, _> = read($bad, 0);
            assert!(serdes.is_err() && ours.is_err(), "{}: {ours:?}", $bad);
        )*
    })*};
}

#[test]
fn plain_structs_are_written_and_read_as_serde_does() {
    twins! {
        { pub(super) struct Twin { a: u8, b: Option<String>, r#type: u128 } }
            => Twin { a: 1, b: None, r#type: u128::MAX };
            reads r#"{"a":1,"type":2}"# r#"[1,null,2]"# r#" {"type":2,"b":"x","a":1,"z":[{}]} "#;
            refuses "{}" "[1,null]" "[1,null,2,3]" r#"{"a":1,"a":1,"type":2}"# r#"{"a":"1","type":2}"#
                "null" "1" r#""a""#
        { pub(super) struct Twin {} } => Twin {};
            reads "{}" "[]" r#"{"a":1}"#; refuses "null" "[1]" "0"
        { pub(super) struct Twin; } => Twin; reads "null"; refuses "{}" "[]" "0"
        { pub(super) struct Twin(u8); } => Twin(1); reads "1"; refuses "[1]" "{}"
        { pub(super) struct Twin(u8, #[serde(default)] u8); } => Twin(1, 2);
            reads "[1,2]" "[1]"; refuses "1" "[]" "[1,2,3]" "{}"
        { pub(super) struct Twin(u8, #[serde(skip)] u8, u8); } => Twin(1, 2, 3);
            reads "[1,3]"; refuses "[1]" "[1,2,3]"
        { #[serde(default)] pub(super) struct Twin(u8, u8); } => Twin(1, 2);
            reads "[1,2]" "[1]" "[]"; refuses "[1,2,3]"
    }
}

fn seven() -> u8 {
    7
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u8, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&format!("{number:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
        let text = String::deserialize(from)?;
        u8::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

#[test]
fn struct_attributes_mean_the_same_as_in_serde() {
    twins! {
        { #[serde(rename = "Other", rename_all = "camelCase", deny_unknown_fields)]
          pub(super) struct Twin { very_tasty: u8, #[serde(rename = "Z", alias = "y", alias = "x")] z: u8 } }
            => Twin { very_tasty: 1, z: 2 };
            reads r#"{"veryTasty":1,"Z":2}"# r#"{"veryTasty":1,"x":2}"#;
            refuses r#"{"veryTasty":1,"z":2}"# r#"{"veryTasty":1,"Z":2,"y":2}"# r#"{"veryTasty":1,"Z":2,"w":0}"#
        { #[serde(rename_all(serialize = "UPPERCASE", deserialize = "kebab-case"))]
          pub(super) struct Twin { a_b: u8, #[serde(default, rename(deserialize = "in", serialize = "out"))] c: u8 } }
            => Twin { a_b: 1, c: 2 };
            reads r#"{"a-b":1,"in":2}"#; refuses r#"{"A_B":1}"#
        { #[serde(default)]
          pub(super) struct Twin { a: u8, #[serde(default = "seven")] b: u8, #[serde(skip)] c: u8 } }
            => Twin { a: 1, b: 2, c: 3 };
            reads "{}" r#"{"a":3}"# "[1]" r#"{"c":5}"#; refuses r#"{"a":null}"#
        { pub(super) struct Twin {
            #[serde(skip_serializing_if = "is_zero", default)] a: u8,
            #[serde(skip_serializing, default = "seven")] b: u8,
            #[serde(skip_deserializing)] c: u8,
            #[serde(with = "hex")] d: u8,
            #[serde(serialize_with = "hex::serialize", deserialize_with = "hex::deserialize", default)] e: u8 } }
            => Twin { a: 0, b: 1, c: 2, d: 255, e: 16 } => Twin { a: 1, ..Twin::default() };
            reads r#"{"d":"ff"}"# r#"{"d":"1","e":"2","b":9,"c":4}"#; refuses "{}" r#"{"d":1}"#
        { #[serde(transparent)]
          pub(super) struct Twin { of: PhantomData<u8>, #[serde(with = "hex")] a: u8, #[serde(skip)] b: u8 } }
            => Twin { of: PhantomData, a: 255, b: 1 };
            reads r#""ff""#; refuses "255" r#"{"a":"ff"}"#
        { pub(super) struct Twin(u8, #[serde(skip_serializing_if = "is_zero")] u8); }
            => Twin(1, 0) => Twin(0, 1); reads "[1,0]"; refuses "[1]"
    }
}

#[test]
fn enums_are_written_and_read_as_serde_does() {
    twins! {
        { #[serde(rename_all = "snake_case", rename_all_fields = "UPPERCASE")]
          pub(super) enum Twin {
            #[default] VeryUnit,
            NewType(Option<u8>),
            Pair(u8, String),
            #[serde(rename = "N", alias = "n")] Named { a: u8, b: Option<u8> },
            #[serde(rename_all = "PascalCase")] Other { very_tasty: u8 },
            #[serde(skip_serializing)] In,
            #[serde(skip_deserializing)] Out } }
            => Twin::VeryUnit => Twin::NewType(Some(1)) => Twin::NewType(None) => Twin::Pair(1, "x".into())
            => Twin::Named { a: 1, b: None } => Twin::Other { very_tasty: 1 } => Twin::Out;
            reads r#""very_unit""# r#"{"very_unit":null}"# r#"{"N":{"A":1}}"# r#"{"n":[1,2]}"# r#""in""#;
            refuses r#""VeryUnit""# r#"{"N":{"a":1}}"# r#"{"N":{"A":1},"n":{"A":1}}"# "{}" "0" "[]" "null"
                r#"{"very_unit":1}"# r#""N""# r#""new_type""# r#""pair""# r#"{"pair":[1]}"# r#"{"N":{}} "#
        { #[serde(tag = "t", content = "c")]
          pub(super) enum Twin { #[default] A, B(Option<u8>), C(u8, u8), D { a: u8 } } }
            => Twin::A => Twin::B(Some(1)) => Twin::B(None) => Twin::C(1, 2) => Twin::D { a: 1 };
            reads r#"{"t":"A"}"# r#"{"t":"A","c":null,"z":1}"# r#"{"t":"B"}"# r#"["D",{"a":1}]"# r#"{"z":0,"t":"A"}"#;
            refuses r#"{"t":"C"}"# r#"{"t":"D"}"# r#"{"c":1}"# "{}" r#""A""# r#"{"t":"A","t":"A"}"#
                r#"{"t":"B","c":1,"c":1}"# r#"["D"]"# r#"{"t":"Z"}"# r#"{"t":0}"#
        { #[serde(tag = "t", content = "c", deny_unknown_fields)]
          pub(super) enum Twin { #[default] A, D { a: u8 } } }
            => Twin::D { a: 1 };
            reads r#"{"t":"D","c":{"a":1}}"#;
            refuses r#"{"t":"A","z":1}"# r#"{"t":"D","c":{"a":1,"b":1}}"#
    }
}
