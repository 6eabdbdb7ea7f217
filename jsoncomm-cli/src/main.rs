//! The command `jsoncomm`: services from the shell.
//!
//! Each command has its own file. Every error is a [`Problem`], which is printed here and determines the exit status.

mod address;
mod args;
mod bench;
mod call;
mod compat;
mod complete;
mod deadline;
mod descriptor;
mod diag;
mod discover;
mod field;
mod files;
mod json;
mod kinds;
mod output;
mod pages;
mod peer;
mod places;
mod problem;
mod serve;
mod services;
mod standard;
mod stopping;
mod stubs;
mod tap;
mod words;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use jsoncomm::message::{RawError, RawMessage};

use args::{Cli, Command};
use json::Json;
use problem::Problem;

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        // Help and version are no errors.
        Err(error) if !error.use_stderr() => output::help(&error),
        Err(error) => error.exit(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => report(&problem),
    }
}

fn run(command: Command) -> Result<(), Problem> {
    match command {
        Command::Call(call) => call::run(call),
        Command::Services(services) => services::run(services),
        Command::List(list) => discover::list(list),
        Command::Describe(describe) => discover::describe(describe),
        Command::Compat(compat) => compat::run(compat),
        Command::Peer(peer) => peer::run(peer),
        Command::Serve(serve) => serve::run(serve),
        Command::Tap(tap) => tap::run(tap),
        Command::Bench(bench) => bench::run(bench),
        Command::Completions(completions) => pages::completions(completions),
        Command::Complete(complete) => complete::run(&complete),
        Command::Man(man) => pages::man(man),
    }
}

/// Prints the error to standard error and returns the exit status.
fn report(problem: &Problem) -> ExitCode {
    match problem {
        // EPIPE: the reader has closed its end, which is no failure.
        Problem::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Problem::Service(failure) => {
            // Best effort: if it cannot be printed, the exit status still tells.
            let _ = output::result_to_stderr(&error_object(failure));
        }
        other => output::tell(&output::chain(other)),
    }
    ExitCode::from(problem.status())
}

/// Formats a service error as its error object on the wire.
fn error_object(failure: &RawError) -> String {
    let mut members = vec![
        ("code", Json::number(failure.code)),
        ("message", Json::string(&failure.message)),
    ];
    let data = failure.data.as_ref().map(|RawMessage { json, .. }| json);
    if let Some(data) = data.and_then(|json| Json::parse(json).ok()) {
        members.push(("data", data));
    }
    Json::object(members).to_string()
}
