//! What the loop's sources on sockets share: their turn, the check of a datagram, and the closing of sockets.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use crate::envelope;
use crate::error::{Error, Fault};
use crate::fds::Giver;
use crate::limits::Limits;
use crate::observe::EventKind;
use crate::peer::Peer;
use crate::reactor::{Cause, Key, Watch};
use crate::router::Routes;
use crate::service::{Dispatch, ServerContext, not_authorized};
use crate::sys::socket::{Shutdown, accept, is_empty, shut_down};
use crate::sys::wait::{self, WaitOutcome};
use crate::transport::{Datagram, Inbox};

/// What a source works with in its turn.
pub(super) struct Turn<'t, S> {
    pub(super) state: &'t mut S,
    pub(super) context: &'t mut ServerContext,
    pub(super) inbox: &'t mut Inbox,
    /// The source's key.
    pub(super) key: Key,
    pub(super) cause: Cause,
}

/// What the reactor does with a source next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceAction {
    /// Reports the source when something new arrives. Gives it a turn at that time, if one is given.
    Keep(Option<Instant>),
    /// Reports the source at once if something is left, otherwise when something arrives or at that time, if one is given.
    Again(Watch, Option<Instant>),
    /// Gives the source no turn until that time. Then it is watched again.
    Pause(Instant, Watch),
    /// Watches the source for nothing. Gives it a turn at that time, if one is given.
    Ignore(Option<Instant>),
    /// Closes the source.
    Close,
}

impl SourceAction {
    pub(super) const READ: Self = Self::Again(Watch::Reading, None);
    pub(super) const WRITE: Self = Self::Again(Watch::Writing, None);

    /// Stops reading for a while: the kernel is short of memory or descriptors, and no event reports when that ends.
    pub(super) fn pause(time: Duration) -> Self {
        Self::Pause(Instant::now() + time, Watch::Reading)
    }

    /// Sets a source's timer to the time that it needs a turn, unless it is due earlier. Returns the time if it was set.
    pub(super) fn set_timer(timer: &mut Option<Instant>, due: Option<Instant>) -> Option<Instant> {
        let earlier = due.filter(|due| timer.is_none_or(|timer| *due < timer));
        *timer = earlier.or(*timer);
        earlier
    }
}

/// Whether to look for another message after the first of a turn.
///
/// A source that has more messages is reported again, so looking for a second one costs a system call that nearly always
/// finds nothing, while not looking costs one per message of a source that has many. So after a turn with one message
/// the next few turns do not look: more of them each time that proves right, since a source with many calls in flight has
/// a single message now and then.
#[derive(Default)]
pub(super) struct DrainPolicy {
    /// How many turns in a row do not look.
    skips: u8,
    /// How many of them are left.
    left: u8,
}

impl DrainPolicy {
    const MAX_SKIPS: u8 = 31;

    /// Returns true if this turn looks for another message.
    pub(super) fn looks(&mut self) -> bool {
        let looks = self.left == 0;
        self.left = self.left.saturating_sub(1);
        looks
    }

    /// Records that a turn has found nothing more after so many messages.
    pub(super) fn record(&mut self, messages: usize) {
        self.skips = if messages == 1 {
            (2 * self.skips + 1).min(Self::MAX_SKIPS)
        } else {
            0
        };
        self.left = self.skips;
    }
}

/// How much a source may still read in its turn.
pub(super) struct Share {
    messages: usize,
    bytes: usize,
    pub(super) taken: usize,
}

impl Share {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            messages: limits.messages_per_turn.max(1),
            bytes: limits.bytes_per_turn.max(1),
            taken: 0,
        }
    }

    pub(super) fn is_left(&self) -> bool {
        self.taken < self.messages && self.bytes > 0
    }

    pub(super) fn take(&mut self, message: &[u8]) {
        self.taken += 1;
        self.bytes = self.bytes.saturating_sub(message.len());
    }

    /// Takes the share of an element of a batch, whose bytes have been taken with the batch.
    pub(super) fn take_element(&mut self) {
        self.messages = self.messages.saturating_sub(1);
    }
}

/// Shuts a socket down, and closes it if nothing is unread in it; returns it otherwise. It is shut down first, or a peer
/// could send something in between.
pub(super) fn close_if_empty<T: AsFd>(socket: T) -> Option<T> {
    let shut = shut_down(socket.as_fd(), Shutdown::Both);
    let empty = shut.and_then(|()| is_empty(socket.as_fd()));
    (!empty.unwrap_or(false)).then_some(socket)
}

/// Closes a listening socket. If connections wait in its queue, which are closed with what is unread in them, another
/// thread does.
pub(super) fn close_listening(socket: OwnedFd, context: &ServerContext) {
    // shutdown(2) cannot fail on a unix socket. After it no client can connect.
    let shut = shut_down(socket.as_fd(), Shutdown::Both);
    let first = shut.and_then(|()| accept(socket.as_fd()));
    if !matches!(first, Ok(None)) {
        context.accounts.closer.close((first.ok(), socket));
    }
}

/// Closes our copy of a socket that other processes may have as well. It is not shut down, and what is unread stays
/// theirs. If this was the last copy, what is unread is closed with it, by another thread.
pub(super) fn close_shared(socket: impl AsFd + Send + 'static, context: &ServerContext) {
    let unread = wait::poll(socket.as_fd(), Watch::Reading, Some(Instant::now()));
    if unread != Ok(WaitOutcome::TimedOut) {
        context.accounts.closer.close(socket);
    }
}

/// Checks a datagram that has been received, and dispatches or refuses it. Returns a batch to be run.
pub(super) fn dispatch_datagram<S>(
    routes: &Routes<S>,
    state: &mut S,
    dispatch: &mut Dispatch<'_>,
    datagram: &mut Datagram,
    authorized: bool,
) -> Option<Box<Batch>> {
    dispatch.context.counts.received += 1;
    let fault = if datagram.is_plain() && authorized {
        None
    } else {
        let user = dispatch.caller.peer.map(Peer::uid);
        let giver = if routes.foreign_endpoints {
            Giver::Anyone
        } else {
            user.into()
        };
        datagram.fds.set_giver(giver);
        find_fault(dispatch, datagram, authorized, routes.descriptors)
    };
    dispatch.fds = std::mem::take(&mut datagram.fds);
    let may_be_batch = dispatch.text.first() != Some(&b'{') && !dispatch.bare;
    if may_be_batch && envelope::is_batch(dispatch.text) {
        return Batch::begin(dispatch, fault);
    }
    match fault {
        None => routes.dispatch(state, dispatch),
        Some(fault) => dispatch.refuse(None, &fault),
    }
    // Closed before the caller looks at what its user has left unused.
    drop(std::mem::take(&mut dispatch.fds));
    None
}

/// Returns why a datagram must not be dispatched, if so.
#[inline(never)]
fn find_fault(
    dispatch: &mut Dispatch<'_>,
    datagram: &mut Datagram,
    authorized: bool,
    descriptors: usize,
) -> Option<Fault> {
    let account = dispatch.caller.account;
    if datagram.is_from_memfd() {
        dispatch.note(EventKind::LargeMessage);
        account.close_payload(std::mem::take(&mut datagram.payload));
    }
    let discard = Arc::clone(account);
    datagram.fds.set_discard(discard);
    if !authorized {
        return Some(not_authorized());
    }
    if let Some(damage) = datagram.damage.take() {
        let code = match &damage {
            // There was no memory for the text, which is not the caller's fault.
            Error::Payload {
                source: Some(source),
                ..
            } if source.kind() == io::ErrorKind::OutOfMemory => Fault::BUSY,
            Error::Payload { .. } | Error::DescriptorsLost => Fault::INVALID_DESCRIPTORS,
            Error::Decode(_) => Fault::PARSE_ERROR,
            _ => Fault::INVALID_REQUEST,
        };
        return Some(Fault::new(code, damage.to_string()));
    }
    let limit = dispatch.context.limits.descriptors.min(descriptors);
    let count = datagram.fds.len();
    (count > limit).then(|| {
        let message = format!("{count} descriptors exceed {limit}");
        Fault::new(Fault::INVALID_DESCRIPTORS, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::PendingReplies;
    use crate::sys::control::Wait;
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket::{self as sys, Kind};
    use rustix::io::Errno;

    #[test]
    fn nothing_arrives_between_the_check_that_a_socket_is_empty_and_its_close() {
        for of in [Kind::Datagram, Kind::Seqpacket] {
            for unread in [false, true] {
                let (near, far) = sys::socketpair(of).unwrap();
                let say = || sys::sendto(far.as_fd(), b"{}", None, Wait::Never);
                if unread {
                    say().unwrap();
                }
                let copy = near.try_clone().unwrap();
                let left = close_if_empty(near);
                assert_eq!(left.is_some(), unread, "{of:?}");
                // The copy keeps the socket open, so a message that is refused now is refused before the close as well.
                assert!(say().is_err(), "{of:?}");
                drop(copy);
            }
            let (near, _far) = sys::socketpair(of).unwrap();
            let (call, times, errno) = ("shutdown", 0..1, Errno::NOBUFS);
            inject::begin(Some(Plan { call, times, errno }));
            assert!(
                close_if_empty(near).is_some(),
                "not shut down, so not checked"
            );
            inject::begin(None);
        }
    }

    #[test]
    fn a_listening_socket_is_closed_by_another_thread_if_connections_wait() {
        let limits = Limits::default();
        let pending = Arc::new(PendingReplies::new(Arc::new(|| {}), &limits));
        let context = ServerContext::new(limits, pending);
        let listening = || {
            let socket = sys::socket(Kind::Seqpacket).unwrap();
            sys::autobind(socket.as_fd()).unwrap();
            sys::listen(socket.as_fd()).unwrap();
            let name = crate::sys::control::getsockname(socket.as_fd());
            (socket, name.unwrap().unwrap())
        };
        let connect = |name| {
            let client = sys::socket(Kind::Seqpacket).unwrap();
            sys::connect(client.as_fd(), name).map(|()| client)
        };
        let (socket, name) = listening();
        close_listening(socket, &context);
        assert!(connect(&name).is_err());
        // Its name can be used again at once.
        let other = sys::socket(Kind::Seqpacket).unwrap();
        sys::bind(other.as_fd(), &name).unwrap();
        let (socket, name) = listening();
        let client = connect(&name).unwrap();
        close_listening(socket, &context);
        assert!(connect(&name).is_err());
        let until = Some(Instant::now() + Duration::from_secs(20));
        let ended = wait::poll(client.as_fd(), Watch::HangUp, until);
        assert_eq!(
            ended,
            Ok(WaitOutcome::Ready),
            "a waiting client sees the end"
        );
    }

    /// Returns how many turns pass until one looks for more.
    fn pause(policy: &mut DrainPolicy) -> usize {
        (0..).find(|_| policy.looks()).unwrap_or_default()
    }

    #[test]
    fn a_source_with_one_message_at_a_time_is_drained_more_rarely_until_it_has_more() {
        let mut policy = DrainPolicy::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push(pause(&mut policy));
            policy.record(1);
        }
        assert_eq!(pauses, [0, 1, 3, 7, 15, 31, 31]);
        assert_eq!(pause(&mut policy), 31);
        policy.record(2);
        assert_eq!(pause(&mut policy), 0);
        policy.record(1);
        assert_eq!(pause(&mut policy), 1, "one such turn says little");
    }
}
