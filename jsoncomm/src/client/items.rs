//! The items of a stream.

use std::convert::Infallible;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::handle::Handle;
use super::reply::read_item;
use super::slot::Entry;
use crate::error::{CallError, Error, caught};
use crate::message::Message;
use crate::sys::opaque_debug;

/// The items of a stream, as they come: what a stub returns for a method that returns a [`Stream`](crate::Stream).
///
/// | to get the next item | use | it waits |
/// |---|---|---|
/// | in this thread | [`next`](Iterator::next): it is an [`Iterator`] | until the timeout, anew for each item |
/// | if it has come | [`try_next`](Items::try_next) | never |
/// | in a callback | [`for_each`](Items::for_each) | never |
/// | in a task | [`poll_next`](Items::poll_next) | without a timeout |
///
/// The timeout is that of the connection, unless [`with_timeout`](Items::with_timeout) or
/// [`without_timeout`](Items::without_timeout) changes it. After [`CallError::Deadline`] the stream goes on: the item may
/// come later. Any other error is the last item. Dropping it ends the stream: the server is told, and late items are
/// dropped and their descriptors closed.
///
/// # Backpressure
///
/// Items that come while a thread waits for something else on the connection are stored: up to 1024 items, as many bytes as a message may have
/// ([`Limits::message`](crate::Limits::message)) and [`FDS_MAX`](crate::fds::FDS_MAX) descriptors. If there are more, the
/// stream ends with [`Error::Full`](crate::Error::Full). While no thread waits, items stay at the server, which handles
/// them as [`StreamSender`](crate::stream::StreamSender) describes.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Call, Connection, Kind, Limits, Server, Stream};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("squares.sock");
///
/// #[jsoncomm::service(name = "example.squares")]
/// trait Squares {
///     /// The squares of the numbers below `end`.
///     fn below(&mut self, call: &mut Call, end: u64) -> Stream<u64>;
/// }
/// # struct Table;
/// # impl Squares for Table {
/// #     fn below(&mut self, call: &mut Call, end: u64) -> Stream<u64> {
/// #         call.stream(|sender| sender.feed((0..end).map(|number| Ok(number * number))))
/// #     }
/// # }
/// # let mut server = Server::new(Limits::default())?;
/// # server.bind(&path, Kind::Seqpacket)?.serve::<dyn Squares>();
/// # let handle = server.handle();
/// # let server = std::thread::spawn(move || server.run(&mut Table));
///
/// let squares = SquaresClient::new(Connection::open(&path)?);
/// let mut sum = 0;
/// for square in squares.below(1000)? {
///     sum += square?;
/// }
/// assert_eq!(sum, 332_833_500);
/// # handle.stop();
/// # server.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it ends the stream"]
pub struct Items<T, E = Infallible> {
    pub(super) handle: Handle,
    pub(super) types: PhantomData<fn() -> (T, E)>,
}

opaque_debug!(Items<T, E>);

impl<T, E> Items<T, E> {
    /// Sets how long [`next`](Iterator::next) waits for each item.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/numbers.txt")]
    /// use jsoncomm::Connection;
    /// use std::time::Duration;
    ///
    /// // The stub of a trait with `fn below(&mut self, call: &mut Call, end: u32) -> Stream<u32>`.
    /// let numbers = NumbersClient::new(Connection::open(&path)?);
    /// let mut items = numbers.below(2)?.with_timeout(Duration::from_secs(1));
    /// assert_eq!(items.next().transpose()?, Some(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.handle.connection.timeout = Some(timeout);
        self
    }

    /// Lets [`next`](Iterator::next) wait until an item comes or the server closes.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/numbers.txt")]
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn below(&mut self, call: &mut Call, end: u32) -> Stream<u32>`.
    /// let numbers = NumbersClient::new(Connection::open(&path)?);
    /// let items = numbers.below(3)?.without_timeout();
    /// assert_eq!(items.count(), 3); // however long that takes
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn without_timeout(mut self) -> Self {
        self.handle.connection.timeout = None;
        self
    }
}

impl<T: Message, E: Message> Items<T, E> {
    /// Returns the next item if it has come; never waits.
    ///
    /// `None` means that it has not come yet, or after the last item, when [`is_done`](Items::is_done) returns true.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/numbers.txt")]
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn below(&mut self, call: &mut Call, end: u32) -> Stream<u32>`.
    /// let numbers = NumbersClient::new(Connection::open(&path)?);
    /// let mut items = numbers.below(3)?;
    /// let mut sum = 0;
    /// while !items.is_done() {
    ///     match items.try_next() {
    ///         Some(number) => sum += number?,
    ///         None => std::thread::yield_now(), // or whatever else there is to do
    ///     }
    /// }
    /// assert_eq!(sum, 0 + 1 + 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_next(&mut self) -> Option<Result<T, CallError<E>>> {
        if self.handle.done {
            return None;
        }
        let entry = match self.handle.flush_now() {
            Ok(()) => self.handle.try_next()?,
            Err(error) => Err(error),
        };
        self.read(entry)
    }

    /// Polls for the next item in a task, on any runtime; `None` after the last.
    ///
    /// The task is woken when there is an item. There is no timeout. An event loop has to
    /// [drive](crate::Connection::set_driven) the connection: if none does and no item has come, the stream ends with
    /// [`Error::NotDriven`](crate::Error::NotDriven).
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/numbers.txt")]
    /// use jsoncomm::Connection;
    /// use std::task::{Context, Poll, Waker};
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.set_driven();
    /// // The stub of a trait with `fn below(&mut self, call: &mut Call, end: u32) -> Stream<u32>`.
    /// let mut items = NumbersClient::new(connection.clone()).below(3)?;
    /// let mut cx = Context::from_waker(Waker::noop());
    /// let mut sum = 0;
    /// loop {
    ///     match items.poll_next(&mut cx) {
    ///         Poll::Ready(Some(number)) => sum += number?,
    ///         Poll::Ready(None) => break,
    ///         // An event loop does this when the connection is readable.
    ///         Poll::Pending => drop(connection.run_once()?),
    ///     }
    /// }
    /// assert_eq!(sum, 0 + 1 + 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError<E>>>> {
        if self.handle.done {
            return Poll::Ready(None);
        }
        if let Err(error) = self.handle.flush_now() {
            return Poll::Ready(self.read(Err(error)));
        }
        self.handle.poll(cx).map(|entry| self.read(entry))
    }

    /// Has a callback called with each item, and with `None` after the last, by the thread that receives it; does not
    /// wait.
    ///
    /// That is the event loop that [drives](crate::Server::drive) the connection, or a thread that waits for another
    /// reply. There is no timeout. The stream ends when the callback returns `false` or panics. Items that come while the
    /// callback runs are stored, within the [bounds](Items#backpressure) of the stream.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/numbers.txt")]
    /// use jsoncomm::Connection;
    /// use std::sync::mpsc;
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.set_driven();
    /// // The stub of a trait with `fn below(&mut self, call: &mut Call, end: u32) -> Stream<u32>`.
    /// let items = NumbersClient::new(connection.clone()).below(3)?;
    /// let (sender, receiver) = mpsc::channel();
    /// items.for_each(move |item| sender.send(item).is_ok());
    /// let mut sum = 0;
    /// loop {
    ///     match receiver.try_recv() {
    ///         Ok(Some(number)) => sum += number?,
    ///         Ok(None) => break,
    ///         // An event loop does this when the connection is readable.
    ///         Err(_) => drop(connection.run_once()?),
    ///     }
    /// }
    /// assert_eq!(sum, 0 + 1 + 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_each(
        mut self,
        mut callback: impl FnMut(Option<Result<T, CallError<E>>>) -> bool + Send + 'static,
    ) {
        if std::mem::replace(&mut self.handle.done, true) {
            callback(None);
            return;
        }
        if let Err(error) = self.handle.flush_now() {
            self.handle.end();
            if callback(Some(Err(error.into()))) {
                callback(None);
            }
            return;
        }
        let (shared, id) = (&self.handle.connection.shared, self.handle.id);
        // A loop that drives the connection would otherwise keep it alive for ever.
        let weak = Arc::downgrade(shared);
        let mut done = false;
        shared.set_callback(id, None, move |entry| {
            if done {
                return;
            }
            let (item, ended) = read_item(entry);
            let mut call = |item| caught(|| callback(item)).unwrap_or(false);
            let goes_on = item.is_none_or(|item| call(Some(item)));
            done = ended || !goes_on;
            if ended && goes_on {
                call(None);
            }
            if let Some(shared) = weak.upgrade().filter(|_| done) {
                shared.cancel(id);
            }
        });
    }

    /// Returns true if the last item has been given out.
    ///
    /// The example of [`try_next`](Items::try_next) uses it.
    pub fn is_done(&self) -> bool {
        self.handle.done
    }

    /// Decodes an entry, and notes whether it is the last.
    fn read(&mut self, entry: Entry) -> Option<Result<T, CallError<E>>> {
        let (item, ended) = read_item(entry);
        if ended {
            self.handle.end();
        }
        item
    }
}

impl<T: Message, E: Message> Iterator for Items<T, E> {
    type Item = Result<T, CallError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.handle.done {
            return None;
        }
        let (shared, id) = (&*self.handle.connection.shared, self.handle.id);
        let deadline = self.handle.connection.deadline();
        let sent = self.handle.flush(Some(deadline), &[]);
        let entry = match sent.and_then(|()| shared.wait_for_any(&[id], deadline)) {
            Ok(_) => shared.pop(id).unwrap_or(Err(Error::Closed)),
            Err(Error::Deadline) => return Some(Err(CallError::Deadline)),
            Err(why) => Err(why),
        };
        self.read(entry)
    }
}

impl<T: Message, E: Message> FusedIterator for Items<T, E> {}
