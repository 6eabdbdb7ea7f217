//! Any language with a unix socket and a JSON parser is a peer: one in Python, written from the wire page
//! alone, calls our server and is called by our client, on both kinds of socket, bare and in the envelope.

mod calling_python;
mod python;
mod python_calling;
mod service;

use jsoncomm_tests::assert_python_tests_pass;

#[test]
fn jsoncomm_py_keeps_its_promises() {
    jsoncomm_tests::needs_proc!();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/test_jsoncomm.py");
    assert_python_tests_pass(&mut jsoncomm_tests::python(script));
}
