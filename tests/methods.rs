//! Rules for methods: allow, refuse, and ask, before anything of a call is decoded.

mod limits;
mod waiting;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use jsoncomm::message::{RawMessage, WithFds};
use jsoncomm::server::{Access, UnreadCall, Verdict};
use jsoncomm::socket::Socket;
use jsoncomm::{Call, Endpoint, Fault, Handler, Kind, Limits, Message, Reply, Server};
use jsoncomm_tests::{
    KINDS, PATIENCE, Running, alone, assert_open_fds, lingering, open_fds, send_raw, send_text,
    wait_until_closed,
};
use serde_json::{Value, json};

/// The service that has rules.
#[jsoncomm::service(name = "test.vault")]
trait Vault {
    /// Everybody may call it, unless there is a rule for all methods.
    fn peek(&mut self) -> usize;
    /// Returns the number, and how many milliseconds its caller waits.
    fn open(&mut self, call: &mut Call, number: u32) -> (u32, Option<u64>);
    /// Takes files.
    #[serde(alias = "keep", alias = "hide")]
    fn store(&mut self, #[fd] files: Vec<File>) -> usize;
    /// Is counted.
    #[oneway]
    fn note(&mut self, number: u32);
    /// Takes any text.
    fn echo(&mut self, text: String) -> usize;
    /// Returns who calls.
    fn who(&mut self, call: &mut Call) -> Option<u32>;
}

#[derive(Debug, Default)]
struct Keeper {
    notes: usize,
}

impl Vault for Keeper {
    fn peek(&mut self) -> usize {
        self.notes
    }

    fn open(&mut self, call: &mut Call, number: u32) -> (u32, Option<u64>) {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        let left = call.deadline().map(|end| left(end).as_millis());
        (number, left.map(|left| u64::try_from(left).unwrap()))
    }

    fn store(&mut self, files: Vec<File>) -> usize {
        files.len()
    }

    fn note(&mut self, _: u32) {
        self.notes += 1;
    }

    fn echo(&mut self, text: String) -> usize {
        text.len()
    }

    fn who(&mut self, call: &mut Call) -> Option<u32> {
        call.peer().map(jsoncomm::Peer::uid)
    }
}

/// A service of its own, without rules.
#[derive(Debug, Message)]
#[message(service = "test.other", reply = u32)]
enum Ask {
    Plain,
}

impl Handler<Ask> for Keeper {
    fn handle(&mut self, _: &mut Call, _: Ask, reply: Reply<u32>) {
        reply.send(1);
    }
}

/// Starts a server whose rules are set by `rules`.
fn serve(
    kind: Kind,
    limits: Limits,
    rules: impl FnOnce(Endpoint<'_, Keeper>) -> Endpoint<'_, Keeper>,
) -> Running<Keeper> {
    Running::with_limits(limits, kind, Keeper::default(), |endpoint| {
        rules(endpoint.serve::<dyn Vault>().handle::<Ask>())
    })
}

/// Starts a server that asks the test about each call to these methods.
fn serve_asking(
    kind: Kind,
    limits: Limits,
    methods: &[&str],
) -> (Running<Keeper>, Receiver<Verdict>) {
    let (ask, asked) = channel();
    let server = serve(kind, limits, |endpoint| {
        methods.iter().fold(endpoint, |endpoint, method| {
            let name = format!("test.vault.{method}");
            endpoint.authorize_method(&name, asking(&ask))
        })
    });
    (server, asked)
}

/// A rule that passes verdicts on.
fn asking(ask: &Sender<Verdict>) -> impl Fn(&UnreadCall<'_>) -> Access + Send + Sync + 'static {
    let ask = ask.clone();
    move |_| {
        let ask = ask.clone();
        Access::ask(move |verdict| ask.send(verdict).unwrap())
    }
}

fn next(asked: &Receiver<Verdict>) -> Verdict {
    asked.recv_timeout(PATIENCE).unwrap()
}

fn client<S: Send + 'static>(server: &Running<S>, kind: Kind) -> Socket {
    let mut socket = Socket::connect(&server.path, kind).unwrap();
    socket.set_timeout(Some(PATIENCE));
    socket
}

/// The text of a call to the vault, unless another service is named.
fn call(id: u32, method: &str, params: &str) -> String {
    let service = if method.contains('.') {
        ""
    } else {
        "test.vault."
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{service}{method}","params":{params}}}"#)
}

fn receive(client: &mut Socket) -> Value {
    client.receive::<WithFds<Value>>().unwrap().0.json
}

fn ask_with(client: &mut Socket, text: &str, fds: &[BorrowedFd<'_>]) -> Value {
    send_text(&*client, text.as_bytes(), fds).unwrap();
    receive(client)
}

fn ask(client: &mut Socket, text: &str) -> Value {
    ask_with(client, text, &[])
}

fn code(reply: &Value) -> i64 {
    reply["error"]["code"].as_i64().unwrap_or_default()
}

#[test]
fn a_method_with_a_rule_is_allowed_refused_or_asked_about_and_others_are_served() {
    alone!();
    for kind in KINDS {
        let (ask_for, asked) = channel();
        let server = serve(kind, Limits::default(), |endpoint| {
            endpoint
                .authorize_method("test.vault.peek", |_| Access::Allow)
                .authorize_method("test.vault.store", |_| Access::Refuse)
                .authorize_method("test.vault.echo", |call| call.peer().uid() == u32::MAX)
                .authorize_method("test.vault.open", asking(&ask_for))
        });
        let mut client = client(&server, kind);
        assert_eq!(ask(&mut client, &call(1, "peek", "{}"))["result"], 0);
        let refused = ask(&mut client, &call(2, "store", r#"{"files":[]}"#));
        let want = json!({"code": Fault::NOT_AUTHORIZED, "message": "not authorized"});
        assert_eq!((&refused["id"], &refused["error"]), (&json!(2), &want));
        let refused = ask(&mut client, &call(3, "echo", "[1]"));
        assert_eq!(code(&refused), Fault::NOT_AUTHORIZED);
        for allowed in [true, false] {
            send_raw(&client, call(4, "open", "[7]").as_bytes(), &[]).unwrap();
            let verdict = next(&asked);
            assert!(verdict.is_wanted());
            // Others of the same caller are handled meanwhile.
            assert_eq!(ask(&mut client, &call(5, "note.x", "{}"))["id"], 5);
            assert_eq!(
                ask(&mut client, &call(6, "test.other.plain", "{}"))["result"],
                1
            );
            if allowed {
                verdict.allow();
                assert_eq!(receive(&mut client)["result"], json!([7, null]));
            } else {
                verdict.refuse();
                let refused = receive(&mut client);
                assert_eq!((&refused["id"], &refused["error"]), (&json!(4), &want));
            }
        }
        server.assert_busy_with(usize::from(kind == Kind::Seqpacket));
        let counts = server.stop().1;
        assert_eq!(counts.refused_with(Fault::NOT_AUTHORIZED), 3, "{kind:?}");
        // Refused calls leave the connection open.
        assert_eq!((counts.disconnected, counts.panicked), (0, 0));
    }
}

#[test]
fn arguments_and_descriptors_of_a_call_are_not_looked_at_before_it_is_allowed() {
    alone!();
    for kind in KINDS {
        let (server, asked) = serve_asking(kind, Limits::default(), &["open"]);
        let strict = serve(kind, Limits::default(), |endpoint| {
            endpoint.authorize_calls(|call| call.method() == "peek")
        });
        let (mut client, mut refused) = (client(&server, kind), client(&strict, kind));
        let null = File::open("/dev/null").unwrap();
        for (params, fds, fault) in [
            (r#"{"number":"wrong"}"#, 0, Fault::INVALID_PARAMS),
            (r#"{"number":1,"more":2}"#, 0, Fault::INVALID_PARAMS),
            (r#"{"number":1}"#, 1, Fault::INVALID_DESCRIPTORS),
        ] {
            let text = call(1, "open", params);
            let fds = vec![null.as_fd(); fds];
            let reply = ask_with(&mut refused, &text, &fds);
            assert_eq!(code(&reply), Fault::NOT_AUTHORIZED, "{params}");
            send_raw(&client, text.as_bytes(), &fds).unwrap();
            next(&asked).refuse();
            assert_eq!(code(&receive(&mut client)), Fault::NOT_AUTHORIZED);
            send_raw(&client, text.as_bytes(), &fds).unwrap();
            next(&asked).allow();
            assert_eq!(code(&receive(&mut client)), fault, "{params}");
        }
        // What is no JSON is reported as such.
        let broken = r#"{"jsonrpc":"2.0","id":1,"method":"test.vault.open","params":[1]"#;
        for client in [&mut client, &mut refused] {
            assert_eq!(code(&ask(client, broken)), Fault::PARSE_ERROR);
        }
        assert!(
            asked.try_recv().is_err(),
            "a broken call is not asked about"
        );
    }
}

#[test]
fn a_rule_for_all_methods_covers_those_without_a_rule_of_their_own() {
    alone!();
    for all_first in [true, false] {
        let server = serve(Kind::Seqpacket, Limits::default(), |endpoint| {
            let endpoint = match all_first {
                true => endpoint.authorize_calls(|_| false),
                false => endpoint,
            };
            let endpoint = endpoint
                .authorize_method("test.vault.peek", |_| false)
                .authorize_method("test.vault.peek", |_| true);
            match all_first {
                true => endpoint,
                false => endpoint.authorize_calls(|_| false),
            }
        });
        let mut client = client(&server, Kind::Seqpacket);
        assert_eq!(ask(&mut client, &call(1, "peek", "{}"))["result"], 0);
        for other in ["who", "test.other.plain", "rpc.discover"] {
            let reply = ask(&mut client, &call(1, other, "{}"));
            assert_eq!(code(&reply), Fault::NOT_AUTHORIZED, "{other}");
        }
    }
}

#[test]
fn a_rule_for_all_covers_services_that_are_added_later() {
    let mut server = Server::new(Limits::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("late.sock");
    let endpoint = server.bind(&path, Kind::Seqpacket).unwrap();
    endpoint.authorize_calls(|_| false).serve::<dyn Vault>();
    let mut client = Socket::connect(&path, Kind::Seqpacket).unwrap();
    client.set_timeout(Some(PATIENCE));
    send_raw(&client, call(1, "peek", "{}").as_bytes(), &[]).unwrap();
    for _ in 0..2 {
        let _ = server.run_once(&mut Keeper::default(), Some(PATIENCE));
    }
    assert_eq!(code(&receive(&mut client)), Fault::NOT_AUTHORIZED);
}

#[test]
fn an_unknown_method_is_reported_before_a_call_of_the_rule() {
    alone!();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = serve(Kind::Seqpacket, Limits::default(), |endpoint| {
        endpoint.authorize_calls(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            false
        })
    });
    let mut client = client(&server, Kind::Seqpacket);
    for unknown in ["peeks", "test.vaults.peek", "rpc.unknown", "rpc.discovers"] {
        let reply = ask(&mut client, &call(1, unknown, "{}"));
        assert_eq!(code(&reply), Fault::METHOD_NOT_FOUND, "{unknown}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert_eq!(
        code(&ask(&mut client, &call(1, "peek", "{}"))),
        Fault::NOT_AUTHORIZED
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_rule_that_panics_refuses_and_so_does_what_it_asks_with() {
    alone!();
    for kind in KINDS {
        let server = serve(kind, Limits::default(), |endpoint| {
            endpoint
                .authorize_method("test.vault.peek", |_| -> bool {
                    panic!("as the test wants")
                })
                .authorize_method("test.vault.who", |_| {
                    Access::ask(|_verdict| panic!("as the test wants"))
                })
                .authorize_method("test.vault.open", |_| Access::ask(drop))
        });
        let mut client = client(&server, kind);
        for method in ["peek", "who", "open"] {
            let reply = ask(&mut client, &call(1, method, "[1]"));
            assert_eq!(code(&reply), Fault::NOT_AUTHORIZED, "{method}");
        }
        assert_eq!(ask(&mut client, &call(1, "echo", r#"["x"]"#))["result"], 1);
        server.assert_busy_with(usize::from(kind == Kind::Seqpacket));
        assert_eq!(server.stop().1.refused_with(Fault::NOT_AUTHORIZED), 3);
    }
}

#[test]
fn a_peer_whose_identity_is_unknown_is_refused_without_a_call_of_the_rule() {
    alone!();
    for kind in KINDS {
        for known in [false, true] {
            let (near, mut far) = jsoncomm_tests::pair(kind);
            let mut server = Server::new(Limits::default()).unwrap();
            let near = near.as_fd().try_clone_to_owned().unwrap();
            let mut endpoint = server.adopt(near).unwrap();
            if known {
                let me = rustix::process::getuid().as_raw();
                endpoint = endpoint.peer_is(me, me).unwrap();
            }
            endpoint.serve::<dyn Vault>().authorize_calls(move |call| {
                assert_eq!(
                    call.peer().pid(),
                    None,
                    "only called for a peer that is known"
                );
                known
            });
            send_raw(&far, call(1, "peek", "{}").as_bytes(), &[]).unwrap();
            let _ = server.run_once(&mut Keeper::default(), Some(PATIENCE));
            let want = if known { 0 } else { Fault::NOT_AUTHORIZED };
            assert_eq!(code(&receive(&mut far)), want, "{kind:?}");
            assert_eq!(server.counts().panicked, 0);
        }
    }
}

#[test]
fn an_older_name_counts_as_the_methods_present_one() {
    alone!();
    for named in ["store", "keep", "hide"] {
        let server = serve(Kind::Seqpacket, Limits::default(), |endpoint| {
            endpoint.authorize_method(&format!("test.vault.{named}"), |call| {
                assert_eq!((call.service(), call.method()), ("test.vault", "store"));
                call.method() != "store"
            })
        });
        let mut client = client(&server, Kind::Seqpacket);
        for called in ["store", "keep", "hide"] {
            let reply = ask(&mut client, &call(1, called, r#"{"files":[]}"#));
            assert_eq!(code(&reply), Fault::NOT_AUTHORIZED, "{named} {called}");
        }
    }
}

#[test]
fn discovery_is_covered_and_shows_which_methods_have_a_rule() {
    alone!();
    let (ask_for, asked) = channel();
    let server = serve(Kind::Seqpacket, Limits::default(), |endpoint| {
        endpoint
            .authorize_method("test.vault.hide", |_| true)
            .authorize_method("rpc.discover", asking(&ask_for))
    });
    let mut client = client(&server, Kind::Seqpacket);
    let discover = call(1, "rpc.discover", "{}");
    send_raw(&client, discover.as_bytes(), &[]).unwrap();
    next(&asked).allow();
    let document = receive(&mut client);
    let methods = document["result"]["methods"].as_array().unwrap();
    let restricted = methods
        .iter()
        .filter(|method| method["x-restricted"] == true);
    let names: Vec<_> = restricted.map(|method| &method["name"]).collect();
    assert_eq!(names, [&json!("test.vault.store")]);
    assert!(methods.len() > 5);
    send_raw(&client, discover.as_bytes(), &[]).unwrap();
    next(&asked).refuse();
    assert_eq!(code(&receive(&mut client)), Fault::NOT_AUTHORIZED);
}

#[test]
fn a_fallback_is_covered_by_the_name_that_the_caller_wrote() {
    alone!();
    let (ask_for, asked) = channel();
    let server = serve(Kind::Seqpacket, Limits::default(), |endpoint| {
        endpoint
            .fallback(|_, _, method, _, reply| {
                let name = serde_json::to_string(method).unwrap();
                reply.send(RawMessage::new(name));
            })
            .authorize_calls(|call| (call.service(), call.method()) == ("any.thing", "goes"))
            .authorize_method("other.thing.waits", asking(&ask_for))
    });
    let mut client = client(&server, Kind::Seqpacket);
    let reply = ask(&mut client, &call(1, "any.thing.goes", "{}"));
    assert_eq!(reply["result"], "any.thing.goes");
    for refused in ["any.thing.stays", "any.other.goes", ".goes", "any.thing."] {
        let reply = ask(&mut client, &call(1, refused, "{}"));
        assert_eq!(code(&reply), Fault::NOT_AUTHORIZED, "{refused}");
    }
    send_raw(&client, call(1, "other.thing.waits", "{}").as_bytes(), &[]).unwrap();
    next(&asked).allow();
    assert_eq!(receive(&mut client)["result"], "other.thing.waits");
}

#[test]
fn a_one_way_call_that_is_refused_is_counted_and_gets_no_reply() {
    alone!();
    for kind in KINDS {
        let (ask_for, asked) = channel();
        let verdicts = serve(kind, Limits::default(), |endpoint| {
            endpoint.authorize_method("test.vault.note", asking(&ask_for))
        });
        let note = r#"{"jsonrpc":"2.0","method":"test.vault.note","params":[1]}"#;
        let mut client = client(&verdicts, kind);
        for allowed in [false, true, false] {
            send_raw(&client, note.as_bytes(), &[]).unwrap();
            let verdict = next(&asked);
            if allowed {
                verdict.allow()
            } else {
                verdict.refuse()
            }
        }
        verdicts.assert_busy_with(usize::from(kind == Kind::Seqpacket));
        // The next message is the reply to this call.
        assert_eq!(
            ask(&mut client, &call(8, "peek", "{}")),
            json!({"jsonrpc": "2.0", "id": 8, "result": 1})
        );
        let (state, counts) = verdicts.stop();
        assert_eq!(
            (state.notes, counts.refused_with(Fault::NOT_AUTHORIZED)),
            (1, 2)
        );
    }
}

#[test]
fn each_call_of_a_batch_has_its_rule() {
    alone!();
    for kind in KINDS {
        let (ask_for, asked) = channel();
        let server = serve(kind, Limits::default(), |endpoint| {
            endpoint
                .authorize_method("test.vault.who", |_| false)
                .authorize_method("test.vault.open", asking(&ask_for))
        });
        let mut client = client(&server, kind);
        let calls = [
            call(1, "peek", "{}"),
            call(2, "open", "[7]"),
            call(3, "who", "{}"),
            call(4, "open", "[8]"),
            call(5, "peek", "{}"),
        ];
        let batch = format!("[{}]", calls.join(","));
        let replies = ask(&mut client, &batch);
        let of = |reply: &Value| (reply["id"].as_u64().unwrap(), code(reply));
        let replies: Vec<_> = replies.as_array().unwrap().iter().map(of).collect();
        assert_eq!(replies, [(1, 0), (3, Fault::NOT_AUTHORIZED), (5, 0)]);
        let (first, second) = (next(&asked), next(&asked));
        second.allow();
        assert_eq!(receive(&mut client)["result"], json!([8, null]));
        first.refuse();
        assert_eq!(of(&receive(&mut client)), (2, Fault::NOT_AUTHORIZED));
    }
}

#[test]
fn descriptors_of_a_refused_call_are_closed_on_another_thread() {
    alone!();
    for kind in KINDS {
        let (server, asked) = serve_asking(kind, Limits::default(), &["store"]);
        let strict = serve(kind, Limits::default(), |endpoint| {
            endpoint.authorize_calls(|call| call.method() != "store")
        });
        let (mut client, mut refused) = (client(&server, kind), client(&strict, kind));
        assert_eq!(ask(&mut client, &call(1, "peek", "{}"))["result"], 0);
        assert_eq!(ask(&mut refused, &call(1, "peek", "{}"))["result"], 0);
        let before = open_fds();
        let store = call(2, "store", r#"{"files":[0]}"#);
        // Closing one of them takes an hour.
        let slow = lingering();
        let name = jsoncomm_tests::has_proc().then(|| jsoncomm_tests::file_of(&slow.fd));
        let reply = ask_with(&mut refused, &store, &[slow.fd.as_fd()]);
        assert_eq!(code(&reply), Fault::NOT_AUTHORIZED);
        send_raw(&client, store.as_bytes(), &[slow.fd.as_fd()]).unwrap();
        next(&asked).refuse();
        assert_eq!(code(&receive(&mut client)), Fault::NOT_AUTHORIZED);
        drop(slow.fd);
        for client in [&mut client, &mut refused] {
            assert_eq!(ask(client, &call(3, "peek", "{}"))["result"], 0);
        }
        drop(slow.end);
        if let Some(name) = name {
            wait_until_closed(&name);
        }
        assert_open_fds(before);
    }
}

/// Returns what a program that makes a mistake is told.
fn panic_of(mistake: impl FnOnce(Endpoint<'_, Keeper>)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::new(Limits::default()).unwrap();
    let path = directory.path().join("wrong.sock");
    let endpoint = server.bind(path, Kind::Datagram).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| mistake(endpoint))).unwrap_err();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap()
}

#[test]
fn a_rule_for_a_method_that_is_not_served_is_refused_when_it_is_set() {
    for name in ["test.vault.peeks", "peek", "test.vault", "rpc.cancel", ""] {
        let told = panic_of(|endpoint| {
            endpoint
                .serve::<dyn Vault>()
                .authorize_method(name, |_| false);
        });
        assert_eq!(
            told,
            format!("method {name} is not served at this endpoint")
        );
    }
    let told = panic_of(|endpoint| {
        endpoint
            .authorize_method("test.vault.peek", |_| false)
            .serve::<dyn Vault>();
    });
    assert_eq!(
        told,
        "method test.vault.peek is not served at this endpoint"
    );
}

#[test]
fn a_bare_endpoint_takes_no_rule_for_methods() {
    let want = "a bare endpoint has no rules for methods";
    let told = panic_of(|endpoint| {
        endpoint.bare::<Ask>().authorize_calls(|_| true);
    });
    assert_eq!(told, want);
    let told = panic_of(|endpoint| {
        endpoint.authorize_calls(|_| true).bare::<Ask>();
    });
    assert_eq!(told, want);
}
