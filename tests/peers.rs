//! Any language with a unix socket and a JSON parser is a peer: one in Python, written from the wire page
//! alone, calls our server and is called by our client, on both kinds of socket, bare and in the envelope.

mod calling_python;
mod desk;
mod python;
mod python_calling;

#[test]
fn jsoncomm_py_keeps_its_promises() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/test_jsoncomm.py");
    let mut python = std::process::Command::new("python3");
    let ended = python.args(["-B", "-W", "error", script]).output();
    let ended = ended.expect("these tests need `python3` (3.9 or newer) in PATH");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("Ran 74 tests"), "{said}");
}
