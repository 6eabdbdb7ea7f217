//! Vectors for clients: a reply, and the result of its call.

use std::fmt::Debug;
use std::os::fd::AsFd;
use std::time::Duration;

use jsoncomm::message::{UnusedFds, WithFds};
use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Error, Kind};
use jsoncomm_tests::{PATIENCE, assert_open_fds, open_fds, pair, send_raw};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::vectors::file::{Datagram, Vector, content};
use crate::vectors::service::{Trouble, VectorsClient};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    name: String,
    #[serde(rename = "says")]
    _says: String,
    kinds: Option<Vec<String>>,
    call: Made,
    replies: Vec<Datagram>,
    outcome: Value,
}

/// The call to make.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    method: String,
    arguments: Value,
}

impl Made {
    fn text(&self, name: &str) -> &str {
        self.arguments[name].as_str().unwrap()
    }

    /// Makes the call, and returns its result in the vectors' terms.
    fn make(&self, client: &VectorsClient) -> Value {
        match &*self.method {
            "nothing" => ended(client.nothing(), |()| Value::Null),
            "echo" => ended(
                client.echo(self.text("text")),
                |back| json!({"text": back.text}),
            ),
            "open" => ended(
                client.open(self.text("text")),
                |opened| json!({"len": opened.len, "file": content(opened.file)}),
            ),
            "fail" => ended(client.fail(self.text("path")), |()| Value::Null),
            "count" => {
                let items = client.count(self.arguments["to"].as_u64().unwrap());
                let mut got = Vec::new();
                for item in items.unwrap() {
                    match item {
                        Ok(item) => got.push(item),
                        failed => {
                            let mut end = ended(failed, |_| Value::Null);
                            end["items"] = json!(got);
                            return end;
                        }
                    }
                }
                json!({"items": got})
            }
            other => panic!("no method {other}"),
        }
    }
}

fn ended<T, E: Debug + Into<Failed>>(
    result: Result<T, CallError<E>>,
    value: impl FnOnce(T) -> Value,
) -> Value {
    match result {
        Ok(reply) => json!({"value": value(reply)}),
        Err(CallError::Service(error)) => match error.into() {
            Failed(Trouble::NotFound { path }) => json!({"error": {"NotFound": {"path": path}}}),
            Failed(Trouble::Kept { file }) => json!({"error": {"Kept": {"file": content(file)}}}),
        },
        Err(CallError::Fault(fault)) => match fault.field {
            Some(field) => json!({"fault": fault.code, "field": field}),
            None => json!({"fault": fault.code}),
        },
        Err(CallError::Deadline) => json!({"deadline": true}),
        Err(CallError::Closed) => json!({"closed": true}),
        Err(CallError::Io(Error::Decode(_) | Error::Payload { .. })) => json!({"bad": true}),
        Err(other) => panic!("{other:?}"),
    }
}

/// An error of the service.
struct Failed(Trouble);

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self(trouble)
    }
}

impl From<std::convert::Infallible> for Failed {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl Vector for Client {
    fn name(&self) -> &str {
        &self.name
    }

    fn kinds(&self) -> Option<&[String]> {
        self.kinds.as_deref()
    }

    fn check(&self, kind: Kind, _mode: Option<&str>) {
        let before = open_fds();
        let (ours, mut theirs) = pair(kind);
        theirs.set_surplus(UnusedFds::Close);
        let waits = match self.outcome.get("deadline") {
            Some(_) => Duration::from_millis(50),
            None => PATIENCE,
        };
        let connection = Connection::from_fd(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        drop(ours);
        std::thread::scope(|scope| {
            let client = VectorsClient::new(connection.with_timeout(waits));
            let caller = scope.spawn(move || self.call.make(&client));
            let call = next_call(&mut theirs, &self.call.method);
            assert_eq!(call["params"], self.call.arguments);
            let id = call["id"].to_string();
            for reply in &self.replies {
                let text = String::from_utf8(reply.bytes()).unwrap();
                let made = reply.descriptors(&id);
                let lent: Vec<_> = made.iter().map(AsFd::as_fd).collect();
                send_raw(&theirs, text.replace("ID", &id).as_bytes(), &lent).unwrap();
            }
            if self.outcome.get("closed").is_some() {
                drop(theirs);
                assert_eq!(caller.join().unwrap(), self.outcome);
                return;
            }
            assert_eq!(caller.join().unwrap(), self.outcome);

            // The connection is still usable.
            let client = VectorsClient::new(connection.with_timeout(PATIENCE));
            let caller = scope.spawn(move || client.echo("end").unwrap().text);
            let call = next_call(&mut theirs, "echo");
            let reply = json!({"jsonrpc": "2.0", "id": call["id"], "result": {"text": "end"}});
            send_raw(&theirs, reply.to_string().as_bytes(), &[]).unwrap();
            assert_eq!(caller.join().unwrap(), "end");
        });
        drop(connection);
        assert_open_fds(before);
    }
}

/// Receives the next call of this method, and skips cancellations before it.
fn next_call(socket: &mut Socket, method: &str) -> Value {
    loop {
        let call: WithFds<Value> = socket.receive().unwrap().0;
        if call.json["method"] != "rpc.cancel" {
            assert_eq!(call.json["method"], format!("vectors.{method}"));
            return call.json;
        }
    }
}
