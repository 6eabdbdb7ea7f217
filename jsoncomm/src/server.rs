//! The server: endpoints, turns, admission.
//!
//! One thread, one loop. The state is lent to each turn, so handlers are plain methods on `&mut self`.
//! Nothing on the loop waits for a peer: an answer that finds no room is kept in an outbox, and each
//! source gets a bounded number of messages a turn.

mod source;

use std::convert::Infallible;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::{Address, BoundPath};
use crate::error::{Error, Fault};
use crate::limits::Limits;
use crate::line::{Inbox, Kind, Line};
use crate::message::Request;
use crate::peer::Peer;
use crate::reactor::{Cause, Key, Reactor, Watch};
use crate::reply::{Mailbox, Post};
use crate::routes::Routes;
use crate::service::{Counts, Desk, Handler, Lane, Service};
use crate::socket::{self, Listener};
use crate::sys::socket as sys;

use source::{Connected, Datagrams, Next};

/// A single-threaded server: sockets, the services on them, and the loop that drives both.
///
/// `S` is the program's state, lent to [`run`](Server::run) or [`turn`](Server::turn); handlers get it as
/// `&mut self`. One state may provide several services, and one server may have several sockets.
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
/// # let stopper = server.stopper();
/// # let client = std::thread::spawn(move || {
/// #     let hello = HelloClient::new(jsoncomm::Connection::open(&path).unwrap());
/// #     let answer = hello.greet("Ada").unwrap();
/// #     stopper.stop();
/// #     answer
/// # });
/// server.run(&mut Polite)?; // until somebody stops it
/// # assert_eq!(client.join().unwrap(), "Good day, Ada!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server<S> {
    reactor: Reactor<Box<Source<S>>>,
    desk: Desk,
    inbox: Inbox,
    connections: usize,
    turns: Vec<(Key, Cause)>,
}

/// What the loop watches.
#[derive(Debug)]
enum Source<S> {
    Datagrams(Datagrams<S>),
    Listener(Door<S>),
    Connection(Connected<S>),
    Watched(Watched<S>),
}

/// A listening endpoint.
#[derive(Debug)]
struct Door<S> {
    listener: Listener,
    routes: Arc<Routes<S>>,
}

/// A descriptor that the program watches.
struct Watched<S> {
    fd: OwnedFd,
    call: OnReady<S>,
}

/// What a watch calls.
type OnReady<S> = Box<dyn FnMut(&mut S, &mut Control) + Send>;

impl<S> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("fd", &self.fd).finish()
    }
}

impl<S> AsFd for Source<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Datagrams(endpoint) => endpoint.line.as_fd(),
            Self::Listener(door) => door.listener.as_fd(),
            Self::Connection(connection) => connection.line.as_fd(),
            Self::Watched(watched) => watched.fd.as_fd(),
        }
    }
}

/// Stops a server, from any thread or handler.
#[derive(Debug, Clone)]
pub struct Stopper {
    mailbox: Arc<Mailbox>,
}

impl Stopper {
    /// Makes [`Server::run`] return after the turn it is in; the next one if it is in none.
    pub fn stop(&self) {
        self.mailbox.stop();
    }
}

/// What a watching function can do to the server that calls it.
#[derive(Debug, Default)]
pub struct Control {
    stop: bool,
    forget: bool,
}

impl Control {
    /// Makes [`Server::run`] return after this turn.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Ends the watch and closes its descriptor.
    pub fn forget(&mut self) {
        self.forget = true;
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
        let mailbox = Arc::new(Mailbox::new(wake, &limits));
        Ok(Self {
            reactor,
            desk: Desk::new(limits, mailbox),
            inbox: Inbox::default(),
            connections: 0,
            turns: Vec::new(),
        })
    }

    /// Binds a socket; the result says what is served there. Its path is removed when the server is
    /// dropped, if it is still the same file.
    ///
    /// Peers can send from now on; they are answered once the loop runs.
    ///
    /// # Errors
    ///
    /// As [`Socket::bind`](crate::Socket::bind). The server is as before.
    pub fn bind(
        &mut self,
        address: impl Into<Address>,
        kind: Kind,
    ) -> Result<Endpoint<'_, S>, Error> {
        let address = address.into();
        match kind {
            Kind::Datagram => {
                let (fd, path) = socket::bind(&address, kind)?;
                self.add_datagrams(fd, path)
            }
            Kind::Seqpacket => {
                let listener = Listener::bind(address)?;
                self.add_listener(listener)
            }
        }
    }

    /// Takes over a socket that was made elsewhere, for example by a service manager: a datagram socket, a
    /// listening seqpacket one, or a connected one with its one client. A path of it is not ours to remove.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when it is none of these; it is then closed.
    pub fn adopt(&mut self, fd: OwnedFd) -> Result<Endpoint<'_, S>, Error> {
        match socket::kind_of(fd.as_fd(), socket::Listening::No) {
            Ok(Kind::Datagram) => self.add_datagrams(fd, None),
            Ok(Kind::Seqpacket) => {
                let line = Line::new(fd, Kind::Seqpacket, &self.desk.limits)?;
                self.connections += 1;
                let source = Source::Connection(Connected::new(line, Arc::default()));
                self.add_endpoint(source)
            }
            Err(_) => {
                let listener = Listener::from_fd(fd)?;
                self.add_listener(listener)
            }
        }
    }

    fn add_datagrams(
        &mut self,
        fd: OwnedFd,
        path: Option<BoundPath>,
    ) -> Result<Endpoint<'_, S>, Error> {
        /// All answers of a datagram server share one send buffer.
        const SNDBUF: usize = 4 << 20;
        sys::set_passcred(fd.as_fd()).map_err(Error::os("setsockopt"))?;
        sys::raise_sndbuf(fd.as_fd(), SNDBUF).map_err(Error::os("setsockopt"))?;
        let line = Line::new(fd, Kind::Datagram, &self.desk.limits)?;
        self.add_endpoint(Source::Datagrams(Datagrams::new(line, path)))
    }

    fn add_listener(&mut self, listener: Listener) -> Result<Endpoint<'_, S>, Error> {
        self.add_endpoint(Source::Listener(Door {
            listener,
            routes: Arc::default(),
        }))
    }

    fn add_endpoint(&mut self, source: Source<S>) -> Result<Endpoint<'_, S>, Error> {
        let key = self.add(source)?;
        Ok(Endpoint { server: self, key })
    }

    fn add(&mut self, source: Source<S>) -> Result<Key, Error> {
        self.reactor.add(Box::new(source))
    }

    /// Calls `call` whenever `fd` is readable, until it says [`Control::forget`]. It is called again for as
    /// long as `fd` stays readable, so what is there has to be read.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the descriptor cannot be polled, as a plain file cannot; it is then closed.
    pub fn watch(
        &mut self,
        fd: impl Into<OwnedFd>,
        call: impl FnMut(&mut S, &mut Control) + Send + 'static,
    ) -> Result<(), Error> {
        self.add(Source::Watched(Watched {
            fd: fd.into(),
            call: Box::new(call),
        }))?;
        Ok(())
    }

    /// Makes a handle that stops the server.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            mailbox: Arc::clone(&self.desk.mailbox),
        }
    }

    /// Says what the server has done so far.
    pub fn counts(&self) -> Counts {
        self.desk.counts
    }

    /// Serves until it is stopped, by a [`Stopper`] or a [`Control`].
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the loop itself cannot go on. Nothing that a peer does causes that. The server
    /// can be run again.
    pub fn run(&mut self, state: &mut S) -> Result<(), Error> {
        while self.turn(state, None)? == Turn::Done {}
        Ok(())
    }

    /// Waits for something to do, for at most `timeout`, and does it.
    ///
    /// For loops of one's own: wait until [`as_fd`](AsFd::as_fd) is readable, then call this with a
    /// timeout of zero.
    ///
    /// # Errors
    ///
    /// As [`run`](Server::run).
    pub fn turn(&mut self, state: &mut S, timeout: Option<Duration>) -> Result<Turn, Error> {
        self.desk.mailbox.settle_here();
        let mut turns = std::mem::take(&mut self.turns);
        turns.clear();
        self.reactor.wait(timeout, &mut turns)?;
        // Replies that were posted while nobody was in a turn.
        self.send_posts()?;
        let mut stop = false;
        for (key, cause) in turns.drain(..) {
            let Some(mut source) = self.reactor.take(key) else {
                continue;
            };
            let mut control = Control::default();
            let next = match &mut *source {
                Source::Datagrams(endpoint) => {
                    endpoint.act(state, &mut self.desk, &mut self.inbox, key, cause)
                }
                Source::Connection(connection) => {
                    connection.act(state, &mut self.desk, &mut self.inbox, key)
                }
                Source::Listener(door) => self.accept(door),
                Source::Watched(watched) => {
                    (watched.call)(state, &mut control);
                    match control.forget {
                        true => Next::Close,
                        false => Next::Again(Watch::Reading),
                    }
                }
            };
            stop |= control.stop;
            self.settle(key, source, next)?;
            self.send_posts()?;
        }
        self.turns = turns;
        self.desk.counts.dropped += self.desk.mailbox.take_dropped();
        stop |= self.desk.mailbox.take_stop();
        Ok(match stop {
            true => Turn::Stopped,
            false => Turn::Done,
        })
    }

    /// Puts a source back as it wishes, or closes it.
    fn settle(&mut self, key: Key, source: Box<Source<S>>, next: Next) -> Result<(), Error> {
        match next {
            Next::Keep => {}
            Next::Again(watch) => self.reactor.rearm(key, source.as_fd(), watch)?,
            Next::At(time) => self.reactor.wake_at(key, time)?,
            Next::Close => {
                if matches!(*source, Source::Connection(_)) {
                    self.connections -= 1;
                }
                self.reactor.release(key);
                return Ok(());
            }
        }
        self.reactor.put(key, source);
        Ok(())
    }

    /// Sends the replies that have been posted. To those whose peer has gone meanwhile nothing happens.
    fn send_posts(&mut self) -> Result<(), Error> {
        for Post { ticket, letter } in self.desk.mailbox.collect() {
            let key = Key::from_bits(ticket.key);
            let Some(mut source) = self.reactor.take(key) else {
                self.desk.counts.dropped += 1;
                continue;
            };
            let next = match &mut *source {
                Source::Datagrams(endpoint) => {
                    endpoint
                        .lane(ticket.to)
                        .deliver(&mut self.desk, &letter.text, &letter.lend());
                    endpoint.next()
                }
                Source::Connection(connection) => {
                    connection.deliver(&mut self.desk, &letter.text, &letter.lend());
                    connection.next_after_sending()
                }
                Source::Listener(_) | Source::Watched(_) => Next::Keep,
            };
            self.settle(key, source, next)?;
        }
        Ok(())
    }

    /// Takes a bounded number of new connections.
    fn accept(&mut self, door: &mut Door<S>) -> Next {
        for _ in 0..self.desk.limits.turn.max(1) {
            let line = match door.listener.accept_line(&self.desk.limits) {
                Ok(Some(line)) => line,
                Ok(None) => return Next::Keep,
                // Descriptors or memory have run out; the client stays queued.
                Err(_) => return Next::At(Instant::now() + self.desk.limits.accept_pause),
            };
            let connection = Connected::new(line, Arc::clone(&door.routes));
            let refusal = if self.connections >= self.desk.limits.connections {
                Some(Fault::new(Fault::BUSY, "too many connections"))
            } else if !connection.is_admitted() {
                Some(Fault::new(Fault::REFUSED, "not admitted"))
            } else {
                None
            };
            if let Some(fault) = refusal {
                connection.turn_away(&mut self.desk, &fault);
                continue;
            }
            if self.add(Source::Connection(connection)).is_ok() {
                self.desk.counts.accepted += 1;
                self.connections += 1;
            } else {
                self.desk.counts.turned_away += 1;
            }
        }
        Next::Again(Watch::Reading)
    }
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// There may be more to do.
    Done,
    /// The server was asked to stop.
    Stopped,
}

impl<S> AsFd for Server<S> {
    /// The descriptor to wait on, readable when [`turn`](Server::turn) has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reactor.as_fd()
    }
}

/// A socket of a server, to say what is served there.
#[derive(Debug)]
pub struct Endpoint<'s, S> {
    server: &'s mut Server<S>,
    key: Key,
}

impl<S> Endpoint<'_, S> {
    /// Serves a service here: `serve::<dyn Trait>()`.
    ///
    /// # Panics
    ///
    /// When the endpoint already serves a method of that name.
    #[expect(
        clippy::panic,
        reason = "a program that does this is wrong in each run"
    )]
    pub fn serve<T: Service<S> + ?Sized>(self) -> Self {
        self.change(|routes| {
            if let Err(name) = routes.add_service::<T>() {
                panic!("method {name} is served twice at one endpoint");
            }
        })
    }

    /// Serves the requests of an enum here, in the envelope.
    ///
    /// # Panics
    ///
    /// When the endpoint already serves a method of that name.
    #[expect(
        clippy::panic,
        reason = "a program that does this is wrong in each run"
    )]
    pub fn handle<R: Request>(self) -> Self
    where
        S: Handler<R>,
    {
        self.change(|routes| {
            if let Err(name) = routes.add_requests::<R>() {
                panic!("method {name} is served twice at one endpoint");
            }
        })
    }

    /// Makes this a bare endpoint: every message is an `R` without an envelope, and each is answered by at
    /// most one reply to its sender. A message that is no `R` is dropped and counted.
    pub fn bare<R: Request<Error = Infallible>>(self) -> Self
    where
        S: Handler<R>,
    {
        self.change(Routes::set_bare::<R>)
    }

    /// Serves only peers for which `rule` holds. A peer whose identity the kernel does not tell is refused
    /// without asking. Others get the fault [`Fault::REFUSED`]; a connection is then closed.
    pub fn admit(self, rule: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.change(|routes| routes.set_admit(Box::new(rule)))
    }

    fn change(self, change: impl FnOnce(&mut Routes<S>)) -> Self {
        let routes = match self
            .server
            .reactor
            .get(self.key)
            .map(|source| &mut **source)
        {
            Some(Source::Datagrams(endpoint)) => Arc::get_mut(&mut endpoint.routes),
            Some(Source::Listener(door)) => Arc::get_mut(&mut door.routes),
            Some(Source::Connection(connection)) => Arc::get_mut(&mut connection.routes),
            Some(Source::Watched(_)) | None => None,
        };
        // Always there: an endpoint borrows the server, so no connection can share its routes yet.
        if let Some(routes) = routes {
            change(routes);
        }
        self
    }
}
