//! Errors of reading and writing name the sensitive field and nothing of its value.

use super::silent;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use jsoncomm::fds::Fds;
use jsoncomm::message::{DecodeError, EncodeError, FdProblem};
use jsoncomm::message::{Packer, UnusedFds, decode, encode};
use jsoncomm::{Error, Fault, Message};
use jsoncomm_tests::{KINDS, alone, assert_open_fds, open_fds, pair, send_raw};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Returns the decoding error of this text, with a descriptor beside it.
fn refused<T: Message>(text: &str) -> DecodeError {
    let mut fds = Fds::new();
    fds.push(File::open("/dev/null").unwrap().into()).unwrap();
    let Err(error) = decode::<T>(text.as_bytes(), fds, UnusedFds::Close) else {
        unreachable!("{text} was accepted");
    };
    error
}

/// Asserts the errors of the texts, and that they contain no sensitive value.
fn refusals<T: Message>(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        let error = refused::<T>(text);
        assert_eq!(silent(&error), *want, "{text}");
        let fault = Fault::from(error);
        silent(&fault);
        assert_eq!(fault.field.is_some(), want.contains(": "), "{text}");
    }
}

#[derive(Debug, Deserialize, Serialize, PartialEq)]
enum Color {
    Red,
}

#[derive(Message)]
struct Key {
    name: String,
    #[sensitive]
    number: u8,
    #[sensitive]
    color: Option<Color>,
}

#[test]
fn an_error_names_the_field_and_not_its_value() {
    refusals::<Key>(&[
        (
            r#"{"name":"a","number":"hunter2"}"#,
            "number: not what is expected",
        ),
        (
            r#"{"name":"a","number":271828}"#,
            "number: not what is expected",
        ),
        (
            r#"{"name":"a","color":"hunter2"}"#,
            "color: not what is expected",
        ),
        (r#"["a","hunter2"]"#, "number: not what is expected"),
        (r#"["a",1,{"hunter2":1}]"#, "color: not what is expected"),
    ]);
}

#[test]
fn errors_that_do_not_contain_the_value_are_unchanged() {
    refusals::<Key>(&[
        (r#"{"name":"a"}"#, "number: missing field `number`"),
        (
            r#"{"name":"a","number":1,"number":271828}"#,
            "number: duplicate field `number`",
        ),
        (r#"["a"]"#, "number: missing field `number`"),
    ]);
    let error = refused::<Key>(r#"{"name":7,"number":1}"#);
    let want = "name: invalid type: integer `7`, expected a string";
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_value_in_place_of_sensitive_members_is_not_in_errors() {
    #[derive(Message)]
    #[serde(expecting = "a login")]
    struct Login(u8, #[sensitive] String);

    #[derive(Message)]
    enum Ask {
        Login {
            #[sensitive]
            pin: u32,
        },
        Pair(u8, #[sensitive] u8),
        Plain {
            number: u8,
        },
    }

    #[derive(Message)]
    #[serde(tag = "ask", content = "with")]
    enum Tagged {
        Login {
            #[sensitive]
            pin: u32,
        },
    }

    // Holds no sensitive field of its own.
    #[derive(Message)]
    #[serde(tag = "ask", content = "with")]
    enum Around {
        Key(#[fd] Key),
    }

    refusals::<Key>(&[
        (r#""hunter2""#, "expected struct Key"),
        ("271828", "expected struct Key"),
        (r#"["a",1,null,271828]"#, "expected struct Key"),
    ]);
    refusals::<Login>(&[(r#""hunter2""#, "expected a login")]);
    refusals::<Vec<Key>>(&[(r#"["hunter2"]"#, "[0]: expected struct Key")]);
    refusals::<Ask>(&[
        (
            r#"{"Login":271828}"#,
            "Login: expected struct variant Ask::Login",
        ),
        (
            r#"{"Pair":"hunter2"}"#,
            "Pair: expected tuple variant Ask::Pair",
        ),
        (r#""Login""#, "expected struct variant Ask::Login"),
    ]);
    refusals::<Tagged>(&[(
        r#"{"ask":"Login","with":271828}"#,
        "with: expected struct variant Tagged::Login",
    )]);
    let (tag, key) = (
        r#""ask":"Key""#,
        r#""with":{"name":"a","number":{"hunter2":1,"hunter2":2}}"#,
    );
    for text in [format!("{{{tag},{key}}}"), format!("{{{key},{tag}}}")] {
        refusals::<Around>(&[(&text, "with.number: not what is expected")]);
    }
    let error = refused::<Ask>(r#"{"Plain":7}"#);
    assert!(error.to_string().contains("integer `7`"), "{error}");
}

#[derive(Message)]
#[serde(deny_unknown_fields)]
struct Strict {
    number: u8,
}

#[derive(Message)]
struct Outer {
    #[fd]
    #[serde(default)]
    keys: Vec<Key>,
    #[fd]
    #[sensitive]
    #[serde(default)]
    strict: BTreeMap<String, Strict>,
    #[sensitive]
    #[serde(default)]
    plain: BTreeMap<u8, u8>,
}

#[test]
fn an_error_inside_a_sensitive_field_has_no_position() {
    let strict = "strict: not what is expected";
    refusals::<Outer>(&[
        (r#"{"strict":{"a":{"number":271828}}}"#, strict),
        (r#"{"strict":{"a":{"number":1,"hunter2":1}}}"#, strict),
        (r#"{"strict":{"hunter2":{}}}"#, strict),
        (r#"{"plain":{"hunter2":1}}"#, "plain: not what is expected"),
        (r#"{"plain":{"1":271828}}"#, "plain: not what is expected"),
    ]);
}

#[test]
fn a_sensitive_field_inside_another_type_is_named_by_its_path() {
    let text = r#"{"keys":[{"name":"a","number":1},{"name":"b","number":271828}]}"#;
    refusals::<Outer>(&[(text, "keys[1].number: not what is expected")]);
}

/// Fails with an error that contains the value, as many types do.
fn loud<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    Err(D::Error::custom(format!("no such word: {text}")))
}

/// Fails with an error that contains the value.
fn aloud<S: Serializer>(value: &str, _: S) -> Result<S::Ok, S::Error> {
    Err(S::Error::custom(format!("cannot say {value}")))
}

#[derive(Message)]
struct Loud {
    #[sensitive]
    #[serde(with = "self")]
    word: String,
}

/// For `with = "self"`.
fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    loud(from)
}

/// For `with = "self"`.
fn serialize<S: Serializer>(value: &str, out: S) -> Result<S::Ok, S::Error> {
    aloud(value, out)
}

#[test]
fn errors_of_custom_functions_and_borrowed_text_are_hidden() {
    #[derive(Message)]
    struct Borrowed<'t> {
        #[sensitive]
        #[serde(borrow)]
        _text: Cow<'t, str>,
    }

    #[derive(Message)]
    struct Newtype(#[sensitive] u8);

    #[derive(Message, Serialize, Deserialize)]
    #[message(serde)]
    struct Delegated {
        #[sensitive]
        number: u8,
    }

    refusals::<Loud>(&[(r#"{"word":"hunter2"}"#, "word: not what is expected")]);
    refusals::<Newtype>(&[(r#""hunter2""#, "not what is expected")]);
    refusals::<Delegated>(&[(r#"{"number":271828}"#, "not what is expected")]);
    let text = br#"{"_text":271828}"#;
    let error = decode::<Borrowed<'_>>(text, Fds::new(), UnusedFds::Refuse).unwrap_err();
    assert_eq!(silent(&error), "_text: not what is expected");
}

#[test]
fn an_encoding_error_names_the_field_without_its_value() {
    #[derive(Message)]
    struct Tuple(
        u8,
        #[sensitive]
        #[serde(with = "self")]
        String,
    );

    #[derive(Message)]
    #[serde(transparent)]
    struct Whole {
        #[sensitive]
        #[serde(with = "self")]
        word: String,
    }

    #[derive(Message)]
    enum Either {
        One(
            #[sensitive]
            #[serde(with = "self")]
            String,
        ),
        Two {
            #[sensitive]
            #[serde(with = "self")]
            word: String,
        },
    }

    #[derive(Message)]
    #[serde(tag = "tag", content = "content")]
    enum Tagged {
        One(
            #[sensitive]
            #[serde(with = "self")]
            String,
        ),
    }

    let secret = || String::from("hunter2");
    let trouble = |error: EncodeError| silent(&error);
    let reason =
        |field, name| format!("{field} cannot be written as JSON: `{name}` refuses to be written");
    let whole = Whole { word: secret() };
    assert_eq!(
        trouble(written(&Loud { word: secret() })),
        reason("word", "word")
    );
    assert_eq!(trouble(written(&Tuple(1, secret()))), reason("[1]", "[1]"));
    assert_eq!(trouble(written(&whole)), reason("the message", "Whole"));
    assert_eq!(
        trouble(written(&Either::One(secret()))),
        reason("One", "One")
    );
    let two = Either::Two { word: secret() };
    assert_eq!(trouble(written(&two)), reason("Two.word", "word"));
    assert_eq!(
        trouble(written(&Tagged::One(secret()))),
        reason("content", "Tagged")
    );
}

fn written<T: Message>(value: &T) -> EncodeError {
    encode(value, &mut Vec::new(), &Packer::new()).unwrap_err()
}

#[derive(Message)]
struct Files {
    #[fd]
    #[sensitive]
    file: OwnedFd,
    #[fd]
    #[serde(default)]
    other: Option<OwnedFd>,
}

#[test]
fn a_sensitive_descriptor_is_refused_without_its_index_and_closed() {
    alone!();
    let before = open_fds();
    for text in [r#"{"file":271828}"#, r#"{"other":0,"file":0}"#] {
        let error = refused::<Files>(text);
        assert_eq!(silent(&error), "file: not the descriptor that is expected");
        let DecodeError::Descriptor { problem, .. } = &error else {
            unreachable!("{error:?}");
        };
        assert_eq!(*problem, FdProblem::Withheld);
        assert_eq!(Fault::from(error).code, Fault::INVALID_DESCRIPTORS);
    }
    refusals::<Files>(&[(r#"{"file":"hunter2"}"#, "file: not what is expected")]);
    let error = refused::<Files>(r#"{"file":0,"other":7}"#);
    assert_eq!(error.to_string(), "other: descriptor 7 is missing, 1 came");
    assert_open_fds(before);
}

#[test]
fn malformed_json_in_a_sensitive_field_is_reported_as_such() {
    for text in [
        r#"{"name":"a","number":"hunter2"#,
        r#"{"name":"a","number":27182."#,
        r#"{"name":"a","number":hunter2}"#,
        r#"{"name":"a","number":"hunter2\x"}"#,
    ] {
        let error = refused::<Key>(text);
        let said = silent(&error);
        assert!(matches!(error, DecodeError::Syntax { .. }), "{said}");
        assert_eq!(Fault::from(error).code, Fault::PARSE_ERROR);
    }
}

#[test]
fn bare_messages_do_not_leak_sensitive_values() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (left, mut right) = pair(kind);
        for text in [r#"{"name":"a","number":271828}"#, r#"["a","hunter2"]"#] {
            send_raw(&left, text.as_bytes(), &[]).unwrap();
            let error = right.receive::<Key>().unwrap_err();
            assert_eq!(silent(&error), "number: not what is expected");
            assert!(matches!(error, Error::Decode(_)), "{error:?}");
        }
    }
    let (mut left, _right) = pair(KINDS[0]);
    let word = String::from("hunter2");
    let error = left.send(&Loud { word }).unwrap_err();
    silent(&error);
    drop((left, _right));
    assert_open_fds(before);
}
