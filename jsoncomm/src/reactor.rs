//! Readiness, timers and waking, on mio.
//!
//! A [`Reactor`] owns sources of type `T`, each under a [`Key`], and watches their descriptors ([epoll(7)]). Our own sockets
//! are level-triggered: a reader need not empty them. Other descriptors are edge-triggered: a reader that
//! stops before `WouldBlock` must [`rearm`](Reactor::rearm) them. Timers share one timerfd in the epoll instance, so that a
//! foreign loop that waits for the reactor's descriptor sees them too.
//!
//! [epoll(7)]: https://man7.org/linux/man-pages/man7/epoll.7.html

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::busy_poll::BusyPoll;
use crate::error::Error;
use crate::sys::{OsResult, call_io, epoll, wait};

pub(crate) use crate::sys::epoll::{Trigger, Watch};

/// Identifies a source in a reactor.
///
/// The generation distinguishes sources that had the same place: the key of a removed source never names another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The key as one number, for modules that only pass it on.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`to_bits`](Self::to_bits).
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            index: (bits & 0xffff_ffff) as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

/// Why a source gets a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its descriptor is ready or hung up.
    Ready,
    /// Its timer expired.
    Timer,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// `None` if the slot is free, or the source has been [taken](Reactor::take).
    source: Option<T>,
    /// What the descriptor is watched for.
    watch: Option<Watch>,
}

/// Ends the wait of a reactor, from any thread.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A source of a reactor: something with a descriptor to watch, or that only has timers.
pub(crate) trait Pollable {
    /// The descriptor to watch, always the same one.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// When the descriptor is reported, always the same.
    fn trigger(&self) -> Trigger {
        Trigger::Edge
    }
}

/// An epoll instance, the sources in it, and their timers.
#[derive(Debug)]
pub(crate) struct Reactor<T> {
    poll: Poll,
    events: Events,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    timer: OwnedFd,
    /// In order. The first is due first.
    timers: VecDeque<(Instant, Key)>,
    /// The time that the timerfd is set to.
    armed: Option<Instant>,
    /// Descriptors to watch from some time on.
    unwatched: Vec<(Instant, Key, Watch)>,
    pub(crate) spin: BusyPoll,
}

/// A token is the index of a source, without its generation: a token of mio holds 32 bits on a 32-bit machine, whatever
/// epoll could store. [`Reactor::wait`] adds the generation before anything can reuse the index.
const WAKER: Token = token(u32::MAX);
const TIMER: Token = token(u32::MAX - 1);

const fn token(index: u32) -> Token {
    Token(index as usize)
}

/// Events taken from the kernel in one call.
const EVENTS: usize = 256;

impl<T: Pollable> Reactor<T> {
    /// Creates an empty reactor, and the function that wakes it.
    pub(crate) fn new() -> Result<(Self, Wake), Error> {
        let poll = call_io("epoll_create1", Poll::new)?;
        let waker = call_io("eventfd", || mio::Waker::new(poll.registry(), WAKER))?;
        let timer = wait::timerfd()?;
        let (epoll, number) = (poll.registry().as_fd(), TIMER.0 as u64);
        let watch = Some((Watch::Reading, Trigger::Edge));
        epoll::change(epoll, timer.as_fd(), number, None, watch)?;
        let reactor = Self {
            poll,
            events: Events::with_capacity(EVENTS),
            slots: Vec::new(),
            free: Vec::new(),
            timer,
            timers: VecDeque::new(),
            armed: None,
            unwatched: Vec::new(),
            spin: BusyPoll::default(),
        };
        let wake = move || {
            // It fails only if the counter is full, and then the loop is awake already.
            let _ = waker.wake();
        };
        Ok((reactor, Arc::new(wake)))
    }

    /// Adds a source and watches its descriptor for reading. Gives the source back on failure.
    pub(crate) fn add(&mut self, source: T) -> Result<Key, (Error, T)> {
        let key = self.next_key();
        if let Err(error) = self.watch(key, &source, Some(Watch::Reading)) {
            self.free.push(key.index);
            let error = match error.kind() {
                io::ErrorKind::PermissionDenied => Error::NotPollable,
                _ => error.into(),
            };
            return Err((error, source));
        }
        self.put(key, source);
        Ok(key)
    }

    /// Adds a source whose descriptor can be polled. It is watched for reading as soon as the kernel has memory for that.
    pub(crate) fn add_retrying(&mut self, source: T) -> Key {
        let key = self.next_key();
        self.rearm(key, &source, Watch::Reading);
        self.put(key, source);
        key
    }

    /// Returns the key of the next source.
    fn next_key(&mut self) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                source: None,
                watch: None,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = self.slots.get(index as usize);
        let generation = slot.map_or(0, |slot| slot.generation);
        Key { index, generation }
    }

    /// The key of the source that is watched under this index now.
    fn watched(&self, index: usize) -> Option<Key> {
        let slot = self.slots.get(index).filter(|slot| slot.watch.is_some())?;
        let (index, generation) = (u32::try_from(index).ok()?, slot.generation);
        Some(Key { index, generation })
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(key.index as usize);
        slot.filter(|slot| slot.generation == key.generation)
    }

    /// Borrows a source. `None` if it was removed or [taken](Self::take).
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut T> {
        self.slot(key)?.source.as_mut()
    }

    /// All sources that are not [taken](Self::take).
    pub(crate) fn sources(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.source.as_ref())
    }

    /// The keys of all sources that are not [taken](Self::take).
    pub(crate) fn keys(&self) -> Vec<Key> {
        let slots = (0..).zip(&self.slots);
        let key = |(index, slot): (u32, &Slot<T>)| {
            let generation = slot.generation;
            slot.source.is_some().then_some(Key { index, generation })
        };
        slots.filter_map(key).collect()
    }

    /// Moves a source out for its turn. Then [`put`](Self::put) it back or [`release`](Self::release) its key.
    pub(crate) fn take(&mut self, key: Key) -> Option<T> {
        self.slot(key)?.source.take()
    }

    /// Moves a source back after its turn.
    pub(crate) fn put(&mut self, key: Key, source: T) {
        if let Some(slot) = self.slot(key) {
            slot.source = Some(source);
        }
    }

    /// Removes a source that was taken, and stops watching its descriptor, which may stay open elsewhere.
    pub(crate) fn release(&mut self, key: Key, source: &T) {
        self.ignore(key, source);
        if let Some(slot) = self.slot(key) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.watch = None;
            self.free.push(key.index);
        }
    }

    /// Watches a descriptor for `watch`. Makes no system call if that changes nothing.
    fn watch(&mut self, key: Key, source: &T, watch: Option<Watch>) -> OsResult<()> {
        let before = self.slot(key).and_then(|slot| slot.watch);
        let (fd, trigger) = (source.fd(), source.trigger());
        // An edge-triggered descriptor is reported again when it is watched for the same again.
        let changes = watch != before || (trigger == Trigger::Edge && watch.is_some());
        let Some(fd) = fd.filter(|_| changes) else {
            return Ok(());
        };
        let (epoll, number) = (self.poll.registry().as_fd(), u64::from(key.index));
        let after = watch.map(|watch| (watch, trigger));
        epoll::change(epoll, fd, number, before, after)?;
        if let Some(slot) = self.slot(key) {
            slot.watch = watch;
        }
        Ok(())
    }

    /// Watches a descriptor again: if it is ready now, it is reported. Retried while the kernel has no memory for that.
    pub(crate) fn rearm(&mut self, key: Key, source: &T, watch: Watch) {
        // Most sources are level-triggered, and watched for the same as before.
        let before = self.slot(key).and_then(|slot| slot.watch);
        if before != Some(watch) || source.trigger() == Trigger::Edge {
            self.rearm_changed(key, source, watch);
        }
    }

    #[inline(never)]
    fn rearm_changed(&mut self, key: Key, source: &T, watch: Watch) {
        /// No event tells when there is memory.
        const PAUSE: Duration = Duration::from_millis(10);
        self.forget_unwatched(key);
        if self.watch(key, source, Some(watch)).is_err() {
            self.watch_at(key, Instant::now() + PAUSE, watch);
        }
    }

    /// Stops watching a descriptor until that time, and gives the source a turn then.
    pub(crate) fn pause(&mut self, key: Key, source: &T, until: Instant, watch: Watch) {
        self.ignore(key, source);
        self.watch_at(key, until, watch);
    }

    /// Stops watching a descriptor.
    pub(crate) fn ignore(&mut self, key: Key, source: &T) {
        self.forget_unwatched(key);
        // If that fails, it is still reported, which costs time only.
        let _ = self.watch(key, source, None);
    }

    /// Cancels watching a descriptor later.
    fn forget_unwatched(&mut self, key: Key) {
        let timers = &mut self.timers;
        self.unwatched.retain(|(time, other, _)| {
            if *other == key {
                timers.retain(|timer| *timer != (*time, key));
            }
            *other != key
        });
    }

    /// Watches a descriptor from that time on, and gives the source a turn then.
    fn watch_at(&mut self, key: Key, time: Instant, watch: Watch) {
        self.unwatched.push((time, key, watch));
        self.wake_at(key, time);
    }

    /// Ends the wait at that time, without a turn for any source.
    pub(crate) fn end_wait_at(&mut self, time: Instant) {
        self.wake_at(Key::from_bits(u64::MAX), time);
    }

    /// Watches the descriptors whose time has come. Returns true if there are any.
    fn rearm_unwatched(&mut self) -> bool {
        if self.unwatched.is_empty() {
            return false;
        }
        let now = Instant::now();
        let unwatched = std::mem::take(&mut self.unwatched).into_iter();
        let (due, later): (Vec<_>, _) = unwatched.partition(|(time, ..)| *time <= now);
        self.unwatched = later;
        let any = !due.is_empty();
        for (_, key, watch) in due {
            if let Some(source) = self.take(key) {
                self.rearm(key, &source, watch);
                self.put(key, source);
            }
        }
        any
    }

    /// Moves the sources whose timers are due to `turns`.
    fn take_due(&mut self, turns: &mut Vec<(Key, Cause)>) {
        let now = Instant::now();
        let is_due = |timer: &&(Instant, Key)| timer.0 <= now;
        while let Some((_, key)) = self.timers.front().filter(is_due).copied() {
            self.timers.pop_front();
            turns.push((key, Cause::Timer));
        }
        // Makes the next `arm` set it, which also clears its readiness.
        self.armed = None;
    }

    /// Gives a source one turn at that time, or soon after.
    ///
    /// Asking twice for the same time gives one turn. It may come after the source has lost interest. A foreign loop sees
    /// it once the timer is [armed](Self::arm).
    pub(crate) fn wake_at(&mut self, key: Key, time: Instant) {
        if let Err(place) = self.timers.binary_search(&(time, key)) {
            self.timers.insert(place, (time, key));
        }
    }

    /// Cancels all timers of a source.
    pub(crate) fn cancel_wakes(&mut self, key: Key) {
        self.timers.retain(|(_, other)| *other != key);
    }

    /// The number of timers.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Sets the timerfd to the earliest timer, if that has changed.
    pub(crate) fn arm(&mut self) -> Result<(), Error> {
        let earliest = self.timers.front().map(|(time, _)| *time);
        if earliest == self.armed {
            return Ok(());
        }
        let after = earliest.map(|time| time.saturating_duration_since(Instant::now()));
        wait::timerfd_settime(self.timer.as_fd(), after)?;
        self.armed = earliest;
        Ok(())
    }

    /// Collects events. Polls for a while before it sleeps, if that is [worth it](BusyPoll).
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

    /// Waits for events, for at most `timeout`, and appends the sources that get a turn to `turns`.
    ///
    /// A wake-up or a signal ends the wait with no turns. If it fails, no event is lost.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        turns: &mut Vec<(Key, Cause)>,
    ) -> Result<(), Error> {
        let due = self.rearm_unwatched();
        self.arm()?;
        match self.poll(if due { Some(Duration::ZERO) } else { timeout }) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if due {
            // The timerfd may expire later, and until then these would be tried again and again.
            self.take_due(turns);
        }
        let mut expired = false;
        for event in &self.events {
            match event.token() {
                WAKER => {}
                TIMER => expired = true,
                Token(index) => turns.extend(self.watched(index).map(|key| (key, Cause::Ready))),
            }
        }
        if expired {
            self.take_due(turns);
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
