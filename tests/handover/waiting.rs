//! What waits while nobody serves: deferred calls, replies without room, messages, batches and new clients.

use std::collections::BTreeSet;

use jsoncomm::server::{Access, Verdict};
use jsoncomm::socket::Socket;
use jsoncomm_tests::{KINDS, alone, assert_open_fds, open_fds, send_raw, servers_are_gone};
use serde_json::Value;

use super::*;

#[test]
fn deferred_calls_get_their_reply_within_the_grace_and_a_fault_after_it() {
    for kind in KINDS {
        let place = Place::new();
        let (mut server, mut state) = (place.server(), State::default());
        let desk = place.connect(kind);
        let begun = desk.start().later(1).unwrap();
        let mut items = desk.follow().unwrap();
        wait_for_deferred(&mut server, &mut state, 2);
        let pause = Duration::from_millis(1);
        let timer = server.after(pause, |state: &mut State, _| state.reply());
        timer.unwrap();
        let mut server = next(server, &mut state, 50 * pause);
        assert_eq!(begun.wait().unwrap(), 1);
        assert_eq!(items.next().unwrap().unwrap(), 0);
        let end = items.next().unwrap();
        assert!(is_shutting_down(&end), "{end:?}");
        assert!(!state.streams[0].is_wanted());

        let begun = desk.start().later(1).unwrap();
        wait_for_deferred(&mut server, &mut state, 1);
        next(server, &mut state, Duration::ZERO);
        assert!(is_shutting_down(&begun.wait()));
    }
}

fn wait_for_deferred(server: &mut Server<State>, state: &mut State, calls: usize) {
    while server.stats().deferred < calls {
        let _ = server.run_once(state, Some(PATIENCE)).unwrap();
    }
}

#[test]
fn a_call_that_waits_for_a_verdict_ends_by_name_and_its_descriptors_are_closed() {
    alone!();
    for kind in KINDS {
        let fds = open_fds();
        let place = Place::new();
        let (ask, asked) = std::sync::mpsc::channel();
        let (mut server, mut state) = (Server::new(Limits::default()).unwrap(), State::default());
        let endpoint = server.bind(place.path(kind), kind).unwrap();
        let endpoint = endpoint.named(name(kind)).serve::<dyn Desk>();
        endpoint.authorize_calls(move |_| {
            let ask = ask.clone();
            Access::ask(move |verdict| ask.send(verdict).unwrap())
        });
        let desk = place.connect(kind);
        let kept = desk.start().keep(File::open("/dev/null").unwrap()).unwrap();
        let counted = desk.start().count(1).unwrap();
        desk.note(1).unwrap();
        let mut verdicts = Vec::new();
        while verdicts.len() < 3 {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
            verdicts.extend(asked.try_iter());
        }
        // A verdict is not waited for, but one that has been given counts.
        verdicts.remove(1).allow();
        let mut server = next(server, &mut state, PATIENCE);
        assert!(is_shutting_down(&kept.wait()));
        assert_eq!(counted.wait().unwrap(), 1);
        assert!(verdicts.iter().all(|verdict| !verdict.is_wanted()));
        verdicts.into_iter().for_each(Verdict::allow);
        // The next server has no such rule.
        let counted = desk.start().count(1).unwrap();
        run_dry(&mut server, &mut state);
        assert_eq!(counted.wait().unwrap(), 2);
        assert!(state.files.is_empty());
        drop((server, desk, asked));
        servers_are_gone();
        assert_open_fds(fds);
    }
}

#[test]
fn unread_messages_and_waiting_clients_are_served_by_the_next_server() {
    for kind in KINDS {
        let place = Place::new();
        let (mut server, mut state) = (place.server(), State::default());
        let known = place.connect(kind);
        let first = known.start().count(1).unwrap();
        run_dry(&mut server, &mut state);
        assert_eq!(first.wait().unwrap(), 1);
        let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
        let fd = handover.to_fd().unwrap();
        drop((handover, server));
        // Now nobody serves.
        let unread = known.start().count(1).unwrap();
        let new = place.connect(kind);
        let waiting = new.start().count(2).unwrap();
        let gone = place.connect(kind);
        gone.note(3).unwrap();
        drop(gone);
        let mut server = Server::new(Limits::default()).unwrap();
        server
            .take_over(Handover::from_fd(fd).unwrap(), serve)
            .unwrap();
        run_dry(&mut server, &mut state);
        assert_eq!((unread.wait().unwrap(), waiting.wait().unwrap()), (2, 1));
        assert_eq!(state.counts[&3], 1);
    }
}

/// Sends a batch of calls, each with a descriptor in its reply.
fn send_batch(client: &Socket, calls: usize, size: usize) {
    let call = |id| {
        let params = format!(r#"{{"size":{size}}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"test.desk.make","params":{params}}}"#)
    };
    let calls: Vec<String> = (0..calls).map(call).collect();
    send_raw(client, format!("[{}]", calls.join(",")).as_bytes(), &[]).unwrap();
}

/// Receives the reply to each call of the batch.
fn receive_replies(client: &mut Socket, server: &mut Server<State>, state: &mut State, calls: u64) {
    let mut ids = BTreeSet::new();
    while (ids.len() as u64) < calls {
        let _ = server.run_once(state, Some(Duration::ZERO)).unwrap();
        while let jsoncomm::socket::Received::Message(raw, _) = client.try_receive_raw().unwrap() {
            let reply: Value = serde_json::from_slice(&raw.bytes).unwrap();
            let is_whole = reply["result"]["file"] == 0 && raw.fds.get(0).is_some();
            assert!(is_whole && raw.fds.len() == 1, "{:.100}", reply.to_string());
            assert!(ids.insert(reply["id"].as_u64().unwrap()), "twice");
        }
    }
    assert_eq!(ids, (0..calls).collect());
}

#[test]
fn replies_without_room_and_the_rest_of_a_batch_are_handed_over_with_descriptors() {
    const CALLS: usize = 60;
    alone!();
    let mut limits = Limits::default();
    (limits.messages_per_turn, limits.user_descriptors) = (50, 100);
    (limits.backlog_bytes, limits.user_backlog_bytes) = (16 << 20, 16 << 20);
    for kind in KINDS {
        let fds = open_fds();
        let place = Place::new();
        let mut state = State::default();
        let mut server = place.server_with(limits.clone());
        let mut client = Socket::connect(place.path(kind), kind).unwrap();
        client.set_timeout(Some(PATIENCE));
        send_batch(&client, CALLS, 100_000);
        while server.stats().backlog == 0 {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
        let (before, counts) = (server.stats(), server.counts());
        assert!(
            counts.received < CALLS as u64,
            "a batch is left: {counts:?}"
        );
        let server = next_with(limits.clone(), server, &mut state, Duration::from_millis(1));
        let after = server.stats();
        assert_eq!(after.backlog, before.backlog);
        assert_eq!(after.fds_in_flight, before.fds_in_flight);
        assert_eq!(after.connections, before.connections);
        // Once more, with what was handed over.
        let mut server = next_with(limits.clone(), server, &mut state, Duration::ZERO);
        receive_replies(&mut client, &mut server, &mut state, CALLS as u64);
        assert_eq!(server.stats().backlog, 0);
        drop((server, client));
        servers_are_gone();
        assert_open_fds(fds);
    }
}

#[test]
fn what_a_user_has_counts_against_the_limits_of_the_next_server() {
    let mut limits = Limits::default();
    limits.user_connections = 3;
    let place = Place::new();
    let (mut server, mut state) = (place.server_with(limits.clone()), State::default());
    let kept = [(); 2].map(|()| place.connect(Kind::Seqpacket));
    run_dry(&mut server, &mut state);
    assert_eq!(server.stats().connections, 2);
    let mut server = next_with(limits, server, &mut state, Duration::ZERO);
    assert_eq!(server.stats().connections, 2);
    let more = [(); 2].map(|()| place.connect(Kind::Seqpacket).start().count(1).unwrap());
    run_dry(&mut server, &mut state);
    assert_eq!(server.stats().connections, 3);
    let [at, above] = more.map(|call| call.wait());
    assert_eq!(at.unwrap(), 1);
    assert!(above.is_err(), "{above:?}");
    drop(kept);
}

#[test]
fn more_connections_than_fit_into_a_message_are_handed_over() {
    // A message carries 253 descriptors.
    const CLIENTS: u32 = 300;
    alone!();
    let mut limits = Limits::default();
    (limits.connections, limits.user_connections) = (400, 400);
    let place = Place::new();
    let (mut server, mut state) = (place.server_with(limits.clone()), State::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| place.connect(Kind::Seqpacket))
        .collect();
    run_dry(&mut server, &mut state);
    let mut server = next_with(limits, server, &mut state, Duration::ZERO);
    assert_eq!(server.stats().connections, CLIENTS as usize);
    let calls = (0..)
        .zip(&clients)
        .map(|(number, client)| client.start().count(number).unwrap());
    let calls: Vec<_> = calls.collect();
    run_dry(&mut server, &mut state);
    for call in calls {
        assert_eq!(call.wait().unwrap(), 1);
    }
}
