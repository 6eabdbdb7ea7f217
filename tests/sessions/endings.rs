//! How sessions end, and what the state is told.

use super::*;

#[test]
fn the_state_is_told_once_when_the_peer_has_hung_up() {
    let mut world = World::new(Limits::default());
    let (first, second) = (world.open(1), world.open(2));
    drop(first);
    assert_eq!(world.until_ended(1), [1]);
    assert!(world.hall.sessions[&1].is_closed());
    // Too late.
    world.hall.sessions[&1].close();
    assert_eq!(world.who(&second).0, Some(2));
    drop(second);
    assert_eq!(world.until_ended(2), [1, 2]);
    assert_eq!(world.server.stats().connections, 1);
}

#[test]
fn the_state_is_told_of_a_session_whose_client_end_was_never_sent() {
    let mut server = Server::new(Limits::default()).unwrap();
    server.sessions::<dyn Room>(ended).unwrap();
    let peer = Peer::from_ids(1, 1).unwrap();
    drop(server.open_session::<dyn Room>(3, &peer).unwrap());
    let mut hall = Hall::default();
    for _ in 0..2 {
        let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    }
    assert_eq!((hall.ended, server.stats().connections), (vec![3], 0));
}

#[test]
fn closing_one_session_leaves_the_others() {
    let mut world = World::new(Limits::default());
    let rooms: Vec<_> = (0..5).map(|tag| world.open(tag)).collect();
    let close = world.lobby.close(2);
    assert!(world.reply(close).unwrap());
    assert_eq!(world.until_ended(1), [2]);
    for (tag, room) in (0..).zip(&rooms) {
        let who = room.who();
        match who.and_then(|call| world.reply(Ok(call))) {
            Ok((found, _)) => assert!(tag != 2 && found == Some(tag)),
            Err(CallError::Closed | CallError::NotSent(Error::Closed)) => assert_eq!(tag, 2),
            Err(other) => panic!("{other}"),
        }
    }
    let again = world.lobby.close(2);
    assert!(!world.reply(again).unwrap());
    assert_eq!(world.until_ended(1), [2]);
}

#[test]
fn a_session_that_is_closed_before_it_is_adopted_handles_nothing() {
    let mut server = Server::new(Limits::default()).unwrap();
    server.sessions::<dyn Room>(ended).unwrap();
    let peer = Peer::from_ids(1, 1).unwrap();
    let (client, session) = server.open_session::<dyn Room>(3, &peer).unwrap();
    let call = RoomClient::new(client).start().who().unwrap();
    session.close();
    let mut hall = Hall::default();
    let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    assert!(matches!(call.wait(), Err(CallError::Closed)));
    assert_eq!((hall.ended, hall.called), (vec![3], vec![]));
}

#[test]
fn no_call_is_handled_once_a_session_is_closed_though_it_has_been_sent() {
    let mut world = World::new(Limits::default());
    let (closer, closed) = (world.open(1), world.open(2));
    world.who(&closer);
    // Both are ready in the same turn, in either order.
    let calls = [closed.who().unwrap(), closed.who().unwrap()];
    closer.shut(2).unwrap();
    let late = closed.who();
    for call in calls.into_iter().chain(late) {
        match world.reply(Ok(call)) {
            Ok(_) | Err(CallError::Closed) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(world.until_ended(1), [2]);
    // Of its own session: what comes after is not handled.
    let leaver = world.open(3);
    let (leave, after) = (leaver.leave().unwrap(), leaver.who().unwrap());
    assert_eq!(world.reply(Ok(leave)).unwrap(), 3);
    assert!(matches!(world.reply(Ok(after)), Err(CallError::Closed)));
    assert_eq!(world.hall.called.iter().filter(|tag| **tag == 3).count(), 1);
    assert_eq!(world.until_ended(2), [2, 3]);
}

#[test]
fn a_batch_ends_where_its_session_is_closed() {
    let mut world = World::new(Limits::default());
    let room = world.open(4);
    let batching: &Connection = room.as_ref();
    let room = RoomClient::new(batching.batching()).start();
    let calls = [room.who().unwrap(), room.who().unwrap()];
    let leave = room.leave().unwrap();
    let after = room.who().unwrap();
    let flushed: &Connection = room.as_ref();
    flushed.flush().unwrap();
    for call in calls {
        assert_eq!(world.reply(Ok(call)).unwrap().0, Some(4));
    }
    assert_eq!(world.reply(Ok(leave)).unwrap(), 4);
    assert!(matches!(world.reply(Ok(after)), Err(CallError::Closed)));
    assert_eq!(world.hall.called, [4, 4, 4]);
    assert_eq!(world.until_ended(1), [4]);
}

#[test]
fn deferred_calls_of_a_closed_session_are_cancelled() {
    let mut world = World::new(Limits::default());
    let (closed, other) = (world.open(1), world.open(2));
    let calls = [closed.rest().unwrap(), other.rest().unwrap()];
    world.turns(|world| (world.hall.waiting.len() == 2).then_some(()));
    world.hall.sessions[&1].close();
    assert_eq!(world.until_ended(1), [1]);
    let wanted = world.hall.waiting.iter().filter(|reply| reply.is_wanted());
    assert_eq!(wanted.count(), 1);
    for reply in world.hall.waiting.drain(..) {
        reply.send(6);
    }
    let [closed, other] = calls;
    assert!(matches!(world.reply(Ok(closed)), Err(CallError::Closed)));
    assert_eq!(world.reply(Ok(other)).unwrap(), 6);
}

#[test]
fn another_thread_can_close_a_session() {
    let mut world = World::new(Limits::default());
    let _room = world.open(8);
    let session = world.hall.sessions[&8].clone();
    std::thread::spawn(move || session.close()).join().unwrap();
    assert_eq!(world.until_ended(1), [8]);
}

#[test]
fn the_state_is_told_of_a_peer_that_is_disconnected() {
    let mut limits = Limits::default();
    limits.malformed = 0;
    let mut world = World::new(limits);
    let room = world.open(1);
    let connection: &Connection = room.as_ref();
    jsoncomm_tests::send_raw(connection, b"[", &[]).unwrap();
    assert_eq!(world.until_ended(1), [1]);
}

#[test]
fn the_state_is_told_when_the_server_has_shut_down() {
    let mut world = World::new(Limits::default());
    let room = world.open(1);
    world.who(&room);
    world.server.shut_down(Duration::ZERO).unwrap();
    let (server, hall) = (&mut world.server, &mut world.hall);
    server.run(hall).unwrap();
    assert_eq!(hall.ended, [1]);
    assert_eq!(server.stats().connections, 0);
    // It can be run again, with sessions.
    let peer = Peer::from_ids(1, 1).unwrap();
    let (client, _) = server.open_session::<dyn Room>(2, &peer).unwrap();
    let call = RoomClient::new(client).start().who().unwrap();
    for _ in 0..2 {
        let _ = server.run_once(hall, Some(PATIENCE)).unwrap();
    }
    assert_eq!(call.wait().unwrap().0, Some(2));
}

#[test]
fn a_panic_of_what_tells_the_state_is_counted_and_ends_nothing() {
    let mut world = World::with(Limits::default(), |server| {
        let panics = |_: &mut Hall, _: &mut Control<Hall>, _| panic!("of a test");
        server.sessions::<dyn Room>(panics).unwrap();
    });
    let (first, second) = (world.open(1), world.open(2));
    drop(first);
    world.turns(|world| (world.server.counts().panicked == 1).then_some(()));
    assert_eq!(world.who(&second).0, Some(2));
}

#[test]
fn what_tells_the_state_can_change_the_server() {
    let mut server = Server::new(Limits::default()).unwrap();
    let sessions = server.sessions::<dyn Room>(|hall: &mut Hall, control, tag| {
        hall.ended.push(tag);
        if tag == 1 {
            control.post(|server| {
                let peer = Peer::from_ids(1, 1).unwrap();
                drop(server.open_session::<dyn Room>(2, &peer).unwrap());
            });
        } else {
            control.stop();
        }
    });
    sessions.unwrap();
    let peer = Peer::from_ids(1, 1).unwrap();
    drop(server.open_session::<dyn Room>(1, &peer).unwrap());
    let mut hall = Hall::default();
    server.run(&mut hall).unwrap();
    assert_eq!(hall.ended, [1, 2]);
}

#[test]
fn a_session_that_was_not_adopted_is_closed_with_the_server() {
    let mut server = Server::<Hall>::new(Limits::default()).unwrap();
    server.sessions::<dyn Room>(ended).unwrap();
    let peer = Peer::from_ids(1, 1).unwrap();
    let (client, session) = server.open_session::<dyn Room>(3, &peer).unwrap();
    let room = RoomClient::new(client.with_timeout(PATIENCE)).start();
    let call = room.who().unwrap();
    // Both know the queue of what the loop is asked for.
    let handle = server.handle();
    drop(server);
    let reply = call.wait();
    assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
    assert!(session.is_closed());
    drop(handle);
}

#[test]
fn the_state_is_told_without_delay_of_a_connection_that_the_program_removes() {
    let mut server = Server::new(Limits::default()).unwrap();
    let (near, _far) = jsoncomm::socket::Socket::pair(Kind::Seqpacket).unwrap();
    let near = near.as_fd().try_clone_to_owned().unwrap();
    let endpoint = server.adopt(near).unwrap().serve::<dyn Room>();
    endpoint.tag(4, ended).unwrap().remove();
    let mut hall = Hall::default();
    let began = Instant::now();
    let _ = server.run_once(&mut hall, Some(PATIENCE)).unwrap();
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(hall.ended, [4]);
}
