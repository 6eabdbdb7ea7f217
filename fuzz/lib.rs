//! Shared by the fuzz targets: descriptors to send, sending, and counting open descriptors.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};

/// The datagram whose text travels in a memfd.
pub const VIA_FD: &[u8] = b"<args-via-fd>";

/// How to send a text: the byte in front of it. `0` to `5` is the number of descriptors. `8` to `=` is the same with the
/// text in a memfd. `@` to `E` and `H` to `M` are these on the other side.
#[derive(Debug, Clone, Copy)]
pub struct Header(pub u8);

impl Header {
    /// Returns how many descriptors to send, 0 to 5.
    pub fn count(self) -> usize {
        usize::from(self.0 & 7) % 6
    }

    /// Returns true if the text travels in a memfd.
    pub fn is_spilled(self) -> bool {
        self.0 & 8 != 0
    }

    /// Returns true for the other kind of socket, or the other client.
    pub fn is_other(self) -> bool {
        self.0 & 0x40 != 0
    }
}

/// One descriptor of each kind that the library distinguishes.
#[derive(Debug)]
pub struct Cargo {
    fds: Vec<OwnedFd>,
}

impl Cargo {
    /// Opens the descriptors.
    pub fn new() -> Self {
        let null = File::open("/dev/null").expect("/dev/null").into();
        let (pipe, _) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (socket, _) = UnixStream::pair().expect("a socket");
        let zero = File::open("/dev/zero").expect("/dev/zero").into();
        let fds = vec![memfd(br#"{"number":1}"#), null, pipe, socket.into(), zero];
        Self { fds }
    }

    /// Sends a text as the header says. Returns true if there was room and a receiver.
    pub fn send(&self, socket: impl AsFd, header: Header, text: &[u8]) -> bool {
        let own = self.fds.iter().take(header.count()).map(AsFd::as_fd);
        if header.is_spilled() {
            let memfd = memfd(text);
            let fds: Vec<_> = std::iter::once(memfd.as_fd()).chain(own).collect();
            return send(socket, VIA_FD, &fds);
        }
        send(socket, text, &own.collect::<Vec<_>>())
    }
}

impl Default for Cargo {
    fn default() -> Self {
        Self::new()
    }
}

/// Creates a sealed memfd with this text.
fn memfd(text: &[u8]) -> OwnedFd {
    let fd = memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memfd");
    let written = rustix::io::write(&fd, text).expect("memory");
    assert_eq!(written, text.len());
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).expect("seals");
    fd
}

/// Sends bytes and descriptors without waiting. Returns true if there was room and a receiver.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
        Ok(_) => true,
        Err(Errno::AGAIN | Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED) => false,
        Err(error) => panic!("sendmsg: {error}"),
    }
}

/// Panics if more descriptors are open than at the first call. Checks at every 64th.
pub fn assert_nothing_leaks() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static BEFORE: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    if call % 64 != 0 {
        return;
    }
    if call == 0 {
        BEFORE.store(open_fds(), Ordering::Relaxed);
    }
    // Unclaimed descriptors are closed on another thread.
    let until = Instant::now() + Duration::from_secs(10);
    while open_fds() > BEFORE.load(Ordering::Relaxed) {
        assert!(
            Instant::now() < until,
            "descriptors are left: {}",
            listing()
        );
        std::thread::yield_now();
    }
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

fn listing() -> String {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.map(|link| format!("{} ", link.display())).collect()
}
