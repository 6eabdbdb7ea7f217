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
    },
    /// A fault with this code and any message.
    Fault {
        fault: i64,
        id: Value,
        field: Option<String>,
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
                endpoint.serve::<dyn Vectors>()
            }
        });
        let mut socket = Socket::connect(&server.path, kind).unwrap();
        socket.set_timeout(Some(PATIENCE));
        socket.set_surplus(UnusedFds::Close);
        let sent = self.send.descriptors("");
        let lent: Vec<_> = sent.iter().map(AsFd::as_fd).collect();
        send_raw(&socket, &self.send.bytes(), &lent).unwrap();
        for reply in &self.replies {
            reply.check(&mut socket);
        }

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

impl Reply {
    /// Receives a reply and compares it.
    fn check(&self, socket: &mut Socket) {
        let came: WithFds<Value> = socket.receive().unwrap().0;
        let files: Vec<_> = came.fds.iter().map(|(_, fd)| content(fd)).collect();
        match self {
            Self::Text { text, descriptors } => {
                let due: Value = serde_json::from_str(text).unwrap();
                assert_eq!(came.json, due);
                assert_eq!(files, *descriptors);
            }
            Self::Fault { fault, id, field } => {
                let mut error = came.json["error"].clone();
                assert!(error["message"].is_string(), "{}", came.json);
                error["message"] = json!("");
                let mut due = json!({"code": fault, "message": ""});
                if let Some(field) = field {
                    due["data"] = json!({"field": field});
                }
                assert_eq!((&error, &came.json["id"]), (&due, id));
                assert_eq!(files, [""; 0]);
            }
        }
    }
}
