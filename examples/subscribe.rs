//! A subscriber passes a stub of itself to a server, which calls it back: `#[fd] events: EventsClient`.
//!
//! Run it with `cargo run --example subscribe`. The guide's page on passing rights says who may pass what.

use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::thread;

use jsoncomm::socket::Socket;
use jsoncomm::{Connection, Kind, Limits, Server};

/// What each subscriber serves.
#[jsoncomm::service(name = "example.events")]
trait Events {
    #[oneway]
    fn changed(&mut self, key: &str, value: u32);
}

#[jsoncomm::service(name = "example.store")]
trait Store {
    /// Has `changed` called for each change, until the subscriber closes its end.
    fn subscribe(&mut self, #[fd] events: EventsClient) -> usize;
    /// Returns how many subscribers were told.
    fn set(&mut self, key: &str, value: u32) -> usize;
}

#[derive(Default)]
struct Values {
    subscribers: Vec<EventsClient>,
}

impl Store for Values {
    fn subscribe(&mut self, events: EventsClient) -> usize {
        self.subscribers.push(events);
        self.subscribers.len()
    }

    fn set(&mut self, key: &str, value: u32) -> usize {
        // This never waits: a subscriber that does not read, or has hung up, is dropped.
        let told = |events: &EventsClient| events.changed(key, value).is_ok();
        self.subscribers.retain(told);
        self.subscribers.len()
    }
}

/// Prints what it is told.
struct Printer;

impl Events for Printer {
    fn changed(&mut self, key: &str, value: u32) {
        let _ = writeln!(io::stdout(), "told: {key} is {value}");
    }
}

/// Makes a pair, serves the one end, and returns the other as a stub, to be passed on.
fn subscriber() -> Result<(Server<Printer>, EventsClient), Box<dyn Error>> {
    let (near, far) = Socket::pair(Kind::Seqpacket)?;
    let mut server = Server::new(Limits::default())?;
    let endpoint = server.adopt(near.as_fd().try_clone_to_owned()?)?;
    endpoint.stop_on_close()?.serve::<dyn Events>();
    let events = Connection::from_fd(far.as_fd().try_clone_to_owned()?)?;
    Ok((server, EventsClient::new(events)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("subscribe-{}.sock", std::process::id()));
    let mut server = Server::new(Limits::default())?;
    server.bind(&path, Kind::Seqpacket)?.serve::<dyn Store>();
    let stop = server.handle();
    let runs = thread::spawn(move || server.run(&mut Values::default()));

    let store = StoreClient::new(Connection::open(&path)?);
    let (mut first, events) = subscriber()?;
    store.subscribe(&events)?;
    let (second, other) = subscriber()?;
    store.subscribe(&other)?;
    // The store has copies of its own.
    drop((events, other));

    let mut out = io::stdout();
    writeln!(out, "{} subscribers", store.set("a", 1)?)?;
    first.run_once(&mut Printer, None)?.is_break();
    // This one ends. The store notices when it tells it something.
    drop(second);
    writeln!(out, "{} is left", store.set("b", 2)?)?;
    first.run_once(&mut Printer, None)?.is_break();

    stop.stop();
    runs.join().map_err(|_| "the store panicked")??;
    // The store has ended, and its copy of the other end is closed.
    while first.run_once(&mut Printer, None)? == ControlFlow::Continue(()) {}
    writeln!(out, "the store has hung up")?;
    Ok(())
}
