//! `Socket` and `Listener`: whole messages in order, and timeouts.

mod payloads;

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use jsoncomm::Error;
use jsoncomm::fds::{FDS_MAX, Fds};
use jsoncomm::message::{DecodeError, EncodeError};
use jsoncomm::message::{UnusedFds, WithFds};
use jsoncomm::socket::DATAGRAM_MAX;
use jsoncomm::socket::{Listener, Received, SendStatus, Socket};
use jsoncomm::{Kind, Message};
use jsoncomm_tests::{Bound, KINDS, PATIENCE, alone, assert_open_fds, open_fds, pair, send_raw};
use rustix::net::{RecvFlags, SocketType, recv, sockopt};
use serde_json::{Value, json};

/// A short timeout.
const MOMENT: Duration = Duration::from_millis(30);

#[derive(Debug, Message)]
struct Take {
    name: String,
    #[fd]
    files: Vec<File>,
}

/// Returns a distinct file: its content is its name.
fn file(name: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, name.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn content(mut file: &File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

fn nulls(count: usize) -> Vec<File> {
    let null = || File::open("/dev/null").unwrap();
    std::iter::repeat_with(null).take(count).collect()
}

/// Sends to a peer that does not read until there is no more room. Returns how many messages were sent.
fn fill(socket: &mut Socket, text: &str) -> usize {
    let mut count = 0;
    while socket.try_send(text).unwrap() == SendStatus::Done {
        count += 1;
    }
    count
}

#[test]
fn messages_and_descriptors_arrive_in_order_with_close_on_exec() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        for round in 0..5 {
            let files = (0..round)
                .map(|index| file(&format!("{round}.{index}")))
                .collect();
            left.send(&Take {
                name: round.to_string(),
                files,
            })
            .unwrap();
        }
        for round in 0..5 {
            let (take, _) = right.receive::<Take>().unwrap();
            assert_eq!(take.name, round.to_string());
            assert_eq!(take.files.len(), round);
            for (index, file) in take.files.iter().enumerate() {
                assert_eq!(content(file), format!("{round}.{index}"));
                let flags = rustix::io::fcntl_getfd(file).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            }
        }
    }
    assert_open_fds(before);
}

#[test]
fn an_empty_queue_is_pending_and_a_closed_connection_is_closed() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        assert!(matches!(
            right.try_receive::<String>(),
            Ok(Received::Pending)
        ));
        left.send("last").unwrap();
        drop(left);
        let last = right.try_receive::<String>().unwrap();
        assert!(matches!(last, Received::Message(text, _) if text == "last"));
        if kind == Kind::Seqpacket {
            assert!(matches!(
                right.try_receive::<String>(),
                Ok(Received::Closed)
            ));
            assert!(matches!(right.receive::<String>(), Err(Error::Closed)));
        }
        assert!(matches!(right.try_send("x"), Err(Error::Closed)));
        assert!(matches!(right.send("x"), Err(Error::Closed)));
    }
}

#[test]
fn messages_of_a_peer_that_died_with_unread_ones_are_received() {
    alone!();
    let (mut left, mut right) = pair(Kind::Seqpacket);
    right.send("never read").unwrap();
    left.send("one").unwrap();
    left.send("two").unwrap();
    drop(left);
    // The kernel reports ECONNRESET first.
    assert_eq!(right.receive::<String>().unwrap().0, "one");
    assert_eq!(right.receive::<String>().unwrap().0, "two");
    assert!(matches!(right.receive::<String>(), Err(Error::Closed)));
}

#[test]
fn receiving_and_sending_keep_their_deadline() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        right.set_timeout(Some(MOMENT));
        assert!(matches!(right.receive::<String>(), Err(Error::Deadline)));
        right.set_timeout(Some(Duration::ZERO));
        assert!(matches!(right.receive::<String>(), Err(Error::Deadline)));
        fill(&mut left, "x");
        left.set_timeout(Some(MOMENT));
        assert!(matches!(left.send("x"), Err(Error::Deadline)));
        // The socket is still usable.
        right.set_timeout(Some(PATIENCE));
        assert_eq!(right.receive::<String>().unwrap().0, "x");
        left.set_timeout(Some(PATIENCE));
    }
}

#[test]
fn deadlines_hold_on_a_non_blocking_descriptor() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        for socket in [&left, &right] {
            rustix::io::ioctl_fionbio(socket, true).unwrap();
        }
        right.set_timeout(Some(MOMENT));
        assert!(matches!(right.receive::<String>(), Err(Error::Deadline)));
        fill(&mut left, "x");
        left.set_timeout(Some(MOMENT));
        assert!(matches!(left.send("x"), Err(Error::Deadline)));
    }
}

#[test]
fn sending_waits_for_room() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        let fitted = fill(&mut left, "x");
        let sender = std::thread::spawn(move || left.send("last").map(|()| left));
        for _ in 0..fitted {
            assert_eq!(right.receive::<String>().unwrap().0, "x");
        }
        assert_eq!(right.receive::<String>().unwrap().0, "last");
        sender.join().unwrap().unwrap();
    }
}

#[test]
fn backpressure_is_reported_and_ends_when_the_peer_reads() {
    alone!();
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        let fitted = fill(&mut left, "x");
        assert!(fitted > 1);
        assert_eq!(left.try_send("y").unwrap(), SendStatus::Full);
        for _ in 0..fitted {
            assert_eq!(right.receive::<String>().unwrap().0, "x");
        }
        assert_eq!(left.try_send("z").unwrap(), SendStatus::Done);
        assert_eq!(right.receive::<String>().unwrap().0, "z");
        assert!(matches!(
            right.try_receive::<String>(),
            Ok(Received::Pending)
        ));
    }
}

#[test]
fn backpressure_of_an_unconnected_peer_is_reported_and_obeys_the_deadline() {
    alone!();
    let mut reader = Socket::unconnected().unwrap();
    reader.set_timeout(Some(PATIENCE));
    let to = reader.local_address().unwrap().unwrap();
    let mut sender = Socket::unconnected().unwrap();
    let mut fitted = 0;
    while sender.try_send_to("x", &to).unwrap() == SendStatus::Done {
        fitted += 1;
    }
    sender.set_timeout(Some(MOMENT));
    assert!(matches!(sender.send_to("x", &to), Err(Error::Deadline)));
    for _ in 0..fitted {
        assert_eq!(reader.receive::<String>().unwrap().0, "x");
    }
    sender.send_to("y", &to).unwrap();
    assert_eq!(reader.receive::<String>().unwrap().0, "y");
}

#[test]
fn unconnected_sockets_reply_to_the_sender() {
    alone!();
    let (mut left, mut right) = (
        Socket::unconnected().unwrap(),
        Socket::unconnected().unwrap(),
    );
    left.set_timeout(Some(PATIENCE));
    right.set_timeout(Some(PATIENCE));
    let to = right.local_address().unwrap().unwrap();
    assert!(to.as_abstract_name().is_some() && to.as_path().is_none());
    left.send_to("question", &to).unwrap();
    let (question, sender) = right.receive::<String>().unwrap();
    assert_eq!(question, "question");
    assert_eq!(sender, left.local_address().unwrap());
    right.send_to("answer", &sender.unwrap()).unwrap();
    let (reply, sender) = left.receive::<String>().unwrap();
    assert_eq!((&*reply, sender), ("answer", Some(to.clone())));
    drop(right);
    assert!(matches!(left.send_to("text", &to), Err(Error::Closed)));
}

#[test]
fn a_socket_of_the_wrong_type_is_refused_and_closed() {
    alone!();
    let before = open_fds();
    let (stream, mut other) = UnixStream::pair().unwrap();
    assert!(matches!(
        Socket::from_fd(stream.into()),
        Err(Error::Address { .. })
    ));
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(other.read(&mut [0]).unwrap(), 0, "it was closed");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let refused: [OwnedFd; 5] = [
        tcp.into(),
        listener.into(),
        UnixListener::bind(directory.path().join("stream.sock"))
            .unwrap()
            .into(),
        Listener::bind(&path)
            .unwrap()
            .as_fd()
            .try_clone_to_owned()
            .unwrap(),
        File::open("/dev/null").unwrap().into(),
    ];
    for fd in refused {
        assert!(matches!(Socket::from_fd(fd), Err(Error::Address { .. })));
    }
    let (left, right) = Socket::pair(Kind::Seqpacket).unwrap();
    let (datagram, _) = UnixDatagram::pair().unwrap();
    let stream = UnixListener::bind(directory.path().join("other.sock")).unwrap();
    let fds = [left.as_fd(), datagram.as_fd(), stream.as_fd()];
    for fd in fds.map(|fd| fd.try_clone_to_owned().unwrap()) {
        assert!(matches!(Listener::from_fd(fd), Err(Error::Address { .. })));
    }
    drop((left, right, datagram, stream, other));
    assert_open_fds(before);
}

#[test]
fn a_socket_can_be_made_from_a_descriptor() {
    alone!();
    let (left, right) = UnixDatagram::pair().unwrap();
    let mut left = Socket::from_fd(left.into()).unwrap();
    assert_eq!(left.kind(), Kind::Datagram);
    left.send("x").unwrap();
    let mut bytes = [0; 8];
    assert_eq!(right.recv(&mut bytes).unwrap(), 3);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let fd = {
        let bound = rustix::net::socket(
            rustix::net::AddressFamily::UNIX,
            SocketType::SEQPACKET,
            None,
        )
        .unwrap();
        rustix::net::bind(&bound, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&bound, 1).unwrap();
        bound
    };
    let listener = Listener::from_fd(fd).unwrap();
    assert_eq!(
        listener.local_address().unwrap().unwrap().as_path(),
        Some(&*path)
    );
    Bound::Seqpacket(listener).reached_at(&path);
    assert!(path.exists(), "not ours to remove");
}

#[test]
fn a_socket_that_was_never_connected_is_closed() {
    alone!();
    let family = rustix::net::AddressFamily::UNIX;
    let fd = rustix::net::socket(family, SocketType::SEQPACKET, None).unwrap();
    let mut socket = Socket::from_fd(fd).unwrap();
    socket.set_timeout(Some(PATIENCE));
    let (done, is_done) = std::sync::mpsc::channel();
    // On a thread, so that blocking for ever fails the test.
    let thread = std::thread::spawn(move || {
        let tried = matches!(socket.try_receive::<String>(), Ok(Received::Closed));
        let waited = matches!(socket.receive::<String>(), Err(Error::Closed));
        let sent = matches!(socket.send("x"), Err(Error::Closed));
        done.send((tried, waited, sent))
    });
    assert_eq!(is_done.recv_timeout(PATIENCE), Ok((true, true, true)));
    thread.join().unwrap().unwrap();
}

#[test]
fn a_listener_accepts_waiting_clients_and_never_blocks() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let listener = Listener::bind(&path).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let mut clients: Vec<Socket> = (0..3)
        .map(|_| Socket::connect(&path, Kind::Seqpacket).unwrap())
        .collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(&index).unwrap();
        let mut socket = listener.accept().unwrap().unwrap();
        assert_eq!(socket.kind(), Kind::Seqpacket);
        socket.set_timeout(Some(PATIENCE));
        assert_eq!(socket.receive::<usize>().unwrap().0, index);
    }
    assert!(listener.accept().unwrap().is_none());
    drop(Socket::connect(&path, Kind::Seqpacket).unwrap());
    let mut dead = listener.accept().unwrap().unwrap();
    assert!(matches!(dead.try_receive::<String>(), Ok(Received::Closed)));
}
