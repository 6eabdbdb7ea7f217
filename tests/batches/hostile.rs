//! Batches of hostile peers, and what bounds them.

use super::*;

use std::ops::ControlFlow;
use std::path::Path;

use jsoncomm::Server;
use jsoncomm::observe::Stats;
use jsoncomm::server::{Token, raise_descriptor_limit};

/// Asserts that a text gets one fault with `"id":null`, and that none of its calls runs.
#[track_caller]
fn assert_refused_whole(fixture: &mut Fixture, text: impl AsRef<[u8]>, code: i64) {
    assert_eq!(fixture.ask(text), fault(Value::Null, code));
    fixture.assert_nothing_comes();
}

#[test]
fn a_batch_that_is_not_json_is_refused_once_and_runs_nothing() {
    alone!();
    let whole = batch([note('a'), note('b'), note('c')]);
    let at = |place: usize| whole.match_indices("{\"jsonrpc").nth(place).unwrap().0;
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for place in 0..3 {
        let (before, after) = whole.split_at(at(place) + 1);
        for broken in [
            "x",
            "\"",
            "{",
            "}",
            "]",
            "\"a\":01,",
            "\"a\":\"\\x\",",
            "\u{b}",
            ",",
        ] {
            texts.push(format!("{before}{broken}{after}").into());
        }
        texts.push([before.as_bytes(), b"\"\xff\":1,", after.as_bytes()].concat());
    }
    for end in 1..whole.len() {
        texts.push(whole[..end].into());
    }
    for more in ["]", ",", "x", "[]", "\0"] {
        texts.push(format!("{whole}{more}").into());
    }
    texts.push(whole.replace("},{", "}{").into());
    texts.push(whole.replace("},{", "},,{").into());
    texts.push(whole.replace("}]", "},]").into());
    for kind in KINDS {
        let mut fixture = Fixture::with(kind, |limits| limits.malformed = usize::MAX);
        for text in &texts {
            assert_refused_whole(&mut fixture, text, Fault::PARSE_ERROR);
        }
        assert_eq!(
            fixture.ask(&whole[1..whole.len() - 1]),
            fault(Value::Null, Fault::PARSE_ERROR)
        );
        let (state, counts) = fixture.stop();
        assert_eq!(state.notes, "");
        assert_eq!(counts.refused, texts.len() as u64 + 1);
        assert_eq!(counts.handled, texts.len() as u64);
    }
}

#[test]
fn a_batch_of_batches_is_an_array_of_no_calls() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::with(kind, |limits| limits.malformed = usize::MAX);
        let refused = fault(Value::Null, Fault::INVALID_REQUEST);
        let nested = batch([batch([note('a')]), batch([batch([note('b')])])]);
        assert_eq!(fixture.ask(nested), json!([refused, refused]));
        // An element may be as deep as a message, and no deeper.
        let deep = |depth: usize| {
            let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            call(7, "batch.echo", &format!("[0,{value}]"))
        };
        let expected = json!([
            fault(7, Fault::INVALID_PARAMS),
            fault(7, Fault::PARSE_ERROR),
        ]);
        assert_eq!(fixture.ask(batch([deep(62), deep(63)])), expected);
        assert_eq!(
            fixture.ask(format!("[{}{}]", "[".repeat(65), "]".repeat(65))),
            json!([fault(Value::Null, Fault::PARSE_ERROR)])
        );
        let megabyte = Limits::default().message;
        for (text, code) in [
            ("[".repeat(megabyte), Fault::PARSE_ERROR),
            ("[]".repeat(megabyte / 2), Fault::PARSE_ERROR),
            (
                format!("[{}[]]", "[],".repeat(megabyte / 3 - 2)),
                Fault::INVALID_REQUEST,
            ),
            (
                format!("[{}1]", "1,".repeat(megabyte / 2 - 2)),
                Fault::INVALID_REQUEST,
            ),
            (
                format!("[\"{}\"", "x".repeat(megabyte - 3)),
                Fault::PARSE_ERROR,
            ),
            (format!("[{}", " ".repeat(megabyte - 1)), Fault::PARSE_ERROR),
        ] {
            assert!(text.len() <= megabyte);
            assert_refused_whole(&mut fixture, text, code);
        }
        let half = "[".repeat(megabyte / 2 - 1);
        let text = format!("[{half}{}]", half.replace('[', "]"));
        assert_eq!(
            fixture.ask(text),
            json!([fault(Value::Null, Fault::PARSE_ERROR)])
        );
        assert_eq!(fixture.stop().0.notes, "");
    }
}

#[test]
fn repeated_ids_in_a_batch_get_a_reply_each() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let replies = fixture.ask(batch([echo(1), call(1, "batch.other", "[]"), echo(1)]));
        let unknown = fault(1, Fault::METHOD_NOT_FOUND);
        assert_eq!(replies, json!([result(1, 1), unknown, result(1, 1)]));
        // Of deferred calls with one id, a cancel ends the latest.
        let wait = call(1, "batch.wait", "[]");
        let cancel = String::from(r#"{"jsonrpc":"2.0","method":"rpc.cancel","params":[1]}"#);
        let ring = call(2, "batch.ring", "[]");
        let text = batch([&wait, &wait, &wait, &cancel, &ring]);
        let (mut replies, _) = {
            fixture.send(text);
            fixture.replies(4)
        };
        replies.sort_by_key(Value::to_string);
        let cancelled = fault(1, Fault::CANCELLED);
        assert_eq!(
            replies,
            [cancelled, result(1, 0), result(1, 0), result(2, 3)]
        );
        fixture.stop();
    }
}

#[test]
fn a_batch_with_descriptors_is_refused_for_each_call_and_they_are_closed() {
    alone!();
    // Where it is low, a user may not send as many.
    raise_descriptor_limit().unwrap();
    for kind in KINDS {
        let mut fixture = Fixture::with(kind, |limits| {
            limits.descriptors = 16;
            limits.user_descriptors = usize::MAX;
        });
        let text = batch([
            echo(1),
            call(2, "batch.take", "[0]"),
            note('a'),
            String::from(r#"{"jsonrpc":"2.0","id":3,"result":{"file":0}}"#),
            echo(4),
        ]);
        let null = null();
        let fds = [null.as_fd(); 253];
        let mut refused = 0;
        for count in [1, 2, 16, 17, 253] {
            send_raw(&fixture.raw, text.as_bytes(), &fds[..count]).unwrap();
            let code = Fault::INVALID_DESCRIPTORS;
            let expected = [fault(1, code), fault(2, code), fault(4, code)];
            assert_eq!(fixture.receive(), json!(expected), "{count}");
            send_raw(&fixture.raw, note('a').as_bytes(), &[]).unwrap();
            send_raw(&fixture.raw, batch([note('a')]).as_bytes(), &fds[..count]).unwrap();
            fixture.assert_nothing_comes();
            refused += 7;
            // A text that is no batch, nor anything else.
            send_raw(&fixture.raw, b"[{]", &fds[..count]).unwrap();
            let code = if count > 16 { code } else { Fault::PARSE_ERROR };
            assert_eq!(fixture.receive(), fault(Value::Null, code));
        }
        drop(null);
        let (state, counts) = fixture.stop();
        assert_eq!((state.notes.as_str(), counts.refused), ("aaaaa", refused));
    }
}

#[test]
fn a_batch_with_more_unused_descriptors_than_its_user_may_send_disconnects_it() {
    alone!();
    let mut fixture = Fixture::with(Kind::Seqpacket, |limits| limits.user_descriptors = 4);
    let null = null();
    send_raw(
        &fixture.raw,
        batch([echo(1)]).as_bytes(),
        &[null.as_fd(); 16],
    )
    .unwrap();
    let refused = fault(1, Fault::INVALID_DESCRIPTORS);
    assert_eq!(fixture.receive(), json!([refused]));
    let raw = fixture.raw;
    fixture.raw = connect(&fixture.server, Kind::Seqpacket);
    fixture.assert_nothing_comes();
    drop((raw, null));
    fixture.stop();
}

#[test]
fn malformed_elements_count_as_malformed_messages() {
    alone!();
    for malformed in 2..=5 {
        let mut fixture = Fixture::with(Kind::Seqpacket, |limits| limits.malformed = 3);
        let mut elements = vec![String::from("1"); malformed];
        elements.push(note('a'));
        elements.push(echo(7));
        // Up to the one that disconnects, all are replied to.
        let refused = fault(Value::Null, Fault::INVALID_REQUEST);
        let mut expected = vec![refused; malformed.min(4)];
        if malformed <= 3 {
            expected.push(result(7, 7));
        }
        assert_eq!(fixture.ask(batch(elements)), Value::Array(expected));
        if malformed > 3 {
            let end = fixture.raw.receive::<u64>();
            assert!(matches!(end, Err(jsoncomm::Error::Closed)), "{end:?}");
            fixture.raw = connect(&fixture.server, Kind::Seqpacket);
        }
        let (state, counts) = fixture.stop();
        let runs = malformed <= 3;
        assert_eq!(state.notes == "a", runs);
        assert_eq!(counts.disconnected, u64::from(!runs));
    }
}

#[test]
fn a_datagram_peer_that_is_not_authorized_is_refused_for_each_call() {
    alone!();
    let mut fixture = Fixture::serving(
        Kind::Datagram,
        |_| {},
        |endpoint| endpoint.authorize(|_| false),
    );
    let replies = fixture.ask(batch([echo(1), note('a'), echo(2)]));
    let code = Fault::NOT_AUTHORIZED;
    assert_eq!(replies, json!([fault(1, code), fault(2, code)]));
    assert_eq!(fixture.ask("[]"), fault(Value::Null, code));
    let (state, counts) = fixture.stop();
    assert_eq!((state.notes.as_str(), counts.refused_with(code)), ("", 4));
}

#[test]
fn a_batch_is_handled_in_turns_and_before_what_its_peer_sends_later() {
    alone!();
    for kind in KINDS {
        for turn in [1, 2, 3, 31, 32, 63, 64, 100] {
            let fixture = Fixture::with(kind, |limits| limits.messages_per_turn = turn);
            let mut other = connect(&fixture.server, kind);
            fixture.server.while_blocked(|| {
                fixture.send(batch(vec![note('a'); 64]));
                fixture.send(note('z'));
                for _ in 0..4 {
                    send_raw(&other, note('b').as_bytes(), &[]).unwrap();
                }
            });
            send_raw(&other, echo(1).as_bytes(), &[]).unwrap();
            assert_eq!(receive(&mut other), result(1, 1));
            let mut fixture = fixture;
            fixture.assert_nothing_comes();
            drop(other);
            let (state, _) = fixture.stop();
            let notes = state.notes;
            assert_eq!(notes.len(), 69);
            assert_eq!(notes.replace('b', ""), "a".repeat(64) + "z", "{notes}");
            // The other connection has its turn as often.
            if kind == Kind::Seqpacket && turn < 31 {
                let last = notes.rfind('b').unwrap();
                assert!(
                    last <= 4 + turn * (4_usize.div_ceil(turn) + 1),
                    "{turn}: {notes}"
                );
            }
        }
    }
}

#[test]
fn a_batch_of_slow_calls_does_not_keep_another_client_waiting() {
    alone!();
    let mut fixture = Fixture::with(Kind::Seqpacket, |limits| limits.messages_per_turn = 2);
    let mut other = connect(&fixture.server, Kind::Seqpacket);
    let slow = (0..64).map(|id| call(id, "batch.sleep", "[]"));
    fixture.send(batch(slow));
    // The first array shows that the batch has begun.
    let first = fixture.receive();
    assert_eq!(first, json!([result(0, 1), result(1, 1)]));
    for id in 0..10 {
        send_raw(&other, echo(id).as_bytes(), &[]).unwrap();
        assert_eq!(receive(&mut other), result(id, id));
    }
    let notes = call(100, "batch.notes", "[]");
    send_raw(&other, notes.as_bytes(), &[]).unwrap();
    assert_eq!(receive(&mut other), result(100, ""));
    let (replies, arrays) = fixture.replies(62);
    assert_eq!(arrays, [2; 31]);
    let expected: Vec<_> = (2..64).map(|id| result(id, 1)).collect();
    assert_eq!(replies, expected);
    drop(other);
    fixture.stop();
}

#[test]
fn what_is_left_of_a_batch_is_charged_to_its_user() {
    alone!();
    for kind in KINDS {
        let text = batch((0..8).map(echo));
        for (budget, fits) in [
            (text.len() - 1, false),
            (text.len(), true),
            (text.len() + 1, true),
        ] {
            let mut fixture = Fixture::with(kind, |limits| {
                (limits.messages_per_turn, limits.user_backlog_bytes) = (3, budget);
            });
            fixture.send(&text);
            let (replies, arrays) = fixture.replies(8);
            let code = |id: u64| match fits || id < 3 {
                true => result(id, id),
                false => fault(id, Fault::BUSY),
            };
            let expected: Vec<_> = (0..8).map(code).collect();
            assert_eq!(replies, expected);
            let expected: &[usize] = if fits { &[3, 3, 2] } else { &[3, 5] };
            assert_eq!(arrays, expected);
            // Nothing stays charged.
            fixture.server.finish_turn();
            fixture.send(&text);
            assert_eq!(fixture.replies(8).1, expected);
            fixture.stop();
        }
    }
}

#[test]
fn a_peer_that_reads_no_replies_to_its_batches_is_not_read_from() {
    alone!();
    let mut fixture = Fixture::start(Kind::Seqpacket);
    let text = batch((0..64).map(|id| call(id, "batch.make", "[20000]")));
    rustix::net::sockopt::set_socket_send_buffer_size(&fixture.raw, 4096).unwrap();
    let mut sent = 0;
    let full = |socket: &Socket| {
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        rustix::net::send(socket, text.as_bytes(), flags).is_err()
    };
    let until = Instant::now() + PATIENCE;
    let mut calm = 0;
    // Nothing can be sent for several turns of the server in a row.
    while calm < 5 {
        assert!(Instant::now() < until, "{sent} batches have been read");
        if full(&fixture.raw) {
            calm += 1;
            fixture.server.finish_turn();
        } else {
            (sent, calm) = (sent + 1, 0);
        }
    }
    let stats: Stats = fixture.server.stats();
    assert!(stats.backlog > 0 && stats.backlog <= 64, "{stats:?}");
    let mut other = connect(&fixture.server, Kind::Seqpacket);
    send_raw(&other, echo(1).as_bytes(), &[]).unwrap();
    assert_eq!(receive(&mut other), result(1, 1));
    // It gets all replies once it reads.
    let (replies, _) = fixture.replies(64 * sent);
    assert!(
        replies
            .iter()
            .all(|reply| reply["result"].as_str().map(str::len) == Some(20_000))
    );
    drop(other);
    assert_eq!(fixture.stop().1.undelivered, 0);
}

#[test]
fn a_datagram_peer_that_reads_no_replies_to_its_batches_loses_them_one_by_one() {
    alone!();
    let mut fixture = Fixture::with(Kind::Datagram, |limits| {
        limits.retry_backoff = Duration::from_millis(1);
        limits.backlog_replies = 3;
    });
    let mut sent = 0;
    // The socket's send buffer is full after some arrays, and three of the next eight replies find room in the backlog.
    while fixture.server.stats().counts.undelivered == 0 {
        fixture.send(batch((0..8).map(echo)));
        sent += 8;
        assert!(sent < 1_000_000);
    }
    fixture.server.assert_busy_with(0);
    let lost = fixture.server.stats().counts.undelivered;
    assert!((5..=8).contains(&lost), "{lost}");
    let (_, arrays) = fixture.replies(sent - usize::try_from(lost).unwrap());
    assert!(arrays.iter().all(|length| *length == 8));
    fixture.assert_nothing_comes();
    fixture.stop();
}

#[test]
fn what_a_peer_has_sent_in_a_batch_before_it_disconnects_is_handled_like_single_calls() {
    alone!();
    for replied in [false, true] {
        let mut fixture = Fixture::with(Kind::Seqpacket, |limits| limits.messages_per_turn = 2);
        let element = if replied { echo(1) } else { note('a') };
        let other = connect(&fixture.server, Kind::Seqpacket);
        let gone = std::mem::replace(&mut fixture.raw, other);
        fixture.server.while_blocked(|| {
            send_raw(&gone, batch(vec![element; 10]).as_bytes(), &[]).unwrap();
            drop(gone);
        });
        fixture.assert_nothing_comes();
        fixture.server.assert_busy_with(1);
        let (state, counts) = fixture.stop();
        if replied {
            // The first array shows that the peer is gone.
            assert_eq!((counts.handled, counts.undelivered), (3, 2));
        } else {
            assert_eq!(
                (state.notes.as_str(), counts.undelivered),
                ("aaaaaaaaaa", 0)
            );
        }
    }
}

/// Makes a server that handles so many messages in a turn. Returns it with the token of its socket.
fn server_at(path: &Path, kind: Kind, messages_per_turn: usize) -> (Server<State>, Token) {
    let mut limits = Limits::default();
    limits.messages_per_turn = messages_per_turn;
    let mut server = Server::new(limits).unwrap();
    let endpoint = server.bind(path, kind).unwrap().serve::<dyn Probe>();
    let token = endpoint.token();
    (server, token)
}

/// Runs a server on this thread until it ends.
fn run(server: &mut Server<State>, state: &mut State) {
    let until = Instant::now() + PATIENCE;
    while server.run_once(state, Some(PATIENCE)).unwrap() == ControlFlow::Continue(()) {
        assert!(Instant::now() < until, "the server does not end");
    }
}

#[test]
fn a_shutdown_in_the_middle_of_a_batch_refuses_what_is_left() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.sock");
        let (mut server, _) = server_at(&path, kind, 2);
        let mut state = State::default();
        let mut client = Socket::connect(&path, kind).unwrap();
        client.set_timeout(Some(PATIENCE));
        send_raw(&client, batch((0..10).map(echo)).as_bytes(), &[]).unwrap();
        while server.counts().handled == 0 {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
        server.shut_down(PATIENCE).unwrap();
        run(&mut server, &mut state);
        assert_eq!(receive(&mut client), json!([result(0, 0), result(1, 1)]));
        let mut replies = Vec::new();
        while replies.len() < 8 {
            let Value::Array(array) = receive(&mut client) else {
                panic!("no array");
            };
            replies.extend(array);
        }
        let refused = |id: u64| fault(id, Fault::SHUTTING_DOWN);
        assert_eq!(replies, (2..10).map(refused).collect::<Vec<_>>());
    }
    assert_open_fds(before);
}

#[test]
fn a_server_that_ends_in_the_middle_of_a_batch_leaves_nothing() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.sock");
        let (mut server, token) = server_at(&path, kind, 1);
        let mut state = State::default();
        let client = Socket::connect(&path, kind).unwrap();
        let calls = (0..10).map(|id| call(id, "batch.wait", "[]"));
        send_raw(&client, batch(calls).as_bytes(), &[]).unwrap();
        while server.counts().handled < 2 {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        }
        assert!(state.waiting[0].is_wanted());
        server.remove(token);
        drop(server);
        assert_eq!(state.waiting.len(), 2);
        assert!(!state.waiting[0].is_wanted());
    }
    assert_open_fds(before);
}

#[test]
fn a_bare_endpoint_takes_an_array_as_one_message() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, State::default(), |endpoint| endpoint.bare::<Ask>());
        let mut client = connect(&server, kind);
        let now = r#"{"Now":{"number":1}}"#;
        // It is no request of this type, and there is no envelope for a fault.
        send_raw(&client, batch([now, now]).as_bytes(), &[]).unwrap();
        send_raw(&client, now.as_bytes(), &[]).unwrap();
        assert_eq!(receive(&mut client), json!(1));
        let (_, counts) = server.stop();
        assert_eq!((counts.handled, counts.refused), (1, 1));
    }
}
