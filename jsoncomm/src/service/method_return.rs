//! What methods return, and how it becomes an answer or a call.

use std::convert::Infallible;
use std::fmt;

use super::incoming::too_many_deferred;
use super::{Call, Incoming, ReplySink, ServerContext};
use crate::client::{CallMode, Items, Stub};
use crate::describe::ReplyKind;
use crate::envelope::{self, Id};
use crate::error::{CallError, Fault};
use crate::message::{Members, Message, Pack};
use crate::reply::{Deferred, Stream, encode_fault, no_reply};

/// What a method may return, decided by the type and not by how it is spelt: a [`Message`], or a
/// `Result` whose error is a [`Message`] that can be displayed, [`Deferred`] one of these, or a [`Stream`] of them.
///
/// # Examples
///
#[doc = include_str!("../../doc/method_return.md")]
#[diagnostic::on_unimplemented(
    message = "a method of a service cannot return `{Self}`",
    label = "neither a message nor a `Result` of messages",
    note = "return a `Message`, or a `Result` of a `Message` and an error that derives `Message` and implements `Display`",
    note = "a type that only serde knows is returned as `jsoncomm::message::Json`"
)]
pub trait MethodReturn {
    /// What the caller gets when it went well.
    type Value: Message;
    /// The service's own error.
    type Error: Message;

    /// What the stub's method returns.
    type Stub<M: CallMode>;

    /// Whether it is answered in parts.
    #[doc(hidden)]
    const STREAM: bool = false;

    /// Whether it only says that a [`Reply`](crate::Reply) or [`StreamSender`](crate::stream::StreamSender) of the call has been taken, which
    /// answers.
    #[doc(hidden)]
    const LATER: bool = false;

    /// What a description says of the reply besides its types.
    #[doc(hidden)]
    const KIND: ReplyKind = ReplyKind::new(Self::STREAM, Self::Error::CODES);

    /// Writes it as the answer. Dropping it runs the program's code, and is left to who knows that it is answered.
    #[doc(hidden)]
    fn settle(&self, answer: Answer<'_>);

    /// Makes a call that is answered by it.
    #[doc(hidden)]
    fn call<M: CallMode>(
        stub: &Stub<M>,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Stub<M>;

    /// Answers a call by what the handler returns.
    #[doc(hidden)]
    fn answer<'t, A: Members<'t>>(
        incoming: Incoming<'_, 't>,
        handler: impl FnOnce(A::Value) -> Self,
    ) where
        Self: Sized,
    {
        incoming.answer::<A, Self>(handler);
    }

    /// Answers a call by what a handler returns that asks about its call.
    #[doc(hidden)]
    fn answer_call<'t, A: Members<'t>>(
        incoming: Incoming<'_, 't>,
        handler: impl FnOnce(&mut Call, A::Value) -> Self,
    ) where
        Self: Sized,
    {
        incoming.answer_call::<A, Self>(handler);
    }
}

/// Of outcomes that are one answer.
macro_rules! one_answer {
    ($value:ty, $error:ty) => {
        type Value = $value;
        type Error = $error;
        type Stub<M: CallMode> = M::Output<$value, $error>;

        fn call<M: CallMode>(
            stub: &Stub<M>,
            method: &str,
            params: &(impl Pack + ?Sized),
        ) -> Self::Stub<M> {
            M::call(stub, method, params)
        }
    };
}

/// A message that a method returns. Says of what is none what [`MethodReturn`] says.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a method of a service cannot return `{Self}`",
    label = "neither a message nor a `Result` of messages",
    note = "return a `Message`, or a `Result` of a `Message` and an error that derives `Message` and implements `Display`",
    note = "a type that only serde knows is returned as `jsoncomm::message::Json`"
)]
pub trait Returned: Message {}

#[diagnostic::do_not_recommend]
impl<T: Message> Returned for T {}

impl<T: Returned> MethodReturn for T {
    one_answer!(T, Infallible);

    fn settle(&self, answer: Answer<'_>) {
        answer.result(self);
    }
}

impl<T: Message, E: Message + fmt::Display> MethodReturn for Result<T, E> {
    one_answer!(T, E);

    fn settle(&self, answer: Answer<'_>) {
        match self {
            Ok(value) => answer.result(value),
            Err(error) => answer.error(error),
        }
    }
}

impl<T: Message, E: Message + fmt::Display> MethodReturn for Deferred<T, E> {
    const LATER: bool = true;
    one_answer!(T, E);

    fn settle(&self, answer: Answer<'_>) {
        answer.refuse(&not_taken(self.refused));
    }
}

impl<T: Message, E: Message + fmt::Display> MethodReturn for Stream<T, E> {
    type Value = T;
    type Error = E;
    type Stub<M: CallMode> = Result<Items<T, E>, CallError<E>>;
    const STREAM: bool = true;
    const LATER: bool = true;

    fn call<M: CallMode>(
        stub: &Stub<M>,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Stub<M> {
        stub.stream(method, params)
    }

    fn settle(&self, answer: Answer<'_>) {
        answer.refuse(&not_taken(self.refused));
    }
}

/// Says why nothing of the call has been taken that could answer: there was no room, or what the method returned is of
/// another call.
fn not_taken(refused: bool) -> Fault {
    match refused {
        true => too_many_deferred(),
        false => no_reply(),
    }
}

/// The answer to `rpc.discover`: JSON as it is. No method returns it.
#[derive(Debug)]
pub(super) struct Document<'d>(pub(super) &'d str);

impl MethodReturn for Document<'_> {
    one_answer!((), Infallible);

    fn settle(&self, answer: Answer<'_>) {
        let Answer { desk, lane, id } = answer;
        let trouble = desk.send(lane, |text, fds| {
            envelope::write_document(text, id, self.0, fds.depth())
        });
        if let Some(error) = trouble {
            desk.refuse(lane, Some(id), &encode_fault(&error));
        }
    }
}

/// One answer to be written, for the call that is being handled.
#[derive(Debug)]
#[doc(hidden)]
pub struct Answer<'r> {
    pub(super) desk: &'r mut ServerContext,
    pub(super) lane: &'r mut (dyn ReplySink + 'r),
    pub(super) id: &'r Id<'r>,
}

impl Answer<'_> {
    /// Answers with a value.
    pub(crate) fn result<M: Pack>(self, value: &M) {
        let Self { desk, lane, id } = self;
        let trouble = desk.send(lane, |text, fds| {
            envelope::write_result(text, id, value, fds)
        });
        if let Some(error) = trouble {
            desk.refuse(lane, Some(id), &encode_fault(&error));
        }
    }

    /// Answers with a fault.
    fn refuse(self, fault: &Fault) {
        let Self { desk, lane, id } = self;
        desk.refuse(lane, Some(id), fault);
    }

    /// Answers with the service's own error.
    pub(crate) fn error<E: Pack + fmt::Display>(self, error: &E) {
        let Self { desk, lane, id } = self;
        let trouble = desk.send(lane, |text, fds| {
            envelope::write_error(text, id, error, fds)
        });
        if let Some(error) = trouble {
            desk.refuse(lane, Some(id), &encode_fault(&error));
        }
    }
}
