//! Names that generated code needs. Not for people: they change without notice.

#[cfg(feature = "schema")]
pub use crate::__schema_of as schema_of;
pub use crate::__type_of as type_of;
pub use crate::client::{Connection, Items, Mode, Starting, Waiting};
pub use crate::describe::{Describe, Description, Method};
pub use crate::error::CallError;
pub use crate::message::probe::{Foreign, Holding, Known, Perhaps, Probe};
#[cfg(feature = "schema")]
pub use crate::message::schema::{Held, Holds, Lacking, Needed, Schema, Schematic, Told};
pub use crate::message::select::{InPlace, Readable, WithoutFds, Writable};
pub use crate::message::*;
pub use crate::service::{Call, Incoming, Outcome, Service};
pub use serde;
pub use std::borrow::Cow;

/// What a derived impl has in scope: how its fields travel.
pub mod select {
    pub use crate::message::select::{
        ReadAsMessage as _, ReadBySerde as _, ReadNothing as _, ReadWithFds as _,
        WriteAsMessage as _, WriteBySerde as _, WriteNothing as _, WriteWithFds as _,
    };
}
