//! Sessions go on at the next server, and so do the tags of adopted connections.

use rustix::process::geteuid;

use super::*;

#[jsoncomm::service(name = "test.rooms")]
trait Rooms {
    /// Opens a session.
    fn room(&mut self, call: &mut Call, number: u64) -> Result<Key, String>;
}

#[jsoncomm::service(name = "test.room")]
trait Room {
    /// Returns the number of the room, and the user whose it is.
    fn look(&mut self, call: &mut Call) -> (Option<u64>, Option<u32>);
}

#[derive(Debug, Message)]
struct Key {
    #[fd]
    room: RoomClient,
}

#[derive(Debug, Default)]
struct House {
    left: Vec<u64>,
}

impl Rooms for House {
    fn room(&mut self, call: &mut Call, number: u64) -> Result<Key, String> {
        let opened = call.open_session::<dyn Room>(number);
        let (connection, _session) = opened.map_err(|error| error.to_string())?;
        let room = RoomClient::new(connection);
        Ok(Key { room })
    }
}

impl Room for House {
    fn look(&mut self, call: &mut Call) -> (Option<u64>, Option<u32>) {
        (call.tag(), call.peer().map(jsoncomm::Peer::uid))
    }
}

fn serve_house(_: &str, endpoint: Endpoint<'_, House>) -> Result<(), Error> {
    endpoint.serve::<dyn Rooms>();
    Ok(())
}

fn with_sessions() -> Server<House> {
    let mut server = Server::new(Limits::default()).unwrap();
    let sessions = server.sessions::<dyn Room>(|house: &mut House, _, room| house.left.push(room));
    sessions.unwrap();
    server
}

fn run(server: &mut Server<House>, house: &mut House, mut until: impl FnMut(&House) -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !until(house) {
        assert!(std::time::Instant::now() < deadline);
        let _ = server
            .run_once(house, Some(Duration::from_millis(1)))
            .unwrap();
    }
}

#[test]
fn sessions_go_on_with_their_tags_and_owners() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rooms.sock");
    let (mut server, mut house) = (with_sessions(), House::default());
    serve_house("", server.bind(&path, Kind::Seqpacket).unwrap()).unwrap();
    let connect = move || Connection::open(&path).unwrap().with_timeout(PATIENCE);
    let client = std::thread::spawn(move || {
        let rooms = RoomsClient::new(connect());
        [7, 8].map(|number| rooms.room(number).unwrap().room)
    });
    run(&mut server, &mut house, |_| client.is_finished());
    let [seven, eight] = client.join().unwrap();
    let own = geteuid().as_raw();
    for _ in 0..3 {
        let connections = server.stats().connections;
        let handover = server.hand_over(&mut house, Duration::ZERO).unwrap();
        assert_eq!(server.stats().connections, 0);
        let fd = handover.to_fd().unwrap();
        drop((handover, server));
        server = with_sessions();
        let handover = Handover::from_fd(fd).unwrap();
        server.take_over(handover, serve_house).unwrap();
        assert_eq!(server.stats().connections, connections);
        let seen = std::thread::scope(|scope| {
            let calls = scope.spawn(|| [&seven, &eight].map(|room| room.look().unwrap()));
            run(&mut server, &mut house, |_| calls.is_finished());
            calls.join().unwrap()
        });
        assert_eq!(seen, [7, 8].map(|number| (Some(number), Some(own))));
    }
    assert_eq!(house.left, [0_u64; 0], "none has ended");
    assert!(server.session(9).is_none());
    server.session(7).unwrap().close();
    drop(eight);
    run(&mut server, &mut house, |house| house.left.len() == 2);
    house.left.sort_unstable();
    assert_eq!(house.left, [7, 8]);
    assert!(seven.look().is_err());
}
