//! Sending replies: what datagram endpoints and connections share.
//!
//! A reply that cannot be sent now waits, for one of two reasons:
//!
//! - The peer has no room. Then nothing overtakes the reply.
//! - The reply brings descriptors, or is so large that it travels in a memfd, and the kernel or the user's budget allows no
//!   more of them in flight until something is read. Then only such replies wait, except on a bare endpoint, where replies
//!   have no id and all of them stay in order.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::accounts::{Account, Charge, Cost, InFlight, Order};
use crate::envelope::{self, Id};
use crate::error::{Error, Fault};
use crate::limits::Limits;
use crate::observe::{DisconnectReason, UndeliveredReason};
use crate::queue::{OutgoingReply, QueuedReply, SendOutcome, SendQueue, WaitsFor};
use crate::service::{ReplySink, ServerContext};
use crate::sys::OsError;
use crate::sys::control::{Credentials, Wait};
use crate::sys::name::Name;
use crate::transport::{Packet, SendAttempt, Transport};

/// The result of an attempt to send.
pub(super) enum Attempt {
    Sent,
    /// There is no room now.
    Waits(WaitsFor),
    /// The kernel refuses this message, to this peer or to anyone. Other messages can be sent.
    Unsendable(Error),
    /// The peer cannot be reached, for this reason.
    Lost(UndeliveredReason),
}

/// A socket that replies are sent on, and what is in flight on it.
pub(super) struct ReplySocket {
    pub(super) transport: Transport,
    /// The account that is charged for what is in flight.
    pub(super) account: Arc<Account>,
    pub(super) in_flight: InFlight,
    /// Replies have no id, and none overtakes another.
    pub(super) in_order: bool,
}

impl ReplySocket {
    pub(super) fn new(transport: Transport, account: Arc<Account>, order: Order) -> Self {
        Self {
            transport,
            account,
            in_flight: InFlight::new(order),
            in_order: false,
        }
    }

    /// Returns how many descriptors, and how many bytes in memfds, have been sent and may be unread.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        self.in_flight.unread()
    }

    #[inline]
    fn try_send(&mut self, to: Option<&Name>, text: &[u8], fds: &[BorrowedFd<'_>]) -> Attempt {
        // Nearly all replies have no descriptors, fit into a datagram and find room.
        let mut error = None;
        if fds.is_empty() {
            match self.transport.send_plain(text, to, Wait::Never) {
                Ok(()) => return Attempt::Sent,
                Err(refused) => error = refused,
            }
        }
        self.try_send_large(to, text, fds, error)
    }

    /// Tries to send a reply with descriptors, or one that could not be sent as plain text because of `error`.
    #[inline(never)]
    fn try_send_large(
        &mut self,
        to: Option<&Name>,
        text: &[u8],
        fds: &[BorrowedFd<'_>],
        error: Option<OsError>,
    ) -> Attempt {
        let (account, in_flight) = (&self.account, &mut self.in_flight);
        let socket = &self.transport.fd;
        let (mut freighted, mut charge) = (false, None::<Charge>);
        let mut may = |fds, bytes| {
            freighted = true;
            // Given back before the next is charged.
            drop(charge.take());
            let cost = Cost::in_flight(fds, bytes);
            charge = in_flight.try_charge(account, cost);
            charge.is_some()
        };
        let packet = Packet {
            text,
            fds,
            to,
            wait: Wait::Never,
        };
        match self.transport.send_with_fds(packet, error, &mut may) {
            Ok(Some(SendAttempt::Sent)) => {
                if let Some(charge) = charge {
                    in_flight.add(socket, charge);
                }
                Attempt::Sent
            }
            // The limit may be that on descriptors in flight, which another process of our user can use up, or that on
            // open descriptors, which a memfd needs.
            Ok(Some(SendAttempt::Exhausted(_))) if freighted => Attempt::Waits(WaitsFor::InFlight),
            Ok(Some(SendAttempt::Full | SendAttempt::Exhausted(_))) => {
                Attempt::Waits(WaitsFor::Room)
            }
            Ok(None) => Attempt::Waits(WaitsFor::InFlight),
            Err(Error::Closed) => Attempt::Lost(UndeliveredReason::Disconnected),
            Err(error) if freighted || !fds.is_empty() => Attempt::Unsendable(error),
            // Any error about plain text is about the peer.
            Err(_) => Attempt::Lost(UndeliveredReason::Disconnected),
        }
    }

    /// Returns true if a reply has to wait until those that are held back are sent.
    fn follows_held(&self, text: &[u8], fds: usize) -> bool {
        self.in_order || fds > 0 || self.transport.needs_memfd(text.len())
    }

    /// Sends a reply, unless others in the queue go first.
    #[inline]
    pub(super) fn offer(
        &mut self,
        to: Option<&Name>,
        queue: &SendQueue,
        reply: &OutgoingReply<'_>,
    ) -> Attempt {
        let (text, fds) = (reply.text(), reply.fds());
        if !queue.is_empty() {
            if queue.waits_for_room() {
                return Attempt::Waits(WaitsFor::Room);
            }
            if self.follows_held(text, fds.len()) {
                return Attempt::Waits(WaitsFor::InFlight);
            }
        }
        self.try_send(to, text, &fds)
    }

    /// Sends the replies in a queue for as long as there is room. Returns false if the peer is gone.
    pub(super) fn flush(
        &mut self,
        to: Option<&Name>,
        peer: Option<Credentials>,
        queue: &mut SendQueue,
        context: &mut ServerContext,
    ) -> bool {
        let mut held = false;
        loop {
            let released = !held && queue.release();
            let Some(reply) = queue.front() else {
                return true;
            };
            let follows = self.follows_held(&reply.text, reply.fds.len());
            if !released && follows && queue.held() > 0 {
                queue.hold_front(&context.limits, VecDeque::push_back);
                continue;
            }
            match self.try_send(to, &reply.text, &reply.borrow_fds()) {
                Attempt::Sent => queue.pop_sent(&context.limits),
                Attempt::Waits(WaitsFor::Room) => return true,
                Attempt::Waits(WaitsFor::InFlight) => {
                    queue.hold_front(&context.limits, VecDeque::push_front);
                    held = true;
                }
                Attempt::Unsendable(error) => {
                    let reply = queue.pop().map(OutgoingReply::Queued);
                    let fault = reply.and_then(|reply| replace(context, peer, reply, &error));
                    if let Some(fault) = fault {
                        queue.push_front(fault);
                    }
                }
                Attempt::Lost(_) => return false,
            }
        }
    }
}

/// One peer's send queue and its socket.
pub(super) trait Writer {
    /// Returns who events are reported about.
    fn peer(&self) -> Option<Credentials>;

    /// Sends a reply, unless others go first.
    fn offer(&mut self, context: &mut ServerContext, reply: &OutgoingReply<'_>) -> Attempt;

    /// Queues a reply that has to wait, or drops and counts it if the queue or the user's budget is full.
    fn keep(&mut self, context: &mut ServerContext, reply: OutgoingReply<'_>, waits_for: WaitsFor);

    /// Drops the reply to a cancelled call if it is held back. Returns true if it was.
    fn withdraw(&mut self, id: &Id<'_>) -> bool;

    /// Returns true if the peer may be read from.
    fn is_clear(&self) -> bool {
        true
    }

    /// Counts a message that was no call. Returns true if there are too many.
    fn count_malformed(&mut self, _: &Limits) -> bool {
        false
    }

    /// Disconnects the peer, if it has a connection.
    fn disconnect(&mut self, _: &mut ServerContext, _: DisconnectReason) {}
}

impl<W: Writer> ReplySink for W {
    fn deliver(&mut self, context: &mut ServerContext, mut reply: OutgoingReply<'_>) {
        if !context.is_own_process() {
            return;
        }
        match self.offer(context, &reply) {
            Attempt::Sent => reply.finish(SendOutcome::Sent),
            Attempt::Waits(place) => self.keep(context, reply, place),
            Attempt::Unsendable(error) => {
                if let Some(fault) = replace(context, self.peer(), reply, &error) {
                    self.deliver(context, OutgoingReply::Queued(fault));
                }
            }
            Attempt::Lost(reason) => context.note_lost(self.peer(), reason, 1),
        }
    }

    fn send_now(&mut self, context: &mut ServerContext, text: &[u8]) -> bool {
        let reply = OutgoingReply::Borrowed(text, &[]);
        context.is_own_process() && matches!(self.offer(context, &reply), Attempt::Sent)
    }

    fn is_clear(&self) -> bool {
        Writer::is_clear(self)
    }

    fn withdraw(&mut self, id: &Id<'_>) -> bool {
        Writer::withdraw(self, id)
    }

    fn count_malformed(&mut self, limits: &Limits) -> bool {
        Writer::count_malformed(self, limits)
    }

    fn disconnect(&mut self, context: &mut ServerContext, reason: DisconnectReason) {
        Writer::disconnect(self, context, reason);
    }
}

/// Ends a reply that cannot be sent at all. Returns the fault to send instead, unless it is an item, whose stream is told
/// and sends one itself, or its caller has sent no id.
#[cold]
#[inline(never)]
fn replace(
    context: &mut ServerContext,
    peer: Option<Credentials>,
    mut reply: OutgoingReply<'_>,
    error: &Error,
) -> Option<QueuedReply> {
    context.note_lost(peer, UndeliveredReason::Discarded, 1);
    let reason = match error {
        Error::Os { operation, source } => format!("{operation}: {source}"),
        error => error.to_string(),
    };
    let message = format!("the reply cannot be sent: {reason}");
    let fault = Fault::new(Fault::INTERNAL_ERROR, message);
    if reply.is_item() {
        reply.finish(SendOutcome::Refused(fault));
        return None;
    }
    fault_instead(reply.text(), &fault)
}

/// Encodes a fault as the reply to the call that `text` replies to.
pub(super) fn fault_instead(text: &[u8], fault: &Fault) -> Option<QueuedReply> {
    let id = envelope::find_id(text)?;
    Some(QueuedReply::fault(Some(&id), fault))
}
