//! What reaches into a server's loop: watches, timers, and changes from outside.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::source::SourceAction;
use super::{Server, Source};
use crate::client::Connection;
use crate::error::Error;
use crate::queue::{Drive, PendingReplies};
use crate::reactor::{Cause, Key, Pollable};
use crate::service;
use crate::sys::{lock, opaque_debug};

/// Identifies an endpoint, a watch or a timer of one server. A token is never used for anything else, even after what it
/// identifies has been removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub(super) Key);

/// A handle that reaches a running server from any thread or handler. A state may keep one.
///
/// In a forked child it does nothing.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Limits, Server};
/// use std::time::Duration;
///
/// let mut server = Server::new(Limits::default())?;
/// let timer = server.every(Duration::from_millis(1), |ticks: &mut u32, _| *ticks += 1)?;
/// let handle = server.handle();
/// std::thread::spawn(move || {
///     handle.post(move |server| {
///         server.remove(timer);
///     });
///     handle.stop();
/// });
/// server.run(&mut 0)?;
/// # Ok::<(), jsoncomm::Error>(())
/// ```
pub struct ServerHandle<S> {
    pub(super) pending: Arc<PendingReplies>,
    pub(super) changes: Weak<Changes<S>>,
}

/// The changes that have been posted, to be applied to the server between two turns. The server owns them.
pub(super) type Changes<S> = Mutex<Vec<Box<dyn FnOnce(&mut Server<S>) + Send>>>;

impl<S> ServerHandle<S> {
    /// Makes [`Server::run`] return at the end of the current turn, or of the next one if there is none.
    ///
    /// Calls that have not been replied to stay as they are. [`shut_down`](ServerHandle::shut_down) finishes them first.
    pub fn stop(&self) {
        self.post(|server| server.stop = true);
    }

    /// Begins a graceful shutdown; see [`Server::shut_down`].
    pub fn shut_down(&self, grace: Duration) {
        self.post(move |server| drop(server.shut_down(grace)));
    }

    /// Applies `change` to the server between two turns, soon: to add an endpoint or remove a timer, for example. Does not
    /// wait for that.
    ///
    /// If the server has been dropped, and in a forked child, `change` is dropped.
    pub fn post(&self, change: impl FnOnce(&mut Server<S>) + Send + 'static) {
        let changes = self.changes.upgrade();
        if let Some(changes) = changes.filter(|_| self.pending.is_own_process()) {
            lock(&changes).push(Box::new(change));
            self.pending.signal();
        }
    }
}

impl<S> Clone for ServerHandle<S> {
    fn clone(&self) -> Self {
        Self {
            pending: Arc::clone(&self.pending),
            changes: Weak::clone(&self.changes),
        }
    }
}

opaque_debug!(ServerHandle<S>);

/// What the callback of a watch or a timer can request of the server that calls it.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Limits, Server};
/// use std::time::Duration;
///
/// let mut server = Server::new(Limits::default())?;
/// server.every(Duration::from_millis(1), |ticks: &mut u32, control| {
///     *ticks += 1;
///     if *ticks == 2 {
///         control.remove();
///     }
/// })?;
/// server.after(Duration::from_millis(20), |_, control| control.stop())?;
/// let mut ticks = 0;
/// server.run(&mut ticks)?;
/// assert!(ticks <= 2);
/// # Ok::<(), jsoncomm::Error>(())
/// ```
pub struct Control<S> {
    pub(super) handle: ServerHandle<S>,
    pub(super) remove: bool,
}

impl<S> Control<S> {
    /// Removes the watch or timer that called back, and closes its descriptor.
    pub fn remove(&mut self) {
        self.remove = true;
    }

    /// Makes [`Server::run`] return at the end of this turn.
    pub fn stop(&mut self) {
        self.handle.stop();
    }

    /// Begins a graceful shutdown; see [`Server::shut_down`].
    pub fn shut_down(&mut self, grace: Duration) {
        self.handle.shut_down(grace);
    }

    /// Drives a connection to another server from now on; see [`Call::drive`](crate::Call::drive).
    pub fn drive(&mut self, connection: impl AsRef<Connection>) {
        service::drive(&self.handle.pending, connection.as_ref());
    }

    /// Applies `change` to the server at the end of this turn: to add an endpoint or remove another timer, for example.
    pub fn post(&mut self, change: impl FnOnce(&mut Server<S>) + Send + 'static) {
        self.handle.post(change);
    }
}

opaque_debug!(Control<S>);

/// Returns the time after `delay`. A delay that is too long for an [`Instant`] is some centuries.
pub(super) fn instant_after(delay: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_secs(1 << 33);
    Instant::now() + delay.min(LONGEST)
}

impl<S> Server<S> {
    /// Calls `call` whenever `fd` is readable, until it calls [`Control::remove`].
    ///
    /// It is called again for as long as `fd` stays readable, so it has to read what is there.
    ///
    /// # Errors
    ///
    /// [`Error::NotPollable`] for a regular file or a directory, [`Error::Os`] for what else [epoll_ctl(2)] reports. The
    /// descriptor is closed.
    ///
    /// [epoll_ctl(2)]: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/watch.md")]
    pub fn watch(
        &mut self,
        fd: impl Into<OwnedFd>,
        call: impl FnMut(&mut S, &mut Control<S>) + Send + 'static,
    ) -> Result<Token, Error> {
        let (fd, call) = (fd.into(), Box::new(call));
        self.add(Source::Watched(Watched { fd, call })).map(Token)
    }

    /// Calls `call` every `period`, first after one period, until it calls [`Control::remove`].
    ///
    /// Periods that were missed because a handler took long are coalesced into one call. The shortest period is 1 ms.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [timerfd_settime(2)] reports.
    ///
    /// [timerfd_settime(2)]: https://man7.org/linux/man-pages/man2/timerfd_settime.2.html
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/every.md")]
    pub fn every(
        &mut self,
        period: Duration,
        call: impl FnMut(&mut S, &mut Control<S>) + Send + 'static,
    ) -> Result<Token, Error> {
        // A period of zero would leave no time for anything else.
        let period = period.max(Duration::from_millis(1));
        self.add_timer(period, Some(period), call)
    }

    /// Calls `call` once, after `delay`.
    ///
    /// # Errors
    ///
    /// Those of [`every`](Server::every).
    ///
    /// # Examples
    ///
    #[doc = include_str!("../../doc/after.md")]
    pub fn after(
        &mut self,
        delay: Duration,
        call: impl FnOnce(&mut S, &mut Control<S>) + Send + 'static,
    ) -> Result<Token, Error> {
        let mut call = Some(call);
        let once = move |state: &mut S, control: &mut Control<S>| {
            if let Some(call) = call.take() {
                call(state, control);
            }
        };
        self.add_timer(delay, None, once)
    }

    fn add_timer(
        &mut self,
        delay: Duration,
        period: Option<Duration>,
        call: impl FnMut(&mut S, &mut Control<S>) + Send + 'static,
    ) -> Result<Token, Error> {
        let due = instant_after(delay);
        let call = Box::new(call);
        let key = self.add(Source::Timer(Timer { due, period, call }))?;
        self.reactor.wake_at(key, due);
        if let Err(error) = self.reactor.arm() {
            self.remove(Token(key));
            return Err(error);
        }
        Ok(Token(key))
    }

    /// Drives a connection to another server, so that handlers can call that server without waiting.
    ///
    /// A handler starts a call with a stub's `start()`. Its reply is passed to
    /// [`PendingCall::on_complete`](crate::client::PendingCall::on_complete) on this loop. From now on:
    ///
    /// - Starting a call, and a `#[oneway]` call, wait neither for room nor for another thread that waits for a reply on this
    ///   connection. They fail with [`Error::Full`].
    /// - Calls that wait for their reply still do, and would block the loop.
    /// - Replies that another thread receives while it waits are passed on once it has its own.
    ///
    /// The loop observes the deadlines of calls that were started before it sleeps. If another thread starts a call
    /// meanwhile, [post](ServerHandle::post) a change to make the loop look again; one that does nothing suffices.
    ///
    /// The connection is released when the other server is gone, with which all calls end, and when the program has dropped all
    /// clones of it and no call is in flight.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [epoll_ctl(2)] reports.
    ///
    /// [epoll_ctl(2)]: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    #[doc = include_str!("../../doc/drive.txt")]
    /// ```
    pub fn drive(&mut self, connection: impl AsRef<Connection>) -> Result<Token, Error> {
        let connection = connection.as_ref();
        let key = self.add(Source::Client(Driven {
            connection: Box::new(connection.clone()),
            timer: None,
        }))?;
        connection.set_driven();
        self.driven.push(key);
        Ok(Token(key))
    }

    /// Drives a connection, which can be polled as it is a socket, unless it is driven already.
    pub(super) fn add_driven(&mut self, connection: Box<dyn Drive + Send>) {
        let (reactor, fd) = (&mut self.reactor, connection.as_fd().as_raw_fd());
        let is_driven = self.driven.iter().any(|key| {
            let source = reactor.get(*key).and_then(|source| source.fd());
            source.is_some_and(|source| source.as_raw_fd() == fd)
        });
        if is_driven {
            // An epoll instance takes a descriptor once, and two clones would keep the connection for ever.
            return;
        }
        let timer = None;
        let source = Box::new(Source::Client(Driven { connection, timer }));
        let key = self.reactor.add_retrying(source);
        self.driven.push(key);
    }

    /// Sets the timers of driven connections, on which calls may have been started.
    pub(super) fn arm_driven(&mut self) {
        if !self.driven.is_empty() {
            self.set_driven_timers();
        }
    }

    #[inline(never)]
    fn set_driven_timers(&mut self) {
        let reactor = &mut self.reactor;
        let mut abandoned = Vec::new();
        self.driven.retain(|key| {
            let Some(Source::Client(client)) = reactor.get(*key).map(|source| &mut **source) else {
                return false;
            };
            if client.connection.is_abandoned() {
                abandoned.push(*key);
                return false;
            }
            if let Some(due) = client.set_timer() {
                reactor.wake_at(*key, due);
            }
            true
        });
        for key in abandoned {
            self.act_on(key, |_| SourceAction::Close);
        }
    }
}

/// A descriptor that the program watches.
pub(super) struct Watched<S> {
    pub(super) fd: OwnedFd,
    call: Callback<S>,
}

/// A timer of the program.
pub(super) struct Timer<S> {
    due: Instant,
    /// `None` for a timer that fires once.
    period: Option<Duration>,
    call: Callback<S>,
}

/// The callback that tells the state that a session or an adopted connection has ended, by its tag.
pub(super) type OnEnd<S> = Arc<dyn Fn(&mut S, &mut Control<S>, u64) + Send + Sync>;

/// The callback of a watch or a timer.
type Callback<S> = Box<dyn FnMut(&mut S, &mut Control<S>) + Send>;

/// A connection to another server, whose replies this loop receives.
pub(super) struct Driven {
    pub(super) connection: Box<dyn Drive + Send>,
    /// When the timer is due, so that it is not set twice.
    timer: Option<Instant>,
}

impl Driven {
    /// Receives replies and runs their callbacks.
    #[inline(never)]
    pub(super) fn act(&mut self, cause: Cause) -> SourceAction {
        if cause == Cause::Timer {
            self.timer = None;
        }
        match self.connection.run_once() {
            Ok(true) => SourceAction::READ,
            Err(Error::Closed) => SourceAction::Close,
            // Any other error may be transient.
            Ok(false) | Err(_) => SourceAction::Keep(self.set_timer()),
        }
    }

    /// Sets the timer to the next deadline of a call, unless it is due earlier. Returns the time if it was set.
    fn set_timer(&mut self) -> Option<Instant> {
        SourceAction::set_timer(&mut self.timer, self.connection.next_deadline())
    }
}

impl<S> Watched<S> {
    /// Calls back. A turn by timer only means that watching had failed before.
    #[inline(never)]
    pub(super) fn act(
        &mut self,
        state: &mut S,
        control: &mut Control<S>,
        cause: Cause,
    ) -> SourceAction {
        if cause == Cause::Timer {
            return SourceAction::Keep(None);
        }
        control.remove = false;
        (self.call)(state, control);
        if control.remove {
            SourceAction::Close
        } else {
            SourceAction::READ
        }
    }
}

impl<S> Timer<S> {
    /// Calls back if the timer is due. A turn can be early, by a timer that was set before.
    #[inline(never)]
    pub(super) fn act(&mut self, state: &mut S, control: &mut Control<S>) -> SourceAction {
        let now = Instant::now();
        if now < self.due {
            return SourceAction::Keep(None);
        }
        control.remove = false;
        (self.call)(state, control);
        let Some(period) = self.period.filter(|_| !control.remove) else {
            return SourceAction::Close;
        };
        self.due += period;
        if self.due <= now {
            self.due = now + period;
        }
        SourceAction::Keep(Some(self.due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::PendingCall;
    use crate::limits::Limits;
    use crate::socket::Socket;
    use std::os::fd::AsFd;
    use std::sync::mpsc::{Receiver, channel};

    /// The deadline of each wait.
    const PATIENCE: Duration = Duration::from_secs(60);

    const HOUR: Duration = Duration::from_secs(3600);
    const PAUSE: Duration = Duration::from_millis(1);

    /// A connection whose other end never replies.
    fn connect_to_silence() -> (Connection, Socket) {
        let (near, far) = Socket::pair(crate::Kind::Seqpacket).unwrap();
        let near = near.as_fd().try_clone_to_owned().unwrap();
        (Connection::from_fd(near).unwrap(), far)
    }

    /// Starts a call. The receiver gets a message when it ends.
    fn start(connection: &Connection, timeout: Duration) -> Receiver<()> {
        let (tell, told) = channel();
        let call: PendingCall<u32> = connection
            .with_timeout(timeout)
            .start("a.b", &(1,))
            .unwrap();
        call.on_complete(move |_| tell.send(()).unwrap());
        told
    }

    #[test]
    fn removed_timers_leave_nothing_behind() {
        let mut server = Server::<()>::new(Limits::default()).unwrap();
        for _ in 0..100 {
            let once = server.after(HOUR, |_, _| {}).unwrap();
            let often = server.every(HOUR, |_, _| {}).unwrap();
            assert!(server.remove(once) && server.remove(often));
        }
        assert_eq!(server.reactor.timers(), 0);
    }

    #[test]
    fn short_calls_beside_a_long_one_leave_no_timers_behind() {
        let (connection, _far) = connect_to_silence();
        let mut server = Server::<()>::new(Limits::default()).unwrap();
        let driven = server.drive(&connection).unwrap();
        let long = start(&connection, HOUR);
        let until = Instant::now() + PATIENCE;
        for _ in 0..50 {
            let told = start(&connection, PAUSE);
            while told.try_recv().is_err() {
                assert!(Instant::now() < until);
                let _ = server.run_once(&mut (), Some(PATIENCE)).unwrap();
            }
        }
        assert_eq!(server.reactor.timers(), 1);
        assert!(server.remove(driven) && long.try_recv().is_err());
        assert_eq!(server.reactor.timers(), 0);
    }
}
