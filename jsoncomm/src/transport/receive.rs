//! Receiving one datagram, its text from a memfd if it is large.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::{Inbox, Kind, MEMFD_MARKER, PAUSE, Transport};
use crate::error::Error;
use crate::fds::Fds;
use crate::sys::control::{Arrived, Credentials, Wait};
use crate::sys::epoll::Watch;
use crate::sys::socket::{ErrorClass, Timeout};
use crate::sys::wait::{self, WaitOutcome};
use crate::sys::{OsError, OsResult, memfd};

/// A received datagram; its text is in the [`Inbox`].
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(super) text: TextLocation,
    /// The descriptors received with it, without the memfd of a large text.
    pub(crate) fds: Fds,
    /// The memfd of a large text. It is closed on another thread, because freeing its pages can take as long as the
    /// sender likes.
    pub(crate) payload: Fds,
    /// The sender, on sockets with `SO_PASSCRED`.
    pub(crate) credentials: Option<Credentials>,
    /// The sender's process, on sockets that ask for it ([`Transport::pass_pidfds`]).
    pub(crate) pidfd: Option<OwnedFd>,
    /// Why the message must be refused: truncated, too large, or without a readable text.
    pub(crate) damage: Option<Error>,
}

/// Where the text of a datagram is.
#[derive(Debug, Clone, Copy)]
pub(super) enum TextLocation {
    /// In the datagram itself, with this length.
    Inline(usize),
    /// In the buffer for texts from a memfd.
    Memfd,
    /// Too large: only its beginning is there, in the buffer for texts from a memfd.
    Head,
    /// Nowhere: the datagram is damaged.
    Lost,
}

/// Bytes of a text that is too large which are read all the same: whose reply it is, or which call, stands there.
const HEAD: usize = 4096;

impl Datagram {
    /// Returns true if the message is an undamaged text without descriptors, and was not in a memfd.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.text, TextLocation::Inline(_)) && self.fds.is_empty() && self.damage.is_none()
    }

    /// Returns true if the text was in a memfd.
    pub(crate) fn is_from_memfd(&self) -> bool {
        matches!(self.text, TextLocation::Memfd)
    }
}

/// Result of an attempt to receive.
#[derive(Debug)]
pub(crate) enum ReceiveOutcome {
    Datagram(Datagram),
    /// Nothing is queued; for a call with a deadline: nothing arrived before it.
    Empty,
    /// The peer has closed; nothing will follow.
    Closed,
    /// The kernel is short of memory. What is queued stays queued; no event reports when to try again.
    Exhausted,
}

impl Transport {
    /// Receives one datagram if one is queued, or waits for one as `wait` allows.
    pub(crate) fn receive(&self, inbox: &mut Inbox, wait: Wait) -> OsResult<ReceiveOutcome> {
        let (mut reset, mut fds) = (false, Fds::new());
        let arrived = loop {
            match inbox.receive(self, wait, &mut fds) {
                Ok(arrived) => break arrived,
                Err(error) => {
                    if let Some(result) = self.outcome_of(error, wait, &mut reset) {
                        return result;
                    }
                }
            }
        };
        let Arrived { length, .. } = arrived;
        // An empty packet looks like the end of the stream, unless it carries descriptors.
        if length == 0 && self.kind == Kind::Seqpacket && fds.is_empty() {
            return Ok(ReceiveOutcome::Closed);
        }
        let mut datagram = Datagram {
            text: TextLocation::Inline(length),
            fds,
            payload: Fds::new(),
            credentials: arrived.credentials,
            pidfd: arrived.pidfd,
            damage: None,
        };
        if !self.pidfds {
            // Another holder of the socket has asked for it.
            datagram.pidfd = None;
        }
        let is_whole = length <= self.bounds.message && !arrived.control_truncated;
        let in_memfd = length == MEMFD_MARKER.len() && inbox.text(&datagram) == MEMFD_MARKER;
        if !is_whole || in_memfd || inbox.datagram.len() < length {
            self.fetch_or_damage(inbox, &mut datagram, length, arrived.control_truncated);
        }
        Ok(ReceiveOutcome::Datagram(datagram))
    }

    /// Returns what a failed attempt to receive means; `None` if it is to be repeated.
    #[inline(never)]
    fn outcome_of(
        &self,
        error: OsError,
        wait: Wait,
        reset: &mut bool,
    ) -> Option<OsResult<ReceiveOutcome>> {
        Some(match error.class() {
            ErrorClass::WouldBlock => Ok(ReceiveOutcome::Empty),
            ErrorClass::Exhausted if wait == Wait::Never => Ok(ReceiveOutcome::Exhausted),
            // The caller computes the remaining time.
            ErrorClass::Interrupted if wait == Wait::Socket => Ok(ReceiveOutcome::Empty),
            ErrorClass::Interrupted => return None,
            // ECONNRESET comes once, before what a dead peer has sent and the end of the stream.
            ErrorClass::Closed if self.kind == Kind::Seqpacket && !*reset => {
                *reset = true;
                return None;
            }
            // ENOTCONN: there never was a connection.
            ErrorClass::Closed if self.kind == Kind::Seqpacket => Ok(ReceiveOutcome::Closed),
            _ => Err(error),
        })
    }

    /// Fetches the text of a datagram from its memfd, or records what is wrong with the datagram.
    #[cold]
    #[inline(never)]
    fn fetch_or_damage(
        &self,
        inbox: &mut Inbox,
        datagram: &mut Datagram,
        length: usize,
        control_truncated: bool,
    ) {
        let limit = self.bounds.message;
        let size = length as u64;
        let fetched = if length > limit {
            let received = length.min(inbox.datagram.len());
            let head = inbox.datagram.get(..HEAD.min(received));
            inbox.memfd_text.clear();
            inbox.memfd_text.extend_from_slice(head.unwrap_or_default());
            Err(Error::TooLarge { size, limit })
        } else if inbox.datagram.len() < length {
            Err(Error::Truncated { length })
        } else if control_truncated {
            // The text is whole, so that a reply is possible.
            datagram.damage = Some(Error::DescriptorsLost);
            return;
        } else {
            self.fetch(inbox, datagram)
        };
        datagram.text = match fetched {
            Ok(()) => TextLocation::Memfd,
            Err(error) => {
                let is_too_large = matches!(error, Error::TooLarge { .. });
                datagram.damage = Some(error);
                if is_too_large {
                    trim_to_characters(&mut inbox.memfd_text);
                    TextLocation::Head
                } else {
                    TextLocation::Lost
                }
            }
        };
    }

    /// Fetches the text from the memfd that arrived as descriptor 0. Any error concerns this message only; the next one can
    /// be received.
    fn fetch(&self, inbox: &mut Inbox, datagram: &mut Datagram) -> Result<(), Error> {
        let bad = |reason, error: Option<OsError>| Error::Payload {
            reason,
            source: error.map(Into::into),
        };
        let unreadable = |error| bad("descriptor 0 with the text cannot be read", Some(error));
        let payload = datagram.fds.get(0);
        let payload = payload.ok_or_else(|| bad("descriptor 0 with the text is missing", None))?;
        let size = memfd::size(payload).map_err(unreadable)?;
        let size = size.ok_or_else(|| bad("descriptor 0 with the text is no memfd", None))?;
        let limit = self.bounds.message;
        let length = usize::try_from(size).ok().filter(|size| *size <= limit);
        let Some(length) = length else {
            memfd::read(payload, HEAD, &mut inbox.memfd_text).map_err(unreadable)?;
            return Err(Error::TooLarge { size, limit });
        };
        memfd::read(payload, length, &mut inbox.memfd_text).map_err(unreadable)?;
        let payload = datagram.fds.take_front();
        payload.into_iter().for_each(|fd| datagram.payload.put(fd));
        inbox.close_elsewhere(&mut datagram.payload);
        Ok(())
    }

    /// Waits for one datagram until `deadline`, for callers that have just read the clock: it is `now`. Returns
    /// [`ReceiveOutcome::Empty`] if the deadline passes.
    pub(crate) fn receive_by(
        &self,
        inbox: &mut Inbox,
        deadline: Option<Instant>,
        mut now: Instant,
    ) -> OsResult<ReceiveOutcome> {
        if self.contested {
            return self.receive_polling(inbox, deadline);
        }
        loop {
            if self.set_timeout(Timeout::Recv, deadline, now)? == WaitOutcome::TimedOut {
                return Ok(ReceiveOutcome::Empty);
            }
            match self.receive(inbox, Wait::Socket)? {
                ReceiveOutcome::Empty | ReceiveOutcome::Exhausted => {
                    // Perhaps too early: a signal, a rounded socket timeout, or a descriptor that another process made
                    // non-blocking.
                    let _ = wait::poll(self.as_fd(), Watch::Reading, deadline)?;
                }
                outcome => return Ok(outcome),
            }
            now = Instant::now();
        }
    }

    /// Waits for one datagram as [`receive_by`](Self::receive_by) does, but in poll(2): another holder of the socket can change
    /// the timeout of recvmsg(2), and can receive first whatever poll(2) has reported.
    #[inline(never)]
    fn receive_polling(
        &self,
        inbox: &mut Inbox,
        deadline: Option<Instant>,
    ) -> OsResult<ReceiveOutcome> {
        loop {
            match self.receive(inbox, Wait::Never)? {
                // No event reports when memory is there again.
                ReceiveOutcome::Exhausted => wait::pause(PAUSE),
                ReceiveOutcome::Empty => {}
                outcome => return Ok(outcome),
            }
            if wait::poll(self.as_fd(), Watch::Reading, deadline)? == WaitOutcome::TimedOut {
                return Ok(ReceiveOutcome::Empty);
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Ok(ReceiveOutcome::Empty);
            }
        }
    }
}

/// Removes a character at the end of which bytes are missing.
fn trim_to_characters(text: &mut Vec<u8>) {
    if let Err(error) = std::str::from_utf8(text) {
        if error.error_len().is_none() {
            text.truncate(error.valid_up_to());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::sys::control;
    use crate::sys::inject::{self, Plan};
    use crate::sys::socket::{self as sys, Kind};
    use crate::transport::DEADLINE;
    use rustix::io::Errno;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn an_unreadable_payload_damages_only_its_own_message() {
        let (left, right) = sys::socketpair(Kind::Seqpacket).unwrap();
        let transport = Transport::new(left, Kind::Seqpacket, &Limits::default()).unwrap();
        let (mut inbox, payload) = (Inbox::default(), memfd::create(b"{}").unwrap());
        let mut receive = || {
            let fds = [payload.as_fd()];
            sys::sendmsg(right.as_fd(), MEMFD_MARKER, &fds, None, Wait::Never).unwrap();
            match transport.receive(&mut inbox, Wait::Never).unwrap() {
                ReceiveOutcome::Datagram(datagram) => datagram.damage,
                _ => unreachable!("it has just been sent"),
            }
        };
        for call in ["fcntl", "fstat", "pread"] {
            for errno in [Errno::BADF, Errno::IO, Errno::ACCESS, Errno::NOMEM] {
                let times = 0..1;
                inject::begin(Some(Plan { call, times, errno }));
                let damage = receive().unwrap();
                assert_eq!(inject::failed(), 1);
                assert!(damage.is_bad_message(), "{call}: {damage:?}");
                inject::begin(None);
                assert!(receive().is_none(), "the next is whole");
            }
        }
    }

    #[test]
    fn a_deadline_holds_whichever_clone_has_waited_before() {
        let limits = Limits::default();
        let (near, far) = sys::socketpair(Kind::Seqpacket).unwrap();
        let transport = Transport::new(near, Kind::Seqpacket, &limits).unwrap();
        let time = Duration::from_millis(20);
        let mut inbox = Inbox::default();
        let mut receive = |transport: &Transport| {
            let started = Instant::now();
            transport.receive_by(&mut inbox, Some(started + time), started)
        };
        assert!(matches!(receive(&transport), Ok(ReceiveOutcome::Empty)));
        let clone = transport.clone();
        sys::sendmsg(far.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
        let received = clone.receive_by(&mut Inbox::default(), None, Instant::now());
        assert!(matches!(received, Ok(ReceiveOutcome::Datagram(_))));
        let (report, reported) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut inbox = Inbox::default();
            let started = Instant::now();
            let received = transport.receive_by(&mut inbox, Some(started + time), started);
            report
                .send(matches!(received, Ok(ReceiveOutcome::Empty)))
                .unwrap();
        });
        assert_eq!(reported.recv_timeout(DEADLINE), Ok(true));
    }

    #[test]
    fn a_pidfd_that_another_holder_has_asked_for_is_not_kept() {
        let limits = Limits::default();
        let (left, right) = sys::socketpair(Kind::Datagram).unwrap();
        sys::set_passcred(left.as_fd()).unwrap();
        let Ok(true) = control::pass_pidfds(left.as_fd()) else {
            return; // Before Linux 6.5.
        };
        let mut transport = Transport::new(left, Kind::Datagram, &limits).unwrap();
        let has_pidfd = |transport: &Transport| {
            sys::sendmsg(right.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
            match transport
                .receive(&mut Inbox::default(), Wait::Never)
                .unwrap()
            {
                ReceiveOutcome::Datagram(datagram) => datagram.pidfd.is_some(),
                _ => unreachable!("it has just been sent"),
            }
        };
        assert!(!has_pidfd(&transport));
        transport.pass_pidfds();
        assert!(has_pidfd(&transport));
    }
}
