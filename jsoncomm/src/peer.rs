//! Who sent this, as the kernel says.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::sys::control::{self, Credentials};
use crate::sys::file::{Ids, maps_all, own_pid};
use crate::sys::socket::is_of_pair;

/// A user or group id that has no number here (`/proc/sys/kernel/overflowuid`), where there are such ids.
const OVERFLOW_ID: u32 = 65534;

/// Returns true if an id means a user or a group here. Where this process's user namespace maps every id, 65534 is one
/// like any other; only then and of that one is anything read.
fn is_known(id: u32, ids: Ids) -> bool {
    match id {
        u32::MAX => false,
        OVERFLOW_ID => maps_all(ids),
        _ => true,
    }
}

/// The identity of a peer, as reported by the kernel.
///
/// | | [`Kind::Seqpacket`](crate::Kind::Seqpacket) | [`Kind::Datagram`](crate::Kind::Datagram) |
/// |---|---|---|
/// | whose | the process that called `connect`, as it was then | the process that sent this one message |
/// | source | `SO_PEERCRED`, `SO_PEERGROUPS` ([unix(7)]) | `SCM_CREDENTIALS` |
/// | of a socket pair | the process that called `socketpair`, unless that is this one | unknown |
///
/// A `Peer` exists only where the user is known. User and group are judged each by itself, and what the kernel does not
/// report is `None`: never grant a right because a value is `None`.
///
/// The kernel names the maker of a socket pair at both of its ends. Where that is this very process, it says nothing of
/// the process that the other end was given to, and the peer is unknown; a server can be
/// [told](crate::Endpoint::peer_is) who it is. So can a server with a connected datagram socket, whose peer could pass
/// its end on to a process with more rights. A process that gives away its end of a connection, or a datagram socket
/// that is connected to a server, lends the other process's rights to whoever gets it in the same way: serve datagrams
/// to processes of equal rights only.
///
/// Two that have the same ids and groups are equal. A clone shares the [`pidfd`](Peer::pidfd), which is closed with
/// the last of them.
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
///
/// # Examples
///
/// ```
/// use jsoncomm::Peer;
///
/// /// A rule for [`Endpoint::authorize`](jsoncomm::Endpoint::authorize).
/// fn is_operator(peer: &Peer) -> bool {
///     const OPERATORS: u32 = 37;
///     peer.uid() == 0 || peer.is_in_group(OPERATORS)
/// }
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "SCM_CREDENTIALS")]
#[doc(alias = "SO_PEERCRED")]
pub struct Peer {
    credentials: Credentials,
    /// Apart, so that what every message has is small and takes no memory.
    more: Option<Arc<More>>,
}

/// What is known of a peer where it was asked for.
#[derive(Debug)]
struct More {
    groups: Option<Box<[u32]>>,
    pidfd: Option<OwnedFd>,
}

impl Peer {
    /// User id, in this process's user namespace. Authorise by this and [`is_in_group`](Peer::is_in_group).
    pub fn uid(&self) -> u32 {
        self.credentials.uid
    }

    /// Group id, in this process's user namespace; `None` when it has no number there.
    pub fn gid(&self) -> Option<u32> {
        Some(self.credentials.gid).filter(|gid| is_known(*gid, Ids::Group))
    }

    /// Process id, for logs; `None` when the process cannot be seen from here. It may have ended and
    /// its number be another's by now, so it is no base for a right.
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.credentials.pid)
            .ok()
            .filter(|pid| *pid != 0)
    }

    /// Supplementary group ids, in this process's user namespace and in no order, without those that have no number
    /// in it. [`gid`](Peer::gid) may be among them.
    ///
    /// Known on [`Kind::Seqpacket`](crate::Kind::Seqpacket), since Linux 4.13, if there are no more than 1024
    /// (`SO_PEERGROUPS`, [socket(7)]): whoever connected keeps the groups it had then. `None` elsewhere: nothing is
    /// known of them, which is another thing than that there are none.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    #[doc(alias = "SO_PEERGROUPS")]
    pub fn groups(&self) -> Option<&[u32]> {
        self.more.as_ref()?.groups.as_deref()
    }

    /// Returns true if the group is the peer's own or one of its known supplementary [`groups`](Peer::groups). Groups
    /// that have no number here are none.
    ///
    /// `false` may only mean that the groups are unknown; grant by it, never refuse by it.
    pub fn is_in_group(&self, gid: u32) -> bool {
        let among = |groups: &[u32]| groups.contains(&gid);
        self.gid() == Some(gid) || self.groups().is_some_and(among)
    }

    /// The process itself, also where its [`pid`](Peer::pid) cannot be seen: a pidfd, close-on-exec, which never comes
    /// to mean another process, and is readable once this one has ended ([pidfd_open(2)]).
    ///
    /// Known at endpoints that ask for it, [`with_pidfds`](crate::Endpoint::with_pidfds), since Linux 6.5. `None`
    /// elsewhere, when descriptors had run out, and, as the kernel's version is, when the process had ended already.
    /// It is lent; to keep it, clone it or the peer.
    ///
    /// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
    #[doc(alias = "SCM_PIDFD")]
    #[doc(alias = "SO_PEERPIDFD")]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.more.as_ref()?.pidfd.as_ref()?.as_fd())
    }

    /// Believes credentials that name a user; unmapped and missing ones are nobody.
    pub(crate) fn from_credentials(credentials: Credentials) -> Option<Self> {
        is_known(credentials.uid, Ids::User).then_some(Self {
            credentials,
            more: None,
        })
    }

    /// The peer that a program says it is. Its process is not known.
    pub(crate) fn of_program(uid: u32, gid: u32) -> Option<Self> {
        Self::from_credentials(Credentials { pid: 0, uid, gid })
    }

    /// What stands for it where nothing is to be held.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials
    }

    /// Takes the kernel's word on who sent a message.
    pub(crate) fn of_message(
        credentials: Option<Credentials>,
        pidfd: Option<OwnedFd>,
    ) -> Option<Self> {
        let mut peer = Self::from_credentials(credentials?)?;
        if pidfd.is_some() {
            let groups = None;
            peer.more = Some(Arc::new(More { groups, pidfd }));
        }
        Some(peer)
    }

    /// Asks who is connected to a seqpacket socket, whose process has been asked for already if it is to be known.
    /// `None` where the kernel does not tell, and for a pair that this process has made.
    pub(crate) fn of_connection(socket: BorrowedFd<'_>, pidfd: Option<OwnedFd>) -> Option<Self> {
        let credentials = control::peer_credentials(socket).ok()?;
        if credentials.pid == own_pid() && is_of_pair(socket).unwrap_or(true) {
            return None;
        }
        let mut peer = Self::from_credentials(credentials)?;
        let groups = control::peer_groups(socket, known_groups).ok();
        if groups.is_some() || pidfd.is_some() {
            peer.more = Some(Arc::new(More { groups, pidfd }));
        }
        Some(peer)
    }
}

/// Keeps those that mean a group here.
fn known_groups(groups: &[u32]) -> Box<[u32]> {
    let known = groups.iter().copied();
    known.filter(|id| is_known(*id, Ids::Group)).collect()
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.credentials == other.credentials && self.groups() == other.groups()
    }
}

impl Eq for Peer {}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::{Type, socketpair};

    fn peer(pid: i32, uid: u32, gid: u32) -> Option<Peer> {
        Peer::from_credentials(Credentials { pid, uid, gid })
    }

    /// The same with groups.
    fn member(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        let mut peer = peer(7, uid, gid).unwrap();
        let (groups, pidfd) = (Some(known_groups(groups)), None);
        peer.more = Some(Arc::new(More { groups, pidfd }));
        peer
    }

    #[test]
    fn a_group_is_its_own_or_one_of_the_others_and_never_an_unmapped_one() {
        let unmapped = !maps_all(Ids::Group);
        let peer = member(1, 2, &[65534, 3, u32::MAX, 4]);
        let known: &[u32] = if unmapped { &[3, 4] } else { &[65534, 3, 4] };
        assert_eq!(peer.groups(), Some(known));
        let of = [0, 1, 2, 3, 4, 65534, u32::MAX].map(|gid| peer.is_in_group(gid));
        assert_eq!(of, [false, false, true, true, true, !unmapped, false]);
    }

    #[test]
    fn groups_that_are_not_known_are_another_thing_than_none() {
        let (unknown, without) = (peer(7, 1, 2).unwrap(), member(1, 2, &[]));
        assert_eq!((unknown.groups(), without.groups()), (None, Some(&[][..])));
        assert!(unknown.is_in_group(2) && without.is_in_group(2));
        assert_ne!(unknown, without);
        assert_ne!(without, member(1, 2, &[3]));
        assert_eq!(without, without.clone());
    }

    #[test]
    fn a_message_without_a_pidfd_costs_no_memory() {
        let me = peer(7, 1, 2).unwrap();
        let peer = Peer::of_message(Some(me.credentials()), None).unwrap();
        assert!(peer.more.is_none());
        assert_eq!(peer, me);
    }

    #[test]
    fn whoever_is_nobody_has_no_process_either() {
        let (socket, _other) = socketpair(Type::Seqpacket).unwrap();
        let Ok(pidfd) = control::peer_pidfd(socket.as_fd()) else {
            return; // Before Linux 6.5.
        };
        let (pid, uid, gid) = (7, u32::MAX, 1);
        let nobody = Credentials { pid, uid, gid };
        assert!(Peer::of_message(Some(nobody), Some(pidfd)).is_none());
    }

    #[test]
    fn an_unmapped_user_or_group_is_nobody() {
        let whole = maps_all(Ids::User);
        assert_eq!(peer(7, 65534, 0).is_some(), whole);
        assert!(peer(7, u32::MAX, 0).is_none());
        assert_eq!(peer(7, 0, 0).unwrap().gid(), Some(0));
        // Each by itself.
        let peer = |gid| peer(7, 42, gid).unwrap();
        assert_eq!((peer(u32::MAX).uid(), peer(u32::MAX).gid()), (42, None));
        let whole = maps_all(Ids::Group);
        assert_eq!(peer(65534).gid(), whole.then_some(65534));
    }

    #[test]
    fn the_maker_of_a_pair_is_not_taken_for_who_has_the_other_end() {
        let (socket, _other) = socketpair(Type::Seqpacket).unwrap();
        assert!(Peer::of_connection(socket.as_fd(), None).is_none());
    }

    #[test]
    fn a_process_that_cannot_be_seen_has_no_pid() {
        assert_eq!(peer(0, 1, 1).unwrap().pid(), None);
        assert_eq!(peer(-1, 1, 1).unwrap().pid(), None);
        assert_eq!(peer(9, 1, 1).unwrap().pid(), Some(9));
    }
}
