//! Calls on their way to the handler: decoding of arguments, the handler's run, its reply.

use std::time::{Duration, Instant};

use super::Handler;
use super::call::Call;
use super::dispatch::Dispatch;
use super::method_return::{MethodReturn, Sealed};
use crate::envelope::{Envelope, Id};
use crate::error::{DecodeError, EncodeError, Fault, caught};
use crate::message::{self, Arguments, Members, Packer, Request, Table, Unpacker, UnusedFds};
use crate::observe::EventKind;
#[cfg(feature = "tracing")]
use crate::peer::Peer;
use crate::reply::{Reply, ReplyFormat, no_reply};
use crate::sys::opaque_debug;

/// A call on its way to the handler. Generated code receives it, and hands it a handler to run.
#[doc(hidden)]
pub struct Incoming<'r, 't> {
    pub(crate) dispatch: &'r mut Dispatch<'t>,
    pub(crate) envelope: &'r mut Envelope<'t>,
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    /// The handler runs, or has run.
    pub(crate) decoded: bool,
    /// What the handler has returned is sent.
    pub(crate) replied: bool,
}

opaque_debug!(Incoming<'r, 't>);

/// A method's own part of handling a call.
type Handling<'h, I> = dyn FnMut(&mut I, &mut Option<Call>) -> Result<(), Fault> + 'h;

impl<'t> Incoming<'_, 't> {
    /// Decodes the params with `decode`, and runs a handler that owns the reply.
    pub(crate) fn hand_over<A, T, E>(
        mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
        handler: impl FnOnce(&mut Call, A, Reply<T, E>),
    ) {
        let dispatch = &mut *self.dispatch;
        if !dispatch.context.pending.has_room(dispatch.caller) {
            return self.refuse_unread(too_many_deferred());
        }
        let request = match caught(|| self.decode(decode)).and_then(|result| result) {
            Ok(request) => request,
            Err(fault) => return self.refuse(&fault),
        };
        let mut call = self.call();
        let reply = Reply::new(call.take_reply());
        // A panic drops the reply, which sends a fault.
        if caught(|| self.run(|| handler(&mut call, request, reply))).is_err() {
            self.note_panic();
        }
        self.end_deferred();
    }

    /// Runs a handler, and times it if that is asked for; with the feature `tracing` in a span.
    #[inline]
    pub(super) fn run<T>(&mut self, handler: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        let _span = self.span().entered();
        if self.dispatch.context.handler_time.is_none() {
            return handler();
        }
        let start = Instant::now();
        let returned = handler();
        let time = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.dispatch.context.handler_time = Some(time);
        returned
    }

    #[cfg(feature = "tracing")]
    fn span(&self) -> tracing::Span {
        let user = self.dispatch.caller.peer.map(Peer::uid);
        let trace = self.envelope.trace_parent();
        let trace = trace.as_ref().map(tracing::field::display);
        tracing::info_span!(
            target: "jsoncomm",
            "call",
            service = self.service,
            method = self.method,
            user,
            traceparent = trace,
        )
    }

    /// Refuses the call.
    pub(crate) fn refuse(&mut self, fault: &Fault) {
        self.dispatch.refuse(Some(self.envelope), fault);
    }

    /// Refuses a call whose rest has not been read: the id may be there, or a worse error.
    pub(crate) fn refuse_unread(&mut self, fault: Fault) {
        let fault = self.envelope.skip().err().unwrap_or(fault);
        self.refuse(&fault);
    }

    /// Sends what a handler has returned, unless the deadline has passed.
    pub(crate) fn send(&mut self, returned: &impl MethodReturn, deadline: Option<Instant>) {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.dispatch.note(EventKind::Expired);
        } else {
            returned.reply(self, Sealed);
        }
        self.replied = true;
    }

    /// Sends the reply that `write` encodes. A notification gets none.
    pub(super) fn reply<'m>(
        &mut self,
        mut write: impl FnMut(&mut Vec<u8>, &Id<'_>, &Packer<'m>) -> Result<(), EncodeError>,
    ) {
        if let Some(id) = self.envelope.id() {
            self.dispatch
                .send(id, &mut |text, fds| write(text, id, fds));
        }
    }

    /// Runs what decodes the arguments, runs the handler and sends what it returns. That part is compiled for each method, and
    /// has the program's code in it, which also runs where arguments and returned values are dropped: a panic is caught.
    ///
    /// A handler that takes a [`Call`] may defer its reply.
    pub(super) fn answer(mut self, run: &mut Handling<'_, Self>) {
        let mut call = None;
        let result = caught(|| run(&mut self, &mut call)).and_then(|result| result);
        let is_taken = call.is_some_and(|call| call.is_taken());
        if let Err(fault) = result {
            if self.decoded {
                self.note_panic();
            }
            // A reply that has been taken must not be sent a second time.
            if !self.replied && (!is_taken || self.dispatch.context.pending.abandon()) {
                self.refuse(&fault);
            }
        } else if is_taken {
            self.end_deferred();
        }
    }

    /// Decodes params with `decode`, reads the envelope to its end, and checks the deadline and the descriptors.
    pub(super) fn decode<A>(
        &mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
    ) -> Result<A, Fault> {
        let fds = std::mem::take(&mut self.dispatch.fds);
        let fds = self.envelope.unpacker(fds);
        let arguments = self.envelope.decode(|text| decode(text, &fds))??;
        self.end_decoding(&fds).map(|()| arguments)
    }

    /// Decodes the arguments of a method. What is compiled for each method is short.
    pub(super) fn arguments<A: Members<'t>>(&mut self) -> Result<A::Value, Fault> {
        let mut arguments = Arguments::<A>::new();
        self.decode_arguments(&mut arguments)?;
        // They are there, or the call would have been refused.
        arguments.value.ok_or_else(no_reply)
    }

    fn decode_arguments(&mut self, arguments: &mut dyn Table<'t>) -> Result<(), Fault> {
        self.decode(|text, fds| message::decode_arguments(arguments, text, fds))
    }

    fn end_decoding(&mut self, fds: &Unpacker) -> Result<(), Fault> {
        if self.envelope.timeout == Some(0) {
            return Err(deadline_exceeded());
        }
        fds.finish(UnusedFds::Refuse)?;
        self.dispatch.context.counts.handled += 1;
        self.decoded = true;
        Ok(())
    }

    /// Ends the handler's part: a call that has no reply yet is deferred, and what was posted is sent.
    pub(super) fn end_deferred(&mut self) {
        let dispatch = &mut *self.dispatch;
        let pending = &dispatch.context.pending;
        pending.defer(dispatch.caller, self.envelope.id());
        dispatch.send_posts();
    }

    pub(super) fn note_panic(&mut self) {
        self.dispatch
            .note(EventKind::Panicked(self.service, self.method));
    }

    /// Returns the caller's deadline, if it sent one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let timeout = Duration::from_millis(self.envelope.timeout?);
        if let Some(parked) = self.dispatch.parked {
            return parked.deadline;
        }
        let limit = self.dispatch.context.limits.timeout;
        Instant::now().checked_add(timeout.min(limit))
    }

    pub(super) fn call(&self) -> Call {
        let format = match self.envelope.id() {
            Some(id) => ReplyFormat::Call(id.clone().into_owned()),
            None => ReplyFormat::Oneway,
        };
        Call {
            service: self.service,
            method: self.method,
            deadline: self.deadline(),
            trace: self.envelope.trace_parent(),
            ..Call::new(self.dispatch.caller, &self.dispatch.context.pending, format)
        }
    }
}

/// Decodes a bare message and runs its handler.
pub(crate) fn handle_bare<S: Handler<R>, R: Request>(state: &mut S, dispatch: &mut Dispatch<'_>) {
    let caller = dispatch.caller;
    if !dispatch.context.pending.has_room(caller) {
        return dispatch.note(EventKind::Ignored);
    }
    let depth = dispatch.context.pending.bounds.depth;
    let (text, fds) = (dispatch.text, std::mem::take(&mut dispatch.fds));
    let decode = || message::decode_at_depth::<R>(depth, text, fds, UnusedFds::Refuse);
    let Ok(Ok(request)) = caught(decode) else {
        let fault = Fault::new(Fault::INVALID_REQUEST, "the message cannot be decoded");
        return dispatch.refuse(None, &fault);
    };
    dispatch.context.counts.handled += 1;
    let mut call = Call::new(caller, &dispatch.context.pending, ReplyFormat::Bare);
    let reply = Reply::new(call.take_reply());
    if caught(|| state.handle(&mut call, request, reply)).is_err() {
        dispatch.note(EventKind::Panicked("", ""));
    }
    dispatch.context.pending.defer(caller, None);
    dispatch.send_posts();
}

/// Makes the fault for a call whose deadline has passed before its handler could run.
#[cold]
pub(crate) fn deadline_exceeded() -> Fault {
    let reason = "the deadline has passed already";
    Fault::new(Fault::DEADLINE_EXCEEDED, reason)
}

/// Makes the fault for a call that arrives, or has not been handled, while the server shuts down.
pub(crate) fn shutting_down() -> Fault {
    Fault::new(Fault::SHUTTING_DOWN, "the server is shutting down")
}

pub(super) fn too_many_deferred() -> Fault {
    Fault::new(Fault::BUSY, "too many calls are deferred")
}
