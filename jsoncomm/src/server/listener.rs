//! Listening sockets, and the connections that are taken from them.

use std::sync::Arc;

use super::connected::Connected;
use super::source::{self, SourceAction};
use super::{Server, Source};
use crate::error::Fault;
use crate::observe::EventKind;
use crate::reactor::{Key, Watch};
use crate::router::Routes;
use crate::service::ServerContext;
use crate::socket::Listener;

/// A listening endpoint.
#[derive(Debug)]
pub(super) struct ListenerSource<S> {
    pub(super) listener: Listener,
    /// Others may have the socket as well, and accept when we have gone.
    pub(super) shared: bool,
    pub(super) routes: Arc<Routes<S>>,
}

impl<S> ListenerSource<S> {
    pub(super) fn new(listener: Listener) -> Self {
        Self {
            listener,
            shared: false,
            routes: Arc::default(),
        }
    }

    /// Closes it.
    pub(super) fn close(self, desk: &ServerContext) {
        let socket = self.listener.into_fd();
        match self.shared {
            true => source::leave(socket, desk),
            false => source::close_listening(socket, desk),
        }
    }
}

impl<S> Server<S> {
    /// Takes a bounded number of new connections.
    pub(super) fn accept(&mut self, door: &mut ListenerSource<S>, key: Key) -> SourceAction {
        for _ in 0..self.desk.limits.messages_per_turn.max(1) {
            // Those that are being closed hold a descriptor each; one that is turned away could be one of them.
            let (limits, accounts) = (&self.desk.limits, &self.desk.accounts);
            let most = limits.connections.saturating_add(limits.user_closing);
            let too_many = |closing| closing > 0 && self.connections + closing >= most;
            if too_many(accounts.closing()) && accounts.wait_to_accept(key.to_bits(), too_many) {
                return SourceAction::Ignore(None);
            }
            let line = match door.listener.accept_transport(&self.desk.limits) {
                Ok(Some(line)) => line,
                Ok(None) => return SourceAction::Keep,
                // Descriptors or memory have run out; the client stays queued.
                Err(_) => return SourceAction::pause(self.desk.limits.accept_pause),
            };
            let mut connection = Connected::new(line, Arc::clone(&door.routes), &mut self.desk);
            let refusal = if self.connections >= self.desk.limits.connections {
                Some(Fault::new(Fault::BUSY, "too many connections"))
            } else if !connection.is_within_limits() {
                Some(Fault::new(Fault::BUSY, "too many connections of this user"))
            } else if !connection.is_admitted() {
                Some(source::not_admitted())
            } else {
                None
            };
            if let Some(fault) = refusal {
                connection.turn_away(&mut self.desk, &fault);
                continue;
            }
            self.desk.peer = connection.credentials();
            if self.add(Source::Connection(connection)).is_ok() {
                self.desk.note(EventKind::Accepted);
                self.connections += 1;
            } else {
                self.desk.note(EventKind::Rejected(Fault::BUSY));
            }
        }
        SourceAction::Again(Watch::Reading)
    }
}
