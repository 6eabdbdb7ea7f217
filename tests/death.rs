//! Peers that die, stop or come back: each call ends, and never with the reply to another.

mod clients;
mod hostile;
mod reconnecting;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use jsoncomm::client::PendingCall;
use jsoncomm::message::WithFds;
use jsoncomm::socket::Socket;
use jsoncomm::stream::StreamSender;
use jsoncomm::{
    Call, CallError, Connection, Deferred, Kind, Limits, Message, Reply, Server, Stream,
};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, this_program, wait_until,
};
use rustix::net::{SendFlags, send};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid,
};
use serde_json::{Value, json};

/// Longer than a client waits before it checks for its server, and much shorter than the timeout of the test.
const SEVERAL_CHECKS: Duration = Duration::from_millis(350);

/// The service of the server in another process.
#[jsoncomm::service(name = "test.desk")]
trait Desk {
    /// Returns the number, and the id of the process.
    fn echo(&mut self, number: u64) -> Echo;
    /// Sends no reply.
    fn never(&mut self, call: &mut Call) -> Deferred<u64>;
    /// Returns how many calls have no reply, and how many of these are not cancelled.
    fn kept(&mut self) -> (usize, usize);
    /// Sends the numbers below `end`, and then nothing.
    fn stall(&mut self, call: &mut Call, end: u64) -> Stream<u64>;
    /// Replies to all open calls and streams, and returns how many there were.
    fn give(&mut self) -> usize;
}

#[derive(Debug, PartialEq, Message)]
struct Echo {
    number: u64,
    pid: u32,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: Vec<Reply<u64>>,
    sinks: Vec<StreamSender<u64>>,
}

impl Desk for Shelf {
    fn echo(&mut self, number: u64) -> Echo {
        let pid = std::process::id();
        Echo { number, pid }
    }

    fn never(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.kept.push(reply))
    }

    fn kept(&mut self) -> (usize, usize) {
        let wanted = self.kept.iter().filter(|reply| reply.is_wanted());
        (self.kept.len(), wanted.count())
    }

    fn stall(&mut self, call: &mut Call, end: u64) -> Stream<u64> {
        call.stream(|sink| {
            for number in 0..end {
                // Fails when the backlog is full.
                let _ = sink.send(&number);
            }
            self.sinks.push(sink);
        })
    }

    fn give(&mut self) -> usize {
        let count = self.kept.len() + self.sinks.len();
        for reply in self.kept.drain(..) {
            reply.send(0);
        }
        self.sinks.clear();
        count
    }
}

/// The environment variable that tells a process started by a test what to do.
const ROLE: &str = "JSONCOMM_TEST_ROLE";

/// Another process of this program, which runs one test that acts only there.
struct Other {
    process: Child,
}

impl Other {
    /// Starts the process, and waits until it reports that it is ready.
    fn start(test: &str, role: &str) -> Self {
        let mut process = Command::new(this_program())
            .args(["--exact", &format!("death::{test}")])
            .args(["--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")));
        Self { process }
    }

    /// Starts a server of [`Desk`].
    fn serve(path: &Path, kind: Kind) -> Self {
        let role = format!("{kind:?} {}", path.display());
        Self::start("serves_in_another_process", &role)
    }

    /// Stops the process with SIGSTOP, and waits until it has stopped.
    fn stop(&self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
    }

    fn resume(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }

    /// Kills the process.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns what this process is to do, if a test has started it.
fn role() -> Option<(Kind, PathBuf)> {
    let role = env::var(ROLE).ok()?;
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let (kind, path) = role.split_once(' ').unwrap();
    let kind = KINDS.into_iter().find(|of| format!("{of:?}") == kind);
    Some((kind.unwrap(), path.into()))
}

/// Reports that this process is ready, in a line of its own.
fn ready() {
    let mut out = std::io::stdout();
    out.write_all(b"\nready\n").unwrap();
    out.flush().unwrap();
}

#[test]
fn serves_in_another_process() {
    let Some((kind, path)) = role() else { return };
    let mut server = Server::new(Limits::default()).unwrap();
    server.bind(&path, kind).unwrap().serve::<dyn Desk>();
    ready();
    server.run(&mut Shelf::default()).unwrap();
}

/// Returns a new directory and a path for a socket in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    (directory, path)
}

fn open(path: &Path) -> Connection {
    Connection::open(path).unwrap().with_timeout(PATIENCE)
}

/// Waits until the server has this many unanswered calls.
fn wait_until_kept(path: &Path, count: usize) {
    let client = DeskClient::new(open(path));
    wait_until(|| client.kept().unwrap().0 >= count);
}

fn assert_closed<T: std::fmt::Debug, E: std::fmt::Debug>(reply: Result<T, CallError<E>>) {
    assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
}

#[test]
fn a_call_to_a_killed_server_ends_long_before_its_deadline() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let server = Other::serve(&path, kind);
        let before = open_fds();
        let connection = open(&path);
        let client = DeskClient::new(connection.clone());
        let waiting = std::thread::spawn(move || client.never());
        wait_until_kept(&path, 1);
        server.kill();
        assert_closed(waiting.join().unwrap());
        assert_closed(DeskClient::new(connection).echo(1));
        // The pipe to the process is closed as well.
        assert!(open_fds() <= before);
    }
}

#[test]
fn a_call_without_a_deadline_ends_when_the_server_is_killed() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let server = Other::serve(&path, kind);
        let client = DeskClient::new(open(&path).without_timeout());
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(client.never()));
        wait_until_kept(&path, 1);
        server.kill();
        assert_closed(receiver.recv_timeout(PATIENCE).unwrap());
    }
}

#[test]
fn all_calls_in_flight_end_when_the_server_is_killed() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let server = Other::serve(&path, kind);
        let client = DeskClient::new(open(&path)).start();
        let calls: Vec<PendingCall<u64>> = (0..6).map(|_| client.never().unwrap()).collect();
        let (sender, receiver) = channel();
        client
            .never()
            .unwrap()
            .on_complete(move |reply| sender.send(reply).unwrap());
        let mut numbers = client.stall(3).unwrap();
        let first: Vec<u64> = (0..3).map(|_| numbers.next().unwrap().unwrap()).collect();
        assert_eq!(first, [0, 1, 2]);
        wait_until_kept(&path, 7);
        server.kill();

        let mut calls = calls.into_iter();
        // Polling without waiting detects the death, too.
        let mut looked_at = calls.next().unwrap();
        let until = Instant::now() + PATIENCE;
        let reply = loop {
            if let Some(reply) = looked_at.try_wait() {
                break reply;
            }
            assert!(Instant::now() < until);
            std::thread::yield_now();
        };
        assert_closed(reply);
        assert_closed(calls.next().unwrap().wait());
        let mut rest: Vec<_> = calls.collect();
        while let Some((_, reply)) = PendingCall::wait_any(&mut rest) {
            assert_closed(reply);
        }
        assert_closed(receiver.recv_timeout(PATIENCE).unwrap());
        assert_closed(numbers.next().unwrap());
        assert!(numbers.next().is_none());
    }
}

#[test]
fn each_way_to_wait_detects_a_killed_server() {
    alone!();
    for kind in KINDS {
        for way in 0..5 {
            let (_directory, path) = place();
            let server = Other::serve(&path, kind);
            let client = DeskClient::new(open(&path)).start();
            let mut calls = vec![client.never().unwrap(), client.never().unwrap()];
            let mut numbers = client.stall(0).unwrap();
            wait_until_kept(&path, 2);
            server.kill();
            match way {
                0 => assert_closed(calls.remove(1).wait()),
                1 => assert_closed(PendingCall::wait_any(&mut calls).unwrap().1),
                2 => assert_closed(numbers.next().unwrap()),
                3 => {
                    // In waits that are each too short to detect the death.
                    let mut numbers = numbers.with_timeout(Duration::from_millis(10));
                    let until = Instant::now() + PATIENCE;
                    let item = loop {
                        match numbers.next().unwrap() {
                            Err(CallError::Deadline) => assert!(Instant::now() < until),
                            item => break item,
                        }
                    };
                    assert_closed(item);
                }
                _ => {
                    let until = Instant::now() + PATIENCE;
                    let item = loop {
                        if let Some(item) = numbers.try_next() {
                            break item;
                        }
                        assert!(Instant::now() < until);
                        std::thread::yield_now();
                    };
                    assert_closed(item);
                }
            }
        }
    }
}

#[test]
fn an_event_loop_knows_when_to_check_whether_the_server_lives() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let server = Other::serve(&path, kind);
        let connection = open(&path).without_timeout();
        connection.set_driven();
        let client = DeskClient::new(connection.clone()).start();
        assert!(connection.next_deadline().is_none(), "nothing is in flight");
        let (sender, receiver) = channel();
        client
            .never()
            .unwrap()
            .on_complete(move |reply| sender.send(reply).unwrap());
        wait_until_kept(&path, 1);
        server.kill();
        let until = Instant::now() + PATIENCE;
        while connection.run_once().is_ok() {
            assert!(Instant::now() < until);
            // As a loop does: until it is readable, or the time has come.
            let due = connection.next_deadline().unwrap_or(until).min(until);
            let left = due.saturating_duration_since(Instant::now());
            let left = left.try_into().unwrap();
            let mut fds = [rustix::event::PollFd::new(
                &connection,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut fds, Some(&left)).unwrap();
        }
        assert_closed(receiver.try_recv().unwrap());
        assert!(connection.next_deadline().is_none());
    }
}

#[test]
fn a_server_under_sigstop_is_not_dead_and_its_late_reply_is_dropped() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let server = Other::serve(&path, kind);
        let connection = open(&path);
        let client = DeskClient::new(connection.clone());
        let pid = client.echo(0).unwrap().pid;
        server.stop();
        let late = DeskClient::new(connection.with_timeout(SEVERAL_CHECKS)).echo(1);
        assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
        let in_flight = client.start().echo(2).unwrap();
        server.resume();
        assert_eq!(in_flight.wait().unwrap(), Echo { number: 2, pid });
        for number in 3..6 {
            assert_eq!(client.echo(number).unwrap(), Echo { number, pid });
        }
    }
}

#[test]
fn a_call_under_backpressure_ends_when_the_server_is_killed() {
    alone!();
    for kind in KINDS {
        for in_flight in [false, true] {
            let (_directory, path) = place();
            let server = Other::serve(&path, kind);
            let connection = open(&path);
            let client = DeskClient::new(connection.clone());
            client.echo(0).unwrap();
            let waiting = in_flight.then(|| client.start().never().unwrap());
            server.stop();
            // A deadline would pass on a busy machine before there is no room.
            let filler = [b' '; 100_000];
            while send(&connection, &filler, SendFlags::DONTWAIT).is_ok() {}
            let (sender, receiver) = channel();
            let thread = std::thread::spawn(move || {
                sender.send(()).unwrap();
                connection.notify("x.y", &("x".repeat(100_000),))
            });
            receiver.recv_timeout(PATIENCE).unwrap();
            server.kill();
            assert_closed(thread.join().unwrap());
            waiting
                .into_iter()
                .for_each(|call| assert_closed(call.wait()));
        }
    }
}
