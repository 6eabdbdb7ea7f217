//! Every bound, with its unit, default and reason.

use std::time::Duration;

/// The largest datagram any unix socket can carry on Linux with 4 KiB pages, in bytes (measured on
/// 6.18; `SKB_MAX_ALLOC` and 16 pages of fragments, net/unix/af_unix.c). What is longer travels in a
/// memfd.
pub const DATAGRAM_MAX: usize = 4_263_616;

/// What a server or socket grants its peers. Everything that a peer sizes has a bound here.
///
/// The defaults suit a small daemon with clients it does not trust; each field can be set:
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
    /// Longest JSON text in bytes, sent or received, however it is carried. Default 1 MiB: a message is
    /// held in memory whole, so this is what one peer can make a receiver allocate.
    pub message: usize,
    /// Most arrays and objects that are open at once in a JSON text, sent or received; those of the envelope
    /// count, which are one around arguments and results and two around a service's error. Default 64; less
    /// than 3 counts as 3 and more than 127 as 127, where the reader of JSON stops. Reading a level takes some
    /// room on the stack.
    pub depth: usize,
    /// Descriptors that one message may bring to a server. Default 16, as many as a list of them needs. A message
    /// with more is refused with the fault [`Fault::INVALID_DESCRIPTORS`](crate::Fault::INVALID_DESCRIPTORS). The kernel
    /// carries at most 253.
    pub descriptors: usize,
    /// Connections a server holds at once, all endpoints together. Default 1024, and never more than three
    /// quarters of `RLIMIT_NOFILE`, as each costs a descriptor; three eighths with an endpoint
    /// [`with_pidfds`](crate::Endpoint::with_pidfds), where each costs two. One more is accepted and closed. While
    /// these and all that are being closed are [`user_closing`](Limits::user_closing) more than this, none is accepted.
    pub connections: usize,
    /// Connections of one user at once. Default 256, and never more than all. One more is accepted and closed.
    /// Peers whose user is not known count as one user, here and in the other limits for users.
    pub user_connections: usize,
    /// Connections of one user that are being closed at once, beside those that stand. One that is cut off, or refused,
    /// while it has unread messages is closed on another thread, as closing what they bring can take as long as the
    /// peer likes. Default 64, and never more than a sixteenth of `RLIMIT_NOFILE`; 0 counts as 1. While as many are
    /// being closed, the user's new connections wait: they are accepted, and count as connections
    /// ([`user_connections`](Limits::user_connections)), and nothing is read from them until there are fewer. Those that
    /// have begun go on.
    pub user_closing: usize,
    /// Replies that wait for one peer. Default 256. While one waits because the peer has no room, the server does not
    /// read from its connection; while some wait until descriptors are read, it does, as long as these are at most 15
    /// and half of each budget of their user is free.
    pub backlog_replies: usize,
    /// Bytes of answers kept for one peer that has no room for them. Default 1 MiB. A connection
    /// above it is cut; on a datagram socket the answer is replaced by the fault
    /// [`Fault::BUSY`](crate::Fault::BUSY) if there is room for that, and dropped.
    pub backlog_bytes: usize,
    /// Bytes of answers, and of items of streams, that wait for the peers of one user. Default 4 MiB. Beyond it,
    /// as above. An item finds no room in its stream where half of it is used already: the rest is for answers, and
    /// for the one item of each stream that is on its way, which cannot wait elsewhere.
    ///
    /// As many bytes may be in memfds that were sent and are unread, in replies too large for a datagram; one more
    /// waits, as with [`user_descriptors`](Limits::user_descriptors). Raise it together with
    /// [`message`](Limits::message): of replies that exceed it only one at a time is sent to a user's peers.
    /// Beside that, the kernel keeps up to `SO_SNDBUF` of unread replies for each connection, about `message`.
    pub user_backlog_bytes: usize,
    /// Descriptors in what waits for the peers of one user, or waits to be closed because it should not have
    /// come. Default 128, and never more than a quarter of `RLIMIT_NOFILE`. Beyond it, as above, items of streams
    /// included; and while more of what should not have come waits, the user's connections are not read, nor is a
    /// datagram socket that it has sent to. They go on as soon as it is closed. So it is, apart from that, with memfds
    /// of large messages, which wait to be closed once they have been read.
    ///
    /// As many may be in flight: sent to the peers of one user and not read yet, that of a large reply included. The
    /// kernel counts them against the server's user, and sends no descriptor for it above `RLIMIT_NOFILE`
    /// (`ETOOMANYREFS`, [unix(7)]). A reply with one more waits until others are read, and replies without descriptors
    /// overtake it; if it finds no place to wait, its caller gets [`Fault::BUSY`](crate::Fault::BUSY). A reply that
    /// exceeds the limit by itself is sent when nothing is in flight. On a datagram socket the kernel does not tell its
    /// peers apart: all together may have so many in flight, and as many bytes as one user.
    ///
    /// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
    pub user_descriptors: usize,
    /// Datagram peers for which answers are kept at once. Default 64. The answer to one more is
    /// dropped.
    pub backlog_peers: usize,
    /// Calls of one caller that may wait for their deferred answers at once, streams included. Default 16. One more is
    /// answered with the fault [`Fault::BUSY`](crate::Fault::BUSY), and so is any request to a
    /// [`Handler`](crate::Handler), which could defer it; calls that are answered at once go on.
    pub deferred: usize,
    /// Calls of one user's callers together that may wait for their deferred answers. Default 256; likewise.
    pub user_deferred: usize,
    /// Calls of all callers together that may wait for their deferred answers. Default 4096; likewise. On a
    /// datagram socket one process can be any number of callers.
    pub deferred_total: usize,
    /// Messages of one connection that are no JSON or no call, within
    /// [`malformed_window`](Limits::malformed_window). Default 8. With one more the connection is cut: whoever
    /// sends these is broken or means harm. On a datagram socket each is refused.
    pub malformed: usize,
    /// How long a malformed message is held against its sender. Default 10 s.
    pub malformed_window: Duration,
    /// Messages taken from one socket before the others have their turn. Default 32; 0 counts as 1.
    pub messages_per_turn: usize,
    /// Bytes of messages after which the others have their turn, if that comes first. Default 256 KiB: that
    /// many take about as long to read as some hundred small messages. The message that exceeds it is still
    /// taken.
    pub bytes_per_turn: usize,
    /// First pause before an answer to a full datagram peer is tried again; doubles up to 100 times
    /// itself, and then the answer is dropped. Default 10 ms. A timer, because the kernel does not
    /// say when such a peer has room. What waits until descriptors are read is tried first after an eighth of it, 1 ms
    /// at least, and on a connection again and again.
    pub retry_backoff: Duration,
    /// Pause of accepting when descriptors or memory have run out. Default 100 ms.
    pub accept_pause: Duration,
    /// How long the same event about the same user is counted before it is reported again
    /// ([`Server::observe`](crate::Server::observe)). Default 30 s.
    pub event_pause: Duration,
    /// Longest deadline that a server takes over from a caller. Default 1 h; a longer one is shortened.
    pub timeout: Duration,
}

impl Limits {
    /// Lowers what this process has not the descriptors for, and what no clock reaches.
    pub(crate) fn within(mut self, descriptors: usize) -> Self {
        /// A time so far off that nobody will see it.
        const FAR: Duration = Duration::from_secs(1 << 33);
        for time in [&mut self.retry_backoff, &mut self.accept_pause] {
            *time = FAR.min(*time);
        }
        self.connections = self.connections.min(descriptors / 4 * 3);
        self.user_connections = self.user_connections.min(self.connections);
        self.user_closing = self.user_closing.min(descriptors / 16).max(1);
        self.user_descriptors = self.user_descriptors.min(descriptors / 4);
        self
    }

    /// Lowers the number of connections further, now that each may cost two descriptors.
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

/// What a fault that names a field takes.
const DEPTH_MIN: u8 = 3;

/// As many as serde_json has open at once.
const DEPTH_MAX: u8 = 127;

/// How many arrays and objects may be open at once in a message. Who reads or writes it counts them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depth {
    /// In all of it.
    limit: u8,
    /// From here on.
    pub(crate) left: u8,
}

impl Depth {
    /// What is read and written where nobody asks for less.
    pub(crate) const MAX: Self = Self {
        limit: DEPTH_MAX,
        left: DEPTH_MAX,
    };

    /// As many in all of a message, but no fewer and no more than make sense.
    fn of(levels: usize) -> Self {
        let levels = u8::try_from(levels).unwrap_or(DEPTH_MAX);
        let limit = levels.clamp(DEPTH_MIN, DEPTH_MAX);
        let left = limit;
        Self { limit, left }
    }

    /// How many they may be in all of the message.
    pub(crate) fn limit(self) -> usize {
        self.limit.into()
    }

    /// What is left of it inside so many arrays and objects.
    pub(crate) const fn inside(self, levels: u8) -> Self {
        let left = self.left.saturating_sub(levels);
        Self { left, ..self }
    }
}

/// How large and how deep a text may be, sent or received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// [`Limits::message`].
    pub(crate) message: usize,
    /// [`Limits::depth`], within its own bounds.
    pub(crate) depth: Depth,
}

impl Bounds {
    pub(crate) fn new(message: usize, depth: usize) -> Self {
        let depth = Depth::of(depth);
        Self { message, depth }
    }
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self::new(limits.message, limits.depth)
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
    fn connections_that_are_being_closed_have_a_sixteenth_of_the_descriptors_and_one_at_least() {
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
    fn pauses_end_at_a_time_that_there_is() {
        let mut limits = Limits::default();
        (limits.retry_backoff, limits.accept_pause) = (Duration::MAX, Duration::MAX);
        let limits = limits.within(800);
        // The longest that follows from one.
        for pause in [100 * limits.retry_backoff, limits.accept_pause] {
            assert!(std::time::Instant::now().checked_add(pause).is_some());
        }
    }
}
