//! Typed calls with file descriptors over JSON datagrams on unix sockets.

mod address;
mod error;
mod fds;
mod limits;
mod line;
pub mod message;
mod peer;
#[doc(hidden)]
pub mod private;
mod socket;
mod sys;

pub use address::Address;
pub use error::{CallError, DecodeError, EncodeError, Error, Fault, FdProblem};
pub use fds::{FDS_MAX, Fds};
pub use limits::{DATAGRAM_MAX, Limits};
pub use line::{Kind, Sent};
pub use message::Message;
pub use peer::Peer;
pub use socket::{Listener, Received, Socket};

#[cfg(feature = "derive")]
pub use jsoncomm_derive::Message;
