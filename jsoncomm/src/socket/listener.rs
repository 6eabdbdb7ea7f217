//! Accepting connections, and taking over sockets made by other code.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Socket;
use crate::address::{Address, Bind, Bound};
use crate::error::{AddressProblem, Error};
use crate::limits::Limits;
use crate::sys::OsResult;
use crate::sys::control;
use crate::sys::file;
use crate::sys::socket::{self as sys, Kind};
use crate::transport::Transport;

/// A listening [`Kind::Seqpacket`] socket that accepts connections. It never waits: poll its descriptor, which is readable
/// when a client is waiting.
///
/// It removes its file when it is dropped, if that is still the same file. Forked children can accept from their copies,
/// which remove nothing.
///
/// # Examples
///
/// ```
/// use jsoncomm::socket::{Listener, Socket};
/// use jsoncomm::Kind;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("listener.sock");
///
/// let listener = Listener::bind(&path)?;
/// let mut client = Socket::connect(&path, Kind::Seqpacket)?;
/// client.send("hello")?;
/// if let Some(mut accepted) = listener.accept()? {
///     assert_eq!(accepted.receive::<String>()?.0, "hello");
/// }
/// assert!(listener.accept()?.is_none(), "no other client is waiting");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    // Dropped before the socket is closed; see `Bound`.
    path: Option<Bound>,
    fd: OwnedFd,
}

impl Listener {
    /// Binds a seqpacket socket to an address and listens for connections.
    ///
    /// Replaces the file of a dead server, never that of a live one; [`Bind`] has the rules, and sets mode and owner.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::bind`].
    pub fn bind(at: impl Into<Bind>) -> Result<Self, Error> {
        let fd = sys::socket(Kind::Seqpacket)?;
        let path = Some(at.into().bind(fd.as_fd(), Kind::Seqpacket)?);
        Ok(Self { path, fd })
    }

    /// Takes over a listening seqpacket socket, for example from a service manager. Its file is not removed.
    ///
    /// Clients see this process as their [peer](crate::Connection::peer) from then on. If another user has made the socket
    /// listen, they go on to see that one.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if it is another kind of socket. The descriptor is then closed.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        kind_of(fd.as_fd(), Listening::Yes)?;
        sys::accept_without_waiting(fd.as_fd())?;
        // Clients see the process that has called listen(2) as their server. A service manager of another user stays that: they
        // may believe it and not this process (`Registry`). Otherwise calling again allows more clients to wait.
        if control::peer_credentials(fd.as_fd()).is_ok_and(|server| server.uid == file::euid()) {
            sys::listen(fd.as_fd())?;
        }
        Ok(Self { path: None, fd })
    }

    /// Makes it the owner of the socket's address as well.
    pub(crate) fn with_path(self, path: Option<Bound>) -> Self {
        Self { path, ..self }
    }

    /// What holds the address, if this listener does.
    pub(crate) fn bound(&mut self) -> Option<&mut Bound> {
        self.path.as_mut()
    }

    /// Accepts the next connection; `None` if no client is waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [accept(2)] reports. If descriptors or memory have run out (`EMFILE`, `ENOMEM`), the client
    /// stays queued: try again later.
    ///
    /// [accept(2)]: https://man7.org/linux/man-pages/man2/accept.2.html
    pub fn accept(&self) -> Result<Option<Socket>, Error> {
        Ok(self.accept_transport(&Limits::default())?.map(Socket::new))
    }

    /// Returns the address it listens at, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [getsockname(2)] reports.
    ///
    /// [getsockname(2)]: https://man7.org/linux/man-pages/man2/getsockname.2.html
    pub fn local_address(&self) -> Result<Option<Address>, Error> {
        local_address(self.as_fd())
    }

    /// Accepts the next connection as a transport without message types.
    pub(crate) fn accept_transport(&self, limits: &Limits) -> OsResult<Option<Transport>> {
        let accepted = sys::accept(self.fd.as_fd())?;
        accepted
            .map(|fd| Transport::new(fd, Kind::Seqpacket, limits))
            .transpose()
    }

    /// Removes the file and returns the socket.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.into_parts().1
    }

    /// Returns what holds the address, and the socket, to be dropped in this order.
    pub(crate) fn into_parts(self) -> (Option<Bound>, OwnedFd) {
        (self.path, self.fd)
    }
}

impl AsFd for Listener {
    /// Returns the descriptor to poll: readable when a client is waiting.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a socket to take over has to be listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listening {
    Yes,
    No,
}

/// Returns the kind of a socket made by other code; refuses one that is not suitable.
pub(crate) fn kind_of(fd: BorrowedFd<'_>, listening: Listening) -> Result<Kind, Error> {
    let wrong = |expected| Error::Address {
        address: String::from("of the descriptor"),
        problem: AddressProblem::WrongSocket { expected },
    };
    let found = sys::kind_of(fd).ok().flatten();
    let kind = found.ok_or_else(|| wrong("a unix datagram or seqpacket socket"))?;
    match (sys::is_listening(fd)?, listening) {
        (true, Listening::Yes) | (false, Listening::No) => Ok(kind),
        (true, Listening::No) => Err(wrong("a socket that sends and receives: it listens")),
        (false, Listening::Yes) => Err(wrong("a listening socket")),
    }
}

/// Returns a socket's own address, if it has one.
pub(crate) fn local_address(fd: BorrowedFd<'_>) -> Result<Option<Address>, Error> {
    Ok(control::getsockname(fd)?.map(Address::from_name))
}
