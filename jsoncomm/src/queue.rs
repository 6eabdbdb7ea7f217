//! Replies that wait: for room at their peer, or for the loop.

mod pending_replies;
mod queued_reply;
mod requests;
mod route;
mod send_queue;

pub(crate) use pending_replies::{
    Decision, DeferredId, ParkedCall, PendingReplies, PostedReply, run_callback,
};
pub(crate) use queued_reply::{OutgoingReply, QueuedReply, SendObserver, SendOutcome};
pub(crate) use requests::{Drive, NoSession, Opening, Request, SessionState};
pub(crate) use route::{Caller, ReplyRoute};
pub(crate) use send_queue::{Backlog, SendQueue, WaitsFor};
