//! What the kernel tells about a socket on request: [sock_diag(7)], which `ss` uses as well.
//!
//! [sock_diag(7)]: https://man7.org/linux/man-pages/man7/sock_diag.7.html

use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::seam;

/// `SOCK_DIAG_BY_FAMILY`, of the question and of the answer.
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

/// Says whether the socket that this unix socket is connected to is still open.
///
/// A datagram socket keeps hold of a peer that has been closed. To the kernel that peer then has no inode any
/// more, so this is neither taken in by another socket with the peer's name, nor by a name that has gone while its
/// socket lives. Sends nothing to the peer and leaves what is queued alone; never waits.
///
/// Five system calls. Fails where the kernel is built without `CONFIG_UNIX_DIAG`, where a sandbox forbids netlink,
/// and after the process has moved to another network namespace.
pub(crate) fn has_peer(socket: BorrowedFd<'_>) -> io::Result<bool> {
    seam("fstat")?;
    let inode = rustix::fs::fstat(socket)?.st_ino;
    let inode = u32::try_from(inode).map_err(|_| io::ErrorKind::Unsupported)?;
    seam("socket")?;
    let netlink = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    seam("send")?;
    rustix::net::send(&netlink, &question(inode), SendFlags::NOSIGNAL)?;
    let mut room = [0; 256];
    // The answer is there already when send returns.
    seam("recv")?;
    let (length, _) = rustix::net::recv(&netlink, &mut room, RecvFlags::DONTWAIT)?;
    let answer = room.get(..length).unwrap_or_default();
    let peer = peer_inode(answer).ok_or(io::ErrorKind::Unsupported)?;
    Ok(peer != 0)
}

/// A `struct nlmsghdr` and a `struct unix_diag_req` about one socket.
fn question(inode: u32) -> Vec<u8> {
    const LENGTH: u32 = 40;
    let mut bytes = Vec::new();
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Sequence number and port, which nobody looks at.
    bytes.extend([0; 8]);
    // The family is a byte; no protocol, and two bytes of padding.
    let [family, _] = AddressFamily::UNIX.as_raw().to_le_bytes();
    bytes.extend([family, 0, 0, 0]);
    // In any state, and with any cookie.
    for number in [u32::MAX, inode, SHOW_PEER, u32::MAX, u32::MAX] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

/// Reads the peer's inode from the kernel's answer: 0 when it has been closed, or there is none. `None` when
/// this is not an answer.
fn peer_inode(answer: &[u8]) -> Option<u32> {
    if short(answer, 4)? != BY_FAMILY {
        return None;
    }
    let mut rest = answer.get(HEADER + MESSAGE..)?;
    while let (Some(length), Some(kind)) = (short(rest, 0), short(rest, 2)) {
        if kind == PEER {
            let number = rest.get(ATTRIBUTE..ATTRIBUTE + 4)?;
            return Some(u32::from_ne_bytes(number.try_into().ok()?));
        }
        let next = usize::from(length).max(ATTRIBUTE).next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
    }
    Some(0)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let number = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(number.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::control::{self, Wait};
    use super::super::name::Name;
    use super::super::socket::{self, Type};
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    /// Says what [`has_peer`] does; `None` where the kernel cannot.
    fn look(socket: &OwnedFd) -> Option<bool> {
        has_peer(socket.as_fd()).ok()
    }

    fn bound(name: &Name) -> OwnedFd {
        let server = socket::socket(Type::Dgram).unwrap();
        socket::bind(server.as_fd(), name).unwrap();
        server
    }

    #[test]
    fn a_peer_that_was_closed_is_gone_and_what_it_sent_stays() {
        let (left, right) = socket::socketpair(Type::Dgram).unwrap();
        if look(&left).is_none() {
            return;
        }
        assert_eq!(look(&left), Some(true));
        socket::sendmsg(right.as_fd(), b"last", &[], None, Wait::Never).unwrap();
        let second_holder = right.try_clone().unwrap();
        drop(right);
        assert_eq!(look(&left), Some(true), "somebody else has it open");
        drop(second_holder);
        assert_eq!(look(&left), Some(false));
        let arrived = control::recvmsg(left.as_fd(), &mut [0; 8], None, Wait::Never, drop).unwrap();
        assert_eq!(arrived.length, 4);
        let alone = socket::socket(Type::Dgram).unwrap();
        assert_eq!(look(&alone), Some(false), "never connected");
    }

    #[test]
    fn another_socket_with_the_peers_name_is_not_the_peer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let name = Name::from_path(path.as_os_str()).unwrap();
        let first = bound(&name);
        let client = socket::socket(Type::Dgram).unwrap();
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
    fn what_is_not_an_answer_says_nothing() {
        assert_eq!(peer_inode(&[]), None);
        let mut error = [0; 36];
        error[4] = 2;
        assert_eq!(peer_inode(&error), None);
        let mut answer = vec![0; HEADER + MESSAGE];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert_eq!(peer_inode(&answer), Some(0));
        // An attribute that is not asked for, of 5 bytes and 3 of padding; then the peer.
        for half in [5_u16, 9, 0, 0, 8, PEER, 7, 0] {
            answer.extend(half.to_ne_bytes());
        }
        assert_eq!(
            peer_inode(&answer),
            Some(7).filter(|_| cfg!(target_endian = "little"))
        );
        assert_eq!(peer_inode(&answer[..answer.len() - 2]), None);
        assert_eq!(peer_inode(&answer[..HEADER + 4]), None);
    }
}
