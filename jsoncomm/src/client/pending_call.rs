//! Calls in flight.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Connection;
use super::notify::{Callback, Listener};
use super::reply::Kept;
use crate::error::{CallError, Error};
use crate::message::Message;

/// A call in flight, made by [`Connection::start`] or a stub's `start()`.
///
/// Dropping it cancels the call: the server is told, and a late answer is dropped with its descriptors.
///
/// # Examples
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
/// use jsoncomm::Connection;
///
/// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
/// let counter = CounterClient::new(Connection::open(&path)?);
/// let (first, second) = (counter.start().add(1)?, counter.start().add(2)?);
/// assert_eq!(second.wait()?, 3);
/// assert_eq!(first.wait()?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it cancels the call"]
pub struct PendingCall<T, E = std::convert::Infallible> {
    connection: Connection,
    id: u64,
    deadline: Option<Instant>,
    /// The answer has been given out, or the call cancelled.
    done: bool,
    types: PhantomData<fn() -> (T, E)>,
}

impl<T, E> fmt::Debug for PendingCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("id", &self.id).finish()
    }
}

impl<T, E> PendingCall<T, E> {
    pub(super) fn new(connection: Connection, id: u64, deadline: Option<Instant>) -> Self {
        Self {
            connection,
            id,
            deadline,
            done: false,
            types: PhantomData,
        }
    }
}

impl<T: Message, E: Message> PendingCall<T, E> {
    /// Waits for the answer, until the deadline that the call was started with.
    ///
    /// # Errors
    ///
    /// As [`Connection::call`].
    pub fn wait(mut self) -> Result<T, CallError<E>> {
        if self.done {
            return Err(CallError::Closed);
        }
        let shared = &*self.connection.shared;
        // Dropping the call cancels it.
        shared.check_process().map_err(CallError::from_error)?;
        self.done = true;
        let mut table = shared.lock();
        if let Some(kept) = table.pop(self.id) {
            drop(table);
            return read(kept);
        }
        shared.wait_for_reply(table, self.id, self.deadline)
    }

    /// Looks whether the answer has come; never waits. `None` while it has not; after the deadline,
    /// [`CallError::Deadline`]. Once it has given an answer, it gives [`CallError::Closed`], and so does whatever
    /// else is done with the call.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(Connection::open(&path)?);
    /// let mut call = counter.start().add(1)?;
    /// let sum = loop {
    ///     match call.try_wait() {
    ///         Some(sum) => break sum?,
    ///         None => std::thread::yield_now(), // or whatever else there is to do
    ///     }
    /// };
    /// assert_eq!(sum, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_wait(&mut self) -> Option<Result<T, CallError<E>>> {
        if self.done {
            return Some(Err(CallError::Closed));
        }
        if let Err(error) = self.connection.shared.check_process() {
            return Some(Err(CallError::from_error(error)));
        }
        let answer = self.connection.shared.try_reply(self.id);
        let answer = answer.or_else(|| self.is_late().then(|| self.time_out()));
        self.done = answer.is_some();
        answer
    }

    /// Returns true if the deadline has passed.
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    /// Cancels the call because of its deadline.
    fn time_out(&self) -> Result<T, CallError<E>> {
        self.connection.shared.cancel(self.id);
        Err(CallError::Deadline)
    }

    /// Until when the answer is waited for; `None` is for ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Has `then` called with the answer instead of waiting for it: by the loop that
    /// [drives](crate::Server::drive) the connection, or by whichever thread takes the answer in. It may make
    /// calls of its own. At the deadline it gets [`CallError::Deadline`], if a loop drives the connection.
    /// A panic in it ends neither the loop nor that thread.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    /// use std::sync::mpsc;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(Connection::open(&path)?);
    /// let (tell, told) = mpsc::channel();
    /// counter.start().add(1)?.on_complete(move |sum| {
    ///     let _ = tell.send(sum);
    /// });
    /// assert_eq!(counter.add(2)?, 3); // takes in the first answer as well
    /// assert_eq!(told.recv()??, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_complete(mut self, then: impl FnOnce(Result<T, CallError<E>>) + Send + 'static) {
        if std::mem::replace(&mut self.done, true) {
            return then(Err(CallError::Closed));
        }
        if let Err(error) = self.connection.shared.check_process() {
            return then(Err(CallError::from_error(error)));
        }
        let mut then = Some(then);
        let callback = Callback::new(move |kept| {
            if let Some(then) = then.take() {
                then(read(kept));
            }
        });
        let shared = &*self.connection.shared;
        shared.call_back(self.id, callback, self.deadline);
    }

    /// Waits for whichever of `calls` is answered first, removes it and returns its place and its answer;
    /// `None` when there are none. All must be of one connection. At the earliest deadline of all, the call
    /// that has it is removed with [`CallError::Deadline`].
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::client::PendingCall;
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(Connection::open(&path)?);
    /// let mut calls = vec![counter.start().add(1)?, counter.start().add(2)?];
    /// let mut sums = Vec::new();
    /// while let Some((_place, sum)) = PendingCall::wait_any(&mut calls) {
    ///     sums.push(sum?);
    /// }
    /// assert_eq!(sums, [1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_any(calls: &mut Vec<Self>) -> Option<(usize, Result<T, CallError<E>>)> {
        if let Some(place) = calls.iter().position(|call| call.done) {
            return Some((place, calls.remove(place).wait()));
        }
        let ids: Vec<u64> = calls.iter().map(|call| call.id).collect();
        let connection = calls.first()?.connection.clone();
        let deadlines = calls.iter().enumerate();
        let earliest = deadlines
            .filter_map(|(place, call)| Some((call.deadline?, place)))
            .min();
        let deadline = earliest.map(|(deadline, _)| deadline);
        let waited = connection
            .shared
            .wait_for_any(&ids, deadline)
            .map(|(_table, place)| place);
        let (place, error) = match (waited, earliest) {
            (Ok(place), _) => return Some((place, calls.remove(place).wait())),
            (Err(Error::Deadline), Some((_, place))) => (place, Error::Deadline),
            (Err(error), _) => (0, error),
        };
        // Dropping it tells the server.
        drop(calls.remove(place));
        Some((place, Err(CallError::from_error(error))))
    }

    /// Waits for all of `calls` and returns their answers in the same order.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::client::PendingCall;
    /// use jsoncomm::Connection;
    ///
    /// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// let counter = CounterClient::new(Connection::open(&path)?);
    /// let calls = [counter.start().add(1)?, counter.start().add(2)?];
    /// let sums: Result<Vec<u64>, _> = PendingCall::wait_all(calls).into_iter().collect();
    /// assert_eq!(sums?, [1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_all(calls: impl IntoIterator<Item = Self>) -> Vec<Result<T, CallError<E>>> {
        calls.into_iter().map(Self::wait).collect()
    }
}

impl<T, E> Drop for PendingCall<T, E> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.shared.cancel(self.id);
        }
    }
}

/// For callers that are `async`, on any runtime. Some loop has to [drive](Connection::set_driven) the
/// connection meanwhile: a task that waits for its descriptor, or a [`Server`](crate::Server). A call that is polled
/// while none does, and whose answer has not come, ends with [`Error::NotDriven`]. The task is woken from whichever thread
/// receives the answer, or by the loop at the deadline.
///
/// # Examples
///
/// A call that is awaited without a runtime: one thread sleeps until its waker wakes it, another drives the connection.
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
/// use jsoncomm::{Connection, Kind, Limits, Server};
/// use std::future::Future;
/// use std::pin::pin;
/// use std::sync::Arc;
/// use std::task::{Context, Poll, Wake};
/// use std::thread::{self, Thread};
///
/// struct Unpark(Thread);
/// impl Wake for Unpark {
///     fn wake(self: Arc<Self>) { self.0.unpark() }
/// }
/// fn block_on<F: Future>(future: F) -> F::Output {
///     let waker = Arc::new(Unpark(thread::current())).into();
///     let mut future = pin!(future);
///     loop {
///         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
///             Poll::Ready(output) => return output,
///             Poll::Pending => thread::park(),
///         }
///     }
/// }
///
/// let connection = Connection::open(&path)?;
/// let mut driver = Server::<()>::new(Limits::default())?;
/// driver.drive(&connection)?;
/// let handle = driver.handle();
/// let driver = thread::spawn(move || driver.run(&mut ()));
/// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
/// let counter = CounterClient::new(connection);
/// let sum = counter.start().add(2)?;
/// assert_eq!(block_on(sum)?, 2);
/// handle.stop();
/// driver.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<T: Message, E: Message> Future for PendingCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.done {
            return Poll::Ready(Err(CallError::Closed));
        }
        let shared = &*self.connection.shared;
        if let Err(error) = shared.check_process() {
            return Poll::Ready(Err(CallError::from_error(error)));
        }
        let listener = Listener::Task(cx.waker().clone());
        let mut table = shared.lock();
        if let Some(kept) = table.pop(self.id) {
            drop(table);
            self.done = true;
            return Poll::Ready(read(kept));
        }
        let (_, before) = table.listen(self.id, listener, self.deadline);
        // Wakers are dropped with the table unlocked.
        drop(table);
        drop(before);
        let ended = if self.is_late() {
            self.time_out()
        } else if shared.is_driven() {
            return Poll::Pending;
        } else {
            let error = shared.give_up(self.id, Error::NotDriven);
            Err(CallError::Io(error))
        };
        self.done = true;
        Poll::Ready(ended)
    }
}

/// Reads a reply that was kept, or the reason why there is none.
fn read<T: Message, E: Message>(kept: Result<Kept, Error>) -> Result<T, CallError<E>> {
    match kept {
        Ok(kept) => kept.read(),
        Err(error) => Err(CallError::from_error(error)),
    }
}
