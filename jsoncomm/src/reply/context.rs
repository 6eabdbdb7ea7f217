//! What a reply needs of its call: where it goes, how it is encoded, and whether it is still wanted.

use std::sync::Arc;
use std::time::Instant;

use crate::accounts::Account;
use crate::envelope::Id;
use crate::error::{EncodeError, Fault, SendError};
use crate::fds::FDS_MAX;
use crate::json::check_size;
use crate::limits::Bounds;
use crate::message::Packer;
use crate::queue::{self, DeferredId, PendingReplies, PostedReply, QueuedReply, ReplyRoute};
use crate::transport::INLINE_SURE;

/// Bytes to allocate for a reply. Most fit.
const TYPICAL_SIZE: usize = 256;

/// Encodes a reply and checks it against the limits, so that sending it later cannot fail for them.
pub(crate) fn encode_within<'m>(
    text: &mut Vec<u8>,
    fds: &Packer<'m>,
    bounds: Bounds,
    write: impl FnOnce(&mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    write(text, fds)?;
    check_size(text, bounds.message)?;
    let (size, count) = (text.len(), fds.len());
    // A large text may need a memfd, which is one descriptor more. Only the socket knows from which size.
    let limit = FDS_MAX - usize::from(size > INLINE_SURE);
    if count > limit {
        return Err(EncodeError::FdCount { count, limit });
    }
    Ok(())
}

/// The fault for a reply that cannot be encoded.
pub(crate) fn encode_fault(error: &EncodeError) -> Fault {
    let code = match error {
        EncodeError::Json { .. }
        | EncodeError::NotFinite { .. }
        | EncodeError::Descriptor { .. } => Fault::INTERNAL_ERROR,
        EncodeError::TooLarge { .. }
        | EncodeError::TooDeep { .. }
        | EncodeError::FdCount { .. } => Fault::REPLY_TOO_LARGE,
    };
    Fault::new(code, format!("the reply: {error}"))
}

/// The fault for a call whose [`Reply`](crate::Reply) was dropped.
pub(crate) fn no_reply() -> Fault {
    if std::thread::panicking() {
        Fault::new(Fault::INTERNAL_ERROR, "the handler panicked")
    } else {
        Fault::new(
            Fault::NO_REPLY,
            "the handler dropped the call without a reply",
        )
    }
}

/// The fault for a reply that cannot be queued.
pub(super) fn send_fault(error: &SendError) -> Fault {
    match error {
        SendError::Encode(error) => encode_fault(error),
        SendError::Full | SendError::Closed | SendError::NoDescriptors => {
            Fault::new(Fault::BUSY, "the server has no descriptors left")
        }
    }
}

/// How a reply is encoded.
#[derive(Debug)]
pub(crate) enum ReplyFormat {
    /// A message without an envelope.
    Bare,
    /// A Response object with this id.
    Call(Id<'static>),
    /// Not at all: the call is one-way.
    Oneway,
}

/// The call that a reply belongs to.
#[derive(Debug)]
pub(crate) struct ReplyContext {
    pub(crate) pending: Arc<PendingReplies>,
    pub(crate) route: ReplyRoute,
    /// The account charged while the reply waits.
    pub(crate) account: Arc<Account>,
    pub(crate) format: ReplyFormat,
    pub(crate) id: DeferredId,
    pub(crate) deadline: Option<Instant>,
}

impl ReplyContext {
    /// Returns true if the caller waits for a reply.
    pub(super) fn is_wanted(&self) -> bool {
        let expected = !self.is_oneway() && !self.is_expired();
        expected && self.is_own_process() && self.pending.is_wanted(&self.route, self.id)
    }

    /// Returns true in the process that has to reply, false in a forked child of it.
    pub(super) fn is_own_process(&self) -> bool {
        self.pending.is_own_process()
    }

    fn is_oneway(&self) -> bool {
        matches!(self.format, ReplyFormat::Oneway)
    }

    fn is_expired(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Sets the callback for the end of the call without a reply. Runs it at once if the call has ended.
    pub(super) fn on_cancel(&self, callback: Box<dyn FnOnce() + Send>) {
        if self.is_own_process() {
            self.pending.on_cancel(&self.route, self.id, callback);
        } else {
            queue::run_callback(callback);
        }
    }

    /// Encodes a reply.
    pub(super) fn encode<'m>(
        &self,
        write: impl FnOnce(&mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError>,
    ) -> Result<QueuedReply, SendError> {
        let bounds = self.pending.bounds;
        let mut text = Vec::with_capacity(TYPICAL_SIZE);
        let fds = Packer::at_depth(bounds.depth);
        encode_within(&mut text, &fds, bounds, write).map_err(SendError::Encode)?;
        QueuedReply::new(text, &fds.into_row()).ok_or(SendError::NoDescriptors)
    }

    /// Posts a reply without ending the call.
    pub(super) fn post(&self, reply: QueuedReply) {
        if self.is_own_process() {
            let post = PostedReply::new(&self.route, &self.account, reply);
            self.pending.post(post);
        }
    }

    /// Ends the call, and posts its reply if there is one and it is wanted. Returns whether a reply is wanted, and
    /// counts one that is not.
    pub(super) fn complete(&self, reply: Option<QueuedReply>) -> bool {
        if !self.is_own_process() {
            return false;
        }
        let expired = self.is_expired();
        let expected = !expired && !self.is_oneway();
        let reply = reply.filter(|_| expected);
        let reply = reply.map(|reply| (&self.account, reply));
        let wanted = self.pending.complete(&self.route, self.id, reply);
        if wanted && expired {
            self.pending.count_losses(|losses| losses.expired += 1);
        }
        wanted && expected
    }

    /// Ends the call with a fault. Where none can be sent, the reply counts as discarded.
    pub(super) fn post_fault(&self, fault: &Fault) {
        let reply = match &self.format {
            ReplyFormat::Call(id) => Some(QueuedReply::fault(Some(id), fault)),
            ReplyFormat::Bare | ReplyFormat::Oneway => None,
        };
        let can_send = reply.is_some();
        if self.complete(reply) && !can_send {
            self.pending.count_losses(|losses| losses.discarded += 1);
        }
    }
}
