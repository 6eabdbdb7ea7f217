//! How a server is made, gets its sockets, and runs.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::connected::Connected;
use super::control::{Control, ServerHandle, Token};
use super::datagrams::Datagrams;
use super::listener::ListenerSource;
use super::source::SourceAction;
use super::{Endpoint, Server, Source};
use crate::address::Bind;
use crate::child::{self, Child};
use crate::error::Error;
use crate::limits::Limits;
use crate::queue::PendingReplies;
use crate::reactor::{Key, Reactor};
use crate::service::ServerContext;
use crate::socket::{self, Listener};
use crate::sys::{limit, socket as sys};
use crate::transport::{Inbox, Kind, Transport};

impl<S> Server<S> {
    /// Creates a server without sockets.
    ///
    /// Limits on connections are lowered to what the process may open; see [`raise_descriptor_limit`](super::raise_descriptor_limit).
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if descriptors have run out. A server needs three: an epoll, an eventfd and a timerfd.
    pub fn new(limits: Limits) -> Result<Self, Error> {
        let (reactor, wake) = Reactor::new()?;
        let limits = limits.within(limit::descriptor_limit());
        let pending = Arc::new(PendingReplies::new(wake, &limits));
        let changes = Arc::default();
        let handle = ServerHandle {
            pending: Arc::clone(&pending),
            changes: Arc::downgrade(&changes),
        };
        Ok(Self {
            reactor,
            context: ServerContext::new(limits, pending),
            inbox: Inbox::default(),
            turns: Vec::new(),
            driven: Vec::new(),
            control: Control {
                handle,
                remove: false,
            },
            changes,
            ended: Vec::new(),
            stop: false,
            stopping: None,
            parking: None,
        })
    }

    /// Creates a socket at a path or a name, and returns its endpoint.
    ///
    /// A socket file that a dead server has left is replaced, that of a live server never; [`Bind`] has the rules, and sets
    /// mode and owner. The file is removed when the server is dropped, if it is still the same one. Peers can send from now
    /// on; their messages are handled once the loop runs.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::bind`](crate::socket::Socket::bind). The server is unchanged.
    pub fn bind(&mut self, at: impl Into<Bind>, kind: Kind) -> Result<Endpoint<'_, S>, Error> {
        self.check_process()?;
        match kind {
            Kind::Datagram => {
                let fd = sys::socket(Kind::Datagram)?;
                let transport = self.datagram_transport(fd)?;
                let path = at.into().bind(transport.as_fd(), Kind::Datagram)?;
                let endpoint = Datagrams::new(transport, Some(path), &self.context);
                self.add_endpoint(Source::Datagrams(endpoint))
            }
            Kind::Seqpacket => {
                let source = ListenerSource::new(Listener::bind(at)?, false);
                self.add_endpoint(Source::Listener(source))
            }
        }
    }

    /// Takes over a socket that was made elsewhere, and returns its endpoint.
    ///
    /// | socket | for example | peer |
    /// |---|---|---|
    /// | listening seqpacket | of a service manager | as of [`bind`](Server::bind) |
    /// | datagram with a name | of a service manager | as of `bind`; of messages sent before, only if `SO_PASSCRED` was set |
    /// | connected seqpacket | one end of a socket pair | as the kernel reports, unless this process made the pair |
    /// | connected datagram | one end of a socket pair | unknown until [`Endpoint::peer_is`] sets it |
    ///
    /// An unknown peer is refused where there is a [rule](Endpoint::authorize). A `.socket` unit of systemd sets
    /// `SO_PASSCRED` with `PassCredentials=yes`; the example `activated` has all that such a unit needs.
    ///
    /// The server does not remove the socket's file. After [`shut_down`](Server::shut_down) it no longer reads a socket that
    /// has a name: queued messages are left to the process that serves there next.
    ///
    /// [`run`](Server::run) continues when an adopted connection is closed, unless [`Endpoint::stop_on_close`] is set.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the socket is none of these; it is closed.
    pub fn adopt(&mut self, fd: OwnedFd) -> Result<Endpoint<'_, S>, Error> {
        self.check_process()?;
        match socket::kind_of(fd.as_fd(), socket::Listening::No) {
            Ok(Kind::Datagram) => {
                let transport = self.datagram_transport(fd)?;
                let endpoint = Datagrams::adopted(transport, &self.context)?;
                self.add_endpoint(Source::Datagrams(endpoint))
            }
            Ok(Kind::Seqpacket) => {
                let transport = Transport::new(fd, Kind::Seqpacket, &self.context.limits)?;
                let connection = Connected::new(transport, Arc::default(), &mut self.context);
                let endpoint = self.add_endpoint(Source::Connection(connection))?;
                endpoint.server.context.pending.requests.count_connection();
                Ok(endpoint)
            }
            Err(_) => {
                let source = ListenerSource::new(Listener::from_fd(fd)?, true);
                self.add_endpoint(Source::Listener(source))
            }
        }
    }

    /// Takes over the connection to the parent process, which has started this one as a [child] with
    /// [`Connection::spawn`](crate::Connection::spawn), and returns its endpoint.
    ///
    /// The peer is the parent, as the kernel reports it. [`run`](Server::run) returns when the parent closes the connection or
    /// ends, after everything that it sent before has been handled ([`Endpoint::stop_on_close`]).
    ///
    /// # Errors
    ///
    /// [`Error::NoParent`] if this process was not started so, or has taken the connection over already. Nothing has changed.
    ///
    /// # Examples
    ///
    /// [`child`](crate::child#examples) has both sides.
    #[doc(alias = "from_parent")]
    pub fn adopt_parent(&mut self) -> Result<Endpoint<'_, S>, Error> {
        self.check_process()?;
        self.adopt(child::take_parent()?)?.stop_on_close()
    }

    /// Starts a program as a [child] that calls this server, with
    /// [`Connection::from_parent`](crate::Connection::from_parent), and returns the endpoint of its connection.
    ///
    /// For the kernel the peer is this process, which made the sockets, so it is unknown; [`Endpoint::peer_is`] sets it. Dropping
    /// the [`Child`] closes the connection and ends the process, which can take as long as its [grace
    /// period](Child::set_grace). Waits until the child has executed the program.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::spawn`](crate::Connection::spawn). The server is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::server::Server;
    /// use jsoncomm::{Error, Limits};
    /// use std::process::Command;
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock {
    ///     fn now(&mut self) -> u64;
    /// }
    ///
    /// fn serve_plugin<S: Clock>(server: &mut Server<S>) -> Result<jsoncomm::child::Child, Error> {
    ///     let (endpoint, plugin) = server.spawn(Command::new("clock-plugin"))?;
    ///     endpoint.serve::<dyn Clock>();
    ///     Ok(plugin)
    /// }
    /// ```
    pub fn spawn(&mut self, command: Command) -> Result<(Endpoint<'_, S>, Child), Error> {
        self.check_process()?;
        let (near, mut child) = child::spawn(command)?;
        let mut endpoint = self.adopt(near)?;
        if let Some(connection) = endpoint.connection() {
            child.closes(connection);
        }
        Ok((endpoint, child))
    }

    /// Serves until a [`ServerHandle`] or a [`Control`] stops it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the loop itself cannot continue. No peer can cause that. The server can be run again.
    pub fn run(&mut self, state: &mut S) -> Result<(), Error> {
        while self.run_once(state, None)? == ControlFlow::Continue(()) {}
        Ok(())
    }

    /// Waits up to `timeout` for something to do, and does a bounded share of it. More may be left.
    ///
    /// This is for a program with a loop of its own: wait until [`as_fd`](AsFd::as_fd) is readable, then call this with a
    /// timeout of zero. An edge-triggered loop has to repeat that until the descriptor is no longer readable.
    ///
    /// Returns [`ControlFlow::Break`] if the server has been stopped.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Server::run).
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/run_once.md")]
    pub fn run_once(
        &mut self,
        state: &mut S,
        timeout: Option<Duration>,
    ) -> Result<ControlFlow<()>, Error> {
        self.check_process()?;
        self.turns.clear();
        // For calls that were started since the last turn.
        self.arm_driven();
        self.reactor.wait(timeout, &mut self.turns)?;
        let idle = self.turns.is_empty();
        self.context.pending.begin_turn();
        self.act(state);
        // A handler may have forked, and this may be the child.
        self.check_process()?;
        self.context.pending.end_turn();
        if self.context.pending.take_signal() {
            // First, since a handler whose call was parked may ask for changes. It may fork as well.
            self.settle_if_parking(state);
            self.check_process()?;
            self.apply_changes();
        }
        // For a caller that does not wait here but elsewhere, after the turn.
        self.arm_driven();
        self.reactor.arm()?;
        let ended = self.stopping.is_some() && self.end_if_stopping(idle);
        if !self.ended.is_empty() {
            self.tell_ended(state)?;
        }
        if ended | std::mem::take(&mut self.stop) {
            Ok(ControlFlow::Break(()))
        } else {
            Ok(ControlFlow::Continue(()))
        }
    }

    /// Returns a handle that reaches the server from any thread or handler.
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/handle.md")]
    pub fn handle(&self) -> ServerHandle<S> {
        self.control.handle.clone()
    }

    /// Removes an endpoint, a watch or a timer, and closes its descriptor. Returns true if it was still there.
    ///
    /// Connections that an endpoint has accepted stay. Calls that came by a datagram socket are cancelled.
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/remove.md")]
    pub fn remove(&mut self, token: Token) -> bool {
        if !self.context.is_own_process() {
            return false;
        }
        // Sessions that have been opened need their endpoint until they are adopted.
        self.apply_requests();
        let removed = self.act_on(token.0, |_| SourceAction::Close);
        if !self.ended.is_empty() {
            // The next turn tells the state, and nothing else may cause one.
            self.context.pending.wake();
        }
        removed
    }

    /// Sets how long the loop busy-polls before it sleeps, like `SO_BUSY_POLL` in [socket(7)]. Zero, the default, turns it
    /// off. The maximum is 1 ms.
    ///
    /// Waking a sleeping server on another processor takes about ten times as long as the rest of a call. 50 µs suit
    /// clients that make one call after another. Busy polling is adaptive: the server uses a processor while it polls, and polls
    /// less often when that finds nothing, down to once in 64 times. It is off on a machine with one processor, and where
    /// client and server share a processor it only costs.
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

    /// Prepares a datagram socket. Called before it is bound: the credentials of what is queued earlier would be missing.
    pub(super) fn datagram_transport(&self, fd: OwnedFd) -> Result<Transport, Error> {
        /// All replies of a datagram endpoint share one send buffer, of so many bytes.
        const SNDBUF: usize = 4 << 20;
        sys::set_passcred(fd.as_fd())?;
        sys::raise_sndbuf(fd.as_fd(), SNDBUF)?;
        Ok(Transport::new(fd, Kind::Datagram, &self.context.limits)?)
    }

    fn add_endpoint(&mut self, source: Source<S>) -> Result<Endpoint<'_, S>, Error> {
        let key = self.add(source)?;
        Ok(Endpoint { server: self, key })
    }

    pub(super) fn add(&mut self, source: Source<S>) -> Result<Key, Error> {
        self.check_process()?;
        let added = self.reactor.add(Box::new(source));
        added.map_err(|(error, source)| {
            // Dropping it could wait for what is unread in it.
            source.close(&self.context);
            error
        })
    }

    /// Fails in a forked child, where everything that the loop uses is shared with the parent.
    pub(super) fn check_process(&self) -> Result<(), Error> {
        if self.context.is_own_process() {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }
}
