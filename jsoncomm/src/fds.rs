//! The descriptors of one datagram, owned and in order.
//!
//! The place of a descriptor in [`Fds`] is its index in the JSON text. Dropping a list closes the descriptors that are left in it, so
//! each early return of a receiving function closes them all. Closing a received descriptor can take as long as its sender likes;
//! another thread does it. [`inherited_fd`] takes over a descriptor that the process was started with.

mod closer;

use std::fmt;
use std::io::{self, Error, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::sys::control::{Numbered, take_number};
use crate::sys::socket::is_any_socket;
use crate::sys::{file, memfd};

pub(crate) use closer::{Closer, Unwanted};

/// Most descriptors one datagram can carry (`SCM_MAX_FD`, include/net/scm.h in Linux).
pub const FDS_MAX: usize = 253;

/// Takes over a descriptor that this process was started with, by its number: a socket from a service manager, or
/// from the program that called execve(2).
///
/// The result owns the number: dropping it closes it, and the peer sees the end of a connection then. The descriptor
/// is made close-on-exec first, so processes that are started later do not inherit it. No system call but [fcntl(2)] is
/// made.
///
/// Numbers 0 to 2 are never given out, because the standard streams refer to them. A descriptor that is close-on-exec
/// already is not given out either: it was opened by this process (Rust opens all of its descriptors so), or has been
/// taken over before, by this function or by sd_listen_fds(3) and its like, which set the flag: read `LISTEN_FDS`
/// instead of calling those. What is left is an assumption: that no code of this process owns a descriptor under that number
/// which it has opened without `FD_CLOEXEC`, as a C library may, or from which it has removed the flag. Call this early,
/// before such code runs, and only with numbers that the starting program has named, as `LISTEN_FDS` does.
///
/// # Errors
///
/// [`InvalidInput`](ErrorKind::InvalidInput) for a number below 3, [`NotFound`](ErrorKind::NotFound) when nothing is
/// open under the number, [`AlreadyExists`](ErrorKind::AlreadyExists) when the descriptor is close-on-exec already. The
/// text names the number and the reason. Nothing has changed then.
///
/// # Examples
///
/// ```
/// use jsoncomm::fds::inherited_fd;
/// use jsoncomm::{Limits, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// if std::env::var("LISTEN_PID").is_ok_and(|id| id == std::process::id().to_string()) {
///     let mut server: Server<()> = Server::new(Limits::default())?;
///     server.adopt(inherited_fd(3)?)?; // sd_listen_fds(3)
/// }
/// assert!(inherited_fd(2).is_err());
/// # Ok(())
/// # }
/// ```
///
/// [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
#[doc(alias = "LISTEN_FDS")]
#[doc(alias = "from_raw_fd")]
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    let error = |kind, reason: &str| Error::new(kind, format!("descriptor {number} {reason}"));
    if number < 3 {
        let reason = "is not taken over: 0 to 2 are the standard streams";
        return Err(error(ErrorKind::InvalidInput, reason));
    }
    match take_number(number) {
        Ok(Numbered::Inherited(fd)) => Ok(fd),
        Ok(Numbered::CloseOnExec) => {
            let reason = "is close-on-exec: it was not inherited, or has been taken over already";
            Err(error(ErrorKind::AlreadyExists, reason))
        }
        Ok(Numbered::Closed) => Err(error(ErrorKind::NotFound, "is not open")),
        Err(cause) => {
            let reason = format!("cannot be taken over: {cause}");
            Err(error(cause.kind(), &reason))
        }
    }
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
    /// Elsewhere, so that an empty list, as most are, is a word to pass on and to drop.
    list: Option<Box<List>>,
}

/// So many places are where the list is; more are elsewhere.
const FEW: usize = 4;

/// The places of a list that is not empty.
#[derive(Default)]
struct List {
    few: [Place; FEW],
    more: Vec<Place>,
    length: usize,
    /// Who closes what is left.
    discard: Option<Arc<dyn Discard>>,
}

/// What is at a place of the list.
#[derive(Default)]
enum Place {
    /// It has been taken.
    #[default]
    Empty,
    Here(OwnedFd),
    /// It has been taken, and this is another descriptor of the same file ([`Fds::take_for_now`]).
    Held(OwnedFd),
}

impl Place {
    /// What is to be closed if it is not taken any more.
    fn into_fd(self) -> Option<OwnedFd> {
        match self {
            Self::Empty => None,
            Self::Here(fd) | Self::Held(fd) => Some(fd),
        }
    }

    /// Moves the descriptor out.
    fn take(&mut self) -> Option<OwnedFd> {
        match std::mem::take(self) {
            Self::Here(fd) => Some(fd),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl List {
    fn push(&mut self, fd: Option<OwnedFd>) {
        let fd = fd.map_or(Place::Empty, Place::Here);
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
        match place? {
            Place::Here(fd) => Some(fd),
            Place::Empty | Place::Held(_) => None,
        }
    }

    fn place(&mut self, index: usize) -> Option<&mut Place> {
        match index.checked_sub(FEW) {
            None => self.few.get_mut(index),
            Some(beyond) => self.more.get_mut(beyond),
        }
    }

    /// Closes what is left, or has it closed.
    #[expect(
        clippy::boxed_local,
        reason = "whoever drops an empty list has none of this"
    )]
    #[inline(never)]
    fn close(mut self: Box<Self>) {
        if let Some(discard) = self.discard.take() {
            let some = |place: &Place| !matches!(place, Place::Empty);
            if self.few.iter().chain(&self.more).any(some) {
                discard.discard(self.empty().filter_map(Place::into_fd).collect());
            }
        }
    }

    /// Empties it, and gives out its places.
    fn empty(&mut self) -> impl Iterator<Item = Place> + use<> {
        let few = std::mem::take(&mut self.few).into_iter();
        let places = few.chain(std::mem::take(&mut self.more));
        places.take(std::mem::take(&mut self.length))
    }

    /// Empties it, and gives out what has not been taken.
    fn take_all(&mut self) -> Vec<Option<OwnedFd>> {
        self.empty().map(|mut place| place.take()).collect()
    }
}

/// Returns true if the last close(2) of a descriptor can wait for as long as its sender likes, as far as that is known
/// without waiting: it is a socket, or a file in memory.
fn can_be_slow_to_close(fd: BorrowedFd<'_>) -> bool {
    is_any_socket(fd) || memfd::is_in_memory(fd)
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
        self.list.as_mut()?.place(index)?.take()
    }

    /// Moves the descriptor at `index` out for a message that may still be refused, and dropped with what has been read of
    /// it. The last to close a socket waits, and so does the last to close a memfd with much in it: another descriptor of
    /// the same file stays here until [`taken`](Self::taken), for who closes what is left.
    pub(crate) fn take_for_now(&mut self, index: usize) -> Option<OwnedFd> {
        let list = self.list.as_mut()?;
        let received = list.discard.is_some();
        let place = list.place(index)?;
        let fd = place.take()?;
        if received && can_be_slow_to_close(fd.as_fd()) {
            // There is none if this process has no descriptors left.
            *place = file::duplicate(fd.as_fd()).map_or(Place::Empty, Place::Held);
        }
        Some(fd)
    }

    /// What has been taken stays with whoever took it.
    pub(crate) fn taken(&mut self) {
        if let Some(list) = &mut self.list {
            for place in list.few.iter_mut().chain(&mut list.more) {
                if let Place::Held(_) = place {
                    *place = Place::Empty;
                }
            }
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

    /// What a process that was started with a descriptor has of it: a number, open across execve(2).
    fn bare_number(fd: impl AsFd) -> RawFd {
        std::mem::ManuallyDrop::new(rustix::io::dup(fd).unwrap()).as_raw_fd()
    }

    fn kind(number: RawFd) -> ErrorKind {
        inherited_fd(number).unwrap_err().kind()
    }

    #[test]
    fn an_inherited_descriptor_is_taken_over_once_and_closed_when_dropped() {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = bare_number(&far);
        drop(far);
        let fd = inherited_fd(number).unwrap();
        assert_eq!(fd.as_raw_fd(), number);
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(kind(number), ErrorKind::AlreadyExists);
        near.write_all(b"x").unwrap();
        let mut far = File::from(fd);
        far.read_exact(&mut [0]).unwrap();
        drop(far);
        assert_eq!(near.read(&mut [0]).unwrap(), 0, "the end comes at once");
    }

    #[test]
    fn what_was_not_inherited_is_not_taken_over() {
        let own = File::open("/dev/null").unwrap();
        assert_eq!(kind(own.as_raw_fd()), ErrorKind::AlreadyExists);
        for stream in [-1, 0, 2] {
            assert_eq!(kind(stream), ErrorKind::InvalidInput);
        }
        assert_eq!(kind(RawFd::MAX), ErrorKind::NotFound);
        let text = inherited_fd(RawFd::MAX).unwrap_err().to_string();
        assert_eq!(text, "descriptor 2147483647 is not open");
    }

    #[test]
    fn of_many_threads_that_take_over_a_descriptor_one_has_it() {
        let null = File::open("/dev/null").unwrap();
        for _ in 0..50 {
            let number = bare_number(&null);
            let threads = [(); 4].map(|()| std::thread::spawn(move || inherited_fd(number)));
            // Held until all have tried: the number of one that is dropped may be opened anew.
            let taken = threads.map(|thread| thread.join().unwrap());
            assert_eq!(taken.iter().filter(|fd| fd.is_ok()).count(), 1);
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
