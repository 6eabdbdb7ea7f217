//! What one hostile client costs a polite one, and what a stuck client costs the server.

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use jsoncomm::Kind;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::hostile::{ATTACKS, bout};
use crate::observed::Observed;
use crate::raw::{Raw, call};
use crate::server::WorkClient;
use crate::tally::{Client, Random, Tally};

/// How long each attack is measured.
const TIME: Duration = Duration::from_secs(2);

/// Measures the attacks whose name contains `word`, and reports what exceeds a promise.
pub(crate) fn all(word: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let server = Observed::start()?;
    let away = pin(&server)?;
    let mut reasons = latencies(&server, word, &away)?;
    for kind in [Kind::Seqpacket, Kind::Datagram] {
        reasons.extend(stuck(&server, kind)?);
    }
    writeln!(io::stdout(), "server: {}", server.stop()?)?;
    Ok(reasons)
}

/// Pins the server and this thread, the polite client, to one processor, and returns the others for the hostile
/// clients. Where the scheduler places them changes every second, which changes the time of a call more than most
/// attacks do.
fn pin(server: &Observed) -> Result<CpuSet, Box<dyn Error>> {
    let mut away = sched_getaffinity(None)?;
    let mut processors = (0..CpuSet::MAX_CPU).filter(|processor| away.is_set(*processor));
    let here = processors.next().ok_or("no processor")?;
    if processors.next().is_some() {
        away.unset(here);
    }
    let mut set = CpuSet::new();
    set.set(here);
    sched_setaffinity(None, &set)?;
    server.pin(here)?;
    Ok(away)
}

/// Times a polite client alone and beside each hostile one. The last column counts that one's bouts and replies: if it
/// is near 0, it had no processor, and the figures mean nothing.
fn latencies(server: &Observed, word: &str, away: &CpuSet) -> Result<Vec<String>, Box<dyn Error>> {
    /// How many times longer a call may take.
    const MOST: f64 = 3.0;
    let mut reasons = Vec::new();
    let title = "a polite client's call beside";
    writeln!(
        io::stdout(),
        "{title:30} quiet us  then us  ratio  mean us   p99 us    calls failed  hostile"
    )?;
    let attacks = ATTACKS.iter().enumerate();
    for (number, (name, _)) in attacks.filter(|(_, (name, _))| name.contains(word)) {
        let work = server.connect(Kind::Seqpacket)?;
        let quiet = Times::of(&work, TIME / 2);
        let mut attacker = Client {
            number,
            kind: Kind::Seqpacket,
            path: server.path(Kind::Seqpacket),
            until: Instant::now() + TIME,
            // No pause between calls: a polite client makes most of its calls while the attacker pauses, which would
            // hide the rest.
            bout: 2 * TIME,
            random: Random::new(1),
            tally: Tally::of("hostile"),
        };
        let away = *away;
        let attack = thread::spawn(move || {
            if let Err(error) = sched_setaffinity(None, &away) {
                attacker.tally.wrong(&error.to_string());
            }
            while !attacker.is_over() {
                bout(&mut attacker, number);
            }
            attacker.tally
        });
        let then = Times::of(&work, TIME);
        let attacked = attack.join().map_err(|_| "the attacker panicked")?;
        let acts = attacked.sum();
        reasons.extend(attacked.into_wrong());
        let ratio = then.at(50) / quiet.at(50);
        let (quiet, failed) = (quiet.at(50), quiet.failed + then.failed);
        writeln!(
            io::stdout(),
            "{name:30} {quiet:8.1} {:8.1} {ratio:6.2} {:8.1} {:8.1} {:8} {failed:6} {acts:8}",
            then.at(50),
            then.mean(),
            then.at(99),
            then.micros.len(),
        )?;
        if ratio > MOST {
            reasons.push(format!(
                "{name}: a polite call takes {ratio:.1} times as long"
            ));
        }
        if failed > 0 {
            reasons.push(format!("{name}: {failed} polite calls failed"));
        }
    }
    Ok(reasons)
}

/// Durations of calls in microseconds, sorted.
struct Times {
    micros: Vec<f64>,
    failed: usize,
}

impl Times {
    /// Makes calls for a while.
    fn of(work: &WorkClient, time: Duration) -> Self {
        let until = Instant::now() + time;
        let (mut micros, mut failed) = (Vec::new(), 0);
        loop {
            let start = Instant::now();
            if start >= until {
                break;
            }
            match work.waiting() {
                Ok(_) => micros.push(start.elapsed().as_secs_f64() * 1e6),
                Err(_) => failed += 1,
            }
        }
        micros.sort_by(f64::total_cmp);
        Self { micros, failed }
    }

    fn mean(&self) -> f64 {
        let calls = u32::try_from(self.micros.len()).unwrap_or(u32::MAX);
        self.micros.iter().sum::<f64>() / f64::from(calls)
    }

    fn at(&self, percent: usize) -> f64 {
        let place = self.micros.len() * percent / 100;
        self.micros.get(place).copied().unwrap_or(f64::NAN)
    }
}

/// Measures the server while a client that reads nothing is stuck and there is nothing else to do.
fn stuck(server: &Observed, kind: Kind) -> Result<Option<String>, Box<dyn Error>> {
    /// The share of one processor that the server may use, in percent.
    const MOST: f64 = 2.0;
    let raw = Raw::connect(&server.path(kind), kind)?;
    let null = File::open("/dev/null")?;
    let (mut sent, mut full) = (0, 0);
    while full < 1000 && sent < 100_000 {
        match raw.try_send(&call(1, "swap", r#"{"files":[0]}"#), &[null.as_fd()]) {
            Ok(()) => (sent, full) = (sent + 1, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full += 1;
                thread::yield_now();
            }
            Err(error) => return Err(error.into()),
        }
    }
    let streams = (0..10).map(|id| call(id, "count", r#"{"end":100000000}"#));
    // A stuck connection has no room for these.
    streams.for_each(|stream| drop(raw.try_send(&stream, &[])));
    let (start, before) = (Instant::now(), server.cpu()?);
    while start.elapsed() < 2 * TIME {
        thread::park_timeout(2 * TIME);
    }
    let used = server.cpu()?.saturating_sub(before).as_secs_f64();
    let percent = 100.0 * used / start.elapsed().as_secs_f64();
    writeln!(
        io::stdout(),
        "a stuck {kind:?} client, after {sent} calls: the server uses {percent:.2} % of a processor"
    )?;
    let too_much = percent > MOST;
    Ok(too_much.then(|| format!("a stuck {kind:?} client costs {percent:.1} %")))
}
