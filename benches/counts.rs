//! What can be counted exactly: allocations and system calls.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::case::{Load, Peer, Wire};
use crate::process::{Pair, Placement};

/// How often something happens in a call, at each end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends<T> {
    pub(crate) client: T,
    pub(crate) server: T,
}

/// How many calls are counted of a load: more where what surrounds them would show.
fn calls(load: Load) -> u64 {
    match load {
        Load::Clients(number) | Load::Threads(number) | Load::Window(number) => 100 * number as u64,
        Load::OneWay(number) => 100 * (number as u64 + 1),
        _ => match load.size() {
            0 => 2000,
            1..=65_536 => 200,
            65_537..=1_048_576 => 20,
            _ => 4,
        },
    }
}

/// The program with the allocator that counts, built if need be.
pub(crate) fn program() -> Outcome<PathBuf> {
    let own = env::current_exe()?;
    let profile = own.parent().ok_or("no folder")?;
    let target = profile.parent().ok_or("no folder")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "jsoncomm-benches"]);
    cargo
        .args(["--bin", "counting", "--target-dir"])
        .arg(target);
    match profile.file_name().and_then(OsStr::to_str) {
        // The folder of the profile `dev`.
        Some("debug") | None => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
    }
    cargo.arg("--no-default-features");
    for (feature, is_on) in [
        ("peers", cfg!(feature = "peers")),
        ("fdpass", cfg!(feature = "fdpass")),
        ("methods", cfg!(feature = "methods")),
    ] {
        if is_on {
            cargo.args(["--features", feature]);
        }
    }
    if cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?
        .success()
    {
        Ok(profile.join("counting"))
    } else {
        Err("the program that counts allocations cannot be built".into())
    }
}

/// Allocations in a call, with `program` from [`program`]. None where a peer is another program.
pub(crate) fn allocations(
    program: &std::path::Path,
    peer: &dyn Peer,
    wire: Wire,
    load: Load,
) -> Outcome<Option<Ends<f64>>> {
    if peer.program().is_some() {
        return Ok(None);
    }
    let mut pair = Pair::start_with(program, peer, wire, load)?;
    pair.place(Placement::OneCore)?;
    let count = calls(load);
    pair.run(count)?;
    let before: u64 = pair.server.ask("count")?.parse()?;
    let client = pair.run(count)?.run.allocations;
    let after: u64 = pair.server.ask("count")?.parse()?;
    let per = |allocations: u64| allocations as f64 / count as f64;
    Ok(Some(Ends {
        client: per(client as u64),
        server: per(after - before),
    }))
}

/// The system calls of a process, by name, most first.
#[derive(Debug, Default)]
pub(crate) struct SystemCalls(Vec<(String, f64)>);

impl SystemCalls {
    /// Reads what `strace -c -U name,calls` wrote about so many calls. What happened less than once in twenty
    /// belongs to no call.
    fn parse(report: &str, count: u64) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let (name, calls) = (words.next()?, words.next()?.parse::<u64>().ok()?);
            let often = calls as f64 / count as f64;
            (name != "total" && often >= 0.05).then(|| (name.to_owned(), often))
        };
        let mut all: Vec<_> = report.lines().filter_map(line).collect();
        let tenths = |often: f64| (10.0 * often).round();
        all.sort_by(|(name, often), (other, less)| {
            let order = tenths(*less).total_cmp(&tenths(*often));
            order.then_with(|| name.cmp(other))
        });
        Self(all)
    }

    pub(crate) fn sum(&self) -> f64 {
        self.0.iter().map(|(_, often)| often).sum()
    }

    /// The names, with how often each is called.
    pub(crate) fn list(&self) -> String {
        let each = self
            .0
            .iter()
            .map(|(name, often)| format!("{name} {often:.1}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// A strace that counts what a process does.
struct Strace {
    child: std::process::Child,
    report: PathBuf,
}

impl Strace {
    /// Attaches; `None` if there is no strace.
    fn attach(to: u32, report: PathBuf) -> Outcome<Option<Self>> {
        let child = Command::new("strace")
            .args(["-f", "-c", "-U", "name,calls", "-p", &to.to_string(), "-o"])
            .arg(&report)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            return Ok(None);
        };
        let mut line = String::new();
        if let Some(errors) = child.stderr.as_mut() {
            BufReader::new(errors).read_line(&mut line)?;
        }
        if line.contains("attached") {
            Ok(Some(Self { child, report }))
        } else {
            Err(format!("strace said {line:?}").into())
        }
    }

    /// Lets go and reads the report.
    fn detach(mut self, count: u64) -> Outcome<SystemCalls> {
        let id = i32::try_from(self.child.id())?;
        kill_process(Pid::from_raw(id).ok_or("no id")?, Signal::INT)?;
        self.child.wait()?;
        Ok(SystemCalls::parse(
            &fs::read_to_string(&self.report)?,
            count,
        ))
    }
}

/// System calls in a call, with strace; `None` if there is none.
pub(crate) fn system_calls(
    peer: &dyn Peer,
    wire: Wire,
    load: Load,
) -> Outcome<Option<Ends<SystemCalls>>> {
    let directory = tempfile::tempdir()?;
    let mut pair = Pair::start(peer, wire, load)?;
    pair.place(Placement::OneCore)?;
    let count = calls(load);
    pair.run(count)?;
    let client = Strace::attach(pair.client.id(), directory.path().join("client"))?;
    let server = Strace::attach(pair.server.id(), directory.path().join("server"))?;
    let Some((client, server)) = client.zip(server) else {
        return Ok(None);
    };
    pair.run(count)?;
    Ok(Some(Ends {
        client: client.detach(count)?,
        server: server.detach(count)?,
    }))
}
