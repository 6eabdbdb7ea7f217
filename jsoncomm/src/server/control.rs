//! What reaches into a server's loop: watches, timers, and changes from outside.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::source::SourceAction;
use super::{Server, Source};
use crate::client::Connection;
use crate::error::Error;
use crate::queue::PendingReplies;
use crate::reactor::{Cause, Key, Watch};

/// Names an endpoint, a watch or a timer of a server. It never names anything else, also after that is
/// gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub(super) Key);

/// Reaches a running server, from any thread or handler: a state may keep one.
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
    mailbox: Arc<PendingReplies>,
    changes: Arc<Mutex<Changes<S>>>,
}

/// The changes that wait; `None` once the server has gone, and nobody makes any.
type Changes<S> = Option<Vec<Change<S>>>;

/// A change to a server that waits for the end of its turn.
pub(super) type Change<S> = Box<dyn FnOnce(&mut Server<S>) + Send>;

impl<S> ServerHandle<S> {
    pub(super) fn new(mailbox: Arc<PendingReplies>) -> Self {
        Self {
            mailbox,
            changes: Arc::new(Mutex::new(Some(Vec::new()))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changes<S>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the changes that wait.
    pub(super) fn take_changes(&self) -> Vec<Change<S>> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Drops the changes that wait, and from now on all that come.
    pub(super) fn close(&self) {
        // What they own may come back in here.
        let changes = self.lock().take();
        drop(changes);
    }

    /// Makes [`Server::run`] return after the turn it is in; the next one if it is in none.
    pub fn stop(&self) {
        if self.mailbox.is_here() {
            self.mailbox.stop();
        }
    }

    /// Has the server stop in order, see [`Server::shut_down`].
    pub fn shut_down(&self, grace: Duration) {
        self.post(move |server| drop(server.shut_down(grace)));
    }

    /// Has `change` made to the server between two turns, soon: add an endpoint, remove a timer. Nothing
    /// that is being handled sees the server change under it. When the server has been dropped, so is the change, and so it
    /// is in a forked child, which has no server to change.
    pub fn post(&self, change: impl FnOnce(&mut Server<S>) + Send + 'static) {
        if !self.mailbox.is_here() {
            return;
        }
        let mut changes = self.lock();
        let Some(waiting) = &mut *changes else {
            return drop(changes);
        };
        waiting.push(Box::new(change));
        drop(changes);
        self.mailbox.signal();
    }
}

impl<S> Clone for ServerHandle<S> {
    fn clone(&self) -> Self {
        Self {
            mailbox: Arc::clone(&self.mailbox),
            changes: Arc::clone(&self.changes),
        }
    }
}

impl<S> fmt::Debug for ServerHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").finish_non_exhaustive()
    }
}

/// What the function of a watch or a timer can do to the server that calls it.
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
    pub(super) stop: bool,
    pub(super) forget: bool,
    pub(super) changes: Vec<Change<S>>,
}

impl<S> Control<S> {
    pub(super) fn new() -> Self {
        Self {
            stop: false,
            forget: false,
            changes: Vec::new(),
        }
    }

    /// Makes [`Server::run`] return after this turn.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Has the server stop in order, see [`Server::shut_down`].
    pub fn shut_down(&mut self, grace: Duration) {
        self.post(move |server| drop(server.shut_down(grace)));
    }

    /// Ends this watch, and closes its descriptor, or this timer.
    pub fn remove(&mut self) {
        self.forget = true;
    }

    /// Has `change` made to the server after this turn: add an endpoint, remove a timer.
    pub fn post(&mut self, change: impl FnOnce(&mut Server<S>) + Send + 'static) {
        self.changes.push(Box::new(change));
    }
}

impl<S> fmt::Debug for Control<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl<S> Server<S> {
    /// Calls `call` whenever `fd` is readable, until it says [`Control::remove`]. It is called again for as
    /// long as `fd` stays readable, so what is there has to be read.
    ///
    /// # Errors
    ///
    /// [`Error::NotPollable`] for a regular file or a directory, [`Error::Os`] for whatever else [epoll_ctl(2)]
    /// reports. The descriptor is then closed.
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
        let watched = Watched {
            fd: fd.into(),
            call: Box::new(call),
        };
        self.add(Source::Watched(watched)).map(Token)
    }

    /// Calls `call` every `period`, first after one period, until it says [`Control::remove`]. Periods that
    /// were missed, because a handler took long, are made up for by one call.
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
        // A period of nothing would leave no time for anything else.
        let period = period.max(Duration::from_millis(1));
        self.add_timer(period, Some(period), Box::new(call))
    }

    /// Calls `call` once, after `delay`.
    ///
    /// # Errors
    ///
    /// As [`every`](Server::every).
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
        self.add_timer(delay, None, Box::new(once))
    }

    fn add_timer(
        &mut self,
        delay: Duration,
        period: Option<Duration>,
        call: Callback<S>,
    ) -> Result<Token, Error> {
        /// A time so far off that nobody will see it.
        const FAR: Duration = Duration::from_secs(1 << 33);
        let due = Instant::now() + delay.min(FAR);
        let key = self.add(Source::Timer(Timer { due, period, call }))?;
        self.reactor.wake_at(key, due);
        if let Err(error) = self.reactor.arm() {
            self.remove(Token(key));
            return Err(error);
        }
        Ok(Token(key))
    }

    /// Drives a connection to another server: calls that a handler starts on it, with a stub's `start()`, are
    /// told of their answer by [`PendingCall::on_complete`](crate::client::PendingCall::on_complete), on this loop, without waiting. From
    /// now on starting a call and `#[oneway]` calls do not wait for room either, nor for another thread that waits for
    /// an answer on this connection; they end in [`Error::Full`]. Calls that wait for their answer still do, and would
    /// stop the loop. What another thread takes in while it waits is told once it has its own answer.
    ///
    /// The loop minds the deadlines of calls that were started before it sleeps. If another thread starts one meanwhile,
    /// a [change](ServerHandle::post) has the loop look again, even one that does nothing.
    ///
    /// When the other server goes, all its calls are told, and the connection is let go.
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
    pub fn drive(&mut self, connection: &Connection) -> Result<Token, Error> {
        let driven = Driven::new(connection.clone());
        let key = self.add(Source::Client(driven))?;
        connection.set_driven();
        self.driven.push(key);
        Ok(Token(key))
    }

    /// Sets the timers of driven connections, if there are any: calls may have been started.
    pub(super) fn arm_driven(&mut self) {
        if !self.driven.is_empty() {
            self.set_driven_timers();
        }
    }

    #[inline(never)]
    fn set_driven_timers(&mut self) {
        let mut driven = std::mem::take(&mut self.driven);
        driven.retain(|key| {
            matches!(
                self.reactor.get(*key).map(|source| &**source),
                Some(Source::Client(_))
            )
        });
        for key in &driven {
            if let Some(Source::Client(client)) = self.reactor.get(*key).map(|source| &mut **source)
            {
                if let SourceAction::At(due) = client.next() {
                    self.reactor.wake_at(*key, due);
                }
            }
        }
        self.driven = driven;
    }
}

/// A descriptor that the program watches.
pub(super) struct Watched<S> {
    pub(super) fd: OwnedFd,
    pub(super) call: Callback<S>,
}

/// A time that the program waits for.
pub(super) struct Timer<S> {
    pub(super) due: Instant,
    /// `None` when it comes once.
    pub(super) period: Option<Duration>,
    pub(super) call: Callback<S>,
}

/// What a watch or a timer calls.
pub(super) type Callback<S> = Box<dyn FnMut(&mut S, &mut Control<S>) + Send>;

impl<S> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("fd", &self.fd).finish()
    }
}

impl<S> fmt::Debug for Timer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("due", &self.due).finish()
    }
}

/// A connection to another server, whose answers this one takes in.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) connection: Connection,
    /// When its timer will come, so that it is not set twice.
    timer: Option<Instant>,
}

impl Driven {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            timer: None,
        }
    }

    /// Takes in answers and has them told.
    pub(super) fn act(&mut self, cause: Cause) -> SourceAction {
        if cause == Cause::Timer {
            self.timer = None;
        }
        match self.connection.run_once() {
            Ok(true) => SourceAction::Again(Watch::Reading),
            Err(Error::Closed) => SourceAction::Close,
            // Whatever else it is, it may pass.
            Ok(false) | Err(_) => self.next(),
        }
    }

    /// When the next call expires, if its timer is not set yet.
    pub(super) fn next(&mut self) -> SourceAction {
        match self.connection.next_deadline() {
            Some(due) => self.at(due),
            None => SourceAction::Keep,
        }
    }

    /// Asks for a turn at that time, unless there is one before.
    fn at(&mut self, due: Instant) -> SourceAction {
        if self.timer.is_some_and(|timer| timer <= due) {
            return SourceAction::Keep;
        }
        self.timer = Some(due);
        SourceAction::At(due)
    }
}

impl<S> Watched<S> {
    /// Calls when there is something to read. A turn by the clock means only that watching had failed.
    pub(super) fn act(
        &mut self,
        state: &mut S,
        control: &mut Control<S>,
        cause: Cause,
    ) -> SourceAction {
        if cause == Cause::Timer {
            return SourceAction::Keep;
        }
        (self.call)(state, control);
        match control.forget {
            true => SourceAction::Close,
            false => SourceAction::Again(Watch::Reading),
        }
    }
}

impl<S> Timer<S> {
    /// Calls, and says when to call again. A turn may come early, for a time that was set before.
    pub(super) fn act(&mut self, state: &mut S, control: &mut Control<S>) -> SourceAction {
        let now = Instant::now();
        if now < self.due {
            return SourceAction::Keep;
        }
        (self.call)(state, control);
        let Some(period) = self.period.filter(|_| !control.forget) else {
            return SourceAction::Close;
        };
        self.due += period;
        if self.due <= now {
            self.due = now + period;
        }
        SourceAction::At(self.due)
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

    /// More than any of these waits for what should come.
    const PATIENCE: Duration = Duration::from_secs(20);

    const HOUR: Duration = Duration::from_secs(3600);
    const PAUSE: Duration = Duration::from_millis(1);

    /// A connection whose other end never answers.
    fn unanswered() -> (Connection, Socket) {
        let (near, far) = Socket::pair(crate::Kind::Seqpacket).unwrap();
        let near = near.as_fd().try_clone_to_owned().unwrap();
        (Connection::from_fd(near).unwrap(), far)
    }

    /// Starts a call, of whose end is told.
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
    fn timers_that_are_removed_leave_nothing() {
        let mut server = Server::<()>::new(Limits::default()).unwrap();
        for _ in 0..100 {
            let once = server.after(HOUR, |_, _| {}).unwrap();
            let often = server.every(HOUR, |_, _| {}).unwrap();
            assert!(server.remove(once) && server.remove(often));
        }
        assert_eq!(server.reactor.timers(), 0);
    }

    #[test]
    fn short_calls_beside_a_long_one_leave_nothing() {
        let (connection, _far) = unanswered();
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
