//! What sessions count against.

use super::*;

fn limits(connections: usize, user_connections: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.connections, limits.user_connections) = (connections, user_connections);
    limits
}

#[test]
fn sessions_count_as_connections_of_the_user_that_they_were_opened_for() {
    const MOST: usize = 4;
    let why = "no session: too many connections of this user";
    let mut world = World::new(limits(100, MOST));
    // The lobby is one.
    let mut rooms: Vec<_> = (1..MOST as u64).map(|tag| world.open(tag)).collect();
    assert_eq!(world.try_open(9).unwrap_err(), why);
    assert_eq!(world.server.stats().connections, MOST);
    // Another user has a budget of its own.
    let other = Peer::from_ids(4711, 4711).unwrap();
    let opened = world.server.open_session::<dyn Room>(20, &other);
    drop(opened.unwrap());
    world.until_ended(1);
    // One that ends makes room for one.
    drop(rooms.pop());
    world.until_ended(2);
    rooms.push(world.open(10));
    assert_eq!(world.try_open(11).unwrap_err(), why);
    for room in &rooms {
        world.who(room);
    }
    // Of those that were refused, the state is not told.
    world.until_ended(2);
}

#[test]
fn sessions_count_as_connections_of_the_server() {
    const MOST: usize = 3;
    let mut world = World::new(limits(MOST, MOST));
    let rooms = [world.open(1), world.open(2)];
    assert_eq!(
        world.try_open(3).unwrap_err(),
        "no session: too many connections"
    );
    drop(rooms);
    world.until_ended(2);
    world.open(4);
}

#[test]
fn a_session_is_held_back_when_its_makers_user_is_over_budget() {
    let mut limits = Limits::default();
    limits.user_deferred = 2;
    let mut world = World::new(limits);
    let room = world.open(1);
    let waiting = [world.lobby.wait().unwrap(), world.lobby.wait().unwrap()];
    world.turns(|world| (world.hall.waiting.len() == 2).then_some(()));
    // Whoever has the session now, it is the maker's budget that is used up.
    let refused = room.rest();
    match world.reply(refused) {
        Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::BUSY),
        other => panic!("{other:?}"),
    }
    // A session of another user is not affected.
    let other = Peer::from_ids(4711, 4711).unwrap();
    let (client, _) = world.server.open_session::<dyn Room>(2, &other).unwrap();
    let free = RoomClient::new(client).start().rest().unwrap();
    world.turns(|world| (world.hall.waiting.len() == 3).then_some(()));
    for reply in world.hall.waiting.drain(..) {
        reply.send(1);
    }
    for call in waiting.into_iter().chain([free]) {
        assert_eq!(world.reply(Ok(call)).unwrap(), 1);
    }
    let again = room.rest().unwrap();
    world.turns(|world| (world.hall.waiting.len() == 1).then_some(()));
    world.hall.waiting.remove(0).send(2);
    assert_eq!(world.reply(Ok(again)).unwrap(), 2);
}
