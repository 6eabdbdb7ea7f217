//! By hand: what an expert writes for exactly this service, with serde_json. It is the measure of the other rows.
//!
//! Server: `epoll_wait`, `recvmsg` into a buffer that stays, `serde_json::from_slice` of a struct that borrows from it,
//! the answer written into a buffer that stays, one `sendmsg`. Client: `sendmsg`, `recvmsg` with `SO_RCVTIMEO`. The
//! envelope is that of jsoncomm; nothing is checked that serde does not check, but the id and the method.

mod notes;
mod records;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::net::{self, Texts};
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
use crate::work::{self, NAME, Order, Receipt, SIZES, check_null, check_text, receipt};

const VERSION: &str = "2.0";

#[derive(Serialize, Deserialize)]
struct Call<'a, P> {
    jsonrpc: &'a str,
    id: u64,
    method: &'a str,
    params: P,
}

#[derive(Serialize, Deserialize)]
struct Answer<'a, R> {
    jsonrpc: &'a str,
    id: u64,
    result: R,
}

#[derive(Serialize, Deserialize)]
struct Text<T> {
    text: T,
}

#[derive(Serialize, Deserialize)]
struct Passed {
    file: usize,
}

#[derive(Serialize, Deserialize)]
struct Named<N, S> {
    number: u64,
    name: N,
    sizes: S,
}

/// What a call and its answer look like.
pub(super) fn samples() -> Outcome<(Vec<u8>, Vec<u8>)> {
    let (id, number) = (1 << 50, 10_000);
    let order = Order::new(number);
    let call = Call {
        jsonrpc: VERSION,
        id,
        method: "bench.orders.submit",
        params: order,
    };
    let answer = Answer {
        jsonrpc: VERSION,
        id,
        result: receipt(&order),
    };
    Ok((serde_json::to_vec(&call)?, serde_json::to_vec(&answer)?))
}

/// The server's part of a call: reads it, does the work, writes the answer.
#[inline]
fn answer<'a, P: Deserialize<'a>, R: Serialize>(
    text: &'a [u8],
    out: &mut Vec<u8>,
    method: &str,
    work: impl FnOnce(P) -> R,
) -> Outcome {
    let call: Call<'_, P> = serde_json::from_slice(text)?;
    if call.method != method {
        return Err("no such method".into());
    }
    let answer = Answer {
        jsonrpc: VERSION,
        id: call.id,
        result: work(call.params),
    };
    Ok(serde_json::to_writer(out, &answer)?)
}

/// In the envelope.
pub(super) struct Hand;

impl Peer for Hand {
    fn name(&self) -> &'static str {
        "by hand"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        // With more calls in flight both ends would wait for room; an expert would not write that.
        wire != Wire::Stream && !matches!(load, Load::Window(129..) | Load::Methods(_))
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        match at.load {
            Load::Small
            | Load::Clients(_)
            | Load::Threads(_)
            | Load::Window(_)
            | Load::Idle(_)
            | Load::Methods(_) => net::serve::<false>(at, ready, |text, _, out| {
                let work = |order: Order<'_>| receipt(&order);
                answer(text, out, "bench.orders.submit", work)?;
                Ok(None)
            }),
            Load::Owned => net::serve::<false>(at, ready, |text, _, out| {
                let work = |named: Named<String, Vec<u32>>| named;
                answer(text, out, "bench.orders.own", work)?;
                Ok(None)
            }),
            Load::Descriptor => net::serve::<true>(at, ready, |text, fd, out| {
                let work = |passed: Passed| passed;
                answer(text, out, "bench.orders.swap", work)?;
                Ok(fd)
            }),
            Load::Text(_) => net::serve::<true>(at, ready, |text, _, out| {
                let work = |text: Text<String>| text.text;
                answer(text, out, "bench.orders.echo", work)?;
                Ok(None)
            }),
            Load::Records(_) | Load::RecordAndFile => records::serve(at, ready),
            Load::OneWay(_) => notes::serve(at, ready),
        }
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        if let Load::Threads(_) = at.load {
            return Ok(Box::new(Turns::new(at)?));
        }
        let client = Client::new(at)?;
        Ok(match at.load {
            Load::Records(_) | Load::RecordAndFile => Box::new(records::Records::new(client)),
            Load::OneWay(round) => Box::new(notes::Notes { client, round }),
            _ => Box::new(client),
        })
    }
}

/// One of the threads that share a connection behind a mutex, which each holds for a call.
struct Turns;

static SHARED: Mutex<Option<Client>> = Mutex::new(None);

impl Turns {
    fn new(at: &At) -> Outcome<Self> {
        let mut shared = SHARED.lock().map_err(|error| error.to_string())?;
        if shared.is_none() {
            *shared = Some(Client::new(at)?);
        }
        Ok(Self)
    }
}

impl Caller for Turns {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            let mut shared = SHARED.lock().map_err(|error| error.to_string())?;
            let client = shared.as_mut().ok_or("it has been made")?;
            let receipt = client.submit(number)?;
            drop(shared);
            receipt.check(number)?;
            laps.lap();
        }
        Ok(())
    }
}

struct Client {
    socket: OwnedFd,
    texts: Texts,
    /// Of the last call that was sent.
    id: u64,
    /// What is passed, if anything is.
    null: Option<File>,
    text: String,
    load: Load,
}

impl Client {
    fn new(at: &At) -> Outcome<Self> {
        Ok(Self {
            socket: net::dial(at)?,
            texts: Texts::new(at),
            id: 1 << 50,
            null: net::null(at)?,
            text: work::text(at.load.size()),
            load: at.load,
        })
    }

    /// Sends a call.
    #[inline]
    fn send<P: Serialize>(&mut self, method: &str, params: P) -> Outcome {
        self.id += 1;
        let call = Call {
            jsonrpc: VERSION,
            id: self.id,
            method,
            params,
        };
        self.texts.out.clear();
        serde_json::to_writer(&mut self.texts.out, &call)?;
        let fd = self.null.as_ref().map(AsFd::as_fd);
        Ok(self.texts.send(&self.socket, fd, None)?)
    }

    /// Receives the answer to a call.
    #[inline]
    fn receive<const FDS: bool, R: DeserializeOwned>(
        &mut self,
        id: u64,
    ) -> Outcome<(R, Option<OwnedFd>)> {
        let (came, text, _) = self
            .texts
            .receive::<FDS>(&self.socket, RecvFlags::empty())?;
        let answer: Answer<'_, R> = serde_json::from_slice(text)?;
        if answer.id == id {
            Ok((answer.result, came.fd))
        } else {
            Err("the answer to another call".into())
        }
    }

    /// Makes a small call.
    #[inline]
    fn submit(&mut self, number: u64) -> Outcome<Receipt> {
        self.send("bench.orders.submit", Order::new(number))?;
        let (receipt, _) = self.receive::<false, Receipt>(self.id)?;
        Ok(receipt)
    }

    /// Keeps so many calls in flight; the server answers them in order.
    fn run_window(&mut self, window: usize, laps: &mut Laps) -> Outcome {
        let (mut sent, mut done) = (0, 0);
        let first = self.id + 1;
        loop {
            while sent - done < window as u64 {
                let Some(number) = laps.issue() else { break };
                self.send("bench.orders.submit", Order::new(number))?;
                sent += 1;
            }
            if sent == done {
                return Ok(());
            }
            let (receipt, _) = self.receive::<false, Receipt>(first + done)?;
            done += 1;
            receipt.check(done)?;
            laps.lap();
        }
    }
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        if let Load::Window(window) = self.load {
            return self.run_window(window, laps);
        }
        while let Some(number) = laps.issue() {
            match self.load {
                Load::Small
                | Load::Clients(_)
                | Load::Threads(_)
                | Load::Window(_)
                | Load::Idle(_)
                | Load::Methods(_) => {
                    self.submit(number)?.check(number)?;
                }
                Load::Owned => {
                    let named = Named {
                        number,
                        name: NAME,
                        sizes: SIZES.as_slice(),
                    };
                    self.send("bench.orders.own", named)?;
                    let (named, _) = self.receive::<false, Named<String, Vec<u32>>>(self.id)?;
                    work::check_named(number, named.number, &named.name, &named.sizes)?;
                }
                Load::Descriptor => {
                    self.send("bench.orders.swap", Passed { file: 0 })?;
                    let (passed, fd) = self.receive::<true, Passed>(self.id)?;
                    let fd = fd.filter(|_| passed.file == 0).ok_or("no descriptor")?;
                    check_null(number, fd.as_fd())?;
                }
                Load::Text(_) => {
                    let text = std::mem::take(&mut self.text);
                    self.send("bench.orders.echo", Text { text: &*text })?;
                    let (came, _) = self.receive::<true, String>(self.id)?;
                    check_text(&text, &came)?;
                    self.text = text;
                }
                Load::Records(_) | Load::RecordAndFile | Load::OneWay(_) => {
                    return Err("another client's".into());
                }
            }
            laps.lap();
        }
        Ok(())
    }
}

/// Makes so many calls of a load with both ends in one thread, for counting instructions.
pub(super) fn turn(wire: Wire, load: Load, count: u64) -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = At {
        path: directory.path().join("socket"),
        wire,
        load,
    };
    let door = net::door(&at)?;
    let mut client = Client::new(&at)?;
    let server = match wire {
        Wire::Datagram => door,
        _ => net::admit(&door, &at)?,
    };
    let mut texts = Texts::new(&at);
    if let Load::Records(_) = load {
        return records::turn(client, &server, &mut texts, count);
    }
    for number in 0..count {
        client.send("bench.orders.submit", Order::new(number))?;
        let (came, text, out) = texts.receive::<false>(&server, RecvFlags::DONTWAIT)?;
        let work = |order: Order<'_>| receipt(&order);
        answer(text, out, "bench.orders.submit", work)?;
        texts.send(&server, None, came.from.as_ref())?;
        let (receipt, _) = client.receive::<false, Receipt>(client.id)?;
        receipt.check(number)?;
    }
    Ok(())
}

/// Without an envelope, beside jsoncomm's bare wire.
pub(super) struct Bare;

#[derive(Serialize, Deserialize)]
enum Ask<'a> {
    #[serde(borrow)]
    Submit(Order<'a>),
}

impl Peer for Bare {
    fn name(&self) -> &'static str {
        "by hand, bare"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        wire != Wire::Stream && load == Load::Small
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        net::serve::<false>(at, ready, |text, _, out| {
            let Ask::Submit(order) = serde_json::from_slice(text)?;
            serde_json::to_writer(out, &receipt(&order))?;
            Ok(None)
        })
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        Ok(Box::new(BareClient {
            socket: net::dial(at)?,
            texts: Texts::new(at),
        }))
    }
}

struct BareClient {
    socket: OwnedFd,
    texts: Texts,
}

impl Caller for BareClient {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let none: Option<BorrowedFd<'_>> = None;
        while let Some(number) = laps.issue() {
            self.texts.out.clear();
            serde_json::to_writer(&mut self.texts.out, &Ask::Submit(Order::new(number)))?;
            self.texts.send(&self.socket, none, None)?;
            let (_, text, _) = self
                .texts
                .receive::<false>(&self.socket, RecvFlags::empty())?;
            serde_json::from_slice::<Receipt>(text)?.check(number)?;
            laps.lap();
        }
        Ok(())
    }
}
