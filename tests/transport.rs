//! Tests of sockets, addresses and inherited descriptors.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod addresses;
#[cfg(test)]
mod busy_poll;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod sockets;
