//! Properties of all messages and texts.

use super::*;

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use jsoncomm::fds::Fds;
use jsoncomm::message::DecodeError;
use jsoncomm::message::{Packer, Unpack, UnusedFds, decode, encode};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A member of every kind.
#[derive(Debug, Message)]
#[serde(rename_all = "camelCase")]
struct All {
    text: String,
    letter: char,
    whole_number: (u64, i64, u8),
    wide: (u128, i128),
    real: f64,
    short: f32,
    maybe: Option<Option<bool>>,
    list: Vec<Option<String>>,
    by_text: BTreeMap<String, Vec<f64>>,
    by_number: BTreeMap<i16, char>,
    by_letter: BTreeMap<char, ()>,
    #[fd]
    choice: Choice,
    #[fd]
    choices: Vec<Tagged>,
    #[fd]
    file: Option<OwnedFd>,
    #[fd]
    files: BTreeMap<String, OwnedFd>,
}

#[derive(Debug, Message)]
enum Choice {
    None,
    One(String),
    Two(u64, f64),
    Named {
        name: String,
        #[fd]
        file: OwnedFd,
    },
    #[message(other)]
    Other(jsoncomm::message::UnknownVariant),
}

#[derive(Debug, Message)]
#[serde(tag = "kind", content = "is", rename_all = "kebab-case")]
enum Tagged {
    NotThere,
    Plain(Option<u32>),
    File(#[fd] OwnedFd),
    Inner {
        #[fd]
        next: Option<Box<Choice>>,
    },
}

/// Strings of every length with some characters to escape, or none.
fn any_long_text() -> impl Strategy<Value = String> {
    let special = select(vec!['"', '\\', '\n', '\0', '\u{1f}', '\u{7f}', 'ä', '😀']);
    let piece = ("[ -~]{0,40}", of(special));
    let pieces = vec(piece, 0..12);
    pieces.prop_map(|pieces| {
        let mut text = String::new();
        for (plain, special) in pieces {
            text.push_str(&plain);
            text.extend(special);
        }
        text
    })
}

#[test]
fn json_is_written_byte_for_byte_as_by_serde_json() {
    let texts = (
        any_long_text(),
        btree_map(any_long_text(), any_long_text(), 0..3),
    );
    let same = |value| {
        let (mut text, value) = (Vec::new(), Json(value));
        encode(&value, &mut text, &Packer::new()).unwrap();
        prop_assert_eq!(text, serde_json::to_vec(&value.0).unwrap());
        Ok(())
    };
    TestRunner::new(config()).run(&texts, same).unwrap();
}

/// Returns a distinct descriptor.
fn memfd() -> OwnedFd {
    memfd_create("test", MemfdFlags::CLOEXEC).unwrap()
}

fn any_text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..8).prop_map(String::from_iter)
}

fn any_choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(()).prop_map(|()| Choice::None),
        any_text().prop_map(Choice::One),
        (any::<u64>(), any::<f64>()).prop_map(|(whole, real)| Choice::Two(whole, real)),
        any_text().prop_map(|name| Choice::Named {
            name,
            file: memfd()
        }),
    ]
}

fn any_tagged() -> impl Strategy<Value = Tagged> {
    prop_oneof![
        Just(()).prop_map(|()| Tagged::NotThere),
        any::<Option<u32>>().prop_map(Tagged::Plain),
        Just(()).prop_map(|()| Tagged::File(memfd())),
        of(any_choice()).prop_map(|next| Tagged::Inner {
            next: next.map(Box::new)
        }),
    ]
}

fn any_message() -> impl Strategy<Value = All> {
    let scalars = (
        any_text(),
        any::<char>(),
        any::<(u64, i64, u8)>(),
        any::<(u128, i128)>(),
    );
    let reals = (any::<f64>(), any::<f32>(), any::<Option<bool>>());
    let maps = (
        btree_map(any_text(), vec(any::<f64>(), 0..3), 0..4),
        btree_map(any::<i16>(), any::<char>(), 0..4),
        btree_map(any::<char>(), Just(()), 0..4),
    );
    let choices = (any_choice(), vec(any_tagged(), 0..4));
    let files = (any::<bool>(), btree_map(any_text(), Just(()), 0..3));
    let list = vec(of(any_text()), 0..4);
    (scalars, reals, maps, choices, files, list).prop_map(
        |(scalars, reals, maps, choices, (file, files), list)| All {
            text: scalars.0,
            letter: scalars.1,
            whole_number: scalars.2,
            wide: scalars.3,
            real: reals.0,
            short: reals.1,
            // `Some(None)` is `null`, too.
            maybe: reals.2.map(Some),
            list,
            by_text: maps.0,
            by_number: maps.1,
            by_letter: maps.2,
            choice: choices.0,
            choices: choices.1,
            file: file.then(memfd),
            files: files.into_keys().map(|name| (name, memfd())).collect(),
        },
    )
}

/// Returns the sent text and descriptors of a message.
fn sent(message: &All) -> (Vec<u8>, Fds, Vec<u64>) {
    let (mut text, fds) = (Vec::new(), Packer::new());
    encode(message, &mut text, &fds).unwrap();
    let fds = fds.into_fds();
    let which = fds.iter().map(|fd| fstat(fd).unwrap().st_ino).collect();
    let fds: Vec<_> = fds
        .iter()
        .map(|fd| fd.try_clone_to_owned().unwrap())
        .collect();
    (text, Fds::from(fds), which)
}

/// Returns the parts that can be compared.
fn plain(all: &All) -> impl Debug + PartialEq {
    let numbers = (all.whole_number, all.wide, all.real, all.short);
    let maps = (
        all.by_text.clone(),
        all.by_number.clone(),
        all.by_letter.clone(),
    );
    let texts = (all.text.clone(), all.letter, all.list.clone(), all.maybe);
    (numbers, maps, texts)
}

/// Valid and invalid JSON: unambiguous values, invalid values, values that readers disagree on, and
/// duplicate keys.
fn any_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        "a",
        "b",
        " ",
        "é",
        "😀",
        r"\n",
        r"\u0061",
        r"\ud83d\ude00",
        r"\u0000",
        r#"\""#,
        r"\ud800",
        "[",
        "}",
    ]);
    let string = vec(piece, 0..3).prop_map(|pieces| format!("\"{}\"", pieces.concat()));
    let odd = select(vec![
        "null",
        "true",
        "-0",
        "1E5",
        "1.0",
        "1e999",
        "-0.1e-7",
        "18446744073709551616",
        "01",
        "NaN",
    ]);
    let leaf = prop_oneof![
        2 => string,
        1 => odd.prop_map(String::from),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| format!("{number:e}")),
    ];
    let key = select(vec![
        r#""a""#,
        r#""b""#,
        r#""c""#,
        r#""""#,
        r#""\u0061""#,
        r#""number""#,
        r#"" a""#,
        r#""\ud83d\ude00""#,
    ]);
    let blank = select(vec!["", "", "", " ", "\n\t"]);
    let text = leaf.prop_recursive(4, 24, 4, move |inner| {
        let member = (key.clone(), blank.clone(), inner.clone());
        let member = member.prop_map(|(key, blank, value)| format!("{key}{blank}:{value}{blank}"));
        prop_oneof![
            vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    });
    // In some texts a byte is changed, removed or inserted.
    let slip = (any::<prop::sample::Index>(), any::<u8>(), 0..3_usize);
    (text, prop::option::weighted(0.2, slip)).prop_map(|(text, slip)| {
        let mut bytes = text.into_bytes();
        if let Some((at, byte, removed)) = slip {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + removed);
            bytes.splice(at..end, (byte < 200).then_some(byte));
        }
        bytes
    })
}

/// A value with all its keys, in order.
struct Keys {
    names: Vec<String>,
    inner: Vec<Keys>,
}

impl Keys {
    fn are_unique(&self) -> bool {
        let mut names = self.names.clone();
        names.sort();
        names.dedup();
        names.len() == self.names.len() && self.inner.iter().all(Self::are_unique)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        fn leaf<E>() -> Result<Keys, E> {
            let (names, inner) = (Vec::new(), Vec::new());
            Ok(Keys { names, inner })
        }

        impl<'de> Visitor<'de> for Any {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Keys, E> {
                leaf()
            }

            fn visit_bool<E>(self, _: bool) -> Result<Keys, E> {
                leaf()
            }

            fn visit_i64<E>(self, _: i64) -> Result<Keys, E> {
                leaf()
            }

            fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
                leaf()
            }

            fn visit_f64<E>(self, _: f64) -> Result<Keys, E> {
                leaf()
            }

            fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
                leaf()
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Keys, A::Error> {
                let mut keys = leaf()?;
                while let Some(item) = seq.next_element()? {
                    keys.inner.push(item);
                }
                Ok(keys)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = leaf()?;
                while let Some((name, value)) = map.next_entry()? {
                    keys.names.push(name);
                    keys.inner.push(value);
                }
                Ok(keys)
            }
        }

        from.deserialize_any(Any)
    }
}

/// Has one known member.
#[derive(Debug, PartialEq, Deserialize)]
struct Lenient {
    number: Option<Value>,
}

/// Asserts that we read the same as serde_json from unambiguous text, and refuse any other.
fn same<T>(text: &[u8], clear: bool) -> Result<(), TestCaseError>
where
    Json<T>: for<'de> Unpack<'de>,
    T: Debug + PartialEq + for<'de> Deserialize<'de>,
{
    let ours = decode::<Json<T>>(text, Fds::new(), UnusedFds::Refuse);
    let theirs = serde_json::from_slice::<T>(text).ok().filter(|_| clear);
    // serde_json reads it as a float without an error.
    let lost = |error: &DecodeError| error.to_string().ends_with("has more than 64 bits");
    if ours.as_ref().is_err_and(lost) {
        let longest = text
            .split(|byte| !byte.is_ascii_digit())
            .map(<[u8]>::len)
            .max();
        prop_assert!(longest >= Some(19));
        return Ok(());
    }
    prop_assert_eq!(ours.ok().map(|json| json.0), theirs);
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn a_message_is_read_back_as_written() {
    alone!();
    let before = open_fds();
    let read_back = |message: All| {
        let (text, fds, which) = sent(&message);
        let back: All = decode(&text, fds, UnusedFds::Refuse).unwrap();
        prop_assert_eq!(back.real.to_bits(), message.real.to_bits());
        prop_assert_eq!(back.short.to_bits(), message.short.to_bits());
        prop_assert_eq!(plain(&back), plain(&message));
        let (again, _, which_again) = sent(&back);
        prop_assert_eq!(
            String::from_utf8(again).unwrap(),
            String::from_utf8(text).unwrap()
        );
        prop_assert_eq!(which_again, which);
        Ok(())
    };
    TestRunner::new(config())
        .run(&any_message(), read_back)
        .unwrap();
    assert_open_fds(before);
}

#[test]
fn json_is_read_as_by_serde_json_or_refused() {
    let one_meaning = |text: Vec<u8>| {
        let keys = serde_json::from_slice::<Keys>(&text);
        // Who skips a number need not have a type for it, and the keys behind it are not known here.
        let too_large = |error: &serde_json::Error| error.to_string().contains("out of range");
        let skips = keys.as_ref().err().is_some_and(too_large);
        let clear = keys.is_ok_and(|keys| keys.are_unique());
        same::<Value>(&text, clear)?;
        if skips {
            return Ok(());
        }
        same::<Option<BTreeMap<String, Value>>>(&text, clear)?;
        same::<Lenient>(&text, clear)?;
        same::<Vec<Lenient>>(&text, clear)?;
        same::<BTreeMap<String, IgnoredAny>>(&text, clear)
    };
    TestRunner::new(config())
        .run(&any_json(), one_meaning)
        .unwrap();
}
