//! A peer's groups and pidfd are unknown if the kernel fails to report them, and nothing else changes.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::io::Errno;

use super::{Pairs, PairsClient, State, fail_at, turns};
use crate::client::Connection;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::server::Server;
use crate::sys::control::{pass_pidfds, peer_groups};
use crate::sys::inject;
use crate::sys::socket::{Kind, socketpair};

/// Whether the groups and the pidfd are known.
fn known(peer: &Peer) -> (bool, bool) {
    (peer.groups().is_some(), peer.pidfd().is_some())
}

/// What this kernel reports of a connection's peer.
fn all_that_can_be_known() -> (bool, bool) {
    let (socket, _other) = socketpair(Kind::Seqpacket).unwrap();
    let groups = peer_groups(socket.as_fd(), |_| ()).is_some();
    (groups, pass_pidfds(socket.as_fd()).unwrap())
}

/// Makes a server whose rule passes each peer on.
fn server(kind: Kind, path: &Path) -> (Server<State>, Receiver<Peer>) {
    let mut server = Server::new(Limits::default()).unwrap();
    let (tell, told) = channel();
    let rule = move |peer: &Peer| tell.send(peer.clone()).is_ok();
    let endpoint = server.bind(path, kind).unwrap().with_pidfds();
    endpoint.authorize(rule).serve::<dyn Pairs>();
    (server, told)
}

/// Makes a call. Returns what the server knows of its caller.
fn call(server: &mut Server<State>, told: &Receiver<Peer>, client: Connection) -> Peer {
    let mut call = PairsClient::new(client).start().double(2).unwrap();
    for () in turns() {
        let timeout = Some(Duration::from_millis(1));
        let _ = server.run_once(&mut State::default(), timeout).unwrap();
        if let Some(reply) = call.try_wait() {
            assert_eq!(reply.unwrap(), 4);
            return told.try_recv().unwrap();
        }
    }
    panic!("there was no reply")
}

#[test]
fn a_connection_whose_groups_or_pidfd_cannot_be_read_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("faults.sock");
    let (mut server, told) = server(Kind::Seqpacket, &path);
    let mut call_with = |plan: &dyn Fn()| {
        let client = Connection::open(&path).unwrap();
        plan();
        let peer = call(&mut server, &told, client);
        known(&peer)
    };
    let all = all_that_can_be_known();
    assert_eq!(call_with(&|| inject::begin(None)), all);
    // The last three calls of getsockopt(2) request the pidfd, the credentials and the groups.
    let asked = inject::counts()["getsockopt"];
    for errno in [
        Errno::NOPROTOOPT,
        Errno::NODATA,
        Errno::RANGE,
        Errno::MFILE,
        Errno::SRCH,
        Errno::INVAL,
    ] {
        for (time, left) in [(asked - 3, (all.0, false)), (asked - 1, (false, all.1))] {
            let known = call_with(&|| fail_at("getsockopt", time, errno));
            assert_eq!((known, inject::failed()), (left, 1), "{errno}");
        }
    }
    inject::end();
}

#[test]
fn datagrams_are_served_where_the_kernel_does_not_pass_pidfds() {
    let directory = tempfile::tempdir().unwrap();
    for errno in [Errno::NOPROTOOPT, Errno::OPNOTSUPP, Errno::NOMEM] {
        let path = directory.path().join("faults.sock");
        inject::begin(None);
        let first = server(Kind::Datagram, &path);
        // The last call of setsockopt(2) requests pidfds.
        let last = inject::counts()["setsockopt"] - 1;
        drop(first);
        fail_at("setsockopt", last, errno);
        let (mut server, told) = server(Kind::Datagram, &path);
        assert_eq!(inject::failed(), 1);
        inject::end();
        let client = Connection::open(&path).unwrap();
        let peer = call(&mut server, &told, client);
        assert_eq!(known(&peer), (false, false));
    }
}
