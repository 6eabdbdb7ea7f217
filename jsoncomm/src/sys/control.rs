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
    reason = "recvmsg(2), getsockopt(2), setsockopt(2), getsockname(2), getrlimit(2), getauxval(3), dup3(2), fcntl(2) and pthread_atfork(3) without rustix, and code between fork(2) and execve(2)"
)]

use std::mem::{MaybeUninit, size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::process::Rlimit;

use super::name::Name;
use super::optional::Optional;
use super::{OsResult, call, lock, none_if};

/// Room for credentials (32), 253 descriptors (1032) and a pidfd (24), as `CMSG_SPACE` counts them. `u16` fits into
/// `msg_controllen` of any C library: `size_t` in glibc, `socklen_t` in musl.
const CONTROL_BYTES: u16 = 1088;

/// A control buffer with the alignment of `cmsghdr`.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES as usize]);

/// How long a call may wait for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: the call fails with `WouldBlock` instead (`MSG_DONTWAIT`).
    Never,
    /// Up to the socket's own timeout.
    Socket,
}

/// The identity of a sender or of a connected peer, as reported by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Process id; 0 if it is not visible in this pid namespace.
    pub(crate) pid: i32,
    /// User id; 65534 or -1 if it is not mapped in this user namespace.
    pub(crate) uid: u32,
    /// Group id; 65534 or -1 if it is not mapped.
    pub(crate) gid: u32,
}

/// Result of [`recvmsg`], descriptors excepted.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Length of the whole datagram in bytes, which may exceed the buffer.
    pub(crate) length: usize,
    /// Control messages, and with them descriptors, were lost (`MSG_CTRUNC`).
    pub(crate) control_truncated: bool,
    /// The sender, on sockets with `SO_PASSCRED`.
    pub(crate) credentials: Option<Credentials>,
    /// The sender's process, on sockets with `SO_PASSPIDFD` ([`pass_pidfds`]), if the kernel could make a pidfd.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// Receives one datagram into `buffer`.
///
/// Every descriptor that the kernel installs is passed to `keep` in order, close-on-exec, whatever the flags report. The
/// sender's name is written to `name`: [`Name::NONE`] if it has none or one that cannot be handled.
///
/// One system call. A length of 0 on a seqpacket socket is the end of the stream or an empty packet.
#[inline]
pub(crate) fn recvmsg(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut name: Option<&mut Name>,
    wait: Wait,
    keep: impl FnMut(OwnedFd),
) -> OsResult<Arrived> {
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
    let wait = match wait {
        Wait::Never => libc::MSG_DONTWAIT,
        Wait::Socket => 0,
    };
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC | wait;
    let length = call("recvmsg", || {
        // SAFETY: `header` points at `name` or at none, at `vector` and at `control`, and `vector` at `buffer`, with
        // their true sizes; all are borrowed mutably until after the call. A name begins as `struct sockaddr_un` does,
        // and any bytes are one.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        usize::try_from(received).map_err(|_| last_errno())
    })?;

    let (credentials, pidfd) = take_control(&header, keep);
    if let Some(name) = name {
        name.set_address_length(header.msg_namelen);
    }
    Ok(Arrived {
        length,
        control_truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
        credentials,
        pidfd,
    })
}

/// Makes a message header with this control buffer and nothing else.
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

/// Takes ownership of everything in the control messages that [`recvmsg`] has filled in. The kernel may report a negative
/// error number in place of a pidfd (`scm_pidfd_recv`, net/core/scm.c).
#[inline]
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
        // SAFETY: as above; the data begins right after the header.
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
                        // SAFETY: the kernel installed this descriptor for this message, and no other code
                        // has seen its number.
                        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                        match message.cmsg_type {
                            libc::SCM_RIGHTS => keep(fd),
                            _ => pidfd = Some(fd),
                        }
                    }
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                // SAFETY: the kernel wrote a whole ucred, three 32-bit numbers, at `data`, not necessarily aligned.
                let ucred = unsafe { data.cast::<[u32; 3]>().read_unaligned() };
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

const _: () = assert!(size_of::<libc::ucred>() == size_of::<[u32; 3]>());

/// Takes the three numbers of a `struct ucred`.
impl From<[u32; 3]> for Credentials {
    fn from([pid, uid, gid]: [u32; 3]) -> Self {
        let pid = pid as i32;
        Self { pid, uid, gid }
    }
}

/// `SO_PASSRIGHTS` (include/uapi/asm-generic/socket.h in Linux). libc defines it only for the architectures where the
/// number differs.
#[cfg(not(any(target_arch = "sparc", target_arch = "sparc64")))]
const SO_PASSRIGHTS: libc::c_int = 83;
#[cfg(any(target_arch = "sparc", target_arch = "sparc64"))]
const SO_PASSRIGHTS: libc::c_int = libc::SO_PASSRIGHTS;

static REFUSE_RIGHTS: Optional = Optional::new("SO_PASSRIGHTS");
static PASS_PIDFDS: Optional = Optional::new("SO_PASSPIDFD");
static PEER_GROUPS: Optional = Optional::new("SO_PEERGROUPS");
static PEER_PIDFD: Optional = Optional::new("SO_PEERPIDFD");

/// Makes the kernel refuse descriptors sent to this socket, with `EPERM` for the sender (`SO_PASSRIGHTS` set to 0, since
/// Linux 6.16). Sockets accepted from it later inherit the setting. Returns false if the kernel or a sandbox does not support it.
pub(crate) fn refuse_rights(socket: BorrowedFd<'_>) -> OsResult<bool> {
    let set = REFUSE_RIGHTS.call(|| set_flag(socket, SO_PASSRIGHTS, 0))?;
    Ok(set.is_some())
}

/// Makes the kernel pass descriptors to this socket again, after [`refuse_rights`].
pub(crate) fn accept_rights(socket: BorrowedFd<'_>) -> OsResult<()> {
    REFUSE_RIGHTS
        .call(|| set_flag(socket, SO_PASSRIGHTS, 1))
        .map(drop)
}

/// Makes the kernel report the sending process with each message (`SO_PASSPIDFD`, since Linux 6.5), also with queued
/// messages whose sender it knows. Returns false if the kernel or a sandbox does not support it.
pub(crate) fn pass_pidfds(socket: BorrowedFd<'_>) -> OsResult<bool> {
    let set = PASS_PIDFDS.call(|| set_flag(socket, libc::SO_PASSPIDFD, 1))?;
    Ok(set.is_some())
}

/// Sets a socket option to 0 or 1.
fn set_flag(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> OsResult<()> {
    #[allow(clippy::cast_possible_truncation, reason = "4 fits")]
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw const value).cast());
    call("setsockopt", || {
        // SAFETY: the kernel reads `length` bytes, the size of `value`, from it.
        check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, value, length) })
    })?;
    Ok(())
}

/// Returns what a call of the C library returned, or its error if that is -1.
fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result < 0 {
        return Err(last_errno());
    }
    Ok(result)
}

/// Returns the error number of the last call of the C library that failed on this thread.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Returns the identity of the process that called `connect`, `listen` or `socketpair` at the other end (`SO_PEERCRED`,
/// [unix(7)]): pid 0 and uid -1 on a datagram socket.
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> OsResult<Credentials> {
    // `struct ucred`
    let mut ids = [0, u32::MAX, u32::MAX];
    getsockopt(socket, libc::SO_PEERCRED, &mut ids)?;
    Ok(ids.into())
}

/// Most supplementary groups of a peer that are read: as many as a user of a directory service can have. The kernel
/// allows 65536 (`NGROUPS_MAX`, [setgroups(2)]).
///
/// [setgroups(2)]: https://man7.org/linux/man-pages/man2/setgroups.2.html
pub(crate) const GROUPS_MAX: usize = 1024;

/// Passes to `take` the peer's supplementary groups at the time it connected (`SO_PEERGROUPS`, since Linux 4.13).
/// Unmapped groups are 65534.
///
/// `None` if there are more than [`GROUPS_MAX`] (`ERANGE`), on a datagram socket (`ENODATA`), and on an older kernel.
pub(crate) fn peer_groups<T>(socket: BorrowedFd<'_>, take: impl FnOnce(&[u32]) -> T) -> Option<T> {
    let mut groups = [0_u32; GROUPS_MAX];
    let count = PEER_GROUPS.call(|| getsockopt(socket, libc::SO_PEERGROUPS, &mut groups));
    let count = count.ok().flatten()?;
    Some(take(groups.get(..count).unwrap_or_default()))
}

/// Returns a pidfd of the peer's process, close-on-exec (`SO_PEERPIDFD`, since Linux 6.5; [pidfd_open(2)]).
///
/// For a process that has ended it is `None` (`ESRCH`, `EINVAL`) or a pidfd, depending on the kernel's version. `None` on a
/// datagram socket (`ENODATA`) and on an older kernel.
///
/// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    let mut pidfd = [u32::MAX];
    let read = PEER_PIDFD.call(|| getsockopt(socket, libc::SO_PEERPIDFD, &mut pidfd));
    read.ok().flatten()?;
    // Negative if there is none.
    let pidfd = RawFd::try_from(pidfd[0]).ok()?;
    // SAFETY: the kernel has just installed this descriptor, and no other code has seen its number.
    Some(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Reads a socket option ([getsockopt(2)]) into `values`; returns how many of them the kernel wrote.
///
/// [getsockopt(2)]: https://man7.org/linux/man-pages/man2/getsockopt.2.html
fn getsockopt(socket: BorrowedFd<'_>, option: libc::c_int, values: &mut [u32]) -> OsResult<usize> {
    let mut length = libc::socklen_t::try_from(size_of_val(values)).unwrap_or(libc::socklen_t::MAX);
    let (fd, values) = (socket.as_raw_fd(), values.as_mut_ptr().cast());
    call("getsockopt", || {
        // SAFETY: the kernel writes at most `length` bytes, no more than the size of `values`, to them, and any bytes
        // are numbers.
        check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, values, &raw mut length) })
    })?;
    Ok(usize::try_from(length).unwrap_or(0) / size_of::<u32>())
}

/// What a process may have only so much of ([getrlimit(2)]).
///
/// [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limited {
    /// Open descriptors (`RLIMIT_NOFILE`).
    Descriptors,
    /// Bytes in a file that it writes (`RLIMIT_FSIZE`).
    FileSize,
}

/// Returns true if this process has more rights than the one that started it: its program is set-user-ID, set-group-ID or
/// has capabilities (`AT_SECURE`, [getauxval(3)]). Its environment is then not to be believed.
///
/// [getauxval(3)]: https://man7.org/linux/man-pages/man3/getauxval.3.html
pub(crate) fn is_secure() -> bool {
    // SAFETY: it takes a number and reads what the kernel has written before the program began.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Returns the limits of this process. Fails if a sandbox forbids to ask, which rustix takes for impossible.
pub(crate) fn getrlimit(of: Limited) -> OsResult<Rlimit> {
    let resource = match of {
        Limited::Descriptors => libc::RLIMIT_NOFILE,
        Limited::FileSize => libc::RLIMIT_FSIZE,
    };
    let (rlim_cur, rlim_max) = (libc::RLIM_INFINITY, libc::RLIM_INFINITY);
    let mut limit = libc::rlimit { rlim_cur, rlim_max };
    call("getrlimit", || {
        // SAFETY: the C library writes one `struct rlimit` to `limit`.
        check(unsafe { libc::getrlimit(resource, &raw mut limit) })
    })?;
    // 32 bits wide in some C libraries.
    let finite = |limit| (limit != libc::RLIM_INFINITY).then_some(limit as _);
    let (current, maximum) = (finite(limit.rlim_cur), finite(limit.rlim_max));
    Ok(Rlimit { current, maximum })
}

/// Returns how much of what the socket has sent is unread, in bytes of kernel memory (`SIOCOUTQ`, [unix(7)]): 0 once its
/// peers have read or lost all of it. Each unread message takes at least [`unread_min`].
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn unread(socket: BorrowedFd<'_>) -> OsResult<usize> {
    let mut bytes: libc::c_int = 0;
    call("ioctl", || {
        // SAFETY: the kernel writes one int to `bytes` (`unix_ioctl`, net/unix/af_unix.c; `TIOCOUTQ` is the same
        // number).
        check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })
    })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Returns the least kernel memory that an unread message takes, in bytes: its header, and its data with their trailer,
/// rounded up to an allocation size (`SKB_TRUESIZE`, include/linux/skbuff.h; 768 together on a kernel of 64 bits).
pub(crate) fn unread_min() -> usize {
    /// A program of 32 bits can run on a kernel of 64, whose name ([uname(2)]) this is. On arm64 such programs see `armv8l`.
    ///
    /// [uname(2)]: https://man7.org/linux/man-pages/man2/uname.2.html
    static KERNEL_HAS_64_BITS: LazyLock<bool> = LazyLock::new(|| {
        let kernel = rustix::system::uname();
        matches!(kernel.machine().to_bytes(), b"x86_64" | b"armv8l")
    });
    if cfg!(target_pointer_width = "64") || *KERNEL_HAS_64_BITS {
        640
    } else {
        384
    }
}

/// Returns the socket's own name ([getsockname(2)]); `None` if it has none, or one that cannot be handled.
///
/// [getsockname(2)]: https://man7.org/linux/man-pages/man2/getsockname.2.html
pub(crate) fn getsockname(socket: BorrowedFd<'_>) -> OsResult<Option<Name>> {
    let mut name = Name::NONE;
    let mut length = Name::ROOM;
    let address = (&raw mut name).cast();
    call("getsockname", || {
        // SAFETY: the kernel writes at most `length` bytes to `name`, which begins as `struct sockaddr_un` does; any
        // bytes are one.
        check(unsafe { libc::getsockname(socket.as_raw_fd(), address, &raw mut length) })
    })?;
    name.set_address_length(length);
    Ok((!name.is_unnamed()).then_some(name))
}

/// Makes the descriptor `number` refer to the file of `to`, close-on-exec, and closes the file it referred to ([dup3(2)]).
/// rustix requires an exclusive borrow of `number`, which is not possible for a descriptor that a loop may wait for.
///
/// [dup3(2)]: https://man7.org/linux/man-pages/man2/dup3.2.html
pub(crate) fn dup3(to: BorrowedFd<'_>, number: &OwnedFd) -> OsResult<()> {
    loop {
        let result = call("dup3", || {
            // SAFETY: both are open for as long as they are borrowed. `number` stays open throughout, and its owner's:
            // the kernel puts the other file in its place in one step.
            check(unsafe { libc::dup3(to.as_raw_fd(), number.as_raw_fd(), libc::O_CLOEXEC) })
        });
        match result {
            // EBUSY: another thread is opening a file at this moment.
            Err(error) if matches!(error.errno, Errno::INTR | Errno::BUSY) => {}
            other => return other.map(drop),
        }
    }
}

/// What a descriptor number refers to.
#[derive(Debug)]
pub(crate) enum Numbered {
    /// A file that was inherited; the caller now owns it.
    Inherited(OwnedFd),
    /// A close-on-exec descriptor: it was not inherited, or has been taken already.
    CloseOnExec,
    /// A file that the caller has refused.
    Refused,
    /// No open file.
    Closed,
}

/// Takes ownership of an inherited descriptor if `accept` returns true, and makes it close-on-exec ([fcntl(2)]). Otherwise
/// it is unchanged.
///
/// No other code of the process may own the descriptor; see [`inherited_fd`](crate::fds::inherited_fd).
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
pub(crate) fn take_number(
    number: RawFd,
    accept: impl FnOnce(BorrowedFd<'_>) -> bool,
) -> OsResult<Numbered> {
    /// No other thread may read the flag before this one has set it.
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = lock(&TAKING);
    let flags = call("fcntl", || {
        // SAFETY: F_GETFD takes no argument and changes nothing, whatever is open under the number.
        check(unsafe { libc::fcntl(number, libc::F_GETFD) })
    });
    let Some(flags) = none_if(Errno::BADF, flags)? else {
        return Ok(Numbered::Closed);
    };
    if flags & libc::FD_CLOEXEC != 0 {
        return Ok(Numbered::CloseOnExec);
    }
    // SAFETY: the number is open, and no other code closes it meanwhile: none of Rust owns it, for the reasons below.
    if !accept(unsafe { BorrowedFd::borrow_raw(number) }) {
        return Ok(Numbered::Refused);
    }
    call("fcntl", || {
        // SAFETY: F_SETFD takes an integer, and changes that flag of the descriptor and nothing else.
        check(unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) })
    })?;
    // SAFETY: the number is open, as F_GETFD has found. No Rust code owns it: what the standard library, rustix and
    // this crate open is close-on-exec from the start, and so is what was taken here before. That no other code of the
    // process owns it is the assumption that the documentation of `inherited_fd` states.
    Ok(Numbered::Inherited(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Makes the processes that `command` starts inherit this descriptor, under its number. The command owns it from now on.
///
/// In this process it stays close-on-exec, so that no program which another thread starts inherits it.
pub(crate) fn inherit(command: &mut Command, fd: OwnedFd) {
    let clear = move || Ok(fcntl_setfd(&fd, FdFlags::empty())?);
    // SAFETY: `clear` runs in the child, after fork(2), where only async-signal-safe calls are allowed: it makes one
    // system call, fcntl(2), and neither allocates nor locks, also if that fails. It owns the descriptor, so the number
    // still is this file's.
    unsafe { command.pre_exec(clear) };
}

/// Returns the number of forks between this process and the first one that called this ([pthread_atfork(3)]); `None` if
/// there was no memory to register for forks.
///
/// Counts fork(3) only, not vfork(2), posix_spawn(3) and clone(2), after which a program calls execve(2).
///
/// [pthread_atfork(3)]: https://man7.org/linux/man-pages/man3/pthread_atfork.3.html
#[inline]
pub(crate) fn forks() -> Option<u32> {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    static IS_COUNTING: OnceLock<bool> = OnceLock::new();
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: `forked` is called in each child, by its only thread, before fork(3) returns. It adds to an atomic number,
    // which is async-signal-safe, and it is code of this program, which stays.
    let register = || unsafe { libc::pthread_atfork(None, None, Some(forked)) } == 0;
    IS_COUNTING
        .get_or_init(register)
        .then(|| FORKS.load(Ordering::Relaxed))
}

/// Forks this process (fork(2)). Returns the child's id, and `None` in the child, which has to call [`end_child`].
///
/// For tests that are alone in their process: the child has this thread only, and locks held by others stay held.
#[cfg(all(test, repository))]
pub(crate) fn fork() -> Option<i32> {
    // SAFETY: the C library takes care of its own locks, and the caller of those of Rust: no other thread runs that
    // holds one which the child uses.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", last_errno());
    (pid != 0).then_some(pid)
}

/// Exits a child without running the parent's exit handlers.
#[cfg(all(test, repository))]
pub(crate) fn end_child(well: bool) -> ! {
    // SAFETY: it ends the process and touches none of its memory.
    unsafe { libc::_exit(i32::from(!well)) }
}

#[cfg(test)]
mod tests;
