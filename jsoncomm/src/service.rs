//! What handlers and generated code use: services, calls, the values that methods return.
//!
//! A call passes through here once: its arguments are decoded strictly, the handler runs, and what it returns is encoded as
//! the reply, which goes to a [`ReplySink`].

mod access;
mod call;
mod dispatch;
mod incoming;
mod method_return;
mod session;
mod test_call;

use crate::describe::Describe;
use crate::message::Request;
use crate::reply::Reply;

pub use access::{Access, UnreadCall, Verdict};
pub(crate) use access::{CallRule, CallRules, no_rules, not_authorized, split};
pub use call::Call;
pub(crate) use dispatch::{Dispatch, ReplySink, ServerContext};
pub use incoming::Incoming;
pub(crate) use incoming::{deadline_exceeded, handle_bare, shutting_down};
pub use method_return::{MethodReturn, Returned};
pub use session::Session;
pub(crate) use session::{drive, open};
pub use test_call::TestCall;

/// A service that the state `S` provides.
///
/// [`#[service]`](macro@crate::service) implements it for `dyn Trait`. It is not meant to be implemented by hand.
///
/// # Examples
///
#[doc = include_str!("../doc/service.md")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service of `{S}`",
    note = "put `#[jsoncomm::service(name = \"...\")]` on the trait and implement the trait for the state",
    note = "an enum of requests is registered with `handle::<Enum>()`"
)]
pub trait Service<S: ?Sized>: Describe {
    /// The service's name: the prefix of its methods' names on the wire.
    const NAME: &'static str;
    /// The methods' names, without the service's.
    const METHODS: &'static [&'static str];
    /// Each method's number and its names, first the one in `METHODS`, then older ones. Empty if there are no older ones,
    /// and a method's number is its place in `METHODS`.
    #[doc(hidden)]
    const NUMBERS: &'static [(usize, &'static [&'static str])] = &[];

    /// Handles a call of method number `method`.
    #[doc(hidden)]
    fn call(state: &mut S, method: usize, incoming: Incoming<'_, '_>);
}

/// A handler of the requests of one enum, implemented by a server's state.
///
/// [`Endpoint::handle`](crate::Endpoint::handle) serves them in envelopes, [`Endpoint::bare`](crate::Endpoint::bare) without.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Call, Handler, Message, Reply};
///
/// #[derive(Debug, Message)]
/// #[message(service = "example.jobs", reply = Tell)]
/// enum Ask { Run { program: String }, Wait { job: u32 } }
///
/// #[derive(Debug, Message)]
/// enum Tell { Started { job: u32 }, Exited { code: i32 } }
///
/// struct Jobs { last: u32 }
///
/// impl Handler<Ask> for Jobs {
///     fn handle(&mut self, _call: &mut Call, ask: Ask, reply: Reply<Tell>) {
///         match ask {
///             Ask::Run { .. } => {
///                 self.last += 1;
///                 reply.send(Tell::Started { job: self.last });
///             }
///             Ask::Wait { .. } => reply.send(Tell::Exited { code: 0 }),
///         }
///     }
/// }
/// ```
pub trait Handler<R: Request> {
    /// Handles one request. `reply` may be sent here, or kept and sent later from any thread; dropping it sends the fault
    /// [`Fault::NO_REPLY`](crate::Fault::NO_REPLY).
    fn handle(&mut self, call: &mut Call, request: R, reply: Reply<R::Reply, R::Error>);
}
