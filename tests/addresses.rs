//! Addresses: binding, connecting, and removing a socket's file.

mod access;
mod children;
mod in_the_way;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jsoncomm::address::{Address, AddressProblem, Bind};
use jsoncomm::socket::{Listener, Socket};
use jsoncomm::{Connection, Error, Kind, Limits, Server};
use jsoncomm_tests::{
    Bound, KINDS, PATIENCE, alone, assert_open_fds, can_be_others, needs_proc, open_fds, skip,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

#[test]
fn abstract_addresses_work_for_both_kinds() {
    alone!();
    for kind in KINDS {
        // Unique: no other directory has this path while it exists.
        let directory = tempfile::tempdir().unwrap();
        let mut name = directory.path().as_os_str().as_encoded_bytes().to_vec();
        name.extend_from_slice(b"\0\xff");
        let address = Address::abstract_name(&name).unwrap();
        let bound = Bound::at(address.clone(), kind).unwrap();
        assert_eq!(
            problem(Bound::at(address.clone(), kind)),
            AddressProblem::InUse
        );
        bound.reached_at(address.clone());
        assert!(
            Socket::connect(address, kind).is_err(),
            "gone with its socket"
        );
    }
}

/// Binds a plain socket of the given type.
fn bind_as(of: SocketType, address: &Address) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, of, SocketFlags::CLOEXEC, None)?;
    let name = address.as_abstract_name().unwrap();
    bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

const TYPES: [SocketType; 3] = [SocketType::DGRAM, SocketType::SEQPACKET, SocketType::STREAM];

#[test]
fn an_abstract_address_in_use_is_refused_for_every_socket_type() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let name = format!("jsoncomm-tests-types-{kind:?}-{}", std::process::id());
        let address = Address::abstract_name(name).unwrap();
        let bound = Bound::at(address.clone(), kind).unwrap();
        for of in TYPES {
            let taken = bind_as(of, &address).unwrap_err();
            assert_eq!(taken, rustix::io::Errno::ADDRINUSE, "{of:?}");
        }
        assert_eq!(Socket::open(address.clone()).unwrap().kind(), kind);
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            let expected = match other {
                Kind::Seqpacket => AddressProblem::NobodyListens,
                Kind::Datagram => AddressProblem::OtherKind,
            };
            assert_eq!(problem(Socket::connect(address.clone(), other)), expected);
            assert_eq!(
                problem(Bound::at(address.clone(), other)),
                AddressProblem::InUse
            );
        }
        drop(bound);
        for of in TYPES {
            let stranger = bind_as(of, &address).unwrap();
            assert_eq!(
                problem(Bound::at(address.clone(), kind)),
                AddressProblem::InUse
            );
            drop(stranger);
        }
        Bound::at(address.clone(), kind)
            .unwrap()
            .reached_at(address);
    }
    assert_open_fds(before);
}

#[test]
fn the_kind_of_a_listening_socket_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let name = format!("jsoncomm-tests-open-{kind:?}-{}", std::process::id());
        let path = directory.path().join(&name);
        for address in [Address::abstract_name(&name).unwrap(), Address::from(path)] {
            let missing = problem(Socket::open(address.clone()));
            let expected = match address.as_path() {
                Some(_) => AddressProblem::Missing,
                None => AddressProblem::NobodyListens,
            };
            assert_eq!(missing, expected);
            let _bound = Bound::at(address.clone(), kind).unwrap();
            assert_eq!(Socket::open(address.clone()).unwrap().kind(), kind);
            assert!(Connection::open(address).is_ok());
        }
    }
}

/// Returns the problem in an address error.
#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> AddressProblem {
    match result.unwrap_err() {
        Error::Address { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_is_unlinked_when_the_socket_is_dropped() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let bound = Bound::at(&path, kind).unwrap();
        assert!(path.exists());
        drop(bound);
        assert!(!path.exists());
        // The path can be bound again.
        Bound::at(&path, kind).unwrap().reached_at(&path);
    }
}

#[test]
fn a_path_is_unlinked_after_its_directory_was_renamed() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        std::fs::create_dir(&old).unwrap();
        let bound = Bound::at(old.join("a.sock"), kind).unwrap();
        std::fs::rename(&old, &new).unwrap();
        assert!(new.join("a.sock").exists());
        drop(bound);
        assert!(!new.join("a.sock").exists());
    }
}

#[test]
fn a_file_that_replaced_the_socket_is_not_unlinked() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let bound = Bound::at(&path, kind).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = Bound::at(&path, kind).unwrap();
        drop(bound);
        assert!(path.exists(), "another socket");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "plain").unwrap();
        drop(other);
        assert!(path.exists(), "a plain file");
        std::fs::remove_file(&path).unwrap();
        let bound = Bound::at(&path, kind).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(bound);
        assert!(!path.exists(), "nothing");
    }
}

/// Makes a directory whose path alone is longer than any `sun_path`.
fn deep() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d".repeat(120)).join("e".repeat(200));
    std::fs::create_dir_all(&path).unwrap();
    (directory, path)
}

#[test]
fn a_path_longer_than_sun_path_can_be_bound_connected_to_and_unlinked() {
    alone!();
    needs_proc!();
    let before = open_fds();
    for kind in KINDS {
        let (_directory, deep) = deep();
        let path = deep.join("a.sock");
        assert!(path.as_os_str().len() > 300);
        let bound = Bound::at(&path, kind).unwrap();
        assert!(path.exists());
        assert_eq!(problem(Bound::at(&path, kind)), AddressProblem::InUse);
        bound.reached_at(&path);
        assert!(!path.exists());
    }
    // The same path as the destination of a datagram.
    let (_directory, deep) = deep();
    let path = deep.join("a.sock");
    let mut receiver = Socket::bind(&path).unwrap();
    receiver.set_timeout(Some(PATIENCE));
    let mut sender = Socket::unconnected().unwrap();
    sender.send_to("far", &Address::from(&path)).unwrap();
    assert_eq!(receiver.receive::<String>().unwrap().0, "far");
    drop((receiver, sender));
    assert_open_fds(before);
}

#[test]
fn paths_of_107_and_108_bytes_can_be_bound_connected_to_and_unlinked() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        for length in [107, 108, 109] {
            let directory = tempfile::tempdir().unwrap();
            let directory = directory.path().join("d".repeat(40));
            std::fs::create_dir(&directory).unwrap();
            let room = length - directory.as_os_str().len() - 1;
            let path = directory.join("s".repeat(room));
            assert_eq!(path.as_os_str().len(), length);
            let bound = Bound::at(&path, kind).unwrap();
            assert!(path.exists());
            bound.reached_at(&path);
            assert!(!path.exists());
        }
    }
}

#[test]
fn a_file_name_that_cannot_be_bound_is_an_address_error() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let (_directory, deep) = deep();
        for name in ["n".repeat(108), "n".repeat(255), "n".repeat(300)] {
            let problem = problem(Bound::at(deep.join(&name), kind));
            let AddressProblem::TooLong { length, limit } = problem else {
                panic!("{problem:?}")
            };
            assert_eq!(length, name.len());
            // 107 bytes without `/proc/self/fd/N/`.
            assert!((88..=91).contains(&limit), "{limit}");
            for fits in [limit - 1, limit] {
                let path = deep.join("n".repeat(fits));
                Bound::at(&path, kind).unwrap().reached_at(&path);
            }
            let above = self::problem(Bound::at(deep.join("n".repeat(limit + 1)), kind));
            let length = limit + 1;
            assert_eq!(above, AddressProblem::TooLong { length, limit });
        }
        for path in ["/", "..", "a.sock/", "a.sock/.", "a.sock/..", "."] {
            let path = deep.join(path);
            let problem = problem(Bound::at(&path, kind));
            assert_eq!(problem, AddressProblem::NoFileName, "{path:?}");
        }
        assert_eq!(problem(Bound::at("", kind)), AddressProblem::Empty);
        assert_eq!(problem(Bound::at("a\0b", kind)), AddressProblem::Nul);
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    }
}

#[test]
fn errors_tell_a_missing_directory_a_missing_file_and_a_missing_server_apart() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none").join("a.sock");
        assert_eq!(problem(Bound::at(&path, kind)), AddressProblem::NoDirectory);
        assert_eq!(
            problem(Socket::connect(&path, kind)),
            AddressProblem::Missing
        );
        let path = directory.path().join("stale.sock");
        drop(UnixDatagram::bind(&path).unwrap());
        let stale = problem(Socket::connect(&path, kind));
        assert_eq!(stale, AddressProblem::NobodyListens);
        let path = directory.path().join("live.sock");
        let _live = Bound::at(&path, kind).unwrap();
        let other = KINDS.into_iter().find(|other| *other != kind).unwrap();
        let other = problem(Socket::connect(&path, other));
        assert_eq!(other, AddressProblem::OtherKind);
    }
}

#[test]
fn opening_a_connection_waits_until_the_server_accepts() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    // A server with a backlog of one client.
    let listener = Listener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = Connection::open(&path).unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || done.send(Connection::open(&path).map(drop)));
    let waits = is_done.recv_timeout(Duration::from_millis(30)).is_err();
    assert!(waits, "a full backlog is not reported");
    listener.accept().unwrap().unwrap();
    is_done.recv_timeout(PATIENCE).unwrap().unwrap();
    thread.join().unwrap().unwrap();
}

/// A service for tests of addresses only.
#[jsoncomm::service(name = "tests.door")]
trait Door {
    #[oneway]
    fn knock(&mut self);
}

#[derive(Debug, Default)]
struct Knocks(u32);

impl Door for Knocks {
    fn knock(&mut self) {
        self.0 += 1;
    }
}

#[test]
fn a_datagram_sent_right_after_bind_carries_credentials() {
    alone!();
    for _ in 0..400 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let client = std::thread::spawn({
            let (path, until) = (path.clone(), Instant::now() + PATIENCE);
            move || loop {
                match Connection::connect(&path, Kind::Datagram) {
                    Ok(connection) => return DoorClient::new(connection).knock(),
                    Err(_) => {
                        assert!(Instant::now() < until);
                        std::thread::yield_now();
                    }
                }
            }
        });
        let mut server = Server::new(Limits::default()).unwrap();
        let endpoint = server.bind(&path, Kind::Datagram).unwrap();
        let me = rustix::process::geteuid().as_raw();
        endpoint
            .authorize(move |peer| peer.uid() == me)
            .serve::<dyn Door>();
        client.join().unwrap().unwrap();
        let mut knocks = Knocks::default();
        while server.counts().received == 0 {
            let _ = server.run_once(&mut knocks, Some(PATIENCE)).unwrap();
        }
        assert_eq!(knocks.0, 1);
    }
}

#[test]
fn a_server_whose_directory_was_deleted_stops_cleanly() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        let path = below.join("a.sock");
        std::fs::create_dir(&below).unwrap();
        let bound = Bound::at(&path, kind).unwrap();
        std::fs::remove_dir_all(&below).unwrap();
        assert_eq!(problem(Bound::at(&path, kind)), AddressProblem::NoDirectory);
        // A directory of the same path that is made later is not touched.
        std::fs::create_dir(&below).unwrap();
        let other = Bound::at(&path, kind).unwrap();
        drop(bound);
        other.reached_at(&path);
    }
    assert_open_fds(before);
}

#[test]
fn bind_follows_symlinks_to_the_directory_and_connect_follows_all() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let bound = Bound::at(link.join("a.sock"), kind).unwrap();
        let last = directory.path().join("last.sock");
        std::os::unix::fs::symlink("link/a.sock", &last).unwrap();
        // The server keeps the directory open, not the symlink.
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        bound.reached_at(&last);
        assert!(!real.join("a.sock").exists());
    }
}

#[test]
fn a_socket_of_the_wrong_type_is_refused_and_the_server_unchanged() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let before = open_fds();
    let mut server: Server<Knocks> = Server::new(Limits::default()).unwrap();
    let with_server = open_fds();
    let family = rustix::net::AddressFamily::UNIX;
    let wrong: [OwnedFd; 5] = [
        UnixListener::bind(path("stream")).unwrap().into(),
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap(),
        File::open("/dev/null").unwrap().into(),
    ];
    for fd in wrong {
        let problem = problem(server.adopt(fd));
        assert!(
            matches!(problem, AddressProblem::WrongSocket { .. }),
            "{problem:?}"
        );
    }
    assert_open_fds(with_server);
    for kind in KINDS {
        let path = path("right");
        let bound = Bound::at(&path, kind).unwrap();
        let fd = bound.as_fd().try_clone_to_owned().unwrap();
        let endpoint = server.adopt(fd).unwrap().serve::<dyn Door>();
        let token = endpoint.token();
        DoorClient::new(Connection::open(&path).unwrap())
            .knock()
            .unwrap();
        let mut knocks = Knocks::default();
        while knocks.0 == 0 {
            let _ = server.run_once(&mut knocks, Some(PATIENCE)).unwrap();
        }
        assert!(server.remove(token));
        assert!(path.exists(), "not ours to remove");
    }
    drop(server);
    assert_open_fds(before);
}
