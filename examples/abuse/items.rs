//! A server that streams large items to a callback while another call of the same connection waits. Measures the
//! client's memory after four seconds.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jsoncomm::address::Bind;
use jsoncomm::{Call, Connection, Deferred, Kind, Limits, Reply, Server, Stream};

use crate::Trouble;
use crate::stage::{SERVER, Stage, say};

/// The methods of the server.
#[jsoncomm::service(name = "abuse.items")]
trait Source {
    /// Streams items of 60 KB without end.
    fn items(&mut self, call: &mut Call) -> Stream<String>;
    /// Never replies.
    fn wait(&mut self, call: &mut Call) -> Deferred<u64>;
}

#[derive(Default)]
struct Desk {
    waiting: Vec<Reply<u64>>,
}

impl Source for Desk {
    fn items(&mut self, call: &mut Call) -> Stream<String> {
        call.stream(|sink| sink.feed(std::iter::repeat_with(|| Ok("x".repeat(60_000)))))
    }

    fn wait(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.waiting.push(reply))
    }
}

/// Prints the client's resident memory before and after, and how many items its callback received.
pub(crate) fn play(role: &[&str]) -> Result<(), Trouble> {
    if let ["serve", path] = role {
        return serve(Path::new(path));
    }
    let stage = Stage::new("items")?;
    let _server = stage.start(SERVER, "serve", &[])?;
    measure(&stage.socket())
}

fn serve(path: &Path) -> Result<(), Trouble> {
    let mut server = Server::new(Limits::default())?;
    let bind = Bind::at(path).mode(0o666);
    server.bind(bind, Kind::Seqpacket)?.serve::<dyn Source>();
    say("ready")?;
    Ok(server.run(&mut Desk::default())?)
}

fn measure(path: &Path) -> Result<(), Trouble> {
    let connection = Connection::open(path)?;
    let before = resident()?;
    let source = SourceClient::new(connection.with_timeout(Duration::from_secs(4)));
    let (items, seen) = (source.items()?, Arc::new(AtomicU64::new(0)));
    let counting = Arc::clone(&seen);
    items.for_each(move |item| {
        counting.fetch_add(u64::from(matches!(item, Some(Ok(_)))), Ordering::Relaxed);
        true
    });
    let waited = source.wait();
    let after = resident()?;
    let seen = seen.load(Ordering::Relaxed);
    let ended = waited.map_or_else(|error| error.to_string(), |_| String::from("got its reply"));
    Ok(writeln!(
        io::stdout(),
        "client: {before} KiB before, {after} KiB after 4 s; the callback was given {seen} items; the call: {ended}"
    )?)
}

/// Returns the peak resident memory of this process, in KiB.
fn resident() -> Result<u64, Trouble> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM")?.parse()?)
}
