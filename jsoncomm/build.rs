//! Tells which types of std the compiler has that are younger than the oldest one that compiles the library, and whether
//! this is the repository, which has helpers of tests that are not published.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(std_pipes, repository)");
    // `std::io::PipeReader` and `PipeWriter`.
    if minor().is_some_and(|minor| minor >= 87) {
        println!("cargo::rustc-cfg=std_pipes");
    }
    // The tests of the published package run without the watchdog, which is not published.
    if Path::new("../tests/watchdog/lib.rs").exists() {
        println!("cargo::rustc-cfg=repository");
    }
}

/// The 87 of `rustc 1.87.0 (...)`.
fn minor() -> Option<u32> {
    let output = Command::new(env::var_os("RUSTC")?)
        .arg("--version")
        .output();
    let version = String::from_utf8(output.ok()?.stdout).ok()?;
    version.split('.').nth(1)?.parse().ok()
}
