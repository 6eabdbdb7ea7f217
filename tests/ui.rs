//! What the macros refuse, and how they say it: one refusal per file, its wording beside it.
//!
//! The wording of rustc's own part belongs to the pinned stable compiler. After a change of ours:
//! `TRYBUILD=overwrite cargo test --test ui`, and read the difference.

#[test]
fn every_refusal_says_what_to_write() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
