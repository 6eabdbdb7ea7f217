//! Messages inside messages without `#[fd]` announce no descriptors.

use super::*;
use jsoncomm::describe::{Form, Shape, Type};

#[derive(Debug, Clone, PartialEq, Message)]
struct Options {
    deep: bool,
    #[serde(default)]
    pattern: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Message)]
#[serde(tag = "kind", content = "of")]
enum Entry {
    File { name: String, options: Options },
    Folder(Vec<Entry>),
    Link,
}

#[derive(Debug, PartialEq, Message)]
struct Listing {
    options: Options,
    maybe: Option<Options>,
    entries: Vec<Entry>,
    by_name: BTreeMap<String, Entry>,
    pair: (Options, u8),
    array: [Entry; 1],
    boxed: Box<Options>,
}

fn options(deep: bool) -> Options {
    let pattern = deep.then(|| "*".into());
    Options { deep, pattern }
}

#[test]
fn a_message_without_descriptors_needs_no_annotation() {
    let file = Entry::File {
        name: "a".into(),
        options: options(false),
    };
    let listing = Listing {
        options: options(true),
        maybe: None,
        entries: vec![Entry::Folder(vec![file.clone()]), Entry::Link],
        by_name: BTreeMap::from([("b".into(), file)]),
        pair: (options(false), 7),
        array: [Entry::Link],
        boxed: Box::new(options(true)),
    };
    let file = r#"{"kind":"File","of":{"name":"a","options":{"deep":false,"pattern":null}}}"#;
    let deep = r#"{"deep":true,"pattern":"*"}"#;
    let expected = format!(
        r#"{{"options":{deep},"maybe":null,"entries":[{{"kind":"Folder","of":[{file}]}},{{"kind":"Link"}}],"by_name":{{"b":{file}}},"pair":[{{"deep":false,"pattern":null}},7],"array":[{{"kind":"Link"}}],"boxed":{deep}}}"#
    );
    assert_eq!(text(&listing), expected);
    assert_eq!(round(&listing), listing);
}

#[test]
fn a_nested_message_can_be_optional_and_is_checked_like_any_field() {
    #[derive(Debug, Message)]
    #[serde(deny_unknown_fields)]
    struct Ask {
        options: Options,
        maybe: Option<Options>,
        #[serde(default)]
        entries: Vec<Entry>,
    }
    let ask: Ask = read(r#"{"options":{"deep":true}}"#, 0).unwrap();
    assert!(ask.maybe.is_none() && ask.entries.is_empty() && ask.options.deep);
    assert_eq!(refusal::<Ask>("{}", 0), "options: missing field `options`");
    let wrong = refusal::<Ask>(
        r#"{"options":{"deep":true},"entries":[{"kind":"Link"},{"kind":"File","of":{"name":1}}]}"#,
        0,
    );
    assert!(wrong.starts_with("entries[1].of.name: "), "{wrong}");
}

#[test]
fn a_message_without_descriptors_may_be_recursive() {
    #[derive(Debug, PartialEq, Message)]
    struct Tree {
        name: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        children: Vec<Tree>,
        next: Option<Box<Tree>>,
    }
    let text =
        r#"{"name":"a","children":[{"name":"b","next":null}],"next":{"name":"c","next":null}}"#;
    let tree: Tree = read(text, 0).unwrap();
    assert_eq!(super::text(&tree), text);
    assert_eq!(round(&tree), tree);
}

#[test]
fn a_newtype_and_a_borrowing_message_are_nested_too() {
    #[derive(Debug, PartialEq, Message)]
    struct Named<'a> {
        name: &'a str,
    }
    #[derive(Debug, PartialEq, Message)]
    #[serde(transparent)]
    struct Only(Options);
    #[derive(Debug, PartialEq, Message)]
    enum Either<'a> {
        Only(Only),
        #[serde(rename = "named")]
        Named(#[serde(borrow)] Named<'a>),
    }
    let text = br#"{"named":{"name":"x"}}"#;
    let read: Either<'_> = decode(text, Fds::new(), UnusedFds::Refuse).unwrap();
    assert_eq!(read, Either::Named(Named { name: "x" }));
    assert_eq!(super::text(&read).as_bytes(), text);
    let only = Either::Only(Only(options(false)));
    assert_eq!(
        super::text(&only),
        r#"{"Only":{"deep":false,"pattern":null}}"#
    );
}

/// It is written by serde, although it is also a message of another shape.
#[test]
fn a_field_without_fd_of_a_type_with_serde_is_written_by_serde() {
    #[derive(Debug, PartialEq, Message)]
    struct Both(u8);

    impl Serialize for Both {
        fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
            out.collect_str(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for Both {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            text.parse().map(Both).map_err(serde::de::Error::custom)
        }
    }

    #[derive(Debug, PartialEq, Message)]
    struct Outer {
        plain: Vec<Both>,
        #[fd]
        message: Vec<Both>,
    }
    let outer = Outer {
        plain: vec![Both(1)],
        message: vec![Both(1)],
    };
    assert_eq!(text(&outer), r#"{"plain":["1"],"message":[1]}"#);
    assert_eq!(round(&outer), outer);
}

#[test]
fn a_type_parameter_may_be_used_inside_a_nested_message() {
    #[derive(Debug, PartialEq, Message)]
    struct Inner<T> {
        of: T,
    }
    #[derive(Debug, PartialEq, Message)]
    struct Outer<T> {
        one: Inner<T>,
        all: Vec<Inner<T>>,
        plain: Option<T>,
    }
    let outer = Outer {
        one: Inner { of: 1_u8 },
        all: vec![Inner { of: 2 }],
        plain: None,
    };
    assert_eq!(
        text(&outer),
        r#"{"one":{"of":1},"all":[{"of":2}],"plain":null}"#
    );
    assert_eq!(round(&outer), outer);
}

#[test]
fn a_foreign_type_can_be_wrapped_beside_a_message() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Foreign(u8);
    #[derive(Debug, PartialEq, Message)]
    struct Mixed {
        pairs: Vec<(Options, Json<Foreign>)>,
    }
    let mixed = Mixed {
        pairs: vec![(options(false), Json(Foreign(1)))],
    };
    assert_eq!(
        text(&mixed),
        r#"{"pairs":[[{"deep":false,"pattern":null},1]]}"#
    );
    assert_eq!(round(&mixed), mixed);
}

#[test]
fn a_nested_message_is_described_by_its_members() {
    let Shape::Defined(listing) = Type::of::<Listing>().shape() else {
        unreachable!();
    };
    let Form::Members([options, _, entries, ..]) = listing.form() else {
        unreachable!();
    };
    assert!(matches!(options.shape(), Shape::Defined(of) if of.name() == "Options"));
    let Shape::List { item, .. } = entries.shape() else {
        unreachable!();
    };
    assert!(matches!(item.shape(), Shape::Defined(of) if of.name() == "Entry"));
}

#[test]
fn a_nested_message_may_have_sensitive_fields() {
    #[derive(PartialEq, Message)]
    struct Login {
        user: String,
        #[sensitive]
        password: String,
    }
    #[derive(Debug, PartialEq, Message)]
    struct Ask {
        login: Login,
    }
    let ask: Ask = read(r#"{"login":{"user":"a","password":"secret"}}"#, 0).unwrap();
    let shown = format!("{ask:?}");
    assert!(
        shown.contains("<sensitive>") && !shown.contains("secret"),
        "{shown}"
    );
    let said = refusal::<Ask>(r#"{"login":{"user":"a","password":["secret"]}}"#, 0);
    assert_eq!(said, "login.password: not what is expected");
}
