//! What a server counts and reports.
//!
//! Every event is counted. A program that sets [`Server::observe`](crate::Server::observe) is also called back, rate-limited:
//! a peer can cause the same event a million times, so the same event of the same user is reported once in a while,
//! with the number of times it happened. No event contains anything that a peer has written.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Fault;
use crate::peer::Peer;
use crate::sys::control::Credentials;

/// Why a reply was not delivered.
///
/// # Examples
///
/// ```
/// use jsoncomm::observe::{EventKind, UndeliveredReason};
///
/// /// Returns true if a client is too slow for the server's limits.
/// fn is_slow_client(kind: EventKind) -> bool {
///     kind == EventKind::Undelivered(UndeliveredReason::BacklogFull)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UndeliveredReason {
    /// The caller has no address, or one that cannot be trusted: a path, on a datagram socket.
    NoAddress,
    /// The caller does not read, and its backlog was full or older than the server keeps it.
    BacklogFull,
    /// The caller disconnected.
    Disconnected,
    /// A deferred reply or a stream item could not be queued or sent.
    ///
    /// Descriptors had run out, the stream's [`Overflow`](crate::stream::Overflow) dropped the item, or the kernel refused to
    /// send it, for example because of a descriptor that cannot be passed. In the last case the caller gets a fault.
    Discarded,
}

/// Why the server disconnected a client.
///
/// # Examples
///
/// ```
/// use jsoncomm::observe::{DisconnectReason, EventKind};
///
/// /// Returns true if a client is broken or an attacker.
/// fn is_misbehaving(kind: EventKind) -> bool {
///     matches!(
///         kind,
///         EventKind::Disconnected(DisconnectReason::Malformed | DisconnectReason::UnusedFds)
///     )
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// It sent more malformed messages than [`Limits::malformed`](crate::Limits::malformed).
    Malformed,
    /// It sent descriptors that no message used, and more of its user's than
    /// [`Limits::user_descriptors`](crate::Limits::user_descriptors) were still to be closed.
    UnusedFds,
    /// It does not read, and its backlog is full.
    BacklogFull,
}

/// What happened.
///
/// Each kind has a counter in [`Counts`].
///
/// # Examples
///
#[doc = include_str!("../doc/observe.md")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A message was refused with this fault code. The fault was sent if the caller has an address.
    Refused(i64),
    /// A message looked like a reply, or reached a bare endpoint that is shutting down or at a limit. No fault was sent.
    Ignored,
    /// A reply was not delivered.
    Undelivered(UndeliveredReason),
    /// A reply was discarded because its call's deadline had passed.
    Expired,
    /// A reply was discarded because its call had been cancelled or its caller had disconnected.
    Unwanted,
    /// A caller cancelled a deferred call.
    Cancelled,
    /// A message too large for a datagram was received in a memfd.
    LargeMessage,
    /// A handler panicked. The fields are its service and method, both empty on a bare endpoint.
    Panicked(&'static str, &'static str),
    /// A connection was accepted.
    Accepted,
    /// A connection was closed right after it was accepted, with this fault code.
    Rejected(i64),
    /// The server disconnected a client.
    Disconnected(DisconnectReason),
    /// A connection ended, for whichever reason.
    Closed,
}

/// One report to the callback of [`Server::observe`](crate::Server::observe).
///
/// An event owns no descriptor and no list, so keeping it is cheap. It is displayed as, for example,
/// `Refused(-32700) 3 times by user 1000`.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Limits, Server};
///
/// let mut server: Server<()> = Server::new(Limits::default())?;
/// server.observe(|event| eprintln!("jsoncomm: {event}"));
/// # Ok::<(), jsoncomm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The peer that caused it, if known, without [`groups`](Peer::groups) and [`pidfd`](Peer::pidfd).
    pub peer: Option<Peer>,
    /// How often it happened, including the times since the last report about the same user.
    pub count: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        if self.count > 1 {
            write!(f, " {} times", self.count)?;
        }
        match &self.peer {
            Some(peer) => write!(f, " by user {}", peer.uid()),
            None => Ok(()),
        }
    }
}

/// The fault codes with a counter of their own.
const CODES: [i64; 13] = [
    Fault::PARSE_ERROR,
    Fault::INVALID_REQUEST,
    Fault::METHOD_NOT_FOUND,
    Fault::INVALID_PARAMS,
    Fault::INTERNAL_ERROR,
    Fault::BUSY,
    Fault::NO_REPLY,
    Fault::SHUTTING_DOWN,
    Fault::NOT_AUTHORIZED,
    Fault::REPLY_TOO_LARGE,
    Fault::DEADLINE_EXCEEDED,
    Fault::CANCELLED,
    Fault::INVALID_DESCRIPTORS,
];

/// Totals of a server since it was created.
///
/// Returned by [`Server::counts`](crate::Server::counts).
///
/// # Examples
///
#[doc = include_str!("../doc/counts.md")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Datagrams received, valid or not. A batch is one, and each of its calls counts as handled or refused.
    pub received: u64,
    /// Received messages that came in a memfd because of their size.
    pub large_messages: u64,
    /// Calls and bare messages passed to a handler.
    pub handled: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Messages refused with a fault, or ignored; see [`refused_with`](Counts::refused_with).
    pub refused: u64,
    /// Replies that were not delivered; see [`UndeliveredReason`].
    pub undelivered: u64,
    /// Replies discarded because their call's deadline had passed.
    pub expired: u64,
    /// Deferred replies discarded because their call had been cancelled or their caller had disconnected.
    pub unwanted: u64,
    /// Deferred calls cancelled by their caller.
    pub cancelled: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed right after they were accepted: not authorized, or above a limit.
    pub rejected: u64,
    /// Clients disconnected by the server; see [`DisconnectReason`].
    pub disconnected: u64,
    /// Connections that ended, for whichever reason.
    pub closed: u64,
    refused_by_code: [u64; CODES.len()],
}

impl Counts {
    /// Returns how many messages were refused with one of [`Fault`]'s codes; 0 for other codes.
    pub fn refused_with(&self, code: i64) -> u64 {
        let mut counters = CODES.iter().zip(self.refused_by_code);
        let found = counters.find(|(known, _)| **known == code);
        found.map_or(0, |(_, count)| count)
    }

    /// Adds `count` events.
    pub(crate) fn add(&mut self, kind: EventKind, count: u64) {
        let counter = match kind {
            EventKind::Refused(code) => {
                let mut counters = CODES.iter().zip(&mut self.refused_by_code);
                if let Some((_, counter)) = counters.find(|(known, _)| **known == code) {
                    *counter += count;
                }
                &mut self.refused
            }
            EventKind::Ignored => &mut self.refused,
            EventKind::Undelivered(_) => &mut self.undelivered,
            EventKind::Expired => &mut self.expired,
            EventKind::Unwanted => &mut self.unwanted,
            EventKind::Cancelled => &mut self.cancelled,
            EventKind::LargeMessage => &mut self.large_messages,
            EventKind::Panicked(..) => &mut self.panicked,
            EventKind::Accepted => &mut self.accepted,
            EventKind::Rejected(_) => &mut self.rejected,
            EventKind::Disconnected(_) => &mut self.disconnected,
            EventKind::Closed => &mut self.closed,
        };
        *counter += count;
    }
}

/// What one method of a server has done so far: [`Server::method_counts`](crate::Server::method_counts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodCounts {
    /// The name of the service.
    pub service: &'static str,
    /// The name of the method, without the service's.
    pub method: &'static str,
    /// How many calls the rules for methods have let through. One that was parked counts once it is allowed.
    pub calls: u64,
    /// How many calls, also of those that the rules did not let through, ended with a fault before or when their handler returned:
    /// their arguments were refused, or the handler panicked. The errors of the service are no faults. What becomes of a deferred
    /// call later is not counted here.
    pub faults: u64,
    /// How long its handlers have run, if [`Server::time_handlers`](crate::Server::time_handlers) is on.
    pub time: Duration,
}

impl MethodCounts {
    pub(crate) const fn new((service, method): (&'static str, &'static str)) -> Self {
        Self {
            service,
            method,
            calls: 0,
            faults: 0,
            time: Duration::ZERO,
        }
    }
}

/// The current load of a server.
///
/// Returned by [`Server::stats`](crate::Server::stats).
///
/// # Examples
///
/// ```
/// use jsoncomm::{Limits, Server};
///
/// let server: Server<()> = Server::new(Limits::default())?;
/// let stats = server.stats();
/// assert_eq!((stats.connections, stats.deferred, stats.backlog), (0, 0, 0));
/// # Ok::<(), jsoncomm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Totals since the server was created.
    pub counts: Counts,
    /// Connections, including those that ended while their peer still has unread replies.
    pub connections: usize,
    /// Deferred calls, streams included.
    pub deferred: usize,
    /// Replies queued because their peer has no room or has not read earlier descriptors.
    pub backlog: usize,
    /// Descriptors sent that may be unread. The memfd of a large reply is one.
    pub fds_in_flight: usize,
    /// Bytes of large replies sent in memfds that may be unread.
    pub bytes_in_flight: usize,
}

/// Reports how often an event happened to a peer. A program that does not observe has none, nor the code for it.
pub(crate) type Observer = Box<dyn FnMut(EventKind, Option<Credentials>, u64) + Send>;

/// Returns an observer that calls `hook`, by kind and user once in a pause.
pub(crate) fn observer(pause: Duration, hook: impl FnMut(&Event) + Send + 'static) -> Observer {
    let mut reports = Reports {
        pause,
        hook,
        last: HashMap::new(),
    };
    Box::new(move |kind, peer, count| reports.report(kind, peer, count))
}

/// Rate-limited reports, by kind and user.
struct Reports<F> {
    /// [`Limits::event_pause`](crate::Limits::event_pause).
    pause: Duration,
    hook: F,
    last: HashMap<(Option<u32>, EventKind), LastReport>,
}

/// When an event was last reported, and how often it happened since.
struct LastReport {
    at: Instant,
    unreported: u64,
}

impl<F: FnMut(&Event)> Reports<F> {
    /// Reports an event, unless the same event of the same user was reported within the pause.
    fn report(&mut self, kind: EventKind, peer: Option<Credentials>, mut count: u64) {
        /// Most kinds and users remembered. While so many are recent, no others are reported.
        const REPORTS_MAX: usize = 1024;
        let (now, pause) = (Instant::now(), self.pause);
        let is_recent = |last: &LastReport| now.duration_since(last.at) < pause;
        let key = (peer.map(|peer| peer.uid), kind);
        if let Some(last) = self.last.get_mut(&key) {
            if is_recent(last) {
                last.unreported += count;
                return;
            }
            count += last.unreported;
        } else if self.last.len() >= REPORTS_MAX {
            self.last.retain(|_, last| is_recent(last));
            if self.last.len() >= REPORTS_MAX {
                return;
            }
        }
        let (at, unreported) = (now, 0);
        self.last.insert(key, LastReport { at, unreported });
        let peer = peer.and_then(Peer::from_credentials);
        (self.hook)(&Event { kind, peer, count });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Returns reports that are made into a list of kinds and counts.
    fn reports(into: &Mutex<Vec<(EventKind, u64)>>) -> Reports<impl FnMut(&Event)> {
        Reports {
            pause: HOUR,
            hook: |event: &Event| into.lock().unwrap().push((event.kind, event.count)),
            last: HashMap::new(),
        }
    }

    #[test]
    fn an_event_is_reported_once_per_pause_and_another_kind_at_once() {
        let reported = Mutex::default();
        let mut reports = reports(&reported);
        for _ in 0..1000 {
            reports.report(EventKind::Closed, None, 1);
        }
        reports.report(EventKind::Accepted, None, 1);
        let want = [(EventKind::Closed, 1), (EventKind::Accepted, 1)];
        assert_eq!(*reported.lock().unwrap(), want);
        // The next report includes what was not reported.
        reports.pause = Duration::ZERO;
        reports.report(EventKind::Closed, None, 1);
        let last = reported.lock().unwrap().last().copied();
        assert_eq!(last, Some((EventKind::Closed, 1000)));
    }

    #[test]
    fn the_number_of_remembered_reports_is_bounded() {
        let reported = Mutex::default();
        let mut reports = reports(&reported);
        for code in 0..5000 {
            reports.report(EventKind::Refused(code), None, 1);
        }
        assert_eq!(reported.lock().unwrap().len(), 1024);
        assert_eq!(reports.last.len(), 1024);
    }

    #[test]
    fn refusals_are_counted_by_their_code() {
        let mut counts = Counts::default();
        counts.add(EventKind::Refused(Fault::BUSY), 2);
        counts.add(EventKind::Refused(Fault::PARSE_ERROR), 1);
        counts.add(EventKind::Refused(17), 1);
        assert_eq!(counts.refused, 4);
        assert_eq!(counts.refused_with(Fault::BUSY), 2);
        assert_eq!(counts.refused_with(Fault::PARSE_ERROR), 1);
        assert_eq!(counts.refused_with(17), 0);
    }
}
