//! What a server reports about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Server, Source};
use crate::observe::{Counts, Event, MethodCounts, Stats, observer};
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

    /// Returns how often each method has been called, in the order of their names. Costs no system call.
    ///
    /// Those of all endpoints are added up; what was served at an endpoint that has been removed, or handed over, is not in it. A
    /// method has the name that its service has for it, whichever was called. Calls to a [fallback](crate::Endpoint::fallback), on
    /// [bare](crate::Endpoint::bare) endpoints and to unknown methods are only in [`counts`](Server::counts).
    ///
    /// # Examples
    ///
    /// The example `metrics` writes them for Prometheus.
    ///
    /// ```
    /// use jsoncomm::{Connection, Kind, Limits, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("clock.sock");
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock { fn now(&mut self) -> u64; }
    ///
    /// struct Wall;
    ///
    /// impl Clock for Wall {
    ///     fn now(&mut self) -> u64 { 7 }
    /// }
    ///
    /// let mut server = Server::new(Limits::default())?;
    /// server.bind(&path, Kind::Seqpacket)?.serve::<dyn Clock>();
    /// server.time_handlers(true);
    /// let call = ClockClient::new(Connection::open(&path)?).start().now()?;
    /// let mut now = server.method_counts();
    /// while now[0].calls < 1 {
    ///     let _ = server.run_once(&mut Wall, None)?;
    ///     now = server.method_counts();
    /// }
    /// assert_eq!((now[0].service, now[0].method, now[0].faults), ("example.clock", "now", 0));
    /// assert!(now[0].time > std::time::Duration::ZERO);
    /// assert_eq!(call.wait()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn method_counts(&self) -> Vec<MethodCounts> {
        let mut counts = BTreeMap::new();
        let mut seen = Vec::new();
        for source in self.reactor.sources() {
            let routes = match &**source {
                Source::Datagrams(endpoint) => &endpoint.routes,
                Source::Listener(listener) => &listener.routes,
                Source::Sessions(sessions) => &sessions.routes,
                Source::Connection(connection) => &connection.routes,
                _ => continue,
            };
            // Connections share those of the endpoint that has accepted them.
            let place = Arc::as_ptr(routes);
            if !seen.contains(&place) {
                seen.push(place);
                routes.add_counts(&mut counts);
            }
        }
        counts.into_values().collect()
    }

    /// Sets whether the time that handlers take is measured, for [`method_counts`](Server::method_counts). Off at first: it reads
    /// the clock twice in each call.
    pub fn time_handlers(&mut self, on: bool) {
        self.context.handler_time = on.then_some(0);
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
