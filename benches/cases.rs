//! Everybody who is measured. A peer that cannot do something has no row for it.

mod floor;
mod hand;
mod net;
mod ours;
mod python;

#[cfg(feature = "peers")]
mod channel;
#[cfg(feature = "fdpass")]
mod fdpass;
#[cfg(feature = "peers")]
mod tarpc;
#[cfg(feature = "peers")]
mod tokio;
#[cfg(feature = "peers")]
mod ttrpc;
#[cfg(feature = "peers")]
mod varlink;
#[cfg(feature = "peers")]
mod zbus;
#[cfg(feature = "peers")]
mod zlink;

use crate::Outcome;
use crate::case::{Load, Peer, Wire};

/// In the order of the rows.
pub(crate) const ALL: &[&dyn Peer] = &[
    &floor::Blocking,
    &floor::Epoll,
    &hand::Hand,
    &ours::Stub::SLEEPING,
    &ours::Stub::LOOKING,
    &ours::Stub::APART,
    &ours::Stub::BATCHED,
    &ours::Requests,
    &hand::Bare,
    &ours::Bare,
    &python::Python,
    #[cfg(feature = "peers")]
    &zlink::Zlink,
    #[cfg(feature = "peers")]
    &varlink::Varlink,
    #[cfg(feature = "peers")]
    &zbus::Zbus,
    #[cfg(feature = "peers")]
    &tarpc::BINCODE,
    #[cfg(feature = "peers")]
    &tarpc::JSON,
    #[cfg(feature = "peers")]
    &ttrpc::Ttrpc,
    #[cfg(feature = "peers")]
    &ttrpc::Tasks,
    #[cfg(feature = "fdpass")]
    &fdpass::Fdpass,
    #[cfg(feature = "peers")]
    &channel::ONE,
    #[cfg(feature = "peers")]
    &channel::SET,
];

/// The peer whose threads have a connection each.
pub(crate) const APART: &str = "jsoncomm #[service], a connection each";

/// The peer of this name.
pub(crate) fn find(name: &str) -> Outcome<&'static dyn Peer> {
    let found = ALL.iter().find(|peer| peer.name() == name);
    found
        .copied()
        .ok_or_else(|| format!("no peer {name}").into())
}

/// Whose calls can be made with both ends in one thread.
pub(crate) const TURNS: [&str; 7] = [
    "by hand",
    "jsoncomm #[service]",
    "jsoncomm Handler",
    "jsoncomm bare",
    "by hand, records",
    "jsoncomm #[service], records",
    "jsoncomm #[service], batched",
];

/// Makes so many calls with both ends in one thread: nothing waits, and the same happens every time.
pub(crate) fn turn(name: &str, wire: Wire, count: u64) -> Outcome {
    match name {
        "by hand" => hand::turn(wire, Load::Small, count),
        "by hand, records" => hand::turn(wire, Load::Records(0), count),
        _ => ours::turn(name, wire, count),
    }
}
