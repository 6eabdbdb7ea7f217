//! Which calls are wanted, and when a reply wakes the loop.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::accounts::Accounts;
use crate::sys::name::Name;

#[cfg(all(repository, feature = "derive"))]
impl PendingReplies {
    /// Returns true if no call is handled or deferred and no reply waits.
    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.callers.is_empty() && state.posts.is_empty() && state.current.is_none()
    }
}

fn pending() -> (PendingReplies, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake = move || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    (
        PendingReplies::new(Arc::new(wake), &Limits::default()),
        woken,
    )
}

const ROUTE: ReplyRoute = ReplyRoute { key: 1, to: None };

fn post(text: Vec<u8>) -> PostedReply {
    PostedReply {
        route: ROUTE,
        account: Arc::default(),
        reply: QueuedReply::from(text),
    }
}

fn collected(pending: &PendingReplies) -> usize {
    let mut posts = Vec::new();
    pending.collect(&mut posts);
    posts.len()
}

/// Begins and defers a call.
fn defer(pending: &PendingReplies, route: &ReplyRoute, id: Option<u64>) -> DeferredId {
    let deferred = pending.begin();
    end(pending, route, id);
    deferred
}

fn end(pending: &PendingReplies, route: &ReplyRoute, id: Option<u64>) {
    let account = Accounts::new(&Limits::default()).of(None);
    pending.defer(&caller(route, &account), id.map(Id::Number).as_ref());
}

fn caller<'c>(route: &'c ReplyRoute, account: &'c Arc<Account>) -> Caller<'c> {
    Caller {
        key: route.key,
        to: route.to.as_ref(),
        account,
        peer: None,
        tag: None,
    }
}

#[test]
fn a_call_replied_to_in_its_handler_is_never_deferred() {
    let (pending, _) = pending();
    let id = pending.begin();
    assert!(pending.is_wanted(&ROUTE, id));
    assert!(pending.complete(&ROUTE, id, None));
    end(&pending, &ROUTE, Some(7));
    assert!(lock(&pending.state).callers.is_empty());
    assert!(!pending.cancel(&ROUTE, &Id::Number(7)));
}

#[test]
fn a_deferred_call_is_wanted_until_it_is_cancelled() {
    let (pending, _) = pending();
    let id = pending.begin();
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let call = move || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    pending.on_cancel(&ROUTE, id, Box::new(call));
    end(&pending, &ROUTE, Some(7));
    assert_eq!(pending.deferred(), 1);
    let other = ReplyRoute { key: 2, to: None };
    assert!(!pending.cancel(&other, &Id::Number(7)));
    assert!(pending.is_wanted(&ROUTE, id));
    assert!(pending.cancel(&ROUTE, &Id::Number(7)));
    assert!(!pending.is_wanted(&ROUTE, id));
    assert!(!pending.complete(&ROUTE, id, None));
    assert_eq!(called.load(Ordering::Relaxed), 1);
    assert_eq!(pending.take_losses().unwanted, 1);
    assert!(lock(&pending.state).callers.is_empty());
}

#[test]
fn a_caller_that_disconnects_cancels_all_its_calls_and_no_others() {
    let (pending, _) = pending();
    let other = ReplyRoute { key: 2, to: None };
    let calls = [(&ROUTE, Some(1)), (&ROUTE, None), (&other, Some(1))];
    let ids = calls.map(|(route, id)| (route, defer(&pending, route, id)));
    pending.hang_up(&ROUTE);
    let wanted = ids.map(|(route, id)| pending.is_wanted(route, id));
    assert_eq!(wanted, [false, false, true]);
    assert!(pending.complete(&other, ids[2].1, None));
    assert!(lock(&pending.state).callers.is_empty() && pending.deferred() == 0);
}

#[test]
fn a_removed_endpoint_cancels_the_calls_of_all_its_callers_and_no_others() {
    let (pending, _) = pending();
    let named = |key, name: &[u8]| ReplyRoute {
        key,
        to: Name::from_abstract(name),
    };
    let callers = [named(1, b"a"), named(1, b"b"), named(2, b"a")];
    let ids = callers.map(|route| (defer(&pending, &route, Some(1)), route));
    pending.hang_up_all(1);
    let wanted = ids.map(|(id, route)| pending.is_wanted(&route, id));
    assert_eq!(wanted, [false, false, true]);
}

#[test]
fn no_call_is_wanted_once_the_server_is_dropped() {
    let (pending, woken) = pending();
    let id = defer(&pending, &ROUTE, Some(1));
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let call = move || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    pending.on_cancel(&ROUTE, id, Box::new(call));
    pending.close();
    assert!(!pending.is_wanted(&ROUTE, id));
    assert!(!pending.complete(&ROUTE, id, None));
    assert_eq!(called.load(Ordering::Relaxed), 1);
    pending.post(post(b"late".to_vec()));
    assert_eq!(collected(&pending), 0);
    assert_eq!(woken.load(Ordering::Relaxed), 0);
}

#[test]
fn an_id_used_twice_belongs_to_the_later_call() {
    let (pending, _) = pending();
    let first = defer(&pending, &ROUTE, Some(1));
    let second = defer(&pending, &ROUTE, Some(1));
    assert!(pending.complete(&ROUTE, first, None));
    assert!(pending.cancel(&ROUTE, &Id::Number(1)));
    assert!(!pending.is_wanted(&ROUTE, second));
}

#[test]
fn calls_with_the_same_id_all_count_and_end_with_their_caller() {
    let (pending, _) = pending();
    let account = Accounts::new(&Limits::default()).of(None);
    let has_room = || pending.has_room(&caller(&ROUTE, &account));
    let mut ids = Vec::new();
    while has_room() {
        assert!(ids.len() < 16, "more than the limit");
        ids.push(defer(&pending, &ROUTE, Some(1)));
    }
    assert!(pending.complete(&ROUTE, ids[0], None), "the first");
    assert!(has_room());
    assert!(pending.complete(&ROUTE, ids[15], None), "the last");
    pending.hang_up(&ROUTE);
    assert!(!ids.iter().any(|id| pending.is_wanted(&ROUTE, *id)));
    assert!(lock(&pending.state).callers.is_empty() && pending.deferred() == 0);
}

#[test]
fn all_calls_with_the_same_id_are_cancelled_with_the_server() {
    let (pending, _) = pending();
    for _ in 0..2 {
        defer(&pending, &ROUTE, Some(1));
    }
    let id = || (ROUTE, Some(Id::Number(1)));
    assert_eq!(pending.cancel_all(), [id(), id()]);
}

#[test]
fn the_loop_is_woken_once_and_not_by_its_own_thread() {
    let (pending, woken) = pending();
    pending.begin_turn();
    pending.post(post(vec![b'1']));
    assert_eq!(woken.load(Ordering::Relaxed), 0, "the turn collects it");
    assert_eq!(collected(&pending), 1);
    pending.end_turn();
    pending.post(post(vec![b'2']));
    pending.post(post(vec![b'3']));
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert_eq!(collected(&pending), 2);
}

/// Locks the mutex when it is dropped, as a reply does.
struct LocksOnDrop(Arc<PendingReplies>, DeferredId);

impl Drop for LocksOnDrop {
    fn drop(&mut self) {
        self.0.is_wanted(&ROUTE, self.1);
    }
}

#[test]
fn the_destructor_of_a_cancel_callback_may_call_back() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (done, all_done) = channel();
    std::thread::spawn(move || {
        let pending = Arc::new(pending().0);
        let watch = |id| {
            let locking = LocksOnDrop(Arc::clone(&pending), id);
            pending.on_cancel(&ROUTE, id, Box::new(move || drop(locking)));
        };
        let id = pending.begin();
        watch(id);
        watch(id);
        pending.complete(&ROUTE, id, None);
        end(&pending, &ROUTE, Some(1));
        done.send("replied to in its handler").unwrap();
        let id = defer(&pending, &ROUTE, Some(1));
        watch(id);
        watch(id);
        pending.complete(&ROUTE, id, None);
        done.send("replied to later").unwrap();
    });
    for _ in 0..2 {
        all_done.recv_timeout(PATIENCE).unwrap();
    }
}
