//! Tests of calls: clients, services, replies, streams.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod calls;
#[cfg(test)]
mod client;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod inflight;
#[cfg(test)]
mod later;
#[cfg(test)]
mod oneway;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod services;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod traces;
