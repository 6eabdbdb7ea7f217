//! Where a connection's server is, to look for it and to connect anew.

use std::time::Instant;

use crate::address::Address;
use crate::error::{AddressProblem, Error};
use crate::limits::Limits;
use crate::transport::{self, Kind, Transport};

/// An address, and which kind of socket is there; `None` is whichever.
#[derive(Debug)]
pub(super) struct Connector {
    address: Address,
    kind: Option<Kind>,
}

impl Connector {
    pub(super) fn new(address: Address, kind: Option<Kind>) -> Self {
        Self { address, kind }
    }

    /// Makes a relative path absolute: it means the same after the program has changed its directory.
    pub(super) fn anchor(&mut self) {
        let relative = self.address.as_path().filter(|path| path.is_relative());
        if let Some(path) = relative.and_then(|path| std::path::absolute(path).ok()) {
            self.address = Address::from(path);
        }
    }

    /// Connects; a server with too many clients to accept is waited for until `deadline`.
    pub(super) fn connect(&self, limits: &Limits, deadline: Instant) -> Result<Transport, Error> {
        match self.kind {
            Some(kind) => transport::connect_by(&self.address, kind, limits, deadline),
            None => transport::connect_any(&self.address, limits, deadline),
        }
    }

    /// Connects anew to a server that has gone. [`Error::Closed`] says that it has not come back.
    pub(super) fn reconnect(&self, limits: &Limits, deadline: Instant) -> Result<Transport, Error> {
        use AddressProblem::{Missing, NobodyListens};
        match self.connect(limits, deadline) {
            Err(Error::Address {
                problem: Missing | NobodyListens,
                ..
            }) => Err(Error::Closed),
            other => other,
        }
    }

    /// Says whether there is a datagram socket at the address that nobody has open. Of a name that is not there
    /// it says nothing: a server may have given it up and still be answering, and we may see other names now.
    pub(super) fn is_deserted(&self) -> bool {
        transport::is_deserted(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::{self, Type};
    use std::os::fd::AsFd;

    #[test]
    fn an_address_is_deserted_when_its_socket_was_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let dial = Connector::new(Address::from(&path), None);
        assert!(!dial.is_deserted(), "nothing is there");
        let server = socket::socket(Type::Dgram).unwrap();
        let to = Address::from(&path).resolve().unwrap();
        socket::bind(server.as_fd(), &to.name).unwrap();
        assert!(!dial.is_deserted());
        drop(server);
        assert!(dial.is_deserted());
    }

    #[test]
    fn a_relative_path_is_kept_as_an_absolute_one() {
        let mut dial = Connector::new(Address::from("a/b.sock"), None);
        dial.anchor();
        let here = std::env::current_dir().unwrap();
        assert_eq!(dial.address.as_path(), Some(&*here.join("a/b.sock")));
        let name = Address::abstract_name("a/b").unwrap();
        let mut dial = Connector::new(name.clone(), None);
        dial.anchor();
        assert_eq!(dial.address, name);
    }
}
