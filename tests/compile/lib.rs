//! Tests that run the compiler: what the macros refuse, and the commands of the README.
//!
//! They have their own package because trybuild compiles all dependencies of the package that it tests.

use std::path::Path;
use std::process::Command;

/// Makes the cargo that a command runs use what `cargo test` has compiled: its folder, and its profile for
/// dependencies.
///
/// `variable` names the folder for cargo. `tmp` is `env!("CARGO_TARGET_TMPDIR")`, which only test programs have.
pub fn share_build<'c>(command: &'c mut Command, variable: &str, tmp: &str) -> &'c mut Command {
    let folder = Path::new(tmp).parent().unwrap_or(Path::new(tmp));
    command
        .env(variable, folder)
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_INCREMENTAL", "0")
}
