//! Answers in many parts, as they come.

use std::convert::Infallible;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Connection;
use super::notify::{Callback, Listener};
use super::reply::{Frame, Kept};
use crate::error::{CallError, Error, caught};
use crate::message::Message;

/// The items of a stream: what the stub's method of one that returns [`Stream`](crate::Stream) gives.
///
/// [`next`](Iterator::next) waits for an item until the connection's deadline, anew for each;
/// [`with_timeout`](Items::with_timeout) and [`without_timeout`](Items::without_timeout) set another. An item that does not come in time is a
/// [`CallError::Deadline`], and the stream goes on; any other error is the last item. Dropping it ends the
/// stream: the server is told, and items that come late are dropped with their descriptors.
///
/// Items that come while the connection waits for something else are kept, up to 1024 of them, 1 MiB and
/// [`FDS_MAX`](crate::fds::FDS_MAX) descriptors; when they are not fetched, the stream ends with [`Error::Full`]. While nobody waits for anything, they wait at
/// the server, which treats them as its [`StreamSender`](crate::stream::StreamSender) says.
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
/// #         call.stream(|sink| sink.feed((0..end).map(|number| Ok(number * number))))
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
    connection: Connection,
    id: u64,
    /// The last item has been given out, or somebody else is told of them.
    done: bool,
    types: PhantomData<fn() -> (T, E)>,
}

impl<T, E> fmt::Debug for Items<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("id", &self.id).finish()
    }
}

impl<T, E> Items<T, E> {
    pub(super) fn new(connection: Connection, id: u64) -> Self {
        Self {
            connection,
            id,
            done: false,
            types: PhantomData,
        }
    }

    /// The same stream with another deadline for each item.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.connection.timeout = Some(timeout);
        self
    }

    /// The same stream, waiting for each item until it comes or the server goes.
    pub fn without_timeout(mut self) -> Self {
        self.connection.timeout = None;
        self
    }
}

impl<T: Message, E: Message> Items<T, E> {
    /// Fetches the next item if it has come; never waits. `None` while it has not, and after the last: then
    /// [`is_done`](Items::is_done) holds.
    pub fn try_next(&mut self) -> Option<Result<T, CallError<E>>> {
        if self.done {
            return None;
        }
        if let Err(error) = self.connection.shared.check_process() {
            return self.read(Err(error));
        }
        let shared = &*self.connection.shared;
        // In statements of their own, so that the table is not locked meanwhile.
        let mut kept = shared.lock().pop(self.id);
        if kept.is_none() {
            let taken = shared.take_in();
            kept = shared.lock().pop(self.id);
            if let (None, Err(error)) = (&kept, taken) {
                kept = Some(Err(shared.give_up(self.id, error)));
            }
        }
        self.read(kept?)
    }

    /// The same for callers that are `async`, on any runtime: the task is woken when there is something to
    /// fetch. There is no deadline. Some loop has to [drive](Connection::set_driven) the connection meanwhile: while none
    /// does, and nothing has come, the stream ends with [`Error::NotDriven`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError<E>>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Err(error) = self.connection.shared.check_process() {
            return Poll::Ready(self.read(Err(error)));
        }
        let listener = Listener::Task(cx.waker().clone());
        let mut table = self.connection.shared.lock();
        if let Some(kept) = table.pop(self.id) {
            drop(table);
            return Poll::Ready(self.read(kept));
        }
        let (_, before) = table.listen(self.id, listener, None);
        // Wakers are dropped with the table unlocked.
        drop(table);
        drop(before);
        let shared = &*self.connection.shared;
        if shared.is_driven() {
            return Poll::Pending;
        }
        let error = shared.give_up(self.id, Error::NotDriven);
        self.done = true;
        Poll::Ready(Some(Err(CallError::Io(error))))
    }

    /// Says whether the last item has been given out.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Has `call` called with each item instead of waiting for it, and with `None` after the last: by the loop that
    /// [drives](crate::Server::drive) the connection, or by whichever thread takes the item in. There is no
    /// deadline. The stream ends when `call` says `false` or panics. Items that come while `call` is busy are kept as
    /// [above](Items), within the same bounds.
    pub fn for_each(
        mut self,
        mut call: impl FnMut(Option<Result<T, CallError<E>>>) -> bool + Send + 'static,
    ) {
        if std::mem::replace(&mut self.done, true) {
            call(None);
            return;
        }
        if let Err(error) = self.connection.shared.check_process() {
            if call(Some(Err(CallError::from_error(error)))) {
                call(None);
            }
            return;
        }
        // A loop that drives the connection would otherwise keep it alive for ever.
        let (shared, id) = (Arc::downgrade(&self.connection.shared), self.id);
        let mut done = false;
        let tell = move |held| {
            if done {
                return;
            }
            let (item, last, broken) = match frame(held) {
                Frame::Item(item) => (Some(Ok(item)), false, false),
                Frame::Last(item) => (Some(item), true, false),
                Frame::Broken(error) => (Some(Err(error)), true, true),
                Frame::End => (None, true, false),
            };
            let mut call = |item| caught(|| call(item)).unwrap_or(false);
            let told = item.is_none_or(|item| call(Some(item)));
            done = last || !told;
            if last && told {
                call(None);
            }
            if broken || (done && !last) {
                if let Some(shared) = shared.upgrade() {
                    shared.cancel(id);
                }
            }
        };
        let callback = Callback::new(tell);
        self.connection.shared.call_back(self.id, callback, None);
    }

    /// Reads an item, and knows the last.
    fn read(&mut self, kept: Result<Kept, Error>) -> Option<Result<T, CallError<E>>> {
        match frame(kept) {
            Frame::Item(item) => Some(Ok(item)),
            Frame::Last(item) => {
                self.done = true;
                Some(item)
            }
            Frame::Broken(error) => {
                self.done = true;
                self.connection.shared.cancel(self.id);
                Some(Err(error))
            }
            Frame::End => {
                self.done = true;
                None
            }
        }
    }
}

/// Reads what has come of a stream, or what is there instead.
fn frame<T: Message, E: Message>(kept: Result<Kept, Error>) -> Frame<T, E> {
    match kept {
        Ok(kept) => kept.read_frame(),
        Err(error) => Frame::Last(Err(CallError::from_error(error))),
    }
}

impl<T: Message, E: Message> Iterator for Items<T, E> {
    type Item = Result<T, CallError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if let Err(error) = self.connection.shared.check_process() {
            return self.read(Err(error));
        }
        let deadline = self.connection.deadline();
        let shared = &*self.connection.shared;
        let kept = match shared.wait_for_any(&[self.id], deadline) {
            Ok((mut table, _)) => table.pop(self.id).unwrap_or(Err(Error::Closed)),
            Err(Error::Deadline) => return Some(Err(CallError::Deadline)),
            Err(error) => Err(shared.give_up(self.id, error)),
        };
        self.read(kept)
    }
}

impl<T: Message, E: Message> FusedIterator for Items<T, E> {}

impl<T, E> Drop for Items<T, E> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.shared.cancel(self.id);
        }
    }
}
