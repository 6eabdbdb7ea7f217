//! System calls under their manual-page names.
//!
//! Each function makes one system call, or the few that belong together. All take and return safe types, so that the
//! modules above name neither rustix nor libc. Only [`control`] contains `unsafe`.
//!
//! Every call that can fail goes through [`call`], which names it in its error and lets tests make it fail.

pub(crate) mod control;
pub(crate) mod diag;
pub(crate) mod epoll;
pub(crate) mod file;
#[cfg(test)]
pub(crate) mod inject;
pub(crate) mod inotify;
pub(crate) mod kind;
pub(crate) mod limit;
pub(crate) mod link;
pub(crate) mod memfd;
pub(crate) mod name;
mod optional;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod wait;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

pub(crate) use file::{PipeEnd, is_pipe, set_cloexec};
pub(crate) use socket::{INET, SocketType, UNIX, is_socket};

/// Locks a mutex under which no panic leaves anything half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Implements `Debug` so that it prints the type's name alone: its fields may hold what a peer has sent, or cannot be
/// printed.
macro_rules! opaque_debug {
    ($name:ident $(<$($parameter:tt),+>)?) => {
        impl $(<$($parameter),+>)? std::fmt::Debug for $name $(<$($parameter),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use opaque_debug;

/// A system call that failed, and the error number that it reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {errno}")]
pub(crate) struct OsError {
    /// The manual-page name of the call.
    pub(crate) operation: &'static str,
    errno: Errno,
}

/// Result of a system call.
pub(crate) type OsResult<T> = Result<T, OsError>;

impl OsError {
    /// Returns the standard library's category of the error.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.errno.kind()
    }
}

impl From<OsError> for io::Error {
    fn from(error: OsError) -> Self {
        error.errno.into()
    }
}

/// Makes one system call. In tests, a planned fault takes its place ([`inject`]).
#[inline(always)]
pub(crate) fn call<T>(
    operation: &'static str,
    make: impl FnOnce() -> Result<T, Errno>,
) -> OsResult<T> {
    #[cfg(test)]
    if let Err(errno) = inject::count(operation) {
        return Err(OsError { operation, errno });
    }
    make().map_err(|errno| OsError { operation, errno })
}

/// Makes a system call again until no signal interrupts it.
///
/// Not for calls that wait, whose caller has to compute the remaining time, and never for close(2), which has closed
/// the descriptor.
fn retry<T>(operation: &'static str, mut make: impl FnMut() -> Result<T, Errno>) -> OsResult<T> {
    loop {
        match call(operation, &mut make) {
            Err(error) if error.errno == Errno::INTR => {}
            result => return result,
        }
    }
}

/// Turns one expected error into `None`.
fn none_if<T>(errno: Errno, result: OsResult<T>) -> OsResult<Option<T>> {
    match result {
        Err(error) if error.errno == errno => Ok(None),
        result => result.map(Some),
    }
}

/// Makes a system call of another library.
pub(crate) fn call_io<T>(
    operation: &'static str,
    make: impl FnOnce() -> io::Result<T>,
) -> OsResult<T> {
    call(operation, || {
        make().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })
}
