//! The wire as test vectors, for peers in any language. Our server and client are tested with `vectors/*.json`, and so
//! are those in Python. `vectors/README.md` explains the format.

mod file;
mod meeting;
mod messages;
mod replies;
mod service;

use std::path::{Path, PathBuf};

use jsoncomm_tests::{alone, assert_python_tests_pass, python};

use file::load;
use messages::Message;
use replies::Client;

/// Returns the folder of the vectors.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn serve(group: &str) {
    load::<Message>(&folder().join(group)).check_all();
}

#[test]
fn calls_run_or_are_refused() {
    alone!();
    serve("calls.json");
}

#[test]
fn faults_have_code_and_field() {
    alone!();
    serve("faults.json");
}

#[test]
fn each_descriptor_is_referenced_exactly_once() {
    alone!();
    serve("descriptors.json");
}

#[test]
fn payloads_are_accepted_in_a_memfd_only() {
    alone!();
    serve("payloads.json");
}

#[test]
fn streams_have_items_and_one_end() {
    alone!();
    serve("streams.json");
}

#[test]
fn batches_get_their_replies_in_arrays_or_alone() {
    alone!();
    serve("batches.json");
}

#[test]
fn bare_messages_get_a_reply_or_are_dropped() {
    alone!();
    serve("bare.json");
}

#[test]
fn replies_are_read_by_a_client() {
    alone!();
    load::<Client>(&folder().join("replies.json")).check_all();
}

#[test]
fn python_passes_the_vectors_as_client_and_server() {
    jsoncomm_tests::needs_proc!();
    let script = folder().join("test_vectors.py");
    assert_python_tests_pass(&mut python(script));
}
