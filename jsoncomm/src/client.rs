//! Blocking calls with a deadline.

mod dial;
mod discover;
mod drive;
mod exchange;
mod items;
mod pending;
mod started;
mod turnstile;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serializer;

use crate::address::Address;
use crate::error::{CallError, Error};
use crate::limits::Limits;
use crate::line::{DEADLINE, Kind, Line};
use crate::message::{Message, Pack, PackContent, Packer, Request};
use crate::socket;
use crate::sys::wait;

use dial::Dial;
pub(crate) use drive::OCCUPIED;
use exchange::{Exchange, Note, Outgoing};
pub use items::Items;
pub use pending::{Mode, Pending, Starting, Waiting};
use started::{Frames, Started};
use turnstile::{Entered, Stay, Turnstile};

/// How long a call that may be repeated waits at most before it looks again for a server that has gone.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A connection to a server: calls wait for their answer, until a deadline.
///
/// Cheap to clone; clones share one socket and differ in their deadline, 25 s unless told otherwise
/// ([`within`](Connection::within), [`patient`](Connection::patient)). A call that has run out of time
/// leaves the connection usable: its answer is known by its id and dropped, descriptors closed, if it
/// comes after all. Calls from several threads take turns.
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
/// Typed stubs, such as the `FilesClient` of a service trait `Files`, are made from it.
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

/// What the clones of a connection share.
struct Shared {
    /// The socket, for loops that wait for it while nobody is at the exchange.
    fd: Arc<OwnedFd>,
    exchange: Turnstile<Exchange>,
    /// An event loop drives the connection: starting a call never waits.
    driven: AtomicBool,
}

impl Shared {
    /// Gives a call up without waiting: whoever is at the exchange tells the server.
    fn abandon(&self, id: u64) {
        self.exchange.attend_or_leave(Note::Cancel(id));
    }
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
    /// kernel keeps for it.
    ///
    /// # Errors
    ///
    /// [`Error::Address`], which tells apart that there is no such file, that nobody listens, and that it may
    /// not be used ([`AddressProblem`](crate::AddressProblem)); [`Error::Deadline`]; [`Error::Os`] for whatever
    /// else [connect(2)] reports.
    ///
    /// [connect(2)]: https://man7.org/linux/man-pages/man2/connect.2.html
    pub fn open(address: impl Into<Address>) -> Result<Self, Error> {
        Self::dial(Dial::new(address.into(), None))
    }

    /// Connects to the server at an address with this kind of socket.
    ///
    /// # Errors
    ///
    /// As [`open`](Connection::open), and when the socket there is of the other kind.
    pub fn connect(address: impl Into<Address>, kind: Kind) -> Result<Self, Error> {
        Self::dial(Dial::new(address.into(), Some(kind)))
    }

    /// Takes over a connected socket, inherited or received.
    ///
    /// # Errors
    ///
    /// As [`Socket::from_fd`](crate::Socket::from_fd).
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let kind = socket::kind_of(fd.as_fd(), socket::Listening::No)?;
        let line = Line::new(fd, kind, &Limits::default())?;
        Ok(Self::new(line, None))
    }

    fn dial(mut dial: Dial) -> Result<Self, Error> {
        let line = dial.connect(&Limits::default(), Instant::now() + DEADLINE)?;
        dial.anchor();
        Ok(Self::new(line, Some(dial)))
    }

    fn new(line: Line, dial: Option<Dial>) -> Self {
        // Nobody should be able to guess an id; and 2^52 leaves every JSON reader exact, and room to count.
        let random = RandomState::new().build_hasher().finish();
        Self {
            shared: Arc::new(Shared {
                fd: line.share_fd(),
                exchange: Turnstile::new(Exchange::new(line, dial, random >> 12)),
                driven: AtomicBool::new(false),
            }),
            timeout: Some(DEADLINE),
            revival: Revival::Never,
        }
    }

    /// The same connection with another deadline for each call made through the result.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{CallError, Connection, Listener};
    /// use std::time::Duration;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("silent.sock");
    ///
    /// let _silent = Listener::bind(&path)?; // it never answers
    /// let hasty = Connection::open(&path)?.within(Duration::from_millis(10));
    /// let answer: Result<u64, CallError> = hasty.call("example.counter.add", &(1,));
    /// assert!(matches!(answer, Err(CallError::Deadline)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
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
    /// let counter = CounterClient::new(Connection::open(&path)?.patient());
    /// assert_eq!(counter.add(2)?, 2); // however long that takes
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn patient(&self) -> Self {
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
    /// use jsoncomm::{Connection, Socket};
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
    /// let counter = CounterClient::new(connection.repeating());
    /// assert_eq!(counter.add(0)?, 0); // adding nothing can be done twice
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn repeating(&self) -> Self {
        Self {
            revival: Revival::Repeat,
            ..self.clone()
        }
    }

    /// Sets the longest message in bytes, sent or received, for all clones; the default is that of
    /// [`Limits::message`].
    pub fn set_message_limit(&self, bytes: usize) {
        if let Ok(mut exchange) = self.enter(None) {
            exchange.line.set_limit(bytes);
        }
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
        if let Ok(mut exchange) = self.enter(None) {
            exchange.spin.set(time);
        }
    }

    /// Sets how deep the JSON of a message may nest, sent or received, for all clones; the default is that of
    /// [`Limits::depth`], and so are its bounds.
    pub fn set_depth_limit(&self, levels: usize) {
        if let Ok(mut exchange) = self.enter(None) {
            exchange.line.set_depth(levels);
        }
    }

    /// Calls a method by its whole name and waits for the answer. `params` is written as an object or an
    /// array: a struct or a tuple.
    ///
    /// # Errors
    ///
    /// [`CallError::Service`] and [`CallError::Fault`] are the server's answers. After
    /// [`CallError::Deadline`] and [`CallError::Closed`] the call may have been carried out or not; the server
    /// is told that its answer is not wanted any more. [`CallError::Io`] holding [`Error::Encode`] says that
    /// nothing was sent. Descriptors of an answer that `T` does not take are closed.
    pub fn call<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<T, CallError<E>> {
        let deadline = self.deadline();
        let mut pause = Duration::from_millis(1);
        loop {
            match self.attempt(method, params, deadline) {
                Err(CallError::Closed) if self.may_repeat() => {}
                answer => return answer,
            }
            // It may take a while until a server is there again; others may call meanwhile.
            match time_left(deadline) {
                Some(Duration::ZERO) => return Err(CallError::Deadline),
                left => wait::pause(left.map_or(pause, |left| left.min(pause))),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Calls once.
    fn attempt<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        let mut exchange = self
            .enter_to_wait(deadline)
            .map_err(CallError::from_error)?;
        let id = exchange.next_id();
        let timeout = match self.revival {
            Revival::Never | Revival::Reconnect => self.timeout,
            Revival::Repeat => time_left(deadline),
        };
        let outgoing = Outgoing {
            id: Some(id),
            timeout,
            deadline,
            driven: false,
            reconnect: self.may_reconnect(),
        };
        match exchange.send(outgoing, method, params) {
            Ok(()) => {}
            // A server that turned us away has said why before it closed.
            Err(Error::Closed) if exchange.line.kind() == Kind::Seqpacket => {}
            Err(error) => return Err(CallError::from_error(error)),
        }
        exchange.wait(id, deadline)
    }

    /// Says whether a call may go to another server. The loop that drives a connection waits for the socket as it is.
    fn may_reconnect(&self) -> bool {
        self.revival != Revival::Never && !self.is_driven()
    }

    /// Says whether a call that found no server may be made again.
    fn may_repeat(&self) -> bool {
        let exchange = || self.enter(Some(Instant::now()));
        self.revival == Revival::Repeat
            && self.may_reconnect()
            && exchange().map_or(true, |exchange| exchange.can_reconnect())
    }

    /// Starts a call without waiting for its answer. Any number may be in flight on one connection and be
    /// answered in any order; each has the connection's deadline from now on.
    ///
    /// Waits only for room to send, and takes in answers meanwhile.
    ///
    /// Answers that have come are kept when the server dies, with one exception: on
    /// [`Kind::Datagram`](crate::Kind::Datagram) the first call after its death has the kernel throw away what is in
    /// the socket. That is not looked at before each call, so answers that came in the last 50 ms can be lost; their
    /// calls end with [`CallError::Closed`].
    ///
    /// # Errors
    ///
    /// [`CallError::Deadline`] when there was no room in time, [`CallError::Closed`], [`CallError::Io`]; in
    /// each case nothing has been sent.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../doc/counter.txt")]
    /// use jsoncomm::{CallError, Connection, Pending};
    ///
    /// let connection = Connection::open(&path)?;
    /// let first: Pending<u64> = connection.start("example.counter.add", &(1,))?;
    /// let second: Pending<u64> = connection.start("example.counter.add", &(2,))?;
    /// assert_eq!((second.wait()?, first.wait()?), (3, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<Pending<T, E>, CallError<E>> {
        let deadline = self.deadline();
        let id = self
            .begin(
                method,
                params,
                self.timeout,
                deadline,
                Started::Waiting(None),
            )
            .map_err(CallError::from_error)?;
        Ok(Pending::new(self.clone(), id, deadline))
    }

    /// Starts a call that is answered in many parts. The connection's deadline holds for sending it and then for
    /// each part.
    ///
    /// # Errors
    ///
    /// As [`start`](Connection::start).
    ///
    /// # Examples
    ///
    /// At [`Items`], with a stub.
    pub fn stream<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<Items<T, E>, CallError<E>> {
        let frames = Started::Stream(Frames::default());
        // The server is not told of a deadline: it would be one for the whole.
        let id = self
            .begin(method, params, None, self.deadline(), frames)
            .map_err(CallError::from_error)?;
        Ok(Items::new(self.clone(), id))
    }

    /// Sends a call that is waited for later; says which it is.
    fn begin(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
        started: Started,
    ) -> Result<u64, Error> {
        let mut exchange = self.enter_to_start(deadline)?;
        let id = exchange.next_id();
        let outgoing = Outgoing {
            id: Some(id),
            timeout,
            deadline,
            driven: self.is_driven(),
            reconnect: self.may_reconnect(),
        };
        exchange.send(outgoing, method, params)?;
        exchange.begin(id, started);
        Ok(id)
    }

    /// Sends a request of an enum and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`call`](Connection::call).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Connection, Message};
    /// # use jsoncomm::{Call, Handler, Kind, Limits, Reply, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("jobs.sock");
    ///
    /// #[derive(Debug, Message)]
    /// #[message(service = "example.jobs", reply = Tell)]
    /// enum Ask { Run { program: String }, Wait { job: u32 } }
    ///
    /// #[derive(Debug, Message)]
    /// enum Tell { Started { job: u32 }, Exited { code: i32 } }
    /// # struct Jobs;
    /// # impl Handler<Ask> for Jobs {
    /// #     fn handle(&mut self, _: &mut Call, _: Ask, reply: Reply<Tell>) {
    /// #         reply.send(Tell::Started { job: 1 });
    /// #     }
    /// # }
    /// # let mut server = Server::new(Limits::default())?;
    /// # server.bind(&path, Kind::Seqpacket)?.handle::<Ask>();
    /// # std::thread::spawn(move || server.run(&mut Jobs));
    ///
    /// let jobs = Connection::open(&path)?;
    /// match jobs.ask(&Ask::Run { program: "true".into() })? {
    ///     Tell::Started { job } => println!("job {job}"),
    ///     Tell::Exited { code } => println!("it has ended already, with {code}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask<R: Request>(&self, request: &R) -> Result<R::Reply, CallError<R::Error>> {
        self.call(&request.full_name(), &Content(request))
    }

    /// Calls a method that does not answer. Returns when the kernel has the call; whether the server
    /// accepts it is not known.
    ///
    /// # Errors
    ///
    /// [`CallError::Deadline`] when there was no room in time, [`CallError::Closed`] when nobody is there,
    /// otherwise [`CallError::Io`]. In each case nothing has been sent.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../doc/counter.txt")]
    /// use jsoncomm::{CallError, Connection};
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.notify("example.counter.set", &(40,))?;
    /// let sum: Result<u64, CallError> = connection.call("example.counter.add", &(2,));
    /// assert_eq!(sum?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn notify(&self, method: &str, params: &(impl Pack + ?Sized)) -> Result<(), CallError> {
        let deadline = self.deadline();
        let mut exchange = self
            .enter_to_start(deadline)
            .map_err(CallError::from_error)?;
        let outgoing = Outgoing {
            id: None,
            timeout: None,
            deadline,
            driven: self.is_driven(),
            reconnect: self.may_reconnect(),
        };
        exchange
            .send(outgoing, method, params)
            .map_err(CallError::from_error)?;
        exchange.notified = true;
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout
            .and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Says whether no call is in flight.
    #[cfg(all(test, feature = "derive"))]
    pub(crate) fn is_idle(&self) -> bool {
        self.enter(None).is_ok_and(|exchange| exchange.is_idle())
    }

    /// Says whether an event loop drives the connection.
    fn is_driven(&self) -> bool {
        self.shared.driven.load(Ordering::Relaxed)
    }

    /// Waits for calls of other threads to end.
    fn enter(&self, deadline: Option<Instant>) -> Result<Entered<'_, Exchange>, Error> {
        let entered = self.shared.exchange.enter(deadline, Stay::Brief);
        entered.ok_or(Error::Deadline)
    }

    /// The same for who is going to wait for an answer.
    fn enter_to_wait(&self, deadline: Option<Instant>) -> Result<Entered<'_, Exchange>, Error> {
        let entered = self.shared.exchange.enter(deadline, Stay::Long);
        entered.ok_or(Error::Deadline)
    }

    /// The same for who is going to send what it does not wait for: an event loop cannot wait for those who do.
    fn enter_to_start(&self, deadline: Option<Instant>) -> Result<Entered<'_, Exchange>, Error> {
        match self.is_driven() {
            true => self.shared.exchange.enter_soon().ok_or(Error::Full),
            false => self.enter(deadline),
        }
    }
}

fn time_left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|at| at.saturating_duration_since(Instant::now()))
}

/// The content of a request, without the variant's name.
struct Content<'r, R>(&'r R);

impl<R: PackContent> Pack for Content<'_, R> {
    fn pack<'a, S: Serializer>(
        &'a self,
        fds: &Packer<'a>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        self.0.pack_content(fds, serializer)
    }
}
