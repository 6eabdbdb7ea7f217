//! tarpc over unix sockets, with either of its formats.

use std::path::Path;

use futures_util::StreamExt;
use tarpc::client::{Config, NewClient};
use tarpc::context::Context;
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::{Bincode, Json};

use super::tokio::{fly, runtime};
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_named, check_text, receipt};

/// Its binary format.
pub(super) static BINCODE: Tarpc = Tarpc { json: false };
/// Its JSON.
pub(super) static JSON: Tarpc = Tarpc { json: true };

pub(super) struct Tarpc {
    json: bool,
}

#[tarpc::service]
trait Orders {
    async fn submit(number: u64, user: u32, name: String, urgent: bool, sizes: [u32; 4])
    -> Receipt;
    async fn own(number: u64, name: String, sizes: Vec<u32>) -> (u64, String, Vec<u32>);
    async fn echo(text: String) -> String;
}

#[derive(Clone)]
struct Desk;

impl Orders for Desk {
    async fn submit(
        self,
        _: Context,
        number: u64,
        user: u32,
        name: String,
        urgent: bool,
        sizes: [u32; 4],
    ) -> Receipt {
        receipt(&Order {
            number,
            user,
            name: &name,
            urgent,
            sizes,
        })
    }

    async fn own(
        self,
        _: Context,
        number: u64,
        name: String,
        sizes: Vec<u32>,
    ) -> (u64, String, Vec<u32>) {
        (number, name, sizes)
    }

    async fn echo(self, _: Context, text: String) -> String {
        text
    }
}

/// The longest frame, for the largest text.
const FRAME_MAX: usize = 64 << 20;

/// Serves with one format.
macro_rules! serve {
    ($path:expr, $ready:expr, $format:expr) => {{
        let mut incoming = unix::listen($path, $format).await?;
        incoming.config_mut().max_frame_length(FRAME_MAX);
        $ready()?;
        while let Some(transport) = incoming.next().await {
            let channel = BaseChannel::with_defaults(transport?);
            ::tokio::spawn(channel.execute(Desk.serve()).for_each(|response| async {
                ::tokio::spawn(response);
            }));
        }
        Ok(())
    }};
}

/// Connects with one format.
macro_rules! connect {
    ($path:expr, $format:expr) => {{
        let mut connecting = unix::connect($path, $format);
        connecting.config_mut().max_frame_length(FRAME_MAX);
        let NewClient { client, dispatch } =
            OrdersClient::new(Config::default(), connecting.await?);
        ::tokio::spawn(dispatch);
        client
    }};
}

impl Peer for Tarpc {
    fn name(&self) -> &'static str {
        if self.json {
            "tarpc, JSON"
        } else {
            "tarpc, bincode"
        }
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        wire == Wire::Stream
            && !matches!(
                load,
                Load::Descriptor
                    | Load::Threads(_)
                    | Load::Records(_)
                    | Load::RecordAndFile
                    | Load::OneWay(_)
            )
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let path: &Path = &at.path;
        runtime()?.block_on(async {
            if self.json {
                serve!(path, ready, Json::default)
            } else {
                serve!(path, ready, Bincode::default)
            }
        })
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        let (runtime, path): (_, &Path) = (runtime()?, &at.path);
        let orders = runtime.block_on(async {
            Outcome::Ok(if self.json {
                connect!(path, Json::default)
            } else {
                connect!(path, Bincode::default)
            })
        })?;
        Ok(Box::new(Client {
            runtime,
            orders,
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

struct Client {
    runtime: ::tokio::runtime::Runtime,
    orders: OrdersClient,
    text: String,
    load: Load,
}

impl Client {
    async fn submit(orders: &OrdersClient, number: u64) -> Outcome {
        let (name, urgent) = (NAME.to_owned(), Order::new(number).urgent);
        let context = Context::current();
        let receipt = orders.submit(context, number, USER, name, urgent, SIZES);
        receipt.await?.check(number)
    }
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let orders = &self.orders;
        self.runtime.block_on(async {
            if let Load::Window(window) = self.load {
                return fly(window, laps, |number| Self::submit(orders, number)).await;
            }
            while let Some(number) = laps.issue() {
                match self.load {
                    Load::Owned => {
                        let (name, sizes) = (NAME.to_owned(), SIZES.to_vec());
                        let named = orders.own(Context::current(), number, name, sizes);
                        let (came, name, sizes) = named.await?;
                        check_named(number, came, &name, &sizes)?;
                    }
                    Load::Text(_) => {
                        let text = orders.echo(Context::current(), self.text.clone()).await?;
                        check_text(&self.text, &text)?;
                    }
                    _ => Self::submit(orders, number).await?,
                }
                laps.lap();
            }
            Ok(())
        })
    }
}
