//! The processes of a case as their parent sees them.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use crate::Outcome;
use crate::case::{At, Load, Peer, Wire};
use crate::role::Run;

/// No line of a process takes longer; a peer that needs more hangs.
const PATIENCE: Timespec = Timespec {
    tv_sec: 120,
    tv_nsec: 0,
};

/// One process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts `program` in a role, and waits until it is ready.
    fn start(program: &[String], role: &str, peer: &dyn Peer, at: &At) -> Outcome<Self> {
        let (first, rest) = program.split_first().ok_or("no program")?;
        let mut child = Command::new(first)
            .args(rest)
            .args([role, peer.name()])
            .args([at.wire.to_string(), at.load.to_string()])
            .arg(&at.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut process = Self {
            child,
            input: input.ok_or("no pipe")?,
            output: BufReader::new(output.ok_or("no pipe")?),
        };
        match process.hear()?.as_str() {
            "ready" => Ok(process),
            other => Err(format!("a {role} of {} said {other:?}", peer.name()).into()),
        }
    }

    fn hear(&mut self) -> Outcome<String> {
        let mut wait = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
        if poll(&mut wait, Some(&PATIENCE))? == 0 {
            return Err("no word in two minutes".into());
        }
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the process has ended".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Writes a line and reads the reply.
    pub(crate) fn ask(&mut self, line: &str) -> Outcome<String> {
        writeln!(self.input, "{line}")?;
        self.hear()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The threads it has.
    fn threads(&self) -> Outcome<Vec<i32>> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            threads.push(entry?.file_name().to_string_lossy().parse()?);
        }
        Ok(threads)
    }

    /// The processor time that its threads have used, in nanoseconds (`schedstat` in proc(5): the scheduler's own
    /// account, exact where utime and stime are sampled). What has ended takes its account with it.
    pub(crate) fn cpu(&self) -> Outcome<u64> {
        let mut sum = 0;
        for thread in self.threads()? {
            let stat = fs::read_to_string(format!("/proc/{}/task/{thread}/schedstat", self.id()));
            if let Some(stat) = unless_gone(stat)? {
                sum += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
            }
        }
        Ok(sum)
    }

    /// Lets all its threads run on these processors only.
    fn place(&self, on: &CpuSet) -> Outcome {
        for thread in self.threads()? {
            let placed = sched_setaffinity(Pid::from_raw(thread), on);
            unless_gone(placed.map_err(io::Error::from))?;
        }
        Ok(())
    }
}

/// `None` for a thread that has ended since it was listed.
fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the two processes of a case may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Both on the same processor.
    OneCore,
    /// Each on its own.
    TwoCores,
    /// Wherever the kernel likes.
    Free,
}

impl Placement {
    /// The processors for the client and for the server; none when there are not enough.
    fn sets(self) -> Outcome<Option<[CpuSet; 2]>> {
        let all = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).rev().filter(|core| all.is_set(*core));
        let mut next = || {
            let mut set = CpuSet::new();
            cores.next().map(|core| {
                set.set(core);
                set
            })
        };
        Ok(match self {
            Self::OneCore => next().map(|core| [core; 2]),
            Self::TwoCores => next().zip(next()).map(|(one, two)| [one, two]),
            Self::Free => Some([all; 2]),
        })
    }
}

/// A server and a client of it, ready to be told to run.
pub(crate) struct Pair {
    pub(crate) server: Process,
    pub(crate) client: Process,
    _directory: TempDir,
}

/// What one run cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) run: Run,
    /// Processor time of the client in nanoseconds.
    pub(crate) client: u64,
    /// Processor time of the server in nanoseconds.
    pub(crate) server: u64,
}

impl Pair {
    /// Starts both with this program.
    pub(crate) fn start(peer: &dyn Peer, wire: Wire, load: Load) -> Outcome<Self> {
        Self::start_with(&std::env::current_exe()?, peer, wire, load)
    }

    /// Starts both with the program at `path`, if the peer has none of its own.
    pub(crate) fn start_with(
        path: &Path,
        peer: &dyn Peer,
        wire: Wire,
        load: Load,
    ) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let own = || vec![path.to_string_lossy().into_owned()];
        let program = peer.program().unwrap_or_else(own);
        let at = At {
            path: directory.path().join("socket"),
            wire,
            load,
        };
        Ok(Self {
            server: Process::start(&program, "serve", peer, &at)?,
            client: Process::start(&program, "call", peer, &at)?,
            _directory: directory,
        })
    }

    /// Places both; says whether there are enough processors.
    pub(crate) fn place(&self, placement: Placement) -> Outcome<bool> {
        let Some([client, server]) = placement.sets()? else {
            return Ok(false);
        };
        self.client.place(&client)?;
        self.server.place(&server)?;
        Ok(true)
    }

    /// Makes so many calls.
    pub(crate) fn run(&mut self, count: u64) -> Outcome<Cost> {
        let before = (self.client.cpu()?, self.server.cpu()?);
        let run = self.client.ask(&format!("run {count}"))?.parse()?;
        Ok(Cost {
            run,
            client: self.client.cpu()?.saturating_sub(before.0),
            server: self.server.cpu()?.saturating_sub(before.1),
        })
    }
}
