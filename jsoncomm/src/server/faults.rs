//! A whole scenario, whose system calls may fail: what a server and its clients do from bind(2) to the end.
//!
//! Server and clients share one thread, so that each run makes the same calls.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails has failed its test"
)]

mod closing;
mod holding;
mod identity;
mod sending;
mod walk;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::*;
use crate::address::Bind;
use crate::client::{Connection, PendingCall, Started};
use crate::error::{CallError, Fault};
use crate::message::Message;
use crate::reply::{Deferred, Reply};
use crate::service::Call;
use crate::sys::inject::{self, Plan};
use crate::sys::socket as sys;

/// More turns than anything takes; what has not ended by then hangs.
const TURNS: usize = 500;

/// Longer than all of them take.
const GRACE: Duration = Duration::from_secs(20);

/// Bytes that are too many for a datagram where the send buffer is as small as it can be.
const LARGE: usize = 6000;

#[derive(Debug, crate::Message)]
struct Pair {
    #[fd]
    left: OwnedFd,
    #[fd]
    right: OwnedFd,
}

#[crate::service(name = "faults")]
trait Desk {
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
    relay: Option<DeskClient<Started>>,
}

impl Desk for State {
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
                Some(Ok(call)) => call.on_complete(|answer| reply.forward(answer)),
                Some(Err(error)) => reply.forward(Err(error)),
                None => drop(reply),
            }
        })
    }
}

/// Does what may fail by the fault, which is over then, and does it again.
fn persist<T>(mut make: impl FnMut() -> Result<T, Error>) -> T {
    make().unwrap_or_else(|error| {
        assert!(inject::failed() > 0, "no fault: {error:?}");
        inject::end();
        make().unwrap()
    })
}

fn open(path: &Path) -> Connection {
    let connection = persist(|| Connection::open(path));
    // So that a text that is not large is too large for a datagram.
    set_socket_send_buffer_size(connection.as_fd(), 2048).unwrap();
    connection
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

/// Has the server take over a connection that was made elsewhere; returns the other end.
fn adopt(server: &mut Server<State>) -> Connection {
    persist(|| {
        let pair = sys::socketpair(sys::Kind::Seqpacket);
        let (ours, theirs) = pair?;
        server.adopt(ours)?.serve::<dyn Desk>();
        Connection::from_fd(theirs)
    })
}

/// Has the server drive a connection to itself.
fn drive(server: &mut Server<State>, path: &Path) -> (Token, DeskClient<Started>) {
    let relay = open(path);
    let driven = persist(|| server.drive(&relay));
    (driven, DeskClient::new(relay).start())
}

struct World {
    kind: Kind,
    path: PathBuf,
    server: Server<State>,
    state: State,
    driven: Token,
    /// Sends to a descriptor that the server watches.
    bell: UnixDatagram,
    connection: Connection,
    adopted: Connection,
    /// The server has said so.
    stopped: bool,
}

impl World {
    fn new(kind: Kind, path: &Path) -> Self {
        let mut limits = Limits::default();
        (limits.retry_backoff, limits.accept_pause) =
            (Duration::from_millis(1), Duration::from_millis(1));
        let mut server = persist(|| Server::new(limits.clone()));
        persist(|| {
            let bind = Bind::at(path).mode(0o666);
            let endpoint = server.bind(bind, kind)?;
            let endpoint = endpoint.with_pidfds().authorize(|_| true);
            endpoint.serve::<dyn Desk>();
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

    /// Connects anew, as a program does whose connections may have ended.
    fn reconnect(&mut self) {
        self.server.remove(self.driven);
        let (driven, relay) = drive(&mut self.server, &self.path);
        (self.driven, self.state.relay) = (driven, Some(relay));
        self.adopted = adopt(&mut self.server);
        self.connection = open(&self.path);
    }

    /// The server's socket for the connections so far spills what is not large, too.
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

    /// Has the server do what there is to do, and wait a little if there is nothing.
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
        for _ in 0..TURNS {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("it never came to: {what}");
    }

    /// Has a call end; its answer, if it is one.
    fn finish<T: Message>(&mut self, started: Result<PendingCall<T>, CallError>) -> Option<T> {
        let mut ended = None;
        match started {
            Ok(mut call) => {
                let dropped = self.server.counts().undelivered;
                self.turn_until("the end of a call", |world| {
                    ended = call.try_wait();
                    // On a datagram socket nothing more can come then.
                    let lost = world.server.counts().undelivered > dropped;
                    ended.is_some() || world.kind == Kind::Datagram && lost
                });
            }
            Err(error) => ended = Some(Err(error)),
        }
        match ended {
            Some(Ok(answer)) => Some(answer),
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

    fn stub(&self) -> DeskClient<Started> {
        DeskClient::new(self.connection.clone()).start()
    }

    /// All sorts of calls; says whether all went well.
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
        let relay = self.stub().relay(4);
        well &= self.finish(relay) == Some(8);
        let adopted = DeskClient::new(self.adopted.clone()).start().double(3);
        let kind = std::mem::replace(&mut self.kind, Kind::Seqpacket);
        let adopted = self.finish(adopted);
        self.kind = kind;
        well && adopted == Some(6)
    }

    /// A call that is answered between two turns.
    fn later(&mut self) -> bool {
        let call = match self.stub().later(null()) {
            Ok(call) => call,
            failed => return self.finish(failed).is_some(),
        };
        let (refused, dropped) = (
            self.server.counts().refused,
            self.server.counts().undelivered,
        );
        let closed = self.server.connections;
        self.turn_until("a call that waits", |world| {
            let counts = world.server.counts();
            let over = counts.refused > refused || counts.undelivered > dropped;
            over || !world.state.waiting.is_empty() || world.server.connections < closed
        });
        self.answer();
        self.finish(Ok(call)).is_some()
    }

    fn answer(&mut self) {
        for (left, reply) in std::mem::take(&mut self.state.waiting) {
            let right = null();
            reply.send(Pair { left, right });
        }
    }

    /// A call that is given up.
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
        // What could not be read at once is a little later, and is not to be taken for another call then.
        for _ in 0..20 {
            if is_well(self) {
                break;
            }
            self.turn();
        }
        self.answer();
        is_well(self)
    }

    /// Timers and watches never fail, at most they are late.
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

    /// Looks whether the clients have forgotten what has ended.
    fn look_for_leftovers(&self) {
        for connection in [&self.connection, &self.adopted] {
            connection.run_once().ok();
            assert!(connection.is_idle(), "calls are left at a client");
        }
    }

    /// Stops the server while a call waits, and looks what is left of it all.
    fn close(mut self) {
        self.look_for_leftovers();
        self.server.remove(self.driven);
        self.state.relay = None;
        let later = self.stub().later(null());
        self.turn_within(Duration::ZERO);
        for grace in [GRACE, Duration::ZERO] {
            if self.stopped {
                // A fault has ended the call already.
                assert!(inject::failed() > 0, "somebody still waits, and may");
                break;
            }
            if let Err(error) = self.server.shut_down(grace) {
                assert!(inject::failed() > 0, "no fault: {error:?}");
            }
            self.turn_within(Duration::ZERO);
        }
        self.turn_until("the end", |world| world.stopped);
        assert_eq!(self.server.connections, 0);
        self.finish_stopped(later);
        self.look_for_leftovers();
        self.answer();
        self.turn_within(Duration::ZERO);
        let pending = &self.server.context.pending;
        assert!(pending.is_idle(), "calls are left at the server");
        // What another thread closes is charged until it has.
        self.turn_until("nobody charged", |world| {
            world.server.context.accounts.is_idle()
        });
    }

    /// Looks what the caller was told that the server has left waiting.
    fn finish_stopped(&self, later: Result<PendingCall<Pair>, CallError>) {
        match later.map(|mut call| call.try_wait()) {
            Ok(Some(Err(CallError::Fault(fault)))) if fault.code == Fault::SHUTTING_DOWN => {}
            told => assert!(inject::failed() > 0, "no fault: {told:?}"),
        }
    }
}

/// Makes what a dead server leaves.
fn leave_dead_socket(path: &Path) {
    let directory = std::fs::File::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let through = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    drop(UnixDatagram::bind(through).unwrap());
}

/// One run. The calls it makes are counted until the fault has come.
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

/// A directory whose paths are too long for the kernel.
fn far(directory: &Path) -> PathBuf {
    let far = directory.join("d".repeat(100));
    std::fs::create_dir(&far).unwrap();
    far
}

#[test]
fn all_goes_well_without_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    for kind in [Kind::Seqpacket, Kind::Datagram] {
        run(kind, &directory.path().join(format!("{kind:?}")), None);
    }
    let far = far(directory.path());
    run(Kind::Seqpacket, &far.join("faults.sock"), None);
}

/// Has the next call of this name fail.
fn fail(call: &'static str, errno: Errno) {
    fail_at(call, 0, errno);
}

/// Has one of the next calls of this name fail.
fn fail_at(call: &'static str, time: usize, errno: Errno) {
    let times = time..time + 1;
    inject::begin(Some(Plan { call, times, errno }));
}

#[test]
fn a_connection_that_is_not_adopted_is_not_counted() {
    let mut server: Server<State> = Server::new(Limits::default()).unwrap();
    let (ours, _theirs) = sys::socketpair(sys::Kind::Seqpacket).unwrap();
    fail("epoll_ctl", Errno::NOMEM);
    assert!(server.adopt(ours).is_err());
    assert_eq!(server.connections, 0);
}

#[test]
fn a_caller_is_told_when_descriptors_have_run_out_for_its_answer() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Datagram, &directory.path().join("faults.sock"));
    let mut call = world.stub().later(null()).unwrap();
    world.turn_until("a call that waits", |world| !world.state.waiting.is_empty());
    fail("fcntl", Errno::MFILE);
    world.answer();
    let mut answer = None;
    world.turn_until("an answer", |_| {
        answer = call.try_wait();
        answer.is_some()
    });
    let Some(Err(CallError::Fault(fault))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(fault.code, Fault::BUSY);
}

#[test]
fn a_call_that_the_server_cannot_read_ends_when_it_is_the_only_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let mut call = world.stub().echo("x".repeat(LARGE)).unwrap();
    fail("pread", Errno::NOMEM);
    let mut answer = None;
    world.turn_until("an answer", |_| {
        answer = call.try_wait();
        answer.is_some()
    });
    let Some(Err(CallError::Fault(fault))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(fault.code, Fault::BUSY);
}

#[test]
fn a_call_whose_answer_cannot_be_read_ends_when_it_is_the_only_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let double = world.stub().double(1);
    world.finish(double).unwrap();
    world.narrow();
    let echo = world.stub().echo("x".repeat(LARGE));
    // After that of the server.
    fail_at("pread", 1, Errno::NOMEM);
    assert!(world.finish(echo).is_none());
    assert_eq!(inject::failed(), 1);
    assert!(world.connection.is_idle());
}

#[test]
fn a_call_that_ends_with_an_error_leaves_nothing_at_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(Kind::Seqpacket, &directory.path().join("faults.sock"));
    let mut call = world.stub().double(1).unwrap();
    fail("recvmsg", Errno::ACCESS);
    assert!(matches!(call.try_wait(), Some(Err(CallError::Io(_)))));
    assert!(world.connection.is_idle());
}

#[test]
fn a_driven_connection_that_could_not_receive_looks_again() {
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
fn a_server_that_is_short_of_memory_waits_by_the_clock() {
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
    // The pause is a millisecond here, and each time it is tried twice.
    let most = began.elapsed().as_millis() * 2 + 10;
    let attempts = inject::failed() as u128;
    assert!((2..=most).contains(&attempts), "{attempts} of {most}");
    inject::end();
    assert_eq!(world.finish(call), Some(2));
}
