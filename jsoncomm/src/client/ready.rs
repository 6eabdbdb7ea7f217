//! Waiting for a server that has not started yet.

use std::time::{Duration, Instant};

use super::Connection;
use crate::address::{Address, Arrivals};
use crate::error::{AddressProblem, Error};
use crate::sys::socket::{Probe, probe};
use crate::sys::wait::WaitOutcome;

impl Connection {
    /// Connects to the server at an address as soon as it is there, and waits for that until a deadline.
    ///
    /// Waiting costs no CPU: the kernel reports what comes to the directory of the socket and, for a
    /// [service](Address::service), to those of the registry ([inotify(7)]). Only a socket that is bound and does not listen yet
    /// is tried again, every 100 ms or more often, as the kernel does not report that one listens.
    ///
    /// An abstract name cannot be waited for: this is then [`open_by`](Connection::open_by).
    ///
    /// # Errors
    ///
    /// - What [`open_by`](Connection::open_by) failed with at last, if the deadline passes: [`Error::Address`] with
    ///   [`AddressProblem::Missing`], [`NobodyListens`](AddressProblem::NobodyListens) or [`Denied`](AddressProblem::Denied).
    /// - Any other error of [`open_by`](Connection::open_by), at once.
    /// - [`Error::Address`] with [`AddressProblem::Denied`] if this process may not read a directory that it has to watch, and
    ///   [`Error::Os`] if the user watches too many ([inotify(7)]).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Connection;
    /// use std::time::{Duration, Instant};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("late.sock");
    ///
    /// let server = std::thread::spawn({
    ///     let path = path.clone();
    ///     move || jsoncomm::socket::Listener::bind(path)
    /// });
    /// Connection::open_when_ready(&path, Instant::now() + Duration::from_secs(25))?;
    /// # server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [inotify(7)]: https://man7.org/linux/man-pages/man7/inotify.7.html
    pub fn open_when_ready(address: impl Into<Address>, deadline: Instant) -> Result<Self, Error> {
        const PAUSE_MIN: Duration = Duration::from_millis(1);
        const PAUSE_MAX: Duration = Duration::from_millis(100);
        let address = address.into();
        if address.as_abstract_name().is_some() {
            return Self::open_by(address, deadline);
        }
        let mut pause = PAUSE_MIN;
        loop {
            // Before connecting, so that nothing is missed in between.
            let arrivals = Arrivals::at(&address)?;
            let error = match Self::open_by(address.clone(), deadline) {
                Err(error) if may_come(&error) => error,
                result => return result,
            };
            let mut until = deadline;
            if is_about_to_listen(&address, &error) {
                until = deadline.min(Instant::now() + pause);
                pause = (2 * pause).min(PAUSE_MAX);
            } else {
                pause = PAUSE_MIN;
            }
            if arrivals.wait(until)? == WaitOutcome::TimedOut && until == deadline {
                return Err(error);
            }
        }
    }
}

/// Returns true if the server may only not have started yet.
fn may_come(error: &Error) -> bool {
    use AddressProblem::{Denied, Missing, NobodyListens};
    matches!(
        error,
        Error::Address {
            problem: Missing | NobodyListens | Denied,
            ..
        }
    )
}

/// Returns true if a process has the socket open that did not listen.
fn is_about_to_listen(address: &Address, error: &Error) -> bool {
    let problem = AddressProblem::NobodyListens;
    if !matches!(error, Error::Address { problem: found, .. } if *found == problem) {
        return false;
    }
    let to = address.resolve();
    to.is_ok_and(|to| probe(&to.name) != Ok(Probe::Dead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject;

    #[test]
    fn waiting_looks_once_as_long_as_nothing_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        inject::begin(None);
        let deadline = Instant::now() + jsoncomm_watchdog::scaled(Duration::from_millis(500));
        let error = Connection::open_when_ready(&path, deadline).unwrap_err();
        assert!(may_come(&error), "{error:?}");
        let counts = inject::counts();
        assert_eq!(counts.get("poll"), Some(&1), "{counts:?}");
        assert_eq!(counts.get("connect"), Some(&1), "{counts:?}");
    }
}
