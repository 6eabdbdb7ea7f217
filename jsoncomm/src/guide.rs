//! Pages to read: the wire, what to choose, how to come here from elsewhere. There is no code in it.

#[doc = include_str!("../guide/wire.md")]
pub mod wire {}

#[doc = include_str!("../guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("../guide/moving.md")]
pub mod moving {}
