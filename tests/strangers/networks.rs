//! Peers in another network namespace, where abstract names are other ones: paths lead there and back by a connection
//! only. A datagram server sends its reply to the owner of the client's address in its own namespace.

use std::time::Duration;

use jsoncomm::client::PendingCall;
use jsoncomm::message::WithFds;
use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Kind};
use jsoncomm_tests::{PATIENCE, Running, alone, assert_open_fds, open_fds};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, getsockname, socket};
use serde_json::{Value, json};

use super::*;

#[test]
fn calls_from_another_network_namespace() {
    let Some(path) = elsewhere() else { return };
    let connection = Connection::open(&path).unwrap();
    let address: Result<SocketAddrUnix, _> = getsockname(&connection).unwrap().try_into();
    let name = address.ok().and_then(|address| {
        let name = address.abstract_name()?.to_vec();
        String::from_utf8(name).ok()
    });
    report(name.as_deref().unwrap_or("nameless"));
    wait();
    let time = match name {
        // No message will arrive.
        Some(_) => Duration::from_millis(300),
        None => PATIENCE,
    };
    for _ in 0..2 {
        let gate = GateClient::new(connection.with_timeout(time));
        report(match gate.open() {
            Ok(_) => "opened",
            Err(CallError::Deadline) => "nothing came",
            _ => "something else",
        });
    }
    wait();
}

/// Starts a server, and a client elsewhere that connects to it and reports its address; `None` where not permitted.
fn apart(kind: Kind) -> Option<(Running<Guard>, Other, String)> {
    let server = Running::start(kind, Guard::default(), |endpoint| {
        endpoint.serve::<dyn Gate>()
    });
    let test = "networks::calls_from_another_network_namespace";
    let mut other = Other::start(&["-n"], test, &server.path)?;
    let name = other.receive();
    Some((server, other, name))
}

/// Binds a datagram socket to this abstract name here, and connects it to the server.
fn namesake(name: &str, server: &Path) -> OwnedFd {
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(server).unwrap()).unwrap();
    let name = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    bind(&socket, &name).unwrap();
    socket
}

/// Asserts that the server still serves local clients.
fn assert_serves(server: &Running<Guard>) {
    let gate = GateClient::new(server.connect());
    let me = rustix::process::geteuid().as_raw();
    assert_eq!(gate.who().unwrap(), Some(me));
    gate.open().unwrap();
}

#[test]
fn a_connection_leads_to_another_network_namespace_and_back() {
    alone!();
    let before = open_fds();
    if let Some((server, mut other, _)) = apart(Kind::Seqpacket) {
        other.go_on();
        assert_eq!(
            (other.receive(), other.receive()),
            ("opened".into(), "opened".into())
        );
        server.assert_busy_with(1);
        drop(other);
        server.assert_busy_with(0);
        assert_serves(&server);
        let (_, counts) = server.stop();
        assert_eq!((counts.handled, counts.undelivered), (4, 0));
    }
    assert_open_fds(before);
}

#[test]
fn a_reply_to_a_datagram_from_another_network_namespace_is_dropped_if_its_address_is_free() {
    alone!();
    let before = open_fds();
    if let Some((server, mut other, _)) = apart(Kind::Datagram) {
        other.go_on();
        for _ in 0..2 {
            assert_eq!(other.receive(), "nothing came");
        }
        assert_serves(&server);
        server.assert_busy_with(0);
        let (_, counts) = server.stop();
        assert_eq!((counts.handled, counts.undelivered), (4, 2));
    }
    assert_open_fds(before);
}

#[test]
fn a_reply_to_a_datagram_from_another_network_namespace_goes_to_the_local_owner_of_its_address() {
    alone!();
    let before = open_fds();
    if let Some((server, mut other, name)) = apart(Kind::Datagram) {
        let mut stranger = Socket::from_fd(namesake(&name, &server.path)).unwrap();
        stranger.set_timeout(Some(PATIENCE));
        other.go_on();
        for _ in 0..2 {
            let reply = stranger.receive::<WithFds<Value>>().unwrap().0;
            assert_eq!(reply.json["result"], json!({"file": 0}));
            assert_eq!(reply.fds.len(), 1);
            assert_eq!(other.receive(), "nothing came");
        }
        assert_serves(&server);
        let (_, counts) = server.stop();
        assert_eq!((counts.handled, counts.undelivered), (4, 0));
    }
    assert_open_fds(before);
}

#[test]
fn a_client_ignores_replies_to_another_client_with_its_address() {
    alone!();
    let before = open_fds();
    if let Some((server, mut other, name)) = apart(Kind::Datagram) {
        let connection = Connection::from_fd(namesake(&name, &server.path)).unwrap();
        let gate = GateClient::new(connection.with_timeout(PATIENCE));
        let kept: PendingCall<u64> = gate.start().keep().unwrap();
        assert_eq!(gate.release().unwrap(), 1);
        assert_eq!(kept.wait().unwrap(), 7);
        let mut kept = gate.start().keep().unwrap();
        let held = open_fds();
        other.go_on();
        for _ in 0..2 {
            assert_eq!(other.receive(), "nothing came");
        }
        // Both replies are in its queue, or it has received them and closed their descriptors.
        assert!(kept.try_wait().is_none());
        gate.who().unwrap();
        assert_open_fds(held);
        assert_eq!(gate.release().unwrap(), 1);
        assert_eq!(kept.wait().unwrap(), 7);
        assert_serves(&server);
        server.assert_busy_with(0);
        server.stop();
        drop((gate, connection));
    }
    assert_open_fds(before);
}
