//! One attempt to send, in a memfd if it does not fit into a datagram.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::inbox::BUFFER_KEPT;
use super::{SPILLED, Transport, Tried};
use crate::error::{EncodeError, Error};
use crate::fds::FDS_MAX;
use crate::sys::control::Wait;
use crate::sys::memfd;
use crate::sys::name::Name;
use crate::sys::socket::{self as sys, Trouble};

/// What the kernel keeps of a message until it is read, besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freight {
    /// Descriptors, the memfd of a large text included.
    pub(crate) fds: usize,
    /// Bytes in that memfd.
    pub(crate) bytes: usize,
}

impl Transport {
    /// Sends as `send` does, for callers who do different things about the two reasons to try again.
    #[inline]
    pub(crate) fn try_send(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        wait: Wait,
    ) -> Result<Tried, Error> {
        let mut error = None;
        if fds.is_empty() {
            match self.try_plain(text, to, wait) {
                Ok(()) => return Ok(Tried::Done),
                Err(refused) => error = refused,
            }
        }
        let sent = self.try_freight(text, fds, to, wait, error, &mut |_| true)?;
        // It is not refused.
        Ok(sent.unwrap_or(Tried::Full))
    }

    /// Tries to send a text alone in a datagram. Fails with what the kernel says, or without asking it where the text is
    /// too long; either is for [`try_freight`](Self::try_freight).
    #[inline]
    pub(crate) fn try_plain(
        &self,
        text: &[u8],
        to: Option<&Name>,
        wait: Wait,
    ) -> Result<(), Option<io::Error>> {
        match text.len() <= self.inline_max.min(self.bounds.message) {
            true => sys::sendto(self.fd.as_fd(), text, to, wait).map_err(Some),
            false => Err(None),
        }
    }

    /// Sends what has descriptors, or is no plain text because of that `error`, for callers who account for what the
    /// kernel keeps: `may` is asked before something of that is sent, and anew when it turns out to be more. `None` when
    /// it says no; then nothing was sent.
    #[inline(never)]
    pub(crate) fn try_freight(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        wait: Wait,
        mut error: Option<io::Error>,
        may: &mut dyn FnMut(Freight) -> bool,
    ) -> Result<Option<Tried>, Error> {
        let fits = text.len() <= self.inline_max.min(self.bounds.message) && fds.len() <= FDS_MAX;
        if fits && !fds.is_empty() {
            let freight = Freight {
                fds: fds.len(),
                bytes: 0,
            };
            if !may(freight) {
                return Ok(None);
            }
            match sys::sendmsg(self.fd.as_fd(), text, fds, to, wait) {
                Ok(()) => return Ok(Some(Tried::Done)),
                Err(refused) => error = Some(refused),
            }
        }
        self.try_otherwise(text, fds, to, wait, error, may)
    }

    /// Sends what does not fit into a datagram, if that is what is wrong with it, or says what is. `error` is what the
    /// kernel says if it has been tried.
    fn try_otherwise(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        wait: Wait,
        error: Option<io::Error>,
        may: &mut dyn FnMut(Freight) -> bool,
    ) -> Result<Option<Tried>, Error> {
        let (size, limit) = (text.len(), self.bounds.message);
        if size > limit {
            return Err(Error::Encode(EncodeError::TooLarge { size, limit }));
        }
        check_count(fds.len(), FDS_MAX)?;
        if let Some(error) = error {
            // The kernel wants one piece of memory for a datagram; a memfd does with pages.
            let large = text.len() > BUFFER_KEPT;
            let operation = if fds.is_empty() { "sendto" } else { "sendmsg" };
            match sys::trouble(&error) {
                Trouble::TooLong => {}
                Trouble::Short if large => {}
                _ => return outcome(operation, error).map(Some),
            }
        }
        check_count(fds.len(), FDS_MAX - 1)?;
        let freight = Freight {
            fds: fds.len() + 1,
            bytes: text.len(),
        };
        if !may(freight) {
            return Ok(None);
        }
        self.spill(text, fds, to, wait).map(Some)
    }

    /// Sends a text in a memfd.
    fn spill(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        wait: Wait,
    ) -> Result<Tried, Error> {
        let payload = match memfd::create(text) {
            Ok(payload) => payload,
            Err(error) => return outcome("memfd_create", error),
        };
        let mut all = Vec::with_capacity(fds.len() + 1);
        all.push(payload.as_fd());
        all.extend_from_slice(fds);
        match sys::sendmsg(self.fd.as_fd(), SPILLED, &all, to, wait) {
            Ok(()) => Ok(Tried::Done),
            Err(error) => outcome("sendmsg", error),
        }
    }
}

/// Refuses more descriptors than fit.
fn check_count(count: usize, limit: usize) -> Result<(), Error> {
    if count > limit {
        return Err(Error::Encode(EncodeError::FdCount { count, limit }));
    }
    Ok(())
}

/// Says what it means that sending has failed in that operation.
fn outcome(operation: &'static str, error: io::Error) -> Result<Tried, Error> {
    match sys::trouble(&error) {
        Trouble::Full | Trouble::Interrupted => Ok(Tried::Full),
        Trouble::Short => Ok(Tried::Short(Error::os(operation)(error))),
        Trouble::Gone => Err(Error::Closed),
        _ => Err(Error::os(operation)(error)),
    }
}
