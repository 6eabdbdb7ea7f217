//! What is needed to handle one received message. The server makes it; the router and the handler's wrapper use it.

use std::sync::Arc;

use crate::accounts::Accounts;
use crate::envelope::{self, Envelope, Id, MessageKind};
use crate::error::{EncodeError, Fault};
use crate::fds::Fds;
use crate::limits::Limits;
use crate::message::Packer;
use crate::observe::{Counts, DisconnectReason, EventKind, Observer, UndeliveredReason};
use crate::peer::Peer;
use crate::queue::{Caller, OutgoingReply, ParkedCall, PendingReplies, PostedReply};
use crate::reply::{encode_fault, encode_within};
use crate::sys::control::Credentials;

/// Where replies to the current message are sent.
pub(crate) trait ReplySink {
    /// Sends a reply, queues it if there is no room now, or drops and counts it. It may send a fault in its place, or
    /// disconnect the peer.
    fn deliver(&mut self, context: &mut ServerContext, reply: OutgoingReply<'_>);

    /// Sends a text without descriptors if that is possible now. Otherwise returns false and leaves nothing behind.
    fn send_now(&mut self, context: &mut ServerContext, text: &[u8]) -> bool;

    /// Returns true if the peer may be read from (backpressure).
    fn is_clear(&self) -> bool;

    /// Drops the reply to a cancelled call if it is held back until descriptors are read, and returns true. A reply that
    /// waits for room stays.
    fn withdraw(&mut self, id: &Id<'_>) -> bool;

    /// Counts a message that was no call. Returns true if the peer has sent too many.
    fn count_malformed(&mut self, limits: &Limits) -> bool;

    /// Disconnects the peer, if it has a connection.
    fn disconnect(&mut self, context: &mut ServerContext, reason: DisconnectReason);
}

/// What every dispatch of a server shares: limits, accounting, counters and buffers.
pub(crate) struct ServerContext {
    pub(crate) limits: Limits,
    pub(crate) counts: Counts,
    pub(crate) pending: Arc<PendingReplies>,
    pub(crate) accounts: Accounts,
    pub(crate) observer: Option<Observer>,
    /// The server is shutting down: calls are refused.
    pub(crate) stopping: bool,
    /// For how long the present call's handler has run, in nanoseconds. `None` if handlers are not timed.
    pub(crate) handler_time: Option<u64>,
    /// A buffer to encode replies into.
    reply_buffer: Vec<u8>,
    /// A buffer to gather the replies of a batch in.
    pub(crate) array_buffer: Vec<u8>,
    /// A buffer for posted replies while they are delivered. Posted: sent by a handler, a stream or another thread, and
    /// collected by the loop.
    pub(crate) posts: Vec<PostedReply>,
}

impl ServerContext {
    pub(crate) fn new(limits: Limits, pending: Arc<PendingReplies>) -> Self {
        let accounts = Accounts::new(&limits);
        // Weak, so that a descriptor that is still being closed does not keep the server's state alive.
        let weak = Arc::downgrade(&pending);
        accounts.resumed.set_wake(move || {
            if let Some(pending) = weak.upgrade() {
                pending.signal();
            }
        });
        Self {
            accounts,
            limits,
            counts: Counts::default(),
            pending,
            observer: None,
            stopping: false,
            handler_time: None,
            reply_buffer: Vec::new(),
            array_buffer: Vec::new(),
            posts: Vec::new(),
        }
    }

    /// Returns true in the process that made the server, false in a forked child.
    #[inline]
    pub(crate) fn is_own_process(&self) -> bool {
        self.pending.is_own_process()
    }

    /// Counts and reports an event about a peer.
    pub(crate) fn note(&mut self, peer: Option<Credentials>, event: EventKind) {
        self.note_many(peer, event, 1);
    }

    /// Counts and reports undelivered replies to a peer.
    pub(crate) fn note_lost(
        &mut self,
        peer: Option<Credentials>,
        reason: UndeliveredReason,
        replies: usize,
    ) {
        self.note_many(peer, EventKind::Undelivered(reason), replies as u64);
    }

    /// Counts and reports replies that were lost outside a dispatch, where the peer is not known.
    pub(crate) fn note_losses(&mut self) {
        let losses = self.pending.take_losses();
        let discarded = EventKind::Undelivered(UndeliveredReason::Discarded);
        self.note_many(None, discarded, losses.discarded);
        self.note_many(None, EventKind::Expired, losses.expired);
        self.note_many(None, EventKind::Unwanted, losses.unwanted);
    }

    fn note_many(&mut self, peer: Option<Credentials>, event: EventKind, count: u64) {
        if count > 0 {
            self.counts.add(event, count);
            if let Some(observer) = &mut self.observer {
                observer(event, peer, count);
            }
        }
    }
}

/// One message being dispatched: who sent it, what it holds, and where its reply goes.
pub(crate) struct Dispatch<'d> {
    pub(crate) context: &'d mut ServerContext,
    pub(crate) sink: &'d mut (dyn ReplySink + 'd),
    pub(crate) caller: &'d Caller<'d>,
    pub(crate) text: &'d [u8],
    pub(crate) fds: Fds,
    /// Messages have no envelope at this endpoint, so that there is no way to send a fault.
    pub(crate) bare: bool,
    /// Set for a call that was parked and has been allowed.
    pub(crate) parked: Option<&'d ParkedCall>,
}

/// Writes a reply, and borrows its descriptors for `'m`.
type Write<'w, 'm> = dyn FnMut(&mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError> + 'w;

/// The codes of faults of a message that is no call at all.
const MALFORMED: [i64; 2] = [Fault::PARSE_ERROR, Fault::INVALID_REQUEST];

impl Dispatch<'_> {
    /// Counts and reports an event about the caller.
    pub(crate) fn note(&mut self, event: EventKind) {
        self.context
            .note(self.caller.peer.map(Peer::credentials), event);
    }

    /// Refuses the message with `fault`; `envelope` is what has been read of it. A caller whose id can be found is told,
    /// one whose message cannot be read is told with `"id":null`.
    ///
    /// Nothing is sent in three cases:
    ///
    /// - At a bare endpoint, where no fault can be written.
    /// - To a notification, whose caller expects nothing.
    /// - To what looks like a response, or two servers would exchange faults for ever.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(&mut self, envelope: Option<&Envelope<'_>>, fault: &Fault) {
        let is_malformed = MALFORMED.contains(&fault.code);
        let id = envelope.and_then(Envelope::id);
        let kind = || match (id, envelope::kind_of(self.text)) {
            (Some(id), _) => MessageKind::Call(id.clone().into_owned()),
            // The id may be after the member that is wrong.
            (None, kind @ MessageKind::Call(_)) => kind,
            (None, _) if envelope.is_some() => MessageKind::Notification,
            (None, kind) => kind,
        };
        let kind = (!self.bare).then(kind);
        match kind {
            None => self.note(EventKind::Refused(fault.code)),
            Some(MessageKind::Response) => return self.note(EventKind::Ignored),
            Some(MessageKind::Call(id)) => self.send_fault(Some(&id), fault),
            // A message that is malformed is no notification, even without an id: JSON-RPC has a fault for it.
            Some(MessageKind::Notification) if !is_malformed => {
                self.note(EventKind::Refused(fault.code));
            }
            Some(MessageKind::Notification | MessageKind::Unknown) => self.send_fault(None, fault),
        }
        if is_malformed && self.sink.count_malformed(&self.context.limits) {
            self.sink
                .disconnect(self.context, DisconnectReason::Malformed);
        }
    }

    /// Sends a fault as the reply to the call with this id, and counts the refusal.
    pub(crate) fn send_fault(&mut self, id: Option<&Id<'_>>, fault: &Fault) {
        self.note(EventKind::Refused(fault.code));
        // A fault is a few hundred bytes. It is dropped where `Limits::message` is less than that.
        let _ = self.encode_and_send(&mut |text, _| {
            envelope::write_fault(text, id, fault);
            Ok(())
        });
    }

    /// Encodes a reply with `write` and sends it. If it cannot be encoded, sends a fault that says so.
    pub(crate) fn send<'m>(&mut self, id: &Id<'_>, write: &mut Write<'_, 'm>) {
        if let Err(error) = self.encode_and_send(write) {
            self.send_fault(Some(id), &encode_fault(&error));
        }
    }

    /// Encodes into the shared buffer and delivers. Sends nothing if `write` fails or a limit is exceeded.
    fn encode_and_send<'m>(&mut self, write: &mut Write<'_, 'm>) -> Result<(), EncodeError> {
        let mut text = std::mem::take(&mut self.context.reply_buffer);
        crate::transport::reset_buffer(&mut text);
        let bounds = self.context.pending.bounds;
        let fds = Packer::at_depth(bounds.depth);
        let result = encode_within(&mut text, &fds, bounds, write);
        if result.is_ok() {
            let fds = fds.into_row();
            let reply = OutgoingReply::Borrowed(&text, &fds);
            self.sink.deliver(self.context, reply);
        }
        self.context.reply_buffer = text;
        result
    }

    /// Sends what the handler has posted to its own caller, before the caller's next message is handled, so that replies
    /// keep their order and do not wait for the end of the turn. A stream that continues as its items are sent is
    /// limited to its share of the turn.
    pub(crate) fn send_posts(&mut self) {
        for _ in 0..self.context.limits.messages_per_turn.max(1) {
            if !self.context.pending.has_posts() {
                return;
            }
            let mut posts = std::mem::take(&mut self.context.posts);
            self.context.pending.collect_for(self.caller, &mut posts);
            let done = posts.is_empty();
            for PostedReply { reply, .. } in posts.drain(..) {
                let reply = OutgoingReply::Queued(reply);
                self.sink.deliver(self.context, reply);
            }
            self.context.posts = posts;
            if done {
                return;
            }
        }
    }
}
