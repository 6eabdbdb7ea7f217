//! ttrpc: protobuf, blocking, with its pool of threads, and asynchronous. What its generator would write is written
//! here, with messages of prost, which is faster than what it generates by itself.

mod tasks;

use std::collections::HashMap;
use std::sync::mpsc::channel;

use prost::Message;
use ttrpc::proto::{Code, Request, Response};
use ttrpc::{Client, MethodHandler, Server, TtrpcContext};

use super::tokio::patiently;
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_text, receipt};

pub(super) use tasks::Tasks;

pub(super) struct Ttrpc;

const SERVICE: &str = "bench.Orders";

/// An [`Order`].
#[derive(Clone, PartialEq, Message)]
struct Submit {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint32, tag = "2")]
    user: u32,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bool, tag = "4")]
    urgent: bool,
    #[prost(uint32, repeated, tag = "5")]
    sizes: Vec<u32>,
}

/// A [`Receipt`].
#[derive(Clone, PartialEq, Message)]
struct Taken {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint32, tag = "2")]
    user: u32,
    #[prost(uint32, tag = "3")]
    length: u32,
    #[prost(bool, tag = "4")]
    urgent: bool,
    #[prost(uint64, tag = "5")]
    total: u64,
    #[prost(uint32, repeated, tag = "6")]
    sizes: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn echo(text: Text) -> Text {
    text
}

fn submit(submit: Submit) -> Taken {
    let receipt = receipt(&Order {
        number: submit.number,
        user: submit.user,
        name: &submit.name,
        urgent: submit.urgent,
        sizes: submit.sizes.as_slice().try_into().unwrap_or_default(),
    });
    Taken {
        number: receipt.number,
        user: receipt.user,
        length: receipt.length,
        urgent: receipt.urgent,
        total: receipt.total,
        sizes: submit.sizes,
    }
}

/// A method, of a message to a message.
struct Method<P, R>(fn(P) -> R);

impl<P: Message + Default, R: Message> Method<P, R> {
    fn answer(&self, request: &Request) -> ttrpc::Result<Response> {
        let params = P::decode(&*request.payload)
            .map_err(|error| ttrpc::Error::Others(error.to_string()))?;
        let mut response = Response::new();
        response.set_status(ttrpc::get_status(Code::OK, String::new()));
        response.payload = (self.0)(params).encode_to_vec();
        Ok(response)
    }
}

impl<P: Message + Default, R: Message> MethodHandler for Method<P, R> {
    fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<()> {
        let response = self.answer(&request)?;
        context.respond(context.mh.stream_id, response)
    }
}

fn address(at: &At) -> String {
    format!("unix://{}", at.path.display())
}

fn does(wire: Wire, load: Load) -> bool {
    // Its messages have at most 4 MiB.
    let text = matches!(load, Load::Text(..=1_048_576));
    wire == Wire::Stream && (text || matches!(load, Load::Small | Load::Clients(_)))
}

fn request(method: &str, params: &impl Message) -> Request {
    let mut request = Request::new();
    request.service = SERVICE.into();
    request.method = method.into();
    request.payload = params.encode_to_vec();
    request.timeout_nano = 25_000_000_000;
    request
}

fn order(number: u64) -> Submit {
    Submit {
        number,
        user: USER,
        name: NAME.to_owned(),
        urgent: Order::new(number).urgent,
        sizes: SIZES.to_vec(),
    }
}

fn check(number: u64, taken: &Taken) -> Outcome {
    let receipt = Receipt {
        number: taken.number,
        user: taken.user,
        length: taken.length,
        urgent: taken.urgent,
        total: taken.total,
        sizes: taken.sizes.as_slice().try_into()?,
    };
    receipt.check(number)
}

impl Peer for Ttrpc {
    fn name(&self) -> &'static str {
        "ttrpc"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        does(wire, load)
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let mut methods: HashMap<String, Box<dyn MethodHandler + Send + Sync>> = HashMap::new();
        methods.insert("/bench.Orders/Submit".into(), Box::new(Method(submit)));
        methods.insert("/bench.Orders/Echo".into(), Box::new(Method(echo)));
        let mut server = Server::new().bind(&address(at))?.register_service(methods);
        server.start()?;
        ready()?;
        // Until the process is killed: it serves on threads of its own.
        let (_sender, receiver) = channel::<()>();
        receiver.recv()?;
        Ok(())
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        Ok(Box::new(Stub {
            client: patiently(|| Client::connect(&address(at)))?,
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

struct Stub {
    client: Client,
    text: String,
    load: Load,
}

impl Stub {
    fn call<R: Message + Default>(&self, method: &str, params: &impl Message) -> Outcome<R> {
        let response = self.client.request(request(method, params))?;
        Ok(R::decode(&*response.payload)?)
    }
}

impl Caller for Stub {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            match self.load {
                Load::Text(_) => {
                    let text = self.text.clone();
                    let came: Text = self.call("Echo", &Text { text })?;
                    check_text(&self.text, &came.text)?;
                }
                _ => {
                    let taken: Taken = self.call("Submit", &order(number))?;
                    check(number, &taken)?;
                }
            }
            laps.lap();
        }
        Ok(())
    }
}
