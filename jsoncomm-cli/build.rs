//! Tells whether this is the repository, which has the examples and helpers that the tests of the command need.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(repository)");
    if Path::new("../tests/watchdog/lib.rs").exists() {
        println!("cargo::rustc-cfg=repository");
    }
}
