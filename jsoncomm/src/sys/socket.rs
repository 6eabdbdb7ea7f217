//! Socket calls: [socket(2)], [bind(2)], [sendmsg(2)] and their kin, on unix sockets only.
//!
//! [socket(2)]: https://man7.org/linux/man-pages/man2/socket.2.html
//! [bind(2)]: https://man7.org/linux/man-pages/man2/bind.2.html
//! [sendmsg(2)]: https://man7.org/linux/man-pages/man2/sendmsg.2.html

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};

use super::control::Wait;
use super::name::Name;
use super::seam;

/// The two types of socket that keep datagrams whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// `SOCK_DGRAM`
    Dgram,
    /// `SOCK_SEQPACKET`
    Seqpacket,
}

impl From<Type> for SocketType {
    fn from(of: Type) -> Self {
        match of {
            Type::Dgram => Self::DGRAM,
            Type::Seqpacket => Self::SEQPACKET,
        }
    }
}

/// Makes an unbound socket, close-on-exec.
pub(crate) fn socket(of: Type) -> io::Result<OwnedFd> {
    seam("socket")?;
    let flags = SocketFlags::CLOEXEC;
    Ok(net::socket_with(
        AddressFamily::UNIX,
        of.into(),
        flags,
        None,
    )?)
}

/// Makes two sockets that are connected to each other, close-on-exec.
pub(crate) fn socketpair(of: Type) -> io::Result<(OwnedFd, OwnedFd)> {
    seam("socketpair")?;
    let flags = SocketFlags::CLOEXEC;
    Ok(net::socketpair(
        AddressFamily::UNIX,
        of.into(),
        flags,
        None,
    )?)
}

/// Gives the socket a name; an existing file is `AddrInUse`.
pub(crate) fn bind(socket: BorrowedFd<'_>, name: &Name) -> io::Result<()> {
    seam("bind")?;
    Ok(net::bind(socket, name)?)
}

/// Lets the kernel choose an abstract name, so that answers can be sent here (autobind, unix(7)).
pub(crate) fn autobind(socket: BorrowedFd<'_>) -> io::Result<()> {
    seam("bind")?;
    Ok(net::bind(socket, &Name::NONE)?)
}

/// Connects to the socket of that name.
pub(crate) fn connect(socket: BorrowedFd<'_>, name: &Name) -> io::Result<()> {
    seam("connect")?;
    Ok(net::connect(socket, name)?)
}

/// Takes a name in the types of socket other than `of`, so that nobody else can: an abstract name is another in each
/// ([unix(7)]). The name is free again when all that is returned is closed.
///
/// None of these can be connected to. Those with connections do not listen (`ECONNREFUSED`); the datagram socket is
/// connected to itself (`EPERM`).
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn hold_other_types(name: &Name, of: Type) -> io::Result<Vec<OwnedFd>> {
    let types = [SocketType::DGRAM, SocketType::SEQPACKET, SocketType::STREAM];
    let others = types.into_iter().filter(|other| *other != of.into());
    let hold = |of| {
        seam("socket")?;
        let socket = net::socket_with(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None)?;
        bind(socket.as_fd(), name)?;
        if of == SocketType::DGRAM {
            connect(socket.as_fd(), name)?;
        }
        Ok(socket)
    };
    others.map(hold).collect()
}

/// What a socket file is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Some process has the socket open.
    Live,
    /// No process has.
    Dead,
    /// That may not be known.
    Unknown,
}

/// Finds out whether anybody has the socket of a file open, without any of them noticing.
///
/// A datagram socket tells of all types: others that are open are `EPROTOTYPE`, also before `listen`, when
/// their own type would be refused (measured on Linux 6.18).
pub(crate) fn probe(name: &Name) -> io::Result<Probe> {
    let socket = socket(Type::Dgram)?;
    match seam("connect").and_then(|()| net::connect(&socket, name)) {
        // EPERM: it is connected to another, and talks to no one else.
        Ok(()) | Err(Errno::PROTOTYPE | Errno::PERM) => Ok(Probe::Live),
        Err(Errno::CONNREFUSED) => Ok(Probe::Dead),
        Err(Errno::ACCESS) => Ok(Probe::Unknown),
        Err(error) => Err(error.into()),
    }
}

/// Opens a bound seqpacket socket to clients and makes its `accept` never wait.
pub(crate) fn listen(socket: BorrowedFd<'_>) -> io::Result<()> {
    /// A full backlog refuses clients, which then cannot wait for room with poll; so it is large.
    const BACKLOG: i32 = 4096;
    seam("ioctl")?;
    rustix::io::ioctl_fionbio(socket, true)?;
    seam("listen")?;
    Ok(net::listen(socket, BACKLOG)?)
}

/// Takes the next connection of a listening socket, close-on-exec; never waits.
pub(crate) fn accept(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    seam("accept4")?;
    Ok(net::accept_with(socket, SocketFlags::CLOEXEC)?)
}

/// Sends one datagram without descriptors, all or nothing. The kernel has no header to fetch, as sendmsg(2) has.
///
/// One system call. `SIGPIPE` is never raised. `to` is for sockets that are not connected.
#[inline]
pub(crate) fn sendto(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: Option<&Name>,
    wait: Wait,
) -> io::Result<()> {
    seam("sendto")?;
    match to {
        Some(name) => net::sendto(socket, bytes, flags_for(wait), name),
        None => net::send(socket, bytes, flags_for(wait)),
    }?;
    Ok(())
}

/// Sends one datagram with its descriptors, all or nothing. The kernel duplicates the descriptors.
///
/// One system call. `SIGPIPE` is never raised. `to` is for sockets that are not connected.
#[inline(never)]
pub(crate) fn sendmsg(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    to: Option<&Name>,
    wait: Wait,
) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(bytes)];
    let flags = flags_for(wait);
    seam("sendmsg")?;
    match to {
        Some(name) => net::sendmsg_addr(socket, name, &parts, &mut control, flags),
        None => net::sendmsg(socket, &parts, &mut control, flags),
    }?;
    Ok(())
}

fn flags_for(wait: Wait) -> SendFlags {
    match wait {
        Wait::Never => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        Wait::Socket => SendFlags::NOSIGNAL,
    }
}

/// Which half of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// Receiving, but not what has been received already (`SHUT_RD`).
    Reading,
    /// Both directions (`SHUT_RDWR`).
    Both,
}

/// Ends receiving, or sending as well ([shutdown(2)]).
///
/// [shutdown(2)]: https://man7.org/linux/man-pages/man2/shutdown.2.html
pub(crate) fn shut_down(socket: BorrowedFd<'_>, how: How) -> io::Result<()> {
    seam("shutdown")?;
    Ok(net::shutdown(
        socket,
        match how {
            How::Reading => net::Shutdown::Read,
            How::Both => net::Shutdown::Both,
        },
    )?)
}

/// Raises `SO_SNDBUF` as near to `bytes` as the system allows, and says what it is now.
///
/// The kernel doubles what is asked for, up to twice `net.core.wmem_max` ([socket(7)]).
///
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
pub(crate) fn raise_sndbuf(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    seam("getsockopt")?;
    let now = sockopt::socket_send_buffer_size(socket)?;
    if now >= bytes {
        return Ok(now);
    }
    seam("setsockopt")?;
    sockopt::set_socket_send_buffer_size(socket, bytes.div_ceil(2))?;
    seam("getsockopt")?;
    Ok(sockopt::socket_send_buffer_size(socket)?)
}

/// Asks the kernel to say with each message who sent it (`SO_PASSCRED`).
pub(crate) fn set_passcred(socket: BorrowedFd<'_>) -> io::Result<()> {
    seam("setsockopt")?;
    Ok(sockopt::set_socket_passcred(socket, true)?)
}

/// Which of the two socket timeouts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timeout {
    /// `SO_RCVTIMEO`
    Receive,
    /// `SO_SNDTIMEO`
    Send,
}

/// Sets how long a waiting call waits; `None` for ever. Less than a microsecond counts as one.
pub(crate) fn set_timeout(
    socket: BorrowedFd<'_>,
    which: Timeout,
    after: Option<Duration>,
) -> io::Result<()> {
    let after = after.map(|time| time.max(Duration::from_micros(1)));
    let id = match which {
        Timeout::Receive => sockopt::Timeout::Recv,
        Timeout::Send => sockopt::Timeout::Send,
    };
    seam("setsockopt")?;
    Ok(sockopt::set_socket_timeout(socket, id, after)?)
}

/// Says which of our types a socket is; `None` when it is not a unix socket of either type.
pub(crate) fn type_of(socket: BorrowedFd<'_>) -> io::Result<Option<Type>> {
    seam("getsockopt")?;
    if sockopt::socket_domain(socket)? != AddressFamily::UNIX {
        return Ok(None);
    }
    seam("getsockopt")?;
    Ok(match sockopt::socket_type(socket)? {
        SocketType::DGRAM => Some(Type::Dgram),
        SocketType::SEQPACKET => Some(Type::Seqpacket),
        _ => None,
    })
}

/// Says whether `listen` was called on the socket (`SO_ACCEPTCONN`).
pub(crate) fn is_listening(socket: BorrowedFd<'_>) -> io::Result<bool> {
    seam("getsockopt")?;
    Ok(sockopt::socket_acceptconn(socket)?)
}

/// Says whether the socket has a peer, to whom all goes that is sent to nobody in particular ([getpeername(2)]).
///
/// [getpeername(2)]: https://man7.org/linux/man-pages/man2/getpeername.2.html
pub(crate) fn is_connected(socket: BorrowedFd<'_>) -> io::Result<bool> {
    seam("getpeername")?;
    match rustix::net::getpeername(socket) {
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns true if a connected socket is one of a pair ([socketpair(2)]): neither end has a name. What has been accepted
/// has that of its listening socket, and that is the peer's name of what has connected.
///
/// [socketpair(2)]: https://man7.org/linux/man-pages/man2/socketpair.2.html
pub(crate) fn is_of_pair(socket: BorrowedFd<'_>) -> io::Result<bool> {
    /// That of the family alone.
    const UNNAMED: usize = size_of::<libc::sa_family_t>();
    if super::control::getsockname(socket)?.is_some() {
        return Ok(false);
    }
    seam("getpeername")?;
    let peer = rustix::net::getpeername(socket)?;
    let length = peer.map_or(0, |peer| peer.addr_len());
    Ok(usize::try_from(length).is_ok_and(|length| length <= UNNAMED))
}

/// What a received socket may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    /// `AF_UNIX`
    Unix,
    /// `AF_INET` or `AF_INET6`
    Inet,
}

/// Says whether `fd` is a socket of this domain and type, listening or not.
pub(crate) fn is_socket(fd: BorrowedFd<'_>, domain: Domain, stream: bool, listening: bool) -> bool {
    let of = if stream {
        SocketType::STREAM
    } else {
        SocketType::DGRAM
    };
    let domain_fits = sockopt::socket_domain(fd).is_ok_and(|found| match domain {
        Domain::Unix => found == AddressFamily::UNIX,
        Domain::Inet => found == AddressFamily::INET || found == AddressFamily::INET6,
    });
    seam("getsockopt").is_ok()
        && domain_fits
        && sockopt::socket_type(fd).is_ok_and(|found| found == of)
        && is_listening(fd).is_ok_and(|found| found == listening)
}

/// Says whether `fd` is a socket of whatever domain and type; does not wait for a file system, as fstat(2) may.
pub(crate) fn is_any_socket(fd: BorrowedFd<'_>) -> bool {
    seam("getsockopt").is_ok() && sockopt::socket_type(fd).is_ok()
}

/// Has close(2) of a socket not wait until what was sent has arrived (`SO_LINGER`, [socket(7)]); the kernel goes on
/// sending it. A socket that closes with a reset still does.
///
/// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
pub(crate) fn stop_lingering(fd: BorrowedFd<'_>) {
    let lingers =
        sockopt::socket_linger(fd).is_ok_and(|time| time.is_some_and(|time| !time.is_zero()));
    if lingers {
        let _ = sockopt::set_socket_linger(fd, None);
    }
}

/// Says whether nothing is queued on a connected socket from which a length of 0 has been received, so that this was
/// the end: an empty packet looks the same.
///
/// With `SO_PASSCRED`, which this sets, the kernel has something to say of every message that is queued, if only that
/// there is no room to say it, and nothing of the end (`scm_recv`, net/core/scm.h).
pub(crate) fn is_at_end(socket: BorrowedFd<'_>) -> io::Result<bool> {
    set_passcred(socket)?;
    Ok(!brings_something(socket)?)
}

/// Returns true if nothing is queued on a socket that has been shut down. Nothing more comes then.
pub(crate) fn is_empty(socket: BorrowedFd<'_>) -> io::Result<bool> {
    match is_at_end(socket) {
        // A datagram socket has no end.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        other => other,
    }
}

/// Returns true if nothing that is queued on a connected socket brings descriptors, which closing it could wait for. The
/// socket has been shut down, so nothing more comes. What is queued may be taken off for that.
pub(crate) fn brings_no_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    match queued_descriptors(socket) {
        Some(count) => Ok(count == 0),
        None => takes_all(socket),
    }
}

/// Asks how many descriptors are queued on a unix socket, by what /proc tells of it (`scm_fds`, since Linux 5.6). `None`
/// where that cannot be read.
fn queued_descriptors(socket: BorrowedFd<'_>) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", socket.as_raw_fd());
    seam("openat").ok()?;
    let info = std::fs::read_to_string(path).ok()?;
    let count = info.lines().find_map(|line| line.strip_prefix("scm_fds:"));
    count?.trim().parse().ok()
}

/// Takes what is queued on a connected socket that has been shut down, up to the first message that brings
/// descriptors. Says whether there is none, so that nothing is left that closing the socket could wait for.
fn takes_all(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    while !brings_something(socket)? {
        if received(|| net::recv(socket, &mut [0; 1], flags))?.1 == 0 {
            return is_at_end(socket);
        }
    }
    Ok(false)
}

/// Says whether the next message has anything beside its bytes.
fn brings_something(socket: BorrowedFd<'_>) -> io::Result<bool> {
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

/// Receives. `ECONNRESET` comes once, before what a dead peer had sent and the end.
fn received<T>(mut receive: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    seam("recvmsg")?;
    match receive() {
        Err(Errno::CONNRESET) => Ok(receive()?),
        other => Ok(other?),
    }
}

/// What a failed [`sendmsg`], or what had to come before it, means for who called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The peer's queue or the own send buffer is full; room may come.
    Full,
    /// The kernel is short of memory or of descriptors, open ones or those in flight; no event says when that ends.
    Short,
    /// The datagram exceeds `SO_SNDBUF`.
    TooLong,
    /// Nobody is there, or not any more.
    Gone,
    /// A signal came first.
    Interrupted,
    /// Anything else.
    Other,
}

/// Sorts the errors of [`sendmsg`].
pub(crate) fn trouble(error: &io::Error) -> Trouble {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => Trouble::Full,
        Some(
            Errno::NOBUFS
            | Errno::NOMEM
            | Errno::TOOMANYREFS
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOSPC,
        ) => Trouble::Short,
        Some(Errno::MSGSIZE) => Trouble::TooLong,
        Some(Errno::CONNREFUSED | Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Trouble::Gone,
        Some(Errno::INTR) => Trouble::Interrupted,
        _ => Trouble::Other,
    }
}

/// Returns true if [`connect`] found a datagram socket that is connected to another, and talks to no one else.
pub(crate) fn is_connected_elsewhere(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::PERM)
}

/// Says whether [`connect`] found a socket of another type at the address.
pub(crate) fn is_other_type(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::PROTOTYPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn an_empty_packet_is_not_the_end() {
        let null = File::open("/dev/null").unwrap();
        for fds in [&[][..], &[null.as_fd()][..]] {
            let (near, far) = socketpair(Type::Seqpacket).unwrap();
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
            assert_eq!(receive(), 0, "it is still there");
            assert!(is_at_end(near.as_fd()).unwrap());
            assert_eq!(receive(), 0);
        }
    }

    #[test]
    fn what_brings_no_descriptors_is_known_with_proc_and_without() {
        let null = File::open("/dev/null").unwrap();
        let (plain, fds) = (&[][..], &[null.as_fd()][..]);
        let cases: [(&[&[BorrowedFd<'_>]], bool); 4] = [
            (&[], true),
            (&[plain, plain, plain], true),
            (&[plain, fds, plain], false),
            (&[fds], false),
        ];
        for (sent, all) in cases {
            let (near, far) = socketpair(Type::Seqpacket).unwrap();
            for fds in sent {
                sendmsg(far.as_fd(), b"{}", fds, None, Wait::Never).unwrap();
            }
            shut_down(near.as_fd(), How::Both).unwrap();
            let count = sent.iter().map(|fds| fds.len() as u64).sum();
            assert_eq!(queued_descriptors(near.as_fd()), Some(count));
            assert_eq!(brings_no_descriptors(near.as_fd()).unwrap(), all);
            assert_eq!(takes_all(near.as_fd()).unwrap(), all);
        }
        // A peer that has gone without reading what was sent to it.
        let (near, far) = socketpair(Type::Seqpacket).unwrap();
        for end in [&near, &far] {
            sendmsg(end.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
        }
        drop(far);
        assert!(takes_all(near.as_fd()).unwrap());
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
