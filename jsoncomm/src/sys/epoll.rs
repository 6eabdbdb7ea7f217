//! Level-triggered readiness ([epoll(7)]): a descriptor is reported for as long as it is ready.
//!
//! mio offers edge-triggered readiness only. The caller chooses the number that identifies an event.
//!
//! [epoll(7)]: https://man7.org/linux/man-pages/man7/epoll.7.html

use std::os::fd::BorrowedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::{OsError, call};

/// What to watch for. Errors and hang-ups are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// `EPOLLIN`
    Reading,
    /// `EPOLLOUT`
    Writing,
    /// Errors and hang-ups only.
    HangUp,
}

impl From<For> for EventFlags {
    fn from(what: For) -> Self {
        match what {
            For::Reading => Self::IN,
            For::Writing => Self::OUT,
            For::HangUp => Self::empty(),
        }
    }
}

/// Starts watching a descriptor (`EPOLL_CTL_ADD`).
pub(crate) fn add(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    number: u64,
    what: For,
) -> Result<(), OsError> {
    let data = EventData::new_u64(number);
    call("epoll_ctl", || epoll::add(epoll, fd, data, what.into()))
}

/// Changes what a descriptor is watched for (`EPOLL_CTL_MOD`).
pub(crate) fn modify(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    number: u64,
    what: For,
) -> Result<(), OsError> {
    let data = EventData::new_u64(number);
    call("epoll_ctl", || epoll::modify(epoll, fd, data, what.into()))
}

/// Stops watching a descriptor (`EPOLL_CTL_DEL`).
pub(crate) fn delete(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), OsError> {
    call("epoll_ctl", || epoll::delete(epoll, fd))
}
