//! The calls that a client has sent, and the replies that it may get.

use std::collections::HashMap;

use jsoncomm::message::WithFds;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The longest id that a server repeats, in bytes of JSON.
const ID_MAX: usize = 256;

/// The most calls that a server reads in one batch.
const BATCH_MAX: usize = 64;

/// Sent messages and received replies, by id.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Number of sent messages.
    sent: usize,
    /// Number of received replies, without items of streams.
    replied: usize,
    /// Number of sent messages in which a server may read any id.
    odd: usize,
    by_id: HashMap<String, Calls>,
}

/// The calls of one id.
#[derive(Debug, Default)]
struct Calls {
    sent: usize,
    replied: usize,
    /// Calls that must get a reply in the end.
    owed: usize,
}

impl Ledger {
    /// Records a sent message.
    pub(crate) fn note_sent(&mut self, text: &[u8]) {
        if text.trim_ascii_start().first() != Some(&b'[') {
            return self.note_element(text);
        }
        match serde_json::from_slice::<Vec<&RawValue>>(text) {
            Ok(batch) if (1..=BATCH_MAX).contains(&batch.len()) => {
                for element in batch {
                    self.note_element(element.get().as_bytes());
                }
            }
            // A server may read a batch in a text that is only nested too deep for serde_json.
            _ => {
                let elements = text.split(|byte| *byte == b',').count();
                self.sent += elements;
                self.odd += elements;
            }
        }
    }

    fn note_element(&mut self, text: &[u8]) {
        self.sent += 1;
        let Some((id, call)) = plain(text) else {
            self.odd += 1;
            return;
        };
        let calls = self.by_id.entry(id).or_default();
        calls.sent += 1;
        calls.owed += usize::from(is_owed(&call));
    }

    /// Checks a reply without an envelope.
    pub(crate) fn check_bare(&mut self, reply: &Value) {
        self.replied += 1;
        assert!(reply.is_object(), "{reply}");
        assert!(self.replied <= self.sent, "unsolicited reply {reply}");
    }

    /// Checks a reply, or an array of them.
    pub(crate) fn check(&mut self, message: &WithFds<Value>) {
        if let Value::Array(replies) = &message.json {
            assert!(!replies.is_empty() && message.fds.is_empty(), "{replies:?}");
            replies.iter().for_each(|reply| self.check_one(reply));
        } else {
            self.check_one(&message.json);
        }
    }

    /// Checks a reply: its form, and that it belongs to a call that has no reply yet.
    fn check_one(&mut self, reply: &Value) {
        let reply = reply.as_object().expect("an object");
        assert_eq!(reply.get("jsonrpc"), Some(&Value::from("2.0")));
        let id = reply.get("id").expect("an id");
        let names = ["jsonrpc", "id", "result", "error", "more"];
        assert!(
            reply.keys().all(|name| names.contains(&&**name)),
            "{reply:?}"
        );
        match (reply.get("result"), reply.get("error")) {
            (Some(_), None) => {}
            (None, Some(error)) => check_error(error),
            _ => panic!("neither a result nor an error: {reply:?}"),
        }
        let calls = match id {
            Value::Null => None,
            id => self.by_id.get_mut(&id.to_string()),
        };
        let sent = calls.as_ref().map_or(0, |calls| calls.sent);
        assert!(
            sent + self.odd > 0 || id.is_null(),
            "unsolicited reply {reply:?}"
        );
        if let Some(more) = reply.get("more") {
            assert_eq!(
                (more, reply.contains_key("error")),
                (&Value::from(true), false)
            );
            return;
        }
        self.replied += 1;
        assert!(self.replied <= self.sent, "one too many: {reply:?}");
        if let Some(calls) = calls {
            calls.replied += 1;
            assert!(
                calls.replied <= calls.sent + self.odd,
                "replied twice: {reply:?}"
            );
        }
    }

    /// Returns true if every call has its reply.
    pub(crate) fn is_settled(&self) -> bool {
        self.by_id.values().all(|calls| calls.replied >= calls.owed)
    }

    /// Asserts that every call has its reply.
    pub(crate) fn assert_all_replied(&self) {
        for (id, calls) in &self.by_id {
            assert!(calls.replied >= calls.owed, "no reply to {id}: {calls:?}");
        }
    }
}

fn check_error(error: &Value) {
    let error = error.as_object().expect("an object");
    assert!(error.get("code").is_some_and(Value::is_i64), "{error:?}");
    assert!(
        error.get("message").is_some_and(Value::is_string),
        "{error:?}"
    );
    let names = ["code", "message", "data"];
    assert!(
        error.keys().all(|name| names.contains(&&**name)),
        "{error:?}"
    );
}

/// Returns the id and the members of a text that every JSON reader reads in the same way.
fn plain(text: &[u8]) -> Option<(String, Map<String, Value>)> {
    let escaped = text.contains(&b'\\');
    let ids = text.windows(4).filter(|name| name == b"\"id\"").count();
    let Ok(Value::Object(call)) = serde_json::from_slice(text) else {
        return None;
    };
    let id = call.get("id")?;
    let sound = id.is_string() || id.is_i64() || id.is_u64();
    let id = id.to_string();
    (sound && ids == 1 && !escaped && id.len() <= ID_MAX).then_some((id, call))
}

/// Returns true if a call must get a reply in the end, whatever else is wrong with it.
fn is_owed(call: &Map<String, Value>) -> bool {
    let method = call.get("method").and_then(Value::as_str);
    let reply = call.contains_key("result") || call.contains_key("error");
    method.is_some_and(|method| !method.starts_with("rpc."))
        && !reply
        && !call.contains_key("timeout")
}
