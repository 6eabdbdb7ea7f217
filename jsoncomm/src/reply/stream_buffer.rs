//! The items of a stream that wait for a slow reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::context::{ReplyContext, ReplyFormat};
use super::stream::Overflow;
use crate::envelope::{self, Id};
use crate::error::{Fault, SendError};
use crate::message::Pack;
use crate::queue::{QueuedReply, SendObserver, SendOutcome, run_callback};
use crate::sys::lock;

/// A callback that runs once.
pub(super) type Callback = Box<dyn FnOnce() + Send>;

/// The items between a sender and the loop.
///
/// One item at a time is posted to the loop. The others wait here, so a slow reader costs the server no more than the
/// bounds of this buffer.
pub(super) struct StreamBuffer {
    pub(super) context: ReplyContext,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    waiting: VecDeque<QueuedReply>,
    bytes: usize,
    pub(super) capacity: usize,
    pub(super) overflow: Overflow,
    /// An item has been posted and not been sent yet.
    in_progress: bool,
    /// The last reply waits or has been posted.
    ended: bool,
    /// The reader cannot be sent anything more.
    closed: bool,
    on_room: Option<Callback>,
}

impl State {
    /// Returns true if an item can be posted or can wait.
    fn has_room(&self, context: &ReplyContext) -> bool {
        !self.in_progress
            || self.waiting.len() < self.capacity
                && self.bytes < context.pending.limits.backlog_bytes
                && context.account.has_room_to_spare()
    }

    fn push(&mut self, reply: QueuedReply) {
        self.bytes += reply.text.len();
        self.waiting.push_back(reply);
    }

    fn pop(&mut self) -> Option<QueuedReply> {
        let reply = self.waiting.pop_front()?;
        self.bytes -= reply.text.len();
        Some(reply)
    }
}

impl StreamBuffer {
    pub(super) fn new(context: ReplyContext) -> Self {
        /// Items that wait, unless the program sets another number.
        const DEFAULT_CAPACITY: usize = 16;
        Self {
            context,
            state: Mutex::new(State {
                capacity: DEFAULT_CAPACITY,
                ..State::default()
            }),
        }
    }

    /// Changes the settings; does nothing in a forked child.
    pub(super) fn configure(&self, set: impl FnOnce(&mut State)) {
        if self.context.is_own_process() {
            set(&mut lock(&self.state));
        }
    }

    /// The id that items carry; `None` if the stream is not wanted.
    fn wanted_id(&self) -> Option<&Id<'static>> {
        match &self.context.format {
            ReplyFormat::Call(id) if self.context.is_wanted() => Some(id),
            ReplyFormat::Call(_) | ReplyFormat::Bare | ReplyFormat::Oneway => None,
        }
    }

    /// Returns true if an item can reach the reader.
    pub(super) fn is_open(&self) -> bool {
        if self.wanted_id().is_none() {
            return false;
        }
        let state = lock(&self.state);
        !state.closed && !state.ended
    }

    /// Returns true if an item can be posted or can wait.
    pub(super) fn has_room(&self) -> bool {
        !self.context.is_own_process() || lock(&self.state).has_room(&self.context)
    }

    /// Sets the callback that `callback` makes of `value`, to run when there is room.
    ///
    /// Gives `value` back if there is room already or the stream is closed.
    pub(super) fn wait_for_room<V>(
        &self,
        value: V,
        callback: impl FnOnce(V) -> Callback,
    ) -> Option<V> {
        if !self.is_open() {
            return Some(value);
        }
        let mut state = lock(&self.state);
        if state.has_room(&self.context) {
            return Some(value);
        }
        let replaced = state.on_room.replace(callback(value));
        drop(state);
        drop(replaced);
        None
    }

    /// Sends an item or lets it wait, unless [`Overflow::Refuse`] is set and there is no room.
    pub(super) fn send(self: &Arc<Self>, item: &impl Pack) -> Result<(), SendError> {
        let refuses = !self.has_room() && lock(&self.state).overflow == Overflow::Refuse;
        // A closed stream is reported as closed, full or not.
        if refuses && self.wanted_id().is_some() {
            return Err(SendError::Full);
        }
        self.send_unchecked(item)
    }

    /// Sends an item or lets it wait. The caller has seen that there is room.
    pub(super) fn send_unchecked(self: &Arc<Self>, item: &impl Pack) -> Result<(), SendError> {
        let id = self.wanted_id().ok_or(SendError::Closed)?;
        let write = |text: &mut _, fds: &_| envelope::write_item(text, id, item, fds);
        self.put(self.context.encode(write)?)
    }

    /// Posts an item, lets it wait, or applies the overflow rule.
    fn put(self: &Arc<Self>, mut reply: QueuedReply) -> Result<(), SendError> {
        let context = &self.context;
        let mut state = lock(&self.state);
        if state.closed || state.ended {
            return Err(SendError::Closed);
        }
        if !state.in_progress {
            state.in_progress = true;
            drop(state);
            self.post(reply);
            return Ok(());
        }
        let mut discarded = 0;
        let fits = match state.overflow {
            // There was room a moment ago. If another thread has filled it since, one item more may wait.
            Overflow::Refuse => true,
            Overflow::Latest => {
                while state.pop().is_some() {
                    discarded += 1;
                }
                context.account.has_room_to_spare()
            }
            Overflow::DropOldest => {
                while !state.has_room(context) && state.pop().is_some() {
                    discarded += 1;
                }
                state.has_room(context)
            }
            Overflow::End if state.has_room(context) => true,
            Overflow::End => {
                drop(state);
                self.end_with(|text, id| envelope::write_fault(text, Some(id), &reader_too_slow()));
                return Err(SendError::Closed);
            }
        };
        if fits {
            reply.charge(&context.account);
            state.push(reply);
        } else {
            // Its user has no room for any item, and this stream may lose some.
            discarded += 1;
        }
        drop(state);
        self.count_discarded(discarded);
        Ok(())
    }

    fn count_discarded(&self, items: u64) {
        if items > 0 {
            let pending = &self.context.pending;
            pending.count_losses(|losses| losses.discarded += items);
        }
    }

    /// Ends the stream after the items that wait. Does nothing if it has ended.
    pub(super) fn end_with(self: &Arc<Self>, write: impl FnOnce(&mut Vec<u8>, &Id<'_>)) {
        let mut text = Vec::new();
        if let ReplyFormat::Call(id) = &self.context.format {
            write(&mut text, id);
        }
        self.end(QueuedReply::from(text));
    }

    /// Ends the stream with this reply, after the items that wait. Does nothing if it has ended.
    pub(super) fn end(self: &Arc<Self>, last: QueuedReply) {
        if !self.context.is_own_process() {
            return;
        }
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        if state.in_progress && !state.closed {
            return state.push(last);
        }
        drop(state);
        self.context.complete(Some(last));
    }

    /// Posts an item to the loop.
    fn post(self: &Arc<Self>, mut reply: QueuedReply) {
        reply.observer = Some(Arc::clone(self) as Arc<dyn SendObserver>);
        self.context.post(reply);
    }

    /// Posts the next item, after one has been sent.
    fn post_next(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let next = state.pop();
        let is_last = state.ended && state.waiting.is_empty();
        state.in_progress = next.is_some() && !is_last;
        let room = state.has_room(&self.context);
        let callback = room.then(|| state.on_room.take()).flatten();
        drop(state);
        match next {
            Some(reply) if is_last => drop(self.context.complete(Some(reply))),
            Some(reply) => self.post(reply),
            None => {}
        }
        callback.into_iter().for_each(run_callback);
    }

    /// Ends the stream with a fault, and drops the items that wait.
    fn abort(&self, fault: &Fault) {
        let mut state = lock(&self.state);
        (state.in_progress, state.closed) = (false, true);
        let dropped = std::mem::take(&mut state.waiting);
        // The last reply of a stream that has ended is no item.
        let others = usize::from(state.ended && !dropped.is_empty());
        let callback = state.on_room.take();
        drop(state);
        self.count_discarded((dropped.len() - others) as u64);
        self.context.post_fault(fault);
        callback.into_iter().for_each(run_callback);
    }
}

impl SendObserver for StreamBuffer {
    fn finished(self: Arc<Self>, outcome: SendOutcome) {
        if !self.context.is_own_process() {
            return;
        }
        match outcome {
            SendOutcome::Sent if self.wanted_id().is_some() => self.post_next(),
            // On a datagram socket a reader without room may still be there.
            SendOutcome::Sent | SendOutcome::Dropped => self.abort(&reader_too_slow()),
            SendOutcome::Refused(fault) => self.abort(&fault),
        }
    }
}

/// The fault for a stream whose reader does not keep up.
fn reader_too_slow() -> Fault {
    Fault::new(Fault::BUSY, "the stream's reader is too slow")
}
