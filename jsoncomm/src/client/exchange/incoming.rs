//! Receiving, and noticing that nobody is left to receive from.

use std::time::{Duration, Instant};

use super::Exchange;
use crate::client::dial::Dial;
use crate::client::started::Started;
use crate::error::Error;
use crate::line::{Datagram, Heard, Kind};
use crate::sys::control::Wait;

/// How often a client looks whether a datagram server is still there, while a call waits for it: the kernel says
/// nothing by itself. Also how soon it tries again to receive what could not be received.
pub(super) const LOOK: Duration = Duration::from_millis(100);

impl Exchange {
    /// Takes in the answers that have come to calls that were started, within reason: says whether there
    /// may be more.
    pub(in crate::client) fn take_in(&mut self) -> Result<bool, Error> {
        /// As many as a server takes in one turn.
        const TURN: usize = 32;
        let mut gone = false;
        for _ in 0..TURN {
            match self.line.receive(&mut self.inbox, Wait::Never) {
                Ok(Heard::Datagram(datagram)) => self.keep(datagram, 0),
                Ok(Heard::Closed) => return Err(self.close()),
                Ok(Heard::Pending) if gone => return Err(self.close()),
                // It may have answered just before.
                Ok(Heard::Pending) if self.look.is_some() && self.finds_nobody() => gone = true,
                Ok(Heard::Pending) => return Ok(false),
                // No event says when to try again.
                short @ (Ok(Heard::Short) | Err(_)) => {
                    self.look = Some(Instant::now() + LOOK);
                    return short.map(|_| false);
                }
            }
        }
        // Of a server that has gone, the next turn finds the rest.
        if gone {
            self.look = Some(Instant::now());
        }
        Ok(true)
    }

    /// Waits for a datagram until `deadline`. When the server has gone, everybody is told.
    pub(super) fn hear(&mut self, deadline: Option<Instant>) -> Result<Datagram, Error> {
        if let Some(datagram) = self.look_for_a_while(deadline)? {
            return Ok(datagram);
        }
        loop {
            let now = Instant::now();
            let until = match self.line.kind() {
                Kind::Datagram => Some(deadline.map_or(now + LOOK, |at| at.min(now + LOOK))),
                Kind::Seqpacket => deadline,
            };
            match self.line.receive_from(&mut self.inbox, until, now) {
                Err(Error::Deadline) if until != deadline => {}
                Err(Error::Closed) => return Err(self.close()),
                heard => return heard,
            }
            if self.is_deserted() {
                // It may have answered just before.
                return match self.line.receive(&mut self.inbox, Wait::Never)? {
                    Heard::Datagram(datagram) => Ok(datagram),
                    Heard::Pending | Heard::Short | Heard::Closed => Err(self.close()),
                };
            }
        }
    }

    /// Looks for a datagram before waiting for one, if that is [worth it](crate::spin::Spin).
    fn look_for_a_while(&mut self, deadline: Option<Instant>) -> Result<Option<Datagram>, Error> {
        let Some(until) = self.spin.until() else {
            return Ok(None);
        };
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        loop {
            match self.line.receive(&mut self.inbox, Wait::Never)? {
                Heard::Datagram(datagram) => {
                    self.spin.note(true);
                    return Ok(Some(datagram));
                }
                Heard::Closed => return Err(self.close()),
                Heard::Pending | Heard::Short if Instant::now() < until => std::hint::spin_loop(),
                Heard::Pending | Heard::Short => {
                    self.spin.note(false);
                    return Ok(None);
                }
            }
        }
    }

    /// Says whether calls are in flight that somebody may still want to be told of.
    pub(super) fn is_awaited(&self) -> bool {
        self.started.values().any(Started::is_open)
    }

    /// Looks whether the server has gone without a word.
    fn is_deserted(&self) -> bool {
        let deserted = || self.dial.as_ref().is_some_and(Dial::is_deserted);
        self.line.kind() == Kind::Datagram && self.line.has_peer().map_or_else(deserted, |has| !has)
    }

    /// The same, when it is time to look, and only then.
    fn finds_nobody(&mut self) -> bool {
        let now = Instant::now();
        if self.look.is_none_or(|at| now < at) {
            return false;
        }
        let again = self.line.kind() == Kind::Datagram && self.is_awaited();
        self.look = again.then(|| now + LOOK);
        again && self.is_deserted()
    }
}
