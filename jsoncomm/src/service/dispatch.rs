//! What dispatching a message takes.

use std::fmt;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::envelope::{self, Id};
use crate::error::{EncodeError, Fault};
use crate::limits::Limits;
use crate::message::Packer;
use crate::observe::{Counts, EventKind, Observer, UndeliveredReason};
use crate::queue::{Caller, Losses, OutgoingReply, PendingReplies, PostedReply};
use crate::reply::encode_within;
use crate::sys::control::Credentials;

/// The way back to one peer, while its message is handled.
pub(crate) trait ReplySink {
    /// Sends an answer, or queues it if there is no room now, or drops and counts it.
    fn deliver(&mut self, desk: &mut ServerContext, mail: OutgoingReply<'_>);

    /// Drops the answer to a call that its caller has given up, if it waits for others to be read. Returns false if
    /// there is none.
    fn withdraw(&mut self, id: &Id<'_>) -> bool;
}

/// What answering takes besides a lane; one per server.
pub(crate) struct ServerContext {
    pub(crate) limits: Limits,
    pub(crate) counts: Counts,
    pub(crate) mailbox: Arc<PendingReplies>,
    pub(crate) accounts: Accounts,
    pub(crate) observer: Observer,
    /// Whose message or answer is being dealt with. It outlasts both, so it holds nothing.
    pub(crate) peer: Option<Credentials>,
    /// No more calls are taken.
    pub(crate) stopping: bool,
    /// A message was no call at all, since it was last asked for.
    malformed: bool,
    /// The buffer answers are written into.
    text: Vec<u8>,
    /// Room for answers that are being sent.
    posts: Vec<PostedReply>,
}

/// Prints nothing of the answers that are or were in its buffers.
impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("limits", &self.limits)
            .field("counts", &self.counts)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

impl ServerContext {
    pub(crate) fn new(limits: Limits, mailbox: Arc<PendingReplies>) -> Self {
        let observer = Observer::new(limits.event_pause);
        let accounts = Accounts::new(&limits);
        // What is still being closed must not keep what has gone.
        let news = Arc::downgrade(&mailbox);
        accounts.set_wake(move || {
            if let Some(mailbox) = news.upgrade() {
                mailbox.signal();
            }
        });
        Self {
            accounts,
            limits,
            counts: Counts::default(),
            mailbox,
            observer,
            peer: None,
            stopping: false,
            malformed: false,
            text: Vec::new(),
            posts: Vec::new(),
        }
    }

    /// Returns true in the process that the server was made in, false in a forked child of it.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.mailbox.is_here()
    }

    /// Counts and reports something about the present peer.
    pub(crate) fn note(&mut self, notice: EventKind) {
        self.note_many(notice, 1);
    }

    /// Counts and reports answers that came to nothing.
    pub(crate) fn note_lost(&mut self, loss: UndeliveredReason, answers: usize) {
        self.note_many(EventKind::Undelivered(loss), answers as u64);
    }

    /// Counts and reports what became of replies that nobody was there for.
    pub(crate) fn note_losses(&mut self, losses: Losses) {
        self.peer = None;
        self.note_many(
            EventKind::Undelivered(UndeliveredReason::Discarded),
            losses.discarded,
        );
        self.note_many(EventKind::Expired, losses.expired);
        self.note_many(EventKind::Unwanted, losses.unwanted);
    }

    fn note_many(&mut self, notice: EventKind, count: u64) {
        if count > 0 {
            self.counts.add(notice, count);
            self.observer.report(notice, self.peer, count);
        }
    }

    /// Counts a message that is refused.
    pub(crate) fn note_refusal(&mut self, code: i64) {
        self.note(EventKind::Refused(code));
        self.malformed |= MALFORMED.contains(&code);
    }

    /// Says whether a message was no call at all, and forgets it.
    pub(crate) fn take_malformed(&mut self) -> bool {
        std::mem::take(&mut self.malformed)
    }

    /// Writes a fault and sends it.
    pub(crate) fn refuse(&mut self, lane: &mut dyn ReplySink, id: Option<&Id<'_>>, fault: &Fault) {
        self.note_refusal(fault.code);
        self.send(lane, |text, _| {
            envelope::write_fault(text, id, fault);
            Ok(())
        });
    }

    /// Sends what a handler has just answered to its own caller, before the caller's next message is
    /// handled: nobody overtakes it, and it does not wait for the end of the turn. A stream may go on as it is
    /// sent; it gets its share.
    pub(super) fn send_posts(&mut self, lane: &mut dyn ReplySink, caller: &Caller<'_>) {
        for _ in 0..self.limits.messages_per_turn.max(1) {
            if !self.mailbox.has_posts() {
                return;
            }
            let mut posts = std::mem::take(&mut self.posts);
            self.mailbox.collect_for(caller, &mut posts);
            let done = posts.is_empty();
            for post in posts.drain(..) {
                lane.deliver(self, OutgoingReply::Queued(post.reply));
            }
            self.posts = posts;
            if done {
                return;
            }
        }
    }

    /// Writes an answer into the buffer and sends it. What cannot be written sends nothing.
    pub(super) fn send<'m>(
        &mut self,
        lane: &mut dyn ReplySink,
        write: impl FnOnce(&mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError>,
    ) -> Option<EncodeError> {
        let mut text = std::mem::take(&mut self.text);
        crate::transport::reset_buffer(&mut text);
        let bounds = self.mailbox.bounds();
        let fds = Packer::at_depth(bounds.depth);
        let trouble = encode_within(&mut text, &fds, bounds, write).err();
        if trouble.is_none() {
            lane.deliver(self, OutgoingReply::Borrowed(&text, &fds.into_row()));
        }
        self.text = text;
        trouble
    }
}

impl fmt::Debug for dyn ReplySink + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}

/// The faults of a message that is no call at all.
pub(super) const MALFORMED: [i64; 2] = [Fault::PARSE_ERROR, Fault::INVALID_REQUEST];
