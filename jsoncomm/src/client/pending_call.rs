//! Calls in flight.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::handle::Handle;
use super::reply::read_reply;
use super::slot::Entry;
use crate::error::{CallError, Error};
use crate::message::Message;
use crate::sys::opaque_debug;

/// A call in flight, started by [`Connection::start`](crate::Connection::start) or by a stub's `start()`.
///
/// | to get its reply | use | it waits |
/// |---|---|---|
/// | in this thread | [`wait`](PendingCall::wait), [`wait_any`](PendingCall::wait_any), [`wait_all`](PendingCall::wait_all) | until the deadline |
/// | if it has come | [`try_wait`](PendingCall::try_wait) | never |
/// | in a callback | [`on_complete`](PendingCall::on_complete) | never |
/// | in a task | `.await`: it is a [`Future`] | until the deadline, if an event loop [drives](crate::Connection::set_driven) the connection |
///
/// Its reply is given out once. Dropping it cancels the call: the server is told, and a late reply is dropped and its
/// descriptors closed.
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
pub struct PendingCall<T, E = Infallible> {
    pub(super) handle: Handle,
    pub(super) types: PhantomData<fn() -> (T, E)>,
}

opaque_debug!(PendingCall<T, E>);

impl<T: Message, E: Message> PendingCall<T, E> {
    /// Waits for the reply, until the deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::call`](crate::Connection::call); [`CallError::Closed`] if the reply has been given out.
    pub fn wait(mut self) -> Result<T, CallError<E>> {
        self.handle.check().map_err(CallError::from_error)?;
        self.handle.flush(Some(self.handle.deadline), &[])?;
        self.handle.done = true;
        let (shared, id) = (&*self.handle.connection.shared, self.handle.id);
        let mut table = shared.lock();
        if let Some(entry) = table.pop(id) {
            drop(table);
            return read_reply(entry);
        }
        shared.wait_for_reply(table, id, self.handle.deadline)
    }

    /// Returns the reply if it has come, or [`CallError::Deadline`] once the deadline has passed; never waits.
    ///
    /// The call is over when it returns `Some`. After that, it and all other methods return [`CallError::Closed`].
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
        if let Err(error) = self.handle.check() {
            return Some(Err(CallError::from_error(error)));
        }
        if let Err(error) = self.handle.flush_now() {
            self.handle.end();
            return Some(Err(error.into()));
        }
        let reply = self.handle.connection.shared.try_reply(self.handle.id);
        if reply.is_none() && self.handle.has_expired() {
            return Some(self.finish(Err(Error::Deadline)));
        }
        self.handle.done = reply.is_some();
        reply
    }

    /// Has a callback called with the reply, by the thread that receives it; does not wait.
    ///
    /// That is the event loop that [drives](crate::Server::drive) the connection, a thread that waits for another reply,
    /// or this one if the reply has come. At the deadline the callback gets [`CallError::Deadline`], if an event loop
    /// drives the connection. It may make calls. A panic in it ends neither the loop nor the thread.
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
    /// let (sender, receiver) = mpsc::channel();
    /// counter.start().add(1)?.on_complete(move |sum| {
    ///     let _ = sender.send(sum);
    /// });
    /// assert_eq!(counter.add(2)?, 3); // receives the first reply as well
    /// assert_eq!(receiver.recv()??, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_complete(mut self, callback: impl FnOnce(Result<T, CallError<E>>) + Send + 'static) {
        if std::mem::replace(&mut self.handle.done, true) {
            return callback(Err(CallError::Closed));
        }
        if let Err(error) = self.handle.flush_now() {
            self.handle.end();
            return callback(Err(error.into()));
        }
        let shared = &*self.handle.connection.shared;
        let mut callback = Some(callback);
        shared.set_callback(self.handle.id, self.handle.deadline, move |entry| {
            if let Some(callback) = callback.take() {
                callback(read_reply(entry));
            }
        });
    }

    /// Returns the deadline that the call was started with; `None` if it has none.
    pub fn deadline(&self) -> Option<Instant> {
        self.handle.deadline
    }

    /// Waits for the first reply to any of `calls`, removes that call, and returns its index and the reply.
    ///
    /// Returns `None` if there are no calls. All must be of one connection. At the earliest deadline, the call that has it
    /// is removed and cancelled, and its result is [`CallError::Deadline`].
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
    /// while let Some((_index, sum)) = PendingCall::wait_any(&mut calls) {
    ///     sums.push(sum?);
    /// }
    /// assert_eq!(sums, [1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_any(calls: &mut Vec<Self>) -> Option<(usize, Result<T, CallError<E>>)> {
        if let Some(index) = calls.iter().position(|call| call.handle.done) {
            return Some((index, calls.remove(index).wait()));
        }
        let shared = Arc::clone(&calls.first()?.handle.connection.shared);
        let ids: Vec<u64> = calls.iter().map(|call| call.handle.id).collect();
        let deadlines = calls.iter().enumerate();
        let earliest = deadlines
            .filter_map(|(index, call)| Some((call.handle.deadline?, index)))
            .min();
        let deadline = earliest.map(|(at, _)| at);
        let flush = |call: &Self| call.handle.flush(Some(deadline), &ids).err();
        let failed = calls.iter().enumerate().find_map(|(index, call)| {
            let error = flush(call).filter(|error| !matches!(error, Error::Deadline));
            Some((index, error?))
        });
        if let Some((index, error)) = failed {
            drop(calls.remove(index));
            return Some((index, Err(error.into())));
        }
        let index = match shared.wait_for_any(&ids, deadline) {
            Ok(index) => index,
            // Its deadline has passed, so it does not wait.
            Err(Error::Deadline) => earliest.map_or(0, |(_, index)| index),
            Err(why) => return Some((0, calls.remove(0).finish(Err(why)))),
        };
        Some((index, calls.remove(index).wait()))
    }

    /// Waits for the replies to all of `calls` and returns them in the same order.
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

    fn finish(&mut self, entry: Entry) -> Result<T, CallError<E>> {
        self.handle.end();
        read_reply(entry)
    }
}

/// Waits for the reply in a task, on any runtime.
///
/// An event loop has to [drive](crate::Connection::set_driven) the connection: a task that waits for its descriptor, or a
/// [`Server`](crate::Server). If none does and the reply has not come, the call ends with
/// [`Error::NotDriven`](crate::Error::NotDriven). The task is woken by the thread that receives the reply, or by the loop
/// at the deadline.
///
/// # Examples
///
/// Without a runtime: one thread sleeps until its waker wakes it, another drives the connection.
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
        if let Err(error) = self.handle.flush_now() {
            self.handle.end();
            return Poll::Ready(Err(error.into()));
        }
        self.handle.poll(cx).map(|entry| self.finish(entry))
    }
}
