//! Answers that outlive their handler: the right to give one, and its way back to the loop.

mod stream;
mod subscribers;

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use crate::accounts::Account;
use crate::envelope::{self, Id};
use crate::error::{CallError, EncodeError, Error, Fault};
use crate::fds::FDS_MAX;
use crate::json::check_size;
use crate::limits::Bounds;
use crate::message::{self, Pack, Packer};
use crate::queue::{self, DeferredId, PendingReplies, PostedReply, QueuedReply, ReplyRoute};
use crate::transport::INLINE_SURE;

pub use stream::{Overflow, Stream, StreamSender};
pub use subscribers::Subscribers;

/// Most answers fit into so many bytes.
const USUAL: usize = 256;

/// Writes an answer, with `fds` of the depth in `bounds`, and checks it against the limits, so that what is sent later cannot fail for them.
pub(crate) fn encoded<'m>(
    text: &mut Vec<u8>,
    fds: &Packer<'m>,
    bounds: Bounds,
    write: impl FnOnce(&mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    write(text, fds)?;
    check_size(text, bounds.message)?;
    let (size, count) = (text.len(), fds.len());
    // A large text takes a place itself; which texts are large is the socket's to know, so keep it free.
    let room = FDS_MAX - usize::from(size > INLINE_SURE);
    if count > room {
        return Err(EncodeError::FdCount { count, limit: room });
    }
    Ok(())
}

/// Says to the caller that its answer cannot be written.
pub(crate) fn answer_fault(error: &EncodeError) -> Fault {
    let code = match error {
        EncodeError::Json { .. } | EncodeError::NotFinite { .. } => Fault::INTERNAL_ERROR,
        EncodeError::TooLarge { .. }
        | EncodeError::TooDeep { .. }
        | EncodeError::FdCount { .. } => Fault::REPLY_TOO_LARGE,
    };
    Fault::new(code, format!("the answer: {error}"))
}

/// How a reply is written.
#[derive(Debug)]
pub(crate) enum To {
    /// As it is.
    Bare,
    /// In the envelope, with this id.
    Call(Id<'static>),
    /// Not at all: nobody asked.
    Nobody,
}

/// What a reply needs of its call.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) mailbox: Arc<PendingReplies>,
    pub(crate) route: ReplyRoute,
    /// What it costs when it waits.
    pub(crate) account: Arc<Account>,
    pub(crate) to: To,
    pub(crate) serial: DeferredId,
    pub(crate) deadline: Option<Instant>,
}

/// The right and the duty to answer one call, once.
///
/// It may be kept, sent to another thread and answered there; the server's loop is woken then. When it is
/// dropped unanswered the caller gets the fault [`Fault::NO_REPLY`]; on a bare endpoint, nothing. In a forked child
/// neither answering nor dropping does anything: the duty is the parent's.
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
///             std::thread::spawn(move || match text.is_empty() {
///                 true => reply.fail("there is nothing to hash".into()),
///                 false => reply.send(text.bytes().map(u64::from).sum()),
///             });
///         })
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping it answers with a fault"]
pub struct Reply<T, E = Infallible> {
    slot: Option<Slot>,
    types: PhantomData<fn(T, E)>,
}

impl<T, E> Reply<T, E> {
    pub(crate) fn new(slot: Option<Slot>) -> Self {
        Self {
            slot,
            types: PhantomData,
        }
    }

    /// Says whether the caller still waits: its deadline has not passed, it has not cancelled the call, the
    /// server is there, and, on [`Kind::Seqpacket`](crate::Kind::Seqpacket), the caller's connection stands. Of a one-way call
    /// nobody ever waits. An answer that nobody waits for is dropped and counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Reply;
    ///
    /// /// Searches for as long as somebody waits for what is found.
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
        self.slot.as_ref().is_some_and(Slot::is_wanted)
    }

    /// Until when the caller waits, if it said so.
    pub fn deadline(&self) -> Option<Instant> {
        self.slot.as_ref()?.deadline
    }

    /// Has `call` called once, on the server's thread, when the caller cancels the call, its connection ends, its
    /// datagram endpoint is removed or the server is dropped; at once if that has happened. A deadline that passes in silence does not call it: look at
    /// [`deadline`](Reply::deadline). A later `call` takes the place of an earlier one.
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
    /// struct Tower { waiting: Vec<Reply<u32>>, gone: Sender<&'static str> }
    ///
    /// impl Bell for Tower {
    ///     fn rings(&mut self, call: &mut Call) -> Deferred<u32> {
    ///         let gone = self.gone.clone();
    ///         call.defer(|reply| {
    ///             reply.on_cancel(move || {
    ///                 let _ = gone.send("one waits no more");
    ///             });
    ///             self.waiting.push(reply);
    ///         })
    ///     }
    /// }
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("bell.sock");
    /// # let mut server = jsoncomm::Server::new(jsoncomm::Limits::default())?;
    /// # server.bind(&path, jsoncomm::Kind::Seqpacket)?.serve::<dyn Bell>();
    /// # let (gone, told) = mpsc::channel();
    /// # std::thread::spawn(move || server.run(&mut Tower { waiting: Vec::new(), gone }));
    ///
    /// let bell = BellClient::new(jsoncomm::Connection::open(&path)?);
    /// drop(bell.start().rings()?); // cancels the call
    /// # assert_eq!(told.recv_timeout(Duration::from_secs(20))?, "one waits no more");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_cancel(&self, call: impl FnOnce() + Send + 'static) {
        if let Some(slot) = &self.slot {
            slot.on_cancel(Box::new(call));
        }
    }
}

impl<T: Pack, E: Pack> Reply<T, E> {
    /// Answers with a value; does not wait. The descriptors in it are duplicated, the value is dropped.
    ///
    /// A value that cannot be written or exceeds a limit is replaced by a fault that says so.
    pub fn send(mut self, value: T) {
        if let Some(slot) = &self.slot {
            slot.post(|to, text, fds| match to {
                To::Bare => message::encode(&value, text, fds),
                To::Call(id) => envelope::write_result(text, id, &value, fds),
                To::Nobody => Ok(()),
            });
        }
        // Not before: if writing the value panics, the caller is still to be told.
        self.slot = None;
    }

    /// Answers with the service's own error; otherwise as [`send`](Reply::send).
    pub fn fail(mut self, error: E)
    where
        E: fmt::Display,
    {
        if let Some(slot) = &self.slot {
            slot.post(|to, text, fds| match to {
                To::Bare => message::encode(&error, text, fds),
                To::Call(id) => envelope::write_error(text, id, &error, fds),
                To::Nobody => Ok(()),
            });
        }
        self.slot = None;
    }

    /// Answers with a fault, as the framework does where it cannot carry a call through. On a bare endpoint
    /// nothing is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Fault, Reply};
    ///
    /// fn answer(reply: Reply<u32>, load: u32) {
    ///     match load {
    ///         0..100 => reply.send(load),
    ///         _ => reply.send_fault(&Fault::new(Fault::BUSY, "come back later")),
    ///     }
    /// }
    /// ```
    pub fn send_fault(mut self, fault: &Fault) {
        if let Some(slot) = self.slot.take() {
            slot.post_fault(fault);
        }
    }

    /// Passes on how another call ended: for a service that calls a service. Trouble on the way there becomes
    /// a fault.
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
    pub fn forward(self, answer: Result<T, CallError<E>>)
    where
        E: fmt::Display,
    {
        match answer {
            Ok(value) => self.send(value),
            Err(CallError::Service(error)) => self.fail(error),
            Err(CallError::Fault(fault)) => self.send_fault(&fault),
            Err(CallError::Deadline) => {
                self.send_fault(&Fault::new(
                    Fault::DEADLINE_EXCEEDED,
                    "the service behind this one is late",
                ));
            }
            Err(CallError::NotSent(Error::Full | Error::Deadline)) => {
                self.send_fault(&Fault::new(
                    Fault::BUSY,
                    "the service behind this one is busy",
                ));
            }
            Err(CallError::Stream) => {
                let message = "the service behind this one answers with a stream";
                self.send_fault(&Fault::new(Fault::INTERNAL_ERROR, message));
            }
            Err(CallError::Closed | CallError::NotSent(_) | CallError::Io(_)) => {
                let message = "the service behind this one cannot be reached";
                self.send_fault(&Fault::new(Fault::INTERNAL_ERROR, message));
            }
        }
    }

    /// Answers as a method would that returned this.
    pub fn send_result(self, outcome: Result<T, E>)
    where
        E: fmt::Display,
    {
        match outcome {
            Ok(value) => self.send(value),
            Err(error) => self.fail(error),
        }
    }
}

impl Slot {
    /// Says whether somebody waits for what comes from here.
    fn is_wanted(&self) -> bool {
        let asked = !matches!(self.to, To::Nobody);
        asked && !self.is_expired() && self.is_here() && self.mailbox.is_wanted(self.serial)
    }

    /// Returns true in the process that is to answer, false in a forked child of it.
    fn is_here(&self) -> bool {
        self.mailbox.is_here()
    }

    /// Has `call` called when nobody wants the answer any more; at once if that is so.
    fn on_cancel(&self, call: Box<dyn FnOnce() + Send>) {
        if self.is_here() {
            self.mailbox.on_cancel(self.serial, call);
        } else {
            queue::run_callback(call);
        }
    }

    fn is_expired(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Hands a letter to the loop.
    fn send(&self, letter: QueuedReply) {
        if self.is_here() {
            self.mailbox.post(self.address(letter));
        }
    }

    /// Ends the call, with a letter if anything is to be said. Says whether there is anybody to answer, and counts it
    /// if not.
    fn answer(&self, letter: Option<QueuedReply>) -> bool {
        if !self.is_here() {
            return false;
        }
        let (asked, expired) = (!matches!(self.to, To::Nobody), self.is_expired());
        let letter = letter.filter(|_| asked && !expired);
        let answer = letter.map(|letter| self.address(letter));
        let wanted = self.mailbox.complete(self.serial, answer);
        if wanted && expired {
            self.mailbox.count_losses(|losses| losses.expired += 1);
        }
        wanted && asked && !expired
    }

    fn address(&self, letter: QueuedReply) -> PostedReply {
        PostedReply {
            route: self.route.clone(),
            account: Arc::clone(&self.account),
            reply: letter,
        }
    }

    fn post<'m>(
        &self,
        write: impl FnOnce(&To, &mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError>,
    ) {
        let bounds = self.mailbox.bounds();
        let (mut text, fds) = (Vec::with_capacity(USUAL), Packer::at_depth(bounds.depth));
        let written = encoded(&mut text, &fds, bounds, |text, fds| {
            write(&self.to, text, fds)
        });
        match written.map(|()| QueuedReply::new(text, &fds.into_row())) {
            Ok(Some(letter)) => drop(self.answer(Some(letter))),
            Ok(None) => self.post_fault(&no_descriptors()),
            Err(error) => self.post_fault(&answer_fault(&error)),
        }
    }

    /// Answers with a fault; there is none on the bare wire.
    fn post_fault(&self, fault: &Fault) {
        let letter = match &self.to {
            To::Call(id) => {
                let mut text = Vec::new();
                envelope::write_fault(&mut text, Some(id), fault);
                Some(QueuedReply::from(text))
            }
            To::Bare | To::Nobody => None,
        };
        let said = letter.is_some();
        if self.answer(letter) && !said {
            self.mailbox.count_losses(|losses| losses.discarded += 1);
        }
    }
}

impl<T, E> Drop for Reply<T, E> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.post_fault(&dropped());
        }
    }
}

/// Says that an answer has nothing to carry its descriptors.
fn no_descriptors() -> Fault {
    Fault::new(Fault::BUSY, "descriptors have run out")
}

/// Says why a duty to answer ends without an answer.
pub(crate) fn dropped() -> Fault {
    match std::thread::panicking() {
        true => Fault::new(Fault::INTERNAL_ERROR, "the handler panicked"),
        false => Fault::new(
            Fault::NO_REPLY,
            "the handler gave the reply away unanswered",
        ),
    }
}

/// What a method returns that answers later: proof that it has taken its [`Reply`].
///
/// Only [`Call::defer`](crate::Call::defer) makes one.
#[derive(Debug)]
#[must_use = "return it from the method"]
pub struct Deferred<T, E = Infallible> {
    /// There was no room for one more deferred call; the caller is to be told.
    pub(crate) refused: bool,
    types: PhantomData<fn(T, E)>,
}

impl<T, E> Deferred<T, E> {
    pub(crate) fn new(refused: bool) -> Self {
        Self {
            refused,
            types: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests;
