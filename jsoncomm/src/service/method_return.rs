//! What methods return, and how it becomes a reply on the server and a call in the stub.

use std::convert::Infallible;
use std::fmt;

use super::incoming::too_many_deferred;
use super::{Call, Incoming};
use crate::client::{CallMode, Items, Stub};
use crate::describe::ReplyKind;
use crate::envelope;
use crate::error::CallError;
use crate::message::{Members, Message, Pack};
use crate::reply::{Deferred, Stream, no_reply};

/// What a method of a service may return.
///
/// Which of them it is is decided by the type, not by how it is spelt.
///
/// | returns | replies with |
/// |---|---|
/// | a [`Message`] | that message |
/// | `Result` of a [`Message`] and an error that is a [`Message`] and implements `Display` | the value or the error |
/// | [`Deferred`] | what its [`Reply`](crate::Reply) is given, now or later |
/// | [`Stream`] | the items that its [`StreamSender`](crate::stream::StreamSender) is given |
///
/// The trait is sealed.
///
/// # Examples
///
#[doc = include_str!("../../doc/method_return.md")]
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a method of a service cannot return `{Self}`",
    label = "neither a message nor a `Result` of messages",
    note = "return a `Message`, or a `Result` of a `Message` and an error that derives `Message` and implements `Display`",
    note = "a type that only serde knows is returned as `jsoncomm::message::Json`"
)]
pub trait MethodReturn {
    /// The value that the caller receives.
    type Value: Message;
    /// The service's own error.
    type Error: Message;

    /// What the stub's method returns.
    type Stub<M: CallMode>;

    /// The reply has many parts.
    const STREAM: bool = false;

    /// What a description says about the reply besides its types.
    const KIND: ReplyKind = ReplyKind {
        stream: Self::STREAM,
        codes: Self::Error::CODES,
    };

    /// The value only shows that a [`Reply`](crate::Reply) or a [`StreamSender`](crate::stream::StreamSender) was taken,
    /// which sends the reply.
    const DEFERRED: bool = false;

    /// Sends the value as the reply to a call. Does not drop it, as that runs the program's code.
    fn reply(&self, incoming: &mut Incoming<'_, '_>, _: Sealed);

    /// Starts or makes a call to a method that returns this.
    fn call<M: CallMode>(
        stub: &Stub<M>,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Stub<M>;

    /// Decodes the arguments, runs a handler that does not take a [`Call`], and sends what it returns.
    fn answer<'t, A: Members<'t>>(
        incoming: Incoming<'_, 't>,
        handler: impl FnOnce(A::Value) -> Self,
    ) where
        Self: Sized,
    {
        let mut handler = Some(handler);
        incoming.answer(&mut |incoming, _| {
            let arguments = incoming.arguments::<A>()?;
            let deadline = incoming.deadline();
            if let Some(handler) = handler.take() {
                let returned = incoming.run(|| handler(arguments));
                incoming.send(&returned, deadline);
            }
            Ok(())
        });
    }

    /// Decodes the arguments, runs a handler that takes a [`Call`] and may defer its reply, and sends what it returns.
    fn answer_call<'t, A: Members<'t>>(
        incoming: Incoming<'_, 't>,
        handler: impl FnOnce(&mut Call, A::Value) -> Self,
    ) where
        Self: Sized,
    {
        let mut handler = Some(handler);
        incoming.answer(&mut |incoming, call| {
            let arguments = incoming.arguments::<A>()?;
            let call = call.insert(incoming.call());
            let Some(handler) = handler.take() else {
                return Ok(());
            };
            let returned = incoming.run(|| handler(call, arguments));
            // A deferred reply is sent by its owner, who checks the deadline. If the method took the reply and returned a
            // value all the same, the value is sent, unless the reply has been.
            let pending = &incoming.dispatch.context.pending;
            if !call.is_taken() || (!Self::DEFERRED && pending.abandon()) {
                incoming.send(&returned, call.deadline);
            }
            Ok(())
        });
    }
}

/// Seals [`MethodReturn`]: it cannot be named outside of this crate. It is an argument and not a supertrait, because a
/// type that cannot be returned would be reported for each of two traits.
#[derive(Debug)]
pub struct Sealed;

/// Implements [`MethodReturn`] for what is sent as one reply.
macro_rules! one_reply {
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

/// A message that a method returns. It exists for its diagnostic, which is that of [`MethodReturn`].
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
    one_reply!(T, Infallible);

    fn reply(&self, incoming: &mut Incoming<'_, '_>, _: Sealed) {
        incoming.reply(|text, id, fds| envelope::write_result(text, id, self, fds));
    }
}

impl<T: Message, E: Message + fmt::Display> MethodReturn for Result<T, E> {
    one_reply!(T, E);

    fn reply(&self, incoming: &mut Incoming<'_, '_>, _: Sealed) {
        match self {
            Ok(value) => value.reply(incoming, Sealed),
            Err(error) => {
                incoming.reply(|text, id, fds| envelope::write_error(text, id, error, fds));
            }
        }
    }
}

impl<T: Message, E: Message + fmt::Display> MethodReturn for Deferred<T, E> {
    one_reply!(T, E);
    const DEFERRED: bool = true;

    fn reply(&self, incoming: &mut Incoming<'_, '_>, _: Sealed) {
        // There was no room for another deferred call, or the method returned the value of another call.
        let fault = if self.refused {
            too_many_deferred()
        } else {
            no_reply()
        };
        if let Some(id) = incoming.envelope.id() {
            incoming.dispatch.send_fault(Some(id), &fault);
        }
    }
}

impl<T: Message, E: Message + fmt::Display> MethodReturn for Stream<T, E> {
    type Value = T;
    type Error = E;
    type Stub<M: CallMode> = Result<Items<T, E>, CallError<E>>;
    const STREAM: bool = true;
    const DEFERRED: bool = true;

    fn call<M: CallMode>(
        stub: &Stub<M>,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Stub<M> {
        stub.stream(method, params)
    }

    fn reply(&self, incoming: &mut Incoming<'_, '_>, _: Sealed) {
        self.0.reply(incoming, Sealed);
    }
}
