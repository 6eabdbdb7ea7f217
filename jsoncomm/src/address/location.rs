//! The file of a bound socket: where it is, and its removal.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::too_long;
use crate::error::AddressProblem;
use crate::sys::OsError;
use crate::sys::file::{self, Entry, Identity};
use crate::sys::name::{self, Name};
use crate::sys::process::Origin;
use crate::sys::socket::{self, Probe};
use crate::sys::wait;

/// The place of a file to bind.
///
/// The directory is open, so that the file is found after `chdir` and after a mount over its path.
#[derive(Debug)]
pub(super) struct Location {
    pub(super) directory: OwnedFd,
    pub(super) file: OsString,
    /// The whole path, for the kernel.
    pub(super) name: Name,
}

impl Location {
    /// Opens the file that is there now.
    pub(super) fn entry(&self) -> Result<Option<Entry>, OsError> {
        file::entry(self.directory.as_fd(), &self.file)
    }

    /// The identity of the socket that is there now.
    pub(super) fn identity(&self) -> Result<Option<Identity>, OsError> {
        file::socket_identity(self.directory.as_fd(), &self.file)
    }

    /// Tests whether a process has the socket open. If `/proc` is mounted, it is the very socket of `entry`.
    pub(super) fn probe(&self, entry: &Entry) -> Result<Probe, OsError> {
        let through = file::proc_name(entry.file.as_fd());
        let name = through.and_then(|path| Name::from_path(&path));
        socket::probe(&name.unwrap_or(self.name))
    }

    /// Removes the file if it is still this one.
    ///
    /// The caller has an [`Entry`] of it or the socket bound to it, which keeps the inode number from being reused.
    pub(super) fn remove(&self, identity: Identity) -> Result<(), OsError> {
        if self.identity()? == Some(identity) {
            file::unlink(self.directory.as_fd(), &self.file)?;
        }
        Ok(())
    }
}

/// Names a file in a directory whose path is too long for the kernel.
pub(super) fn name_within(directory: BorrowedFd<'_>, file: &OsStr) -> Result<Name, AddressProblem> {
    let mut path = file::proc_name(directory).ok_or(AddressProblem::NoProc)?;
    path.push("/");
    let limit = name::PATH_MAX.saturating_sub(path.len());
    path.push(file);
    Name::from_path(&path).ok_or(too_long(file.len(), limit))
}

/// The lock of a directory in which dead sockets are replaced, or of a registry.
pub(super) struct Lock(OwnedFd);

impl Lock {
    /// Locks a file or directory. Waits up to a second; `None` if another process has the lock for longer.
    pub(super) fn acquire(fd: OwnedFd) -> Result<Option<Self>, OsError> {
        /// A process holds the lock for a few system calls.
        const TIMEOUT: Duration = Duration::from_secs(1);
        const PAUSE: Duration = Duration::from_millis(1);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if file::try_lock(fd.as_fd())? {
                return Ok(Some(Self(fd)));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            wait::pause(PAUSE);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread is starting may have a copy.
        file::unlock(self.0.as_fd());
    }
}

/// What holds the address of a bound socket. It must be dropped before the socket is closed.
#[derive(Debug)]
pub(crate) enum Bound {
    /// The file.
    Path(BoundPath),
    /// The abstract name in the other types of socket.
    Name(Vec<OwnedFd>),
}

/// A file that another process is to remove, without its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketFile {
    pub(crate) name: OsString,
    pub(crate) identity: Identity,
}

impl Bound {
    /// Takes over what another process [gave up](Self::give_up).
    pub(crate) fn take_over(file: Option<SocketFile>, mut fds: Vec<OwnedFd>) -> Option<Self> {
        let Some(file) = file else {
            return (!fds.is_empty()).then_some(Self::Name(fds));
        };
        let location = Location {
            directory: fds.pop()?,
            file: file.name,
            name: Name::NONE,
        };
        Some(Self::Path(BoundPath::new(location, file.identity)))
    }

    /// Gives up the address to another process: dropping this removes nothing. Returns the file, if there is one, and the
    /// descriptors that go with it: its directory, or what holds an abstract name.
    pub(crate) fn give_up(self) -> (Option<SocketFile>, Vec<OwnedFd>) {
        match self {
            Self::Path(mut path) => {
                if let Some(entries) = &mut *path.entries {
                    entries.keep();
                }
                let location = path.location.take();
                let file = location.map(|location| {
                    let (name, identity) = (location.file, path.identity);
                    (SocketFile { name, identity }, location.directory)
                });
                let (file, directory): (Option<_>, Option<_>) = file.unzip();
                (file, directory.into_iter().collect())
            }
            Self::Name(others) => (None, others),
        }
    }
}

/// The file of a bound socket. Removes it when dropped, if it is still the same file.
///
/// Once the socket is closed, another server could bind the path between the comparison and the removal.
#[derive(Debug)]
pub(crate) struct BoundPath {
    /// `None` once another process removes it.
    pub(super) location: Option<Location>,
    pub(super) identity: Identity,
    /// The entries of its services, which [`drop`](Self::drop) takes. Dropped there only, as many other places drop a path.
    pub(super) entries: ManuallyDrop<Option<Box<dyn Registered>>>,
    /// The process that has bound it, and removes it.
    origin: Origin,
}

impl BoundPath {
    pub(super) fn new(location: Location, identity: Identity) -> Self {
        Self {
            location: Some(location),
            identity,
            entries: ManuallyDrop::new(None),
            origin: Origin::here(),
        }
    }

    /// Opens the file that is there now.
    pub(super) fn entry(&self) -> Result<Option<Entry>, OsError> {
        self.location.as_ref().map_or(Ok(None), Location::entry)
    }
}

/// Entries of a registry, which dropping removes. Behind a pointer to functions, so that a program that registers nothing does not
/// contain them.
pub(super) trait Registered: fmt::Debug + Send + Sync {
    /// Leaves the entries where they are.
    fn keep(&mut self);
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        // First, so that no client is led to a file that is gone.
        drop(self.entries.take());
        let location = self.location.as_ref();
        if let Some(location) = location.filter(|_| self.origin.is_own_process()) {
            // Not reported: a file that stays is replaced by the next start.
            let _ = location.remove(self.identity);
        }
    }
}
