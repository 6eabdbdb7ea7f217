//! Sessions: connections that the server makes itself, for objects with rights of their own.

use std::any::TypeId;
use std::sync::Arc;

use super::connected::Connected;
use super::control::{Control, OnEnd};
use super::source::SourceAction;
use super::{Endpoint, Server, Source};
use crate::client::Connection;
use crate::error::{Error, caught};
use crate::observe::EventKind;
use crate::peer::Peer;
use crate::queue::{Opening, Request};
use crate::reactor::{Key, Pollable};
use crate::router::Routes;
use crate::service::{self, Service, Session};
use crate::sys::control::refuse_rights;

/// What sessions of one service serve. It has no socket.
pub(super) struct Sessions<S> {
    pub(super) routes: Arc<Routes<S>>,
    pub(super) on_end: OnEnd<S>,
    /// The name of the service.
    pub(super) service: &'static str,
}

impl<S> Server<S> {
    /// Sets what the sessions of a service serve, and returns their endpoint.
    ///
    /// A session is an object behind a socket of its own. A handler opens one for its caller with
    /// [`Call::open_session`](crate::Call::open_session), and passes the client's end in its reply; the program opens one for a
    /// user with [`open_session`](Server::open_session). All sessions of a service share its endpoint, so thousands are cheap.
    ///
    /// | | |
    /// |---|---|
    /// | which object | the tag that the session was opened with: [`Call::tag`](crate::Call::tag) |
    /// | who may call | whoever has the client's end, which can be passed on; the endpoint's [rule](Endpoint::authorize) is asked once, when the session is opened |
    /// | [`Call::peer`](crate::Call::peer), accounts | those of the caller that it was opened for, for good |
    /// | limits | it is a connection of that user; its replies, deferred calls and descriptors count as on any other |
    /// | revoked by | [`Session::close`](crate::server::Session::close) |
    ///
    /// `on_end` is called with the tag once a session has ended: because its peer has hung up, it was closed, its peer was
    /// disconnected, or the server has shut down. It runs at the end of the loop's turn, once for each session, except for those
    /// that are open when the server is dropped. A panic in it counts as that of a handler.
    ///
    /// The endpoint serves the service, and what else it is told to. It has no socket: [`peer_is`](Endpoint::peer_is) and the like
    /// do not apply, and [`with_pidfds`](Endpoint::with_pidfds) has no effect, as the peer is that of the call. When it is
    /// [removed](Server::remove), no more sessions are opened, and those that are open stay. The latest endpoint of a service
    /// counts.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] if this process did not make the server.
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/sessions.md")]
    pub fn sessions<T: Service<S> + ?Sized + 'static>(
        &mut self,
        on_end: impl Fn(&mut S, &mut Control<S>, u64) + Send + Sync + 'static,
    ) -> Result<Endpoint<'_, S>, Error> {
        let key = self.add(Source::Sessions(Sessions {
            routes: Arc::default(),
            on_end: Arc::new(on_end),
            service: T::NAME,
        }))?;
        let requests = &self.context.pending.requests;
        requests.register(TypeId::of::<T>(), key.to_bits());
        Ok(Endpoint { server: self, key }.serve::<T>())
    }

    /// Opens a session of a service for a user: makes a socket pair, serves one end, and returns the client's end. Does not
    /// wait.
    ///
    /// It is [`Call::open_session`](crate::Call::open_session) outside of a handler. The program has to know whom it gives the
    /// client's end to.
    ///
    /// # Errors
    ///
    /// Those of [`Call::open_session`](crate::Call::open_session).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Call, Limits, Peer, Server};
    /// use std::time::Duration;
    ///
    /// #[jsoncomm::service(name = "example.door")]
    /// trait Door {
    ///     fn number(&mut self, call: &mut Call) -> Option<u64>;
    /// }
    ///
    /// struct House { left: Vec<u64> }
    ///
    /// impl Door for House {
    ///     fn number(&mut self, call: &mut Call) -> Option<u64> { call.tag() }
    /// }
    ///
    /// let mut server = Server::new(Limits::default())?;
    /// server.sessions::<dyn Door>(|house: &mut House, control, tag| {
    ///     house.left.push(tag);
    ///     control.stop();
    /// })?;
    /// let guest = Peer::from_ids(1000, 1000).ok_or("no such user")?;
    /// let (door, _session) = server.open_session::<dyn Door>(7, &guest)?;
    /// let client = std::thread::spawn(move || DoorClient::new(door).number());
    /// let mut house = House { left: Vec::new() };
    /// server.run(&mut house)?; // until the client has hung up
    /// assert_eq!(client.join().unwrap()?, Some(7));
    /// assert_eq!(house.left, [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_session<T: Service<S> + ?Sized + 'static>(
        &mut self,
        tag: u64,
        peer: &Peer,
    ) -> Result<(Connection, Session), Error> {
        self.check_process()?;
        let account = self.context.accounts.of(Some(peer.uid()));
        let (service, peer) = (TypeId::of::<T>(), Some(peer.clone()));
        service::open(&self.context.pending, service, tag, &account, peer)
    }

    /// Returns a handle of the open session with this tag; of one of them, if several have it.
    ///
    /// For sessions that were [taken over](Server::take_over), whose handles stayed in the process before. Looks at each
    /// connection.
    pub fn session(&mut self, tag: u64) -> Option<Session> {
        let pending = Arc::clone(&self.context.pending);
        let keys = self.reactor.keys();
        let state = keys.into_iter().find_map(|key| {
            let Some(Source::Connection(connection)) =
                self.reactor.get(key).map(|source| &**source)
            else {
                return None;
            };
            let session = connection.writer.session.as_ref();
            let session = session.filter(|session| session.tag == tag && !session.is_closed())?;
            session.set_key(key.to_bits());
            Some(Arc::clone(session))
        });
        state.map(|state| Session::new(pending, state))
    }

    /// Does what has been requested since the last time, in order.
    pub(super) fn apply_requests(&mut self) {
        for request in self.context.pending.requests.take() {
            match request {
                Request::Adopt(opening) => self.adopt_session(*opening),
                Request::Close(session) => {
                    self.act_on(Key::from_bits(session.key()), |_| SourceAction::Close);
                }
                Request::Drive(connection) => self.add_driven(connection),
            }
        }
    }

    fn adopt_session(&mut self, opening: Opening) {
        let kind = self.reactor.get(Key::from_bits(opening.kind));
        let Some(Source::Sessions(sessions)) = kind.map(|source| &mut **source) else {
            // Its endpoint is removed only after what was opened before has been adopted.
            return self.context.pending.requests.uncount_connection();
        };
        let routes = Arc::clone(&sessions.routes);
        let (session, refuses) = (Arc::clone(&opening.session), routes.descriptors == 0);
        let connection = Connected::of_session(opening, routes, Arc::clone(&sessions.on_end));
        let peer = connection.writer.peer;
        let source = Box::new(Source::Connection(connection));
        if let Some(socket) = source.fd().filter(|_| refuses) {
            // What comes all the same is refused by number.
            let _ = refuse_rights(socket);
        }
        let key = self.reactor.add_retrying(source);
        session.set_key(key.to_bits());
        self.context.note(peer, EventKind::Accepted);
    }

    /// Tells the state which sessions have ended. Fails in a child that the state forks, where no more are told.
    #[inline(never)]
    pub(super) fn tell_ended(&mut self, state: &mut S) -> Result<(), Error> {
        for (tag, on_end) in std::mem::take(&mut self.ended) {
            let control = &mut self.control;
            if caught(|| on_end(state, control, tag)).is_err() {
                self.context.note(None, EventKind::Panicked("", ""));
            }
            self.check_process()?;
        }
        Ok(())
    }
}
