//! Calls on their way to the handler.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Origin};
use super::dispatch::{MALFORMED, ReplySink, ServerContext};
use super::method_return::{Answer, Document, MethodReturn};
use crate::describe::Discovery;
use crate::envelope::{self, Envelope, Id};
use crate::error::{DecodeError, Fault, caught};
use crate::fds::Fds;
use crate::message::{
    self, Members, NoArguments, RawError, RawMessage, Request, Unpacker, UnusedFds,
};
use crate::observe::EventKind;
use crate::queue::Caller;
use crate::reply::{Reply, ReplyFormat};

/// A call on its way to the handler. Generated code has it, decodes the arguments and answers.
#[doc(hidden)]
pub struct Incoming<'r, 't> {
    pub(crate) desk: &'r mut ServerContext,
    pub(crate) lane: &'r mut (dyn ReplySink + 'r),
    pub(crate) caller: &'r Caller<'r>,
    pub(crate) text: &'t [u8],
    pub(crate) envelope: &'r mut Envelope<'t>,
    pub(crate) fds: Fds,
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
}

/// Prints nothing of the call but its name.
impl fmt::Debug for Incoming<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("service", &self.service)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl<'t> Incoming<'_, 't> {
    /// Decodes the arguments, runs a handler that asks nothing about its call, and sends what it returns.
    pub fn answer<A: Members<'t>, O: MethodReturn>(mut self, handler: impl FnOnce(A::Value) -> O) {
        let (mut handed_over, mut answered) = (false, false);
        // Reading and dropping arguments, and writing and dropping what was returned, runs the program's code, too.
        let settled = caught(|| {
            let arguments = self.decode(message::decode_arguments::<A>)?;
            handed_over = true;
            let deadline = self.deadline();
            let outcome = handler(arguments);
            match has_passed(deadline) {
                true => self.desk.note(EventKind::Expired),
                false => settle(&outcome, self.desk, self.lane, self.envelope.id()),
            }
            answered = true;
            Ok(())
        });
        match settled {
            Ok(Ok(())) => {}
            Err(_) if answered => self.note_panic(),
            Err(fault) if handed_over => self.fail(&fault),
            Ok(Err(fault)) | Err(fault) => self.refuse(&fault),
        }
    }

    /// The same for a handler that asks about its call, and may answer it later.
    pub fn answer_call<A: Members<'t>, O: MethodReturn>(
        mut self,
        handler: impl FnOnce(&mut Call, A::Value) -> O,
    ) {
        let Some(arguments) = self.decode_or_refuse(message::decode_arguments::<A>) else {
            return;
        };
        let mut call = self.call();
        let (desk, lane, caller) = (self.desk, self.lane, self.caller);
        let id = self.envelope.id();
        let mut answered = false;
        let settled = caught(|| {
            let outcome = handler(&mut call, arguments);
            // A reply that is kept somewhere answers, and looks at the time itself. If the method has returned a value
            // all the same, that is the answer, unless the reply has given one.
            if call.serial.is_some() && (O::LATER || !desk.mailbox.abandon()) {
                return;
            }
            match has_passed(call.deadline) {
                true => desk.note(EventKind::Expired),
                false => settle(&outcome, desk, lane, id),
            }
            answered = true;
        });
        if settled.is_err() {
            desk.note(EventKind::Panicked(call.service, call.method));
        }
        match (settled, call.serial) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                desk.mailbox.defer(caller, id);
                desk.send_posts(lane, caller);
            }
            (Err(_), _) if answered => {}
            // A reply that is kept somewhere is not to answer a second time.
            (Err(_), Some(_)) if !desk.mailbox.abandon() => {}
            (Err(fault), _) => desk.refuse(lane, id, &fault),
        }
    }

    /// Answers with what is known about all methods.
    pub(crate) fn discover(self, discovery: &Discovery) {
        self.answer::<NoArguments, _>(|()| Document(discovery.text()));
    }

    /// Answers that what was asked has been done.
    pub(crate) fn confirm(self) {
        settle(&(), self.desk, self.lane, self.envelope.id());
    }

    /// Decodes the arguments and runs a handler that answers nothing. A caller that sent an id all the
    /// same gets a `null`, so that it need not wait.
    pub fn oneway<A: Members<'t>>(self, handler: impl FnOnce(A::Value)) {
        self.answer::<A, ()>(handler);
    }

    /// The same for a handler that asks about its call.
    pub fn oneway_call<A: Members<'t>>(self, handler: impl FnOnce(&mut Call, A::Value)) {
        self.answer_call::<A, ()>(handler);
    }

    /// Decodes the request that method number `method` of an enum is, and hands it over.
    pub(crate) fn handle<R: Request>(
        self,
        method: usize,
        handler: impl FnOnce(&mut Call, R, Reply<R::Reply, R::Error>),
    ) {
        let decode = |text: &'t str, fds: &Unpacker| message::decode_params(method, text, fds);
        self.hand_over(decode, handler);
    }

    /// Hands the params over as they are.
    pub(crate) fn pass(
        self,
        handler: impl FnOnce(&mut Call, RawMessage, Reply<RawMessage, RawError>),
    ) {
        self.hand_over(message::decode_front, handler);
    }

    /// Hands what `decode` makes of the params over, with the right to answer.
    fn hand_over<A, T, E>(
        mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
        handler: impl FnOnce(&mut Call, A, Reply<T, E>),
    ) {
        if !self.desk.mailbox.has_room(self.caller) {
            return self.refuse_unread(too_many_deferred());
        }
        let Some(request) = self.decode_or_refuse(decode) else {
            return;
        };
        let mut call = self.call();
        let reply = Reply::new(call.slot());
        // The reply answers for itself: a panic drops it, and dropping it tells the caller.
        if caught(|| handler(&mut call, request, reply)).is_err() {
            self.note_panic();
        }
        self.desk.mailbox.defer(self.caller, self.envelope.id());
        self.desk.send_posts(self.lane, self.caller);
    }

    /// Decodes params as `decode` does, and checks all that can be wrong with the call.
    fn decode<A>(
        &mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
    ) -> Result<A, Fault> {
        let fds = self.envelope.unpacker(std::mem::take(&mut self.fds));
        let arguments = self.envelope.decode(|text| decode(text, &fds))??;
        if self.envelope.timeout() == Some(0) {
            return Err(passed_already());
        }
        fds.finish(UnusedFds::Refuse)?;
        self.desk.counts.handled += 1;
        Ok(arguments)
    }

    /// The same for callers who do not catch panics. Answers with a fault and returns `None` where something is wrong.
    fn decode_or_refuse<A>(
        &mut self,
        decode: impl FnOnce(&'t str, &Unpacker) -> Result<(A, usize), DecodeError>,
    ) -> Option<A> {
        match caught(|| self.decode(decode)) {
            Ok(Ok(arguments)) => Some(arguments),
            Ok(Err(fault)) | Err(fault) => {
                self.refuse(&fault);
                None
            }
        }
    }

    /// Refuses the call. The caller is told if it wants an answer, or if its wish cannot be read.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(&mut self, fault: &Fault) {
        let id = self.envelope.id().cloned();
        let id = id.or_else(|| envelope::find_id(self.text));
        if id.is_some() || MALFORMED.contains(&fault.code) {
            self.desk.refuse(self.lane, id.as_ref(), fault);
        } else {
            self.desk.note_refusal(fault.code);
        }
    }

    /// Refuses a call whose rest has not been read: the id may stand there, and so may worse trouble.
    pub(crate) fn refuse_unread(&mut self, fault: Fault) {
        let fault = self.envelope.skip().err().unwrap_or(fault);
        self.refuse(&fault);
    }

    /// Tells the caller that the handler has panicked.
    #[cold]
    #[inline(never)]
    fn fail(&mut self, fault: &Fault) {
        self.note_panic();
        self.desk.refuse(self.lane, self.envelope.id(), fault);
    }

    fn note_panic(&mut self) {
        self.desk
            .note(EventKind::Panicked(self.service, self.method));
    }

    /// Until when the caller waits, if it said so.
    fn deadline(&self) -> Option<Instant> {
        let timeout = Duration::from_millis(self.envelope.timeout()?);
        Instant::now().checked_add(timeout.min(self.desk.limits.timeout))
    }

    fn call(&self) -> Call {
        let to = match self.envelope.id() {
            Some(id) => ReplyFormat::Call(id.clone().into_owned()),
            None => ReplyFormat::Oneway,
        };
        let mailbox = Arc::clone(&self.desk.mailbox);
        Call {
            service: self.service,
            method: self.method,
            deadline: self.deadline(),
            ..Call::new(self.caller, Origin { mailbox, to })
        }
    }
}

/// Says whether nobody waits any more.
fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Sends what a handler has returned. Without an id the call is a notification, in the standard's words: it wants
/// no answer.
fn settle(
    outcome: &impl MethodReturn,
    desk: &mut ServerContext,
    lane: &mut dyn ReplySink,
    id: Option<&Id<'_>>,
) {
    if let Some(id) = id {
        outcome.settle(Answer { desk, lane, id });
    }
}

/// A bare message on its way to the handler.
pub(crate) fn handle_bare<R: Request>(
    desk: &mut ServerContext,
    lane: &mut dyn ReplySink,
    caller: &Caller<'_>,
    text: &[u8],
    fds: Fds,
    handler: impl FnOnce(&mut Call, R, Reply<R::Reply, R::Error>),
) {
    if !desk.mailbox.has_room(caller) {
        return desk.note(EventKind::Ignored);
    }
    let depth = desk.mailbox.bounds().depth;
    let decode = || message::decode_at_depth::<R>(depth, text, fds, UnusedFds::Refuse);
    let Ok(Ok(request)) = caught(decode) else {
        // There is no way to say so.
        return desk.note_refusal(Fault::INVALID_REQUEST);
    };
    desk.counts.handled += 1;
    let (mailbox, to) = (Arc::clone(&desk.mailbox), ReplyFormat::Bare);
    let mut call = Call::new(caller, Origin { mailbox, to });
    let reply = Reply::new(call.slot());
    if caught(|| handler(&mut call, request, reply)).is_err() {
        desk.note(EventKind::Panicked("", ""));
    }
    desk.mailbox.defer(caller, None);
    desk.send_posts(lane, caller);
}

/// Says that a call has come too late.
#[cold]
fn passed_already() -> Fault {
    Fault::new(Fault::DEADLINE_EXCEEDED, "the deadline has passed already")
}

/// Says that a call cannot be deferred.
pub(super) fn too_many_deferred() -> Fault {
    Fault::new(Fault::BUSY, "too many calls wait for their answers")
}
