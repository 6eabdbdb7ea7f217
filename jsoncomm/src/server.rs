//! The server: endpoints, the loop, and what drives it.
//!
//! One thread runs one loop. The program's state is lent to each turn, so that handlers are plain methods on `&mut self`.
//! Nothing on the loop waits for a peer: a reply that finds no room is queued, and each source handles a bounded number of
//! messages per turn.
//!
//! | type | for |
//! |---|---|
//! | [`Server`] | the loop, its sockets, timers and watches |
//! | [`Endpoint`] | what one socket serves, and for whom |
//! | [`Control`] | the server, for the callback of a timer or watch |
//! | [`ServerHandle`] | the server, for handlers and other threads |
//! | [`Session`], [`SessionProblem`] | a session that was opened, to close it; why one was not |
//! | [`Token`] | a socket, timer or watch, to remove it |
//! | [`UnreadCall`], [`Access`], [`Verdict`] | rules for [who may call what](crate::guide::rights) |
//! | [`TestCall`] | testing a handler without a socket |
//!
//! ```
//! use jsoncomm::{Kind, Limits, Server};
//! use std::time::Duration;
//!
//! #[jsoncomm::service(name = "example.clock")]
//! trait Clock {
//!     fn ticks(&mut self) -> u64;
//! }
//! #[derive(Default)]
//! struct Daemon { ticks: u64 }
//! impl Clock for Daemon {
//!     fn ticks(&mut self) -> u64 { self.ticks }
//! }
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("clock.sock");
//!
//! let mut server = Server::new(Limits::default())?;
//! let endpoint = server.bind(&path, Kind::Seqpacket)?.serve::<dyn Clock>().token();
//! server.every(Duration::from_millis(1), move |daemon: &mut Daemon, control| {
//!     daemon.ticks += 1;
//!     if daemon.ticks == 3 {
//!         control.post(move |server| {
//!             server.remove(endpoint);
//!         });
//!         control.stop();
//!     }
//! })?;
//! let mut daemon = Daemon::default();
//! server.run(&mut daemon)?;
//! assert_eq!(daemon.ticks, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// First, so that the constructor comes first in the documentation of a server.
mod running;

mod access;
mod batch;
mod connected;
mod control;
mod datagrams;
mod endpoint;
mod event_loop;
#[cfg(all(test, repository, feature = "derive"))]
mod faults;
#[cfg(all(test, repository, feature = "derive"))]
mod forked;
mod handover;
mod lingering;
mod listener;
mod posts;
mod registering;
mod sending;
mod sessions;
mod source;
mod stats;
mod stop;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::reactor::{Cause, Key, Pollable, Reactor, Trigger};
use crate::service::ServerContext;
use crate::sys::{limit, opaque_debug};
use crate::transport::Inbox;

pub use crate::error::{HandoverProblem, SessionProblem};
pub use crate::service::{Access, Service, Session, TestCall, UnreadCall, Verdict};
use access::Parking;
use connected::Connected;
use control::{Changes, Driven, OnEnd, Timer, Watched};
pub use control::{Control, ServerHandle, Token};
use datagrams::Datagrams;
pub use endpoint::Endpoint;
pub use handover::Handover;
use lingering::Lingering;
use listener::ListenerSource;
use sessions::Sessions;
use source::SourceAction;

/// A single-threaded server: sockets, the services on them, and the loop that drives both.
///
/// 1. [`Server::new`] takes the [`Limits`](crate::Limits) for its peers. [`Limits::default`](crate::Limits::default) is for
///    clients that are not trusted.
/// 2. [`bind`](Server::bind) creates a socket at a path or a name; [`adopt`](Server::adopt) takes over one that the program
///    was started with. Both return an [`Endpoint`].
/// 3. [`Endpoint::authorize`] sets who may call, and [`Endpoint::serve`] what is served: a trait with
///    [`#[service]`](macro@crate::service).
/// 4. [`run`](Server::run) serves until a [`ServerHandle`] stops it.
///
/// `S` is the program's state. It is lent to [`run`](Server::run) or [`run_once`](Server::run_once), and handlers get it as
/// `&mut self`. One state may provide several services, and one server may have several sockets.
///
/// # Forking
///
/// A server belongs to the process that made it. In a forked child ([fork(2)]) its methods fail with [`Error::Forked`], and
/// dropping the copy closes descriptors and does nothing else. The parent's server keeps its connections, its deferred
/// replies and the files of its sockets. A daemon forks before it makes its server. The child keeps the sockets open until
/// it drops the copy or calls execve(2).
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
/// #     let reply = hello.greet("Ada").unwrap();
/// #     handle.stop();
/// #     reply
/// # });
/// server.run(&mut Polite)?; // until a `ServerHandle` stops it
/// # assert_eq!(client.join().unwrap(), "Good day, Ada!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<S> {
    reactor: Reactor<Box<Source<S>>>,
    context: ServerContext,
    inbox: Inbox,
    /// The sources that are ready, and why.
    turns: Vec<(Key, Cause)>,
    /// The connections to other servers that this loop drives.
    driven: Vec<Key>,
    changes: Arc<Changes<S>>,
    /// The sessions that have ended, by their tags, of which the state has not been told.
    ended: Vec<(u64, OnEnd<S>)>,
    /// What callbacks get.
    control: Control<S>,
    /// The server has been asked to stop.
    stop: bool,
    /// When a graceful shutdown ends at the latest.
    stopping: Option<Instant>,
    /// Set once an endpoint has rules for methods.
    parking: Option<Parking<S>>,
}

opaque_debug!(Server<S>);

/// What the loop watches.
enum Source<S> {
    Datagrams(Datagrams<S>),
    Listener(ListenerSource<S>),
    Connection(Connected<S>),
    Sessions(Sessions<S>),
    Lingering(Lingering),
    Watched(Watched<S>),
    Timer(Timer<S>),
    Client(Driven),
}

impl<S> Source<S> {
    /// Returns what to do with it next while nothing is read.
    fn next_unread(&mut self) -> SourceAction {
        match self {
            Source::Connection(connection) => connection.next_unread(),
            Source::Datagrams(endpoint) => endpoint.next_unread(),
            Source::Listener(_) => SourceAction::Ignore(None),
            _ => SourceAction::Keep(None),
        }
    }

    /// Closes its socket, unless more is in flight on it than may be forgotten: then returns it, to linger.
    fn close(self, context: &ServerContext) -> Option<Lingering> {
        match self {
            Source::Connection(connection) => return connection.close(context),
            Source::Lingering(lingering) => lingering.close(context),
            Source::Datagrams(endpoint) => endpoint.close(context),
            Source::Listener(listener) => listener.close(context),
            Source::Watched(_) | Source::Timer(_) | Source::Client(_) | Source::Sessions(_) => {}
        }
        None
    }
}

impl<S> Pollable for Box<Source<S>> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(match &**self {
            Source::Datagrams(endpoint) => endpoint.sender.socket.transport.as_fd(),
            Source::Listener(source) => source.listener.as_fd(),
            Source::Connection(connection) => connection.as_fd(),
            Source::Watched(watched) => watched.fd.as_fd(),
            Source::Client(driven) => driven.connection.as_fd(),
            Source::Timer(_) | Source::Lingering(_) | Source::Sessions(_) => return None,
        })
    }

    fn trigger(&self) -> Trigger {
        match &**self {
            Source::Datagrams(_) | Source::Listener(_) | Source::Connection(_) => Trigger::Level,
            // The program, or the client, decides whether these are read to their end.
            Source::Watched(_) | Source::Client(_) => Trigger::Edge,
            Source::Timer(_) | Source::Lingering(_) | Source::Sessions(_) => Trigger::Edge,
        }
    }
}

impl<S> Drop for Server<S> {
    /// Closes everything. Replies that are kept are no longer wanted, and posted changes are dropped. What peers have sent
    /// and was not read is closed by another thread, as closing it can take long.
    fn drop(&mut self) {
        if !self.context.is_own_process() {
            return;
        }
        self.context.pending.close();
        // Connections do not linger: nothing would close them later.
        self.context.stopping = true;
        // Handles that the program keeps would keep the queue, and in it sessions whose peers wait.
        self.apply_requests();
        for key in self.reactor.keys() {
            if let Some(mut source) = self.reactor.take(key) {
                if let Source::Connection(connection) = &mut *source {
                    connection.end();
                }
                source.close(&self.context);
            }
        }
    }
}

impl<S> AsFd for Server<S> {
    /// Returns the descriptor to wait on. It is readable when [`run_once`](Server::run_once) has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reactor.as_fd()
    }
}

/// Raises the number of descriptors that this process may open as far as allowed: the soft limit `RLIMIT_NOFILE` to the
/// hard one ([getrlimit(2)]).
///
/// Call it before [`Server::new`], which lowers its limits to what the process may open. Programs that use select(2) must
/// not call it.
///
/// # Errors
///
/// [`Error::Os`] if setrlimit(2) fails.
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
