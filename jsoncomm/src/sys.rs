//! System calls under their manual-page names.
//!
//! Each function is one call, or the few that only make sense together; all take and give safe types
//! and report trouble as [`std::io::Error`], so that the rooms above never name rustix or libc. Only
//! [`control`] holds `unsafe`.

pub(crate) mod control;
pub(crate) mod diag;
pub(crate) mod file;
pub(crate) mod limit;
pub(crate) mod memfd;
pub(crate) mod name;
pub(crate) mod socket;
pub(crate) mod wait;

pub(crate) use file::set_cloexec;
pub(crate) use socket::{Domain, is_socket};
