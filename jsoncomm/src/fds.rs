//! The owned, ordered descriptors that travel with one datagram.
//!
//! A descriptor's place in [`Fds`] is the index that the JSON text names it by. What nobody takes is
//! closed when the list is dropped, so every early return of a receiving function closes them all. Closing what a peer
//! has sent can take as long as the peer likes, so of what has been received it is done elsewhere.

mod closer;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

pub(crate) use closer::{Closer, Unwanted};

/// Most descriptors one datagram can carry (`SCM_MAX_FD`, include/net/scm.h in Linux).
pub const FDS_MAX: usize = 253;

/// Takes hold of a descriptor that this process was started with, by its number: a socket from a service manager, or
/// from whoever called execve(2).
///
/// A number owns nothing, so safe code cannot take it over; the kernel is asked for another descriptor of the same
/// file, close-on-exec ([pidfd_getfd(2)] on this process itself, since Linux 5.6). The number stays open beside it.
///
/// # Errors
///
/// `EBADF` when nothing is open under the number, `ENOSYS` before Linux 5.6, `EPERM` where a seccomp filter forbids it.
///
/// # Examples
///
/// ```
/// use jsoncomm::{Limits, Server, inherited};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// if std::env::var("LISTEN_PID").is_ok_and(|id| id == std::process::id().to_string()) {
///     let mut server: Server<()> = Server::new(Limits::default())?;
///     server.adopt(inherited(3)?)?; // sd_listen_fds(3)
/// }
/// assert!(inherited(-1).is_err());
/// # Ok(())
/// # }
/// ```
///
/// [pidfd_getfd(2)]: https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html
#[doc(alias = "LISTEN_FDS")]
#[doc(alias = "from_raw_fd")]
pub fn inherited(number: RawFd) -> std::io::Result<OwnedFd> {
    crate::sys::duplicate_number(number)
}

/// The descriptors of one datagram, in the order they were sent.
///
/// Each place is owned until it is [taken](Fds::take); taking one moves it out and leaves the others
/// where they are, so an index means the same thing for as long as the list lives. Dropping the list
/// closes what is left; of what has been received, on another thread, because closing can take as long as the sender
/// likes. Received descriptors are close-on-exec (`MSG_CMSG_CLOEXEC`, [recvmsg(2)]), and
/// [`push`](Fds::push) makes the others so.
///
/// [recvmsg(2)]: https://man7.org/linux/man-pages/man2/recvmsg.2.html
///
/// # Examples
///
/// ```
/// use jsoncomm::Fds;
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
    /// Elsewhere, so that an empty list, as most are, is a word to pass on and to drop.
    list: Option<Box<List>>,
}

/// So many places are where the list is; more are elsewhere.
const FEW: usize = 4;

/// The places of a list that is not empty.
#[derive(Default)]
struct List {
    few: [Option<OwnedFd>; FEW],
    more: Vec<Option<OwnedFd>>,
    length: usize,
    /// Who closes what is left.
    discard: Option<Arc<dyn Discard>>,
    /// Sockets that have been taken, once more ([`Fds::take_for_now`]).
    held: Vec<OwnedFd>,
}

impl List {
    fn push(&mut self, fd: Option<OwnedFd>) {
        match self.few.get_mut(self.length) {
            Some(place) => *place = fd,
            None => self.more.push(fd),
        }
        self.length += 1;
    }

    fn get(&self, index: usize) -> Option<&OwnedFd> {
        let place = match index.checked_sub(FEW) {
            None => self.few.get(index),
            Some(beyond) => self.more.get(beyond),
        };
        place?.as_ref()
    }

    fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let place = match index.checked_sub(FEW) {
            None => self.few.get_mut(index),
            Some(beyond) => self.more.get_mut(beyond),
        };
        place?.take()
    }

    /// Closes what is left, or has it closed.
    #[expect(
        clippy::boxed_local,
        reason = "whoever drops an empty list has none of this"
    )]
    #[inline(never)]
    fn close(mut self: Box<Self>) {
        if let Some(discard) = self.discard.take() {
            let mut left = std::mem::take(&mut self.held);
            if !left.is_empty() || (0..self.length).any(|index| self.get(index).is_some()) {
                left.extend(self.take_all().into_iter().flatten());
                discard.discard(left);
            }
        }
    }

    /// Empties it.
    fn take_all(&mut self) -> Vec<Option<OwnedFd>> {
        let few = std::mem::take(&mut self.few).into_iter();
        let places = few.chain(std::mem::take(&mut self.more));
        places.take(std::mem::take(&mut self.length)).collect()
    }
}

/// Closes descriptors that nobody wants.
pub(crate) trait Discard: Send + Sync {
    /// Takes them over; does not wait until they are closed.
    fn discard(self: Arc<Self>, fds: Vec<OwnedFd>);
}

impl Fds {
    /// Makes an empty list; allocates nothing.
    pub const fn new() -> Self {
        Self { list: None }
    }

    /// Has what is left closed by somebody else, because that may take its time.
    pub(crate) fn set_discard(&mut self, discard: Arc<dyn Discard>) {
        if let Some(list) = &mut self.list {
            list.discard = Some(discard);
        }
    }

    /// Appends a descriptor that the kernel has just installed, close-on-exec.
    pub(crate) fn put(&mut self, fd: OwnedFd) {
        self.list.get_or_insert_default().push(Some(fd));
    }

    /// Appends `fd`, makes it close-on-exec and returns its index.
    ///
    /// # Errors
    ///
    /// What [fcntl(2)] reports for `F_SETFD`; the descriptor is then closed and the list unchanged.
    ///
    /// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
    pub fn push(&mut self, fd: OwnedFd) -> std::io::Result<usize> {
        crate::sys::set_cloexec(fd.as_fd())?;
        self.put(fd);
        Ok(self.len() - 1)
    }

    /// Moves the descriptor at `index` out; `None` when it was taken before or never there.
    pub fn take(&mut self, index: usize) -> Option<OwnedFd> {
        self.list.as_mut()?.take(index)
    }

    /// The same for who may still drop what is made of it: the last to close a socket waits, so another descriptor of
    /// it stays here until [`taken`](Self::taken), for who closes what is left.
    pub(crate) fn take_for_now(&mut self, index: usize) -> Option<OwnedFd> {
        let list = self.list.as_mut()?;
        let fd = list.take(index)?;
        if list.discard.is_some() && crate::sys::socket::is_any_socket(fd.as_fd()) {
            // There is none if this process has no descriptors left.
            list.held.extend(fd.try_clone());
        }
        Some(fd)
    }

    /// What has been taken stays with whoever took it.
    pub(crate) fn taken(&mut self) {
        if let Some(list) = &mut self.list {
            list.held.clear();
        }
    }

    /// Moves the first descriptor out and shifts the rest down to index 0.
    pub(crate) fn take_front(&mut self) -> Option<OwnedFd> {
        let list = self.list.as_mut()?;
        let mut places = list.take_all().into_iter();
        let front = places.next().flatten();
        places.for_each(|place| list.push(place));
        front
    }

    /// Lends the descriptor at `index`, if it is still here.
    pub fn get(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.list.as_ref()?.get(index).map(AsFd::as_fd)
    }

    /// Counts the places, those already taken included: indices run from 0 to below this.
    pub fn len(&self) -> usize {
        self.list.as_ref().map_or(0, |list| list.length)
    }

    /// Says whether the datagram carried no descriptor at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lends each descriptor that is still here, with its index, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        (0..self.len()).filter_map(|index| Some((index, self.get(index)?)))
    }
}

/// Takes over descriptors that the kernel has just installed, all close-on-exec.
impl From<Vec<OwnedFd>> for Fds {
    fn from(fds: Vec<OwnedFd>) -> Self {
        let mut list = Self::new();
        fds.into_iter().for_each(|fd| list.put(fd));
        list
    }
}

impl IntoIterator for Fds {
    type Item = OwnedFd;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<OwnedFd>>>;

    /// Moves out every descriptor that is still here, in order.
    fn into_iter(mut self) -> Self::IntoIter {
        let places = self.list.as_mut().map(|list| list.take_all());
        places.unwrap_or_default().into_iter().flatten()
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

impl fmt::Debug for Fds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = (0..self.len()).map(|index| self.get(index)).collect();
        f.debug_tuple("Fds").field(&places).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
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
    fn many_are_kept_as_few_are() {
        let null = File::open("/dev/null").unwrap();
        for count in [FEW, FEW + 1, 3 * FEW] {
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
    fn a_number_leads_to_the_same_file_and_stays_open() {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let copy = inherited(far.as_raw_fd()).unwrap();
        let flags = rustix::io::fcntl_getfd(&copy).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        drop(far);
        near.write_all(b"x").unwrap();
        let mut read = [0];
        File::from(copy).read_exact(&mut read).unwrap();
        assert_eq!(read, *b"x");
        for nothing in [-1, RawFd::MAX] {
            assert!(inherited(nothing).is_err());
        }
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
