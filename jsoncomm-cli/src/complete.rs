//! Completion: the names of services and methods, which the shells' completions ask for.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use clap::Args;
use clap_complete::Shell;
use jsoncomm::address::Registry;

use crate::address::Place;
use crate::problem::Problem;
use crate::services::methods_of;
use crate::{output, standard};

/// Prints the words that can be written next, for a shell.
#[derive(Debug, Args)]
pub(crate) struct Complete {
    /// The words after the command's name, the last of which is being written
    #[arg(last = true)]
    pub(crate) words: Vec<OsString>,
}

/// The time that a person waits for a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// The commands that take a method.
const CALLING: [&str; 3] = ["call", "bench", "describe"];
/// The commands that take the address of a service.
const REACHING: [&str; 5] = ["call", "bench", "describe", "list", "peer"];

/// Prints the words that can stand where the last one is being written, each on a line. Errors print nothing.
pub(crate) fn run(complete: &Complete) -> Result<(), Problem> {
    standard::check_output()?;
    for word in words(&complete.words) {
        output::line(&word)?;
    }
    Ok(())
}

fn words(written: &[OsString]) -> Vec<String> {
    let Some((begun, [command, before @ ..])) = written.split_last() else {
        return Vec::new();
    };
    let Some(begun) = begun.to_str() else {
        return Vec::new();
    };
    let is_one_of = |commands: &[&str]| commands.iter().any(|name| command == name);
    let address = before.iter().find(|word| Place::read(word).is_some());
    let service = address.and_then(|word| word.to_str()?.strip_prefix("service:"));
    let registry = Registry::from_env();
    let mut words = Vec::new();
    if address.is_none() && is_one_of(&REACHING) {
        let names = registry.names().unwrap_or_default();
        words.extend(names.into_iter().map(|name| format!("service:{name}")));
    }
    let has_method = before.iter().any(|word| is_method(word));
    let is_known = service.is_some() || address.is_none();
    if is_one_of(&CALLING) && is_known && !has_method && !begun.contains(':') {
        words.extend(methods(&registry, service, begun));
    }
    words.retain(|word| word.starts_with(begun));
    words
}

/// Returns the methods of a service, or of all whose names fit what was begun. Only those that run are asked.
fn methods(registry: &Registry, service: Option<&str>, begun: &str) -> Vec<String> {
    let names = match service {
        Some(name) => vec![name.to_owned()],
        None => registry.names().unwrap_or_default(),
    };
    let fits = |name: &String| name.starts_with(begun) || begun.starts_with(&**name);
    let names = names.into_iter().filter(fits).collect();
    methods_of(registry, names, Instant::now() + PATIENCE)
}

/// Returns true if a word is no option and looks like a method.
fn is_method(word: &OsStr) -> bool {
    let word = word.to_str().unwrap_or_default();
    !word.starts_with('-') && Place::of_method(word).is_some()
}

/// Adds the names of services and methods to the completions that are generated for a shell.
pub(crate) fn with_names(shell: Shell, generated: &str) -> String {
    match shell {
        Shell::Bash => format!("{generated}{BASH}"),
        Shell::Zsh => {
            // The first line says what the file completes.
            let rest = generated.replacen('\n', ZSH, 1);
            let of_words = |line: &str| line.contains("::words -- ");
            let lines = rest
                .lines()
                .map(|line| match line.strip_suffix(":_files' \\") {
                    Some(start) if of_words(line) => format!("{start}:_jsoncomm_names' \\\n"),
                    _ => format!("{line}\n"),
                });
            lines.collect()
        }
        Shell::Fish => format!("{generated}{FISH}"),
        _ => generated.to_owned(),
    }
}

/// A colon ends a word of bash, so what is before the last one is not part of what it replaces.
const BASH: &str = r#"
_jsoncomm_names() {
    _jsoncomm "$@"
    local line=${COMP_LINE:0:COMP_POINT} words word before
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]}
    [[ $word == -* ]] && return
    before=${word%"${word##*:}"}
    while IFS= read -r word; do
        COMPREPLY+=("${word#"$before"}")
    done < <("$1" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _jsoncomm_names -o nosort -o bashdefault -o default jsoncomm
"#;

const ZSH: &str = r#"

_jsoncomm_names() {
    local -a written names
    written=(${(z)LBUFFER})
    [[ $LBUFFER == *[[:space:]] ]] && written+=("")
    names=(${(f)"$(jsoncomm complete -- "${(@)written[2,-1]}" 2>/dev/null)"})
    compadd -a names
    _files
}
"#;

const FISH: &str = r#"
complete -c jsoncomm -n "__fish_jsoncomm_using_subcommand call bench describe list peer" -a "(jsoncomm complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)"
"#;
