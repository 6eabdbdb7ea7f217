//! What a server notices: counted always, reported to whoever wants to hear of it.
//!
//! What peers can cause they can cause a million times, so the same notice about the same user is reported
//! once in a while and counted in between. Nothing that a peer has written is part of it.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Fault;
use crate::peer::Peer;
use crate::sys::control::Credentials;

/// Why an answer came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UndeliveredReason {
    /// Its caller has no address, or one that cannot be trusted: a path on a datagram socket.
    NoAddress,
    /// Its caller has no room, and what may wait for it waits already, or has waited for too long.
    NoRoom,
    /// Its caller has gone.
    Gone,
    /// It is of a deferred call or a stream, and could not be kept: descriptors have run out, or the stream's
    /// [`Overflow`](crate::stream::Overflow) says so. Or the kernel will not send it to anybody, for example because of a
    /// descriptor that cannot be passed; its caller is told.
    NotKept,
}

/// Why a connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// It sent more than [`Limits::malformed`](crate::Limits::malformed).
    Malformed,
    /// More than [`Limits::user_descriptors`](crate::Limits::user_descriptors) that nobody wants wait to be closed.
    Descriptors,
    /// It does not read, and more than may wait for it would wait.
    Waiting,
}

/// What a server has noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A message was refused with the fault of this code, or would have been if there were a way to say so.
    Refused(i64),
    /// A message looked like an answer, or came to a bare endpoint that is stopping or full.
    Ignored,
    /// An answer could not be delivered.
    Dropped(UndeliveredReason),
    /// An answer came after its caller's deadline, and was not sent.
    Expired,
    /// An answer came after its caller had cancelled or gone, and was not sent.
    Unwanted,
    /// A caller has cancelled a deferred call.
    Cancelled,
    /// A message came in a memfd, because it was large.
    Spilled,
    /// A handler has panicked: of this service and method, which are empty on a bare endpoint.
    Panicked(&'static str, &'static str),
    /// A connection was taken.
    Accepted,
    /// A connection was closed at once, with the fault of this code.
    TurnedAway(i64),
    /// A connection was cut.
    Cut(DisconnectReason),
    /// A connection has ended.
    Gone,
}

/// What a server reports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// What was noticed.
    pub notice: EventKind,
    /// Whose doing it was, if that is known. An event can be kept, so it has no descriptor and no list: what more is
    /// known of a peer, [`groups`](Peer::groups) and [`pidfd`](Peer::pidfd), is not part of it.
    pub peer: Option<Peer>,
    /// How often, counting those about the same user that were not reported since the last that was.
    pub count: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.notice)?;
        if self.count > 1 {
            write!(f, " {} times", self.count)?;
        }
        match &self.peer {
            Some(peer) => write!(f, " by user {}", peer.uid()),
            None => Ok(()),
        }
    }
}

/// The codes of faults of which refusals are counted one by one.
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

/// What a server has done so far. Each counts from 0 when the server was made.
///
/// # Examples
///
#[doc = include_str!("../doc/counts.md")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Datagrams received, of whatever kind.
    pub received: u64,
    /// Of these, how many brought their text in a memfd.
    pub spilled: u64,
    /// Calls and bare messages that a handler was given.
    pub handled: u64,
    /// Of these, how many ended in a panic.
    pub panicked: u64,
    /// Messages refused with a fault or, on a bare endpoint, in silence; [`refused_with`](Counts::refused_with) says
    /// why.
    pub refused: u64,
    /// Answers that could not be delivered: the peer has gone, has no address to answer, or has no room
    /// and its budget is used up.
    pub dropped: u64,
    /// Answers that came after their caller's deadline and were not sent.
    pub expired: u64,
    /// Deferred answers that came after their caller had cancelled or gone, and were not sent.
    pub unwanted: u64,
    /// Deferred calls that were cancelled by their caller.
    pub cancelled: u64,
    /// Connections taken.
    pub accepted: u64,
    /// Connections closed at once: not admitted, or above the limit.
    pub turned_away: u64,
    /// Connections cut for what they did, or did not read.
    pub cut: u64,
    /// Connections that have ended, in whichever way.
    pub gone: u64,
    with: [u64; CODES.len()],
}

impl Counts {
    /// How many messages were refused with the fault of this code, one of [`Fault`]'s.
    pub fn refused_with(&self, code: i64) -> u64 {
        let place = CODES.iter().position(|known| *known == code);
        let count = place.and_then(|place| self.with.get(place));
        count.copied().unwrap_or(0)
    }

    /// Counts what was noticed.
    pub(crate) fn add(&mut self, notice: EventKind, count: u64) {
        let counter = match notice {
            EventKind::Refused(code) => {
                let place = CODES.iter().position(|known| *known == code);
                if let Some(with) = place.and_then(|place| self.with.get_mut(place)) {
                    *with += count;
                }
                &mut self.refused
            }
            EventKind::Ignored => &mut self.refused,
            EventKind::Dropped(_) => &mut self.dropped,
            EventKind::Expired => &mut self.expired,
            EventKind::Unwanted => &mut self.unwanted,
            EventKind::Cancelled => &mut self.cancelled,
            EventKind::Spilled => &mut self.spilled,
            EventKind::Panicked(..) => &mut self.panicked,
            EventKind::Accepted => &mut self.accepted,
            EventKind::TurnedAway(_) => &mut self.turned_away,
            EventKind::Cut(_) => &mut self.cut,
            EventKind::Gone => &mut self.gone,
        };
        *counter += count;
    }
}

/// What a server is busy with now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// What it has done so far.
    pub counts: Counts,
    /// Connections that stand, and those that are over while their peer has not read what was sent to it.
    pub connections: usize,
    /// Calls whose answer is deferred, streams included.
    pub deferred: usize,
    /// Answers that wait for peers that have no room, or have not read what was sent to them before.
    pub waiting: usize,
    /// Descriptors that have been sent and that may be unread; a large answer is one.
    pub fds_in_flight: usize,
    /// Bytes of large answers, in memfds, that have been sent and that may be unread.
    pub bytes_in_flight: usize,
}

/// Who hears of events.
pub(crate) type Hook = Box<dyn FnMut(&Event) + Send>;

/// Reports what is noticed, each kind of it about each user once in a while.
pub(crate) struct Observer {
    hook: Option<Hook>,
    pause: Duration,
    heard: HashMap<(Option<u32>, EventKind), Heard>,
}

/// The last report of something, and how often it has not been reported since.
struct Heard {
    at: Instant,
    more: u64,
}

impl Observer {
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            hook: None,
            pause,
            heard: HashMap::new(),
        }
    }

    pub(crate) fn set_hook(&mut self, hook: Hook) {
        self.hook = Some(hook);
    }

    /// Reports it, unless the same has just been.
    pub(crate) fn report(&mut self, notice: EventKind, peer: Option<Credentials>, count: u64) {
        /// Most kinds of things and users that are kept in mind.
        const MANY: usize = 1024;
        let Some(hook) = &mut self.hook else {
            return;
        };
        let (now, pause) = (Instant::now(), self.pause);
        let recent = |heard: &Heard| now.duration_since(heard.at) < pause;
        let about = (peer.map(|peer| peer.uid), notice);
        let mut count = count;
        if let Some(heard) = self.heard.get_mut(&about) {
            if recent(heard) {
                heard.more += count;
                return;
            }
            count += heard.more;
        } else if self.heard.len() >= MANY {
            self.heard.retain(|_, heard| recent(heard));
            if self.heard.len() >= MANY {
                return;
            }
        }
        self.heard.insert(about, Heard { at: now, more: 0 });
        hook(&Event {
            notice,
            peer: peer.and_then(Peer::from_credentials),
            count,
        });
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What has been reported, and how often it had happened.
    type Reports = Arc<Mutex<Vec<(EventKind, u64)>>>;

    fn observer(pause: Duration) -> (Observer, Reports) {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let mut observer = Observer::new(pause);
        let heard = Arc::clone(&reports);
        observer.set_hook(Box::new(move |event| {
            heard.lock().unwrap().push((event.notice, event.count));
        }));
        (observer, reports)
    }

    #[test]
    fn the_same_is_reported_once_in_a_while_and_something_else_at_once() {
        let (mut observer, reports) = observer(Duration::from_secs(3600));
        for _ in 0..1000 {
            observer.report(EventKind::Gone, None, 1);
        }
        observer.report(EventKind::Accepted, None, 1);
        let want = [(EventKind::Gone, 1), (EventKind::Accepted, 1)];
        assert_eq!(*reports.lock().unwrap(), want);
        // What was not reported is, with the next that is.
        observer.pause = Duration::ZERO;
        observer.report(EventKind::Gone, None, 1);
        assert_eq!(
            reports.lock().unwrap().last(),
            Some(&(EventKind::Gone, 1000))
        );
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let (mut observer, reports) = observer(Duration::from_secs(3600));
        for code in 0..5000 {
            observer.report(EventKind::Refused(code), None, 1);
        }
        assert_eq!(reports.lock().unwrap().len(), 1024);
        assert_eq!(observer.heard.len(), 1024);
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
