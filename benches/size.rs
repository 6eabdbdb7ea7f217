//! What a minimal server costs to build and to ship: seconds, bytes, crates.
//!
//! The programs are in `minimal/`, with their dependencies as their first lines. Each is built from nothing in a fresh
//! directory, with what has been downloaded already.

mod methods;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::Outcome;
use crate::table::Table;

/// What the others are compared with.
const HAND: (&str, &str) = ("by hand", include_str!("minimal/hand.rs"));
const EMPTY: (&str, &str) = ("an empty `main`", include_str!("minimal/empty.rs"));
const OURS: (&str, &str) = ("jsoncomm #[service]", include_str!("minimal/jsoncomm.rs"));

/// What a row is called, and its program.
const PROGRAMS: [(&str, &str); 9] = [
    HAND,
    EMPTY,
    OURS,
    ("zlink", include_str!("minimal/zlink.rs")),
    ("varlink", include_str!("minimal/varlink.rs")),
    ("zbus, peer to peer", include_str!("minimal/zbus.rs")),
    ("tarpc, JSON", include_str!("minimal/tarpc.rs")),
    ("ttrpc", include_str!("minimal/ttrpc.rs")),
    ("ipc-channel", include_str!("minimal/channel.rs")),
];

/// The profiles: cargo's own, without symbols, and the one for small programs.
const PROFILES: &str = r#"
[profile.release]
strip = true

[profile.small]
inherits = "release"
opt-level = "s"
lto = "fat"
codegen-units = 1
"#;

/// `size [WORD...]`: a table of the programs whose name has one of the words in it, or of all; and one of a service
/// with many methods.
pub(crate) fn main(words: &[&str]) -> Outcome {
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let head = [
        "",
        "crates",
        "cold build s",
        "CPU s",
        "CPU ratio",
        "stripped KiB",
        "small profile KiB",
    ];
    let mut table = Table::new(&head);
    let mut hand = None;
    let mut rows = Vec::new();
    for (name, program) in PROGRAMS {
        // The others are compared with it in the same run.
        if name == HAND.0 || wanted(name) {
            rows.push((name, Weight::of(name, program)?));
        }
    }
    for (name, weight) in rows {
        let hand = *hand.get_or_insert(weight.cpu);
        table.push(vec![
            name.to_owned(),
            weight.crates.to_string(),
            format!("{:.1}", weight.wall),
            format!("{:.1}", weight.cpu),
            format!("{:.2}", weight.cpu / hand),
            kib(weight.size),
            weight.small.map(kib).unwrap_or_default(),
        ]);
    }
    let mut out = io::stdout();
    writeln!(out, "\nA minimal server, release build\n\n{table}")?;
    if wanted("jsoncomm #[service], methods") {
        let table = methods::table()?;
        writeln!(
            out,
            "\nA service of methods with three arguments each\n\n{table}"
        )?;
    }
    Ok(())
}

/// Bytes as KiB.
fn kib(bytes: u64) -> String {
    (bytes / 1024).to_string()
}

/// What a program costs to build and to ship.
#[derive(Debug)]
struct Weight {
    /// The crates that are built before its own.
    crates: usize,
    /// Seconds of a cold build.
    wall: f64,
    /// Processor time of a cold build, in seconds.
    cpu: f64,
    /// Bytes, in the release profile.
    size: u64,
    /// Bytes in the profile for small programs, where that is asked for: it takes as long again.
    small: Option<u64>,
}

impl Weight {
    fn of(name: &str, program: &str) -> Outcome<Self> {
        let package = Package::new(program)?;
        let tree = package.cargo(&["tree", "--prefix", "none", "--edges", "normal,build"])?;
        let crate_of = |line: &str| line.trim_end_matches(" (*)").to_owned();
        let crates: BTreeSet<_> = tree.lines().map(crate_of).collect();
        let start = Instant::now();
        let cpu = package.build("release")?;
        let wall = start.elapsed().as_secs_f64();
        let small = [HAND, EMPTY, OURS].iter().any(|(small, _)| *small == name);
        if small {
            package.build("small")?;
        }
        Ok(Self {
            // Its own is none of them.
            crates: crates.len() - 1,
            wall,
            cpu,
            size: package.size("release")?,
            small: small.then(|| package.size("small")).transpose()?,
        })
    }
}

/// The package of a program, in a directory of its own.
struct Package(TempDir);

impl Package {
    /// Writes it, and downloads what it depends on.
    fn new(program: &str) -> Outcome<Self> {
        let package = Self(tempfile::tempdir()?);
        let lines = program.lines().map_while(|line| line.strip_prefix("//! "));
        let dependencies: Vec<_> = lines.collect();
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jsoncomm");
        let dependencies = dependencies
            .join("\n")
            .replace("JSONCOMM", &library.to_string_lossy());
        let manifest = format!(
            "[package]\nname = \"adder\"\nedition = \"2024\"\n\n[workspace]\n{PROFILES}\n\
             [dependencies]\n{dependencies}\n"
        );
        fs::create_dir(package.0.path().join("src"))?;
        fs::write(package.0.path().join("Cargo.toml"), manifest)?;
        package.write(program)?;
        package.cargo(&["fetch", "--quiet"])?;
        Ok(package)
    }

    /// Writes another program with the same dependencies, or the same one so that it is built anew.
    fn write(&self, program: &str) -> Outcome {
        Ok(fs::write(self.0.path().join("src/main.rs"), program)?)
    }

    /// Builds what has not been built, and returns the processor time of that in seconds.
    fn build(&self, profile: &str) -> Outcome<f64> {
        let before = children();
        self.cargo(&["build", "--quiet", "--offline", "--profile", profile])?;
        Ok(children() - before)
    }

    /// The bytes of the program.
    fn size(&self, profile: &str) -> Outcome<u64> {
        let program = self.0.path().join("target").join(profile).join("adder");
        Ok(fs::metadata(program)?.len())
    }

    /// Runs cargo and returns what it printed.
    fn cargo(&self, arguments: &[&str]) -> Outcome<String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(arguments)
            .current_dir(self.0.path())
            .env("CARGO_TARGET_DIR", self.0.path().join("target"))
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
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
