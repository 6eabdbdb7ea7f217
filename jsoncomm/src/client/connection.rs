//! A connection: how it is made, and how its calls behave.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connector::Connector;
use super::passed::Received;
use super::table::{Shared, Table};
use crate::address::Address;
use crate::error::Error;
use crate::limits::{Bounds, Limits};
use crate::socket;
use crate::trace::TraceParent;
use crate::transport::{self, DEADLINE, Kind, Transport};

/// A connection to a server, through which any number of threads make calls.
///
/// | to connect to | use | it waits |
/// |---|---|---|
/// | an address, with either kind of socket | [`open`](Connection::open), [`open_by`](Connection::open_by) | 25 s at most, or until a deadline |
/// | an address, with this kind of socket | [`connect`](Connection::connect), [`connect_by`](Connection::connect_by) | 25 s at most, or until a deadline |
/// | a program that is started as a [child](crate::child) | [`spawn`](Connection::spawn) | until it is executed |
/// | the parent process | [`from_parent`](Connection::from_parent) | never |
/// | a connected socket, [inherited](crate::fds::inherited_fd) or received | [`from_fd`](Connection::from_fd) | never |
///
/// Typed calls go through a stub: for a trait `Files` with [`#[service]`](macro@crate::service) it is
/// `FilesClient::new(connection)`. The methods here take a method's name:
///
/// | method | returns when | its result |
/// |---|---|---|
/// | [`call`](Connection::call) | the reply has come | the reply |
/// | [`request`](Connection::request), for a request that is an enum | the reply has come | the reply |
/// | [`start`](Connection::start) | the call is sent | a [`PendingCall`](crate::client::PendingCall), to wait for the reply later |
/// | [`stream`](Connection::stream) | the call is sent | [`Items`](crate::stream::Items), the items of a streamed reply |
/// | [`notify`](Connection::notify) | the call is sent | none: the method has no reply |
///
/// It is also a [field of messages](crate::guide::rights#typed-endpoints), with `#[fd]`. One that came in a call to a server never
/// waits for room when a call is started, and has 64 calls in flight at most: [`Error::Full`].
///
/// A clone is cheap and shares the socket. Each of these returns a clone whose calls differ:
///
/// | method | its calls |
/// |---|---|
/// | [`with_timeout`](Connection::with_timeout) | end after this time, instead of 25 s |
/// | [`with_trace`](Connection::with_trace) | belong to this trace |
/// | [`without_timeout`](Connection::without_timeout) | end when the server replies or closes |
/// | [`reconnecting`](Connection::reconnecting) | connect again if the server has been restarted, before they are sent |
/// | [`idempotent`](Connection::idempotent) | are sent again to a server that has been restarted, until one replies |
/// | [`batching`](Connection::batching) | are gathered when they are started, and sent together |
///
/// # Threads
///
/// Threads that call through clones of one connection do not wait for each other's calls. Of those that wait for a
/// reply, one receives for all. Replies are matched to calls by their id, in any order. A call that times out leaves
/// the connection usable: a late reply is dropped, and its descriptors are closed.
///
/// # When the server closes
///
/// All calls in flight end with [`CallError::Closed`](crate::CallError::Closed):
///
/// | kind | how soon |
/// |---|---|
/// | [`Kind::Seqpacket`] | at once |
/// | [`Kind::Datagram`] | within about 100 ms: the client asks the kernel through [sock_diag(7)] |
///
/// Where a kernel or a sandbox has no sock_diag, a datagram client notices only servers that leave their socket's file
/// behind, for example because they were killed; other calls end at their deadline. A [seccomp(2)] filter that kills
/// a process for opening an `AF_NETLINK` socket kills this one.
///
/// # Forked processes
///
/// A connection belongs to the process that made it. In a forked child ([fork(2)]), everything that is done with it or
/// its calls fails with [`Error::Forked`], since both processes would use the same ids and receive each other's
/// replies. The parent's calls go on. Connect again in the child. The child's copy of the socket is closed when it
/// drops the connection or calls execve(2). Forks that bypass fork(3), such as by clone(2), are not noticed.
///
/// [sock_diag(7)]: https://man7.org/linux/man-pages/man7/sock_diag.7.html
/// [seccomp(2)]: https://man7.org/linux/man-pages/man2/seccomp.2.html
/// [fork(2)]: https://man7.org/linux/man-pages/man2/fork.2.html
///
/// # Examples
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
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
    pub(super) shared: Arc<Shared>,
    pub(super) timeout: Option<Duration>,
    pub(super) recovery: Recovery,
    /// Calls that are started are gathered.
    pub(super) batching: bool,
    /// Which trace the calls belong to.
    pub(super) trace: Option<Arc<TraceParent>>,
}

/// What a call does if the server has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// It fails.
    None,
    /// It connects again, if it has not been sent.
    Reconnect,
    /// It connects again and is sent again.
    Repeat,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("timeout", &self.timeout)
            .field("recovery", &self.recovery)
            .field("batching", &self.batching)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the server at an address, with the kind of socket that is there.
    ///
    /// Waits only while the queue of connections of a [`Kind::Seqpacket`] server is full, for 25 s at most. A relative
    /// path stays what it means now, for [`reconnecting`](Connection::reconnecting) too.
    ///
    /// # Errors
    ///
    /// | error | when |
    /// |---|---|
    /// | [`Error::Address`] | nothing is there, no process listens, or access is denied: its [`AddressProblem`](crate::address::AddressProblem) says which |
    /// | [`Error::Deadline`] | the queue of connections stayed full |
    /// | [`Error::Os`] | [connect(2)] failed for another reason |
    ///
    /// [connect(2)]: https://man7.org/linux/man-pages/man2/connect.2.html
    pub fn open(address: impl Into<Address>) -> Result<Self, Error> {
        Self::open_by(address, Instant::now() + DEADLINE)
    }

    /// Connects to the server at an address until a deadline, with the kind of socket that is there.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Connection::open); [`Error::Deadline`] at once if the deadline has passed.
    ///
    /// # Examples
    ///
    /// One deadline for connecting and calling:
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
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
        Self::establish(address.into(), None, deadline)
    }

    /// Connects to the server at an address with this kind of socket.
    ///
    /// Waits as [`open`](Connection::open) does.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Connection::open); [`Error::Address`] too if the socket there is of the other kind.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::{Connection, Kind};
    ///
    /// let connection = Connection::connect(&path, Kind::Seqpacket)?;
    /// connection.notify("example.counter.set", &(40,))?;
    /// assert!(Connection::connect(&path, Kind::Datagram).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(address: impl Into<Address>, kind: Kind) -> Result<Self, Error> {
        Self::connect_by(address, kind, Instant::now() + DEADLINE)
    }

    /// Connects to the server at an address until a deadline, with this kind of socket.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Connection::connect); [`Error::Deadline`] at once if the deadline has passed.
    pub fn connect_by(
        address: impl Into<Address>,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Self, Error> {
        Self::establish(address.into(), Some(kind), deadline)
    }

    /// Makes a connection of a connected socket, inherited or received, and takes ownership of it.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::from_fd`](crate::socket::Socket::from_fd); the descriptor is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Connection;
    /// use std::os::unix::net::UnixDatagram;
    ///
    /// let (near, far) = UnixDatagram::pair()?;
    /// let connection = Connection::from_fd(near.into())?;
    /// connection.notify("example.counter.set", &(40,))?;
    /// let mut call = [0; 128];
    /// let length = far.recv(&mut call)?;
    /// assert!(call[..length].starts_with(br#"{"jsonrpc":"2.0""#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let kind = socket::kind_of(fd.as_fd(), socket::Listening::No)?;
        let transport = Transport::new(fd, kind, &Limits::default())?;
        Ok(Self::new(transport.know_giver(), None, None))
    }

    fn establish(address: Address, kind: Option<Kind>, deadline: Instant) -> Result<Self, Error> {
        let bounds = Bounds::from(&Limits::default());
        let mut connector = Connector { address, kind };
        let transport = transport::connect(&connector.address, kind, bounds, deadline)?;
        connector.make_absolute();
        Ok(Self::new(transport.know_giver(), Some(connector), None))
    }

    pub(super) fn new(
        transport: Transport,
        connector: Option<Connector>,
        received: Option<Received>,
    ) -> Self {
        // No peer can guess an id. From below 2^52, ids can count up for long and stay exact in every JSON reader.
        let random = RandomState::new().build_hasher().finish();
        let mut shared = Shared::new(transport, connector, random >> 12);
        shared.received = received;
        Self {
            shared: Arc::new(shared),
            timeout: Some(DEADLINE),
            recovery: Recovery::None,
            batching: false,
            trace: None,
        }
    }

    /// Returns a clone whose calls end with [`CallError::Deadline`](crate::CallError::Deadline) after this time.
    ///
    /// The time is sent with each call, in milliseconds, so that the server need not reply to one that has timed out.
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
    /// let _silent = Listener::bind(&path)?; // it never replies
    /// let hasty = Connection::open(&path)?.with_timeout(Duration::from_millis(10));
    /// let sum: Result<u64, CallError> = hasty.call("example.counter.add", &(1,));
    /// assert!(matches!(sum, Err(CallError::Deadline)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the timeout is that of the returned clone, this connection keeps its own"]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.with(|clone| clone.timeout = Some(timeout))
    }

    /// Returns a clone whose calls belong to this trace. It is sent with each of them: the handler gets it from
    /// [`Call::trace_parent`](crate::Call::trace_parent). Calls from other clones are sent without one.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::{Connection, TraceParent};
    ///
    /// let connection = Connection::open(&path)?;
    /// // What this program was called with, or its tracing library has.
    /// let trace: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
    /// let counter = CounterClient::new(connection.with_trace(trace));
    /// assert_eq!(counter.add(2)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the trace is that of the returned clone, this connection keeps its own"]
    pub fn with_trace(&self, trace: TraceParent) -> Self {
        self.with(|clone| clone.trace = Some(Arc::new(trace)))
    }

    /// Returns a clone whose calls wait until the server replies or closes.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(Connection::open(&path)?.without_timeout());
    /// assert_eq!(counter.add(2)?, 2); // however long that takes
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the returned clone has no timeout, this connection keeps its own"]
    pub fn without_timeout(&self) -> Self {
        self.with(|clone| clone.timeout = None)
    }

    /// Returns a clone whose calls connect again if the server has been restarted.
    ///
    /// A call that cannot be sent because the server has closed connects to the address that this connection was opened
    /// with, and is sent once. All clones share the new connection. A call that was already sent is never repeated: it
    /// fails with [`CallError::Closed`](crate::CallError::Closed), and the next call connects again. For calls that may be
    /// repeated, see [`idempotent`](Connection::idempotent).
    ///
    /// Calls fail with [`CallError::Closed`](crate::CallError::Closed) if no server is at the address. They never connect
    /// again through a connection made [`from_fd`](Connection::from_fd) or [driven](Connection::set_driven) by an event
    /// loop.
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
    /// connection.notify("example.counter.set", &(40,))?; // which receives this
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the returned clone connects again, this connection does not"]
    pub fn reconnecting(&self) -> Self {
        self.with(|clone| clone.recovery = Recovery::Reconnect)
    }

    /// Returns a clone for calls that may be carried out more than once.
    ///
    /// A [`call`](Connection::call) or [`request`](Connection::request) that ends because the server closes connects to
    /// the same address and is sent again, until it has a reply or its deadline passes. If no server is there, it tries
    /// again after 1 ms, then after twice as long each time, up to 100 ms.
    ///
    /// Other calls, and calls that cannot connect again, behave as with [`reconnecting`](Connection::reconnecting).
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let connection = Connection::open(&path)?;
    /// let counter = CounterClient::new(connection.idempotent());
    /// assert_eq!(counter.add(0)?, 0); // adding nothing can be done twice
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the returned clone repeats calls, this connection does not"]
    pub fn idempotent(&self) -> Self {
        self.with(|clone| clone.recovery = Recovery::Repeat)
    }

    /// Returns a clone whose calls are gathered when they are started, and sent together in one datagram.
    ///
    /// That saves most of the system calls of many small calls. Gathered are the calls of [`start`](Connection::start),
    /// [`stream`](Connection::stream) and [`notify`](Connection::notify), so those of a stub's `start()` and of `#[oneway]`
    /// methods, unless they have descriptors. They are sent:
    ///
    /// - when one of them is waited for or polled, or gets a callback, and its reply has not come;
    /// - when 64 are gathered, or 64 KiB, or as many bytes as the [limit](Connection::set_message_limit) allows;
    /// - before a call of any clone that is not gathered, so that the order is kept;
    /// - by [`flush`](Connection::flush), by an event loop's [`run_once`](Connection::run_once), and, if there is room at once,
    ///   when the last clone is dropped.
    ///
    /// No timer sends them. Flush after one-way calls, and after starting a stream whose items are to count from now on.
    ///
    /// A call's deadline counts from its start. A call that is dropped before it has been sent is never sent. Where they
    /// cannot be sent, the call that was waited for returns the error, and the others stay gathered.
    ///
    /// The server has to understand JSON-RPC batches. One of this library takes up to [`Limits::batch`] calls in each, unless
    /// its endpoint is [bare](crate::server::Endpoint::bare). It handles those beyond [`Limits::messages_per_turn`] in
    /// another turn, with another datagram of replies. It refuses a batch that exceeds its [`Limits::batch`] or
    /// [`Limits::message`] without naming the calls, which then end at their deadlines. So do not call a server like this
    /// that takes fewer than 64 calls, and give the connection its [limit](Connection::set_message_limit) if that is less
    /// than 64 KiB.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::client::PendingCall;
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(Connection::open(&path)?.batching()).start();
    /// let calls = [counter.add(1)?, counter.add(2)?, counter.add(3)?];
    /// let sums: Result<Vec<u64>, _> = PendingCall::wait_all(calls).into_iter().collect();
    /// assert_eq!(sums?, [1, 3, 6]); // one datagram each way
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "batch")]
    #[must_use = "the returned clone gathers calls, this connection does not"]
    pub fn batching(&self) -> Self {
        self.with(|clone| clone.batching = true)
    }

    /// Sends the calls that are [gathered](Connection::batching), through whatever clone.
    ///
    /// Waits only for room to send, as [`start`](Connection::start) does. Does nothing if none is gathered.
    ///
    /// # Errors
    ///
    /// | error | when |
    /// |---|---|
    /// | [`Error::Deadline`] | there was no room in time |
    /// | [`Error::Full`] | there is no room, and an event loop [drives](Connection::set_driven) the connection, or it came in a call to a server |
    /// | [`Error::Closed`] | the server has closed |
    /// | [`Error::Os`] | [sendmsg(2)] failed |
    /// | [`Error::Forked`] | this process did not make the connection |
    ///
    /// The calls stay gathered: flush again, or drop them.
    ///
    /// [sendmsg(2)]: https://man7.org/linux/man-pages/man2/sendmsg.2.html
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// let connection = Connection::open(&path)?.batching();
    /// for number in 0..10 {
    ///     connection.notify("example.counter.set", &(number,))?;
    /// }
    /// connection.flush()?; // the kernel has them all
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> Result<(), Error> {
        self.shared.check_process()?;
        let (waits, reconnect) = (self.shared.waits_for_room(), self.may_reconnect());
        let table = self.shared.lock();
        let flushed = self.shared.flush(table, self.deadline(), waits, reconnect);
        flushed.map(drop)
    }

    /// Sets the longest message in bytes, sent or received, for all clones; [`Limits::message`] by default.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::{CallError, Connection};
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.set_message_limit(100);
    /// let long = connection.notify("example.counter.set", &("1".repeat(100),));
    /// assert!(matches!(long, Err(CallError::NotSent(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_message_limit(&self, bytes: usize) {
        self.configure(|table| Arc::make_mut(&mut table.transport).set_limit(bytes));
    }

    /// Sets how deep the JSON of a message may nest, sent or received, for all clones; [`Limits::depth`] by default,
    /// whose bounds hold here too.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::{CallError, Connection};
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.set_depth_limit(3);
    /// let deep = connection.notify("example.counter.set", &(vec![vec![1]],));
    /// assert!(matches!(deep, Err(CallError::NotSent(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_depth_limit(&self, levels: usize) {
        self.configure(|table| Arc::make_mut(&mut table.transport).set_depth(levels));
    }

    /// Takes connections in replies from now on whichever user's process is at their other end, for all clones.
    ///
    /// Without this, a [`Connection`] or a stub in a reply is taken only if the kernel reports the server's user at its other
    /// end (`SO_PEERCRED`). Otherwise a server could pass a socket that leads to a service of another user, or of root, where
    /// what this process sends would arrive as its own (a confused deputy). The server's user is not known on a
    /// [`Kind::Datagram`] socket, nor through a socket pair that this process has made: all are refused there.
    ///
    /// A service manager that listens for a server under another user is that server's user for clients that connected before
    /// the server ran.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// let broker = Connection::open(&path)?;
    /// broker.allow_foreign_endpoints(); // it introduces services of all users
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allow_foreign_endpoints(&self) {
        self.configure(|table| Arc::make_mut(&mut table.transport).allow_foreign_endpoints());
    }

    /// Sets for how long a call polls for its reply before its thread sleeps, for all clones; zero, the default, turns
    /// that off.
    ///
    /// [`Server::set_busy_poll`](crate::Server::set_busy_poll) lists what it costs and when it pays: across processors,
    /// and most at both ends.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    /// use std::time::Duration;
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.set_busy_poll(Duration::from_micros(50));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_busy_poll(&self, time: Duration) {
        self.configure(|table| table.busy_poll.set(time));
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut clone = self.clone();
        change(&mut clone);
        clone
    }

    /// Changes a setting of all clones; nothing in a forked child.
    fn configure(&self, change: impl FnOnce(&mut Table)) {
        if self.shared.check_process().is_ok() {
            change(&mut self.shared.lock());
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout?)
    }

    /// Returns true if no call is in flight.
    #[cfg(all(test, repository, feature = "derive"))]
    pub(crate) fn is_idle(&self) -> bool {
        let table = self.shared.lock();
        table.calls.is_empty() && table.to_cancel.is_empty()
    }
}

pub(super) fn time_left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|at| at.saturating_duration_since(Instant::now()))
}
