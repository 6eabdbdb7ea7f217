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

use crate::limits::{Bounds, DATAGRAM_MAX, Limits};
use crate::sys::socket::{self as sys, Timeout};
use crate::sys::wait::{self, WaitOutcome};
use crate::sys::{OsResult, control, diag};

pub use crate::sys::socket::Kind;
pub(crate) use connect::{DEADLINE, connect_any, connect_by, is_deserted};
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
    /// `SO_RCVTIMEO` and `SO_SNDTIMEO` as last set, so that an unchanged one costs no system call. Shared by clones.
    timeouts: Arc<[KnownTimeout; 2]>,
    /// Whether a sender's pidfd is kept.
    pidfds: bool,
}

/// A timeout in nanoseconds; 0 is none. One thread at a time waits on a socket, so the order of accesses does not matter.
#[derive(Debug, Default)]
struct KnownTimeout(AtomicU64);

impl KnownTimeout {
    fn get(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }

    fn set(&self, timeout: Option<Duration>) {
        // A timeout that does not fit is set again each time.
        let nanos = timeout.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.0.store(nanos, Ordering::Relaxed);
    }
}

/// Returns the longest text that travels in the datagram itself, with a send buffer of this size.
fn inline_max(sndbuf: usize) -> usize {
    sndbuf.saturating_sub(SNDBUF_OVERHEAD).min(DATAGRAM_MAX)
}

/// Returns the size of a send buffer for texts of this size.
fn sndbuf_for(message: usize) -> usize {
    message.min(DATAGRAM_MAX) + SNDBUF_OVERHEAD
}

impl Transport {
    /// Takes over a socket of this kind and raises its send buffer to fit the largest message.
    pub(crate) fn new(fd: OwnedFd, kind: Kind, limits: &Limits) -> OsResult<Self> {
        let sndbuf = sys::raise_sndbuf(fd.as_fd(), sndbuf_for(limits.message))?;
        Ok(Self {
            fd: Arc::new(fd),
            kind,
            inline_max: inline_max(sndbuf),
            bounds: Bounds::from(limits),
            timeouts: Default::default(),
            pidfds: false,
        })
    }

    /// Waits until the socket is ready or `deadline` has passed. Also for calls with [`Wait::Socket`](control::Wait) that
    /// returned early: a signal, a rounded socket timeout, or a descriptor that another process made non-blocking.
    pub(crate) fn wait(&self, what: wait::For, deadline: Option<Instant>) -> OsResult<WaitOutcome> {
        wait::poll(self.fd.as_fd(), what, deadline)
    }

    /// Waits for `what` or for [`PAUSE`], whichever ends first; [`TimedOut`](WaitOutcome::TimedOut) if `deadline` comes
    /// before both. For attempts that no event announces.
    pub(crate) fn wait_or_pause(
        &self,
        what: wait::For,
        deadline: Option<Instant>,
    ) -> OsResult<WaitOutcome> {
        let pause = Instant::now() + PAUSE;
        if deadline.is_some_and(|deadline| deadline < pause) {
            return self.wait(what, deadline);
        }
        let _ = self.wait(what, Some(pause))?;
        Ok(WaitOutcome::Ready)
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
        let unchanged = match (known.get(), left) {
            (None, None) => true,
            (Some(set), Some(left)) => set >= left && set - left < SLACK,
            _ => false,
        };
        if !unchanged {
            // In the middle of the slack, so that the next call, with a little more or less time left, fits too.
            let set = left.map(|left| left.saturating_add(SLACK / 2));
            sys::set_timeout(self.fd.as_fd(), which, set)?;
            known.set(set);
        }
        Ok(WaitOutcome::Ready)
    }

    /// Moves this socket to the descriptor number of `other`, which is closed with what is queued there.
    pub(crate) fn replacing(self, other: &Self) -> OsResult<Self> {
        control::dup3(self.as_fd(), &other.fd)?;
        let fd = Arc::clone(&other.fd);
        Ok(Self { fd, ..self })
    }

    /// Makes the kernel report the sending process with each message, if it can.
    pub(crate) fn pass_pidfds(&mut self) {
        self.pidfds = control::pass_pidfds(self.as_fd()).unwrap_or(false);
    }

    /// Returns true if the connected peer is still open; `None` if the kernel does not report that.
    pub(crate) fn has_peer(&self) -> Option<bool> {
        diag::has_peer(self.as_fd()).ok()
    }

    /// Sets the longest text, sent or received, in bytes, and raises the send buffer for it.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.bounds.message = bytes;
        // Without room in the send buffer, large texts travel in a memfd.
        if let Ok(sndbuf) = sys::raise_sndbuf(self.fd.as_fd(), sndbuf_for(bytes)) {
            self.inline_max = inline_max(sndbuf);
        }
    }

    /// Sets the deepest nesting, sent or received.
    pub(crate) fn set_depth(&mut self, levels: usize) {
        self.bounds = Bounds::new(self.bounds.message, levels);
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
