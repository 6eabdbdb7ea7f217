//! Files that are already at the path: which are replaced, and which server gets the path.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::sync::{Arc, Barrier, mpsc};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};

use super::*;

/// Returns what identifies a file, with its owner and mode.
fn stamp(path: &Path) -> (u64, u64, u32, u32) {
    let data = std::fs::symlink_metadata(path).unwrap();
    (data.dev(), data.ino(), data.mode(), data.uid())
}

/// Binds a plain socket.
fn bare(path: &Path, of: SocketType) -> OwnedFd {
    let fd = socket(AddressFamily::UNIX, of, None).unwrap();
    bind(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
    fd
}

const TYPES: [SocketType; 3] = [SocketType::DGRAM, SocketType::SEQPACKET, SocketType::STREAM];

#[test]
fn a_dead_socket_of_any_type_is_replaced() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        for of in TYPES {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.sock");
            drop(bare(&path, of));
            let bound = Bound::at(&path, kind).unwrap();
            bound.reached_at(&path);
            assert!(!path.exists());
        }
    }
    assert_open_fds(before);
}

#[test]
fn a_server_replaces_a_dead_socket_also_beyond_sun_path() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let (_directory, deep) = deep();
        let path = deep.join("a.sock");
        let bound = Bound::at(&path, kind).unwrap();
        // Another hard link to the dead socket: the link at the path to bind is replaced.
        let dead = deep.join("dead.sock");
        std::fs::hard_link(&path, &dead).unwrap();
        drop(bound);
        let mut server = Server::new(Limits::default()).unwrap();
        server.bind(&dead, kind).unwrap().serve::<dyn Door>();
        let connection = Connection::open(&dead).unwrap();
        DoorClient::new(connection).knock().unwrap();
        let mut knocks = Knocks::default();
        while knocks.0 == 0 {
            let _ = server.run_once(&mut knocks, Some(PATIENCE)).unwrap();
        }
        drop(server);
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_is_not_a_socket_is_never_replaced() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        File::create(path("file"))
            .unwrap()
            .write_all(b"content")
            .unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        drop(bare(&path("dead"), SocketType::DGRAM));
        symlink("file", path("to a file")).unwrap();
        symlink("dead", path("to a dead socket")).unwrap();
        symlink("nothing", path("to nothing")).unwrap();
        symlink("directory", path("to a directory")).unwrap();
        let fifo = rustix::fs::CWD;
        rustix::fs::mknodat(
            fifo,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for (name, found) in [
            ("file", "a file"),
            ("directory", "a directory"),
            ("to a file", "a symbolic link"),
            ("to a dead socket", "a symbolic link"),
            ("to nothing", "a symbolic link"),
            ("to a directory", "a symbolic link"),
            ("fifo", "a special file"),
        ] {
            let before = stamp(&path(name));
            let problem = problem(Bound::at(path(name), kind));
            assert_eq!(problem, AddressProblem::NotASocket { found }, "{name}");
            assert_eq!(stamp(&path(name)), before, "{name}");
        }
        assert_eq!(std::fs::read(path("file")).unwrap(), b"content");
        assert!(!path("nothing").exists());
        assert!(path("dead").exists());
    }
    assert_open_fds(before);
}

/// Asserts that the path is in use, and stays so.
#[track_caller]
fn assert_is_live(path: &Path) {
    let before = stamp(path);
    for kind in KINDS {
        assert_eq!(problem(Bound::at(path, kind)), AddressProblem::InUse);
    }
    assert_eq!(stamp(path), before);
}

#[test]
fn a_live_socket_is_never_replaced() {
    alone!();
    let before = open_fds();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for kind in KINDS {
        let live = Bound::at(path("ours"), kind).unwrap();
        assert_is_live(&path("ours"));
        live.reached_at(path("ours"));
    }
    for of in TYPES {
        let path = path(&format!("{of:?}"));
        let fd = bare(&path, of);
        assert_is_live(&path);
        if of == SocketType::DGRAM {
            // A datagram socket that is connected elsewhere refuses other senders.
            let other = bare(&path.with_extension("other"), of);
            let address = SocketAddrUnix::new(path.with_extension("other")).unwrap();
            connect(&fd, &address).unwrap();
            assert_is_live(&path);
            drop(other);
            continue;
        }
        listen(&fd, 0).unwrap();
        assert_is_live(&path);
        // The backlog has no room for another client.
        let client = socket(AddressFamily::UNIX, of, None).unwrap();
        connect(&client, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        assert_is_live(&path);
    }
    assert_open_fds(before);
}

#[test]
fn probing_a_live_listener_leaves_no_trace() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let listener = Listener::bind(&path).unwrap();
    assert_is_live(&path);
    assert!(listener.accept().unwrap().is_none());
}

#[test]
fn a_dead_socket_of_another_user_stays_unless_that_user_is_the_requested_owner() {
    /// An arbitrary user.
    const OWNER: u32 = 54_321;
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(bare(&path, SocketType::DGRAM));
        if chown(&path, Some(OWNER), None).is_err() {
            return skip("only root can change the owner of files");
        }
        let before = stamp(&path);
        let foreign = AddressProblem::Foreign { owner: OWNER };
        assert_eq!(problem(Bound::at(&path, kind)), foreign);
        let at = Bind::at(&path).owner(OWNER + 1);
        assert_eq!(problem(Bound::at(at, kind)), foreign);
        assert_eq!(stamp(&path), before);
        let bound = Bound::at(Bind::at(&path).owner(OWNER), kind).unwrap();
        assert_eq!(stamp(&path).3, OWNER);
        bound.reached_at(&path);
        // A live socket of another user is live.
        let _live = bare(&path, SocketType::DGRAM);
        chown(&path, Some(OWNER), None).unwrap();
        assert_is_live(&path);
    }
}

#[test]
fn of_four_servers_that_replace_a_dead_socket_exactly_one_succeeds() {
    const STARTERS: usize = 4;
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let barrier = Arc::new(Barrier::new(STARTERS + 1));
    for kind in KINDS {
        for round in 0..500 {
            drop(bare(&path, SocketType::STREAM));
            let starters: Vec<_> = (0..STARTERS)
                .map(|_| {
                    let (path, barrier) = (path.clone(), Arc::clone(&barrier));
                    std::thread::spawn(move || {
                        barrier.wait();
                        Bound::at(&path, kind)
                    })
                })
                .collect();
            barrier.wait();
            let mut owner = None;
            for starter in starters {
                match starter.join().unwrap() {
                    Ok(bound) => assert!(owner.replace(bound).is_none(), "round {round}"),
                    Err(error) => {
                        let problem = problem::<()>(Err(error));
                        assert_eq!(problem, AddressProblem::InUse, "round {round}");
                    }
                }
            }
            owner.unwrap().reached_at(&path);
            assert!(!path.exists());
        }
    }
}

#[test]
fn a_server_that_stops_never_unlinks_the_socket_of_its_successor() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    for kind in KINDS {
        let mut bound = Bound::at(&path, kind).unwrap();
        for _ in 0..1000 {
            let next = std::thread::spawn({
                let (path, until) = (path.clone(), Instant::now() + PATIENCE);
                move || loop {
                    match Bound::at(&path, kind) {
                        Ok(bound) => return bound,
                        Err(_) => {
                            assert!(Instant::now() < until);
                            std::thread::yield_now();
                        }
                    }
                }
            });
            drop(bound);
            bound = next.join().unwrap();
            assert!(path.exists());
        }
        bound.reached_at(&path);
    }
}

#[test]
fn a_directory_that_stays_locked_is_an_error_after_a_timeout() {
    alone!();
    let before = open_fds();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let lock = File::open(directory.path()).unwrap();
    flock(&lock, FlockOperation::LockShared).unwrap();
    let (done, is_done) = mpsc::channel();
    let threads = KINDS.map(|kind| {
        let (path, done) = (path.clone(), done.clone());
        std::thread::spawn(move || done.send(problem(Bound::at(path, kind))))
    });
    for thread in threads {
        let told = is_done.recv_timeout(PATIENCE).unwrap();
        assert_eq!(told, AddressProblem::Locked);
        thread.join().unwrap().unwrap();
    }
    assert!(!path.exists());
    drop(lock);
    assert_open_fds(before);
}

#[test]
fn binding_waits_for_the_directory_lock_and_releases_it() {
    alone!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let lock = File::open(directory.path()).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let (done, is_done) = mpsc::channel();
        let thread = std::thread::spawn({
            let path = path.clone();
            move || done.send(Bound::at(path, kind)).is_ok()
        });
        let waits = is_done.recv_timeout(Duration::from_millis(30)).is_err();
        assert!(waits && !path.exists());
        flock(&lock, FlockOperation::Unlock).unwrap();
        let bound = is_done.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(thread.join().unwrap());
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        bound.reached_at(&path);
    }
}
