//! A scripted server that replies to some calls and then dies.

use super::*;
use jsoncomm::address::Address;
use jsoncomm::fds::Fds;
use jsoncomm::socket::Listener;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};
use std::os::fd::AsFd;

/// Messages of a datagram server that are younger than this when it dies can be lost with it.
const UNSAVED: Duration = Duration::from_millis(50);

/// A server with one client: its end of a connection, or a datagram socket. Dead when dropped.
pub(crate) struct FarEnd {
    socket: Socket,
    client: Option<Address>,
}

impl FarEnd {
    /// Binds. Returns a function that accepts the client once it has connected.
    pub(crate) fn bind(path: &Path, kind: Kind) -> impl FnOnce() -> Self + use<> {
        let accept: Box<dyn FnOnce() -> Socket> = match kind {
            Kind::Datagram => {
                let socket = Socket::bind(path).unwrap();
                Box::new(move || socket)
            }
            Kind::Seqpacket => {
                let listener = Listener::bind(path).unwrap();
                Box::new(move || {
                    let mut fds = [PollFd::new(&listener, PollFlags::IN)];
                    poll(&mut fds, Some(&PATIENCE.try_into().unwrap())).unwrap();
                    listener.accept().unwrap().unwrap()
                })
            }
        };
        || {
            let mut socket = accept();
            socket.set_timeout(Some(PATIENCE));
            let client = None;
            Self { socket, client }
        }
    }

    /// Receives a call.
    pub(crate) fn receive(&mut self) -> Value {
        let (call, client) = self.socket.receive::<WithFds<Value>>().unwrap();
        self.client = client;
        call.json
    }

    pub(crate) fn send(&mut self, json: Value) {
        self.send_with_fds(json, Fds::new());
    }

    fn send_with_fds(&mut self, json: Value, fds: Fds) {
        let message = WithFds { json, fds };
        match &self.client {
            Some(client) => self.socket.send_to(&message, client).unwrap(),
            None => self.socket.send(&message).unwrap(),
        }
    }

    pub(crate) fn send_reply(&mut self, id: &Value, number: u64) {
        self.send(reply_to(id, number));
    }

    /// Waits until the client has checked several times that the server lives.
    fn wait_for_liveness_checks(&mut self) {
        self.socket.set_timeout(Some(SEVERAL_CHECKS));
        let nothing = self.socket.receive::<WithFds<Value>>();
        assert!(matches!(nothing, Err(jsoncomm::Error::Deadline)));
    }
}

pub(crate) fn reply_to(id: &Value, number: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"number": number, "pid": 7}})
}

/// Returns a connection to a server at a path, and the server, which the test drives.
pub(crate) fn against(path: &Path, kind: Kind) -> (Connection, FarEnd) {
    let accept = FarEnd::bind(path, kind);
    let connection = open(path);
    (connection, accept())
}

#[test]
fn replies_sent_before_the_server_died_are_received() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let before = open_fds();
        let (connection, mut far) = against(&path, kind);
        let client = DeskClient::new(connection.clone());
        let calls: Vec<_> = (0..3).map(|_| client.start().echo(0).unwrap()).collect();
        let ids: Vec<Value> = (0..3).map(|_| far.receive()["id"].clone()).collect();
        far.send_reply(&ids[1], 1);
        far.send_reply(&ids[2], 2);
        drop(far);
        let mut calls = calls.into_iter();
        let (unanswered, second, third) = (calls.next(), calls.next(), calls.next());
        // Sending to a dead datagram server discards its unread messages. The client avoids that for all but the youngest.
        let died = Instant::now();
        while died.elapsed() < UNSAVED {
            std::thread::yield_now();
        }
        assert_closed(client.echo(1));
        assert_closed(connection.notify("x.y", &(1,)));
        drop(unanswered);
        assert_eq!(third.unwrap().wait().unwrap().number, 2);
        assert_eq!(second.unwrap().wait().unwrap().number, 1);
        drop((connection, client));
        assert_open_fds(before);
    }
}

#[test]
fn cancelling_a_call_to_a_dead_server_loses_no_reply_to_another_call() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let (connection, mut far) = against(&path, kind);
        let client = DeskClient::new(connection).start();
        let (answered, unanswered) = (client.echo(0).unwrap(), client.echo(0).unwrap());
        let id = far.receive()["id"].clone();
        far.send_reply(&id, 1);
        drop(far);
        drop(unanswered);
        assert_eq!(answered.wait().unwrap().number, 1);
    }
}

#[test]
fn a_new_server_at_the_same_address_does_not_hide_the_death_of_the_old() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let (connection, mut far) = against(&path, kind);
        let client = DeskClient::new(connection);
        let waiting = std::thread::spawn(move || client.echo(0));
        far.receive();
        drop(far);
        let _next = FarEnd::bind(&path, kind);
        assert_closed(waiting.join().unwrap());
    }
}

#[test]
fn a_server_whose_path_was_taken_over_is_not_dead() {
    alone!();
    for kind in KINDS {
        for taken in [false, true] {
            let (_directory, path) = place();
            let (connection, mut far) = against(&path, kind);
            let client = DeskClient::new(connection);
            let waiting = std::thread::spawn(move || client.echo(0));
            let id = far.receive()["id"].clone();
            // A listener has unlinked its path already.
            let _ = std::fs::remove_file(&path);
            let _next = taken.then(|| FarEnd::bind(&path, kind));
            far.wait_for_liveness_checks();
            far.send_reply(&id, 1);
            assert_eq!(waiting.join().unwrap().unwrap().number, 1);
        }
    }
}

#[test]
fn a_connection_without_an_address_detects_a_dead_server() {
    alone!();
    for kind in KINDS {
        let (near, mut far) = jsoncomm_tests::pair(kind);
        let near = near.as_fd().try_clone_to_owned().unwrap();
        let client = DeskClient::new(Connection::from_fd(near).unwrap().without_timeout());
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(client.echo(0)));
        far.receive::<WithFds<Value>>().unwrap();
        drop(far);
        assert_closed(receiver.recv_timeout(PATIENCE).unwrap());
    }
}

#[test]
fn a_stream_of_a_dead_server_ends_after_the_items_received() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let before = open_fds();
        let (connection, mut far) = against(&path, kind);
        let mut numbers = DeskClient::new(connection).stall(9).unwrap();
        let id = far.receive()["id"].clone();
        let null = || std::fs::File::open("/dev/null").unwrap();
        for number in 0..3 {
            let item = json!({"jsonrpc": "2.0", "id": id, "result": number, "more": true});
            // Each item carries descriptors that were not requested.
            far.send_with_fds(item, Fds::from(vec![null().into(), null().into()]));
        }
        drop(far);
        for number in 0..3 {
            assert_eq!(numbers.next().unwrap().unwrap(), number);
        }
        assert_closed(numbers.next().unwrap());
        assert!(numbers.next().is_none());
        drop(numbers);
        assert_open_fds(before);
    }
}

#[test]
fn a_half_closed_server_ends_the_call_or_still_replies() {
    alone!();
    // A server that can send no more replies: the connection reports that.
    let (_directory, path) = place();
    let (connection, mut far) = against(&path, Kind::Seqpacket);
    let client = DeskClient::new(connection);
    let waiting = std::thread::spawn(move || client.echo(0));
    far.receive();
    shutdown(far.socket.as_fd(), Shutdown::Write).unwrap();
    assert_closed(waiting.join().unwrap());
    // A server that can receive no more, like one that shuts down, but replies to what it has received.
    for kind in KINDS {
        let (_directory, path) = place();
        let (connection, mut far) = against(&path, kind);
        let client = DeskClient::new(connection.reconnecting()).start();
        let waiting = client.echo(0).unwrap();
        let id = far.receive()["id"].clone();
        shutdown(far.socket.as_fd(), Shutdown::Read).unwrap();
        assert_closed(client.echo(1));
        far.send_reply(&id, 1);
        assert_eq!(waiting.wait().unwrap().number, 1, "{kind:?}");
    }
}

#[test]
fn a_server_that_dies_after_a_flood_of_malformed_messages_ends_the_call() {
    alone!();
    for kind in KINDS {
        let (_directory, path) = place();
        let before = open_fds();
        let (connection, mut far) = against(&path, kind);
        let client = DeskClient::new(connection);
        let call = client.start().echo(0).unwrap();
        let id = far.receive()["id"].as_u64().unwrap();
        let null = || std::fs::File::open("/dev/null").unwrap();
        for round in 1..100 {
            let wrong = reply_to(&json!(id + round), round);
            far.send_with_fds(wrong, Fds::from(vec![null().into()]));
        }
        // Far more than fits into a datagram.
        far.send(json!({"jsonrpc": "2.0", "id": id + 1, "result": "x".repeat(900_000)}));
        drop(far);
        assert_closed(call.wait());
        drop(client);
        assert_open_fds(before);
    }
}

#[test]
fn messages_of_other_senders_do_not_hide_the_death_of_a_datagram_server() {
    alone!();
    let (_directory, path) = place();
    let (connection, mut far) = against(&path, Kind::Datagram);
    let call = DeskClient::new(connection.without_timeout())
        .start()
        .echo(0)
        .unwrap();
    let id = far.receive()["id"].as_u64().unwrap();
    let client = far.client.take().unwrap();
    drop(far);
    // A send to a dead server disconnects the socket in the kernel: then any process can send to it.
    assert_closed(connection.notify("x.y", &(1,)));
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(call.wait()));
    let mut stranger = Socket::unconnected().unwrap();
    let until = Instant::now() + PATIENCE;
    let reply = loop {
        assert!(Instant::now() < until, "the server is not checked");
        let foreign = WithFds {
            json: reply_to(&json!(id + 1), 1),
            fds: Fds::new(),
        };
        let _ = stranger.send_to(&foreign, &client);
        if let Ok(reply) = receiver.recv_timeout(Duration::from_millis(5)) {
            break reply;
        }
    };
    assert_closed(reply);
}
