//! One deadline for all that a command waits for.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::args::Timeout;
use crate::problem::Problem;

/// How long a command may take, unless the command line says otherwise.
const PATIENCE: Duration = Duration::from_secs(25);

/// When a command was started, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    timeout: Option<Timeout>,
    start: Instant,
}

/// Until when something is waited for; `None` is for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Clock {
    /// Begins now.
    pub(crate) fn start(timeout: Option<Timeout>) -> Self {
        let start = Instant::now();
        Self { timeout, start }
    }

    /// Until when arguments are read: a person who types them, or a program that makes them, is hurried only by what the
    /// command line says.
    pub(crate) fn reading(&self) -> Deadline {
        Deadline(match self.timeout {
            Some(Timeout::After(time)) => self.start.checked_add(time),
            Some(Timeout::Never) | None => None,
        })
    }

    /// Until when everything else is done; without a word on the command line counted from now.
    pub(crate) fn calling(&self) -> Deadline {
        match self.timeout {
            None => Deadline(Instant::now().checked_add(PATIENCE)),
            Some(_) => self.reading(),
        }
    }
}

impl Deadline {
    /// How much time is left; `None` when there is no deadline.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.0
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The deadline as a time; without one, later than anybody waits.
    pub(crate) fn instant(&self) -> Instant {
        /// About three years.
        const FOREVER: Duration = Duration::from_secs(100_000_000);
        self.0.unwrap_or_else(|| Instant::now() + FOREVER)
    }

    /// Has something done that cannot be told to stop, and waits for its result. When the time has passed first, it goes
    /// on until this process ends.
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
