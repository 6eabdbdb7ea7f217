//! A forked child that continues without execve(2): it has copies of all that its parent has, and must not affect it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails has failed its test"
)]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use jsoncomm_watchdog::alone;
use rustix::net::sockopt::{set_socket_linger, socket_linger};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::*;
use crate::address::{Registry, safe_folder};
use crate::client::{Connection, Items, PendingCall};
use crate::error::CallError;
use crate::limits::Limits;
use crate::message::WithFds;
use crate::peer::Peer;
use crate::reply::{Reply, Stream, StreamSender};
use crate::service::Call;
use crate::socket::{Listener, Received, Socket};
use crate::sys::control::{end_child, fork};
use crate::transport::Kind;

const KINDS: [Kind; 2] = [Kind::Datagram, Kind::Seqpacket];

/// The deadline of each wait.
const PATIENCE: Duration = Duration::from_secs(60);

#[crate::service(name = "forked")]
trait Counter {
    fn double(&mut self, number: u64) -> u64;
    /// `release` sends the reply.
    fn kept(&mut self, call: &mut Call) -> crate::reply::Deferred<u64>;
    fn release(&mut self) -> u64;
    fn count(&mut self, call: &mut Call, end: u64) -> Stream<u64>;
    /// Forks a child.
    fn forks(&mut self) -> u64;
}

#[derive(Default)]
struct State {
    kept: Vec<Reply<u64>>,
    sinks: Vec<StreamSender<u64>>,
    /// The child that `forks` has made; `None` in the child.
    child: Option<i32>,
    /// The sessions that have ended.
    ended: Vec<u64>,
}

impl Counter for State {
    fn double(&mut self, number: u64) -> u64 {
        2 * number
    }

    fn kept(&mut self, call: &mut Call) -> crate::reply::Deferred<u64> {
        call.defer(|reply| self.kept.push(reply))
    }

    fn release(&mut self) -> u64 {
        self.kept.drain(..).for_each(|reply| reply.send(7));
        let sinks = self.sinks.drain(..);
        sinks.for_each(|sink| {
            sink.send(&8).unwrap();
            sink.end();
        });
        0
    }

    fn count(&mut self, call: &mut Call, _end: u64) -> Stream<u64> {
        call.stream(|sink| self.sinks.push(sink))
    }

    fn forks(&mut self) -> u64 {
        self.child = parent_of();
        u64::from(std::process::id())
    }
}

/// Forks. Returns the child's id, or `None` in the child, which prints a panic and exits.
fn parent_of() -> Option<i32> {
    let child = fork();
    if child.is_none() {
        std::panic::set_hook(Box::new(|panic| {
            let _ = writeln!(std::io::stderr(), "in the child: {panic}");
            end_child(false);
        }));
    }
    child
}

/// Forks a child that runs `work` and exits. Returns its id.
fn child(work: impl FnOnce()) -> i32 {
    parent_of().unwrap_or_else(|| {
        work();
        end_child(true)
    })
}

/// Waits for a child, which must succeed.
#[track_caller]
fn join(child: i32) {
    let child = Pid::from_raw(child);
    let (_, status) = waitpid(child, WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "{status:?}");
}

#[track_caller]
fn assert_forked<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, CallError<E>>) {
    let forked = matches!(
        result,
        Err(CallError::Io(Error::Forked) | CallError::NotSent(Error::Forked))
    );
    assert!(forked, "{result:?}");
}

/// Starts a server on a thread of its own, which the returned handle stops.
fn start(path: &Path, kind: Kind) -> (ServerHandle<State>, thread::JoinHandle<()>) {
    let mut server = Server::new(Limits::default()).unwrap();
    server.bind(path, kind).unwrap().serve::<dyn Counter>();
    let handle = server.handle();
    let thread = thread::spawn(move || server.run(&mut State::default()).unwrap());
    (handle, thread)
}

fn connect(path: &Path) -> Connection {
    Connection::open(path).unwrap().with_timeout(PATIENCE)
}

/// Tries everything that can be done with calls that the parent has started.
fn use_in_child(
    connection: &Connection,
    kept: &mut Vec<PendingCall<u64>>,
    items: &mut Vec<Items<u64>>,
) {
    let client = CounterClient::new(connection.clone());
    assert_forked(client.double(1));
    assert_forked(client.start().double(1).map(drop));
    assert_forked(connection.notify("forked.release", &()));
    assert_forked(client.count(2).map(drop));
    assert!(matches!(connection.run_once(), Err(Error::Forked)));
    assert!(connection.next_deadline().is_none());
    connection.set_busy_poll(Duration::from_micros(1));
    assert_forked(kept[0].try_wait().unwrap());
    assert_forked(kept.remove(0).wait());
    assert_forked(PendingCall::wait_any(kept).unwrap().1);
    let (tell, told) = channel();
    kept.remove(0)
        .on_complete(move |reply| tell.send(reply).unwrap());
    assert_forked(told.try_recv().unwrap());
    assert_forked(items[0].next().unwrap());
    assert_forked(items[1].try_next().unwrap());
    kept.clear();
    items.clear();
}

#[test]
fn calls_in_a_forked_child_fail_and_those_of_its_parent_continue() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("forked.sock");
        let (handle, thread) = start(&path, kind);
        let connection = connect(&path);
        let client = CounterClient::new(connection.clone());
        let start = || client.start().kept().unwrap();
        let mut kept: Vec<_> = (0..4).map(|_| start()).collect();
        let mut items: Vec<_> = (0..3).map(|_| client.count(1).unwrap()).collect();
        assert_eq!(client.double(1).unwrap(), 2);
        let child = child(|| {
            use_in_child(&connection, &mut kept, &mut items);
            // The child can open connections of its own.
            let client = CounterClient::new(connect(&path));
            for number in 100..160 {
                assert_eq!(client.double(number).unwrap(), 2 * number);
            }
        });
        for number in 0..60 {
            assert_eq!(client.double(number).unwrap(), 2 * number);
        }
        join(child);
        client.release().unwrap();
        assert!(kept.into_iter().all(|call| call.wait().unwrap() == 7));
        for mut items in items {
            assert_eq!(items.next().unwrap().unwrap(), 8);
            assert!(items.next().is_none());
        }
        handle.stop();
        thread.join().unwrap();
    }
}

#[test]
fn a_forked_child_sends_nothing_that_its_parent_has_gathered() {
    alone!();
    for kind in KINDS {
        let (ours, theirs) = crate::sys::socket::socketpair(kind).unwrap();
        let connection = Connection::from_fd(ours).unwrap().batching();
        let client = CounterClient::new(connection.clone()).start();
        let mut kept: Vec<_> = (0..5).map(|_| client.kept().unwrap()).collect();
        let mut items: Vec<_> = (0..4).map(|_| client.count(1).unwrap()).collect();
        join(child(|| {
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(reply) = Pin::new(&mut kept.remove(0)).poll(&mut context) else {
                panic!("pending")
            };
            assert_forked(reply);
            let Poll::Ready(Some(item)) = items.remove(0).poll_next(&mut context) else {
                panic!("pending")
            };
            assert_forked(item);
            assert!(matches!(connection.flush(), Err(Error::Forked)));
            use_in_child(&connection, &mut kept, &mut items);
        }));
        let mut far = Socket::from_fd(theirs).unwrap();
        assert!(matches!(
            far.try_receive::<bool>().unwrap(),
            Received::Pending
        ));
    }
}

/// Makes a call and runs the server on this thread until it has replied.
fn reply_to<T: crate::Message>(
    server: &mut Server<State>,
    state: &mut State,
    mut call: PendingCall<T>,
) -> T {
    loop {
        let _ = server
            .run_once(state, Some(Duration::from_millis(1)))
            .unwrap();
        if let Some(reply) = call.try_wait() {
            return reply.unwrap();
        }
    }
}

#[test]
fn a_forked_child_that_drops_its_copy_of_a_server_leaves_the_server_as_it_is() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.bind(path("a"), kind).unwrap();
        let token = endpoint.serve::<dyn Counter>().token();
        let mut state = State::default();
        let connection = connect(&path("a"));
        let client = CounterClient::new(connection.clone()).start();
        let mut kept = client.kept().unwrap();
        while state.kept.is_empty() {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
        let (mut socket, mut listener) = (
            Some(Socket::bind(path("socket")).unwrap()),
            Some(Listener::bind(path("listener")).unwrap()),
        );
        let mut server = Some(server);
        join(child(|| {
            let mut server = server.take().unwrap();
            assert!(matches!(
                server.run_once(&mut state, None),
                Err(Error::Forked)
            ));
            assert!(matches!(server.run(&mut state), Err(Error::Forked)));
            let bound = server.bind(path("b"), kind).map(drop);
            assert!(matches!(bound, Err(Error::Forked)) && !path("b").exists());
            let adopted = server.adopt(
                Socket::unconnected()
                    .unwrap()
                    .as_fd()
                    .try_clone_to_owned()
                    .unwrap(),
            );
            assert!(matches!(adopted.map(drop), Err(Error::Forked)));
            let timer = server.every(PATIENCE, |_, _| {});
            assert!(matches!(timer, Err(Error::Forked)));
            assert!(matches!(server.drive(&connection), Err(Error::Forked)));
            assert!(matches!(server.shut_down(PATIENCE), Err(Error::Forked)));
            assert!(!server.remove(token));
            let handle = server.handle();
            handle.post(|_| panic!("the child's loop does not run"));
            handle.stop();
            assert!(!state.kept[0].is_wanted());
            state.kept.remove(0).send(1);
            drop((server, handle, socket.take(), listener.take()));
        }));
        for name in ["a", "socket", "listener"] {
            assert!(path(name).exists(), "{kind:?}: {name}");
        }
        let mut server = server.unwrap();
        assert!(kept.try_wait().is_none());
        let double = client.double(2).unwrap();
        assert_eq!(reply_to(&mut server, &mut state, double), 4);
        let release = client.release().unwrap();
        assert_eq!(reply_to(&mut server, &mut state, release), 0);
        assert_eq!(reply_to(&mut server, &mut state, kept), 7);
        // Clients still find the parent's server, which removes its file itself.
        let other = CounterClient::new(connect(&path("a"))).start();
        let double = other.double(3).unwrap();
        assert_eq!(reply_to(&mut server, &mut state, double), 6);
        drop((server, socket, listener));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_forked_child_that_drops_its_copy_of_a_server_leaves_its_entries() {
    alone!();
    let Some(folder) = safe_folder() else { return };
    let registry = Registry::new([folder.path()]);
    let mut server: Server<State> = Server::new(Limits::default()).unwrap();
    let endpoint = server.bind(folder.path().join("a"), Kind::Seqpacket);
    let endpoint = endpoint.unwrap().serve::<dyn Counter>();
    endpoint.register_in(&registry).unwrap();
    let mut server = Some(server);
    join(child(|| drop(server.take())));
    let entry = folder.path().join("forked");
    assert!(entry.is_symlink());
    drop(server);
    assert!(!entry.is_symlink());
}

#[test]
fn a_child_that_a_handler_forks_sends_no_replies() {
    alone!();
    for (kind, parked) in [(0, false), (1, false), (0, true), (1, true)] {
        let kind = KINDS[kind];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("forked.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.bind(&path, kind).unwrap().serve::<dyn Counter>();
        if parked {
            endpoint.authorize_calls(|_| Access::ask(Verdict::allow));
        }
        let mut state = State::default();
        let connection = connect(&path);
        let client = CounterClient::new(connection.clone()).start();
        let mut call = client.forks().unwrap();
        // Queued after it, for the same turn.
        let next = client.double(5).unwrap();
        let this = std::process::id();
        let reply = loop {
            let turn = server.run_once(&mut state, Some(PATIENCE));
            if std::process::id() != this {
                assert!(matches!(turn, Err(Error::Forked)), "{turn:?}");
                drop(server);
                end_child(true);
            }
            let _ = turn.unwrap();
            if let Some(reply) = call.try_wait() {
                break reply.unwrap();
            }
        };
        assert_eq!(reply, u64::from(this));
        join(state.child.take().unwrap());
        assert_eq!(reply_to(&mut server, &mut state, next), 10);
        assert_eq!(server.counts().handled, 2);
    }
}

/// Another thread that holds a lock until this is dropped.
struct Held(
    Option<thread::JoinHandle<()>>,
    Option<std::sync::mpsc::Sender<()>>,
);

impl Held {
    /// Starts a thread that calls `lock`, which has to call its argument while it holds the lock.
    fn new(lock: impl FnOnce(&mut dyn FnMut()) + Send + 'static) -> Self {
        let ((tell, told), (release, held)) = (channel(), channel::<()>());
        let thread = thread::spawn(move || {
            lock(&mut || {
                tell.send(()).unwrap();
                let _: Result<(), _> = held.recv();
            });
        });
        told.recv_timeout(PATIENCE).unwrap();
        Self(Some(thread), Some(release))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.1.take());
        if let Some(thread) = self.0.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_child_that_is_forked_when_a_session_ends_is_told_of_no_other() {
    alone!();
    let mut server = Server::new(Limits::default()).unwrap();
    let sessions = server.sessions::<dyn Counter>(|state: &mut State, _, tag| {
        state.ended.push(tag);
        if state.ended.len() == 1 {
            state.child = parent_of();
        }
    });
    sessions.unwrap();
    let peer = Peer::from_ids(1, 1).unwrap();
    for tag in 0..3 {
        let (_, session) = server.open_session::<dyn Counter>(tag, &peer).unwrap();
        session.close();
    }
    let mut state = State::default();
    let turn = server.run_once(&mut state, Some(PATIENCE));
    let Some(child) = state.child.take() else {
        end_child(state.ended == [0] && matches!(turn, Err(Error::Forked)));
    };
    join(child);
    assert!(turn.is_ok());
    assert_eq!(state.ended, [0, 1, 2]);
}

#[test]
fn a_forked_child_waits_for_no_lock_that_another_thread_of_its_parent_held() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("forked.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        server.bind(&path, kind).unwrap().serve::<dyn Counter>();
        let mut state = State::default();
        let connection = connect(&path);
        let client = CounterClient::new(connection.clone());
        let kept = client.start().kept().unwrap();
        let items = client.count(1).unwrap();
        while state.sinks.is_empty() {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
        // One thread waits for a reply, and another holds the lock that replies are posted under.
        let waiting = thread::spawn(move || kept.wait());
        let pending = Arc::clone(&server.context.pending);
        let held = Held::new(move |block| pending.count_losses(|_| block()));
        let (mut server, mut items) = (Some(server), Some(items));
        join(child(|| {
            assert_forked(client.double(1));
            let sink = state.sinks.remove(0);
            assert!(!sink.is_wanted() && sink.has_room());
            assert!(sink.send(&1).is_err());
            let (tell, told) = channel();
            state.kept[0].on_cancel(move || tell.send(()).unwrap());
            told.try_recv().unwrap();
            drop((items.take(), sink, std::mem::take(&mut state.kept)));
            drop((server.take(), connection.clone()));
        }));
        drop(held);
        let mut server = server.unwrap();
        let other = CounterClient::new(connect(&path)).start();
        let release = other.release().unwrap();
        assert_eq!(reply_to(&mut server, &mut state, release), 0);
        assert_eq!(waiting.join().unwrap().unwrap(), 7);
    }
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Makes a message with a socket whose close lingers.
fn raw(sender: &mut Socket, socket: &mut Socket) -> crate::socket::RawDatagram {
    let mut raw = crate::socket::RawDatagram {
        bytes: b"0".to_vec(),
        ..crate::socket::RawDatagram::default()
    };
    let (lingering, _) = UnixStream::pair().unwrap();
    set_socket_linger(&lingering, Some(PATIENCE)).unwrap();
    raw.fds.push(lingering.into()).unwrap();
    let _ = sender.try_send_raw(&raw, None).unwrap();
    match socket.try_receive_raw().unwrap() {
        Received::Message(raw, _) => raw,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_forked_child_closes_itself_what_its_parent_closes_by_another_thread() {
    alone!();
    if !jsoncomm_watchdog::has_proc() {
        return;
    }
    let (mut sender, socket) = Socket::pair(Kind::Seqpacket).unwrap();
    let mut socket = Some(socket);
    let receive =
        |sender: &mut Socket, socket: &mut Option<Socket>| raw(sender, socket.as_mut().unwrap());
    // The closing thread exists from here on.
    drop(receive(&mut sender, &mut socket));
    let mut held = Some(receive(&mut sender, &mut socket));
    join(child(|| {
        let before = open_fds();
        drop(held.take());
        assert_eq!(open_fds(), before - 1);
        // The processes share the socket, and the first to receive a message has it.
        drop(receive(&mut sender, &mut socket));
        assert_eq!(open_fds(), before - 1);
        drop(socket.take());
        assert_eq!(open_fds(), before - 2);
    }));
    let raw = held.unwrap();
    let linger = socket_linger(raw.fds.get(0).unwrap()).unwrap();
    assert_eq!(linger, Some(PATIENCE), "it is as it was");
    sender.send(&1).unwrap();
    let (received, _) = socket.unwrap().receive::<WithFds<u64>>().unwrap();
    assert_eq!(received.json, 1);
}

#[test]
fn a_forked_child_has_servers_and_children_of_its_own() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("forked.sock");
    // The parent has a server as well, whose origin stays its own.
    let _parents = Server::<State>::new(Limits::default()).unwrap();
    join(child(|| {
        let mut server = Server::new(Limits::default()).unwrap();
        server
            .bind(&path, Kind::Seqpacket)
            .unwrap()
            .serve::<dyn Counter>();
        let client = CounterClient::new(connect(&path)).start();
        let mut state = State::default();
        let double = client.double(1).unwrap();
        assert_eq!(reply_to(&mut server, &mut state, double), 2);
        let mut server = Some(server);
        join(child(|| {
            assert_forked(client.double(1).map(drop));
            drop(server.take());
        }));
        assert!(path.exists());
        drop(server.take());
        assert!(!path.exists());
    }));
}

#[test]
fn a_forked_child_neither_waits_for_nor_ends_what_its_parent_has_started() {
    alone!();
    let mut command = std::process::Command::new("sleep");
    command.arg("1000");
    let (_connection, mut started) = Connection::spawn(command).unwrap();
    started.set_grace(Duration::ZERO);
    let mut kept = Some(started);
    join(child(|| {
        let mut copy = kept.take().unwrap();
        assert!(matches!(copy.kill(), Err(Error::Forked)));
        assert!(matches!(copy.wait(), Err(Error::Forked)));
        assert!(matches!(copy.try_wait(), Err(Error::Forked)));
    }));
    assert!(kept.unwrap().try_wait().unwrap().is_none(), "it goes on");
}
