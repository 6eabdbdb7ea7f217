//! Descriptions of types, with serde's attributes and nested.

use super::*;
use jsoncomm::fds::Fds;
use jsoncomm::message::{UnusedFds, decode};
use serde::{Deserialize, Serialize};

/// Describes a service whose one method returns a type.
macro_rules! replies {
    ($ty:ty) => {{
        #[jsoncomm::service(name = "test.types")]
        trait Types {
            fn tell(&mut self) -> $ty;
        }
        document(<dyn Types as Describe>::DESCRIPTION)
    }};
}

/// Returns the schema of the result of that method.
fn result(document: &Value) -> &Value {
    &document["methods"][0]["result"]["schema"]
}

#[derive(Debug, Message)]
struct Branch {
    name: String,
    #[fd]
    children: Vec<Branch>,
    #[fd]
    other: Option<Box<Leaf>>,
}

#[derive(Debug, Message)]
struct Leaf(#[fd] Box<Twig>);

#[derive(Debug, Message)]
enum Twig {
    Back(#[fd] Branch),
    Deep(#[fd] BTreeMap<String, Leaf>),
    End,
}

#[test]
fn recursive_types_are_described_once() {
    let document = replies!(Branch);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut names: Vec<_> = schemas.keys().collect();
    names.sort();
    assert_eq!(names, ["Branch", "Leaf", "Twig"]);
    let leaf = json!({"name": "a", "children": [], "other": {"Deep": {"x": "End"}}});
    let root = json!({"name": "b", "children": [leaf], "other": {"Back": leaf}});
    assert!(fits(&document, "Branch", &root));
    let wrong = json!({"name": "b", "children": [{"name": 7, "children": [], "other": null}], "other": null});
    assert!(!fits(&document, "Branch", &wrong));
}

#[test]
fn standard_library_types_are_described_as_serde_writes_them() {
    let integer =
        |least: i64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most});
    let number = integer(i8::MIN.into(), i8::MAX as u64);
    let both = replies!((bool, i8, f32, char));
    let items = json!([{"type": "boolean"}, number, {"type": "number"}, {"type": "string"}]);
    let tuple = json!({"type": "array", "items": items, "minItems": 4, "maxItems": 4});
    assert_eq!(*result(&both), tuple);
    assert_eq!(*result(&replies!(())), json!({"type": "null"}));
    assert_eq!(*result(&replies!(std::num::NonZeroU8)), integer(1, 255));
    let array = json!({"type": "array", "items": integer(0, 65535), "minItems": 3, "maxItems": 3});
    assert_eq!(*result(&replies!([u16; 3])), array);
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    assert_eq!(*result(&replies!(BTreeMap<u8, String>)), map);
    let set = json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true});
    assert_eq!(*result(&replies!(HashSet<String>)), set);
    let text = json!({"type": "string"});
    assert_eq!(*result(&replies!(Cow<'static, str>)), text);
    assert_eq!(*result(&replies!(Json<Box<Path>>)), text);
    let span = replies!(Duration);
    let value = serde_json::to_value(Duration::from_millis(1500)).unwrap();
    assert!(fits(&span, "Duration", &value));
}

#[test]
fn a_type_known_only_to_serde_is_described_as_any_value_with_its_name() {
    #[derive(Serialize, Deserialize, Debug)]
    struct Foreign;
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    struct Mixed {
        foreign: Vec<Foreign>,
        #[serde(with = "own")]
        own: u8,
    }
    mod own {
        pub(super) fn serialize<S: serde::Serializer>(_: &u8, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str("one")
        }
        pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
            from: D,
        ) -> Result<u8, D::Error> {
            serde::Deserialize::deserialize(from)
        }
    }
    let document = replies!(Mixed);
    let members = &document["components"]["schemas"]["Mixed"]["properties"];
    let anything = json!({"foreign": {"title": "Vec<Foreign>"}, "own": {"title": "u8"}});
    assert_eq!(*members, anything);
    assert_eq!(
        *result(&replies!(Json<Foreign>)),
        json!({"title": "Json<Foreign>"})
    );
}

#[test]
fn an_option_of_any_type_may_be_absent() {
    #[derive(Serialize, Deserialize, Debug)]
    struct Foreign;
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    struct Mixed {
        foreign: Option<Foreign>,
    }
    #[jsoncomm::service(name = "test.types")]
    trait Types {
        fn take(&mut self, #[fd] mixed: Mixed, foreign: Option<Foreign>) -> u8;
    }
    let document = document(<dyn Types as Describe>::DESCRIPTION);
    let params = &document["methods"][0]["params"];
    assert_eq!(params[1]["required"], false);
    let maybe = json!({"anyOf": [{"title": "Foreign"}, {"type": "null"}]});
    assert_eq!(params[1]["schema"], maybe);
    assert!(fits(&document, "Mixed", &json!({})));
}

#[derive(Debug, Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only described")]
struct Dressed {
    plain_name: u8,
    #[serde(rename(serialize = "out", deserialize = "in"))]
    two: u8,
    #[serde(skip)]
    nothing: u8,
    #[serde(skip_serializing)]
    heard: u8,
    #[serde(skip_deserializing)]
    said: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    rarely: Option<u8>,
    #[serde(default)]
    backed: u8,
}

#[test]
fn a_type_that_is_read_and_written_differently_is_described_both_ways() {
    #[jsoncomm::service(name = "test.types")]
    trait Types {
        fn turn(&mut self, from: Dressed) -> Dressed;
    }
    let document = document(<dyn Types as Describe>::DESCRIPTION);
    let names = |name: &str, what: &str| -> Vec<String> {
        let part = &document["components"]["schemas"][name][what];
        let mut names: Vec<String> = match part {
            Value::Object(members) => members.keys().cloned().collect(),
            part => serde_json::from_value(part.clone()).unwrap(),
        };
        names.sort();
        names
    };
    assert_eq!(
        names("Dressed", "properties"),
        ["backed", "heard", "in", "plainName", "rarely"]
    );
    assert_eq!(names("Dressed", "required"), ["heard", "in", "plainName"]);
    let written = ["backed", "out", "plainName", "rarely", "said"];
    assert_eq!(names("Dressed.written", "properties"), written);
    assert_eq!(
        names("Dressed.written", "required"),
        ["backed", "out", "plainName", "said"]
    );
    let dressed: Dressed =
        serde_json::from_value(json!({"plainName": 1, "in": 2, "heard": 3})).unwrap();
    assert!(fits(
        &document,
        "Dressed.written",
        &serde_json::to_value(&dressed).unwrap()
    ));
}

#[test]
fn enums_are_described_with_their_tags() {
    #[derive(Debug, Message, Serialize)]
    #[serde(tag = "kind", content = "is", rename_all = "snake_case")]
    #[allow(dead_code, reason = "only described")]
    enum Tagged {
        One,
        TwoThings(u8, String),
        /// With a number.
        Three {
            number: u8,
        },
    }
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    enum Color {
        Red,
        #[serde(rename = "bleu")]
        Blue,
    }
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    struct Unit;
    let document = replies!((Tagged, Color, Unit));
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["Color"],
        json!({"type": "string", "enum": ["Red", "bleu"]})
    );
    assert_eq!(schemas["Unit"], json!({"type": "null"}));
    for value in [
        Tagged::One,
        Tagged::TwoThings(1, "a".into()),
        Tagged::Three { number: 3 },
    ] {
        let value = serde_json::to_value(&value).unwrap();
        assert!(fits(&document, "Tagged", &value), "{value}");
    }
    assert!(!fits(&document, "Tagged", &json!({"kind": "four"})));
    assert!(!fits(
        &document,
        "Tagged",
        &json!({"kind": "three", "is": {}})
    ));
    assert_eq!(
        schemas["Tagged"]["anyOf"][2]["description"],
        "With a number."
    );
}

#[test]
fn the_content_of_a_tag_may_be_absent_where_it_is_an_option() {
    #[derive(Debug, Message, Serialize, Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Tagged {
        Maybe(Option<u8>),
        Always(u8),
    }
    #[jsoncomm::service(name = "test.types")]
    trait Types {
        fn turn(&mut self, tagged: Tagged) -> Tagged;
    }
    let document = document(<dyn Types as Describe>::DESCRIPTION);
    for (text, reads, writes) in [
        (r#"{"t":"Maybe"}"#, true, false),
        (r#"{"t":"Maybe","c":null}"#, true, true),
        (r#"{"t":"Maybe","c":1}"#, true, true),
        (r#"{"t":"Always"}"#, false, false),
        (r#"{"t":"Always","c":1}"#, true, true),
    ] {
        let tagged = serde_json::from_str(text).unwrap();
        assert_eq!(fits(&document, "Tagged", &tagged), reads, "{text}");
        assert_eq!(fits(&document, "Tagged.written", &tagged), writes, "{text}");
        let ours: Result<Tagged, _> = decode(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
        assert_eq!(ours.is_ok(), reads, "{text}");
        assert_eq!(serde_json::from_str::<Tagged>(text).is_ok(), reads);
    }
}

#[test]
fn aliases_are_described() {
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    struct Renamed {
        /// In bytes.
        #[serde(alias = "old", alias = "older")]
        new: bool,
        #[serde(rename(serialize = "out", deserialize = "in"), alias = "inner")]
        #[fd]
        held: Option<Box<Renamed>>,
        #[serde(alias = "colour")]
        #[fd]
        color: Color,
    }
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    enum Color {
        Red,
        #[serde(alias = "bleu")]
        Blue,
    }
    #[jsoncomm::service(name = "test.types")]
    trait Types {
        fn take(
            &mut self,
            #[serde(alias = "former")]
            #[fd]
            one: Renamed,
            two: bool,
        ) -> Color;
    }
    let document = document(<dyn Types as Describe>::DESCRIPTION);
    let params = &document["methods"][0]["params"];
    assert_eq!(params[0]["x-aliases"], json!(["former"]));
    assert_eq!(params[1]["x-aliases"], Value::Null);
    let schemas = &document["components"]["schemas"];
    let members = &schemas["Renamed"]["properties"];
    let new = json!({"description": "In bytes.", "type": "boolean", "x-aliases": ["old", "older"]});
    assert_eq!(members["new"], new);
    assert_eq!(members["in"]["x-aliases"], json!(["inner"]));
    let color = json!({"allOf": [{"$ref": "#/components/schemas/Color"}], "x-aliases": ["colour"]});
    assert_eq!(members["color"], color);
    let variants = json!([{"const": "Red"}, {"const": "Blue", "x-aliases": ["bleu"]}]);
    assert_eq!(schemas["Color"]["anyOf"], variants);
    let [take] = <dyn Types as Describe>::DESCRIPTION.methods() else {
        panic!("one method")
    };
    assert_eq!(take.parameters()[0].aliases(), ["former"]);
}

#[test]
fn an_array_item_before_a_required_one_is_required() {
    #[derive(Debug, Message, Serialize, Deserialize)]
    struct Row(Option<u8>, String, #[serde(default)] bool);
    #[jsoncomm::service(name = "test.types")]
    trait Types {
        fn turn(&mut self, row: Row) -> Row;
    }
    let document = document(<dyn Types as Describe>::DESCRIPTION);
    for (row, reads, writes) in [
        (json!([null, "a", true]), true, true),
        (json!([null, "a"]), true, false),
        (json!([null]), false, false),
    ] {
        assert_eq!(fits(&document, "Row", &row), reads, "{row}");
        assert_eq!(fits(&document, "Row.written", &row), writes, "{row}");
        assert_eq!(serde_json::from_value::<Row>(row).is_ok(), reads);
    }
}

#[test]
fn an_empty_array_is_described_as_empty() {
    #[derive(Debug, Message)]
    struct Empty();
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    struct Skipped(#[serde(skip)] u8, #[serde(skip)] u8);
    #[derive(Debug, Message)]
    #[allow(dead_code, reason = "only described")]
    enum Variants {
        Nothing(),
    }
    let document = replies!((Empty, Skipped, Variants));
    let schemas = &document["components"]["schemas"];
    for name in ["Empty", "Skipped"] {
        let nothing = json!({"type": "array", "minItems": 0, "maxItems": 0});
        assert_eq!(schemas[name], nothing);
        assert!(fits(&document, name, &json!([])) && !fits(&document, name, &json!([1])));
    }
    assert!(fits(&document, "Variants", &json!({"Nothing": []})));
}

/// A page of something that travels with descriptors.
#[derive(Debug, Message)]
struct Page<T> {
    #[fd]
    items: Vec<T>,
}

mod elsewhere {
    #[derive(Debug, jsoncomm::Message)]
    pub(super) struct Page {
        pub(super) number: u8,
    }
}

#[test]
fn generic_types_and_types_with_the_same_name_are_told_apart() {
    let document = replies!((Page<u8>, Page<Page<bool>>, elsewhere::Page));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut names: Vec<_> = schemas.keys().collect();
    names.sort();
    assert_eq!(names, ["Page", "Page_Page_bool", "Page_bool", "Page_u8"]);
    assert!(fits(
        &document,
        "Page_Page_bool",
        &json!({"items": [{"items": [true]}]})
    ));
    assert!(!fits(
        &document,
        "Page_Page_bool",
        &json!({"items": [{"items": [1]}]})
    ));
}

#[test]
fn types_with_the_same_path_are_told_apart_by_their_definition() {
    trait Has {
        type Of;
    }
    struct One;
    struct Two;
    // Rust has the same path for types in two blocks of a function.
    macro_rules! block {
        ($of:ident, $ty:ty) => {{
            #[derive(Debug, Message)]
            #[allow(dead_code, reason = "only described")]
            struct Inner {
                p: $ty,
            }
            #[derive(Debug, Message)]
            #[allow(dead_code, reason = "only described")]
            struct Outer {
                #[fd]
                inner: Vec<Inner>,
                #[fd]
                more: Option<Box<Outer>>,
            }
            impl Has for $of {
                type Of = (Inner, Outer);
            }
        }};
    }
    block!(One, u8);
    block!(Two, String);
    let document = replies!((<One as Has>::Of, <Two as Has>::Of, <One as Has>::Of));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut names: Vec<_> = schemas.keys().collect();
    names.sort();
    assert_eq!(names, ["Inner", "Inner2", "Outer", "Outer2"]);
    let place = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let pairs = result(&document)["items"].as_array().unwrap();
    assert_eq!(pairs[0]["items"], json!([place("Inner"), place("Outer")]));
    assert_eq!(pairs[1]["items"], json!([place("Inner2"), place("Outer2")]));
    assert_eq!(pairs[2], pairs[0]);
    let with = |inner: Value| json!({"inner": [{"p": inner}], "more": null});
    for (name, p, other) in [
        ("Outer", json!(1), json!("a")),
        ("Outer2", json!("a"), json!(1)),
    ] {
        assert!(fits(&document, name, &with(p)), "{name}");
        assert!(!fits(&document, name, &with(other)), "{name}");
    }
}

#[test]
fn a_serde_error_enum_has_the_codes_of_its_variants() {
    #[derive(Debug, Message, Serialize, Deserialize, thiserror::Error)]
    #[message(serde)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "only described")]
    enum Loose {
        #[error("{text}")]
        Text { text: String },
        #[error("{number}")]
        Number { number: u8 },
    }
    let document = replies!(Result<u8, Loose>);
    let errors = json!([{"code": 1, "message": "Text"}, {"code": 2, "message": "Number"}]);
    assert_eq!(document["methods"][0]["errors"], errors);
}

#[test]
fn a_comment_may_come_from_a_file() {
    #[doc = concat!("Made ", "up.")]
    #[jsoncomm::service(name = "test.types")]
    trait Types {
        /** Over
        two lines. */
        fn tell(&mut self) -> u8;
    }
    let description = <dyn Types as Describe>::DESCRIPTION;
    assert_eq!(description.docs().trim(), "Made up.");
    let [tell] = description.methods() else {
        panic!("{description:?}")
    };
    let lines: Vec<_> = tell.docs().lines().map(str::trim).collect();
    assert_eq!(lines, ["Over", "two lines."]);
}
