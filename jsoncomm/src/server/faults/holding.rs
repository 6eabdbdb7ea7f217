//! Replies that are held back: they are retried, and dropped with their peer.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::accounts::{Account, Charge, Cost, Resource};
use crate::sys::socket::{Shutdown, shut_down};

struct Held {
    world: World,
    account: Arc<Account>,
    calls: Vec<PendingCall<Pair>>,
    /// Descriptors in flight to the user on other connections, as many as the limit.
    in_flight: Option<Charge>,
    _directory: tempfile::TempDir,
}

/// Makes `count` calls whose replies are held back until other connections read.
fn hold(count: usize) -> Held {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("faults.sock");
    let mut world = World::new(Kind::Seqpacket, &path);
    let double = world.stub().double(1);
    world.finish(double).unwrap();
    let user = std::fs::metadata(&path).unwrap().uid();
    let account = world.server.context.accounts.of(Some(user));
    let in_flight = account.charge(Cost::in_flight(
        world.server.context.limits.user_descriptors,
        0,
    ));
    let mut calls = Vec::new();
    for number in 1..=count {
        calls.push(world.stub().swap(null(), null()).unwrap());
        world.turn_until("a reply that waits", |world| {
            world.server.stats().backlog == number
        });
    }
    Held {
        world,
        account,
        calls,
        in_flight: Some(in_flight),
        _directory: directory,
    }
}

impl Held {
    /// Longer than the longest pause between two attempts.
    fn turn_for_a_while(&mut self) {
        for _ in 0..30 {
            self.world.turn_within(Duration::from_millis(10));
        }
    }

    fn finish(&mut self) {
        for mut call in std::mem::take(&mut self.calls) {
            let mut ended = None;
            self.world.turn_until("the end of a call", |_| {
                ended = call.try_wait();
                ended.is_some()
            });
            assert!(matches!(ended, Some(Ok(_))), "{ended:?}");
        }
        assert_eq!(self.world.server.stats().backlog, 0);
    }
}

#[test]
fn a_reply_that_is_held_back_is_retried_though_messages_had_to_wait_meanwhile() {
    let mut held = hold(1);
    let unwanted = held.account.charge(Cost::NONE.with(
        Resource::Unused,
        held.world.server.context.limits.user_descriptors + 1,
    ));
    held.turn_for_a_while();
    assert!(held.account.must_wait());
    drop((unwanted, held.in_flight.take()));
    held.finish();
}

#[test]
fn a_reply_that_is_held_back_is_retried_though_its_peer_was_not_read_meanwhile() {
    let mut held = hold(1);
    let later = held.world.stub().later(null()).unwrap();
    held.world.turn_until("a call that is deferred", |world| {
        !world.state.waiting.is_empty()
    });
    held.turn_for_a_while();
    // With one more reply that waits, the user has no room to spare.
    let half = held.world.server.context.limits.user_descriptors / 2;
    let nearly = held.account.charge(Cost::queued(0, half - 3));
    assert!(held.account.has_room_to_spare());
    held.calls
        .push(held.world.stub().swap(null(), null()).unwrap());
    held.world.turn_until("a reply that waits", |world| {
        world.server.stats().backlog == 2
    });
    assert!(!held.account.has_room_to_spare());
    drop(nearly);
    held.world.send_replies();
    held.calls.push(later);
    held.turn_for_a_while();
    drop(held.in_flight.take());
    held.finish();
}

#[test]
fn a_hang_up_is_noticed_while_the_peer_is_not_read_and_nothing_more_may_be_in_flight() {
    for count in [1, 15, 16] {
        let mut held = hold(count);
        let connections = held.world.server.stats().connections;
        let dropped = held.world.server.counts().undelivered;
        held.turn_for_a_while();
        shut_down(held.world.connection.as_fd(), Shutdown::Both).unwrap();
        held.world.turn_until("the end of a connection", |world| {
            world.server.stats().connections < connections
        });
        let lost = held.world.server.counts().undelivered - dropped;
        assert_eq!(lost, count as u64, "they are counted");
        assert_eq!(held.world.server.stats().backlog, 0);
    }
}

#[test]
fn a_cancelled_call_withdraws_its_own_reply_that_is_held_back_and_no_other() {
    let mut held = hold(3);
    drop(held.calls.remove(1));
    held.world.turn_until("a call that is cancelled", |world| {
        world.server.counts().cancelled == 1
    });
    assert_eq!(held.world.server.stats().backlog, 2);
    drop(held.in_flight.take());
    held.finish();
}

#[test]
fn a_reply_that_found_no_room_is_sent_though_messages_had_to_wait_meanwhile() {
    let mut held = hold(0);
    let mut later = held.world.stub().later(null()).unwrap();
    held.world.turn_until("a call that is deferred", |world| {
        !world.state.waiting.is_empty()
    });
    let unwanted = held.account.charge(Cost::NONE.with(
        Resource::Unused,
        held.world.server.context.limits.user_descriptors + 1,
    ));
    for key in held.world.server.reactor.keys() {
        assert!(held.account.wait_to_read(key.to_bits()));
    }
    // Both in one turn: the reply finds no room, and the connection is resumed.
    drop(unwanted);
    held.world.state.waiting.clear();
    fail("sendto", Errno::AGAIN);
    held.world.turn();
    assert_eq!(inject::failed(), 1);
    inject::end();
    let mut ended = None;
    held.world.turn_until("the end of a call", |_| {
        ended = later.try_wait();
        ended.is_some()
    });
    assert!(matches!(ended, Some(Err(CallError::Fault(_)))), "{ended:?}");
}
