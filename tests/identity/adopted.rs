//! The identity of the peer on sockets that were made elsewhere.

use jsoncomm::socket::{Listener, Socket};
use jsoncomm::{Connection, Error};

use super::*;

/// Returns the accepted end of a connection, and the end that called connect(2).
fn connected() -> (OwnedFd, OwnedFd) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("listener.sock");
    let listener = Listener::bind(&path).unwrap();
    let client = Socket::connect(&path, Kind::Seqpacket).unwrap();
    let accepted = listener.accept().unwrap().unwrap();
    let fd = |socket: Socket| socket.as_fd().try_clone_to_owned().unwrap();
    (fd(accepted), fd(client))
}

/// Returns both ends of a socket pair of this process.
fn pair(kind: Kind) -> (OwnedFd, OwnedFd) {
    let of = match kind {
        Kind::Datagram => rustix::net::SocketType::DGRAM,
        Kind::Seqpacket => rustix::net::SocketType::SEQPACKET,
    };
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let family = rustix::net::AddressFamily::UNIX;
    rustix::net::socketpair(family, of, flags, None).unwrap()
}

#[test]
fn an_adopted_connection_has_groups_and_a_process() {
    alone!();
    let (sender, receiver) = channel();
    let mut server = Server::new(Limits::default()).unwrap();
    let (ours, theirs) = connected();
    let endpoint = server.adopt(ours).unwrap();
    endpoint.with_pidfds().serve::<dyn Who>();
    let client = WhoClient::new(jsoncomm::Connection::from_fd(theirs).unwrap());
    let mut call = client.start().am_i().unwrap();
    let _ = server.run_once(&mut Tells(sender), Some(PATIENCE)).unwrap();
    let peer = received(&receiver);
    assert_eq!(peer.groups().is_some(), has_linux((4, 13)));
    if let Some(pidfd) = peer.pidfd() {
        assert!(process_of(pidfd).is_none_or(|id| id == i64::from(std::process::id())));
    } else {
        assert!(!has_linux((6, 5)));
    }
    assert!(call.try_wait().unwrap().unwrap());
}

#[test]
fn an_adopted_connection_is_served_only_if_authorized() {
    for admitted in [true, false] {
        let (sender, receiver) = channel();
        let mut server = Server::new(Limits::default()).unwrap();
        let (ours, theirs) = connected();
        let endpoint = server.adopt(ours).unwrap();
        endpoint.authorize(move |_| admitted).serve::<dyn Who>();
        let client = jsoncomm::Connection::from_fd(theirs).unwrap();
        let client = WhoClient::new(client.with_timeout(PATIENCE)).start();
        let call = client.am_i().unwrap();
        let _ = server.run_once(&mut Tells(sender), Some(PATIENCE)).unwrap();
        match call.wait() {
            Ok(known) => assert!(known && admitted),
            Err(CallError::Fault(fault)) => {
                assert_eq!((fault.code, admitted), (Fault::NOT_AUTHORIZED, false));
            }
            Err(other) => panic!("{other}"),
        }
        let counts = server.counts();
        let refused = u64::from(!admitted);
        assert_eq!((counts.refused, counts.rejected), (refused, refused));
        assert_eq!(receiver.try_iter().count(), usize::from(admitted));
        assert_eq!(server.stats().connections, usize::from(admitted));
    }
}

/// Makes a call over a pair of which one end is adopted and served as `serve` says. Returns the peer if the call was
/// authorized.
fn called(
    kind: Kind,
    serve: impl FnOnce(Endpoint<'_, Tells>) -> Endpoint<'_, Tells>,
) -> Option<Option<Peer>> {
    let (sender, receiver) = channel();
    let mut server = Server::new(Limits::default()).unwrap();
    let (ours, theirs) = pair(kind);
    serve(server.adopt(ours).unwrap()).serve::<dyn Who>();
    let client = Connection::from_fd(theirs).unwrap();
    let client = WhoClient::new(client.with_timeout(PATIENCE)).start();
    let call = client.am_i().unwrap();
    let _ = server.run_once(&mut Tells(sender), Some(PATIENCE)).unwrap();
    let reply = call.wait();
    if reply.is_ok() {
        return Some(receiver.try_recv().unwrap());
    }
    let refused = |fault: &CallError| matches!(fault, CallError::Fault(fault) if fault.code == Fault::NOT_AUTHORIZED);
    assert!(reply.as_ref().is_err_and(refused), "{reply:?}");
    assert!(receiver.try_recv().is_err());
    None
}

/// Returns a user that this process does not run as.
fn another() -> u32 {
    let me = rustix::process::geteuid().as_raw();
    STRANGER + u32::from(me == STRANGER)
}

#[test]
fn the_peer_of_a_socket_pair_of_this_process_is_unknown() {
    for kind in KINDS {
        assert_eq!(called(kind, |endpoint| endpoint), Some(None));
        assert_eq!(called(kind, |endpoint| endpoint.authorize(|_| true)), None);
        let asked = called(kind, |endpoint| endpoint.with_pidfds().authorize(|_| true));
        assert_eq!(asked, None, "{kind:?}");
    }
}

#[test]
fn the_program_can_set_the_peer_of_a_socket_pair() {
    let me = rustix::process::geteuid().as_raw();
    let (said, group) = (another(), STRANGER + 2);
    let peer = called(Kind::Seqpacket, |endpoint| {
        let endpoint = endpoint.peer_is(said, group).unwrap();
        endpoint.authorize(move |peer| peer.uid() == said && peer.is_in_group(group))
    });
    let peer = peer.unwrap().unwrap();
    assert_eq!((peer.uid(), peer.gid()), (said, Some(group)));
    assert_eq!((peer.pid(), peer.groups()), (None, None));
    for kind in KINDS {
        // The peer does not have the rights of the process that made the pair.
        let refused = called(kind, |endpoint| {
            let endpoint = endpoint.peer_is(said, group).unwrap();
            endpoint.authorize(move |peer| peer.uid() == me)
        });
        assert_eq!(refused, None, "{kind:?}");
        let admitted = called(kind, |endpoint| {
            let endpoint = endpoint.peer_is(me, group).unwrap();
            endpoint.authorize(move |peer| peer.uid() == me && peer.gid() == Some(group))
        });
        assert!(admitted.is_some(), "{kind:?}");
        // An invalid user id.
        let invalid = called(kind, |endpoint| {
            let endpoint = endpoint.peer_is(u32::MAX, group).unwrap();
            endpoint.authorize(|_| true)
        });
        assert_eq!(invalid, None, "{kind:?}");
    }
}

#[test]
fn a_peer_set_by_the_program_stays_when_pidfds_are_requested() {
    for asks_first in [true, false] {
        let (sender, receiver) = channel();
        let mut server = Server::new(Limits::default()).unwrap();
        // For this connection the kernel reports this process.
        let (ours, theirs) = connected();
        let mut endpoint = server.adopt(ours).unwrap();
        if asks_first {
            endpoint = endpoint.with_pidfds();
        }
        endpoint = endpoint.peer_is(another(), STRANGER).unwrap();
        if !asks_first {
            endpoint = endpoint.with_pidfds();
        }
        let rule = |peer: &jsoncomm::Peer| peer.uid() == another();
        endpoint.authorize(rule).serve::<dyn Who>();
        let client = jsoncomm::Connection::from_fd(theirs).unwrap();
        let client = WhoClient::new(client.with_timeout(PATIENCE)).start();
        let mut call = client.am_i().unwrap();
        let _ = server.run_once(&mut Tells(sender), Some(PATIENCE)).unwrap();
        assert!(call.try_wait().unwrap().is_ok(), "{asks_first}");
        assert!(received(&receiver).pidfd().is_none());
    }
}

#[test]
fn a_message_of_another_user_than_the_set_peer_is_not_authorized() {
    // The kernel reports the sender of each datagram, which is this process.
    let served = called(Kind::Datagram, |endpoint| {
        endpoint.peer_is(another(), STRANGER).unwrap()
    });
    assert_eq!(served, Some(None));
    let refused = called(Kind::Datagram, |endpoint| {
        let endpoint = endpoint.peer_is(another(), STRANGER).unwrap();
        endpoint.authorize(|_| true)
    });
    assert_eq!(refused, None);
}

#[test]
fn a_peer_can_be_set_for_connected_sockets_only() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::<Tells>::new(Limits::default()).unwrap();
        let endpoint = server.bind(directory.path().join("a.sock"), kind).unwrap();
        let said = endpoint.peer_is(STRANGER, STRANGER);
        assert!(matches!(said, Err(Error::Address { .. })), "{kind:?}");
    }
}

#[test]
fn a_connection_is_accounted_to_the_peer_that_was_set() {
    let mut limits = Limits::default();
    limits.user_connections = 1;
    let mut server = Server::<Tells>::new(limits).unwrap();
    for user in [STRANGER, STRANGER + 1] {
        let (ours, _theirs) = pair(Kind::Seqpacket);
        let endpoint = server.adopt(ours).unwrap();
        endpoint.peer_is(user, user).unwrap();
    }
    assert_eq!(server.stats().connections, 2);
}
