//! Where replies from anywhere wait for the loop, and which calls are still wanted.
//!
//! One mutex guards all of it. It is held for a few map operations at a time, and a call that is answered
//! while its handler runs is never entered into a map. What is of the program, and may look in here when it is
//! dropped, is dropped when the mutex is free.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queued_reply::QueuedReply;
use super::route::{Caller, ReplyRoute};
use crate::accounts::{Account, Charge, Cost};
use crate::envelope::Id;
use crate::error::caught;
use crate::limits::{Bounds, Limits};
use crate::sys::process::Origin;

/// A reply that has been written and waits for the loop to send it.
#[derive(Debug)]
pub(crate) struct PostedReply {
    pub(crate) ticket: ReplyRoute,
    /// What it costs if it has to wait.
    pub(crate) account: Arc<Account>,
    pub(crate) letter: QueuedReply,
}

/// What one deferred call costs.
const ONE: Cost = Cost {
    deferred: 1,
    ..Cost::NONE
};

/// Tells apart the calls that a server has handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DeferredId(u64);

/// What to do when nobody wants the answer any more.
type OnCancel = Box<dyn FnOnce() + Send>;

/// What a caller's calls are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum CallKey {
    Id(Id<'static>),
    /// It has no id of its own: there are none on the bare wire, and one that is used twice belongs to the later
    /// call.
    Bare(DeferredId),
}

/// A call that outlives its handler.
struct DeferredCall {
    ticket: ReplyRoute,
    id: Option<Id<'static>>,
    on_cancel: Option<OnCancel>,
    _charge: Charge,
}

/// The call whose handler runs now.
struct Handling {
    serial: DeferredId,
    answered: bool,
    on_cancel: Option<OnCancel>,
}

/// Replies that came to nothing, since they were last asked for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Losses {
    /// They could not be written or kept.
    pub(crate) dropped: u64,
    /// Their caller's deadline had passed.
    pub(crate) expired: u64,
    /// Their caller had cancelled them or gone.
    pub(crate) unwanted: u64,
}

#[derive(Default)]
struct State {
    posts: Vec<PostedReply>,
    last: u64,
    handling: Option<Handling>,
    deferred: HashMap<DeferredId, DeferredCall>,
    /// The same by caller, so that one can be found by its id and all by their caller.
    callers: HashMap<ReplyRoute, HashMap<CallKey, DeferredId>>,
    losses: Losses,
    /// The server has gone.
    closed: bool,
}

impl State {
    /// The call whose handler runs now, if it is this one.
    fn handling(&mut self, serial: DeferredId) -> Option<&mut Handling> {
        self.handling.as_mut().filter(|call| call.serial == serial)
    }

    /// Where it says what to call when this call is cancelled; `None` when nobody wants an answer any more.
    fn on_cancel(&mut self, serial: DeferredId) -> Option<&mut Option<OnCancel>> {
        match &mut self.handling {
            Some(call) if call.serial == serial => Some(&mut call.on_cancel),
            _ => Some(&mut self.deferred.get_mut(&serial)?.on_cancel),
        }
    }

    /// Forgets a deferred call.
    fn remove(&mut self, serial: DeferredId) -> Option<DeferredCall> {
        let mut call = self.deferred.remove(&serial)?;
        if let Some(calls) = self.callers.get_mut(&call.ticket) {
            let own = |mark: &CallKey| calls.get(mark) == Some(&serial);
            let mark = call.id.take().map(CallKey::Id).filter(own);
            calls.remove(&mark.unwrap_or(CallKey::Bare(serial)));
            if calls.is_empty() {
                self.callers.remove(&call.ticket);
            }
        }
        Some(call)
    }
}

/// The part of a server that replies hold on to.
pub(crate) struct PendingReplies {
    state: Mutex<State>,
    wake: Arc<dyn Fn() + Send + Sync>,
    bounds: Bounds,
    /// [`Limits::backlog_bytes`].
    backlog_bytes: usize,
    /// [`Limits::deferred`] and [`Limits::deferred_total`].
    deferred: (usize, usize),
    stop: AtomicBool,
    /// How many calls are deferred; lets a server without any skip the look-up.
    count: AtomicUsize,
    /// There are posts. Written under the lock; lets a server that looks for them in vain do without it.
    posted: AtomicBool,
    /// Something has been lost or asked for; likewise.
    news: AtomicBool,
    /// Which thread is in a turn ([`here`]): replies from there need not wake it.
    home: AtomicUsize,
    /// The process whose loop it is.
    origin: Origin,
}

/// Tells the threads apart that run now: by the address of something that each has of its own. Never 0.
fn here() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

impl PendingReplies {
    pub(crate) fn new(wake: Arc<dyn Fn() + Send + Sync>, limits: &Limits) -> Self {
        Self {
            state: Mutex::default(),
            wake,
            bounds: Bounds::from(limits),
            backlog_bytes: limits.backlog_bytes,
            deferred: (limits.deferred, limits.deferred_total),
            stop: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            posted: AtomicBool::new(false),
            news: AtomicBool::new(false),
            home: AtomicUsize::new(0),
            origin: Origin::here(),
        }
    }

    /// Returns true in the process that has the loop. In a forked child of it nothing here is to be used: the loop would
    /// never know, its socket and what wakes it are shared, and the lock may be held by a thread that there is not.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half-done under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each answer is held to.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// [`Limits::backlog_bytes`].
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// Notes that this thread is in a turn and collects what is posted before it ends.
    #[inline]
    pub(crate) fn begin_turn(&self) {
        self.home.store(here(), Ordering::Relaxed);
    }

    /// Ends the turn: from now on each first post wakes the loop. So does what the turn has left.
    #[inline]
    pub(crate) fn end_turn(&self) {
        // Only posts of this thread ask for it.
        self.home.store(0, Ordering::Relaxed);
        if self.has_posts() {
            (self.wake)();
        }
    }

    /// Says whether there is something to collect.
    #[inline]
    pub(crate) fn has_posts(&self) -> bool {
        self.posted.load(Ordering::Acquire)
    }

    /// Says whether something has been lost or asked for. Whoever asks sets it first and then wakes the loop.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Begins to look at all that there is to know. What comes from now on is news again.
    pub(crate) fn begin_news(&self) {
        self.news.swap(false, Ordering::AcqRel);
    }

    /// Takes the numbers of replies lost, and says whether the loop was asked to end.
    pub(crate) fn end_news(&self) -> (Losses, bool) {
        let losses = std::mem::take(&mut self.lock().losses);
        (losses, self.stop.swap(false, Ordering::AcqRel))
    }

    /// Takes all that has been posted, into an empty list.
    pub(crate) fn collect(&self, posts: &mut Vec<PostedReply>) {
        let mut state = self.lock();
        std::mem::swap(posts, &mut state.posts);
        self.posted.store(false, Ordering::Relaxed);
    }

    /// Takes what has been posted for one caller, in order, into an empty list, and leaves the rest.
    pub(crate) fn collect_for(&self, caller: &Caller<'_>, posts: &mut Vec<PostedReply>) {
        let mut state = self.lock();
        if state.posts.iter().all(|post| caller.has(&post.ticket)) {
            std::mem::swap(posts, &mut state.posts);
        } else {
            let all = std::mem::take(&mut state.posts);
            let for_caller = |post: &PostedReply| caller.has(&post.ticket);
            (*posts, state.posts) = all.into_iter().partition(for_caller);
        }
        self.posted
            .store(!state.posts.is_empty(), Ordering::Relaxed);
    }

    /// Asks the loop to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.announce();
    }

    /// Has the loop look for what was asked of it elsewhere.
    pub(crate) fn announce(&self) {
        self.news.store(true, Ordering::Release);
        (self.wake)();
    }

    /// Ends the wait of the loop.
    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    /// Says whether a caller may have one more call deferred.
    pub(crate) fn has_room(&self, caller: &Caller<'_>) -> bool {
        let (per_caller, in_all) = self.deferred;
        let of_caller = || {
            self.lock()
                .callers
                .get(&caller.ticket())
                .map_or(0, HashMap::len)
        };
        let within = match self.count.load(Ordering::Relaxed) {
            0 => per_caller.min(in_all) > 0,
            all => all < in_all && of_caller() < per_caller,
        };
        within && caller.account.has_room(ONE)
    }

    /// Begins to handle a call that may be deferred.
    pub(crate) fn begin(&self) -> DeferredId {
        let mut state = self.lock();
        state.last += 1;
        let serial = DeferredId(state.last);
        state.handling = Some(Handling {
            serial,
            answered: false,
            on_cancel: None,
        });
        serial
    }

    /// Ends handling a call. If it has not been answered, it is deferred from now on.
    pub(crate) fn defer(&self, caller: &Caller<'_>, id: Option<&Id<'_>>) {
        let mut state = self.lock();
        let call = match state.handling.take() {
            Some(call) if !call.answered => call,
            answered => {
                drop(state);
                drop(answered);
                return;
            }
        };
        let serial = call.serial;
        let id = id.map(|id| id.clone().into_owned());
        let ticket = caller.ticket();
        let calls = state.callers.entry(ticket.clone()).or_default();
        let mark = id.clone().map_or(CallKey::Bare(serial), CallKey::Id);
        if let Some(earlier) = calls.insert(mark, serial) {
            // It still counts, and goes with its caller.
            calls.insert(CallKey::Bare(earlier), earlier);
        }
        let deferred = DeferredCall {
            ticket,
            id,
            on_cancel: call.on_cancel,
            _charge: caller.account.charge(ONE),
        };
        state.deferred.insert(serial, deferred);
        self.count.store(state.deferred.len(), Ordering::Relaxed);
    }

    /// Ends handling a call that failed. Says whether it has not been answered; it cannot be any more.
    pub(crate) fn abandon(&self) -> bool {
        let call = self.lock().handling.take();
        call.is_some_and(|call| !call.answered)
    }

    /// Says whether the caller has neither cancelled the call nor gone.
    pub(crate) fn is_wanted(&self, serial: DeferredId) -> bool {
        let mut state = self.lock();
        state.handling(serial).is_some() || state.deferred.contains_key(&serial)
    }

    /// Has `call` called when the caller cancels or goes; at once if it has.
    pub(crate) fn on_cancel(&self, serial: DeferredId, call: OnCancel) {
        let mut state = self.lock();
        let Some(place) = state.on_cancel(serial) else {
            drop(state);
            return tell(call);
        };
        let earlier = place.replace(call);
        drop(state);
        drop(earlier);
    }

    /// Notes that a call has been answered, and leaves the answer for the loop if it is still wanted; says whether it
    /// is. In one step, as a server that stops goes when nobody waits and nothing is to be sent.
    pub(crate) fn settle(&self, serial: DeferredId, answer: Option<PostedReply>) -> bool {
        let mut state = self.lock();
        let mut deferred = None;
        let wanted = match state.handling(serial) {
            Some(handling) => {
                handling.answered = true;
                true
            }
            None => {
                deferred = state.remove(serial);
                self.count.store(state.deferred.len(), Ordering::Relaxed);
                deferred.is_some()
            }
        };
        let wake = wanted && answer.is_some_and(|answer| self.push(&mut state, answer));
        if !wanted {
            state.losses.unwanted += 1;
            self.news.store(true, Ordering::Release);
        }
        drop(state);
        drop(deferred);
        if wake {
            (self.wake)();
        }
        wanted
    }

    /// Cancels one call of a caller. Says whether there was one.
    pub(crate) fn cancel(&self, ticket: &ReplyRoute, id: &Id<'_>) -> bool {
        let mark = CallKey::Id(id.clone().into_owned());
        let mut state = self.lock();
        let calls = state.callers.get(ticket);
        let Some(serial) = calls.and_then(|calls| calls.get(&mark)).copied() else {
            return false;
        };
        let deferred = state.remove(serial);
        self.count.store(state.deferred.len(), Ordering::Relaxed);
        drop(state);
        if let Some(call) = deferred.and_then(|deferred| deferred.on_cancel) {
            tell(call);
        }
        true
    }

    /// Cancels all calls of a caller that has gone.
    pub(crate) fn hang_up(&self, ticket: &ReplyRoute) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.lock();
        let calls = state.callers.remove(ticket).unwrap_or_default();
        let gone: Vec<_> = calls
            .into_values()
            .filter_map(|serial| state.deferred.remove(&serial)?.on_cancel)
            .collect();
        self.count.store(state.deferred.len(), Ordering::Relaxed);
        drop(state);
        gone.into_iter().for_each(tell);
    }

    /// Cancels all calls of whoever is answered through a thing of the loop that has gone.
    pub(crate) fn hang_up_all(&self, key: u64) {
        let all = self.lock().callers.keys().cloned().collect::<Vec<_>>();
        let its = all.iter().filter(|ticket| ticket.key == key);
        its.for_each(|ticket| self.hang_up(ticket));
    }

    /// How many calls are deferred.
    pub(crate) fn deferred(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Says whether anybody waits for an answer, or an answer for the loop.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.lock();
        !state.posts.is_empty() || !state.deferred.is_empty()
    }

    /// Gives up all deferred calls, and says whose they are.
    pub(crate) fn give_up(&self) -> Vec<(ReplyRoute, Option<Id<'static>>)> {
        let mut state = self.lock();
        state.callers.clear();
        let deferred = std::mem::take(&mut state.deferred);
        self.count.store(0, Ordering::Relaxed);
        drop(state);
        let mut given_up = Vec::new();
        for call in deferred.into_values() {
            given_up.push((call.ticket, call.id));
            if let Some(call) = call.on_cancel {
                tell(call);
            }
        }
        given_up
    }

    /// Ends it with its server: no call is wanted any more, and replies that come are dropped.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // Letters tell their sender that they came to nothing, and that one looks in here.
        let posts = std::mem::take(&mut state.posts);
        self.posted.store(false, Ordering::Relaxed);
        drop(state);
        drop(posts);
        self.give_up();
    }

    /// Says whether nothing is under way.
    #[cfg(all(test, feature = "derive"))]
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        let calls = state.deferred.is_empty() && state.callers.is_empty();
        calls && state.posts.is_empty() && state.handling.is_none()
    }

    /// Counts a reply that came to nothing.
    pub(crate) fn lose(&self, count: impl FnOnce(&mut Losses)) {
        let mut state = self.lock();
        count(&mut state.losses);
        self.news.store(true, Ordering::Release);
    }

    /// Leaves a reply for the loop, and wakes it unless this is its own thread, in a turn.
    pub(crate) fn post(&self, post: PostedReply) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return;
        }
        let wake = self.push(&mut state, post);
        drop(state);
        if wake {
            (self.wake)();
        }
    }

    /// Puts a reply where the loop finds it. Says whether it is to be woken.
    fn push(&self, state: &mut State, post: PostedReply) -> bool {
        state.posts.push(post);
        self.posted.store(true, Ordering::Release);
        state.posts.len() == 1 && self.home.load(Ordering::Relaxed) != here()
    }
}

/// Calls what a program wants called. A panic there is the program's own, but the peer that causes the call
/// must not end the server by it.
pub(crate) fn tell(call: OnCancel) {
    let _ = caught(call);
}

impl fmt::Debug for PendingReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
