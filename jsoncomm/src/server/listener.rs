//! Listening sockets, and the connections that are accepted from them.

use std::sync::Arc;

use super::connected::Connected;
use super::source::{SourceAction, close_listening, close_shared};
use super::{Server, Source};
use crate::error::Fault;
use crate::observe::EventKind;
use crate::reactor::Key;
use crate::router::Routes;
use crate::service::{ServerContext, not_authorized};
use crate::socket::Listener;
use crate::transport::Transport;

/// A listening endpoint.
pub(super) struct ListenerSource<S> {
    pub(super) listener: Listener,
    /// Other processes may have the socket as well, and accept from it when this server is gone.
    pub(super) shared: bool,
    pub(super) routes: Arc<Routes<S>>,
}

impl<S> ListenerSource<S> {
    pub(super) fn new(listener: Listener, shared: bool) -> Self {
        Self {
            listener,
            shared,
            routes: Arc::default(),
        }
    }

    pub(super) fn close(self, context: &ServerContext) {
        let socket = self.listener.into_fd();
        if self.shared {
            close_shared(socket, context);
        } else {
            close_listening(socket, context);
        }
    }
}

impl<S> Server<S> {
    /// Accepts a turn's share of new connections.
    #[inline(never)]
    pub(super) fn accept(&mut self, source: &mut ListenerSource<S>, key: Key) -> SourceAction {
        for _ in 0..self.context.limits.messages_per_turn.max(1) {
            // Each connection that is being closed holds a descriptor, and one that is turned away may be one more.
            let (limits, accounts) = (&self.context.limits, &self.context.accounts);
            let most = limits.connections.saturating_add(limits.user_closing);
            let requests = &self.context.pending.requests;
            let too_many = |closing| closing > 0 && requests.connections() + closing >= most;
            if too_many(accounts.closing()) && accounts.wait_to_accept(key.to_bits(), too_many) {
                return SourceAction::Ignore(None);
            }
            match source.listener.accept_transport(limits) {
                Ok(Some(transport)) => self.add_connection(transport, &source.routes),
                Ok(None) => return SourceAction::Keep(None),
                // Descriptors or memory have run out; the client stays in the queue.
                Err(_) => return SourceAction::pause(limits.accept_pause),
            }
        }
        SourceAction::READ
    }

    /// Adds a new connection, or turns it away.
    fn add_connection(&mut self, transport: Transport, routes: &Arc<Routes<S>>) {
        let mut connection = Connected::new(transport, Arc::clone(routes), &mut self.context);
        let fault = if !self.context.pending.requests.has_room() {
            Fault::new(Fault::BUSY, "too many connections")
        } else if connection.charge.is_none() {
            Fault::new(Fault::BUSY, "too many connections of this user")
        } else if !connection.is_authorized() {
            not_authorized()
        } else {
            let peer = connection.writer.peer;
            let event = if self.add(Source::Connection(connection)).is_ok() {
                self.context.pending.requests.count_connection();
                EventKind::Accepted
            } else {
                EventKind::Rejected(Fault::BUSY)
            };
            return self.context.note(peer, event);
        };
        connection.refuse(&mut self.context, &fault);
        connection.close(&self.context);
    }
}
