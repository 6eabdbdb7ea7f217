//! A socket that sends arbitrary bytes.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use jsoncomm::Kind;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketType, bind, connect, recv, sendmsg, socket,
};
use rustix::pipe::{PipeFlags, pipe_with};

pub(crate) struct Raw(pub(crate) OwnedFd);

/// How long to wait for a reply that may not come.
const GIVE_UP: Duration = Duration::from_millis(500);

impl Raw {
    /// Connects; binds a datagram socket to a name so that it gets replies.
    pub(crate) fn connect(path: &Path, kind: Kind) -> io::Result<Self> {
        let raw = Self::nameless(path, kind)?;
        if kind == Kind::Datagram {
            bind(&raw.0, &SocketAddrUnix::new_unnamed())?;
        }
        Ok(raw)
    }

    /// Connects, without a name.
    pub(crate) fn nameless(path: &Path, kind: Kind) -> io::Result<Self> {
        let socket_type = match kind {
            Kind::Datagram => SocketType::DGRAM,
            _ => SocketType::SEQPACKET,
        };
        let raw = socket(AddressFamily::UNIX, socket_type, None)?;
        for way in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&raw, way, Some(GIVE_UP))?;
        }
        connect(&raw, &SocketAddrUnix::new(path)?)?;
        Ok(Self(raw))
    }

    /// Sends, and waits a while for room.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(bytes, fds, SendFlags::NOSIGNAL)
    }

    /// Sends if there is room.
    pub(crate) fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags)?;
        Ok(())
    }

    /// Receives the beginning of a reply and drops its descriptors.
    pub(crate) fn receive(&self) -> io::Result<String> {
        let mut room = [0; 1024];
        let (heard, _) = recv(&self.0, &mut room, RecvFlags::empty())?;
        match room.get(..heard) {
            Some(heard) if !heard.is_empty() => Ok(String::from_utf8_lossy(heard).into_owned()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Creates a pipe: its read end and its write end.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Encodes a call.
pub(crate) fn call(id: u64, method: &str, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"soak.work.{method}","params":{params}}}"#)
        .into_bytes()
}

/// Encodes a cancellation.
pub(crate) fn cancel(id: u64) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","method":"rpc.cancel","params":{{"id":{id}}}}}"#).into_bytes()
}
