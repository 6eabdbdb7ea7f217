//! Socket diagnostics from the kernel: [sock_diag(7)], which `ss` uses as well.
//!
//! [sock_diag(7)]: https://man7.org/linux/man-pages/man7/sock_diag.7.html

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::optional::Optional;
use super::socket::{Kind, socket};
use super::{OsError, OsResult, call};

/// `SOCK_DIAG_BY_FAMILY`, of request and response.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
/// `UDIAG_SHOW_PEER`
const SHOW_PEER: u32 = 4;
/// `UNIX_DIAG_PEER`
const PEER: u16 = 2;
/// `sizeof(struct nlmsghdr)`
const HEADER: usize = 16;
/// `sizeof(struct unix_diag_msg)`
const MESSAGE: usize = 16;
/// `sizeof(struct nlattr)`
const ATTRIBUTE: usize = 4;

/// Returns true if the peer that this unix socket is connected to is still open.
///
/// A datagram socket holds on to a peer that has been closed, but the kernel then no longer reports an inode for it. So
/// the result is right even if another socket has taken the peer's name, or if the name was removed while the peer is
/// open. Sends nothing to the peer and leaves its queue alone. Never waits.
///
/// Five system calls. `None` if the kernel is built without `CONFIG_UNIX_DIAG` (since Linux 3.3) or a sandbox forbids netlink,
/// which costs no system calls from then on, and for the sockets of another network namespace.
pub(crate) fn has_peer(socket: BorrowedFd<'_>) -> Option<bool> {
    static SOCK_DIAG: Optional = Optional::new("sock_diag");
    let peer = SOCK_DIAG.call(|| match find_peer(socket) {
        Err(error) if error.errno == Errno::NOENT && !has_unix_diag() => Err(OsError {
            errno: Errno::OPNOTSUPP,
            ..error
        }),
        result => result,
    });
    peer.ok().flatten().map(|inode| inode != 0)
}

/// Returns false if the kernel does not know a socket that there is. Each question makes it look for a module then.
fn has_unix_diag() -> bool {
    let own = socket(Kind::Datagram);
    own.is_ok_and(|own| find_peer(own.as_fd()).is_ok())
}

/// Returns the inode of the peer: 0 if it has been closed or there is none. `ENOENT` if the kernel does not find the socket,
/// or can find none.
fn find_peer(socket: BorrowedFd<'_>) -> OsResult<u32> {
    let inode = call("fstat", || {
        let inode = rustix::fs::fstat(socket)?.st_ino;
        u32::try_from(inode).map_err(|_| Errno::OVERFLOW)
    })?;
    let netlink = call("socket", || {
        rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )
    })?;
    call("send", || {
        rustix::net::send(&netlink, &request(inode), SendFlags::NOSIGNAL)
    })?;
    let mut buffer = [0; 256];
    // The response is queued before send returns.
    call("recv", || {
        let (length, _) = rustix::net::recv(&netlink, &mut buffer, RecvFlags::DONTWAIT)?;
        peer_inode(buffer.get(..length).unwrap_or_default()).ok_or(Errno::NOENT)
    })
}

/// Writes a `struct nlmsghdr` and a `struct unix_diag_req` about one socket.
fn request(inode: u32) -> Vec<u8> {
    const LENGTH: u32 = 40;
    let [family, _] = AddressFamily::UNIX.as_raw().to_le_bytes();
    // Any state; any cookie.
    let numbers = [u32::MAX, inode, SHOW_PEER, u32::MAX, u32::MAX].map(u32::to_ne_bytes);
    let kind_and_flags = [BY_FAMILY, REQUEST].map(u16::to_ne_bytes);
    let (length, sequence_and_port) = (LENGTH.to_ne_bytes(), [0; 8]);
    [
        &length[..],
        kind_and_flags.as_flattened(),
        &sequence_and_port,
        // One byte of family, one of protocol, two of padding.
        &[family, 0, 0, 0],
        numbers.as_flattened(),
    ]
    .concat()
}

/// Reads the peer's inode from a response: 0 if the peer has been closed or there is none. `None` if this is no response.
fn peer_inode(response: &[u8]) -> Option<u32> {
    if read_u16(response, 4)? != BY_FAMILY {
        return None;
    }
    let mut rest = response.get(HEADER + MESSAGE..)?;
    while let (Some(length), Some(kind)) = (read_u16(rest, 0), read_u16(rest, 2)) {
        if kind == PEER {
            let number = rest.get(ATTRIBUTE..ATTRIBUTE + 4)?;
            return Some(u32::from_ne_bytes(number.try_into().ok()?));
        }
        let next = usize::from(length).max(ATTRIBUTE).next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
    }
    Some(0)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let number = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(number.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::control::{self, Wait};
    use super::super::name::Name;
    use super::super::socket::{self, Kind};
    use super::*;
    use std::os::fd::OwnedFd;

    /// Calls [`has_peer`]; `None` where the kernel does not support it.
    fn look(socket: &OwnedFd) -> Option<bool> {
        has_peer(socket.as_fd())
    }

    fn bound(name: &Name) -> OwnedFd {
        let server = socket::socket(Kind::Datagram).unwrap();
        socket::bind(server.as_fd(), name).unwrap();
        server
    }

    #[test]
    fn a_closed_peer_is_reported_and_its_messages_stay_queued() {
        let (left, right) = socket::socketpair(Kind::Datagram).unwrap();
        if look(&left).is_none() {
            return;
        }
        assert_eq!(look(&left), Some(true));
        socket::sendmsg(right.as_fd(), b"last", &[], None, Wait::Never).unwrap();
        let second_holder = right.try_clone().unwrap();
        drop(right);
        assert_eq!(look(&left), Some(true), "another descriptor is open");
        drop(second_holder);
        assert_eq!(look(&left), Some(false));
        let arrived = control::recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
        assert_eq!(arrived.length, 4);
        let alone = socket::socket(Kind::Datagram).unwrap();
        assert_eq!(look(&alone), Some(false), "never connected");
    }

    #[test]
    fn another_socket_with_the_peers_name_is_not_the_peer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let name = Name::from_path(path.as_os_str()).unwrap();
        let first = bound(&name);
        let client = socket::socket(Kind::Datagram).unwrap();
        socket::connect(client.as_fd(), &name).unwrap();
        if look(&client).is_none() {
            return;
        }
        std::fs::remove_file(&path).unwrap();
        let _second = bound(&name);
        assert_eq!(
            look(&client),
            Some(true),
            "the first lives without its name"
        );
        drop(first);
        assert_eq!(look(&client), Some(false));
    }

    #[test]
    fn a_message_that_is_no_response_has_no_peer() {
        assert_eq!(peer_inode(&[]), None);
        let mut error = [0; 36];
        error[4] = 2;
        assert_eq!(peer_inode(&error), None);
        let mut response = vec![0; HEADER + MESSAGE];
        response[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert_eq!(peer_inode(&response), Some(0));
        // An unrelated attribute of 5 bytes and 3 of padding; then the peer.
        for half in [5_u16, 9, 0, 0, 8, PEER, 7, 0] {
            response.extend(half.to_ne_bytes());
        }
        assert_eq!(
            peer_inode(&response),
            Some(7).filter(|_| cfg!(target_endian = "little"))
        );
        assert_eq!(peer_inode(&response[..response.len() - 2]), None);
        assert_eq!(peer_inode(&response[..HEADER + 4]), None);
    }
}
