//! Replies that wait: for room at their peer, or for the loop.

mod pending_replies;
mod queued_reply;
mod route;
mod send_queue;

pub(crate) use pending_replies::{DeferredId, Losses, PendingReplies, PostedReply, tell};
pub(crate) use queued_reply::{End, OutgoingReply, QueuedReply, Sender};
pub(crate) use route::{Caller, ReplyRoute};
pub(crate) use send_queue::{Backlog, Place, SendQueue};
