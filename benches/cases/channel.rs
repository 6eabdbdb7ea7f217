//! ipc-channel: a channel each way for each client, and two servers. One waits for the messages of its only client,
//! the other for those of all its clients at once.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, thread};

use ipc_channel::ipc::{
    IpcOneShotServer, IpcReceiver, IpcReceiverSet, IpcSelectionResult, IpcSender, channel,
};
use serde::{Deserialize, Serialize};

use super::tokio::patiently;
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_text, receipt};

/// A server of one client.
pub(super) static ONE: Channel = Channel { set: false };
/// A server of any number of clients, with its `IpcReceiverSet`.
pub(super) static SET: Channel = Channel { set: true };

pub(super) struct Channel {
    set: bool,
}

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
    Welcome,
    Receipt(Receipt),
    Text(String),
}

type Ends = (IpcReceiver<Ask>, IpcSender<Tell>);

fn answer(ask: Ask) -> Tell {
    match ask {
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
    }
}

/// Opens a door that one client can come through, and tells its name in the file where others have their socket.
fn door(path: &Path) -> Outcome<IpcOneShotServer<Ends>> {
    let (server, name) = IpcOneShotServer::new()?;
    let whole = path.with_extension("next");
    fs::write(&whole, name)?;
    fs::rename(&whole, path)?;
    Ok(server)
}

fn serve_one(at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
    let door = door(&at.path)?;
    ready()?;
    let (_, (asks, tells)) = door.accept()?;
    tells.send(Tell::Welcome)?;
    loop {
        tells.send(answer(asks.recv()?))?;
    }
}

fn serve_set(at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
    let (doors, comers) = channel::<Ends>()?;
    let mut next = door(&at.path)?;
    ready()?;
    let path = at.path.clone();
    thread::spawn(move || -> Outcome {
        loop {
            let (_, ends) = next.accept()?;
            next = door(&path)?;
            doors.send(ends)?;
        }
    });
    let mut set = IpcReceiverSet::new()?;
    let comers = set.add(comers)?;
    let mut clients = HashMap::new();
    loop {
        for event in set.select()? {
            match event {
                IpcSelectionResult::MessageReceived(id, message) if id == comers => {
                    let (asks, tells): Ends = message.to()?;
                    tells.send(Tell::Welcome)?;
                    clients.insert(set.add(asks)?, tells);
                }
                IpcSelectionResult::MessageReceived(id, message) => {
                    let tells = clients.get(&id).ok_or("a message of an unknown client")?;
                    tells.send(answer(message.to()?))?;
                }
                IpcSelectionResult::ChannelClosed(id) => drop(clients.remove(&id)),
            }
        }
    }
}

impl Peer for Channel {
    fn name(&self) -> &'static str {
        if self.set {
            "ipc-channel, a set"
        } else {
            "ipc-channel"
        }
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        let one = matches!(load, Load::Small | Load::Window(_) | Load::Text(_));
        wire == Wire::Stream && (one || self.set && matches!(load, Load::Clients(_)))
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        if self.set {
            serve_set(at, ready)
        } else {
            serve_one(at, ready)
        }
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        // The address in the file may have been used by another client: then no welcome comes.
        let (asks, tells) = patiently(|| {
            let server = IpcSender::<Ends>::connect(fs::read_to_string(&at.path)?)?;
            let ((asks, taken), (told, tells)) = (channel()?, channel()?);
            server.send((taken, told))?;
            match tells.recv()? {
                Tell::Welcome => Outcome::Ok((asks, tells)),
                _ => Err("no welcome".into()),
            }
        })?;
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

impl Client {
    fn ask(&self, number: u64) -> Outcome {
        Ok(self.asks.send(match self.load {
            Load::Text(_) => Ask::Echo(self.text.clone()),
            _ => Ask::Submit {
                number,
                user: USER,
                name: NAME.to_owned(),
                urgent: Order::new(number).urgent,
                sizes: SIZES,
            },
        })?)
    }

    fn check(&self, number: u64) -> Outcome {
        match self.tells.recv()? {
            Tell::Receipt(receipt) => receipt.check(number),
            Tell::Text(text) => check_text(&self.text, &text),
            Tell::Welcome => Err("no answer".into()),
        }
    }
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let window = match self.load {
            Load::Window(window) => window as u64,
            _ => 1,
        };
        let (mut asked, mut told) = (0, 0);
        loop {
            while asked - told < window {
                let Some(number) = laps.issue() else { break };
                self.ask(number)?;
                asked = number;
            }
            if told == asked {
                return Ok(());
            }
            told += 1;
            self.check(told)?;
            laps.lap();
        }
    }
}
