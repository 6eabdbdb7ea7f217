//! Calls that wait for their verdict: how they end.

use std::ops::ControlFlow;
use std::sync::Mutex;

use jsoncomm::server::Session;
use jsoncomm::{CallError, Connection};

use super::*;

/// A verdict whose callback counts.
fn counting(verdict: Verdict, ended: &Arc<AtomicUsize>) -> Verdict {
    let ended = Arc::clone(ended);
    verdict.on_cancel(move || {
        ended.fetch_add(1, Ordering::SeqCst);
    });
    verdict
}

#[test]
fn a_waiting_call_ends_at_its_deadline_and_one_that_is_allowed_keeps_it() {
    alone!();
    for kind in KINDS {
        let (server, asked) = serve_asking(kind, Limits::default(), &["open"]);
        let mut client = client(&server, kind);
        let with_timeout = |id, timeout: u64| {
            let text = call(id, "open", "[7]");
            let text = text.strip_suffix('}').unwrap();
            format!(r#"{text},"timeout":{timeout}}}"#)
        };
        let ended = Arc::new(AtomicUsize::new(0));
        // The later deadline is set first, and the earlier one ends first.
        send_raw(&client, with_timeout(1, 600_000).as_bytes(), &[]).unwrap();
        let long = next(&asked);
        send_raw(&client, with_timeout(2, 30).as_bytes(), &[]).unwrap();
        let short = counting(next(&asked), &ended);
        let reply = receive(&mut client);
        assert_eq!(
            (&reply["id"], code(&reply)),
            (&json!(2), Fault::DEADLINE_EXCEEDED)
        );
        assert!(!short.is_wanted());
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        // It comes too late, and says nothing.
        short.allow();
        long.allow();
        let reply = receive(&mut client);
        assert_eq!((&reply["id"], &reply["result"][0]), (&json!(1), &json!(7)));
        let left = reply["result"][1].as_u64().unwrap();
        assert!(
            left <= 600_000 - 30,
            "the deadline is that of its arrival: {left}"
        );
        // Nobody is asked about a call whose caller does not wait.
        let reply = ask(&mut client, &with_timeout(3, 0));
        assert_eq!(code(&reply), Fault::DEADLINE_EXCEEDED);
        assert!(asked.try_recv().is_err());
        server.assert_busy_with(usize::from(kind == Kind::Seqpacket));
    }
}

#[test]
fn a_waiting_call_can_be_cancelled_and_its_descriptors_are_closed() {
    alone!();
    for kind in KINDS {
        let (server, asked) = serve_asking(kind, Limits::default(), &["store"]);
        let mut client = client(&server, kind);
        assert_eq!(ask(&mut client, &call(1, "peek", "{}"))["result"], 0);
        let before = open_fds();
        let null = File::open("/dev/null").unwrap();
        let store = call(2, "store", r#"{"files":[0]}"#);
        send_raw(&client, store.as_bytes(), &[null.as_fd()]).unwrap();
        let ended = Arc::new(AtomicUsize::new(0));
        let verdict = counting(next(&asked), &ended);
        let cancel = r#"{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":2}}"#;
        send_raw(&client, cancel.as_bytes(), &[]).unwrap();
        let reply = receive(&mut client);
        assert_eq!((&reply["id"], code(&reply)), (&json!(2), Fault::CANCELLED));
        assert!(!verdict.is_wanted());
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        drop(null);
        assert_open_fds(before);
        // A verdict that is late concerns no other call, and a callback that is late runs at once.
        send_raw(&client, store.replace("[0]", "[]").as_bytes(), &[]).unwrap();
        let other = next(&asked);
        drop(counting(verdict, &ended));
        assert_eq!(ended.load(Ordering::SeqCst), 2);
        other.allow();
        assert_eq!(receive(&mut client)["result"], 0);
        assert_eq!(server.stop().1.cancelled, 1);
    }
}

#[test]
fn a_waiting_call_is_dropped_with_its_connection() {
    alone!();
    let (server, asked) = serve_asking(Kind::Seqpacket, Limits::default(), &["store", "note"]);
    let before = open_fds();
    let null = File::open("/dev/null").unwrap();
    let gone = client(&server, Kind::Seqpacket);
    let store = call(2, "store", r#"{"files":[0]}"#);
    send_raw(&gone, store.as_bytes(), &[null.as_fd()]).unwrap();
    let (ended, verdict) = (Arc::new(AtomicUsize::new(0)), next(&asked));
    let verdict = counting(verdict, &ended);
    drop((gone, null));
    server.assert_busy_with(0);
    assert!(!verdict.is_wanted());
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    verdict.allow();
    // One that is allowed while its connection is being closed is not handled either.
    let gone = client(&server, Kind::Seqpacket);
    let note = r#"{"jsonrpc":"2.0","method":"test.vault.note","params":[1]}"#;
    send_raw(&gone, note.as_bytes(), &[]).unwrap();
    let verdict = next(&asked);
    server.while_blocked(|| {
        drop(gone);
        verdict.allow();
    });
    server.assert_busy_with(0);
    assert_open_fds(before);
    let (state, counts) = server.stop();
    assert!(state.notes <= 1);
    assert_eq!(usize::try_from(counts.handled).unwrap(), state.notes);
}

#[test]
fn a_verdict_may_be_given_at_once_from_any_thread_or_be_dropped() {
    alone!();
    for kind in KINDS {
        let server = serve(kind, Limits::default(), |endpoint| {
            endpoint
                .authorize_method("test.vault.open", |_| Access::ask(Verdict::allow))
                .authorize_method("test.vault.who", |_| Access::ask(Verdict::refuse))
                .authorize_method("test.vault.peek", |_| {
                    Access::ask(|verdict| {
                        std::thread::spawn(|| verdict.allow());
                    })
                })
        });
        let mut client = client(&server, kind);
        for id in 0..100 {
            let opened = ask(&mut client, &call(id, "open", "[7]"));
            assert_eq!(opened["result"], json!([7, null]));
            let who = ask(&mut client, &call(id, "who", "{}"));
            assert_eq!(code(&who), Fault::NOT_AUTHORIZED);
            assert_eq!(ask(&mut client, &call(id, "peek", "{}"))["result"], 0);
        }
    }
}

#[test]
fn a_call_that_is_allowed_is_handled_with_the_peer_and_the_text_that_it_came_with() {
    alone!();
    let me = rustix::process::getuid().as_raw();
    for kind in KINDS {
        let (server, asked) = serve_asking(kind, Limits::default(), &["who", "echo", "store"]);
        let mut client = client(&server, kind);
        send_raw(&client, call(1, "who", "{}").as_bytes(), &[]).unwrap();
        let who = next(&asked);
        // A text of a memfd, and descriptors in their order.
        let large = call(2, "echo", &json!(["x".repeat(900_000)]).to_string());
        send_text(&client, large.as_bytes(), &[]).unwrap();
        let echo = next(&asked);
        let null = File::open("/dev/null").unwrap();
        let store = call(3, "store", r#"{"files":[1,0]}"#);
        send_raw(&client, store.as_bytes(), &[null.as_fd(); 2]).unwrap();
        let store = next(&asked);
        for (verdict, id, result) in [
            (store, 3, json!(2)),
            (echo, 2, json!(900_000)),
            (who, 1, json!(me)),
        ] {
            verdict.allow();
            let reply = receive(&mut client);
            assert_eq!(
                (&reply["id"], &reply["result"]),
                (&json!(id), &result),
                "{kind:?}"
            );
        }
    }
}

#[test]
fn a_shutdown_refuses_waiting_calls_by_name_and_does_not_wait_for_verdicts() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.sock");
        let (ask_for, asked) = channel();
        let before = open_fds();
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.bind(&path, kind).unwrap().serve::<dyn Vault>();
        endpoint.authorize_calls(asking(&ask_for));
        let mut client = Socket::connect(&path, kind).unwrap();
        client.set_timeout(Some(PATIENCE));
        let null = File::open("/dev/null").unwrap();
        let mut state = Keeper::default();
        let store = call(2, "store", r#"{"files":[0]}"#);
        send_raw(&client, store.as_bytes(), &[null.as_fd()]).unwrap();
        send_raw(&client, call(3, "peek", "{}").as_bytes(), &[]).unwrap();
        let mut verdicts = Vec::new();
        while verdicts.len() < 2 {
            let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
            verdicts.extend(asked.try_iter());
        }
        let ended = Arc::new(AtomicUsize::new(0));
        let verdict = counting(verdicts.remove(0), &ended);
        // Allowed too late to be handled.
        verdicts.remove(0).allow();
        server.shut_down(PATIENCE).unwrap();
        let start = Instant::now();
        while server.run_once(&mut state, Some(PATIENCE)).unwrap() == ControlFlow::Continue(()) {}
        assert!(start.elapsed() < PATIENCE);
        let mut ids: Vec<_> = (0..2)
            .map(|_| {
                let reply = receive(&mut client);
                assert_eq!(code(&reply), Fault::SHUTTING_DOWN);
                reply["id"].as_u64().unwrap()
            })
            .collect();
        ids.sort_unstable();
        assert_eq!((ids, ended.load(Ordering::SeqCst)), (vec![2, 3], 1));
        assert_eq!(server.counts().handled, 0);
        drop((client, null, server, verdict));
        assert_open_fds(before);
    }
}

#[test]
fn waiting_calls_end_with_their_endpoint_and_their_server() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let (ask_for, asked) = channel();
    let before = open_fds();
    let ended = Arc::new(AtomicUsize::new(0));
    for removed in [true, false] {
        let path = directory.path().join(format!("{removed}.sock"));
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.bind(&path, Kind::Datagram).unwrap();
        let endpoint = endpoint
            .serve::<dyn Vault>()
            .authorize_calls(asking(&ask_for));
        let token = endpoint.token();
        let client = Socket::connect(&path, Kind::Datagram).unwrap();
        let null = File::open("/dev/null").unwrap();
        let store = call(2, "store", r#"{"files":[0]}"#);
        send_raw(&client, store.as_bytes(), &[null.as_fd()]).unwrap();
        let mut state = Keeper::default();
        let _ = server.run_once(&mut state, Some(PATIENCE)).unwrap();
        let verdict = counting(next(&asked), &ended);
        let server = if removed {
            assert!(server.remove(token));
            Some(server)
        } else {
            drop(server);
            None
        };
        assert!(!verdict.is_wanted());
        verdict.allow();
        if let Some(mut server) = server {
            let _ = server.run_once(&mut state, Some(Duration::ZERO)).unwrap();
            assert_eq!(server.counts().handled, 0);
        }
    }
    assert_eq!(ended.load(Ordering::SeqCst), 2);
    assert_open_fds(before);
}

#[test]
fn a_handler_of_an_allowed_call_may_defer_its_reply() {
    alone!();
    #[jsoncomm::service(name = "test.door")]
    trait Door {
        fn close(&mut self, call: &mut Call) -> jsoncomm::Deferred<u32>;
    }
    struct Porter(Option<Reply<u32>>);
    impl Door for Porter {
        fn close(&mut self, call: &mut Call) -> jsoncomm::Deferred<u32> {
            call.defer(|reply| self.0 = Some(reply))
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("door.sock");
    let verdicts = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&verdicts);
    let mut server = Server::new(Limits::default()).unwrap();
    let endpoint = server
        .bind(&path, Kind::Datagram)
        .unwrap()
        .serve::<dyn Door>();
    endpoint.authorize_calls(move |_| {
        let kept = Arc::clone(&kept);
        Access::ask(move |verdict| kept.lock().unwrap().push(verdict))
    });
    let mut client = Socket::connect(&path, Kind::Datagram).unwrap();
    client.set_timeout(Some(PATIENCE));
    send_raw(&client, call(1, "test.door.close", "{}").as_bytes(), &[]).unwrap();
    let mut porter = Porter(None);
    let _ = server.run_once(&mut porter, Some(PATIENCE)).unwrap();
    verdicts.lock().unwrap().pop().unwrap().allow();
    assert_eq!(
        server.stats().deferred,
        1,
        "it waits until the loop has taken it"
    );
    let _ = server.run_once(&mut porter, Some(PATIENCE)).unwrap();
    assert_eq!(server.stats().deferred, 1, "its reply is deferred");
    porter.0.take().unwrap().send(5);
    let _ = server.run_once(&mut porter, Some(PATIENCE)).unwrap();
    assert_eq!(receive(&mut client)["result"], 5);
    assert_eq!(server.stats().deferred, 0);
}

/// Opens sessions.
#[jsoncomm::service(name = "test.lobby")]
trait Lobby {
    fn enter(&mut self, call: &mut Call, tag: u64) -> u64;
}

/// What a session serves.
#[jsoncomm::service(name = "test.room")]
trait Room {
    fn look(&mut self, call: &mut Call) -> (usize, Option<u64>);
}

/// Passes on what it opens.
struct Hall {
    opened: Sender<(Connection, Session)>,
    looked: usize,
}

impl Lobby for Hall {
    fn enter(&mut self, call: &mut Call, tag: u64) -> u64 {
        let opened = call.open_session::<dyn Room>(tag);
        self.opened.send(opened.unwrap()).unwrap();
        tag
    }
}

impl Room for Hall {
    fn look(&mut self, call: &mut Call) -> (usize, Option<u64>) {
        self.looked += 1;
        (self.looked, call.tag())
    }
}

#[test]
fn a_rule_sees_the_tag_of_a_session_and_a_revoked_one_handles_no_call_that_waited() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hall.sock");
    let ((ask_for, asked), (opened, sessions)) = (channel(), channel());
    let rule = move |call: &UnreadCall<'_>| {
        let (ask, tag) = (ask_for.clone(), call.tag());
        Access::ask(move |verdict| ask.send((tag, verdict)).unwrap())
    };
    let mut server = Server::new(Limits::default()).unwrap();
    let rooms = server.sessions::<dyn Room>(|_: &mut Hall, _, _| {});
    rooms.unwrap().authorize_calls(rule.clone());
    let endpoint = server.bind(&path, Kind::Seqpacket).unwrap();
    endpoint.serve::<dyn Lobby>().authorize_calls(rule);
    let handle = server.handle();
    let thread = std::thread::spawn(move || {
        let mut hall = Hall { opened, looked: 0 };
        server.run(&mut hall).unwrap();
        hall.looked
    });
    let next = || -> (Option<u64>, Verdict) { asked.recv_timeout(PATIENCE).unwrap() };
    let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
    let entering = LobbyClient::new(connection).start().enter(7).unwrap();
    let (tag, verdict) = next();
    assert_eq!(tag, None);
    verdict.allow();
    assert_eq!(entering.wait().unwrap(), 7);
    // What a handler asks of the loop is done also if its call had waited.
    let (near, session) = sessions.recv_timeout(PATIENCE).unwrap();
    let room = RoomClient::new(near.with_timeout(PATIENCE)).start();
    let looking = room.look().unwrap();
    let (tag, verdict) = next();
    assert_eq!(tag, Some(7));
    verdict.allow();
    assert_eq!(looking.wait().unwrap(), (1, Some(7)));
    let looking = room.look().unwrap();
    let (_, verdict) = next();
    session.close();
    verdict.allow();
    let ended = looking.wait();
    assert!(matches!(ended, Err(CallError::Closed)), "{ended:?}");
    handle.stop();
    assert_eq!(thread.join().unwrap(), 1);
}
