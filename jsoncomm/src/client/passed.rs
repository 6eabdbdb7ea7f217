//! Connections in messages: sent by lending the descriptor, received after they are checked.
//!
//! Whoever sends a connection may have kept a copy of it, or have it from another process. So nothing here waits, and a connection
//! is taken only if its other end belongs to the user who sent it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserializer, Serializer};

use super::table::Shared;
use super::{Blocking, CallMode, Connection, Stub};
use crate::error::FdProblem;
use crate::fds::{Discard, Giver, Hold, OverBudget};
use crate::limits::Limits;
use crate::message::{self, Pack, Packer, Unpack, Unpacker};
use crate::peer::Peer;
use crate::shape::Shape;
use crate::sys::socket::{SocketType, UNIX, is_connected, is_socket};
use crate::transport::{Kind, Transport};

/// What the descriptor of a connection has to be.
const EXPECTED: &str = "a connected unix seqpacket socket";

/// What a connection that came in a message gives back when its last clone is dropped.
pub(super) struct Received {
    /// Only this has the socket when it is dropped.
    fd: Option<Arc<OwnedFd>>,
    discard: Option<Arc<dyn Discard>>,
    /// Charges the connection to its sender, if it came to a server.
    hold: Option<Hold>,
}

impl Received {
    /// Returns true if a handler of a server got it, whose loop must not wait for the sender.
    pub(super) fn is_of_handler(&self) -> bool {
        self.hold.is_some()
    }
}

impl Drop for Received {
    /// Closes the socket on another thread: what is unread in it can be slow to close.
    fn drop(&mut self) {
        let fd = self.fd.take().and_then(Arc::into_inner);
        if let (Some(fd), Some(discard)) = (fd, self.discard.take()) {
            discard.discard(vec![fd]);
        }
    }
}

impl Connection {
    /// Returns the identity of the process at the other end, as the kernel reports it now: the one that listens, or that made
    /// the socket pair.
    ///
    /// `None` if it is not known: on a [`Kind::Datagram`] socket, through a socket pair that this process has made, for a user
    /// that this process's user namespace does not map, and in a forked child. It has no [`pidfd`](Peer::pidfd).
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// let connection = Connection::open(&path)?;
    /// let server = connection.peer().ok_or("it is not known who serves")?;
    /// assert_eq!(server.pid(), Some(std::process::id()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "SO_PEERCRED")]
    pub fn peer(&self) -> Option<Peer> {
        self.shared.check_process().ok()?;
        let is_datagram = self.shared.lock().is_datagram();
        (!is_datagram).then(|| Peer::of_connection(self.as_fd(), None))?
    }
}

impl Shared {
    /// Returns why the connection must not be sent in a message, if so.
    fn unsendable(&self, index: u64) -> Option<FdProblem> {
        // Before the table is locked; see `check_process`.
        if self.check_process().is_err() {
            return Some(FdProblem::InUse { index });
        }
        let table = self.lock();
        if table.transport.kind != Kind::Seqpacket {
            let expected = EXPECTED;
            return Some(FdProblem::Kind { index, expected });
        }
        let idle = table.calls.is_empty() && table.to_cancel.is_empty() && table.batch.is_empty();
        (!idle).then_some(FdProblem::InUse { index })
    }
}

impl Pack for Connection {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        let index = u64::try_from(fds.len()).unwrap_or(u64::MAX);
        match self.shared.unsendable(index) {
            None => message::write_fd(self.as_fd(), fds, out),
            Some(problem) => Err(fds.refuse(problem)),
        }
    }

    fn shape() -> Shape {
        Shape::Endpoint("")
    }
}

impl<'de> Unpack<'de> for Connection {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        let index = message::read_fd(from)?;
        let expected = EXPECTED;
        let wrong = FdProblem::Kind { index, expected };
        // What is none stays in the message, which is closed without waiting.
        fds.check(index, |fd| (!is_endpoint(fd)).then_some(wrong))?;
        let fd = fds.take(index)?;
        let (giver, discard) = fds.giver();
        receive(index, fd, giver, discard).map_err(|problem| fds.refuse(problem))
    }
}

/// Returns true for a connected seqpacket socket.
fn is_endpoint(fd: BorrowedFd<'_>) -> bool {
    is_socket(fd, UNIX, SocketType::SEQPACKET, false) && is_connected(fd) == Ok(true)
}

/// Makes a connection of a descriptor that came in a message, if it is one and may be taken. Never waits.
fn receive(
    index: u64,
    fd: OwnedFd,
    giver: Giver,
    discard: Option<Arc<dyn Discard>>,
) -> Result<Connection, FdProblem> {
    let expected = EXPECTED;
    let wrong = FdProblem::Kind { index, expected };
    let socket = fd.as_fd();
    let is_givers = match giver {
        Giver::Anyone => true,
        Giver::User(user) => Peer::user_of_endpoint(socket) == Some(user),
        Giver::Unknown => false,
    };
    if !is_givers {
        return Err(FdProblem::Foreign { index });
    }
    let hold = discard.clone().map(Discard::hold).transpose();
    let hold = hold.map_err(|OverBudget| FdProblem::OverBudget { index })?;
    let transport = Transport::new(fd, Kind::Seqpacket, &Limits::default()).map_err(|_| wrong)?;
    let received = Received {
        fd: Some(Arc::clone(&transport.fd)),
        discard,
        hold: hold.flatten(),
    };
    let transport = transport.contested().know_giver();
    Ok(Connection::new(transport, None, Some(received)))
}

/// The mode of a stub that can be sent and received. The receiver makes the others of it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a stub of the mode `{Self}` cannot be sent or received",
    label = "a stub of another mode",
    note = "write the name of the stub alone, without `<{Self}>`: what is received has `start()`"
)]
pub trait PassedMode: CallMode {}

impl PassedMode for Blocking {}

impl<M: PassedMode> Pack for Stub<M> {
    fn pack<'a, S: Serializer>(&'a self, fds: &Packer<'a>, out: S) -> Result<S::Ok, S::Error> {
        Connection::pack(self, fds, out)
    }
}

impl<'de, M: PassedMode> Unpack<'de> for Stub<M> {
    fn unpack<D: Deserializer<'de>>(fds: &Unpacker, from: D) -> Result<Self, D::Error> {
        Connection::unpack(fds, from).map(Self::from)
    }
}
