//! `#[sensitive]`: the value of such a field is never printed, neither by `Debug` nor in an error.

mod calls;
mod debug;
mod errors;

use std::fmt::{Debug, Display};

/// The sensitive values: a password, and a number.
const SECRETS: [&str; 2] = ["hunter2", "271828"];

/// Asserts that neither is in the `Debug` or `Display` text, and returns the latter.
fn silent(shown: &(impl Debug + Display)) -> String {
    let all = format!("{shown} {shown:?} {shown:#?}");
    for secret in SECRETS {
        assert!(!all.contains(secret), "{all}");
    }
    shown.to_string()
}
