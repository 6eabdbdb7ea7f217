//! jsoncomm: a stub of a service, an enum of requests, the bare wire.

mod many;
mod notes;
mod records;
mod turns;

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use jsoncomm::socket::Socket;
use jsoncomm::{Call, Connection, Handler, Kind, Limits, Message, Reply, Server};

use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};
pub(super) use turns::turn;

use crate::work::{self, NAME, Order, Receipt, SIZES, USER, check_null, check_text, receipt};

/// What the stub calls.
#[jsoncomm::service(name = "bench.orders")]
trait Orders {
    fn submit(
        &mut self,
        number: u64,
        user: u32,
        name: &str,
        urgent: bool,
        sizes: [u32; 4],
    ) -> Receipt;
    fn own(&mut self, number: u64, name: &str, sizes: &[u32]) -> Named;
    fn swap(&mut self, #[fd] file: OwnedFd) -> Passed;
    fn echo(&mut self, text: &str) -> String;
}

#[derive(Debug, Message)]
struct Named {
    number: u64,
    name: String,
    sizes: Vec<u32>,
}

#[derive(Debug, Message)]
struct Passed {
    #[fd]
    file: OwnedFd,
}

/// The service as an enum of requests.
#[derive(Debug, Message)]
#[message(service = "bench.requests", reply = Receipt)]
enum Ask {
    Submit {
        number: u64,
        user: u32,
        name: String,
        urgent: bool,
        sizes: [u32; 4],
    },
}

impl Ask {
    fn new(number: u64) -> Self {
        let order = Order::new(number);
        Self::Submit {
            number,
            user: order.user,
            name: order.name.to_owned(),
            urgent: order.urgent,
            sizes: order.sizes,
        }
    }

    /// Makes it the request of this number, without a new string.
    fn renumber(&mut self, to: u64) {
        let Self::Submit { number, urgent, .. } = self;
        (*number, *urgent) = (to, Order::new(to).urgent);
    }
}

pub(super) struct Desk;

impl Orders for Desk {
    fn submit(
        &mut self,
        number: u64,
        user: u32,
        name: &str,
        urgent: bool,
        sizes: [u32; 4],
    ) -> Receipt {
        receipt(&Order {
            number,
            user,
            name,
            urgent,
            sizes,
        })
    }

    fn own(&mut self, number: u64, name: &str, sizes: &[u32]) -> Named {
        Named {
            number,
            name: name.to_owned(),
            sizes: sizes.to_owned(),
        }
    }

    fn swap(&mut self, file: OwnedFd) -> Passed {
        Passed { file }
    }

    fn echo(&mut self, text: &str) -> String {
        text.to_owned()
    }
}

impl Handler<Ask> for Desk {
    fn handle(&mut self, _: &mut Call, ask: Ask, reply: Reply<Receipt>) {
        let Ask::Submit {
            number,
            user,
            name,
            urgent,
            sizes,
        } = ask;
        reply.send(receipt(&Order {
            number,
            user,
            name: &name,
            urgent,
            sizes,
        }));
    }
}

pub(super) fn kind(wire: Wire) -> Kind {
    match wire {
        Wire::Datagram => Kind::Datagram,
        _ => Kind::Seqpacket,
    }
}

/// The most a message of the case has, with its envelope.
fn most(at: &At) -> usize {
    match at.load.size() {
        0 => Limits::default().message,
        size => size + 4096,
    }
}

fn server<S>(at: &At) -> Outcome<Server<S>> {
    let mut limits = Limits::default();
    if let Load::Idle(clients) = at.load {
        (limits.connections, limits.user_connections) = (clients + 1, clients + 1);
    }
    limits.message = most(at);
    limits.backlog_bytes = limits.backlog_bytes.max(2 * limits.message);
    limits.user_backlog_bytes = limits.user_backlog_bytes.max(2 * limits.message);
    Ok(Server::new(limits)?)
}

fn connection(at: &At) -> Outcome<Connection> {
    let connection = Connection::connect(&at.path, kind(at.wire))?;
    connection.set_message_limit(most(at));
    Ok(connection)
}

/// The connection that the threads of this process share.
fn shared(at: &At) -> Outcome<Connection> {
    static SHARED: Mutex<Option<Connection>> = Mutex::new(None);
    let mut shared = SHARED.lock().map_err(|error| error.to_string())?;
    if shared.is_none() {
        *shared = Some(connection(at)?);
    }
    Ok(shared.clone().ok_or("it has just been made")?)
}

/// `#[service]`.
pub(super) struct Stub {
    name: &'static str,
    /// How long both ends look before they sleep.
    busy_poll: Duration,
    /// Threads that could share a connection have one each.
    apart: bool,
    /// Calls that are started leave together.
    batched: bool,
}

impl Stub {
    /// They sleep at once.
    pub(super) const SLEEPING: Self = Self {
        name: "jsoncomm #[service]",
        busy_poll: Duration::ZERO,
        apart: false,
        batched: false,
    };
    /// They look for a while.
    pub(super) const LOOKING: Self = Self {
        name: "jsoncomm #[service], busy poll",
        busy_poll: Duration::from_micros(50),
        apart: false,
        batched: false,
    };
    /// Each thread has a connection.
    pub(super) const APART: Self = Self {
        name: super::APART,
        busy_poll: Duration::ZERO,
        apart: true,
        batched: false,
    };
    /// Calls in flight are gathered into batches.
    pub(super) const BATCHED: Self = Self {
        name: "jsoncomm #[service], batched",
        busy_poll: Duration::ZERO,
        apart: false,
        batched: true,
    };
}

impl Peer for Stub {
    fn name(&self) -> &'static str {
        self.name
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        let many = matches!(load, Load::Methods(_)) && !cfg!(feature = "methods");
        let sleeps = self.busy_poll.is_zero() || load == Load::Small;
        let apart = !self.apart || matches!(load, Load::Threads(_));
        let batched = !self.batched || matches!(load, Load::Window(_) | Load::OneWay(_));
        wire != Wire::Stream && !many && sleeps && apart && batched
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        if let Load::OneWay(_) = at.load {
            return notes::serve(at, ready);
        }
        let mut server = server(at)?;
        server.set_busy_poll(self.busy_poll);
        let endpoint = server.bind(&at.path, kind(at.wire))?;
        match at.load {
            Load::Records(_) | Load::RecordAndFile => {
                endpoint.serve::<dyn records::Records>();
            }
            Load::Methods(number) => many::serve(endpoint.serve::<dyn Orders>(), number),
            _ => {
                endpoint.serve::<dyn Orders>();
            }
        }
        ready()?;
        Ok(server.run(&mut Desk)?)
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        if let Load::Methods(number) = at.load {
            let method = many::last(number);
            let connection = connection(at)?;
            return Ok(Box::new(many::Client { connection, method }));
        }
        let connection = match at.load {
            Load::Threads(_) if !self.apart => shared(at)?,
            _ => connection(at)?,
        };
        connection.set_busy_poll(self.busy_poll);
        let connection = if self.batched {
            connection.batching()
        } else {
            connection
        };
        if let Load::Records(_) | Load::RecordAndFile = at.load {
            return Ok(Box::new(records::Client::new(connection, at)?));
        }
        if let Load::OneWay(round) = at.load {
            return Ok(Box::new(notes::Client::new(connection, round)));
        }
        Ok(Box::new(StubClient {
            orders: OrdersClient::new(connection),
            null: super::net::null(at)?,
            text: work::text(at.load.size()),
            load: at.load,
            batched: self.batched,
        }))
    }
}

struct StubClient {
    orders: OrdersClient,
    /// What is passed, if anything is.
    null: Option<File>,
    text: String,
    load: Load,
    /// Its connection gathers calls.
    batched: bool,
}

impl StubClient {
    fn run_window(&self, window: usize, laps: &mut Laps) -> Outcome {
        let mut flying = VecDeque::with_capacity(window);
        let started = self.orders.start();
        loop {
            while flying.len() < window {
                let Some(number) = laps.issue() else { break };
                let urgent = Order::new(number).urgent;
                let call = started.submit(number, USER, NAME, urgent, SIZES)?;
                flying.push_back((number, call));
            }
            if flying.is_empty() {
                return Ok(());
            }
            // In batches, a window is started together and waited for together: a call started after each reply would
            // be a batch of one.
            let done = if self.batched { window } else { 1 };
            for (number, call) in flying.drain(..done.min(flying.len())) {
                call.wait()?.check(number)?;
                laps.lap();
            }
        }
    }
}

impl Caller for StubClient {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        if let Load::Window(window) = self.load {
            return self.run_window(window, laps);
        }
        let orders = &self.orders;
        while let Some(number) = laps.issue() {
            match self.load {
                Load::Small
                | Load::Clients(_)
                | Load::Threads(_)
                | Load::Window(_)
                | Load::Idle(_)
                | Load::Methods(_) => {
                    let urgent = Order::new(number).urgent;
                    let receipt = orders.submit(number, USER, NAME, urgent, SIZES)?;
                    receipt.check(number)?;
                }
                Load::Owned => {
                    let named = orders.own(number, NAME, &SIZES)?;
                    work::check_named(number, named.number, &named.name, &named.sizes)?;
                }
                Load::Descriptor => {
                    let passed = orders.swap(self.null.as_ref().ok_or("no file")?)?;
                    check_null(number, passed.file.as_fd())?;
                }
                Load::Text(_) => check_text(&self.text, &orders.echo(&self.text)?)?,
                Load::Records(_) | Load::RecordAndFile | Load::OneWay(_) => {
                    return Err("another client's".into());
                }
            }
            laps.lap();
        }
        Ok(())
    }
}

/// A [`Handler`] of an enum, in the envelope.
pub(super) struct Requests;

impl Peer for Requests {
    fn name(&self) -> &'static str {
        "jsoncomm Handler"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        wire != Wire::Stream && load == Load::Small
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let mut server = server(at)?;
        server.bind(&at.path, kind(at.wire))?.handle::<Ask>();
        ready()?;
        Ok(server.run(&mut Desk)?)
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        Ok(Box::new(RequestsClient {
            connection: connection(at)?,
            ask: Ask::new(0),
        }))
    }
}

struct RequestsClient {
    connection: Connection,
    ask: Ask,
}

impl Caller for RequestsClient {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            self.ask.renumber(number);
            self.connection.request(&self.ask)?.check(number)?;
            laps.lap();
        }
        Ok(())
    }
}

/// The bare wire: a [`Socket`] and a bare endpoint.
pub(super) struct Bare;

impl Peer for Bare {
    fn name(&self) -> &'static str {
        "jsoncomm bare"
    }

    fn beside(&self) -> &'static str {
        "by hand, bare"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        Requests.does(wire, load)
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let mut server = server(at)?;
        server.bind(&at.path, kind(at.wire))?.bare::<Ask>();
        ready()?;
        Ok(server.run(&mut Desk)?)
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        Ok(Box::new(BareClient {
            socket: Socket::connect(&at.path, kind(at.wire))?,
            ask: Ask::new(0),
        }))
    }
}

struct BareClient {
    socket: Socket,
    ask: Ask,
}

impl Caller for BareClient {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        while let Some(number) = laps.issue() {
            self.ask.renumber(number);
            self.socket.send(&self.ask)?;
            let (receipt, _) = self.socket.receive::<Receipt>()?;
            receipt.check(number)?;
            laps.lap();
        }
        Ok(())
    }
}
