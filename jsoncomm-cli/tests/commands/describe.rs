//! `jsoncomm list` and `jsoncomm describe`, on the document of `shelf.json`, which is one of the library's.

use std::path::Path;
use std::process::Command;

use jsoncomm::Kind;
use jsoncomm_tests::KINDS;

use crate::common::{Desk, Double, Example, good, jsoncomm, run, said, text};

/// The stub compiles, and has the expected methods.
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "it is written for a package of its own"
)]
#[path = "shelf_stub.rs"]
#[rustfmt::skip]
mod shelf_stub;

/// A server that describes itself to one client.
fn shelf() -> Double {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands");
    Double::result(&text(folder.join("shelf.json")), Vec::new())
}

/// Compares with a file beside this one. `SNAPSHOT=overwrite` writes it instead.
#[track_caller]
fn is_as(said: &str, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands");
    let path = folder.join(name);
    if std::env::var_os("SNAPSHOT").is_some_and(|value| value == "overwrite") {
        std::fs::write(path, said).unwrap();
        return;
    }
    assert_eq!(said, text(path), "{name}");
}

#[test]
fn methods_are_listed_with_their_purpose() {
    let double = shelf();
    let listed = good(said(&["list", double.address()]));
    assert_eq!(
        listed,
        "test.shelf.open      Opens a file. In whatever way it can be opened.
test.shelf.list      Names all.
test.shelf.follow    Each line.
test.shelf.log_to
test.shelf.put_back  Puts a file back.
"
    );
    let heard = double.heard().remove(0);
    assert!(
        heard.contains(r#""method":"rpc.discover","params":{}"#),
        "{heard}"
    );
}

#[test]
fn methods_and_types_are_described_readably() {
    let described = good(said(&["describe", shelf().address()]));
    is_as(&described, "shelf.txt");
    let list = good(said(&["describe", shelf().address(), "test.shelf.list"]));
    assert_eq!(
        list,
        "test.shelf.list(least?: integer) -> [string, ...]\n    Names all.\n\n"
    );
}

#[test]
fn a_method_that_has_a_rule_is_described_as_such() {
    let document = r#"{"openrpc":"1.3.2","methods":[
        {"name":"a.b","params":[],"x-restricted":true},{"name":"a.c","params":[]}]}"#;
    let described = good(said(&[
        "describe",
        Double::result(document, Vec::new()).address(),
    ]));
    let note = "    Not for everybody: the server has a rule for it.";
    assert!(
        described.contains(&format!("a.b(), no reply\n{note}\n\n")),
        "{described}"
    );
    assert_eq!(described.matches(note).count(), 1);
}

#[test]
fn the_document_is_printed_unchanged() {
    let double = Double::result(
        r#"{"methods": [{"x":1e2,"name":"a.b"}], "z": 1.0}"#,
        Vec::new(),
    );
    let printed = good(said(&["describe", "--json", double.address()]));
    assert_eq!(
        printed,
        "{\"methods\":[{\"x\":1e2,\"name\":\"a.b\"}],\"z\":1.0}\n"
    );
    let double = Double::result(
        r#"{"methods": [{"x":1e2,"name":"a.b"}], "z": 1.0}"#,
        Vec::new(),
    );
    let printed = good(said(&["describe", "--json", double.address(), "a.b"]));
    assert_eq!(printed, "{\"x\":1e2,\"name\":\"a.b\"}\n");
}

#[test]
fn a_server_of_the_library_describes_itself() {
    for kind in KINDS {
        let example = Example::start(kind);
        let listed = good(said(&["list", example.address()]));
        let names: Vec<_> = listed
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let files = ["open", "list", "put"].map(|name| format!("example.files.{name}"));
        assert_eq!(names, files);
        let put = good(said(&["describe", example.address(), "example.files.put"]));
        let signature = "example.files.put(path: string, content: descriptor) -> Put\n";
        assert!(put.starts_with(signature), "{put}");
        assert!(
            put.contains("Fails with NotFound (1), Denied (2), "),
            "{put}"
        );
        for (form, piece) in [
            (
                "--rust",
                "fn put(&mut self, path: String, #[fd] content: std::os::fd::OwnedFd) -> Result<Put, FilesError>;",
            ),
            (
                "--python",
                "def put(self, path: str, content: HasFileno, timeout",
            ),
            ("--json", "{\"openrpc\":\"1.3.2\","),
        ] {
            let stub = good(said(&["describe", form, example.address()]));
            assert!(stub.contains(piece), "{stub}");
        }
    }
}

#[test]
fn a_generated_rust_stub_compiles() {
    let stub = good(said(&["describe", "--rust", shelf().address()]));
    is_as(&stub, "shelf_stub.rs");
}

#[test]
fn a_connection_is_described_with_its_service_in_each_form() {
    let desk = Desk::start();
    for (form, piece) in [
        (
            "",
            "test.desk.greet(caller: connection to test.caller, other?: connection | null) -> string",
        ),
        (
            "--rust",
            "fn greet(&mut self, #[fd] caller: CallerClient, #[fd] other: Option<jsoncomm::Connection>)",
        ),
        (
            "--rust",
            "fn session(&mut self) -> Result<CallerClient, std::convert::Infallible>;",
        ),
        (
            "--python",
            "def greet(self, caller: jsoncomm.Connection, other: Optional[jsoncomm.Connection] = None",
        ),
        (
            "--json",
            r#""x-file-descriptor":true,"x-service":"test.caller""#,
        ),
    ] {
        let forms: Vec<_> = Some(form)
            .filter(|form| !form.is_empty())
            .into_iter()
            .collect();
        let described = good(run(jsoncomm(&["describe", desk.address()]).args(&forms)));
        assert!(described.contains(piece), "{form}: {described}");
    }
    // Without that service in the document, its stub is not known.
    let one = ["describe", "--rust", desk.address(), "test.desk.session"];
    assert!(good(said(&one)).contains("-> Result<jsoncomm::Connection, "));
}

#[test]
fn a_generated_python_stub_makes_calls() {
    let stub = good(said(&["describe", "--python", shelf().address()]));
    is_as(&stub, "shelf_stub.py");
    let script = r#"
import sys, types
jsoncomm = types.ModuleType("jsoncomm")
sys.modules["jsoncomm"] = jsoncomm
class Connection:
    def call(self, method, params, timeout): return ("call", method, params, timeout)
    def stream(self, method, params, timeout): return ("stream", method, params, timeout)
    def notify(self, method, params): print("notify", method, params)
import shelf_stub
shelf = shelf_stub.TestShelf(Connection())
print(*shelf.open("a", flags=7))
print(*shelf.list())
print(*shelf.follow("a", timeout=1.5))
shelf.log_to(sink=0, others=[])
"#;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands");
    let ended = run(Command::new("python3")
        .args(["-B", "-c", script])
        .current_dir(folder));
    let expected = "call test.shelf.open {'path': 'a', 'flags': 7} None
call test.shelf.list {} None
stream test.shelf.follow {'path': 'a'} 1.5
notify test.shelf.log_to {'sink': 0, 'others': []}
";
    assert_eq!((&*ended.stdout, &*ended.stderr), (expected, ""));
}

#[test]
fn a_python_stub_works_with_the_module_in_the_examples() {
    let script = r#"
import sys
import jsoncomm, stub
with jsoncomm.connect(sys.argv[1]) as connection:
    files = stub.ExampleFiles(connection)
    with files.open("a.txt") as reply, reply.fd("file").open() as file:
        print(reply.value["len"], file.read())
    with open(sys.argv[2]) as content:
        print(files.put("b.txt", content).value)
    print(files.list().value)
    try:
        files.open("nowhere")
    except jsoncomm.ServiceError as error:
        print(error.code, error)
"#;
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
    for kind in KINDS {
        let example = Example::start(kind);
        let path = example.write("a.txt", "hello");
        let folder = tempfile::tempdir().unwrap();
        let stub = good(said(&["describe", "--python", example.address()]));
        std::fs::write(folder.path().join("stub.py"), stub).unwrap();
        let ended = run(Command::new("python3")
            .args(["-B", "-W", "error", "-c", script, example.address()])
            .arg(path)
            .env("PYTHONPATH", &modules)
            .current_dir(&folder));
        let expected = "5 b'hello'\n{'len': 5}\n['a.txt', 'b.txt']\n1 no file nowhere\n";
        assert_eq!((&*ended.stdout, &*ended.stderr), (expected, ""));
    }
}

#[test]
fn a_hostile_document_cannot_inject_text_into_stubs_or_a_terminal() {
    let evil = r#"x\"); import os #\n\u001b[2J\u202e */ } fn main() { panic!() }"#;
    let document = format!(
        r#"{{"info":{{"title":"{evil}"}},"methods":[{{"name":"{evil}.{evil}","summary":"{evil}","params":[
        {{"name":"{evil}","required":true,"schema":{{"$ref":"\u0023/components/schemas/{evil}"}}}},{{"name":"import","schema":{{"const":"{evil}"}}}}],
        "result":{{"schema":{{"type":"object","properties":{{"{evil}":{{"type":"{evil}"}}}}}}}},"errors":[{{"code":"{evil}","message":"{evil}"}}]}}],
        "components":{{"schemas":{{"{evil}":{{"description":"{evil}","type":"object","properties":{{"{evil}":{{"enum":["{evil}"]}}}}}}}}}}}}"#
    );
    for form in [&[][..], &["--python"], &["--rust"]] {
        let double = Double::result(&document, Vec::new());
        let ended = run(jsoncomm(&["describe", double.address()]).args(form));
        let said = good(ended);
        let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!said.contains(acts), "{said:?}");
        for line in said.lines() {
            let line = line.trim_start();
            assert!(
                !line.starts_with("import os") && !line.starts_with("fn main"),
                "{said}"
            );
        }
        if form == ["--python"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("stub.py");
            std::fs::write(&path, &said).unwrap();
            let names = "import ast, sys; tree = ast.parse(open(sys.argv[1]).read()); print(sum(isinstance(node, ast.Import) for node in ast.walk(tree)))";
            let ended = run(Command::new("python3").args(["-c", names]).arg(&path));
            assert_eq!((&*ended.stdout, &*ended.stderr), ("1\n", ""), "{said}");
        }
        if form == ["--rust"] {
            // All text is within a comment or a string.
            let code = said
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let code: String = code.map(|line| line.replace("\\\"", "")).collect();
            let outside: String = code.split('"').step_by(2).collect();
            assert!(!outside.contains("panic!"), "{said}");
        }
    }
}

#[test]
fn a_missing_description_is_reported() {
    let ended = said(&["describe", shelf().address(), "test.shelf.close"]);
    assert_eq!(ended.code, Some(3));
    assert_eq!(
        ended.stderr,
        "jsoncomm: no method test.shelf.close is described\n"
    );
    for command in ["list", "describe"] {
        let ended = said(&[command, Double::result("[1]", Vec::new()).address()]);
        assert_eq!((ended.code, &*ended.stdout), (Some(3), ""), "{ended:?}");
        assert!(
            ended.stderr.contains("not an OpenRPC document"),
            "{ended:?}"
        );
        // Servers of this library without a description reply that the method is unknown.
        let silent = Double::text(
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"unknown method rpc.discover"}}"#,
        );
        let ended = said(&[command, silent.address()]);
        assert_eq!(ended.code, Some(3), "{ended:?}");
    }
    let example = Example::start(Kind::Seqpacket);
    let both = said(&["describe", "--json", "--rust", example.address()]);
    assert_eq!(both.code, Some(2), "{both:?}");
}
