//! Calls on their way to the handler: decoding of arguments, the handler's run, its reply.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Origin};
use super::dispatch::Dispatch;
use super::method_return::{Document, MethodReturn, Sealed};
use crate::describe::Discovery;
use crate::envelope::{Envelope, Id};
use crate::error::{DecodeError, EncodeError, Fault, caught};
use crate::message::{
    self, Members, NoArguments, Packer, RawError, RawMessage, Request, Unpacker, UnusedFds,
};
use crate::observe::EventKind;
use crate::reply::{Reply, ReplyFormat};

/// A call on its way to the handler. Generated code receives it, and hands it a handler to run.
#[doc(hidden)]
pub struct Incoming<'r, 't> {
    pub(crate) dispatch: &'r mut Dispatch<'t>,
    pub(crate) envelope: &'r mut Envelope<'t>,
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
}

/// Omits all of the call but its name: arguments may be secret.
impl fmt::Debug for Incoming<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

impl<'t> Incoming<'_, 't> {
    /// Decodes the arguments, runs a handler that does not take a [`Call`], and sends what it returns.
    pub fn answer<A: Members<'t>, R: MethodReturn>(mut self, handler: impl FnOnce(A::Value) -> R) {
        let (mut decoded, mut replied) = (false, false);
        // The program's code also runs where arguments are read and dropped, and where the returned value is encoded and
        // dropped.
        let result = caught(|| {
            let arguments = self.decode(message::decode_arguments::<A>)?;
            decoded = true;
            let deadline = self.deadline();
            let returned = handler(arguments);
            self.send(&returned, deadline);
            replied = true;
            Ok(())
        });
        if let Err(fault) = result.and_then(|result| result) {
            if decoded {
                self.note_panic();
            }
            if !replied {
                self.refuse(&fault);
            }
        }
    }

    /// Decodes the arguments, runs a handler that takes a [`Call`] and may defer its reply, and sends what it returns.
    pub fn answer_call<A: Members<'t>, R: MethodReturn>(
        mut self,
        handler: impl FnOnce(&mut Call, A::Value) -> R,
    ) {
        let Some(arguments) = self.decode_or_refuse(message::decode_arguments::<A>) else {
            return;
        };
        let mut call = self.call();
        let mut replied = false;
        let result = caught(|| {
            let returned = handler(&mut call, arguments);
            // A deferred reply is sent by its owner, who checks the deadline. If the method took the reply and returned a
            // value all the same, the value is sent, unless the reply has been.
            if call.deferred.is_some() && (R::DEFERRED || !self.abandon()) {
                return;
            }
            self.send(&returned, call.deadline);
            replied = true;
        });
        if let Err(fault) = result {
            self.note_panic();
            // A reply that has been taken must not be sent a second time.
            if !replied && (call.deferred.is_none() || self.abandon()) {
                self.refuse(&fault);
            }
        } else if call.deferred.is_some() {
            self.end_deferred();
        }
    }

    /// Decodes the params as request number `method` of an enum, and runs its handler.
    pub(crate) fn handle<R: Request>(
        self,
        method: usize,
        handler: impl FnOnce(&mut Call, R, Reply<R::Reply, R::Error>),
    ) {
        let decode = |text: &'t str, fds: &Unpacker| message::decode_params(method, text, fds);
        self.hand_over(decode, handler);
    }

    /// Runs a handler of undecoded params.
    pub(crate) fn handle_raw(
        self,
        handler: impl FnOnce(&mut Call, RawMessage, Reply<RawMessage, RawError>),
    ) {
        self.hand_over(message::decode_front, handler);
    }

    /// Decodes the params with `decode`, and runs a handler that owns the reply.
    fn hand_over<A, T, E>(
        mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
        handler: impl FnOnce(&mut Call, A, Reply<T, E>),
    ) {
        let dispatch = &mut *self.dispatch;
        if !dispatch.context.pending.has_room(dispatch.caller) {
            return self.refuse_unread(too_many_deferred());
        }
        let Some(request) = self.decode_or_refuse(decode) else {
            return;
        };
        let mut call = self.call();
        let reply = Reply::new(call.take_reply());
        // A panic drops the reply, which sends a fault.
        if caught(|| handler(&mut call, request, reply)).is_err() {
            self.note_panic();
        }
        self.end_deferred();
    }

    /// Replies with the description of all methods.
    pub(crate) fn discover(self, discovery: &Discovery) {
        self.answer::<NoArguments, _>(|()| Document(discovery.text()));
    }

    /// Replies with `null`.
    pub(crate) fn confirm(mut self) {
        self.send(&(), None);
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
    fn send(&mut self, returned: &impl MethodReturn, deadline: Option<Instant>) {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.dispatch.note(EventKind::Expired);
        } else {
            returned.reply(self, Sealed);
        }
    }

    /// Sends the reply that `write` encodes. A notification gets none.
    pub(super) fn reply<'m>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, &Id<'_>, &Packer<'m>) -> Result<(), EncodeError>,
    ) {
        if let Some(id) = self.envelope.id() {
            self.dispatch.send(id, |text, fds| write(text, id, fds));
        }
    }

    /// Sends a fault as the reply. A notification gets none.
    pub(super) fn reply_fault(&mut self, fault: &Fault) {
        if let Some(id) = self.envelope.id() {
            self.dispatch.send_fault(Some(id), fault);
        }
    }

    /// Decodes params with `decode`, reads the envelope to its end, and checks the deadline and the descriptors.
    fn decode<A>(
        &mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
    ) -> Result<A, Fault> {
        let fds = std::mem::take(&mut self.dispatch.fds);
        let fds = self.envelope.unpacker(fds);
        let arguments = self.envelope.decode(|text| decode(text, &fds))??;
        if self.envelope.timeout() == Some(0) {
            return Err(deadline_passed());
        }
        fds.finish(UnusedFds::Refuse)?;
        self.dispatch.context.counts.handled += 1;
        Ok(arguments)
    }

    /// Decodes params with `decode`, where a panic is caught. Refuses the call and returns `None` if that fails.
    fn decode_or_refuse<A>(
        &mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
    ) -> Option<A> {
        let result = caught(|| self.decode(decode)).and_then(|result| result);
        result.map_err(|fault| self.refuse(&fault)).ok()
    }

    /// Takes the right to reply back from the reply that was taken. Returns false if it has been used already.
    fn abandon(&self) -> bool {
        self.dispatch.context.pending.abandon()
    }

    /// Ends the handler's part: a call that has no reply yet is deferred, and what was posted is sent.
    fn end_deferred(&mut self) {
        let dispatch = &mut *self.dispatch;
        let pending = &dispatch.context.pending;
        pending.defer(dispatch.caller, self.envelope.id());
        dispatch.send_posts();
    }

    fn note_panic(&mut self) {
        self.dispatch
            .note(EventKind::Panicked(self.service, self.method));
    }

    /// Returns the caller's deadline, if it sent one.
    fn deadline(&self) -> Option<Instant> {
        let timeout = Duration::from_millis(self.envelope.timeout()?);
        let limit = self.dispatch.context.limits.timeout;
        Instant::now().checked_add(timeout.min(limit))
    }

    fn call(&self) -> Call {
        let format = match self.envelope.id() {
            Some(id) => ReplyFormat::Call(id.clone().into_owned()),
            None => ReplyFormat::Oneway,
        };
        let pending = Arc::clone(&self.dispatch.context.pending);
        Call {
            service: self.service,
            method: self.method,
            deadline: self.deadline(),
            ..Call::new(self.dispatch.caller, Origin { pending, format })
        }
    }
}

/// Decodes a bare message and runs its handler.
pub(crate) fn handle_bare<R: Request>(
    dispatch: &mut Dispatch<'_>,
    handler: impl FnOnce(&mut Call, R, Reply<R::Reply, R::Error>),
) {
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
    let (pending, format) = (Arc::clone(&dispatch.context.pending), ReplyFormat::Bare);
    let mut call = Call::new(caller, Origin { pending, format });
    let reply = Reply::new(call.take_reply());
    if caught(|| handler(&mut call, request, reply)).is_err() {
        dispatch.note(EventKind::Panicked("", ""));
    }
    dispatch.context.pending.defer(caller, None);
    dispatch.send_posts();
}

#[cold]
fn deadline_passed() -> Fault {
    Fault::new(Fault::DEADLINE_EXCEEDED, "the deadline has passed already")
}

pub(super) fn too_many_deferred() -> Fault {
    Fault::new(Fault::BUSY, "too many calls are deferred")
}
