//! Helpers of the whole-system tests.

#![expect(
    clippy::expect_used,
    reason = "a helper that fails has failed its test"
)]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jsoncomm::{Address, Bind, Connection, Counts, Error, Kind};
use jsoncomm::{Limits, Listener, Remote, Server, Socket};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

/// Longer than any test waits for what should come; a test that gets there has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Both kinds of socket, for tests that hold for either.
pub const KINDS: [Kind; 2] = [Kind::Datagram, Kind::Seqpacket];

/// Two connected sockets that wait no longer than [`PATIENCE`].
pub fn pair(kind: Kind) -> (Socket, Socket) {
    let (mut left, mut right) = Socket::pair(kind).expect("a pair");
    left.set_timeout(Some(PATIENCE));
    right.set_timeout(Some(PATIENCE));
    (left, right)
}

/// Counts the descriptors this process has open and keeps open: what some thread, of the test harness for
/// example, has open for a moment is not counted.
pub fn open_fds() -> usize {
    let list = || -> Vec<_> {
        let entries = std::fs::read_dir("/proc/self/fd").expect("/proc");
        let paths = entries.map(|entry| entry.expect("/proc").path());
        paths
            .map(|path| (std::fs::read_link(&path).ok(), path))
            .collect()
    };
    let until = Instant::now() + PATIENCE;
    let mut seen = list();
    loop {
        assert!(
            Instant::now() < until,
            "descriptors come and go all the time"
        );
        std::thread::yield_now();
        let again = list();
        if again == seen && again.iter().all(|(link, _)| link.is_some()) {
            return again.len();
        }
        seen = again;
    }
}

/// Waits until so many descriptors are open as before: what nobody wants is closed on another thread.
pub fn assert_open_fds(before: usize) {
    let until = Instant::now() + PATIENCE;
    while open_fds() != before && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(open_fds(), before, "descriptors are left");
}

/// Keeps the other tests of the program waiting, so that [`open_fds`] counts only one test's.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    servers_are_gone();
    alone
}

/// Waits until servers that have gone have closed all that they do on another thread.
pub fn servers_are_gone() {
    let closing = || {
        // One test has no /proc.
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
        let mut names = tasks.flatten().map(|task| {
            let name = task.path().join("comm");
            std::fs::read_to_string(name).unwrap_or_default()
        });
        names.any(|name| name.trim() == "jsoncomm-close")
    };
    let until = Instant::now() + PATIENCE;
    while closing() {
        assert!(Instant::now() < until, "something is still being closed");
        std::thread::yield_now();
    }
}

/// A bound socket of either kind.
#[derive(Debug)]
pub enum Bound {
    /// A datagram socket.
    Datagram(Socket),
    /// A listening one.
    Seqpacket(Listener),
}

impl Bound {
    /// Binds to the address.
    ///
    /// # Errors
    ///
    /// As `Socket::bind` and `Listener::bind`.
    pub fn at(at: impl Into<Bind>, kind: Kind) -> Result<Self, Error> {
        Ok(match kind {
            Kind::Datagram => Self::Datagram(Socket::bind(at)?),
            Kind::Seqpacket => Self::Seqpacket(Listener::bind(at)?),
        })
    }

    /// The socket that receives what a new client sends.
    fn receiver(self) -> Socket {
        let mut socket = match self {
            Self::Datagram(socket) => socket,
            Self::Seqpacket(listener) => listener
                .accept()
                .expect("a working listener")
                .expect("a client"),
        };
        socket.set_timeout(Some(PATIENCE));
        socket
    }

    /// Shows that a client of this address reaches this socket.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn reached_at(self, address: impl Into<Address>) {
        let kind = match self {
            Self::Datagram(_) => Kind::Datagram,
            Self::Seqpacket(_) => Kind::Seqpacket,
        };
        let mut client = Socket::connect(address, kind).expect("a server");
        client.send("hello").expect("room");
        let (heard, _) = self.receiver().receive::<String>().expect("a message");
        assert_eq!(heard, "hello");
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Datagram(socket) => socket.as_fd(),
            Self::Seqpacket(listener) => listener.as_fd(),
        }
    }
}

/// Sends bytes and descriptors as they are on a connected socket; waits for room, with [`PATIENCE`].
///
/// # Errors
///
/// What setsockopt(2) and sendmsg(2) report.
pub fn send_raw(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "253");
    }
    sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// A server on a thread of its own, with a socket in a fresh directory; stopped when dropped.
#[derive(Debug)]
pub struct Running<S> {
    /// Where its socket is.
    pub path: PathBuf,
    remote: Remote<S>,
    thread: Option<JoinHandle<(S, Counts)>>,
    _directory: TempDir,
}

impl<S: Send + 'static> Running<S> {
    /// Starts a server with one socket, on which `serve` says what is served.
    pub fn start(
        kind: Kind,
        state: S,
        serve: impl FnOnce(jsoncomm::Endpoint<'_, S>) -> jsoncomm::Endpoint<'_, S>,
    ) -> Self {
        Self::with_limits(Limits::default(), kind, state, serve)
    }

    /// The same with other limits.
    pub fn with_limits(
        limits: Limits,
        kind: Kind,
        mut state: S,
        serve: impl FnOnce(jsoncomm::Endpoint<'_, S>) -> jsoncomm::Endpoint<'_, S>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("test.sock");
        let mut server = Server::new(limits).expect("a server");
        serve(server.bind(&path, kind).expect("a socket"));
        let remote = server.remote();
        let thread = std::thread::spawn(move || {
            server.run(&mut state).expect("the loop goes on");
            (state, server.counts())
        });
        Self {
            path,
            remote,
            thread: Some(thread),
            _directory: directory,
        }
    }

    /// Connects to it, with [`PATIENCE`].
    pub fn connect(&self) -> Connection {
        Connection::open(&self.path)
            .expect("a connection")
            .within(PATIENCE)
    }

    /// Stops it and returns its state and counts.
    pub fn stop(mut self) -> (S, Counts) {
        self.remote.stop();
        let thread = self.thread.take().expect("it runs until it is stopped");
        thread.join().expect("the loop does not panic")
    }
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take() {
            // A test that has failed already says why itself.
            let _ = thread.join();
        }
    }
}
