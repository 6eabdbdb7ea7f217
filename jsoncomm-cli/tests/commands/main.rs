//! The command as a shell has it: real processes, their output and exit status.

#![cfg(repository)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[macro_use]
extern crate jsoncomm_watchdog;

mod call;
mod common;
mod compat;
mod describe;
mod failures;
mod files;
mod looking;
mod pages;
mod serve;
mod services;
mod tap;
mod terminal;
