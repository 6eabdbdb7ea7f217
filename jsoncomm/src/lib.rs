#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod client;
mod envelope;
mod error;
mod fds;
mod limits;
mod line;
pub mod message;
mod outbox;
mod peer;
#[doc(hidden)]
pub mod private;
mod reactor;
mod reply;
mod routes;
mod server;
mod service;
mod socket;
mod sys;

pub use address::Address;
pub use client::Connection;
pub use error::{CallError, DecodeError, EncodeError, Error, Fault, FdProblem};
pub use fds::{FDS_MAX, Fds};
pub use limits::{DATAGRAM_MAX, Limits};
pub use line::{Kind, Sent};
pub use message::Message;
pub use peer::Peer;
pub use reply::Reply;
pub use server::{Control, Endpoint, Server, Stopper, Turn};
pub use service::{Call, Counts, Handler, Outcome, Service};
pub use socket::{Listener, Received, Socket};

#[cfg(feature = "derive")]
pub use jsoncomm_derive::{Message, service};
