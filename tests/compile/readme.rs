//! The README, followed literally, from a checkout without anything else.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[macro_use]
extern crate jsoncomm_watchdog;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use jsoncomm_compile_tests::share_build;

/// Returns the block of code in this language that follows a heading.
fn block<'t>(text: &'t str, heading: &str, language: &str) -> &'t str {
    let (_, after) = text.split_once(heading).unwrap();
    let (_, after) = after.split_once(&format!("```{language}\n")).unwrap();
    after.split_once("```").unwrap().0
}

#[test]
fn a_service_of_ones_own_takes_forty_lines_and_the_commands_that_are_printed() {
    jsoncomm_watchdog::allow(jsoncomm_watchdog::COMPILING);
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let heading = "## A service, a server, a client";
    let (commands, code) = (
        block(&readme, heading, "sh"),
        block(&readme, heading, "rust"),
    );
    assert!(code.lines().count() <= 40);

    let folder = tempfile::tempdir().unwrap();
    symlink(
        fs::canonicalize(&project).unwrap(),
        folder.path().join("jsoncomm"),
    )
    .unwrap();
    let program = folder.path().join("main.rs");
    fs::write(&program, code).unwrap();
    // The program is pasted between the last two commands, as the README says.
    let (before, run) = commands.trim_end().rsplit_once('\n').unwrap();
    let script = format!("{before}\ncp '{}' src/main.rs\n{run}\n", program.display());
    let mut shell = Command::new("timeout");
    share_build(&mut shell, "CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR"));
    let output = shell
        .args(["600", "sh", "-euxc", &script])
        .current_dir(folder.path())
        // All dependencies have been downloaded already.
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    assert!(!complaints.contains("warning"), "{complaints}");
    let manifest = fs::read_to_string(folder.path().join("files/Cargo.toml")).unwrap();
    let length = manifest.len();
    let expected = format!("{length} of {length} bytes, 1 opened, no not-there\n");
    assert_eq!(said, expected);
}
