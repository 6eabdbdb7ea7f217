//! zbus: D-Bus from peer to peer, without a bus.

use std::fs::File;
use std::os::fd::AsFd;

use ::tokio::net::UnixListener;
use zbus::{Connection, Guid, OwnedFd, connection::Builder};

use super::tokio::{fly, runtime};
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_null, check_text, receipt};

pub(super) struct Zbus;

/// A [`Receipt`] as a tuple.
type Taken = (u64, u32, u32, bool, u64, Vec<u32>);

struct Desk;

#[zbus::interface(name = "bench.Orders", proxy(default_path = "/orders"))]
impl Desk {
    fn submit(&self, number: u64, user: u32, name: &str, urgent: bool, sizes: Vec<u32>) -> Taken {
        let receipt = receipt(&Order {
            number,
            user,
            name,
            urgent,
            sizes: sizes.as_slice().try_into().unwrap_or_default(),
        });
        let (length, total) = (receipt.length, receipt.total);
        (receipt.number, user, length, receipt.urgent, total, sizes)
    }

    fn echo(&self, text: String) -> String {
        text
    }

    fn swap(&self, file: OwnedFd) -> OwnedFd {
        file
    }
}

impl Peer for Zbus {
    fn name(&self) -> &'static str {
        "zbus, peer to peer"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        wire == Wire::Stream
            && !matches!(
                load,
                Load::Owned
                    | Load::Threads(_)
                    | Load::Records(_)
                    | Load::RecordAndFile
                    | Load::OneWay(_)
            )
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        runtime()?.block_on(async {
            let listener = UnixListener::bind(&at.path)?;
            ready()?;
            let mut connections = Vec::new();
            loop {
                let (stream, _) = listener.accept().await?;
                let builder = Builder::unix_stream(stream.into_std()?).p2p();
                let builder = builder.server(Guid::generate()).serve_at("/orders", Desk);
                connections.push(builder.build().await?);
            }
        })
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        let runtime = runtime()?;
        let connection = runtime.block_on(async {
            let stream = std::os::unix::net::UnixStream::connect(&at.path)?;
            Outcome::Ok(Builder::unix_stream(stream).p2p().build().await?)
        })?;
        Ok(Box::new(Client {
            runtime,
            connection,
            null: std::os::fd::OwnedFd::from(File::open("/dev/null")?).into(),
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

struct Client {
    runtime: ::tokio::runtime::Runtime,
    connection: Connection,
    null: OwnedFd,
    text: String,
    load: Load,
}

async fn submit(orders: &DeskProxy<'_>, number: u64) -> Outcome {
    let (urgent, sizes) = (Order::new(number).urgent, SIZES.to_vec());
    let taken = orders.submit(number, USER, NAME, urgent, sizes).await?;
    let (came, user, length, urgent, total, sizes) = taken;
    let receipt = Receipt {
        number: came,
        user,
        length,
        urgent,
        total,
        sizes: sizes.as_slice().try_into()?,
    };
    receipt.check(number)
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        self.runtime.block_on(async {
            let orders = DeskProxy::new(&self.connection, "bench.Orders").await?;
            if let Load::Window(window) = self.load {
                return fly(window, laps, |number| submit(&orders, number)).await;
            }
            while let Some(number) = laps.issue() {
                match self.load {
                    Load::Descriptor => {
                        let null = self.null.as_fd().try_clone_to_owned()?;
                        let file = orders.swap(null.into()).await?;
                        check_null(number, file.as_fd())?;
                    }
                    Load::Text(_) => {
                        let text = orders.echo(self.text.clone()).await?;
                        check_text(&self.text, &text)?;
                    }
                    _ => submit(&orders, number).await?,
                }
                laps.lap();
            }
            Ok(())
        })
    }
}
