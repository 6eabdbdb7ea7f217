//! Watching descriptors level-triggered ([epoll(7)]): what is ready is reported until it is not.
//!
//! mio only watches for edges. Its events are told apart by a number, which is the caller's to choose here.
//!
//! [epoll(7)]: https://man7.org/linux/man-pages/man7/epoll.7.html

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::seam;

/// What to watch for; errors and hang-ups are reported in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// `EPOLLIN`
    Reading,
    /// `EPOLLOUT`
    Writing,
    /// No more than is reported in any case.
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

/// Begins to watch a descriptor (`EPOLL_CTL_ADD`).
pub(crate) fn add(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    number: u64,
    what: For,
) -> io::Result<()> {
    seam("epoll_ctl")?;
    Ok(epoll::add(
        epoll,
        fd,
        EventData::new_u64(number),
        what.into(),
    )?)
}

/// Watches it for something else (`EPOLL_CTL_MOD`).
pub(crate) fn modify(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    number: u64,
    what: For,
) -> io::Result<()> {
    seam("epoll_ctl")?;
    Ok(epoll::modify(
        epoll,
        fd,
        EventData::new_u64(number),
        what.into(),
    )?)
}

/// Does not watch it any more (`EPOLL_CTL_DEL`).
pub(crate) fn delete(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    seam("epoll_ctl")?;
    Ok(epoll::delete(epoll, fd)?)
}
