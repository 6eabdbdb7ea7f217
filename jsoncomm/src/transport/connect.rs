//! Connecting a transport to an address.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Transport;
use crate::address::Address;
use crate::error::{AddressProblem, Error};
use crate::limits::Bounds;
use crate::sys::socket::{self as sys, ErrorClass, Kind, Timeout};
use crate::sys::wait::WaitOutcome;

/// Default timeout of connecting and calling.
pub(crate) const DEADLINE: Duration = Duration::from_secs(25);

/// Connects to the kind of socket that is at the address. For a path, `EPROTOTYPE` reports the other kind; an abstract
/// name is looked up together with the kind, so the other kind is not found (`unix_find_abstract`, net/unix/af_unix.c).
///
/// With a `kind`, connects to that one only.
pub(crate) fn connect(
    address: &Address,
    kind: Option<Kind>,
    bounds: Bounds,
    deadline: Instant,
) -> Result<Transport, Error> {
    let is_other_kind = |problem| match problem {
        AddressProblem::OtherKind => true,
        AddressProblem::NobodyListens => address.as_abstract_name().is_some(),
        _ => false,
    };
    match connect_by(address, kind.unwrap_or(Kind::Seqpacket), bounds, deadline) {
        Err(Error::Address { problem, .. }) if kind.is_none() && is_other_kind(problem) => {
            connect_by(address, Kind::Datagram, bounds, deadline)
        }
        result => result,
    }
}

/// Connects a new socket. Waits until `deadline` while the listener's backlog is full. A datagram socket is also bound to
/// a name, so that it can be replied to.
fn connect_by(
    address: &Address,
    kind: Kind,
    bounds: Bounds,
    deadline: Instant,
) -> Result<Transport, Error> {
    let transport = Transport::new(sys::socket(kind)?, kind, bounds)?;
    let to = address.resolve()?;
    let is_abstract = address.as_abstract_name().is_some();
    loop {
        // Poll does not report room in a backlog, but connect itself waits for it, as long as SO_SNDTIMEO.
        let left = transport.set_timeout(Timeout::Send, Some(deadline), Instant::now())?;
        if left == WaitOutcome::TimedOut {
            return Err(Error::Deadline);
        }
        let Err(error) = sys::connect(transport.as_fd(), &to.name) else {
            break;
        };
        match error.class() {
            // The time is over, or most of it, or a signal came. A unix socket is then unconnected as before, unlike a
            // TCP socket, and connects anew in the remaining time.
            ErrorClass::WouldBlock | ErrorClass::Interrupted => {}
            // A server of the other kind holds an abstract name this way.
            _ if is_abstract && kind == Kind::Datagram && error.is_connected_elsewhere() => {
                return Err(address.error(AddressProblem::OtherKind));
            }
            _ => return Err(address.os(error)),
        }
    }
    match kind {
        Kind::Seqpacket => to.check_server(transport.as_fd())?,
        // The kernel does not tell who serves it.
        Kind::Datagram => {}
    }
    // Connected first, so that no other sender's datagram is ever queued.
    if kind == Kind::Datagram {
        sys::autobind(transport.as_fd())?;
    }
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn connecting_to_a_server_that_does_not_accept_ends_at_the_deadline() {
        let name = format!("jsoncomm-connect-{}", std::process::id());
        let address = Address::abstract_name(name).unwrap();
        let server = sys::socket(Kind::Seqpacket).unwrap();
        sys::bind(server.as_fd(), &address.resolve().unwrap().name).unwrap();
        rustix::net::listen(&server, 0).unwrap();
        let connect = |time| {
            let deadline = Instant::now() + Duration::from_millis(time);
            let bounds = Bounds::from(&Limits::default());
            connect_by(&address, Kind::Seqpacket, bounds, deadline)
        };
        let _first = connect(20_000).unwrap();
        let error = connect(30).unwrap_err();
        assert!(matches!(error, Error::Deadline), "{error:?}");
        sys::accept(server.as_fd()).unwrap();
        connect(20_000).unwrap();
    }
}
