//! Replies that outlive their handler: one value ([`Reply`]) or a stream of items ([`StreamSender`]).

mod context;
mod stream;
mod stream_buffer;
mod subscribers;

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::time::Instant;

use crate::envelope::{self, Id};
use crate::error::{CallError, EncodeError, Error, Fault};
use crate::message::{self, Pack, Packer};

use context::send_fault;
pub(crate) use context::{ReplyContext, ReplyFormat, encode_fault, encode_within, no_reply};
pub use stream::{Overflow, Stream, StreamSender};
pub use subscribers::Subscribers;

/// The right to reply to one call, once.
///
/// A handler gets it from [`Call::defer`](crate::Call::defer) or in [`Handler::handle`](crate::Handler::handle). It can be
/// used there, or be kept and used later from any thread, which wakes the server's loop.
///
/// | the handler | the caller gets |
/// |---|---|
/// | [`send`](Reply::send) | a value |
/// | [`fail`](Reply::fail) | the service's own error |
/// | [`send_result`](Reply::send_result) | a value or the service's own error |
/// | [`forward`](Reply::forward) | the result of a call to another service |
/// | [`send_fault`](Reply::send_fault) | a fault; nothing on a bare endpoint |
/// | drops it | the fault [`Fault::NO_REPLY`], or [`Fault::INTERNAL_ERROR`] in a panic; nothing on a bare endpoint |
///
/// None of these waits: the reply is encoded and left to the server's loop, which sends it, or queues it while the
/// caller has no room ([`Limits::backlog_bytes`](crate::Limits::backlog_bytes)). A reply to a call that is no longer
/// [wanted](Reply::is_wanted) is discarded and counted ([`Counts`](crate::observe::Counts)).
///
/// In a forked child of the server's process a reply does nothing, dropped or used: the parent still has to reply.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Call, Deferred};
///
/// #[jsoncomm::service(name = "example.hash")]
/// trait Hash {
///     fn of(&mut self, call: &mut Call, text: String) -> Deferred<u64, String>;
/// }
///
/// struct Hasher;
///
/// impl Hash for Hasher {
///     fn of(&mut self, call: &mut Call, text: String) -> Deferred<u64, String> {
///         call.defer(|reply| {
///             std::thread::spawn(move || {
///                 if text.is_empty() {
///                     reply.fail("there is nothing to hash".into());
///                 } else {
///                     reply.send(text.bytes().map(u64::from).sum());
///                 }
///             });
///         })
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping a reply sends the fault NO_REPLY"]
pub struct Reply<T, E = Infallible> {
    /// `None` once the reply has been sent.
    context: Option<ReplyContext>,
    types: PhantomData<fn(T, E)>,
}

impl<T: Pack, E: Pack> Reply<T, E> {
    /// Replies with a value. Never waits.
    ///
    /// The descriptors in `value` are duplicated, then `value` is dropped. If it cannot be encoded, exceeds a limit or
    /// cannot be duplicated, the caller gets a fault that says so.
    pub fn send(self, value: T) {
        self.complete(&value, envelope::write_result);
    }

    /// Replies with the service's own error. Never waits.
    ///
    /// On a bare endpoint the error is sent as the message. `error` is treated like the value of [`send`](Reply::send).
    pub fn fail(self, error: E)
    where
        E: fmt::Display,
    {
        self.complete(&error, envelope::write_error);
    }

    /// Replies with the value or the service's own error, as a method that returned `result` would. Never waits.
    pub fn send_result(self, result: Result<T, E>)
    where
        E: fmt::Display,
    {
        match result {
            Ok(value) => self.send(value),
            Err(error) => self.fail(error),
        }
    }

    /// Replies with a fault, as the framework does for a call that it cannot carry out. Never waits.
    ///
    /// On a bare endpoint nothing is sent, and the reply counts as discarded.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Fault, Reply};
    ///
    /// fn report(reply: Reply<u32>, load: u32) {
    ///     if load < 100 {
    ///         reply.send(load);
    ///     } else {
    ///         reply.send_fault(&Fault::new(Fault::BUSY, "come back later"));
    ///     }
    /// }
    /// ```
    pub fn send_fault(mut self, fault: &Fault) {
        if let Some(context) = self.context.take() {
            context.post_fault(fault);
        }
    }

    /// Replies with the result of a call to another service. Never waits.
    ///
    /// Values, service errors and faults are passed on. Other errors become faults:
    ///
    /// | error | fault |
    /// |---|---|
    /// | [`CallError::Deadline`] | [`Fault::DEADLINE_EXCEEDED`] |
    /// | [`CallError::NotSent`] because there was no room in time | [`Fault::BUSY`] |
    /// | any other | [`Fault::INTERNAL_ERROR`] |
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../doc/counter.txt")]
    /// use jsoncomm::{Call, Deferred};
    ///
    /// #[jsoncomm::service(name = "example.twice")]
    /// trait Twice {
    ///     fn add(&mut self, call: &mut Call, number: u64) -> Deferred<u64>;
    /// }
    ///
    /// /// Has a stub of a trait with `fn add(&mut self, number: u64) -> u64`.
    /// struct Relay { counter: CounterClient }
    ///
    /// impl Twice for Relay {
    ///     fn add(&mut self, call: &mut Call, number: u64) -> Deferred<u64> {
    ///         call.defer(|reply| match self.counter.start().add(2 * number) {
    ///             Ok(sum) => sum.on_complete(|sum| reply.forward(sum)),
    ///             Err(error) => reply.forward(Err(error)),
    ///         })
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward(self, result: Result<T, CallError<E>>)
    where
        E: fmt::Display,
    {
        let (code, message) = match result {
            Ok(value) => return self.send(value),
            Err(CallError::Service(error)) => return self.fail(error),
            Err(CallError::Fault(fault)) => return self.send_fault(&fault),
            Err(CallError::Deadline) => (Fault::DEADLINE_EXCEEDED, "did not reply in time"),
            Err(CallError::NotSent(Error::Full | Error::Deadline)) => (Fault::BUSY, "is busy"),
            Err(CallError::Stream) => (Fault::INTERNAL_ERROR, "replied with a stream"),
            Err(CallError::Closed | CallError::NotSent(_) | CallError::Io(_)) => {
                (Fault::INTERNAL_ERROR, "cannot be reached")
            }
        };
        let message = format!("the service that this one calls {message}");
        self.send_fault(&Fault::new(code, message));
    }

    /// Encodes the reply and posts it, or a fault with the reason why it cannot be sent. `write` puts it into an envelope.
    fn complete<'m, M: Pack>(
        mut self,
        reply: &'m M,
        write: fn(&mut Vec<u8>, &Id<'_>, &'m M, &Packer<'m>) -> Result<(), EncodeError>,
    ) {
        if let Some(context) = &self.context {
            let encoded = context.encode(|text, fds| match &context.format {
                ReplyFormat::Bare => message::encode(reply, text, fds),
                ReplyFormat::Call(id) => write(text, id, reply, fds),
                ReplyFormat::Oneway => Ok(()),
            });
            match encoded {
                Ok(reply) => drop(context.complete(Some(reply))),
                Err(error) => context.post_fault(&send_fault(&error)),
            }
        }
        // Not earlier: if encoding panics, the destructor replies with a fault.
        self.context = None;
    }
}

impl<T, E> Reply<T, E> {
    pub(crate) fn new(context: Option<ReplyContext>) -> Self {
        Self {
            context,
            types: PhantomData,
        }
    }

    /// Returns true if the caller can still use a reply.
    ///
    /// Returns false once the call's deadline has passed, the caller has cancelled it or disconnected
    /// ([`Kind::Seqpacket`](crate::Kind::Seqpacket) only), or the server was dropped; always false for a one-way call. A reply
    /// that is not wanted is discarded.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Reply;
    ///
    /// /// Searches until the caller gives up.
    /// fn search(lines: &[String], word: &str, reply: Reply<Vec<usize>>) {
    ///     let mut found = Vec::new();
    ///     for (place, line) in lines.iter().enumerate() {
    ///         if !reply.is_wanted() {
    ///             return;
    ///         }
    ///         if line.contains(word) {
    ///             found.push(place);
    ///         }
    ///     }
    ///     reply.send(found);
    /// }
    /// ```
    pub fn is_wanted(&self) -> bool {
        self.context.as_ref().is_some_and(ReplyContext::is_wanted)
    }

    /// Returns the call's deadline, if the caller sent one.
    pub fn deadline(&self) -> Option<Instant> {
        self.context.as_ref()?.deadline
    }

    /// Sets a callback for the end of the call without a reply.
    ///
    /// It runs once, on the server's thread, when the caller cancels the call or disconnects, the datagram endpoint is
    /// removed or the server is dropped. If one of these has happened already, it runs at once on this thread. It
    /// replaces an earlier callback. A deadline does not run it; see [`deadline`](Reply::deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Call, Deferred, Reply};
    /// use std::sync::mpsc::Sender;
    /// # use std::{sync::mpsc, time::Duration};
    ///
    /// #[jsoncomm::service(name = "example.bell")]
    /// trait Bell {
    ///     fn rings(&mut self, call: &mut Call) -> Deferred<u32>;
    /// }
    ///
    /// struct Tower { waiting: Vec<Reply<u32>>, cancelled: Sender<&'static str> }
    ///
    /// impl Bell for Tower {
    ///     fn rings(&mut self, call: &mut Call) -> Deferred<u32> {
    ///         let cancelled = self.cancelled.clone();
    ///         call.defer(|reply| {
    ///             reply.on_cancel(move || {
    ///                 let _ = cancelled.send("one call was cancelled");
    ///             });
    ///             self.waiting.push(reply);
    ///         })
    ///     }
    /// }
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bell.sock");
    /// # let mut server = jsoncomm::Server::new(jsoncomm::Limits::default())?;
    /// # server.bind(&path, jsoncomm::Kind::Seqpacket)?.serve::<dyn Bell>();
    /// # let (cancelled, events) = mpsc::channel();
    /// # std::thread::spawn(move || server.run(&mut Tower { waiting: Vec::new(), cancelled }));
    ///
    /// let bell = BellClient::new(jsoncomm::Connection::open(&path)?);
    /// drop(bell.start().rings()?); // cancels the call
    /// # assert_eq!(events.recv_timeout(Duration::from_secs(20))?, "one call was cancelled");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        if let Some(context) = &self.context {
            context.on_cancel(Box::new(callback));
        }
    }
}

impl<T, E> Drop for Reply<T, E> {
    fn drop(&mut self) {
        if let Some(context) = self.context.take() {
            context.post_fault(&no_reply());
        }
    }
}

/// The return type of a method that replies later.
///
/// Only [`Call::defer`](crate::Call::defer) creates it, so a method that returns it has taken its [`Reply`]. The stub's
/// method returns the value as if it had been returned at once. `E` is the service's error, which
/// [`fail`](Reply::fail) sends: `Deferred<T, E>` stands for a `Result`.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Call, Deferred, Reply};
///
/// #[jsoncomm::service(name = "example.lock")]
/// trait Lock {
///     /// Replies when the lock is free.
///     fn acquire(&mut self, call: &mut Call) -> Deferred<()>;
///     #[oneway]
///     fn release(&mut self);
/// }
///
/// #[derive(Default)]
/// struct Queue { waiting: Vec<Reply<()>>, locked: bool }
///
/// impl Lock for Queue {
///     fn acquire(&mut self, call: &mut Call) -> Deferred<()> {
///         call.defer(|reply| {
///             if self.locked {
///                 self.waiting.push(reply);
///             } else {
///                 self.locked = true;
///                 reply.send(());
///             }
///         })
///     }
///
///     fn release(&mut self) {
///         self.waiting.retain(Reply::is_wanted);
///         match self.waiting.pop() {
///             Some(reply) => reply.send(()),
///             None => self.locked = false,
///         }
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "the method has to return it"]
pub struct Deferred<T, E = Infallible> {
    /// There was no room for another deferred call, and the reply was not taken.
    pub(crate) refused: bool,
    pub(crate) types: PhantomData<fn(T, E)>,
}

#[cfg(test)]
mod tests;
