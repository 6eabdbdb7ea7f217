//! Datagrams by hand: what an expert writes around `sendmsg` and `recvmsg` for one service that is known whole.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread, retry_on_intr, write};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrAny, SocketAddrUnix,
    SocketFlags, SocketType, acceptfrom_with, bind, connect, listen, sendmsg, sendmsg_addr,
    socket_with,
};

use crate::Outcome;
use crate::case::{At, Load, Wire};

/// What a datagram says whose text is in the memfd that comes with it.
const SPILLED: &[u8] = b"<args-via-fd>";
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(25);

/// A socket of the kind that is measured, with a send buffer for what is measured.
fn socket(at: &At) -> io::Result<OwnedFd> {
    let kind = match at.wire {
        Wire::Datagram => SocketType::DGRAM,
        _ => SocketType::SEQPACKET,
    };
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    enlarge(&socket, at)?;
    Ok(socket)
}

/// Large texts need a large send buffer; others have the default.
fn enlarge(socket: &OwnedFd, at: &At) -> io::Result<()> {
    match at.load.size() {
        0 => Ok(()),
        size => {
            let size = size.saturating_mul(2).min(4 << 20);
            Ok(sockopt::set_socket_send_buffer_size(socket, size)?)
        }
    }
}

/// Where one datagram of the case fits, whatever it is.
fn room(at: &At) -> Vec<u8> {
    vec![
        0;
        match at.load.size() {
            0 => 4096,
            _ => jsoncomm::socket::DATAGRAM_MAX,
        }
    ]
}

/// Connects to the server, with a name to be answered at, and a deadline.
pub(super) fn dial(at: &At) -> io::Result<OwnedFd> {
    let socket = socket(at)?;
    connect(&socket, &SocketAddrUnix::new(&at.path)?)?;
    if at.wire == Wire::Datagram {
        bind(&socket, &SocketAddrUnix::new_unnamed())?;
    }
    for way in [Timeout::Send, Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, way, Some(PATIENCE))?;
    }
    Ok(socket)
}

/// Binds, and listens where clients connect.
pub(super) fn door(at: &At) -> io::Result<OwnedFd> {
    let socket = socket(at)?;
    bind(&socket, &SocketAddrUnix::new(&at.path)?)?;
    if at.wire != Wire::Datagram {
        listen(&socket, 4096)?;
    }
    Ok(socket)
}

/// Accepts a client.
pub(super) fn admit(door: &OwnedFd, at: &At) -> io::Result<OwnedFd> {
    let (socket, _) = acceptfrom_with(door, SocketFlags::CLOEXEC)?;
    enlarge(&socket, at)?;
    Ok(socket)
}

/// The file that is passed, where one is.
pub(super) fn null(at: &At) -> io::Result<Option<File>> {
    let passes = matches!(at.load, Load::Descriptor | Load::RecordAndFile);
    passes.then(|| File::open("/dev/null")).transpose()
}

/// What came: so many bytes, a descriptor, and whom to answer on a datagram socket.
pub(super) struct Came {
    pub(super) length: usize,
    pub(super) fd: Option<OwnedFd>,
    pub(super) from: Option<SocketAddrAny>,
}

/// Receives a datagram, with room for a descriptor if `FDS`.
#[expect(
    clippy::disallowed_methods,
    reason = "by hand, in safe code; no credentials are asked for, and the peer is known"
)]
#[inline]
pub(super) fn receive<const FDS: bool>(
    socket: impl AsFd,
    into: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Came> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let space: &mut [_] = if FDS { &mut space } else { &mut [] };
    let mut control = RecvAncillaryBuffer::new(space);
    let mut slices = [IoSliceMut::new(into)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let came = rustix::net::recvmsg(socket, &mut slices, &mut control, flags)?;
    if came.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE.into());
    }
    let mut fd = None;
    if FDS {
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.last();
            }
        }
    }
    Ok(Came {
        length: came.bytes,
        fd,
        from: came.address,
    })
}

/// Sends a datagram, with a descriptor if there is one.
#[inline]
pub(super) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
    to: Option<&SocketAddrAny>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL.into());
    }
    let slices = [IoSlice::new(bytes)];
    match to {
        None => sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL)?,
        Some(to) => sendmsg_addr(socket, to, &slices, &mut control, SendFlags::NOSIGNAL)?,
    };
    Ok(())
}

/// Sends a text in a memfd.
fn spill(socket: impl AsFd, text: &[u8], to: Option<&SocketAddrAny>) -> io::Result<()> {
    let memfd = memfd_create("text", MemfdFlags::CLOEXEC)?;
    let mut rest = text;
    while !rest.is_empty() {
        let written = write(&memfd, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    send(socket, SPILLED, Some(memfd.as_fd()), to)
}

/// Reads the text in a memfd.
fn fetch(memfd: &OwnedFd, into: &mut Vec<u8>) -> Outcome {
    let size = usize::try_from(fstat(memfd)?.st_size)?;
    into.clear();
    into.reserve(size);
    while into.len() < size {
        let offset = into.len() as u64;
        if pread(memfd, rustix::buffer::spare_capacity(into), offset)? == 0 {
            return Err("the memfd has shrunk".into());
        }
    }
    Ok(())
}

/// Receives and sends texts of a case, in datagrams or, what is too large for one, in memfds.
pub(super) struct Texts {
    room: Vec<u8>,
    spilled: Vec<u8>,
    /// What is sent is written here first.
    pub(super) out: Vec<u8>,
}

impl Texts {
    pub(super) fn new(at: &At) -> Self {
        Self {
            room: room(at),
            spilled: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Receives a text; the second is empty room to write to.
    #[inline]
    pub(super) fn receive<const FDS: bool>(
        &mut self,
        socket: impl AsFd,
        flags: RecvFlags,
    ) -> Outcome<(Came, &[u8], &mut Vec<u8>)> {
        let came = receive::<FDS>(socket, &mut self.room, flags)?;
        let mut text = self.room.get(..came.length).unwrap_or_default();
        if let (true, Some(memfd)) = (FDS && text == SPILLED, &came.fd) {
            fetch(memfd, &mut self.spilled)?;
            text = &self.spilled;
        }
        self.out.clear();
        Ok((came, text, &mut self.out))
    }

    /// Sends what is written in `out`.
    #[inline]
    pub(super) fn send(
        &self,
        socket: impl AsFd,
        fd: Option<BorrowedFd<'_>>,
        to: Option<&SocketAddrAny>,
    ) -> io::Result<()> {
        match self.out.len() {
            ..=jsoncomm::socket::DATAGRAM_MAX => send(socket, &self.out, fd, to),
            _ => spill(socket, &self.out, to),
        }
    }
}

/// Serves with epoll: `answer` gets what came and writes what is to be sent, nothing to a one-way call. A socket that many calls in flight
/// come from is read until it is empty.
pub(super) fn serve<const FDS: bool>(
    at: &At,
    ready: &dyn Fn() -> Outcome,
    mut answer: impl FnMut(&[u8], Option<OwnedFd>, &mut Vec<u8>) -> Outcome<Option<OwnedFd>>,
) -> Outcome {
    const DOOR: u64 = u64::MAX;
    let door = door(at)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &door,
        epoll::EventData::new_u64(DOOR),
        epoll::EventFlags::IN,
    )?;
    ready()?;
    let mut texts = Texts::new(at);
    let drains = matches!(at.load, Load::Window(_) | Load::OneWay(_));
    let mut clients: Vec<Option<OwnedFd>> = Vec::new();
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        // A tracer that attaches interrupts it (signal(7)).
        retry_on_intr(|| {
            let events = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&poll, events, None)
        })?;
        for event in &events {
            let place = event.data.u64();
            if place == DOOR && at.wire != Wire::Datagram {
                let client = admit(&door, at)?;
                let data = epoll::EventData::new_u64(clients.len() as u64);
                epoll::add(&poll, &client, data, epoll::EventFlags::IN)?;
                clients.push(Some(client));
                continue;
            }
            let mut slot = clients.get_mut(usize::try_from(place)?);
            let socket = match &slot {
                Some(Some(client)) => client,
                _ => &door,
            };
            loop {
                let received = texts.receive::<FDS>(socket, RecvFlags::DONTWAIT);
                let (came, text, out) = match received {
                    Ok(received) => received,
                    Err(error) if drains && is_pending(&*error) => break,
                    Err(error) => return Err(error),
                };
                if came.length == 0 {
                    if let Some(slot) = &mut slot {
                        **slot = None;
                    }
                    break;
                }
                let fd = answer(text, came.fd, out)?;
                let fd = fd.as_ref().map(AsFd::as_fd);
                if !texts.out.is_empty() {
                    texts.send(socket, fd, came.from.as_ref())?;
                }
                if !drains {
                    break;
                }
            }
        }
    }
}

fn is_pending(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
