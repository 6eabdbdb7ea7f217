//! Who sent this, as the kernel says.

use std::os::fd::BorrowedFd;

use crate::error::Error;
use crate::sys::control::{self, Credentials};

/// A user or group id that could not be expressed here (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_ID: u32 = 65534;

/// The process on the other side, from the kernel's word alone.
///
/// On [`Kind::Seqpacket`](crate::Kind::Seqpacket) it is who called `connect`; on
/// [`Kind::Datagram`](crate::Kind::Datagram) who sent this one message (`SO_PEERCRED` and
/// `SCM_CREDENTIALS`, [unix(7)]). A `Peer` exists only where the identity is known.
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
///
/// # Examples
///
/// ```
/// use jsoncomm::Peer;
///
/// /// A rule for [`Endpoint::admit`](jsoncomm::Endpoint::admit).
/// fn is_operator(peer: &Peer) -> bool {
///     const OPERATORS: u32 = 37;
///     peer.uid() == 0 || peer.gid() == OPERATORS
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "SCM_CREDENTIALS")]
#[doc(alias = "SO_PEERCRED")]
pub struct Peer {
    credentials: Credentials,
}

impl Peer {
    /// User id, in this process's user namespace. Authorise by this and [`gid`](Peer::gid).
    pub fn uid(&self) -> u32 {
        self.credentials.uid
    }

    /// Group id, in this process's user namespace.
    pub fn gid(&self) -> u32 {
        self.credentials.gid
    }

    /// Process id, for logs; `None` when the process cannot be seen from here. It may have ended and
    /// its number be another's by now, so it is no base for a right.
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.credentials.pid)
            .ok()
            .filter(|pid| *pid != 0)
    }

    /// Believes credentials that name a user; unmapped and missing ones are nobody.
    pub(crate) fn from_credentials(credentials: Credentials) -> Option<Self> {
        let known = |id| id != u32::MAX && id != OVERFLOW_ID;
        (known(credentials.uid) && known(credentials.gid)).then_some(Self { credentials })
    }

    /// Asks who is connected to a seqpacket socket.
    pub(crate) fn of_connection(socket: BorrowedFd<'_>) -> Result<Option<Self>, Error> {
        let credentials =
            control::peer_credentials(socket).map_err(Error::os("getsockopt(SO_PEERCRED)"))?;
        Ok(Self::from_credentials(credentials))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(pid: i32, uid: u32, gid: u32) -> Option<Peer> {
        Peer::from_credentials(Credentials { pid, uid, gid })
    }

    #[test]
    fn an_unmapped_user_or_group_is_nobody() {
        assert!(peer(7, 65534, 0).is_none());
        assert!(peer(7, u32::MAX, 0).is_none());
        assert!(peer(7, 0, 65534).is_none());
        assert!(peer(7, 0, 0).is_some());
    }

    #[test]
    fn a_process_that_cannot_be_seen_has_no_pid() {
        assert_eq!(peer(0, 1, 1).unwrap().pid(), None);
        assert_eq!(peer(-1, 1, 1).unwrap().pid(), None);
        assert_eq!(peer(9, 1, 1).unwrap().pid(), Some(9));
    }
}
