//! System calls that the library can do without.
//!
//! Older kernels do not have them, and sandboxes forbid them. That is no error of what the program asked for, and it stays
//! so: such a call is tried once in a process.

#[cfg(not(test))]
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::OsResult;

/// A system call, or an option of one, that some kernels and sandboxes do not have.
#[derive(Debug)]
pub(crate) struct Optional {
    /// Distinct among these. Tests remember for each thread which are missing, as they inject faults ([`super::inject`]).
    #[cfg(test)]
    name: &'static str,
    #[cfg(not(test))]
    is_missing: AtomicBool,
    /// Says that this one is missing, and something else in other calls.
    unknown: Option<Errno>,
}

impl Optional {
    #[cfg_attr(not(test), expect(unused_variables, reason = "it is for tests"))]
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            #[cfg(test)]
            name,
            #[cfg(not(test))]
            is_missing: AtomicBool::new(false),
            unknown: None,
        }
    }

    /// Adds an error with which kernels that do not have it answer.
    pub(crate) const fn unknown_if(self, errno: Errno) -> Self {
        let unknown = Some(errno);
        Self { unknown, ..self }
    }

    /// Makes the call. `None` if it is missing: the kernel does not have it or a sandbox forbids it, now or at an earlier
    /// call of this process. Other errors are not remembered, such as a lack of descriptors or memory.
    pub(crate) fn call<T>(&self, make: impl FnOnce() -> OsResult<T>) -> OsResult<Option<T>> {
        if self.is_missing() {
            return Ok(None);
        }
        match make() {
            Err(error) if means_missing(error.errno) || self.unknown == Some(error.errno) => {
                self.set_missing();
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    #[cfg(not(test))]
    fn is_missing(&self) -> bool {
        self.is_missing.load(Ordering::Relaxed)
    }

    #[cfg(not(test))]
    fn set_missing(&self) {
        self.is_missing.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn is_missing(&self) -> bool {
        super::inject::is_missing(self.name)
    }

    #[cfg(test)]
    fn set_missing(&self) {
        super::inject::set_missing(self.name);
    }
}

/// Returns true for the errors with which kernels and sandboxes refuse a call whatever it is about.
fn means_missing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM
            | Errno::NOSYS
            | Errno::NOPROTOOPT
            | Errno::AFNOSUPPORT
            | Errno::PROTONOSUPPORT
            | Errno::OPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    use super::super::control::{self, Wait};
    use super::super::socket::{Kind, raise_sndbuf, sendmsg, socketpair};
    use super::super::{diag, inject, memfd};
    use super::*;
    use crate::sys::inject::Plan;
    use std::os::fd::{AsFd, BorrowedFd};

    /// Asks twice for something optional, while all calls of this name fail. Returns what came of it, how often the call
    /// was made, and whether a third attempt, without faults, makes it.
    fn ask(
        call: &'static str,
        errno: Errno,
        mut ask: impl FnMut() -> OsResult<bool>,
    ) -> ([OsResult<bool>; 2], usize, bool) {
        let times = 0..usize::MAX;
        inject::begin(Some(Plan { call, times, errno }));
        let answers = [ask(), ask()];
        let made = inject::failed();
        inject::end();
        let before = inject::counts()[call];
        let _ = ask();
        (answers, made, inject::counts()[call] > before)
    }

    /// What is optional, and the call that asks for it. The result is whether it is there.
    type Case = (&'static str, fn(BorrowedFd<'_>) -> OsResult<bool>);

    const CASES: [Case; 6] = [
        ("setsockopt", control::refuse_rights),
        ("setsockopt", control::pass_pidfds),
        ("getsockopt", |fd| Ok(control::peer_pidfd(fd).is_some())),
        ("getsockopt", |fd| {
            Ok(control::peer_groups(fd, |_| ()).is_some())
        }),
        ("socket", |fd| Ok(diag::has_peer(fd).is_some())),
        ("setsockopt", |fd| Ok(raise_sndbuf(fd, 250_000)? >= 250_000)),
    ];

    #[test]
    fn what_is_missing_is_tried_once_and_is_no_error() {
        for (call, optional) in CASES {
            for errno in [
                Errno::PERM,
                Errno::NOSYS,
                Errno::NOPROTOOPT,
                Errno::AFNOSUPPORT,
                Errno::PROTONOSUPPORT,
                Errno::OPNOTSUPP,
            ] {
                let (left, _right) = socketpair(Kind::Seqpacket).unwrap();
                let found = ask(call, errno, || optional(left.as_fd()));
                assert_eq!(found, ([Ok(false); 2], 1, false), "{call}: {errno}");
            }
        }
        inject::begin(None);
    }

    #[test]
    fn a_lack_of_descriptors_or_memory_is_not_remembered() {
        for (call, optional) in CASES {
            for errno in [Errno::MFILE, Errno::NOMEM] {
                let (left, _right) = socketpair(Kind::Seqpacket).unwrap();
                let (answers, made, asked_again) = ask(call, errno, || optional(left.as_fd()));
                assert!(!answers.contains(&Ok(true)), "{call}: {errno}");
                assert_eq!((made, asked_again), (2, true), "{call}: {errno}");
            }
        }
        inject::begin(None);
    }

    #[test]
    fn a_kernel_without_unix_diag_is_told_from_a_socket_that_it_does_not_find() {
        let (left, _right) = socketpair(Kind::Datagram).unwrap();
        let (call, errno) = ("recv", Errno::NOENT);
        let asked_again = |times| {
            inject::begin(Some(Plan { call, times, errno }));
            assert_eq!(diag::has_peer(left.as_fd()), None);
            let asked = inject::counts()[call];
            let _ = diag::has_peer(left.as_fd());
            inject::counts()[call] > asked
        };
        let found = asked_again(0..1);
        assert!(!asked_again(0..2), "a new socket is not found either");
        // Some kernels have no unix_diag.
        inject::begin(None);
        assert_eq!(found, diag::has_peer(left.as_fd()).is_some());
    }

    #[test]
    fn a_memfd_is_made_where_the_kernel_knows_no_flag_against_execution() {
        for errno in [Errno::INVAL, Errno::PERM, Errno::NOSYS] {
            let (call, times) = ("memfd_create", 0..1);
            inject::begin(Some(Plan { call, times, errno }));
            for made in [2, 3] {
                let payload = memfd::create(b"{}").unwrap();
                assert_eq!(memfd::size(payload.as_fd()), Ok(Some(2)));
                assert_eq!(inject::counts()[call], made, "{errno}");
            }
        }
        inject::begin(None);
    }

    #[test]
    fn a_sandbox_without_memfds_fails_only_what_needs_one() {
        for errno in [Errno::NOSYS, Errno::PERM, Errno::ACCESS] {
            let (call, times) = ("memfd_create", 0..usize::MAX);
            inject::begin(Some(Plan { call, times, errno }));
            let error = memfd::create(b"{}").unwrap_err();
            assert_eq!((error.operation, error.errno), (call, errno));
            let (left, _right) = socketpair(Kind::Seqpacket).unwrap();
            assert_eq!(sendmsg(left.as_fd(), b"{}", &[], None, Wait::Never), Ok(()));
        }
        inject::begin(None);
    }
}
