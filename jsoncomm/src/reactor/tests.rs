//! Which sources are reported, and when.

use super::*;
use crate::sys::inject;
use std::os::unix::net::UnixDatagram;

impl Pollable for UnixDatagram {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

fn turns(reactor: &mut Reactor<UnixDatagram>) -> Vec<(Key, Cause)> {
    let mut turns = Vec::new();
    reactor
        .wait(Some(Duration::from_secs(10)), &mut turns)
        .unwrap();
    turns
}

#[test]
fn the_key_of_a_removed_source_names_nothing_when_its_place_is_reused() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let first = reactor.add(left).unwrap();
    let source = reactor.take(first).unwrap();
    reactor.release(first, &source);
    drop(source);
    let second = reactor.add(right).unwrap();
    assert_eq!(first.index, second.index);
    assert!(reactor.get(first).is_none());
    assert!(reactor.take(first).is_none());
    assert!(reactor.get(second).is_some());
    assert_eq!(Key::from_bits(second.to_bits()), second);
}

#[test]
fn unread_data_is_reported_again_after_rearming() {
    let (mut reactor, wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(left).unwrap();
    right.send(b"x").unwrap();
    assert_eq!(turns(&mut reactor), [(key, Cause::Ready)]);
    let left = reactor.take(key).unwrap();
    reactor.rearm(key, &left, Watch::Reading);
    reactor.put(key, left);
    assert_eq!(turns(&mut reactor), [(key, Cause::Ready)]);
    wake();
    assert_eq!(turns(&mut reactor), [], "an edge is reported once");
}

/// A level-triggered source.
#[derive(Debug)]
struct Level(UnixDatagram);

impl Pollable for Level {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn trigger(&self) -> Trigger {
        Trigger::Level
    }
}

/// Changes the reactor while the source is taken. Returns the turns within so many milliseconds.
fn after(
    reactor: &mut Reactor<Level>,
    key: Key,
    change: impl FnOnce(&mut Reactor<Level>, &Level),
    millis: u64,
) -> Vec<(Key, Cause)> {
    let source = reactor.take(key).unwrap();
    change(reactor, &source);
    reactor.put(key, source);
    let mut turns = Vec::new();
    let timeout = Some(Duration::from_millis(millis));
    reactor.wait(timeout, &mut turns).unwrap();
    turns
}

#[test]
fn a_level_triggered_source_is_reported_until_it_is_read_or_ignored() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(Level(left)).unwrap();
    right.send(b"x").unwrap();
    let ready = [(key, Cause::Ready)];
    inject::begin(None);
    for _ in 0..3 {
        let watch = |reactor: &mut Reactor<_>, source: &_| {
            reactor.rearm(key, source, Watch::Reading);
        };
        assert_eq!(after(&mut reactor, key, watch, 10_000), ready);
    }
    assert_eq!(inject::counts().get("epoll_ctl"), None, "nothing changed");
    let ignore = |reactor: &mut Reactor<_>, source: &_| reactor.ignore(key, source);
    assert_eq!(after(&mut reactor, key, ignore, 1), []);
    let watch = |reactor: &mut Reactor<_>, source: &_| reactor.rearm(key, source, Watch::Reading);
    assert_eq!(after(&mut reactor, key, watch, 10_000), ready);
    let read =
        |_: &mut Reactor<_>, source: &Level| assert_eq!(source.0.recv(&mut [0; 8]).unwrap(), 1);
    assert_eq!(after(&mut reactor, key, read, 1), []);
    let write = |reactor: &mut Reactor<_>, source: &_| reactor.rearm(key, source, Watch::Writing);
    assert_eq!(after(&mut reactor, key, write, 10_000), ready);
}

#[test]
fn a_released_source_is_not_reported_while_it_stays_open() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(Level(left)).unwrap();
    right.send(b"x").unwrap();
    let source = reactor.take(key).unwrap();
    reactor.release(key, &source);
    let mut turns = Vec::new();
    let timeout = Some(Duration::from_millis(1));
    reactor.wait(timeout, &mut turns).unwrap();
    assert_eq!(turns, []);
}

#[test]
fn a_released_source_can_be_added_again() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let first = reactor.add(left).unwrap();
    let left = reactor.take(first).unwrap();
    reactor.release(first, &left);
    right.send(b"x").unwrap();
    let mut none = Vec::new();
    let timeout = Some(Duration::from_millis(1));
    reactor.wait(timeout, &mut none).unwrap();
    assert_eq!(none, []);
    let second = reactor.add(left).unwrap();
    assert_eq!(turns(&mut reactor), [(second, Cause::Ready)]);
}

#[cfg(repository)]
#[test]
fn the_numbers_given_to_the_kernel_have_32_bits_whatever_the_generation() {
    if !jsoncomm_watchdog::has_proc() {
        return;
    }
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, mut right) = UnixDatagram::pair().unwrap();
    left.send(b"x").unwrap();
    for generation in 0..3 {
        let key = reactor.add(right).unwrap();
        assert_eq!((key.index, key.generation), (0, generation));
        assert_eq!(turns(&mut reactor), [(key, Cause::Ready)]);
        let list = format!(
            "/proc/self/fdinfo/{}",
            std::os::fd::AsRawFd::as_raw_fd(&reactor.as_fd())
        );
        let list = std::fs::read_to_string(list).unwrap();
        let numbers = list.lines().filter_map(|line| line.split_once("data:"));
        let numbers = numbers.map(|(_, number)| number.split_whitespace().next().unwrap());
        let mut numbers: Vec<_> = numbers
            .map(|hex| u64::from_str_radix(hex, 16).unwrap())
            .collect();
        numbers.sort();
        let of_reactor = [u32::MAX - 1, u32::MAX].map(u64::from);
        assert_eq!(numbers, [0, of_reactor[0], of_reactor[1]], "{list}");
        right = reactor.take(key).unwrap();
        reactor.release(key, &right);
    }
}

#[test]
fn a_paused_source_is_reported_again_after_its_pause() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(Level(left)).unwrap();
    right.send(b"x").unwrap();
    let pause = |reactor: &mut Reactor<_>, source: &_| {
        let until = Instant::now() + Duration::from_millis(20);
        reactor.pause(key, source, until, Watch::Reading);
    };
    assert_eq!(
        after(&mut reactor, key, pause, 10_000),
        [(key, Cause::Timer)]
    );
    let keep = |_: &mut Reactor<_>, _: &_| {};
    assert_eq!(
        after(&mut reactor, key, keep, 10_000),
        [(key, Cause::Ready)]
    );
}

#[test]
fn a_source_gets_its_turn_after_a_pause_also_if_the_timerfd_is_late() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, _right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(left).unwrap();
    let now = Instant::now();
    // It never expires.
    reactor.armed = Some(now);
    let source = reactor.take(key).unwrap();
    reactor.pause(key, &source, now, Watch::Writing);
    reactor.put(key, source);
    let expected = [(key, Cause::Timer), (key, Cause::Ready)];
    assert_eq!(turns(&mut reactor), expected);
}

#[test]
fn timers_fire_in_order_and_only_when_due() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let late = reactor.add(left).unwrap();
    let early = reactor.add(right).unwrap();
    let now = Instant::now();
    reactor.wake_at(late, now + Duration::from_millis(2));
    reactor.wake_at(early, now);
    // Unconnected ends of a pair are writable, never readable, so only timers can be reported.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        reactor
            .wait(Some(Duration::from_secs(10)), &mut seen)
            .unwrap();
    }
    assert_eq!(seen, [(early, Cause::Timer), (late, Cause::Timer)]);
}

#[test]
fn a_timer_set_twice_fires_once_and_a_cancelled_one_never() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let ends = UnixDatagram::pair().unwrap();
    let (key, other) = (reactor.add(ends.0).unwrap(), reactor.add(ends.1).unwrap());
    let now = Instant::now();
    let early = now - Duration::from_millis(1);
    for time in [now, early, now] {
        reactor.wake_at(other, time);
    }
    for time in [early, now] {
        reactor.wake_at(key, time);
    }
    reactor.cancel_wakes(key);
    assert_eq!(
        turns(&mut reactor),
        [(other, Cause::Timer), (other, Cause::Timer)]
    );
    assert_eq!(reactor.timers(), 0);
}

#[test]
fn a_source_that_is_paused_repeatedly_has_one_timer() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, _right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(left).unwrap();
    let left = reactor.take(key).unwrap();
    for seconds in 1..10 {
        let until = Instant::now() + Duration::from_secs(seconds);
        reactor.pause(key, &left, until, Watch::Reading);
        assert_eq!(reactor.timers(), 1);
    }
    reactor.ignore(key, &left);
    assert_eq!(reactor.timers(), 0);
}

fn fail(call: &'static str, errno: rustix::io::Errno) {
    let times = 0..1;
    inject::begin(Some(inject::Plan { call, times, errno }));
}

#[test]
fn a_source_that_cannot_be_rearmed_is_rearmed_later() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(left).unwrap();
    right.send(b"x").unwrap();
    assert_eq!(turns(&mut reactor), [(key, Cause::Ready)]);
    fail("epoll_ctl", rustix::io::Errno::NOMEM);
    let left = reactor.take(key).unwrap();
    reactor.rearm(key, &left, Watch::Reading);
    assert_eq!(inject::failed(), 1);
    reactor.put(key, left);
    assert_eq!(turns(&mut reactor), [(key, Cause::Timer)]);
    assert_eq!(turns(&mut reactor), [(key, Cause::Ready)]);
}

#[test]
fn timers_outlive_a_timerfd_that_cannot_be_set() {
    let (mut reactor, _wake) = Reactor::new().unwrap();
    let (left, _right) = UnixDatagram::pair().unwrap();
    let key = reactor.add(left).unwrap();
    let now = Instant::now();
    reactor.wake_at(key, now);
    reactor.wake_at(key, now + Duration::from_secs(3600));
    assert_eq!(turns(&mut reactor), [(key, Cause::Timer)]);
    fail("timerfd_settime", rustix::io::Errno::NOMEM);
    let mut none = Vec::new();
    assert!(reactor.wait(None, &mut none).is_err());
    reactor.wake_at(key, now);
    assert_eq!(turns(&mut reactor), [(key, Cause::Timer)]);
}
