//! What a descriptor is, found out without waiting for a file system or a peer.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, OFlags, SealFlags, StatxFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{WaitId, WaitIdOptions};

use super::socket::SocketType;
use super::{OsResult, call, none_if};

/// What a descriptor is, or what is asked of one: its kind and how it is open.
///
/// `#[fd(...)]` asks for one, with the words of this table. Several are one, too: `#[fd(regular, read)]` is
/// `FdKind::REGULAR.and(FdKind::READ)`, and a descriptor has to fit both.
///
/// | word | constant | fits |
/// |---|---|---|
/// | `regular` | [`REGULAR`](Self::REGULAR) | a regular file on any file system; a memfd is one |
/// | `directory` | [`DIRECTORY`](Self::DIRECTORY) | a directory |
/// | `pipe` | [`PIPE`](Self::PIPE) | either end of a pipe, and a FIFO |
/// | `memfd` | [`MEMFD`](Self::MEMFD) | what can be sealed: a file of [memfd_create(2)], and a file with a name on tmpfs or hugetlbfs |
/// | `memfd(sealed)` | [`SEALED_MEMFD`](Self::SEALED_MEMFD) | the same with `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_WRITE` |
/// | `pidfd` | [`PIDFD`](Self::PIDFD) | a process ([pidfd_open(2)]), also one that has ended |
/// | `socket` | [`SOCKET`](Self::SOCKET) | a socket of any family and type, listening, connected or neither |
/// | `socket(stream)`, `socket(datagram)`, `socket(seqpacket)` | [`STREAM_SOCKET`](Self::STREAM_SOCKET), [`DATAGRAM_SOCKET`](Self::DATAGRAM_SOCKET), [`SEQPACKET_SOCKET`](Self::SEQPACKET_SOCKET) | a socket of this type (`SO_TYPE`) and any family |
/// | `read` | [`READ`](Self::READ) | what is open for reading, or for both |
/// | `write` | [`WRITE`](Self::WRITE) | what is open for writing, or for both |
/// | `path` | [`PATH`](Self::PATH) | what is open for neither, and leads to a file (`O_PATH`) |
///
/// Without `read`, `write` and `path` it does not matter how a descriptor is open: a directory with `O_PATH` is a `directory`.
/// An access mode is no bound: what can be read can often be opened anew for writing (`/proc/self/fd`). Only seals are.
///
/// It is found out without waiting: a file system whose daemon does not answer is not asked. What the kernel does not tell does not
/// fit: `regular` and `directory` before Linux 4.11 (statx(2)), `pidfd` before 5.4 (`P_PIDFD`).
///
/// # Examples
///
/// ```
/// use jsoncomm::fds::FdKind;
/// use std::fs::File;
///
/// let directory = FdKind::of(&File::open("/")?);
/// assert!(directory.contains(FdKind::DIRECTORY.and(FdKind::READ)));
/// assert_eq!(directory.to_string(), "directory, read");
/// assert!(!FdKind::REGULAR.fits(&File::open("/dev/null")?));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// [memfd_create(2)]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
/// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[doc(alias = "statx")]
pub struct FdKind(u16);

impl FdKind {
    /// Any descriptor, as with `#[fd]`.
    pub const ANY: Self = Self(0);
    /// A regular file.
    pub const REGULAR: Self = Self(1);
    /// A directory.
    pub const DIRECTORY: Self = Self(1 << 1);
    /// A character or block device, such as a terminal. `#[fd(...)]` does not ask for it.
    pub const DEVICE: Self = Self(1 << 2);
    /// An end of a pipe, or a FIFO.
    pub const PIPE: Self = Self(1 << 3);
    /// What can be sealed.
    pub const MEMFD: Self = Self(1 << 4);
    /// What is sealed so that neither size nor content changes.
    pub const SEALED_MEMFD: Self = Self(1 << 5 | Self::MEMFD.0);
    /// A process.
    pub const PIDFD: Self = Self(1 << 6);
    /// A socket.
    pub const SOCKET: Self = Self(1 << 7);
    /// A socket of type `SOCK_STREAM`.
    pub const STREAM_SOCKET: Self = Self(1 << 8 | Self::SOCKET.0);
    /// A socket of type `SOCK_DGRAM`.
    pub const DATAGRAM_SOCKET: Self = Self(1 << 9 | Self::SOCKET.0);
    /// A socket of type `SOCK_SEQPACKET`.
    pub const SEQPACKET_SOCKET: Self = Self(1 << 10 | Self::SOCKET.0);
    /// Open for reading.
    pub const READ: Self = Self(1 << 11);
    /// Open for writing.
    pub const WRITE: Self = Self(1 << 12);
    /// Open for neither.
    pub const PATH: Self = Self(1 << 13);

    /// The words for them, each before those that say more.
    const WORDS: [(&'static str, Self); 14] = [
        ("regular", Self::REGULAR),
        ("directory", Self::DIRECTORY),
        ("device", Self::DEVICE),
        ("pipe", Self::PIPE),
        ("memfd", Self::MEMFD),
        ("memfd(sealed)", Self::SEALED_MEMFD),
        ("pidfd", Self::PIDFD),
        ("socket", Self::SOCKET),
        ("socket(stream)", Self::STREAM_SOCKET),
        ("socket(datagram)", Self::DATAGRAM_SOCKET),
        ("socket(seqpacket)", Self::SEQPACKET_SOCKET),
        ("read", Self::READ),
        ("write", Self::WRITE),
        ("path", Self::PATH),
    ];

    /// Returns all that the descriptor is, in six system calls. Never waits.
    ///
    /// What cannot be found out is missing.
    pub fn of(fd: impl AsFd) -> Self {
        Self(u16::MAX).find(fd.as_fd())
    }

    /// Returns true if the descriptor is all of this. Never waits.
    pub fn fits(self, fd: impl AsFd) -> bool {
        self.find(fd.as_fd()).contains(self)
    }

    /// Returns what is one and the other.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns true if all of `other` is in this.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the kind with this word of `#[fd(...)]` and of descriptions.
    pub fn named(word: &str) -> Option<Self> {
        let named = Self::WORDS.iter().find(|(known, _)| *known == word);
        named.map(|(_, kind)| *kind)
    }

    /// Returns the words for this kind, in the order of the table; none for [`ANY`](Self::ANY).
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let said = move |kind: Self| self.contains(kind);
        Self::WORDS
            .iter()
            .filter(move |(_, kind)| {
                let says_more = |more: Self| said(more) && more != *kind && more.contains(*kind);
                said(*kind) && !Self::WORDS.iter().any(|(_, more)| says_more(*more))
            })
            .map(|(word, _)| *word)
    }

    /// Returns what the descriptor is if it is not all of this.
    pub(crate) fn unless_fits(self, fd: BorrowedFd<'_>) -> Option<Self> {
        (!self.fits(fd)).then(|| Self::of(fd))
    }

    const fn asks_for(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Returns what the descriptor is of what is asked for, and possibly more.
    fn find(self, fd: BorrowedFd<'_>) -> Self {
        const ACCESS: FdKind = FdKind::READ.and(FdKind::WRITE).and(FdKind::PATH);
        const FILES: FdKind = FdKind::REGULAR.and(FdKind::DIRECTORY).and(FdKind::DEVICE);
        const SOCKETS: FdKind = FdKind::STREAM_SOCKET
            .and(FdKind::DATAGRAM_SOCKET)
            .and(FdKind::SEQPACKET_SOCKET);
        let ways: [(Self, Find); 5] = [
            (ACCESS, access),
            (FILES.and(Self::PIPE), file_type),
            (Self::SEALED_MEMFD, memfd),
            (Self::PIDFD, pidfd),
            (SOCKETS, socket),
        ];
        let asked = ways.into_iter().filter(|(of, _)| self.asks_for(*of));
        asked.fold(Self::ANY, |found, (_, find)| {
            found.and(find(fd).unwrap_or_default())
        })
    }
}

/// Prints the words, as in `regular, read`.
impl fmt::Display for FdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, word) in self.words().enumerate() {
            f.write_str(if place > 0 { ", " } else { "" })?;
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl fmt::Debug for FdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FdKind({self})")
    }
}

/// Finds one thing out.
type Find = fn(BorrowedFd<'_>) -> OsResult<FdKind>;

/// Returns how it is open. `O_PATH` comes first: it reads as read-only ([open(2)]).
///
/// [open(2)]: https://man7.org/linux/man-pages/man2/open.2.html
fn access(fd: BorrowedFd<'_>) -> OsResult<FdKind> {
    let flags = call("fcntl", || rustix::fs::fcntl_getfl(fd))?;
    if flags.contains(OFlags::PATH) {
        return Ok(FdKind::PATH);
    }
    Ok(match flags & OFlags::ACCMODE {
        OFlags::RDONLY => FdKind::READ,
        OFlags::WRONLY => FdKind::WRITE,
        OFlags::RDWR => FdKind::READ.and(FdKind::WRITE),
        // For ioctl(2) only.
        _ => FdKind::ANY,
    })
}

/// Returns the type of file that the kernel remembers, without asking the file system ([statx(2)], since Linux 4.11). Of an open
/// pipe also older kernels tell (`F_GETPIPE_SZ`).
///
/// [statx(2)]: https://man7.org/linux/man-pages/man2/statx.2.html
fn file_type(fd: BorrowedFd<'_>) -> OsResult<FdKind> {
    if call("fcntl", || rustix::pipe::fcntl_getpipe_size(fd)).is_ok() {
        return Ok(FdKind::PIPE);
    }
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let of = StatxFlags::TYPE;
    let stat = call("statx", || rustix::fs::statx(fd, c"", flags, of))?;
    Ok(match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => FdKind::REGULAR,
        FileType::Directory => FdKind::DIRECTORY,
        FileType::CharacterDevice | FileType::BlockDevice => FdKind::DEVICE,
        FileType::Fifo => FdKind::PIPE,
        _ => FdKind::ANY,
    })
}

/// Returns whether it can be sealed, and is (`F_GET_SEALS`, [fcntl(2)]).
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
fn memfd(fd: BorrowedFd<'_>) -> OsResult<FdKind> {
    let seals = call("fcntl", || rustix::fs::fcntl_get_seals(fd))?;
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    Ok(if seals.contains(all) {
        FdKind::SEALED_MEMFD
    } else {
        FdKind::MEMFD
    })
}

/// Returns whether waitid(2) takes it as a process: a child of ours, which is not reaped, or not one (`P_PIDFD`, since Linux 5.4).
fn pidfd(fd: BorrowedFd<'_>) -> OsResult<FdKind> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let waited = call("waitid", || {
        rustix::process::waitid(WaitId::PidFd(fd), look)
    });
    none_if(Errno::CHILD, waited)?;
    Ok(FdKind::PIDFD)
}

/// Returns the type of the socket.
fn socket(fd: BorrowedFd<'_>) -> OsResult<FdKind> {
    Ok(match call("getsockopt", || sockopt::socket_type(fd))? {
        SocketType::STREAM => FdKind::STREAM_SOCKET,
        SocketType::DGRAM => FdKind::DATAGRAM_SOCKET,
        SocketType::SEQPACKET => FdKind::SEQPACKET_SOCKET,
        _ => FdKind::SOCKET,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_word_means_a_kind_of_its_own() {
        let words = FdKind::WORDS.map(|(word, _)| word);
        assert_eq!(BTreeSet::from(words).len(), words.len());
        for (word, kind) in FdKind::WORDS {
            assert_eq!(FdKind::named(word), Some(kind));
            assert_eq!(kind.to_string(), word);
        }
        assert_eq!(FdKind::named("memfd(open)"), None);
    }

    #[test]
    fn a_kind_is_printed_by_the_words_that_say_most() {
        let sealed = FdKind::SEALED_MEMFD.and(FdKind::REGULAR).and(FdKind::READ);
        assert_eq!(sealed.to_string(), "regular, memfd(sealed), read");
        assert_eq!(
            format!("{sealed:?}"),
            "FdKind(regular, memfd(sealed), read)"
        );
        assert_eq!(FdKind::ANY.to_string(), "");
        let both = FdKind::STREAM_SOCKET.and(FdKind::DATAGRAM_SOCKET);
        assert_eq!(both.to_string(), "socket(stream), socket(datagram)");
    }

    #[test]
    fn a_kind_that_the_kernel_does_not_tell_does_not_fit() {
        use crate::sys::inject::{self, Plan};

        let own = std::fs::File::open(".").unwrap();
        assert!(FdKind::DIRECTORY.fits(&own));
        for (call, kind) in [("statx", FdKind::DIRECTORY), ("fcntl", FdKind::READ)] {
            for errno in [Errno::NOSYS, Errno::PERM, Errno::INVAL] {
                let times = 0..usize::MAX;
                inject::begin(Some(Plan { call, times, errno }));
                assert!(!kind.fits(&own), "{call}: {errno}");
                assert!(FdKind::ANY.fits(&own));
            }
        }
        inject::begin(None);
    }
}
