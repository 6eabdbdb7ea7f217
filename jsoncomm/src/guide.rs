//! Pages without code: the wire format, choosing socket kind and limits, services by name, passing rights, coming from other libraries,
//! and what versions keep.

#[doc = include_str!("../guide/wire.md")]
pub mod wire {}

#[doc = include_str!("../guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("../guide/names.md")]
pub mod names {}

#[doc = include_str!("../guide/rights.md")]
pub mod rights {}

#[doc = include_str!("../guide/moving.md")]
pub mod moving {}

#[doc = include_str!("../guide/stability.md")]
pub mod stability {}
