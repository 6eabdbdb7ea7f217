//! Waiting: [poll(2)] for one descriptor, and a [timerfd_create(2)] for an event loop.
//!
//! [poll(2)]: https://man7.org/linux/man-pages/man2/poll.2.html
//! [timerfd_create(2)]: https://man7.org/linux/man-pages/man2/timerfd_create.2.html

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use super::epoll::Watch;
use super::{OsResult, call};

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the wait may have ended at its deadline"]
pub(crate) enum WaitOutcome {
    /// The descriptor is ready.
    Ready,
    /// The deadline has passed.
    TimedOut,
}

/// Waits until the descriptor is ready or `deadline` has passed. A signal does not end the wait.
pub(crate) fn poll(
    fd: BorrowedFd<'_>,
    what: Watch,
    deadline: Option<Instant>,
) -> OsResult<WaitOutcome> {
    let flags = match what {
        Watch::Reading => PollFlags::IN,
        Watch::Writing => PollFlags::OUT,
        Watch::HangUp => PollFlags::empty(),
        Watch::Either => PollFlags::IN | PollFlags::OUT,
    };
    loop {
        let left = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        match call("poll", || rustix::event::poll(&mut fds, left.as_ref())) {
            Ok(0) => return Ok(WaitOutcome::TimedOut),
            Ok(_) => return Ok(WaitOutcome::Ready),
            Err(error) if error.errno == Errno::INTR => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sleeps for `time`. A signal ends it early.
pub(crate) fn pause(time: Duration) {
    let _ = rustix::event::poll(&mut [], Some(&timespec(time)));
}

/// Converts a duration, saturating at the longest time of the kernel.
fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Makes a disarmed timer descriptor on the monotonic clock.
pub(crate) fn timerfd() -> OsResult<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    call("timerfd_create", || {
        rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)
    })
}

/// Arms the timer to become readable once, `after` from now; `None` disarms it.
pub(crate) fn timerfd_settime(timer: BorrowedFd<'_>, after: Option<Duration>) -> OsResult<()> {
    // All zeroes would disarm it, so "at once" is a nanosecond.
    let after = after.map(|time| time.max(Duration::from_nanos(1)));
    let spec = Itimerspec {
        it_interval: timespec(Duration::ZERO),
        it_value: timespec(after.unwrap_or_default()),
    };
    call("timerfd_settime", || {
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &spec)
    })?;
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
        assert_eq!(
            poll(timer.as_fd(), Watch::Reading, Some(soon)),
            Ok(WaitOutcome::TimedOut)
        );
        timerfd_settime(timer.as_fd(), Some(Duration::ZERO)).unwrap();
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(
            poll(timer.as_fd(), Watch::Reading, Some(later)),
            Ok(WaitOutcome::Ready)
        );
        timerfd_settime(timer.as_fd(), None).unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(
            poll(timer.as_fd(), Watch::Reading, Some(soon)),
            Ok(WaitOutcome::TimedOut)
        );
    }
}
