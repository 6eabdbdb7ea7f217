//! A server that runs programs: its callers pass the descriptors that the programs read and write, and get the reply
//! when the program has ended. Nothing is copied or polled: a pidfd is watched. When a caller no longer waits, its
//! program is killed.
//!
//! Run it with `cargo run --example job_server`.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Child, Command};
use std::{env, thread};

use jsoncomm::server::ServerHandle;
use jsoncomm::{Call, CallError, Connection, Deferred, Kind, Limits, Message, Server};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

#[jsoncomm::service(name = "example.jobs")]
trait Jobs {
    /// Runs a program; replies when it has ended.
    fn run(
        &mut self,
        call: &mut Call,
        program: &str,
        arguments: Vec<String>,
        #[fd] input: OwnedFd,
        #[fd] output: OwnedFd,
    ) -> Deferred<Ended, JobError>;
}

/// How a program ended: with a status or by a signal.
#[derive(Debug, PartialEq, Eq, Message)]
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
}

#[derive(Debug, Message, thiserror::Error)]
enum JobError {
    #[error("{reason}")]
    NotRun { reason: String },
}

impl From<io::Error> for JobError {
    fn from(error: io::Error) -> Self {
        let reason = error.to_string();
        Self::NotRun { reason }
    }
}

/// Has a handle to its own loop, to watch more descriptors.
struct Runner(ServerHandle<Runner>);

impl Jobs for Runner {
    fn run(
        &mut self,
        call: &mut Call,
        program: &str,
        arguments: Vec<String>,
        input: OwnedFd,
        output: OwnedFd,
    ) -> Deferred<Ended, JobError> {
        call.defer(|reply| match start(program, &arguments, input, output) {
            Ok((program, pidfd, killer)) => {
                reply.on_cancel(move || {
                    // Fails if it has ended already. A pid could be another process by then, a pidfd cannot.
                    let _ = pidfd_send_signal(&killer, Signal::KILL);
                });
                let mut job = Some((program, reply));
                self.0.post(move |server| {
                    // If it cannot be watched, the reply is dropped and the caller gets a fault.
                    let _ = server.watch(pidfd, move |_, control| {
                        control.remove();
                        if let Some((mut program, reply)) = job.take() {
                            reply.send_result(program.ended());
                        }
                    });
                });
            }
            Err(error) => reply.fail(error.into()),
        })
    }
}

/// A running program. Dropping it kills and reaps it.
struct Program(Child);

impl Program {
    fn ended(&mut self) -> Result<Ended, JobError> {
        let status = self.0.wait()?;
        Ok(Ended {
            code: status.code(),
            signal: status.signal(),
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has ended already, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program. Returns two copies of its pidfd, which is readable when it has ended.
fn start(
    program: &str,
    arguments: &[String],
    input: OwnedFd,
    output: OwnedFd,
) -> io::Result<(Program, OwnedFd, OwnedFd)> {
    let mut command = Command::new(program);
    let program = Program(
        command
            .args(arguments)
            .stdin(input)
            .stdout(output)
            .spawn()?,
    );
    let pidfd = pidfd_open(Pid::from_child(&program.0), PidfdFlags::empty())?;
    let killer = pidfd.try_clone()?;
    Ok((program, pidfd, killer))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("job_server-{}.sock", process::id()));
    let mut server = Server::new(Limits::default())?;
    let own = geteuid().as_raw();
    server
        .bind(&path, Kind::Seqpacket)?
        .authorize(move |peer| peer.uid() == own)
        .serve::<dyn Jobs>();
    let handle = server.handle();
    let mut runner = Runner(handle.clone());
    let client = thread::spawn(move || {
        let done = client(&path).map_err(|error| error.to_string());
        handle.stop();
        done
    });
    server.run(&mut runner)?;
    client.join().map_err(|_| "the client panicked")??;
    Ok(())
}

fn client(path: &Path) -> Result<(), Box<dyn Error>> {
    let jobs = JobsClient::new(Connection::open(path)?.without_timeout()).start();
    let mut out = io::stdout();

    // The first waits for its input. The second ends long before it.
    let (sort_in, mut input) = pipe()?;
    let (mut sorted, sort_out) = pipe()?;
    let first = jobs.run("sort", [], sort_in, sort_out)?;
    let (mut said, say) = pipe()?;
    let script = ["-c", "echo quick; kill $$"].map(String::from);
    let second = jobs.run("sh", script, File::open("/dev/null")?, say)?;
    let ended = second.wait()?;
    writeln!(out, "the second said {:?}: {ended:?}", read(&mut said)?)?;
    input.write_all(b"b\na\n")?;
    drop(input);
    let ended = first.wait()?;
    writeln!(out, "the first said {:?}: {ended:?}", read(&mut sorted)?)?;

    // A cancelled call stops its program.
    let (cat_in, mut input) = pipe()?;
    let (mut said, cat_out) = pipe()?;
    let third = jobs.run("cat", vec![], cat_in, cat_out)?;
    input.write_all(b"begun")?;
    said.read_exact(&mut [0; 5])?;
    drop(third);
    // It ends, although its input does not.
    let rest = read(&mut said)?;
    writeln!(
        out,
        "the third was killed when its call was dropped, and said {rest:?} more"
    )?;

    let (_, say) = pipe()?;
    let fourth = jobs.run("/no-such-program", vec![], File::open("/dev/null")?, say)?;
    match fourth.wait() {
        Err(CallError::Service(error)) => Ok(writeln!(out, "the fourth was not run: {error}")?),
        other => Err(format!("{other:?}").into()),
    }
}

/// Creates a pipe: the first descriptor reads what is written to the second.
fn pipe() -> io::Result<(File, File)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((reader.into(), writer.into()))
}

fn read(from: &mut File) -> io::Result<String> {
    let mut text = String::new();
    from.read_to_string(&mut text)?;
    Ok(text)
}
