//! A call as its handler sees it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::accounts::Account;
use crate::fds::Discard;
use crate::peer::Peer;
use crate::queue::{Caller, DeferredId, PendingReplies, ReplyRoute};
use crate::reply::{Deferred, Reply, ReplyContext, ReplyFormat, Stream, StreamSender};

/// A call while its handler runs: who called what, and until when the caller waits. Tests of a handler make one with
/// [`TestCall`](crate::server::TestCall).
///
/// # Examples
///
#[doc = include_str!("../../doc/call.md")]
#[derive(Debug)]
pub struct Call {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) ticket: ReplyRoute,
    pub(super) account: Arc<Account>,
    pub(super) peer: Option<Peer>,
    pub(super) deadline: Option<Instant>,
    /// What a reply is made of, until one is made.
    pub(super) origin: Option<Origin>,
    /// Given once a reply is made.
    pub(super) serial: Option<DeferredId>,
}

/// Where a call came from, for an answer that is given later.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) mailbox: Arc<PendingReplies>,
    pub(super) to: ReplyFormat,
}

impl Call {
    /// One of no method, without a deadline.
    pub(super) fn new(caller: &Caller<'_>, origin: Origin) -> Self {
        Self {
            service: "",
            method: "",
            ticket: caller.route(),
            account: Arc::clone(caller.account),
            peer: caller.peer.cloned(),
            deadline: None,
            origin: Some(origin),
            serial: None,
        }
    }

    /// The service's name, without the method; empty on a bare endpoint.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// The method's name, without the service; empty on a bare endpoint.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Who called, as the kernel says; `None` when it cannot be known, which is never a right.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Until when the caller waits, if it said so; at most [`Limits::timeout`](crate::Limits::timeout) from receiving the call.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Closes what the caller has passed and nobody needs any more, on another thread. Does not wait.
    ///
    /// [close(2)] can take as long as the caller likes: that of a TCP socket with `SO_LINGER`, or of a file whose
    /// file system is another process (FUSE). A descriptor that a handler drops is closed on the server's thread,
    /// and everybody waits; those of refused calls are not, but for a file that had been read into an argument before
    /// the call was refused. A socket that is closed here does not linger. What waits to be closed counts against
    /// [`Limits::user_descriptors`](crate::Limits::user_descriptors), and waits for what the same user has sent only.
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

    /// Answers later: hands the [`Reply`] to `take`, which keeps it, and makes what the method returns.
    ///
    /// This is the only way to make a [`Deferred`], so a method that returns one has taken its reply, and a
    /// reply answers once. It can be answered in `take` already, from another thread, or never: dropping it
    /// tells the caller. A second `later` for the same call gets a reply that nobody wants. So does a method that
    /// returns a value all the same: that is the answer, unless the reply has given one by then. A `Deferred` of another
    /// call answers nothing; the caller is told [`Fault::NO_REPLY`](crate::Fault::NO_REPLY).
    ///
    /// When [`Limits::deferred`](crate::Limits::deferred) are waiting already, `take` is not called, and the caller is told
    /// [`Fault::BUSY`](crate::Fault::BUSY).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Call, Deferred, Reply};
    ///
    /// #[jsoncomm::service(name = "example.bell")]
    /// trait Bell {
    ///     /// Answers when the bell rings next.
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
        let refused = self.is_full();
        if !refused {
            take(Reply::new(self.slot()));
        }
        Deferred::new(refused)
    }

    /// Answers in many parts: hands the [`StreamSender`] to `take`, which keeps it, feeds it or gives it to a thread, and
    /// makes what the method returns. Otherwise as [`defer`](Call::defer): a stream counts as one deferred call
    /// while it lasts.
    ///
    /// # Examples
    ///
    /// At [`StreamSender`] and [`Subscribers`](crate::stream::Subscribers).
    pub fn stream<T, E>(&mut self, take: impl FnOnce(StreamSender<T, E>)) -> Stream<T, E> {
        let refused = self.is_full();
        if !refused {
            take(StreamSender::new(self.slot()));
        }
        Stream::new(refused)
    }

    /// Says whether no more calls of this caller can be deferred.
    fn is_full(&self) -> bool {
        let caller = Caller {
            key: self.ticket.key,
            to: self.ticket.to.as_ref(),
            account: &self.account,
            peer: self.peer(),
        };
        let full = |origin: &Origin| !origin.mailbox.has_room(&caller);
        self.origin.as_ref().is_some_and(full)
    }

    /// Makes the one slot of this call.
    pub(super) fn slot(&mut self) -> Option<ReplyContext> {
        let Origin { mailbox, to } = self.origin.take()?;
        let serial = mailbox.begin();
        self.serial = Some(serial);
        Some(ReplyContext {
            pending: mailbox,
            route: self.ticket.clone(),
            account: Arc::clone(&self.account),
            format: to,
            id: serial,
            deadline: self.deadline,
        })
    }
}
