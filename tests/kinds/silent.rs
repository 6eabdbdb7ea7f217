//! A file of a file system whose daemon does not answer (FUSE).

use super::*;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};

use jsoncomm::socket::Socket;
use jsoncomm_tests::{PATIENCE, skip};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// The daemon has answered until the file was open, and then never again.
struct Silent {
    file: OwnedFd,
    daemon: Child,
}

#[derive(Debug, Message)]
struct Opened {
    #[fd]
    file: OwnedFd,
}

impl Silent {
    /// Mounts it in a namespace of mounts of its own; `None` where that is not permitted.
    fn mount() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/kinds/silent.py");
        let ways = [&["-m"][..], &["-U", "-r", "-m"]];
        ways.into_iter().find_map(|options| {
            let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
            let (near, far) = socketpair(unix, seqpacket, SocketFlags::CLOEXEC, None).unwrap();
            let mut near = Socket::from_fd(near).unwrap();
            near.set_timeout(Some(PATIENCE));
            let mut command = Command::new("unshare");
            command.args(options).args(["python3", "-B", script]);
            command
                .stdin(far)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut daemon = command.spawn().ok()?;
            // Its end of the socket.
            drop(command);
            let Ok((Opened { file }, _)) = near.receive() else {
                daemon.kill().unwrap();
                daemon.wait().unwrap();
                return None;
            };
            let silent = Self { file, daemon };
            let (folder, _) = near.receive::<String>().unwrap();
            std::fs::remove_dir(folder).unwrap();
            Some(silent)
        })
    }

    /// Ends the daemon. What waits for it goes on.
    fn end(mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

/// The file is closed afterwards, which would wait.
impl Drop for Silent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[jsoncomm::service(name = "test.kinds")]
trait Keeps {
    fn regular(&mut self, #[fd(regular, read)] fd: OwnedFd) -> usize;
    fn any(&mut self, #[fd] fd: OwnedFd) -> usize;
    fn directory(&mut self, #[fd(directory)] fd: OwnedFd) -> usize;
    fn memfd(&mut self, #[fd(memfd)] fd: OwnedFd) -> usize;
    fn pidfd(&mut self, #[fd(pidfd)] fd: OwnedFd) -> usize;
    fn socket(&mut self, #[fd(socket)] fd: OwnedFd) -> usize;
    fn pipe(&mut self, #[fd(pipe)] fd: OwnedFd) -> usize;
    fn path(&mut self, #[fd(path)] fd: OwnedFd) -> usize;
    fn stream(&mut self, #[fd] fd: UnixStream) -> usize;
    fn input(&mut self, #[fd] fd: ChildStdin) -> usize;
    fn endpoint(&mut self, #[fd] fd: Connection) -> usize;
    fn ping(&mut self) -> usize;
}

/// The files that it has accepted, which are not closed before the daemon has ended.
#[derive(Default)]
struct Kept(Vec<OwnedFd>);

impl Kept {
    fn keep(&mut self, fd: impl Into<OwnedFd>) -> usize {
        self.0.push(fd.into());
        self.0.len()
    }
}

macro_rules! keep {
    ($($method:ident: $ty:ty),*) => {
        impl Keeps for Kept {
            $(fn $method(&mut self, fd: $ty) -> usize {
                self.keep(fd)
            })*

            fn endpoint(&mut self, _: Connection) -> usize {
                unreachable!()
            }

            fn ping(&mut self) -> usize {
                self.0.len()
            }
        }
    };
}

keep!(
    regular: OwnedFd, any: OwnedFd, directory: OwnedFd, memfd: OwnedFd, pidfd: OwnedFd,
    socket: OwnedFd, pipe: OwnedFd, path: OwnedFd, stream: UnixStream, input: ChildStdin
);

#[test]
fn a_file_whose_file_system_does_not_answer_delays_nobody() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let Some(silent) = Silent::mount() else {
            return skip("no FUSE file system can be mounted here");
        };
        assert_eq!(FdKind::of(&silent.file).to_string(), "regular, read, write");
        let server = Running::start(kind, Kept::default(), |endpoint| {
            endpoint.serve::<dyn Keeps>()
        });
        let connection = server.connect();
        let other = KeepsClient::new(server.connect());
        let mut kept = 0;
        for method in ["regular", "any"] {
            kept += 1;
            let came = call_untyped(&connection, method, &silent.file).unwrap();
            assert_eq!(came, json!(kept));
        }
        for method in [
            "directory",
            "memfd",
            "pidfd",
            "socket",
            "pipe",
            "path",
            "stream",
            "input",
            "endpoint",
        ] {
            let refused = call_untyped(&connection, method, &silent.file);
            let Err(CallError::Fault(fault)) = refused else {
                panic!("{method}: {refused:?}");
            };
            assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS, "{method}: {fault}");
            assert_eq!(other.ping().unwrap(), kept, "{method}");
        }
        drop((connection, other));
        silent.end();
        server.stop();
    }
    assert_open_fds(before);
}
