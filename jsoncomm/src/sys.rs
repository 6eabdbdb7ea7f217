//! System calls under their manual-page names.
//!
//! Each function is one call, or the few that only make sense together; all take and give safe types
//! and report trouble as [`std::io::Error`], so that the rooms above never name rustix or libc. Only
//! [`control`] holds `unsafe`. Each call goes past [`seam`] first, where tests make it fail.

pub(crate) mod control;
pub(crate) mod diag;
pub(crate) mod epoll;
pub(crate) mod file;
#[cfg(test)]
pub(crate) mod inject;
pub(crate) mod limit;
pub(crate) mod memfd;
pub(crate) mod name;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod wait;

pub(crate) use file::{PipeEnd, is_pipe, set_cloexec};
#[cfg(test)]
pub(crate) use inject::seam;
pub(crate) use socket::{Domain, is_socket};

/// Where a test makes a system call fail; nothing in a program.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn seam(_call: &'static str) -> Result<(), rustix::io::Errno> {
    Ok(())
}
