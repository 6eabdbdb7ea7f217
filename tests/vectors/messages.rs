//! Vectors for servers: a message, the method that runs, and the reply.

use std::os::fd::AsFd;

use jsoncomm::message::{UnusedFds, WithFds};
use jsoncomm::socket::Socket;
use jsoncomm::{Kind, Limits};
use jsoncomm_tests::{PATIENCE, Running, assert_open_fds, open_fds, send_raw};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::vectors::file::{Datagram, Vector, content, ran};
use crate::vectors::service::{Ask, Scribe, Vectors};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    name: String,
    #[serde(rename = "says")]
    _says: String,
    #[serde(rename = "fill")]
    _fill: Option<usize>,
    kinds: Option<Vec<String>>,
    send: Datagram,
    ran: Vec<Value>,
    replies: Vec<Reply>,
}

/// One expected reply.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Reply {
    /// This JSON, with these descriptors.
    Text {
        text: String,
        #[serde(default)]
        descriptors: Vec<String>,
        #[serde(default)]
        alone: bool,
    },
    /// A fault with this code and any message.
    Fault {
        fault: i64,
        id: Value,
        field: Option<String>,
        #[serde(default)]
        alone: bool,
    },
}

impl Vector for Message {
    fn name(&self) -> &str {
        &self.name
    }

    fn kinds(&self) -> Option<&[String]> {
        self.kinds.as_deref()
    }

    fn check(&self, kind: Kind, mode: Option<&str>) {
        let before = open_fds();
        let bare = mode == Some("bare");
        let (limits, scribe) = (Limits::default(), Scribe::default());
        let server = Running::with_limits(limits, kind, scribe, |endpoint| {
            if bare {
                endpoint.bare::<Ask>()
            } else {
                endpoint
                    .serve::<dyn Vectors>()
                    .authorize_method("vectors.locked", |_| false)
            }
        });
        let mut socket = Socket::connect(&server.path, kind).unwrap();
        socket.set_timeout(Some(PATIENCE));
        socket.set_surplus(UnusedFds::Close);
        let sent = self.send.descriptors("");
        let lent: Vec<_> = sent.iter().map(AsFd::as_fd).collect();
        send_raw(&socket, &self.send.bytes(), &lent).unwrap();
        check_replies(&self.replies, &mut socket, mode == Some("batch"));

        // There is no other reply: the next message is the reply to the next call.
        let (end, reply, last) = if bare {
            (
                r#"{"Echo":{"text":"end"}}"#,
                json!({"Echoed": {"text": "end"}}),
                "Echo",
            )
        } else {
            (
                r#"{"jsonrpc":"2.0","id":"end","method":"vectors.echo","params":{"text":"end"}}"#,
                json!({"jsonrpc": "2.0", "id": "end", "result": {"text": "end"}}),
                "echo",
            )
        };
        send_raw(&socket, end.as_bytes(), &[]).unwrap();
        let received: WithFds<Value> = socket.receive().unwrap().0;
        assert_eq!(received.json, reply);
        let (state, _) = server.stop();
        let mut all = self.ran.clone();
        all.push(ran(last, json!({"text": "end"})));
        assert_eq!(state.ran, all);
        drop((socket, sent));
        assert_open_fds(before);
    }
}

/// Receives replies and compares them: those to a batch in any order, alone or in arrays.
fn check_replies(expected: &[Reply], socket: &mut Socket, is_batch: bool) {
    let mut left: Vec<_> = expected.iter().collect();
    while !left.is_empty() {
        let came: WithFds<Value> = socket.receive().unwrap().0;
        let files: Vec<_> = came.fds.iter().map(|(_, fd)| content(fd)).collect();
        let Value::Array(array) = &came.json else {
            take(&mut left, &came.json, is_batch).check(&came.json, &files);
            continue;
        };
        for reply in array {
            let due = take(&mut left, reply, is_batch);
            assert!(is_batch && !due.is_alone(), "in an array: {reply}");
            due.check(reply, &files);
        }
    }
}

/// Takes the expected reply that this one may be: the next, or any to a batch.
fn take<'r>(left: &mut Vec<&'r Reply>, reply: &Value, is_batch: bool) -> &'r Reply {
    let place = left.iter().position(|due| !is_batch || due.may_be(reply));
    left.remove(place.unwrap_or_else(|| panic!("unexpected: {reply}")))
}

impl Reply {
    fn is_alone(&self) -> bool {
        match self {
            Self::Text { alone, .. } | Self::Fault { alone, .. } => *alone,
        }
    }

    /// Returns true if a reply has this text, or this id and code.
    fn may_be(&self, reply: &Value) -> bool {
        match self {
            Self::Text { text, .. } => serde_json::from_str::<Value>(text).unwrap() == *reply,
            Self::Fault { fault, id, .. } => reply["error"]["code"] == *fault && reply["id"] == *id,
        }
    }

    /// Compares a reply, and the contents of its descriptors.
    fn check(&self, reply: &Value, files: &[String]) {
        match self {
            Self::Text {
                text, descriptors, ..
            } => {
                let due: Value = serde_json::from_str(text).unwrap();
                assert_eq!(*reply, due);
                assert_eq!(files, descriptors);
            }
            Self::Fault {
                fault, id, field, ..
            } => {
                let mut error = reply["error"].clone();
                assert!(error["message"].is_string(), "{reply}");
                error["message"] = json!("");
                let mut due = json!({"code": fault, "message": ""});
                if let Some(field) = field {
                    due["data"] = json!({"field": field});
                }
                assert_eq!((&error, &reply["id"]), (&due, id));
                assert_eq!(files, [""; 0]);
            }
        }
    }
}
