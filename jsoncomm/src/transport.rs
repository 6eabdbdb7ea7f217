//! A socket as the rooms above use it: one datagram out, one in, with descriptors and large payloads.
//!
//! A [`Transport`] never waits unless told to, and moves a text that is too large for a datagram into a memfd,
//! and back. What comes is owned and checked for damage, never believed; what the text means is left to
//! the rooms above.

mod connect;
mod inbox;
mod spill;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::fds::Fds;
use crate::limits::{Bounds, DATAGRAM_MAX, Limits};
use crate::sys::control::{self, Credentials, Wait};
use crate::sys::name::Name;
use crate::sys::socket::{self as sys, Timeout, Trouble, Type};
use crate::sys::{diag, memfd, wait};

pub(crate) use connect::{DEADLINE, connect_any, connect_by, is_deserted};
pub(crate) use inbox::{Inbox, empty};
pub(crate) use spill::Freight;

/// The two kinds of socket. Same wire, same speed; they differ in what one peer can do to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Datagrams without a connection: no state per client, one send buffer and one receive queue (of 11
    /// places) for all, no word when a peer dies (a waiting client looks every 100 ms whether its server lives), a
    /// return address that is only a claim. For peers of the
    /// same trust in the same network namespace.
    #[doc(alias = "SOCK_DGRAM")]
    Datagram,
    /// The same datagrams on a connection: an account per client, hang-up, and the kernel's word on who
    /// called `connect`. For everybody else.
    #[doc(alias = "SOCK_SEQPACKET")]
    Seqpacket,
}

impl From<Kind> for Type {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Datagram => Self::Dgram,
            Kind::Seqpacket => Self::Seqpacket,
        }
    }
}

impl From<Type> for Kind {
    fn from(of: Type) -> Self {
        match of {
            Type::Dgram => Self::Datagram,
            Type::Seqpacket => Self::Seqpacket,
        }
    }
}

/// What stands in a datagram instead of the text when the text is in descriptor 0.
const SPILLED: &[u8] = b"<args-via-fd>";

/// What the kernel keeps of `SO_SNDBUF` for itself, in bytes (measured on Linux 6.18).
const SNDBUF_OVERHEAD: usize = 32;

/// A socket and what is known about it; every call takes `&self`. A clone is the same socket.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    fd: Arc<OwnedFd>,
    kind: Kind,
    /// Longest text that travels in the datagram itself.
    inline_max: usize,
    bounds: Bounds,
    /// `SO_RCVTIMEO` and `SO_SNDTIMEO` as last set, so that an unchanged one costs no system call.
    /// Clones share them: it is one socket.
    timeouts: Arc<[KnownTimeout; 2]>,
    /// Whether a sender's pidfd is kept if one comes.
    pidfds: bool,
}

/// A socket's timeout in nanoseconds; 0 is none. One thread at a time waits on a socket, so nothing is ordered by it.
#[derive(Debug, Default)]
struct KnownTimeout(AtomicU64);

impl KnownTimeout {
    fn get(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }

    fn set(&self, timeout: Option<Duration>) {
        // What does not fit is set anew each time.
        let nanos = timeout.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.0.store(nanos, Ordering::Relaxed);
    }
}

/// How sending without waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum SendStatus {
    /// The kernel has the whole message.
    Done,
    /// There is no room for it now; nothing was sent. Wait until the socket is writable, or, on a datagram
    /// socket that is not connected, for a while: the kernel does not say when the peer has room.
    Full,
}

/// How an attempt to send ended that is no failure.
#[derive(Debug)]
#[must_use]
pub(crate) enum Tried {
    Done,
    /// There is no room; the socket will be writable when there is.
    Full,
    /// The kernel is short of memory or descriptors; no event says when to try again.
    Short(Error),
}

/// One datagram as it came; its text is in the [`Inbox`] it was received into.
#[derive(Debug)]
pub(crate) struct Datagram {
    place: Place,
    /// What came with it, the payload's memfd not counted.
    pub(crate) fds: Fds,
    /// The memfd that the text was in: closed elsewhere, as freeing what is in it can take as long as the sender likes.
    pub(crate) payload: Fds,
    /// The sender, where the socket asks for credentials.
    pub(crate) credentials: Option<Credentials>,
    /// The sender's process, where the socket asks for it ([`Transport::pass_pidfds`]).
    pub(crate) pidfd: Option<OwnedFd>,
    /// Why it must not be believed: it was cut short, is too large, or is in no proper memfd.
    pub(crate) damage: Option<Error>,
}

/// What an attempt to receive found.
#[derive(Debug)]
pub(crate) enum Heard {
    Datagram(Datagram),
    Pending,
    Closed,
    /// The kernel is short of memory; what is queued stays queued, and no event says when to try again.
    Short,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Inline(usize),
    Spilled,
    Nowhere,
}

/// A text up to this long travels in the datagram itself on any system with a send buffer of usual size,
/// in bytes.
pub(crate) const INLINE_SURE: usize = 1 << 16;

/// How long a text may be to travel in the datagram itself, with a send buffer of this size.
fn inline_max(sndbuf: usize) -> usize {
    sndbuf.saturating_sub(SNDBUF_OVERHEAD).min(DATAGRAM_MAX)
}

/// How large a send buffer has to be for texts of this size.
fn sndbuf_for(message: usize) -> usize {
    message.min(DATAGRAM_MAX) + SNDBUF_OVERHEAD
}

impl Datagram {
    /// Says whether it is a text and nothing else, and sound.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.place, Place::Inline(_)) && self.fds.is_empty() && self.damage.is_none()
    }

    /// Says whether the text came in a memfd.
    pub(crate) fn is_spilled(&self) -> bool {
        matches!(self.place, Place::Spilled)
    }
}

impl Transport {
    /// Takes over a socket of this kind and raises its send buffer to hold a message of the limit.
    pub(crate) fn new(fd: OwnedFd, kind: Kind, limits: &Limits) -> Result<Self, Error> {
        let wanted = sndbuf_for(limits.message);
        let sndbuf = sys::raise_sndbuf(fd.as_fd(), wanted).map_err(Error::os("setsockopt"))?;
        Ok(Self {
            fd: Arc::new(fd),
            kind,
            inline_max: inline_max(sndbuf),
            bounds: Bounds::from(limits),
            timeouts: Default::default(),
            pidfds: false,
        })
    }

    /// Sends one message whole, or nothing. `to` is for sockets that are not connected.
    pub(crate) fn send(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        wait: Wait,
    ) -> Result<SendStatus, Error> {
        match self.try_send(text, fds, to, wait)? {
            Tried::Done => Ok(SendStatus::Done),
            Tried::Full => Ok(SendStatus::Full),
            // A waiting caller is told; one that retries by timer may retry.
            Tried::Short(_) if wait == Wait::Never => Ok(SendStatus::Full),
            Tried::Short(error) => Err(error),
        }
    }

    /// Sends, waiting for room until `deadline`.
    pub(crate) fn send_by(
        &self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        to: Option<&Name>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        // There nearly always is room, and then nothing needs to be said about waiting.
        if self.send(text, fds, to, Wait::Never)? == SendStatus::Done {
            return Ok(());
        }
        loop {
            self.set_timeout(Timeout::Send, deadline, Instant::now())?;
            match self.send(text, fds, to, Wait::Socket)? {
                SendStatus::Done => return Ok(()),
                SendStatus::Full if to.is_none() => self.wait(wait::For::Writing, deadline)?,
                // Full although it may wait: somebody made the descriptor non-blocking. A socket that is not
                // connected is always writable for poll, so only time can be waited for.
                SendStatus::Full => self.wait_a_while(wait::For::Nothing, deadline)?,
            }
        }
    }

    /// Receives one datagram if there is one, or as `wait` says.
    pub(crate) fn receive(&self, inbox: &mut Inbox, wait: Wait) -> Result<Heard, Error> {
        let (mut reset, mut fds) = (false, Fds::new());
        let arrived = loop {
            let (fd, limit) = (self.fd.as_fd(), self.bounds.message);
            match inbox.receive(fd, self.kind, limit, wait, &mut fds) {
                Ok(arrived) => break arrived,
                Err(error) => {
                    if let Some(instead) = self.heard_instead(error, wait, &mut reset) {
                        return instead;
                    }
                }
            }
        };
        let length = arrived.length;
        // An empty packet looks like the end, unless it brings something.
        if length == 0 && self.kind == Kind::Seqpacket && fds.is_empty() {
            return Ok(Heard::Closed);
        }
        let mut datagram = Datagram {
            place: Place::Inline(length),
            fds,
            payload: Fds::new(),
            credentials: arrived.credentials,
            pidfd: arrived.pidfd,
            damage: None,
        };
        if !self.pidfds {
            // One that somebody else has asked for.
            datagram.pidfd = None;
        }
        let whole = length <= self.bounds.message && !arrived.control_truncated;
        let spilled = length == SPILLED.len() && inbox.text(&datagram) == SPILLED;
        if !whole || spilled || inbox.datagram.len() < length {
            self.look_closer(inbox, &mut datagram, length, arrived.control_truncated);
        }
        Ok(Heard::Datagram(datagram))
    }

    /// Says what an attempt to receive has found in place of a datagram; nothing when it is to be made again.
    #[inline(never)]
    fn heard_instead(
        &self,
        error: std::io::Error,
        wait: Wait,
        reset: &mut bool,
    ) -> Option<Result<Heard, Error>> {
        Some(match sys::trouble(&error) {
            Trouble::Full => Ok(Heard::Pending),
            Trouble::Short if wait == Wait::Never => Ok(Heard::Short),
            Trouble::Interrupted if wait == Wait::Socket => Ok(Heard::Pending),
            Trouble::Interrupted => return None,
            // ECONNRESET comes once, before what a dead peer had sent and the end.
            Trouble::Gone if self.kind == Kind::Seqpacket && !*reset => {
                *reset = true;
                return None;
            }
            // ENOTCONN: there never was a connection.
            Trouble::Gone if self.kind == Kind::Seqpacket => Ok(Heard::Closed),
            _ => Err(Error::os("recvmsg")(error)),
        })
    }

    /// Fetches the text of a datagram from elsewhere, or says what is wrong with it.
    #[cold]
    #[inline(never)]
    fn look_closer(&self, inbox: &mut Inbox, datagram: &mut Datagram, length: usize, cut: bool) {
        let limit = self.bounds.message;
        if length > limit {
            let size = length as u64;
            datagram.place = Place::Nowhere;
            datagram.damage = Some(Error::TooLarge { size, limit });
        } else if inbox.datagram.len() < length {
            datagram.place = Place::Nowhere;
            datagram.damage = Some(Error::Truncated { length });
        } else if cut {
            datagram.damage = Some(Error::DescriptorsLost);
        } else {
            self.unspill(inbox, datagram);
        }
    }

    /// Fetches the text from the memfd that came as descriptor 0.
    fn unspill(&self, inbox: &mut Inbox, datagram: &mut Datagram) {
        datagram.place = Place::Nowhere;
        let payload = datagram.fds.take_front();
        match self.read_payload(payload.as_ref(), &mut inbox.spilled) {
            Ok(()) => {
                datagram.place = Place::Spilled;
                payload.into_iter().for_each(|fd| datagram.payload.put(fd));
                inbox.discard(&mut datagram.payload);
            }
            Err(error) => {
                // It may be anything, to be closed with the others.
                payload.into_iter().for_each(|fd| datagram.fds.put(fd));
                datagram.damage = Some(error);
            }
        }
    }

    /// Reads the text in a payload. Whatever keeps it from being read is about this message, and the next can be
    /// received.
    fn read_payload(&self, payload: Option<&OwnedFd>, text: &mut Vec<u8>) -> Result<(), Error> {
        let bad = |reason| Error::payload(reason, None);
        let unreadable = |error| Error::payload("the descriptor cannot be read", Some(error));
        let payload = payload.ok_or_else(|| bad("the descriptor is missing"))?;
        let size = memfd::size(payload.as_fd()).map_err(unreadable)?;
        let size = size.ok_or_else(|| bad("the descriptor is not a memfd"))?;
        let limit = self.bounds.message;
        let length = usize::try_from(size).ok().filter(|size| *size <= limit);
        let length = length.ok_or(Error::TooLarge { size, limit })?;
        memfd::read(payload.as_fd(), length, text).map_err(unreadable)
    }

    /// Receives one datagram, waiting for it until `deadline`.
    pub(crate) fn receive_by(
        &self,
        inbox: &mut Inbox,
        deadline: Option<Instant>,
    ) -> Result<Datagram, Error> {
        self.receive_from(inbox, deadline, Instant::now())
    }

    /// The same for callers who have just looked at the clock: it is `now`.
    pub(crate) fn receive_from(
        &self,
        inbox: &mut Inbox,
        deadline: Option<Instant>,
        mut now: Instant,
    ) -> Result<Datagram, Error> {
        loop {
            self.set_timeout(Timeout::Receive, deadline, now)?;
            match self.receive(inbox, Wait::Socket)? {
                Heard::Datagram(datagram) => return Ok(datagram),
                Heard::Closed => return Err(Error::Closed),
                Heard::Pending | Heard::Short => self.wait(wait::For::Reading, deadline)?,
            }
            now = Instant::now();
        }
    }

    /// Waits for the socket, as a call that waits does itself: for those that came back early (a signal, a
    /// socket timeout that was rounded, a descriptor that somebody made non-blocking), or must not wait.
    pub(crate) fn wait(&self, what: wait::For, deadline: Option<Instant>) -> Result<(), Error> {
        match wait::poll(self.fd.as_fd(), what, deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Deadline),
            Err(error) => Err(Error::os("poll")(error)),
        }
    }

    /// Waits until what no event announces is worth another attempt, or for `what`.
    pub(crate) fn wait_a_while(
        &self,
        what: wait::For,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let pause = Instant::now() + PAUSE;
        if deadline.is_some_and(|deadline| deadline < pause) {
            return self.wait(what, deadline);
        }
        match self.wait(what, Some(pause)) {
            Err(Error::Deadline) => Ok(()),
            other => other,
        }
    }

    /// Tells the kernel how long the next waiting call may take, if that has changed by more than
    /// nobody would notice.
    fn set_timeout(
        &self,
        which: Timeout,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<(), Error> {
        /// How much later than asked a deadline may be noticed.
        const SLACK: Duration = Duration::from_millis(10);
        let [receive, send] = &*self.timeouts;
        let known = match which {
            Timeout::Receive => receive,
            Timeout::Send => send,
        };
        let left = match deadline.map(|at| at.saturating_duration_since(now)) {
            Some(Duration::ZERO) => return Err(Error::Deadline),
            left => left,
        };
        let unchanged = match (known.get(), left) {
            (None, None) => true,
            (Some(set), Some(left)) => set >= left && set - left < SLACK,
            _ => false,
        };
        if !unchanged {
            // In the middle of the slack, so that the next call, a little more or less in a hurry, fits too.
            let set = left.map(|left| left.saturating_add(SLACK / 2));
            sys::set_timeout(self.fd.as_fd(), which, set).map_err(Error::os("setsockopt"))?;
            known.set(set);
        }
        Ok(())
    }

    /// Puts this line in the place of another, under its descriptor number; what is queued there is lost.
    pub(crate) fn replacing(self, other: &Self) -> Result<Self, Error> {
        control::dup3(self.as_fd(), &other.fd).map_err(Error::os("dup3"))?;
        let fd = Arc::clone(&other.fd);
        Ok(Self { fd, ..self })
    }

    /// Asks for the process of who sends each message. Where the kernel cannot tell, messages come without.
    pub(crate) fn pass_pidfds(&mut self) {
        self.pidfds = control::pass_pidfds(self.as_fd()).unwrap_or(false);
    }

    /// Says whether the socket that this one is connected to is still open; `None` where the kernel does not
    /// say.
    pub(crate) fn has_peer(&self) -> Option<bool> {
        diag::has_peer(self.as_fd()).ok()
    }

    /// Lends the descriptor to who shares it, or knows it for as long as the line is there.
    pub(crate) fn shared_fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Shares the descriptor, for those who wait for it without using the line.
    pub(crate) fn share_fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Returns true if a text of this length does not fit into a datagram.
    pub(crate) fn spills(&self, length: usize) -> bool {
        length > self.inline_max
    }

    /// Sets the longest text, sent or received, in bytes, and raises the send buffer for it.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.bounds.message = bytes;
        // Without it, what does not fit travels in a memfd.
        if let Ok(sndbuf) = sys::raise_sndbuf(self.fd.as_fd(), sndbuf_for(bytes)) {
            self.inline_max = inline_max(sndbuf);
        }
    }

    /// Sets the deepest nesting, sent or received.
    pub(crate) fn set_depth(&mut self, levels: usize) {
        self.bounds = Bounds::new(self.bounds.message, levels);
    }

    /// What each message is held to; who writes one sees to its depth.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Which kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// As long as a server waits before it tries a full datagram peer again.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject::{self, Plan};
    use rustix::io::Errno;

    #[test]
    fn whatever_keeps_a_payload_from_being_read_is_about_that_message_alone() {
        let (left, right) = sys::socketpair(Type::Seqpacket).unwrap();
        let line = Transport::new(left, Kind::Seqpacket, &Limits::default()).unwrap();
        let (mut inbox, payload) = (Inbox::default(), memfd::create(b"{}").unwrap());
        let mut receive = || {
            let fds = [payload.as_fd()];
            sys::sendmsg(right.as_fd(), SPILLED, &fds, None, Wait::Never).unwrap();
            match line.receive(&mut inbox, Wait::Never).unwrap() {
                Heard::Datagram(datagram) => datagram.damage,
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
                assert!(receive().is_none(), "the next");
            }
        }
    }

    #[test]
    fn a_deadline_is_kept_whichever_clone_has_waited_before() {
        let limits = Limits::default();
        let (near, far) = sys::socketpair(Type::Seqpacket).unwrap();
        let line = Transport::new(near, Kind::Seqpacket, &limits).unwrap();
        let time = Duration::from_millis(20);
        let mut inbox = Inbox::default();
        let mut receive = |line: &Transport| {
            let started = Instant::now();
            line.receive_from(&mut inbox, Some(started + time), started)
        };
        assert!(matches!(receive(&line), Err(Error::Deadline)));
        let clone = line.clone();
        sys::sendmsg(far.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
        clone.receive_by(&mut Inbox::default(), None).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut inbox = Inbox::default();
            let started = Instant::now();
            let received = line.receive_from(&mut inbox, Some(started + time), started);
            tell.send(matches!(received, Err(Error::Deadline))).unwrap();
        });
        assert_eq!(told.recv_timeout(DEADLINE), Ok(true));
    }

    #[test]
    fn a_pidfd_that_somebody_else_has_asked_for_is_not_kept() {
        let limits = Limits::default();
        let (left, right) = sys::socketpair(Type::Dgram).unwrap();
        sys::set_passcred(left.as_fd()).unwrap();
        let Ok(true) = control::pass_pidfds(left.as_fd()) else {
            return; // Before Linux 6.5.
        };
        let mut line = Transport::new(left, Kind::Datagram, &limits).unwrap();
        let has_pidfd = |line: &Transport| {
            sys::sendmsg(right.as_fd(), b"{}", &[], None, Wait::Never).unwrap();
            match line.receive(&mut Inbox::default(), Wait::Never).unwrap() {
                Heard::Datagram(datagram) => datagram.pidfd.is_some(),
                _ => unreachable!("it has just been sent"),
            }
        };
        assert!(!has_pidfd(&line));
        line.pass_pidfds();
        assert!(has_pidfd(&line));
    }
}
