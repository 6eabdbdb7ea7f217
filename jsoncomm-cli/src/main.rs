//! The command `jsoncomm`: services from the shell.
//!
//! Each command has a file of its own. What goes wrong anywhere is a [`Problem`](problem::Problem), which is reported
//! here and becomes the exit status.

mod address;
mod args;
mod bench;
mod call;
mod descriptor;
mod discover;
mod field;
mod json;
mod output;
mod pages;
mod peer;
mod places;
mod problem;
mod schema;
mod serve;
mod stopping;
mod stubs;
mod tap;
mod words;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Call(call) => call::run(call),
        Command::List(list) => discover::list(list),
        Command::Describe(describe) => discover::describe(describe),
        Command::Peer(peer) => peer::run(peer),
        Command::Serve(serve) => serve::run(serve),
        Command::Tap(tap) => tap::run(tap),
        Command::Bench(bench) => bench::run(bench),
        Command::Completions(completions) => pages::completions(completions),
        Command::Man(man) => pages::man(man),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => problem.report(),
    }
}
