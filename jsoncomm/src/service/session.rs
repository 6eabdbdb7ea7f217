//! Sessions: how a handler opens one, and the handle that closes it.

use std::any::TypeId;
use std::sync::Arc;

use super::Call;
use crate::accounts::{Account, Cost};
use crate::client::Connection;
use crate::describe::Describe;
use crate::error::{Error, SessionProblem};
use crate::peer::Peer;
use crate::queue::{NoSession, Opening, PendingReplies, Request, SessionState};
use crate::sys::opaque_debug;
use crate::sys::socket::socketpair;
use crate::transport::{Kind, Transport};

/// A session that was opened: the handle that closes it.
///
/// A session is an object behind a socket of its own, with a tag that the program chooses. Whoever has the client's end may
/// call, so the end is a right, which can be passed on. It stays the caller's for whom it was opened: [`Call::peer`] and all
/// accounts are those of that caller.
///
/// A session lasts until its peer hangs up, [`close`](Session::close) revokes it, or the server ends. Dropping handles has
/// no effect. Clones are handles of the same session.
///
/// # Examples
///
/// See [`Server::sessions`](crate::Server::sessions).
#[derive(Clone)]
pub struct Session {
    pending: Arc<PendingReplies>,
    state: Arc<SessionState>,
}

opaque_debug!(Session);

impl Session {
    pub(crate) fn new(pending: Arc<PendingReplies>, state: Arc<SessionState>) -> Self {
        Self { pending, state }
    }

    /// Returns the tag that the session was opened with.
    pub fn tag(&self) -> u64 {
        self.state.tag
    }

    /// Returns true if the session has ended, or has been [closed](Session::close).
    pub fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// Revokes the session, from any thread. Does not wait.
    ///
    /// No further call on it is handled; what has been sent on it is dropped. The socket is closed at the end of the
    /// server's turn, soon. The peer sees that the server has closed: its calls in flight fail with
    /// [`CallError::Closed`](crate::CallError::Closed). Then the state is told, as when the peer hangs up. A handler that closes
    /// its own session still replies. Other sessions are not affected.
    ///
    /// Does nothing if the session has ended, and in a forked child.
    pub fn close(&self) {
        if self.pending.is_own_process() && self.state.close() {
            let state = Arc::clone(&self.state);
            self.pending.request(Request::Close(state));
        }
    }
}

impl Call {
    /// Opens a session of a service for this caller: makes a socket pair, serves one end here, and returns the client's end.
    /// Does not wait.
    ///
    /// [`Server::sessions`](crate::Server::sessions) sets what sessions of a service serve. `tag` is what
    /// [`Call::tag`] returns in calls on the session, and what the state is told when it ends. It need not be unique. What the
    /// peer sends before this turn of the loop ends waits in the socket.
    ///
    /// The client's end is to be passed to a client, in the reply for example, and dropped here: the session ends when no
    /// process has it open.
    ///
    /// # Errors
    ///
    /// | error | when |
    /// |---|---|
    /// | [`SessionProblem::NotServed`] | the server has no sessions of this service |
    /// | [`SessionProblem::NotAuthorized`] | the rule of the sessions does not authorize this caller, or the caller is unknown |
    /// | [`SessionProblem::TooMany`] | [`Limits::connections`](crate::Limits::connections) is reached |
    /// | [`SessionProblem::TooManyOfUser`] | [`Limits::user_connections`](crate::Limits::user_connections) of this caller's user is reached |
    /// | [`Error::Os`] | descriptors or memory have run out |
    /// | [`Error::Forked`] | this process did not make the server |
    ///
    /// Nothing is left behind, and the state is not told.
    pub fn open_session<T: Describe + ?Sized + 'static>(
        &self,
        tag: u64,
    ) -> Result<(Connection, Session), Error> {
        let (service, peer) = (TypeId::of::<T>(), self.peer.clone());
        open(&self.pending, service, tag, &self.account, peer)
    }

    /// Returns the tag of the session, or of the [adopted connection](crate::Endpoint::tag), that the call came on.
    pub fn tag(&self) -> Option<u64> {
        self.tag
    }

    /// Has the server drive a connection to another server from now on, so that its replies arrive on the server's loop. Does
    /// not wait.
    ///
    /// It is how a handler calls back: on the connection of an endpoint that a caller has passed, it starts calls or makes
    /// `#[oneway]` calls, none of which waits. [`Server::drive`](crate::Server::drive) has the rules; this can be used from a
    /// handler, and cannot fail. It does nothing if this server drives the connection already, and in a forked child.
    pub fn drive(&self, connection: impl AsRef<Connection>) {
        drive(&self.pending, connection.as_ref());
    }
}

/// Has the loop drive a connection.
pub(crate) fn drive(pending: &PendingReplies, connection: &Connection) {
    if pending.is_own_process() {
        connection.set_driven();
        pending.request(Request::Drive(Box::new(connection.clone())));
    }
}

/// Opens a session of a service for a peer, charged to an account.
pub(crate) fn open(
    pending: &Arc<PendingReplies>,
    service: TypeId,
    tag: u64,
    account: &Arc<Account>,
    peer: Option<Peer>,
) -> Result<(Connection, Session), Error> {
    if !pending.is_own_process() {
        return Err(Error::Forked);
    }
    let requests = &pending.requests;
    let kind = requests.kind_for(service, peer.as_ref());
    let kind = kind.map_err(|why| match why {
        NoSession::NotServed => SessionProblem::NotServed,
        NoSession::NotAuthorized => SessionProblem::NotAuthorized,
    });
    let kind = kind.map_err(Error::Session)?;
    if !requests.has_room() {
        return Err(Error::Session(SessionProblem::TooMany));
    }
    let charge = account.try_charge(Cost::CONNECTION);
    let charge = charge.ok_or(Error::Session(SessionProblem::TooManyOfUser))?;
    let (near, far) = socketpair(Kind::Seqpacket)?;
    let transport = Transport::new(near, Kind::Seqpacket, pending.bounds)?;
    let client = Connection::from_fd(far)?;
    let state = Arc::new(SessionState::new(tag));
    requests.count_connection();
    pending.request(Request::Adopt(Box::new(Opening {
        transport,
        session: Arc::clone(&state),
        kind,
        peer,
        account: Arc::clone(account),
        charge,
    })));
    let pending = Arc::clone(pending);
    Ok((client, Session { pending, state }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Accounts;
    use crate::limits::Limits;
    use crate::sys::inject::{self, Plan};
    use rustix::io::Errno;

    #[test]
    fn a_session_that_cannot_be_opened_leaves_nothing_behind() {
        let limits = Limits {
            user_connections: 1,
            ..Limits::default()
        };
        let pending = Arc::new(PendingReplies::new(Arc::new(|| ()), &limits));
        let service = TypeId::of::<Limits>();
        pending.requests.register(service, 7);
        let account = Accounts::new(&limits).of(Some(1));
        for call in ["socketpair", "getsockopt"] {
            let (times, errno) = (0..1, Errno::MFILE);
            inject::begin(Some(Plan { call, times, errno }));
            let refused = open(&pending, service, 3, &account, None);
            inject::end();
            assert!(matches!(refused, Err(Error::Os { .. })), "{call}");
            assert!(account.has_room(Cost::CONNECTION));
            assert_eq!(pending.requests.connections(), 0);
            assert!(pending.requests.take().is_empty());
        }
        let (_client, session) = open(&pending, service, 3, &account, None).unwrap();
        assert!(!account.has_room(Cost::CONNECTION) && !session.is_closed());
        assert_eq!(pending.requests.take().len(), 1);
    }
}
