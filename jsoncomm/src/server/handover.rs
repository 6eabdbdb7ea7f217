//! Handing a server's sockets over to the next process, without losing a client.
//!
//! A [`Handover`] holds the sockets and, as rows of JSON, what belongs to them. It passes through one descriptor: a socket in
//! which everything is queued, the rows in a memfd. So no limit on descriptors of one message, of a service manager's
//! store or on environment variables matters, and who gets the descriptor gets all of it, once.

mod leaving;
mod state;
mod taking;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;

use crate::error::{Error, HandoverProblem};
use crate::fds::{FDS_MAX, inherit, inherited_fd};
use crate::limits::{Bounds, Depth};
use crate::socket::{Listening, kind_of};
use crate::sys::control::{Wait, peer_credentials};
use crate::sys::file::euid;
use crate::sys::{opaque_debug, process, socket as sys};
use crate::transport::{Datagram, Inbox, Kind, Packet, ReceiveOutcome, SendAttempt, Transport};
use state::{State, damaged};

/// The sockets of a server on their way to the next process, with all that belongs to them.
///
/// [`Server::hand_over`](crate::Server::hand_over) makes it, and [`Server::take_over`](crate::Server::take_over) goes on with it.
/// Between the two nobody serves: clients wait, and notice nothing else.
///
/// | what | travels |
/// |---|---|
/// | listening sockets, with the connections that wait there | yes |
/// | accepted and [adopted](crate::Server::adopt) connections, with the messages that are unread in them | yes |
/// | [sessions](crate::Server::sessions), with their tags, owners and what is unread in them | yes |
/// | datagram sockets, with what is unread in them | yes |
/// | replies that have found no room, with their descriptors | yes |
/// | the files of sockets, to be removed by the last server | yes |
/// | who is at the other end, as [`peer_is`](crate::Endpoint::peer_is) has said; otherwise the kernel is asked again | yes |
/// | what counts against each user | yes |
/// | timers, watches, driven connections, the program's state, counters | no |
///
/// # Ways to the next process
///
/// | way | here | there |
/// |---|---|---|
/// | exec: the same process with another program | [`exec`](Handover::exec) | [`inherited`](Handover::inherited) |
/// | a socket to another process | [`to_fd`](Handover::to_fd), sent as a descriptor | [`from_fd`](Handover::from_fd) |
/// | the store of a service manager (`FDSTORE=1`, sd_notify(3)) | `to_fd`, stored as one descriptor | `from_fd` |
///
/// The next process decides who the peers are by what it is told, so it has to trust the one before. A handover that was made
/// by a user who is neither root nor the process's own is refused.
///
/// # Dropping it
///
/// Dropping it closes the sockets, unless another process has them by then. No file is removed.
///
/// # Examples
///
/// A daemon that replaces itself when it is told to:
///
/// ```no_run
/// use jsoncomm::server::Handover;
/// use jsoncomm::{Endpoint, Error, Kind, Limits, Server};
/// use std::process::Command;
/// use std::time::Duration;
///
/// #[jsoncomm::service(name = "example.clock")]
/// trait Clock {
///     fn now(&mut self) -> u64;
/// }
/// # struct Daemon;
/// # impl Clock for Daemon { fn now(&mut self) -> u64 { 0 } }
///
/// fn serve(_name: &str, endpoint: Endpoint<'_, Daemon>) -> Result<(), Error> {
///     endpoint.authorize(|peer| peer.uid() == 0).serve::<dyn Clock>();
///     Ok(())
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut server = Server::new(Limits::default())?;
///     match Handover::inherited()? {
///         Some(handover) => server.take_over(handover, serve)?,
///         None => serve("clock", server.bind("/run/clock.sock", Kind::Seqpacket)?)?,
///     }
///     let mut daemon = Daemon;
///     server.run(&mut daemon)?; // until something stops it
///     let handover = server.hand_over(&mut daemon, Duration::from_secs(1))?;
///     // The path of the new version, which `/proc/self/exe` is not. It returns only if it fails.
///     Err(handover.exec(&mut Command::new("/usr/libexec/clock")).into())
/// }
/// ```
pub struct Handover {
    state: State,
    /// In the order that `state` says.
    fds: Vec<OwnedFd>,
}

opaque_debug!(Handover);

/// What the first message begins with; the format's number follows.
const MAGIC: &[u8] = b"jsoncomm-handover ";

/// The number of the format. Another one is refused.
const FORMAT: u32 = 1;

/// The text of each message with descriptors.
const DESCRIPTORS: &[u8] = b"descriptors";

/// The longest state, in bytes. More would be a mistake.
const STATE_MAX: usize = 1 << 30;

/// Names the descriptor and the process for [`Handover::inherited`].
const VARIABLE: &str = "JSONCOMM_HANDOVER";

/// The limits of the messages in which a handover travels.
const BOUNDS: Bounds = Bounds {
    message: STATE_MAX,
    depth: Depth::MAX,
};

impl Handover {
    /// Returns a socket in which all of this is queued, for [`from_fd`](Handover::from_fd) in another process.
    ///
    /// It is close-on-exec. It is received once: who receives from a copy of it later finds it empty. The descriptors in it are
    /// duplicates, so that the handover can be [taken back](crate::Server::take_over) here if the other process does not come;
    /// drop it when that process has received the socket.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what socketpair(2), memfd_create(2) and sendmsg(2) report: `ETOOMANYREFS` if more descriptors are in flight than
    /// `RLIMIT_NOFILE` allows. [`Error::Handover`] if it does not fit into a socket. The handover is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::server::Handover;
    /// use jsoncomm::{Kind, Limits, Server};
    /// use std::time::Duration;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("next.sock");
    ///
    /// let mut server = Server::new(Limits::default())?;
    /// server.bind(&path, Kind::Seqpacket)?.named("everyone");
    /// let fd = server.hand_over(&mut (), Duration::ZERO)?.to_fd()?;
    ///
    /// // In the next process:
    /// let mut next = Server::<()>::new(Limits::default())?;
    /// next.take_over(Handover::from_fd(fd)?, |name, _endpoint| {
    ///     assert_eq!(name, "everyone");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_fd(&self) -> Result<OwnedFd, Error> {
        let (near, far) = sys::socketpair(Kind::Seqpacket)?;
        let transport = Transport::new(far, Kind::Seqpacket, BOUNDS)?;
        let magic = [MAGIC, FORMAT.to_string().as_bytes()].concat();
        queue(transport.send(&magic, &[], None, Wait::Never)?)?;
        let text = self.state.write()?;
        // In a memfd whatever its size, so that the socket has room for the rest.
        let state = Packet {
            text: &text,
            fds: &[],
            to: None,
            wait: Wait::Never,
        };
        let sent = transport.send_with_fds(state, None, &mut |_, _| true)?;
        queue(sent.unwrap_or(SendAttempt::Full))?;
        for fds in self.fds.chunks(FDS_MAX) {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            queue(transport.send(DESCRIPTORS, &fds, None, Wait::Never)?)?;
        }
        Ok(near)
    }

    /// Receives what [`to_fd`](Handover::to_fd) has queued in a socket. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::Handover`] if the descriptor is something else, damaged, incomplete, of another format or another user's;
    /// [`Error::Os`] for what recvmsg(2) reports. It is closed with all that is in it.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        if kind_of(fd.as_fd(), Listening::No).ok() != Some(Kind::Seqpacket) {
            return Err(Error::Handover(HandoverProblem::Other));
        }
        let uid = peer_credentials(fd.as_fd())?.uid;
        if ![0, euid()].contains(&uid) {
            return Err(Error::Handover(HandoverProblem::Foreign { uid }));
        }
        let transport = Transport::new(fd, Kind::Seqpacket, BOUNDS)?;
        let mut inbox = Inbox::of_one_peer();
        let first = receive(&transport, &mut inbox)?;
        check_format(inbox.text(&first)).map_err(Error::Handover)?;
        let second = receive(&transport, &mut inbox)?;
        let state = State::read(inbox.text(&second)).map_err(Error::Handover)?;
        let damaged = |reason| Error::Handover(damaged(reason));
        let count = state.descriptors();
        let count = count.ok_or_else(|| damaged("too many descriptors"))?;
        let mut fds = Vec::new();
        while fds.len() < count {
            let datagram = receive(&transport, &mut inbox)?;
            if datagram.fds.is_empty() {
                return Err(damaged("a message without descriptors"));
            }
            fds.extend(datagram.fds);
        }
        let next = transport.receive(&mut inbox, Wait::Never)?;
        let is_over = matches!(next, ReceiveOutcome::Closed | ReceiveOutcome::Empty);
        if fds.len() > count || !is_over {
            return Err(damaged("more descriptors than it names"));
        }
        state.check(&fds).map_err(Error::Handover)?;
        Ok(Self { state, fds })
    }

    /// Replaces this program by `program`, which goes on with [`inherited`](Handover::inherited). Returns only if that fails.
    ///
    /// The process keeps its id, so a service manager notices nothing. A variable of the environment, `JSONCOMM_HANDOVER`,
    /// names the descriptor and this process. Destructors do not run, and other threads end ([execve(2)]). If it fails, make a
    /// new command to try again: this one keeps what it was to pass on until it is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`to_fd`](Handover::to_fd), and [`Error::Os`] for what execve(2) reports. The handover is unchanged and can be
    /// [taken back](crate::Server::take_over).
    ///
    /// [execve(2)]: https://man7.org/linux/man-pages/man2/execve.2.html
    #[must_use = "it returns only if it fails"]
    pub fn exec(&self, program: &mut Command) -> Error {
        let inherited = self.to_fd().and_then(|fd| {
            inherit(program, fd).map_err(|source| Error::Os {
                operation: "fcntl",
                source,
            })
        });
        let number = match inherited {
            Ok(number) => number,
            Err(error) => return error,
        };
        let value = format!("{number}:{}", std::process::id());
        process::exec(program.env(VARIABLE, value)).into()
    }

    /// Returns what this process was given by [`exec`](Handover::exec), if it was. Call it once, early: see
    /// [`inherited_fd`].
    ///
    /// The variable `JSONCOMM_HANDOVER` stays in the environment, and means nothing to programs that this one starts.
    ///
    /// # Errors
    ///
    /// Those of [`from_fd`](Handover::from_fd), and [`Error::Os`] if the descriptor that the variable names is not there or has
    /// been taken.
    pub fn inherited() -> Result<Option<Self>, Error> {
        let Ok(value) = std::env::var(VARIABLE) else {
            return Ok(None);
        };
        let (number, process) = value.split_once(':').unwrap_or_default();
        if process != std::process::id().to_string() {
            return Ok(None);
        }
        let number = number.parse();
        let number = number.map_err(|_| Error::Handover(HandoverProblem::Other))?;
        let fd = inherited_fd(number).map_err(|source| Error::Os {
            operation: "fcntl",
            source,
        })?;
        Self::from_fd(fd).map(Some)
    }
}

/// Returns an error unless the message has been queued.
fn queue(attempt: SendAttempt) -> Result<(), Error> {
    match attempt {
        SendAttempt::Sent => Ok(()),
        SendAttempt::Full => Err(Error::Handover(HandoverProblem::TooLarge)),
        SendAttempt::Exhausted(error) => Err(error.into()),
    }
}

/// Receives the next message of a handover.
fn receive(transport: &Transport, inbox: &mut Inbox) -> Result<Datagram, Error> {
    match transport.receive(inbox, Wait::Never)? {
        ReceiveOutcome::Datagram(mut datagram) => match datagram.damage.take() {
            Some(damage) => Err(damage),
            None => Ok(datagram),
        },
        ReceiveOutcome::Empty | ReceiveOutcome::Closed => {
            Err(Error::Handover(HandoverProblem::Incomplete))
        }
        // The kernel has no memory: nothing is lost, but nobody would try again.
        ReceiveOutcome::Exhausted => Err(Error::Handover(HandoverProblem::Incomplete)),
    }
}

/// Checks the first message.
fn check_format(text: &[u8]) -> Result<(), HandoverProblem> {
    let number = text.strip_prefix(MAGIC);
    let number = number.and_then(|number| std::str::from_utf8(number).ok());
    match number.and_then(|number| number.parse().ok()) {
        None => Err(HandoverProblem::Other),
        Some(FORMAT) => Ok(()),
        Some(found) => Err(HandoverProblem::Format {
            found,
            known: FORMAT,
        }),
    }
}

/// Takes the next `count` descriptors.
fn take(fds: &mut impl Iterator<Item = OwnedFd>, count: usize) -> Vec<OwnedFd> {
    fds.take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;
    use crate::sys::inject::{self, Plan};
    use crate::{Connection, Limits};
    use rustix::io::Errno;
    use std::time::Duration;

    #[test]
    fn a_handover_that_cannot_be_passed_on_or_received_is_whole_or_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("next.sock");
        let mut server = Server::<()>::new(Limits::default()).unwrap();
        server.bind(&path, Kind::Seqpacket).unwrap();
        let _client = Connection::open(&path).unwrap();
        let _ = server.run_once(&mut (), None).unwrap();
        let handover = server.hand_over(&mut (), Duration::ZERO).unwrap();
        let calls = [
            "socketpair",
            "getsockopt",
            "sendto",
            "memfd_create",
            "pwrite",
            "sendmsg",
        ];
        for call in calls {
            let (times, errno) = (0..usize::MAX, Errno::NOMEM);
            inject::begin(Some(Plan { call, times, errno }));
            let passed = handover.to_fd();
            inject::begin(None);
            assert!(passed.is_err(), "{call}");
        }
        for call in ["getsockopt", "recvmsg", "pread", "fcntl"] {
            let fd = handover.to_fd().unwrap();
            let (times, errno) = (0..usize::MAX, Errno::NOMEM);
            inject::begin(Some(Plan { call, times, errno }));
            let received = Handover::from_fd(fd);
            inject::begin(None);
            assert!(received.is_err(), "{call}");
        }
        server.take_over(handover, |_, _| Ok(())).unwrap();
        assert_eq!(server.stats().connections, 1);
    }
}
