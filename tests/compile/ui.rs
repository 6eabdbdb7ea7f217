//! What the macros refuse, and how they say it: one refusal per file, its wording beside it.
//!
//! The texts in `ui` are ours and the same with every compiler. Those in `ui/rustc` are partly rustc's and
//! tested with one version only. Those in `ui/rustc/std` quote the standard library where its source is installed, as it is
//! for rust-analyzer, and are tested where it is not. `ui/schema` and `ui/without_schema` need that feature, or its absence. After a change:
//! `TRYBUILD=overwrite cargo test --test ui`, and review the difference.

#[macro_use]
extern crate jsoncomm_watchdog;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use jsoncomm_compile_tests::share_build;

/// The compiler whose texts are in `ui/rustc`.
const PINNED: &str = "rustc 1.95.";

/// Set in the process that compiles the cases. trybuild has its own target folder. Cargo's build folder, which is
/// separate since Rust 1.91, can be that of the workspace.
const BUILD_FOLDER: &str = "CARGO_BUILD_BUILD_DIR";

#[test]
fn every_refusal_says_what_to_write() {
    jsoncomm_watchdog::allow(jsoncomm_watchdog::COMPILING);
    if std::env::var_os(BUILD_FOLDER).is_none() {
        let mut cases = Command::new(std::env::current_exe().unwrap());
        // `trybuild=NAME` selects cases.
        cases.args(std::env::args_os().skip(1));
        share_build(&mut cases, BUILD_FOLDER, env!("CARGO_TARGET_TMPDIR"));
        let ended = cases.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        let differences = String::from_utf8_lossy(&ended.stderr);
        let passed = ended.status.success() && said.contains(" 1 passed");
        assert!(passed, "{differences}{said}");
        return;
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(&rustc).arg("--version").output().unwrap();
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/*.rs");
    if cfg!(not(feature = "schema")) {
        cases.compile_fail("ui/without_schema/*.rs");
    }
    if version.stdout.starts_with(PINNED.as_bytes()) {
        cases.compile_fail("ui/rustc/*.rs");
        if !has_std_source(&rustc) {
            cases.compile_fail("ui/rustc/std/*.rs");
        }
        if cfg!(feature = "schema") {
            cases.compile_fail("ui/schema/*.rs");
        }
    }
}

/// Returns true if the compiler finds the source of the standard library, which rustup has as the component rust-src.
fn has_std_source(rustc: &OsStr) -> bool {
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output();
    sysroot.is_ok_and(|said| {
        Path::new(String::from_utf8_lossy(&said.stdout).trim_end())
            .join("lib/rustlib/src/rust/library")
            .exists()
    })
}
