//! Typed calls with file descriptors over JSON datagrams on unix sockets.

mod error;
mod fds;
mod limits;
mod sys;

pub use error::{CallError, DecodeError, EncodeError, Error, Fault, FdProblem};
pub use fds::{FDS_MAX, Fds};
pub use limits::{DATAGRAM_MAX, Limits};
