//! Names that generated code needs. They are not part of the API, and change without notice.

pub use crate::client::{Blocking, CallMode, Connection, Items, PassedMode, Started, Stub};
pub use crate::describe::{Describe, Description, Method, ReplyKind};
pub use crate::error::CallError;
pub use crate::fds::FdKind;
pub use crate::message::probe::probe;
pub use crate::message::select::{Readable, WithoutFds, Writable};
pub use crate::message::*;
pub use crate::service::{Call, Incoming, MethodReturn, Returned, Service};
pub use crate::shape::{Definition, Field, Form, Item, Presence, Shape, Type, Variant};
#[cfg(feature = "schema")]
pub use crate::shape::{Schema, Schematic};
pub use std::borrow::Cow;

/// serde, and the traits that select how fields travel and what types look like, behind three references.
pub mod shapes {
    pub use crate::message::probe::{
        AnyForeign as _, AnyMessage as _, OptionOfForeign as _, WrapperOfMessage as _,
    };
    pub use crate::message::select::{
        ReadAsMessage as _, ReadBySerde as _, ReadNothing as _, ReadWithFds as _,
        WriteAsMessage as _, WriteBySerde as _, WriteNothing as _, WriteWithFds as _,
    };
    pub use serde as __s;
}

/// serde, and the traits that select how fields travel, behind three references, and what types look like, behind four: a
/// type that only serde knows has to have a schema.
#[cfg(feature = "schema")]
pub mod schemas {
    pub use crate::message::probe::{
        AnyMessage as _, MessageOrSchema as _, OptionOfSchema as _, SchemaRequired as _,
        WrapperOfMessageFirst as _, WrapperOfSchema as _,
    };
    pub use crate::message::select::{
        ReadAsMessage as _, ReadBySerde as _, ReadNothing as _, ReadWithFds as _,
        WriteAsMessage as _, WriteBySerde as _, WriteNothing as _, WriteWithFds as _,
    };
    pub use serde as __s;
}
