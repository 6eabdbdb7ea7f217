//! How to connect to a server, and to do so again.

use std::time::Instant;

use crate::address::Address;
use crate::error::{AddressProblem, Error};
use crate::limits::Bounds;
use crate::sys::socket::{self, Probe};
use crate::transport::{self, Kind, Transport};

/// The address of a server, and its kind of socket; `None` is either.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) address: Address,
    pub(super) kind: Option<Kind>,
}

impl Connector {
    /// Makes a relative path absolute, so that it means the same when the program changes its directory.
    pub(super) fn make_absolute(&mut self) {
        let relative = self.address.as_path().filter(|path| path.is_relative());
        if let Some(path) = relative.and_then(|path| std::path::absolute(path).ok()) {
            self.address = Address::from(path);
        }
    }

    /// Connects to a server that has closed. [`Error::Closed`] means that none has replaced it.
    pub(super) fn reconnect(&self, bounds: Bounds, deadline: Instant) -> Result<Transport, Error> {
        match transport::connect(&self.address, self.kind, bounds, deadline) {
            Err(Error::Address {
                problem: AddressProblem::Missing | AddressProblem::NobodyListens,
                ..
            }) => Err(Error::Closed),
            other => other,
        }
    }

    /// Returns true if a datagram socket is at the address and no process has it open. False if the address does not
    /// exist: the server may have removed it and still reply, or this process may see other files by now.
    pub(super) fn server_is_gone(&self) -> bool {
        let to = self.address.resolve();
        to.is_ok_and(|to| socket::probe(&to.name) == Ok(Probe::Dead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn connector_to(address: Address) -> Connector {
        let kind = None;
        Connector { address, kind }
    }

    #[test]
    fn a_server_is_gone_when_the_socket_at_its_address_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let connector = connector_to(Address::from(&path));
        assert!(!connector.server_is_gone(), "no socket is at the address");
        let server = socket::socket(Kind::Datagram).unwrap();
        let to = Address::from(&path).resolve().unwrap();
        socket::bind(server.as_fd(), &to.name).unwrap();
        assert!(!connector.server_is_gone());
        drop(server);
        assert!(connector.server_is_gone());
    }

    #[test]
    fn a_relative_path_is_kept_as_an_absolute_one() {
        let mut connector = connector_to(Address::from("a/b.sock"));
        connector.make_absolute();
        let here = std::env::current_dir().unwrap();
        assert_eq!(connector.address.as_path(), Some(&*here.join("a/b.sock")));
        let name = Address::abstract_name("a/b").unwrap();
        let mut connector = connector_to(name.clone());
        connector.make_absolute();
        assert_eq!(connector.address, name);
    }
}
