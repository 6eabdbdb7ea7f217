//! Process identity, without a system call each time.

use super::control::forks;
use super::file::own_pid;

/// The process in which an object was made.
///
/// A child of fork(2) copies its parent's memory and shares the kernel objects behind it. Most of these must then be
/// left alone: see [`is_own_process`](Self::is_own_process).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(
    /// Forks between the first process that asked and this one; the process id where forks cannot be counted.
    u32,
);

impl Origin {
    /// Returns the current process.
    #[inline]
    pub(crate) fn here() -> Self {
        Self(forks().unwrap_or_else(|| own_pid().unsigned_abs()))
    }

    /// Returns true if this is the current process, false in a forked child. Costs no system call where forks are
    /// counted.
    #[inline]
    pub(crate) fn is_own_process(self) -> bool {
        self == Self::here()
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::here()
    }
}
