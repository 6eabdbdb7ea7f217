//! The bounds on everything that a peer can make a server or a client use.

use std::time::Duration;

/// The largest datagram that a unix socket carries on Linux with 4 KiB pages, in bytes.
///
/// A longer message travels in a memfd. Measured on Linux 6.18; the origin is `SKB_MAX_ALLOC` and 16 pages of fragments in
/// net/unix/af_unix.c.
pub const DATAGRAM_MAX: usize = 4_263_616;

/// The bounds of a server or a socket.
///
/// Everything that a peer can size is bounded here. The defaults suit a small daemon whose clients are not trusted.
/// [`Server::new`](crate::Server::new) lowers limits that the process's `RLIMIT_NOFILE` cannot serve.
///
/// | bounds | fields |
/// |---|---|
/// | a message | [`message`](Limits::message), [`depth`](Limits::depth), [`descriptors`](Limits::descriptors), [`batch`](Limits::batch) |
/// | connections | [`connections`](Limits::connections), [`user_connections`](Limits::user_connections), [`user_closing`](Limits::user_closing) |
/// | queued replies | [`backlog_replies`](Limits::backlog_replies), [`backlog_bytes`](Limits::backlog_bytes), [`backlog_peers`](Limits::backlog_peers), [`user_backlog_bytes`](Limits::user_backlog_bytes), [`user_descriptors`](Limits::user_descriptors) |
/// | deferred calls | [`deferred`](Limits::deferred), [`user_deferred`](Limits::user_deferred), [`deferred_total`](Limits::deferred_total), [`timeout`](Limits::timeout) |
/// | malformed messages | [`malformed`](Limits::malformed), [`malformed_window`](Limits::malformed_window) |
/// | a turn of the loop | [`messages_per_turn`](Limits::messages_per_turn), [`bytes_per_turn`](Limits::bytes_per_turn) |
/// | pauses | [`retry_backoff`](Limits::retry_backoff), [`accept_pause`](Limits::accept_pause), [`event_pause`](Limits::event_pause) |
///
/// The `user_` limits hold for all connections and datagram sockets of one user id together. Peers whose user is not
/// known count as one user.
///
/// # Examples
///
/// ```
/// use jsoncomm::Limits;
///
/// let mut limits = Limits::default();
/// limits.message = 16 << 20;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one JSON text, sent or received, inline or in a memfd. Default 1 MiB.
    ///
    /// A message is held in memory whole. A longer one is not sent, or is refused: with
    /// [`Fault::INVALID_REQUEST`](crate::Fault::INVALID_REQUEST), and it counts as [`malformed`](Limits::malformed). Only its
    /// first 4 KiB are looked at, for the id. A caller that writes the id behind larger arguments gets the fault without it,
    /// and can only tell which call it is for if no other is in flight.
    pub message: usize,
    /// Arrays and objects open at once in a JSON text, sent or received. Default 64, clamped to 3..=127.
    ///
    /// The envelope counts: one around arguments and results, two around a service's error. A deeper text is refused, or
    /// not sent. Each level needs stack space.
    pub depth: usize,
    /// Descriptors in one message to a server. Default 16; the kernel carries at most 253.
    ///
    /// A message with more is refused with [`Fault::INVALID_DESCRIPTORS`](crate::Fault::INVALID_DESCRIPTORS).
    pub descriptors: usize,
    /// Calls in one batch, which is an array of calls in one message. Default 64. A longer batch is refused whole.
    ///
    /// Clients that are [`batching`](crate::Connection::batching) send up to 64, so a lower limit refuses theirs.
    ///
    /// Each counts as one message of [`messages_per_turn`](Limits::messages_per_turn). What is left when the turn ends is kept,
    /// and counts as queued in [`user_backlog_bytes`](Limits::user_backlog_bytes) with all bytes of the batch; if that is used
    /// up, the calls that are left are refused with [`Fault::BUSY`](crate::Fault::BUSY). Nothing more is read from the
    /// connection or datagram socket until they have been handled.
    pub batch: usize,
    /// Connections of a server, over all endpoints. Default 1024, at most three quarters of `RLIMIT_NOFILE`.
    ///
    /// One more is accepted, sent [`Fault::BUSY`](crate::Fault::BUSY) and closed at once: connecting succeeds, and the first
    /// call fails. With [`with_pidfds`](crate::Endpoint::with_pidfds) a connection needs two
    /// descriptors, and the maximum is three eighths. The server stops accepting while open connections and those being
    /// closed exceed this limit by [`user_closing`](Limits::user_closing).
    pub connections: usize,
    /// Connections of one user. Default 256, at most [`connections`](Limits::connections).
    ///
    /// One more is treated as in [`connections`](Limits::connections).
    pub user_connections: usize,
    /// Connections of one user that are being closed. Default 64, at least 1, at most a sixteenth of `RLIMIT_NOFILE`.
    ///
    /// A connection with unread messages is closed on another thread, since the descriptors in them can be slow to close.
    /// At the limit, the user's new connections are accepted but not read from until fewer are being closed. Others are
    /// not affected.
    pub user_closing: usize,
    /// Replies queued for one peer. Default 256. One more is treated as in [`backlog_bytes`](Limits::backlog_bytes).
    ///
    /// A connection whose queue waits for room is not read from (backpressure). One whose queue waits only until
    /// descriptors are read is still read from while at most 15 replies wait and half of each of its user's budgets is free.
    pub backlog_replies: usize,
    /// Bytes of replies queued for one peer that has no room. Default 1 MiB.
    ///
    /// Above it, a connection is disconnected. On a datagram socket the reply is replaced by
    /// [`Fault::BUSY`](crate::Fault::BUSY) if that fits, and dropped otherwise.
    pub backlog_bytes: usize,
    /// Bytes of replies and stream items queued for one user, of its calls that [wait to be allowed](crate::server::Verdict), and as
    /// many bytes of large replies in flight. Default 4 MiB.
    ///
    /// Above it, a queued reply is treated as in [`backlog_bytes`](Limits::backlog_bytes). A stream has room for another
    /// item only while less than half is used; the rest is for replies and the one item of each stream on its way.
    ///
    /// In flight are replies too large for a datagram, in memfds that were sent and are unread. One more waits, as in
    /// [`user_descriptors`](Limits::user_descriptors). Raise this limit with [`message`](Limits::message): of replies that
    /// exceed it, one at a time is sent. The kernel also keeps up to `SO_SNDBUF` of unread replies for each connection,
    /// about `message`.
    pub user_backlog_bytes: usize,
    /// Descriptors of one user in queued replies, in calls that [wait to be allowed](crate::server::Verdict) or waiting to be closed,
    /// and as many in flight. Default 128, at most a quarter of `RLIMIT_NOFILE`.
    ///
    /// Above it, a queued reply or stream item is treated as in [`backlog_bytes`](Limits::backlog_bytes). While more
    /// unused descriptors wait to be closed, the user's connections and the datagram sockets it has sent to
    /// are not read from. The memfds of large messages, to be closed after they were read, are counted apart with the same
    /// limit and effect.
    ///
    /// In flight are descriptors that were sent and are unread, the memfd of a large reply included. The kernel sends none
    /// for the server's user above `RLIMIT_NOFILE` (`ETOOMANYREFS`, [unix(7)]). A reply with one more waits; replies without
    /// descriptors overtake it. If it cannot be queued, its caller gets [`Fault::BUSY`](crate::Fault::BUSY). A reply that
    /// exceeds the limit by itself is sent when nothing is in flight. All peers of a datagram socket together count as one
    /// user here, since the kernel does not tell them apart.
    ///
    /// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
    pub user_descriptors: usize,
    /// Datagram peers with queued replies. Default 64. The reply to one more is dropped.
    pub backlog_peers: usize,
    /// Deferred calls of one caller, streams and calls that [wait to be allowed](crate::server::Verdict) included. Default 16.
    ///
    /// One more is refused with [`Fault::BUSY`](crate::Fault::BUSY), and so is every request to a
    /// [`Handler`](crate::Handler), which could defer it. Calls that are not deferred are not affected.
    pub deferred: usize,
    /// Deferred calls of one user. Default 256. One more is refused as in [`deferred`](Limits::deferred).
    pub user_deferred: usize,
    /// Deferred calls of all callers. Default 4096. One more is refused as in [`deferred`](Limits::deferred).
    ///
    /// On a datagram socket one process can be any number of callers.
    pub deferred_total: usize,
    /// Messages of one connection that are not JSON, not a call or longer than [`message`](Limits::message), within
    /// [`malformed_window`](Limits::malformed_window). Default 8.
    ///
    /// One more disconnects the client. On a datagram socket each is refused, without a limit.
    pub malformed: usize,
    /// The time over which malformed messages are counted. Default 10 s.
    pub malformed_window: Duration,
    /// Messages received from one socket in a turn. Default 32, at least 1. Then other sockets have their turn.
    pub messages_per_turn: usize,
    /// Bytes of messages received from one socket in a turn. Default 256 KiB.
    ///
    /// The message that exceeds it is the last of the turn. Reading this much takes as long as some hundred small messages.
    pub bytes_per_turn: usize,
    /// The first pause before a reply to a datagram peer without room is retried. Default 10 ms.
    ///
    /// It doubles up to a hundredfold; then the replies to that peer are dropped. A timer is used because the kernel does
    /// not report when such a peer has room. Replies that wait until descriptors are read start with an eighth of it, at
    /// least 1 ms, and on a connection are retried without end.
    pub retry_backoff: Duration,
    /// The pause of accepting connections when descriptors or memory have run out. Default 100 ms.
    pub accept_pause: Duration,
    /// The time for which an event of the same kind and user is counted before it is reported again. Default 30 s. See
    /// [`Server::observe`](crate::Server::observe).
    pub event_pause: Duration,
    /// The longest deadline that a caller can set. Default 1 h. A longer one is shortened.
    pub timeout: Duration,
}

impl Limits {
    /// Lowers limits that exceed the number of `descriptors` of this process, and pauses that overflow an `Instant`.
    pub(crate) fn within(mut self, descriptors: usize) -> Self {
        const PAUSE_MAX: Duration = Duration::from_secs(1 << 33);
        self.retry_backoff = self.retry_backoff.min(PAUSE_MAX);
        self.accept_pause = self.accept_pause.min(PAUSE_MAX);
        self.connections = self.connections.min(descriptors / 4 * 3);
        self.user_connections = self.user_connections.min(self.connections);
        self.user_closing = self.user_closing.min(descriptors / 16).max(1);
        self.user_descriptors = self.user_descriptors.min(descriptors / 4);
        self
    }

    /// Lowers the number of connections further, since each may need two descriptors.
    pub(crate) fn make_room_for_pidfds(&mut self, descriptors: usize) {
        self.connections = self.connections.min(descriptors / 8 * 3);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 1 << 20,
            depth: 64,
            descriptors: 16,
            batch: 64,
            connections: 1024,
            user_connections: 256,
            user_closing: 64,
            backlog_replies: 256,
            backlog_bytes: 1 << 20,
            user_backlog_bytes: 4 << 20,
            user_descriptors: 128,
            backlog_peers: 64,
            deferred: 16,
            user_deferred: 256,
            deferred_total: 4096,
            malformed: 8,
            malformed_window: Duration::from_secs(10),
            messages_per_turn: 32,
            bytes_per_turn: 256 << 10,
            retry_backoff: Duration::from_millis(10),
            accept_pause: Duration::from_millis(100),
            event_pause: Duration::from_secs(30),
            timeout: Duration::from_secs(3600),
        }
    }
}

/// The depth of a fault that names a field.
const DEPTH_MIN: u8 = 3;

/// The depth at which serde_json stops.
const DEPTH_MAX: u8 = 127;

/// The nesting depth of a JSON text: its limit, and what is left of it at some place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depth {
    limit: u8,
    pub(crate) left: u8,
}

impl Depth {
    /// The largest limit, for texts that the program does not limit.
    pub(crate) const MAX: Self = Self {
        limit: DEPTH_MAX,
        left: DEPTH_MAX,
    };

    pub(crate) fn new(levels: usize) -> Self {
        let levels = u8::try_from(levels).unwrap_or(DEPTH_MAX);
        let limit = levels.clamp(DEPTH_MIN, DEPTH_MAX);
        Self { limit, left: limit }
    }

    /// The limit for the whole text.
    pub(crate) fn limit(self) -> usize {
        self.limit.into()
    }

    /// The depth inside `levels` more arrays and objects.
    pub(crate) const fn inside(self, levels: u8) -> Self {
        let left = self.left.saturating_sub(levels);
        Self { left, ..self }
    }
}

/// The limits of one JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// [`Limits::message`].
    pub(crate) message: usize,
    /// [`Limits::depth`].
    pub(crate) depth: Depth,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        let (message, depth) = (limits.message, Depth::new(limits.depth));
        Self { message, depth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_quarter_of_the_descriptors_with_pidfds_as_well() {
        let mut limits = Limits::default().within(800);
        assert_eq!(limits.connections, 600);
        limits.make_room_for_pidfds(800);
        assert_eq!(limits.connections, 300);
        limits.connections = 10;
        limits.make_room_for_pidfds(800);
        assert_eq!(limits.connections, 10);
    }

    #[test]
    fn user_closing_is_a_sixteenth_of_the_descriptors_and_one_at_least() {
        for (descriptors, user_closing, most) in [
            (1024, 63, 63),
            (1024, 64, 64),
            (1024, 65, 64),
            (8, 9, 1),
            (1024, 0, 1),
        ] {
            let limits = Limits {
                user_closing,
                ..Limits::default()
            };
            assert_eq!(limits.within(descriptors).user_closing, most);
        }
    }

    #[test]
    fn pauses_end_at_a_representable_time() {
        let mut limits = Limits::default();
        (limits.retry_backoff, limits.accept_pause) = (Duration::MAX, Duration::MAX);
        let limits = limits.within(800);
        // The longest pause that the backoff reaches.
        for pause in [100 * limits.retry_backoff, limits.accept_pause] {
            assert!(std::time::Instant::now().checked_add(pause).is_some());
        }
    }
}
