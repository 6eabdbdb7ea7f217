//! Programs that a process starts with a connection to itself: what they get, who they are, and how they end.
//!
//! A test starts itself again as the child.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jsoncomm::child::{Child, PARENT_FD};
use jsoncomm::{Call, CallError, Connection, Error, Fault, Limits, Server};
use jsoncomm_tests::{
    PATIENCE, alone, assert_open_fds, has_proc, open_fds, this_program, wait_for,
};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Set in a process that a test has started, with the part of the test that runs there.
const PART: &str = "JSONCOMM_TESTS_PART";

/// The number of a signal that kills.
const KILLED: Option<i32> = Some(9);

#[jsoncomm::service(name = "test.work")]
trait Work {
    fn pid(&mut self) -> u32;
    /// Returns the user and the process of the caller.
    fn caller(&mut self, call: &mut Call) -> Option<(u32, Option<u32>)>;
    /// Tries to take over the connection once more, here and in a child.
    fn take_over_again(&mut self) -> Vec<String>;
    /// Never replies, and does not let the server stop.
    fn hang(&mut self) -> u32;
}

struct Worker;

impl Work for Worker {
    fn pid(&mut self) -> u32 {
        std::process::id()
    }

    fn caller(&mut self, call: &mut Call) -> Option<(u32, Option<u32>)> {
        call.peer().map(|peer| (peer.uid(), peer.pid()))
    }

    fn take_over_again(&mut self) -> Vec<String> {
        let here = refusal();
        vec![here, output(&mut part("grandchild"))]
    }

    fn hang(&mut self) -> u32 {
        wait_to_be_killed()
    }
}

/// Returns the part of the test that this process is to run; `None` in the process of the test.
fn current_part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Returns the command that runs the test of this thread once more, as this part of it.
fn part(name: &str) -> Command {
    as_part(name, Command::new(this_program()))
}

/// Returns the command by which a shell becomes this part of the test, after `redirections`.
fn part_with(name: &str, redirections: &str) -> Command {
    part_by(
        name,
        "sh",
        &format!("exec {redirections}; exec \"$0\" \"$@\""),
    )
}

/// Returns the command by which an interpreter runs a script, whose arguments are the command of this part of the test.
fn part_by(name: &str, interpreter: &str, script: &str) -> Command {
    let mut command = Command::new(interpreter);
    // Not /proc/self/exe, which would be the interpreter.
    command
        .args(["-c", script])
        .arg(jsoncomm_tests::program_file());
    as_part(name, command)
}

fn as_part(name: &str, mut command: Command) -> Command {
    let test = thread::current().name().unwrap().to_owned();
    command.args(["--exact", &test]).env(PART, name);
    command.stdout(Stdio::null());
    command
}

/// Serves the parent until it has gone.
fn work() {
    let mut server = Server::new(Limits::default()).unwrap();
    server.adopt_parent().unwrap().serve::<dyn Work>();
    server.run(&mut Worker).unwrap();
}

fn spawn(command: Command) -> (WorkClient, Child) {
    let (connection, child) = Connection::spawn(command).unwrap();
    (WorkClient::new(connection.with_timeout(PATIENCE)), child)
}

fn wait_to_be_killed() -> ! {
    loop {
        thread::park();
    }
}

/// Says why the connection to the parent cannot be taken over.
fn refusal() -> String {
    match Connection::from_parent() {
        Err(error @ Error::NoParent { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Prints a line that libtest does not capture. Nothing else in these processes begins with `> `.
fn say(what: &str) {
    writeln!(std::io::stdout(), "\n> {what}").unwrap();
}

/// Runs a command, and returns what its process has said.
fn output(command: &mut Command) -> String {
    let ended = command.stdout(Stdio::piped()).output().unwrap();
    said_in(&String::from_utf8(ended.stdout).unwrap()).to_owned()
}

/// Returns what a process with this output has said first.
fn said_in(text: &str) -> &str {
    let said = text.lines().find_map(|line| line.strip_prefix("> "));
    said.unwrap_or_else(|| panic!("{text}"))
}

/// Returns the next thing that a process has said.
fn next(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> String {
    lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("> ").map(str::to_owned))
        .unwrap()
}

/// Asserts that this process has no child of this id, not even one that has ended and was not waited for.
#[track_caller]
fn assert_reaped(id: u32) {
    let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    assert_eq!(waitid(WaitId::Pid(id), how).err(), Some(Errno::CHILD));
}

/// Asserts that this process has no children at all.
#[track_caller]
fn assert_childless() {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    assert_eq!(waitid(WaitId::All, how).err(), Some(Errno::CHILD));
}

/// Returns the command that prints the open descriptors of its process: numbers and files.
fn lister() -> Command {
    let mut lister = Command::new("ls");
    lister.args(["-l", "/proc/self/fd"]).env("LC_ALL", "C");
    lister
}

/// Returns the sockets and the numbers in the output of [`lister`], without that of the listed directory.
fn listed(text: &str) -> (BTreeSet<String>, usize) {
    let links = text.lines().filter_map(|line| line.split_once(" -> "));
    let links = links.filter(|(_, to)| !to.starts_with("/proc/"));
    let mut sockets = BTreeSet::new();
    let mut count = 0;
    for (line, to) in links {
        count += 1;
        if to.starts_with("socket:") {
            sockets.insert(line.rsplit(' ').next().unwrap().to_owned());
        }
    }
    (sockets, count)
}

#[test]
fn a_child_serves_its_parent_and_stops_when_the_connection_is_dropped() {
    if current_part().is_some() {
        return work();
    }
    let (worker, mut child) = spawn(part("worker"));
    assert_eq!(worker.pid().unwrap(), child.id());
    assert!(child.try_wait().unwrap().is_none());
    drop(worker);
    if let Some(pidfd) = child.pidfd() {
        wait_for(pidfd, Instant::now() + PATIENCE);
    }
    let ended = child.wait_by(Instant::now() + PATIENCE).unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(child.wait().unwrap(), ended, "and once more");
    assert_eq!(child.try_wait().unwrap(), Some(ended));
    child.kill().unwrap();
}

#[test]
fn the_parent_is_the_peer_of_its_child() {
    if let Some(part) = current_part() {
        let (parent, allowed) = part.split_once(' ').unwrap();
        let (parent, allowed) = (parent.parse().ok(), allowed == "allowed");
        let mut server = Server::new(Limits::default()).unwrap();
        let user = rustix::process::geteuid().as_raw();
        let endpoint = server.adopt_parent().unwrap();
        endpoint
            .authorize(move |peer| allowed && peer.uid() == user && peer.pid() == parent)
            .serve::<dyn Work>();
        return server.run(&mut Worker).unwrap();
    }
    let (user, id) = (rustix::process::geteuid().as_raw(), std::process::id());
    let (worker, _child) = spawn(part(&format!("{id} allowed")));
    assert_eq!(worker.caller().unwrap(), Some((user, Some(id))));
    let (worker, mut child) = spawn(part(&format!("{id} refused")));
    match worker.caller() {
        Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::NOT_AUTHORIZED),
        other => panic!("{other:?}"),
    }
    assert!(child.wait().unwrap().success(), "a refused parent is none");
}

#[test]
fn a_child_that_calls_is_served_by_its_parent() {
    const CHILD: u32 = 4711;
    if let Some(part) = current_part() {
        let work = WorkClient::new(Connection::from_parent().unwrap().with_timeout(PATIENCE));
        match work.caller() {
            Ok(peer) => assert_eq!(peer, (part == "said").then_some((CHILD, None))),
            Err(CallError::Fault(fault)) => {
                assert_eq!(
                    (part.as_str(), fault.code),
                    ("asked", Fault::NOT_AUTHORIZED)
                );
            }
            Err(other) => panic!("{other}"),
        }
        assert!(refusal().contains("taken over already"));
        return;
    }
    for name in ["unknown", "asked", "said"] {
        let mut server = Server::new(Limits::default()).unwrap();
        let (mut endpoint, mut child) = server.spawn(part(name)).unwrap();
        if name == "said" {
            endpoint = endpoint.peer_is(CHILD, CHILD).unwrap();
        }
        if name != "unknown" {
            endpoint = endpoint.authorize(|peer| peer.uid() == CHILD);
        }
        endpoint.stop_on_close().unwrap().serve::<dyn Work>();
        server.run(&mut Worker).unwrap();
        assert!(child.wait().unwrap().success(), "{name}");
    }
}

#[test]
fn a_child_inherits_its_end_of_the_connection_and_nothing_else() {
    alone!();
    if !has_proc() {
        return;
    }
    let plain = lister().output().unwrap();
    let (none, before) = listed(&String::from_utf8(plain.stdout).unwrap());
    let mut listing = lister();
    // The streams of the test may be sockets.
    listing.stdin(Stdio::null()).stderr(Stdio::null());
    listing.stdout(Stdio::piped());
    let (_connection, mut child) = Connection::spawn(listing).unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let (sockets, count) = listed(&text);
    assert_eq!(sockets.difference(&none).count(), 1, "{text}");
    assert_eq!(count, before + 1, "{text}");

    // The number is told also where the command clears its environment.
    let mut telling = Command::new("sh");
    telling.env_clear().args([
        "-c",
        &format!("test -S /proc/self/fd/${PARENT_FD} && test ${PARENT_FD} -gt 2"),
    ]);
    let (_connection, mut child) = Connection::spawn(telling).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn children_of_other_threads_never_inherit_the_connection() {
    alone!();
    if !has_proc() {
        return;
    }
    let list = || {
        let listed_by = lister().output().unwrap();
        listed(&String::from_utf8(listed_by.stdout).unwrap()).0
    };
    let before = list();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let others: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(list(), before);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let spawning: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let (_connection, mut child) =
                            Connection::spawn(Command::new("true")).unwrap();
                        assert!(child.wait().unwrap().success());
                    }
                })
            })
            .collect();
        let ended = spawning.into_iter().map(|thread| thread.join().is_ok());
        let ended: Vec<bool> = ended.collect();
        over.store(true, Ordering::Relaxed);
        assert_eq!(ended, [true; 2]);
        let counts: Vec<u32> = others
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert!(!counts.contains(&0), "{counts:?}");
    });
}

#[test]
fn children_started_by_many_threads_each_serve_their_own_connection() {
    if current_part().is_some() {
        return work();
    }
    let name = thread::current().name().unwrap().to_owned();
    thread::scope(|scope| {
        for _ in 0..4 {
            // The part is found by the name of the thread.
            let thread = thread::Builder::new().name(name.clone());
            let spawned = thread.spawn_scoped(scope, || {
                for _ in 0..3 {
                    let (worker, child) = spawn(part("worker"));
                    assert_eq!(worker.pid().unwrap(), child.id());
                }
            });
            spawned.unwrap();
        }
    });
}

#[test]
fn a_program_that_does_not_exist_leaves_neither_descriptors_nor_a_process() {
    alone!();
    drop(Server::<()>::new(Limits::default()).unwrap());
    let before = open_fds();
    for _ in 0..3 {
        match Connection::spawn(Command::new("/not/there")) {
            Err(Error::Spawn { program, source }) => {
                assert_eq!(program, "\"/not/there\"");
                assert_eq!(Errno::from_io_error(&source), Some(Errno::NOENT));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut server = Server::<()>::new(Limits::default()).unwrap();
    match server.spawn(Command::new("/")) {
        Err(error @ Error::Spawn { .. }) => {
            assert_eq!(error.to_string(), "program \"/\" cannot be started");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    drop(server);
    assert_open_fds(before);
    assert_childless();
}

#[test]
fn nothing_is_left_of_children_that_have_ended_or_were_dropped() {
    alone!();
    if current_part().is_some() {
        return work();
    }
    let before = open_fds();
    for _ in 0..3 {
        let (worker, child) = spawn(part("worker"));
        worker.pid().unwrap();
        drop((worker, child));
        let (worker, mut child) = spawn(part("worker"));
        child.wait().unwrap();
        drop((child, worker));
        let (connection, child) = Connection::spawn(Command::new("true")).unwrap();
        drop((child, connection));
    }
    assert_open_fds(before);
    assert_childless();
}

#[test]
fn a_call_to_a_child_that_ends_at_once_ends_and_its_status_is_kept() {
    let mut failing = Command::new("sh");
    failing.args(["-c", "exit 7"]);
    let (worker, mut child) = spawn(failing);
    match worker.pid() {
        Err(CallError::Closed) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_child_stops_when_its_parent_is_killed() {
    match current_part().as_deref() {
        Some("worker") => {
            work();
            return say("the worker has ended");
        }
        Some(_) => {
            let mut command = part("worker");
            command.stdout(Stdio::inherit());
            let (worker, _child) = spawn(command);
            say(&worker.pid().unwrap().to_string());
            wait_to_be_killed();
        }
        None => {}
    }
    let mut parent = part("parent").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let worker: u32 = next(&mut lines).parse().unwrap();
    assert_ne!(worker, parent.id());
    parent.kill().unwrap();
    assert_eq!(next(&mut lines), "the worker has ended");
    // Both have the other end of the pipe.
    lines.for_each(|line| drop(line.unwrap()));
    parent.wait().unwrap();
}

#[test]
fn a_child_is_connected_whatever_is_open_at_low_numbers() {
    match current_part().as_deref() {
        Some("worker") => return work(),
        Some(_) => {
            let (worker, mut child) = spawn(part("worker"));
            assert_eq!(worker.pid().unwrap(), child.id());
            assert!(child.wait().unwrap().success());
            // The child's own streams are closed.
            let (worker, mut child) = spawn(part_with("worker", "<&- >&- 2>&-"));
            assert_eq!(worker.pid().unwrap(), child.id());
            assert!(child.wait().unwrap().success());
            return;
        }
        None => {}
    }
    for script in [
        "3</dev/null",
        "3</dev/null 4</dev/null 5</dev/null 6</dev/null",
        "<&- >&- 2>&-",
        "<&- >&- 2>&- 3</dev/null",
    ] {
        let ended = part_with("parent", script).status().unwrap();
        assert!(ended.success(), "{script}");
    }
}

#[test]
fn the_connection_to_the_parent_is_taken_over_once_and_not_by_a_grandchild() {
    match current_part().as_deref() {
        Some("worker") => return work(),
        Some("grandchild" | "of a shell") => return say(&refusal()),
        _ => {}
    }
    let (worker, _child) = spawn(part("worker"));
    let refused = worker.take_over_again().unwrap();
    let why = [
        "no connection to the parent process: the descriptor has been taken over already",
        "no connection to the parent process: the descriptor is not open",
    ];
    assert_eq!(refused, why);

    // The shell inherits the descriptor, takes nothing over, and is the parent of the program.
    let mut shell = part_by("of a shell", "sh", "\"$0\" \"$@\"; true");
    shell.stdout(Stdio::piped());
    let (_connection, mut child) = Connection::spawn(shell).unwrap();
    let mut text = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    let said = said_in(&text);
    assert!(said.ends_with("another process to its own child"), "{said}");
}

#[test]
fn a_program_without_a_parent_that_connects_says_so() {
    if let Some(part) = current_part() {
        let mut server = Server::<()>::new(Limits::default()).unwrap();
        let error = server.adopt_parent().map(drop).unwrap_err();
        assert!(matches!(error, Error::NoParent { .. }), "{error:?}");
        return say(&format!("{part}: {error}"));
    }
    for (value, why) in [
        (None, "JSONCOMM_PARENT_FD is not set"),
        (Some("x"), "JSONCOMM_PARENT_FD is not a number above 2"),
        (Some(""), "JSONCOMM_PARENT_FD is not a number above 2"),
        (Some("-1"), "JSONCOMM_PARENT_FD is not a number above 2"),
        (Some("2"), "JSONCOMM_PARENT_FD is not a number above 2"),
        (Some("999999"), "the descriptor is not open"),
        (Some("9"), "the descriptor is not a seqpacket connection"),
    ] {
        let mut command = part_with("here", "9</dev/null");
        match value {
            Some(value) => command.env(PARENT_FD, value),
            None => command.env_remove(PARENT_FD),
        };
        let said = output(&mut command);
        assert_eq!(
            said,
            format!("here: no connection to the parent process: {why}")
        );
    }
}

#[test]
fn a_child_in_a_pid_namespace_of_its_own_serves_its_parent() {
    if current_part().is_some() {
        return work();
    }
    let new = ["--pid", "--fork"];
    if !Command::new("unshare")
        .args(new)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        return jsoncomm_tests::skip("only root makes pid namespaces, and not in every container");
    }
    let mut command = Command::new("unshare");
    command.args(new).arg(jsoncomm_tests::program_file());
    let (worker, mut child) = spawn(as_part("worker", command));
    assert_eq!(worker.pid().unwrap(), 1);
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(worker.caller().unwrap(), Some((user, None)));
    assert!(child.wait().unwrap().success());
}

#[test]
fn dropping_a_child_closes_its_connection_for_all_clones() {
    if current_part().is_some() {
        return work();
    }
    let (worker, child) = spawn(part("worker"));
    let id = worker.pid().unwrap();
    drop(child);
    assert_reaped(id);
    match worker.pid() {
        Err(CallError::Closed) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_in_flight_gets_its_reply_while_its_child_is_waited_for() {
    if current_part().is_some() {
        return work();
    }
    let (connection, mut child) = Connection::spawn(part("worker")).unwrap();
    let worker = WorkClient::new(connection.with_timeout(PATIENCE)).start();
    let pid = worker.pid().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(pid.wait().unwrap(), child.id());
}

#[test]
fn a_child_that_does_not_end_is_killed_after_the_grace_period() {
    if current_part().is_some() {
        return work();
    }
    for grace in [Duration::ZERO, Duration::from_millis(20)] {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let (_connection, mut child) = Connection::spawn(command).unwrap();
        child.set_grace(grace);
        let id = child.id();
        drop(child);
        assert_reaped(id);
    }
    let (worker, mut child) = spawn(part("worker"));
    let hanging = worker.start().hang().unwrap();
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(child.wait_by(soon).unwrap(), None);
    child.set_grace(Duration::ZERO);
    let id = child.id();
    drop(child);
    assert_reaped(id);
    match hanging.wait() {
        Err(CallError::Closed) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_killed_child_is_waited_for_and_its_calls_end() {
    if current_part().is_some() {
        return work();
    }
    let (worker, mut child) = spawn(part("worker"));
    let hanging = worker.start().hang().unwrap();
    child.kill().unwrap();
    match hanging.wait() {
        Err(CallError::Closed) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(child.wait().unwrap().signal(), KILLED);
    child.kill().unwrap();
}

#[test]
fn a_program_that_ignores_sigchld_ends_its_children_too() {
    match current_part().as_deref() {
        Some("worker") => return work(),
        Some(_) => {
            let (worker, mut child) = spawn(part("worker"));
            worker.pid().unwrap();
            drop(worker);
            match child.wait() {
                Err(Error::Os { operation, .. }) => assert_eq!(operation, "waitpid"),
                other => panic!("{other:?}"),
            }
            let (worker, child) = spawn(part("worker"));
            worker.pid().unwrap();
            drop(child);
            return;
        }
        None => {}
    }
    let ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    let ended = part_by("parent", "python3", ignoring).status().unwrap();
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_child_started_otherwise_is_ended_like_any_other() {
    let mut command = Command::new("cat");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Child::from(piped.spawn().unwrap());
    child.stdin.as_mut().unwrap().write_all(b"one").unwrap();
    // Waiting closes the pipe, at whose end the program ends.
    assert!(child.wait().unwrap().success());
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "one");

    let child = Child::from(Command::new("true").spawn().unwrap());
    let id = child.id();
    drop(child);
    assert_reaped(id);
}

#[test]
fn the_end_of_a_child_can_be_watched() {
    let (_connection, child) = Connection::spawn(Command::new("true")).unwrap();
    let Some(pidfd) = child.pidfd() else {
        return jsoncomm_tests::skip("pidfd_open is of Linux 5.3");
    };
    struct Ended(bool);
    let mut server = Server::new(Limits::default()).unwrap();
    let pidfd = pidfd.try_clone_to_owned().unwrap();
    let watched = server.watch(pidfd, |ended: &mut Ended, control| {
        ended.0 = true;
        control.remove();
        control.stop();
    });
    watched.unwrap();
    let mut ended = Ended(false);
    server.run(&mut ended).unwrap();
    assert!(ended.0);
}

/// Returns the command of a child or a parent in Python.
fn python_child(role: &str) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/child.py");
    let mut command = jsoncomm_tests::python(script);
    command.arg(role).stdout(Stdio::piped());
    command
}

#[test]
fn a_parent_and_its_child_may_be_in_python() {
    match current_part().as_deref() {
        Some("worker") => return work(),
        Some(_) => {
            let work = WorkClient::new(Connection::from_parent().unwrap().with_timeout(PATIENCE));
            assert_ne!(work.pid().unwrap(), std::process::id());
            return;
        }
        None => {}
    }
    let said = |child: &mut Child| {
        let mut text = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
        said_in(&text).to_owned()
    };
    let (worker, mut child) = spawn(python_child("serve"));
    assert_eq!(worker.pid().unwrap(), child.id());
    let user = rustix::process::geteuid().as_raw();
    let me = Some(std::process::id());
    assert_eq!(worker.caller().unwrap(), Some((user, me)));
    drop(worker);
    assert_eq!(said(&mut child), "ended");

    let mut server = Server::new(Limits::default()).unwrap();
    let (endpoint, mut child) = server.spawn(python_child("call")).unwrap();
    endpoint.stop_on_close().unwrap().serve::<dyn Work>();
    server.run(&mut Worker).unwrap();
    assert_eq!(said(&mut child), std::process::id().to_string());

    for (role, name) in [("parent", "worker"), ("host", "caller")] {
        let child = part(name);
        let mut parent = python_child(role);
        // Not /proc/self/exe, which would be Python.
        parent
            .arg(jsoncomm_tests::program_file())
            .args(child.get_args());
        assert_eq!(output(parent.env(PART, name)), "0", "{role}");
    }
}
