//! The client: [`Connection`], calls in flight ([`PendingCall`]), and the modes of a stub ([`CallMode`]).
//!
//! A stub that `#[jsoncomm::service]` generates wraps a connection. Its methods block until the reply or the deadline. Those of
//! `start()` return a [`PendingCall`] at once, so that many calls are in flight on one connection:
//!
//! ```
#![doc = include_str!("../doc/counter.txt")]
//! use jsoncomm::Connection;
//!
//! // The stub of a trait that has `fn add(&mut self, number: u64) -> u64`.
//! let counter = CounterClient::new(Connection::open(&path)?);
//! assert_eq!(counter.add(1)?, 1);
//!
//! let (first, second) = (counter.start().add(2)?, counter.start().add(3)?);
//! assert_eq!((first.wait()?, second.wait()?), (3, 6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod call;
mod connector;
mod event_loop;
mod items;
mod leader;
mod liveness;
mod mode;
mod notify;
mod pending_call;
mod receive;
mod reply;
mod send;
mod slot;
mod stub;
mod table;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::error::Error;
use crate::limits::Limits;
use crate::socket;
use crate::transport::{DEADLINE, Kind, Transport};

use connector::Connector;
pub use items::Items;
pub use mode::{Blocking, CallMode, Started};
pub use pending_call::PendingCall;
pub(crate) use reply::read_part;
pub use stub::Stub;
use table::{Shared, Table};

/// How long a call that may be repeated waits at most before it looks again for a server that has gone.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A connection to a server: calls wait for their answer, until a deadline.
///
/// How one is made:
///
/// | from | by |
/// |---|---|
/// | the server's address, whichever kind of socket it has | [`Connection::open`] |
/// | the same, with a deadline for connecting | [`Connection::open_by`] |
/// | an address and the kind | [`Connection::connect`] |
/// | a connected socket, [inherited](crate::fds::inherited_fd) or received | [`Connection::from_fd`] |
///
/// Typed calls go through a stub that is made from it: of a trait `Files` with [`#[service]`](macro@crate::service),
/// `FilesClient::new(connection)`. [`call`](Connection::call) takes any method's name.
///
/// Cheap to clone; clones share one socket and differ in their deadline, 25 s unless told otherwise
/// ([`with_timeout`](Connection::with_timeout), [`without_timeout`](Connection::without_timeout)). A call that has run out of time
/// leaves the connection usable: its answer is known by its id and dropped, descriptors closed, if it
/// comes after all.
///
/// Any number of threads can call through clones at the same time, and none waits for the call of another: of those
/// that wait for a reply, one receives for all.
///
/// When the server goes, all calls end with [`CallError::Closed`]: at once on [`Kind::Seqpacket`], within about
/// 100 ms on [`Kind::Datagram`], where the client has to look for the server with [sock_diag(7)]. Where a kernel or a
/// sandbox has none of that, it finds only servers that have left their socket's file behind, as those do that are
/// killed; other calls end at their deadline. A sandbox that ends a process for asking (`AF_NETLINK` in a filter of
/// [seccomp(2)]) ends this one. [`reconnecting`](Connection::reconnecting) has the next call find the
/// next server.
///
/// [sock_diag(7)]: https://man7.org/linux/man-pages/man7/sock_diag.7.html
/// [seccomp(2)]: https://man7.org/linux/man-pages/man2/seccomp.2.html
///
/// A connection belongs to the process that has made it. In a forked child ([fork(2)]) everything that is done with the
/// copy fails with [`Error::Forked`], calls that the parent has in flight go on, and dropping anything of it closes the
/// descriptor and does nothing else: both processes would count ids on from the same number and take each other's
/// replies. Connect anew in the child. It keeps the socket open until it drops the copy or calls execve(2). Forks that go
/// past fork(3), by clone(2) for example, are not noticed.
///
/// [fork(2)]: https://man7.org/linux/man-pages/man2/fork.2.html
///
/// # Examples
///
/// ```
#[doc = include_str!("../doc/counter.txt")]
/// use jsoncomm::{CallError, Connection, Message};
///
/// #[derive(Debug, Message)]
/// struct Add { number: u64 }
///
/// let connection = Connection::open(&path)?;
/// let sum: Result<u64, CallError> = connection.call("example.counter.add", &Add { number: 2 });
/// match sum {
///     Ok(sum) => assert_eq!(sum, 2),
///     Err(CallError::Fault(fault)) => println!("refused: {fault}"),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    timeout: Option<Duration>,
    revival: Revival,
}

/// What a call does about a server that has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revival {
    /// It ends.
    Never,
    /// It goes to the next server, if nothing of it was sent to the last.
    Reconnect,
    /// It goes to the next server in any case.
    Repeat,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("timeout", &self.timeout)
            .field("revival", &self.revival)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the server at an address, whichever kind of socket it has.
    ///
    /// Waits for 25 s at most, and only while a [`Kind::Seqpacket`] server has more clients to accept than the
    /// kernel keeps for it; [`open_by`](Connection::open_by) has another deadline.
    ///
    /// # Errors
    ///
    /// [`Error::Address`], which tells apart that there is no such file, that nobody listens, and that it may
    /// not be used ([`AddressProblem`](crate::address::AddressProblem)); [`Error::Deadline`]; [`Error::Os`] for whatever
    /// else [connect(2)] reports.
    ///
    /// [connect(2)]: https://man7.org/linux/man-pages/man2/connect.2.html
    pub fn open(address: impl Into<Address>) -> Result<Self, Error> {
        Self::dial(
            Connector::new(address.into(), None),
            Instant::now() + DEADLINE,
        )
    }

    /// Connects as [`open`](Connection::open) does, and waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`open`](Connection::open); [`Error::Deadline`] at once if the deadline has passed.
    ///
    /// # Examples
    ///
    /// One deadline over connecting and calling:
    ///
    /// ```
    #[doc = include_str!("../doc/counter.txt")]
    /// use jsoncomm::Connection;
    /// use std::time::{Duration, Instant};
    ///
    /// let deadline = Instant::now() + Duration::from_secs(1);
    /// let connection = Connection::open_by(&path, deadline)?;
    /// let left = deadline.saturating_duration_since(Instant::now());
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(connection.with_timeout(left));
    /// assert_eq!(counter.add(2)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_by(address: impl Into<Address>, deadline: Instant) -> Result<Self, Error> {
        Self::dial(Connector::new(address.into(), None), deadline)
    }

    /// Connects to the server at an address with this kind of socket.
    ///
    /// # Errors
    ///
    /// As [`open`](Connection::open), and when the socket there is of the other kind.
    pub fn connect(address: impl Into<Address>, kind: Kind) -> Result<Self, Error> {
        let dial = Connector::new(address.into(), Some(kind));
        Self::dial(dial, Instant::now() + DEADLINE)
    }

    /// Connects as [`connect`](Connection::connect) does, and waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`connect`](Connection::connect); [`Error::Deadline`] at once if the deadline has passed.
    pub fn connect_by(
        address: impl Into<Address>,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Self, Error> {
        Self::dial(Connector::new(address.into(), Some(kind)), deadline)
    }

    /// Takes over a connected socket, inherited or received.
    ///
    /// # Errors
    ///
    /// As [`Socket::from_fd`](crate::socket::Socket::from_fd).
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let kind = socket::kind_of(fd.as_fd(), socket::Listening::No)?;
        let line = Transport::new(fd, kind, &Limits::default())?;
        Ok(Self::new(line, None))
    }

    fn dial(mut dial: Connector, deadline: Instant) -> Result<Self, Error> {
        let line = dial.connect(&Limits::default(), deadline)?;
        dial.anchor();
        Ok(Self::new(line, Some(dial)))
    }

    fn new(line: Transport, dial: Option<Connector>) -> Self {
        // Nobody should be able to guess an id; and 2^52 leaves every JSON reader exact, and room to count.
        let random = RandomState::new().build_hasher().finish();
        Self {
            shared: Arc::new(Shared::new(line, dial, random >> 12)),
            timeout: Some(DEADLINE),
            revival: Revival::Never,
        }
    }

    /// The same connection with another deadline for each call made through the result.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Listener;
    /// use jsoncomm::{CallError, Connection};
    /// use std::time::Duration;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("silent.sock");
    ///
    /// let _silent = Listener::bind(&path)?; // it never answers
    /// let hasty = Connection::open(&path)?.with_timeout(Duration::from_millis(10));
    /// let answer: Result<u64, CallError> = hasty.call("example.counter.add", &(1,));
    /// assert!(matches!(answer, Err(CallError::Deadline)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self.clone()
        }
    }

    /// The same connection without a deadline: a call waits until the server answers or goes.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(Connection::open(&path)?.without_timeout());
    /// assert_eq!(counter.add(2)?, 2); // however long that takes
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn without_timeout(&self) -> Self {
        Self {
            timeout: None,
            ..self.clone()
        }
    }

    /// The same connection for calls that find the server again after it has gone: a call of which nothing could
    /// be sent, because the server had gone before, connects anew to the address that the connection was opened
    /// with. So after [`CallError::Closed`] the next call goes to the next server. A call that was under way when
    /// the server went ends with [`CallError::Closed`]; nothing is sent twice.
    ///
    /// When nobody is at the address, and with a connection made [`from_fd`](Connection::from_fd) or
    /// [driven](Connection::set_driven) by a loop, the call ends with [`CallError::Closed`] as before.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::Connection;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("a.sock");
    ///
    /// let first = Socket::bind(&path)?;
    /// let connection = Connection::open(&path)?.reconnecting();
    /// drop(first); // the server stops,
    /// let _second = Socket::bind(&path)?; // and another is started
    /// connection.notify("example.counter.set", &(40,))?; // which gets this
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn reconnecting(&self) -> Self {
        Self {
            revival: Revival::Reconnect,
            ..self.clone()
        }
    }

    /// The same connection for calls that may be carried out more than once: one that ends because the server went
    /// is sent again, to whoever is at the address then, until it is answered or the deadline passes. It waits for
    /// a server that is not there yet.
    ///
    /// This is for calls that are waited for. For all others, and in what it cannot do, it is the same as
    /// [`reconnecting`](Connection::reconnecting).
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn set(&mut self, number: u64)` and `fn add(&mut self, number: u64) -> u64`.
    /// let connection = Connection::open(&path)?;
    /// let counter = CounterClient::new(connection.idempotent());
    /// assert_eq!(counter.add(0)?, 0); // adding nothing can be done twice
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn idempotent(&self) -> Self {
        Self {
            revival: Revival::Repeat,
            ..self.clone()
        }
    }

    /// Sets the longest message in bytes, sent or received, for all clones; the default is that of
    /// [`Limits::message`].
    pub fn set_message_limit(&self, bytes: usize) {
        self.change(|table| table.change_line(|line| line.set_limit(bytes)));
    }

    /// Has calls that are waited for look for their answer for so long before they sleep, for all clones; nothing, the
    /// default, turns that off. [`Server::set_busy_poll`](crate::Server::set_busy_poll) says what it costs, and when it
    /// pays: across processors, and best at both ends.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../doc/counter.txt")]
    /// use jsoncomm::Connection;
    /// use std::time::Duration;
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.set_busy_poll(Duration::from_micros(50));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_busy_poll(&self, time: Duration) {
        self.change(|table| table.spin.set(time));
    }

    /// Sets how deep the JSON of a message may nest, sent or received, for all clones; the default is that of
    /// [`Limits::depth`], and so are its bounds.
    pub fn set_depth_limit(&self, levels: usize) {
        self.change(|table| table.change_line(|line| line.set_depth(levels)));
    }

    /// Sets something for all clones; nothing in a forked child.
    fn change(&self, change: impl FnOnce(&mut Table)) {
        if self.shared.check_process().is_ok() {
            change(&mut self.shared.lock());
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout
            .and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Returns true if no call is in flight.
    #[cfg(all(test, feature = "derive"))]
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.lock().is_idle()
    }
}
