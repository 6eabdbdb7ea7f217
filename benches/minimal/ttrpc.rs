//! prost = "0.14"
//! ttrpc = "0.10"

use std::collections::HashMap;
use std::sync::mpsc::channel;

use prost::Message;
use ttrpc::proto::{Code, Request, Response};
use ttrpc::{MethodHandler, Server, TtrpcContext};

#[derive(Clone, PartialEq, Message)]
struct Add {
    #[prost(uint64, tag = "1")]
    a: u64,
    #[prost(uint64, tag = "2")]
    b: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(uint64, tag = "1")]
    sum: u64,
}

struct Method;

impl MethodHandler for Method {
    fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<()> {
        let add = Add::decode(&*request.payload)
            .map_err(|error| ttrpc::Error::Others(error.to_string()))?;
        let mut response = Response::new();
        response.set_status(ttrpc::get_status(Code::OK, String::new()));
        response.payload = Sum {
            sum: add.a.wrapping_add(add.b),
        }
        .encode_to_vec();
        context.respond(context.mh.stream_id, response)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let mut methods: HashMap<String, Box<dyn MethodHandler + Send + Sync>> = HashMap::new();
    methods.insert("/bench.Adder/Add".into(), Box::new(Method));
    let mut server = Server::new()
        .bind(&format!("unix://{path}"))?
        .register_service(methods);
    server.start()?;
    let (_sender, receiver) = channel::<()>();
    receiver.recv()?;
    Ok(())
}
