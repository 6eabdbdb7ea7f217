//! ttrpc, asynchronous, on one thread.

use std::collections::HashMap;
use std::future::pending;

use async_trait::async_trait;
use prost::Message;
use tokio::runtime::Runtime;
use ttrpc::r#async::{Client, MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};

use super::super::tokio::{fly, patiently, runtime};
use super::{Method, SERVICE, Taken, Text, address, check, does, echo, order, request, submit};
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, check_text};

pub(in crate::cases) struct Tasks;

#[async_trait]
impl<P: Message + Default, R: Message> MethodHandler for Method<P, R> {
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        self.answer(&request)
    }
}

impl Peer for Tasks {
    fn name(&self) -> &'static str {
        "ttrpc, async"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        does(wire, load) || wire == Wire::Stream && matches!(load, Load::Window(_))
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let mut methods: HashMap<String, Box<dyn MethodHandler + Send + Sync>> = HashMap::new();
        methods.insert("Submit".into(), Box::new(Method(submit)));
        methods.insert("Echo".into(), Box::new(Method(echo)));
        let streams = HashMap::new();
        let services = HashMap::from([(SERVICE.to_owned(), Service { methods, streams })]);
        runtime()?.block_on(async {
            let mut server = Server::new().bind(&address(at))?.register_service(services);
            server.start().await?;
            ready()?;
            pending().await
        })
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        let runtime = runtime()?;
        let client = patiently(|| runtime.block_on(Client::connect(&address(at))))?;
        Ok(Box::new(Stub {
            runtime,
            client,
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

struct Stub {
    runtime: Runtime,
    client: Client,
    text: String,
    load: Load,
}

async fn call<R: Message + Default>(
    client: &Client,
    method: &str,
    params: &impl Message,
) -> Outcome<R> {
    let response = client.request(request(method, params)).await?;
    Ok(R::decode(&*response.payload)?)
}

async fn order_one(client: &Client, number: u64) -> Outcome {
    let taken: Taken = call(client, "Submit", &order(number)).await?;
    check(number, &taken)
}

impl Caller for Stub {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let client = &self.client;
        self.runtime.block_on(async {
            if let Load::Window(window) = self.load {
                return fly(window, laps, |number| order_one(client, number)).await;
            }
            while let Some(number) = laps.issue() {
                match self.load {
                    Load::Text(_) => {
                        let text = self.text.clone();
                        let came: Text = call(client, "Echo", &Text { text }).await?;
                        check_text(&self.text, &came.text)?;
                    }
                    _ => order_one(client, number).await?,
                }
                laps.lap();
            }
            Ok(())
        })
    }
}
