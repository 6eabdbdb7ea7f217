//! Deferred calls, and replies from any thread on their way to the loop.
//!
//! One mutex guards all of it, held for a few map operations at a time. A call that is replied to in its handler is
//! never entered into a map. Values of the program, whose destructors may call back into this module, are dropped
//! after the mutex is released.

mod parked;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::queued_reply::QueuedReply;
use super::requests::{Request, Requests};
use super::route::{Caller, ReplyRoute};
use crate::accounts::{Account, Charge, Cost};
use crate::envelope::Id;
use crate::error::caught;
use crate::limits::{Bounds, Limits};
use crate::sys::process::Origin;
use crate::sys::{lock, opaque_debug};

use parked::Parking;
pub(crate) use parked::{Decision, ParkedCall};

/// An encoded reply that waits for the loop to send it.
#[derive(Debug)]
pub(crate) struct PostedReply {
    pub(crate) route: ReplyRoute,
    /// The account charged if the reply has to wait.
    pub(crate) account: Arc<Account>,
    pub(crate) reply: QueuedReply,
}

impl PostedReply {
    #[inline]
    pub(crate) fn new(route: &ReplyRoute, account: &Arc<Account>, reply: QueuedReply) -> Self {
        Self {
            route: route.clone(),
            account: Arc::clone(account),
            reply,
        }
    }
}

/// Identifies a call whose [`Reply`](crate::Reply) was taken. Unique per server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeferredId(u64);

/// A callback for the end of a call that is not replied to.
type OnCancel = Box<dyn FnOnce() + Send>;

/// A call that outlives its handler.
struct DeferredCall {
    /// The caller's own id.
    id: Option<Id<'static>>,
    on_cancel: Option<OnCancel>,
    /// What its handler has not seen yet. `None` once the handler has run.
    parked: Option<Box<ParkedCall>>,
    _charge: Charge,
}

/// The deferred calls of a caller, oldest first: their ids ascend.
#[derive(Default)]
struct DeferredCalls(VecDeque<(DeferredId, DeferredCall)>);

impl DeferredCalls {
    fn find(&self, id: DeferredId) -> Option<usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    fn get_mut(&mut self, id: DeferredId) -> Option<&mut DeferredCall> {
        let index = self.find(id)?;
        self.0.get_mut(index).map(|(_, call)| call)
    }

    fn remove(&mut self, id: DeferredId) -> Option<DeferredCall> {
        let index = self.find(id)?;
        self.0.remove(index).map(|(_, call)| call)
    }

    fn into_calls(self) -> impl Iterator<Item = DeferredCall> {
        self.0.into_iter().map(|(_, call)| call)
    }
}

/// The call whose handler runs now.
struct CurrentCall {
    id: DeferredId,
    replied: bool,
    on_cancel: Option<OnCancel>,
}

/// Replies that were discarded since they were last counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Losses {
    /// They could not be encoded or queued.
    pub(crate) discarded: u64,
    /// Their deadline had passed.
    pub(crate) expired: u64,
    /// Their call had been cancelled, or its caller had disconnected.
    pub(crate) unwanted: u64,
}

#[derive(Default)]
struct State {
    posts: Vec<PostedReply>,
    last_id: u64,
    current: Option<CurrentCall>,
    /// The deferred calls of each caller. No caller without any.
    callers: HashMap<ReplyRoute, DeferredCalls>,
    parking: Parking,
    losses: Losses,
    /// The server has been dropped.
    closed: bool,
}

impl State {
    /// The call whose handler runs now, if it is `id`.
    fn current(&mut self, id: DeferredId) -> Option<&mut CurrentCall> {
        self.current.as_mut().filter(|call| call.id == id)
    }

    /// The callback of a call; `None` if the call is no longer wanted.
    fn on_cancel(&mut self, route: &ReplyRoute, id: DeferredId) -> Option<&mut Option<OnCancel>> {
        match &mut self.current {
            Some(call) if call.id == id => Some(&mut call.on_cancel),
            _ => Some(&mut self.callers.get_mut(route)?.get_mut(id)?.on_cancel),
        }
    }
}

/// The part of a server that replies share with its loop.
pub(crate) struct PendingReplies {
    state: Mutex<State>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// The size and depth that each reply must keep to.
    pub(crate) bounds: Bounds,
    pub(crate) limits: Limits,
    /// The number of deferred calls. Without any, look-ups skip the mutex.
    deferred: AtomicUsize,
    /// Replies have been posted. Written under the mutex, read without.
    posted: AtomicBool,
    /// The loop has something else to do: count losses, apply changes.
    signaled: AtomicBool,
    /// The thread that is in a turn, see [`thread_key`]; 0 if none is. It need not be woken for its own replies.
    turn_thread: AtomicUsize,
    /// The process that runs the loop.
    origin: Origin,
    pub(crate) requests: Requests,
}

/// Identifies the current thread among those that run, by the address of a thread-local value. Never 0.
fn thread_key() -> usize {
    thread_local!(static KEY: u8 = const { 0 });
    KEY.with(|key| std::ptr::from_ref(key).addr())
}

impl PendingReplies {
    pub(crate) fn new(wake: Arc<dyn Fn() + Send + Sync>, limits: &Limits) -> Self {
        Self {
            state: Mutex::default(),
            wake,
            bounds: Bounds::from(limits),
            limits: limits.clone(),
            deferred: AtomicUsize::new(0),
            posted: AtomicBool::new(false),
            signaled: AtomicBool::new(false),
            turn_thread: AtomicUsize::new(0),
            origin: Origin::here(),
            requests: Requests::new(limits.connections),
        }
    }

    /// Returns true in the process that runs the loop.
    ///
    /// A forked child must not use anything here: the loop would not know, the socket and the waker are shared, and a
    /// thread that the child lacks may hold the mutex.
    #[inline]
    pub(crate) fn is_own_process(&self) -> bool {
        self.origin.is_own_process()
    }

    /// Marks this thread as being in a turn: it collects what is posted before the turn ends.
    #[inline]
    pub(crate) fn begin_turn(&self) {
        self.turn_thread.store(thread_key(), Ordering::Relaxed);
    }

    /// Ends the turn. From now on the first reply posted wakes the loop; so does one that the turn has left.
    #[inline]
    pub(crate) fn end_turn(&self) {
        // Relaxed, because only posts of this thread compare with it.
        self.turn_thread.store(0, Ordering::Relaxed);
        if self.has_posts() {
            self.wake();
        }
    }

    /// Returns true if there are replies to collect.
    #[inline]
    pub(crate) fn has_posts(&self) -> bool {
        self.posted.load(Ordering::Acquire)
    }

    /// Takes all posted replies, into an empty list.
    pub(crate) fn collect(&self, posts: &mut Vec<PostedReply>) {
        let mut state = lock(&self.state);
        std::mem::swap(posts, &mut state.posts);
        self.posted.store(false, Ordering::Relaxed);
    }

    /// Takes the replies posted for one caller, in order, into an empty list.
    pub(crate) fn collect_for(&self, caller: &Caller<'_>, posts: &mut Vec<PostedReply>) {
        let mut state = lock(&self.state);
        let for_caller = |post: &PostedReply| caller.is_at(&post.route);
        if state.posts.iter().all(for_caller) {
            std::mem::swap(posts, &mut state.posts);
        } else {
            let all = std::mem::take(&mut state.posts);
            (*posts, state.posts) = all.into_iter().partition(for_caller);
        }
        self.posted
            .store(!state.posts.is_empty(), Ordering::Relaxed);
    }

    /// Returns true, once, if the loop has been signaled.
    #[inline]
    pub(crate) fn take_signal(&self) -> bool {
        // What was changed before the signal is seen after the swap.
        self.signaled.load(Ordering::Relaxed) && self.signaled.swap(false, Ordering::AcqRel)
    }

    /// Signals the loop and wakes it.
    pub(crate) fn signal(&self) {
        self.signaled.store(true, Ordering::Release);
        self.wake();
    }

    /// Asks the loop for something, which it does at the end of its turn.
    pub(crate) fn request(&self, request: Request) {
        self.requests.push(request);
        self.signaled.store(true, Ordering::Release);
        if !self.is_in_turn() {
            self.wake();
        }
    }

    /// Returns true if this thread is in a turn.
    #[inline]
    fn is_in_turn(&self) -> bool {
        self.turn_thread.load(Ordering::Relaxed) == thread_key()
    }

    /// Takes the numbers of discarded replies.
    pub(crate) fn take_losses(&self) -> Losses {
        std::mem::take(&mut lock(&self.state).losses)
    }

    /// Ends the wait of the loop.
    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    /// Returns true if one more call of this caller may be deferred.
    pub(crate) fn has_room(&self, caller: &Caller<'_>) -> bool {
        let total = self.deferred.load(Ordering::Relaxed);
        let of_caller = || {
            let state = lock(&self.state);
            let calls = state.callers.get(&caller.route());
            calls.map_or(0, |calls| calls.0.len())
        };
        total < self.limits.deferred_total
            && self.limits.deferred > 0
            && (total == 0 || of_caller() < self.limits.deferred)
            && caller.account.has_room(Cost::DEFERRED)
    }

    /// Begins to handle a call that may be deferred.
    pub(crate) fn begin(&self) -> DeferredId {
        let mut state = lock(&self.state);
        state.last_id += 1;
        let id = DeferredId(state.last_id);
        state.current = Some(CurrentCall {
            id,
            replied: false,
            on_cancel: None,
        });
        id
    }

    /// Ends handling a call, and defers it unless it has been replied to.
    pub(crate) fn defer(&self, caller: &Caller<'_>, id: Option<&Id<'_>>) {
        let mut state = lock(&self.state);
        let call = match state.current.take() {
            Some(call) if !call.replied => call,
            // Drops the callback after the lock.
            replied => return drop((state, replied)),
        };
        let deferred = DeferredCall {
            id: id.map(|id| id.clone().into_owned()),
            on_cancel: call.on_cancel,
            parked: None,
            _charge: caller.account.charge(Cost::DEFERRED),
        };
        self.insert(&mut state, caller, call.id, deferred);
    }

    /// Adds a deferred call. Its id is greater than those of all others.
    fn insert(&self, state: &mut State, caller: &Caller<'_>, id: DeferredId, call: DeferredCall) {
        let calls = state.callers.entry(caller.route()).or_default();
        calls.0.push_back((id, call));
        self.deferred.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends handling a call that failed. Returns true if it has not been replied to; it cannot be any more.
    pub(crate) fn abandon(&self) -> bool {
        let call = lock(&self.state).current.take();
        call.is_some_and(|call| !call.replied)
    }

    /// Returns true unless the call was cancelled or its caller disconnected.
    pub(crate) fn is_wanted(&self, route: &ReplyRoute, id: DeferredId) -> bool {
        lock(&self.state).on_cancel(route, id).is_some()
    }

    /// Sets the callback for when the call is cancelled or its caller disconnects. Runs it at once if that has happened.
    pub(crate) fn on_cancel(&self, route: &ReplyRoute, id: DeferredId, callback: OnCancel) {
        let mut state = lock(&self.state);
        let Some(on_cancel) = state.on_cancel(route, id) else {
            drop(state);
            return run_callback(callback);
        };
        let replaced = on_cancel.replace(callback);
        drop(state);
        drop(replaced);
    }

    /// Ends a call, and posts its reply if the call is still wanted. Returns whether it is. `reply` comes with the account
    /// that is charged if it has to wait.
    ///
    /// Both happen in one step: a server that shuts down ends once no call is deferred and no reply is posted.
    pub(crate) fn complete(
        &self,
        route: &ReplyRoute,
        id: DeferredId,
        reply: Option<(&Arc<Account>, QueuedReply)>,
    ) -> bool {
        let mut state = lock(&self.state);
        let (mut removed, mut at_once) = (None, false);
        let wanted = if let Some(call) = state.current(id) {
            call.replied = true;
            at_once = true;
            true
        } else {
            removed = self.remove(&mut state, route, id);
            removed.is_some()
        };
        let mut wake = false;
        if !wanted {
            state.losses.unwanted += 1;
            self.signaled.store(true, Ordering::Release);
        } else if let Some((account, mut reply)) = reply {
            reply.at_once = at_once;
            wake = self.push(&mut state, PostedReply::new(route, account, reply));
        }
        drop(state);
        drop(removed);
        if wake {
            self.wake();
        }
        wanted
    }

    /// Removes a deferred call.
    fn remove(
        &self,
        state: &mut State,
        route: &ReplyRoute,
        id: DeferredId,
    ) -> Option<DeferredCall> {
        let calls = state.callers.get_mut(route)?;
        let call = calls.remove(id)?;
        if calls.0.is_empty() {
            state.callers.remove(route);
        }
        self.deferred.fetch_sub(1, Ordering::Relaxed);
        Some(call)
    }

    /// Cancels one call of a caller, the latest with this id. Returns false if there is no such call.
    pub(crate) fn cancel(&self, route: &ReplyRoute, id: &Id<'_>) -> bool {
        let mut state = lock(&self.state);
        let calls = state.callers.get(route).into_iter();
        let mut calls = calls.flat_map(|calls| &calls.0).rev();
        let Some(&(id, _)) = calls.find(|(_, call)| call.id.as_ref() == Some(id)) else {
            return false;
        };
        let call = self.remove(&mut state, route, id);
        drop(state);
        let callback = call.and_then(|call| call.on_cancel);
        callback.into_iter().for_each(run_callback);
        true
    }

    /// Cancels all calls of a caller that disconnected.
    pub(crate) fn hang_up(&self, route: &ReplyRoute) {
        if self.deferred() == 0 {
            return;
        }
        let calls = lock(&self.state).callers.remove(route).unwrap_or_default();
        self.deferred.fetch_sub(calls.0.len(), Ordering::Relaxed);
        let callbacks = calls.into_calls().filter_map(|call| call.on_cancel);
        callbacks.for_each(run_callback);
    }

    /// Cancels all calls that came through the source `key` of the loop.
    pub(crate) fn hang_up_all(&self, key: u64) {
        let mut routes: Vec<_> = lock(&self.state).callers.keys().cloned().collect();
        routes.retain(|route| route.key == key);
        routes.iter().for_each(|route| self.hang_up(route));
    }

    /// The number of deferred calls.
    pub(crate) fn deferred(&self) -> usize {
        self.deferred.load(Ordering::Relaxed)
    }

    /// Returns true if a call is deferred, or a reply waits for the loop.
    pub(crate) fn is_busy(&self) -> bool {
        let state = lock(&self.state);
        !state.posts.is_empty() || !state.callers.is_empty()
    }

    /// Cancels all deferred calls. Returns their routes and ids.
    pub(crate) fn cancel_all(&self) -> Vec<(ReplyRoute, Option<Id<'static>>)> {
        let callers = std::mem::take(&mut lock(&self.state).callers);
        let calls = callers.into_iter().flat_map(|(route, calls)| {
            let calls = calls.into_calls();
            calls.map(move |call| (route.clone(), call))
        });
        let cancel = |(route, call): (ReplyRoute, DeferredCall)| {
            self.deferred.fetch_sub(1, Ordering::Relaxed);
            call.on_cancel.into_iter().for_each(run_callback);
            (route, call.id)
        };
        calls.map(cancel).collect()
    }

    /// Ends all calls with their server. Replies that are posted later are dropped.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let posts = std::mem::take(&mut state.posts);
        self.posted.store(false, Ordering::Relaxed);
        // Dropping a reply calls its observer, which locks the mutex.
        drop(state);
        drop(posts);
        self.cancel_all();
    }

    /// Counts discarded replies.
    pub(crate) fn count_losses(&self, count: impl FnOnce(&mut Losses)) {
        count(&mut lock(&self.state).losses);
        self.signaled.store(true, Ordering::Release);
    }

    /// Posts a reply, and wakes the loop unless this is its own thread in a turn.
    pub(crate) fn post(&self, post: PostedReply) {
        let mut state = lock(&self.state);
        let wake = !state.closed && self.push(&mut state, post);
        drop(state);
        if wake {
            self.wake();
        }
    }

    /// Appends a reply. Returns true if the loop has to be woken.
    #[inline]
    fn push(&self, state: &mut State, post: PostedReply) -> bool {
        state.posts.push(post);
        self.posted.store(true, Ordering::Release);
        state.posts.len() == 1 && !self.is_in_turn()
    }
}

/// Runs a callback of the program. A panic in it ends the callback only: a peer that causes the call must not end the
/// server.
pub(crate) fn run_callback(callback: OnCancel) {
    let _ = caught(callback);
}

opaque_debug!(PendingReplies);

#[cfg(test)]
mod tests;
