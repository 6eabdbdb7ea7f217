//! One deadline for everything that a command waits for.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::args::Timeout;
use crate::problem::Problem;

/// The default time of a command.
const PATIENCE: Duration = Duration::from_secs(25);

/// When a command was started, and its timeout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    timeout: Option<Timeout>,
    start: Instant,
}

/// The time until which something is waited for; `None` is without limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Clock {
    /// Starts now.
    pub(crate) fn start(timeout: Option<Timeout>) -> Self {
        let start = Instant::now();
        Self { timeout, start }
    }

    /// Returns the deadline for reading arguments: only a timeout on the command line limits a person who types them, or
    /// a program that generates them.
    pub(crate) fn reading(&self) -> Deadline {
        Deadline(match self.timeout {
            Some(Timeout::After(time)) => self.start.checked_add(time),
            Some(Timeout::Never) | None => None,
        })
    }

    /// Returns the deadline for everything else. The default timeout starts now.
    pub(crate) fn calling(&self) -> Deadline {
        match self.timeout {
            None => Deadline(Instant::now().checked_add(PATIENCE)),
            Some(_) => self.reading(),
        }
    }
}

impl Deadline {
    /// Returns the time that is left; `None` without a deadline.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.0
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Returns the deadline as a time; without one, a time in the far future.
    pub(crate) fn instant(&self) -> Instant {
        /// About three years.
        const FOREVER: Duration = Duration::from_secs(100_000_000);
        self.0.unwrap_or_else(|| Instant::now() + FOREVER)
    }

    /// Runs work that cannot be interrupted on a thread, and waits for its result. If the time passes first, the thread
    /// goes on until this process exits.
    pub(crate) fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(left) = self.left() else {
            return work();
        };
        let (tell, told) = channel();
        let spawned = thread::Builder::new().spawn(move || tell.send(work()));
        spawned.map_err(Problem::here("a thread cannot be started"))?;
        match told.recv_timeout(left) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(Problem::Deadline)
            }
        }
    }
}
