//! The client: [`Connection`], calls in flight ([`PendingCall`]), and the modes of a stub ([`CallMode`]).
//!
//! A stub that `#[jsoncomm::service]` generates wraps a connection. Its methods wait for the reply. Those of `start()`
//! return a [`PendingCall`] at once, so that many calls are in flight on one connection:
//!
//! ```
#![doc = include_str!("../doc/counter.txt")]
//! use jsoncomm::Connection;
//!
//! // The stub of a trait that has `fn add(&mut self, number: u64) -> u64`.
//! let counter = CounterClient::new(Connection::open(&path)?);
//! assert_eq!(counter.add(1)?, 1);
//!
//! let (first, second) = (counter.start().add(2)?, counter.start().add(3)?);
//! assert_eq!((first.wait()?, second.wait()?), (3, 6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Three parts share a table of the calls in flight (`table`), with a slot for each call (`slot`). Sending (`send`) is
// for any thread at any time. Receiving (`receive`) is for one thread at a time, the leader, which stores what it receives
// in the slots and notifies their listeners (`leader`, `notify`).

// First, so that the constructors come first in the documentation of a connection.
mod connection;

mod batch;
mod call;
mod connector;
mod event_loop;
mod handle;
mod items;
mod leader;
mod liveness;
mod mode;
mod notify;
mod passed;
mod pending_call;
mod ready;
mod receive;
mod reply;
mod send;
mod slot;
mod spawn;
mod stub;
mod table;

pub use connection::Connection;
use connection::{Recovery, time_left};
pub use items::Items;
pub use mode::{Blocking, CallMode, Started};
pub use passed::PassedMode;
pub use pending_call::PendingCall;
pub(crate) use reply::read_part;
pub use stub::Stub;
