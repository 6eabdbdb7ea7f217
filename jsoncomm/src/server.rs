//! The server: endpoints, turns, admission.
//!
//! One thread, one loop. The state is lent to each turn, so handlers are plain methods on `&mut self`.
//! Nothing on the loop waits for a peer: an answer that finds no room is kept in an outbox, and each
//! source gets a bounded number of messages a turn.

mod connected;
mod control;
mod datagrams;
mod endpoint;
mod event_loop;
#[cfg(all(test, feature = "derive"))]
mod faults;
#[cfg(all(test, feature = "derive"))]
mod forked;
mod leaving;
mod listener;
mod posts;
mod sending;
mod source;
mod stats;
mod stop;

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Bind;
use crate::error::Error;
use crate::limits::Limits;
use crate::queue::{PendingReplies, PostedReply};
use crate::reactor::{Cause, Key, Reactor, Thing, Trigger};
use crate::service::ServerContext;
use crate::socket::{self, Listener};
use crate::sys::{limit, socket as sys};
use crate::transport::{Inbox, Kind, Transport};

pub use crate::service::{Service, TestCall};
use connected::Connected;
pub use control::{Control, ServerHandle, Token};
use control::{Driven, Timer, Watched};
use datagrams::Datagrams;
pub use endpoint::Endpoint;
use leaving::Leaving;
use listener::ListenerSource;

/// A single-threaded server: sockets, the services on them, and the loop that drives both.
///
/// How one is made:
///
/// 1. [`Server::new`] takes the [`Limits`] for its peers; [`Limits::default`] is for clients that are not trusted.
/// 2. [`bind`](Server::bind) gives it a socket at a path or a name, or [`adopt`](Server::adopt) one that it was started
///    with. Both return an [`Endpoint`].
/// 3. On the endpoint, [`authorize`](Endpoint::authorize) says who may call, and [`serve`](Endpoint::serve) what is served: a trait
///    with [`#[service]`](macro@crate::service).
/// 4. [`run`](Server::run) serves until a [`ServerHandle`] stops it.
///
/// `S` is the program's state, lent to [`run`](Server::run) or [`run_once`](Server::run_once); handlers get it as
/// `&mut self`. One state may provide several services, and one server may have several sockets.
///
/// A server belongs to the process that has made it. In a forked child ([fork(2)]) its methods fail with
/// [`Error::Forked`], and dropping the copy closes descriptors and does nothing else: the parent's server goes on, with
/// its sockets' files, its connections and its deferred replies. A program that forks to go into the background does so
/// before it makes its server. The child keeps the sockets open until it drops the copy or calls execve(2).
///
/// [fork(2)]: https://man7.org/linux/man-pages/man2/fork.2.html
///
/// # Examples
///
/// ```
/// use jsoncomm::{Kind, Limits, Server};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("hello.sock");
///
/// #[jsoncomm::service(name = "example.hello")]
/// trait Hello {
///     fn greet(&mut self, name: &str) -> String;
/// }
///
/// struct Polite;
///
/// impl Hello for Polite {
///     fn greet(&mut self, name: &str) -> String {
///         format!("Good day, {name}!")
///     }
/// }
///
/// let mut server = Server::new(Limits::default())?;
/// server.bind(&path, Kind::Seqpacket)?.serve::<dyn Hello>();
/// # let handle = server.handle();
/// # let client = std::thread::spawn(move || {
/// #     let hello = HelloClient::new(jsoncomm::Connection::open(&path).unwrap());
/// #     let answer = hello.greet("Ada").unwrap();
/// #     handle.stop();
/// #     answer
/// # });
/// server.run(&mut Polite)?; // until somebody stops it
/// # assert_eq!(client.join().unwrap(), "Good day, Ada!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server<S> {
    reactor: Reactor<Box<Source<S>>>,
    desk: ServerContext,
    inbox: Inbox,
    connections: usize,
    turns: Vec<(Key, Cause)>,
    /// Room for replies that are being delivered.
    posts: Vec<PostedReply>,
    remote: ServerHandle<S>,
    /// The connections that it drives.
    driven: Vec<Key>,
    /// What has been asked of it in this turn.
    control: Control<S>,
    /// When it ends at the latest, once it has been asked to.
    stopping: Option<Instant>,
}

/// What the loop watches.
#[derive(Debug)]
enum Source<S> {
    Datagrams(Datagrams<S>),
    Listener(ListenerSource<S>),
    Connection(Connected<S>),
    Leaving(Leaving),
    Watched(Watched<S>),
    Timer(Timer<S>),
    Client(Driven),
}

impl<S> Thing for Box<Source<S>> {
    fn watched(&self) -> Option<BorrowedFd<'_>> {
        Some(match &**self {
            Source::Datagrams(endpoint) => endpoint.line.as_fd(),
            Source::Listener(door) => door.listener.as_fd(),
            Source::Connection(connection) => connection.as_fd(),
            Source::Watched(watched) => watched.fd.as_fd(),
            Source::Client(driven) => driven.connection.as_fd(),
            Source::Timer(_) | Source::Leaving(_) => return None,
        })
    }

    fn trigger(&self) -> Trigger {
        match &**self {
            Source::Datagrams(_) | Source::Listener(_) | Source::Connection(_) => Trigger::Level,
            // Whether these are read to their end is not ours to say.
            Source::Watched(_) | Source::Client(_) => Trigger::Edge,
            Source::Timer(_) | Source::Leaving(_) => Trigger::Edge,
        }
    }
}

impl<S> Server<S> {
    /// Makes a server without sockets.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when descriptors have run out: it takes an epoll, an eventfd and a timerfd.
    pub fn new(limits: Limits) -> Result<Self, Error> {
        let (reactor, wake) = Reactor::new()?;
        let limits = limits.within(limit::descriptor_limit());
        let mailbox = Arc::new(PendingReplies::new(wake, &limits));
        Ok(Self {
            reactor,
            desk: ServerContext::new(limits, Arc::clone(&mailbox)),
            inbox: Inbox::default(),
            connections: 0,
            turns: Vec::new(),
            posts: Vec::new(),
            remote: ServerHandle::new(mailbox),
            driven: Vec::new(),
            control: Control::new(),
            stopping: None,
        })
    }

    /// Binds a socket; the result says what is served there. The file of a dead server is replaced, that of a
    /// live one never; [`Bind`] has the rules, and sets mode and owner. The file is removed when the server is
    /// dropped, if it is still the same one.
    ///
    /// Peers can send from now on; they are answered once the loop runs.
    ///
    /// # Errors
    ///
    /// As [`Socket::bind`](crate::socket::Socket::bind). The server is as before.
    pub fn bind(&mut self, at: impl Into<Bind>, kind: Kind) -> Result<Endpoint<'_, S>, Error> {
        self.check_process()?;
        match kind {
            Kind::Datagram => {
                let fd = sys::socket(sys::Type::Dgram)?;
                let line = self.datagram_line(fd)?;
                let path = at.into().bind(line.as_fd(), sys::Type::Dgram)?;
                self.add_endpoint(Source::Datagrams(Datagrams::new(
                    line,
                    Some(path),
                    &self.desk,
                )))
            }
            Kind::Seqpacket => {
                let door = ListenerSource::new(Listener::bind(at)?);
                self.add_endpoint(Source::Listener(door))
            }
        }
    }

    /// Takes over a socket that was made elsewhere, for example by a service manager: a datagram socket, a
    /// listening seqpacket one, or one of either kind that is connected to its one client. A path of it is not ours to remove.
    /// Nor is its queue ours alone: what a server that [stops](Server::shut_down) has not taken is left for who
    /// serves there next.
    ///
    /// A server outlives its connections: [`run`](Server::run) goes on when the one client of an adopted connection has
    /// gone, and would wait for ever. With [`Endpoint::stop_on_close`] it ends then.
    ///
    /// Of a socket pair that this process has made, and of a connected datagram socket, the peer is unknown until
    /// [`Endpoint::peer_is`] says who it is.
    ///
    /// Who sent a datagram before this is told only if the socket had `SO_PASSCRED` set by then, as with
    /// `PassCredentials=yes` in a `.socket` unit of systemd; otherwise the sender is not known, and
    /// [refused](Endpoint::authorize) where there is a rule. The example `activated` has all that belongs to such a unit.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when it is none of these; it is then closed.
    pub fn adopt(&mut self, fd: OwnedFd) -> Result<Endpoint<'_, S>, Error> {
        self.check_process()?;
        match socket::kind_of(fd.as_fd(), socket::Listening::No) {
            Ok(Kind::Datagram) => {
                let line = self.datagram_line(fd)?;
                self.add_endpoint(Source::Datagrams(Datagrams::adopted(line, &self.desk)?))
            }
            Ok(Kind::Seqpacket) => {
                let line = Transport::new(fd, Kind::Seqpacket, &self.desk.limits)?;
                let connection = Connected::new(line, Arc::default(), &mut self.desk);
                let endpoint = self.add_endpoint(Source::Connection(connection))?;
                endpoint.server.connections += 1;
                Ok(endpoint)
            }
            Err(_) => {
                let mut door = ListenerSource::new(Listener::from_fd(fd)?);
                door.shared = true;
                self.add_endpoint(Source::Listener(door))
            }
        }
    }

    /// Prepares a datagram socket. This comes before binding: what is queued earlier would not say who sent it.
    fn datagram_line(&self, fd: OwnedFd) -> Result<Transport, Error> {
        /// All answers of a datagram server share one send buffer.
        const SNDBUF: usize = 4 << 20;
        sys::set_passcred(fd.as_fd())?;
        sys::raise_sndbuf(fd.as_fd(), SNDBUF)?;
        Ok(Transport::new(fd, Kind::Datagram, &self.desk.limits)?)
    }

    fn add_endpoint(&mut self, source: Source<S>) -> Result<Endpoint<'_, S>, Error> {
        let key = self.add(source)?;
        Ok(Endpoint { server: self, key })
    }

    fn add(&mut self, source: Source<S>) -> Result<Key, Error> {
        self.check_process()?;
        let added = self.reactor.add(Box::new(source));
        added.map_err(|(error, source)| {
            if let Source::Connection(connection) = *source {
                // What it has unread could make closing it wait.
                connection.abandon(&self.desk);
            }
            error
        })
    }

    /// Refuses to be used in a forked child, where all that the loop is made of is the parent's, too.
    fn check_process(&self) -> Result<(), Error> {
        if self.desk.is_here() {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }

    /// Removes an endpoint, a watch or a timer, and closes what it has; says whether it was still there.
    /// The connections that an endpoint has taken stay; calls that came by a datagram socket are cancelled.
    ///
    /// # Examples
    ///
    #[doc = include_str!("../doc/remove.md")]
    pub fn remove(&mut self, token: Token) -> bool {
        if !self.desk.is_here() {
            return false;
        }
        match self.reactor.take(token.0) {
            Some(source) => {
                self.close(token.0, source);
                true
            }
            None => false,
        }
    }

    /// Looks for messages for so long before it sleeps, as `SO_BUSY_POLL` does in [socket(7)] for other sockets; nothing,
    /// the default, turns that off.
    ///
    /// A server that sleeps has to be woken, and if that happens on another processor it takes about ten times as long
    /// as all the rest of a call. 50 us are a good time for clients that call again and again. While it looks the
    /// server uses a processor, and when it has looked in vain it looks less often, down to once in 64 times. At most
    /// 1 ms, and not at all on a machine with one processor; where client and server share one it only costs.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Limits, Server};
    /// use std::time::Duration;
    ///
    /// let mut server = Server::<()>::new(Limits::default())?;
    /// server.set_busy_poll(Duration::from_micros(50));
    /// # Ok::<(), jsoncomm::Error>(())
    /// ```
    pub fn set_busy_poll(&mut self, time: Duration) {
        self.reactor.spin.set(time);
    }

    /// Makes a handle that reaches the server from any thread or handler.
    ///
    /// # Examples
    ///
    #[doc = include_str!("../doc/handle.md")]
    pub fn handle(&self) -> ServerHandle<S> {
        self.remote.clone()
    }

    /// Serves until it is stopped, by a [`ServerHandle`] or a [`Control`].
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the loop itself cannot go on. Nothing that a peer does causes that. The server
    /// can be run again.
    pub fn run(&mut self, state: &mut S) -> Result<(), Error> {
        while self.run_once(state, None)? == ControlFlow::Continue(()) {}
        Ok(())
    }

    /// Waits for something to do, for at most `timeout`, and does it: a bounded share, so that there may be
    /// more left.
    ///
    /// For loops of one's own: wait until [`as_fd`](AsFd::as_fd) is readable, then call this with a
    /// timeout of zero. A loop that is only told of changes (edge-triggered) has to go on until the
    /// descriptor is not readable any more.
    ///
    /// # Errors
    ///
    /// As [`run`](Server::run).
    ///
    /// # Examples
    ///
    #[doc = include_str!("../doc/run_once.md")]
    pub fn run_once(
        &mut self,
        state: &mut S,
        timeout: Option<Duration>,
    ) -> Result<ControlFlow<()>, Error> {
        self.check_process()?;
        self.turns.clear();
        // Whoever does not wait here waits elsewhere, after the turn.
        let waits = timeout != Some(Duration::ZERO);
        if waits {
            self.arm_driven();
        }
        self.reactor.wait(timeout, &mut self.turns)?;
        let idle = self.turns.is_empty();
        self.desk.mailbox.begin_turn();
        self.act(state);
        // A handler may have forked, and this be the child.
        self.check_process()?;
        self.desk.mailbox.end_turn();
        if self.desk.mailbox.is_signaled() || !self.control.changes.is_empty() {
            self.hear_news();
        }
        if !waits {
            self.arm_driven();
        }
        self.reactor.arm()?;
        let ended = self.stopping.is_some() && self.end_if_stopping(idle);
        Ok(match ended | std::mem::take(&mut self.control.stop) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

impl<S> Drop for Server<S> {
    /// Whoever keeps a reply learns that nobody waits for it any more, and whoever waits for a change that it is not
    /// made. What peers have sent and nobody has read is closed elsewhere, as closing it can take its time.
    fn drop(&mut self) {
        if !self.desk.is_here() {
            return;
        }
        self.desk.mailbox.close();
        self.remote.close();
        // Nothing is left behind that would have to be looked after.
        self.desk.stopping = true;
        for key in self.reactor.keys() {
            match self.reactor.take(key).map(|source| *source) {
                Some(Source::Connection(connection)) => connection.abandon(&self.desk),
                Some(Source::Leaving(leaving)) => leaving.close(&self.desk),
                Some(Source::Datagrams(endpoint)) => endpoint.close(&self.desk),
                Some(Source::Listener(door)) => door.close(&self.desk),
                Some(Source::Watched(_) | Source::Timer(_) | Source::Client(_)) | None => {}
            }
        }
    }
}

/// Raises the number of descriptors that this process may have open as far as it may be raised: the soft limit
/// `RLIMIT_NOFILE` to the hard one ([getrlimit(2)]). Before [`Server::new`], which lowers its limits to what there
/// is. Programs that call select(2) must not do this.
///
/// # Errors
///
/// [`Error::Os`] for what setrlimit(2) reports.
///
/// [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html
///
/// # Examples
///
/// ```
/// jsoncomm::server::raise_descriptor_limit()?;
/// # Ok::<(), jsoncomm::Error>(())
/// ```
pub fn raise_descriptor_limit() -> Result<(), Error> {
    Ok(limit::raise_descriptor_limit()?)
}

impl<S> AsFd for Server<S> {
    /// The descriptor to wait on, readable when [`run_once`](Server::run_once) has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reactor.as_fd()
    }
}
