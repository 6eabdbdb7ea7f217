//! Slow work on other threads: a method returns [`Deferred`] and passes its reply to a small pool of threads, which
//! send it when they have finished. When a caller cancels, its worker notices and stops.
//!
//! Run it with `cargo run --example pool`.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::{env, process, thread};

use jsoncomm::client::PendingCall;
use jsoncomm::{Call, Connection, Deferred, Kind, Limits, Reply, Server};

#[jsoncomm::service(name = "example.primes")]
trait Primes {
    /// Counts the primes below `limit`.
    fn below(&mut self, call: &mut Call, limit: u64) -> Deferred<u64>;
}

/// A job for the pool: a number, and the reply to send.
type Job = (u64, Reply<u64>);

impl Primes for Sender<Job> {
    fn below(&mut self, call: &mut Call, limit: u64) -> Deferred<u64> {
        call.defer(|reply| {
            // If no worker is left, the reply is dropped, and the caller gets a fault.
            let _ = self.send((limit, reply));
        })
    }
}

/// Works until the channel is closed; returns how many jobs it stopped because their callers had cancelled.
fn work(jobs: &Mutex<Receiver<Job>>) -> u32 {
    let mut stopped = 0;
    // The lock is held while a worker waits for a job, not while it works.
    while let Ok(Ok((limit, reply))) = jobs.lock().map(|jobs| jobs.recv()) {
        match count(limit, &reply) {
            Some(count) => reply.send(count),
            None => stopped += 1,
        }
    }
    stopped
}

/// Counts primes; checks now and then whether the caller still waits.
fn count(limit: u64, reply: &Reply<u64>) -> Option<u64> {
    let mut count = 0;
    for n in 2..limit {
        if n % 1024 == 0 && !reply.is_wanted() {
            return None;
        }
        let mut divisors = (2..).take_while(|d| d * d <= n);
        count += u64::from(!divisors.any(|d| n % d == 0));
    }
    Some(count)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("pool-{}.sock", process::id()));
    let mut server = Server::new(Limits::default())?;
    server.bind(&path, Kind::Seqpacket)?.serve::<dyn Primes>();
    let (mut sender, jobs) = mpsc::channel();
    let jobs = Arc::new(Mutex::new(jobs));
    let workers = [(); 3].map(|()| Arc::clone(&jobs));
    let workers = workers.map(|jobs| thread::spawn(move || work(&jobs)));
    let handle = server.handle();
    let client = thread::spawn(move || {
        let asked = ask(&path).map_err(|error| error.to_string());
        handle.stop();
        asked
    });
    server.run(&mut sender)?;
    client.join().map_err(|_| "the client panicked")??;
    drop(sender); // the workers end
    let stopped = workers.map(|worker| worker.join().unwrap_or(0));
    let stopped: u32 = stopped.iter().sum();
    writeln!(io::stdout(), "calls stopped by their worker: {stopped}")?;
    Ok(())
}

/// The client: starts the largest job first, and prints the results as they arrive.
fn ask(path: &Path) -> Result<(), Box<dyn Error>> {
    let primes = PrimesClient::new(Connection::open(path)?);
    let endless = primes.start().below(u64::MAX)?;
    let mut limits = vec![100_000, 1_000];
    let started = limits.iter().map(|limit| primes.start().below(*limit));
    let mut calls = started.collect::<Result<Vec<_>, _>>()?;
    while let Some((place, count)) = PendingCall::wait_any(&mut calls) {
        let (limit, count) = (limits.remove(place), count?);
        writeln!(io::stdout(), "below {limit}: {count} primes")?;
    }
    drop(endless);
    // Messages of one connection are read in order: after this reply, the server has seen the cancellation.
    writeln!(io::stdout(), "below 10: {} primes", primes.below(10)?)?;
    Ok(())
}
