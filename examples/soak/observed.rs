//! The server's process, seen from outside.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use jsoncomm::client::PendingCall;
use jsoncomm::{CallError, Connection, Fault, Kind};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::server::{ALL_DEFERRED, DEFERRED, WorkClient};
use crate::{PATIENCE, path_in};

pub(crate) struct Observed {
    child: Child,
    said: BufReader<ChildStdout>,
    directory: PathBuf,
}

impl Observed {
    /// Starts the server and waits until it listens.
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let directory = env::temp_dir().join(format!("soak-{}", process::id()));
        fs::create_dir(&directory)?;
        let mut child = Command::new(env::current_exe()?)
            .arg("serve")
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        said.read_line(&mut String::new())?;
        Ok(Self {
            child,
            said,
            directory,
        })
    }

    pub(crate) fn path(&self, kind: Kind) -> PathBuf {
        path_in(&self.directory, kind)
    }

    pub(crate) fn connect(&self, kind: Kind) -> Result<WorkClient, jsoncomm::Error> {
        let connection = Connection::open(self.path(kind))?;
        Ok(WorkClient::new(connection.with_timeout(PATIENCE)))
    }

    /// Pins its loop to one processor.
    pub(crate) fn pin(&self, processor: usize) -> Result<(), Box<dyn Error>> {
        let mut set = CpuSet::new();
        set.set(processor);
        Ok(sched_setaffinity(Some(Pid::from_child(&self.child)), &set)?)
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    pub(crate) fn descriptors(&self) -> Result<usize, Box<dyn Error>> {
        Ok(fs::read_dir(self.proc("fd"))?.count())
    }

    /// Returns its resident memory in KiB.
    pub(crate) fn memory(&self) -> Result<u64, Box<dyn Error>> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or("no VmRSS")?.parse()?)
    }

    /// Returns its processor time. The kernel reports it to programs in units of 1/100 s.
    pub(crate) fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // The name, in parentheses, may contain anything; utime and stime are fields 12 and 13 after it.
        let (_, rest) = stat.rsplit_once(')').ok_or("no stat")?;
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
    }

    /// Calls it on both sockets, and returns how many deferred calls it has there.
    pub(crate) fn settled(&self) -> Result<u64, Box<dyn Error>> {
        self.connect(Kind::Datagram)?.waiting()?;
        Ok(self.connect(Kind::Seqpacket)?.waiting()?)
    }

    /// Checks that no deferred call is left: exactly as many new ones as the limit are accepted.
    pub(crate) fn probe(&self) -> Result<(), Box<dyn Error>> {
        let mut held = Vec::new();
        for _ in 0..ALL_DEFERRED / DEFERRED {
            let work = self.connect(Kind::Seqpacket)?;
            let calls = (0..DEFERRED).map(|_| work.start().never());
            held.extend(calls.collect::<Result<Vec<PendingCall<u64>>, _>>()?);
            work.waiting()?; // its reply comes after everything before it
        }
        let work = self.connect(Kind::Seqpacket)?;
        let (all, waiting) = (held.len() as u64, work.waiting()?);
        if waiting != all {
            return Err(format!("only {waiting} of {all} places for calls are free").into());
        }
        match work.never() {
            Err(CallError::Fault(fault)) if fault.code == Fault::BUSY => {}
            other => return Err(format!("one more has a place: {other:?}").into()),
        }
        drop(held);
        let until = Instant::now() + PATIENCE;
        while work.waiting()? > 0 {
            if Instant::now() > until {
                return Err("cancelled calls keep their places".into());
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Stops it and returns what it counted.
    pub(crate) fn stop(mut self) -> Result<String, Box<dyn Error>> {
        drop(self.child.stdin.take());
        let mut counts = String::new();
        self.said.read_line(&mut counts)?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(counts.trim().to_owned())
        } else {
            Err(format!("the server ended with {status}").into())
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // A failure has already been reported, if there is one.
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
