//! What values, messages and services are as JSON, and what the macros make of types and traits.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod compat;
#[cfg(test)]
mod derive;
#[cfg(test)]
mod describe;
#[cfg(test)]
mod json;
#[cfg(test)]
mod macros;
#[cfg(test)]
mod sensitive;
#[cfg(test)]
mod verbatim;
