//! The server under test, and its service.

use std::error::Error;
use std::io;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use jsoncomm::{Call, Deferred, Kind, Limits, Message, Reply, Server, Stream};

/// Methods of every kind.
#[jsoncomm::service(name = "soak.work")]
pub(crate) trait Work {
    /// Returns `text`.
    fn echo(&mut self, text: String) -> String;
    /// Returns its descriptors.
    fn swap(&mut self, #[fd] files: Vec<OwnedFd>) -> Files;
    /// Returns the number from another thread, after this many milliseconds.
    fn later(&mut self, call: &mut Call, number: u64, millis: u64) -> Deferred<u64>;
    /// Never replies.
    fn never(&mut self, call: &mut Call) -> Deferred<u64>;
    /// Drops the reply.
    fn forget(&mut self, call: &mut Call) -> Deferred<u64>;
    /// Panics.
    fn panic(&mut self) -> u64;
    /// Counts up to `end`.
    fn count(&mut self, call: &mut Call, end: u64) -> Stream<u64>;
    /// Streams duplicates of a descriptor.
    fn copies(&mut self, call: &mut Call, count: u64, #[fd] file: OwnedFd) -> Stream<Copied>;
    /// Closes a descriptor.
    #[oneway]
    fn tell(&mut self, #[fd] sink: OwnedFd);
    /// Returns how many deferred calls will get a reply.
    fn waiting(&mut self) -> u64;
}

#[derive(Debug, Message)]
pub(crate) struct Files {
    #[fd]
    pub(crate) files: Vec<OwnedFd>,
}

#[derive(Debug, Message)]
pub(crate) struct Copied {
    pub(crate) number: u64,
    #[fd]
    pub(crate) file: OwnedFd,
}

/// Deferred calls of one caller. One connection can use this many of [`ALL_DEFERRED`].
pub(crate) const DEFERRED: usize = 64;

/// Deferred calls of all callers.
pub(crate) const ALL_DEFERRED: usize = 4096;

/// The defaults, except that the budgets of a user are larger: all clients have the same user here, and a hostile one
/// must not use up those of the polite ones.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.user_connections = limits.connections;
    limits.deferred = DEFERRED;
    limits.user_deferred = ALL_DEFERRED;
    limits.deferred_total = ALL_DEFERRED;
    limits.user_backlog_bytes = 256 << 20;
    limits.user_descriptors = 1 << 16;
    limits
}

pub(crate) fn serve(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(limits())?;
    for kind in [Kind::Seqpacket, Kind::Datagram] {
        let path = super::path_in(directory, kind);
        server.bind(path, kind)?.serve::<dyn Work>();
    }
    // It ends with its parent, or when told to.
    let end = io::stdin().as_fd().try_clone_to_owned()?;
    server.watch(end, |_: &mut Worker, control| {
        control.shut_down(Duration::from_secs(1));
        control.remove();
    })?;
    let (clock, times) = channel();
    thread::spawn(move || tick(&times));
    writeln!(io::stdout(), "ready")?;
    server.run(&mut Worker {
        clock,
        kept: Vec::new(),
        crowd: 0,
        waiting: Arc::default(),
    })?;
    writeln!(io::stdout(), "{:?}", server.counts())?;
    Ok(())
}

/// A reply, and when it is due.
type Due = (Instant, u64, Reply<u64>);

/// Sends the replies that are due; sleeps while there are none.
fn tick(times: &Receiver<Due>) {
    let mut waiting: Vec<Due> = Vec::new();
    loop {
        let next = waiting.iter().map(|(due, ..)| *due).min();
        let come = match next {
            Some(due) => times.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => times.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match come {
            Ok(due) => waiting.push(due),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        let (come, rest) = waiting
            .into_iter()
            .partition::<Vec<_>, _>(|(due, ..)| *due <= now);
        waiting = rest;
        for (_, number, reply) in come {
            reply.send(number);
        }
    }
}

struct Worker {
    clock: Sender<Due>,
    /// Replies that are never sent. Those of cancelled calls are dropped from time to time.
    kept: Vec<Reply<u64>>,
    /// How many there may be before that.
    crowd: usize,
    waiting: Arc<AtomicU64>,
}

impl Worker {
    fn keep(&mut self, reply: Reply<u64>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Arc::clone(&self.waiting);
        reply.on_cancel(move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
        });
        self.kept.push(reply);
        if self.kept.len() > self.crowd {
            self.kept.retain(Reply::is_wanted);
            self.crowd = self.kept.len() * 2 + 64;
        }
    }
}

impl Work for Worker {
    fn echo(&mut self, text: String) -> String {
        text
    }

    fn swap(&mut self, files: Vec<OwnedFd>) -> Files {
        Files { files }
    }

    fn later(&mut self, call: &mut Call, number: u64, millis: u64) -> Deferred<u64> {
        let due = Instant::now() + Duration::from_millis(millis.min(1000));
        call.defer(|reply| drop(self.clock.send((due, number, reply))))
    }

    fn never(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.keep(reply))
    }

    fn forget(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(drop)
    }

    fn panic(&mut self) -> u64 {
        // Like `panic!`, without the message on stderr.
        resume_unwind(Box::new("the soak wants it"))
    }

    fn count(&mut self, call: &mut Call, end: u64) -> Stream<u64> {
        call.stream(|sink| sink.feed((0..end).map(Ok)))
    }

    fn copies(&mut self, call: &mut Call, count: u64, file: OwnedFd) -> Stream<Copied> {
        call.stream(|sink| {
            sink.feed((0..count).map_while(move |number| {
                let file = file.try_clone().ok()?;
                Some(Ok(Copied { number, file }))
            }));
        })
    }

    fn tell(&mut self, sink: OwnedFd) {
        drop(sink);
    }

    fn waiting(&mut self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}
