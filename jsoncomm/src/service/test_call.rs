//! A call that no socket has brought, for tests of handlers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::call::{Call, Origin};
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

/// The id of every such call.
const ID: Id<'static> = Id::Number(1);

/// A call for the unit test of a handler that takes `&mut Call`: no socket, no server, no thread.
///
/// The handler is called directly, with [`call`](Self::call). What a method returns is what the test looks at; what
/// is answered later, by a [`Reply`](crate::Reply) or a [`StreamSender`](crate::stream::StreamSender), is read back as a client would read it,
/// descriptors included: those are duplicates. Nothing here waits.
///
/// The call has no name, no deadline and a caller of whom nothing is known, unless the test says otherwise.
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
/// assert!(test.reply::<u32, String>().is_none(), "it has not rung yet");
/// for reply in tower.waiting.drain(..) {
///     reply.send(1);
/// }
/// assert!(matches!(test.reply::<u32, String>(), Some(Ok(1))));
/// ```
#[derive(Debug)]
pub struct TestCall {
    call: Call,
    mailbox: Arc<PendingReplies>,
    /// The handler has returned, as far as its reply is concerned.
    handled: bool,
    /// Replies that have not been read.
    posts: VecDeque<PostedReply>,
}

impl Default for TestCall {
    fn default() -> Self {
        Self::new()
    }
}

impl TestCall {
    /// Makes a call.
    pub fn new() -> Self {
        let limits = Limits::default();
        let mailbox = Arc::new(PendingReplies::new(Arc::new(|| ()), &limits));
        let account = Accounts::new(&limits).of(None);
        let caller = Caller {
            key: 0,
            to: None,
            account: &account,
            peer: None,
        };
        let origin = Origin {
            mailbox: Arc::clone(&mailbox),
            to: ReplyFormat::Call(ID),
        };
        Self {
            call: Call::new(&caller, origin),
            mailbox,
            handled: false,
            posts: VecDeque::new(),
        }
    }

    /// Says which method is called, of which service.
    #[must_use]
    pub fn of(mut self, service: &'static str, method: &'static str) -> Self {
        (self.call.service, self.call.method) = (service, method);
        self
    }

    /// Says who calls: a process of this user and group. [`Call::peer`] is `None` without. With it that is what a rule of
    /// [`Endpoint::authorize`](crate::Endpoint::authorize) can be tested on.
    #[must_use]
    pub fn from_user(mut self, uid: u32, gid: u32) -> Self {
        self.call.peer = Peer::of_program(uid, gid);
        self
    }

    /// Says until when the caller waits.
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        self.call.deadline = Some(deadline);
        self
    }

    /// The call, for the handler. One handler is called with it, once.
    pub fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    /// Takes the next reply that has been given by a [`Reply`](crate::Reply) or a [`StreamSender`](crate::stream::StreamSender) so far, if there
    /// is one; never waits. A reply that was dropped unanswered is the fault [`Fault::NO_REPLY`](crate::Fault::NO_REPLY); each
    /// item of a stream is a reply, and so is its end, a `null`: ask for an `Option` of the item, and `Some(Ok(None))` is the
    /// end.
    ///
    /// # Errors
    ///
    /// The service's error, a fault, or that what was sent is not of these types.
    pub fn reply<T: Message, E: Message>(&mut self) -> Option<Result<T, CallError<E>>> {
        self.collect();
        let mut reply = self.posts.pop_front()?.reply;
        let text = std::mem::take(&mut reply.text);
        let fds = Fds::from(std::mem::take(&mut reply.fds));
        reply.finish(SendOutcome::Sent);
        Some(client::read_part(text, fds))
    }

    /// Cancels the call, as a caller does who has stopped waiting. Returns true if it was still to be answered.
    pub fn cancel(&mut self) -> bool {
        self.collect();
        self.mailbox.cancel(&self.call.ticket, &ID)
    }

    /// Ends the handler's part once, and takes what has been answered.
    fn collect(&mut self) {
        if !self.handled && self.call.serial.is_some() {
            let caller = Caller {
                key: self.call.ticket.key,
                to: None,
                account: &self.call.account,
                peer: self.call.peer(),
            };
            self.mailbox.defer(&caller, Some(&ID));
            self.handled = true;
        }
        let mut posts = Vec::new();
        self.mailbox.collect(&mut posts);
        self.posts.extend(posts);
    }
}
