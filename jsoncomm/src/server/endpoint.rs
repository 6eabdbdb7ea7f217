//! What is served at a socket of a server.

use std::convert::Infallible;
use std::sync::Arc;

use super::{Server, Source, Token};
use crate::describe::Describe;
use crate::error::{AddressProblem, Error};
use crate::message::{RawError, RawMessage, Request};
use crate::peer::Peer;
use crate::reactor::{Key, Thing};
use crate::reply::Reply;
use crate::router::Routes;
use crate::service::{Call, Handler, Service};
use crate::sys::control::refuse_rights;
use crate::sys::limit::descriptor_limit;

/// A socket of a server, to say what is served there.
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
///
/// ```
#[derive(Debug)]
pub struct Endpoint<'s, S> {
    pub(super) server: &'s mut Server<S>,
    pub(super) key: Key,
}

impl<S> Endpoint<'_, S> {
    /// Names the endpoint, to [remove](Server::remove) it.
    pub fn token(&self) -> Token {
        Token(self.key)
    }

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
    pub fn handle<R: Request + Describe>(self) -> Self
    where
        S: Handler<R>,
    {
        self.change(|routes| {
            if let Err(name) = routes.add_requests::<R>() {
                panic!("method {name} is served twice at one endpoint");
            }
        })
    }

    /// Has calls whose method nothing else here serves handed over as they are: the method's whole name, the params as
    /// JSON text with their descriptors, and the right to answer, now or later. For gateways, and for methods whose
    /// names are known only when the program runs. Names that begin with `rpc.` are the framework's own.
    ///
    /// Without it such calls are refused with [`Fault::METHOD_NOT_FOUND`](crate::Fault::METHOD_NOT_FOUND), which is then
    /// the handler's to say. [`Call::service`] and [`Call::method`] are empty in it.
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
        self.change(|routes| routes.set_fallback(handler))
    }

    /// Takes no descriptors here. The kernel refuses them where it can (`SO_PASSRIGHTS`, since Linux 6.16): the sender
    /// gets `EPERM`, and nothing a peer passes can take its time to be closed here. Elsewhere a message that
    /// brings any is refused with [`Fault::INVALID_DESCRIPTORS`](crate::Fault::INVALID_DESCRIPTORS).
    ///
    /// Large messages come as a descriptor, too, those that exceed the sender's `SO_SNDBUF`, 208 KiB and more; with
    /// this they do not come.
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
    /// [`Error::Os`] for what [setsockopt(2)] reports, other than that it is not known.
    ///
    /// [setsockopt(2)]: https://man7.org/linux/man-pages/man2/setsockopt.2.html
    pub fn without_descriptors(self) -> Result<Self, Error> {
        if let Some(source) = self.server.reactor.get(self.key) {
            if let Some(socket) = source.watched() {
                refuse_rights(socket)?;
            }
        }
        Ok(self.change(Routes::refuse_descriptors))
    }

    /// Has the kernel say which process each peer is: [`Peer::pidfd`] then refers to it, for the endpoint's rule
    /// ([`authorize`](Endpoint::authorize)) and its handlers. On [`Kind::Seqpacket`](crate::Kind::Seqpacket) it is asked once
    /// for each connection (`SO_PEERPIDFD`); on [`Kind::Datagram`](crate::Kind::Datagram) it comes with each message
    /// (`SO_PASSPIDFD`), also with those that were sent before this was called. Both are there since Linux 6.5. Where
    /// the kernel cannot tell the process it is not known, and everything else goes on.
    ///
    /// On a connection it costs a descriptor, for which [`Limits::connections`](crate::Limits::connections) is lowered
    /// if need be. With a datagram it costs one while the message is handled, and a third more time for receiving it.
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
    ///     // Each can be watched: it is readable once its process has ended.
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
    pub fn with_pidfds(self) -> Self {
        match self
            .server
            .reactor
            .get(self.key)
            .map(|source| &mut **source)
        {
            Some(Source::Datagrams(endpoint)) => endpoint.request_pidfds(),
            Some(Source::Connection(connection)) => connection.request_pidfd(),
            Some(Source::Listener(_)) => {
                let limits = &mut self.server.context.limits;
                limits.make_room_for_pidfds(descriptor_limit());
            }
            _ => {}
        }
        self.change(Routes::request_pidfds)
    }

    /// Makes this a bare endpoint: every message is an `R` without an envelope, and each is answered by at
    /// most one reply to its sender. A message that is no `R` is dropped and counted.
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
    pub fn bare<R: Request<Error = Infallible>>(self) -> Self
    where
        S: Handler<R>,
    {
        self.change(Routes::set_bare::<R>)
    }

    /// Serves only peers for which `rule` holds. A peer whose identity the kernel does not tell, and nobody else
    /// [does](Endpoint::peer_is), is refused without asking. Others get the fault [`Fault::NOT_AUTHORIZED`](crate::Fault::NOT_AUTHORIZED); a connection is then closed.
    /// One that was [adopted](Server::adopt) is asked about when the first message comes. A rule that panics does not
    /// hold.
    pub fn authorize(self, rule: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.change(|routes| routes.set_rule(Box::new(rule)))
    }

    /// Says who is at the other end of a connected socket that was [adopted](Server::adopt), for
    /// [`authorize`](Endpoint::authorize) and [`Call::peer`]. The caller has to know: it has given the other end to that process
    /// and to no other.
    ///
    /// Without this the peer of a socket pair that this process has made is unknown, because the kernel names this
    /// process, and so is that of a connected datagram socket. On [`Kind::Datagram`](crate::Kind::Datagram) the kernel
    /// tells of each message who sent it; a message of another user is from an unknown peer. What is said here stands,
    /// also against the kernel, and its process is not known ([`with_pidfds`](Endpoint::with_pidfds)).
    ///
    /// An id that is no user here (`u32::MAX`, or 65534 where not every id is mapped) leaves the peer unknown.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when the endpoint is not a connected socket: there the kernel tells.
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
        let peer = Peer::of_program(uid, gid);
        let server = &mut *self.server;
        match server.reactor.get(self.key).map(|source| &mut **source) {
            Some(Source::Datagrams(endpoint)) if endpoint.is_connected() => {
                endpoint.set_peer(peer);
            }
            Some(Source::Connection(connection)) => connection.set_peer(peer, &mut server.context),
            _ => return Err(wrong_socket("a connected socket")),
        }
        Ok(self)
    }

    /// Has [`run`](Server::run) return when this connection, which was [adopted](Server::adopt), is closed: its peer has
    /// gone, was not admitted, or was cut off. For a worker that serves the one process that has started it.
    ///
    /// It ends as by [`ServerHandle::stop`](crate::server::ServerHandle::stop), whatever else the server has to do. All that the peer had sent
    /// before it went has been handled.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when the endpoint is no connection of [`Kind::Seqpacket`](crate::Kind::Seqpacket): the kernel
    /// does not tell that the other end of a pair of datagram sockets has gone, and a listening socket has no other end.
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
    /// let theirs = theirs.as_fd().try_clone_to_owned()?; // or `inherited(3)`, in the worker's process
    /// let worker = std::thread::spawn(move || {
    ///     let mut server = Server::new(Limits::default())?;
    ///     server.adopt(theirs)?.stop_on_close()?.serve::<dyn Sums>();
    ///     server.run(&mut Worker)
    /// });
    /// let sums = SumsClient::new(Connection::from_fd(ours.as_fd().try_clone_to_owned()?)?);
    /// drop(ours);
    /// assert_eq!(sums.add(30, 4)?, 34);
    /// drop(sums); // the last who has the connection
    /// worker.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_on_close(self) -> Result<Self, Error> {
        match self
            .server
            .reactor
            .get(self.key)
            .map(|source| &mut **source)
        {
            Some(Source::Connection(connection)) => connection.stop_server_on_close(),
            _ => return Err(wrong_socket("a seqpacket connection")),
        }
        Ok(self)
    }

    /// Does not tell what is served: without this the call `rpc.discover` is answered with an OpenRPC document of
    /// all services and requests that are served here ([`describe`](crate::describe)), for who is
    /// [admitted](Endpoint::authorize). With it that is a method like others that nobody knows.
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
        self.change(Routes::turn_discovery_off)
    }

    fn change(self, change: impl FnOnce(&mut Routes<S>)) -> Self {
        let routes = match self
            .server
            .reactor
            .get(self.key)
            .map(|source| &mut **source)
        {
            Some(Source::Datagrams(endpoint)) => Arc::get_mut(&mut endpoint.routes),
            Some(Source::Listener(source)) => Arc::get_mut(&mut source.routes),
            Some(Source::Connection(connection)) => Arc::get_mut(&mut connection.routes),
            _ => None,
        };
        // Always there: an endpoint borrows the server, so no connection can share its routes yet.
        if let Some(routes) = routes {
            change(routes);
        }
        self
    }
}

/// Makes an error about a socket on which something makes no sense.
fn wrong_socket(expected: &'static str) -> Error {
    Error::Address {
        address: String::from("of the descriptor"),
        problem: AddressProblem::WrongSocket { expected },
    }
}
