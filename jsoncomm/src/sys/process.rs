//! Process identity, without a system call each time, processes that are started, and the replacement of this one by another
//! program.

use std::convert::Infallible;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::control::forks;
use super::epoll::Watch;
use super::file::own_pid;
use super::optional::Optional;
use super::{OsError, OsResult, call, call_io, none_if, wait};

/// Replaces this program by another one ([execve(2)]). Returns the error if that fails.
///
/// [execve(2)]: https://man7.org/linux/man-pages/man2/execve.2.html
pub(crate) fn exec(command: &mut Command) -> OsError {
    let Err(error) = call_io::<Infallible>("execve", || Err(command.exec()));
    error
}

/// The process in which an object was made.
///
/// A child of fork(2) copies its parent's memory and shares the kernel objects behind it. Most of these must then be
/// left alone: see [`is_own_process`](Self::is_own_process).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(
    /// Forks between the first process that asked and this one; the process id where forks cannot be counted.
    u32,
);

impl Origin {
    /// Returns the current process.
    #[inline]
    pub(crate) fn here() -> Self {
        Self(forks().unwrap_or_else(|| own_pid().unsigned_abs()))
    }

    /// Returns true if this is the current process, false in a forked child. Costs no system call where forks are
    /// counted.
    #[inline]
    pub(crate) fn is_own_process(self) -> bool {
        self == Self::here()
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::here()
    }
}

/// Returns the id of the parent process, as `SO_PEERCRED` reports it: 0 if it is not visible in this pid namespace.
pub(crate) fn getppid() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// Starts a program, and waits until the child has called execve(2).
pub(crate) fn spawn(command: &mut Command) -> OsResult<Child> {
    call_io("execve", || command.spawn())
}

static PIDFD: Optional = Optional::new("pidfd_open");

/// Returns a pidfd of a child that has not been waited for, close-on-exec ([pidfd_open(2)], since Linux 5.3). `None` before,
/// in a sandbox that forbids it, and where descriptors have run out.
///
/// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
pub(crate) fn pidfd_of(child: &Child) -> Option<OwnedFd> {
    let open = || rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty());
    let opened = PIDFD.call(|| call("pidfd_open", open));
    opened.ok().flatten()
}

static SEND_SIGNAL: Optional = Optional::new("pidfd_send_signal");

/// Sends SIGKILL to a child, by its pidfd where there is one. Does nothing if it has been waited for.
pub(crate) fn kill(child: &mut Child, pidfd: Option<BorrowedFd<'_>>) -> OsResult<()> {
    if let Some(pidfd) = pidfd {
        let send = || rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        let sent = SEND_SIGNAL.call(|| none_if(Errno::SRCH, call("pidfd_send_signal", send)))?;
        if sent.is_some() {
            return Ok(());
        }
    }
    // Its number is not that of another process before it has been waited for.
    call_io("kill", || child.kill())
}

/// Waits until a child has ended, without limit.
pub(crate) fn wait_for(child: &mut Child) -> OsResult<ExitStatus> {
    call_io("waitpid", || child.wait())
}

/// Waits until a child has ended or `deadline` has passed: then `None`.
pub(crate) fn wait_until(
    child: &mut Child,
    pidfd: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> OsResult<Option<ExitStatus>> {
    const LONGEST: Duration = Duration::from_millis(100);
    let (mut pidfd, mut pause) = (pidfd, Duration::from_millis(1));
    loop {
        let status = call_io("waitpid", || child.try_wait())?;
        let left = deadline.saturating_duration_since(Instant::now());
        if status.is_some() || left.is_zero() {
            return Ok(status);
        }
        // Once only: a debugger may be the first to be told of the end.
        match pidfd.take() {
            Some(pidfd) => {
                let _ = wait::poll(pidfd, Watch::Reading, Some(deadline))?;
            }
            None => {
                wait::pause(pause.min(left));
                pause = LONGEST.min(pause * 2);
            }
        }
    }
}
