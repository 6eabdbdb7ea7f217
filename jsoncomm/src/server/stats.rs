//! What a server tells of itself.

use super::{Server, Source};
use crate::observe::{Counts, Event, Stats};
#[cfg(feature = "tracing")]
use crate::peer::Peer;

impl<S> Server<S> {
    /// Says what the server has done so far.
    pub fn counts(&self) -> Counts {
        self.desk.counts
    }

    /// Says what the server has done so far, and what it is busy with now. Looks at each connection, and asks the kernel
    /// about those that something is in flight to.
    pub fn stats(&self) -> Stats {
        let things = self.reactor.things();
        let in_flight = things.map(|source| match &**source {
            Source::Datagrams(endpoint) => endpoint.in_flight(),
            Source::Connection(connection) => connection.in_flight(),
            Source::Leaving(leaving) => leaving.in_flight(),
            Source::Listener(_) | Source::Watched(_) | Source::Timer(_) | Source::Client(_) => {
                (0, 0)
            }
        });
        let sum = |(fds, bytes), (more_fds, more_bytes)| (fds + more_fds, bytes + more_bytes);
        let (fds_in_flight, bytes_in_flight) = in_flight.fold((0, 0), sum);
        Stats {
            fds_in_flight,
            bytes_in_flight,
            counts: self.desk.counts,
            connections: self.connections,
            deferred: self.desk.mailbox.deferred(),
            backlog: self.waiting(),
        }
    }

    /// How many answers wait for peers.
    pub(super) fn waiting(&self) -> usize {
        let things = self.reactor.things();
        things
            .map(|source| match &**source {
                Source::Datagrams(endpoint) => endpoint.waiting(),
                Source::Connection(connection) => connection.waiting(),
                _ => 0,
            })
            .sum()
    }

    /// Has `hook` called with what the server notices, on its thread and in the middle of its work, so it should
    /// not wait. What is about the same user is reported once in
    /// [`Limits::event_pause`](crate::Limits::event_pause) and counted in between;
    /// [`counts`](Server::counts) has all of it. Nothing that a peer has written is part of an event.
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/observe.md")]
    pub fn observe(&mut self, hook: impl FnMut(&Event) + Send + 'static) {
        self.desk.observer.set_hook(Box::new(hook));
    }

    /// Passes what the server notices on to [`tracing`], see [`observe`](Server::observe).
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    pub fn trace(&mut self) {
        self.observe(|event| {
            let (count, user) = (event.count, event.peer.as_ref().map(Peer::uid));
            tracing::event!(target: "jsoncomm", tracing::Level::INFO, kind = ?event.kind, count, user);
        });
    }
}
