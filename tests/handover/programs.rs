//! Handing over to another process: by exec, and by a descriptor on a socket.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use jsoncomm::server::HandoverProblem;
use jsoncomm::socket::Socket;
use jsoncomm_tests::{KINDS, can_be_others, this_program};
use rustix::process::geteuid;

use super::*;

/// Set in a process that a test has started, to what it is to do.
const PART: &str = "JSONCOMM_TESTS_PART";

#[derive(Debug, Message)]
struct Passed {
    #[fd]
    fd: OwnedFd,
}

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Makes the command that runs the test of this thread in another process.
fn command(part: &str) -> Command {
    let test = std::thread::current().name().unwrap().to_owned();
    let mut command = Command::new(this_program());
    command
        .args(["--exact", &test, "--nocapture"])
        .env(PART, part);
    command.stdout(Stdio::null());
    command
}

/// A process, killed if the test has failed.
struct Process(Child);

impl Process {
    /// Starts it with one end of a pair as its standard input.
    fn start(mut command: Command) -> (Self, Socket) {
        let (near, far) = jsoncomm_tests::pair(Kind::Seqpacket);
        let far = far.as_fd().try_clone_to_owned().unwrap();
        (Self(command.stdin(far).spawn().unwrap()), near)
    }

    #[track_caller]
    fn end(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The socket that a process has as its standard input.
fn stdin() -> Socket {
    let fd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut socket = Socket::from_fd(fd).unwrap();
    socket.set_timeout(Some(PATIENCE));
    socket
}

#[jsoncomm::service(name = "test.exec")]
trait Exec {
    /// Returns how often the program has replaced itself.
    fn generation(&mut self) -> u32;
    /// Replaces the program.
    #[oneway]
    fn replace(&mut self);
    /// Counts as long as the process lives.
    #[oneway]
    fn stop(&mut self);
}

struct Program {
    generation: u32,
    handle: jsoncomm::server::ServerHandle<Program>,
    goes_on: bool,
}

impl Exec for Program {
    fn generation(&mut self) -> u32 {
        self.generation
    }

    fn replace(&mut self) {
        self.goes_on = true;
        self.handle.stop();
    }

    fn stop(&mut self) {
        self.handle.stop();
    }
}

fn serve_exec(_: &str, endpoint: Endpoint<'_, Program>) -> Result<(), Error> {
    endpoint.serve::<dyn Exec>();
    Ok(())
}

/// Serves until it is told to stop or to replace itself.
fn run_program(part: &str) {
    let (path, generation) = part.rsplit_once(' ').unwrap();
    let generation = generation.parse().unwrap();
    let mut server = Server::new(Limits::default()).unwrap();
    match Handover::inherited().unwrap() {
        Some(handover) => server.take_over(handover, serve_exec).unwrap(),
        None => {
            assert_eq!(generation, 0);
            let endpoint = server.bind(path, Kind::Seqpacket).unwrap();
            serve_exec("", endpoint).unwrap();
            stdin().send("ready").unwrap();
        }
    }
    let handle = server.handle();
    let mut program = Program {
        generation,
        handle,
        goes_on: false,
    };
    server.run(&mut program).unwrap();
    if program.goes_on {
        let handover = server.hand_over(&mut program, Duration::ZERO).unwrap();
        let missing = handover.exec(&mut Command::new("/nowhere/at/all"));
        assert!(missing.to_string().contains("execve"), "{missing}");
        let failed = handover.exec(&mut command(&format!("{path} {}", generation + 1)));
        panic!("{failed}");
    }
}

#[test]
fn a_program_replaces_itself_under_its_clients() {
    if let Some(part) = part() {
        return run_program(&part);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exec.sock");
    let (process, mut socket) = Process::start(command(&format!("{} 0", path.display())));
    assert_eq!(socket.receive::<String>().unwrap().0, "ready");
    let connect = || ExecClient::new(Connection::open(&path).unwrap().with_timeout(PATIENCE));
    let clients = [connect(), connect()];
    for generation in 0..4 {
        for client in &clients {
            assert_eq!(client.generation().unwrap(), generation);
        }
        clients[0].replace().unwrap();
        // Sent before or after, to the old program, to none or to the next.
        let next = connect().generation().unwrap();
        assert!([generation, generation + 1].contains(&next));
        assert_eq!(clients[0].generation().unwrap(), generation + 1);
    }
    clients[1].stop().unwrap();
    process.end();
    assert!(!path.exists(), "the last one removes the file");
}

#[test]
fn another_process_takes_over_what_it_gets_as_a_descriptor() {
    if part().is_some() {
        let handover = stdin().receive::<Passed>().unwrap().0.fd;
        let mut server = Server::new(Limits::default()).unwrap();
        let own = geteuid().as_raw();
        let only_known = |name: &str, endpoint: Endpoint<'_, State>| {
            let endpoint = endpoint.serve::<dyn Desk>();
            if name == "pair" {
                let _ = endpoint.authorize(move |peer| peer.uid() == own);
            }
            Ok(())
        };
        let handover = Handover::from_fd(handover).unwrap();
        server.take_over(handover, only_known).unwrap();
        stdin().send("ready").unwrap();
        let socket = stdin().as_fd().try_clone_to_owned().unwrap();
        server.watch(socket, |_, control| control.stop()).unwrap();
        return server.run(&mut State::default()).unwrap();
    }
    let place = Place::new();
    let (mut server, mut state) = (place.server(), State::default());
    let (near, far) = jsoncomm_tests::pair(Kind::Seqpacket);
    let near = near.as_fd().try_clone_to_owned().unwrap();
    server.adopt(near).unwrap().named("pair");
    let unknown = Connection::from_fd(far.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let unknown = DeskClient::new(unknown.with_timeout(PATIENCE));
    drop(far);
    let clients = KINDS.map(|kind| place.connect(kind));
    run_dry(&mut server, &mut state);
    let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
    let (process, mut socket) = Process::start(command(""));
    socket
        .send(&Passed {
            fd: handover.to_fd().unwrap(),
        })
        .unwrap();
    assert_eq!(socket.receive::<String>().unwrap().0, "ready");
    drop((handover, server));
    for (count, client) in (1..).zip(&clients) {
        assert_eq!(client.count(1).unwrap(), count);
        assert_eq!(client.user().unwrap(), Some(geteuid().as_raw()));
    }
    // To the next process the kernel would report this one as the maker of the pair.
    let refused = unknown.user();
    assert!(
        matches!(&refused, Err(CallError::Fault(fault)) if fault.code == Fault::NOT_AUTHORIZED),
        "{refused:?}"
    );
    drop(socket);
    process.end();
    assert!(KINDS.iter().all(|kind| !place.path(*kind).exists()));
}

#[test]
fn a_handover_of_another_user_is_refused() {
    /// Not the id of any user.
    const STRANGER: u32 = 4711;
    if part().is_some() {
        let mut server = Server::<()>::new(Limits::default()).unwrap();
        let handover = server.hand_over(&mut (), Duration::ZERO).unwrap();
        let fd = handover.to_fd().unwrap();
        return stdin().send(&Passed { fd }).unwrap();
    }
    if !can_be_others() {
        return;
    }
    let mut stranger = command("");
    stranger.uid(STRANGER).gid(STRANGER);
    let (process, mut socket) = Process::start(stranger);
    let fd = socket.receive::<Passed>().unwrap().0.fd;
    process.end();
    let refused = Handover::from_fd(fd).map(drop).unwrap_err();
    let is_foreign = matches!(
        refused,
        Error::Handover(HandoverProblem::Foreign { uid: STRANGER })
    );
    assert!(is_foreign, "{refused:?}");
}

#[test]
fn only_the_process_that_was_told_takes_what_it_inherits() {
    if part().is_some() {
        assert!(Handover::inherited().unwrap().is_none());
        return;
    }
    for value in ["3:1", "", "3", ":"] {
        let mut other = command("");
        let (process, _socket) = Process::start({
            other.env("JSONCOMM_HANDOVER", value);
            other
        });
        process.end();
    }
}
