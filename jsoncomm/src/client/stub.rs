//! The connection of a generated client stub.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use super::{Connection, Started};

/// A connection, and how a stub's methods make their calls through it.
#[doc(hidden)]
#[derive(Clone)]
pub struct Stub<M> {
    connection: Connection,
    mode: PhantomData<fn() -> M>,
}

impl<M> Stub<M> {
    /// Returns one for a stub whose methods only start their calls.
    pub fn start(&self) -> Stub<Started> {
        self.connection.clone().into()
    }
}

impl<M> From<Connection> for Stub<M> {
    fn from(connection: Connection) -> Self {
        Self {
            connection,
            mode: PhantomData,
        }
    }
}

impl<M> Deref for Stub<M> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl<M> fmt::Debug for Stub<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}
