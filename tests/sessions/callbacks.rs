//! Handlers that call back, on the loop that they run on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jsoncomm::server::ServerHandle;
use jsoncomm::socket::Socket;

use super::*;

/// Both ends serve it and call it.
#[jsoncomm::service(name = "test.court")]
trait Court {
    /// Keeps the socket, to call its other end.
    fn join(&mut self, call: &mut Call, #[fd] other: OwnedFd) -> Result<(), String>;
    /// Hits the ball back, which is to be hit so many times more.
    fn hit(&mut self, left: u32) -> u32;
}

/// Balls in play at the same time, from each side.
const BALLS: usize = 16;

/// How often each is hit.
const HITS: usize = 320;

struct Player {
    other: Option<CourtClient<Started>>,
    /// Hits of both players.
    hits: Arc<AtomicUsize>,
    /// Replies that both have received.
    replies: Arc<AtomicUsize>,
}

impl Player {
    fn new(hits: &Arc<AtomicUsize>, replies: &Arc<AtomicUsize>) -> Self {
        let (hits, replies) = (Arc::clone(hits), Arc::clone(replies));
        let other = None;
        Self {
            other,
            hits,
            replies,
        }
    }

    fn hit_to_other(&self, left: u32) {
        let replies = Arc::clone(&self.replies);
        let call = self.other.as_ref().unwrap().hit(left).unwrap();
        call.on_complete(move |reply| {
            assert_eq!(reply.unwrap(), left);
            replies.fetch_add(1, Ordering::Relaxed);
        });
    }

    fn serve_balls(&self) {
        for _ in 0..BALLS {
            self.hit_to_other(u32::try_from(HITS).unwrap() - 1);
        }
    }
}

impl Court for Player {
    fn join(&mut self, call: &mut Call, other: OwnedFd) -> Result<(), String> {
        let other = Connection::from_fd(other).map_err(|error| error.to_string())?;
        let other = CourtClient::new(other.with_timeout(PATIENCE));
        call.drive(&other);
        self.other = Some(other.start());
        self.serve_balls();
        Ok(())
    }

    fn hit(&mut self, left: u32) -> u32 {
        self.hits.fetch_add(1, Ordering::Relaxed);
        if left > 0 {
            self.hit_to_other(left - 1);
        }
        left
    }
}

/// Returns both ends of a pair, as descriptors.
fn ends() -> (OwnedFd, OwnedFd) {
    let (near, far) = Socket::pair(Kind::Seqpacket).unwrap();
    let fd = |socket: Socket| socket.as_fd().try_clone_to_owned().unwrap();
    (fd(near), fd(far))
}

#[test]
fn two_ends_that_call_each_other_at_the_same_time_do_not_deadlock() {
    let (hits, replies) = (Arc::default(), Arc::default());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("court.sock");
    let mut server = Server::new(Limits::default()).unwrap();
    server
        .bind(&path, Kind::Seqpacket)
        .unwrap()
        .serve::<dyn Court>();
    let handle: ServerHandle<Player> = server.handle();
    let mut host = Player::new(&hits, &replies);
    let host = thread::spawn(move || server.run(&mut host));

    // The guest serves and calls on one loop, too.
    let mut server = Server::new(Limits::default()).unwrap();
    let (near, far) = ends();
    server.adopt(near).unwrap().serve::<dyn Court>();
    let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
    server.drive(&connection).unwrap();
    let mut guest = Player::new(&hits, &replies);
    let court = CourtClient::new(connection).start();
    let join = court.join(far).unwrap();
    let joined: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&joined);
    join.on_complete(move |reply| {
        reply.unwrap();
        counter.fetch_add(1, Ordering::Relaxed);
    });
    guest.other = Some(court);
    guest.serve_balls();
    let until = Instant::now() + PATIENCE;
    let all = 2 * BALLS * HITS;
    assert!(all > 10_000);
    while replies.load(Ordering::Relaxed) < all {
        assert!(Instant::now() < until, "{hits:?} hits");
        let turn = server.run_once(&mut guest, Some(Duration::from_millis(100)));
        assert_eq!(turn.unwrap(), ControlFlow::Continue(()));
    }
    assert_eq!(hits.load(Ordering::Relaxed), all);
    assert_eq!(joined.load(Ordering::Relaxed), 1);
    handle.stop();
    host.join().unwrap().unwrap();
}

#[test]
fn a_watch_or_a_timer_can_have_a_connection_driven() {
    let (near, far) = ends();
    let connection = Connection::from_fd(near).unwrap().with_timeout(PATIENCE);
    let mut server = Server::new(Limits::default()).unwrap();
    let replies: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&replies);
    let timer = server.after(Duration::ZERO, move |_: &mut Player, control| {
        control.drive(&connection);
        let call = CourtClient::new(connection).start().hit(0).unwrap();
        call.on_complete(move |reply| {
            assert_eq!(reply.unwrap(), 0);
            counter.fetch_add(1, Ordering::Relaxed);
        });
    });
    timer.unwrap();
    // It serves the call that it makes.
    server.adopt(far).unwrap().serve::<dyn Court>();
    let mut player = Player::new(&Arc::default(), &replies);
    let until = Instant::now() + PATIENCE;
    while replies.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until);
        let _ = server.run_once(&mut player, Some(PATIENCE)).unwrap();
    }
}

#[test]
fn a_driven_connection_is_closed_when_the_program_has_dropped_it_and_no_call_is_in_flight() {
    let (near, far) = ends();
    let mut other = Socket::from_fd(far).unwrap();
    other.set_timeout(Some(PATIENCE));
    let connection = Connection::from_fd(near).unwrap();
    let mut server = Server::<()>::new(Limits::default()).unwrap();
    server.drive(&connection).unwrap();
    let turn = |server: &mut Server<()>| {
        let turn = server.run_once(&mut (), Some(Duration::from_millis(1)));
        assert_eq!(turn.unwrap(), ControlFlow::Continue(()));
    };
    let replies: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&replies);
    let call: PendingCall<u32> = connection.start("a.b", &(1,)).unwrap();
    call.on_complete(move |reply| {
        assert_eq!(reply.unwrap(), 5);
        counter.fetch_add(1, Ordering::Relaxed);
    });
    drop(connection);
    turn(&mut server);
    let request = other.receive::<RawMessage>().unwrap().0;
    let id = request.json.split(r#""id":"#).nth(1).unwrap();
    let id: String = id.chars().take_while(char::is_ascii_digit).collect();
    other
        .send(&RawMessage::new(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":5}}"#
        )))
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while replies.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until);
        turn(&mut server);
    }
    turn(&mut server);
    assert!(matches!(other.receive::<RawMessage>(), Err(Error::Closed)));
}

#[test]
fn a_connection_that_is_to_be_driven_again_is_driven_once() {
    let (near, far) = ends();
    let mut other = Socket::from_fd(far).unwrap();
    other.set_timeout(Some(PATIENCE));
    let connection = Connection::from_fd(near).unwrap();
    let mut server = Server::new(Limits::default()).unwrap();
    server.drive(&connection).unwrap();
    let timer = server.after(Duration::ZERO, move |(): &mut (), control| {
        control.drive(&connection);
        control.drive(&connection);
    });
    timer.unwrap();
    let until = Instant::now() + PATIENCE;
    other.set_timeout(Some(Duration::from_millis(1)));
    // It is closed, as the program has dropped it.
    while !matches!(other.receive::<RawMessage>(), Err(Error::Closed)) {
        assert!(Instant::now() < until);
        let _ = server.run_once(&mut (), Some(Duration::from_millis(1)));
    }
}
