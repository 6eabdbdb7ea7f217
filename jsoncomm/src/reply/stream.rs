//! Answers in many parts: what a handler sends, and how much of it may wait for a slow reader.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Slot, To, USUAL, answer_fault, dropped, encoded, no_descriptors};
use crate::envelope::{self, Id};
use crate::error::{Fault, SendError};
use crate::message::{Pack, Packer};
use crate::queue::{self, QueuedReply, SendObserver, SendOutcome};

/// What happens to an item for which there is no room, because the reader is slower than the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// [`StreamSender::send`] says [`SendError::Full`], and nothing is lost while the reader's connection stands.
    #[default]
    Refuse,
    /// It takes the place of all that waits: the reader gets the newest state.
    Latest,
    /// The oldest that waits is dropped and counted.
    DropOldest,
    /// The stream ends with the fault [`Fault::BUSY`] after what waits already.
    End,
}

/// What to call once.
type Call = Box<dyn FnOnce() + Send>;

/// The items of one stream between its sink and the loop. One is under way at a time; the others wait here, so
/// that a slow reader costs what is allowed here and nothing else.
struct Flow {
    slot: Slot,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<QueuedReply>,
    bytes: usize,
    capacity: usize,
    overflow: Overflow,
    /// The loop, or the reader's outbox, has an item.
    under_way: bool,
    /// The last letter is waiting, or has been sent.
    ended: bool,
    /// Nobody reads.
    broken: bool,
    on_room: Option<Call>,
}

impl State {
    /// Says whether an item can be sent, or wait. While one is under way, word will come when it is not any more.
    fn has_room(&self, slot: &Slot) -> bool {
        let budget = slot.mailbox.backlog_bytes();
        let fits = self.waiting.len() < self.capacity && self.bytes < budget;
        !self.under_way || (fits && slot.account.has_room_to_spare())
    }

    fn push(&mut self, letter: QueuedReply) {
        self.bytes += letter.text.len();
        self.waiting.push_back(letter);
    }

    fn pop(&mut self) -> Option<QueuedReply> {
        let letter = self.waiting.pop_front()?;
        self.bytes -= letter.text.len();
        Some(letter)
    }
}

impl Flow {
    fn new(slot: Slot) -> Self {
        /// How many items wait unless told otherwise.
        const CAPACITY: usize = 16;
        Self {
            slot,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                capacity: CAPACITY,
                overflow: Overflow::default(),
                under_way: false,
                ended: false,
                broken: false,
                on_room: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half-done under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id that items carry; `None` when nobody wants any.
    fn wanted(&self) -> Option<&Id<'static>> {
        match &self.slot.to {
            To::Call(id) if self.slot.is_wanted() => Some(id),
            To::Call(_) | To::Bare | To::Nobody => None,
        }
    }

    /// Says whether an item can get to anybody.
    fn is_open(&self) -> bool {
        if self.wanted().is_none() {
            return false;
        }
        let state = self.lock();
        !state.broken && !state.ended
    }

    fn has_room(&self) -> bool {
        !self.slot.is_here() || self.lock().has_room(&self.slot)
    }

    /// Keeps what `call` makes of `kept` until there is room, or gives `kept` back if there is already, or if
    /// nobody reads any more.
    fn wait_for_room<K>(&self, kept: K, call: impl FnOnce(K) -> Call) -> Option<K> {
        if !self.is_open() {
            return Some(kept);
        }
        let mut state = self.lock();
        if state.has_room(&self.slot) {
            return Some(kept);
        }
        let earlier = state.on_room.replace(call(kept));
        drop(state);
        drop(earlier);
        None
    }

    /// Says whether an item is refused now.
    fn is_full(&self) -> bool {
        if !self.slot.is_here() {
            return false;
        }
        let state = self.lock();
        state.overflow == Overflow::Refuse && !state.has_room(&self.slot)
    }

    /// Takes an item, or says that there is no room for it.
    fn send(self: &Arc<Self>, item: &impl Pack) -> Result<(), SendError> {
        // Whoever waits for room where nobody reads any more is called at once.
        if self.is_full() && self.wanted().is_some() {
            return Err(SendError::Full);
        }
        self.take(item)
    }

    /// Writes an item, and sends it or has it wait.
    fn take(self: &Arc<Self>, item: &impl Pack) -> Result<(), SendError> {
        let id = self.wanted().ok_or(SendError::Closed)?;
        let bounds = self.slot.mailbox.bounds();
        let (mut text, fds) = (Vec::with_capacity(USUAL), Packer::at_depth(bounds.depth));
        encoded(&mut text, &fds, bounds, |text, fds| {
            envelope::write_item(text, id, item, fds)
        })
        .map_err(SendError::Encode)?;
        let letter = QueuedReply::new(text, &fds.into_row()).ok_or(SendError::NoDescriptors)?;
        self.put(letter)
    }

    /// Sends an item, has it wait, or treats it as one too many.
    fn put(self: &Arc<Self>, mut letter: QueuedReply) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.broken || state.ended {
            return Err(SendError::Closed);
        }
        if !state.under_way {
            state.under_way = true;
            drop(state);
            self.post(letter);
            return Ok(());
        }
        let mut lost = 0;
        let fits = match state.overflow {
            // Room has been seen. If another thread has filled it since, this is one too many, but not lost.
            Overflow::Refuse => true,
            Overflow::Latest => {
                while state.pop().is_some() {
                    lost += 1;
                }
                self.slot.account.has_room_to_spare()
            }
            Overflow::DropOldest => {
                while !state.has_room(&self.slot) && state.pop().is_some() {
                    lost += 1;
                }
                state.has_room(&self.slot)
            }
            Overflow::End if state.has_room(&self.slot) => true,
            Overflow::End => {
                drop(state);
                self.end_with(|text, id| envelope::write_fault(text, Some(id), &too_slow()));
                return Err(SendError::Closed);
            }
        };
        if fits {
            letter.charge(&self.slot.account);
            state.push(letter);
        } else {
            // What its user has no room for is lost, where losing is allowed.
            lost += 1;
        }
        drop(state);
        if lost > 0 {
            self.slot
                .mailbox
                .count_losses(|losses| losses.discarded += lost);
        }
        Ok(())
    }

    /// Ends the stream, after what waits. A second end is none.
    fn end_with(self: &Arc<Self>, write: impl FnOnce(&mut Vec<u8>, &Id<'_>)) {
        let mut text = Vec::new();
        if let To::Call(id) = &self.slot.to {
            write(&mut text, id);
        }
        self.finish(QueuedReply::from(text));
    }

    /// Sends the last letter, after what waits.
    fn finish(self: &Arc<Self>, last: QueuedReply) {
        if !self.slot.is_here() {
            return;
        }
        let mut state = self.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        if state.under_way && !state.broken {
            return state.push(last);
        }
        drop(state);
        self.post_last(last);
    }

    /// Hands an item to the loop.
    fn post(self: &Arc<Self>, mut letter: QueuedReply) {
        letter.set_observer(Arc::clone(self) as Arc<dyn SendObserver>);
        self.slot.send(letter);
    }

    /// Hands the last letter to the loop, if somebody still waits for it.
    fn post_last(&self, letter: QueuedReply) {
        self.slot.answer(Some(letter));
    }
}

impl SendObserver for Flow {
    /// Sends the next item, and tells the sink if there is room again or nobody reads any more.
    fn finished(self: Arc<Self>, outcome: SendOutcome) {
        if !self.slot.is_here() {
            return;
        }
        let fault = match outcome {
            SendOutcome::Sent => None,
            // On a datagram socket the reader may be there, only slow.
            SendOutcome::Dropped => Some(too_slow()),
            SendOutcome::Refused(fault) => Some(fault),
        };
        let goes_on = fault.is_none() && self.wanted().is_some();
        let mut state = self.lock();
        state.under_way = false;
        let mut given_up = VecDeque::new();
        let mut next = None;
        if goes_on {
            next = state.pop();
        } else {
            state.broken = true;
            given_up = std::mem::take(&mut state.waiting);
        }
        let last = state.ended && state.waiting.is_empty();
        state.under_way = next.is_some() && !last;
        let ended = state.ended;
        let told = (!goes_on || state.has_room(&self.slot)).then(|| state.on_room.take());
        drop(state);
        match next {
            Some(letter) if last => self.post_last(letter),
            Some(letter) => self.post(letter),
            None => {}
        }
        let given_up = given_up.len() as u64 - u64::from(ended && !given_up.is_empty());
        if given_up > 0 {
            self.slot
                .mailbox
                .count_losses(|losses| losses.discarded += given_up);
        }
        if !goes_on {
            self.slot.post_fault(&fault.unwrap_or_else(too_slow));
        }
        if let Some(call) = told.flatten() {
            queue::run_callback(call);
        }
    }
}

/// Says that a reader does not keep up.
fn too_slow() -> Fault {
    Fault::new(Fault::BUSY, "the stream's reader is too slow")
}

/// Where a handler sends the items of a stream, from any thread, for as long as somebody wants them.
///
/// An item waits here while the reader is busy with the one before, so a slow reader costs bounded memory: as
/// many items as [`set_capacity`](StreamSender::set_capacity) says, and not much more than
/// [`Limits::backlog_bytes`](crate::Limits::backlog_bytes) of them, or half of
/// [`Limits::user_backlog_bytes`](crate::Limits::user_backlog_bytes) with all else that waits for the same user. What
/// happens to one too many is said by [`set_overflow`](StreamSender::set_overflow). The item before is on its way as an answer
/// is, and costs the reader its connection where that would.
///
/// [`end`](StreamSender::end) and [`fail`](StreamSender::fail) end the stream after what waits. A sink that is dropped without
/// either ends it with the fault [`Fault::NO_REPLY`].
///
/// [`send`](StreamSender::send) never waits, on any thread: as long as too much waits it gives [`SendError::Full`], and a thread
/// that drops the sink then has broken off its stream. [`on_room`](StreamSender::on_room) tells when there is room again; for
/// progress and the like, where old items do not matter, [`Overflow::Latest`] or [`Overflow::DropOldest`] make room.
///
/// # Examples
///
/// A handler that streams as much as the reader takes, without a thread; see [`StreamSender::feed`]:
///
/// ```
/// use jsoncomm::{Call, Stream};
///
/// #[jsoncomm::service(name = "example.squares")]
/// trait Squares {
///     /// The squares of the numbers below `end`.
///     fn below(&mut self, call: &mut Call, end: u64) -> Stream<u64>;
/// }
///
/// struct Table;
///
/// impl Squares for Table {
///     fn below(&mut self, call: &mut Call, end: u64) -> Stream<u64> {
///         call.stream(|sink| sink.feed((0..end).map(|number| Ok(number * number))))
///     }
/// }
/// ```
#[must_use = "dropping it ends the stream with a fault"]
pub struct StreamSender<T, E = Infallible> {
    /// `None` when the call cannot be answered, or when the stream has ended.
    flow: Option<Arc<Flow>>,
    types: PhantomData<fn(T, E)>,
}

impl<T, E> fmt::Debug for StreamSender<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSender").finish_non_exhaustive()
    }
}

impl<T, E> StreamSender<T, E> {
    pub(crate) fn new(slot: Option<Slot>) -> Self {
        Self {
            flow: slot.map(|slot| Arc::new(Flow::new(slot))),
            types: PhantomData,
        }
    }

    /// Says whether somebody still reads: the reader has not dropped its iterator, [`Overflow::End`] has not ended
    /// the stream, and, on [`Kind::Seqpacket`](crate::Kind::Seqpacket), the reader's connection stands.
    pub fn is_wanted(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_open())
    }

    /// Says whether the next item would be taken without loss. Also `true` when nobody reads any more.
    pub fn has_room(&self) -> bool {
        self.flow.as_ref().is_none_or(|flow| flow.has_room())
    }

    /// Until when the caller waits for the whole stream, if it said so. Our own clients do not.
    pub fn deadline(&self) -> Option<Instant> {
        self.flow.as_ref()?.slot.deadline
    }

    /// Sets how many items may wait, besides the one that is under way; 16 unless told otherwise, at least 1.
    pub fn set_capacity(&self, items: usize) {
        if let Some(flow) = self.flow.as_ref().filter(|flow| flow.slot.is_here()) {
            flow.lock().capacity = items.max(1);
        }
    }

    /// Sets what happens to an item for which there is no room; [`Overflow::Refuse`] unless told otherwise.
    pub fn set_overflow(&self, overflow: Overflow) {
        if let Some(flow) = self.flow.as_ref().filter(|flow| flow.slot.is_here()) {
            flow.lock().overflow = overflow;
        }
    }

    /// Has `call` called once, when there is room again or nobody reads any more; at once if that is so. It is
    /// called on the server's thread. A later `call` takes the place of an earlier one.
    pub fn on_room(&self, call: impl FnOnce() + Send + 'static) {
        let rest = match &self.flow {
            Some(flow) => flow.wait_for_room(call, |call| Box::new(call)),
            None => Some(call),
        };
        if let Some(call) = rest {
            call();
        }
    }

    /// Has `call` called once, on the server's thread, when the reader drops its iterator, its connection ends
    /// or the server is dropped; at once if that has happened. A later `call` takes the place of an earlier one.
    pub fn on_cancel(&self, call: impl FnOnce() + Send + 'static) {
        if let Some(Flow { slot, .. }) = self.flow.as_deref() {
            slot.on_cancel(Box::new(call));
        }
    }

    /// Ends the stream well, after what waits.
    pub fn end(mut self) {
        if let Some(flow) = self.flow.take() {
            flow.end_with(envelope::write_end);
        }
    }

    /// Ends the stream with a fault, after what waits, as the framework does where it cannot carry a call
    /// through.
    pub fn send_fault(mut self, fault: &Fault) {
        if let Some(flow) = self.flow.take() {
            flow.end_with(|text, id| envelope::write_fault(text, Some(id), fault));
        }
    }
}

impl<T: Pack, E> StreamSender<T, E> {
    /// Sends an item; never waits. The descriptors in it are duplicated.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] when there is no room and [`Overflow::Refuse`] holds; [`SendError::Closed`] when
    /// nobody reads any more; [`SendError::Encode`] and [`SendError::NoDescriptors`] when the item cannot be
    /// written. After all but `Closed` the stream goes on, without the item.
    pub fn send(&self, item: &T) -> Result<(), SendError> {
        self.flow.as_ref().ok_or(SendError::Closed)?.send(item)
    }
}

impl<T: Pack, E: Pack + fmt::Display> StreamSender<T, E> {
    /// Ends the stream with the service's own error, after what waits. An error that cannot be written is
    /// replaced by a fault that says so.
    pub fn fail(mut self, error: E) {
        let Some(flow) = self.flow.take() else {
            return;
        };
        let bounds = flow.slot.mailbox.bounds();
        let (mut text, fds) = (Vec::with_capacity(USUAL), Packer::at_depth(bounds.depth));
        let written = encoded(&mut text, &fds, bounds, |text, fds| match &flow.slot.to {
            To::Call(id) => envelope::write_error(text, id, &error, fds),
            To::Bare | To::Nobody => Ok(()),
        });
        match written {
            Ok(()) => match QueuedReply::new(text, &fds.into_row()) {
                Some(last) => flow.finish(last),
                None => flow.end_with(|text, id| {
                    envelope::write_fault(text, Some(id), &no_descriptors());
                }),
            },
            Err(error) => flow.end_with(|text, id| {
                envelope::write_fault(text, Some(id), &answer_fault(&error));
            }),
        }
    }

    /// Sends what an iterator gives, each as soon as there is room, and ends the stream as the iterator ends: well,
    /// or with its first error. It is asked on the server's thread, so it should not wait. When nobody reads
    /// any more, it is dropped.
    pub fn feed<I>(self, items: I)
    where
        I: IntoIterator<Item = Result<T, E>>,
        I::IntoIter: Send + 'static,
        T: 'static,
        E: 'static,
    {
        let items = items.into_iter();
        Feed { sink: self, items }.run();
    }
}

impl<T, E> Drop for StreamSender<T, E> {
    fn drop(&mut self) {
        if let Some(flow) = self.flow.take() {
            flow.end_with(|text, id| envelope::write_fault(text, Some(id), &dropped()));
        }
    }
}

/// An iterator on its way through a sink.
struct Feed<T, E, I> {
    sink: StreamSender<T, E>,
    items: I,
}

impl<T, E, I> Feed<T, E, I>
where
    T: Pack + 'static,
    E: Pack + fmt::Display + 'static,
    I: Iterator<Item = Result<T, E>> + Send + 'static,
{
    /// Sends as much as there is room for, and has itself called when there is more.
    fn run(self) {
        let Some(flow) = self.sink.flow.clone() else {
            return;
        };
        let mut rest = Some(self);
        while let Some(feed) = rest {
            let step = flow.wait_for_room(feed, |feed| Box::new(|| feed.run()));
            rest = step.and_then(Self::step);
        }
    }

    /// Sends one item, now that there is room; gives back what is left to do.
    fn step(mut self) -> Option<Self> {
        let flow = self.sink.flow.as_ref().filter(|flow| flow.is_open())?;
        let sent = match self.items.next() {
            Some(Ok(item)) => flow.take(&item),
            Some(Err(error)) => {
                self.sink.fail(error);
                return None;
            }
            None => {
                self.sink.end();
                return None;
            }
        };
        let fault = match sent {
            Ok(()) => return Some(self),
            // It is full only for who has not looked.
            Err(SendError::Closed | SendError::Full) => return None,
            Err(SendError::Encode(error)) => answer_fault(&error),
            Err(SendError::NoDescriptors) => no_descriptors(),
        };
        self.sink.send_fault(&fault);
        None
    }
}

/// What a method returns that answers in many parts: proof that it has taken its [`StreamSender`].
///
/// Only [`Call::stream`](crate::Call::stream) makes one. The stub's method returns
/// [`Items`](crate::stream::Items), to be iterated.
#[derive(Debug)]
#[must_use = "return it from the method"]
pub struct Stream<T, E = Infallible> {
    /// There was no room for one more deferred call; the caller is to be told.
    pub(crate) refused: bool,
    types: PhantomData<fn(T, E)>,
}

impl<T, E> Stream<T, E> {
    pub(crate) fn new(refused: bool) -> Self {
        Self {
            refused,
            types: PhantomData,
        }
    }
}
