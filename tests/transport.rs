//! Sockets, addresses, and what is handed from process to process.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod addresses;
#[cfg(test)]
mod busy_poll;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod sockets;
