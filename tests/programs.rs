//! Tests of whole programs: the examples, and peers in Python.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod vectors;
