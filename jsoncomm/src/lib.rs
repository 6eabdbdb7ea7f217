//! Typed calls with file descriptors over JSON datagrams on unix sockets.

mod error;
mod fds;
mod limits;
pub mod message;
#[doc(hidden)]
pub mod private;
mod sys;

pub use error::{CallError, DecodeError, EncodeError, Error, Fault, FdProblem};
pub use fds::{FDS_MAX, Fds};
pub use limits::{DATAGRAM_MAX, Limits};
pub use message::Message;

#[cfg(feature = "derive")]
pub use jsoncomm_derive::Message;
