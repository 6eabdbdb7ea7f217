//! The server that takes over: it goes on with the sockets of another one.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::Instant;

use super::state::{BatchRow, ConnectionRow, EndpointRow, ReplyRow, SenderRow, SessionsRow};
use super::{Handover, take};
use crate::accounts::{Account, Cost};
use crate::address::{Bound, SocketFile};
use crate::error::{Error, Fault, HandoverProblem};
use crate::queue::{Backlog, QueuedReply, SendQueue, SessionState};
use crate::reactor::Key;
use crate::router::Routes;
use crate::server::batch::Batch;
use crate::server::connected::Connected;
use crate::server::datagrams::{Datagrams, UnfinishedBatch};
use crate::server::listener::ListenerSource;
use crate::server::sending::ReplySocket;
use crate::server::source::SourceAction;
use crate::server::{Endpoint, Server, Source};
use crate::socket::{Listener, Listening, kind_of};
use crate::sys::control::accept_rights;
use crate::sys::file::Identity;
use crate::sys::name::Name;
use crate::transport::{Kind, Transport};

impl<S> Server<S> {
    /// Goes on with the sockets that a server of another process has [handed over](Server::hand_over).
    ///
    /// `serve` is called for each endpoint, with its [name](Endpoint::named), which it keeps, and says what is served there, as
    /// after [`bind`](Server::bind). Connections that an endpoint has accepted follow it. The limits of this server hold from now
    /// on. An endpoint that is no longer served, `serve` [removes](Endpoint::remove).
    ///
    /// | | |
    /// |---|---|
    /// | the [rule](Endpoint::authorize) | is asked anew about each connection, when its next message arrives |
    /// | the peer of a connection | the kernel reports it again, or it is as [`peer_is`](Endpoint::peer_is) has said |
    /// | [pidfds](Endpoint::with_pidfds) | are requested again |
    /// | files of sockets | are removed when this server is dropped, if they are still the same |
    /// | sockets that had been [adopted](Server::adopt) | are adopted |
    /// | [sessions](Server::sessions) | go on if this server has sessions of that service by then, and are closed otherwise; [`session`](Server::session) returns their handles |
    ///
    /// A connection whose listening socket had been removed before is an endpoint of its own, of the same name.
    ///
    /// # Errors
    ///
    /// What `serve` returns, and [`Error::Os`] if memory or descriptors have run out. The endpoints before stay; everything
    /// else is closed.
    ///
    /// # Examples
    ///
    /// See [`Handover`].
    pub fn take_over(
        &mut self,
        handover: Handover,
        mut serve: impl FnMut(&str, Endpoint<'_, S>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.check_process()?;
        let Handover { state, fds } = handover;
        let mut fds = fds.into_iter();
        let mut endpoints = state.endpoints.into_iter();
        let mut sessions = state.sessions.into_iter();
        let taken = endpoints
            .try_for_each(|row| self.take_endpoint(row, &mut fds, &mut serve))
            .and_then(|()| sessions.try_for_each(|row| self.take_sessions(row, &mut fds)));
        // Closing what is unread in those that are left could take long.
        if fds.len() > 0 {
            self.context.accounts.closer.close(fds);
        }
        taken
    }

    /// Adds the sessions of a service, if this server has such sessions.
    fn take_sessions(
        &mut self,
        row: SessionsRow,
        fds: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<(), Error> {
        let known = self.reactor.sources().find_map(|source| match &**source {
            Source::Sessions(known) if known.service == row.service => {
                Some((Arc::clone(&known.routes), Arc::clone(&known.on_end)))
            }
            _ => None,
        });
        for open in row.open {
            let Some((routes, on_end)) = &known else {
                let unwanted = take(fds, open.descriptors().unwrap_or(0));
                self.context.accounts.closer.close(unwanted);
                continue;
            };
            let mut connection = self.restore(open, Arc::clone(routes), fds)?;
            connection.authorized = Some(true);
            connection.on_end = Some(Arc::clone(on_end));
            let key = self.add_restored(connection)?;
            self.pass_fds(key, row.refuses_fds)?;
        }
        Ok(())
    }

    /// Adds an endpoint and what it has accepted.
    fn take_endpoint(
        &mut self,
        mut row: EndpointRow,
        fds: &mut impl Iterator<Item = OwnedFd>,
        serve: &mut impl FnMut(&str, Endpoint<'_, S>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (name, accepted) = (
            std::mem::take(&mut row.name),
            std::mem::take(&mut row.accepted),
        );
        let refuses_fds = row.refuses_fds;
        let key = self.take_source(row, fds)?;
        let endpoint = Endpoint { server: self, key };
        serve(&name, endpoint.named(&*name))?;
        let routes = match self.reactor.get(key).map(|source| &**source) {
            Some(Source::Listener(source)) => Some(Arc::clone(&source.routes)),
            _ => None,
        };
        self.pass_fds(key, refuses_fds)?;
        for row in accepted {
            let Some(routes) = &routes else {
                let unwanted = take(fds, row.descriptors().unwrap_or(0));
                self.context.accounts.closer.close(unwanted);
                continue;
            };
            let connection = self.restore(row, Arc::clone(routes), fds)?;
            let key = self.add_restored(connection)?;
            self.pass_fds(key, refuses_fds)?;
        }
        Ok(())
    }

    /// Adds the socket of an endpoint.
    fn take_source(
        &mut self,
        row: EndpointRow,
        fds: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<Key, Error> {
        let Some(socket) = fds.next() else {
            return Err(Error::Handover(HandoverProblem::Incomplete));
        };
        let kind = kind_of(socket.as_fd(), Listening::No).ok();
        if kind == Some(Kind::Seqpacket) {
            let fds = &mut std::iter::once(socket).chain(fds);
            let connection = self.restore(row.connection, Arc::default(), fds)?;
            return self.add_restored(connection);
        }
        let address = take(fds, row.address_descriptors().unwrap_or(0));
        let file = row.file.map(|file| SocketFile {
            name: OsString::from_vec(file.name),
            identity: Identity(file.device, file.inode),
        });
        let address = Bound::take_over(file, address);
        if kind.is_none() {
            let listener = Listener::from_fd(socket)?.with_path(address);
            return self.add(Source::Listener(ListenerSource::new(listener, row.shared)));
        }
        let transport = self.datagram_transport(socket)?;
        let mut endpoint = Datagrams::adopted(transport, &self.context)?;
        (endpoint.path, endpoint.shared) = (address.map(Box::new), row.shared);
        endpoint.peer = row
            .connection
            .sender
            .and_then(SenderRow::into_peer)
            .map(Box::new);
        restore_in_flight(&mut endpoint.sender.socket, &row.connection.in_flight);
        for row in row.backlogs {
            let account = self.context.accounts.of(row.user);
            let mut backlog = Backlog::new(&self.context.limits, Instant::now());
            backlog.queue = take_replies(row.replies, fds, &account);
            let to = row.to.and_then(|to| Name::from_sun_path(&to));
            endpoint.sender.backlogs.insert(to, backlog);
        }
        endpoint.batch = row.unfinished.and_then(|row| {
            Some(Box::new(UnfinishedBatch {
                batch: row.batch.into_batch()?,
                to: row.to.and_then(|to| Name::from_sun_path(&to)),
                account: self.context.accounts.of(row.user),
                peer: row.sender.and_then(SenderRow::into_peer),
            }))
        });
        let key = self.add(Source::Datagrams(endpoint))?;
        self.act_on(key, |source| match source {
            Source::Datagrams(endpoint) => SourceAction::Keep(endpoint.set_timer()),
            _ => SourceAction::Keep(None),
        });
        Ok(key)
    }

    /// Makes a connection of its row.
    fn restore(
        &mut self,
        row: ConnectionRow,
        routes: Arc<Routes<S>>,
        fds: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<Connected<S>, Error> {
        let Some(socket) = fds.next() else {
            return Err(Error::Handover(HandoverProblem::Incomplete));
        };
        let transport = Transport::new(socket, Kind::Seqpacket, &self.context.limits)?;
        let mut connection = Connected::new(transport, routes, &mut self.context);
        if !row.asks_kernel {
            let peer = row.sender.and_then(SenderRow::into_peer);
            connection.set_peer(peer, &mut self.context);
        }
        let writer = &mut connection.writer;
        writer.queue = take_replies(row.replies, fds, &connection.account);
        restore_in_flight(&mut writer.socket, &row.in_flight);
        writer.session = row.tag.map(|tag| Arc::new(SessionState::new(tag)));
        connection.batch = row.batch.and_then(BatchRow::into_batch);
        Ok(connection)
    }

    /// Adds a connection.
    fn add_restored(&mut self, connection: Connected<S>) -> Result<Key, Error> {
        let session = connection.writer.session.clone();
        let key = self.add(Source::Connection(connection))?;
        self.context.pending.requests.count_connection();
        if let Some(session) = session {
            session.set_key(key.to_bits());
        }
        self.act_on(key, |source| match source {
            Source::Connection(connection) => connection.next(),
            _ => SourceAction::Keep(None),
        });
        Ok(key)
    }

    /// Makes the kernel pass descriptors to a socket again, if it refused them before and they are wanted now.
    fn pass_fds(&mut self, key: Key, refused: bool) -> Result<(), Error> {
        let source = self.reactor.get(key).filter(|_| refused);
        let (socket, routes) = match source.map(|source| &**source) {
            Some(Source::Listener(source)) => (source.listener.as_fd(), &source.routes),
            Some(Source::Connection(connection)) => (connection.as_fd(), &connection.routes),
            Some(Source::Datagrams(endpoint)) => {
                (endpoint.sender.socket.transport.as_fd(), &endpoint.routes)
            }
            _ => return Ok(()),
        };
        if routes.descriptors > 0 {
            accept_rights(socket)?;
        }
        Ok(())
    }
}

/// Makes a queue of replies that have found no room, and charges them.
fn take_replies(
    rows: Vec<ReplyRow>,
    fds: &mut impl Iterator<Item = OwnedFd>,
    account: &Arc<Account>,
) -> SendQueue {
    let mut queue = SendQueue::default();
    for row in rows {
        let mut reply = QueuedReply::from(row.text.into_bytes());
        reply.fds = take(fds, row.fds);
        reply.charge(account);
        queue.restore(reply);
    }
    queue
}

/// Charges what has been sent before and may be unread.
fn restore_in_flight(socket: &mut ReplySocket, messages: &[(usize, usize)]) {
    for (fds, bytes) in messages {
        let charge = socket.account.charge(Cost::in_flight(*fds, *bytes));
        socket.in_flight.add(&socket.transport.fd, charge);
    }
}

impl BatchRow {
    fn into_batch(self) -> Option<Box<Batch>> {
        let refusal = self
            .refusal
            .map(|(code, message)| Fault::new(code, message));
        Batch::resume(self.text, refusal)
    }
}
