//! Waiting for changes of directories ([inotify(7)]).
//!
//! [inotify(7)]: https://man7.org/linux/man-pages/man7/inotify.7.html

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::epoll::Watch;
use super::wait::{WaitOutcome, poll};
use super::{OsResult, call};

/// Directories that are watched.
#[derive(Debug)]
pub(crate) struct Changes(OwnedFd);

impl Changes {
    /// Watches nothing yet.
    pub(crate) fn new() -> OsResult<Self> {
        call("inotify_init1", || inotify::init(CreateFlags::CLOEXEC)).map(Self)
    }

    /// Watches a directory, which this process must be allowed to read: names in it that come and change, and its own
    /// removal. A directory that is closed counts as well, since a server that binds locks its directory until it listens
    /// ([`crate::address::Bind`]).
    pub(crate) fn add(&self, directory: &Path) -> OsResult<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_NOWRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        call("inotify_add_watch", || {
            inotify::add_watch(&self.0, directory, flags)
        })?;
        Ok(())
    }

    /// Waits until something has changed since the directories were added, or the deadline has passed.
    pub(crate) fn wait(&self, deadline: Instant) -> OsResult<WaitOutcome> {
        poll(self.0.as_fd(), Watch::Reading, Some(deadline))
    }
}
