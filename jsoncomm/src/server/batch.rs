//! Batches: several messages in one datagram.
//!
//! Each element is dispatched as if it had come alone and counts as one message of its source's turn. What is left when the
//! turn ends, or when the connection has unsent replies, is kept at the source, which reads nothing until the batch is done.
//! Replies that are given at once are sent in arrays.

use std::ops::Range;

use super::source::Share;
use crate::accounts::{Charge, Cost};
use crate::envelope::{self, Id};
use crate::error::Fault;
use crate::fds::Fds;
use crate::limits::Limits;
use crate::observe::DisconnectReason;
use crate::queue::OutgoingReply;
use crate::router::Routes;
use crate::service::{Dispatch, ReplySink, ServerContext};
use crate::transport::INLINE_SURE;

/// The elements of a batch that are to be dispatched.
pub(super) struct Batch {
    /// All of the datagram.
    text: Vec<u8>,
    elements: std::vec::IntoIter<Range<usize>>,
    /// Why all of them are refused, if so.
    refusal: Option<Fault>,
    /// What the text costs the peer's user while the batch is kept.
    charge: Option<Charge>,
}

impl Batch {
    /// Makes a batch of a datagram that is an array, or refuses it. Closes the descriptors that came with it. If the datagram
    /// must not be dispatched because of `refusal`, none of its elements is.
    #[inline(never)]
    pub(super) fn begin(
        dispatch: &mut Dispatch<'_>,
        mut refusal: Option<Fault>,
    ) -> Option<Box<Self>> {
        let fds = std::mem::take(&mut dispatch.fds);
        let elements = match envelope::split(dispatch.text, dispatch.context.limits.batch) {
            Ok(elements) => elements.into_iter(),
            Err(fault) => {
                dispatch.refuse(None, &refusal.unwrap_or(fault));
                return None;
            }
        };
        if !fds.is_empty() {
            let fault = || Fault::new(Fault::INVALID_DESCRIPTORS, "a batch brings no descriptors");
            refusal.get_or_insert_with(fault);
        }
        Some(Box::new(Self {
            text: dispatch.text.to_vec(),
            elements,
            refusal,
            charge: None,
        }))
    }

    /// Returns what is left as an array, and why it is refused, if it is.
    pub(super) fn rest(&self) -> (Vec<u8>, Option<&Fault>) {
        let elements = self.elements.clone();
        let elements: Vec<_> = elements.filter_map(|range| self.text.get(range)).collect();
        let text = [b"[", &*elements.join(&b','), b"]"].concat();
        (text, self.refusal.as_ref())
    }

    /// Makes a batch of the [rest](Self::rest) of one. `None` if it is not an array.
    pub(super) fn resume(text: Vec<u8>, refusal: Option<Fault>) -> Option<Box<Self>> {
        let elements = envelope::split(&text, usize::MAX).ok()?.into_iter();
        Some(Box::new(Self {
            text,
            elements,
            refusal,
            charge: None,
        }))
    }

    /// Dispatches elements for as long as the source has a share of its turn left and no reply waits. Returns true if some are
    /// left for the next turn. The caller has taken the share of the first.
    #[inline(never)]
    pub(super) fn run<S>(
        &mut self,
        routes: &Routes<S>,
        state: &mut S,
        dispatch: &mut Dispatch<'_>,
        share: &mut Share,
    ) -> bool {
        self.charge = None;
        self.dispatch_elements(routes, state, dispatch, share);
        if self.elements.len() == 0 || !dispatch.context.is_own_process() {
            return false;
        }
        let cost = Cost::queued(self.text.len(), 0);
        self.charge = dispatch.caller.account.try_charge(cost);
        if self.charge.is_none() {
            let busy = Fault::new(Fault::BUSY, "the rest of the batch finds no room");
            self.refusal = Some(busy);
            self.dispatch_elements(routes, state, dispatch, share);
        }
        self.charge.is_some()
    }

    /// Dispatches elements and sends the gathered replies. Refused elements are all dispatched: they cost little.
    fn dispatch_elements<S>(
        &mut self,
        routes: &Routes<S>,
        state: &mut S,
        dispatch: &mut Dispatch<'_>,
        share: &mut Share,
    ) {
        let context = &mut *dispatch.context;
        let mut replies = ArraySink {
            array: std::mem::take(&mut context.array_buffer),
            length_max: context.limits.message.min(INLINE_SURE),
            sink: &mut *dispatch.sink,
        };
        while let Some(range) = self.elements.next() {
            let mut element = Dispatch {
                context: &mut *context,
                sink: &mut replies,
                caller: dispatch.caller,
                text: self.text.get(range).unwrap_or_default(),
                fds: Fds::new(),
                bare: false,
                parked: None,
            };
            if let Some(fault) = &self.refusal {
                element.refuse(None, fault);
                share.take_element();
                continue;
            }
            routes.dispatch(state, &mut element);
            let goes_on = share.is_left() && replies.is_clear() && context.is_own_process();
            if !goes_on || self.elements.len() == 0 {
                break;
            }
            share.take_element();
        }
        replies.flush(context);
        context.array_buffer = replies.array;
    }
}

/// Gathers the replies of a batch that are given at once, and sends them in arrays.
struct ArraySink<'s> {
    sink: &'s mut (dyn ReplySink + 's),
    /// The replies so far, each after a `[` or a comma.
    array: Vec<u8>,
    /// The longest array, in bytes: one that travels in the datagram itself.
    length_max: usize,
}

impl ArraySink<'_> {
    /// Sends what has been gathered. If that is not possible now, each reply is sent or queued for itself, so that what waits
    /// is bounded and charged as always.
    fn flush(&mut self, context: &mut ServerContext) {
        if self.array.is_empty() {
            return;
        }
        self.array.push(b']');
        if !self.sink.send_now(context, &self.array) {
            for range in envelope::split(&self.array, usize::MAX).unwrap_or_default() {
                let reply = self.array.get(range).unwrap_or_default();
                self.sink
                    .deliver(context, OutgoingReply::Borrowed(reply, &[]));
            }
        }
        self.array.clear();
    }
}

impl ReplySink for ArraySink<'_> {
    fn deliver(&mut self, context: &mut ServerContext, reply: OutgoingReply<'_>) {
        // With the bracket or comma before it and the one after it.
        let length = reply.text().len() + 2;
        if !reply.is_given_at_once() || length > self.length_max {
            return self.sink.deliver(context, reply);
        }
        if self.array.len() + length > self.length_max {
            self.flush(context);
        }
        let before = if self.array.is_empty() { b'[' } else { b',' };
        self.array.push(before);
        self.array.extend_from_slice(reply.text());
    }

    fn send_now(&mut self, context: &mut ServerContext, text: &[u8]) -> bool {
        self.sink.send_now(context, text)
    }

    fn is_clear(&self) -> bool {
        self.sink.is_clear()
    }

    fn withdraw(&mut self, id: &Id<'_>) -> bool {
        self.sink.withdraw(id)
    }

    fn count_malformed(&mut self, limits: &Limits) -> bool {
        self.sink.count_malformed(limits)
    }

    fn disconnect(&mut self, context: &mut ServerContext, reason: DisconnectReason) {
        self.flush(context);
        self.sink.disconnect(context, reason);
    }
}
