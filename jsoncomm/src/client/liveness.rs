//! Looking whether a datagram server is still there: the kernel says nothing by itself.

use std::time::Instant;

use super::connector::Connector;
use super::table::{LOOK, Shared};
use crate::transport::{Kind, Transport};

impl Shared {
    /// Looks whether the server is gone without a word.
    pub(super) fn is_deserted(&self, line: &Transport) -> bool {
        let deserted = || self.dial.as_ref().is_some_and(Connector::is_deserted);
        line.kind() == Kind::Datagram && line.has_peer().map_or_else(deserted, |has| !has)
    }

    /// Looks whether the server is gone, when it is time to look, and only then.
    pub(super) fn finds_nobody(&self, line: &Transport) -> bool {
        let mut table = self.lock();
        let now = Instant::now();
        if table.look.is_none_or(|at| now < at) {
            return false;
        }
        let again = line.kind() == Kind::Datagram && table.is_awaited();
        table.look = again.then(|| now + LOOK);
        drop(table);
        again && self.is_deserted(line)
    }

    /// Looks for a datagram server if it is time to; returns true if it was.
    pub(super) fn look_for_server(&self) -> bool {
        let look = self.lock().look;
        let due = look.is_some_and(|at| at <= Instant::now());
        if due {
            // If it is gone, all slots say so.
            let _ = self.take_in();
        }
        due
    }
}
