//! The service of the vectors, each method called from one language to the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use jsoncomm::{CallError, Connection, Fault, Kind};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, python};
use serde_json::json;

use crate::vectors::file::{content, sheet};
use crate::vectors::folder;
use crate::vectors::service::{Scribe, Trouble, Vectors, VectorsClient};

/// A running `peer.py`.
struct Python {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    fn start(command: &str, kind: Kind, path: &Path) -> Self {
        let kind = match kind {
            Kind::Datagram => "dgram",
            Kind::Seqpacket => "seqpacket",
        };
        let mut child = python(folder().join("peer.py"))
            .args([command, kind])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Ends it, and returns its error output.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut cries = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut cries).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {cries}");
        cries
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn python_calls_every_method_of_our_server() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, Scribe::default(), |endpoint| {
            endpoint.serve::<dyn Vectors>()
        });
        let said = Python::start("call", kind, &server.path).end();
        assert_eq!(said, "");
        let ran = server.stop().0.ran;
        for text in ["noted", "in a batch"] {
            let noted = json!({"method": "note", "arguments": {"text": text}});
            assert!(ran.contains(&noted), "{text}");
        }
    }
}

#[test]
fn our_client_calls_every_method_of_a_server_in_python() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("python.sock");
        let mut python = Python::start("serve", kind, &path);
        let mut ready = String::new();
        python.stdout.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
        call_all(&VectorsClient::new(connection.clone()));
        drop(connection);
        let said = python.end();
        assert!(said.contains("RuntimeError: on purpose"), "{said}");
        assert!(!path.exists(), "it is removed");
    }
}

fn call_all(client: &VectorsClient) {
    client.nothing().unwrap();
    assert_eq!(client.echo("größe").unwrap().text, "größe");
    assert_eq!(client.maybe(None).unwrap().text, None);
    assert_eq!(client.add(-1, 3).unwrap(), 2);
    assert_eq!(client.half(3.0).unwrap(), 1.5);
    let value = json!([1, null, {"a": "b"}]);
    assert_eq!(client.any(&value).unwrap().0, value);
    client.note("noted").unwrap();
    let large = "x".repeat(900_000);
    assert_eq!(client.large(900_000).unwrap(), large);
    assert_eq!(client.echo(&large).unwrap().text, large);

    let (left, right) = (sheet("l"), sheet("r"));
    assert_eq!(client.read(&left).unwrap().text, "l");
    let null = File::open("/dev/null").unwrap();
    assert_eq!(client.kind(null).unwrap().text, "null");
    let swapped = client.swap(&left, &right).unwrap();
    let both = (content(swapped.left), content(swapped.right));
    assert_eq!(both, ("r".into(), "l".into()));
    assert_eq!(client.some(Some(left.as_fd())).unwrap().text.unwrap(), "l");
    let files = [left.as_fd(), right.as_fd(), left.as_fd()];
    assert_eq!(client.list(&files).unwrap(), ["l", "r", "l"]);
    let files = [right.as_fd(), left.as_fd()];
    assert_eq!(client.sheets(&files).unwrap(), ["r", "l"]);
    let opened = client.open("abc").unwrap();
    assert_eq!((opened.len, content(opened.file)), (3, "abc".into()));

    match client.fail("p") {
        Err(CallError::Service(Trouble::NotFound { path })) => assert_eq!(path, "p"),
        other => panic!("{other:?}"),
    }
    match client.keep(&right) {
        Err(CallError::Service(Trouble::Kept { file })) => assert_eq!(content(file), "r"),
        other => panic!("{other:?}"),
    }
    match client.crash() {
        Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::INTERNAL_ERROR),
        other => panic!("{other:?}"),
    }

    let counted: Result<Vec<u64>, _> = client.count(1000).unwrap().collect();
    assert_eq!(counted.unwrap(), (0..1000).collect::<Vec<_>>());
    let pages = client.pages(["a".to_owned(), "b".to_owned()]).unwrap();
    let pages: Vec<_> = pages.map(|page| content(page.unwrap().file)).collect();
    assert_eq!(pages, ["a", "b"]);
    let mut items = client.count(1 << 40).unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 0);
    drop(items); // cancelled early
    assert_eq!(client.add(1, 1).unwrap(), 2);
    let mut items = client.break_off(1).unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 0);
    match items.next() {
        Some(Err(CallError::Service(Trouble::NotFound { path }))) => assert_eq!(path, "1"),
        other => panic!("{other:?}"),
    }
}
