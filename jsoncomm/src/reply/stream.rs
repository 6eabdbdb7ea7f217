//! The sending end of a stream.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use super::Deferred;
use super::context::{ReplyContext, ReplyFormat, no_reply, send_fault};
use super::stream_buffer::StreamBuffer;
use crate::envelope::{self, Id};
use crate::error::{Fault, SendError};
use crate::message::Pack;
use crate::queue::QueuedReply;
use crate::sys::opaque_debug;

/// What [`StreamSender::send`] does with an item for which there is no room.
///
/// Set with [`StreamSender::set_overflow`]. Dropped items are counted as
/// [`undelivered`](crate::observe::Counts::undelivered); neither the sender nor the reader is told.
///
/// | | the new item | items that wait | for |
/// |---|---|---|---|
/// | `Refuse` | refused | kept | data that must be complete |
/// | `Latest` | waits | all dropped | a state of which only the newest counts |
/// | `DropOldest` | waits | the oldest dropped | recent history |
/// | `End` | refused | kept, then the stream ends | readers that must keep up |
///
/// `Latest` and `DropOldest` also drop the new item if everything queued for the same user leaves no room for it.
///
/// # Examples
///
/// ```
/// use jsoncomm::stream::{Overflow, StreamSender};
///
/// /// Makes a slow reader skip to the newest position.
/// fn report_newest_only(positions: &StreamSender<u64>) {
///     positions.set_overflow(Overflow::Latest);
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// [`StreamSender::send`] returns [`SendError::Full`]. The default.
    #[default]
    Refuse,
    /// The item replaces all that wait.
    Latest,
    /// The oldest items that wait are dropped, as many as necessary.
    DropOldest,
    /// The stream ends with the fault [`Fault::BUSY`] after the items that wait.
    End,
}

/// The sending end of a stream of items.
///
/// A handler gets it from [`Call::stream`](crate::Call::stream). It can be kept and used later from any thread, which wakes
/// the server's loop. No method waits.
///
/// | the handler | the stream |
/// |---|---|
/// | [`send`](StreamSender::send) | gets one more item |
/// | [`feed`](StreamSender::feed) | gets all items of an iterator, as the reader takes them, and ends |
/// | [`end`](StreamSender::end) | ends |
/// | [`fail`](StreamSender::fail) | ends with the service's own error |
/// | [`send_fault`](StreamSender::send_fault) | ends with a fault |
/// | drops it | ends with the fault [`Fault::NO_REPLY`] |
///
/// # Flow control
///
/// One item at a time is on its way to the reader; it is treated as a reply is. The others wait here, within these bounds:
///
/// | bound | default |
/// |---|---|
/// | [`set_capacity`](StreamSender::set_capacity) | 16 items |
/// | [`Limits::backlog_bytes`](crate::Limits::backlog_bytes), exceeded by one item at most | 1 MiB |
/// | half of [`Limits::user_backlog_bytes`](crate::Limits::user_backlog_bytes) and [`user_descriptors`](crate::Limits::user_descriptors), with all else queued for the same user | 2 MiB, 64 descriptors |
///
/// When one of them is reached, [`set_overflow`](StreamSender::set_overflow) decides about the next item, and
/// [`on_room`](StreamSender::on_room) reports when there is room again.
///
/// In a forked child of the server's process a sender does nothing, dropped or used.
///
/// # Examples
///
/// A handler that streams as fast as the reader takes the items, without a thread:
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
///         call.stream(|sender| sender.feed((0..end).map(|number| Ok(number * number))))
///     }
/// }
/// ```
#[must_use = "dropping a sender ends its stream with the fault NO_REPLY"]
pub struct StreamSender<T, E = Infallible> {
    /// `None` if the stream has ended, or its call cannot be replied to.
    buffer: Option<Arc<StreamBuffer>>,
    types: PhantomData<fn(T, E)>,
}

opaque_debug!(StreamSender<T, E>);

impl<T: Pack, E> StreamSender<T, E> {
    /// Sends an item. Never waits.
    ///
    /// The item is encoded; its descriptors are duplicated. While the reader is slower than the sender, the item waits.
    ///
    /// # Errors
    ///
    /// | error | cause | the stream |
    /// |---|---|---|
    /// | [`SendError::Full`] | no room, and [`Overflow::Refuse`] is set | continues without the item |
    /// | [`SendError::Encode`] | the item cannot be encoded or exceeds a limit | continues without the item |
    /// | [`SendError::NoDescriptors`] | the process has no descriptors left | continues without the item |
    /// | [`SendError::Closed`] | the reader stopped reading or disconnected, or the stream has ended | has ended |
    pub fn send(&self, item: &T) -> Result<(), SendError> {
        self.buffer.as_ref().ok_or(SendError::Closed)?.send(item)
    }
}

impl<T: Pack, E: Pack + fmt::Display> StreamSender<T, E> {
    /// Sends the items of an iterator, each when there is room, and ends the stream with the iterator or its first error.
    ///
    /// The first items are taken at once, the others on the server's thread, so the iterator should not wait. It is
    /// dropped when the reader stops reading. An item that cannot be encoded ends the stream with a fault.
    pub fn feed<I>(self, items: I)
    where
        I: IntoIterator<Item = Result<T, E>>,
        I::IntoIter: Send + 'static,
        T: 'static,
        E: 'static,
    {
        let Some(buffer) = self.buffer.clone() else {
            return;
        };
        let mut feed = (self, items.into_iter());
        loop {
            let waited =
                buffer.wait_for_room(feed, |(sender, items)| Box::new(move || sender.feed(items)));
            let Some((sender, mut items)) = waited.filter(|_| buffer.is_open()) else {
                return;
            };
            let sent = match items.next() {
                Some(Ok(item)) => buffer.send_unchecked(&item),
                Some(Err(error)) => return sender.fail(error),
                None => return sender.end(),
            };
            match sent {
                Ok(()) => feed = (sender, items),
                // Only `send` reports a full stream.
                Err(SendError::Closed | SendError::Full) => return,
                Err(error) => return sender.send_fault(&send_fault(&error)),
            }
        }
    }

    /// Ends the stream with the service's own error, after the items that wait.
    ///
    /// If `error` cannot be encoded, the stream ends with a fault that says so.
    pub fn fail(mut self, error: E) {
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        let context = &buffer.context;
        let last = match &context.format {
            ReplyFormat::Call(id) => context
                .encode(|text, fds| envelope::write_error(text, id, &error, fds))
                .unwrap_or_else(|error| QueuedReply::fault(Some(id), &send_fault(&error))),
            ReplyFormat::Bare | ReplyFormat::Oneway => QueuedReply::from(Vec::new()),
        };
        buffer.end(last);
    }
}

impl<T, E> StreamSender<T, E> {
    pub(crate) fn new(context: Option<ReplyContext>) -> Self {
        Self {
            buffer: context.map(|context| Arc::new(StreamBuffer::new(context))),
            types: PhantomData,
        }
    }

    /// Ends the stream, after the items that wait.
    pub fn end(mut self) {
        self.end_with(envelope::write_end);
    }

    /// Ends the stream with a fault, after the items that wait.
    pub fn send_fault(mut self, fault: &Fault) {
        self.end_with(|text, id| envelope::write_fault(text, Some(id), fault));
    }

    fn end_with(&mut self, write: impl FnOnce(&mut Vec<u8>, &Id<'_>)) {
        if let Some(buffer) = self.buffer.take() {
            buffer.end_with(write);
        }
    }

    /// Returns true if the reader can still receive items.
    ///
    /// Returns false once the reader has dropped its iterator or disconnected ([`Kind::Seqpacket`](crate::Kind::Seqpacket)
    /// only), the call's deadline has passed, [`Overflow::End`] has ended the stream, or the server was dropped.
    pub fn is_wanted(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| buffer.is_open())
    }

    /// Returns true if the next item is neither refused nor makes another one be dropped. Also true for a stream that is
    /// no longer [wanted](StreamSender::is_wanted).
    pub fn has_room(&self) -> bool {
        self.buffer.as_ref().is_none_or(|buffer| buffer.has_room())
    }

    /// The deadline of the whole stream, if the caller sent one. Clients of this crate do not.
    pub fn deadline(&self) -> Option<Instant> {
        self.buffer.as_ref()?.context.deadline
    }

    /// Sets how many items may wait, besides the one on its way: 16 by default, at least 1.
    pub fn set_capacity(&self, items: usize) {
        if let Some(buffer) = &self.buffer {
            buffer.configure(|state| state.capacity = items.max(1));
        }
    }

    /// Sets what happens to an item for which there is no room: [`Overflow::Refuse`] by default.
    pub fn set_overflow(&self, overflow: Overflow) {
        if let Some(buffer) = &self.buffer {
            buffer.configure(|state| state.overflow = overflow);
        }
    }

    /// Sets a callback for the next time that there is room, or that the stream is no longer wanted.
    ///
    /// It runs once, on the server's thread. If there is room already, or the stream is not wanted, it runs at once on
    /// this thread. It replaces an earlier callback.
    pub fn on_room(&self, callback: impl FnOnce() + Send + 'static) {
        let unused = match &self.buffer {
            Some(buffer) => buffer.wait_for_room(callback, |callback| Box::new(callback)),
            None => Some(callback),
        };
        if let Some(callback) = unused {
            callback();
        }
    }

    /// Sets a callback for when the reader drops its iterator or disconnects, or the server is dropped.
    ///
    /// It runs once, on the server's thread; if that has happened already, at once on this thread. It replaces an earlier
    /// callback.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        if let Some(buffer) = &self.buffer {
            buffer.context.on_cancel(Box::new(callback));
        }
    }
}

impl<T, E> Drop for StreamSender<T, E> {
    fn drop(&mut self) {
        self.end_with(|text, id| envelope::write_fault(text, Some(id), &no_reply()));
    }
}

/// The return type of a method that replies with a stream of items.
///
/// Only [`Call::stream`](crate::Call::stream) creates it, so a method that returns it has taken its
/// [`StreamSender`](crate::stream::StreamSender). The stub's method returns [`Items`](crate::stream::Items), an iterator.
///
/// `E` is the service's error, so `Stream<T, E>` stands for a `Result`: a method that refuses the call sends
/// [`fail`](crate::stream::StreamSender::fail), and the error is the only item.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Call, Stream};
///
/// #[jsoncomm::service(name = "example.lines")]
/// trait Lines {
///     fn all(&mut self, call: &mut Call) -> Stream<String>;
/// }
///
/// struct Text(Vec<String>);
///
/// impl Lines for Text {
///     fn all(&mut self, call: &mut Call) -> Stream<String> {
///         let lines = self.0.clone();
///         call.stream(|sender| sender.feed(lines.into_iter().map(Ok)))
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "the method has to return it"]
pub struct Stream<T, E = Infallible>(pub(crate) Deferred<T, E>);
