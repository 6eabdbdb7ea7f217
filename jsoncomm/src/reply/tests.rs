//! Replies from other threads.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::envelope::Id;
use crate::limits::Limits;
use crate::queue::{Caller, PendingReplies};

#[test]
fn a_server_is_busy_until_a_reply_from_another_thread_is_collected() {
    const ROUNDS: u64 = 10_000;
    let until = Instant::now() + Duration::from_secs(60);
    let pending = Arc::new(PendingReplies::new(Arc::new(|| {}), &Limits::default()));
    let account = Arc::default();
    let caller = Caller {
        key: 1,
        to: None,
        account: &account,
        peer: None,
        tag: None,
    };
    let (sender, replies) = channel::<Reply<u64>>();
    let replying = std::thread::spawn(move || replies.into_iter().for_each(|reply| reply.send(7)));
    for number in 0..ROUNDS {
        let id = Id::Number(number);
        let deferred = pending.begin();
        pending.defer(&caller, Some(&id));
        let reply = Reply::new(Some(ReplyContext {
            pending: Arc::clone(&pending),
            route: caller.route(),
            account: Arc::clone(&account),
            format: ReplyFormat::Call(id),
            id: deferred,
            deadline: None,
        }));
        sender.send(reply).unwrap();
        let mut posts = Vec::new();
        while posts.is_empty() {
            assert!(pending.is_busy(), "it would stop now, in round {number}");
            pending.collect(&mut posts);
            assert!(Instant::now() < until);
        }
    }
    drop(sender);
    replying.join().unwrap();
}
