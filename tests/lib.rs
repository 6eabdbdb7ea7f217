//! Helpers of the whole-system tests.

#![expect(
    clippy::expect_used,
    reason = "a helper that fails has failed its test"
)]

use std::fmt;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jsoncomm::address::{Address, Bind};
use jsoncomm::observe::Counts;
use jsoncomm::observe::Stats;
use jsoncomm::server::ServerHandle;
use jsoncomm::socket::{Listener, Socket};
use jsoncomm::{Connection, Error, Kind};
use jsoncomm::{Limits, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::pwrite;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

pub use jsoncomm_watchdog::{
    alone, has_proc, is_alone, needs_proc, program_file, scaled, skip, this_program,
};

/// Timeout of each wait in a test. A test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Both kinds of socket, for tests that hold for either.
pub const KINDS: [Kind; 2] = [Kind::Datagram, Kind::Seqpacket];

/// Returns two connected sockets with [`PATIENCE`] as their timeout.
pub fn pair(kind: Kind) -> (Socket, Socket) {
    let (mut left, mut right) = Socket::pair(kind).expect("a pair");
    left.set_timeout(Some(PATIENCE));
    right.set_timeout(Some(PATIENCE));
    (left, right)
}

/// Returns true if the test can start processes of other users. If not, says that the test is skipped.
pub fn can_be_others() -> bool {
    /// Not the id of any user.
    const STRANGER: u32 = 4711;
    // Root of a user namespace has few ids, and root of a sandbox may lack the capability.
    let other = Command::new("true").uid(STRANGER).gid(STRANGER).status();
    let can = other.is_ok_and(|status| status.success());
    if !can {
        skip("only root with all user ids can be another user");
    }
    can
}

/// Returns true if the kernel has this version or a later one.
pub fn has_linux(version: (u32, u32)) -> bool {
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy().into_owned();
    let numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let mut numbers = numbers.fuse();
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// Returns the memory of this process that is no part of a file, in KiB; 0 without proc. Pages of files come and go as the
/// kernel likes.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.map_or(0, |number| number.parse().expect("a number"))
}

/// Counts the open descriptors of this process, without those that a thread, of the test harness for example, has open
/// for a moment.
///
/// # Panics
///
/// In a test that is not [`alone!`].
pub fn open_fds() -> usize {
    let alone = std::env::var_os(jsoncomm_watchdog::ALONE).is_some();
    assert!(alone, "a test that counts begins with alone!()");
    if !has_proc() {
        return 0;
    }
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

/// Waits until as many descriptors are open as before. Unused ones are closed on another thread.
pub fn assert_open_fds(before: usize) {
    if !has_proc() {
        return;
    }
    let until = Instant::now() + PATIENCE;
    while open_fds() != before && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(open_fds(), before, "descriptors are left");
}

/// Returns the name that /proc gives to what a descriptor refers to.
///
/// # Panics
///
/// Without /proc.
pub fn file_of(fd: impl AsFd) -> PathBuf {
    let number = fd.as_fd().as_raw_fd();
    std::fs::read_link(format!("/proc/self/fd/{number}")).expect("/proc")
}

/// Waits until this process has no descriptor of a file. close(2) of the last one may still block.
///
/// # Panics
///
/// When that takes too long.
#[track_caller]
pub fn wait_until_closed(file: &Path) {
    if !has_proc() {
        return;
    }
    let is_open = || {
        let entries = std::fs::read_dir("/proc/self/fd").expect("/proc");
        let mut files = entries.flat_map(|entry| std::fs::read_link(entry?.path()));
        files.any(|open| open == file)
    };
    wait_until(|| !is_open());
}

/// Polls a condition until it is true.
///
/// # Panics
///
/// When that takes too long.
#[track_caller]
pub fn wait_until(mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "the condition is still false");
        std::thread::yield_now();
    }
}

/// Waits until a descriptor is readable. A pidfd is when its process has ended.
///
/// # Panics
///
/// When that takes too long.
#[track_caller]
pub fn wait_for(on: impl AsFd + fmt::Debug, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).expect("some seconds");
    let ready = poll(&mut [PollFd::new(&on, PollFlags::IN)], Some(&left));
    assert_eq!(ready, Ok(1), "nothing came from {on:?} in time");
}

/// Makes the command that runs a script of ours, in which each warning is an error.
pub fn python(script: impl AsRef<Path>) -> Command {
    let mut command = Command::new("python3");
    command.args(["-B", "-W", "error"]).arg(script.as_ref());
    command
}

/// Runs a script with tests in Python's `unittest`.
///
/// # Panics
///
/// When one fails, or when there are none.
#[track_caller]
pub fn assert_python_tests_pass(command: &mut Command) {
    let ended = command
        .output()
        .expect("these tests need `python3` (3.9 or newer) in PATH");
    let report = String::from_utf8_lossy(&ended.stderr);
    let passed = ended.status.success() && report.contains("\nOK");
    assert!(passed && !report.contains("Ran 0 tests"), "{report}");
}

/// Builds an example, if that has not been done yet, and returns its path. `features` are those of its package.
///
/// Selects the packages that `cargo test` does, so that nothing is compiled once more with other features.
///
/// # Panics
///
/// When it cannot be built.
pub fn built_example(name: &str, features: &[&str]) -> PathBuf {
    // Set by what runs the programs where cargo cannot.
    if std::env::var_os("JSONCOMM_TESTS_BUILT").is_none() {
        build_example(name, features);
    }
    // Beside the folder of the test's own program.
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.expect("this test has a path");
    let folder = program.ancestors().nth(2).expect("a folder");
    folder.join("examples").join(name)
}

fn build_example(name: &str, features: &[&str]) {
    let features = features
        .iter()
        .map(|name| format!("jsoncomm-examples/{name}"));
    jsoncomm_watchdog::allow(jsoncomm_watchdog::COMPILING);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", name])
        .args((!cfg!(debug_assertions)).then_some("--release"))
        .args(features.flat_map(|feature| [String::from("--features"), feature]))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    jsoncomm_watchdog::allow(jsoncomm_watchdog::LIMIT);
    assert!(built.expect("cargo runs").success(), "{name}");
}

/// Returns the root files of a package's test programs, from its manifest.
///
/// # Panics
///
/// When it names none.
pub fn programs_of(package: &Path) -> Vec<PathBuf> {
    let manifest = std::fs::read_to_string(package.join("Cargo.toml")).expect("a manifest");
    let sections = manifest.split("[[test]]").skip(1);
    let paths = sections.map(|section| {
        let (_, path) = section.split_once("path = \"").expect("a path");
        package.join(path.split('"').next().unwrap_or_default())
    });
    let programs: Vec<PathBuf> = paths.collect();
    assert!(!programs.is_empty(), "{}", package.display());
    programs
}

/// Waits until the threads that close descriptors for dropped servers have ended.
#[track_caller]
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
    wait_until(|| !closing());
}

/// A bound socket of either kind.
#[expect(clippy::large_enum_variant, reason = "a test has one or two")]
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

    /// Returns the socket that receives what a new client sends.
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

    /// Asserts that a client of this address reaches this socket.
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
        let (received, _) = self.receiver().receive::<String>().expect("a message");
        assert_eq!(received, "hello");
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

/// Sends bytes and descriptors unchanged on a connected socket. Waits for room, up to [`PATIENCE`].
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

/// The datagram whose text is in the memfd that it carries as descriptor 0.
pub const SPILLED: &str = "<args-via-fd>";

/// Returns a memfd that contains this.
///
/// # Panics
///
/// When it cannot be made.
pub fn memfd(text: &[u8]) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("test", flags).expect("a memfd");
    assert_eq!(pwrite(&fd, text, 0).expect("room in memory"), text.len());
    fd
}

/// Sends a text unchanged, in a memfd if it is too large for a datagram of older kernels.
///
/// # Errors
///
/// As of [`send_raw`].
pub fn send_text(socket: impl AsFd, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if text.len() <= 100_000 {
        return send_raw(socket, text, fds);
    }
    let memfd = memfd(text);
    let all = [&[memfd.as_fd()], fds].concat();
    send_raw(socket, SPILLED.as_bytes(), &all)
}

/// A descriptor whose last close(2) blocks.
#[derive(Debug)]
pub struct Slow {
    /// The descriptor.
    pub fd: OwnedFd,
    /// Ends the blocking when it is dropped.
    pub end: TcpStream,
}

/// Returns a TCP connection whose close(2) lingers for an hour over data that the other end does not read.
///
/// # Panics
///
/// Without a loopback device.
pub fn lingering() -> Slow {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("an address");
    let mut near = TcpStream::connect(address).expect("a listener");
    let (end, _) = listener.accept().expect("a connection");
    near.set_nonblocking(true).expect("fcntl");
    while near.write(&[0; 1 << 16]).is_ok() {}
    near.set_nonblocking(false).expect("fcntl");
    set_socket_linger(&near, Some(Duration::from_secs(3600))).expect("setsockopt");
    let fd = near.into();
    Slow { fd, end }
}

/// Returns a socket whose unread message carries a connection that is slow to close, made by [`lingering`].
///
/// # Panics
///
/// If [`lingering`] panics, or no socket can be made.
pub fn nested() -> Slow {
    let (near, through) = UnixDatagram::pair().expect("a pair");
    let Slow { fd, end } = lingering();
    send_raw(&through, b"x", &[fd.as_fd()]).expect("room");
    drop(fd);
    let fd = near.into();
    Slow { fd, end }
}

/// A server on its own thread, with a socket in a new directory. Stops when it is dropped.
#[derive(Debug)]
pub struct Running<S> {
    /// Where its socket is.
    pub path: PathBuf,
    /// Reaches the server.
    pub handle: ServerHandle<S>,
    thread: Option<JoinHandle<(S, Counts)>>,
    _directory: TempDir,
}

impl<S: Send + 'static> Running<S> {
    /// Starts a server with one socket. `serve` registers the services.
    pub fn start(
        kind: Kind,
        state: S,
        serve: impl FnOnce(jsoncomm::Endpoint<'_, S>) -> jsoncomm::Endpoint<'_, S>,
    ) -> Self {
        Self::with_limits(Limits::default(), kind, state, serve)
    }

    /// Starts a server with these limits.
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
        let handle = server.handle();
        let thread = std::thread::spawn(move || {
            server.run(&mut state).expect("the loop goes on");
            (state, server.counts())
        });
        Self {
            path,
            handle,
            thread: Some(thread),
            _directory: directory,
        }
    }

    /// Connects to the server, with [`PATIENCE`] as the timeout.
    pub fn connect(&self) -> Connection {
        Connection::open(&self.path)
            .expect("a connection")
            .with_timeout(PATIENCE)
    }

    /// Returns the statistics of the server.
    pub fn stats(&self) -> Stats {
        let (sender, receiver) = channel();
        self.handle.post(move |server| {
            let _ = sender.send(server.stats());
        });
        receiver.recv_timeout(PATIENCE).expect("the loop goes on")
    }

    /// Waits until the server has this number of connections, no deferred call and no reply in its backlog.
    #[track_caller]
    pub fn assert_busy_with(&self, connections: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats();
            let found = (stats.connections, stats.deferred, stats.backlog);
            if found == (connections, 0, 0) {
                return;
            }
            assert!(Instant::now() < until, "{stats:?}");
        }
    }

    /// Waits until the server has ended its current turn and dropped what that held.
    pub fn finish_turn(&self) {
        let (sender, receiver) = channel();
        self.handle.post(move |_| {
            // Fails only when the test has failed and stopped waiting.
            let _ = sender.send(());
        });
        receiver.recv_timeout(PATIENCE).expect("it runs");
    }

    /// Runs a function while the loop is blocked: what is sent meanwhile is received afterwards.
    ///
    /// # Panics
    ///
    /// When the loop does not get there in time.
    pub fn while_blocked<T>(&self, then: impl FnOnce() -> T) -> T {
        let ((sender, receiver), (release, held)) = (channel(), channel::<()>());
        self.handle.post(move |_| {
            let _ = sender.send(());
            // Ends when the sender is dropped, also when the test fails.
            let _ = held.recv_timeout(PATIENCE);
        });
        receiver.recv_timeout(PATIENCE).expect("it runs");
        let done = then();
        drop(release);
        done
    }

    /// Stops the server and returns its state and counts.
    pub fn stop(mut self) -> (S, Counts) {
        self.handle.stop();
        let thread = self.thread.take().expect("it runs until it is stopped");
        thread.join().expect("the loop does not panic")
    }
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its test.
            let _ = thread.join();
        }
    }
}
