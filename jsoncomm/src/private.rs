//! Names that generated code needs. Not for people: they change without notice.

pub use crate::client::{Blocking, CallMode, Connection, Items, Started};
pub use crate::describe::{Describe, Description, Method};
pub use crate::error::CallError;
pub use crate::message::probe::Probe;
pub use crate::message::select::{InPlace, Readable, WithoutFds, Writable};
pub use crate::message::*;
pub use crate::service::{Call, Incoming, MethodReturn, Returned, Service};
pub use crate::shape::{Definition, Field, Form, Presence, Shape, Type, Variant};
#[cfg(feature = "schema")]
pub use crate::shape::{Schema, Schematic};
pub use serde;
pub use std::borrow::Cow;

/// What a derived impl has in scope: how its fields travel.
pub mod select {
    pub use crate::message::select::{
        ReadAsMessage as _, ReadBySerde as _, ReadNothing as _, ReadWithFds as _,
        WriteAsMessage as _, WriteBySerde as _, WriteNothing as _, WriteWithFds as _,
    };
}

/// What is in scope where the shape of a type is asked for, behind three references.
pub mod shapes {
    pub use crate::message::probe::{Foreign as _, Holding as _, Known as _, Perhaps as _};
}

/// The same where what only serde knows has to have a schema, behind four.
#[cfg(feature = "schema")]
pub mod schemas {
    pub use crate::message::probe::Known as _;
    pub use crate::message::probe::{Held as _, Holds as _, Lacking as _, Needed as _, Told as _};
}
