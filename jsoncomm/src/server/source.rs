//! What a server's loop watches on the sockets, a turn at a time: what datagram endpoints and connections have in
//! common.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Fault};
use crate::limits::Limits;
use crate::observe::EventKind;
use crate::peer::Peer;
use crate::queue::Caller;
use crate::reactor::Watch;
use crate::router::Routes;
use crate::service::{ReplySink, ServerContext};
use crate::sys::socket::{How, accept, is_empty, shut_down};
use crate::sys::wait::{self, WaitOutcome};
use crate::transport::{Datagram, Inbox};

/// What a source wants after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceAction {
    /// To be told when something new comes.
    Keep,
    /// To be told at once if something is left, or when something comes.
    Again(Watch),
    /// A turn at that time.
    At(Instant),
    /// To be told as with `Again`, and a turn at that time.
    AgainAt(Watch, Instant),
    /// No turn until that time, and then to be told of this.
    Pause(Instant, Watch),
    /// Not to be told of anything until it is watched again; a turn at that time, if there is one.
    Ignore(Option<Instant>),
    /// To be closed.
    Close,
}

impl SourceAction {
    /// Has nothing read for a while: the kernel is short of something, and no event says when that ends.
    pub(super) fn pause(time: Duration) -> Self {
        Self::Pause(Instant::now() + time, Watch::Reading)
    }
}

/// How often a source that has one message at a time is not asked for another.
///
/// Whatever it has is reported again, so looking for a second message after each costs a system call that nearly
/// always finds nothing; not looking costs one for each message of a source that has many. So one that had no
/// second message is believed to have none for a while: a longer one each time that proves true, since a source
/// with many under way has a single one now and then.
#[derive(Debug, Default)]
pub(super) struct DrainPolicy {
    /// So many times in a row.
    believed: u8,
    /// How often still.
    left: u8,
}

impl DrainPolicy {
    /// At most so many times.
    const LONGEST: u8 = 31;

    /// Says whether to look for another message after the first of a turn.
    pub(super) fn looks(&mut self) -> bool {
        let looks = self.left == 0;
        self.left = self.left.saturating_sub(1);
        looks
    }

    /// Notes that a turn has found nothing more after so many messages.
    pub(super) fn note(&mut self, messages: usize) {
        self.believed = match messages {
            1 => (2 * self.believed + 1).min(Self::LONGEST),
            _ => 0,
        };
        self.left = self.believed;
    }
}

/// What is left of a source's turn.
#[derive(Debug)]
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
        self.messages > 0 && self.bytes > 0
    }

    pub(super) fn take(&mut self, message: &[u8]) {
        self.taken += 1;
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.len());
    }
}

/// Closes a socket. What nobody has read goes with it, descriptors included, and closing these may take its time:
/// then it is done elsewhere, and the peers are told now.
pub(super) fn close(socket: impl AsFd + Send + 'static, desk: &ServerContext) {
    if let Some(socket) = close_or_tell(socket) {
        desk.accounts.closer().close(socket);
    }
}

/// Tells the peers of a socket that it is over, and closes it if it has nothing unread; gives it back otherwise. From
/// the first on nothing more comes: a peer could send something that closing waits for just before it is closed.
pub(super) fn close_or_tell<T: AsFd>(socket: T) -> Option<T> {
    let told = shut_down(socket.as_fd(), How::Both);
    let empty = told.and_then(|()| is_empty(socket.as_fd()));
    (!empty.unwrap_or(false)).then_some(socket)
}

/// Closes a listening socket. Connections that wait there go with it, and so does what is unread in them: then it is
/// done elsewhere.
pub(super) fn close_listening(socket: OwnedFd, desk: &ServerContext) {
    // It cannot fail on a unix socket; then nobody connects any more, and who waits can be seen.
    let told = shut_down(socket.as_fd(), How::Both);
    let first = told.and_then(|()| accept(socket.as_fd()));
    if !matches!(first, Ok(None)) {
        desk.accounts.closer().close((first.ok(), socket));
    }
}

/// Closes a socket that others may have as well, and serve on: nobody is told, and what is unread is theirs. If it
/// was the last, that is closed as above.
pub(super) fn leave(socket: impl AsFd + Send + 'static, desk: &ServerContext) {
    if has_unread(&socket) {
        desk.accounts.closer().close(socket);
    }
}

fn has_unread(socket: &impl AsFd) -> bool {
    let ready = wait::poll(socket.as_fd(), wait::For::Reading, Some(Instant::now()));
    ready != Ok(WaitOutcome::TimedOut)
}

/// Judges a datagram that has come, from somebody who is admitted or not, and hands it on. Says whether it was a call
/// at all.
#[expect(clippy::too_many_arguments, reason = "each is of another owner")]
pub(super) fn receive<S>(
    routes: &Routes<S>,
    state: &mut S,
    desk: &mut ServerContext,
    lane: &mut dyn ReplySink,
    caller: &Caller<'_>,
    inbox: &Inbox,
    datagram: &mut Datagram,
    admitted: bool,
) -> bool {
    desk.peer = caller.peer.map(Peer::credentials);
    desk.counts.received += 1;
    let text = inbox.text(datagram);
    let plain = datagram.is_plain() && admitted;
    let fault = match plain {
        true => None,
        false => find_fault(desk, caller, datagram, admitted, routes.descriptors()),
    };
    match fault {
        None => routes.dispatch(
            state,
            desk,
            lane,
            caller,
            text,
            std::mem::take(&mut datagram.fds),
        ),
        Some(fault) => routes.refuse(desk, lane, text, &fault),
    }
    !desk.take_malformed()
}

/// Says that the endpoint's rule does not admit a peer.
pub(super) fn not_admitted() -> Fault {
    Fault::new(Fault::NOT_AUTHORIZED, "not admitted")
}

/// Says why a datagram is not to be handed on, if it is not.
#[inline(never)]
fn find_fault(
    desk: &mut ServerContext,
    caller: &Caller<'_>,
    datagram: &mut Datagram,
    admitted: bool,
    descriptors: usize,
) -> Option<Fault> {
    if datagram.is_from_memfd() {
        desk.note(EventKind::LargeMessage);
        caller
            .account
            .close_payload(std::mem::take(&mut datagram.payload));
    }
    let account = Arc::clone(caller.account);
    datagram.fds.set_discard(account);
    if !admitted {
        return Some(not_admitted());
    }
    if let Some(damage) = datagram.damage.take() {
        let code = match &damage {
            // There was no memory for the text, which is no fault of the caller's.
            Error::Payload {
                source: Some(source),
                ..
            } if source.kind() == std::io::ErrorKind::OutOfMemory => Fault::BUSY,
            Error::Payload { .. } | Error::DescriptorsLost => Fault::INVALID_DESCRIPTORS,
            Error::Decode(_) => Fault::PARSE_ERROR,
            _ => Fault::INVALID_REQUEST,
        };
        return Some(Fault::new(code, damage.to_string()));
    }
    let limit = desk.limits.descriptors.min(descriptors);
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
    use crate::sys::socket::{self as sys, Type};
    use rustix::io::Errno;

    #[test]
    fn nothing_comes_between_the_look_whether_a_socket_is_empty_and_its_end() {
        for of in [Type::Dgram, Type::Seqpacket] {
            for unread in [false, true] {
                let (near, far) = sys::socketpair(of).unwrap();
                let say = || sys::sendto(far.as_fd(), b"{}", None, Wait::Never);
                if unread {
                    say().unwrap();
                }
                let copy = near.try_clone().unwrap();
                let left = close_or_tell(near);
                assert_eq!(left.is_some(), unread, "{of:?}");
                // What could come now comes later, while it is not closed for want of the other descriptor.
                assert!(say().is_err(), "{of:?}");
                drop(copy);
            }
            let (near, _far) = sys::socketpair(of).unwrap();
            let (call, times, errno) = ("shutdown", 0..1, Errno::NOBUFS);
            inject::begin(Some(Plan { call, times, errno }));
            assert!(close_or_tell(near).is_some(), "not told, not looked at");
            inject::begin(None);
        }
    }

    #[test]
    fn a_listening_socket_is_closed_here_if_nobody_waits_and_elsewhere_otherwise() {
        let limits = Limits::default();
        let mailbox = Arc::new(PendingReplies::new(Arc::new(|| {}), &limits));
        let desk = ServerContext::new(limits, mailbox);
        let listening = || {
            let socket = sys::socket(Type::Seqpacket).unwrap();
            sys::autobind(socket.as_fd()).unwrap();
            sys::listen(socket.as_fd()).unwrap();
            let name = crate::sys::control::getsockname(socket.as_fd());
            (socket, name.unwrap().unwrap())
        };
        let connect = |name| {
            let client = sys::socket(Type::Seqpacket).unwrap();
            sys::connect(client.as_fd(), name).map(|()| client)
        };
        let (socket, name) = listening();
        close_listening(socket, &desk);
        assert!(connect(&name).is_err());
        // Its name can be used again at once.
        let other = sys::socket(Type::Seqpacket).unwrap();
        sys::bind(other.as_fd(), &name).unwrap();
        let (socket, name) = listening();
        let client = connect(&name).unwrap();
        close_listening(socket, &desk);
        assert!(connect(&name).is_err());
        let until = Some(Instant::now() + Duration::from_secs(20));
        let ended = wait::poll(client.as_fd(), wait::For::Nothing, until);
        assert_eq!(ended, Ok(WaitOutcome::Ready), "who waited is told");
    }

    /// How many turns pass until it looks.
    fn pause(habit: &mut DrainPolicy) -> usize {
        (0..).find(|_| habit.looks()).unwrap_or_default()
    }

    #[test]
    fn a_source_that_has_one_at_a_time_is_asked_more_rarely_until_it_has_more() {
        let mut habit = DrainPolicy::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push(pause(&mut habit));
            habit.note(1);
        }
        assert_eq!(pauses, [0, 1, 3, 7, 15, 31, 31]);
        assert_eq!(pause(&mut habit), 31);
        habit.note(2);
        assert_eq!(pause(&mut habit), 0);
        habit.note(1);
        assert_eq!(pause(&mut habit), 1, "one alone says little");
    }
}
