//! Descriptions of services: the constant, the document, and `rpc.discover`.
//!
//! `describe/open-rpc-1.3.2.json` is the meta-schema of OpenRPC as its authors publish it on npm, in version 1.14.9 of
//! `@open-rpc/meta-schema` (Apache-2.0).

#[cfg(feature = "schema")]
mod schemas;
mod served;
mod types;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use boon::{Compiler, Schemas};
use jsoncomm::describe::Describe;
use jsoncomm::describe::Description;
use jsoncomm::message::Json;
use jsoncomm::{Call, Message, Stream};
use serde_json::{Value, json};

/// Lends files.
///
/// One at a time.
#[jsoncomm::service(name = "test.shelf")]
trait Shelf {
    /// Opens a file.
    /// In whatever way
    /// it can be opened.
    ///
    /// It stays open.
    fn open(&mut self, path: &str, flags: Option<u32>) -> Result<Opened, ShelfError>;
    /// Names all.
    fn list(&self, call: &mut Call, #[serde(default)] least: u64) -> Vec<String>;
    /// Each line.
    fn follow(&mut self, call: &mut Call, path: &Path) -> Stream<Line, ShelfError>;
    #[oneway]
    fn log_to(
        &mut self,
        #[fd] sink: OwnedFd,
        #[fd(regular, write)] others: Vec<File>,
        #[fd(pipe)] spare: Option<File>,
    );
    /// Puts a file back.
    #[serde(rename = "put_back", alias = "return", alias = "bring")]
    #[deprecated(since = "0.1.0", note = "leave it open")]
    fn give(&mut self, #[serde(rename = "id")] number: u8, names: &[String], of: &Line) -> bool;
    #[cfg(any())]
    fn never(&mut self) -> bool;
}

/// An open file.
#[derive(Debug, Message)]
struct Opened {
    /// In bytes.
    len: u64,
    #[fd(memfd(sealed), read)]
    file: OwnedFd,
    #[fd]
    log: Option<std::os::unix::net::UnixStream>,
}

#[derive(Debug, Message, serde::Serialize, serde::Deserialize)]
struct Line {
    text: String,
    number: Option<u64>,
}

#[derive(Debug, Message, thiserror::Error)]
#[allow(dead_code, reason = "some are only described")]
enum ShelfError {
    /// There is none.
    #[error("no file {path}")]
    NotFound { path: String },
    #[error("never")]
    #[serde(skip)]
    Never,
    #[error("not allowed")]
    Denied,
    #[error("it failed: {0}")]
    #[serde(rename = "Broken")]
    Failed(String),
}

/// Parses the document of a description, and checks that it is valid.
fn document(of: Description) -> Value {
    valid(&of.open_rpc())
}

/// Parses a document, validates it against the meta-schema and follows all its references.
fn valid(text: &str) -> Value {
    const DRAFT: &str = "http://json-schema.org/draft-07/schema#";
    let meta = include_str!("describe/open-rpc-1.3.2.json")
        .replace(
            "https://meta.json-schema.tools/#/definitions/JSONSchemaObject",
            DRAFT,
        )
        .replace("https://meta.json-schema.tools/", DRAFT)
        .replace("https://meta.json-schema.tools", DRAFT);
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let place = "https://meta.open-rpc.org/";
    let meta = serde_json::from_str(&meta).unwrap();
    compiler.add_resource(place, meta).unwrap();
    let meta = compiler.compile(place, &mut schemas).unwrap();
    let document: Value = serde_json::from_str(text).unwrap();
    if let Err(error) = schemas.validate(&document, meta) {
        panic!("{error:#}\n{document:#}");
    }
    refer(&document, &document);
    document
}

/// Follows each reference in a part of a document.
fn refer(part: &Value, whole: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(place)) = members.get("$ref") {
                let pointer = place.strip_prefix('#').unwrap();
                assert!(whole.pointer(pointer).is_some(), "{place}");
            }
            members.values().for_each(|value| refer(value, whole));
        }
        Value::Array(items) => items.iter().for_each(|item| refer(item, whole)),
        _ => {}
    }
}

/// Returns true if a value is valid against the schema of this name.
fn fits(document: &Value, name: &str, value: &Value) -> bool {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.set_default_draft(boon::Draft::V7);
    compiler
        .add_resource("document.json", document.clone())
        .unwrap();
    let place = format!("document.json#/components/schemas/{name}");
    let schema = compiler.compile(&place, &mut schemas).unwrap();
    schemas.validate(value, schema).is_ok()
}

/// Returns the description of a method.
fn method<'d>(document: &'d Value, name: &str) -> &'d Value {
    let mut methods = document["methods"].as_array().unwrap().iter();
    methods.find(|method| method["name"] == name).unwrap()
}

#[test]
fn a_service_description_has_its_methods_types_and_comments() {
    let document = document(<dyn Shelf as Describe>::DESCRIPTION);
    assert_eq!(document["openrpc"], "1.3.2");
    let version = env!("CARGO_PKG_VERSION");
    let info = json!({
        "title": "test.shelf", "version": version, "description": "Lends files.\n\nOne at a time."
    });
    assert_eq!(document["info"], info);
    let names = document["methods"].as_array().unwrap().iter();
    let names: Vec<_> = names
        .map(|method| method["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "test.shelf.open",
            "test.shelf.list",
            "test.shelf.follow",
            "test.shelf.log_to",
            "test.shelf.put_back"
        ]
    );
    let most = u64::MAX;
    assert_eq!(
        *method(&document, "test.shelf.open"),
        json!({
            "name": "test.shelf.open",
            "summary": "Opens a file. In whatever way it can be opened.",
            "description": "Opens a file.\nIn whatever way\nit can be opened.\n\nIt stays open.",
            "paramStructure": "by-name",
            "params": [
                {"name": "path", "required": true, "schema": {"type": "string"}},
                {"name": "flags", "required": false, "schema": {"anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": u32::MAX}, {"type": "null"}]}},
            ],
            "result": {"name": "result", "schema": {"$ref": "#/components/schemas/Opened"}},
            "errors": [
                {"code": 1, "message": "NotFound", "data": {"description": "There is none.",
                    "type": "object", "required": ["NotFound"], "properties": {"NotFound":
                        {"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}}}}},
                {"code": 3, "message": "Denied", "data": {"const": "Denied"}},
                {"code": 4, "message": "Broken", "data": {"type": "object", "required": ["Broken"],
                    "properties": {"Broken": {"type": "string"}}}},
            ],
        })
    );
    assert_eq!(
        *method(&document, "test.shelf.list"),
        json!({
            "name": "test.shelf.list", "summary": "Names all.", "paramStructure": "by-name",
            "params": [{"name": "least", "required": false,
                "schema": {"type": "integer", "minimum": 0, "maximum": most}}],
            "result": {"name": "result", "schema": {"type": "array", "items": {"type": "string"}}},
        })
    );
    assert_eq!(
        document["components"]["schemas"]["Opened"],
        json!({
            "description": "An open file.", "type": "object", "required": ["len", "file", "log"],
            "properties": {
                "len": {"description": "In bytes.", "type": "integer", "minimum": 0, "maximum": most},
                "file": {"type": "integer", "minimum": 0, "x-file-descriptor": true,
                    "x-kind": ["memfd(sealed)", "read"]},
                "log": {"anyOf": [{"type": "integer", "minimum": 0, "x-file-descriptor": true,
                    "description": "a connected unix stream socket"}, {"type": "null"}]},
            },
        })
    );
}

#[test]
fn a_stream_is_described_by_its_items_and_a_one_way_call_without_a_result() {
    let document = document(<dyn Shelf as Describe>::DESCRIPTION);
    let follow = method(&document, "test.shelf.follow");
    assert_eq!(follow["x-stream"], true);
    assert_eq!(follow["params"][0]["schema"], json!({"type": "string"}));
    let item = json!({"name": "item", "schema": {"$ref": "#/components/schemas/Line.written"}});
    assert_eq!(follow["result"], item);
    assert_eq!(follow["errors"][0]["message"], "NotFound");

    let fd = |what: Option<&str>| {
        let mut schema = json!({"type": "integer", "minimum": 0, "x-file-descriptor": true});
        if let Some(what) = what {
            schema["description"] = json!(what);
        }
        schema
    };
    let file = fd(Some("a file"));
    assert_eq!(
        *method(&document, "test.shelf.log_to"),
        json!({
            "name": "test.shelf.log_to", "paramStructure": "by-name", "x-oneway": true,
            "params": [
                {"name": "sink", "required": true, "schema": fd(None)},
                {"name": "others", "required": true, "schema": {"type": "array", "items": file,
                    "x-kind": ["regular", "write"]}},
                {"name": "spare", "required": false, "schema": {"anyOf": [file, {"type": "null"}],
                    "x-kind": ["pipe"]}},
            ],
        })
    );
}

#[test]
fn a_method_is_described_with_its_wire_name_and_aliases() {
    let document = document(<dyn Shelf as Describe>::DESCRIPTION);
    let give = method(&document, "test.shelf.put_back");
    assert_eq!(
        give["x-aliases"],
        json!(["test.shelf.return", "test.shelf.bring"])
    );
    assert_eq!(give["deprecated"], true);
    assert_eq!(give["x-deprecated"], "leave it open");
    let params = give["params"].as_array().unwrap();
    let names: Vec<_> = params.iter().map(|param| &param["name"]).collect();
    assert_eq!(names, ["id", "names", "of"]);
    assert_eq!(
        params[1]["schema"],
        json!({"type": "array", "items": {"type": "string"}})
    );
    assert_eq!(
        params[2]["schema"],
        json!({"$ref": "#/components/schemas/Line"})
    );
    // An `Option` is always written, and may be absent when read.
    let read = json!({"text": "a"});
    assert!(fits(&document, "Line", &read) && !fits(&document, "Line.written", &read));
    let written = json!({"text": "a", "number": null});
    assert!(fits(&document, "Line", &written) && fits(&document, "Line.written", &written));
}

/// Jobs, by an enum.
#[derive(Debug, Message)]
#[message(service = "test.jobs", reply = Tell, error = String)]
enum Ask {
    /// Starts one.
    RunNow {
        /// What to run.
        program: String,
        #[serde(default)]
        arguments: Vec<String>,
        #[fd]
        stdout: OwnedFd,
    },
    #[serde(rename = "stop")]
    End,
}

#[derive(Debug, Message)]
enum Tell {
    Started { job: u32 },
    Stopped,
}

#[test]
fn requests_of_an_enum_are_described_as_methods() {
    assert_eq!(Ask::DESCRIPTION.docs(), "Jobs, by an enum.");
    let document = document(Ask::DESCRIPTION);
    let run = method(&document, "test.jobs.run_now");
    assert_eq!(run["summary"], "Starts one.");
    let required: Vec<_> = run["params"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["required"])
        .collect();
    assert_eq!(required, [true, false, true]);
    assert_eq!(run["params"][0]["description"], "What to run.");
    assert_eq!(run["params"][2]["schema"]["x-file-descriptor"], true);
    assert_eq!(
        run["errors"],
        json!([{"code": 1, "message": "error", "data": {"type": "string"}}])
    );
    let stop = method(&document, "test.jobs.stop");
    assert_eq!(stop["params"], json!([]));
    assert!(fits(&document, "Tell", &json!("Stopped")));
    assert!(fits(&document, "Tell", &json!({"Started": {"job": 1}})));
    assert!(!fits(&document, "Tell", &json!({"Started": {"job": -1}})));
}

#[test]
fn the_document_can_be_compared_with_a_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("describe/shelf.json");
    let document = <dyn Shelf as Describe>::DESCRIPTION.open_rpc();
    // The version changes with each release.
    let document = document.replace(env!("CARGO_PKG_VERSION"), "0.0.0");
    if std::env::var_os("SNAPSHOT").is_some_and(|what| what == "overwrite") {
        std::fs::write(&path, &document).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(document, kept, "run it again with SNAPSHOT=overwrite");
}

#[test]
fn versions_of_services_and_of_methods_are_described() {
    #[jsoncomm::service(name = "test.clock", version = "1.2.0")]
    trait Clock {
        fn now(&mut self) -> u64;
        #[since = "1.1"]
        fn zone(&mut self) -> String;
    }

    let clock = <dyn Clock as Describe>::DESCRIPTION;
    assert_eq!(clock.service_version(), Some("1.2.0"));
    // That of the package is another one.
    assert_eq!(clock.version(), Some(env!("CARGO_PKG_VERSION")));
    let since: Vec<_> = clock
        .methods()
        .iter()
        .map(|method| method.since())
        .collect();
    assert_eq!(since, [None, Some("1.1")]);
    let document: Value = serde_json::from_str(&clock.open_rpc()).unwrap();
    let services = json!([{"name": "test.clock", "version": "1.2.0"}]);
    assert_eq!(document["info"]["x-services"], services);
    assert_eq!(document["methods"][0].get("x-since"), None);
    assert_eq!(document["methods"][1]["x-since"], "1.1");
    let document = jsoncomm::openrpc::Document::parse(&clock.open_rpc()).unwrap();
    assert_eq!(
        document.versions,
        [("test.clock".to_owned(), "1.2.0".to_owned())]
    );
    assert_eq!(document.methods[1].since.as_deref(), Some("1.1"));
    let shelf = <dyn Shelf as Describe>::DESCRIPTION;
    assert_eq!(shelf.service_version(), None);
    assert!(!shelf.open_rpc().contains("x-services"));
}
