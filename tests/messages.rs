//! Tests of messages: JSON, derived types, what the macros generate, documents.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod compat;
#[cfg(test)]
mod derive;
#[cfg(test)]
mod describe;
#[cfg(test)]
mod evolution;
#[cfg(test)]
mod json;
#[cfg(test)]
mod macros;
#[cfg(test)]
mod sensitive;
#[cfg(test)]
mod verbatim;
