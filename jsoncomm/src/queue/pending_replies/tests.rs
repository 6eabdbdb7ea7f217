//! Which calls are wanted, and whom a reply wakes.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::accounts::Accounts;
use crate::sys::name::Name;

fn mailbox() -> (PendingReplies, Arc<AtomicUsize>) {
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

const TICKET: ReplyRoute = ReplyRoute { key: 1, to: None };

fn post(text: Vec<u8>) -> PostedReply {
    PostedReply {
        ticket: TICKET,
        account: Arc::default(),
        letter: QueuedReply::from(text),
    }
}

fn collected(mailbox: &PendingReplies) -> usize {
    let mut posts = Vec::new();
    mailbox.collect(&mut posts);
    posts.len()
}

/// Begins and defers a call.
fn defer(mailbox: &PendingReplies, ticket: &ReplyRoute, id: Option<u64>) -> DeferredId {
    let serial = mailbox.begin();
    end(mailbox, ticket, id);
    serial
}

fn end(mailbox: &PendingReplies, ticket: &ReplyRoute, id: Option<u64>) {
    let account = Accounts::new(&Limits::default()).of(None);
    mailbox.defer(&caller(ticket, &account), id.map(Id::Number).as_ref());
}

fn caller<'c>(ticket: &'c ReplyRoute, account: &'c Arc<Account>) -> Caller<'c> {
    Caller {
        key: ticket.key,
        to: ticket.to.as_ref(),
        account,
        peer: None,
    }
}

#[test]
fn a_call_answered_in_its_handler_is_never_deferred() {
    let (mailbox, _) = mailbox();
    let serial = mailbox.begin();
    assert!(mailbox.is_wanted(serial));
    assert!(mailbox.settle(serial, None));
    end(&mailbox, &TICKET, Some(7));
    assert!(mailbox.lock().deferred.is_empty());
    assert!(!mailbox.cancel(&TICKET, &Id::Number(7)));
}

#[test]
fn a_deferred_call_is_wanted_until_it_is_cancelled() {
    let (mailbox, _) = mailbox();
    let serial = mailbox.begin();
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    let call = move || {
        tell.fetch_add(1, Ordering::Relaxed);
    };
    mailbox.on_cancel(serial, Box::new(call));
    end(&mailbox, &TICKET, Some(7));
    assert_eq!(mailbox.lock().deferred.len(), 1);
    let stranger = ReplyRoute { key: 2, to: None };
    assert!(!mailbox.cancel(&stranger, &Id::Number(7)));
    assert!(mailbox.is_wanted(serial));
    assert!(mailbox.cancel(&TICKET, &Id::Number(7)));
    assert!(!mailbox.is_wanted(serial));
    assert!(!mailbox.settle(serial, None));
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert_eq!(mailbox.end_news().0.unwanted, 1);
    assert!(mailbox.lock().callers.is_empty());
}

#[test]
fn a_caller_that_goes_cancels_all_its_calls_and_no_others() {
    let (mailbox, _) = mailbox();
    let other = ReplyRoute { key: 2, to: None };
    let mut serials = Vec::new();
    for (ticket, id) in [(&TICKET, Some(1)), (&TICKET, None), (&other, Some(1))] {
        serials.push(defer(&mailbox, ticket, id));
    }
    mailbox.hang_up(&TICKET);
    let wanted: Vec<bool> = serials.iter().map(|s| mailbox.is_wanted(*s)).collect();
    assert_eq!(wanted, [false, false, true]);
    assert!(mailbox.settle(serials[2], None));
    let state = mailbox.lock();
    assert!(state.deferred.is_empty() && state.callers.is_empty());
}

#[test]
fn an_endpoint_that_goes_cancels_the_calls_of_all_its_callers_and_no_others() {
    let (mailbox, _) = mailbox();
    let named = |key, name: &[u8]| ReplyRoute {
        key,
        to: Name::from_abstract(name),
    };
    let callers = [named(1, b"a"), named(1, b"b"), named(2, b"a")];
    let serials = callers.map(|ticket| defer(&mailbox, &ticket, Some(1)));
    mailbox.hang_up_all(1);
    let wanted = serials.map(|serial| mailbox.is_wanted(serial));
    assert_eq!(wanted, [false, false, true]);
}

#[test]
fn nothing_is_wanted_once_the_server_has_gone() {
    let (mailbox, woken) = mailbox();
    let serial = defer(&mailbox, &TICKET, Some(1));
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    let call = move || {
        tell.fetch_add(1, Ordering::Relaxed);
    };
    mailbox.on_cancel(serial, Box::new(call));
    mailbox.close();
    assert!(!mailbox.is_wanted(serial));
    assert!(!mailbox.settle(serial, None));
    assert_eq!(told.load(Ordering::Relaxed), 1);
    mailbox.post(post(b"late".to_vec()));
    assert_eq!(collected(&mailbox), 0);
    assert_eq!(woken.load(Ordering::Relaxed), 0);
}

#[test]
fn an_id_used_twice_belongs_to_the_later_call() {
    let (mailbox, _) = mailbox();
    let first = defer(&mailbox, &TICKET, Some(1));
    let second = defer(&mailbox, &TICKET, Some(1));
    assert!(mailbox.settle(first, None));
    assert!(mailbox.cancel(&TICKET, &Id::Number(1)));
    assert!(!mailbox.is_wanted(second));
}

#[test]
fn calls_of_one_id_all_count_and_go_with_their_caller() {
    let (mailbox, _) = mailbox();
    let account = Accounts::new(&Limits::default()).of(None);
    let has_room = || mailbox.has_room(&caller(&TICKET, &account));
    let mut serials = Vec::new();
    while has_room() {
        assert!(serials.len() < 16, "more than the limit");
        serials.push(defer(&mailbox, &TICKET, Some(1)));
    }
    assert!(mailbox.settle(serials[0], None), "the first");
    assert!(has_room());
    assert!(mailbox.settle(serials[15], None), "the last");
    mailbox.hang_up(&TICKET);
    assert!(!serials.iter().any(|serial| mailbox.is_wanted(*serial)));
    let state = mailbox.lock();
    assert!(state.deferred.is_empty() && state.callers.is_empty());
}

#[test]
fn all_calls_of_one_id_are_given_up_with_it() {
    let (mailbox, _) = mailbox();
    for _ in 0..2 {
        defer(&mailbox, &TICKET, Some(1));
    }
    let id = || (TICKET, Some(Id::Number(1)));
    assert_eq!(mailbox.give_up(), [id(), id()]);
}

#[test]
fn the_loop_is_woken_once_and_not_by_itself() {
    let (mailbox, woken) = mailbox();
    mailbox.begin_turn();
    mailbox.post(post(vec![b'1']));
    assert_eq!(woken.load(Ordering::Relaxed), 0, "its own turn collects it");
    assert_eq!(collected(&mailbox), 1);
    mailbox.end_turn();
    mailbox.post(post(vec![b'2']));
    mailbox.post(post(vec![b'3']));
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert_eq!(collected(&mailbox), 2);
}

/// Looks into the mailbox when it is dropped, as a reply does.
struct Curious(Arc<PendingReplies>, DeferredId);

impl Drop for Curious {
    fn drop(&mut self) {
        self.0.is_wanted(self.1);
    }
}

#[test]
fn what_is_to_be_called_on_cancel_may_look_in_here_when_it_is_dropped() {
    /// Longer than it takes.
    const PATIENCE: Duration = Duration::from_secs(20);
    let (done, all_done) = channel();
    std::thread::spawn(move || {
        let mailbox = Arc::new(mailbox().0);
        let watch = |serial| {
            let curious = Curious(Arc::clone(&mailbox), serial);
            mailbox.on_cancel(serial, Box::new(move || drop(curious)));
        };
        let answered = mailbox.begin();
        watch(answered);
        watch(answered);
        mailbox.settle(answered, None);
        end(&mailbox, &TICKET, Some(1));
        done.send("answered in its handler").unwrap();
        let later = defer(&mailbox, &TICKET, Some(1));
        watch(later);
        watch(later);
        mailbox.settle(later, None);
        done.send("answered later").unwrap();
    });
    for _ in 0..2 {
        all_done.recv_timeout(PATIENCE).unwrap();
    }
}
