//! A connection in a call.

use super::{PairsClient, State, World};
use crate::client::Connection;
use crate::sys::socket::{self as sys, Kind};

#[crate::service(name = "faults.passing")]
pub(super) trait Passing {
    /// Takes a connection, and drops it.
    fn pass(&mut self, #[fd] to: PairsClient) -> bool;
}

impl Passing for State {
    fn pass(&mut self, to: PairsClient) -> bool {
        to.as_ref().peer().is_none()
    }
}

impl World {
    /// Passes an end of a pair. Returns true if the server has taken it.
    pub(super) fn pass(&mut self) -> bool {
        let pair = sys::socketpair(Kind::Seqpacket);
        let Ok((_near, Ok(far))) = pair.map(|(near, far)| (near, Connection::from_fd(far))) else {
            return false;
        };
        let stub = PassingClient::new(self.connection.clone()).start();
        let call = stub.pass(&PairsClient::new(far));
        self.finish(call) == Some(true)
    }
}
