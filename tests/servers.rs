//! Tests of servers: limits, identity, shutdown, peers that are hostile or die.

#[macro_use]
extern crate jsoncomm_watchdog;

#[cfg(test)]
mod batches;
#[cfg(test)]
mod children;
#[cfg(test)]
mod control;
#[cfg(test)]
mod death;
#[cfg(test)]
mod endurance;
#[cfg(test)]
mod exhaustion;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod methods;
#[cfg(test)]
mod observe;
// seccompiler makes filters for machines of 64 bits.
#[cfg(target_pointer_width = "64")]
#[cfg(test)]
mod refused;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod strangers;
