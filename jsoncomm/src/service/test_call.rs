//! Calls without a socket, for unit tests of handlers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::call::Call;
use crate::accounts::Accounts;
use crate::client;
use crate::envelope::Id;
use crate::error::CallError;
use crate::fds::Fds;
use crate::limits::Limits;
use crate::message::Message;
use crate::peer::Peer;
use crate::queue::{Caller, PendingReplies, PostedReply, SendOutcome};
use crate::reply::ReplyFormat;
use crate::trace::TraceParent;

/// The id of every such call.
const ID: Id<'static> = Id::Number(1);

/// A call for the unit test of a handler that takes `&mut Call`, without a socket, a server or a thread.
///
/// The test calls the handler with [`call`](Self::call) and checks what it returns. A deferred reply or the items of a stream are
/// read with [`reply`](Self::reply), decoded as a client decodes them; their descriptors are duplicates. Nothing waits.
///
/// The call has no name, no deadline, no trace and an unknown peer, unless the test sets them.
///
/// # Examples
///
/// ```
/// use jsoncomm::server::TestCall;
/// use jsoncomm::{Call, Deferred, Reply};
///
/// #[jsoncomm::service(name = "example.bell")]
/// trait Bell {
///     fn rings(&mut self, call: &mut Call) -> Deferred<u32, String>;
/// }
///
/// #[derive(Default)]
/// struct Tower { waiting: Vec<Reply<u32, String>> }
///
/// impl Bell for Tower {
///     fn rings(&mut self, call: &mut Call) -> Deferred<u32, String> {
///         call.defer(|reply| self.waiting.push(reply))
///     }
/// }
///
/// let (mut tower, mut test) = (Tower::default(), TestCall::new());
/// let _ = tower.rings(test.call());
/// assert!(test.reply::<u32, String>().is_none(), "the bell has not rung yet");
/// for reply in tower.waiting.drain(..) {
///     reply.send(1);
/// }
/// assert!(matches!(test.reply::<u32, String>(), Some(Ok(1))));
/// ```
#[derive(Debug)]
pub struct TestCall {
    call: Call,
    /// Replies that have not been read.
    posts: VecDeque<PostedReply>,
}

impl Default for TestCall {
    fn default() -> Self {
        Self::new()
    }
}

impl TestCall {
    /// Creates a call.
    pub fn new() -> Self {
        let limits = Limits::default();
        let pending = Arc::new(PendingReplies::new(Arc::new(|| ()), &limits));
        let account = Accounts::new(&limits).of(None);
        let caller = Caller {
            key: 0,
            to: None,
            account: &account,
            peer: None,
            tag: None,
        };
        Self {
            call: Call::new(&caller, &pending, ReplyFormat::Call(ID)),
            posts: VecDeque::new(),
        }
    }

    /// Sets the service and the method.
    #[must_use = "returns the changed call"]
    pub fn of(mut self, service: &'static str, method: &'static str) -> Self {
        (self.call.service, self.call.method) = (service, method);
        self
    }

    /// Sets the caller's user and group, which [`Call::peer`] returns. That peer can also be passed to a rule of
    /// [`Endpoint::authorize`](crate::Endpoint::authorize).
    #[must_use = "returns the changed call"]
    pub fn from_user(mut self, uid: u32, gid: u32) -> Self {
        self.call.peer = Peer::of_program(uid, gid);
        self
    }

    /// Sets the tag of the session that the call came on, which [`Call::tag`] returns.
    #[must_use = "returns the changed call"]
    pub fn on_session(mut self, tag: u64) -> Self {
        self.call.tag = Some(tag);
        self
    }

    /// Sets the trace that the call belongs to, which [`Call::trace_parent`] returns.
    #[must_use = "returns the changed call"]
    pub fn in_trace(mut self, trace: TraceParent) -> Self {
        self.call.trace = Some(trace);
        self
    }

    /// Sets until when the caller waits.
    #[must_use = "returns the changed call"]
    pub fn until(mut self, deadline: Instant) -> Self {
        self.call.deadline = Some(deadline);
        self
    }

    /// Returns the call to pass to a handler. It is good for one call of one handler.
    pub fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    /// Returns the next reply that a [`Reply`](crate::Reply) or a [`StreamSender`](crate::stream::StreamSender) has sent, or `None`
    /// if there is none yet.
    ///
    /// A reply that was dropped is the fault [`Fault::NO_REPLY`](crate::Fault::NO_REPLY). Each item of a stream is a reply, and its
    /// end is a `null`: with an `Option` of the item as `T`, the end is `Some(Ok(None))`.
    ///
    /// # Errors
    ///
    /// The service's error, a fault, or that the reply is not of these types.
    pub fn reply<T: Message, E: Message>(&mut self) -> Option<Result<T, CallError<E>>> {
        self.collect();
        let mut reply = self.posts.pop_front()?.reply;
        let text = std::mem::take(&mut reply.text);
        let mut fds = Fds::from(std::mem::take(&mut reply.fds));
        fds.allow_foreign_endpoints();
        reply.finish(SendOutcome::Sent);
        Some(client::read_part(text, fds))
    }

    /// Cancels the call, as a caller does that stops waiting. Returns true if it had no reply yet.
    pub fn cancel(&mut self) -> bool {
        self.collect();
        self.call.pending.cancel(&self.call.route, &ID)
    }

    /// Defers the call, once, and collects what has been sent.
    fn collect(&mut self) {
        // Does nothing before the reply has been taken, nor a second time.
        self.call.pending.defer(&self.call.caller(), Some(&ID));
        let mut posts = Vec::new();
        self.call.pending.collect(&mut posts);
        self.posts.extend(posts);
    }
}
