//! `jsoncomm tap`: a proxy that prints the messages it forwards.
//!
//! Each client has its own socket to the service. A datagram that finds no room is held, and its source is not read until
//! it is sent (backpressure), so the tap keeps at most one datagram for each direction.

use std::time::{Duration, Instant};

use jsoncomm::address::Address;
use jsoncomm::socket::{Listener, RawDatagram, Received, SendStatus, Socket};
use jsoncomm::{Error, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;

use crate::address::{Listen, Place};
use crate::args::{FileMode, Tap, bind_at};
use crate::descriptor;
use crate::json::{Json, Layout};
use crate::output::{self, note};
use crate::problem::Problem;
use crate::{standard, stopping, words};

/// The longest message that is forwarded, in bytes: clients and services may have larger limits than the default.
const MESSAGE_MAX: usize = 64 << 20;

/// The most clients at once. On datagram sockets the least recently active one is dropped.
const CLIENTS_MAX: usize = 256;

/// The messages read from one socket in a turn.
const TURN: usize = 32;

/// The time until a retry that no event announces.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn run(tap: Tap) -> Result<(), Problem> {
    standard::check_output()?;
    let mut rest = tap.words;
    let listen = if rest.is_empty() {
        None
    } else {
        Place::read(&rest.remove(0))
    };
    let no_address = || Problem::Usage(String::from("LISTEN is no address"));
    let listen = listen.ok_or_else(no_address)??;
    let (service, words) = words::read(rest)?;
    words.end()?;
    let service = service.socket()?;
    // Finds the service and its kind.
    let found = match tap.kind {
        Some(kind) => Socket::connect(service.clone(), kind.into()),
        None => Socket::open(service.clone()),
    };
    let kind = found.map_err(Problem::of_connecting)?.kind();
    let signals = stopping::signals()?;
    let listen = Listen::of(listen, Some(kind.into()))?;
    let name = listen.to_string();
    let front = Front::open(listen, kind, tap.mode)?;
    note(&format!("tapping {service} at {name}"));
    let mut passage = Passage {
        front,
        service,
        kind,
        clients: Vec::new(),
        seen: 0,
        pause: None,
    };
    while passage.wait(&signals)? {
        passage.turn()?;
    }
    Ok(())
}

/// Where clients connect.
#[derive(Debug)]
enum Front {
    Seqpacket(Listener),
    Datagram(Box<Socket>),
}

impl Front {
    fn open(at: Listen, kind: Kind, mode: Option<FileMode>) -> Result<Self, Problem> {
        Ok(match kind {
            Kind::Seqpacket => {
                let listener = match at {
                    Listen::Address(address, _) => Listener::bind(bind_at(address, mode)),
                    Listen::Inherited(fd, _) => Listener::from_fd(fd),
                };
                Self::Seqpacket(listener.map_err(Problem::Serving)?)
            }
            Kind::Datagram => {
                let socket = match at {
                    Listen::Address(address, _) => Socket::bind(bind_at(address, mode)),
                    Listen::Inherited(fd, _) => Socket::from_fd(fd),
                };
                let mut socket = socket.map_err(Problem::Serving)?;
                socket.set_message_limit(MESSAGE_MAX);
                set_socket_passcred(&socket, true).map_err(Problem::here("setsockopt"))?;
                Self::Datagram(Box::new(socket))
            }
        })
    }
}

/// The destination of one client's messages.
#[derive(Debug)]
enum Near {
    Connection(Box<Socket>),
    /// Its address; without one it gets no replies.
    Datagram(Option<Address>),
}

/// A client and its socket to the service.
#[derive(Debug)]
struct Client {
    number: u64,
    near: Near,
    far: Socket,
    /// A datagram that the service has no room for.
    up: Option<RawDatagram>,
    /// A datagram that the client has no room for.
    down: Option<RawDatagram>,
}

/// Whether the other end is still connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Yes,
    No,
}

#[derive(Debug)]
struct Passage {
    front: Front,
    service: Address,
    kind: Kind,
    clients: Vec<Client>,
    /// The number of clients so far.
    seen: u64,
    /// No client is accepted before this time: there were no descriptors.
    pause: Option<Instant>,
}

impl Passage {
    /// Waits until something can be done; returns false when the tap should stop.
    fn wait(&mut self, signals: &impl std::os::fd::AsFd) -> Result<bool, Problem> {
        self.pause = self.pause.filter(|until| Instant::now() < *until);
        let blocked = self.clients.iter().any(|client| client.up.is_some());
        let mut waited = vec![PollFd::new(signals, PollFlags::IN)];
        match &self.front {
            Front::Seqpacket(listener) if self.pause.is_none() => {
                waited.push(PollFd::new(listener, PollFlags::IN));
            }
            Front::Datagram(socket) if !blocked => {
                waited.push(PollFd::new(socket, PollFlags::IN));
            }
            _ => {}
        }
        let mut again = self.pause.is_some();
        for client in &self.clients {
            let mut far = PollFlags::empty();
            far.set(PollFlags::OUT, client.up.is_some());
            far.set(PollFlags::IN, client.down.is_none());
            if !far.is_empty() {
                waited.push(PollFd::new(&client.far, far));
            }
            match &client.near {
                Near::Connection(socket) => {
                    let mut near = PollFlags::empty();
                    near.set(PollFlags::OUT, client.down.is_some());
                    near.set(PollFlags::IN, client.up.is_none());
                    if !near.is_empty() {
                        waited.push(PollFd::new(socket, near));
                    }
                }
                // The kernel does not report when such a client has room.
                Near::Datagram(_) => again |= client.down.is_some(),
            }
        }
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: PAUSE.subsec_nanos().into(),
        };
        match poll(&mut waited, again.then_some(&pause)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(Problem::here("poll")(error)),
        }
        Ok(waited
            .first()
            .is_none_or(|signal| signal.revents().is_empty()))
    }

    /// Forwards what is readable.
    fn turn(&mut self) -> Result<(), Problem> {
        self.come()?;
        let mut clients = std::mem::take(&mut self.clients);
        let mut trouble = None;
        clients.retain_mut(|client| match client.pass(&mut self.front) {
            Ok(there) => there == There::Yes,
            Err(problem) => {
                trouble = Some(problem);
                false
            }
        });
        self.clients = clients;
        trouble.map_or(Ok(()), Err)
    }

    /// Reads the sockets that clients connect to.
    fn come(&mut self) -> Result<(), Problem> {
        for _ in 0..TURN {
            let came = match &mut self.front {
                Front::Seqpacket(listener) => match listener.accept() {
                    Ok(Some(mut socket)) => {
                        socket.set_message_limit(MESSAGE_MAX);
                        let who = socket.peer();
                        Ok(self.add(Near::Connection(Box::new(socket)), who.as_ref())?)
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => Err(error),
                },
                Front::Datagram(_) if self.clients.iter().any(|client| client.up.is_some()) => {
                    return Ok(());
                }
                Front::Datagram(socket) => match socket.try_receive_raw() {
                    Ok(Received::Message(raw, sender)) => Ok(self.hear(raw, sender)?),
                    Ok(Received::Pending | Received::Closed) => return Ok(()),
                    Err(error) if error.is_bad_message() => {
                        note(&format!("! {}", output::chain(&error)));
                        Ok(())
                    }
                    Err(error) => return Err(Problem::Serving(error)),
                },
            };
            if let Err(error) = came {
                note(&format!("! {}", output::chain(&error)));
                self.pause = Instant::now().checked_add(PAUSE);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Forwards a datagram of the client that sent it.
    fn hear(&mut self, raw: RawDatagram, sender: Option<Address>) -> Result<(), Problem> {
        let is_from =
            |client: &Client| matches!(&client.near, Near::Datagram(from) if *from == sender);
        match self.clients.iter().position(is_from) {
            // The most recently active client is the last.
            Some(place) => {
                let client = self.clients.remove(place);
                self.clients.push(client);
            }
            None => self.add(Near::Datagram(sender), raw.peer.as_ref())?,
        }
        let Some(client) = self.clients.last_mut() else {
            return Ok(());
        };
        client.show(Way::Up, &raw)?;
        if client.send(Way::Up, raw, &mut self.front)? == There::No {
            self.clients.pop();
        }
        Ok(())
    }

    /// Connects a client to the service.
    fn add(&mut self, near: Near, who: Option<&jsoncomm::Peer>) -> Result<(), Problem> {
        if self.clients.len() >= CLIENTS_MAX {
            let Near::Datagram(_) = near else {
                note("! too many clients, one more is turned away");
                return Ok(());
            };
            self.clients.remove(0);
        }
        self.seen += 1;
        let number = self.seen;
        let who = who.map_or_else(|| String::from("unknown"), about);
        output::line(&format!("{number} + {who}"))?;
        match Socket::connect(self.service.clone(), self.kind) {
            Ok(mut far) => {
                far.set_message_limit(MESSAGE_MAX);
                self.clients.push(Client {
                    number,
                    near,
                    far,
                    up: None,
                    down: None,
                });
                Ok(())
            }
            Err(error) => output::line(&format!("{number} - {}", output::chain(&error))),
        }
    }
}

/// Describes a client: its process, user and group.
fn about(peer: &jsoncomm::Peer) -> String {
    let Some(pid) = peer.pid() else {
        return format!("uid {}", peer.uid());
    };
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    let program = program.map_or_else(|_| String::new(), |path| format!(", {}", path.display()));
    format!("uid {}, pid {pid}{program}", peer.uid())
}

/// The direction of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the service.
    Up,
    /// To the client.
    Down,
}

impl Way {
    fn sign(self) -> char {
        match self {
            Self::Up => '>',
            Self::Down => '<',
        }
    }
}

impl Client {
    /// Forwards what is readable in both directions. Datagrams of clients without a connection are read elsewhere.
    fn pass(&mut self, front: &mut Front) -> Result<There, Problem> {
        for way in [Way::Up, Way::Down] {
            if let Some(raw) = self.held(way).take() {
                if self.send(way, raw, front)? == There::No {
                    return Ok(There::No);
                }
            }
            if self.pass_on(way, front)? == There::No {
                return Ok(There::No);
            }
        }
        Ok(There::Yes)
    }

    fn pass_on(&mut self, way: Way, front: &mut Front) -> Result<There, Problem> {
        for _ in 0..TURN {
            if self.held(way).is_some() {
                break;
            }
            let received = match (way, &mut self.near) {
                (Way::Up, Near::Connection(near)) => near.try_receive_raw(),
                (Way::Up, Near::Datagram(_)) => break,
                (Way::Down, _) => self.far.try_receive_raw(),
            };
            match received {
                Ok(Received::Message(raw, _)) => {
                    self.show(way, &raw)?;
                    if self.send(way, raw, front)? == There::No {
                        return Ok(There::No);
                    }
                }
                Ok(Received::Pending) => break,
                Ok(Received::Closed) => {
                    return self.end(match way {
                        Way::Up => "the client has closed",
                        Way::Down => "the service has closed",
                    });
                }
                Err(error) if error.is_bad_message() => self.complain(way, &error)?,
                Err(error) => return self.end(&output::chain(&error)),
            }
        }
        Ok(There::Yes)
    }

    /// Forwards a datagram, or holds it until there is room.
    fn send(&mut self, way: Way, raw: RawDatagram, front: &mut Front) -> Result<There, Problem> {
        let sent = match (way, &mut self.near, front) {
            (Way::Up, ..) => self.far.try_send_raw(&raw, None),
            (Way::Down, Near::Connection(near), _) => near.try_send_raw(&raw, None),
            // Sent from the address that clients send to, so that they take it for a reply.
            (Way::Down, Near::Datagram(Some(to)), Front::Datagram(front)) => {
                front.try_send_raw(&raw, Some(to))
            }
            (Way::Down, Near::Datagram(_), _) => {
                self.say("< ! the client has no address")?;
                return Ok(There::Yes);
            }
        };
        match sent {
            Ok(SendStatus::Done) => {}
            Ok(SendStatus::Full) => *self.held(way) = Some(raw),
            Err(Error::Closed) => {
                return self.end(match way {
                    Way::Up => "the service has closed the connection",
                    Way::Down => "the client has closed the connection",
                });
            }
            Err(error) => self.complain(way, &error)?,
        }
        Ok(There::Yes)
    }

    fn held(&mut self, way: Way) -> &mut Option<RawDatagram> {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    fn end(&self, why: &str) -> Result<There, Problem> {
        self.say(&format!("- {why}"))?;
        Ok(There::No)
    }

    fn complain(&self, way: Way, error: &Error) -> Result<(), Problem> {
        self.say(&format!("{} ! {}", way.sign(), output::chain(error)))
    }

    fn say(&self, what: &str) -> Result<(), Problem> {
        output::line(&format!("{} {what}", self.number))
    }

    /// Prints a datagram and its descriptors.
    fn show(&self, way: Way, raw: &RawDatagram) -> Result<(), Problem> {
        let (number, sign) = (self.number, way.sign());
        let text = std::str::from_utf8(&raw.bytes).ok();
        let text = match text.and_then(|text| Json::parse(text).ok()) {
            Some(json) => json.show(Layout::Line, &output::palette()),
            None => output::readable(&raw.bytes),
        };
        let mut lines = format!("{number} {sign} {text}\n");
        for (index, fd) in raw.fds.iter() {
            let what = descriptor::describe(fd);
            lines.push_str(&format!("{number} {sign}   descriptor {index}: {what}\n"));
        }
        output::page(lines.as_bytes())
    }
}
