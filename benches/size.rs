//! What a minimal server costs to build and to ship: seconds, bytes, crates.
//!
//! The programs are in `minimal/`, with their dependencies as their first lines. Each is built from nothing in a fresh
//! directory, with what has been downloaded already.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::Outcome;
use crate::table::Table;

/// What a row is called, and its program.
const PROGRAMS: [(&str, &str); 8] = [
    ("by hand", include_str!("minimal/hand.rs")),
    ("jsoncomm #[service]", include_str!("minimal/jsoncomm.rs")),
    ("zlink", include_str!("minimal/zlink.rs")),
    ("varlink", include_str!("minimal/varlink.rs")),
    ("zbus, peer to peer", include_str!("minimal/zbus.rs")),
    ("tarpc, JSON", include_str!("minimal/tarpc.rs")),
    ("ttrpc", include_str!("minimal/ttrpc.rs")),
    ("ipc-channel", include_str!("minimal/channel.rs")),
];

/// `size [WORD...]`: a table of the programs whose name has one of the words in it, or of all.
pub(crate) fn main(words: &[&str]) -> Outcome {
    let mut table = Table::new(&["", "crates", "cold build s", "CPU s", "stripped KiB"]);
    for (name, program) in PROGRAMS {
        if words.is_empty() || words.iter().any(|word| name.contains(word)) {
            table.push(row(name, program)?);
        }
    }
    Ok(writeln!(
        io::stdout(),
        "\nA minimal server, release build\n\n{table}"
    )?)
}

fn row(name: &str, program: &str) -> Outcome<Vec<String>> {
    let directory = tempfile::tempdir()?;
    write(directory.path(), program)?;
    cargo(directory.path(), &["fetch", "--quiet"])?;
    let tree = cargo(
        directory.path(),
        &["tree", "--prefix", "none", "--edges", "normal,build"],
    )?;
    let crate_of = |line: &str| line.trim_end_matches(" (*)").to_owned();
    let crates: BTreeSet<_> = tree.lines().map(crate_of).collect();
    let (start, before) = (Instant::now(), children());
    cargo(
        directory.path(),
        &["build", "--quiet", "--release", "--offline"],
    )?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), children() - before);
    let size = fs::metadata(directory.path().join("target/release/adder"))?.len();
    Ok(vec![
        name.to_owned(),
        // Its own is none of them.
        (crates.len() - 1).to_string(),
        format!("{wall:.1}"),
        format!("{cpu:.1}"),
        (size / 1024).to_string(),
    ])
}

/// Writes the package of a program.
fn write(directory: &Path, program: &str) -> Outcome {
    let lines = program.lines().map_while(|line| line.strip_prefix("//! "));
    let dependencies: Vec<_> = lines.collect();
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jsoncomm");
    let dependencies = dependencies
        .join("\n")
        .replace("JSONCOMM", &library.to_string_lossy());
    let manifest = format!(
        "[package]\nname = \"adder\"\nedition = \"2024\"\n\n[workspace]\n\n[profile.release]\nstrip = true\n\n\
         [dependencies]\n{dependencies}\n"
    );
    fs::create_dir(directory.join("src"))?;
    fs::write(directory.join("Cargo.toml"), manifest)?;
    Ok(fs::write(directory.join("src/main.rs"), program)?)
}

/// Runs cargo there and says what it printed.
fn cargo(directory: &Path, arguments: &[&str]) -> Outcome<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", directory.join("target"))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Processor time of children that have ended, in seconds (`cutime` and `cstime` in proc_pid_stat(5), in ticks).
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may have spaces; what follows it starts with the third field.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(13).take(2);
    let sum: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
    sum / rustix::param::clock_ticks_per_second() as f64
}
