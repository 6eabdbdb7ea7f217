//! jsonrpc-fdpass: JSON-RPC on a stream, with descriptors.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use ::tokio::net::UnixStream;
use jsonrpc_fdpass::{
    JsonRpcMessage, JsonRpcRequest, MessageWithFds, Receiver, Sender, Server, UnixSocketTransport,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tokio::{patiently, runtime};
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, Order, Receipt, check_null, check_text, receipt};

pub(super) struct Fdpass;

impl Peer for Fdpass {
    fn name(&self) -> &'static str {
        "jsonrpc-fdpass"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        // It reads a text again from its start for each part that comes: 16 MiB would take minutes.
        let text = matches!(load, Load::Text(..=1_048_576));
        let loads = matches!(
            load,
            Load::Small | Load::Clients(_) | Load::Window(_) | Load::Descriptor
        );
        wire == Wire::Stream && (loads || text)
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let mut server = Server::new();
        server.register_method("bench.orders.submit", |_, params, _| {
            let params = params.unwrap_or_default();
            let order = OwnedOrder::deserialize_from(&params)?;
            Ok((Some(serde_json::to_value(receipt(&order))?), Vec::new()))
        });
        server.register_method("bench.orders.echo", |_, params, _| Ok((params, Vec::new())));
        server.register_method("bench.orders.swap", |_, params, fds| Ok((params, fds)));
        ready()?;
        Ok(runtime()?.block_on(server.listen(&at.path))?)
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        let stream = patiently(|| std::os::unix::net::UnixStream::connect(&at.path))?;
        stream.set_nonblocking(true)?;
        let runtime = runtime()?;
        let (sender, receiver) = {
            let _inside = runtime.enter();
            UnixSocketTransport::new(UnixStream::from_std(stream)?).split()
        };
        Ok(Box::new(Client {
            runtime,
            ends: Ends {
                sender,
                receiver,
                id: 0,
            },
            null: File::open("/dev/null")?.into(),
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

/// Reads an [`Order`] that borrows from a [`Value`].
struct OwnedOrder;

impl OwnedOrder {
    fn deserialize_from(value: &Value) -> Result<Order<'_>, serde_json::Error> {
        serde::Deserialize::deserialize(value)
    }
}

struct Client {
    runtime: ::tokio::runtime::Runtime,
    ends: Ends,
    null: OwnedFd,
    text: String,
    load: Load,
}

struct Ends {
    sender: Sender,
    receiver: Receiver,
    id: u64,
}

impl Ends {
    async fn send(
        &mut self,
        method: &str,
        params: impl Serialize,
        fds: Vec<OwnedFd>,
    ) -> Outcome<u64> {
        self.id += 1;
        let params = Some(serde_json::to_value(params)?);
        let request = JsonRpcRequest::new(method.to_owned(), params, self.id.into());
        let request = MessageWithFds::new(JsonRpcMessage::Request(request), fds);
        self.sender.send(request).await?;
        Ok(self.id)
    }

    async fn receive<R: DeserializeOwned>(&mut self, id: u64) -> Outcome<(R, Vec<OwnedFd>)> {
        let came = self.receiver.receive().await?;
        match came.message {
            JsonRpcMessage::Response(response) if response.id == id => {
                let result = response.result.ok_or("an error")?;
                Ok((serde_json::from_value(result)?, came.file_descriptors))
            }
            _ => Err("no answer to the call".into()),
        }
    }

    async fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
        fds: Vec<OwnedFd>,
    ) -> Outcome<(R, Vec<OwnedFd>)> {
        let id = self.send(method, params, fds).await?;
        self.receive(id).await
    }

    async fn run_window(&mut self, window: usize, laps: &mut Laps) -> Outcome {
        let mut flying = VecDeque::with_capacity(window);
        loop {
            while flying.len() < window {
                let Some(number) = laps.issue() else { break };
                let order = Order::new(number);
                let id = self.send("bench.orders.submit", order, Vec::new()).await?;
                flying.push_back((id, number));
            }
            let Some((id, number)) = flying.pop_front() else {
                return Ok(());
            };
            let (receipt, _): (Receipt, _) = self.receive(id).await?;
            receipt.check(number)?;
            laps.lap();
        }
    }
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let ends = &mut self.ends;
        self.runtime.block_on(async {
            if let Load::Window(window) = self.load {
                return ends.run_window(window, laps).await;
            }
            while let Some(number) = laps.issue() {
                match self.load {
                    Load::Descriptor => {
                        let fds = vec![self.null.try_clone()?];
                        let (_, fds): (u32, _) = ends.call("bench.orders.swap", 0, fds).await?;
                        check_null(number, fds.first().ok_or("no descriptor")?.as_fd())?;
                    }
                    Load::Text(_) => {
                        let (text, none) = (&self.text, Vec::new());
                        let (came, _): (String, _) =
                            ends.call("bench.orders.echo", text, none).await?;
                        check_text(&self.text, &came)?;
                    }
                    _ => {
                        let (order, none) = (Order::new(number), Vec::new());
                        let (receipt, _): (Receipt, _) =
                            ends.call("bench.orders.submit", order, none).await?;
                        receipt.check(number)?;
                    }
                }
                laps.lap();
            }
            Ok(())
        })
    }
}
