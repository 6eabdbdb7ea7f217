//! Reconnecting, and repeating calls that are idempotent.

use super::hostile::{FarEnd, against, reply_to};
use super::*;
use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn a_call_after_a_restart_reconnects_only_if_enabled() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let first = Other::serve(&path, kind);
        let before = open_fds();
        let connection = open(&path);
        connection.set_message_limit(1000);
        connection.set_depth_limit(5);
        let open_now = open_fds();
        let (same, number) = (connection.clone(), connection.as_fd().as_raw_fd());
        let plain = DeskClient::new(connection.clone());
        let client = DeskClient::new(connection.reconnecting());
        let pid = client.echo(1).unwrap().pid;
        let in_flight = client.start().never().unwrap();
        wait_until_kept(&path, 1);
        first.kill();
        assert_closed(client.echo(2));
        let next = Other::serve(&path, kind);
        assert_closed(plain.echo(3));
        let echo = client.echo(4).unwrap();
        assert!(echo.number == 4 && echo.pid != pid);
        // A call in flight is not repeated.
        assert_closed(in_flight.wait());
        assert_eq!(client.kept().unwrap(), (0, 0));
        // All share the connection and its limits, and the number of its descriptor stays the same.
        assert_eq!(plain.echo(5).unwrap().number, 5);
        let long = same.notify("x.y", &("x".repeat(1000),));
        assert!(matches!(
            long,
            Err(CallError::NotSent(jsoncomm::Error::Encode(_)))
        ));
        let deep = same.notify("x.y", &[[[[[1]]]]]);
        assert!(matches!(
            deep,
            Err(CallError::NotSent(jsoncomm::Error::Encode(
                jsoncomm::message::EncodeError::TooDeep { limit: 5 }
            )))
        ));
        assert_eq!(same.as_fd().as_raw_fd(), number);
        drop(next);
        assert!(open_fds() <= open_now);
        drop((plain, client, connection, same));
        assert!(open_fds() <= before);
    }
}

#[test]
fn a_server_that_restarts_with_another_kind_is_found_or_reported() {
    alone!();
    for (kind, other) in [(KINDS[0], KINDS[1]), (KINDS[1], KINDS[0])] {
        let (_directory, path) = place();
        let first = Other::serve(&path, kind);
        let before = open_fds();
        let whichever = open(&path).reconnecting();
        let connection = Connection::connect(&path, kind)
            .unwrap()
            .with_timeout(PATIENCE);
        let desks = [
            whichever,
            connection.reconnecting(),
            connection.idempotent(),
        ]
        .map(DeskClient::new);
        for client in &desks {
            client.echo(1).unwrap();
        }
        first.kill();
        let _next = Other::serve(&path, other);
        let [whichever, of_kind @ ..] = &desks;
        assert_eq!(whichever.echo(2).unwrap().number, 2);
        for client in of_kind {
            for _ in 0..3 {
                let refused = client.echo(3);
                assert!(
                    matches!(
                        refused,
                        Err(CallError::NotSent(jsoncomm::Error::Address {
                            problem: jsoncomm::address::AddressProblem::OtherKind,
                            ..
                        }))
                    ),
                    "{refused:?}"
                );
            }
        }
        drop(connection);
        drop(desks);
        assert!(open_fds() <= before);
    }
}

#[test]
fn a_call_that_could_not_be_sent_is_sent_to_the_restarted_server() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let (connection, far) = against(&path, kind);
        let connection = connection.reconnecting();
        drop(far);
        let accept = FarEnd::bind(&path, kind);
        connection.notify("x.y", &(1,)).unwrap();
        let mut far = accept();
        assert_eq!(far.receive()["params"], json!([1]));
        drop(far);
        let accept = FarEnd::bind(&path, kind);
        let call = DeskClient::new(connection).start().echo(2).unwrap();
        let mut far = accept();
        let id = far.receive()["id"].clone();
        far.send_reply(&id, 2);
        assert_eq!(call.wait().unwrap().number, 2);
    }
}

#[test]
fn a_call_fails_with_closed_if_no_server_has_restarted() {
    alone!();
    for kind in KINDS {
        for unlinked in [false, true] {
            let (_directory, path) = place();
            let (connection, far) = against(&path, kind);
            drop(far);
            if unlinked {
                let _ = std::fs::remove_file(&path);
            }
            let client = DeskClient::new(connection.reconnecting());
            for _ in 0..3 {
                assert_closed(client.echo(1));
            }
            let hasty = connection.with_timeout(SEVERAL_CHECKS).idempotent();
            let late = DeskClient::new(hasty).echo(1);
            assert!(matches!(late, Err(CallError::Deadline)), "{late:?}");
        }
    }
}

#[test]
fn without_an_address_or_in_an_event_loop_calls_never_reconnect() {
    alone!();
    for kind in KINDS {
        let (near, far) = jsoncomm_tests::pair(kind);
        let near = near.as_fd().try_clone_to_owned().unwrap();
        let connection = Connection::from_fd(near).unwrap();
        drop(far);
        assert_closed(DeskClient::new(connection.reconnecting()).echo(1));
        assert_closed(DeskClient::new(connection.idempotent()).echo(1));

        let (_directory, path) = place();
        let (connection, far) = against(&path, kind);
        connection.set_driven();
        drop(far);
        let _next = FarEnd::bind(&path, kind);
        assert_closed(DeskClient::new(connection.idempotent()).echo(1));
        assert_closed(DeskClient::new(connection.reconnecting()).start().echo(1));
    }
}

#[test]
fn an_idempotent_call_is_repeated_until_it_gets_a_reply() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let (connection, mut far) = against(&path, kind);
        let client = DeskClient::new(connection.idempotent());
        let waiting = std::thread::spawn(move || client.echo(9));
        let mut ids = HashSet::new();
        let mut budget = u64::MAX;
        for round in 0..4 {
            let call = far.receive();
            assert_eq!(call["params"], json!({"number": 9}));
            assert!(
                ids.insert(call["id"].as_u64().unwrap()),
                "each attempt has its own id"
            );
            let timeout = call["timeout"].as_u64().unwrap();
            assert!(timeout <= budget, "what is left of the deadline");
            budget = timeout;
            if round == 3 {
                // A reply to the previous attempt of the call is ignored.
                let stale = ids.iter().find(|id| json!(id) != call["id"]).unwrap();
                far.send_reply(&json!(stale), 99);
                far.send_reply(&call["id"], 9);
                break;
            }
            drop(far);
            far = FarEnd::bind(&path, kind)();
        }
        assert_eq!(waiting.join().unwrap().unwrap().number, 9);
    }
}

#[test]
fn a_reply_of_the_old_server_is_never_taken_for_that_of_the_new() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let (connection, mut far) = against(&path, kind);
        let client = DeskClient::new(connection.reconnecting());
        let hasty = DeskClient::new(connection.with_timeout(Duration::from_millis(30)));
        assert!(matches!(hasty.echo(1), Err(CallError::Deadline)));
        let old = far.receive()["id"].clone();
        drop(far);
        let accept = FarEnd::bind(&path, kind);
        let call = client.start().echo(2).unwrap();
        let mut far = accept();
        let id = far.receive()["id"].clone();
        assert_ne!(id, old);
        far.send(reply_to(&old, 1));
        far.send(reply_to(&id, 2));
        assert_eq!(call.wait().unwrap().number, 2);
    }
}

#[test]
fn while_servers_are_killed_in_a_loop_each_call_ends_with_its_own_reply() {
    const CLIENTS: u64 = 20;
    const DEATHS: usize = 10;
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let mut server = Other::serve(&path, kind);
        let before = open_fds();
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                let connection = open(&path);
                let repeats = client % 2 == 0;
                let connection = if repeats {
                    connection.idempotent()
                } else {
                    connection.reconnecting()
                };
                let desk = DeskClient::new(connection);
                std::thread::spawn(move || {
                    let mut number = client << 32;
                    while !stop.load(Ordering::Relaxed) {
                        number += 1;
                        match desk.echo(number) {
                            Ok(echo) => {
                                assert_eq!(echo.number, number);
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(CallError::Closed) if !repeats => std::thread::yield_now(),
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..DEATHS {
            let until = Instant::now() + PATIENCE;
            let enough = answered.load(Ordering::Relaxed) + 5 * CLIENTS;
            while answered.load(Ordering::Relaxed) < enough {
                assert!(Instant::now() < until, "no call gets a reply any more");
                std::thread::yield_now();
            }
            server.kill();
            server = Other::serve(&path, kind);
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        server.kill();
        assert!(open_fds() <= before);
    }
}
