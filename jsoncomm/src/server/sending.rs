//! Sending answers: what datagram endpoints and connections have in common.
//!
//! An answer that cannot be sent now waits, for one of two reasons. The peer has no room: then nothing overtakes it. Or
//! it brings descriptors, or is so large that it travels in a memfd, and the kernel or the user's budget have no room for
//! more of that until something is read: then only such answers wait. On a bare endpoint, where answers have no id, they
//! stay in order all the same.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::accounts::{Account, Charge, Cost, InFlight};
use crate::envelope;
use crate::error::{Error, Fault};
use crate::observe::UndeliveredReason;
use crate::queue::{OutgoingReply, QueuedReply, SendOutcome, SendQueue, WaitsFor};
use crate::service::ServerContext;
use crate::sys::OsError;
use crate::sys::control::Wait;
use crate::sys::name::Name;
use crate::transport::{InFlightCost, Packet, SendAttempt, Transport};

/// How an attempt to send has ended.
pub(super) enum Attempt {
    Sent,
    /// It has to wait.
    Waits(WaitsFor),
    /// It cannot be sent to anybody, or not to this peer; others can.
    Refused(Error),
    /// Nobody is there.
    Gone,
}

/// What became of the answers that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All are sent, but for those that are held back.
    Done,
    /// Some wait for room.
    Full,
    /// Nobody is there.
    Gone,
}

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Outlet<'o> {
    pub(super) line: &'o Transport,
    pub(super) to: Option<&'o Name>,
    /// Who is charged for what is in flight.
    pub(super) account: &'o Arc<Account>,
    pub(super) in_flight: &'o mut InFlight,
    /// Nothing overtakes anything.
    pub(super) in_order: bool,
}

impl Outlet<'_> {
    /// Tries to send.
    #[inline]
    fn attempt(&mut self, text: &[u8], fds: &[BorrowedFd<'_>]) -> Attempt {
        // Nearly all have no descriptors, fit into a datagram and find room.
        let mut error = None;
        if fds.is_empty() {
            match self.line.send_plain(text, self.to, Wait::Never) {
                Ok(()) => return Attempt::Sent,
                Err(refused) => error = refused,
            }
        }
        self.attempt_freight(text, fds, error)
    }

    /// Tries to send what has descriptors, or is no plain text because of that `error`.
    #[inline(never)]
    fn attempt_freight(
        &mut self,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        error: Option<OsError>,
    ) -> Attempt {
        let (account, in_flight) = (self.account, &mut *self.in_flight);
        let socket = self.line.shared_fd();
        let (mut freighted, mut charge) = (false, None::<Charge>);
        let mut may = |freight: InFlightCost| {
            freighted = true;
            // Given back before it is charged anew.
            drop(charge.take());
            let cost = Cost {
                fds_in_flight: freight.fds,
                bytes_in_flight: freight.bytes,
                ..Cost::NONE
            };
            charge = in_flight.try_charge(account, socket, cost);
            charge.is_some()
        };
        let packet = Packet {
            text,
            fds,
            to: self.to,
            wait: Wait::Never,
        };
        let sent = self.line.send_with_fds(packet, error, &mut may);
        match sent {
            Ok(Some(SendAttempt::Sent)) => {
                if let Some(charge) = charge {
                    in_flight.add(socket, charge);
                }
                Attempt::Sent
            }
            // Descriptors in flight can be those of another process of our user, or those to be had for a memfd.
            Ok(Some(SendAttempt::Exhausted(_))) if freighted => Attempt::Waits(WaitsFor::InFlight),
            Ok(Some(SendAttempt::Full | SendAttempt::Exhausted(_))) => {
                Attempt::Waits(WaitsFor::Room)
            }
            Ok(Some(SendAttempt::Closed)) => Attempt::Gone,
            Ok(None) => Attempt::Waits(WaitsFor::InFlight),
            // Whatever the kernel has against bytes alone it has against the peer.
            Err(error) if freighted || !fds.is_empty() => Attempt::Refused(error),
            Err(_) => Attempt::Gone,
        }
    }

    /// Returns true if an answer has to wait behind those that are held back.
    fn follows_held(&self, text: &[u8], fds: usize) -> bool {
        self.in_order || fds > 0 || self.line.needs_memfd(text.len())
    }

    /// Sends an answer, unless others go before it.
    #[inline]
    pub(super) fn offer(&mut self, outbox: &SendQueue, mail: &OutgoingReply<'_>) -> Attempt {
        let (text, fds) = (mail.text(), mail.fds());
        if !outbox.is_empty() {
            if outbox.is_full() {
                return Attempt::Waits(WaitsFor::Room);
            }
            if self.follows_held(text, fds.len()) {
                return Attempt::Waits(WaitsFor::InFlight);
            }
        }
        self.attempt(text, &fds)
    }

    /// Sends what has been waiting, for as long as there is room.
    pub(super) fn flush(&mut self, outbox: &mut SendQueue, desk: &mut ServerContext) -> Flushed {
        let mut held = false;
        loop {
            let released = !held && outbox.release();
            let Some(letter) = outbox.front() else {
                return Flushed::Done;
            };
            let follows = self.follows_held(&letter.text, letter.fds.len());
            if !released && follows && outbox.held() > 0 {
                outbox.hold_front_last(&desk.limits);
                continue;
            }
            match self.attempt(&letter.text, &letter.borrow_fds()) {
                Attempt::Sent => outbox.pop_sent(&desk.limits),
                Attempt::Waits(WaitsFor::Room) => return Flushed::Full,
                Attempt::Waits(WaitsFor::InFlight) => {
                    outbox.hold_front_first(&desk.limits);
                    held = true;
                }
                Attempt::Refused(error) => {
                    let letter = outbox.pop().map(OutgoingReply::Queued);
                    let fault = letter.and_then(|letter| replace(desk, letter, &error));
                    if let Some(fault) = fault {
                        outbox.push_front(fault);
                    }
                }
                Attempt::Gone => return Flushed::Gone,
            }
        }
    }
}

/// Ends an answer that cannot be sent at all. Returns what its caller is told instead; the sender of an item tells by
/// itself, and a caller without an id cannot be told.
#[cold]
#[inline(never)]
pub(super) fn replace(
    desk: &mut ServerContext,
    mut mail: OutgoingReply<'_>,
    error: &Error,
) -> Option<QueuedReply> {
    desk.note_lost(UndeliveredReason::Discarded, 1);
    let fault = refusal(error);
    if mail.is_item() {
        mail.finish(SendOutcome::Refused(fault));
        return None;
    }
    instead(mail.text(), &fault)
}

/// Says why an answer cannot be sent.
fn refusal(error: &Error) -> Fault {
    let reason = match error {
        Error::Os { operation, source } => format!("{operation}: {source}"),
        error => error.to_string(),
    };
    let message = format!("the answer cannot be sent: {reason}");
    Fault::new(Fault::INTERNAL_ERROR, message)
}

/// What the caller is told in place of an answer.
pub(super) fn instead(text: &[u8], fault: &Fault) -> Option<QueuedReply> {
    let id = envelope::find_id(text)?;
    let mut written = Vec::new();
    envelope::write_fault(&mut written, Some(&id), fault);
    Some(QueuedReply::from(written))
}

/// The same in place of one that may not wait, if it is shorter.
pub(super) fn smaller(text: &[u8], reason: &str) -> Option<QueuedReply> {
    let fault = instead(text, &Fault::new(Fault::BUSY, reason))?;
    (fault.text.len() < text.len()).then_some(fault)
}
