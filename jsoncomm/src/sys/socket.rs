//! Socket calls: [socket(2)], [bind(2)], [sendmsg(2)] and related ones, on unix sockets only.
//!
//! [socket(2)]: https://man7.org/linux/man-pages/man2/socket.2.html
//! [bind(2)]: https://man7.org/linux/man-pages/man2/bind.2.html
//! [sendmsg(2)]: https://man7.org/linux/man-pages/man2/sendmsg.2.html

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, sockopt,
};

pub(crate) use rustix::net::sockopt::Timeout;
pub(crate) use rustix::net::{Shutdown, SocketType};

use super::control::Wait;
use super::name::Name;
use super::optional::Optional;
use super::{OsError, OsResult, call, call_io, none_if};

/// The two kinds of unix socket. Same API, same wire format, same speed.
///
/// | | `Seqpacket` | `Datagram` |
/// |---|---|---|
/// | connection | yes: accounting per client | none: no state per client |
/// | buffers | per client | one send buffer and one receive queue (11 messages) for all clients |
/// | hang-up | reported at once | not reported; a waiting client checks every 100 ms whether its server is alive |
/// | peer | the process that called `connect`, as reported by the kernel | a return address that is only a claim |
/// | use it for | any peers | peers that trust each other, in the same network namespace |
///
/// Use `Seqpacket` unless clients need no connection or speak to an existing datagram service. Source: [unix(7)].
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
///
/// # Examples
///
/// ```
/// use jsoncomm::Kind;
/// use jsoncomm::socket::Socket;
///
/// for kind in [Kind::Seqpacket, Kind::Datagram] {
///     let (mut left, mut right) = Socket::pair(kind)?;
///     left.send("hello")?;
///     assert_eq!(right.receive::<String>()?.0, "hello");
/// }
/// # Ok::<(), jsoncomm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Datagrams without a connection, for peers that trust each other.
    #[doc(alias = "SOCK_DGRAM")]
    Datagram,
    /// Datagrams on a connection, for all other peers.
    #[doc(alias = "SOCK_SEQPACKET")]
    Seqpacket,
}

impl From<Kind> for SocketType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Datagram => Self::DGRAM,
            Kind::Seqpacket => Self::SEQPACKET,
        }
    }
}

/// Makes an unbound socket, close-on-exec.
pub(crate) fn socket(of: impl Into<SocketType>) -> OsResult<OwnedFd> {
    let of = of.into();
    call("socket", || {
        net::socket_with(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None)
    })
}

/// Makes two connected sockets, close-on-exec.
pub(crate) fn socketpair(kind: Kind) -> OsResult<(OwnedFd, OwnedFd)> {
    call("socketpair", || {
        net::socketpair(AddressFamily::UNIX, kind.into(), SocketFlags::CLOEXEC, None)
    })
}

/// Binds the socket to a name; `AddrInUse` if the file exists.
pub(crate) fn bind(socket: BorrowedFd<'_>, name: &Name) -> OsResult<()> {
    call("bind", || net::bind(socket, name))
}

/// Binds the socket to an abstract name that the kernel chooses, so that it can be replied to (autobind, unix(7)).
pub(crate) fn autobind(socket: BorrowedFd<'_>) -> OsResult<()> {
    bind(socket, &Name::NONE)
}

/// Connects to the socket with that name.
pub(crate) fn connect(socket: BorrowedFd<'_>, name: &Name) -> OsResult<()> {
    call("connect", || net::connect(socket, name))
}

/// Binds sockets of every type but that of `kind` to a name, so that no other program can: each type has abstract names of its own
/// ([unix(7)]). The name is free again once the returned sockets are closed.
///
/// None of them can be connected to. Connection-oriented ones do not listen (`ECONNREFUSED`); the datagram socket is
/// connected to itself (`EPERM`).
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn hold_other_types(name: &Name, kind: Kind) -> OsResult<Vec<OwnedFd>> {
    let types = [SocketType::DGRAM, SocketType::SEQPACKET, SocketType::STREAM];
    let others = types.into_iter().filter(|other| *other != kind.into());
    let hold = |of| {
        let socket = self::socket(of)?;
        bind(socket.as_fd(), name)?;
        if of == SocketType::DGRAM {
            connect(socket.as_fd(), name)?;
        }
        Ok(socket)
    };
    others.map(hold).collect()
}

/// State of the socket behind a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A process has the socket open.
    Live,
    /// No process has the socket open.
    Dead,
    /// This process may not find out.
    Unknown,
}

/// Finds out whether any process has a file's socket open, without the process noticing.
///
/// Probes all types with a datagram socket: open sockets of another type report `EPROTOTYPE` even before `listen`, when
/// connecting with their own type would be refused (measured on Linux 6.18).
pub(crate) fn probe(name: &Name) -> OsResult<Probe> {
    let socket = socket(Kind::Datagram)?;
    let Err(error) = connect(socket.as_fd(), name) else {
        return Ok(Probe::Live);
    };
    match error.errno {
        // EPERM: it is connected to another socket, and accepts messages from that one only.
        Errno::PROTOTYPE | Errno::PERM => Ok(Probe::Live),
        Errno::CONNREFUSED => Ok(Probe::Dead),
        Errno::ACCESS => Ok(Probe::Unknown),
        _ => Err(error),
    }
}

/// Starts listening on a bound seqpacket socket and makes [`accept`] non-blocking.
pub(crate) fn listen(socket: BorrowedFd<'_>) -> OsResult<()> {
    /// Large, because clients that find the backlog full are refused and cannot wait for room with poll(2).
    const BACKLOG: i32 = 4096;
    accept_without_waiting(socket)?;
    call("listen", || net::listen(socket, BACKLOG))
}

/// Makes [`accept`] non-blocking.
pub(crate) fn accept_without_waiting(socket: BorrowedFd<'_>) -> OsResult<()> {
    call("ioctl", || rustix::io::ioctl_fionbio(socket, true))
}

/// Accepts the next connection of a listening socket, close-on-exec; `None` if no client is waiting.
pub(crate) fn accept(socket: BorrowedFd<'_>) -> OsResult<Option<OwnedFd>> {
    loop {
        let accepted = call("accept4", || net::accept_with(socket, SocketFlags::CLOEXEC));
        match none_if(Errno::WOULDBLOCK, accepted) {
            // A signal, or a client that gave up before it was accepted.
            Err(error) if matches!(error.errno, Errno::INTR | Errno::CONNABORTED) => {}
            result => return result,
        }
    }
}

/// Sends one datagram without descriptors, all or nothing. Cheaper than sendmsg(2), whose header the kernel has to copy.
///
/// One system call. Never raises `SIGPIPE`. `to` is for sockets that are not connected.
#[inline]
pub(crate) fn sendto(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: Option<&Name>,
    wait: Wait,
) -> OsResult<()> {
    call("sendto", || match to {
        Some(name) => net::sendto(socket, bytes, flags_for(wait), name),
        None => net::send(socket, bytes, flags_for(wait)),
    })?;
    Ok(())
}

/// Sends one datagram with its descriptors, all or nothing. The kernel duplicates the descriptors.
///
/// One system call. Never raises `SIGPIPE`. `to` is for sockets that are not connected. More than 253 descriptors are
/// `EINVAL`.
#[inline(never)]
pub(crate) fn sendmsg(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    to: Option<&Name>,
    wait: Wait,
) -> OsResult<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let fits = fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds));
    let parts = [IoSlice::new(bytes)];
    call("sendmsg", || match to {
        _ if !fits => Err(Errno::INVAL),
        Some(name) => net::sendmsg_addr(socket, name, &parts, &mut control, flags_for(wait)),
        None => net::sendmsg(socket, &parts, &mut control, flags_for(wait)),
    })?;
    Ok(())
}

fn flags_for(wait: Wait) -> SendFlags {
    match wait {
        Wait::Never => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        Wait::Socket => SendFlags::NOSIGNAL,
    }
}

/// Ends receiving ([`Shutdown::Read`]), or sending as well ([shutdown(2)]). What is queued can still be received.
///
/// [shutdown(2)]: https://man7.org/linux/man-pages/man2/shutdown.2.html
pub(crate) fn shut_down(socket: BorrowedFd<'_>, how: Shutdown) -> OsResult<()> {
    call("shutdown", || net::shutdown(socket, how))
}

/// Without it, messages that exceed the system's default travel in a memfd.
static SNDBUF: Optional = Optional::new("SO_SNDBUF");

/// Raises `SO_SNDBUF` as near to `bytes` as the system or a sandbox allows, and returns the resulting size.
///
/// The kernel doubles the size asked for, up to twice `net.core.wmem_max` ([socket(7)]).
///
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
pub(crate) fn raise_sndbuf(socket: BorrowedFd<'_>, bytes: usize) -> OsResult<usize> {
    let current = || call("getsockopt", || sockopt::socket_send_buffer_size(socket));
    let size = current()?;
    if size >= bytes {
        return Ok(size);
    }
    let raised = SNDBUF.call(|| {
        call("setsockopt", || {
            sockopt::set_socket_send_buffer_size(socket, bytes.div_ceil(2))
        })
    })?;
    raised.map_or(Ok(size), |()| current())
}

/// Makes the kernel report the sender of each message (`SO_PASSCRED`).
pub(crate) fn set_passcred(socket: BorrowedFd<'_>) -> OsResult<()> {
    call("setsockopt", || sockopt::set_socket_passcred(socket, true))
}

/// Sets how long blocking calls wait (`SO_RCVTIMEO`, `SO_SNDTIMEO`); `None` means without limit. Less than a microsecond counts as one.
pub(crate) fn set_timeout(
    socket: BorrowedFd<'_>,
    which: Timeout,
    after: Option<Duration>,
) -> OsResult<()> {
    let after = after.map(|time| time.max(Duration::from_micros(1)));
    let set = || sockopt::set_socket_timeout(socket, which, after);
    call("setsockopt", set)
}

/// Returns the kind of a unix socket; `None` if it is of another domain or type.
pub(crate) fn kind_of(socket: BorrowedFd<'_>) -> OsResult<Option<Kind>> {
    if call("getsockopt", || sockopt::socket_domain(socket))? != AddressFamily::UNIX {
        return Ok(None);
    }
    Ok(match call("getsockopt", || sockopt::socket_type(socket))? {
        SocketType::DGRAM => Some(Kind::Datagram),
        SocketType::SEQPACKET => Some(Kind::Seqpacket),
        _ => None,
    })
}

/// Returns true if the socket is listening (`SO_ACCEPTCONN`).
pub(crate) fn is_listening(socket: BorrowedFd<'_>) -> OsResult<bool> {
    call("getsockopt", || sockopt::socket_acceptconn(socket))
}

/// Returns true if the socket is connected, so that it sends to one peer by default ([getpeername(2)]).
///
/// [getpeername(2)]: https://man7.org/linux/man-pages/man2/getpeername.2.html
pub(crate) fn is_connected(socket: BorrowedFd<'_>) -> OsResult<bool> {
    let peer = call("getpeername", || net::getpeername(socket));
    Ok(none_if(Errno::NOTCONN, peer)?.is_some())
}

/// Returns true if a connected socket is one of a pair ([socketpair(2)]): neither end has a name. An accepted socket has
/// its listener's name, and so has the peer of a socket that called connect(2).
///
/// [socketpair(2)]: https://man7.org/linux/man-pages/man2/socketpair.2.html
pub(crate) fn is_of_pair(socket: BorrowedFd<'_>) -> OsResult<bool> {
    /// Length of an address that consists of its family.
    const UNNAMED: usize = size_of::<libc::sa_family_t>();
    if super::control::getsockname(socket)?.is_some() {
        return Ok(false);
    }
    let peer = call("getpeername", || net::getpeername(socket))?;
    let length = peer.map_or(0, |peer| peer.addr_len());
    Ok(usize::try_from(length).is_ok_and(|length| length <= UNNAMED))
}

/// The families of unix sockets and of internet sockets.
pub(crate) const UNIX: &[AddressFamily] = &[AddressFamily::UNIX];
pub(crate) const INET: &[AddressFamily] = &[AddressFamily::INET, AddressFamily::INET6];

/// Returns true if `fd` is a socket of one of these families and this type, listening or not as asked.
pub(crate) fn is_socket(
    fd: BorrowedFd<'_>,
    families: &[AddressFamily],
    of: SocketType,
    listening: bool,
) -> bool {
    let found = call("getsockopt", || {
        Ok((sockopt::socket_domain(fd)?, sockopt::socket_type(fd)?))
    });
    let fits = found.is_ok_and(|(family, found)| found == of && families.contains(&family));
    fits && is_listening(fd) == Ok(listening)
}

/// Returns true if `fd` is a socket of any domain and type. Unlike fstat(2), does not wait for a file system.
pub(crate) fn is_any_socket(fd: BorrowedFd<'_>) -> bool {
    call("getsockopt", || sockopt::socket_type(fd)).is_ok()
}

/// Makes close(2) of a socket return before sent data has arrived (`SO_LINGER`, [socket(7)]). The kernel goes on sending
/// it. A socket that is set to reset its connection at close keeps that setting.
///
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
pub(crate) fn stop_lingering(fd: BorrowedFd<'_>) {
    let time = sockopt::socket_linger(fd).ok().flatten();
    if time.is_some_and(|time| !time.is_zero()) {
        let _ = sockopt::set_socket_linger(fd, None);
    }
}

/// Returns true if a received length of 0 was the end of the stream, and false if it was an empty packet, which looks
/// the same. For connected sockets.
///
/// Sets `SO_PASSCRED`: the kernel then has a control message, if only a truncated one, for each queued message and none
/// for the end of the stream (`scm_recv`, net/core/scm.h).
fn is_at_end(socket: BorrowedFd<'_>) -> OsResult<bool> {
    set_passcred(socket)?;
    Ok(!next_has_control(socket)?)
}

/// Returns true if nothing is queued on a socket that has been shut down. Nothing more can arrive then.
pub(crate) fn is_empty(socket: BorrowedFd<'_>) -> OsResult<bool> {
    // A datagram socket has no end of stream.
    Ok(none_if(Errno::WOULDBLOCK, is_at_end(socket))?.unwrap_or(true))
}

/// Returns true if no message queued on a connected socket carries descriptors, so that closing it does not wait. The
/// socket must have been shut down, so that nothing more arrives. May remove messages from the queue.
pub(crate) fn has_no_queued_descriptors(socket: BorrowedFd<'_>) -> OsResult<bool> {
    match queued_descriptors(socket) {
        Some(count) => Ok(count == 0),
        None => drain_plain(socket),
    }
}

/// Returns the number of descriptors queued on a unix socket from /proc (`scm_fds`, since Linux 5.6); `None` if that
/// cannot be read.
fn queued_descriptors(socket: BorrowedFd<'_>) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", socket.as_raw_fd());
    let info = call_io("openat", || std::fs::read_to_string(path)).ok()?;
    let count = info.lines().find_map(|line| line.strip_prefix("scm_fds:"));
    count?.trim().parse().ok()
}

/// Removes messages from the queue of a connected socket that has been shut down, up to the first one with descriptors.
/// Returns true if there was none.
fn drain_plain(socket: BorrowedFd<'_>) -> OsResult<bool> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    while !next_has_control(socket)? {
        if received(|| net::recv(socket, &mut [0; 1], flags))?.1 == 0 {
            return is_at_end(socket);
        }
    }
    Ok(false)
}

/// Returns true if the next message has a control message.
fn next_has_control(socket: BorrowedFd<'_>) -> OsResult<bool> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let next = received(|| {
        let mut control = RecvAncillaryBuffer::new(&mut []);
        #[expect(
            clippy::disallowed_methods,
            reason = "without room for control messages there are none"
        )]
        net::recvmsg(socket, &mut [], &mut control, flags)
    })?;
    Ok(next.flags.contains(ReturnFlags::CTRUNC))
}

/// Receives, skipping an `ECONNRESET`: it comes once, before what a dead peer has sent and the end of the stream.
fn received<T>(mut receive: impl FnMut() -> rustix::io::Result<T>) -> OsResult<T> {
    call("recvmsg", || match receive() {
        Err(Errno::CONNRESET) => receive(),
        result => result,
    })
}

/// What an error of sending or receiving means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// The call would block: no room, or nothing queued.
    WouldBlock,
    /// The kernel is short of memory or of descriptors, open or in flight. No event reports when that ends.
    Exhausted,
    /// The datagram exceeds `SO_SNDBUF`.
    TooLong,
    /// The peer has closed, or there is none.
    Closed,
    /// A signal interrupted the call.
    Interrupted,
    Other,
}

impl OsError {
    /// Classifies an error of sending, of receiving, or of making a memfd for a payload.
    pub(crate) fn class(&self) -> ErrorClass {
        match self.errno {
            Errno::AGAIN => ErrorClass::WouldBlock,
            Errno::NOBUFS
            | Errno::NOMEM
            | Errno::TOOMANYREFS
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOSPC => ErrorClass::Exhausted,
            Errno::MSGSIZE => ErrorClass::TooLong,
            Errno::CONNREFUSED | Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => {
                ErrorClass::Closed
            }
            Errno::INTR => ErrorClass::Interrupted,
            _ => ErrorClass::Other,
        }
    }

    /// Returns true if [`connect`] found a datagram socket that is connected to another, which accepts messages from
    /// that one only.
    pub(crate) fn is_connected_elsewhere(&self) -> bool {
        self.errno == Errno::PERM
    }

    /// Returns true if [`connect`] found a socket of another type.
    pub(crate) fn is_other_type(&self) -> bool {
        self.errno == Errno::PROTOTYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn an_empty_packet_is_not_the_end() {
        let null = File::open("/dev/null").unwrap();
        for fds in [&[][..], &[null.as_fd()][..]] {
            let (near, far) = socketpair(Kind::Seqpacket).unwrap();
            for _ in 0..2 {
                sendmsg(far.as_fd(), b"", fds, None, Wait::Never).unwrap();
            }
            drop(far);
            let receive = || {
                net::recv(&near, &mut [0; 1], RecvFlags::DONTWAIT)
                    .unwrap()
                    .1
            };
            assert_eq!(receive(), 0);
            assert!(!is_at_end(near.as_fd()).unwrap());
            assert_eq!(receive(), 0, "the packet is still queued");
            assert!(is_at_end(near.as_fd()).unwrap());
            assert_eq!(receive(), 0);
        }
    }

    #[test]
    fn queued_descriptors_are_found_with_proc_and_without() {
        let null = File::open("/dev/null").unwrap();
        let (plain, fds) = (&[][..], &[null.as_fd()][..]);
        let cases: [(&[&[BorrowedFd<'_>]], bool); 4] = [
            (&[], true),
            (&[plain, plain, plain], true),
            (&[plain, fds, plain], false),
            (&[fds], false),
        ];
        for (sent, all) in cases {
            let (near, far) = socketpair(Kind::Seqpacket).unwrap();
            for fds in sent {
                sendmsg(far.as_fd(), b"{}", fds, None, Wait::Never).unwrap();
            }
            shut_down(near.as_fd(), Shutdown::Both).unwrap();
            let count = sent.iter().map(|fds| fds.len() as u64).sum();
            let in_proc = std::path::Path::new("/proc/self/fdinfo").exists();
            assert_eq!(queued_descriptors(near.as_fd()), in_proc.then_some(count));
            assert_eq!(has_no_queued_descriptors(near.as_fd()).unwrap(), all);
            assert_eq!(drain_plain(near.as_fd()).unwrap(), all);
        }
        // The peer closed without reading what was sent to it.
        let (near, far) = socketpair(Kind::Seqpacket).unwrap();
        for end in [&near, &far] {
            sendmsg(end.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
        }
        drop(far);
        assert!(drain_plain(near.as_fd()).unwrap());
    }

    #[test]
    fn a_socket_stops_lingering_unless_it_resets() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for (before, after) in [(Some(5), None), (Some(0), Some(0)), (None, None)] {
            let time = |seconds: Option<u64>| seconds.map(Duration::from_secs);
            sockopt::set_socket_linger(&socket, time(before)).unwrap();
            stop_lingering(socket.as_fd());
            assert_eq!(sockopt::socket_linger(&socket).unwrap(), time(after));
        }
        assert!(is_any_socket(socket.as_fd()));
        assert!(!is_any_socket(File::open("/dev/null").unwrap().as_fd()));
    }
}
