//! The descriptors of one datagram, owned and in order.
//!
//! The place of a descriptor in [`Fds`] is its index in the JSON text. Dropping a list closes the descriptors that are left in it, so
//! each early return of a receiving function closes them all. Closing a received descriptor can take as long as its sender likes;
//! another thread does it. [`inherited_fd`] takes over a descriptor that the process was started with, and [`inherit`] passes
//! one to a program that is started.

mod closer;
mod inherited;

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::sys::socket::is_any_socket;
use crate::sys::{file, memfd};

pub use crate::sys::kind::FdKind;
pub(crate) use closer::{Closer, FdsToClose};
pub use inherited::{inherit, inherited_fd};

/// The number of descriptors that one datagram can carry at most (`SCM_MAX_FD`, include/net/scm.h in Linux).
pub const FDS_MAX: usize = 253;

/// The descriptors of one datagram, in the order they were sent.
///
/// The list owns them. [`take`](Fds::take) moves one out and leaves the others in place, so an index keeps its meaning for as
/// long as the list lives. Dropping the list closes the rest; those that were received are closed on another thread,
/// because that can take as long as their sender likes.
///
/// All are close-on-exec: received ones by `MSG_CMSG_CLOEXEC` ([recvmsg(2)]), others by [`push`](Fds::push). An empty list
/// takes no allocation, and others reuse that of a list which the thread has dropped.
///
/// [recvmsg(2)]: https://man7.org/linux/man-pages/man2/recvmsg.2.html
///
/// # Examples
///
/// ```
/// use jsoncomm::fds::Fds;
/// use std::fs::File;
///
/// let mut fds = Fds::new();
/// let first = fds.push(File::open("/dev/null")?.into())?;
/// let second = fds.push(File::open("/dev/zero")?.into())?;
/// assert!(fds.take(first).is_some());
/// assert!(fds.take(first).is_none(), "taken once");
/// assert!(fds.get(second).is_some(), "the second has not moved");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Default)]
#[doc(alias = "SCM_RIGHTS")]
#[doc(alias = "FdSet")]
pub struct Fds {
    /// Boxed, so that an empty list, as in most messages, is one word.
    list: Option<Box<List>>,
}

/// The contents of a list that is not empty.
#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    /// Closes what is left.
    discard: Option<Arc<dyn Discard>>,
    giver: Giver,
}

/// Whose the endpoints in a message may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Giver {
    /// It is not known who sent the message, so none is taken.
    #[default]
    Unknown,
    /// This user sent the message: those of this user.
    User(u32),
    /// The program takes those of any user.
    Anyone,
}

impl From<Option<u32>> for Giver {
    fn from(user: Option<u32>) -> Self {
        user.map_or(Self::Unknown, Self::User)
    }
}

/// What is at an index of the list.
#[derive(Default)]
enum Entry {
    /// The descriptor has been taken.
    #[default]
    Taken,
    Owned(OwnedFd),
    /// The descriptor has been taken, and this is a duplicate of it ([`Fds::take_tentatively`]).
    Duplicate(OwnedFd),
}

impl Entry {
    /// The descriptor to close when the list is dropped.
    fn into_fd(self) -> Option<OwnedFd> {
        match self {
            Self::Taken => None,
            Self::Owned(fd) | Self::Duplicate(fd) => Some(fd),
        }
    }

    /// Moves the descriptor out.
    fn take(&mut self) -> Option<OwnedFd> {
        let owned = matches!(self, Self::Owned(_));
        owned.then(|| std::mem::take(self).into_fd()).flatten()
    }
}

impl Drop for Fds {
    #[inline]
    fn drop(&mut self) {
        if let Some(list) = self.list.take() {
            list.close();
        }
    }
}

thread_local! {
    /// An empty list for the next message with descriptors, so that not each of them allocates.
    static SPARE: Cell<Option<Box<List>>> = const { Cell::new(None) };
}

impl List {
    /// Returns an empty list.
    #[inline(never)]
    fn spare() -> Box<Self> {
        SPARE
            .try_with(Cell::take)
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    /// Closes what is left, or passes it to [`Discard`], and keeps the empty list.
    #[inline(never)]
    fn close(mut self: Box<Self>) {
        let fds = self.entries.drain(..).filter_map(Entry::into_fd);
        match self.discard.take() {
            None => fds.for_each(drop),
            Some(discard) => {
                let fds: Vec<_> = fds.collect();
                if !fds.is_empty() {
                    discard.discard(fds);
                }
            }
        }
        self.giver = Giver::Unknown;
        // It fails where the thread is about to end.
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }
}

/// Returns true if the last close(2) of a descriptor can take as long as its sender likes: of a socket, or a file in
/// memory. Other such files cannot be told apart without waiting.
fn can_be_slow_to_close(fd: BorrowedFd<'_>) -> bool {
    is_any_socket(fd) || memfd::is_in_memory(fd)
}

/// Closes descriptors that no message used.
pub(crate) trait Discard: Send + Sync {
    /// Takes them over. Does not wait until they are closed.
    fn discard(self: Arc<Self>, fds: Vec<OwnedFd>);

    /// Charges a connection that came in a message to a server to its sender, until what is returned is dropped. `None` for
    /// one that came to a client.
    ///
    /// # Errors
    ///
    /// [`OverBudget`] if the sender has too many.
    fn hold(self: Arc<Self>) -> Result<Option<Hold>, OverBudget>;
}

/// A charge for as long as it is held.
pub(crate) type Hold = Box<dyn Send + Sync>;

/// A user has as many connections as it may.
#[derive(Debug)]
pub(crate) struct OverBudget;

impl Fds {
    /// Creates an empty list. Does not allocate.
    pub const fn new() -> Self {
        Self { list: None }
    }

    /// Moves out the descriptor at `index`. `None` if it was taken before, or `index` is out of range.
    pub fn take(&mut self, index: usize) -> Option<OwnedFd> {
        self.entry(index)?.take()
    }

    /// Borrows the descriptor at `index`. `None` if it was taken, or `index` is out of range.
    pub fn get(&self, index: usize) -> Option<BorrowedFd<'_>> {
        match self.list.as_ref()?.entries.get(index)? {
            Entry::Owned(fd) => Some(fd.as_fd()),
            Entry::Taken | Entry::Duplicate(_) => None,
        }
    }

    /// Appends `fd`, makes it close-on-exec, and returns its index.
    ///
    /// # Errors
    ///
    /// What [fcntl(2)] reports for `F_SETFD`. The descriptor is closed then, and the list unchanged.
    ///
    /// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
    pub fn push(&mut self, fd: OwnedFd) -> std::io::Result<usize> {
        crate::sys::set_cloexec(fd.as_fd())?;
        self.put(fd);
        Ok(self.len() - 1)
    }

    /// The number of indices, including those of descriptors that were taken.
    pub fn len(&self) -> usize {
        self.list.as_ref().map_or(0, |list| list.entries.len())
    }

    /// Returns true if the list never had a descriptor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Borrows the descriptors that were not taken, with their indices, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        (0..self.len()).filter_map(|index| Some((index, self.get(index)?)))
    }

    /// Has connections among the descriptors taken when a message is decoded, whichever user's process is at their other end.
    ///
    /// See [`Connection::allow_foreign_endpoints`](crate::Connection::allow_foreign_endpoints). A list that the program has put
    /// together has no sender, so none is taken from it without this. Does nothing to an empty list.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::fds::Fds;
    /// use jsoncomm::message::{UnusedFds, decode};
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::{Connection, Kind};
    /// use std::os::fd::AsFd;
    ///
    /// let (near, _far) = Socket::pair(Kind::Seqpacket)?;
    /// let fds = || near.as_fd().try_clone_to_owned().map(|fd| Fds::from(vec![fd]));
    /// assert!(decode::<Connection>(b"0", fds()?, UnusedFds::Refuse).is_err());
    /// let mut allowed = fds()?;
    /// allowed.allow_foreign_endpoints();
    /// assert!(decode::<Connection>(b"0", allowed, UnusedFds::Refuse).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allow_foreign_endpoints(&mut self) {
        self.set_giver(Giver::Anyone);
    }

    fn entry(&mut self, index: usize) -> Option<&mut Entry> {
        self.list.as_mut()?.entries.get_mut(index)
    }

    /// Passes what is left to `discard` when the list is dropped.
    pub(crate) fn set_discard(&mut self, discard: Arc<dyn Discard>) {
        if let Some(list) = &mut self.list {
            list.discard = Some(discard);
        }
    }

    /// Sets whose the endpoints in this message may be.
    pub(crate) fn set_giver(&mut self, giver: Giver) {
        if let Some(list) = &mut self.list {
            list.giver = giver;
        }
    }

    /// Returns whose the endpoints in this message may be, and what closes those that are dropped.
    pub(crate) fn giver(&self) -> (Giver, Option<Arc<dyn Discard>>) {
        match &self.list {
            Some(list) => (list.giver, list.discard.clone()),
            None => (Giver::Unknown, None),
        }
    }

    /// Appends a descriptor that is close-on-exec.
    pub(crate) fn put(&mut self, fd: OwnedFd) {
        let list = self.list.get_or_insert_with(List::spare);
        list.entries.push(Entry::Owned(fd));
    }

    /// Moves out the descriptor at `index` for a message that may still be refused, which drops it.
    ///
    /// A received descriptor that can be slow to close is duplicated first. The duplicate stays here until
    /// [`confirm_taken`](Self::confirm_taken), so that dropping the message does not wait.
    pub(crate) fn take_tentatively(&mut self, index: usize) -> Option<OwnedFd> {
        let received = self.list.as_ref()?.discard.is_some();
        let entry = self.entry(index)?;
        let fd = entry.take()?;
        if received && can_be_slow_to_close(fd.as_fd()) {
            // This fails if the process has no descriptors left. Then dropping the message may wait.
            *entry = file::duplicate(fd.as_fd()).map_or(Entry::Taken, Entry::Duplicate);
        }
        Some(fd)
    }

    /// Closes the duplicates of descriptors that were taken: the message has been accepted.
    pub(crate) fn confirm_taken(&mut self) {
        let entries = self.list.iter_mut().flat_map(|list| &mut list.entries);
        for entry in entries.filter(|entry| matches!(entry, Entry::Duplicate(_))) {
            *entry = Entry::Taken;
        }
    }

    /// Moves out the first descriptor, and shifts the others down by one index.
    pub(crate) fn take_front(&mut self) -> Option<OwnedFd> {
        let entries = &mut self.list.as_mut()?.entries;
        let front = (!entries.is_empty()).then(|| entries.remove(0).take())?;
        if entries.is_empty() {
            // Its memory is kept for the next list.
            *self = Self::new();
        }
        front
    }
}

/// Takes over descriptors that are close-on-exec.
impl From<Vec<OwnedFd>> for Fds {
    fn from(fds: Vec<OwnedFd>) -> Self {
        let mut list = Self::new();
        fds.into_iter().for_each(|fd| list.put(fd));
        list
    }
}

impl IntoIterator for Fds {
    type Item = OwnedFd;
    type IntoIter = std::vec::IntoIter<OwnedFd>;

    /// Moves out the descriptors that were not taken, in order.
    fn into_iter(mut self) -> Self::IntoIter {
        let entries = self.list.iter_mut().flat_map(|list| &mut list.entries);
        let fds: Vec<_> = entries.filter_map(Entry::take).collect();
        fds.into_iter()
    }
}

impl fmt::Debug for Fds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fds: Vec<_> = (0..self.len()).map(|index| self.get(index)).collect();
        f.debug_tuple("Fds").field(&fds).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn three() -> Fds {
        let mut fds = Fds::new();
        for _ in 0..3 {
            fds.push(File::open("/dev/null").unwrap().into()).unwrap();
        }
        fds
    }

    #[test]
    fn taking_one_leaves_the_others_in_place() {
        let mut fds = three();
        assert!(fds.take(1).is_some());
        assert!(fds.take(1).is_none());
        assert!(fds.take(3).is_none());
        let left: Vec<usize> = fds.iter().map(|(index, _)| index).collect();
        assert_eq!(left, [0, 2]);
        assert_eq!(fds.len(), 3);
        assert_eq!(fds.into_iter().count(), 2);
    }

    #[test]
    fn taking_the_front_shifts_the_rest_to_zero() {
        let mut fds = three();
        let numbers = |fds: &Fds| -> Vec<_> { fds.iter().map(|(_, fd)| fd.as_raw_fd()).collect() };
        let before = numbers(&fds);
        let front = fds.take_front().unwrap();
        assert_eq!(
            (front.as_raw_fd(), numbers(&fds)),
            (before[0], before[1..].to_vec())
        );
        assert!(Fds::new().take_front().is_none());
    }

    #[test]
    fn long_lists_behave_like_short_ones() {
        let null = File::open("/dev/null").unwrap();
        for count in [1, 2, 4, 12] {
            let fds: Vec<OwnedFd> = (0..count)
                .map(|_| null.try_clone().unwrap().into())
                .collect();
            let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let mut fds = Fds::from(fds);
            assert_eq!(fds.len(), count);
            let got = (0..=count).map_while(|index| fds.get(index));
            assert!(got.map(|fd| fd.as_raw_fd()).eq(numbers.iter().copied()));
            let last = fds.take(count - 1).unwrap();
            assert_eq!(last.as_raw_fd(), numbers[count - 1]);
            assert!(fds.take(count - 1).is_none() && fds.take(count).is_none());
            assert_eq!(fds.into_iter().count(), count - 1);
        }
    }

    #[test]
    fn a_list_reuses_the_memory_of_one_that_the_thread_has_dropped() {
        let capacity = |fds: &Fds| fds.list.as_ref().unwrap().entries.capacity();
        let long = Fds::from(three().into_iter().chain(three()).collect::<Vec<_>>());
        let reused = capacity(&long);
        assert!(reused > capacity(&three()));
        drop(long);
        let short = three();
        assert_eq!((short.len(), capacity(&short)), (3, reused));
        assert!(short.list.as_ref().unwrap().discard.is_none());
        let mut emptied = short;
        for _ in 0..3 {
            emptied.take_front().unwrap();
        }
        assert_eq!(capacity(&three()), reused, "an emptied list gives it back");
        assert!(emptied.is_empty());
    }

    #[test]
    fn a_pushed_descriptor_becomes_close_on_exec() {
        let mut fds = Fds::new();
        let plain = rustix::io::dup(File::open("/dev/null").unwrap()).unwrap();
        let flags = |fd: BorrowedFd<'_>| rustix::io::fcntl_getfd(fd).unwrap();
        assert!(!flags(plain.as_fd()).contains(rustix::io::FdFlags::CLOEXEC));
        let index = fds.push(plain).unwrap();
        assert!(flags(fds.get(index).unwrap()).contains(rustix::io::FdFlags::CLOEXEC));
    }
}
