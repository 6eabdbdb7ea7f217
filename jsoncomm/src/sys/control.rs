//! Receiving with control messages, and the socket options rustix lacks or gets wrong.
//!
//! # Safety
//!
//! This is the one file of the workspace where `unsafe` is allowed. It is here because rustix's
//! credentials cannot hold the pid 0 that the kernel really reports, because its `recvmsg` leaks a
//! descriptor it does not know, and because its address type panics on a 108-byte path. Every function
//! takes and gives safe types, so nothing outside can misuse them.

#![allow(
    unsafe_code,
    reason = "recvmsg(2), getsockopt(2), setsockopt(2), getsockname(2), dup3(2), fcntl(2) and pthread_atfork(3) without rustix"
)]

use std::io;
use std::mem::{MaybeUninit, size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

use super::name::Name;
use super::seam;

/// Room for credentials (32), 253 descriptors (1032) and a pidfd (24), as `CMSG_SPACE` counts them. In a type that
/// fits into any C library's `msg_controllen`: `size_t` in glibc, `socklen_t` in musl.
const CONTROL_BYTES: u16 = 1088;

/// A control buffer with the alignment of `cmsghdr`.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES as usize]);

/// Whether a call may wait for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Return `WouldBlock` instead of waiting (`MSG_DONTWAIT`).
    Never,
    /// Wait for as long as the socket's own timeout says.
    Socket,
}

/// Who sent a message or connected, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Process id; 0 when it cannot be seen from here.
    pub(crate) pid: i32,
    /// User id; 65534 or -1 when it cannot be expressed here.
    pub(crate) uid: u32,
    /// Group id; likewise.
    pub(crate) gid: u32,
}

/// What one successful [`recvmsg`] brought besides descriptors.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// True length of the datagram, which may exceed the buffer.
    pub(crate) length: usize,
    /// The kernel had no room for all control messages (`MSG_CTRUNC`).
    pub(crate) control_truncated: bool,
    /// The sender, on sockets with `SO_PASSCRED`.
    pub(crate) credentials: Option<Credentials>,
    /// The sender's process, on sockets with `SO_PASSPIDFD` ([`pass_pidfds`]) if it could be had.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// Receives one datagram into `buffer`, with its descriptors and credentials, and its sender's name into `name` if
/// that is asked for: [`Name::NONE`] when it has none or one that cannot be handled. Every descriptor that the kernel
/// has installed goes to `keep`, in order, close-on-exec.
///
/// One system call. `MSG_TRUNC` makes it report the true length, `MSG_CMSG_CLOEXEC` is always set.
/// Whatever the flags say in the end, the descriptors that came are owned before anything is judged.
/// A length of 0 on a seqpacket socket is the end of the stream or an empty packet.
#[inline]
pub(crate) fn recvmsg(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut name: Option<&mut Name>,
    wait: Wait,
    keep: impl FnMut(OwnedFd),
) -> io::Result<Arrived> {
    let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES as usize]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut header = header_for(&mut control);
    if let Some(name) = &mut name {
        **name = Name::NONE;
        header.msg_name = (&raw mut **name).cast();
        header.msg_namelen = Name::ROOM;
    }
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    let flags = libc::MSG_CMSG_CLOEXEC
        | libc::MSG_TRUNC
        | match wait {
            Wait::Never => libc::MSG_DONTWAIT,
            Wait::Socket => 0,
        };
    seam("recvmsg")?;
    // SAFETY: `header` points at `name` or at none, at `vector` and at `control`, and `vector` at `buffer`, with their
    // true sizes; all are borrowed mutably until after the call. A name begins as `struct sockaddr_un` does, and any
    // bytes are one.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;

    let (credentials, pidfd) = take_control(&header, keep);
    if let Some(name) = name {
        name.written(header.msg_namelen);
    }
    Ok(Arrived {
        length,
        control_truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
        credentials,
        pidfd,
    })
}

/// What recvmsg is told, of its control buffer alone.
fn header_for(control: &mut Control) -> libc::msghdr {
    // SAFETY: msghdr is plain integers and pointers, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES.into();
    header
}

const _: () = assert!(size_of::<libc::sockaddr_un>() == Name::ROOM as usize);

// SAFETY: a name begins as `struct sockaddr_un` does (`repr(C)`), and all of it is initialised.
unsafe impl SocketAddrArg for Name {
    #[inline]
    unsafe fn with_sockaddr<R>(
        &self,
        call: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        call(std::ptr::from_ref(self).cast(), self.address_length())
    }
}

/// Takes everything out of the control messages that [`recvmsg`] filled in. Where a pidfd could not be made there
/// is an error in its place, a negative number (`scm_pidfd_recv`, net/core/scm.c).
fn take_control(
    header: &libc::msghdr,
    mut keep: impl FnMut(OwnedFd),
) -> (Option<Credentials>, Option<OwnedFd>) {
    let (mut credentials, mut pidfd) = (None, None);
    // SAFETY: `header` is as recvmsg left it: msg_control points at msg_controllen bytes that the kernel
    // wrote, and the buffer behind it outlives this call.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return NULL or a whole cmsghdr within the buffer, aligned
        // as the buffer is.
        let message = unsafe { &*next };
        // SAFETY: as above; the data begins right behind the header.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: only computes the size of the header.
        let head = usize::try_from(unsafe { libc::CMSG_LEN(0) }).unwrap_or(usize::MAX);
        // size_t in glibc, socklen_t in musl: never wider than usize.
        let length: usize = message.cmsg_len as _;
        let size = length.saturating_sub(head);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS | SCM_PIDFD) => {
                for index in 0..size / size_of::<libc::c_int>() {
                    // SAFETY: the kernel wrote `size` bytes of whole descriptors at `data`, not
                    // necessarily aligned.
                    let fd = unsafe { data.cast::<libc::c_int>().add(index).read_unaligned() };
                    if fd >= 0 {
                        // SAFETY: the kernel installed this descriptor for this message, and nobody
                        // else has seen its number.
                        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                        match message.cmsg_type {
                            libc::SCM_RIGHTS => keep(fd),
                            _ => pidfd = Some(fd),
                        }
                    }
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                // SAFETY: the kernel wrote a whole ucred at `data`, not necessarily aligned.
                let ucred = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                credentials = Some(ucred.into());
            }
            _ => {}
        }
        // SAFETY: `next` lies within the buffer of `header`, whose lengths the kernel wrote.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    (credentials, pidfd)
}

/// A pidfd of the sender (include/linux/socket.h; Linux 6.5).
const SCM_PIDFD: libc::c_int = 4;

impl From<libc::ucred> for Credentials {
    fn from(ucred: libc::ucred) -> Self {
        Self {
            pid: ucred.pid,
            uid: ucred.uid,
            gid: ucred.gid,
        }
    }
}

/// `SO_PASSRIGHTS` (include/uapi/asm-generic/socket.h in Linux). libc has the one number that differs, of the
/// architectures that there is Rust for.
#[cfg(not(any(target_arch = "sparc", target_arch = "sparc64")))]
const SO_PASSRIGHTS: libc::c_int = 83;
#[cfg(any(target_arch = "sparc", target_arch = "sparc64"))]
const SO_PASSRIGHTS: libc::c_int = libc::SO_PASSRIGHTS;

/// Has the kernel refuse descriptors that are sent to a socket, with `EPERM` for the sender (`SO_PASSRIGHTS` set to
/// 0, since Linux 6.16). Says whether this kernel can. Sockets that a listening one accepts from now on inherit it.
pub(crate) fn refuse_rights(socket: BorrowedFd<'_>) -> io::Result<bool> {
    set_flag(socket, SO_PASSRIGHTS, 0)
}

/// Has the kernel say with each message from which process it is (`SO_PASSPIDFD`, since Linux 6.5). Says whether
/// this kernel can. Of messages that are queued already it does so as well, if it knows who sent them.
pub(crate) fn pass_pidfds(socket: BorrowedFd<'_>) -> io::Result<bool> {
    set_flag(socket, libc::SO_PASSPIDFD, 1)
}

/// Sets a socket option to 0 or 1. Says whether this kernel knows it.
fn set_flag(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<bool> {
    seam("setsockopt")?;
    #[allow(clippy::cast_possible_truncation, reason = "4 fits")]
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes, the size of `value`, from it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        error => Err(error),
    }
}

/// Asks who called `connect` or `socketpair` (`SO_PEERCRED`, [unix(7)]).
///
/// A connected datagram socket answers pid 0 and uid -1.
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut ucred = [libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    }];
    getsockopt(socket, libc::SO_PEERCRED, &mut ucred)?;
    let [ucred] = ucred;
    Ok(ucred.into())
}

/// Most supplementary groups of a peer that are asked for: as many as a user of a directory service can have. The
/// kernel allows 65536 (`NGROUPS_MAX`, [setgroups(2)]).
///
/// [setgroups(2)]: https://man7.org/linux/man-pages/man2/setgroups.2.html
pub(crate) const GROUPS_MAX: usize = 1024;

/// Asks for the supplementary groups of who called `connect` or `socketpair`, as they were then (`SO_PEERGROUPS`,
/// since Linux 4.13), and hands them to `take`. Those that cannot be expressed here are 65534.
///
/// `ERANGE` when there are more than [`GROUPS_MAX`], `ENODATA` on a datagram socket, `ENOPROTOOPT` where the kernel
/// does not know.
pub(crate) fn peer_groups<T>(
    socket: BorrowedFd<'_>,
    take: impl FnOnce(&[u32]) -> T,
) -> io::Result<T> {
    let mut groups = [0_u32; GROUPS_MAX];
    let count = getsockopt(socket, libc::SO_PEERGROUPS, &mut groups)?;
    Ok(take(groups.get(..count).unwrap_or_default()))
}

/// Asks for the process that called `connect` or `socketpair` (`SO_PEERPIDFD`, since Linux 6.5): a pidfd,
/// close-on-exec ([pidfd_open(2)]).
///
/// Of a process that has ended it is `ESRCH` or `EINVAL`, or a pidfd, as the kernel's version is; `ENODATA` on a
/// datagram socket, `ENOPROTOOPT` where the kernel does not know.
///
/// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut pidfd: [libc::c_int; 1] = [-1];
    getsockopt(socket, libc::SO_PEERPIDFD, &mut pidfd)?;
    let [pidfd] = pidfd;
    if pidfd < 0 {
        return Err(io::Error::from_raw_os_error(libc::ENODATA));
    }
    // SAFETY: the kernel has just installed this descriptor for us, and nobody else has seen its number.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// What any bytes are a value of.
///
/// # Safety
///
/// It has no padding and no bytes that it cannot be.
unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: three integers of the same size.
unsafe impl Plain for libc::ucred {}

/// Asks for a socket option ([getsockopt(2)]). Says how many of `values` the kernel wrote.
///
/// [getsockopt(2)]: https://man7.org/linux/man-pages/man2/getsockopt.2.html
fn getsockopt<T: Plain>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    values: &mut [T],
) -> io::Result<usize> {
    seam("getsockopt")?;
    let mut length = libc::socklen_t::try_from(size_of_val(values)).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel writes at most `length` bytes, no more than the size of `values`, to them, and whatever
    // it writes is a `T`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(length).unwrap_or(0) / size_of::<T>())
}

/// Asks how much of what the socket has sent is unread, in bytes of kernel memory (`SIOCOUTQ`, [unix(7)]): 0 when its
/// peers have read or lost all of it. Each message that is unread takes at least [`UNREAD_MIN`].
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn unread(socket: BorrowedFd<'_>) -> io::Result<usize> {
    seam("ioctl")?;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int to `bytes` (`unix_ioctl`, net/unix/af_unix.c; `TIOCOUTQ` is the same number).
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// The least that a message takes of the kernel's memory until it is read, in bytes: its header, and its data with
/// their trailer, in one of the sizes that there are (`SKB_TRUESIZE`, include/linux/skbuff.h; 768 together on 64 bits).
pub(crate) const UNREAD_MIN: usize = if cfg!(target_pointer_width = "64") {
    640
} else {
    384
};

/// Asks for the socket's own name ([getsockname(2)]); `None` when it has none, or one that cannot be
/// handled.
///
/// [getsockname(2)]: https://man7.org/linux/man-pages/man2/getsockname.2.html
pub(crate) fn getsockname(socket: BorrowedFd<'_>) -> io::Result<Option<Name>> {
    seam("getsockname")?;
    let mut name = Name::NONE;
    let mut length = Name::ROOM;
    let address = (&raw mut name).cast();
    // SAFETY: the kernel writes at most `length` bytes to `name`, which begins as `struct sockaddr_un` does; any bytes
    // are one.
    let result = unsafe { libc::getsockname(socket.as_raw_fd(), address, &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    name.written(length);
    Ok((!name.is_unnamed()).then_some(name))
}

/// Has the descriptor `number` refer to what `to` refers to, close-on-exec, and lets go of what it referred to
/// ([dup3(2)]). rustix wants it exclusively, which a descriptor that a loop may wait for is not.
///
/// [dup3(2)]: https://man7.org/linux/man-pages/man2/dup3.2.html
pub(crate) fn dup3(to: BorrowedFd<'_>, number: &OwnedFd) -> io::Result<()> {
    seam("dup3")?;
    loop {
        // SAFETY: both are open for as long as they are borrowed. `number` stays open throughout, and its owner's:
        // the kernel puts the other file in its place in one step.
        let result = unsafe { libc::dup3(to.as_raw_fd(), number.as_raw_fd(), libc::O_CLOEXEC) };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // EBUSY: another thread is just opening a file.
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) {
            return Err(error);
        }
    }
}

/// What is open under a number.
#[derive(Debug)]
pub(crate) enum Numbered {
    /// It was inherited, and belongs to the caller from now on.
    Inherited(OwnedFd),
    /// It is close-on-exec: it was not inherited, or has been taken before.
    CloseOnExec,
    /// Nothing.
    Closed,
}

/// Takes over what is open under a number, and makes it close-on-exec ([fcntl(2)]), unless it is that already.
///
/// Whoever calls this relies on the descriptor being nobody else's; see [`inherited_fd`](crate::fds::inherited_fd).
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
pub(crate) fn take_number(number: RawFd) -> io::Result<Numbered> {
    /// Between the look at the flag and its setting no other thread may look.
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    seam("fcntl")?;
    // SAFETY: F_GETFD takes no argument and changes nothing, whatever is open under the number.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EBADF) => Ok(Numbered::Closed),
            error => Err(error),
        };
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Ok(Numbered::CloseOnExec);
    }
    // SAFETY: F_SETFD takes an integer, and changes that flag of the descriptor and nothing else.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, as F_GETFD has found. No Rust code owns it: what the standard library, rustix and
    // this crate open is close-on-exec from the start, and what was taken here before is so since. That no other code
    // of the process owns it is the assumption that the documentation of `inherited` states.
    Ok(Numbered::Inherited(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// How many forks lie between this process and the first one of the program that asked; [`UNCOUNTED`] until then, and
/// where they cannot be counted.
static FORKS: AtomicU32 = AtomicU32::new(UNCOUNTED);

const UNCOUNTED: u32 = u32::MAX;

/// Says how many forks lie between this process and the first one that asked ([pthread_atfork(3)]). `None` where that
/// cannot be known: there is no memory to be told of forks.
///
/// Only what calls fork(3) counts: not vfork(2), posix_spawn(3) and clone(2), after which a program runs execve(2).
///
/// [pthread_atfork(3)]: https://man7.org/linux/man-pages/man3/pthread_atfork.3.html
#[inline]
pub(crate) fn forks() -> Option<u32> {
    let forks = FORKS.load(Ordering::Relaxed);
    if forks != UNCOUNTED {
        return Some(forks);
    }
    begin_to_count()
}

#[cold]
fn begin_to_count() -> Option<u32> {
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static BEGUN: OnceLock<bool> = OnceLock::new();
    let begun = *BEGUN.get_or_init(|| {
        // SAFETY: `forked` is called in each child, by the one thread that there is then, before fork(3) returns. It adds
        // to an atomic number, which is async-signal-safe, and it is code of this program, which stays.
        let result = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
        if result == 0 {
            FORKS.store(0, Ordering::Relaxed);
        }
        result == 0
    });
    begun.then(|| FORKS.load(Ordering::Relaxed))
}

/// Makes a child of this process, which goes on from here as well (fork(2)). Returns its id, and `None` in the child,
/// which has to [end](end_child).
///
/// For tests that are alone in their process: the child has no thread but this one, and locks that others hold stay held.
#[cfg(test)]
pub(crate) fn fork() -> Option<i32> {
    // SAFETY: the C library sees to its own locks, and the caller to those of Rust: no other thread runs that holds one
    // which the child uses.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", io::Error::last_os_error());
    (pid != 0).then_some(pid)
}

/// Ends a child without what the parent has registered to be done at its end.
#[cfg(test)]
pub(crate) fn end_child(well: bool) -> ! {
    // SAFETY: it ends the process, and touches no memory of it.
    unsafe { libc::_exit(i32::from(!well)) }
}

#[cfg(test)]
mod tests;
