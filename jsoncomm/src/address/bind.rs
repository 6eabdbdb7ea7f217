//! Binding: what may be in the way, what the file looks like, and who removes it.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Address, too_long};
use crate::error::{AddressProblem, Error};
use crate::sys::OsError;
use crate::sys::file::{self, Entry, Identity};
use crate::sys::name::{self, Name};
use crate::sys::process::Origin;
use crate::sys::socket::{self, Probe, Type};
use crate::sys::wait;

/// Where to bind, and who may connect there.
///
/// A path or an [`Address`] alone is enough for [`Server::bind`], [`Socket::bind`] and [`Listener::bind`];
/// this adds mode and owner of the file. They rule who may connect, which takes the right to write to it.
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
/// # What may be in the way
///
/// The file that a dead server left is replaced: a socket, which no process has open, and which belongs to
/// the process's effective user or to the [`owner`](Bind::owner) that is asked for. Root replaces no one
/// else's either. Anything else stays as it is and the error says what it is: a live socket, whatever its
/// kind, a file, a directory, a symbolic link (links on the way to the directory are followed), somebody
/// else's socket ([`AddressProblem`]).
///
/// Of several that start at the same time, one gets the path: the directory is locked ([flock(2)]) until
/// the socket is bound and listens. That takes less than a millisecond; when another program keeps the lock
/// for a second, binding fails. Whoever may read the directory can do that, so services should have a
/// directory of their own and not bind in `/tmp`. Where the directory cannot be locked, because it may not
/// be read or is on a file system without locks, free paths are bound and dead sockets are not replaced.
///
/// # Who removes it
///
/// The file is removed before the socket is closed, when what was bound is dropped, and only if it is still
/// the same file. This also holds after the process or the directory has moved. A relative path starts from
/// the current directory of the moment of binding. A forked child that drops its copy removes nothing.
///
/// [`Server::bind`]: crate::Server::bind
/// [`Socket::bind`]: crate::socket::Socket::bind
/// [`Listener::bind`]: crate::socket::Listener::bind
/// [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bind {
    address: Address,
    mode: Option<u32>,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Bind {
    /// Binds at an address as it is.
    pub fn at(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            mode: None,
            owner: None,
            group: None,
        }
    }

    /// Sets the permission bits of the file, whatever the process's umask.
    ///
    /// Without this they are 0777 less the umask, as with any program; with an owner or a group they are
    /// 0600 or 0660.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Gives the file to a user. Only root may give files away.
    ///
    /// Until owner, group and mode are as they should be, only the process's own user may connect.
    #[must_use]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Gives the file to a group, of which the process has to be a member unless it is root's.
    ///
    /// Until owner, group and mode are as they should be, only the process's own user may connect.
    #[must_use]
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Gives `socket` its address, and opens it to clients if it takes connections.
    ///
    /// The caller drops the result before it closes the socket; see [`Bound`].
    pub(crate) fn bind(&self, socket: BorrowedFd<'_>, of: Type) -> Result<Bound, Error> {
        self.check()?;
        let Some(path) = self.address.as_path() else {
            let name = self.address.resolve()?.name;
            socket::bind(socket, &name).map_err(|error| self.os(error))?;
            let others = socket::hold_other_types(&name, of);
            let others = others.map_err(|error| self.os(error))?;
            listen(socket, of)?;
            return Ok(Bound::Name { _others: others });
        };
        let spot = self.find(path)?;
        let lock = self.lock(&spot)?;
        if let Some(mode) = self.first_mode() {
            file::set_mode(socket, mode)?;
        }
        self.take(&spot, socket, lock.as_ref())?;
        let bound = self.hold(spot)?;
        listen(socket, of)?;
        Ok(Bound::Path { _path: bound })
    }

    /// Refuses what no file can have.
    fn check(&self) -> Result<(), Error> {
        let problem = if let Some(mode) = self.mode.filter(|mode| *mode > 0o777) {
            AddressProblem::NoSuchMode { mode }
        } else if [self.owner, self.group].contains(&Some(u32::MAX)) {
            AddressProblem::NoSuchOwner
        } else if self.last_mode().is_some() && self.address.as_path().is_none() {
            AddressProblem::NotAPath
        } else {
            return Ok(());
        };
        Err(self.address.error(problem))
    }

    /// The mode in the end; `None` is what the umask leaves.
    fn last_mode(&self) -> Option<u32> {
        let for_whom = self.owner.map(|_| 0o600);
        let for_whom = self.group.map_or(for_whom, |_| Some(0o660));
        self.mode.or(for_whom)
    }

    /// The mode to appear with: nothing for groups and others before it is known who they are.
    fn first_mode(&self) -> Option<u32> {
        let settled = self.owner.or(self.group).is_none();
        let mask = if settled { 0o777 } else { 0o700 };
        self.last_mode().map(|mode| mode & mask)
    }

    /// Opens the directory, and finds a name for the kernel.
    ///
    /// A path of up to 107 bytes is given to the kernel as it is, so that peers see it as their address; a
    /// longer one through the directory's descriptor.
    fn find(&self, path: &Path) -> Result<Spot, Error> {
        let bytes = path.as_os_str().as_encoded_bytes();
        let error = |problem| self.address.error(problem);
        if bytes.is_empty() {
            return Err(error(AddressProblem::Empty));
        }
        if bytes.contains(&0) {
            return Err(error(AddressProblem::Nul));
        }
        let file = path
            .file_name()
            .filter(|file| bytes.ends_with(file.as_encoded_bytes()))
            .ok_or_else(|| error(AddressProblem::NoFileName))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = file::open_directory(parent).map_err(|error| self.os(error))?;
        let name = match Name::from_path(path.as_os_str()) {
            Some(name) => name,
            None => name_within(directory.as_fd(), file).map_err(error)?,
        };
        Ok(Spot {
            directory,
            file: file.to_owned(),
            name,
        })
    }

    /// Waits until no one else binds in the directory; `None` where it cannot be locked.
    fn lock(&self, spot: &Spot) -> Result<Option<Lock>, Error> {
        /// Nobody needs it for longer than some system calls.
        const PATIENCE: Duration = Duration::from_secs(1);
        const PAUSE: Duration = Duration::from_millis(1);
        let until = Instant::now() + PATIENCE;
        let fd = match file::open_to_lock(spot.directory.as_fd()) {
            Ok(fd) => fd,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(self.os(error)),
        };
        loop {
            match file::try_lock(fd.as_fd()) {
                Ok(true) => return Ok(Some(Lock(fd))),
                Ok(false) if Instant::now() < until => wait::pause(PAUSE),
                Ok(false) => return Err(self.address.error(AddressProblem::Locked)),
                // The file system knows no locks.
                Err(_) => return Ok(None),
            }
        }
    }

    /// Binds the socket, in place of a dead one if need be.
    fn take(&self, spot: &Spot, socket: BorrowedFd<'_>, lock: Option<&Lock>) -> Result<(), Error> {
        /// More than one: programs that know nothing of the lock put files there and take them away.
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            match socket::bind(socket, &spot.name) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AddrInUse => self.clear(spot, lock)?,
                Err(error) => return Err(self.os(error)),
            }
        }
        Err(self.address.error(AddressProblem::InUse))
    }

    /// Removes what is in the way if it is a dead socket of ours, or says what it is.
    fn clear(&self, spot: &Spot, lock: Option<&Lock>) -> Result<(), Error> {
        let Some(entry) = spot.entry()? else {
            return Ok(());
        };
        let is_ours = entry.owner == file::euid() || Some(entry.owner) == self.owner;
        let owner = entry.owner;
        let error = |problem| Err(self.address.error(problem));
        if let Some(found) = entry.other_than_socket {
            return error(AddressProblem::NotASocket { found });
        }
        match spot.probe(&entry) {
            Ok(Probe::Live) => error(AddressProblem::InUse),
            Ok(_) if !is_ours => error(AddressProblem::Foreign { owner }),
            Ok(Probe::Unknown) => error(AddressProblem::Denied),
            Ok(Probe::Dead) if lock.is_none() => error(AddressProblem::Unlockable),
            Ok(Probe::Dead) => spot.remove(entry.identity).map_err(|error| self.os(error)),
            Err(error) => Err(self.os(error)),
        }
    }

    /// Takes hold of the file that has just been bound, and makes it as it should be.
    fn hold(&self, spot: Spot) -> Result<BoundPath, Error> {
        let vanished = || self.address.error(AddressProblem::Vanished);
        let identity = file::socket_identity(spot.directory.as_fd(), &spot.file);
        let identity = identity?.ok_or_else(vanished)?;
        // From here on the file is removed if anything fails.
        let origin = Origin::here();
        let bound = BoundPath {
            spot,
            identity,
            origin,
        };
        if let Some(mode) = self.last_mode() {
            let entry = bound.spot.entry()?.ok_or_else(vanished)?;
            // Whoever may write to the directory may have put another there meanwhile.
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
        // The umask takes away from what a file appears with.
        if entry.mode != mode {
            let path = file::proc_name(file);
            let path = path.ok_or_else(|| self.address.error(AddressProblem::NoProc))?;
            file::chmod(&path, mode)?;
        }
        Ok(())
    }

    /// Says what a system call's error means for who binds.
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

/// Opens a socket that takes connections to its clients.
fn listen(socket: BorrowedFd<'_>, of: Type) -> Result<(), Error> {
    match of {
        Type::Dgram => Ok(()),
        Type::Seqpacket => Ok(socket::listen(socket)?),
    }
}

/// Names a file in a directory whose own path is too long.
fn name_within(directory: BorrowedFd<'_>, file: &OsStr) -> Result<Name, AddressProblem> {
    let mut path = file::proc_name(directory).ok_or(AddressProblem::NoProc)?;
    path.push("/");
    let limit = name::PATH_MAX.saturating_sub(path.len());
    path.push(file);
    Name::from_path(&path).ok_or(too_long(file.len(), limit))
}

/// Where a file is to be.
#[derive(Debug)]
struct Spot {
    directory: OwnedFd,
    file: OsString,
    /// The same for the kernel.
    name: Name,
}

impl Spot {
    /// Takes hold of the file that is there.
    fn entry(&self) -> Result<Option<Entry>, Error> {
        Ok(file::entry(self.directory.as_fd(), &self.file)?)
    }

    /// Asks whether anybody has the socket open; the very one that was found, where `/proc` is mounted.
    fn probe(&self, entry: &Entry) -> Result<Probe, OsError> {
        let through = file::proc_name(entry.file.as_fd());
        let name = through.and_then(|path| Name::from_path(&path));
        socket::probe(&name.unwrap_or(self.name))
    }

    /// Removes the file if it is still this one. An [`Entry`] of it, and a socket bound to it, keep its inode
    /// from being used again, and thereby keep the comparison honest.
    fn remove(&self, identity: Identity) -> Result<(), OsError> {
        let found = file::socket_identity(self.directory.as_fd(), &self.file)?;
        if found == Some(identity) {
            file::unlink(self.directory.as_fd(), &self.file)?;
        }
        Ok(())
    }
}

/// The right to replace files in a directory, until it is dropped.
struct Lock(OwnedFd);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child that another thread is just starting.
        file::unlock(self.0.as_fd());
    }
}

/// What belongs to the address of a bound socket, until it is dropped. It must be dropped before the socket is closed.
#[derive(Debug)]
pub(crate) enum Bound {
    /// The file.
    Path { _path: BoundPath },
    /// The same abstract name in the other types of socket.
    Name { _others: Vec<OwnedFd> },
}

/// The file of a bound socket; removes it when dropped, if it is still the same file.
///
/// It stands on a directory descriptor opened when binding, so it finds its file after `chdir` and
/// after something was mounted over the path. Of a socket that is closed already, whoever starts next could take the
/// path between the comparison and the removal.
#[derive(Debug)]
pub(crate) struct BoundPath {
    spot: Spot,
    identity: Identity,
    /// The process that has bound it, to which it belongs.
    origin: Origin,
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // Nobody is left to tell, and a file that stays is replaced by the next start.
            let _ = self.spot.remove(self.identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject::{self, Plan};
    use rustix::io::Errno;

    #[test]
    fn nothing_is_left_behind_when_the_bound_file_cannot_be_looked_at_in_full() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bind.sock");
        let socket = socket::socket(Type::Dgram).unwrap();
        // The directory is opened twice before, to stand in and to lock it.
        let (call, times, errno) = ("openat", 2..3, Errno::MFILE);
        inject::begin(Some(Plan { call, times, errno }));
        // Another mode than it appears with, so that the file has to be opened.
        let bound = Bind::at(&path)
            .mode(0o600)
            .bind(socket.as_fd(), Type::Dgram);
        assert_eq!((bound.is_err(), inject::failed()), (true, 1));
        assert!(!path.exists());
    }
}
