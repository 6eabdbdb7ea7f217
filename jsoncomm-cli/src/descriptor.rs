//! What a descriptor is, in a few words.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags, fcntl_getfl, statx};

use crate::output::printable;

/// Describes the file behind a descriptor: its type, its path and its access mode. Does not wait for a file system, as fstat(2)
/// would.
pub(crate) fn describe(fd: BorrowedFd<'_>) -> String {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(fd, c"", flags, StatxFlags::TYPE);
    let sort = match stat.map(|stat| FileType::from_raw_mode(stat.stx_mode.into())) {
        Ok(FileType::RegularFile) => "file",
        Ok(FileType::Directory) => "directory",
        Ok(FileType::Symlink) => "symbolic link",
        Ok(FileType::Fifo) => "pipe",
        Ok(FileType::Socket) => "socket",
        Ok(FileType::CharacterDevice) => "character device",
        Ok(FileType::BlockDevice) => "block device",
        // For example an eventfd, whose name tells its type.
        _ => "descriptor",
    };
    let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let path = path.map_or_else(|_| "?".into(), |path| path.to_string_lossy().into_owned());
    let access = match fcntl_getfl(fd) {
        Ok(flags) if flags.contains(OFlags::PATH) => "path only",
        Ok(flags) => match flags & OFlags::RWMODE {
            OFlags::RDONLY => "read-only",
            OFlags::WRONLY => "write-only",
            _ => "read-write",
        },
        Err(_) => "?",
    };
    format!("{sort} {} {access}", printable(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn each_descriptor_is_described_by_its_type() {
        if !jsoncomm_watchdog::has_proc() {
            return;
        }
        let said = |file: File| describe(file.as_fd());
        assert_eq!(
            said(File::open("/dev/null").unwrap()),
            "character device /dev/null read-only"
        );
        let writable = File::options().write(true).open("/dev/null").unwrap();
        assert_eq!(said(writable), "character device /dev/null write-only");
        assert_eq!(
            said(File::open("/proc").unwrap()),
            "directory /proc read-only"
        );
        let (end, _other) = UnixStream::pair().unwrap();
        let socket = describe(end.as_fd());
        assert!(socket.starts_with("socket socket:[") && socket.ends_with("] read-write"));
    }
}
