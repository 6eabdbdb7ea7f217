//! The open unix sockets, from the kernel ([sock_diag(7)]): which files are bound, and who has them open. Connects to none.
//!
//! [sock_diag(7)]: https://man7.org/linux/man-pages/man7/sock_diag.7.html

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE`
const ENDS: [u16; 2] = [2, 3];
/// `UDIAG_SHOW_VFS | UDIAG_SHOW_UID`
const SHOW: u32 = 2 | 0x40;
/// `UNIX_DIAG_VFS`
const VFS: u16 = 1;
/// `UNIX_DIAG_UID`
const UID: u16 = 7;
/// `sizeof(struct nlmsghdr)` and `sizeof(struct unix_diag_msg)`
const HEADER: usize = 16;
/// `sizeof(struct nlattr)`
const ATTRIBUTE: usize = 4;
/// `TCP_LISTEN`
const LISTEN: u8 = 10;
/// `SOCK_DGRAM`
const DGRAM: u8 = 2;

/// A socket that receives at a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    /// The socket's own number, by which `/proc` names it.
    inode: u32,
    /// The file's inode number, its lower half, and its device.
    file: (u32, u32),
    /// The user who made the socket; unknown before Linux 5.3.
    pub(crate) user: Option<u32>,
}

/// Returns the sockets that are bound to a file, and listen or receive datagrams. Fails where the kernel or a sandbox does not
/// tell.
pub(crate) fn open_sockets() -> Result<Vec<Open>, Errno> {
    let of = (AddressFamily::NETLINK, SocketType::RAW);
    let kernel = socket_with(of.0, of.1, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&kernel, &request(), SendFlags::NOSIGNAL)?;
    let mut buffer = vec![0; 1 << 16];
    let mut open = Vec::new();
    loop {
        let (length, _) = recv(&kernel, &mut *buffer, RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Err(Errno::IO);
        }
        while let (Some(size), Some(kind)) = (read_u32(rest, 0), read_u16(rest, 4)) {
            if ENDS.contains(&kind) {
                // A negative error number, or nothing.
                return match read_u32(rest, HEADER).unwrap_or_default() {
                    0 => Ok(open),
                    error => Err(errno(error)),
                };
            }
            let size = usize::try_from(size).unwrap_or(usize::MAX).max(HEADER);
            let message = rest.get(HEADER..size).unwrap_or_default();
            open.extend(read(message));
            let next = size.checked_next_multiple_of(4).unwrap_or(usize::MAX);
            rest = rest.get(next..).unwrap_or_default();
        }
    }
}

fn errno(negative: u32) -> Errno {
    let number = i32::try_from(negative.wrapping_neg()).unwrap_or_default();
    Errno::from_raw_os_error(number)
}

/// Returns the open socket of a file.
pub(crate) fn of_file<'o>(open: &'o [Open], path: &Path) -> Option<&'o Open> {
    let file = fs::symlink_metadata(path).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    // As the kernel has it: 12 bits and 20.
    let device = major << 20 | minor;
    let bytes = file.ino().to_le_bytes();
    let inode = read_u32(&bytes, 0).map(u32::from_le)?;
    open.iter().find(|open| open.file == (inode, device))
}

/// Writes a `struct nlmsghdr` and a `struct unix_diag_req` about all sockets.
fn request() -> Vec<u8> {
    const LENGTH: u32 = 40;
    let [family, _] = AddressFamily::UNIX.as_raw().to_le_bytes();
    let states = u32::MAX;
    let numbers = [states, 0, SHOW, 0, 0].map(u32::to_ne_bytes);
    let kind_and_flags = [BY_FAMILY, DUMP].map(u16::to_ne_bytes);
    [
        &LENGTH.to_ne_bytes()[..],
        kind_and_flags.as_flattened(),
        &[0; 8],
        &[family, 0, 0, 0],
        numbers.as_flattened(),
    ]
    .concat()
}

/// Reads a `struct unix_diag_msg` and its attributes. `None` if the socket is at no file, or does not receive there.
fn read(message: &[u8]) -> Option<Open> {
    let [_, kind, state, ..] = *message else {
        return None;
    };
    if kind != DGRAM && state != LISTEN {
        return None;
    }
    let inode = read_u32(message, 4)?;
    let (mut file, mut user) = (None, None);
    let mut rest = message.get(HEADER..)?;
    while let (Some(length), Some(kind)) = (read_u16(rest, 0), read_u16(rest, 2)) {
        match kind {
            VFS => file = read_u32(rest, ATTRIBUTE).zip(read_u32(rest, 2 * ATTRIBUTE)),
            UID => user = read_u32(rest, ATTRIBUTE),
            _ => {}
        }
        let next = usize::from(length).max(ATTRIBUTE).next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
    }
    let file = file?;
    Some(Open { inode, file, user })
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let number = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(number.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(number.try_into().ok()?))
}

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// What the process calls itself.
    pub(crate) name: String,
}

impl Holder {
    /// Returns true if it is a service manager, which holds sockets of services that it starts when they are used.
    pub(crate) fn is_manager(&self) -> bool {
        self.pid == 1 || self.name == "systemd" || self.name.starts_with("systemd-socket")
    }
}

/// The processes that have sockets open, by the sockets' numbers.
#[derive(Debug)]
pub(crate) struct Holders(HashMap<u32, Vec<Holder>>);

impl Holders {
    /// Looks at all processes. Only root sees the descriptors of other users' processes.
    pub(crate) fn all() -> Self {
        let mut holders: HashMap<u32, Vec<Holder>> = HashMap::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let mut sockets: Vec<u32> = sockets(&process.path().join("fd")).collect();
            sockets.sort_unstable();
            sockets.dedup();
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            for socket in sockets {
                let name = name.trim_end().to_owned();
                holders
                    .entry(socket)
                    .or_default()
                    .push(Holder { pid, name });
            }
        }
        Self(holders)
    }

    /// Returns the processes that have this socket open, as far as they can be seen.
    pub(crate) fn of(&self, open: &Open) -> &[Holder] {
        self.0.get(&open.inode).map_or(&[], Vec::as_slice)
    }
}

/// Returns the numbers of the sockets in a folder of descriptors.
fn sockets(fds: &Path) -> impl Iterator<Item = u32> {
    let fds = fs::read_dir(fds).into_iter().flatten().flatten();
    fds.filter_map(|fd| {
        let target = fs::read_link(fd.path()).ok()?;
        let number = target.to_str()?.strip_prefix("socket:[")?;
        number.strip_suffix(']')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn the_open_socket_of_a_file_is_found_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["stream", "datagrams"].map(|name| folder.path().join(name));
        let listener = UnixListener::bind(&paths[0]).unwrap();
        let socket = UnixDatagram::bind(&paths[1]).unwrap();
        let Ok(open) = open_sockets() else {
            return;
        };
        for path in &paths {
            assert!(of_file(&open, path).is_some(), "{path:?}: {open:?}");
        }
        let holders = Holders::all();
        let found = of_file(&open, &paths[0]).unwrap();
        if jsoncomm_tests::has_proc() {
            let pids = holders.of(found).iter().map(|holder| holder.pid);
            assert_eq!(pids.collect::<Vec<_>>(), [std::process::id()]);
        }
        drop((listener, socket));
        let open = open_sockets().unwrap();
        assert!(paths.iter().all(|path| of_file(&open, path).is_none()));
    }

    #[test]
    fn damaged_messages_are_no_sockets() {
        assert_eq!(read(&[]), None);
        let mut message = vec![0; HEADER];
        (message[1], message[2]) = (1, LISTEN);
        assert_eq!(read(&message), None, "without a file");
        for half in [12_u16, VFS, 7, 0, 9, 0] {
            message.extend(half.to_ne_bytes());
        }
        let whole = read(&message);
        assert!(whole.is_some_and(|open| open.user.is_none()));
        assert_eq!(read(&message[..message.len() - 1]), None);
    }
}
