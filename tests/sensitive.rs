//! `#[sensitive]`: what comes or goes in such a field is never printed.

#![allow(clippy::unwrap_used, reason = "a test says by failing what went wrong")]

#[path = "sensitive/debug.rs"]
mod debug;
