//! Binding: files in the way, mode and owner, and removal.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::Address;
use super::location::{Bound, BoundPath, Location, Lock, name_within};
use crate::error::{AddressProblem, Error};
use crate::sys::OsError;
use crate::sys::file::{self, Entry};
use crate::sys::name::Name;
use crate::sys::socket::{self, Kind, Probe};

/// An address to bind, with the mode, owner and group of the socket's file.
///
/// [`Server::bind`], [`Socket::bind`] and [`Listener::bind`] take it, or a path or [`Address`] alone. To connect, a process
/// needs write permission for the file.
///
/// | set | mode | owner and group |
/// |---|---|---|
/// | nothing | 0777 less the umask | the process's |
/// | [`owner`](Bind::owner) | 0600 | owner set |
/// | [`group`](Bind::group) | 0660 | group set |
/// | [`mode`](Bind::mode) | as set, whatever the umask | as above |
///
/// Until all of it is set, only the process's own user can connect.
///
/// # Files in the way
///
/// The socket of a server that has ended is replaced. It must belong to the process's effective user or to the
/// [`owner`](Bind::owner) to be set, also if the process is root's. Anything else stays, and binding fails with an
/// [`AddressProblem`]: a socket that is in use, a socket of another user, a file, a directory, a symbolic link. Links in the
/// path of the directory are followed.
///
/// # Starting several servers
///
/// If several processes bind a path at the same time, one gets it. The directory is locked ([flock(2)]) until the socket
/// listens, which takes less than a millisecond. Binding waits for the lock for up to a second, then it fails. Any process
/// that may read the directory can hold the lock, so a service should have a directory of its own, not `/tmp`. A directory
/// that cannot be locked (no read permission, a file system without locks) takes new sockets, but dead ones are not replaced.
///
/// # Removal
///
/// The file is removed when what was bound is dropped, before the socket is closed, if it is still the same file. This holds
/// after the process changed its directory or the directory was moved. A relative path is resolved when binding. A forked
/// child removes nothing.
///
/// # Examples
///
/// ```
/// use jsoncomm::address::Bind;
/// use jsoncomm::{Kind, Limits, Server};
/// # let directory = tempfile::tempdir()?;
/// # let (path, gid) = (directory.path().join("example.sock"), rustix::process::getegid().as_raw());
///
/// let mut server: Server<()> = Server::new(Limits::default())?;
/// server.bind(Bind::at(&path).mode(0o660).group(gid), Kind::Seqpacket)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`Server::bind`]: crate::Server::bind
/// [`Socket::bind`]: crate::socket::Socket::bind
/// [`Listener::bind`]: crate::socket::Listener::bind
/// [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "it binds nothing by itself: pass it to a `bind` function"]
pub struct Bind {
    address: Address,
    mode: Option<u32>,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Bind {
    /// Creates a `Bind` for this address, with the default mode and owner.
    pub fn at(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            mode: None,
            owner: None,
            group: None,
        }
    }

    /// Sets the permission bits of the file, whatever the process's umask: at most 0777.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets the owner of the file, by user id. Only root can set another user's.
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Sets the group of the file, by group id. The process must be a member of the group, or root's.
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Binds `socket`, and listens if it is connection-oriented.
    ///
    /// The result must be dropped before the socket is closed; see [`Bound`].
    pub(crate) fn bind(&self, socket: BorrowedFd<'_>, of: Kind) -> Result<Bound, Error> {
        self.check()?;
        let Some(path) = self.address.as_path() else {
            let name = self.address.resolve()?.name;
            socket::bind(socket, &name).map_err(|error| self.os(error))?;
            let others = socket::hold_other_types(&name, of);
            let others = others.map_err(|error| self.os(error))?;
            listen(socket, of)?;
            return Ok(Bound::Name(others));
        };
        let location = self.locate(path)?;
        let lock = self.lock(&location)?;
        if let Some(mode) = self.initial_mode() {
            file::set_mode(socket, mode)?;
        }
        self.bind_path(&location, socket, lock.as_ref())?;
        let bound = self.set_up(location)?;
        listen(socket, of)?;
        Ok(Bound::Path(bound))
    }

    /// Refuses a mode, owner or group that cannot be set.
    fn check(&self) -> Result<(), Error> {
        let problem = if let Some(mode) = self.mode.filter(|mode| *mode > 0o777) {
            AddressProblem::NoSuchMode { mode }
        } else if [self.owner, self.group].contains(&Some(u32::MAX)) {
            AddressProblem::NoSuchOwner
        } else if self.final_mode().is_some() && self.address.as_path().is_none() {
            AddressProblem::NotAPath
        } else {
            return Ok(());
        };
        Err(self.address.error(problem))
    }

    /// The mode to leave the file with. `None` if the umask decides.
    fn final_mode(&self) -> Option<u32> {
        let for_owner = self.owner.map(|_| 0o600);
        let for_group = self.group.map(|_| 0o660);
        self.mode.or(for_group).or(for_owner)
    }

    /// The mode to create the file with. It gives nothing to group and others until the owner and group are set.
    fn initial_mode(&self) -> Option<u32> {
        let is_final = self.owner.or(self.group).is_none();
        let mask = if is_final { 0o777 } else { 0o700 };
        self.final_mode().map(|mode| mode & mask)
    }

    /// Opens the directory, and finds a name for the kernel.
    ///
    /// A path of up to 107 bytes is passed as it is, since peers see it as the socket's address. A longer one is reached
    /// through the directory's descriptor.
    fn locate(&self, path: &Path) -> Result<Location, Error> {
        self.address.check_path(path)?;
        let bytes = path.as_os_str().as_encoded_bytes();
        let file = path
            .file_name()
            .filter(|file| bytes.ends_with(file.as_encoded_bytes()))
            .ok_or_else(|| self.address.error(AddressProblem::NoFileName))?;
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        let directory = file::open_directory(parent).map_err(|error| self.os(error))?;
        let short = Name::from_path(path.as_os_str()).map(Ok);
        let name = short.unwrap_or_else(|| name_within(directory.as_fd(), file));
        Ok(Location {
            name: name.map_err(|problem| self.address.error(problem))?,
            directory,
            file: file.to_owned(),
        })
    }

    /// Locks the directory against other servers that bind. `None` if it cannot be locked.
    fn lock(&self, location: &Location) -> Result<Option<Lock>, Error> {
        let fd = match file::open_to_lock(location.directory.as_fd()) {
            Ok(fd) => fd,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(self.os(error)),
        };
        match Lock::acquire(fd) {
            Ok(None) => Err(self.address.error(AddressProblem::Locked)),
            Ok(lock) => Ok(lock),
            // The file system has no locks.
            Err(_) => Ok(None),
        }
    }

    /// Binds the socket to the path, and replaces a dead socket there.
    fn bind_path(
        &self,
        location: &Location,
        socket: BorrowedFd<'_>,
        lock: Option<&Lock>,
    ) -> Result<(), Error> {
        /// More than one, because programs that ignore the lock can create and remove files meanwhile.
        const ATTEMPTS: usize = 4;
        for _ in 0..ATTEMPTS {
            match socket::bind(socket, &location.name) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    self.remove_dead_socket(location, lock)?;
                }
                Err(error) => return Err(self.os(error)),
            }
        }
        Err(self.address.error(AddressProblem::InUse))
    }

    /// Removes the file in the way, if it is a dead socket that may be replaced.
    fn remove_dead_socket(&self, location: &Location, lock: Option<&Lock>) -> Result<(), Error> {
        let Some(entry) = location.entry()? else {
            return Ok(());
        };
        let owner = entry.owner;
        let is_ours = owner == file::euid() || Some(owner) == self.owner;
        let problem = if let Some(found) = entry.other_than_socket {
            AddressProblem::NotASocket { found }
        } else {
            match location.probe(&entry).map_err(|error| self.os(error))? {
                Probe::Live => AddressProblem::InUse,
                _ if !is_ours => AddressProblem::Foreign { owner },
                Probe::Unknown => AddressProblem::Denied,
                Probe::Dead if lock.is_none() => AddressProblem::Unlockable,
                Probe::Dead => {
                    let removed = location.remove(entry.identity);
                    return removed.map_err(|error| self.os(error));
                }
            }
        };
        Err(self.address.error(problem))
    }

    /// Sets owner, group and mode of the file that has just been bound.
    fn set_up(&self, location: Location) -> Result<BoundPath, Error> {
        let vanished = || self.address.error(AddressProblem::Vanished);
        let identity = location.identity()?.ok_or_else(vanished)?;
        // From here on the file is removed if anything fails.
        let bound = BoundPath::new(location, identity);
        if let Some(mode) = self.final_mode() {
            let entry = bound.entry()?.ok_or_else(vanished)?;
            // A process that may write to the directory can have replaced the file.
            if entry.identity != identity || entry.owner != file::euid() {
                return Err(vanished());
            }
            self.set_access(&entry, mode)?;
        }
        Ok(bound)
    }

    fn set_access(&self, entry: &Entry, mode: u32) -> Result<(), Error> {
        let file = entry.file.as_fd();
        if self.owner.or(self.group).is_some() {
            file::set_owner(file, self.owner, self.group)?;
        }
        // The umask may have cleared bits of the initial mode.
        if entry.mode != mode {
            let path = file::proc_name(file);
            let path = path.ok_or_else(|| self.address.error(AddressProblem::NoProc))?;
            file::chmod(&path, mode)?;
        }
        Ok(())
    }

    /// Converts the error of a system call that binds.
    fn os(&self, error: OsError) -> Error {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                self.address.error(AddressProblem::NoDirectory)
            }
            _ => self.address.os(error),
        }
    }
}

impl From<Address> for Bind {
    fn from(address: Address) -> Self {
        Self::at(address)
    }
}

impl<P: AsRef<OsStr>> From<P> for Bind {
    fn from(path: P) -> Self {
        Self::at(path)
    }
}

/// Listens, if the socket is connection-oriented.
fn listen(socket: BorrowedFd<'_>, of: Kind) -> Result<(), Error> {
    match of {
        Kind::Datagram => Ok(()),
        Kind::Seqpacket => Ok(socket::listen(socket)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject::{self, Plan};
    use rustix::io::Errno;

    #[test]
    fn the_file_is_removed_when_its_mode_cannot_be_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bind.sock");
        let socket = socket::socket(Kind::Datagram).unwrap();
        // The directory is opened twice before: to find the file and to lock it.
        let (call, times, errno) = ("openat", 2..3, Errno::MFILE);
        inject::begin(Some(Plan { call, times, errno }));
        // Not the initial mode, so that the file has to be opened.
        let bound = Bind::at(&path)
            .mode(0o600)
            .bind(socket.as_fd(), Kind::Datagram);
        assert_eq!((bound.is_err(), inject::failed()), (true, 1));
        assert!(!path.exists());
    }
}
