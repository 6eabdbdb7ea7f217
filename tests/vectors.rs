//! The wire as test vectors, for peers in any language: what is in `vectors/*.json` is held against our server and
//! our client, and against those in Python. `vectors/README.md` says how they are to be read.

mod answers;
mod file;
mod meeting;
mod messages;
mod service;

use std::path::{Path, PathBuf};

use jsoncomm_tests::{alone, assert_python_tests_pass, python};

use answers::Client;
use file::load;
use messages::Message;

/// Where the vectors are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn serve(group: &str) {
    load::<Message>(&folder().join(group)).check_all();
}

#[test]
fn calls_are_carried_out_or_left_alone() {
    alone!();
    serve("calls.json");
}

#[test]
fn faults_are_told_with_code_and_field() {
    alone!();
    serve("faults.json");
}

#[test]
fn descriptors_are_each_named_once() {
    alone!();
    serve("descriptors.json");
}

#[test]
fn payloads_travel_in_a_memfd_and_nothing_else() {
    alone!();
    serve("payloads.json");
}

#[test]
fn streams_have_items_and_an_end() {
    alone!();
    serve("streams.json");
}

#[test]
fn bare_messages_are_answered_or_dropped() {
    alone!();
    serve("bare.json");
}

#[test]
fn answers_are_read_by_a_client() {
    alone!();
    load::<Client>(&folder().join("answers.json")).check_all();
}

#[test]
fn python_keeps_to_the_vectors_at_both_ends() {
    let script = folder().join("test_vectors.py");
    assert_python_tests_pass(&mut python(script));
}
