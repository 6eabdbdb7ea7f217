//! Large payloads in a memfd: writing our own, and reading a peer's without trusting it.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::control::{Limited, getrlimit};
use super::optional::Optional;
use super::{OsError, OsResult, call, retry};

/// Nobody can execute such a memfd (`MFD_NOEXEC_SEAL`, since Linux 6.3). Where `vm.memfd_noexec` is 2, some kernels refuse
/// any other.
static NOEXEC: Optional = Optional::new("MFD_NOEXEC_SEAL").unknown_if(Errno::INVAL);

/// Makes a sealed memfd that contains `bytes` from offset 0 ([memfd_create(2)]).
///
/// Only the size is sealed: `F_SEAL_WRITE` can stall for 100 ms and more. A text that exceeds `RLIMIT_FSIZE` is `EFBIG`
/// and is not written, because the kernel would send `SIGXFSZ` ([getrlimit(2)]).
///
/// [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html
/// [memfd_create(2)]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
pub(crate) fn create(bytes: &[u8]) -> OsResult<OwnedFd> {
    let limit = getrlimit(Limited::FileSize).ok();
    let limit = limit.and_then(|limit| limit.current);
    if limit.is_some_and(|limit| bytes.len() as u64 > limit) {
        return Err(OsError {
            operation: "memfd_create",
            errno: Errno::FBIG,
        });
    }
    let make = |flags| {
        call("memfd_create", || {
            rustix::fs::memfd_create("jsoncomm", flags)
        })
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match NOEXEC.call(|| make(flags | MemfdFlags::NOEXEC_SEAL))? {
        Some(fd) => fd,
        None => make(flags)?,
    };
    let mut offset = 0;
    while let Some(rest @ [_, ..]) = bytes.get(offset..) {
        offset += retry("pwrite", || {
            match rustix::io::pwrite(&fd, rest, offset as u64)? {
                0 => Err(Errno::IO),
                written => Ok(written),
            }
        })?;
    }
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    call("fcntl", || rustix::fs::fcntl_add_seals(&fd, seals))?;
    Ok(fd)
}

/// Returns true if `fd` is a memfd or a file on tmpfs or hugetlbfs: only these support `F_GET_SEALS` ([fcntl(2)]).
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
pub(crate) fn is_in_memory(fd: BorrowedFd<'_>) -> bool {
    call("fcntl", || rustix::fs::fcntl_get_seals(fd)).is_ok()
}

/// Returns the size in bytes of a file whose reader cannot be made to wait; `None` for any other descriptor
/// ([`is_in_memory`]).
pub(crate) fn size(fd: BorrowedFd<'_>) -> OsResult<Option<u64>> {
    if !is_in_memory(fd) {
        return Ok(None);
    }
    let stat = call("fstat", || rustix::fs::fstat(fd))?;
    Ok(u64::try_from(stat.st_size).ok())
}

/// Replaces the content of `into` with up to `size` bytes from offset 0: fewer if the file has shrunk meanwhile.
///
/// Neither uses nor moves the descriptor's offset, which the sender shares.
pub(crate) fn read(fd: BorrowedFd<'_>, size: usize, into: &mut Vec<u8>) -> OsResult<()> {
    into.clear();
    into.try_reserve_exact(size).map_err(|_| OsError {
        operation: "pread",
        errno: Errno::NOMEM,
    })?;
    while into.len() < size {
        let offset = into.len() as u64;
        let length = retry("pread", || {
            rustix::io::pread(fd, spare_capacity(&mut *into), offset)
        })?;
        if length == 0 {
            break;
        }
    }
    // The allocator may have given more room than asked for, and pread fills all of it.
    into.truncate(size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_payload_is_read_back_and_its_size_is_sealed() {
        let fd = create(b"payload").unwrap();
        assert_eq!(size(fd.as_fd()).unwrap(), Some(7));
        assert!(rustix::fs::ftruncate(&fd, 3).is_err());
        assert!(rustix::fs::ftruncate(&fd, 30).is_err());
        let mut bytes = b"old".to_vec();
        read(fd.as_fd(), 7, &mut bytes).unwrap();
        assert_eq!(bytes, b"payload");
        read(fd.as_fd(), 3, &mut bytes).unwrap();
        assert_eq!(bytes, b"pay");
        read(fd.as_fd(), 100, &mut bytes).unwrap();
        assert_eq!(bytes, b"payload", "a file that shrank reads short");
    }

    #[test]
    fn a_descriptor_that_could_block_its_reader_has_no_size() {
        let (pipe, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(size(pipe.as_fd()).unwrap(), None);
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(size(null.as_fd()).unwrap(), None);
    }
}
