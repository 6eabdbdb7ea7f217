//! ipc-channel: a channel each way, for one client.

use std::fs;

use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender, channel};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_text, receipt};

pub(super) struct Channel;

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    Submit {
        number: u64,
        user: u32,
        name: String,
        urgent: bool,
        sizes: [u32; 4],
    },
    Echo(String),
}

#[derive(Debug, Serialize, Deserialize)]
enum Tell {
    Receipt(Receipt),
    Text(String),
}

type Ends = (IpcReceiver<Ask>, IpcSender<Tell>);

impl Peer for Channel {
    fn name(&self) -> &'static str {
        "ipc-channel"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        wire == Wire::Stream && matches!(load, Load::Small | Load::Text(_))
    }

    /// The name of its server is told in the file where others have their socket.
    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let (server, name) = IpcOneShotServer::<Ends>::new()?;
        fs::write(&at.path, name)?;
        ready()?;
        let (_, (asks, tells)) = server.accept()?;
        loop {
            tells.send(match asks.recv()? {
                Ask::Submit {
                    number,
                    user,
                    name,
                    urgent,
                    sizes,
                } => Tell::Receipt(receipt(&Order {
                    number,
                    user,
                    name: &name,
                    urgent,
                    sizes,
                })),
                Ask::Echo(text) => Tell::Text(text),
            })?;
        }
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        let server = IpcSender::<Ends>::connect(fs::read_to_string(&at.path)?)?;
        let ((asks, taken), (told, tells)) = (channel()?, channel()?);
        server.send((taken, told))?;
        Ok(Box::new(Client {
            asks,
            tells,
            text: work::text(at.load.size()),
            load: at.load,
        }))
    }
}

struct Client {
    asks: IpcSender<Ask>,
    tells: IpcReceiver<Tell>,
    text: String,
    load: Load,
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            self.asks.send(match self.load {
                Load::Text(_) => Ask::Echo(self.text.clone()),
                _ => Ask::Submit {
                    number,
                    user: USER,
                    name: NAME.to_owned(),
                    urgent: Order::new(number).urgent,
                    sizes: SIZES,
                },
            })?;
            match self.tells.recv()? {
                Tell::Receipt(receipt) => receipt.check(number)?,
                Tell::Text(text) => check_text(&self.text, &text)?,
            }
            laps.lap();
        }
        Ok(())
    }
}
