//! Both ends in one thread, for counting instructions: nothing waits, and the same happens every time.

use std::convert::Infallible;
use std::time::Duration;

use jsoncomm::socket::Socket;
use jsoncomm::{Connection, Kind, Message, Server};

use super::records::{Record, Records, RecordsClient};
use super::{Ask, Desk, Orders, OrdersClient, kind};
use crate::Outcome;
use crate::case::Wire;
use crate::work::{NAME, Order, Receipt, SIZES, USER};

/// What [`Ask::Submit`] holds: an enum of requests has no call that does not wait.
#[derive(Debug, Message)]
struct Submit {
    number: u64,
    user: u32,
    name: String,
    urgent: bool,
    sizes: [u32; 4],
}

impl Submit {
    fn new(number: u64) -> Self {
        Self {
            number,
            user: USER,
            name: NAME.to_owned(),
            urgent: Order::new(number).urgent,
            sizes: SIZES,
        }
    }
}

/// Makes so many calls.
pub(in crate::cases) fn turn(name: &str, wire: Wire, count: u64) -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("socket");
    let kind = kind(wire);
    let mut server = Server::new(jsoncomm::Limits::default())?;
    let endpoint = server.bind(&path, kind)?;
    match name {
        "jsoncomm #[service]" => {
            endpoint.serve::<dyn Orders>();
            let orders = OrdersClient::new(Connection::connect(&path, kind)?).start();
            settle(&mut server, kind)?;
            for number in 0..count {
                let urgent = Order::new(number).urgent;
                let mut call = orders.submit(number, USER, NAME, urgent, SIZES)?;
                let receipt = loop {
                    take_turn(&mut server)?;
                    if let Some(receipt) = call.try_wait() {
                        break receipt?;
                    }
                };
                receipt.check(number)?;
            }
        }
        "jsoncomm #[service], records" => {
            endpoint.serve::<dyn Records>();
            let records = RecordsClient::new(Connection::connect(&path, kind)?).start();
            settle(&mut server, kind)?;
            let mut record = Record::new(0);
            for number in 0..count {
                record.renumber(number);
                let mut call = records.keep(&record)?;
                let came = loop {
                    take_turn(&mut server)?;
                    if let Some(came) = call.try_wait() {
                        break came?;
                    }
                };
                came.check(&record)?;
            }
        }
        "jsoncomm #[service], batched" => {
            /// Calls in a batch.
            const BATCH: u64 = 32;

            endpoint.serve::<dyn Orders>();
            let connection = Connection::connect(&path, kind)?.batching();
            let orders = OrdersClient::new(connection.clone()).start();
            settle(&mut server, kind)?;
            let mut calls = Vec::with_capacity(usize::try_from(BATCH)?);
            for first in (0..count).step_by(usize::try_from(BATCH)?) {
                for number in first..count.min(first + BATCH) {
                    let urgent = Order::new(number).urgent;
                    calls.push((number, orders.submit(number, USER, NAME, urgent, SIZES)?));
                }
                connection.flush()?;
                for (number, mut call) in calls.drain(..) {
                    let receipt = loop {
                        if let Some(receipt) = call.try_wait() {
                            break receipt?;
                        }
                        take_turn(&mut server)?;
                    };
                    receipt.check(number)?;
                }
            }
        }
        "jsoncomm Handler" => {
            endpoint.handle::<Ask>();
            let connection = Connection::connect(&path, kind)?;
            settle(&mut server, kind)?;
            for number in 0..count {
                let params = Submit::new(number);
                let method = "bench.requests.submit";
                let mut call = connection.start::<Receipt, Infallible>(method, &params)?;
                let receipt = loop {
                    take_turn(&mut server)?;
                    if let Some(receipt) = call.try_wait() {
                        break receipt?;
                    }
                };
                receipt.check(number)?;
            }
        }
        _ => {
            endpoint.bare::<Ask>();
            let mut socket = Socket::connect(&path, kind)?;
            settle(&mut server, kind)?;
            let mut ask = Ask::new(0);
            for number in 0..count {
                ask.renumber(number);
                socket.send(&ask)?;
                take_turn(&mut server)?;
                socket.receive::<Receipt>()?.0.check(number)?;
            }
        }
    }
    Ok(())
}

/// Accepts the client.
fn settle(server: &mut Server<Desk>, kind: Kind) -> Outcome {
    match kind {
        Kind::Datagram => Ok(()),
        _ => take_turn(server),
    }
}

fn take_turn(server: &mut Server<Desk>) -> Outcome {
    let _ = server.run_once(&mut Desk, Some(Duration::ZERO))?;
    Ok(())
}
