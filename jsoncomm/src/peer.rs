//! The identity of a peer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::caught;
use crate::sys::control::{self, Credentials};
use crate::sys::file::{GID_MAP, UID_MAP, maps_all, own_pid};
use crate::sys::socket::is_of_pair;

/// The id that the kernel reports for one that the user namespace does not map (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_ID: u32 = 65534;

/// What the kernel reports of a message that was sent before anybody asked for senders (`SO_PASSCRED`): no process, user or
/// group. It is also what the user and group nobody look like in another pid namespace, who are therefore unknown.
const NOT_NOTED: Credentials = Credentials {
    pid: 0,
    uid: OVERFLOW_ID,
    gid: OVERFLOW_ID,
};

/// Returns true if an id names a user or a group in this process's user namespace.
///
/// Where the namespace maps every id, 65534 is an id like any other. Only that id costs a system call.
fn is_known(id: u32, map: &str) -> bool {
    match id {
        u32::MAX => false,
        OVERFLOW_ID => maps_all(map),
        _ => true,
    }
}

/// The identity of a peer, as reported by the kernel.
///
/// | | [`Kind::Seqpacket`](crate::Kind::Seqpacket) | [`Kind::Datagram`](crate::Kind::Datagram) |
/// |---|---|---|
/// | whose | the process that called `connect`, as it was then | the process that sent this message |
/// | source | `SO_PEERCRED`, `SO_PEERGROUPS` ([unix(7)]) | `SCM_CREDENTIALS` |
/// | of a socket pair | the process that called `socketpair`, unless it is this one | none |
///
/// A `Peer` exists only if the user is known. Anything else that the kernel did not report is `None`. Never grant a right
/// because a value is `None`.
///
/// # Sockets that change hands
///
/// The identity is that of the process above, not of the one that uses the socket now:
///
/// - A process that passes on its end of a connection, or a datagram socket connected to a server, passes on its rights.
///   Serve datagrams to processes of equal rights only.
/// - For a socket pair made by this process the kernel reports this process at both ends, so the peer is unknown.
///   [`Endpoint::peer_is`](crate::Endpoint::peer_is) sets it. It also sets the peer of a connected datagram socket.
///
/// # Comparing and cloning
///
/// Two peers are equal if their ids and groups are. Clones share the [`pidfd`](Peer::pidfd), which is closed with the last.
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
    /// Apart, so that the peer of a message is small and takes no allocation.
    details: Option<Arc<Details>>,
}

/// What is not reported with every message.
#[derive(Debug)]
struct Details {
    groups: Option<Box<[u32]>>,
    pidfd: Option<OwnedFd>,
}

impl Peer {
    /// Makes the peer that a program says it is, for [`Server::open_session`](crate::Server::open_session). Its groups and
    /// process are unknown. `None` if the id is no user here (`u32::MAX`, or 65534 where not every id is mapped).
    pub fn from_ids(uid: u32, gid: u32) -> Option<Self> {
        Self::of_program(uid, gid)
    }

    /// The user id, in this process's user namespace.
    pub fn uid(&self) -> u32 {
        self.credentials.uid
    }

    /// The primary group id, in this process's user namespace. `None` if it is not mapped there.
    pub fn gid(&self) -> Option<u32> {
        Some(self.credentials.gid).filter(|gid| is_known(*gid, GID_MAP))
    }

    /// Returns true if `gid` is the peer's primary group or one of its known supplementary [`groups`](Peer::groups).
    ///
    /// `false` can also mean that the groups are unknown. Use it to grant access, not to deny it.
    pub fn is_in_group(&self, gid: u32) -> bool {
        let is_member = |groups: &[u32]| groups.contains(&gid);
        self.gid() == Some(gid) || self.groups().is_some_and(is_member)
    }

    /// The supplementary group ids, in no order. [`gid`](Peer::gid) may be among them.
    ///
    /// Ids that this process's user namespace does not map are left out. Known on
    /// [`Kind::Seqpacket`](crate::Kind::Seqpacket) since Linux 4.13, for peers with at most 1024 groups (`SO_PEERGROUPS`,
    /// [socket(7)]). `None` means unknown, an empty list means none.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    #[doc(alias = "SO_PEERGROUPS")]
    pub fn groups(&self) -> Option<&[u32]> {
        self.details.as_ref()?.groups.as_deref()
    }

    /// The process id, for logs. `None` if the process is not visible in this process's pid namespace.
    ///
    /// The process may have ended and its id been reused, so never grant a right by it. See [`pidfd`](Peer::pidfd).
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.credentials.pid)
            .ok()
            .filter(|pid| *pid != 0)
    }

    /// The pidfd of the process: close-on-exec, and readable once the process has ended ([pidfd_open(2)]).
    ///
    /// It never refers to another process, and works without a visible [`pid`](Peer::pid). Known at endpoints
    /// [`with_pidfds`](crate::Endpoint::with_pidfds), since Linux 6.5. `None` also if descriptors had run out or, depending on
    /// the kernel version, the process had ended. To keep it, clone the descriptor or the peer.
    ///
    /// [pidfd_open(2)]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
    #[doc(alias = "SCM_PIDFD")]
    #[doc(alias = "SO_PEERPIDFD")]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.details.as_ref()?.pidfd.as_ref()?.as_fd())
    }

    fn with_details(mut self, groups: Option<Box<[u32]>>, pidfd: Option<OwnedFd>) -> Self {
        if groups.is_some() || pidfd.is_some() {
            self.details = Some(Arc::new(Details { groups, pidfd }));
        }
        self
    }

    /// The peer with these credentials. `None` if they do not name a user.
    pub(crate) fn from_credentials(credentials: Credentials) -> Option<Self> {
        is_known(credentials.uid, UID_MAP).then_some(Self {
            credentials,
            details: None,
        })
    }

    /// The peer that the program names. Its process is unknown.
    pub(crate) fn of_program(uid: u32, gid: u32) -> Option<Self> {
        Self::from_credentials(Credentials { pid: 0, uid, gid })
    }

    /// Returns this peer with these supplementary groups.
    pub(crate) fn with_groups(self, groups: Option<Box<[u32]>>) -> Self {
        self.with_details(groups, None)
    }

    /// The ids alone, to be kept without the pidfd.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials
    }

    /// The sender of a message.
    pub(crate) fn of_message(
        credentials: Option<Credentials>,
        pidfd: Option<OwnedFd>,
    ) -> Option<Self> {
        let credentials = credentials.filter(|sender| *sender != NOT_NOTED)?;
        Some(Self::from_credentials(credentials)?.with_details(None, pidfd))
    }

    /// The peer of a connected seqpacket socket. `None` if the kernel does not report it, or if this process made the
    /// socket pair.
    pub(crate) fn of_connection(socket: BorrowedFd<'_>, pidfd: Option<OwnedFd>) -> Option<Self> {
        let peer = Self::from_credentials(credentials_of_other(socket)?)?;
        let groups = control::peer_groups(socket, known_groups);
        Some(peer.with_details(groups, pidfd))
    }

    /// The user at the other end of a connected seqpacket socket, as of [`of_connection`](Self::of_connection).
    pub(crate) fn user_of_connection(socket: BorrowedFd<'_>) -> Option<u32> {
        let credentials = credentials_of_other(socket)?;
        Some(Self::from_credentials(credentials)?.uid())
    }

    /// The user that the kernel reports of a connected seqpacket socket which came in a message: who made the pair, listens,
    /// or connected.
    pub(crate) fn user_of_endpoint(socket: BorrowedFd<'_>) -> Option<u32> {
        let credentials = control::peer_credentials(socket).ok()?;
        Some(Self::from_credentials(credentials)?.uid())
    }
}

/// Returns what the kernel reports of the other end of a connected socket. `None` if this process made the socket pair.
fn credentials_of_other(socket: BorrowedFd<'_>) -> Option<Credentials> {
    let credentials = control::peer_credentials(socket).ok()?;
    let is_own = credentials.pid == own_pid() && is_of_pair(socket).unwrap_or(true);
    (!is_own).then_some(credentials)
}

/// A rule for which peers may call.
pub(crate) type Rule = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Returns true if there is no rule, or if it holds. A rule never holds for a peer whose identity is unknown, nor if it panics.
pub(crate) fn is_authorized(rule: Option<&Rule>, peer: Option<&Peer>) -> bool {
    match rule {
        None => true,
        Some(rule) => peer.is_some_and(|peer| caught(|| rule(peer)).unwrap_or(false)),
    }
}

/// Leaves out ids that do not name a group here.
fn known_groups(groups: &[u32]) -> Box<[u32]> {
    let known = groups.iter().copied();
    known.filter(|id| is_known(*id, GID_MAP)).collect()
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
    use crate::sys::socket::{Kind, socketpair};

    fn peer(pid: i32, uid: u32, gid: u32) -> Option<Peer> {
        Peer::from_credentials(Credentials { pid, uid, gid })
    }

    fn with_groups(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        let peer = peer(7, uid, gid).unwrap();
        peer.with_details(Some(known_groups(groups)), None)
    }

    #[test]
    fn a_peer_is_in_its_primary_and_supplementary_groups_and_never_in_an_unmapped_one() {
        let unmapped = !maps_all(GID_MAP);
        let peer = with_groups(1, 2, &[65534, 3, u32::MAX, 4]);
        let known: &[u32] = if unmapped { &[3, 4] } else { &[65534, 3, 4] };
        assert_eq!(peer.groups(), Some(known));
        let of = [0, 1, 2, 3, 4, 65534, u32::MAX].map(|gid| peer.is_in_group(gid));
        assert_eq!(of, [false, false, true, true, true, !unmapped, false]);
    }

    #[test]
    fn unknown_groups_are_not_an_empty_list() {
        let (unknown, none) = (peer(7, 1, 2).unwrap(), with_groups(1, 2, &[]));
        assert_eq!((unknown.groups(), none.groups()), (None, Some(&[][..])));
        assert!(unknown.is_in_group(2) && none.is_in_group(2));
        assert_ne!(unknown, none);
        assert_ne!(none, with_groups(1, 2, &[3]));
        assert_eq!(none, none.clone());
    }

    #[test]
    fn the_peer_of_a_message_without_a_pidfd_takes_no_allocation() {
        let me = peer(7, 1, 2).unwrap();
        let peer = Peer::of_message(Some(me.credentials()), None).unwrap();
        assert!(peer.details.is_none());
        assert_eq!(peer, me);
    }

    #[test]
    fn an_unknown_user_has_no_pidfd_either() {
        let (socket, _other) = socketpair(Kind::Seqpacket).unwrap();
        let Some(pidfd) = control::peer_pidfd(socket.as_fd()) else {
            return; // Before Linux 6.5.
        };
        let (pid, uid, gid) = (7, u32::MAX, 1);
        let unknown = Credentials { pid, uid, gid };
        assert!(Peer::of_message(Some(unknown), Some(pidfd)).is_none());
    }

    #[test]
    fn a_sender_that_the_kernel_did_not_note_is_not_taken_for_nobody() {
        let sender = |pid, uid, gid| Peer::of_message(Some(Credentials { pid, uid, gid }), None);
        assert!(sender(0, 65534, 65534).is_none());
        assert_eq!(sender(7, 65534, 65534).is_some(), maps_all(UID_MAP));
        assert!(sender(0, 1, 65534).is_some());
        // The program says who it is.
        assert_eq!(Peer::of_program(65534, 65534).is_some(), maps_all(UID_MAP));
    }

    #[test]
    fn an_unmapped_user_or_group_is_unknown() {
        let whole = maps_all(UID_MAP);
        assert_eq!(peer(7, 65534, 0).is_some(), whole);
        assert!(peer(7, u32::MAX, 0).is_none());
        assert_eq!(peer(7, 0, 0).unwrap().gid(), Some(0));
        // The user and the group are judged separately.
        let peer = |gid| peer(7, 42, gid).unwrap();
        assert_eq!((peer(u32::MAX).uid(), peer(u32::MAX).gid()), (42, None));
        let whole = maps_all(GID_MAP);
        assert_eq!(peer(65534).gid(), whole.then_some(65534));
    }

    #[test]
    fn the_process_that_made_a_pair_is_not_its_peer() {
        let (socket, _other) = socketpair(Kind::Seqpacket).unwrap();
        assert!(Peer::of_connection(socket.as_fd(), None).is_none());
    }

    #[test]
    fn an_invisible_process_has_no_pid() {
        assert_eq!(peer(0, 1, 1).unwrap().pid(), None);
        assert_eq!(peer(-1, 1, 1).unwrap().pid(), None);
        assert_eq!(peer(9, 1, 1).unwrap().pid(), Some(9));
    }
}
