//! Readiness, timers and waking: the mio room.
//!
//! A [`Reactor`] keeps things of type `T`, each under a [`Key`], and watches their descriptors ([epoll(7)]). Sockets of
//! ours are [watched](Trigger) for as long as they are ready, so whoever reads from one need not find it empty. The
//! others are watched for edges, as mio does it: whoever stops reading before `WouldBlock` must
//! [`rearm`](Reactor::rearm) it. Timers go through one timerfd in the poll, so that a foreign loop that
//! waits on the reactor's descriptor sees them too.
//!
//! [epoll(7)]: https://man7.org/linux/man-pages/man7/epoll.7.html

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::busy_poll::BusyPoll;
use crate::error::Error;
use crate::sys::{OsResult, call_io, epoll, wait};

pub(crate) use crate::sys::epoll::Watch;

/// Names a thing in a reactor. The generation makes the key of a removed thing name nothing, also when
/// its place is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As one number, for rooms that only pass it on.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`to_bits`](Self::to_bits).
    pub(crate) fn from_bits(bits: u64) -> Self {
        let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Self {
            index: low(bits),
            generation: low(bits >> 32),
        }
    }

    fn token(self) -> Token {
        Token(usize::try_from(self.to_bits()).unwrap_or(usize::MAX))
    }
}

impl From<Watch> for Interest {
    fn from(watch: Watch) -> Self {
        match watch {
            Watch::Reading | Watch::HangUp => Self::READABLE,
            Watch::Writing => Self::WRITABLE,
        }
    }
}

/// Why a thing gets its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its descriptor is ready, or its peer has gone.
    Ready,
    /// The time it asked for has come.
    Timer,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    thing: Option<T>,
    /// What a level-triggered descriptor is watched for.
    watch: Option<Watch>,
}

/// When a descriptor that is ready is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// When it becomes ready, or is [armed anew](Reactor::rearm).
    Edge,
    /// As long as it is.
    Level,
}

/// Ends the wait of a reactor, from any thread.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a reactor keeps: things with a descriptor to watch, and things that only wait for their time.
pub(crate) trait Thing {
    /// The descriptor to watch, always the same one.
    fn watched(&self) -> Option<BorrowedFd<'_>>;

    /// When to report it, always the same.
    fn trigger(&self) -> Trigger {
        Trigger::Edge
    }
}

/// The poll, what is in it, and the timers.
#[derive(Debug)]
pub(crate) struct Reactor<T> {
    poll: Poll,
    events: Events,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    timer: OwnedFd,
    /// Each time that somebody has asked for, once.
    timers: BTreeSet<(Instant, Key)>,
    /// What the timerfd is armed to.
    armed: Option<Instant>,
    /// What is not watched, or could not be, and when to watch it.
    unwatched: Vec<(Instant, Key, Watch)>,
    /// Whether to look for a while before waiting.
    pub(crate) spin: BusyPoll,
}

const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// Events taken from the kernel in one call.
const EVENTS: usize = 256;

impl<T: Thing> Reactor<T> {
    /// Makes an empty reactor and the function that wakes it from any thread.
    pub(crate) fn new() -> Result<(Self, Wake), Error> {
        let poll = call_io("epoll_create1", Poll::new)?;
        let waker = call_io("eventfd", || mio::Waker::new(poll.registry(), WAKER))?;
        let timer = wait::timerfd()?;
        call_io("epoll_ctl", || {
            let raw = timer.as_raw_fd();
            let registry = poll.registry();
            registry.register(&mut SourceFd(&raw), TIMER, Interest::READABLE)
        })?;
        let reactor = Self {
            poll,
            events: Events::with_capacity(EVENTS),
            slots: Vec::new(),
            free: Vec::new(),
            timer,
            timers: BTreeSet::new(),
            armed: None,
            unwatched: Vec::new(),
            spin: BusyPoll::default(),
        };
        let wake = move || {
            // It fails only when the counter is full, and then the loop is awake already.
            let _ = waker.wake();
        };
        Ok((reactor, Arc::new(wake)))
    }

    /// Keeps `thing` and watches its descriptor for reading, if it has one. On failure it is given back.
    pub(crate) fn add(&mut self, thing: T) -> Result<Key, (Error, T)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    thing: None,
                    watch: None,
                });
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let generation = self.slot(index).map_or(0, |slot| slot.generation);
        let key = Key { index, generation };
        let registered = match (thing.watched(), thing.trigger()) {
            (None, _) => Ok(()),
            (Some(_), Trigger::Level) => self.watch(key, &thing, Some(Watch::Reading)),
            // The descriptor is borrowed from the thing for the one call that takes its number.
            (Some(fd), Trigger::Edge) => call_io("epoll_ctl", || {
                let (raw, registry) = (fd.as_raw_fd(), self.poll.registry());
                registry.register(&mut SourceFd(&raw), key.token(), Interest::READABLE)
            }),
        };
        if let Err(error) = registered {
            self.free.push(index);
            let error = match error.kind() {
                io::ErrorKind::PermissionDenied => Error::NotPollable,
                _ => error.into(),
            };
            return Err((error, thing));
        }
        if let Some(slot) = self.slot(index) {
            slot.thing = Some(thing);
        }
        Ok(key)
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.slots.get_mut(usize::try_from(index).ok()?)
    }

    /// Lends what the key names; `None` when it was removed or is [out](Self::take).
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut T> {
        self.slot(key.index)
            .filter(|slot| slot.generation == key.generation)?
            .thing
            .as_mut()
    }

    /// All that is here and not [out](Self::take).
    pub(crate) fn things(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.thing.as_ref())
    }

    /// The keys of all that is here and not [out](Self::take).
    pub(crate) fn keys(&self) -> Vec<Key> {
        let slots = (0..).zip(&self.slots);
        let here = slots.filter(|(_, slot)| slot.thing.is_some());
        here.map(|(index, slot)| Key {
            index,
            generation: slot.generation,
        })
        .collect()
    }

    /// Moves a thing out for its turn; [`put`](Self::put) it back or [`release`](Self::release) its key.
    pub(crate) fn take(&mut self, key: Key) -> Option<T> {
        self.slot(key.index)
            .filter(|slot| slot.generation == key.generation)?
            .thing
            .take()
    }

    /// Moves a thing back after its turn.
    pub(crate) fn put(&mut self, key: Key, thing: T) {
        if let Some(slot) = self.slot(key.index) {
            slot.thing = Some(thing);
        }
    }

    /// Forgets the key of a thing that was taken out, and does not watch it any more: its descriptor may stay open
    /// elsewhere.
    pub(crate) fn release(&mut self, key: Key, thing: &T) {
        self.ignore(key, thing);
        if let Some(slot) = self.slot(key.index) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.watch = None;
            self.free.push(key.index);
        }
    }

    /// Watches a level-triggered descriptor for something else, or not at all. Nothing needs to be done where nothing
    /// changes.
    fn watch(&mut self, key: Key, thing: &T, watch: Option<Watch>) -> OsResult<()> {
        let before = self.slot(key.index).and_then(|slot| slot.watch);
        let Some(fd) = thing.watched().filter(|_| watch != before) else {
            return Ok(());
        };
        let (epoll, number) = (self.poll.registry().as_fd(), key.to_bits());
        epoll::change(epoll, fd, number, before, watch)?;
        if let Some(slot) = self.slot(key.index) {
            slot.watch = watch;
        }
        Ok(())
    }

    /// Watches a descriptor anew: what is ready now is reported again. While the kernel has no memory for
    /// that, it is tried again and again.
    pub(crate) fn rearm(&mut self, key: Key, thing: &T, watch: Watch) {
        // Most are level-triggered, and watched for the same as before.
        let before = self.slot(key.index).and_then(|slot| slot.watch);
        if before != Some(watch) {
            self.rearm_otherwise(key, thing, watch);
        }
    }

    #[inline(never)]
    fn rearm_otherwise(&mut self, key: Key, thing: &T, watch: Watch) {
        /// Nothing tells when there is memory.
        const PAUSE: Duration = Duration::from_millis(10);
        self.forget_unwatched(key);
        let Some(fd) = thing.watched() else {
            return;
        };
        let armed = match thing.trigger() {
            Trigger::Level => self.watch(key, thing, Some(watch)),
            Trigger::Edge => call_io("epoll_ctl", || {
                let (raw, registry) = (fd.as_raw_fd(), self.poll.registry());
                registry.reregister(&mut SourceFd(&raw), key.token(), watch.into())
            }),
        };
        if armed.is_err() {
            self.watch_at(key, Instant::now() + PAUSE, watch);
        }
    }

    /// Does not watch a level-triggered descriptor until that time, and gives it a turn then.
    pub(crate) fn pause(&mut self, key: Key, thing: &T, until: Instant, watch: Watch) {
        self.forget_unwatched(key);
        // If that fails, it is watched all the while, which costs no more than time.
        let _ = self.watch(key, thing, None);
        self.watch_at(key, until, watch);
    }

    /// Does not watch a descriptor any more.
    pub(crate) fn ignore(&mut self, key: Key, thing: &T) {
        self.forget_unwatched(key);
        // If that fails, its events are for a key that names nothing, or for one that has nothing to do.
        let _ = match (thing.trigger(), thing.watched()) {
            (Trigger::Level, _) => self.watch(key, thing, None),
            (Trigger::Edge, Some(fd)) => call_io("epoll_ctl", || {
                let (raw, registry) = (fd.as_raw_fd(), self.poll.registry());
                registry.deregister(&mut SourceFd(&raw))
            }),
            (Trigger::Edge, None) => Ok(()),
        };
    }

    /// Does not come back to a descriptor that is not watched for now.
    fn forget_unwatched(&mut self, key: Key) {
        let timers = &mut self.timers;
        self.unwatched.retain(|(time, unwatched, _)| {
            let other = *unwatched != key;
            if !other {
                timers.remove(&(*time, key));
            }
            other
        });
    }

    /// Watches a descriptor from that time on, and gives it a turn then.
    fn watch_at(&mut self, key: Key, time: Instant, watch: Watch) {
        self.unwatched.push((time, key, watch));
        self.wake_at(key, time);
    }

    /// Ends the wait at that time, or soon after, for nobody in particular.
    pub(crate) fn end_wait_at(&mut self, time: Instant) {
        self.wake_at(Key::from_bits(u64::MAX), time);
    }

    /// Watches what is to be watched by now.
    fn rearm_unwatched(&mut self) {
        if self.unwatched.is_empty() {
            return;
        }
        let now = Instant::now();
        let unwatched = std::mem::take(&mut self.unwatched);
        let (due, rest) = unwatched.into_iter().partition(|(at, ..)| *at <= now);
        self.unwatched = rest;
        let due: Vec<_> = due;
        for (_, key, watch) in due {
            if let Some(thing) = self.take(key) {
                self.rearm(key, &thing, watch);
                self.put(key, thing);
            }
        }
    }

    /// Gives `key` a turn at that time, or soon after: one, however often it is asked for. It may come although it is
    /// no longer wanted. Foreign loops are told once the timer is [armed](Self::arm).
    pub(crate) fn wake_at(&mut self, key: Key, time: Instant) {
        self.timers.insert((time, key));
    }

    /// Gives `key` none of the turns that have been asked for.
    pub(crate) fn cancel_wakes(&mut self, key: Key) {
        self.timers.retain(|(_, other)| *other != key);
    }

    /// How many turns have been asked for.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Arms the timerfd to the earliest timer, if that has changed.
    pub(crate) fn arm(&mut self) -> Result<(), Error> {
        let earliest = self.timers.first().map(|(time, _)| *time);
        if earliest == self.armed {
            return Ok(());
        }
        let after = earliest.map(|time| time.saturating_duration_since(Instant::now()));
        wait::timerfd_settime(self.timer.as_fd(), after)?;
        self.armed = earliest;
        Ok(())
    }

    /// Collects what is ready, looking for it for a while before it sleeps if that is [worth it](BusyPoll).
    fn poll(&mut self, timeout: Option<Duration>) -> OsResult<()> {
        let waits = timeout != Some(Duration::ZERO);
        let Some(mut until) = self.spin.next_deadline().filter(|_| waits) else {
            return self.poll_once(timeout);
        };
        if let Some(end) = timeout.and_then(|timeout| Instant::now().checked_add(timeout)) {
            until = until.min(end);
        }
        loop {
            self.poll_once(Some(Duration::ZERO))?;
            if !self.events.is_empty() {
                self.spin.record(true);
                return Ok(());
            }
            if Instant::now() >= until {
                self.spin.record(false);
                return self.poll_once(timeout);
            }
            std::hint::spin_loop();
        }
    }

    fn poll_once(&mut self, timeout: Option<Duration>) -> OsResult<()> {
        call_io("epoll_wait", || self.poll.poll(&mut self.events, timeout))
    }

    /// Waits until something is ready, for at most `timeout`, and appends to `turns` who is to act and
    /// why. A wake-up or a signal ends the wait with nothing to do. When it fails nothing is lost.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        turns: &mut Vec<(Key, Cause)>,
    ) -> Result<(), Error> {
        self.rearm_unwatched();
        self.arm()?;
        match self.poll(timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut expired = false;
        for event in &self.events {
            match event.token() {
                WAKER => {}
                TIMER => expired = true,
                Token(bits) => turns.push((Key::from_bits(bits as u64), Cause::Ready)),
            }
        }
        if expired {
            let now = Instant::now();
            while let Some((time, key)) = self.timers.first().copied() {
                if time > now {
                    break;
                }
                self.timers.pop_first();
                turns.push((key, Cause::Timer));
            }
            // Setting it anew, before the next wait, also takes back its readiness.
            self.armed = None;
        }
        Ok(())
    }
}

impl<T> AsFd for Reactor<T> {
    /// The epoll descriptor, readable when [`wait`](Reactor::wait) has something to report.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

#[cfg(test)]
mod tests;
