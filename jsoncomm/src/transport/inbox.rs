//! Buffers for receiving.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::receive::TextLocation;
use super::{Datagram, Kind, Transport};
use crate::fds::{Closer, Fds};
use crate::limits::DATAGRAM_MAX;
use crate::sys::OsResult;
use crate::sys::control::{self, Arrived, Wait};
use crate::sys::name::Name;
use crate::sys::opaque_debug;

/// Buffers for receiving. They serve any number of transports, one datagram at a time.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(super) datagram: Vec<u8>,
    pub(super) memfd_text: Vec<u8>,
    sender: Name,
    /// Whether senders' names are not received.
    ignores_sender: bool,
    /// Closes received descriptors that are not used.
    closer: Arc<Closer>,
}

/// Capacity that an emptied buffer keeps, in bytes.
pub(super) const BUFFER_KEPT: usize = 1 << 18;

/// Empties a buffer for its next use, and gives back capacity that its last use did not need. So one large message does
/// not occupy memory for long, and a sequence of large ones does not allocate each time.
#[inline]
pub(crate) fn reset_buffer(buffer: &mut Vec<u8>) {
    let used = buffer.len();
    buffer.clear();
    buffer.shrink_to(used.max(BUFFER_KEPT));
}

impl Inbox {
    /// Makes buffers for a transport with one peer, which do not receive senders' names: the kernel would copy the name
    /// each time.
    pub(crate) fn of_one_peer() -> Self {
        Self {
            ignores_sender: true,
            ..Self::default()
        }
    }

    /// Returns the text of the datagram that was received last: its beginning if it is too large, and nothing if it is
    /// lost.
    pub(crate) fn text(&self, datagram: &Datagram) -> &[u8] {
        match datagram.text {
            TextLocation::Inline(length) => self.datagram.get(..length).unwrap_or_default(),
            TextLocation::Memfd | TextLocation::Head => &self.memfd_text,
            TextLocation::Lost => &[],
        }
    }

    /// Takes the text of the datagram that was received last, without spare capacity.
    pub(crate) fn take_text(&mut self, datagram: &Datagram) -> Vec<u8> {
        if !matches!(datagram.text, TextLocation::Inline(_)) {
            let mut text = std::mem::take(&mut self.memfd_text);
            // The buffer may have held a larger text before, and is accounted by its length.
            text.shrink_to_fit();
            return text;
        }
        self.text(datagram).to_vec()
    }

    /// Returns the name of the sender of the datagram that was received last, if it has one. Only on sockets without a
    /// connection.
    pub(crate) fn sender(&self) -> Option<&Name> {
        Some(&self.sender).filter(|name| !name.is_unnamed())
    }

    /// Receives one datagram of the transport's socket.
    #[inline]
    pub(super) fn receive(
        &mut self,
        transport: &Transport,
        wait: Wait,
        fds: &mut Fds,
    ) -> OsResult<Arrived> {
        // One byte more than the limit, so that a longer datagram is noticed. The kernel provides pages when they are
        // written, so a large buffer costs nothing.
        let size = transport.bounds.message.min(DATAGRAM_MAX) + 1;
        if self.datagram.len() < size {
            self.datagram = vec![0; size];
        }
        reset_buffer(&mut self.memfd_text);
        let buffer = self.datagram.get_mut(..size).unwrap_or_default();
        // A connection has one sender.
        let has_senders = transport.kind == Kind::Datagram && !self.ignores_sender;
        let name = has_senders.then_some(&mut self.sender);
        let arrived = control::recvmsg(transport.fd.as_fd(), buffer, name, wait, |fd| fds.put(fd))?;
        if !fds.is_empty() {
            self.close_elsewhere(fds);
            fds.set_giver(transport.giver);
        }
        Ok(arrived)
    }

    /// Makes unused received descriptors be closed on another thread.
    pub(super) fn close_elsewhere(&self, fds: &mut Fds) {
        let closer = Arc::clone(&self.closer);
        fds.set_discard(closer);
    }
}

opaque_debug!(Inbox);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::sys::memfd;
    use crate::sys::socket::{self as sys, Kind};
    use crate::transport::{MEMFD_MARKER, ReceiveOutcome, SendAttempt};

    #[test]
    fn a_taken_text_has_no_spare_capacity() {
        let (near, far) = sys::socketpair(Kind::Seqpacket).unwrap();
        let transport = |fd| Transport::new(fd, Kind::Seqpacket, &Limits::default()).unwrap();
        let (near, far) = (transport(near), transport(far));
        let mut inbox = Inbox::of_one_peer();
        for size in [1_000_000, 10] {
            let payload = memfd::create(&vec![b' '; size]).unwrap();
            let sent = far.send(MEMFD_MARKER, &[payload.as_fd()], None, Wait::Never);
            assert_eq!(sent.unwrap(), SendAttempt::Sent);
            let received = near.receive(&mut inbox, Wait::Never).unwrap();
            let ReceiveOutcome::Datagram(datagram) = received else {
                panic!("it has been sent");
            };
            assert_eq!(inbox.text(&datagram).len(), size);
            // The larger one stays in the buffer.
            if size == 10 {
                assert!(inbox.take_text(&datagram).capacity() < 100);
            }
        }
    }

    #[test]
    fn the_sender_of_a_datagram_is_known_unless_ignored() {
        let (near, far) = sys::socketpair(Kind::Datagram).unwrap();
        sys::autobind(far.as_fd()).unwrap();
        let transport = Transport::new(near, Kind::Datagram, &Limits::default()).unwrap();
        for (mut inbox, is_known) in [(Inbox::default(), true), (Inbox::of_one_peer(), false)] {
            sys::sendmsg(far.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
            let received = transport.receive(&mut inbox, Wait::Never).unwrap();
            assert!(matches!(received, ReceiveOutcome::Datagram(_)));
            assert_eq!(inbox.sender().is_some(), is_known);
        }
    }
}
