//! What the kernel charges for two datagrams of the same size, whatever is in them.

use std::os::fd::OwnedFd;

use rustix::net::RecvFlags;

use super::{hand, net};
use crate::Outcome;
use crate::case::{At, Caller, Laps, Load, Peer, Wire};

/// A server that waits in `recvmsg`, for one client.
pub(super) struct Blocking;

/// A server that waits in `epoll_wait`.
pub(super) struct Epoll;

impl Peer for Blocking {
    fn name(&self) -> &'static str {
        "floor: sendmsg and recvmsg"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        wire != Wire::Stream && matches!(load, Load::Small | Load::Window(..=128))
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let door = net::door(at)?;
        ready()?;
        let socket = match at.wire {
            Wire::Datagram => door,
            _ => net::admit(&door, at)?,
        };
        let (_, answer) = hand::samples()?;
        let mut room = vec![0; 4096];
        loop {
            let came = net::receive::<false>(&socket, &mut room, RecvFlags::empty())?;
            net::send(&socket, &answer, None, came.from.as_ref())?;
        }
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        let (call, answer) = hand::samples()?;
        Ok(Box::new(Client {
            socket: net::dial(at)?,
            call,
            answer,
            room: vec![0; 4096],
            window: match at.load {
                Load::Window(window) => window,
                _ => 1,
            },
        }))
    }
}

impl Peer for Epoll {
    fn name(&self) -> &'static str {
        "floor: with epoll_wait"
    }

    fn does(&self, wire: Wire, load: Load) -> bool {
        Blocking.does(wire, load)
    }

    fn serve(&self, at: &At, ready: &dyn Fn() -> Outcome) -> Outcome {
        let (_, answer) = hand::samples()?;
        net::serve::<false>(at, ready, |_, _, out| {
            out.extend_from_slice(&answer);
            Ok(None)
        })
    }

    fn connect(&self, at: &At) -> Outcome<Box<dyn Caller>> {
        Blocking.connect(at)
    }
}

struct Client {
    socket: OwnedFd,
    call: Vec<u8>,
    answer: Vec<u8>,
    room: Vec<u8>,
    window: usize,
}

impl Caller for Client {
    fn run(&mut self, laps: &mut Laps) -> Outcome {
        let mut flying = 0;
        loop {
            while flying < self.window && laps.issue().is_some() {
                net::send(&self.socket, &self.call, None, None)?;
                flying += 1;
            }
            if flying == 0 {
                return Ok(());
            }
            let came = net::receive::<false>(&self.socket, &mut self.room, RecvFlags::empty())?;
            if self.room.get(..came.length) != Some(&*self.answer) {
                return Err("wrong answer".into());
            }
            flying -= 1;
            laps.lap();
        }
    }
}
