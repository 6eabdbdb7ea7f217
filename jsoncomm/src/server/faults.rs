//! A scenario in which system calls fail: a server and its clients, from bind(2) to shutdown.
//!
//! Server and clients share one thread, so that each run makes the same system calls.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails has failed its test"
)]

mod batches;
mod closing;
mod holding;
mod identity;
mod passing;
mod sending;
mod walk;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::*;
use crate::address::Bind;
use crate::client::{Connection, PendingCall, Started};
use crate::error::{CallError, Fault};
use crate::limits::Limits;
use crate::message::Message;
use crate::reply::{Deferred, Reply};
use crate::service::Call;
use crate::sys::inject::{self, Plan};
use crate::sys::socket as sys;
use crate::transport::Kind;

/// The deadline of each wait. A run that takes longer hangs.
const GRACE: Duration = Duration::from_secs(20);

/// Yields until `GRACE` has passed. Turns are not counted: how many are needed depends on other threads and on the load.
fn turns() -> impl Iterator<Item = ()> {
    let until = Instant::now() + GRACE;
    std::iter::repeat(()).take_while(move |()| Instant::now() < until)
}

/// A size in bytes that exceeds a datagram where the send buffer has its smallest size.
const LARGE: usize = 6000;

#[derive(Debug, crate::Message)]
struct Pair {
    #[fd]
    left: OwnedFd,
    #[fd]
    right: OwnedFd,
}

#[crate::service(name = "faults")]
trait Pairs {
    fn double(&mut self, number: u64) -> u64;
    fn swap(&mut self, #[fd] left: OwnedFd, #[fd] right: OwnedFd) -> Pair;
    fn echo(&mut self, text: String) -> String;
    fn later(&mut self, call: &mut Call, #[fd] left: OwnedFd) -> Deferred<Pair>;
    fn relay(&mut self, call: &mut Call, number: u64) -> Deferred<u64>;
}

#[derive(Default)]
struct State {
    waiting: Vec<(OwnedFd, Reply<Pair>)>,
    ticks: usize,
    seen: usize,
    relay: Option<PairsClient<Started>>,
}

impl Pairs for State {
    fn double(&mut self, number: u64) -> u64 {
        2 * number
    }

    fn swap(&mut self, left: OwnedFd, right: OwnedFd) -> Pair {
        Pair {
            left: right,
            right: left,
        }
    }

    fn echo(&mut self, text: String) -> String {
        text
    }

    fn later(&mut self, call: &mut Call, left: OwnedFd) -> Deferred<Pair> {
        call.defer(|reply| self.waiting.push((left, reply)))
    }

    fn relay(&mut self, call: &mut Call, number: u64) -> Deferred<u64> {
        call.defer(|reply| {
            let started = self.relay.as_ref().map(|relay| relay.double(number));
            match started {
                Some(Ok(call)) => call.on_complete(|result| reply.forward(result)),
                Some(Err(error)) => reply.forward(Err(error)),
                None => drop(reply),
            }
        })
    }
}

/// Calls `make`, and once more without the fault if it fails by the fault.
fn persist<T>(mut make: impl FnMut() -> Result<T, Error>) -> T {
    make().unwrap_or_else(|error| {
        assert!(inject::failed() > 0, "no fault: {error:?}");
        inject::end();
        make().unwrap()
    })
}

fn open(path: &Path) -> Connection {
    let connection = persist(|| Connection::open(path));
    // Texts of `LARGE` bytes then travel in a memfd.
    set_socket_send_buffer_size(connection.as_fd(), 2048).unwrap();
    connection
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

/// Makes a socket pair and has the server adopt one end. Returns the other.
fn adopt(server: &mut Server<State>) -> Connection {
    persist(|| {
        let pair = sys::socketpair(sys::Kind::Seqpacket);
        let (ours, theirs) = pair?;
        server.adopt(ours)?.serve::<dyn Pairs>();
        Connection::from_fd(theirs)
    })
}

/// Makes the server drive a connection to itself.
fn drive(server: &mut Server<State>, path: &Path) -> (Token, PairsClient<Started>) {
    let relay = open(path);
    let driven = persist(|| server.drive(&relay));
    (driven, PairsClient::new(relay).start())
}

struct World {
    kind: Kind,
    path: PathBuf,
    server: Server<State>,
    state: State,
    driven: Token,
    /// The other end of a descriptor that the server watches.
    bell: UnixDatagram,
    connection: Connection,
    adopted: Connection,
    /// `run_once` has returned `Break`.
    stopped: bool,
}

impl World {
    fn new(kind: Kind, path: &Path) -> Self {
        let mut limits = Limits::default();
        (limits.retry_backoff, limits.accept_pause) =
            (Duration::from_millis(1), Duration::from_millis(1));
        let mut server = persist(|| Server::new(limits.clone()));
        persist(|| {
            let bind = Bind::at(path);
            // A mode that the umask does not leave is set through it.
            let bind = if jsoncomm_watchdog::has_proc() {
                bind.mode(0o666)
            } else {
                bind
            };
            let endpoint = server.bind(bind, kind)?.with_pidfds().authorize(|_| true);
            let endpoint = endpoint.serve::<dyn Pairs>();
            endpoint.serve::<dyn passing::Passing>();
            Ok(())
        });
        let adopted = adopt(&mut server);
        let bell = persist(|| {
            let (bell, watched) = UnixDatagram::pair().unwrap();
            watched.set_nonblocking(true).unwrap();
            let reader = watched.try_clone().unwrap();
            server.watch(watched, move |state: &mut State, _| {
                while reader.recv(&mut [0]).is_ok() {
                    state.seen += 1;
                }
            })?;
            Ok(bell)
        });
        let (driven, relay) = drive(&mut server, path);
        Self {
            kind,
            path: path.to_owned(),
            server,
            state: State {
                relay: Some(relay),
                ..State::default()
            },
            driven,
            bell,
            connection: open(path),
            adopted,
            stopped: false,
        }
    }

    /// Reconnects, as a program does whose connections may have ended.
    fn reconnect(&mut self) {
        self.server.remove(self.driven);
        let (driven, relay) = drive(&mut self.server, &self.path);
        (self.driven, self.state.relay) = (driven, Some(relay));
        self.adopted = adopt(&mut self.server);
        self.connection = open(&self.path);
    }

    /// Shrinks the send buffers of the server's sockets, so that texts of `LARGE` bytes travel in a memfd.
    fn narrow(&mut self) {
        for bits in 0..64_u64 {
            let key = Key::from_bits((bits >> 4) << 32 | bits & 15);
            let socket = match self.server.reactor.get(key).map(|source| &**source) {
                Some(Source::Datagrams(endpoint)) => endpoint.sender.socket.transport.as_fd(),
                Some(Source::Connection(connection)) => connection.as_fd(),
                _ => continue,
            };
            set_socket_send_buffer_size(socket, 2048).unwrap();
        }
    }

    /// Runs one turn of the server, which waits a little if there is nothing to do.
    fn turn(&mut self) {
        self.turn_within(Duration::from_millis(1));
    }

    fn turn_within(&mut self, timeout: Duration) {
        self.stopped |= match self.server.run_once(&mut self.state, Some(timeout)) {
            Ok(turned) => turned == ControlFlow::Break(()),
            Err(error) => {
                assert!(inject::failed() > 0, "no fault: {error:?}");
                false
            }
        };
    }

    fn turn_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for () in turns() {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("it did not happen: {what}");
    }

    /// Runs the server until a call ends. Returns its reply, or `None` if it failed.
    fn finish<T: Message>(&mut self, started: Result<PendingCall<T>, CallError>) -> Option<T> {
        let mut ended = None;
        match started {
            Ok(mut call) => {
                let dropped = self.server.counts().undelivered;
                self.turn_until("the end of a call", |world| {
                    ended = call.try_wait();
                    // On a datagram socket nothing more can arrive after that.
                    let lost = world.server.counts().undelivered > dropped;
                    ended.is_some() || world.kind == Kind::Datagram && lost
                });
            }
            Err(error) => ended = Some(Err(error)),
        }
        match ended {
            Some(Ok(reply)) => Some(reply),
            Some(Err(error)) => {
                assert!(inject::failed() > 0, "no fault: {error:?}");
                if matches!(error, CallError::Closed) {
                    self.connection = open(&self.path);
                }
                None
            }
            None => None,
        }
    }

    fn stub(&self) -> PairsClient<Started> {
        PairsClient::new(self.connection.clone()).start()
    }

    /// Makes calls of every sort. Returns true if all succeeded.
    fn calls(&mut self) -> bool {
        let double = self.stub().double(2);
        let mut well = self.finish(double) == Some(4);
        self.narrow();
        let swap = self.stub().swap(null(), null());
        well &= self.finish(swap).is_some();
        let text = "x".repeat(LARGE);
        let echo = self.stub().echo(text.clone());
        well &= self.finish(echo) == Some(text);
        well &= self.later();
        well &= self.cancel();
        well &= self.batch() && self.pass();
        let relay = self.stub().relay(4);
        well &= self.finish(relay) == Some(8);
        let adopted = PairsClient::new(self.adopted.clone()).start().double(3);
        let kind = std::mem::replace(&mut self.kind, Kind::Seqpacket);
        let adopted = self.finish(adopted);
        self.kind = kind;
        well && adopted == Some(6)
    }

    /// Makes a call that is replied to between two turns.
    fn later(&mut self) -> bool {
        let call = match self.stub().later(null()) {
            Ok(call) => call,
            failed => return self.finish(failed).is_some(),
        };
        let (refused, dropped) = (
            self.server.counts().refused,
            self.server.counts().undelivered,
        );
        let closed = self.server.stats().connections;
        self.turn_until("a deferred call", |world| {
            let counts = world.server.counts();
            let over = counts.refused > refused || counts.undelivered > dropped;
            over || !world.state.waiting.is_empty() || world.server.stats().connections < closed
        });
        self.send_replies();
        self.finish(Ok(call)).is_some()
    }

    fn send_replies(&mut self) {
        for (left, reply) in std::mem::take(&mut self.state.waiting) {
            let right = null();
            reply.send(Pair { left, right });
        }
    }

    /// Makes a call and cancels it. Returns true if the server has counted that.
    fn cancel(&mut self) -> bool {
        let Ok(call) = self.stub().later(null()) else {
            return false;
        };
        for _ in 0..3 {
            self.turn_within(Duration::ZERO);
        }
        drop(call);
        let cancelled = self.server.counts().cancelled;
        let is_well = |world: &Self| world.server.counts().cancelled > cancelled;
        // After a failed read the cancellation is read a little later. It must not count as that of the next call.
        for _ in 0..20 {
            if is_well(self) {
                break;
            }
            self.turn();
        }
        self.send_replies();
        is_well(self)
    }

    /// Checks that a timer and a watch call back. A fault may only delay them.
    fn events(&mut self) {
        let ticks = self.state.ticks;
        persist(|| {
            let tick = move |state: &mut State, control: &mut Control<State>| {
                state.ticks += 1;
                if state.ticks >= ticks + 2 {
                    control.remove();
                }
            };
            self.server.every(Duration::from_millis(1), tick)
        });
        let seen = self.state.seen;
        self.bell.send(b"x").unwrap();
        self.turn_until("a timer and a watch", |world| {
            world.state.ticks >= ticks + 2 && world.state.seen > seen
        });
    }

    /// Checks that the clients keep nothing of calls that have ended.
    fn look_for_leftovers(&self) {
        for connection in [&self.connection, &self.adopted] {
            connection.run_once().ok();
            assert!(connection.is_idle(), "calls are left at a client");
        }
    }

    /// Shuts the server down while a call is deferred, and checks that nothing is left.
    fn close(mut self) {
        self.look_for_leftovers();
        self.server.remove(self.driven);
        self.state.relay = None;
        let later = self.stub().later(null());
        self.turn_within(Duration::ZERO);
        for grace in [GRACE, Duration::ZERO] {
            if self.stopped {
                // The fault has ended the call already.
                assert!(inject::failed() > 0, "a call is deferred within the grace");
                break;
            }
            if let Err(error) = self.server.shut_down(grace) {
                assert!(inject::failed() > 0, "no fault: {error:?}");
            }
            self.turn_within(Duration::ZERO);
        }
        self.turn_until("the end", |world| world.stopped);
        assert_eq!(self.server.stats().connections, 0);
        self.finish_stopped(later);
        self.look_for_leftovers();
        self.send_replies();
        self.turn_within(Duration::ZERO);
        let pending = &self.server.context.pending;
        assert!(pending.is_idle(), "calls are left at the server");
        // Descriptors are charged until another thread has closed them.
        self.turn_until("no charges", |world| {
            world.server.context.accounts.is_idle()
        });
    }

    /// Checks the reply that the caller of the deferred call got.
    fn finish_stopped(&self, later: Result<PendingCall<Pair>, CallError>) {
        match later.map(|mut call| call.try_wait()) {
            Ok(Some(Err(CallError::Fault(fault)))) if fault.code == Fault::SHUTTING_DOWN => {}
            other => assert!(inject::failed() > 0, "no fault: {other:?}"),
        }
    }
}

/// Makes the socket file that a dead server leaves.
fn leave_dead_socket(path: &Path) {
    if path.as_os_str().len() < 108 {
        return drop(UnixDatagram::bind(path).unwrap());
    }
    let directory = std::fs::File::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let through = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    drop(UnixDatagram::bind(through).unwrap());
}

/// Runs the scenario. Returns how often it made each system call, up to the fault.
fn run(kind: Kind, path: &Path, plan: Option<Plan>) -> BTreeMap<&'static str, usize> {
    leave_dead_socket(path);
    inject::begin(plan);
    let mut world = World::new(kind, path);
    let well = world.calls();
    world.events();
    if inject::failed() > 0 {
        inject::end();
        world.look_for_leftovers();
        world.reconnect();
        assert!(world.calls(), "it does not recover");
        world.events();
    } else {
        assert!(well, "it fails without a fault");
    }
    world.close();
    let counts = inject::counts();
    inject::end();
    counts
}

/// Makes a directory whose paths are too long for a socket address.
fn far(directory: &Path) -> PathBuf {
    if !jsoncomm_watchdog::has_proc() {
        // Only short ones can be bound.
        return directory.into();
    }
    let far = directory.join("d".repeat(100));
    std::fs::create_dir(&far).unwrap();
    far
}

#[test]
fn the_scenario_succeeds_without_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    for kind in [Kind::Seqpacket, Kind::Datagram] {
        run(kind, &directory.path().join(format!("{kind:?}")), None);
    }
    let far = far(directory.path());
    run(Kind::Seqpacket, &far.join("faults.sock"), None);
}

/// Makes the next system call of this name fail.
fn fail(call: &'static str, errno: Errno) {
    fail_at(call, 0, errno);
}

/// Makes one of the next system calls of this name fail.
fn fail_at(call: &'static str, time: usize, errno: Errno) {
    let times = time..time + 1;
    inject::begin(Some(Plan { call, times, errno }));
}

#[test]
fn a_connection_that_fails_to_be_adopted_is_not_counted() {
    let mut server: Server<State> = Server::new(Limits::default()).unwrap();
    let (ours, _theirs) = sys::socketpair(sys::Kind::Seqpacket).unwrap();
    fail("epoll_ctl", Errno::NOMEM);
    assert!(server.adopt(ours).is_err());
    assert_eq!(server.stats().connections, 0);
}

#[test]
fn a_caller_gets_busy_if_no_descriptor_is_left_for_its_reply() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Datagram, &directory.path().join("faults.sock"));
    let mut call = world.stub().later(null()).unwrap();
    world.turn_until("a deferred call", |world| !world.state.waiting.is_empty());
    fail("fcntl", Errno::MFILE);
    world.send_replies();
    let mut reply = None;
    world.turn_until("a reply", |_| {
        reply = call.try_wait();
        reply.is_some()
    });
    let Some(Err(CallError::Fault(fault))) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(fault.code, Fault::BUSY);
}

#[test]
fn the_only_call_ends_if_the_server_cannot_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let mut call = world.stub().echo("x".repeat(LARGE)).unwrap();
    fail("pread", Errno::NOMEM);
    let mut reply = None;
    world.turn_until("a reply", |_| {
        reply = call.try_wait();
        reply.is_some()
    });
    let Some(Err(CallError::Fault(fault))) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(fault.code, Fault::BUSY);
}

#[test]
fn the_only_call_ends_if_its_reply_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let double = world.stub().double(1);
    world.finish(double).unwrap();
    world.narrow();
    let echo = world.stub().echo("x".repeat(LARGE));
    // The first pread is the server's, for the call.
    fail_at("pread", 1, Errno::NOMEM);
    assert!(world.finish(echo).is_none());
    assert_eq!(inject::failed(), 1);
    assert!(world.connection.is_idle());
}

#[test]
fn a_call_that_fails_leaves_nothing_at_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let mut call = world.stub().double(1).unwrap();
    fail("recvmsg", Errno::ACCESS);
    assert!(matches!(call.try_wait(), Some(Err(CallError::Io(_)))));
    assert!(world.connection.is_idle());
}

#[test]
fn a_driven_connection_that_failed_to_receive_tries_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let relayed = |world: &mut World| {
        let relay = world.stub().relay(2);
        world.finish(relay)
    };
    relayed(&mut world);
    inject::begin(None);
    relayed(&mut world);
    for time in 0..inject::counts()["recvmsg"] {
        fail_at("recvmsg", time, Errno::NOMEM);
        assert_eq!((relayed(&mut world), inject::failed()), (Some(4), 1));
    }
}

#[test]
fn a_server_that_is_short_of_memory_retries_by_timer() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let call = world.stub().double(1);
    let (call_name, times, errno) = ("sendto", 0..usize::MAX, Errno::NOBUFS);
    inject::begin(Some(Plan {
        call: call_name,
        times,
        errno,
    }));
    let began = Instant::now();
    for _ in 0..200 {
        world.turn();
    }
    // A pause takes at least a millisecond, and ends with two attempts.
    let most = began.elapsed().as_millis() * 2 + 10;
    let attempts = inject::failed() as u128;
    assert!((2..=most).contains(&attempts), "{attempts} of {most}");
    inject::end();
    assert_eq!(world.finish(call), Some(2));
}
