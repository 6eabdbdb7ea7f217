//! Resource limits of this process ([getrlimit(2)]).
//!
//! [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html

use rustix::process::{Resource, Rlimit, setrlimit};

use super::OsResult;
use super::control::{Limited, getrlimit};

/// Returns how many descriptors this process may have open (soft limit `RLIMIT_NOFILE`).
pub(crate) fn descriptor_limit() -> usize {
    let limit = getrlimit(Limited::Descriptors).ok();
    let limit = limit.and_then(|limit| usize::try_from(limit.current?).ok());
    limit.unwrap_or(usize::MAX)
}

/// Raises the soft limit of open descriptors to the hard one.
pub(crate) fn raise_descriptor_limit() -> OsResult<()> {
    let maximum = getrlimit(Limited::Descriptors)?.maximum;
    let current = maximum;
    super::call("setrlimit", || {
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
    })
}
