//! Which process this is, without asking the kernel each time.

use super::control::forks;
use super::file::own_pid;

/// The process in which something was made.
///
/// A child of fork(2) has copies of all that its parent has in memory, and shares what the kernel has of it. Most of it
/// must then be left alone: [`is_here`](Self::is_here) says whether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// So many forks lay between the first process that asked and this one.
    Forks(u32),
    /// Forks cannot be counted here; the id of the process.
    Pid(i32),
}

impl Origin {
    /// This process.
    #[inline]
    pub(crate) fn here() -> Self {
        match forks() {
            Some(forks) => Self::Forks(forks),
            None => Self::Pid(own_pid()),
        }
    }

    /// Returns true if this is still that process; false in a child that it has forked. Where forks are counted it
    /// costs no system call.
    #[inline]
    pub(crate) fn is_here(self) -> bool {
        self == Self::here()
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::here()
    }
}
