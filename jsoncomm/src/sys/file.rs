//! Files and directories: what binding to a path, and unlinking it again, needs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::seam;

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
    seam("fcntl")?;
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?)
}

/// Makes another descriptor of the same file, close-on-exec.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    seam("fcntl")?;
    fd.try_clone_to_owned()
}

/// Returns true if `fd` is an end of a pipe, or a FIFO, that can be read, or written; does not wait for a file system, as
/// fstat(2) may (`F_GETPIPE_SZ`, `F_GETFL`, [fcntl(2)]).
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
pub(crate) fn is_pipe(fd: BorrowedFd<'_>, end: PipeEnd) -> bool {
    let one_way = match end {
        PipeEnd::Reader => OFlags::RDONLY,
        PipeEnd::Writer => OFlags::WRONLY,
    };
    let fits = |flags: OFlags| [one_way, OFlags::RDWR].contains(&(flags & OFlags::ACCMODE));
    seam("fcntl").is_ok()
        && rustix::pipe::fcntl_getpipe_size(fd).is_ok()
        && rustix::fs::fcntl_getfl(fd).is_ok_and(fits)
}

/// What an end of a pipe is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PipeEnd {
    Reader,
    Writer,
}

/// Opens a directory to stand in, without the right to list it (`O_PATH`, [open(2)]).
///
/// [open(2)]: https://man7.org/linux/man-pages/man2/open.2.html
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    seam("openat")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Takes hold of whatever file `path` leads to, without opening it (`O_PATH`).
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    seam("openat")?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Names what the descriptor holds by a path, for calls that take nothing else ([proc_pid_fd(5)]). `None`
/// where `/proc` is not mounted, or is something else.
///
/// [proc_pid_fd(5)]: https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
pub(crate) fn proc_name(fd: BorrowedFd<'_>) -> Option<OsString> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    seam("stat").ok()?;
    let there = Identity::from(rustix::fs::stat(&*path).ok()?);
    seam("fstat").ok()?;
    let here = Identity::from(rustix::fs::fstat(fd).ok()?);
    (there == here).then(|| path.into())
}

/// Opens a directory to lock it; `PermissionDenied` when it may not be read.
pub(crate) fn open_to_lock(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    seam("openat")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, ".", flags, Mode::empty())?)
}

/// Locks the directory against others who lock it, if none has; never waits ([flock(2)]).
///
/// [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html
pub(crate) fn try_lock(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let lock = || rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive);
    match seam("flock").and_then(|()| lock()) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Ends what [`try_lock`] began, also for copies of the descriptor.
pub(crate) fn unlock(directory: BorrowedFd<'_>) {
    // It cannot fail on a descriptor that is locked, and closing it would do the same.
    let _ = rustix::fs::flock(directory, FlockOperation::Unlock);
}

/// A file in a directory, held but not opened (`O_PATH`).
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) file: OwnedFd,
    pub(crate) identity: Identity,
    /// What it is if it is no socket, as a noun with its article.
    pub(crate) other_than_socket: Option<&'static str>,
    /// The user it belongs to.
    pub(crate) owner: u32,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// Takes hold of what `name` is in `directory`; `None` when there is nothing. A symbolic link is not
/// followed.
pub(crate) fn entry(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Entry>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(directory, name, flags, Mode::empty());
    let file = match seam("openat").and_then(|()| open()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    seam("fstat")?;
    let stat = rustix::fs::fstat(&file)?;
    Ok(Some(Entry {
        file,
        identity: stat.into(),
        other_than_socket: other_than_socket(FileType::from_raw_mode(stat.st_mode)),
        owner: stat.st_uid,
        mode: Mode::from_raw_mode(stat.st_mode).as_raw_mode(),
    }))
}

/// Names what a path leads to, as a noun with its article, if that is a file and no socket.
pub(crate) fn no_socket(path: &Path) -> Option<&'static str> {
    seam("stat").ok()?;
    let stat = rustix::fs::stat(path).ok()?;
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

/// Ids of one sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// Of users.
    User,
    /// Of groups.
    Group,
}

/// Returns true if every id of the kernel has a number in this process's user namespace ([user_namespaces(7)]), false
/// where that cannot be read.
///
/// [user_namespaces(7)]: https://man7.org/linux/man-pages/man7/user_namespaces.7.html
pub(crate) fn maps_all(ids: Ids) -> bool {
    let path = match ids {
        Ids::User => "/proc/self/uid_map",
        Ids::Group => "/proc/self/gid_map",
    };
    let map = seam("openat").map_err(io::Error::from);
    map.and_then(|()| std::fs::read_to_string(path))
        .is_ok_and(|map| is_whole(&map))
}

/// Returns true if a map has all ids there are, 0 to 2^32 - 2. Each line is a range: its first number here, its first
/// number in the parent namespace, its length. Ranges do not overlap, and those of the parent have to be mapped there.
fn is_whole(map: &str) -> bool {
    let length = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
    map.lines().filter_map(length).sum::<u64>() >= u64::from(u32::MAX)
}

/// This process's id in its own pid namespace, where it can always be seen.
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The user in whose name files are made and opened.
pub(crate) fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Gives a file, held by any descriptor, to a user and a group. Neither may be `u32::MAX`.
pub(crate) fn set_owner(
    file: BorrowedFd<'_>,
    owner: Option<u32>,
    group: Option<u32>,
) -> io::Result<()> {
    seam("fchownat")?;
    let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
    let itself = AtFlags::EMPTY_PATH;
    Ok(rustix::fs::chownat(file, "", owner, group, itself)?)
}

/// Sets the permission bits that a socket's file will have, less the umask, once it is bound ([unix(7)]).
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn set_mode(socket: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    seam("fchmod")?;
    Ok(rustix::fs::fchmod(socket, Mode::from_raw_mode(mode))?)
}

/// Sets the permission bits of the file at a path; a symbolic link is followed.
pub(crate) fn chmod(path: &OsStr, mode: u32) -> io::Result<()> {
    seam("chmod")?;
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// Says which socket file `name` is in `directory`; `None` when it is missing or no socket. A symbolic
/// link is not followed.
pub(crate) fn socket_identity(
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<Option<Identity>> {
    let stat = || rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    match seam("fstatat").and_then(|()| stat()) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
            Ok(Some(stat.into()))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes the name from the directory, unless somebody already has.
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let unlink = || rustix::fs::unlinkat(directory, name, AtFlags::empty());
    match seam("unlinkat").and_then(|()| unlink()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
