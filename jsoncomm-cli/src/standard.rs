//! The three standard descriptors, as they were when the process was started.
//!
//! Rust's runtime opens `/dev/null` in place of a closed one, and reports a write to a standard output that is not open
//! for writing as successful: output would be lost without an error.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, fcntl_getfd};

use crate::problem::Problem;

/// Which of them were closed.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

// Runs before `main`, and so before the runtime opens anything.
ctor::declarative::ctor! {
    #[ctor(unsafe)]
    fn look() {
        let all = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        for (fd, closed) in all.into_iter().zip(&CLOSED) {
            closed.store(fcntl_getfd(fd) == Err(Errno::BADF), Ordering::Relaxed);
        }
    }
}

/// Returns true if the descriptor of this number was closed.
fn is_closed(number: usize) -> bool {
    let closed = CLOSED.get(number);
    closed.is_some_and(|closed| closed.load(Ordering::Relaxed))
}

/// Duplicates a standard descriptor by its number.
pub(crate) fn duplicate(number: usize) -> io::Result<OwnedFd> {
    if is_closed(number) {
        let error = io::Error::new(io::ErrorKind::NotFound, "it is closed");
        return Err(error);
    }
    match number {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    }
}

/// Fails if standard output cannot be written to, before any work whose result would be lost.
pub(crate) fn check_output() -> Result<(), Problem> {
    check(1, io::stdout().as_fd()).map_err(Problem::Output)
}

/// Fails if standard error cannot be written to, if the reply is written there.
pub(crate) fn check_error() -> Result<(), Problem> {
    check(2, io::stderr().as_fd()).map_err(Problem::ErrorOutput)
}

fn check(number: usize, fd: BorrowedFd<'_>) -> io::Result<()> {
    if is_closed(number) {
        return Err(io::Error::other("it is closed"));
    }
    check_writable(fd)
}

/// Fails if a descriptor is not open for writing.
pub(crate) fn check_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    match fcntl_getfl(fd)? & OFlags::RWMODE {
        OFlags::RDONLY => Err(io::Error::other("it is open for reading only")),
        _ => Ok(()),
    }
}

/// Writes all of it, even if the descriptor is non-blocking: another process may have set `O_NONBLOCK`.
pub(crate) fn write(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&fd, PollFlags::OUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads what is available, or waits for it; 0 is the end of file.
pub(crate) fn read(fd: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(&fd, &mut *bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&fd, PollFlags::IN)?,
            read => return Ok(read?),
        }
    }
}

fn wait(fd: impl AsFd, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(&fd, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
