//! Replies that other threads give.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::limits::Limits;
use crate::queue::Caller;

#[test]
fn a_server_is_busy_until_an_answer_from_another_thread_is_collected() {
    const ROUNDS: u64 = 10_000;
    let until = Instant::now() + Duration::from_secs(20);
    let mailbox = Arc::new(PendingReplies::new(Arc::new(|| {}), &Limits::default()));
    let account = Arc::default();
    let caller = Caller {
        key: 1,
        to: None,
        account: &account,
        peer: None,
    };
    let (give, given) = channel::<Reply<u64>>();
    let answering = std::thread::spawn(move || given.into_iter().for_each(|reply| reply.send(7)));
    for number in 0..ROUNDS {
        let id = Id::Number(number);
        let serial = mailbox.begin();
        mailbox.defer(&caller, Some(&id));
        let reply = Reply::new(Some(Slot {
            mailbox: Arc::clone(&mailbox),
            route: caller.route(),
            account: Arc::clone(&account),
            to: To::Call(id),
            serial,
            deadline: None,
        }));
        give.send(reply).unwrap();
        let mut posts = Vec::new();
        while posts.is_empty() {
            assert!(mailbox.is_busy(), "it would stop now, in round {number}");
            mailbox.collect(&mut posts);
            assert!(Instant::now() < until);
        }
    }
    drop(give);
    answering.join().unwrap();
}
