//! Answers that outlive their handler: the right to give one, and its way back to the loop.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use crate::envelope::{self, Id};
use crate::error::{EncodeError, Fault};
use crate::fds::FDS_MAX;
use crate::limits::Limits;
use crate::line::INLINE_SURE;
use crate::message::{self, Pack, Packer};
use crate::outbox::Letter;
use crate::sys::name::Name;

/// Writes an answer and checks it against the limits, so that what is sent later cannot fail for them.
pub(crate) fn encoded<'m>(
    text: &mut Vec<u8>,
    fds: &Packer<'m>,
    limit: usize,
    write: impl FnOnce(&mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    write(text, fds)?;
    let (size, count) = (text.len(), fds.len());
    if size > limit {
        return Err(EncodeError::TooLarge { size, limit });
    }
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
        EncodeError::Json { .. } => Fault::HANDLER_FAILED,
        EncodeError::TooLarge { .. } | EncodeError::FdCount { .. } => Fault::ANSWER_TOO_BIG,
    };
    Fault::new(code, format!("the answer: {error}"))
}

/// Where a reply goes: which thing of the loop, and which address if it serves several.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    /// The reactor's key, as bits.
    pub(crate) key: u64,
    pub(crate) to: Option<Name>,
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

/// A reply that has been written and waits for the loop to send it.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) ticket: Ticket,
    pub(crate) letter: Letter,
}

/// Where replies from anywhere wait for the loop, and how it is woken for them.
pub(crate) struct Mailbox {
    posts: Mutex<Vec<Post>>,
    /// Which thread the loop runs on: replies from there need not wake it.
    home: Mutex<Option<ThreadId>>,
    wake: Arc<dyn Fn() + Send + Sync>,
    limit: usize,
    stop: AtomicBool,
    /// Replies that could not be written or kept.
    dropped: AtomicU64,
}

impl Mailbox {
    pub(crate) fn new(wake: Arc<dyn Fn() + Send + Sync>, limits: &Limits) -> Self {
        Self {
            posts: Mutex::default(),
            home: Mutex::default(),
            wake,
            limit: limits.message,
            stop: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }

    /// Notes on which thread the loop is from now on.
    pub(crate) fn settle_here(&self) {
        *lock(&self.home) = Some(std::thread::current().id());
    }

    /// Takes all that has been posted.
    pub(crate) fn collect(&self) -> Vec<Post> {
        std::mem::take(&mut *lock(&self.posts))
    }

    /// Asks the loop to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        (self.wake)();
    }

    /// Says whether the loop was asked to end, and forgets it.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop.swap(false, Ordering::AcqRel)
    }

    /// Takes the number of replies lost since it was last asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    fn post(&self, ticket: Ticket, text: &[u8], fds: &[BorrowedFd<'_>]) {
        let Some(letter) = Letter::copy(text, fds) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let first = {
            let mut posts = lock(&self.posts);
            posts.push(Post { ticket, letter });
            posts.len() == 1
        };
        if first && *lock(&self.home) != Some(std::thread::current().id()) {
            (self.wake)();
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// Locks; a panic elsewhere leaves nothing half-done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right and the duty to answer one call, once.
///
/// It may be kept, sent to another thread and answered there; the server's loop is woken then. When it is
/// dropped unanswered the caller gets the fault [`Fault::DROPPED`]; on a bare endpoint, nothing.
#[derive(Debug)]
#[must_use = "dropping it answers with a fault"]
pub struct Reply<T, E = Infallible> {
    slot: Option<Slot>,
    types: PhantomData<fn(T, E)>,
}

#[derive(Debug)]
struct Slot {
    mailbox: Arc<Mailbox>,
    ticket: Ticket,
    to: To,
}

impl<T: Pack, E: Pack> Reply<T, E> {
    pub(crate) fn new(mailbox: &Arc<Mailbox>, ticket: Ticket, to: To) -> Self {
        Self {
            slot: Some(Slot {
                mailbox: Arc::clone(mailbox),
                ticket,
                to,
            }),
            types: PhantomData,
        }
    }

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
}

impl Slot {
    fn post<'m>(
        &self,
        write: impl FnOnce(&To, &mut Vec<u8>, &Packer<'m>) -> Result<(), EncodeError>,
    ) {
        if matches!(self.to, To::Nobody) {
            return;
        }
        let (mut text, fds) = (Vec::new(), Packer::new());
        let limit = self.mailbox.limit;
        match encoded(&mut text, &fds, limit, |text, fds| {
            write(&self.to, text, fds)
        }) {
            Ok(()) => self
                .mailbox
                .post(self.ticket.clone(), &text, &fds.into_fds()),
            Err(error) => self.post_fault(&answer_fault(&error)),
        }
    }

    /// Answers with a fault; there is none on the bare wire.
    fn post_fault(&self, fault: &Fault) {
        match &self.to {
            To::Call(id) => {
                let mut text = Vec::new();
                envelope::write_fault(&mut text, Some(id), fault);
                self.mailbox.post(self.ticket.clone(), &text, &[]);
            }
            To::Bare => {
                self.mailbox.dropped.fetch_add(1, Ordering::Relaxed);
            }
            To::Nobody => {}
        }
    }
}

impl<T, E> Drop for Reply<T, E> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.post_fault(&match std::thread::panicking() {
                true => Fault::new(Fault::HANDLER_FAILED, "the handler panicked"),
                false => Fault::new(Fault::DROPPED, "the handler gave the reply away unanswered"),
            });
        }
    }
}
