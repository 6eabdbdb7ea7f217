//! Everybody who is measured. A peer that cannot do something has no row for it.

mod floor;
mod hand;
mod net;
mod ours;

use crate::Outcome;
use crate::case::Peer;

/// In the order of the rows.
pub(crate) const ALL: &[&dyn Peer] = &[
    &floor::Blocking,
    &floor::Epoll,
    &hand::Hand,
    &ours::Stub,
    &ours::Requests,
    &hand::Bare,
    &ours::Bare,
];

/// The peer of this name.
pub(crate) fn find(name: &str) -> Outcome<&'static dyn Peer> {
    let found = ALL.iter().find(|peer| peer.name() == name);
    found
        .copied()
        .ok_or_else(|| format!("no peer {name}").into())
}
