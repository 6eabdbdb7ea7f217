//! Typed messages on a socket: one datagram, one message, without an envelope.
//!
//! [`Socket`] sends and receives messages, blocking or not; [`Listener`] accepts connections. [`RawDatagram`] is a datagram as it
//! came. [`Connection`](crate::Connection) and [`Server`](crate::Server) add calls with replies, deadlines and dispatch.

mod raw;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::address::{Address, Bind, Bound};
use crate::error::{AddressProblem, Error};
use crate::json::check_size;
use crate::limits::Limits;
use crate::message::{self, Message, Pack, Packer, UnusedFds};
use crate::sys::OsError;
use crate::sys::control::{self, Wait};
use crate::sys::socket::{self as sys, Type};
use crate::transport::{self, Datagram, Inbox, Kind, ReceiveOutcome, SendAttempt, Transport};

pub use crate::limits::DATAGRAM_MAX;
pub use crate::transport::SendStatus;
pub use raw::RawDatagram;

/// What one attempt to receive found.
///
/// # Examples
///
/// ```
/// use jsoncomm::socket::{Received, Socket};
/// use jsoncomm::Kind;
///
/// let (mut left, mut right) = Socket::pair(Kind::Seqpacket)?;
/// left.send("one")?;
/// drop(left);
/// let mut lines = Vec::new();
/// loop {
///     match right.try_receive::<String>()? {
///         Received::Message(line, _sender) => lines.push(line),
///         Received::Pending => println!("wait until the socket is readable"),
///         Received::Closed => break,
///     }
/// }
/// assert_eq!(lines, ["one"]);
/// # Ok::<(), jsoncomm::Error>(())
/// ```
#[derive(Debug)]
pub enum Received<M> {
    /// One whole message, and where it came from if the sender has an address.
    Message(M, Option<Address>),
    /// Nothing is queued; try again when the socket is readable.
    Pending,
    /// The peer has closed; no message will follow. Only on [`Kind::Seqpacket`].
    Closed,
}

/// A socket that sends and receives typed messages, one JSON value and its descriptors in each datagram.
///
/// This is the bare wire: the JSON is the message itself, without an envelope. [`send`](Socket::send) and
/// [`receive`](Socket::receive) wait, for ever unless [`set_timeout`](Socket::set_timeout) says how long;
/// [`try_send`](Socket::try_send) and [`try_receive`](Socket::try_receive) never do, whatever the
/// descriptor's own flags. A text too large for a datagram travels in a memfd without further ado, up to
/// [`Limits::message`].
///
/// The path of a bound socket is removed when it is dropped, if it is still the same file. A forked child ([fork(2)])
/// can go on with its copy, which removes nothing: both processes then have one socket, and each message is received by
/// one of them.
///
/// [fork(2)]: https://man7.org/linux/man-pages/man2/fork.2.html
///
/// # Examples
///
/// ```
/// use jsoncomm::socket::Socket;
/// use jsoncomm::{Kind, Message};
/// use std::fs::File;
///
/// #[derive(Debug, Message)]
/// struct Take { name: String, #[fd] file: File }
///
/// let (mut left, mut right) = Socket::pair(Kind::Seqpacket)?;
/// left.send(&Take { name: "null".into(), file: File::open("/dev/null")? })?;
/// let (take, _sender) = right.receive::<Take>()?;
/// assert_eq!(take.name, "null");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Socket {
    // Dropped before the socket is closed; see `Bound`.
    path: Option<Bound>,
    line: Transport,
    inbox: Inbox,
    text: Vec<u8>,
    timeout: Option<Duration>,
    surplus: UnusedFds,
}

impl Socket {
    /// Makes two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [socketpair(2)] reports, such as `EMFILE`.
    ///
    /// [socketpair(2)]: https://man7.org/linux/man-pages/man2/socketpair.2.html
    pub fn pair(kind: Kind) -> Result<(Self, Self), Error> {
        let (left, right) = sys::socketpair(kind.into())?;
        let limits = Limits::default();
        Ok((
            Self::new(Transport::new(left, kind, &limits)?),
            Self::new(Transport::new(right, kind, &limits)?),
        ))
    }

    /// Binds a datagram socket to an address, to receive from anyone who can reach it. The file of a dead
    /// server is replaced, that of a live one never; [`Bind`] has the rules, and sets mode and owner.
    ///
    /// For connections see [`Listener::bind`].
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when something is in the way, the directory is missing, or the address cannot be
    /// used, as [`AddressProblem`] tells; [`Error::Os`] for whatever else [bind(2)] and its kin report. What
    /// was there is as before, and nothing is left behind.
    ///
    /// [bind(2)]: https://man7.org/linux/man-pages/man2/bind.2.html
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::address::Address;
    /// use jsoncomm::socket::Socket;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("sums.sock");
    ///
    /// let mut server = Socket::bind(&path)?;
    /// let mut client = Socket::unconnected()?;
    /// client.send_to(&(1, 2), &Address::from(&path))?;
    ///
    /// let ((a, b), sender) = server.receive::<(u32, u32)>()?;
    /// if let Some(sender) = sender {
    ///     server.send_to(&(a + b), &sender)?;
    /// }
    /// assert_eq!(client.receive::<u32>()?.0, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(at: impl Into<Bind>) -> Result<Self, Error> {
        let fd = sys::socket(Type::Dgram)?;
        let mut socket = Self::new(Transport::new(fd, Kind::Datagram, &Limits::default())?);
        socket.path = Some(at.into().bind(socket.as_fd(), Type::Dgram)?);
        Ok(socket)
    }

    /// Connects to a socket of this kind. A datagram socket also gets a name of its own, so that it
    /// can be answered.
    ///
    /// Waits for 25 s at most, and only while a [`Listener`] has more clients to accept than the kernel keeps
    /// for it.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] with [`AddressProblem::Missing`], [`NobodyListens`](AddressProblem::NobodyListens),
    /// [`Denied`](AddressProblem::Denied) or [`OtherKind`](AddressProblem::OtherKind), or another when the
    /// address itself is bad; [`Error::Deadline`]; [`Error::Os`] for whatever else [connect(2)] reports.
    ///
    /// [connect(2)]: https://man7.org/linux/man-pages/man2/connect.2.html
    pub fn connect(address: impl Into<Address>, kind: Kind) -> Result<Self, Error> {
        Self::connect_by(address, kind, Instant::now() + transport::DEADLINE)
    }

    /// Connects as [`connect`](Socket::connect) does, and waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`connect`](Socket::connect); [`Error::Deadline`] at once if the deadline has passed.
    pub fn connect_by(
        address: impl Into<Address>,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let line = transport::connect_by(&address.into(), kind, &Limits::default(), deadline)?;
        Ok(Self::new(line))
    }

    /// Connects to whichever kind of socket is at the address; otherwise as [`connect`](Socket::connect).
    ///
    /// # Errors
    ///
    /// As [`connect`](Socket::connect).
    pub fn open(address: impl Into<Address>) -> Result<Self, Error> {
        Self::open_by(address, Instant::now() + transport::DEADLINE)
    }

    /// Connects as [`open`](Socket::open) does, and waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`connect_by`](Socket::connect_by).
    pub fn open_by(address: impl Into<Address>, deadline: Instant) -> Result<Self, Error> {
        transport::connect_any(&address.into(), &Limits::default(), deadline).map(Self::new)
    }

    /// Makes a datagram socket that is not connected but has a name: send with
    /// [`send_to`](Socket::send_to). Anyone in the network namespace can send to it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [socket(2)](https://man7.org/linux/man-pages/man2/socket.2.html) reports.
    pub fn unconnected() -> Result<Self, Error> {
        let fd = sys::socket(Type::Dgram)?;
        sys::autobind(fd.as_fd())?;
        Self::from_fd(fd)
    }

    /// Takes over a socket that was made elsewhere, inherited or received.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when it is not a unix socket of either kind, or a listening one
    /// ([`Listener::from_fd`] takes those). It is then closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use std::os::unix::net::UnixDatagram;
    ///
    /// let (left, right) = UnixDatagram::pair()?;
    /// let mut socket = Socket::from_fd(left.into())?;
    /// socket.send("hello")?;
    /// let mut text = [0; 16];
    /// let length = right.recv(&mut text)?;
    /// assert_eq!(&text[..length], br#""hello""#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let kind = kind_of(fd.as_fd(), Listening::No)?;
        Ok(Self::new(Transport::new(fd, kind, &Limits::default())?))
    }

    /// Puts a line under the typed interface.
    fn new(line: Transport) -> Self {
        Self {
            path: None,
            line,
            inbox: Inbox::default(),
            text: Vec::new(),
            timeout: None,
            surplus: UnusedFds::Refuse,
        }
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        self.line.kind()
    }

    /// The socket's own address, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [getsockname(2)] reports.
    ///
    /// [getsockname(2)]: https://man7.org/linux/man-pages/man2/getsockname.2.html
    pub fn local_address(&self) -> Result<Option<Address>, Error> {
        local_address(self.as_fd())
    }

    /// Sets how long [`send`](Socket::send) and [`receive`](Socket::receive) wait; `None`, the default,
    /// is for ever. It may be exceeded by some milliseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::{Error, Kind};
    /// use std::time::Duration;
    ///
    /// let (mut left, _right) = Socket::pair(Kind::Seqpacket)?;
    /// left.set_timeout(Some(Duration::from_millis(10)));
    /// assert!(matches!(left.receive::<String>(), Err(Error::Deadline)));
    /// # Ok::<(), jsoncomm::Error>(())
    /// ```
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Sets the longest message in bytes, sent or received; the default is that of [`Limits::message`].
    pub fn set_message_limit(&mut self, bytes: usize) {
        self.line.set_limit(bytes);
    }

    /// Sets how deep the JSON of a message may nest, sent or received; the default is that of
    /// [`Limits::depth`], and so are its bounds.
    pub fn set_depth_limit(&mut self, levels: usize) {
        self.line.set_depth(levels);
    }

    /// Sets what happens to descriptors that no field of a received message names. The default is to
    /// refuse the message, as a server should.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::message::UnusedFds;
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::{Kind, Message};
    /// use std::fs::File;
    ///
    /// #[derive(Debug, Message)]
    /// struct Newer { len: u64, #[fd] file: File }
    ///
    /// #[derive(Debug, Message)]
    /// struct Older { len: u64 }
    ///
    /// let (mut left, mut right) = Socket::pair(Kind::Seqpacket)?;
    /// right.set_surplus(UnusedFds::Close);
    /// left.send(&Newer { len: 7, file: File::open("/dev/null")? })?;
    /// assert_eq!(right.receive::<Older>()?.0.len, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_surplus(&mut self, surplus: UnusedFds) {
        self.surplus = surplus;
    }

    /// Sends one message to the connected peer and waits for room. The kernel duplicates the
    /// descriptors, so the sender keeps its own.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] when it cannot be written or exceeds a limit, [`Error::Deadline`],
    /// [`Error::Closed`] when nobody is there, [`Error::Os`] for whatever else [send(2)] reports. In
    /// each case nothing has been sent.
    ///
    /// [send(2)]: https://man7.org/linux/man-pages/man2/send.2.html
    pub fn send<M: Pack + ?Sized>(&mut self, message: &M) -> Result<(), Error> {
        let deadline = self.deadline();
        self.encoded(message, |line, text, fds| {
            delivered(line.send_by(text, fds, None, deadline)?)
        })
    }

    /// Sends one message to an address, from a datagram socket that is not connected, and waits for
    /// room in the own send buffer.
    ///
    /// # Errors
    ///
    /// As [`send`](Socket::send), and [`Error::Address`] when the address cannot be used.
    pub fn send_to<M: Pack + ?Sized>(&mut self, message: &M, to: &Address) -> Result<(), Error> {
        let deadline = self.deadline();
        let to = to.resolve()?;
        self.encoded(message, |line, text, fds| {
            delivered(line.send_by(text, fds, Some(&to.name), deadline)?)
        })
    }

    /// Sends one message to the connected peer if there is room; never waits.
    ///
    /// # Errors
    ///
    /// As [`send`](Socket::send); lack of room is [`SendStatus::Full`].
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::{SendStatus, Socket};
    /// use jsoncomm::Kind;
    ///
    /// let (mut left, mut right) = Socket::pair(Kind::Seqpacket)?;
    /// while left.try_send("one more")? == SendStatus::Done {}
    /// right.receive::<String>()?; // makes room again
    /// # Ok::<(), jsoncomm::Error>(())
    /// ```
    pub fn try_send<M: Pack + ?Sized>(&mut self, message: &M) -> Result<SendStatus, Error> {
        self.encoded(message, |line, text, fds| {
            status(line.send(text, fds, None, Wait::Never)?)
        })
    }

    /// Sends one message to an address if there is room; never waits.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Socket::send_to); lack of room is [`SendStatus::Full`].
    pub fn try_send_to<M: Pack + ?Sized>(
        &mut self,
        message: &M,
        to: &Address,
    ) -> Result<SendStatus, Error> {
        let to = to.resolve()?;
        self.encoded(message, |line, text, fds| {
            status(line.send(text, fds, Some(&to.name), Wait::Never)?)
        })
    }

    /// Waits for one message; says where it came from if the sender has an address.
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`]; [`Error::Closed`] when the peer of a connection has closed. One of those for
    /// which [`Error::is_bad_message`] holds when a message came that is not an `M`: it is gone, its
    /// descriptors are closed, and the next one can be received.
    pub fn receive<M: Message>(&mut self) -> Result<(M, Option<Address>), Error> {
        let deadline = self.deadline();
        let received = self
            .line
            .receive_by(&mut self.inbox, deadline, Instant::now())?;
        self.decoded(received.into_datagram()?)
    }

    /// Receives one message if one is queued; never waits.
    ///
    /// # Errors
    ///
    /// As [`receive`](Socket::receive); an empty queue and the end of a connection are outcomes.
    pub fn try_receive<M: Message>(&mut self) -> Result<Received<M>, Error> {
        match self.line.receive(&mut self.inbox, Wait::Never)? {
            ReceiveOutcome::Datagram(datagram) => {
                let (message, sender) = self.decoded(datagram)?;
                Ok(Received::Message(message, sender))
            }
            ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => Ok(Received::Pending),
            ReceiveOutcome::Closed => Ok(Received::Closed),
        }
    }

    /// When a call that starts now has to end.
    fn deadline(&self) -> Option<Instant> {
        self.timeout
            .and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Writes the message into the socket's buffer and hands it to `send`.
    fn encoded<M: Pack + ?Sized, T>(
        &mut self,
        message: &M,
        send: impl FnOnce(&Transport, &[u8], &[BorrowedFd<'_>]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        transport::reset_buffer(&mut self.text);
        let bounds = self.line.bounds();
        let fds = Packer::at_depth(bounds.depth);
        message::encode(message, &mut self.text, &fds)
            .and_then(|()| check_size(&self.text, bounds.message))
            .map_err(Error::Encode)?;
        send(&self.line, &self.text, &fds.into_row())
    }

    /// Reads the message out of a datagram that is in the inbox.
    fn decoded<M: Message>(&self, datagram: Datagram) -> Result<(M, Option<Address>), Error> {
        let text = self.inbox.text(&datagram);
        if let Some(damage) = datagram.damage {
            return Err(damage);
        }
        let depth = self.line.bounds().depth;
        let message = message::decode_at_depth(depth, text, datagram.fds, self.surplus)
            .map_err(Error::Decode)?;
        Ok((
            message,
            self.inbox.sender().copied().map(Address::from_name),
        ))
    }
}

/// Returns the public result of sending with a deadline.
fn delivered(outcome: SendAttempt) -> Result<(), Error> {
    match outcome {
        SendAttempt::Sent => Ok(()),
        SendAttempt::Full => Err(Error::Deadline),
        SendAttempt::Exhausted(error) => Err(error.into()),
        SendAttempt::Closed => Err(Error::Closed),
    }
}

/// Returns the public result of sending without waiting.
fn status(outcome: SendAttempt) -> Result<SendStatus, Error> {
    match outcome {
        SendAttempt::Sent => Ok(SendStatus::Done),
        SendAttempt::Full | SendAttempt::Exhausted(_) => Ok(SendStatus::Full),
        SendAttempt::Closed => Err(Error::Closed),
    }
}

/// Prints nothing of the messages that it has sent and received.
impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("line", &self.line)
            .field("path", &self.path)
            .field("timeout", &self.timeout)
            .field("surplus", &self.surplus)
            .finish_non_exhaustive()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

/// A bound seqpacket socket that takes connections; never waits.
///
/// Its path is removed when it is dropped, if it is still the same file. Forked children can accept from their copies,
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
/// if let Some(mut served) = listener.accept()? {
///     assert_eq!(served.receive::<String>()?.0, "hello");
/// }
/// assert!(listener.accept()?.is_none(), "nobody else has come");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    // Dropped before the socket is closed; see `Bound`.
    _path: Option<Bound>,
    fd: OwnedFd,
}

impl Listener {
    /// Binds a seqpacket socket to an address and opens it to clients. The file of a dead server is replaced,
    /// that of a live one never; [`Bind`] has the rules, and sets mode and owner.
    ///
    /// # Errors
    ///
    /// As [`Socket::bind`].
    pub fn bind(at: impl Into<Bind>) -> Result<Self, Error> {
        let fd = sys::socket(Type::Seqpacket)?;
        let path = at.into().bind(fd.as_fd(), Type::Seqpacket)?;
        let path = Some(path);
        Ok(Self { _path: path, fd })
    }

    /// Takes over a listening seqpacket socket, for example one that a service manager opened. Its path
    /// is not ours to remove.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when it is something else; it is then closed.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        kind_of(fd.as_fd(), Listening::Yes)?;
        // Calling it again on a listening socket only sets what accepting relies on.
        sys::listen(fd.as_fd())?;
        Ok(Self { _path: None, fd })
    }

    /// Takes the next connection; `None` when no client is waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [accept(2)] reports. On `EMFILE` and its like the client stays queued:
    /// try again when descriptors are free.
    ///
    /// [accept(2)]: https://man7.org/linux/man-pages/man2/accept.2.html
    pub fn accept(&self) -> Result<Option<Socket>, Error> {
        Ok(self.accept_transport(&Limits::default())?.map(Socket::new))
    }

    /// Takes the next connection, without the typed interface.
    pub(crate) fn accept_transport(&self, limits: &Limits) -> Result<Option<Transport>, OsError> {
        let accepted = sys::accept(self.fd.as_fd())?;
        accepted
            .map(|fd| Transport::new(fd, Kind::Seqpacket, limits))
            .transpose()
    }

    /// The address it listens at, if it has one.
    ///
    /// # Errors
    ///
    /// As [`Socket::local_address`].
    pub fn local_address(&self) -> Result<Option<Address>, Error> {
        local_address(self.as_fd())
    }
}

impl Listener {
    /// Gives up the path, and gives out the socket.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a socket that is taken over should be a listening one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listening {
    Yes,
    No,
}

/// Says which kind a foreign socket is, and refuses what does not fit.
pub(crate) fn kind_of(fd: BorrowedFd<'_>, listening: Listening) -> Result<Kind, Error> {
    let wrong = |expected| Error::Address {
        address: String::from("of the descriptor"),
        problem: AddressProblem::WrongSocket { expected },
    };
    let found = sys::type_of(fd).ok().flatten();
    let kind = found.ok_or_else(|| wrong("a unix datagram or seqpacket socket"))?;
    let listens = sys::is_listening(fd)?;
    match (listens, listening) {
        (true, Listening::Yes) | (false, Listening::No) => Ok(kind.into()),
        (true, Listening::No) => Err(wrong("a socket that sends and receives: it listens")),
        (false, Listening::Yes) => Err(wrong("a listening socket")),
    }
}

/// Asks for a socket's own address.
pub(crate) fn local_address(fd: BorrowedFd<'_>) -> Result<Option<Address>, Error> {
    let name = control::getsockname(fd)?;
    Ok(name.map(Address::from_name))
}
