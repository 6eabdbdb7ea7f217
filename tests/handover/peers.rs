//! Who may call at the next server, and what is served there.

use std::os::fd::{AsFd, OwnedFd};

use jsoncomm::socket::Listener;
use jsoncomm::socket::Socket;
use jsoncomm_tests::KINDS;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::geteuid;

use super::*;

/// Not the id of any user.
const STRANGER: u32 = 4711;

fn pair(kind: Kind) -> (OwnedFd, OwnedFd) {
    let of = match kind {
        Kind::Datagram => SocketType::DGRAM,
        Kind::Seqpacket => SocketType::SEQPACKET,
    };
    socketpair(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None).unwrap()
}

fn desk(far: OwnedFd) -> DeskClient {
    DeskClient::new(Connection::from_fd(far).unwrap().with_timeout(PATIENCE))
}

fn is_refused<T>(reply: &Result<T, CallError>) -> bool {
    matches!(reply, Err(CallError::Fault(fault)) if fault.code == Fault::NOT_AUTHORIZED)
}

#[test]
fn who_the_program_says_is_at_the_other_end_travels() {
    let own = geteuid().as_raw();
    for kind in KINDS {
        let mut server = Server::new(Limits::default()).unwrap();
        let (near, far) = pair(kind);
        // The kernel's word on a datagram can only take away what the program has said.
        let user = if kind == Kind::Datagram {
            own
        } else {
            STRANGER
        };
        let endpoint = server
            .adopt(near)
            .unwrap()
            .named("worker")
            .peer_is(user, user);
        endpoint.unwrap().serve::<dyn Desk>();
        let desk = desk(far);
        let mut state = State::default();
        for _ in 0..3 {
            let call = desk.start().user().unwrap();
            run_dry(&mut server, &mut state);
            assert_eq!(call.wait().unwrap(), Some(user), "{kind:?}");
            let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
            server = Server::new(Limits::default()).unwrap();
            let authorize = |name: &str, endpoint: Endpoint<'_, State>| {
                assert_eq!(name, "worker");
                endpoint
                    .authorize(move |peer| peer.uid() == user)
                    .serve::<dyn Desk>();
                Ok(())
            };
            server.take_over(handover, authorize).unwrap();
        }
    }
}

#[test]
fn an_unknown_peer_stays_unknown() {
    let mut server = Server::new(Limits::default()).unwrap();
    let (near, far) = pair(Kind::Seqpacket);
    server.adopt(near).unwrap().serve::<dyn Desk>();
    let (desk, mut state) = (desk(far), State::default());
    let mut server = next(server, &mut state, Duration::ZERO);
    let call = desk.start().user().unwrap();
    run_dry(&mut server, &mut state);
    assert_eq!(call.wait().unwrap(), None);
    let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
    let mut server = Server::new(Limits::default()).unwrap();
    let anybody = |_: &str, endpoint: Endpoint<'_, State>| {
        endpoint.authorize(|_| true).serve::<dyn Desk>();
        Ok(())
    };
    server.take_over(handover, anybody).unwrap();
    let call = desk.start().user().unwrap();
    run_dry(&mut server, &mut state);
    assert!(is_refused(&call.wait()));
}

#[test]
fn the_rule_of_the_next_server_is_asked_about_each_connection() {
    for kind in KINDS {
        let place = Place::new();
        let (mut server, mut state) = (place.server(), State::default());
        let desk = place.connect(kind);
        let call = desk.start().count(1).unwrap();
        run_dry(&mut server, &mut state);
        assert_eq!(call.wait().unwrap(), 1);
        let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
        let nobody = |_: &str, endpoint: Endpoint<'_, State>| {
            endpoint.authorize(|_| false).serve::<dyn Desk>();
            Ok(())
        };
        server.take_over(handover, nobody).unwrap();
        let call = desk.start().count(1).unwrap();
        run_dry(&mut server, &mut state);
        assert!(is_refused(&call.wait()));
    }
}

#[test]
fn endpoints_are_known_by_their_names_or_addresses() {
    let place = Place::new();
    let path = place.path(Kind::Seqpacket);
    let name = jsoncomm::address::Address::abstract_name(format!(
        "jsoncomm-handover-{}",
        std::process::id()
    ));
    let name = name.unwrap();
    let mut server = Server::<State>::new(Limits::default()).unwrap();
    server.bind(&path, Kind::Seqpacket).unwrap();
    server.bind(name.clone(), Kind::Datagram).unwrap();
    server
        .bind(place.path(Kind::Datagram), Kind::Datagram)
        .unwrap()
        .named("a \"b\"\n");
    server.adopt(pair(Kind::Seqpacket).0).unwrap();
    let handover = server
        .hand_over(&mut State::default(), Duration::ZERO)
        .unwrap();
    drop(server);
    assert!(
        Listener::bind(name.clone()).is_err(),
        "held in each type of socket"
    );
    let fd = handover.to_fd().unwrap();
    drop(handover);
    let handover = Handover::from_fd(fd).unwrap();
    let mut server = Server::<State>::new(Limits::default()).unwrap();
    let mut names = Vec::new();
    server
        .take_over(handover, |name, _| {
            names.push(name.to_owned());
            Ok(())
        })
        .unwrap();
    names.sort();
    let mut expected = vec![
        String::new(),
        path.display().to_string(),
        name.to_string(),
        String::from("a \"b\"\n"),
    ];
    expected.sort();
    assert_eq!(names, expected);
    drop(server);
    Listener::bind(name).unwrap();
}

#[test]
fn an_endpoint_that_is_removed_takes_its_connections_with_it() {
    let place = Place::new();
    let (mut server, mut state) = (place.server(), State::default());
    let (left, kept) = (
        place.connect(Kind::Seqpacket),
        place.connect(Kind::Datagram),
    );
    run_dry(&mut server, &mut state);
    let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
    let only_datagrams = |name: &str, endpoint: Endpoint<'_, State>| {
        if name == super::name(Kind::Datagram) {
            endpoint.serve::<dyn Desk>();
        } else {
            endpoint.remove();
        }
        Ok(())
    };
    server.take_over(handover, only_datagrams).unwrap();
    assert_eq!(server.stats().connections, 0);
    let call = kept.start().count(1).unwrap();
    run_dry(&mut server, &mut state);
    assert_eq!(call.wait().unwrap(), 1);
    assert!(matches!(
        left.count(1),
        Err(CallError::Closed | CallError::NotSent { .. })
    ));
    assert!(!place.path(Kind::Seqpacket).exists());
}

#[test]
fn descriptors_are_taken_again_where_the_next_server_wants_them() {
    let place = Place::new();
    let mut server = Server::new(Limits::default()).unwrap();
    for kind in KINDS {
        let endpoint = server.bind(place.path(kind), kind).unwrap();
        endpoint.without_descriptors().unwrap().serve::<dyn Desk>();
    }
    let mut state = State::default();
    let mut clients = KINDS.map(|kind| Socket::connect(place.path(kind), kind).unwrap());
    run_dry(&mut server, &mut state);
    let null = File::open("/dev/null").unwrap();
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"test.desk.keep","params":{"file":0}}"#;
    let handover = server.hand_over(&mut state, Duration::ZERO).unwrap();
    server.take_over(handover, serve).unwrap();
    for (taken, client) in (1..).zip(&mut clients) {
        jsoncomm_tests::send_raw(&client, call, &[null.as_fd()]).unwrap();
        run_dry(&mut server, &mut state);
        client.set_timeout(Some(PATIENCE));
        let reply = client
            .receive::<jsoncomm::message::Json<serde_json::Value>>()
            .unwrap()
            .0;
        assert_eq!(reply.0["result"], taken, "{reply:?}");
    }
}
