//! A stub's arguments are lent, whatever the handler takes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use jsoncomm::{Call, CallError, Kind, Message, Stream};
use jsoncomm_tests::{KINDS, Running};

/// A message that serde does not know, and that cannot be copied.
#[derive(Debug, Message)]
struct Pair(u8, u8);

type Name = String;

/// Functions for serde's `with`. Only a reference to the set itself has these traits.
mod sorted {
    use super::BTreeSet;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T, S>(set: &T, to: S) -> Result<S::Ok, S::Error>
    where
        T: Clone + IntoIterator<Item = u8>,
        S: Serializer,
    {
        let all: Vec<u8> = set.clone().into_iter().collect();
        all.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeSet<u8>, D::Error> {
        Deserialize::deserialize(from)
    }
}

#[jsoncomm::service(name = "example.lending")]
trait Lending {
    fn text(&mut self, text: String, #[sensitive] maybe: Option<String>) -> String;
    fn path(&mut self, path: PathBuf) -> PathBuf;
    fn lists(&mut self, bytes: Vec<u8>, names: Vec<String>, pairs: Vec<Pair>) -> usize;
    fn copied(&mut self, number: f64, flag: bool, letter: char) -> String;
    #[expect(clippy::too_many_arguments, reason = "each another shape")]
    fn others(
        &mut self,
        call: &mut Call,
        pair: Pair,
        name: Name,
        maybe: Option<u8>,
        both: (i8, char),
        some: [u16; 2],
        map: BTreeMap<String, Pair>,
        nonzero: NonZeroU8,
    ) -> String;
    fn by_functions(
        &mut self,
        #[serde(with = "sorted")] set: BTreeSet<u8>,
        #[serde(default, skip_serializing_if = "String::is_empty")] text: String,
        #[serde(default = "Default::default")] list: Vec<u8>,
    ) -> String;
    fn parts(&mut self, call: &mut Call, names: Vec<String>) -> Stream<String>;
    #[oneway]
    fn forget(&mut self, text: String);
    fn forgotten(&mut self) -> Vec<String>;
}

#[derive(Debug, Default)]
struct Daemon {
    forgotten: Vec<String>,
}

impl Lending for Daemon {
    fn text(&mut self, text: String, maybe: Option<String>) -> String {
        format!("{text} {maybe:?}")
    }

    fn path(&mut self, path: PathBuf) -> PathBuf {
        path
    }

    fn lists(&mut self, bytes: Vec<u8>, names: Vec<String>, pairs: Vec<Pair>) -> usize {
        let pairs = pairs.iter().map(|Pair(a, b)| usize::from(a + b));
        bytes.len() + names.len() + pairs.sum::<usize>()
    }

    fn copied(&mut self, number: f64, flag: bool, letter: char) -> String {
        format!("{number} {flag} {letter}")
    }

    fn others(
        &mut self,
        call: &mut Call,
        pair: Pair,
        name: Name,
        maybe: Option<u8>,
        both: (i8, char),
        some: [u16; 2],
        map: BTreeMap<String, Pair>,
        nonzero: NonZeroU8,
    ) -> String {
        let map = map.len();
        format!(
            "{} {pair:?} {name} {maybe:?} {both:?} {some:?} {map} {nonzero}",
            call.method()
        )
    }

    fn by_functions(&mut self, set: BTreeSet<u8>, text: String, list: Vec<u8>) -> String {
        format!("{set:?} {text:?} {list:?}")
    }

    fn parts(&mut self, call: &mut Call, names: Vec<String>) -> Stream<String> {
        call.stream(|sink| sink.feed(names.into_iter().map(Ok)))
    }

    fn forget(&mut self, text: String) {
        self.forgotten.push(text);
    }

    fn forgotten(&mut self) -> Vec<String> {
        self.forgotten.clone()
    }
}

/// Starts a server. Returns it with the stub of a client.
fn serve(kind: Kind) -> (Running<Daemon>, LendingClient) {
    let server = Running::start(kind, Daemon::default(), |endpoint| {
        endpoint.serve::<dyn Lending>()
    });
    let client = LendingClient::new(server.connect());
    (server, client)
}

#[test]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "the stub accepts both"
)]
fn an_owned_argument_is_lent_by_whatever_holds_its_content() {
    for kind in KINDS {
        let (_server, client) = serve(kind);
        let owned = "text".to_owned();
        let said = client.text(&owned, Some(&owned)).unwrap();
        assert_eq!(said, r#"text Some("text")"#);
        assert_eq!(client.text("a", None).unwrap(), "a None");
        assert_eq!(
            client.text(Cow::from("b"), owned.get(..1)).unwrap(),
            r#"b Some("t")"#
        );
        assert_eq!(client.text(Rc::<str>::from("c"), None).unwrap(), "c None");
        assert_eq!(
            client.text(Arc::new(owned.clone()).as_str(), None).unwrap(),
            "text None"
        );
        assert_eq!(client.text(owned, None).unwrap(), "text None");

        let path = PathBuf::from("/p");
        for same in [
            client.path("/p"),
            client.path(&path),
            client.path(Path::new("/p")),
        ] {
            assert_eq!(same.unwrap(), path);
        }
        assert_eq!(client.path(OsString::from("/p")).unwrap(), path);
        assert_eq!(client.path(path).unwrap(), Path::new("/p"));

        let (names, pairs) = (vec!["n".to_owned()], vec![Pair(1, 2)]);
        assert_eq!(client.lists([], [], []).unwrap(), 0);
        assert_eq!(client.lists([1, 2, 3], &names, &pairs).unwrap(), 7);
        assert_eq!(
            client.lists(b"12", names.as_slice(), [Pair(3, 4)]).unwrap(),
            10
        );
        assert_eq!(client.lists(vec![1], &names, pairs).unwrap(), 5);
        assert_eq!(client.lists(&[1, 2], names, &[]).unwrap(), 3);
        assert_eq!(client.copied(1.5, true, 'x').unwrap(), "1.5 true x");
    }
}

#[test]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "the stub accepts both"
)]
fn an_argument_of_any_other_type_is_lent_or_given() {
    for kind in KINDS {
        let (_server, client) = serve(kind);
        let map = BTreeMap::from([("k".to_owned(), Pair(5, 6))]);
        let (pair, name, three) = (Pair(1, 2), Name::from("n"), NonZeroU8::new(3).unwrap());
        let lent = client.others(&pair, &name, &Some(7), &(-1, 'y'), &[8, 9], &map, &three);
        let want = "others Pair(1, 2) n Some(7) (-1, 'y') [8, 9] 1 3";
        assert_eq!(lent.unwrap(), want);
        let given = client.others(pair, name, Some(7), (-1, 'y'), [8, 9], map, three);
        assert_eq!(given.unwrap(), want);
        let none = client.others(
            Pair(1, 2),
            Name::new(),
            None,
            (0, 'z'),
            [0; 2],
            BTreeMap::new(),
            three,
        );
        assert_eq!(none.unwrap(), "others Pair(1, 2)  None (0, 'z') [0, 0] 0 3");

        let set = BTreeSet::from([2, 1]);
        let said = client.by_functions(&set, &String::new(), "list");
        assert_eq!(said.unwrap(), r#"{1, 2} "" [108, 105, 115, 116]"#);
        let said = client.by_functions(set, "t".to_owned(), []);
        assert_eq!(said.unwrap(), r#"{1, 2} "t" []"#);
    }
}

#[test]
fn a_started_call_keeps_nothing_of_what_was_lent() {
    for kind in KINDS {
        let (_server, client) = serve(kind);
        let pending: Vec<_> = (0..3)
            .map(|n| {
                let text = n.to_string();
                client.start().text(&text, Some(&text))
            })
            .collect();
        for (n, pending) in (0..).zip(pending) {
            let said: Result<String, CallError> = pending.unwrap().wait();
            assert_eq!(said.unwrap(), format!("{n} Some(\"{n}\")"));
        }
        let kept = "kept".to_owned();
        client.forget(&kept).unwrap();
        client.start().forget("too").unwrap();
        assert_eq!(client.forgotten().unwrap(), [&*kept, "too"]);
        let names = ["a".to_owned(), "b".to_owned()];
        let parts = client.parts(&names).unwrap();
        let parts: Result<Vec<String>, _> = parts.collect();
        assert_eq!(parts.unwrap(), names);
    }
}
