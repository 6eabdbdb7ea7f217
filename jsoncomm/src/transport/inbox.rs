//! Room for what is received.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Datagram, Kind, Place};
use crate::fds::{Closer, Fds};
use crate::limits::DATAGRAM_MAX;
use crate::sys::control::{self, Arrived, Wait};
use crate::sys::name::Name;

/// Buffers for receiving; one serves any number of lines, one datagram at a time.
pub(crate) struct Inbox {
    pub(super) datagram: Vec<u8>,
    pub(super) spilled: Vec<u8>,
    sender: Name,
    /// Whether to ask who sent a datagram.
    asks: bool,
    /// Closes the descriptors that came and that nobody wants, if nobody else is found who does.
    closer: Arc<Closer>,
}

/// A buffer has room for at least so many bytes once it has had.
pub(super) const BUFFER_KEPT: usize = 1 << 18;

/// Empties a buffer for its next use. Room that its last use did not need is given back if it is much, so that one
/// large message does not occupy memory for ever, and large ones one after the other do not ask for it each time.
#[inline]
pub(crate) fn empty(buffer: &mut Vec<u8>) {
    let used = buffer.len();
    buffer.clear();
    buffer.shrink_to(used.max(BUFFER_KEPT));
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            datagram: Vec::new(),
            spilled: Vec::new(),
            sender: Name::NONE,
            asks: true,
            closer: Arc::default(),
        }
    }
}

impl Inbox {
    /// One that does not ask who sent a datagram, for a line that has one peer: the kernel would copy the name each
    /// time.
    pub(crate) fn of_one_peer() -> Self {
        Self {
            asks: false,
            ..Self::default()
        }
    }

    /// The text of a datagram that was just received into this inbox; empty if it is damaged beyond use.
    pub(crate) fn text(&self, datagram: &Datagram) -> &[u8] {
        match datagram.place {
            Place::Inline(length) => self.datagram.get(..length).unwrap_or_default(),
            Place::Spilled => &self.spilled,
            Place::Nowhere => &[],
        }
    }

    /// Takes the text of a datagram that was just received into this inbox.
    pub(crate) fn take_text(&mut self, datagram: &Datagram) -> Vec<u8> {
        match datagram.place {
            Place::Spilled => {
                let mut text = std::mem::take(&mut self.spilled);
                // It may have had room for a larger one before, and is counted by its length.
                text.shrink_to_fit();
                text
            }
            Place::Inline(_) | Place::Nowhere => self.text(datagram).to_vec(),
        }
    }

    /// The name of who sent the datagram that was received last, on a socket without a connection, if it has one.
    pub(crate) fn sender(&self) -> Option<&Name> {
        Some(&self.sender).filter(|name| !name.is_unnamed())
    }

    /// Makes room for one datagram of up to `limit` bytes and one more byte. The kernel does not commit the
    /// pages until they are written, so a large buffer costs nothing.
    fn make_room(&mut self, limit: usize) {
        let size = limit.min(DATAGRAM_MAX) + 1;
        if self.datagram.len() < size {
            self.datagram = vec![0; size];
        }
        empty(&mut self.spilled);
    }

    /// Receives into it, from a socket of this kind.
    #[inline]
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        kind: Kind,
        limit: usize,
        wait: Wait,
        fds: &mut Fds,
    ) -> std::io::Result<Arrived> {
        self.make_room(limit);
        let size = limit.min(DATAGRAM_MAX) + 1;
        let buffer = self.datagram.get_mut(..size).unwrap_or_default();
        // A connection has one sender.
        let name = match kind {
            Kind::Datagram if self.asks => Some(&mut self.sender),
            Kind::Datagram | Kind::Seqpacket => None,
        };
        let arrived = control::recvmsg(socket, buffer, name, wait, |fd| fds.put(fd))?;
        if !fds.is_empty() {
            self.discard(fds);
        }
        Ok(arrived)
    }

    /// Has what is left of received descriptors closed elsewhere, unless somebody else is found who does.
    pub(super) fn discard(&self, fds: &mut Fds) {
        let closer = Arc::clone(&self.closer);
        fds.set_discard(closer);
    }
}

/// What peers have sent is nobody's to print: a part of it may be `#[sensitive]`.
impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::sys::memfd;
    use crate::sys::socket::{self as sys, Type};
    use crate::transport::{Heard, SPILLED, SendStatus, Transport};
    use std::os::fd::AsFd;

    #[test]
    fn a_text_that_is_taken_has_no_more_room_than_it_needs() {
        let (near, far) = sys::socketpair(Type::Seqpacket).unwrap();
        let line = |fd| Transport::new(fd, Kind::Seqpacket, &Limits::default()).unwrap();
        let (line, far) = (line(near), line(far));
        let mut inbox = Inbox::of_one_peer();
        for size in [1_000_000, 10] {
            let payload = memfd::create(&vec![b' '; size]).unwrap();
            let sent = far.send(SPILLED, &[payload.as_fd()], None, Wait::Never);
            assert_eq!(sent.unwrap(), SendStatus::Done);
            let Heard::Datagram(datagram) = line.receive(&mut inbox, Wait::Never).unwrap() else {
                panic!("it has been sent");
            };
            assert_eq!(inbox.text(&datagram).len(), size);
            // The larger is not taken.
            if size == 10 {
                assert!(inbox.take_text(&datagram).capacity() < 100);
            }
        }
    }

    #[test]
    fn who_sent_a_datagram_is_known_where_that_is_asked() {
        let (near, far) = sys::socketpair(Type::Dgram).unwrap();
        sys::autobind(far.as_fd()).unwrap();
        let line = Transport::new(near, Kind::Datagram, &Limits::default()).unwrap();
        for (mut inbox, asks) in [(Inbox::default(), true), (Inbox::of_one_peer(), false)] {
            sys::sendmsg(far.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
            let heard = line.receive(&mut inbox, Wait::Never).unwrap();
            assert!(matches!(heard, Heard::Datagram(_)));
            assert_eq!(inbox.sender().is_some(), asks);
        }
    }
}
