//! Sessions: many objects of one server, each behind a socket of its own.

mod callbacks;
mod endings;
mod limits;
mod many;
mod opening;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use jsoncomm::client::{PendingCall, Started};
use jsoncomm::message::RawMessage;
use jsoncomm::server::{Control, Session, SessionProblem};
use jsoncomm::{
    Call, CallError, Connection, Deferred, Error, Fault, Kind, Limits, Message, Peer, Reply, Server,
};
use jsoncomm_tests::PATIENCE;
use tempfile::TempDir;

/// Where sessions are opened.
#[jsoncomm::service(name = "test.lobby")]
trait Lobby {
    fn open(&mut self, call: &mut Call, tag: u64) -> Result<Opened, String>;
    /// Opens a session of a service that has none.
    fn open_other(&mut self, call: &mut Call) -> Result<Opened, String>;
    /// Closes a session. Returns true if it was open.
    fn close(&mut self, tag: u64) -> bool;
    /// Replies when it is told to.
    fn wait(&mut self, call: &mut Call) -> Deferred<u64>;
}

/// What a session serves.
#[jsoncomm::service(name = "test.room")]
trait Room {
    /// Returns the tag, and the caller's user.
    fn who(&mut self, call: &mut Call) -> (Option<u64>, Option<u32>);
    /// Closes the caller's own session.
    fn leave(&mut self, call: &mut Call) -> u64;
    /// Closes another.
    #[oneway]
    fn shut(&mut self, tag: u64);
    /// Replies when it is told to.
    fn rest(&mut self, call: &mut Call) -> Deferred<u64>;
}

#[derive(Debug, Message)]
struct Opened {
    #[fd]
    session: OwnedFd,
}

/// The state of the server.
#[derive(Default)]
struct Hall {
    sessions: HashMap<u64, Session>,
    /// The tags of the sessions that have ended, in order.
    ended: Vec<u64>,
    /// The tags of calls, in order.
    called: Vec<u64>,
    waiting: Vec<Reply<u64>>,
}

impl Lobby for Hall {
    fn open(&mut self, call: &mut Call, tag: u64) -> Result<Opened, String> {
        assert_eq!(call.tag(), None);
        let opened = call.open_session::<dyn Room>(tag);
        let (client, session) = opened.map_err(|error| error.to_string())?;
        self.sessions.insert(tag, session);
        let session = client.as_fd().try_clone_to_owned().unwrap();
        Ok(Opened { session })
    }

    fn open_other(&mut self, call: &mut Call) -> Result<Opened, String> {
        match call.open_session::<dyn Lobby>(0) {
            Err(error) => Err(error.to_string()),
            Ok(_) => unreachable!(),
        }
    }

    fn close(&mut self, tag: u64) -> bool {
        let session = &self.sessions[&tag];
        let was_open = !session.is_closed();
        session.close();
        assert!(session.is_closed());
        was_open
    }

    fn wait(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.waiting.push(reply))
    }
}

impl Room for Hall {
    fn who(&mut self, call: &mut Call) -> (Option<u64>, Option<u32>) {
        self.called.extend(call.tag());
        (call.tag(), call.peer().map(Peer::uid))
    }

    fn leave(&mut self, call: &mut Call) -> u64 {
        let tag = call.tag().unwrap();
        self.called.push(tag);
        self.sessions[&tag].close();
        tag
    }

    fn shut(&mut self, tag: u64) {
        self.sessions[&tag].close();
    }

    fn rest(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.waiting.push(reply))
    }
}

/// A server with sessions, on the thread of the test.
struct World {
    server: Server<Hall>,
    hall: Hall,
    lobby: LobbyClient<Started>,
    _directory: TempDir,
}

fn ended(hall: &mut Hall, _: &mut Control<Hall>, tag: u64) {
    hall.ended.push(tag);
}

impl World {
    fn new(limits: Limits) -> Self {
        Self::with(limits, |server| {
            server.sessions::<dyn Room>(ended).unwrap();
        })
    }

    fn with(limits: Limits, prepare: impl FnOnce(&mut Server<Hall>)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lobby.sock");
        let mut server = Server::new(limits).unwrap();
        prepare(&mut server);
        let endpoint = server.bind(&path, Kind::Seqpacket).unwrap();
        endpoint.serve::<dyn Lobby>();
        let lobby = Connection::open(&path).unwrap().with_timeout(PATIENCE);
        Self {
            server,
            hall: Hall::default(),
            lobby: LobbyClient::new(lobby).start(),
            _directory: directory,
        }
    }

    /// Runs turns until `done` returns something.
    #[track_caller]
    fn turns<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(done) = done(self) {
                return done;
            }
            assert!(Instant::now() < until, "it takes too long");
            let wait = Some(Duration::from_millis(1));
            let turn = self.server.run_once(&mut self.hall, wait).unwrap();
            assert_eq!(turn, ControlFlow::Continue(()));
        }
    }

    /// Runs turns until a call has its reply.
    #[track_caller]
    fn reply<T: Message, E: Message>(
        &mut self,
        call: Result<PendingCall<T, E>, CallError<E>>,
    ) -> Result<T, CallError<E>> {
        let mut call = call?;
        self.turns(|_| call.try_wait())
    }

    /// Opens a session.
    #[track_caller]
    fn open(&mut self, tag: u64) -> RoomClient<Started> {
        self.try_open(tag).unwrap()
    }

    /// Opens a session, or returns why the server did not.
    fn try_open(&mut self, tag: u64) -> Result<RoomClient<Started>, String> {
        let opened = self.lobby.open(tag);
        match self.reply(opened) {
            Ok(Opened { session }) => Ok(room(session)),
            Err(CallError::Service(why)) => Err(why),
            Err(other) => panic!("{other}"),
        }
    }

    /// Returns what a session replies to `who`.
    #[track_caller]
    fn who(&mut self, room: &RoomClient<Started>) -> (Option<u64>, Option<u32>) {
        let who = room.who();
        self.reply(who).unwrap()
    }

    /// Runs turns until that many sessions have ended, and two more.
    #[track_caller]
    fn until_ended(&mut self, count: usize) -> Vec<u64> {
        self.turns(|world| (world.hall.ended.len() >= count).then_some(()));
        for _ in 0..2 {
            let wait = Some(Duration::ZERO);
            let _ = self.server.run_once(&mut self.hall, wait).unwrap();
        }
        assert_eq!(self.hall.ended.len(), count);
        self.hall.ended.clone()
    }
}

/// Returns the stub of a session whose client's end this is.
fn room(session: OwnedFd) -> RoomClient<Started> {
    let session = Connection::from_fd(session).unwrap();
    RoomClient::new(session.with_timeout(PATIENCE)).start()
}

fn own_user() -> u32 {
    rustix::process::getuid().as_raw()
}
