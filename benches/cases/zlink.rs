//! zlink: varlink, asynchronous, with parameters that borrow.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use zlink::tokio::unix;
use zlink::{ReplyError, Server, introspect, proxy, service};

use super::tokio::runtime;
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_null, check_text, receipt};

pub(super) struct Zlink;

/// [`Receipt`], with what zlink describes: it knows no arrays of a fixed length.
#[derive(Debug, Serialize, Deserialize, introspect::Type)]
struct Taken {
    number: u64,
    user: u32,
    length: u32,
    urgent: bool,
    total: u64,
    sizes: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize, introspect::Type)]
struct Text {
    text: String,
}

#[derive(Debug, Serialize, Deserialize, introspect::Type)]
struct Passed {
    file: u32,
}

#[derive(Debug, PartialEq, ReplyError, introspect::ReplyError)]
#[zlink(interface = "bench.orders")]
enum Failure {
    Refused,
}

#[proxy("bench.orders")]
trait OrdersProxy {
    async fn submit(
        &mut self,
        number: u64,
        user: u32,
        name: &str,
        urgent: bool,
        sizes: &[u32],
    ) -> zlink::Result<Result<Taken, Failure>>;
    async fn echo(&mut self, text: &str) -> zlink::Result<Result<Text, Failure>>;
    #[zlink(return_fds)]
    async fn swap(
        &mut self,
        file: u32,
        #[zlink(fds)] fds: Vec<OwnedFd>,
    ) -> zlink::Result<(Result<Passed, Failure>, Vec<OwnedFd>)>;
}

struct Desk;

#[service(interface = "bench.orders")]
impl Desk {
    async fn submit(
        &mut self,
        number: u64,
        user: u32,
        name: &str,
        urgent: bool,
        sizes: Vec<u32>,
    ) -> Taken {
        let order = Order {
            number,
            user,
            name,
            urgent,
            sizes: sizes.as_slice().try_into().unwrap_or_default(),
        };
        let Receipt {
            number,
            user,
            length,
            urgent,
            total,
            sizes: _,
        } = receipt(&order);
        Taken {
            number,
            user,
            length,
            urgent,
            total,
            sizes,
        }
    }

    async fn echo(&mut self, text: String) -> Text {
        Text { text }
    }

    #[zlink(return_fds)]
    async fn swap(&mut self, file: u32, #[zlink(fds)] fds: Vec<OwnedFd>) -> (Passed, Vec<OwnedFd>) {
        (Passed { file }, fds)
    }
}

impl Peer for Zlink {
    fn name(&self) -> &'static str {
        "zlink"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        // It looks through a text from its start for each part that comes: 16 MiB takes it minutes.
        let text = matches!(load, Load::Text(..=1_048_576));
        let loads = matches!(
            load,
            Load::Small | Load::Clients(_) | Load::Window(_) | Load::Descriptor
        );
        wire == Wire::Stream && (loads || text)
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        runtime()?.block_on(async {
            let server = Server::new(unix::bind(&at.path)?, Desk);
            ready()?;
            Ok(server.run().await?)
        })
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        let runtime = runtime()?;
        let connection = runtime.block_on(unix::connect(&at.path))?;
        Ok(Box::new(Client {
            runtime,
            connection,
            null: File::open("/dev/null")?.into(),
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

struct Client {
    runtime: ::tokio::runtime::Runtime,
    connection: unix::Connection,
    null: OwnedFd,
    text: String,
    load: Load,
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

/// Its pipelining: sends so many calls in one write, reads their answers, and sends the next.
async fn run_chains(orders: &mut unix::Connection, window: usize, laps: &mut Laps) -> Outcome {
    let urgent = |number| Order::new(number).urgent;
    while let Some(first) = laps.issue() {
        let mut chain = orders.chain_submit(first, USER, NAME, urgent(first), &SIZES)?;
        let mut last = first;
        for _ in 1..window {
            let Some(number) = laps.issue() else { break };
            chain = chain.submit(number, USER, NAME, urgent(number), &SIZES)?;
            last = number;
        }
        let mut replies = chain.send::<Taken, Failure>().await?;
        for number in first..=last {
            let (reply, _) = replies.next().await.ok_or("no reply")??;
            let taken = reply.map_err(refused)?.into_parameters();
            check(number, &taken.ok_or("no receipt")?)?;
            laps.lap();
        }
    }
    Ok(())
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let orders = &mut self.connection;
        self.runtime.block_on(async {
            if let Load::Window(window) = self.load {
                return run_chains(orders, window, laps).await;
            }
            while let Some(number) = laps.issue() {
                match self.load {
                    Load::Descriptor => {
                        let fds = vec![self.null.try_clone()?];
                        let (passed, fds) = orders.swap(0, fds).await?;
                        let fd = fds.get(passed.map_err(refused)?.file as usize);
                        check_null(number, fd.ok_or("no descriptor")?.as_fd())?;
                    }
                    Load::Text(_) => {
                        let text = orders.echo(&self.text).await?.map_err(refused)?;
                        check_text(&self.text, &text.text)?;
                    }
                    _ => {
                        let urgent = Order::new(number).urgent;
                        let taken = orders.submit(number, USER, NAME, urgent, &SIZES).await?;
                        check(number, &taken.map_err(refused)?)?;
                    }
                }
                laps.lap();
            }
            Ok(())
        })
    }
}

fn refused(failure: Failure) -> String {
    format!("{failure:?}")
}
