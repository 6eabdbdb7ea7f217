//! varlink: blocking, a thread for each client. What its generator would write is written here.

use std::io::BufRead;
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};
use varlink::{Call, CallTrait, Connection, ListenConfig, MethodCall, Reply, VarlinkService};

use super::tokio::patiently;
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_text, receipt};

pub(super) struct Varlink;

#[derive(Debug, Serialize, Deserialize)]
struct Submit {
    number: u64,
    user: u32,
    name: String,
    urgent: bool,
    sizes: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    text: String,
}

struct Desk;

impl varlink::Interface for Desk {
    fn get_description(&self) -> &'static str {
        "interface bench.orders
method Submit(number: int, user: int, name: string, urgent: bool, sizes: []int) ->
    (number: int, user: int, length: int, urgent: bool, total: int, sizes: []int)
method Echo(text: string) -> (text: string)
"
    }

    fn get_name(&self) -> &'static str {
        "bench.orders"
    }

    fn call_upgraded(&self, _: &mut Call<'_>, _: &mut dyn BufRead) -> varlink::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn call(&self, call: &mut Call<'_>) -> varlink::Result<()> {
        let request = call.request.ok_or("no request").ok();
        let (method, parameters) = match request {
            Some(request) => (&*request.method, request.parameters.clone()),
            None => ("", None),
        };
        let parameters = parameters.unwrap_or_default();
        match method {
            "bench.orders.Submit" => match serde_json::from_value::<Submit>(parameters) {
                Ok(submit) => {
                    let receipt = receipt(&Order {
                        number: submit.number,
                        user: submit.user,
                        name: &submit.name,
                        urgent: submit.urgent,
                        sizes: submit.sizes.as_slice().try_into().unwrap_or_default(),
                    });
                    call.reply_struct(Reply::parameters(serde_json::to_value(receipt).ok()))
                }
                Err(error) => call.reply_invalid_parameter(error.to_string()),
            },
            "bench.orders.Echo" => match serde_json::from_value::<Text>(parameters) {
                Ok(text) => call.reply_struct(Reply::parameters(serde_json::to_value(text).ok())),
                Err(error) => call.reply_invalid_parameter(error.to_string()),
            },
            other => call.reply_method_not_found(other.to_owned()),
        }
    }
}

fn address(at: &At) -> String {
    format!("unix:{}", at.path.display())
}

impl Peer for Varlink {
    fn name(&self) -> &'static str {
        "varlink"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        let loads = matches!(load, Load::Small | Load::Clients(_) | Load::Text(_));
        wire == Wire::Stream && loads
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let interfaces: Vec<Box<dyn varlink::Interface + Send + Sync>> = vec![Box::new(Desk)];
        let service = VarlinkService::new("bench", "orders", "1", "bench.orders", interfaces);
        ready()?;
        let config = ListenConfig::default();
        Ok(varlink::listen(service, &address(at), &config)?)
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        Ok(Box::new(Client {
            connection: patiently(|| Connection::with_address(&address(at)))?,
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

struct Client {
    connection: Arc<RwLock<Connection>>,
    text: String,
    load: Load,
}

impl Client {
    fn call<P: Serialize, R: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        parameters: P,
    ) -> Outcome<R> {
        let connection = Arc::clone(&self.connection);
        let mut call = MethodCall::<P, R, varlink::Error>::new(connection, method, parameters);
        Ok(call.call()?)
    }
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            match self.load {
                Load::Text(_) => {
                    let text = self.text.clone();
                    let came: Text = self.call("bench.orders.Echo", Text { text })?;
                    check_text(&self.text, &came.text)?;
                }
                _ => {
                    let submit = Submit {
                        number,
                        user: USER,
                        name: NAME.to_owned(),
                        urgent: Order::new(number).urgent,
                        sizes: SIZES.to_vec(),
                    };
                    let receipt: Receipt = self.call("bench.orders.Submit", submit)?;
                    receipt.check(number)?;
                }
            }
            laps.lap();
        }
        Ok(())
    }
}
