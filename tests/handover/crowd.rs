//! Clients that call without pause, while one server after the other takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use jsoncomm_tests::{alone, assert_open_fds, open_fds, servers_are_gone, wait_until};

use super::*;

const CLIENTS: u32 = 20;
const HANDOVERS: usize = 50;

/// What the clients and the test tell each other.
#[derive(Default)]
struct Progress {
    calls: AtomicU64,
    end: AtomicBool,
}

/// How a client calls.
#[derive(Clone, Copy)]
enum Way {
    /// One call after the other.
    Calls,
    /// Calls without a reply, then one with.
    Notes,
    /// Several calls in one datagram.
    Batches,
    /// Calls that get their reply later.
    Later,
    /// A new connection for each call.
    Connections,
}

/// Calls until the end. Returns how many calls the servers must have counted.
fn call(place: &Place, client: u32, kind: Kind, way: Way, progress: &Progress) -> u64 {
    let connection = Connection::open(place.path(kind)).unwrap();
    let connection = connection.with_timeout(PATIENCE);
    let desk = DeskClient::new(connection.clone());
    let mut counted = 0;
    while !progress.end.load(Ordering::Relaxed) {
        match way {
            Way::Calls => counted += 1,
            Way::Notes => {
                for _ in 0..5 {
                    desk.note(client).unwrap();
                }
                counted += 6;
            }
            Way::Batches => {
                let batched = DeskClient::new(connection.batching());
                let calls = [(); 40].map(|()| batched.start().count(client).unwrap());
                for call in calls {
                    counted += 1;
                    assert_eq!(call.wait().unwrap(), counted);
                }
                counted += 1;
            }
            Way::Later => {
                counted += 1;
                let reply = desk.later(client);
                assert!(is_shutting_down(&reply) || reply.unwrap() == counted);
                counted += 1;
            }
            Way::Connections => {
                counted += 1;
                assert_eq!(place.connect(kind).count(client).unwrap(), counted);
                counted += 1;
            }
        }
        assert_eq!(desk.count(client).unwrap(), counted);
        progress.calls.fetch_add(1, Ordering::Relaxed);
    }
    counted
}

fn run(mut server: Server<State>, mut state: State) -> JoinHandle<(Server<State>, State)> {
    let timer = server.every(Duration::from_millis(1), |state: &mut State, _| {
        state.reply()
    });
    timer.unwrap();
    thread::spawn(move || {
        server.run(&mut state).unwrap();
        (server, state)
    })
}

#[test]
fn clients_that_call_without_pause_notice_no_handover() {
    alone!();
    let fds = open_fds();
    let place = Arc::new(Place::new());
    let progress = Arc::new(Progress::default());
    let (mut server, mut state) = (place.server(), State::default());
    let ways = [
        Way::Calls,
        Way::Notes,
        Way::Batches,
        Way::Later,
        Way::Connections,
    ];
    let clients = (0..CLIENTS).map(|client| {
        let kind = jsoncomm_tests::KINDS[client as usize % 2];
        let way = ways[client as usize / 2 % ways.len()];
        let (place, progress) = (Arc::clone(&place), Arc::clone(&progress));
        thread::spawn(move || call(&place, client, kind, way, &progress))
    });
    let clients: Vec<_> = clients.collect();
    for round in 0..HANDOVERS {
        let handle = server.handle();
        let thread = run(server, state);
        let calls = progress.calls.load(Ordering::Relaxed);
        wait_until(|| {
            let stuck = clients.iter().any(JoinHandle::is_finished);
            assert!(!stuck, "a client has failed");
            progress.calls.load(Ordering::Relaxed) >= calls + u64::from(CLIENTS) / 2
        });
        handle.stop();
        (server, state) = thread.join().unwrap();
        let grace = Duration::from_millis(if round % 2 == 0 { 0 } else { 20 });
        server = next(server, &mut state, grace);
    }
    let handle = server.handle();
    let thread = run(server, state);
    progress.end.store(true, Ordering::Relaxed);
    let counted: Vec<u64> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    handle.stop();
    let (server, state) = thread.join().unwrap();
    for (client, counted) in (0..).zip(counted) {
        assert_eq!(
            state.counts.get(&client).copied().unwrap_or(0),
            counted,
            "{client}"
        );
    }
    let paths = jsoncomm_tests::KINDS.map(|kind| place.path(kind));
    assert!(paths.iter().all(|path| path.exists()));
    // A handle and replies that are kept hold a descriptor of their server.
    drop((server, state, handle));
    assert!(
        !paths.iter().any(|path| path.exists()),
        "the last one removes the files"
    );
    servers_are_gone();
    assert_open_fds(fds);
}
