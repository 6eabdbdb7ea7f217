//! A call as its handler sees it.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::accounts::Account;
use crate::fds::Discard;
use crate::peer::Peer;
use crate::queue::{Caller, PendingReplies, ReplyRoute};
use crate::reply::{Deferred, Reply, ReplyContext, ReplyFormat, Stream, StreamSender};
use crate::trace::TraceParent;

/// The call that a handler is running: its peer, method and deadline, and [`defer`](Call::defer) to reply later.
///
/// A unit test of a handler makes one with [`TestCall`](crate::server::TestCall).
///
/// # Examples
///
#[doc = include_str!("../../doc/call.md")]
#[derive(Debug)]
pub struct Call {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) route: ReplyRoute,
    pub(super) account: Arc<Account>,
    pub(super) peer: Option<Peer>,
    pub(super) tag: Option<u64>,
    pub(super) deadline: Option<Instant>,
    pub(super) trace: Option<TraceParent>,
    pub(super) pending: Arc<PendingReplies>,
    /// How the reply is written, until a [`Reply`] or a [`StreamSender`] has been made.
    pub(super) format: Option<ReplyFormat>,
}

impl Call {
    /// Makes a call of no method, without a deadline.
    pub(super) fn new(
        caller: &Caller<'_>,
        pending: &Arc<PendingReplies>,
        format: ReplyFormat,
    ) -> Self {
        Self {
            service: "",
            method: "",
            route: caller.route(),
            account: Arc::clone(caller.account),
            peer: caller.peer.cloned(),
            tag: caller.tag,
            deadline: None,
            trace: None,
            pending: Arc::clone(pending),
            format: Some(format),
        }
    }

    /// Returns the service's name, without the method. It is empty on a bare endpoint and in a fallback.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// Returns the method's name, without the service. It is empty on a bare endpoint and in a fallback.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Returns the caller's identity as reported by the kernel. Never grant a right because it is `None`: then it is unknown.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Returns until when the caller waits, if it sent a timeout: at most [`Limits::timeout`](crate::Limits::timeout) after the
    /// call was received.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the trace that the caller says the call belongs to, if it sent one ([`Connection::with_trace`]). One that is
    /// malformed counts as none.
    ///
    /// [`Connection::with_trace`]: crate::Connection::with_trace
    #[doc(alias = "traceparent")]
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.trace
    }

    /// Defers the reply: passes a [`Reply`] to `take`, which keeps it, and returns what the method has to return.
    ///
    /// The reply may be sent at once, later, or from another thread. If it is dropped, the caller gets the fault
    /// [`Fault::NO_REPLY`](crate::Fault::NO_REPLY).
    ///
    /// | if | then |
    /// |---|---|
    /// | [`Limits::deferred`](crate::Limits::deferred) calls are deferred already | `take` is not called, and the caller gets [`Fault::BUSY`](crate::Fault::BUSY) |
    /// | a call is deferred twice | the second reply is ignored |
    /// | the method returns a value all the same | the value is sent, unless the reply has been |
    /// | the method returns the [`Deferred`] of another call | the caller gets [`Fault::NO_REPLY`](crate::Fault::NO_REPLY) |
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Call, Deferred, Reply};
    ///
    /// #[jsoncomm::service(name = "example.bell")]
    /// trait Bell {
    ///     /// Replies when the bell rings next.
    ///     fn rings(&mut self, call: &mut Call) -> Deferred<u32>;
    ///     /// Rings it.
    ///     fn ring(&mut self) -> u32;
    /// }
    ///
    /// #[derive(Default)]
    /// struct Tower { waiting: Vec<Reply<u32>>, rung: u32 }
    ///
    /// impl Bell for Tower {
    ///     fn rings(&mut self, call: &mut Call) -> Deferred<u32> {
    ///         call.defer(|reply| self.waiting.push(reply))
    ///     }
    ///
    ///     fn ring(&mut self) -> u32 {
    ///         self.rung += 1;
    ///         for reply in self.waiting.drain(..) {
    ///             reply.send(self.rung);
    ///         }
    ///         self.rung
    ///     }
    /// }
    /// ```
    pub fn defer<T, E>(&mut self, take: impl FnOnce(Reply<T, E>)) -> Deferred<T, E> {
        self.take_unless_full(|context| take(Reply::new(context)))
    }

    /// Replies with a stream: passes a [`StreamSender`] to `take`, which sends items, keeps it or passes it to a thread, and
    /// returns what the method has to return.
    ///
    /// A stream counts as a deferred call while it lasts; the table at [`defer`](Call::defer) applies.
    ///
    /// # Examples
    ///
    /// See [`StreamSender`] and [`Subscribers`](crate::stream::Subscribers).
    pub fn stream<T, E>(&mut self, take: impl FnOnce(StreamSender<T, E>)) -> Stream<T, E> {
        Stream(self.take_unless_full(|context| take(StreamSender::new(context))))
    }

    /// Closes a descriptor that the caller has passed, on another thread. Does not wait.
    ///
    /// [close(2)] can take as long as the caller likes: that of a TCP socket with `SO_LINGER`, or of a file whose file system is
    /// another process (FUSE). A descriptor that a handler drops is closed on the server's thread, and delays everyone. Use this
    /// for descriptors of clients that are not trusted.
    ///
    /// - A socket that is closed here does not linger.
    /// - A descriptor counts against [`Limits::user_descriptors`](crate::Limits::user_descriptors) until it is closed, and waits
    ///   only for others of the same user.
    /// - Descriptors of refused calls are closed like this by the server, except a file that had been read into an argument
    ///   before the call was refused.
    ///
    /// [close(2)]: https://man7.org/linux/man-pages/man2/close.2.html
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Call;
    /// use std::os::fd::OwnedFd;
    ///
    /// #[jsoncomm::service(name = "example.count")]
    /// trait Count {
    ///     /// Counts the bytes that can be read at once.
    ///     fn bytes(&mut self, call: &mut Call, #[fd] of: OwnedFd) -> u64;
    /// }
    ///
    /// struct Counter;
    ///
    /// impl Count for Counter {
    ///     fn bytes(&mut self, call: &mut Call, of: OwnedFd) -> u64 {
    ///         let bytes = 0; // …
    ///         call.close(of);
    ///         bytes
    ///     }
    /// }
    /// ```
    pub fn close(&self, fd: impl Into<OwnedFd>) {
        Arc::clone(&self.account).discard(vec![fd.into()]);
    }

    /// Returns the caller, as the server's queue of deferred calls knows it.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            key: self.route.key,
            to: self.route.to.as_ref(),
            account: &self.account,
            peer: self.peer(),
            tag: self.tag,
        }
    }

    /// Passes on what the reply is sent with, unless no more calls of this caller can be deferred.
    fn take_unless_full<T, E>(
        &mut self,
        take: impl FnOnce(Option<ReplyContext>),
    ) -> Deferred<T, E> {
        let refused = !self.is_taken() && !self.pending.has_room(&self.caller());
        if !refused {
            take(self.take_reply());
        }
        let types = PhantomData;
        Deferred { refused, types }
    }

    /// Returns true once a [`Reply`] or a [`StreamSender`] has been made.
    pub(super) fn is_taken(&self) -> bool {
        self.format.is_none()
    }

    /// Makes what a [`Reply`] is sent with; `None` the second time.
    pub(super) fn take_reply(&mut self) -> Option<ReplyContext> {
        let format = self.format.take()?;
        Some(ReplyContext {
            pending: Arc::clone(&self.pending),
            route: self.route.clone(),
            account: Arc::clone(&self.account),
            format,
            id: self.pending.begin(),
            deadline: self.deadline,
        })
    }
}
