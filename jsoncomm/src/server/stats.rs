//! What a server reports about itself.

use super::{Server, Source};
use crate::observe::{Counts, Event, Stats, observer};
#[cfg(feature = "tracing")]
use crate::peer::Peer;

impl<S> Server<S> {
    /// Returns what the server has done so far. Costs no system call.
    pub fn counts(&self) -> Counts {
        self.context.counts
    }

    /// Returns what the server has done so far, and what it holds now.
    ///
    /// Looks at each connection, and asks the kernel about those with something in flight.
    pub fn stats(&self) -> Stats {
        let in_flight = self.reactor.sources().map(|source| match &**source {
            Source::Datagrams(endpoint) => endpoint.sender.socket.in_flight(),
            Source::Connection(connection) => connection.writer.socket.in_flight(),
            Source::Lingering(lingering) => lingering.socket.in_flight(),
            _ => (0, 0),
        });
        let sum = |(fds, bytes), (more_fds, more_bytes)| (fds + more_fds, bytes + more_bytes);
        let (fds_in_flight, bytes_in_flight) = in_flight.fold((0, 0), sum);
        Stats {
            fds_in_flight,
            bytes_in_flight,
            counts: self.context.counts,
            connections: self.context.pending.requests.connections(),
            deferred: self.context.pending.deferred(),
            backlog: self.waiting(),
        }
    }

    /// Returns how many replies wait for their peers.
    pub(super) fn waiting(&self) -> usize {
        let waiting = self.reactor.sources().map(|source| match &**source {
            Source::Datagrams(endpoint) => endpoint.waiting(),
            Source::Connection(connection) => connection.writer.queue.len(),
            _ => 0,
        });
        waiting.sum()
    }

    /// Returns true if what is left of a batch waits for its next turn.
    pub(super) fn has_batch(&self) -> bool {
        self.reactor.sources().any(|source| match &**source {
            Source::Datagrams(endpoint) => endpoint.batch.is_some(),
            Source::Connection(connection) => connection.batch.is_some(),
            _ => false,
        })
    }

    /// Sets a callback for events. It runs on the server's thread, in the middle of a dispatch, so it must not wait.
    ///
    /// Events of the same kind about the same user are reported once per
    /// [`Limits::event_pause`](crate::Limits::event_pause) and counted in between; [`counts`](Server::counts) has all of
    /// them. An event holds nothing that a peer has sent.
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/observe.md")]
    pub fn observe(&mut self, hook: impl FnMut(&Event) + Send + 'static) {
        let pause = self.context.limits.event_pause;
        self.context.observer = Some(observer(pause, hook));
    }

    /// Reports events to [`tracing`], as [`observe`](Server::observe) does to a callback.
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    pub fn trace(&mut self) {
        self.observe(|event| {
            let (count, user) = (event.count, event.peer.as_ref().map(Peer::uid));
            tracing::event!(target: "jsoncomm", tracing::Level::INFO, kind = ?event.kind, count, user);
        });
    }
}
