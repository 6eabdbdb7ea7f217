//! Connecting a line to an address.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Kind, Transport};
use crate::address::Address;
use crate::error::{AddressProblem, Error};
use crate::limits::Limits;
use crate::sys::socket::{self as sys, Timeout, Type};

/// How long connecting and calling wait for a server unless the program says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(25);

/// Connects to whichever kind of socket listens at the address. `EPROTOTYPE` tells for paths; an abstract name is
/// looked up together with the kind, so there is nobody under it (`unix_find_abstract`, net/unix/af_unix.c).
pub(crate) fn connect_any(
    address: &Address,
    limits: &Limits,
    deadline: Instant,
) -> Result<Transport, Error> {
    let problem = match connect_by(address, Kind::Seqpacket, limits, deadline) {
        Err(Error::Address { problem, .. }) => problem,
        other => return other,
    };
    let is_abstract = address.as_abstract_name().is_some();
    match problem {
        AddressProblem::OtherKind => {}
        AddressProblem::NobodyListens if is_abstract => {}
        problem => return Err(address.error(problem)),
    }
    connect_by(address, Kind::Datagram, limits, deadline)
}

/// Says whether the address is that of a datagram socket which nobody has open any more.
pub(crate) fn is_deserted(address: &Address) -> bool {
    let (Ok(fd), Ok(to)) = (sys::socket(Type::Dgram), address.resolve()) else {
        return false;
    };
    let connected = sys::connect(fd.as_fd(), &to.name);
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Opens a socket and connects it; waits until `deadline` when more clients than fit wait to be accepted already. A
/// datagram socket also gets a name, so that it can be answered.
pub(crate) fn connect_by(
    address: &Address,
    kind: Kind,
    limits: &Limits,
    deadline: Instant,
) -> Result<Transport, Error> {
    let fd = sys::socket(kind.into()).map_err(Error::os("socket"))?;
    let line = Transport::new(fd, kind, limits)?;
    let to = address.resolve()?;
    let is_abstract = address.as_abstract_name().is_some();
    loop {
        // Poll does not tell when there is a place, but connect itself waits, as long as sending would.
        line.set_timeout(Timeout::Send, Some(deadline), Instant::now())?;
        let error = match sys::connect(line.as_fd(), &to.name) {
            Ok(()) => break,
            Err(error) => error,
        };
        match error.kind() {
            // The time has passed, or most of it; or a signal came first.
            ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
            // So a server of the other kind holds an abstract name.
            _ if is_abstract && kind == Kind::Datagram && sys::is_connected_elsewhere(&error) => {
                return Err(address.error(AddressProblem::OtherKind));
            }
            _ => return Err(address.os("connect", error)),
        }
    }
    // First the connection, then the name: so no stranger's datagram is ever queued.
    if kind == Kind::Datagram {
        sys::autobind(line.as_fd()).map_err(Error::os("bind"))?;
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_to_a_server_that_accepts_nobody_ends_at_the_deadline() {
        let name = format!("jsoncomm-line-{}", std::process::id());
        let address = Address::abstract_name(name).unwrap();
        let server = sys::socket(Type::Seqpacket).unwrap();
        sys::bind(server.as_fd(), &address.resolve().unwrap().name).unwrap();
        rustix::net::listen(&server, 0).unwrap();
        let connect = |time| {
            let deadline = Instant::now() + Duration::from_millis(time);
            connect_by(&address, Kind::Seqpacket, &Limits::default(), deadline)
        };
        let _first = connect(20_000).unwrap();
        let error = connect(30).unwrap_err();
        assert!(matches!(error, Error::Deadline), "{error:?}");
        sys::accept(server.as_fd()).unwrap();
        connect(20_000).unwrap();
    }
}
