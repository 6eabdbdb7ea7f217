//! Large payloads in a memfd: writing ours, reading a peer's without trusting it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Resource, getrlimit};

use super::seam;

/// Makes a sealed memfd that holds `bytes` from offset 0 ([memfd_create(2)]).
///
/// Size seals only: `F_SEAL_WRITE` can stall for 100 ms and more.
///
/// What exceeds `RLIMIT_FSIZE` is not written, as the kernel would end the process for it (`SIGXFSZ`,
/// [getrlimit(2)]).
///
/// [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html
/// [memfd_create(2)]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
pub(crate) fn create(bytes: &[u8]) -> io::Result<OwnedFd> {
    let most = getrlimit(Resource::Fsize).current;
    if most.is_some_and(|most| bytes.len() as u64 > most) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    seam("memfd_create")?;
    let fd = rustix::fs::memfd_create("jsoncomm", flags)?;
    let mut rest = bytes;
    let mut offset = 0;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| {
            seam("pwrite")?;
            rustix::io::pwrite(&fd, rest, offset)
        })?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = rest.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    seam("fcntl")?;
    rustix::fs::fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

/// Returns true if `fd` is a memfd or a file on tmpfs or hugetlbfs: only these answer `F_GET_SEALS` ([fcntl(2)]).
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
pub(crate) fn is_in_memory(fd: BorrowedFd<'_>) -> bool {
    seam("fcntl").is_ok() && rustix::fs::fcntl_get_seals(fd).is_ok()
}

/// Asks for the size of a file that cannot make its reader wait: a memfd or a file on tmpfs, the only
/// kinds that answer `F_GET_SEALS` ([fcntl(2)]). `None` for every other kind of descriptor.
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
pub(crate) fn size(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    if !is_in_memory(fd) {
        return Ok(None);
    }
    seam("fstat")?;
    Ok(u64::try_from(rustix::fs::fstat(fd)?.st_size).ok())
}

/// Reads `size` bytes from offset 0 into `into`, replacing what it holds; fewer when the file has
/// shrunk meanwhile. The descriptor's own offset, which the sender shares, is neither used nor moved.
pub(crate) fn read(fd: BorrowedFd<'_>, size: usize, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    into.try_reserve_exact(size)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    while into.len() < size {
        let offset = into.len() as u64;
        let got = rustix::io::retry_on_intr(|| {
            seam("pread")?;
            rustix::io::pread(fd, spare_capacity(&mut *into), offset)
        })?;
        if got == 0 {
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
    fn what_is_written_is_read_back_and_the_size_is_sealed() {
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
    fn what_could_block_its_reader_has_no_size() {
        let (pipe, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(size(pipe.as_fd()).unwrap(), None);
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(size(null.as_fd()).unwrap(), None);
    }
}
