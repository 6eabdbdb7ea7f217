//! Typed messages on a socket: one datagram, one message, without an envelope.
//!
//! [`Socket`] sends and receives messages, blocking or not; [`Listener`] accepts connections. [`RawDatagram`] is a datagram
//! as bytes. [`Connection`](crate::Connection) and [`Server`](crate::Server) add calls with replies, deadlines and dispatch.

mod listener;
mod raw;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::address::{Address, Bind, Bound};
use crate::error::Error;
use crate::json::check_size;
use crate::limits::{Bounds, Limits};
use crate::message::{self, Message, Pack, Packer, Row, UnusedFds};
use crate::sys::control::Wait;
use crate::sys::socket as sys;
use crate::transport::{self, Datagram, Inbox, Kind, ReceiveOutcome, SendAttempt, Transport};

pub use crate::limits::DATAGRAM_MAX;
pub use crate::transport::SendStatus;
pub use listener::Listener;
pub(crate) use listener::{Listening, kind_of, local_address};
pub use raw::RawDatagram;

/// A socket that sends and receives typed messages: one JSON value and its descriptors per datagram.
///
/// | | waits | no room / nothing queued | peer closed |
/// |---|---|---|---|
/// | [`send`](Socket::send), [`send_to`](Socket::send_to) | up to the [timeout](Socket::set_timeout) | [`Error::Deadline`] | [`Error::Closed`] |
/// | [`receive`](Socket::receive), [`receive_raw`](Socket::receive_raw) | up to the timeout | [`Error::Deadline`] | [`Error::Closed`] |
/// | [`try_send`](Socket::try_send), [`try_send_to`](Socket::try_send_to), [`try_send_raw`](Socket::try_send_raw) | never | [`SendStatus::Full`] | [`Error::Closed`] |
/// | [`try_receive`](Socket::try_receive), [`try_receive_raw`](Socket::try_receive_raw) | never | [`Received::Pending`] | [`Received::Closed`] |
///
/// Waiting does not depend on `O_NONBLOCK` of the descriptor. A text that is too large for a datagram travels in a memfd,
/// up to [`Limits::message`].
///
/// A bound socket removes its file when it is dropped, if that is still the same file. In a forked child ([fork(2)]) the
/// copy removes nothing; both processes then share one socket, and each message is received by one of them.
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
    transport: Transport,
    inbox: Inbox,
    /// The text of the last message sent, kept for its capacity.
    text: Vec<u8>,
    timeout: Option<Duration>,
    unused_fds: UnusedFds,
}

/// Result of receiving without waiting.
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
#[must_use = "a received message is lost if it is not used"]
pub enum Received<M> {
    /// One whole message, and the address of its sender if it has one.
    Message(M, Option<Address>),
    /// Nothing is queued. Wait until the socket is readable and try again.
    Pending,
    /// The peer has closed, and no message will follow. Only on [`Kind::Seqpacket`].
    Closed,
}

impl Socket {
    /// Makes two connected sockets.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [socketpair(2)] reports, such as `EMFILE`.
    ///
    /// [socketpair(2)]: https://man7.org/linux/man-pages/man2/socketpair.2.html
    pub fn pair(kind: Kind) -> Result<(Self, Self), Error> {
        let (left, right) = sys::socketpair(kind)?;
        Ok((Self::made_of(left, kind)?, Self::made_of(right, kind)?))
    }

    /// Connects to the socket at an address, whichever kind it is.
    ///
    /// Waits as [`connect`](Socket::connect) does.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Socket::connect), but not [`OtherKind`](crate::address::AddressProblem::OtherKind).
    pub fn open(address: impl Into<Address>) -> Result<Self, Error> {
        Self::open_by(address, Instant::now() + transport::DEADLINE)
    }

    /// Connects to the socket at an address, whichever kind it is, and waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Socket::open); [`Error::Deadline`] at once if the deadline has passed.
    pub fn open_by(address: impl Into<Address>, deadline: Instant) -> Result<Self, Error> {
        Self::establish(&address.into(), None, deadline)
    }

    /// Connects to a socket of this kind. A datagram socket is also bound to a name that the kernel chooses, so that it can
    /// be replied to.
    ///
    /// Waits only if the backlog of a [`Listener`] is full, and at most 25 s.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] with [`Missing`], [`NobodyListens`], [`Denied`] or [`OtherKind`], or with another problem if the
    /// address itself cannot be used; [`Error::Deadline`]; [`Error::Os`] for whatever else [connect(2)] reports.
    ///
    /// [`Missing`]: crate::address::AddressProblem::Missing
    /// [`NobodyListens`]: crate::address::AddressProblem::NobodyListens
    /// [`Denied`]: crate::address::AddressProblem::Denied
    /// [`OtherKind`]: crate::address::AddressProblem::OtherKind
    /// [connect(2)]: https://man7.org/linux/man-pages/man2/connect.2.html
    pub fn connect(address: impl Into<Address>, kind: Kind) -> Result<Self, Error> {
        Self::connect_by(address, kind, Instant::now() + transport::DEADLINE)
    }

    /// Connects to a socket of this kind, and waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Socket::connect); [`Error::Deadline`] at once if the deadline has passed.
    pub fn connect_by(
        address: impl Into<Address>,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Self, Error> {
        Self::establish(&address.into(), Some(kind), deadline)
    }

    /// Binds a datagram socket to an address, where any process that can reach it can send to it.
    ///
    /// Replaces the file of a dead server, never that of a live one; [`Bind`] has the rules, and sets mode and owner. To
    /// accept connections use [`Listener::bind`].
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the address is taken or cannot be used; its
    /// [`AddressProblem`](crate::address::AddressProblem) says why. [`Error::Os`] for whatever else [bind(2)] and related
    /// calls report. Existing files are unchanged, and none is left behind.
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
        let mut socket = Self::made_of(sys::socket(Kind::Datagram)?, Kind::Datagram)?;
        socket.path = Some(at.into().bind(socket.as_fd(), Kind::Datagram)?);
        Ok(socket)
    }

    /// Makes a datagram socket with a name of its own but no peer; use [`send_to`](Socket::send_to). Any process in the
    /// network namespace can send to it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [socket(2)](https://man7.org/linux/man-pages/man2/socket.2.html) reports.
    pub fn unconnected() -> Result<Self, Error> {
        let fd = sys::socket(Kind::Datagram)?;
        sys::autobind(fd.as_fd())?;
        Self::made_of(fd, Kind::Datagram)
    }

    /// Takes over a socket that was inherited, received, or made by other code.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if it is no unix socket of either kind, or is listening ([`Listener::from_fd`] takes those). The
    /// descriptor is then closed.
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
        Self::made_of(fd, kind)
    }

    fn establish(address: &Address, kind: Option<Kind>, deadline: Instant) -> Result<Self, Error> {
        let bounds = Bounds::from(&Limits::default());
        transport::connect(address, kind, bounds, deadline).map(Self::new)
    }

    fn made_of(fd: OwnedFd, kind: Kind) -> Result<Self, Error> {
        Ok(Self::new(Transport::new(fd, kind, &Limits::default())?))
    }

    fn new(transport: Transport) -> Self {
        Self {
            path: None,
            transport: transport.know_giver(),
            inbox: Inbox::default(),
            text: Vec::new(),
            timeout: None,
            unused_fds: UnusedFds::Refuse,
        }
    }

    /// Sends one message to the connected peer, and waits for room up to the [timeout](Socket::set_timeout). The kernel
    /// duplicates the descriptors, so the sender keeps its own.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] if the message cannot be written or exceeds a limit, [`Error::Deadline`], [`Error::Closed`] if
    /// there is no peer, [`Error::Os`] for whatever else [send(2)] reports. In each case nothing has been sent.
    ///
    /// [send(2)]: https://man7.org/linux/man-pages/man2/send.2.html
    pub fn send<M: Pack + ?Sized>(&mut self, message: &M) -> Result<(), Error> {
        self.send_waiting(message, None)
    }

    /// Waits for one message up to the [timeout](Socket::set_timeout). Returns it with the address of its sender, if the
    /// sender has one.
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`]; [`Error::Closed`] if the peer of a connection has closed. If [`Error::is_bad_message`] is true,
    /// a message arrived that is not an `M`: it is discarded, its descriptors are closed, and the next one can be received.
    pub fn receive<M: Message>(&mut self) -> Result<(M, Option<Address>), Error> {
        let datagram = self.wait_for_datagram()?;
        self.decode(datagram)
    }

    /// Sends one message to the connected peer if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Socket::send), except that lack of room is [`SendStatus::Full`].
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
        self.send_if_room(message, None)
    }

    /// Receives one message if one is queued. Never waits.
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Socket::receive), except that an empty queue is [`Received::Pending`] and the end of a
    /// connection is [`Received::Closed`].
    pub fn try_receive<M: Message>(&mut self) -> Result<Received<M>, Error> {
        self.try_receive_as(Self::decode)
    }

    /// Sends one message from an unconnected datagram socket to an address, and waits for room in its own send buffer up to
    /// the [timeout](Socket::set_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`send`](Socket::send); [`Error::Address`] if the address cannot be used.
    pub fn send_to<M: Pack + ?Sized>(&mut self, message: &M, to: &Address) -> Result<(), Error> {
        self.send_waiting(message, Some(to))
    }

    /// Sends one message from an unconnected datagram socket to an address if there is room. Never waits.
    ///
    /// # Errors
    ///
    /// Those of [`send_to`](Socket::send_to), except that lack of room is [`SendStatus::Full`].
    pub fn try_send_to<M: Pack + ?Sized>(
        &mut self,
        message: &M,
        to: &Address,
    ) -> Result<SendStatus, Error> {
        self.send_if_room(message, Some(to))
    }

    /// Sets how long blocking methods wait; `None`, the default, means without limit. A wait can exceed it by some
    /// milliseconds.
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

    /// Sets the longest message, sent or received, in bytes. The default is that of [`Limits::message`].
    pub fn set_message_limit(&mut self, bytes: usize) {
        self.transport.set_limit(bytes);
    }

    /// Sets the deepest JSON nesting of a message, sent or received. Default and bounds are those of [`Limits::depth`].
    pub fn set_depth_limit(&mut self, levels: usize) {
        self.transport.set_depth(levels);
    }

    /// Sets what happens to received descriptors that no field of the message names. By default the message is refused, as
    /// a server should do.
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
        self.unused_fds = surplus;
    }

    /// Takes connections in messages from now on whichever user's process is at their other end.
    ///
    /// See [`Connection::allow_foreign_endpoints`](crate::Connection::allow_foreign_endpoints).
    pub fn allow_foreign_endpoints(&mut self) {
        self.transport.allow_foreign_endpoints();
    }

    /// Returns the kind of socket.
    pub fn kind(&self) -> Kind {
        self.transport.kind
    }

    /// Returns the socket's own address, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [getsockname(2)] reports.
    ///
    /// [getsockname(2)]: https://man7.org/linux/man-pages/man2/getsockname.2.html
    pub fn local_address(&self) -> Result<Option<Address>, Error> {
        local_address(self.as_fd())
    }

    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout?)
    }

    /// Writes the message into the socket's buffer and returns its descriptors.
    fn encode<'m, M: Pack + ?Sized>(&mut self, message: &'m M) -> Result<Row<'m>, Error> {
        transport::reset_buffer(&mut self.text);
        let bounds = self.transport.bounds;
        let fds = Packer::at_depth(bounds.depth);
        message::encode(message, &mut self.text, &fds)
            .and_then(|()| check_size(&self.text, bounds.message))
            .map_err(Error::Encode)?;
        Ok(fds.into_row())
    }

    fn send_waiting<M: Pack + ?Sized>(
        &mut self,
        message: &M,
        to: Option<&Address>,
    ) -> Result<(), Error> {
        let deadline = self.deadline();
        let to = to.map(Address::resolve).transpose()?;
        let to = to.as_ref().map(|to| &to.name);
        let fds = self.encode(message)?;
        match self.transport.send_by(&self.text, &fds, to, deadline)? {
            SendAttempt::Sent => Ok(()),
            SendAttempt::Full => Err(Error::Deadline),
            SendAttempt::Exhausted(error) => Err(error.into()),
        }
    }

    fn send_if_room<M: Pack + ?Sized>(
        &mut self,
        message: &M,
        to: Option<&Address>,
    ) -> Result<SendStatus, Error> {
        let fds = self.encode(message)?;
        self.send_bytes_if_room(&self.text, &fds, to)
    }

    fn send_bytes_if_room(
        &self,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Address>,
    ) -> Result<SendStatus, Error> {
        let to = to.map(Address::resolve).transpose()?;
        let to = to.as_ref().map(|to| &to.name);
        match self.transport.send(bytes, fds, to, Wait::Never)? {
            SendAttempt::Sent => Ok(SendStatus::Done),
            SendAttempt::Full | SendAttempt::Exhausted(_) => Ok(SendStatus::Full),
        }
    }

    fn wait_for_datagram(&mut self) -> Result<Datagram, Error> {
        let (deadline, now) = (self.deadline(), Instant::now());
        match self.transport.receive_by(&mut self.inbox, deadline, now)? {
            ReceiveOutcome::Datagram(datagram) => undamaged(datagram),
            ReceiveOutcome::Closed => Err(Error::Closed),
            ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => Err(Error::Deadline),
        }
    }

    /// Receives a datagram if one is queued, and converts it with `read`.
    fn try_receive_as<T>(
        &mut self,
        read: impl FnOnce(&Self, Datagram) -> Result<(T, Option<Address>), Error>,
    ) -> Result<Received<T>, Error> {
        match self.transport.receive(&mut self.inbox, Wait::Never)? {
            ReceiveOutcome::Datagram(datagram) => {
                let (message, sender) = read(self, undamaged(datagram)?)?;
                Ok(Received::Message(message, sender))
            }
            ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => Ok(Received::Pending),
            ReceiveOutcome::Closed => Ok(Received::Closed),
        }
    }

    /// Decodes the datagram whose text is in the inbox.
    fn decode<M: Message>(&self, datagram: Datagram) -> Result<(M, Option<Address>), Error> {
        let text = self.inbox.text(&datagram);
        let depth = self.transport.bounds.depth;
        let message = message::decode_at_depth(depth, text, datagram.fds, self.unused_fds)
            .map_err(Error::Decode)?;
        Ok((message, self.sender()))
    }

    /// Returns the address of the sender of the last datagram, if it has one.
    fn sender(&self) -> Option<Address> {
        self.inbox.sender().copied().map(Address::from_name)
    }
}

/// Refuses a damaged datagram.
fn undamaged(mut datagram: Datagram) -> Result<Datagram, Error> {
    let damage = datagram.damage.take();
    damage.map_or(Ok(datagram), Err)
}

/// Does not print messages.
impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("transport", &self.transport)
            .field("path", &self.path)
            .field("timeout", &self.timeout)
            .field("unused_fds", &self.unused_fds)
            .finish_non_exhaustive()
    }
}

impl AsFd for Socket {
    /// Returns the descriptor to poll: readable when a message is queued, writable when there is room.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}
