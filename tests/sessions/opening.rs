//! Opening sessions, and calls on them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use jsoncomm::socket::Socket;
use jsoncomm_tests::{can_be_others, this_program};

use super::*;

#[test]
fn calls_on_a_session_have_its_tag_and_the_identity_of_the_caller_that_it_was_opened_for() {
    let mut world = World::new(Limits::default());
    let (mine, yours) = (world.open(7), world.open(u64::MAX));
    let me = Some(own_user());
    assert_eq!(world.who(&mine), (Some(7), me));
    assert_eq!(world.who(&yours), (Some(u64::MAX), me));
    assert_eq!(world.who(&mine), (Some(7), me));
    // The lobby, two sessions.
    assert_eq!(world.server.stats().connections, 3);
    assert_eq!(world.server.counts().accepted, 3);
}

#[test]
fn what_is_sent_before_the_session_is_adopted_waits_for_it() {
    let mut server = Server::new(Limits::default()).unwrap();
    server.sessions::<dyn Room>(ended).unwrap();
    let peer = Peer::from_ids(4711, 4712).unwrap();
    let (client, session) = server.open_session::<dyn Room>(3, &peer).unwrap();
    assert_eq!(session.tag(), 3);
    let mut call = RoomClient::new(client).start().who().unwrap();
    assert_eq!(server.stats().connections, 1);
    let mut hall = Hall::default();
    for _ in 0..2 {
        let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    }
    let who = call.try_wait().unwrap().unwrap();
    assert_eq!(who, (Some(3), Some(4711)));
}

#[test]
fn a_session_of_a_service_that_has_none_is_refused() {
    let mut world = World::new(Limits::default());
    let other = world.lobby.open_other();
    let Err(CallError::Service(why)) = world.reply(other) else {
        panic!("it is opened");
    };
    assert_eq!(
        why,
        "no session: the server has no sessions of this service"
    );
    assert_eq!(world.server.stats().connections, 1);
}

#[test]
fn the_rule_is_asked_once_when_a_session_is_opened() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    for authorized in [true, false] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let mut world = World::with(Limits::default(), |server| {
            let sessions = server.sessions::<dyn Room>(ended).unwrap();
            sessions.authorize(move |peer| {
                assert_eq!(peer.uid(), own_user());
                counter.fetch_add(1, Ordering::Relaxed);
                authorized
            });
        });
        match world.try_open(1) {
            Ok(room) => {
                assert!(authorized);
                assert_eq!(world.who(&room).0, Some(1));
            }
            Err(why) => {
                assert!(!authorized);
                assert_eq!(why, "no session: the peer is not authorized");
            }
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_caller_whose_identity_is_unknown_gets_no_session_where_there_is_a_rule() {
    let mut server = Server::new(Limits::default()).unwrap();
    let sessions = server.sessions::<dyn Room>(ended).unwrap();
    sessions.authorize(|_| true);
    // Of a pair that this process made.
    let (near, far) = Socket::pair(Kind::Seqpacket).unwrap();
    let near = near.as_fd().try_clone_to_owned().unwrap();
    server.adopt(near).unwrap().serve::<dyn Lobby>();
    let lobby = Connection::from_fd(far.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let call = LobbyClient::new(lobby).start().open(1).unwrap();
    let _ = server
        .run_once(&mut Hall::default(), Some(PATIENCE))
        .unwrap();
    assert!(matches!(call.wait(), Err(CallError::Service(why)) if why.ends_with("not authorized")));
}

#[test]
fn the_latest_endpoint_of_a_service_counts_and_a_removed_one_opens_no_more_sessions() {
    let mut first = None;
    let mut world = World::with(Limits::default(), |server| {
        server.sessions::<dyn Room>(ended).unwrap();
        let latest =
            server.sessions::<dyn Room>(|hall: &mut Hall, _, tag| hall.ended.push(tag + 1));
        first = Some(latest.unwrap().token());
    });
    let early = world.open(10);
    assert!(world.server.remove(first.unwrap()));
    let late = world.open(20);
    assert_eq!(world.who(&early).0, Some(10));
    drop((early, late));
    let mut ended = world.until_ended(2);
    ended.sort_unstable();
    assert_eq!(ended, [11, 20]);
}

#[test]
fn a_session_that_waits_to_be_adopted_outlives_the_removal_of_its_endpoint() {
    let mut server = Server::new(Limits::default()).unwrap();
    let endpoint = server.sessions::<dyn Room>(ended).unwrap().token();
    let peer = Peer::from_ids(1, 1).unwrap();
    let (client, _) = server.open_session::<dyn Room>(3, &peer).unwrap();
    assert!(server.remove(endpoint));
    let again = server.open_session::<dyn Room>(4, &peer);
    assert!(matches!(
        again,
        Err(Error::Session(SessionProblem::NotServed))
    ));
    let call = RoomClient::new(client).start().who().unwrap();
    let mut hall = Hall::default();
    let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    assert_eq!(call.wait().unwrap(), (Some(3), Some(1)));
    let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    assert_eq!(hall.ended, [3]);
}

#[test]
fn sessions_serve_what_their_endpoint_is_told_to() {
    let mut world = World::with(Limits::default(), |server| {
        let sessions = server.sessions::<dyn Room>(ended).unwrap();
        let sessions = sessions.without_discovery().without_descriptors().unwrap();
        sessions.fallback(|_, call, method, _, reply| {
            let text = format!(r#""{method} of {}""#, call.tag().unwrap());
            reply.send(RawMessage::new(text));
        });
    });
    let room = world.open(5);
    let connection: &Connection = room.as_ref();
    let other = connection.start::<String, String>("test.other", &());
    assert_eq!(world.reply(other).unwrap(), "test.other of 5");
    let discover = connection.start::<RawMessage, String>("rpc.discover", &());
    match world.reply(discover) {
        Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::METHOD_NOT_FOUND),
        other => panic!("{other:?}"),
    }
    let with_fd = Opened {
        session: Socket::pair(Kind::Datagram)
            .unwrap()
            .0
            .as_fd()
            .try_clone_to_owned()
            .unwrap(),
    };
    let refused = connection.start::<u64, String>("test.other", &with_fd);
    match refused.and_then(|call| world.reply(Ok(call))) {
        Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS),
        // Since Linux 6.16 the kernel refuses them.
        Err(CallError::NotSent(Error::Os { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_adopted_connection_has_the_tag_that_the_program_gives_it() {
    let mut server = Server::new(Limits::default()).unwrap();
    let (near, far) = Socket::pair(Kind::Seqpacket).unwrap();
    let near = near.as_fd().try_clone_to_owned().unwrap();
    let endpoint = server.adopt(near).unwrap().serve::<dyn Room>();
    endpoint.tag(9, ended).unwrap();
    let client = Connection::from_fd(far.as_fd().try_clone_to_owned().unwrap()).unwrap();
    drop(far);
    let call = RoomClient::new(client).start().who().unwrap();
    let mut hall = Hall::default();
    let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    assert_eq!(call.wait().unwrap(), (Some(9), None));
    let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    assert_eq!(hall.ended, [9]);
}

#[test]
fn only_a_connection_can_be_tagged() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::<Hall>::new(Limits::default()).unwrap();
    for (name, kind) in [("s", Kind::Seqpacket), ("d", Kind::Datagram)] {
        let endpoint = server.bind(directory.path().join(name), kind).unwrap();
        assert!(matches!(endpoint.tag(1, ended), Err(Error::Address { .. })));
    }
    let sessions = server.sessions::<dyn Room>(ended).unwrap();
    assert!(matches!(sessions.tag(1, ended), Err(Error::Address { .. })));
}

/// Set in a process of another user, whose standard input is a session.
const BEARER: &str = "JSONCOMM_TESTS_BEARER";

#[test]
fn a_session_that_was_passed_to_another_user_stays_its_makers() {
    /// Not the id of any user.
    const OTHER: u32 = 4711;
    if let Some(maker) = std::env::var_os(BEARER) {
        assert_eq!(own_user(), OTHER);
        let session = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let session = Connection::from_fd(session).unwrap();
        let who = RoomClient::new(session.with_timeout(PATIENCE)).who();
        let maker = maker.to_str().unwrap().parse().unwrap();
        assert_eq!(who.unwrap(), (Some(3), Some(maker)));
        return;
    }
    if !can_be_others() {
        return;
    }
    let mut world = World::new(Limits::default());
    let room = world.open(3);
    let connection: &Connection = room.as_ref();
    let end = connection.as_fd().try_clone_to_owned().unwrap();
    let test = "sessions::opening::a_session_that_was_passed_to_another_user_stays_its_makers";
    let mut bearer = Command::new(this_program())
        .args(["--exact", test])
        .env(BEARER, own_user().to_string())
        .uid(OTHER)
        .gid(OTHER)
        .current_dir("/")
        .stdin(end)
        .spawn()
        .unwrap();
    let status = world.turns(|_| bearer.try_wait().unwrap());
    assert!(status.success());
    assert_eq!(world.hall.called, [3]);
}
