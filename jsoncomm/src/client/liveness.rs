//! Checking that a datagram server still exists: the kernel does not report its end.

use std::os::fd::AsFd;
use std::time::Instant;

use super::connector::Connector;
use super::table::{CHECK_INTERVAL, Shared};
use crate::sys::diag;
use crate::transport::{Kind, Transport};

impl Shared {
    /// Returns true if a datagram server is gone: its socket is closed.
    pub(super) fn server_is_gone(&self, transport: &Transport) -> bool {
        let connector = self.connector.as_ref();
        let at_address = || connector.is_some_and(Connector::server_is_gone);
        // Some kernels and sandboxes do not report it.
        let by_kernel = || diag::has_peer(transport.as_fd()).map(|has| !has);
        transport.kind == Kind::Datagram && by_kernel().unwrap_or_else(at_address)
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
}
