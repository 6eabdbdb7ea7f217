//! Endpoints: what is served at a socket, and to whom.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::control::Control;
use super::{Server, Source, Token};
use crate::describe::Describe;
use crate::error::{AddressProblem, Error};
use crate::message::{RawError, RawMessage, Request};
use crate::peer::{Peer, Rule};
use crate::queue::SessionState;
use crate::reactor::{Key, Pollable};
use crate::reply::Reply;
use crate::router::Routes;
use crate::service::{Call, Handler, Service, handle_bare};
use crate::sys::control::refuse_rights;
use crate::sys::limit::descriptor_limit;

/// A socket of a server, and what is served there.
///
/// Each method sets one thing and returns the endpoint. An endpoint serves nothing until it is told to: every call then gets
/// the fault [`Fault::METHOD_NOT_FOUND`](crate::Fault::METHOD_NOT_FOUND).
///
/// | | serves |
/// |---|---|
/// | [`serve`](Endpoint::serve) | a trait with [`#[service]`](macro@crate::service) |
/// | [`handle`](Endpoint::handle) | the requests of an enum, as methods |
/// | [`fallback`](Endpoint::fallback) | calls to all other methods, undecoded |
/// | [`bare`](Endpoint::bare) | messages without an envelope, and nothing else |
///
/// # Examples
///
/// ```
/// use jsoncomm::{Kind, Server};
///
/// #[jsoncomm::service(name = "example.hello")]
/// trait Hello {
///     fn greet(&mut self, name: &str) -> String;
/// }
///
/// #[jsoncomm::service(name = "example.clock")]
/// trait Clock {
///     fn now(&mut self) -> u64;
/// }
///
/// fn serve<S: Hello + Clock>(server: &mut Server<S>, path: &str) -> Result<(), jsoncomm::Error> {
///     server
///         .bind(path, Kind::Seqpacket)?
///         .authorize(|peer| peer.uid() == 0)
///         .serve::<dyn Hello>()
///         .serve::<dyn Clock>();
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Endpoint<'s, S> {
    pub(super) server: &'s mut Server<S>,
    pub(super) key: Key,
}

impl<S> Endpoint<'_, S> {
    /// Serves a service: `serve::<dyn Trait>()`. The server's state has to implement the trait.
    ///
    /// # Panics
    ///
    /// If the endpoint already serves a method of that name.
    pub fn serve<T: Service<S> + ?Sized>(self) -> Self {
        self.change(|routes| assert_unique(routes.add_service::<T>()))
    }

    /// Serves the requests of an enum as methods, each in an envelope. The server's state is their [`Handler`].
    ///
    /// # Panics
    ///
    /// If the endpoint already serves a method of that name.
    pub fn handle<R: Request + Describe>(self) -> Self
    where
        S: Handler<R>,
    {
        self.change(|routes| assert_unique(routes.add_requests::<R>()))
    }

    /// Serves only peers for which `rule` returns true.
    ///
    /// Rules for single methods are set by [`authorize_method`](Endpoint::authorize_method) and
    /// [`authorize_calls`](Endpoint::authorize_calls).
    ///
    /// Other peers get the fault [`Fault::NOT_AUTHORIZED`](crate::Fault::NOT_AUTHORIZED), and a connection of theirs is
    /// closed. A peer whose identity is unknown is refused without a call of the rule, and so is every peer about whom the rule
    /// panics.
    ///
    /// | socket | the rule is called |
    /// |---|---|
    /// | listening seqpacket | once for each connection, when it is accepted |
    /// | [adopted](Server::adopt) connection | once, when the first message arrives |
    /// | [session](Server::sessions) | once, when it is opened |
    /// | datagram | for each message |
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock {
    ///     fn set(&mut self, now: u64) -> Result<(), String>;
    /// }
    ///
    /// fn serve<S: Clock>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/clock.sock", Kind::Seqpacket)?;
    ///     endpoint.authorize(|peer| peer.uid() == 0).serve::<dyn Clock>();
    ///     Ok(())
    /// }
    /// ```
    pub fn authorize(self, rule: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        let (rule, key): (Rule, _) = (Arc::new(rule), self.key.to_bits());
        self.server.context.pending.requests.set_rule(key, &rule);
        self.change(|routes| routes.rule = Some(rule))
    }

    /// Serves calls to methods that nothing else here serves, undecoded.
    ///
    /// For gateways, and for methods whose names are only known at run time.
    ///
    /// The handler gets the method's whole name, the params as JSON text with their descriptors, and the reply, which it may
    /// send now or later. [`Call::service`] and [`Call::method`] are empty. It has to refuse unknown methods itself. Names that
    /// begin with `rpc.` are reserved for the framework, and never passed to it.
    ///
    /// Without a fallback such calls get the fault [`Fault::METHOD_NOT_FOUND`](crate::Fault::METHOD_NOT_FOUND).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::message::RawMessage;
    /// use jsoncomm::{Connection, Fault, Kind, Limits, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("echo.sock");
    ///
    /// let mut server = Server::new(Limits::default())?;
    /// server
    ///     .bind(&path, Kind::Seqpacket)?
    ///     .fallback(|_, _call, method, params, reply| match method {
    ///         "example.echo" => reply.send(RawMessage::new(params.json)),
    ///         _ => reply.send_fault(&Fault::new(Fault::METHOD_NOT_FOUND, "only example.echo")),
    ///     });
    /// # let handle = server.handle();
    /// # let server = std::thread::spawn(move || server.run(&mut ()));
    /// let connection = Connection::open(&path)?;
    /// let said: (u32, String) = connection.call::<_, String>("example.echo", &(7, "seven"))?;
    /// assert_eq!(said, (7, "seven".into()));
    /// # handle.stop();
    /// # server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fallback(
        self,
        handler: fn(&mut S, &mut Call, &str, RawMessage, Reply<RawMessage, RawError>),
    ) -> Self {
        self.change(|routes| routes.fallback = Some(handler))
    }

    /// Refuses messages with descriptors.
    ///
    /// Since Linux 6.16 the kernel refuses them (`SO_PASSRIGHTS`): the sender gets `EPERM`, and no descriptor of a peer has to
    /// be closed here. On older kernels the message gets the fault
    /// [`Fault::INVALID_DESCRIPTORS`](crate::Fault::INVALID_DESCRIPTORS).
    ///
    /// A message that is larger than the sender's `SO_SNDBUF` (208 KiB or more) travels as a descriptor, so it is refused too.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock {
    ///     fn now(&mut self) -> u64;
    /// }
    ///
    /// fn serve<S: Clock>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/clock.sock", Kind::Seqpacket)?;
    ///     endpoint.without_descriptors()?.serve::<dyn Clock>();
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if [setsockopt(2)] fails, except where the kernel does not have the option or a sandbox forbids it.
    ///
    /// [setsockopt(2)]: https://man7.org/linux/man-pages/man2/setsockopt.2.html
    pub fn without_descriptors(self) -> Result<Self, Error> {
        let source = self.server.reactor.get(self.key);
        if let Some(socket) = source.and_then(|source| source.fd()) {
            refuse_rights(socket)?;
        }
        Ok(self.change(|routes| routes.descriptors = 0))
    }

    /// Takes connections in messages whichever user's process is at their other end.
    ///
    /// Without this, a [`Connection`](crate::Connection) or a stub in a call is taken only if the kernel reports the caller's
    /// user at its other end (`SO_PEERCRED`). Otherwise a caller could connect to a service of another user, or of root, and pass
    /// that socket: what this process sends would arrive there as its own (a confused deputy). So with this, call only methods
    /// through it that are harmless in the name of this process, or look at who is there by
    /// [`Connection::peer`](crate::Connection::peer).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Connection, Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.relay")]
    /// trait Relay {
    ///     /// Introduces a process of any user.
    ///     #[oneway]
    ///     fn introduce(&mut self, #[fd] to: Connection);
    /// }
    ///
    /// fn serve<S: Relay>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/relay.sock", Kind::Seqpacket)?;
    ///     endpoint.allow_foreign_endpoints().serve::<dyn Relay>();
    ///     Ok(())
    /// }
    /// ```
    pub fn allow_foreign_endpoints(self) -> Self {
        self.change(|routes| routes.foreign_endpoints = true)
    }

    /// Requests each peer's pidfd, which [`Peer::pidfd`] returns to the endpoint's [rule](Endpoint::authorize) and handlers.
    ///
    /// | | Seqpacket | Datagram |
    /// |---|---|---|
    /// | source | `SO_PEERPIDFD`, once per connection | `SO_PASSPIDFD`, with each message, also those sent before |
    /// | costs | one descriptor per connection; [`Limits::connections`](crate::Limits::connections) is lowered if necessary | one descriptor while the message is handled, a third more time to receive it |
    ///
    /// Both exist since Linux 6.5. Where the kernel does not report the process, `pidfd` is `None`, and nothing else changes.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Call, Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.lease")]
    /// trait Lease {
    ///     fn take(&mut self, call: &mut Call) -> Result<(), String>;
    /// }
    ///
    /// fn serve<S: Lease>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/lease.sock", Kind::Datagram)?;
    ///     endpoint.with_pidfds().serve::<dyn Lease>();
    ///     Ok(())
    /// }
    ///
    /// struct Leases { holders: Vec<std::os::fd::OwnedFd> }
    ///
    /// impl Lease for Leases {
    ///     // A pidfd can be watched: it is readable once its process has ended.
    ///     fn take(&mut self, call: &mut Call) -> Result<(), String> {
    ///         let process = call.peer().and_then(|peer| peer.pidfd()).ok_or("who are you?")?;
    ///         let holder = process.try_clone_to_owned().map_err(|error| error.to_string())?;
    ///         self.holders.push(holder);
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[doc(alias = "SO_PASSPIDFD")]
    #[doc(alias = "SO_PEERPIDFD")]
    pub fn with_pidfds(mut self) -> Self {
        match self.source() {
            Some(Source::Datagrams(endpoint)) => endpoint.sender.socket.transport.pass_pidfds(),
            Some(Source::Connection(connection)) => connection.request_pidfd(),
            Some(Source::Listener(_)) => {
                let limits = &mut self.server.context.limits;
                limits.make_room_for_pidfds(descriptor_limit());
                let requests = &self.server.context.pending.requests;
                requests.set_connections_max(limits.connections);
            }
            _ => {}
        }
        self.change(|routes| routes.pidfds = true)
    }

    /// Makes this a bare endpoint: every message is an `R` without an envelope.
    ///
    /// Each message has at most one reply, and replies have no id: they arrive in the order in which they were sent. A message
    /// that is not an `R` is dropped and counted.
    ///
    /// # Panics
    ///
    /// If the endpoint has a rule for methods ([`authorize_calls`](Endpoint::authorize_calls)): which request a message is is not
    /// known before it is decoded.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::{Call, Handler, Kind, Limits, Message, Reply, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bare.sock");
    ///
    /// #[derive(Debug, Message)]
    /// #[message(reply = u64)]
    /// enum Ask { Double(u64) }
    ///
    /// struct Doubler;
    ///
    /// impl Handler<Ask> for Doubler {
    ///     fn handle(&mut self, _: &mut Call, Ask::Double(number): Ask, reply: Reply<u64>) {
    ///         reply.send(2 * number);
    ///     }
    /// }
    ///
    /// let mut server = Server::new(Limits::default())?;
    /// server.bind(&path, Kind::Datagram)?.bare::<Ask>();
    /// let mut client = Socket::connect(&path, Kind::Datagram)?;
    /// client.send(&Ask::Double(21))?; // {"Double":21}
    /// let _ = server.run_once(&mut Doubler, None)?;
    /// assert_eq!(client.receive::<u64>()?.0, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn bare<R: Request<Error = Infallible>>(self) -> Self
    where
        S: Handler<R>,
    {
        self.change(|routes| routes.bare = Some(handle_bare::<S, R>))
            .assert_not_bare_with_rules()
    }

    /// Sets who is at the other end of a connected socket that was [adopted](Server::adopt), for
    /// [`authorize`](Endpoint::authorize) and [`Call::peer`].
    ///
    /// The program has to know that it gave the other end to that process and to no other. Without this the peer is unknown
    /// where the kernel cannot tell: of a seqpacket pair that this process made, as the kernel would report this process, and of
    /// a connected datagram socket.
    ///
    /// This overrides what the kernel reports of a connection. A datagram that the kernel reports from another user has an
    /// unknown peer. The peer has no [pidfd](Endpoint::with_pidfds). An id that is no user here (`u32::MAX`, or 65534 where not
    /// every id is mapped) makes the peer unknown.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the endpoint is not a connected socket: the kernel reports the peers of others.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::{Kind, Limits, Server};
    /// use std::os::fd::AsFd;
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock {
    ///     fn now(&mut self) -> u64;
    /// }
    ///
    /// fn serve_worker<S: Clock>(server: &mut Server<S>) -> Result<Socket, Box<dyn std::error::Error>> {
    ///     const WORKER: u32 = 1000;
    ///     let (near, far) = Socket::pair(Kind::Seqpacket)?;
    ///     let near = near.as_fd().try_clone_to_owned()?;
    ///     let endpoint = server.adopt(near)?.peer_is(WORKER, WORKER)?;
    ///     endpoint.authorize(|peer| peer.uid() == WORKER).serve::<dyn Clock>();
    ///     Ok(far) // for a process of that user
    /// }
    /// ```
    pub fn peer_is(self, uid: u32, gid: u32) -> Result<Self, Error> {
        let (peer, server) = (Peer::of_program(uid, gid), &mut *self.server);
        match server.reactor.get(self.key).map(|source| &mut **source) {
            Some(Source::Datagrams(endpoint)) if endpoint.sender.connected => {
                endpoint.peer = peer.map(Box::new);
            }
            Some(Source::Connection(connection)) => connection.set_peer(peer, &mut server.context),
            _ => return Err(wrong_socket("a connected socket")),
        }
        Ok(self)
    }

    /// Stops the server when this connection, which was [adopted](Server::adopt), is closed: by its peer, or because it was not
    /// authorized or was disconnected. For a worker that serves the process that started it, as [`Server::adopt_parent`] does.
    ///
    /// Everything that the peer sent before it closed is handled. Then [`run`](Server::run) returns, as after
    /// [`ServerHandle::stop`](crate::server::ServerHandle::stop).
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the endpoint is not a connection of [`Kind::Seqpacket`](crate::Kind::Seqpacket). The kernel does not
    /// report that the other end of a pair of datagram sockets is closed, and a listening socket has no other end.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::{Connection, Kind, Limits, Server};
    /// use std::os::fd::AsFd;
    ///
    /// #[jsoncomm::service(name = "example.sums")]
    /// trait Sums {
    ///     fn add(&mut self, a: u64, b: u64) -> u64;
    /// }
    ///
    /// struct Worker;
    ///
    /// impl Sums for Worker {
    ///     fn add(&mut self, a: u64, b: u64) -> u64 { a + b }
    /// }
    ///
    /// let (ours, theirs) = Socket::pair(Kind::Seqpacket)?;
    /// let theirs = theirs.as_fd().try_clone_to_owned()?;
    /// let worker = std::thread::spawn(move || {
    ///     let mut server = Server::new(Limits::default())?;
    ///     server.adopt(theirs)?.stop_on_close()?.serve::<dyn Sums>();
    ///     server.run(&mut Worker)
    /// });
    /// let sums = SumsClient::new(Connection::from_fd(ours.as_fd().try_clone_to_owned()?)?);
    /// drop(ours);
    /// assert_eq!(sums.add(30, 4)?, 34);
    /// drop(sums); // closes the connection
    /// worker.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_on_close(mut self) -> Result<Self, Error> {
        match self.source() {
            Some(Source::Connection(connection)) => connection.stops_server = true,
            _ => return Err(wrong_socket("a seqpacket connection")),
        }
        Ok(self)
    }

    /// Tags this connection, which was [adopted](Server::adopt): calls on it have the tag, and the state is told when it ends.
    ///
    /// [`Call::tag`](crate::Call::tag) returns the tag. `on_end` is called with it once, as for a
    /// [session](Server::sessions), also if [`remove`](Server::remove) closes the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the endpoint is not a connection of [`Kind::Seqpacket`](crate::Kind::Seqpacket).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Call, Server};
    /// use std::os::fd::OwnedFd;
    ///
    /// #[jsoncomm::service(name = "example.job")]
    /// trait Job {
    ///     #[oneway]
    ///     fn progress(&mut self, call: &mut Call, percent: u8);
    /// }
    ///
    /// struct Jobs { ended: Vec<u64> }
    ///
    /// impl Job for Jobs {
    ///     fn progress(&mut self, call: &mut Call, percent: u8) {
    ///         println!("job {:?}: {percent} %", call.tag());
    ///     }
    /// }
    ///
    /// /// Serves a worker at the other end of `socket`.
    /// fn serve(server: &mut Server<Jobs>, socket: OwnedFd, job: u64) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.adopt(socket)?.serve::<dyn Job>();
    ///     endpoint.tag(job, |jobs, _, job| jobs.ended.push(job))?;
    ///     Ok(())
    /// }
    /// ```
    pub fn tag(
        mut self,
        tag: u64,
        on_end: impl Fn(&mut S, &mut Control<S>, u64) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let Some(Source::Connection(connection)) = self.source() else {
            return Err(wrong_socket("a seqpacket connection"));
        };
        connection.writer.session = Some(Arc::new(SessionState::new(tag)));
        connection.on_end = Some(Arc::new(on_end));
        Ok(self)
    }

    /// Turns `rpc.discover` off: it is then an unknown method, as it is without the feature `discover` of this crate.
    ///
    /// Without this, every [authorized](Endpoint::authorize) caller of `rpc.discover` gets an OpenRPC document of all services and
    /// requests that are served here; see [`describe`](crate::describe).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.secret")]
    /// trait Secret {
    ///     fn whisper(&mut self) -> String;
    /// }
    ///
    /// fn serve<S: Secret>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/secret.sock", Kind::Seqpacket)?;
    ///     endpoint.without_discovery().serve::<dyn Secret>();
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias = "rpc.discover")]
    pub fn without_discovery(self) -> Self {
        self.change(|routes| routes.discovery.turn_off())
    }

    /// Gives the endpoint a name, by which the next process knows it when this one [hands over](Server::hand_over).
    ///
    /// Without this it is the address, as it is printed: `/run/example.sock`, or `@example` for an abstract name. It is empty
    /// for one end of a socket pair, and no use for a path of more than 107 bytes.
    ///
    /// # Examples
    ///
    /// See [`Handover`](crate::server::Handover).
    pub fn named(self, name: impl Into<Box<str>>) -> Self {
        self.change(|routes| routes.name = Some(name.into()))
    }

    /// Removes the endpoint, and closes its socket. The file of a socket that was bound is removed.
    ///
    /// In [`Server::take_over`] this is for an endpoint that is no longer served: the connections that it has accepted are
    /// closed as well.
    pub fn remove(self) {
        self.server.remove(Token(self.key));
    }

    /// Returns the token to [remove](Server::remove) the endpoint with.
    pub fn token(&self) -> Token {
        Token(self.key)
    }

    /// Returns the socket of a connection.
    pub(super) fn connection(&mut self) -> Option<&Arc<OwnedFd>> {
        match self.source() {
            Some(Source::Connection(connection)) => Some(&connection.writer.socket.transport.fd),
            _ => None,
        }
    }

    pub(super) fn source(&mut self) -> Option<&mut Source<S>> {
        let source = self.server.reactor.get(self.key)?;
        Some(&mut **source)
    }

    pub(super) fn change(mut self, change: impl FnOnce(&mut Routes<S>)) -> Self {
        let routes = match self.source() {
            Some(Source::Datagrams(endpoint)) => Arc::get_mut(&mut endpoint.routes),
            Some(Source::Listener(source)) => Arc::get_mut(&mut source.routes),
            Some(Source::Sessions(sessions)) => Arc::get_mut(&mut sessions.routes),
            Some(Source::Connection(connection)) => Arc::get_mut(&mut connection.routes),
            _ => None,
        };
        // Always there: an endpoint borrows the server, so no connection shares its routes yet.
        if let Some(routes) = routes {
            change(routes);
        }
        self
    }
}

/// Panics if a method is served twice.
#[expect(
    clippy::panic,
    reason = "a program that does this is wrong in each run"
)]
#[track_caller]
fn assert_unique(added: Result<(), String>) {
    if let Err(name) = added {
        panic!("method {name} is served twice at one endpoint");
    }
}

/// Makes the error for a socket that a setting does not apply to.
fn wrong_socket(expected: &'static str) -> Error {
    Error::Address {
        address: String::from("of the descriptor"),
        problem: AddressProblem::WrongSocket { expected },
    }
}
