//! Descriptors of every kind, and what each is.

use std::fs::{File, OpenOptions};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use jsoncomm::fds::FdKind;
use jsoncomm_tests::{has_linux, has_proc, skip};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

/// A descriptor to send.
pub(super) struct Sent {
    pub(super) name: &'static str,
    pub(super) fd: OwnedFd,
    /// The words for what it is.
    is: &'static str,
}

impl Sent {
    pub(super) fn kind(&self) -> FdKind {
        let words = self.is.split(", ").map(|word| FdKind::named(word).unwrap());
        words.fold(FdKind::ANY, FdKind::and)
    }
}

/// Returns one of each, as far as this machine has them.
pub(super) fn all() -> Vec<Sent> {
    let all = [files(), memory(), pipes(), sockets(), processes()];
    all.into_iter().flatten().collect()
}

fn sent(name: &'static str, fd: impl Into<OwnedFd>, is: &'static str) -> Sent {
    let fd = fd.into();
    Sent { name, fd, is }
}

/// Opens with `O_PATH`.
fn path_of(path: impl AsRef<Path>) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path.as_ref(), flags, Mode::empty()).unwrap()
}

fn files() -> Vec<Sent> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let mut all = vec![
        sent("a directory", File::open("/").unwrap(), "directory, read"),
        sent("the path of a directory", path_of("/"), "directory, path"),
        sent("a device", null, "device, read, write"),
    ];
    // A file on proc is certain not to be on tmpfs. A sandbox may have made proc read-only.
    let comm = "/proc/self/comm";
    if OpenOptions::new().write(true).open(comm).is_err() {
        return all;
    }
    let open = |read, write| {
        OpenOptions::new()
            .read(read)
            .write(write)
            .open(comm)
            .unwrap()
    };
    all.extend([
        sent("a file for reading", open(true, false), "regular, read"),
        sent("a file for writing", open(false, true), "regular, write"),
        sent("a file for both", open(true, true), "regular, read, write"),
        sent("the path of a file", path_of(comm), "regular, path"),
        sent("the path of a link", path_of("/proc/self/exe"), "path"),
    ]);
    all
}

/// Opens a descriptor's file anew.
fn again(fd: impl AsFd, flags: OFlags) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn memory() -> Vec<Sent> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let sealed = |seals| {
        let fd = memfd_create("test", flags).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    let size = SealFlags::SHRINK | SealFlags::GROW;
    let plain = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    let mut all = vec![
        sent(
            "a memfd whose size is sealed",
            sealed(size),
            "regular, memfd, read, write",
        ),
        sent(
            "a sealed memfd",
            sealed(size | SealFlags::WRITE),
            "regular, memfd(sealed), read, write",
        ),
    ];
    if has_proc() {
        all.extend([
            sent(
                "a memfd for reading",
                again(&plain, OFlags::RDONLY),
                "regular, memfd, read",
            ),
            sent(
                "the path of a memfd",
                again(&plain, OFlags::PATH),
                "regular, path",
            ),
        ]);
    }
    all.push(sent("a memfd", plain, "regular, memfd, read, write"));
    /// linux/magic.h
    const TMPFS: u64 = 0x0102_1994;
    let shared = "/dev/shm";
    let on_tmpfs = rustix::fs::statfs(shared).is_ok_and(|stat| stat.f_type as u64 == TMPFS);
    let unnamed = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(shared);
    match unnamed {
        Ok(file) if on_tmpfs => {
            all.push(sent("a file on tmpfs", file, "regular, memfd, read, write"))
        }
        _ => skip("no file can be made on tmpfs"),
    }
    all
}

fn pipes() -> Vec<Sent> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    vec![
        sent("a pipe to read", reader, "pipe, read"),
        sent("a pipe to write", writer, "pipe, write"),
        sent("the path of a FIFO", path_of(&fifo), "pipe, path"),
        sent(
            "a FIFO for both",
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&fifo)
                .unwrap(),
            "pipe, read, write",
        ),
    ]
}

fn sockets() -> Vec<Sent> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (seqpacket, _) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let mut all = vec![
        sent(
            "a stream",
            UnixStream::pair().unwrap().0,
            "socket(stream), read, write",
        ),
        sent(
            "a listening socket",
            listener,
            "socket(stream), read, write",
        ),
        sent(
            "a datagram socket",
            UnixDatagram::unbound().unwrap(),
            "socket(datagram), read, write",
        ),
        sent(
            "a seqpacket socket",
            seqpacket,
            "socket(seqpacket), read, write",
        ),
        sent("the path of a socket file", path_of(&path), "path"),
    ];
    let tcp = TcpListener::bind("127.0.0.1:0");
    let udp = UdpSocket::bind("127.0.0.1:0");
    if let (Ok(tcp), Ok(udp)) = (tcp, udp) {
        all.push(sent("a TCP socket", tcp, "socket(stream), read, write"));
        all.push(sent("a UDP socket", udp, "socket(datagram), read, write"));
    }
    all
}

fn processes() -> Vec<Sent> {
    let counter = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let mut all = vec![sent("an eventfd", counter, "read, write")];
    if has_proc() {
        let process = File::open("/proc/self").unwrap();
        all.push(sent(
            "the directory of a process",
            process,
            "directory, read",
        ));
    }
    if has_linux((5, 4)) {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        all.push(sent("a pidfd", own, "pidfd, read, write"));
    }
    all
}
