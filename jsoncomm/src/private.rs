//! Names that generated code needs. Not for people: they change without notice.

pub use crate::message::*;
pub use serde;
