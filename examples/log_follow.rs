//! Streams with slow readers. A follower that does not keep up loses the oldest lines. A replay from the beginning uses
//! backpressure: the server waits for its reader. Neither delays other clients.
//!
//! Run it with `cargo run --release --example log_follow`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, process, thread};

use jsoncomm::stream::{Items, Overflow, Subscribers};
use jsoncomm::{Call, Connection, Kind, Limits, Message, Server, Stream};

#[jsoncomm::service(name = "example.log")]
trait Log {
    /// Adds a line; returns how many there are.
    fn add(&mut self, text: String) -> Result<usize, String>;
    /// Sends the newest line, which has number 0 if there is none, and then each that is added.
    fn follow(&mut self, call: &mut Call) -> Stream<Line>;
    /// Sends all lines from the beginning.
    fn replay(&mut self, call: &mut Call) -> Stream<Line, String>;
    /// Returns how many lines have been read from the file so far.
    fn read_so_far(&mut self) -> usize;
}

#[derive(Debug, Default, Message)]
struct Line {
    number: usize,
    text: String,
}

struct Journal {
    path: PathBuf,
    file: File,
    newest: Line,
    followers: Subscribers<Line>,
    read: Arc<AtomicUsize>,
}

impl Log for Journal {
    fn add(&mut self, text: String) -> Result<usize, String> {
        writeln!(self.file, "{text}").map_err(|error| error.to_string())?;
        self.newest.number += 1;
        self.newest.text = text;
        // A slow reader does not delay the others.
        let told = self.followers.send(&self.newest);
        told.map_err(|error| error.to_string())?;
        Ok(self.newest.number)
    }

    fn follow(&mut self, call: &mut Call) -> Stream<Line> {
        call.stream(|sink| {
            sink.set_overflow(Overflow::DropOldest);
            // Fails only if the caller has disconnected.
            let _ = sink.send(&self.newest);
            self.followers.add(sink);
        })
    }

    fn replay(&mut self, call: &mut Call) -> Stream<Line, String> {
        let read = Arc::clone(&self.read);
        call.stream(|sink| match File::open(&self.path) {
            // The next line is read when there is room for it.
            Ok(file) => sink.feed(BufReader::new(file).lines().zip(1..).map(
                move |(text, number)| {
                    read.store(number, Ordering::Relaxed);
                    let text = text.map_err(|error| error.to_string())?;
                    Ok(Line { number, text })
                },
            )),
            Err(error) => sink.fail(error.to_string()),
        })
    }

    fn read_so_far(&mut self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let here = |name| env::temp_dir().join(format!("log_follow-{}.{name}", process::id()));
    let (socket, path) = (here("sock"), here("log"));
    let mut journal = Journal {
        file: File::create_new(&path)?,
        path: path.clone(),
        newest: Line::default(),
        followers: Subscribers::default(),
        read: Arc::default(),
    };
    let mut server = Server::new(Limits::default())?;
    server.bind(&socket, Kind::Seqpacket)?.serve::<dyn Log>();
    let handle = server.handle();
    let client = thread::spawn(move || {
        let done = client(&socket).map_err(|error| error.to_string());
        handle.stop();
        done
    });
    let served = server.run(&mut journal);
    fs::remove_file(path)?;
    served?;
    // Dropping a stream ends it.
    let _streams = client.join().map_err(|_| "the client panicked")??;
    let dropped = server.counts().undelivered;
    writeln!(
        io::stdout(),
        "lines that the server has dropped, by its own count: {dropped}"
    )?;
    Ok(())
}

const LINES: usize = 5_000;

fn client(socket: &Path) -> Result<[Items<Line>; 2], Box<dyn Error>> {
    let log = || Connection::open(socket).map(LogClient::new);
    let (writer, mut out) = (log()?, io::stdout());

    let (mut slow, mut quick) = (log()?.follow()?, log()?.follow()?);
    let next = |of: &mut Items<Line>| -> Result<usize, Box<dyn Error>> {
        Ok(of.next().ok_or("the stream has ended")??.number)
    };
    // Both follow from the beginning. Then only one of them reads.
    next(&mut slow)?;
    next(&mut quick)?;
    for number in 1..=LINES {
        writer.add(format!("line {number}"))?;
        if next(&mut quick)? != number {
            return Err("the quick follower has lost a line".into());
        }
    }
    writeln!(out, "the quick follower got {LINES} of {LINES} lines")?;
    let mut got = 1;
    while next(&mut slow)? != LINES {
        got += 1;
    }
    let lost = LINES - got;
    writeln!(
        out,
        "the slow follower got {got}, the newest among them, and lost {lost}"
    )?;

    let mut replay = log()?.replay()?;
    let first = replay.next().ok_or("there are lines")??;
    let read = writer.read_so_far()?;
    writeln!(
        out,
        "a replay that pauses at {:?}: the server has read {read} lines",
        first.text
    )?;
    let rest = replay.collect::<Result<Vec<_>, _>>()?;
    let whole = (2..=LINES).eq(rest.iter().map(|line| line.number));
    writeln!(
        out,
        "and when it goes on: all lines have come, in order: {whole}"
    )?;
    Ok([slow, quick])
}
