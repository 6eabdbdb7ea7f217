//! Symbolic links, and the directories that hold them.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{OsResult, call, none_if, retry};

/// Returns where a link leads that was opened without being followed ([`super::file::entry`]).
pub(crate) fn target(link: BorrowedFd<'_>) -> OsResult<OsString> {
    let target = call("readlinkat", || {
        rustix::fs::readlinkat(link, "", Vec::new())
    });
    target.map(|target| OsString::from_vec(CString::into_bytes(target)))
}

/// Makes the link `name` in `directory`; `AlreadyExists` if there is anything of that name.
pub(crate) fn make(target: &OsStr, directory: BorrowedFd<'_>, name: &OsStr) -> OsResult<()> {
    let make = || rustix::fs::symlinkat(target, directory, name);
    call("symlinkat", make)
}

/// Gives a file in `directory` another name there, and replaces what had that name.
pub(crate) fn rename(directory: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> OsResult<()> {
    let rename = || rustix::fs::renameat(directory, from, directory, to);
    call("renameat", rename)
}

/// Makes a directory that others can read, whatever the umask, if there is nothing of that name.
pub(crate) fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> OsResult<()> {
    let mode = Mode::from_raw_mode(0o755);
    let made = call("mkdirat", || rustix::fs::mkdirat(parent, name, mode));
    if none_if(Errno::EXIST, made)?.is_none() {
        return Ok(());
    }
    let chmod = || rustix::fs::chmodat(parent, name, mode, AtFlags::empty());
    call("fchmodat", chmod)
}

/// Opens a file to lock it, and makes it if it does not exist. No other user can open what this makes.
pub(crate) fn open_lock(directory: BorrowedFd<'_>, name: &OsStr) -> OsResult<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    retry("openat", || {
        rustix::fs::openat(directory, name, flags | OFlags::NONBLOCK, mode)
    })
}

/// Returns the names in a directory, in any order, without `.` and `..`.
pub(crate) fn names(directory: BorrowedFd<'_>) -> OsResult<Vec<OsString>> {
    let readable = super::file::open_to_lock(directory)?;
    call("getdents64", || {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(readable.as_fd())? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    })
}

/// Returns the path of an open directory, without links. `None` if `/proc` is not mounted, or if the directory cannot be
/// reached by a path.
pub(crate) fn directory_path(directory: BorrowedFd<'_>) -> Option<PathBuf> {
    let through = super::file::proc_name(directory)?;
    let path = call("readlink", || rustix::fs::readlink(&through, Vec::new()));
    let path = PathBuf::from(OsString::from_vec(path.ok()?.into_bytes()));
    path.is_absolute().then_some(path)
}
