//! `jsoncomm serve`: a method that runs a program for each call.
//!
//! The input and output of a program are memfds, so nothing waits for a pipe, and a call ends with its process.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use jsoncomm::message::{RawError, RawMessage};
use jsoncomm::observe::EventKind;
use jsoncomm::server::{Control, ServerHandle};
use jsoncomm::{Call, Fault, Limits, Reply, Server};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::address::Listen;
use crate::args::{Serve, bind_at, message_limit};
use crate::call::names;
use crate::files::find_program;
use crate::json::Json;
use crate::output::{self, note};
use crate::places::Places;
use crate::problem::Problem;
use crate::{stopping, words};

/// The time for running programs when the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// The part of a program's standard error that is read for the message, in bytes.
const TAIL: u64 = 1024;

/// The shell executes the program, so that LISTEN_PID is the program's.
const SCRIPT: &str = r#"LISTEN_PID=$$; export LISTEN_PID; exec "$@""#;

pub(crate) fn run(serve: Serve) -> Result<(), Problem> {
    let (place, mut words) = words::read(serve.words)?;
    let method = words.method()?;
    words.end()?;
    if let Some(name) = serve.program.first() {
        find_program(name)?;
    }
    let front = Listen::of(place, serve.kind)?;
    // Before anything else uses these numbers.
    let places = Places::reserve(Limits::default().descriptors)?;
    let jobs = usize::from(serve.jobs);
    let mut limits = Limits::default();
    limits.message = message_limit(serve.limit);
    // Each defers one reply.
    limits.deferred = jobs;
    limits.user_deferred = jobs;
    limits.deferred_total = jobs;
    let (message_limit, name) = (limits.message, front.to_string());
    let mut server = Server::new(limits).map_err(Problem::Serving)?;
    if front.is_connected() {
        // No other client can connect.
        let remote = server.handle();
        server.observe(move |event| {
            if matches!(event.kind, EventKind::Closed | EventKind::Disconnected(_)) {
                remote.shut_down(GRACE);
            }
        });
    }
    let endpoint = match front {
        Listen::Address(address, kind) => server.bind(bind_at(address, serve.mode), kind),
        Listen::Inherited(fd, _) => server.adopt(fd),
    };
    endpoint
        .map_err(Problem::Serving)?
        .fallback(Programs::start);
    server
        .watch(stopping::signals()?, |_, control| {
            control.remove();
            control.shut_down(GRACE);
        })
        .map_err(Problem::Serving)?;
    note(&format!("serving {method} at {name}"));
    let mut programs = Programs {
        method,
        limit: jobs,
        message_limit,
        command: serve.program,
        places,
        once: serve.once,
        remote: server.handle(),
        jobs: HashMap::new(),
        started: 0,
    };
    server.run(&mut programs).map_err(Problem::Serving)
}

/// The served method, and the running programs.
#[derive(Debug)]
struct Programs {
    method: String,
    /// The most programs at once.
    limit: usize,
    /// The longest reply, in bytes.
    message_limit: usize,
    command: Vec<OsString>,
    places: Places,
    once: bool,
    remote: ServerHandle<Self>,
    jobs: HashMap<u64, Job>,
    started: u64,
}

/// A program that has just been started.
struct Spawned {
    child: Child,
    said: File,
    complained: File,
    /// Readable when the program has exited.
    pidfd: OwnedFd,
}

/// A running program, and the reply that it will make.
#[derive(Debug)]
struct Job {
    child: Child,
    said: File,
    complained: File,
    reply: Reply<RawMessage, RawError>,
}

impl Programs {
    /// Starts the program for one call.
    fn start(
        &mut self,
        call: &mut Call,
        method: &str,
        params: RawMessage,
        reply: Reply<RawMessage, RawError>,
    ) {
        if method != self.method {
            let what = format!("unknown method, only {} is served", self.method);
            return reply.send_fault(&Fault::new(Fault::METHOD_NOT_FOUND, what));
        }
        // One-way calls count, and so do programs that do not exit on SIGTERM.
        if self.jobs.len() >= self.limit {
            let what = format!("{} programs are running", self.limit);
            if !reply.is_wanted() {
                output::tell(&format!("a call without a reply is not run: {what}"));
            }
            return reply.send_fault(&Fault::new(Fault::BUSY, what));
        }
        match self.spawn(call, &params) {
            Ok(spawned) => self.watch(spawned, reply),
            Err(problem) => {
                let what = output::chain(&problem);
                output::tell(&what);
                reply.send_fault(&Fault::new(fault_of(&problem), what));
            }
        }
    }

    /// Runs the program.
    fn spawn(&mut self, call: &Call, params: &RawMessage) -> Result<Spawned, Problem> {
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
        let released = self.places.release();
        let mut child = child?;
        let pidfd = released.and_then(|()| pidfd_of(&child));
        let pidfd = pidfd.inspect_err(|_| {
            // Its exit would not be noticed.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Spawned {
            child,
            said,
            complained,
            pidfd,
        })
    }

    /// Replies when the program exits, and sends it SIGTERM when the call is cancelled.
    fn watch(&mut self, spawned: Spawned, reply: Reply<RawMessage, RawError>) {
        let Spawned {
            child,
            said,
            complained,
            pidfd,
        } = spawned;
        let job = Job {
            child,
            said,
            complained,
            reply,
        };
        let number = self.started;
        self.started += 1;
        // A one-way call has no caller that could cancel it.
        let pidfd_too = job.reply.is_wanted().then(|| pidfd.try_clone());
        if let Some(Ok(pidfd)) = pidfd_too {
            job.reply.on_cancel(move || {
                // It may have exited by itself.
                let _ = pidfd_send_signal(&pidfd, Signal::TERM);
            });
        }
        self.jobs.insert(number, job);
        self.remote.post(move |server| {
            let watched = server.watch(pidfd, move |programs: &mut Self, control| {
                control.remove();
                programs.finish(number, control);
            });
            if let Err(error) = watched {
                output::tell(&output::chain(&error));
                let given_up = server.after(Duration::ZERO, move |programs: &mut Self, _| {
                    programs.give_up(number);
                });
                if let Err(error) = given_up {
                    output::tell(&output::chain(&error));
                }
            }
        });
    }

    /// Kills a program whose exit cannot be watched, for lack of resources.
    fn give_up(&mut self, number: u64) {
        if let Some(mut job) = self.jobs.remove(&number) {
            let _ = job.child.kill();
            let _ = job.child.wait();
            let what = "the program's end cannot be watched for";
            job.reply.send_fault(&Fault::new(Fault::BUSY, what));
        }
    }

    /// Replies for a program that has exited.
    fn finish(&mut self, number: u64, control: &mut Control<Self>) {
        let Some(mut job) = self.jobs.remove(&number) else {
            return;
        };
        let limit = self.message_limit;
        let status = job.child.wait();
        let replied = status.and_then(|status| job.reply(status, limit));
        if let Err(error) = replied {
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
            // The call has been cancelled.
            if let Ok(pidfd) = pidfd_of(&job.child) {
                let _ = pidfd_send_signal(pidfd, Signal::TERM);
            }
        }
    }
}

impl Job {
    /// Replies with the output of the program.
    fn reply(self, status: ExitStatus, limit: usize) -> io::Result<()> {
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let said = contents(&self.said, 0, most)?;
        let length = self.complained.metadata()?.len();
        let complained = contents(&self.complained, length.saturating_sub(TAIL), TAIL)?;
        let complained = String::from_utf8_lossy(&complained);
        if !complained.is_empty() {
            complained.lines().for_each(note);
        }
        if status.success() {
            match result(&said, limit) {
                // Output that is not JSON becomes a fault.
                Ok(json) => self.reply.send(RawMessage::new(json)),
                Err(fault) => self.reply.send_fault(&fault),
            }
            return Ok(());
        }
        let last = complained
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        let message = last.map_or_else(|| status.to_string(), |line| line.trim().to_owned());
        let said = std::str::from_utf8(&said).ok();
        let said = said.filter(|said| Json::parse(said).is_ok());
        let data = said.map(RawMessage::new);
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(1);
        self.reply.fail(RawError {
            code: i64::from(code),
            message,
            data,
        });
        Ok(())
    }
}

/// Reads the result that a program has printed.
fn result(said: &[u8], limit: usize) -> Result<&str, Fault> {
    if said.len() > limit {
        let what = format!("the program printed more than {limit} bytes");
        return Err(Fault::new(Fault::REPLY_TOO_LARGE, what));
    }
    match std::str::from_utf8(said).map(str::trim_ascii) {
        Ok("") => Ok("null"),
        Ok(json) => Ok(json),
        Err(error) => {
            let what = format!("what the program printed is not UTF-8: {error}");
            Err(Fault::new(Fault::INTERNAL_ERROR, what))
        }
    }
}

/// Tells a temporary lack of resources from a permanent error.
fn fault_of(problem: &Problem) -> i64 {
    let (Problem::Here { source, .. } | Problem::File { source, .. }) = problem else {
        return Fault::INTERNAL_ERROR;
    };
    match Errno::from_io_error(source) {
        Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM | Errno::NOSPC) => {
            Fault::BUSY
        }
        _ => Fault::INTERNAL_ERROR,
    }
}

fn pidfd_of(child: &Child) -> Result<OwnedFd, Problem> {
    let opened = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
    opened.map_err(Problem::here("pidfd_open"))
}

/// Creates a file in memory.
fn memory() -> Result<File, Problem> {
    memfd_create("jsoncomm", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(Problem::here("memfd_create"))
}

/// Reads up to `limit` bytes of a file at `from`, whatever its file offset is.
fn contents(file: &File, from: u64, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len().saturating_sub(from).min(limit);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_temporary_shortage_is_reported_as_busy() {
        let here = |errno: Errno| Problem::here("memfd_create")(errno);
        let shell = |errno: Errno| Problem::file("/bin/sh")(errno.into());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM] {
            assert_eq!(fault_of(&here(errno)), Fault::BUSY, "{errno}");
            assert_eq!(fault_of(&shell(errno)), Fault::BUSY, "{errno}");
        }
        assert_eq!(fault_of(&shell(Errno::NOENT)), Fault::INTERNAL_ERROR);
        let taken = Problem::Usage(String::from("descriptor 3 is already open"));
        assert_eq!(fault_of(&taken), Fault::INTERNAL_ERROR);
    }
}
