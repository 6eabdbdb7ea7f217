//! Files and directories: what binding to a path and unlinking it again needs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

/// Which file a name leads to: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl From<Stat> for Identity {
    fn from(stat: Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// Sets `FD_CLOEXEC`.
pub(crate) fn set_cloexec(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?)
}

/// Opens a directory to stand in, without the right to list it (`O_PATH`, [open(2)]).
///
/// [open(2)]: https://man7.org/linux/man-pages/man2/open.2.html
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Takes hold of whatever file `path` leads to, without opening it (`O_PATH`).
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Names what the descriptor holds by a path, for calls that take nothing else ([proc_pid_fd(5)]). `None`
/// where `/proc` is not mounted, or is something else.
///
/// [proc_pid_fd(5)]: https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
pub(crate) fn proc_name(fd: BorrowedFd<'_>) -> Option<OsString> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let there = Identity::from(rustix::fs::stat(&*path).ok()?);
    let here = Identity::from(rustix::fs::fstat(fd).ok()?);
    (there == here).then(|| path.into())
}

/// Says which socket file `name` is in `directory`; `None` when it is missing or no socket. A symbolic
/// link is not followed.
pub(crate) fn socket_identity(
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<Option<Identity>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
            Ok(Some(stat.into()))
        }
        Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes the name from the directory.
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
}
