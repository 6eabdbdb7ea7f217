//! A handler that panics or drops its reply costs its own call only.

use super::peers::gated;
use super::*;

/// The panic message of a hostile handler, hidden from the output of the tests.
const BANG: &str = "bang";

/// Hides the panics of handlers from the standard error.
pub(super) fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&BANG) {
                loud(info);
            }
        }));
    });
}

/// Panics while it is written or read, if armed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Shell {
    live: bool,
}

impl<'de> serde::Deserialize<'de> for Shell {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if bool::deserialize(from)? {
            std::panic::panic_any(BANG);
        }
        Ok(Self::default())
    }
}

impl serde::Serialize for Shell {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.live {
            std::panic::panic_any(BANG);
        }
        to.serialize_bool(false)
    }
}

/// Panics when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Egg(bool);

impl Drop for Egg {
    fn drop(&mut self) {
        std::panic::panic_any(BANG);
    }
}

impl<'de> serde::Deserialize<'de> for Egg {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        bool::deserialize(from).map(Self)
    }
}

impl serde::Serialize for Egg {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// A value that contains one.
#[derive(Debug, Default, Message)]
pub(super) struct Nest {
    egg: Egg,
}

/// A value, or an error, that may panic while it is written.
#[derive(Debug, Default, Message)]
pub(super) struct Bomb {
    shell: Shell,
    dud: bool,
}

impl std::fmt::Display for Bomb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.dud {
            std::panic::panic_any(BANG);
        }
        f.write_str("a bomb")
    }
}

const LIVE: Bomb = Bomb {
    shell: Shell { live: true },
    dud: true,
};

/// An error that panics in `Display`.
const SHOUTING: Bomb = Bomb {
    shell: Shell { live: false },
    dud: false,
};

pub(super) fn crash(when: u8) -> Result<Bomb, Bomb> {
    match when {
        0 => std::panic::panic_any(BANG),
        1 => Ok(LIVE),
        2 => Err(LIVE),
        _ => Err(SHOUTING),
    }
}

impl Handler<Ask> for State {
    fn handle(&mut self, _call: &mut Call, ask: Ask, reply: Reply<LateReply, Bomb>) {
        match ask {
            Ask::Drop { file: _ } => drop(reply),
            Ask::Panic => std::panic::panic_any(BANG),
            Ask::Explode { when: 1 } => reply.send(LateReply::Shell(LIVE.shell)),
            Ask::Explode { when: 2 } => reply.fail(LIVE),
            Ask::Explode { .. } => reply.fail(SHOUTING),
            Ask::Thread { file } => {
                let after = self.after.take().unwrap();
                std::thread::spawn(move || {
                    after.recv_timeout(PATIENCE).unwrap();
                    reply.send(LateReply::Back { file });
                });
            }
            Ask::Keep { file } => self.kept.push((file, reply)),
            Ask::Release => {
                for (file, kept) in self.kept.drain(..) {
                    kept.send(LateReply::Back { file });
                }
                reply.send(LateReply::Done);
            }
        }
    }
}

/// Returns the text of a call of the request enum.
pub(super) fn late(id: u64, method: &str, params: &str) -> String {
    call(id, method, params).replace("test.vault", "test.late")
}

#[test]
fn a_panic_in_a_handler_fails_only_its_own_call() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        let text = call(5, "crash", r#"{"when":0,"file":0}"#);
        fixture.assert_refused(text, &[null.as_fd()], 5, Fault::INTERNAL_ERROR, None);
        fixture.assert_refused(late(6, "panic", "{}"), &[], 6, Fault::INTERNAL_ERROR, None);
        // A notification gets no fault.
        let text = r#"{"jsonrpc":"2.0","method":"test.late.panic"}"#;
        fixture.assert_ignored(text, &[]);
        let text = r#"{"jsonrpc":"2.0","method":"test.vault.crash","params":{"when":0,"file":0}}"#;
        fixture.assert_ignored(text, &[null.as_fd()]);
        let calls = fixture.pings + 4;
        drop(null);
        let (_, counts) = fixture.stop();
        assert_eq!((counts.handled, counts.undelivered), (calls, 0));
    }
}

#[test]
fn a_panic_while_a_reply_is_written_fails_only_its_own_call() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        for when in 1..=3 {
            let text = call(5, "crash", &format!(r#"{{"when":{when},"file":0}}"#));
            fixture.assert_refused(text, &[null.as_fd()], 5, Fault::INTERNAL_ERROR, None);
            let text = late(6, "explode", &format!(r#"{{"when":{when}}}"#));
            fixture.assert_refused(text, &[], 6, Fault::INTERNAL_ERROR, None);
        }
        drop(null);
        fixture.stop();
    }
}

#[test]
fn a_dropped_reply_sends_a_fault_to_the_caller() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        let text = late(5, "drop", r#"{"file":0}"#);
        fixture.assert_refused(&text, &[null.as_fd()], 5, Fault::NO_REPLY, None);
        fixture.assert_ignored(text.replace(r#""id":5,"#, ""), &[null.as_fd()]);
        drop(null);
        fixture.stop();
    }
}

#[test]
fn a_reply_can_come_from_another_thread() {
    alone!();
    for kind in KINDS {
        let (answer_now, after) = channel();
        let after = Some(after);
        let mut fixture = Fixture::with(
            kind,
            State {
                after,
                ..State::default()
            },
        );
        let null = null();
        fixture.send(late(5, "thread", r#"{"file":0}"#), &[null.as_fd()]);
        drop(null);
        // The call is over: the server serves others.
        fixture.ping();
        answer_now.send(()).unwrap();
        let (reply, fds) = fixture.receive();
        assert_eq!(
            reply,
            json!({"jsonrpc": "2.0", "id": 5, "result": {"Back": {"file": 0}}})
        );
        assert_eq!(fds.len(), 1);
        drop(fds);
        fixture.assert_healthy();
        let (_, counts) = fixture.stop();
        assert_eq!((counts.refused, counts.undelivered), (0, 0));
    }
}

/// Asserts that a call fails, with and without an unused descriptor, and that the next one is served.
fn costs_its_own_call(method: &str, params: &str) {
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        for fds in [&[][..], &[null.as_fd()][..]] {
            let text = call(5, method, params);
            fixture.assert_refused(text, fds, 5, Fault::INTERNAL_ERROR, None);
        }
        assert_eq!(
            fixture.ask(call(5, "read", r#"{"shell":false}"#), &[])["result"],
            1
        );
        drop(null);
        fixture.stop();
    }
}

#[test]
fn a_panic_while_an_argument_is_read_fails_only_its_own_call() {
    alone!();
    costs_its_own_call("read", r#"{"shell":true}"#);
}

/// The handler drops it, or is never called.
#[test]
fn a_panic_while_an_argument_is_dropped_fails_only_its_own_call() {
    alone!();
    costs_its_own_call("drop", r#"{"egg":true}"#);
}

#[test]
fn a_reply_value_that_panics_when_dropped_is_sent_once() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        for method in ["lay", "lay_here"] {
            let reply = fixture.ask(call(5, method, "{}"), &[]);
            assert_eq!(reply["result"], json!({"egg": false}));
            // The next message is the reply to the next call.
            fixture.assert_ignored(r#"{"jsonrpc":"2.0","id":1,"result":1}"#, &[]);
        }
        let (_, counts) = fixture.stop();
        assert_eq!(counts.panicked, 2);
        assert_eq!(counts.refused_with(Fault::INTERNAL_ERROR), 0);
    }
}

#[test]
fn deferred_replies_are_sent_in_any_order_and_a_dead_caller_is_skipped() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        let mut dead = raw(&fixture.server, kind);
        for id in 5..8 {
            fixture.send(late(id, "keep", r#"{"file":0}"#), &[null.as_fd()]);
            send_raw(
                &dead,
                late(id, "keep", r#"{"file":0}"#).as_bytes(),
                &[null.as_fd()],
            )
            .unwrap();
        }
        // Both have been received, and the second client closes.
        send_raw(&dead, call(1, "ping", r#"{"number":1}"#).as_bytes(), &[]).unwrap();
        let pong = dead.receive::<WithFds<Value>>().unwrap().0;
        assert_eq!(pong.json["result"], 1);
        fixture.pings += 1;
        drop(dead);
        fixture.ping();
        fixture.send(late(8, "release", "{}"), &[]);
        let mut ids: Vec<_> = (0..4).map(|_| fixture.receive().0["id"].as_u64()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [Some(5), Some(6), Some(7), Some(8)]);
        drop(null);
        fixture.assert_healthy();
        let (_, counts) = fixture.stop();
        // Where the kernel reports the hang-up of the client, its calls are cancelled.
        assert_eq!(counts.undelivered + counts.unwanted, 3, "{counts:?}");
    }
}

#[test]
fn while_a_handler_blocks_each_call_keeps_its_own_deadline() {
    alone!();
    for kind in KINDS {
        let (mut fixture, is_here, open) = gated(kind);
        let (hurried, patient) = (fixture.server.connect(), fixture.server.connect());
        let patient = VaultClient::new(patient).start();
        let held = fixture.polite.start().wait().unwrap();
        is_here.recv_timeout(PATIENCE).unwrap();
        let replies: Vec<_> = (0..3).map(|n| patient.ping(n).unwrap()).collect();
        let short = hurried.with_timeout(std::time::Duration::from_millis(20));
        let ended = VaultClient::new(short).ping(70);
        assert!(
            matches!(ended, Err(jsoncomm::CallError::Deadline)),
            "{ended:?}"
        );
        open.send(()).unwrap();
        held.wait().unwrap();
        for (number, reply) in (0..).zip(replies) {
            assert_eq!(reply.wait().unwrap(), number, "{kind:?}");
        }
        // Its late reply is dropped.
        assert_eq!(VaultClient::new(hurried).ping(71).unwrap(), 71);
        drop(patient);
        fixture.assert_healthy();
        let (_, counts) = fixture.stop();
        assert_eq!((counts.refused, counts.undelivered), (0, 0));
    }
}
