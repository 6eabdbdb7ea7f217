//! `jsoncomm compat`.

use std::path::Path;
use std::process::Stdio;

use jsoncomm::Kind;

use crate::common::{Ended, Example, good, jsoncomm, run, said};

/// Writes a document with these methods, and returns its path.
fn document(folder: &Path, name: &str, methods: &[&str]) -> String {
    let methods: Vec<_> = methods
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","params":[],"result":{{"schema":{{}}}}}}"#))
        .collect();
    let path = folder.join(name);
    let text = format!(r#"{{"openrpc":"1.3.2","methods":[{}]}}"#, methods.join(","));
    std::fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn the_exit_status_tells_which_side_a_change_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let one = document(folder.path(), "one", &["a.b"]);
    let two = document(folder.path(), "two", &["a.b", "a.c"]);
    let code = |old: &str, new: &str, more: &[&str]| {
        let ended = said(&[&["compat"], more, &[old, new]].concat());
        ended.code.unwrap()
    };
    assert_eq!(good(said(&["compat", &one, &one])), "no changes\n");
    // What is new is not there for old servers, which nobody calls it at.
    assert_eq!(code(&one, &two, &[]), 0);
    assert_eq!(code(&two, &one, &[]), 1);
    assert_eq!(code(&two, &one, &["--for", "clients"]), 1);
    assert_eq!(code(&two, &one, &["--for", "servers"]), 0);
}

#[test]
fn changes_are_printed_for_people_and_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let one = document(folder.path(), "one", &["a.b"]);
    let two = document(folder.path(), "two", &["a.c"]);
    let Ended { stdout, stderr, .. } = said(&["compat", &one, &two]);
    assert_eq!(
        stdout,
        "old clients    old servers    change\n\
         breaks         works          a.b: the method is gone\n\
         works          fails if used  a.c: a new method\n"
    );
    let complaint = "1 of 2 changes break programs that were built with the old version";
    assert!(stderr.contains(complaint), "{stderr}");
    let Ended { stdout, .. } = said(&["compat", "--json", &one, &two]);
    assert_eq!(
        stdout,
        concat!(
            r#"{"place":"a.b","change":"the method is gone","clients":"breaks","servers":"works"}"#,
            "\n",
            r#"{"place":"a.c","change":"a new method","clients":"works","servers":"fails if used"}"#,
            "\n"
        )
    );
}

#[test]
fn servers_are_asked_and_standard_input_is_read() {
    let example = Example::start(Kind::Seqpacket);
    let same = ["compat", example.address(), example.address()];
    assert_eq!(good(said(&same)), "no changes\n");
    let folder = tempfile::tempdir().unwrap();
    let document = document(folder.path(), "one", &["a.b"]);
    let file = std::fs::File::open(&document).unwrap();
    let from = ["compat", "-", &document];
    let ended = run(jsoncomm(&from).stdin(Stdio::from(file)));
    assert_eq!(good(ended), "no changes\n");
}

#[test]
fn what_is_no_document_is_an_error_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = document(folder.path(), "one", &["a.b"]);
    let text = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    for (bad, complaint) in [
        (text("a", "{"), "the document is not JSON"),
        (text("b", "{}"), "no list of methods"),
        (format!("{good}.not"), "cannot connect"),
        ("not-there".to_owned(), "No such file"),
        (folder.path().to_str().unwrap().to_owned(), "directory"),
    ] {
        let Ended { code, stderr, .. } = said(&["compat", &bad, &good]);
        assert!(matches!(code, Some(2 | 4)), "{bad}: {code:?} {stderr}");
        assert!(stderr.contains(complaint), "{bad}: {stderr}");
    }
}
