//! Child processes: programs that are started with a connection to this one.
//!
//! | the parent | the child | calls are made by |
//! |---|---|---|
//! | [`Connection::spawn`] | [`Server::adopt_parent`] | the parent |
//! | [`Server::spawn`] | [`Connection::from_parent`] | the child |
//!
//! The two ends of a new pair of seqpacket sockets connect the processes. The child inherits its end and, of what this library
//! opens, nothing else; no program that another thread starts at the same time inherits it. The environment variable
//! [`PARENT_FD`] has its number, which is the same in both processes and above those of the standard streams.
//!
//! The child takes its end over once. It must have been started by the very process that made the pair, which the kernel
//! reports ([`NoParent`](crate::Error::NoParent) otherwise). So a program that the child starts cannot take it over by accident,
//! nor can one that inherits the variable only. A shell or a wrapper between the two has to `exec` the program. One that forks
//! instead, such as bwrap(1) or strace(1), needs the number passed on and [`inherited_fd`](crate::fds::inherited_fd). Until the
//! child takes its end over, programs that it starts inherit it as well, and keep the connection open: do that first.
//!
//! # The end of a child
//!
//! | event | what happens |
//! |---|---|
//! | the parent drops its connection, or ends in any way | [`run`](crate::Server::run) of the child's server returns; calls of the child end with [`Closed`](crate::CallError::Closed) |
//! | the parent drops the [`Child`] | its connection is closed; after a [grace period](Child::set_grace) the child is killed |
//! | the child ends | calls of the parent end with `Closed`; the [`Child`] is to be waited for or dropped, which leaves no zombie |
//!
//! Nothing here handles SIGCHLD or looks at other children. A program that ignores SIGCHLD gets no exit status.
//!
//! # Examples
//!
//! A program that starts itself as its worker:
//!
//! ```
//! use jsoncomm::{Connection, Limits, Server};
//! use std::process::Command;
//!
//! #[jsoncomm::service(name = "example.sums")]
//! trait Sums {
//!     fn add(&mut self, a: u64, b: u64) -> u64;
//! }
//!
//! struct Worker;
//!
//! impl Sums for Worker {
//!     fn add(&mut self, a: u64, b: u64) -> u64 { a + b }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     if std::env::args().any(|word| word == "--worker") {
//!         let mut server = Server::new(Limits::default())?;
//!         server.adopt_parent()?.serve::<dyn Sums>();
//!         return Ok(server.run(&mut Worker)?); // until the parent has gone
//!     }
//!     let mut command = Command::new("/proc/self/exe");
//!     command.arg("--worker");
//!     let (connection, mut worker) = Connection::spawn(command)?;
//!     let sums = SumsClient::new(connection);
//!     assert_eq!(sums.add(30, 4)?, 34);
//!     assert!(worker.wait()?.success()); // closes the connection
//!     Ok(())
//! }
//! ```
//!
//! [`Connection::spawn`]: crate::Connection::spawn
//! [`Connection::from_parent`]: crate::Connection::from_parent
//! [`Server::spawn`]: crate::Server::spawn
//! [`Server::adopt_parent`]: crate::Server::adopt_parent

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{env, process};

use crate::error::Error;
use crate::fds::inherit;
use crate::sys::control::{Numbered, peer_credentials, take_number};
use crate::sys::file::STDERR;
use crate::sys::process as sys;
use crate::sys::process::Origin;
use crate::sys::socket::{Kind, Shutdown, shut_down, socketpair};
use crate::sys::{OsResult, SocketType, UNIX, is_socket, opaque_debug};

/// The environment variable with the number of the descriptor that connects a process to its parent: `JSONCOMM_PARENT_FD`.
///
/// It means something only in the process that was started with it. It is not removed when the descriptor is taken over,
/// since no program with threads can do that safely. Programs in other languages check that the descriptor is a connected
/// seqpacket socket, that the process of its `SO_PEERCRED` is their parent, and that it is not close-on-exec, which they set.
pub const PARENT_FD: &str = "JSONCOMM_PARENT_FD";

/// How long a child has to end when its [`Child`] is dropped, by default.
const GRACE: Duration = Duration::from_secs(1);

/// A process that this one has started, and whose end it has to see to.
///
/// Made by [`Connection::spawn`](crate::Connection::spawn) and [`Server::spawn`](crate::Server::spawn), or of a
/// [`std::process::Child`], which has no connection.
///
/// # Dropping
///
/// Dropping it ends the child:
///
/// 1. The parent's end of the connection is shut down for sending, for all clones. The child receives what was sent
///    before, and its replies still arrive. Then its server stops.
/// 2. The child has a [grace period](Child::set_grace) of 1 s to end, for which the drop waits.
/// 3. If it has not ended, it is killed with SIGKILL.
///
/// There is no zombie in any case. Where the wait would block a loop, [`kill`](Child::kill) the child before, or set a grace
/// period of zero. A [`pidfd`](Child::pidfd) can be watched for the end, and a child that has ended is dropped without waiting.
///
/// # Forked processes
///
/// In a forked child ([fork(2)]) its methods fail with [`Error::Forked`], and dropping the copy does nothing.
///
/// [fork(2)]: https://man7.org/linux/man-pages/man2/fork.2.html
pub struct Child {
    /// The child's standard input, if the command has made it a pipe. Waiting closes it.
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, if the command has made it a pipe.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, if the command has made it a pipe.
    pub stderr: Option<ChildStderr>,
    process: process::Child,
    pidfd: Option<OwnedFd>,
    /// The parent's end, while something has it open.
    connection: Weak<OwnedFd>,
    grace: Duration,
    origin: Origin,
}

opaque_debug!(Child);

impl Child {
    /// Waits until the child has ended, without limit. Returns its exit status, again if called again.
    ///
    /// Closes the connection before, as dropping does, and `stdin`: the child could wait for either.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if [waitpid(2)] fails: the program ignores SIGCHLD or waits for all children elsewhere. The exit status is
    /// lost. [`Error::Forked`] in a forked process.
    ///
    /// [waitpid(2)]: https://man7.org/linux/man-pages/man2/waitpid.2.html
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.check_process()?;
        self.close();
        Ok(sys::wait_for(&mut self.process)?)
    }

    /// Waits until the child has ended or `deadline` has passed: then it returns `None`, and the child is unchanged.
    ///
    /// Closes the connection and `stdin` before, as [`wait`](Child::wait) does.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Child::wait).
    pub fn wait_by(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, Error> {
        self.check_process()?;
        self.close();
        Ok(self.wait_until(deadline)?)
    }

    /// Returns the exit status if the child has ended. Neither waits nor closes anything.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.check_process()?;
        Ok(self.wait_until(Instant::now())?)
    }

    /// Sends SIGKILL to the child, which has to be waited for or dropped then. Does nothing if it has ended.
    ///
    /// The signal goes by the [`pidfd`](Child::pidfd), or by the process id, which is the child's until it has been waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if a sandbox forbids it or the child has another user; [`Error::Forked`] in a forked process.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.check_process()?;
        let pidfd = self.pidfd.as_ref().map(AsFd::as_fd);
        Ok(sys::kill(&mut self.process, pidfd)?)
    }

    /// Sets how long dropping waits for the child to end before it is killed. Zero kills it at once.
    pub fn set_grace(&mut self, time: Duration) {
        self.grace = time;
    }

    /// Returns the process id. Once the child has been waited for, another process may have it.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the child's pidfd: close-on-exec, and readable once the child has ended ([pidfd_open(2)]). A clone of it can be
    /// watched by [`Server::watch`](crate::Server::watch).
    ///
    /// `None` before Linux 5.3, where a sandbox forbids it, and if descriptors had run out. Then the methods here look for the
    /// end in intervals of up to 100 ms.
    ///
    /// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
    #[doc(alias = "pidfd_open")]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Tells the child that nothing more will be sent.
    fn close(&mut self) {
        if let Some(connection) = self.connection.upgrade() {
            // It cannot fail on a connected unix socket; if the child has gone, nothing is to be told.
            let _ = shut_down(connection.as_fd(), Shutdown::Write);
        }
        self.connection = Weak::new();
        self.stdin = None;
    }

    fn wait_until(&mut self, deadline: Instant) -> OsResult<Option<ExitStatus>> {
        let pidfd = self.pidfd.as_ref().map(AsFd::as_fd);
        sys::wait_until(&mut self.process, pidfd, deadline)
    }

    fn check_process(&self) -> Result<(), Error> {
        let here = self.origin.is_own_process();
        here.then_some(()).ok_or(Error::Forked)
    }

    /// Makes dropping and waiting close this connection.
    pub(crate) fn closes(&mut self, connection: &Arc<OwnedFd>) {
        self.connection = Arc::downgrade(connection);
    }
}

impl From<process::Child> for Child {
    /// Takes over a process that was started otherwise and has not been waited for. It has no connection that could be closed;
    /// dropping waits for its end, and kills it after the [grace period](Child::set_grace).
    fn from(mut process: process::Child) -> Self {
        Self {
            stdin: process.stdin.take(),
            stdout: process.stdout.take(),
            stderr: process.stderr.take(),
            pidfd: sys::pidfd_of(&process),
            process,
            connection: Weak::new(),
            grace: GRACE,
            origin: Origin::here(),
        }
    }
}

impl Drop for Child {
    /// Ends the child; see [Dropping](Child#dropping).
    fn drop(&mut self) {
        if self.check_process().is_err() {
            return;
        }
        self.close();
        let deadline = Instant::now().checked_add(self.grace);
        let ended = match deadline {
            Some(deadline) => self.wait_until(deadline),
            None => sys::wait_for(&mut self.process).map(Some),
        };
        // An error says that the child has been waited for elsewhere, so that its number may be another's.
        if matches!(ended, Ok(None)) && self.kill().is_ok() {
            let _ = sys::wait_for(&mut self.process);
        }
    }
}

/// Starts a program with one end of a new pair of sockets, and returns the other.
///
/// Waits until the child has called execve(2).
pub(crate) fn spawn(mut command: Command) -> Result<(OwnedFd, Child), Error> {
    let (near, far) = socketpair(Kind::Seqpacket)?;
    let number = inherit(&mut command, far).map_err(|source| Error::Os {
        operation: "fcntl",
        source,
    })?;
    command.env(PARENT_FD, number.to_string());
    let started = sys::spawn(&mut command).map_err(|error| Error::Spawn {
        program: format!("{:?}", command.get_program()),
        source: error.into(),
    })?;
    // Dropping the command closes the child's end here.
    Ok((near, Child::from(started)))
}

/// Takes over the connection to the parent process.
pub(crate) fn take_parent() -> Result<OwnedFd, Error> {
    let none = |reason| Error::NoParent { reason };
    let value = env::var_os(PARENT_FD).ok_or_else(|| none("JSONCOMM_PARENT_FD is not set"))?;
    let number = value.to_str().and_then(|number| number.parse().ok());
    let number = number
        .filter(|number| *number > STDERR)
        .ok_or_else(|| none("JSONCOMM_PARENT_FD is not a number above 2"))?;
    let mut refusal = "";
    let taken = take_number(number, |fd| {
        refusal = flaw(fd).unwrap_or_default();
        refusal.is_empty()
    });
    match taken? {
        Numbered::Inherited(fd) => Ok(fd),
        Numbered::Refused => Err(none(refusal)),
        Numbered::CloseOnExec => Err(none("the descriptor has been taken over already")),
        Numbered::Closed => Err(none("the descriptor is not open")),
    }
}

/// Returns why a descriptor is no connection to the parent; `None` if it is one.
fn flaw(fd: BorrowedFd<'_>) -> Option<&'static str> {
    if !is_socket(fd, UNIX, SocketType::SEQPACKET, false) {
        return Some("the descriptor is not a seqpacket connection");
    }
    let maker = peer_credentials(fd).map(|peer| peer.pid);
    (maker != Ok(sys::getppid())).then_some(
        "the parent has ended, or the connection is that of another process to its own child",
    )
}
