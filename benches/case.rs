//! What is measured: who is called, over what, with which load.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use crate::Outcome;
use crate::work::LABELS;

/// The kind of socket that a case talks over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// `SOCK_SEQPACKET`.
    Seqpacket,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_STREAM`, or whatever a peer makes of its address: jsoncomm does not.
    Stream,
}

impl Wire {
    pub(crate) const ALL: [Self; 3] = [Self::Seqpacket, Self::Datagram, Self::Stream];
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Seqpacket => "seqpacket",
            Self::Datagram => "datagram",
            Self::Stream => "stream",
        })
    }
}

impl FromStr for Wire {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|wire| wire.to_string() == word);
        found.ok_or_else(|| format!("no kind of socket: {word}"))
    }
}

/// What a call carries, and how many there are at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// One client, one call after the other, with about 100 bytes of JSON each way.
    Small,
    /// Small calls from this many clients, each a thread of one process.
    Clients(usize),
    /// Small calls from this many threads that share one connection.
    Threads(usize),
    /// Small calls from one client with this many calls in flight.
    Window(usize),
    /// One client, so many one-way calls and then one with a reply, again and again: each about as large as small calls.
    OneWay(usize),
    /// One client, one call after the other, with a string and a list that both sides own.
    Owned,
    /// One client, one call after the other, with one descriptor each way.
    Descriptor,
    /// One client, one call after the other, with a record that both sides own, whose text has so many bytes or, if that
    /// is 0, is a name.
    Records(usize),
    /// As `Records(0)`, with one descriptor each way.
    RecordAndFile,
    /// One client, one call after the other, with a string of so many bytes each way.
    Text(usize),
    /// As `Small`, beside so many clients that have called once and stay connected.
    Idle(usize),
    /// As `Small`, a call of a method that is one of so many, in tens.
    Methods(usize),
}

impl Load {
    /// Whether more than one call is under way, so that only the time of all of them says something.
    pub(crate) fn is_concurrent(self) -> bool {
        matches!(
            self,
            Self::Clients(_) | Self::Threads(_) | Self::Window(_) | Self::OneWay(_)
        )
    }

    /// How many bytes of text it has.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Text(size) | Self::Records(size) => size,
            _ => 0,
        }
    }

    /// How many allocations the values take that each end owns: strings, lists, and nothing of a library's own.
    pub(crate) fn values(self) -> usize {
        match self {
            Self::Owned => 2,
            Self::Text(_) => 1,
            Self::Records(_) | Self::RecordAndFile => 2 + LABELS.len(),
            _ => 0,
        }
    }
}

/// As a command line has it.
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, number) = match self {
            Self::Small => return f.pad("small"),
            Self::Owned => return f.pad("owned"),
            Self::Descriptor => return f.pad("descriptor"),
            Self::Records(0) => return f.pad("records"),
            Self::RecordAndFile => return f.pad("records-descriptor"),
            Self::Clients(number) => ("clients", number),
            Self::Threads(number) => ("threads", number),
            Self::Window(number) => ("window", number),
            Self::OneWay(number) => ("oneway", number),
            Self::Text(number) => ("text", number),
            Self::Records(number) => ("records", number),
            Self::Idle(number) => ("idle", number),
            Self::Methods(number) => ("methods", number),
        };
        f.pad(&format!("{name}={number}"))
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (name, number) = word.split_once('=').unwrap_or((word, "0"));
        let number = number.parse().map_err(|_| format!("no number: {word}"))?;
        Ok(match name {
            "small" => Self::Small,
            "owned" => Self::Owned,
            "descriptor" => Self::Descriptor,
            "records" => Self::Records(number),
            "records-descriptor" => Self::RecordAndFile,
            "clients" => Self::Clients(number),
            "threads" => Self::Threads(number),
            "window" => Self::Window(number),
            "oneway" => Self::OneWay(number),
            "text" => Self::Text(number),
            "idle" => Self::Idle(number),
            "methods" => Self::Methods(number),
            _ => return Err(format!("no load: {word}")),
        })
    }
}

/// Where a server is and what will be asked of it.
#[derive(Debug, Clone)]
pub(crate) struct At {
    pub(crate) path: PathBuf,
    pub(crate) wire: Wire,
    pub(crate) load: Load,
}

/// One way to make calls: a server and its client.
pub(crate) trait Peer: Sync {
    /// What the rows are called.
    fn name(&self) -> &'static str;

    /// The row that these are compared with.
    fn beside(&self) -> &'static str {
        "by hand"
    }

    /// Whether it does this. Peers that have one kind of socket say so here.
    fn does(&self, wire: Wire, load: Load) -> bool;

    /// The program and first arguments of its two processes, if not this program's.
    fn program(&self) -> Option<Vec<String>> {
        None
    }

    /// Serves until the process is killed, and calls `ready` when clients can connect.
    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome;

    /// Connects to the server.
    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>>;
}

/// A client that is connected.
pub(crate) trait Caller {
    /// Makes the calls that `laps` asks for, and checks each answer.
    fn run(&mut self, laps: &mut Laps) -> Outcome;
}

/// Sends the number of calls to make and times each.
#[derive(Debug)]
pub(crate) struct Laps {
    /// Calls to be made.
    count: u64,
    issued: u64,
    last: Option<Instant>,
    /// How long each took.
    nanos: Vec<u64>,
}

impl Laps {
    pub(crate) fn new(count: u64) -> Self {
        Self {
            count,
            issued: 0,
            last: None,
            nanos: Vec::with_capacity(usize::try_from(count).unwrap_or(0)),
        }
    }

    /// The number of the next call, none after the last. The clock starts with the first.
    pub(crate) fn issue(&mut self) -> Option<u64> {
        if self.issued == self.count {
            return None;
        }
        self.last.get_or_insert_with(Instant::now);
        self.issued += 1;
        Some(self.issued)
    }

    /// Whether the last call has been issued.
    pub(crate) fn is_last(&self) -> bool {
        self.issued == self.count
    }

    /// A call has been answered, and the answer is right; or it has been sent and has no answer.
    pub(crate) fn lap(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            let nanos = now.duration_since(last).as_nanos();
            self.nanos.push(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }

    /// How long each call took.
    pub(crate) fn into_nanos(self) -> Outcome<Vec<u64>> {
        if self.nanos.len() as u64 != self.count {
            return Err(format!("{} of {} calls were made", self.nanos.len(), self.count).into());
        }
        Ok(self.nanos)
    }
}
