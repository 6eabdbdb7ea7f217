//! `jsoncomm serve`: a method whose every call is carried out by a program.
//!
//! What goes in and out of a program is in memfds, so nobody waits for a pipe, and its end is that of its process.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use jsoncomm::message::{Failure, Verbatim};
use jsoncomm::{Call, Control, Fault, Limits, Remote, Reply, Server};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::address::pid_of;
use crate::args::Serve;
use crate::call::names;
use crate::json::Json;
use crate::output::{self, note};
use crate::places::Places;
use crate::problem::Problem;
use crate::{stopping, words};

/// How long those who wait for an answer have when it stops.
const GRACE: Duration = Duration::from_secs(1);

/// How much of what a program says about its failure is passed on, in bytes.
const TAIL: u64 = 1024;

/// Has the shell become the program, so that the variable names its process.
const SCRIPT: &str = r#"LISTEN_PID=$$; export LISTEN_PID; exec "$@""#;

pub(crate) fn run(serve: Serve) -> Result<(), Problem> {
    let mut limits = Limits::default();
    // Before anything else has these numbers.
    let places = Places::reserve(limits.descriptors)?;
    let (place, mut words) = words::read(serve.words)?;
    let address = place.socket()?;
    let method = words.method()?;
    words.end()?;
    // Each has one answer deferred.
    let jobs = usize::from(serve.jobs);
    limits.deferred = jobs;
    limits.user_deferred = jobs;
    limits.deferred_in_all = jobs;
    let mut server = Server::new(limits).map_err(Problem::Serving)?;
    server
        .bind(address.clone(), serve.kind.into())
        .map_err(Problem::Serving)?
        .fallback(Programs::start);
    server
        .watch(stopping::signals()?, |_, control| {
            control.forget();
            control.shut_down(GRACE);
        })
        .map_err(Problem::Serving)?;
    note(&format!("serving {method} at {address}"));
    let mut programs = Programs {
        method,
        command: serve.program,
        places,
        once: serve.once,
        remote: server.remote(),
        jobs: HashMap::new(),
        started: 0,
    };
    server.run(&mut programs).map_err(Problem::Serving)
}

/// What is served, and the programs that run.
#[derive(Debug)]
struct Programs {
    method: String,
    command: Vec<OsString>,
    places: Places,
    once: bool,
    remote: Remote<Self>,
    jobs: HashMap<u64, Job>,
    started: u64,
}

/// A program that runs, and who waits for it.
#[derive(Debug)]
struct Job {
    child: Child,
    said: File,
    complained: File,
    reply: Reply<Verbatim, Failure>,
}

impl Programs {
    /// Starts the program for one call.
    fn start(
        &mut self,
        call: &mut Call,
        method: &str,
        params: Verbatim,
        reply: Reply<Verbatim, Failure>,
    ) {
        if method != self.method {
            let what = format!("unknown method, only {} is served", self.method);
            return reply.refuse(&Fault::new(Fault::UNKNOWN_METHOD, what));
        }
        let job = self.spawn(call, &params);
        match job.and_then(|(child, said, complained)| {
            let pidfd = pidfd_of(&child)?;
            Ok((child, said, complained, pidfd))
        }) {
            Ok((child, said, complained, pidfd)) => {
                let job = Job {
                    child,
                    said,
                    complained,
                    reply,
                };
                self.watch(job, pidfd);
            }
            Err(problem) => {
                let what = output::chain(&problem);
                output::tell(&what);
                reply.refuse(&Fault::new(Fault::HANDLER_FAILED, what));
            }
        }
    }

    /// Runs the program.
    fn spawn(&mut self, call: &Call, params: &Verbatim) -> Result<(Child, File, File), Problem> {
        let mut input = memory()?;
        input
            .write_all(params.json.as_bytes())
            .and_then(|()| input.rewind())
            .map_err(Problem::here("memfd"))?;
        let (said, complained) = (memory()?, memory()?);
        let copy = |file: &File| file.try_clone().map_err(Problem::here("dup"));
        let mut command = Command::new("/bin/sh");
        command
            .args([OsStr::new("-c"), OsStr::new(SCRIPT), OsStr::new("sh")])
            .args(&self.command)
            .env("JSONCOMM_METHOD", &self.method)
            .env_remove("JSONCOMM_UID")
            .env_remove("JSONCOMM_PID")
            .stdin(input)
            .stdout(copy(&said)?)
            .stderr(copy(&complained)?);
        if let Some(peer) = call.peer() {
            command.env("JSONCOMM_UID", peer.uid().to_string());
            if let Some(pid) = peer.pid() {
                command.env("JSONCOMM_PID", pid.to_string());
            }
        }
        let name = names(params);
        let fds: Vec<(BorrowedFd<'_>, String)> = params
            .fds
            .iter()
            .map(|(index, fd)| (fd, name(index)))
            .collect();
        let filled = self.places.fill(&mut command, &fds);
        let child = filled.and_then(|()| command.spawn().map_err(Problem::file("/bin/sh")));
        self.places.release()?;
        Ok((child?, said, complained))
    }

    /// Has the end of a program answer its call, and the end of the wait end the program.
    fn watch(&mut self, job: Job, pidfd: OwnedFd) {
        let number = self.started;
        self.started += 1;
        // Of a one-way call nobody has waited from the beginning.
        let pidfd_too = job.reply.is_wanted().then(|| pidfd.try_clone());
        if let Some(Ok(pidfd)) = pidfd_too {
            job.reply.on_cancel(move || {
                // It may have ended by itself.
                let _ = pidfd_send_signal(&pidfd, Signal::TERM);
            });
        }
        self.jobs.insert(number, job);
        self.remote.change(move |server| {
            let watched = server.watch(pidfd, move |programs: &mut Self, control| {
                control.forget();
                programs.finish(number, control);
            });
            if let Err(error) = watched {
                output::tell(&output::chain(&error));
            }
        });
    }

    /// Answers for a program that has ended.
    fn finish(&mut self, number: u64, control: &mut Control<Self>) {
        let Some(mut job) = self.jobs.remove(&number) else {
            return;
        };
        let answered = job.child.wait().and_then(|status| job.answer(status));
        if let Err(error) = answered {
            output::tell(&output::chain(&error));
        }
        if self.once {
            control.shut_down(GRACE);
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for job in self.jobs.values() {
            // Nobody waits for it any more.
            if let Ok(pidfd) = pidfd_of(&job.child) {
                let _ = pidfd_send_signal(pidfd, Signal::TERM);
            }
        }
    }
}

impl Job {
    /// Answers with what the program has said.
    fn answer(self, status: ExitStatus) -> io::Result<()> {
        let limit = Limits::default().message as u64;
        let said = contents(&self.said, 0, limit + 1)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let length = self.complained.metadata()?.len();
        let complained = contents(&self.complained, length.saturating_sub(TAIL), TAIL)?;
        let complained = String::from_utf8_lossy(&complained);
        if !complained.is_empty() {
            complained.lines().for_each(note);
        }
        if status.success() {
            let json = match said.trim_ascii() {
                "" => "null",
                json => json,
            };
            // What is no JSON is a fault, which says so.
            self.reply.send(Verbatim::new(json));
            return Ok(());
        }
        let last = complained
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        let message = last.map_or_else(|| status.to_string(), |line| line.trim().to_owned());
        let is_json = Json::parse(&said).is_ok();
        let data = is_json.then(|| Verbatim::new(said));
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(1);
        self.reply.fail(Failure {
            code: i64::from(code),
            message,
            data,
        });
        Ok(())
    }
}

fn pidfd_of(child: &Child) -> Result<OwnedFd, Problem> {
    let opened = match pid_of(child) {
        Some(pid) => pidfd_open(pid, PidfdFlags::empty()),
        None => Err(rustix::io::Errno::SRCH),
    };
    opened.map_err(Problem::here("pidfd_open"))
}

/// A file in memory.
fn memory() -> Result<File, Problem> {
    memfd_create("jsoncomm", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(Problem::here("memfd_create"))
}

/// Reads so many bytes of a file, or to its end, wherever its program has left it.
fn contents(file: &File, from: u64, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len().saturating_sub(from).min(limit);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}
