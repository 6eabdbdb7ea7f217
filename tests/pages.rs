//! What the pages and the tests of this repository promise about themselves.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod hangs;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod links;
#[cfg(test)]
mod reliability;
