//! Waiting: [poll(2)] for one descriptor, and a [timerfd_create(2)] for an event loop.
//!
//! [poll(2)]: https://man7.org/linux/man-pages/man2/poll.2.html
//! [timerfd_create(2)]: https://man7.org/linux/man-pages/man2/timerfd_create.2.html

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use super::seam;

/// What to wait for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum For {
    /// Something to receive, or the end of the stream.
    Reading,
    /// Room to send, or nobody left to send to.
    Writing,
    /// The deadline, or the end of the connection.
    Nothing,
    /// Whichever comes first.
    Either,
}

/// Waits until the descriptor is ready or `deadline` has passed; says which (`true`: ready).
/// A signal does not end it.
pub(crate) fn poll(fd: BorrowedFd<'_>, what: For, deadline: Option<Instant>) -> io::Result<bool> {
    let flags = match what {
        For::Reading => PollFlags::IN,
        For::Writing => PollFlags::OUT,
        For::Nothing => PollFlags::empty(),
        For::Either => PollFlags::IN | PollFlags::OUT,
    };
    loop {
        let left = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        match seam("poll").and_then(|()| rustix::event::poll(&mut fds, left.as_ref())) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets time pass, for what nothing tells of; a signal ends it early.
pub(crate) fn pause(time: Duration) {
    let _ = rustix::event::poll(&mut [], Some(&timespec(time)));
}

/// Converts, with the longest time the kernel can count for what is longer.
fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Makes a timer descriptor on the monotonic clock, not armed.
pub(crate) fn timerfd() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    seam("timerfd_create")?;
    Ok(rustix::time::timerfd_create(
        TimerfdClockId::Monotonic,
        flags,
    )?)
}

/// Arms the timer to become readable once, `after` from now; `None` disarms it.
pub(crate) fn timerfd_settime(timer: BorrowedFd<'_>, after: Option<Duration>) -> io::Result<()> {
    // All zeroes would disarm it, so "at once" is a nanosecond.
    let after = after.map(|time| time.max(Duration::from_nanos(1)));
    let spec = Itimerspec {
        it_interval: timespec(Duration::ZERO),
        it_value: timespec(after.unwrap_or_default()),
    };
    seam("timerfd_settime")?;
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_timer_becomes_readable_and_poll_keeps_its_deadline() {
        let timer = timerfd().unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        assert!(!poll(timer.as_fd(), For::Reading, Some(soon)).unwrap());
        timerfd_settime(timer.as_fd(), Some(Duration::ZERO)).unwrap();
        let later = Instant::now() + Duration::from_secs(60);
        assert!(poll(timer.as_fd(), For::Reading, Some(later)).unwrap());
        timerfd_settime(timer.as_fd(), None).unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        assert!(!poll(timer.as_fd(), For::Reading, Some(soon)).unwrap());
    }
}
