//! What the kernel lets this process have.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::seam;

/// How many descriptors this process may have open (`RLIMIT_NOFILE`, [getrlimit(2)]).
///
/// [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html
pub(crate) fn descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    limit.unwrap_or(usize::MAX)
}

/// Raises the soft limit to the hard one.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    seam("setrlimit")?;
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}
