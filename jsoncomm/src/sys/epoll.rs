//! Readiness of descriptors ([epoll(7)]), level- or edge-triggered.
//!
//! mio offers edge-triggered readiness only. The caller chooses the number that identifies an event.
//!
//! [epoll(7)]: https://man7.org/linux/man-pages/man7/epoll.7.html

use std::os::fd::BorrowedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::{OsResult, call};

/// What a descriptor is watched for. Errors and hang-ups are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// A message or the end of the stream.
    Reading,
    /// Room to send. While output waits, nothing is read.
    Writing,
    /// Errors and hang-ups only.
    HangUp,
    /// Reading or writing, whichever is possible first.
    Either,
}

/// When a ready descriptor is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// When it becomes ready, or is watched again (`EPOLLET`).
    Edge,
    /// For as long as it is ready.
    Level,
}

/// Changes what a descriptor is watched for; `None` is not at all ([epoll_ctl(2)]).
///
/// [epoll_ctl(2)]: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html
pub(crate) fn change(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    number: u64,
    before: Option<Watch>,
    after: Option<(Watch, Trigger)>,
) -> OsResult<()> {
    let data = EventData::new_u64(number);
    let mut flags = match after {
        Some((Watch::Reading, _)) => EventFlags::IN,
        Some((Watch::Writing, _)) => EventFlags::OUT,
        Some((Watch::Either, _)) => EventFlags::IN | EventFlags::OUT,
        Some((Watch::HangUp, _)) | None => EventFlags::empty(),
    };
    flags.set(EventFlags::ET, matches!(after, Some((_, Trigger::Edge))));
    call("epoll_ctl", || match (before, after) {
        (_, None) => epoll::delete(epoll, fd),
        (None, Some(_)) => epoll::add(epoll, fd, data, flags),
        (Some(_), Some(_)) => epoll::modify(epoll, fd, data, flags),
    })
}
