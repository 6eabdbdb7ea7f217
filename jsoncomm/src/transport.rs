//! A socket without message types: one datagram out, one in, with descriptors and large payloads.
//!
//! A [`Transport`] never waits unless told to. It moves a text that is too large for a datagram into a memfd, and back.
//! What is received is owned and checked for damage, never trusted; what the text means is left to the modules above.

mod connect;
mod inbox;
mod receive;
mod send;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fds::Giver;
use crate::limits::{Bounds, DATAGRAM_MAX, Depth};
use crate::peer::Peer;
use crate::sys::socket::{self as sys, Timeout};
use crate::sys::wait::WaitOutcome;
use crate::sys::{OsResult, control, file};

pub use crate::sys::socket::Kind;
pub(crate) use connect::{DEADLINE, connect};
pub(crate) use inbox::{Inbox, reset_buffer};
pub(crate) use receive::{Datagram, ReceiveOutcome};
pub use send::SendStatus;
pub(crate) use send::{Packet, SendAttempt};

/// Content of a datagram whose text is in the memfd that travels as descriptor 0.
const MEMFD_MARKER: &[u8] = b"<args-via-fd>";

/// Part of `SO_SNDBUF` that the kernel uses itself, in bytes (measured on Linux 6.18).
const SNDBUF_OVERHEAD: usize = 32;

/// A text up to this length travels in the datagram itself with a send buffer of usual size, in bytes.
pub(crate) const INLINE_SURE: usize = 1 << 16;

/// Pause before another attempt that no event announces, such as sending to a full datagram peer.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// A socket with its limits. All calls take `&self`; a clone is the same socket.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) kind: Kind,
    /// Longest text that travels in the datagram itself.
    inline_max: usize,
    pub(crate) bounds: Bounds,
    /// `SO_RCVTIMEO` and `SO_SNDTIMEO` as last set, so that an unchanged one costs no system call: in nanoseconds, 0 is
    /// none. Shared by clones. One thread at a time waits on a socket, so the order of accesses does not matter.
    timeouts: Arc<[AtomicU64; 2]>,
    /// Whether a sender's pidfd is kept.
    pidfds: bool,
    /// Another process may hold this end, too, and change the timeouts of the socket: it is never waited for in recvmsg(2).
    contested: bool,
    /// Whose the endpoints that come by this socket may be.
    giver: Giver,
}

/// Raises the send buffer for texts of this size, if it can. Returns the longest one that then travels in the datagram
/// itself.
fn raise_inline_max(fd: BorrowedFd<'_>, message: usize) -> OsResult<usize> {
    let sndbuf = sys::raise_sndbuf(fd, message.min(DATAGRAM_MAX) + SNDBUF_OVERHEAD)?;
    Ok(sndbuf.saturating_sub(SNDBUF_OVERHEAD).min(DATAGRAM_MAX))
}

impl Transport {
    /// Takes over a socket of this kind and raises its send buffer to fit the largest message.
    pub(crate) fn new(fd: OwnedFd, kind: Kind, bounds: impl Into<Bounds>) -> OsResult<Self> {
        let bounds = bounds.into();
        Ok(Self {
            inline_max: raise_inline_max(fd.as_fd(), bounds.message)?,
            fd: Arc::new(fd),
            kind,
            bounds,
            timeouts: Default::default(),
            pidfds: false,
            contested: false,
            giver: Giver::Unknown,
        })
    }

    /// Prepares a socket that came in a message, of which the sender may have kept a copy.
    pub(crate) fn contested(self) -> Self {
        let contested = true;
        Self { contested, ..self }
    }

    /// Finds out whose the endpoints that come by this socket may be: those of the user at its other end. Who sends by a
    /// datagram socket is not known.
    pub(crate) fn know_giver(self) -> Self {
        let user = match self.kind {
            Kind::Seqpacket => Peer::user_of_connection(self.as_fd()),
            Kind::Datagram => None,
        };
        let giver = user.into();
        Self { giver, ..self }
    }

    /// Takes endpoints from now on whosever they are.
    pub(crate) fn allow_foreign_endpoints(&mut self) {
        self.giver = Giver::Anyone;
    }

    /// Sets the socket's timeout for the next blocking call, unless the one that is set is close enough. Returns
    /// [`TimedOut`](WaitOutcome::TimedOut) if the deadline has passed.
    fn set_timeout(
        &self,
        which: Timeout,
        deadline: Option<Instant>,
        now: Instant,
    ) -> OsResult<WaitOutcome> {
        /// How much later than asked a deadline may be noticed.
        const SLACK: Duration = Duration::from_millis(10);
        let [receive, send] = &*self.timeouts;
        let known = match which {
            Timeout::Recv => receive,
            Timeout::Send => send,
        };
        let left = deadline.map(|at| at.saturating_duration_since(now));
        if left == Some(Duration::ZERO) {
            return Ok(WaitOutcome::TimedOut);
        }
        let set = Duration::from_nanos(known.load(Ordering::Relaxed));
        let unchanged = match left {
            None => set.is_zero(),
            Some(left) => set >= left && set - left < SLACK,
        };
        if !unchanged {
            // In the middle of the slack, so that the next call, with a little more or less time left, fits too.
            let set = left.map(|left| left.saturating_add(SLACK / 2));
            sys::set_timeout(self.fd.as_fd(), which, set)?;
            // A timeout that does not fit is set again each time.
            let nanos = set.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            known.store(nanos, Ordering::Relaxed);
        }
        Ok(WaitOutcome::Ready)
    }

    /// Moves this socket to the descriptor number of `other`, which is closed with what is queued there.
    pub(crate) fn replacing(self, other: &Self) -> OsResult<Self> {
        control::dup3(self.as_fd(), &other.fd)?;
        let fd = Arc::clone(&other.fd);
        let giver = match other.giver {
            Giver::Anyone => Giver::Anyone,
            Giver::Unknown | Giver::User(_) => self.giver,
        };
        Ok(Self { fd, giver, ..self })
    }

    /// Returns the socket: a duplicate of its descriptor if something else uses it at this moment.
    pub(crate) fn into_fd(self) -> OsResult<OwnedFd> {
        Arc::try_unwrap(self.fd).or_else(|fd| file::duplicate(fd.as_fd()))
    }

    /// Makes the kernel report the sending process with each message, if it can.
    pub(crate) fn pass_pidfds(&mut self) {
        self.pidfds = control::pass_pidfds(self.as_fd()).unwrap_or(false);
    }

    /// Sets the longest text, sent or received, in bytes, and raises the send buffer for it.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.bounds.message = bytes;
        // Without room in the send buffer, large texts travel in a memfd.
        let inline_max = raise_inline_max(self.as_fd(), bytes);
        self.inline_max = inline_max.unwrap_or(self.inline_max);
    }

    /// Sets the deepest nesting, sent or received.
    pub(crate) fn set_depth(&mut self, levels: usize) {
        self.bounds.depth = Depth::new(levels);
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
