//! As many sessions in one server as the process may open.

use std::process::Command;

use jsoncomm_tests::{alone, has_proc, resident, this_program, wait_until};
use rustix::process::{Resource, getrlimit};

use super::*;

/// Set in the client's process: the path of the server's socket, and the number of sessions.
const PART: &str = "JSONCOMM_TESTS_SESSIONS";

/// How many calls are in flight at a time.
const WINDOW: usize = 64;

/// Opens this many sessions.
fn open_many(lobby: &LobbyClient, count: u64) -> Vec<RoomClient<Started>> {
    let lobby = lobby.start();
    let mut rooms = Vec::new();
    for first in (0..count).step_by(WINDOW) {
        let calls = (first..count.min(first + WINDOW as u64)).map(|tag| lobby.open(tag).unwrap());
        let opened = PendingCall::wait_all(calls.collect::<Vec<_>>());
        rooms.extend(
            opened
                .into_iter()
                .map(|opened| room(opened.unwrap().session)),
        );
    }
    rooms
}

/// Calls each session, and asserts that all but one are served.
fn call_many(rooms: &[RoomClient<Started>], closed: u64) {
    for (first, rooms) in (0..).step_by(WINDOW).zip(rooms.chunks(WINDOW)) {
        let calls: Vec<_> = rooms.iter().map(RoomClient::who).collect();
        for (tag, call) in (first..).zip(calls) {
            match call.and_then(PendingCall::wait) {
                Ok((found, _)) => assert!(tag != closed && found == Some(tag)),
                Err(CallError::Closed | CallError::NotSent(Error::Closed)) => {
                    assert_eq!(tag, closed);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn sessions_from_another_process() {
    let Some(part) = std::env::var_os(PART) else {
        return;
    };
    let part = part.into_string().unwrap();
    let (count, path) = part.split_once(' ').unwrap();
    let count: u64 = count.parse().unwrap();
    let connection = Connection::open(path).unwrap().with_timeout(PATIENCE);
    let lobby = LobbyClient::new(connection);
    let before = resident();
    let rooms = open_many(&lobby, count);
    let each = (resident() - before) * 1024 / count;
    eprintln!("{count} sessions, {each} bytes each in the client");
    // At the limit, which the server has set to this many.
    let Err(CallError::Service(why)) = lobby.open(count) else {
        panic!("one more is opened");
    };
    assert!(why.ends_with("too many connections of this user"), "{why}");
    let closed = count / 2;
    assert!(lobby.close(closed).unwrap());
    call_many(&rooms, closed);
    // One that is closed makes room for one, once the server has told its state.
    let mut again = None;
    wait_until(|| {
        again = lobby.open(count).ok();
        again.is_some()
    });
    assert!(lobby.open(count + 1).is_err());
}

#[test]
fn thousands_of_sessions_are_served_by_one_server_within_the_limit_of_their_user() {
    alone!();
    // Three quarters of the descriptors are for connections, of which the server has ten more than the user.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // A client's connection reserves a MiB of addresses to receive in, of which 32 bits have few.
    let enough = if cfg!(target_pointer_width = "64") {
        7_500
    } else {
        1_000
    };
    let count = (limit / 4 * 3 - 11).min(enough);
    let mut limits = Limits::default();
    limits.user_connections = usize::try_from(count).unwrap() + 1;
    limits.connections = limits.user_connections + 10;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lobby.sock");
    let mut server = Server::new(limits).unwrap();
    server.sessions::<dyn Room>(ended).unwrap();
    server
        .bind(&path, Kind::Seqpacket)
        .unwrap()
        .serve::<dyn Lobby>();
    let mut hall = Hall::default();
    hall.called.reserve(usize::try_from(count).unwrap());
    let before = resident();
    let mut client = Command::new(this_program())
        .args(["--exact", "sessions::many::sessions_from_another_process"])
        .args(["--nocapture", "--test-threads=1"])
        .env(PART, format!("{count} {}", path.display()))
        .spawn()
        .unwrap();
    let mut most = 0;
    let status = loop {
        let wait = Some(Duration::from_millis(10));
        let _ = server.run_once(&mut hall, wait).unwrap();
        if hall.sessions.len() as u64 == count && most == 0 {
            most = resident();
        }
        if let Some(status) = client.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
    let until = Instant::now() + PATIENCE;
    while hall.ended.len() as u64 <= count {
        assert!(Instant::now() < until, "{} have ended", hall.ended.len());
        let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    }
    // Each was told once.
    hall.ended.sort_unstable();
    assert!(hall.ended.iter().copied().eq(0..=count));
    assert_eq!(hall.called.len() as u64, count - 1);
    if has_proc() {
        let each = (most - before) * 1024 / count;
        eprintln!("{count} sessions, {each} bytes each in the server");
        assert!(each < 4096, "{each} bytes each");
    }
}
