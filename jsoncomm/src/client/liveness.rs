//! Checking that a datagram server still exists: the kernel does not report its end.

use std::time::Instant;

use super::connector::Connector;
use super::table::{CHECK_INTERVAL, Shared};
use crate::transport::{Kind, Transport};

impl Shared {
    /// Returns true if a datagram server is gone: its socket is closed.
    pub(super) fn server_is_gone(&self, transport: &Transport) -> bool {
        let connector = self.connector.as_ref();
        let at_address = || connector.is_some_and(Connector::server_is_gone);
        transport.kind == Kind::Datagram && transport.has_peer().map_or_else(at_address, |has| !has)
    }

    /// Returns true if it is time to check a datagram server, and it is gone.
    pub(super) fn server_is_due_and_gone(&self, transport: &Transport) -> bool {
        let mut table = self.lock();
        let now = Instant::now();
        if table.next_check.is_none_or(|at| now < at) {
            return false;
        }
        let again = transport.kind == Kind::Datagram && table.expects_reply();
        table.next_check = again.then(|| now + CHECK_INTERVAL);
        drop(table);
        again && self.server_is_gone(transport)
    }

    /// Checks a datagram server if it is time to, and ends all calls if it is gone. Returns true if it was time.
    pub(super) fn check_if_due(&self) -> bool {
        let next_check = self.lock().next_check;
        let due = next_check.is_some_and(|at| at <= Instant::now());
        if due {
            // An error shows in the slots, or when the caller receives.
            let _ = self.drain();
        }
        due
    }
}
