//! In every program of tests, a test that hangs fails with its name.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::time::Duration;

use jsoncomm_tests::{alone, programs_of, this_program};

/// Set in a process in which a test hangs on purpose.
const HANGS: &str = "JSONCOMM_TESTS_HANGS";

fn hangs_here() -> bool {
    std::env::var_os(HANGS).is_some()
}

/// Starts a process that does not end, and waits for a message that never comes.
fn hang() {
    jsoncomm_watchdog::allow(Duration::from_millis(200));
    let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
    let (_sender, never) = channel::<()>();
    never.recv().unwrap();
    child.wait().unwrap();
}

/// Runs the test of this thread in another process, in which it hangs. Returns when that process and its children,
/// which share its output, have ended.
fn hung() -> (String, Output) {
    let test = std::thread::current().name().unwrap().to_owned();
    let mut program = Command::new(jsoncomm_tests::this_program());
    program.args(["--exact", &test]).env(HANGS, "");
    let output = program.output().unwrap();
    (test, output)
}

#[test]
fn a_test_that_hangs_ends_its_program_and_is_named() {
    jsoncomm_tests::needs_proc!();
    if hangs_here() {
        hang();
    }
    let (test, output) = hung();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("test {test} hangs")), "{said}");
    let thread: String = test.chars().take(15).collect();
    assert!(said.contains(&format!("({thread}) waits in")), "{said}");
}

#[test]
fn a_test_that_is_skipped_is_in_a_file_with_its_reason() {
    if hangs_here() {
        return jsoncomm_tests::skip("as an example");
    }
    let test = std::thread::current().name().unwrap().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let skipped = directory.path().join("skipped");
    for _ in 0..2 {
        let mut program = Command::new(this_program());
        program.args(["--exact", &test]).env(HANGS, "");
        let output = program.env(jsoncomm_watchdog::SKIPPED, &skipped).output();
        assert!(output.unwrap().status.success());
    }
    let said = fs::read_to_string(skipped).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    for line in lines {
        assert!(
            line.ends_with(&format!("\t{test}\tas an example")),
            "{line}"
        );
    }
}

#[test]
fn a_test_that_hangs_in_its_own_process_fails() {
    jsoncomm_tests::needs_proc!();
    if hangs_here() {
        alone!();
        hang();
    }
    let (test, output) = hung();
    assert_eq!(output.status.code(), Some(101), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("test {test} ... FAILED")), "{said}");
    assert!(said.contains(&format!("test {test} hangs")), "{said}");
}

/// Returns the files in a folder.
fn files_in(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
}

#[test]
fn every_test_program_has_a_watchdog() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let packages = ["tests", "tests/compile"].map(|package| root.join(package));
    let programs = packages.iter().flat_map(|package| programs_of(package));
    // The tests inside jsoncomm-derive and jsoncomm-cli are published, and wait for nothing.
    let crates = ["jsoncomm/src/lib.rs", "jsoncomm-cli/tests/commands/main.rs"];
    for path in programs.chain(crates.map(|path| root.join(path))) {
        let text = fs::read_to_string(&path).unwrap();
        let watched = "#[macro_use]\nextern crate jsoncomm_watchdog;\n";
        assert!(text.contains(watched), "{}", path.display());
    }
    // These have no test programs.
    for folder in ["examples", "benches", "fuzz"] {
        for path in files_in(root.join(folder)) {
            let text = fs::read(&path).unwrap();
            let has_test = text.windows(7).any(|word| word == b"#[test]");
            assert!(!has_test, "{}", path.display());
        }
    }
}
