//! The Python module finds services by the same rules.

use jsoncomm_tests::assert_python_tests_pass;

use super::*;

#[test]
fn jsoncomm_py_believes_the_same_entries_as_the_library() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/test_services.py");
    let mut command = jsoncomm_tests::python(script);
    assert_python_tests_pass(command.env("JSONCOMM_TESTS_FOLDER", place.at("")));
}
