//! Tests of this repository: links, layers, the page on reliability, the watchdog.

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
