//! Addresses on the command line, and connecting to them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use jsoncomm::address::Address;
use jsoncomm::child::Child;
use jsoncomm::socket::Socket;
use jsoncomm::{Connection, Error, Kind};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketFlags, SocketType, getpeername, socketpair};
use rustix::process::{Signal, pidfd_send_signal};

use crate::args::{Reach, descriptor};
use crate::deadline::Deadline;
use crate::descriptor::describe;
use crate::files::inherited;
use crate::places::Places;
use crate::problem::{Problem, descriptor_trouble};

/// The environment variable with the default address.
pub(crate) const VARIABLE: &str = "JSONCOMM_ADDRESS";

/// The deepest nesting of a message. The command has no reason for a lower limit.
const DEPTH_MAX: usize = 127;

/// The time that a program started for the call has to exit by itself, and once more after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// An address on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path or an abstract name.
    Socket(Address),
    /// `fd:N`: a descriptor that this program was started with.
    Inherited(i32),
    /// `exec:CMD`: a program to start, with a connected socket as descriptor 3.
    Program(OsString),
}

/// The kinds of socket, as written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SocketKind {
    /// A connection.
    Seqpacket,
    /// Datagrams without a connection.
    Datagram,
}

impl From<SocketKind> for Kind {
    fn from(kind: SocketKind) -> Self {
        match kind {
            SocketKind::Seqpacket => Self::Seqpacket,
            SocketKind::Datagram => Self::Datagram,
        }
    }
}

impl From<Kind> for SocketKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Seqpacket => Self::Seqpacket,
            Kind::Datagram => Self::Datagram,
        }
    }
}

impl SocketKind {
    fn sort(self) -> SocketType {
        match self {
            Self::Seqpacket => SocketType::SEQPACKET,
            Self::Datagram => SocketType::DGRAM,
        }
    }
}

impl Place {
    /// Parses an address; returns `None` if the word does not look like one. A path contains a slash.
    pub(crate) fn read(word: &OsStr) -> Option<Result<Self, Problem>> {
        let bytes = word.as_bytes();
        let bad = |problem: &str| Problem::Usage(format!("{}: {problem}", word.to_string_lossy()));
        if let Some(name) = bytes.strip_prefix(b"@") {
            let address = Address::abstract_name(name).map(Self::Socket);
            return Some(address.map_err(|error| bad(&error.to_string())));
        }
        if let Some(name) = bytes.strip_prefix(b"service:") {
            let address = Address::service(&String::from_utf8_lossy(name)).map(Self::Socket);
            return Some(address.map_err(|error| bad(&error.to_string())));
        }
        if let Some(number) = bytes.strip_prefix(b"fd:") {
            let number = descriptor(number).map(Self::Inherited);
            return Some(number.ok_or_else(|| bad("fd: stands before a number")));
        }
        if let Some(command) = bytes.strip_prefix(b"exec:") {
            return Some(Ok(Self::Program(OsString::from_vec(command.to_vec()))));
        }
        let path = || Self::Socket(Address::from(PathBuf::from(word)));
        bytes.contains(&b'/').then(|| Ok(path()))
    }

    /// Takes the address from the front of a command line, or from the environment.
    pub(crate) fn take(words: &mut Vec<OsString>) -> Result<Self, Problem> {
        Self::given(words).unwrap_or_else(|| Err(no_address(words)))
    }

    /// Takes the address before a method, or else the service of that method.
    pub(crate) fn take_or_find(words: &mut Vec<OsString>) -> Result<Self, Problem> {
        let of_method = |word: &OsString| Self::of_method(word.to_str()?);
        let place = Self::given(words);
        let place = place.or_else(|| words.first().and_then(of_method).map(Ok));
        place.unwrap_or_else(|| Err(no_address(words)))
    }

    /// Returns the address of a method's service: what is before the last dot of its name.
    pub(crate) fn of_method(method: &str) -> Option<Self> {
        let (service, method) = method.rsplit_once('.')?;
        let address = Address::service(service).ok()?;
        (!method.is_empty()).then_some(Self::Socket(address))
    }

    fn given(words: &mut Vec<OsString>) -> Option<Result<Self, Problem>> {
        if let Some(place) = words.first().and_then(|word| Self::read(word)) {
            words.remove(0);
            return Some(place);
        }
        let word = std::env::var_os(VARIABLE).filter(|word| !word.is_empty())?;
        // In the environment it cannot be mistaken for another word.
        let path = || Ok(Self::Socket(Address::from(PathBuf::from(&word))));
        let place = Self::read(&word).unwrap_or_else(path);
        Some(place.map_err(|problem| Problem::Usage(format!("{VARIABLE}: {problem}"))))
    }

    /// Returns the address of a socket that can be connected to or bound.
    pub(crate) fn socket(self) -> Result<Address, Problem> {
        match self {
            Self::Socket(address) => Ok(address),
            Self::Inherited(_) | Self::Program(_) => Err(Problem::Usage(String::from(
                "here the address is a path, or @ and a name",
            ))),
        }
    }

    /// Connects for calls.
    pub(crate) fn connect(
        &self,
        reach: &Reach,
        deadline: Deadline,
    ) -> Result<Link<Connection>, Problem> {
        let kind = reach.kind;
        let link = match self {
            Self::Socket(address) => {
                let (address, until) = (address.clone(), deadline.instant());
                let opened = match kind {
                    Some(kind) => Connection::connect_by(address, kind.into(), until),
                    None => Connection::open_by(address, until),
                };
                Link::alone(opened.map_err(Problem::of_connecting)?)
            }
            _ => self.open(kind, Connection::from_fd)?,
        };
        link.end.set_message_limit(reach.limit());
        link.end.set_depth_limit(DEPTH_MAX);
        Ok(link)
    }

    /// Connects for bare messages.
    pub(crate) fn reach(&self, way: &Reach, deadline: Deadline) -> Result<Link<Socket>, Problem> {
        let kind = way.kind;
        let mut link = match self {
            Self::Socket(address) => {
                let (address, until) = (address.clone(), deadline.instant());
                let opened = match kind {
                    Some(kind) => Socket::connect_by(address, kind.into(), until),
                    None => Socket::open_by(address, until),
                };
                Link::alone(opened.map_err(Problem::of_connecting)?)
            }
            _ => self.open(kind, Socket::from_fd)?,
        };
        link.end.set_message_limit(way.limit());
        link.end.set_depth_limit(DEPTH_MAX);
        Ok(link)
    }

    /// Makes a socket or connection of an inherited descriptor.
    fn open<T>(
        &self,
        kind: Option<SocketKind>,
        make: impl FnOnce(OwnedFd) -> Result<T, Error>,
    ) -> Result<Link<T>, Problem> {
        let (fd, program) = match self {
            Self::Inherited(number) => {
                let number = *number;
                let useless = |what| Problem::NoSocket { number, what };
                let fd = inherited(number).map_err(|error| useless(descriptor_trouble(&error)))?;
                check_socket(&fd, kind, Purpose::Calling).map_err(useless)?;
                (fd, None)
            }
            Self::Program(command) => {
                let kind = kind.unwrap_or(SocketKind::Seqpacket);
                let (fd, child) = start(command, kind)?;
                (fd, Some(Program { child, kind }))
            }
            Self::Socket(_) => return Err(Problem::Usage(String::from("not a descriptor"))),
        };
        let end = make(fd).map_err(Problem::Connect)?;
        Ok(Link {
            end,
            _program: program,
        })
    }
}

fn no_address(words: &[OsString]) -> Problem {
    let first = words.first().map(|word| word.to_string_lossy());
    let instead = first.map_or_else(String::new, |word| format!("{word} is not one: "));
    Problem::Usage(format!(
        "no address: {instead}write a path with a slash (./name.sock), @NAME, service:NAME, fd:N or exec:CMD, or set {VARIABLE}"
    ))
}

/// Where clients connect.
#[derive(Debug)]
pub(crate) enum Listen {
    Address(Address, Kind),
    /// An inherited socket, with its number.
    Inherited(OwnedFd, i32),
}

impl Listen {
    /// Takes over an inherited descriptor, or keeps an address to bind.
    pub(crate) fn of(place: Place, kind: Option<SocketKind>) -> Result<Self, Problem> {
        let Place::Inherited(number) = place else {
            let kind = kind.unwrap_or(SocketKind::Seqpacket);
            return Ok(Self::Address(place.socket()?, kind.into()));
        };
        let fd = inherited(number).map_err(Problem::inherited(number))?;
        check_socket(&fd, kind, Purpose::Serving)
            .map_err(|what| Problem::Usage(format!("fd:{number} is {what}")))?;
        Ok(Self::Inherited(fd, number))
    }

    /// Returns true if it is the connection of a single client.
    pub(crate) fn is_connected(&self) -> bool {
        match self {
            Self::Address(..) => false,
            Self::Inherited(fd, _) => getpeername(fd).is_ok_and(|peer| peer.is_some()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, _) => write!(f, "{address}"),
            Self::Inherited(_, number) => write!(f, "fd:{number}"),
        }
    }
}

/// Our end of a connection.
#[derive(Debug)]
pub(crate) struct Link<T> {
    // Closed before waiting for the program.
    pub(crate) end: T,
    _program: Option<Program>,
}

impl<T> Link<T> {
    fn alone(end: T) -> Self {
        Self {
            end,
            _program: None,
        }
    }
}

/// What an inherited socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Calling,
    Serving,
}

/// Checks that an inherited descriptor is a usable socket of the requested kind.
fn check_socket(fd: &OwnedFd, kind: Option<SocketKind>, purpose: Purpose) -> Result<(), String> {
    let wrong = |what: &str| Err(String::from(what));
    let found =
        socket_type(fd).map_err(|_| format!("not a socket, but {}", describe(fd.as_fd())))?;
    let kinds = [SocketKind::Seqpacket, SocketKind::Datagram].map(SocketKind::sort);
    if socket_domain(fd) != Ok(AddressFamily::UNIX) || !kinds.contains(&found) {
        return wrong("no unix socket for packets or datagrams");
    }
    if kind.is_some_and(|kind| kind.sort() != found) {
        return wrong("a socket of another kind");
    }
    let listens = socket_acceptconn(fd) == Ok(true);
    let is_connected = getpeername(fd).is_ok();
    match purpose {
        Purpose::Calling if listens => wrong("a socket that listens, for serve"),
        Purpose::Calling if !is_connected => wrong("a socket that is not connected"),
        Purpose::Serving if found == SocketType::SEQPACKET && !listens && !is_connected => {
            wrong("a socket that neither listens nor is connected")
        }
        Purpose::Calling | Purpose::Serving => Ok(()),
    }
}

/// Starts a program with one end of a socket pair; returns the other.
fn start(command: &OsStr, kind: SocketKind) -> Result<(OwnedFd, Child), Problem> {
    // Before the sockets could get the number.
    let places = Places::reserve(1)?;
    let (near, far) = socketpair(AddressFamily::UNIX, kind.sort(), SocketFlags::CLOEXEC, None)
        .map_err(Problem::here("socketpair"))?;
    // The shell executes the program, so LISTEN_PID is the program's.
    let mut script = OsString::from("LISTEN_PID=$$; export LISTEN_PID; exec ");
    script.push(command);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(script);
    places.pass(&mut shell, &far)?;
    let child = shell.spawn().map_err(Problem::file("/bin/sh"))?;
    Ok((near, Child::from(child)))
}

/// A program that was started for a call. Dropping it waits until the program has exited.
#[derive(Debug)]
struct Program {
    child: Child,
    kind: SocketKind,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Without a connection the program cannot notice that we are gone.
        let patience = match self.kind {
            SocketKind::Seqpacket => GRACE,
            SocketKind::Datagram => Duration::ZERO,
        };
        let ended = self.child.wait_by(Instant::now() + patience);
        if let (Ok(None), Some(pidfd)) = (ended, self.child.pidfd()) {
            let _ = pidfd_send_signal(pidfd, Signal::TERM);
        }
        // Dropping the child waits once more, and kills it.
        self.child.set_grace(GRACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str) -> Option<Place> {
        Place::read(OsStr::new(word)).map(Result::unwrap)
    }

    #[test]
    fn an_address_is_recognized_by_its_form() {
        let path = |path: &str| Some(Place::Socket(Address::from(path)));
        assert_eq!(read("/run/a.sock"), path("/run/a.sock"));
        assert_eq!(read("./@a"), path("./@a"));
        let name = Address::abstract_name("a/b").unwrap();
        assert_eq!(read("@a/b"), Some(Place::Socket(name)));
        let service = Address::service("example.files").unwrap();
        let service = Some(Place::Socket(service));
        assert_eq!(read("service:example.files"), service);
        assert_eq!(Place::of_method("example.files.open"), service);
        for none in ["open", "example.", ".open", "a b.open", "{\"a\":1.5}"] {
            assert_eq!(Place::of_method(none), None, "{none}");
        }
        assert_eq!(read("fd:3"), Some(Place::Inherited(3)));
        assert_eq!(read("exec:cat a/b"), Some(Place::Program("cat a/b".into())));
        assert_eq!(read("example.files.open"), None);
        assert_eq!(read(""), None);
        for bad in ["@", "fd:", "fd:x", "fd:-1", "service:", "service:a/b"] {
            let place = Place::read(OsStr::new(bad)).unwrap();
            assert!(matches!(place, Err(Problem::Usage(_))), "{bad}");
        }
    }
}
