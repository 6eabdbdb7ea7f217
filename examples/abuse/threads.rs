//! Threads that share one connection: four calls that take half a second each, and quick calls while another one waits.

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use jsoncomm::{Call, Connection, Deferred, Kind, Limits, Reply, Server};

use crate::Trouble;
use crate::stage::Stage;

/// The methods that are called.
#[jsoncomm::service(name = "abuse.threads")]
trait Threads {
    /// Replies after this many milliseconds.
    fn wait(&mut self, call: &mut Call, millis: u64) -> Deferred<u64>;
    /// Replies at once.
    fn quick(&mut self) -> u64;
    /// Returns how many calls of `wait` have no reply yet.
    fn waiting(&mut self) -> usize;
    /// A one-way method.
    #[oneway]
    fn note(&mut self);
    /// Returns how many one-way calls have arrived.
    fn notes(&mut self) -> u64;
}

#[derive(Default)]
struct Desk {
    waiting: Vec<(Instant, Reply<u64>)>,
    notes: u64,
}

impl Threads for Desk {
    fn wait(&mut self, call: &mut Call, millis: u64) -> Deferred<u64> {
        let due = Instant::now() + Duration::from_millis(millis);
        call.defer(|reply| self.waiting.push((due, reply)))
    }

    fn quick(&mut self) -> u64 {
        1
    }

    fn waiting(&mut self) -> usize {
        self.waiting.len()
    }

    fn note(&mut self) {
        self.notes += 1;
    }

    fn notes(&mut self) -> u64 {
        self.notes
    }
}

impl Desk {
    fn answer(&mut self) {
        let now = Instant::now();
        let (due, rest) = self.waiting.drain(..).partition(|(at, _)| *at <= now);
        self.waiting = rest;
        let due: Vec<(Instant, Reply<u64>)> = due;
        due.into_iter().for_each(|(_, reply)| reply.send(1));
    }
}

/// Prints how long four calls of half a second take on clones of one connection, and how many quick calls succeed while
/// another thread waits for two seconds.
pub(crate) fn play(_: &[&str]) -> Result<(), Trouble> {
    for kind in [Kind::Seqpacket, Kind::Datagram] {
        let stage = Stage::new("threads")?;
        let path = stage.socket();
        let mut server = Server::new(Limits::default())?;
        server.bind(&path, kind)?.serve::<dyn Threads>();
        server.every(Duration::from_millis(5), |desk: &mut Desk, _| desk.answer())?;
        let handle = server.handle();
        let server = thread::spawn(move || server.run(&mut Desk::default()).is_ok());
        let measured = measure(&path, kind);
        handle.stop();
        let _ = server.join();
        measured?;
    }
    Ok(())
}

fn measure(path: &Path, kind: Kind) -> Result<(), Trouble> {
    let (connection, other) = (Connection::open(path)?, Connection::open(path)?);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            let threads = ThreadsClient::new(connection.clone());
            scope.spawn(move || threads.wait(500).is_ok());
        }
    });
    let took = began.elapsed().as_secs_f64();
    let mut out = io::stdout();
    let title = "four threads with a call of 0.5 s each";
    writeln!(out, "{kind:?}: {title}: {took:.2} s")?;

    let waiting = ThreadsClient::new(connection.clone());
    let waiting = thread::spawn(move || waiting.wait(2000).is_ok());
    let other = ThreadsClient::new(other);
    while other.waiting()? == 0 {}
    let hasty = ThreadsClient::new(connection.with_timeout(Duration::from_millis(100)));
    let (mut quick, mut started, mut notes) = (0, 0, 0);
    for _ in 0..5 {
        quick += u32::from(hasty.quick().is_ok());
        started += u32::from(hasty.start().quick().is_ok_and(|call| call.wait().is_ok()));
        notes += u32::from(hasty.note().is_ok());
    }
    let waited = waiting.join().is_ok_and(|answered| answered);
    let came = other.notes()?;
    Ok(writeln!(
        out,
        "{kind:?}: beside a thread that waits (answered: {waited}), of 5 each: calls {quick}, started {started}, \
         one-way {notes} (the server has {came})"
    )?)
}
