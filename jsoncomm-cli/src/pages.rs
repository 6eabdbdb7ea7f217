//! `jsoncomm man` and `jsoncomm completions`: generated from the definition of the command line.

use std::io::Write;

use clap::CommandFactory;
use clap_mangen::Man as Page;

use crate::args::{Cli, Completions, Man};
use crate::problem::Problem;
use crate::{complete, output, standard};

/// Exit statuses and examples, appended to the generated page.
const END: &str = include_str!("end.roff");

pub(crate) fn completions(completions: Completions) -> Result<(), Problem> {
    standard::check_output()?;
    let (mut command, mut text) = (Cli::command(), Vec::new());
    clap_complete::generate(completions.shell, &mut command, "jsoncomm", &mut text);
    let text = String::from_utf8_lossy(&text);
    output::page(complete::with_names(completions.shell, &text).as_bytes())
}

pub(crate) fn man(man: Man) -> Result<(), Problem> {
    standard::check_output()?;
    let mut command = Cli::command();
    command.build();
    let command = match &man.command {
        None => &command,
        Some(name) => command.find_subcommand(name).ok_or_else(|| {
            let what = format!("{name}: no such command");
            Problem::Usage(what)
        })?,
    };
    let page = Page::new(command.clone());
    let mut text = Vec::new();
    // Writing to a `Vec` cannot fail.
    let _ = page.render(&mut text);
    if man.command.is_none() {
        let _ = text.write_all(END.as_bytes());
    }
    output::page(&text)
}
