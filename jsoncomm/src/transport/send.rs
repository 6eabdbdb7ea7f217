//! Sending one message, in a memfd if it does not fit into a datagram.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::inbox::BUFFER_KEPT;
use super::{MEMFD_MARKER, PAUSE, Transport};
use crate::error::{EncodeError, Error};
use crate::fds::FDS_MAX;
use crate::sys::control::Wait;
use crate::sys::epoll::Watch;
use crate::sys::name::Name;
use crate::sys::socket::{self as sys, ErrorClass, Timeout};
use crate::sys::wait::{self, WaitOutcome};
use crate::sys::{OsError, OsResult, memfd};

/// Result of sending without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the message may not have been sent"]
pub enum SendStatus {
    /// The kernel has the whole message.
    Done,
    /// There is no room now; nothing was sent. Wait until the socket is writable and try again. On a datagram socket that
    /// is not connected, try again after a while: the kernel does not report when the peer has room.
    Full,
}

/// Result of an attempt to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the message may not have been sent"]
pub(crate) enum SendAttempt {
    /// The kernel has the whole message.
    Sent,
    /// There is no room; the socket becomes writable when there is. For a call with a deadline: it has passed.
    Full,
    /// The kernel is short of memory or descriptors; no event reports when to try again.
    Exhausted(OsError),
}

/// One message to send: its text and what goes with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) fds: &'a [BorrowedFd<'a>],
    /// The destination, for sockets that are not connected.
    pub(crate) to: Option<&'a Name>,
    pub(crate) wait: Wait,
}

impl Transport {
    /// Sends one message whole, or nothing. `to` is for sockets that are not connected.
    #[inline]
    pub(crate) fn send(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        wait: Wait,
    ) -> Result<SendAttempt, Error> {
        let mut error = None;
        if fds.is_empty() {
            match self.send_plain(text, to, wait) {
                Ok(()) => return Ok(SendAttempt::Sent),
                Err(refused) => error = refused,
            }
        }
        let message = Packet {
            text,
            fds,
            to,
            wait,
        };
        let sent = self.send_with_fds(message, error, &mut |_, _| true)?;
        // The charge is never refused.
        Ok(sent.unwrap_or(SendAttempt::Full))
    }

    /// Sends one message, waiting for room until `deadline`. Returns [`SendAttempt::Full`] if the deadline passes.
    pub(crate) fn send_by(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        deadline: Option<Instant>,
    ) -> Result<SendAttempt, Error> {
        // There usually is room, and then no timeout has to be set.
        match self.send(text, fds, to, Wait::Never)? {
            SendAttempt::Full | SendAttempt::Exhausted(_) => {}
            outcome => return Ok(outcome),
        }
        loop {
            let remaining = self.set_timeout(Timeout::Send, deadline, Instant::now())?;
            if remaining == WaitOutcome::TimedOut {
                return Ok(SendAttempt::Full);
            }
            let outcome = self.send(text, fds, to, Wait::Socket)?;
            if outcome != SendAttempt::Full {
                return Ok(outcome);
            }
            // The send timed out or was interrupted, or another process made the descriptor non-blocking. A socket that
            // is not connected always polls as writable, so only a pause helps.
            let _ = if to.is_none() {
                wait::poll(self.as_fd(), Watch::Writing, deadline)?
            } else {
                let pause = Instant::now() + PAUSE;
                let until = deadline.map_or(pause, |at| at.min(pause));
                wait::poll(self.as_fd(), Watch::HangUp, Some(until))?
            };
        }
    }

    /// Sends one message on a connected socket, waiting for room until about `until`; it is `now`. Returns [`SendAttempt::Full`] if the
    /// time has passed, and earlier if a signal comes or another process made the descriptor non-blocking.
    pub(crate) fn send_until(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        until: Instant,
        now: Instant,
    ) -> Result<SendAttempt, Error> {
        match self.set_timeout(Timeout::Send, Some(until), now)? {
            WaitOutcome::TimedOut => Ok(SendAttempt::Full),
            WaitOutcome::Ready => self.send(text, fds, None, Wait::Socket),
        }
    }

    /// Sends a text without descriptors in a datagram. Fails with the kernel's error, or with none if the text is too long
    /// to try; [`send_with_fds`](Self::send_with_fds) takes either.
    #[inline]
    pub(crate) fn send_plain(
        &self,
        text: &[u8],
        to: Option<&Name>,
        wait: Wait,
    ) -> Result<(), Option<OsError>> {
        if !self.fits(text) {
            return Err(None);
        }
        sys::sendto(self.fd.as_fd(), text, to, wait).map_err(Some)
    }

    /// Sends a message with descriptors, or one that [`send_plain`](Self::send_plain) could not send because of `error`.
    ///
    /// `charge` is called, before anything is sent, with what the kernel will hold besides the bytes of the datagram: the
    /// descriptors, including the memfd of a large text, and the bytes in that memfd. It is called again if that turns
    /// out to be more. If it returns false nothing is sent, and the result is `None`.
    #[inline(never)]
    pub(crate) fn send_with_fds(
        &self,
        message: Packet<'_>,
        mut error: Option<OsError>,
        charge: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<SendAttempt>, Error> {
        let (text, fds) = (message.text, message.fds);
        if !fds.is_empty() && fds.len() <= FDS_MAX && self.fits(text) {
            if !charge(fds.len(), 0) {
                return Ok(None);
            }
            match sys::sendmsg(self.as_fd(), text, fds, message.to, message.wait) {
                Ok(()) => return Ok(Some(SendAttempt::Sent)),
                Err(refused) => error = Some(refused),
            }
        }
        let (size, limit) = (text.len(), self.bounds.message);
        if size > limit {
            return Err(Error::Encode(EncodeError::TooLarge { size, limit }));
        }
        match error.map(|error| (error.class(), error)) {
            None | Some((ErrorClass::TooLong, _)) => {}
            // The kernel needs contiguous memory for a datagram, and only pages for a memfd.
            Some((ErrorClass::Exhausted, _)) if size > BUFFER_KEPT => {}
            Some((_, error)) => return outcome_of(error).map(Some),
        }
        let count = fds.len();
        if count >= FDS_MAX {
            // The memfd takes the place of one.
            let limit = FDS_MAX.min(count - 1);
            return Err(Error::Encode(EncodeError::FdCount { count, limit }));
        }
        if !charge(count + 1, size) {
            return Ok(None);
        }
        self.send_in_memfd(message).or_else(outcome_of).map(Some)
    }

    /// Sends a text in a memfd.
    fn send_in_memfd(&self, message: Packet<'_>) -> OsResult<SendAttempt> {
        let payload = memfd::create(message.text)?;
        let first = [payload.as_fd()];
        let fds = match message.fds {
            [] => Cow::from(&first[..]),
            others => [&first, others].concat().into(),
        };
        let (to, wait) = (message.to, message.wait);
        sys::sendmsg(self.fd.as_fd(), MEMFD_MARKER, &fds, to, wait)?;
        Ok(SendAttempt::Sent)
    }

    /// Returns true if a text is within the limit and fits into a datagram.
    #[inline]
    fn fits(&self, text: &[u8]) -> bool {
        text.len() <= self.inline_max.min(self.bounds.message)
    }

    /// Returns true if a text of this length travels in a memfd.
    pub(crate) fn needs_memfd(&self, length: usize) -> bool {
        length > self.inline_max
    }
}

/// Returns what a failed attempt to send means.
fn outcome_of(error: OsError) -> Result<SendAttempt, Error> {
    match error.class() {
        ErrorClass::WouldBlock | ErrorClass::Interrupted => Ok(SendAttempt::Full),
        ErrorClass::Exhausted => Ok(SendAttempt::Exhausted(error)),
        ErrorClass::Closed => Err(Error::Closed),
        ErrorClass::TooLong | ErrorClass::Other => Err(error.into()),
    }
}
