//! Files and directories: what binding to a path and unlinking it again needs.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

pub(crate) use rustix::fs::FileType;
use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::{OsResult, call, call_io, none_if, retry};

/// Identity of a file: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(pub(crate) u64, pub(crate) u64);

impl From<Stat> for Identity {
    fn from(stat: Stat) -> Self {
        Self(stat.st_dev, stat.st_ino)
    }
}

/// Sets `FD_CLOEXEC`.
pub(crate) fn set_cloexec(fd: BorrowedFd<'_>) -> OsResult<()> {
    let flags = rustix::io::FdFlags::CLOEXEC;
    call("fcntl", || rustix::io::fcntl_setfd(fd, flags))
}

/// The highest number of a standard stream.
pub(crate) const STDERR: RawFd = 2;

/// Duplicates a descriptor, close-on-exec and above the standard streams.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> OsResult<OwnedFd> {
    call("fcntl", || rustix::io::fcntl_dupfd_cloexec(fd, STDERR + 1))
}

/// Returns true if `fd` is this end of a pipe or FIFO. Unlike fstat(2), does not wait for a file system
/// (`F_GETPIPE_SZ`, `F_GETFL`, [fcntl(2)]).
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
pub(crate) fn is_pipe(fd: BorrowedFd<'_>, end: PipeEnd) -> bool {
    let one_way = match end {
        PipeEnd::Reader => OFlags::RDONLY,
        PipeEnd::Writer => OFlags::WRONLY,
    };
    let flags = call("fcntl", || {
        rustix::pipe::fcntl_getpipe_size(fd)?;
        rustix::fs::fcntl_getfl(fd)
    });
    flags.is_ok_and(|flags| [one_way, OFlags::RDWR].contains(&(flags & OFlags::ACCMODE)))
}

/// An end of a pipe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PipeEnd {
    Reader,
    Writer,
}

fn openat(
    directory: BorrowedFd<'_>,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
) -> OsResult<OwnedFd> {
    retry("openat", || {
        rustix::fs::openat(directory, path, flags | OFlags::CLOEXEC, Mode::empty())
    })
}

/// Opens a directory to find files relative to it; needs no right to list it (`O_PATH`, [open(2)]).
///
/// [open(2)]: https://man7.org/linux/man-pages/man2/open.2.html
pub(crate) fn open_directory(path: &Path) -> OsResult<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Gets a descriptor of the file that `path` leads to, without opening the file itself (`O_PATH`).
pub(crate) fn open_path(path: &Path) -> OsResult<OwnedFd> {
    openat(CWD, path, OFlags::PATH)
}

/// Opens a directory to lock it; `PermissionDenied` if it may not be read.
pub(crate) fn open_to_lock(directory: BorrowedFd<'_>) -> OsResult<OwnedFd> {
    openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Returns a path that leads to the descriptor's file, for calls that take paths only ([proc_pid_fd(5)]). `None` if
/// `/proc` is not mounted or is something else.
///
/// [proc_pid_fd(5)]: https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
pub(crate) fn proc_name(fd: BorrowedFd<'_>) -> Option<OsString> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let there = call("stat", || rustix::fs::stat(&*path)).ok()?;
    let here = call("fstat", || rustix::fs::fstat(fd)).ok()?;
    (Identity::from(there) == Identity::from(here)).then(|| path.into())
}

/// Locks the directory exclusively; returns false if another program holds the lock. Never waits ([flock(2)]).
///
/// [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html
pub(crate) fn try_lock(directory: BorrowedFd<'_>) -> OsResult<bool> {
    let lock = || rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive);
    Ok(none_if(Errno::WOULDBLOCK, retry("flock", lock))?.is_some())
}

/// Releases the lock of [`try_lock`], also for copies of the descriptor.
pub(crate) fn unlock(directory: BorrowedFd<'_>) {
    // It cannot fail on a descriptor that is locked, and closing has the same effect.
    let _ = rustix::fs::flock(directory, FlockOperation::Unlock);
}

/// A file in a directory, referred to without being opened (`O_PATH`).
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) file: OwnedFd,
    pub(crate) identity: Identity,
    /// What the file is if not a socket, as a noun with its article.
    pub(crate) other_than_socket: Option<&'static str>,
    pub(crate) sort: FileType,
    /// User id of the owner.
    pub(crate) owner: u32,
    /// Permission bits, and those above them, such as the sticky bit.
    pub(crate) mode: u32,
}

/// Looks up `name` in `directory` without following a symbolic link; `None` if it does not exist.
pub(crate) fn entry(directory: BorrowedFd<'_>, name: &OsStr) -> OsResult<Option<Entry>> {
    let file = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW);
    let Some(file) = none_if(Errno::NOENT, file)? else {
        return Ok(None);
    };
    let stat = call("fstat", || rustix::fs::fstat(&file))?;
    let sort = FileType::from_raw_mode(stat.st_mode);
    Ok(Some(Entry {
        file,
        identity: stat.into(),
        other_than_socket: other_than_socket(sort),
        sort,
        owner: stat.st_uid,
        mode: Mode::from_raw_mode(stat.st_mode).as_raw_mode(),
    }))
}

/// Returns what a path leads to if that is a file other than a socket, as a noun with its article.
pub(crate) fn no_socket(path: &Path) -> Option<&'static str> {
    let stat = call("stat", || rustix::fs::stat(path)).ok()?;
    other_than_socket(FileType::from_raw_mode(stat.st_mode))
}

fn other_than_socket(sort: FileType) -> Option<&'static str> {
    match sort {
        FileType::Socket => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::RegularFile => Some("a file"),
        _ => Some("a special file"),
    }
}

/// The user ids that this process's user namespace maps.
pub(crate) const UID_MAP: &str = "/proc/self/uid_map";
/// The group ids that it maps.
pub(crate) const GID_MAP: &str = "/proc/self/gid_map";

/// Returns true if every id of the kernel is mapped in this process's user namespace ([user_namespaces(7)]), false if
/// that cannot be read.
///
/// [user_namespaces(7)]: https://man7.org/linux/man-pages/man7/user_namespaces.7.html
pub(crate) fn maps_all(map: &str) -> bool {
    call_io("openat", || std::fs::read_to_string(map)).is_ok_and(|map| is_whole(&map))
}

/// Returns true if a map contains all ids, 0 to 2^32 - 2. Each line is a range: first id here, first id in the parent
/// namespace, length. Ranges do not overlap, and those of the parent have to be mapped there.
fn is_whole(map: &str) -> bool {
    let length = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
    map.lines().filter_map(length).sum::<u64>() >= u64::from(u32::MAX)
}

/// Returns this process's id in its own pid namespace, where it is always visible.
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Returns the effective user id, with which files are created and opened.
pub(crate) fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Sets owner and group of a file that any kind of descriptor refers to. Neither may be `u32::MAX`.
pub(crate) fn set_owner(
    file: BorrowedFd<'_>,
    owner: Option<u32>,
    group: Option<u32>,
) -> OsResult<()> {
    let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
    let chown = || rustix::fs::chownat(file, "", owner, group, AtFlags::EMPTY_PATH);
    call("fchownat", chown)
}

/// Sets the permission bits that a socket's file will have once it is bound, less the umask ([unix(7)]).
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn set_mode(socket: BorrowedFd<'_>, mode: u32) -> OsResult<()> {
    let mode = Mode::from_raw_mode(mode);
    call("fchmod", || rustix::fs::fchmod(socket, mode))
}

/// Sets the permission bits of the file at a path, following a symbolic link.
pub(crate) fn chmod(path: &OsStr, mode: u32) -> OsResult<()> {
    let mode = Mode::from_raw_mode(mode);
    call("chmod", || rustix::fs::chmod(path, mode))
}

/// Returns the identity of the socket file `name` in `directory`, without following a symbolic link; `None` if it does
/// not exist or is no socket.
pub(crate) fn socket_identity(
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> OsResult<Option<Identity>> {
    let stat = || rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let stat = none_if(Errno::NOENT, call("fstatat", stat))?;
    let is_socket = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
    Ok(stat.filter(is_socket).map(Identity::from))
}

/// Removes a name from the directory if it is still there.
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> OsResult<()> {
    let unlink = || rustix::fs::unlinkat(directory, name, AtFlags::empty());
    none_if(Errno::NOENT, call("unlinkat", unlink)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_whole_only_if_no_id_is_missing() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(is_whole("0 0 1000\n1000 1000 1\n1001 1001 4294966294\n"));
        assert!(!is_whole("0 0 4294967294\n"));
        assert!(!is_whole("0 1000 1\n1 100000 65536\n"));
        assert!(!is_whole(""));
        assert!(!is_whole("0 0 -1\n"));
    }
}
