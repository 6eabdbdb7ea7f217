//! What the macros refuse, and how they say it: one refusal per file, its wording beside it.
//!
//! In `ui` the wording is ours alone and holds for every compiler; in `ui/rustc` it is partly rustc's, so those
//! run only with the one that wrote them; `ui/schema` and `ui/without_schema` need that feature, or its absence. After a change of ours:
//! `TRYBUILD=overwrite cargo test --test ui`, and read the difference.

#[macro_use]
extern crate jsoncomm_watchdog;

use std::process::Command;

/// The compiler whose wording is in `ui/rustc`.
const PINNED: &str = "rustc 1.95.";

#[test]
fn every_refusal_says_what_to_write() {
    jsoncomm_watchdog::allow(jsoncomm_watchdog::COMPILING);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap();
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/*.rs");
    if cfg!(not(feature = "schema")) {
        cases.compile_fail("ui/without_schema/*.rs");
    }
    if version.stdout.starts_with(PINNED.as_bytes()) {
        cases.compile_fail("ui/rustc/*.rs");
        if cfg!(feature = "schema") {
            cases.compile_fail("ui/schema/*.rs");
        }
    }
}
