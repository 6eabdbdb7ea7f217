//! Services by name: directories with a symbolic link for each service.

mod name;
mod register;
mod walk;

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Address, Lookup, Place, Resolved, Service};
use crate::error::{AddressProblem, Error, RegistryProblem};
use crate::sys::control::{is_secure, peer_credentials};
use crate::sys::file::{self, FileType};
use crate::sys::link;
use crate::sys::name::Name;
use walk::{Reached, Stop, Trust, Walk};

/// The registry of the system, in which root makes the entries.
const SYSTEM: &str = "/run/jsoncomm";
/// The name of a user's registry in `XDG_RUNTIME_DIR`.
const OF_USER: &str = "jsoncomm";
/// The variable with further directories.
const VARIABLE: &str = "JSONCOMM_REGISTRY";

/// Directories in which services are found by their names.
///
/// An entry is a symbolic link that has the service's name and leads to its socket. Nothing else is needed, so any program can
/// read and make entries: `ln -s /run/files/socket /run/jsoncomm/example.files`.
///
/// | searched | directory | who makes entries |
/// |---:|---|---|
/// | 1 | those in `JSONCOMM_REGISTRY`, with `:` between them | who owns them |
/// | 2 | `$XDG_RUNTIME_DIR/jsoncomm` | the user's own services |
/// | 3 | `/run/jsoncomm` | root: a line in `tmpfiles.d`, `Symlinks=` of a socket unit, or a service of root |
///
/// The first entry found is used; [`ServiceEntry::hides`] returns the others. A directory that does not exist is skipped, and so
/// is a relative path in a variable. Both variables are ignored if the process has more rights than the one that started it
/// (`AT_SECURE`, [getauxval(3)]): it is set-user-ID, set-group-ID or has file capabilities.
///
/// # Whom to believe
///
/// An entry is used only if nobody but root and this process's effective user could have made it or what it leads to.
/// Otherwise finding it fails with a [`RegistryProblem`]; no later directory is searched.
///
/// | checked | has to |
/// |---|---|
/// | each directory on the way to the entry and to the socket | belong to root or this user, and have no write permission for others (`go-w`); one with the sticky bit, such as `/tmp`, may be passed on the way to a directory |
/// | each symbolic link | belong to root or this user |
/// | the socket's file | belong to root or this user; its mode says who may connect, not who may replace it |
/// | the server, once connected | run as the owner of the entry, or as root |
///
/// The server is checked for [`Kind::Seqpacket`](crate::Kind::Seqpacket) only, before anything is sent. The kernel does not tell
/// who serves a [`Kind::Datagram`](crate::Kind::Datagram) socket; there the checks of the files are all. A server that got its
/// socket from the service manager counts as run by that: the kernel reports who called [listen(2)].
///
/// The directories are opened one after the other and never by path a second time, so nothing can be exchanged in between.
/// This needs `/proc`.
///
/// # Examples
///
/// ```no_run
/// use jsoncomm::address::Registry;
///
/// let registry = Registry::from_env();
/// for name in registry.names()? {
///     match registry.find(&name) {
///         Ok(entry) => println!("{name}: {}, hides {:?}", entry.socket().display(), entry.hides()),
///         Err(error) => println!("{name}: {error}"),
///     }
/// }
/// # Ok::<(), jsoncomm::Error>(())
/// ```
///
/// [getauxval(3)]: https://man7.org/linux/man-pages/man3/getauxval.3.html
/// [listen(2)]: https://man7.org/linux/man-pages/man2/listen.2.html
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Registry {
    directories: Box<[PathBuf]>,
    /// Where services of this process are registered.
    own: PathBuf,
}

/// An entry of a [`Registry`] that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    name: String,
    link: PathBuf,
    socket: PathBuf,
    owner: u32,
    hides: Vec<PathBuf>,
}

impl ServiceEntry {
    /// The name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of the entry: which directory it was found in.
    pub fn link(&self) -> &Path {
        &self.link
    }

    /// The path of the socket's file, without symbolic links.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// User id of the entry's owner, as whom, or as root, the server has to run.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// The paths of entries with the same name in directories that are searched later.
    pub fn hides(&self) -> &[PathBuf] {
        &self.hides
    }
}

impl Registry {
    /// Creates a registry of these directories, in the order in which they are searched. Services are registered in the
    /// first.
    pub fn new<P: Into<PathBuf>>(directories: impl IntoIterator<Item = P>) -> Self {
        let directories: Box<[PathBuf]> = directories.into_iter().map(Into::into).collect();
        let own = directories.first().cloned();
        let own = own.unwrap_or_else(|| PathBuf::from(SYSTEM));
        Self { directories, own }
    }

    /// Creates the registry of this process, from its environment; see [above](Registry).
    ///
    /// Services are registered in the first directory of `JSONCOMM_REGISTRY`; without that, those of root in `/run/jsoncomm`, and
    /// those of another user in `$XDG_RUNTIME_DIR/jsoncomm`.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var_os(name).filter(|_| !is_secure());
        let first = variable(VARIABLE).unwrap_or_default();
        let first = std::env::split_paths(&first).filter(|path| path.is_absolute());
        let mut directories: Vec<PathBuf> = first.collect();
        let of_user = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        let of_user = of_user.filter(|path| path.is_absolute());
        let of_user = of_user.map(|path| path.join(OF_USER));
        let system = PathBuf::from(SYSTEM);
        let own = match (directories.first(), &of_user) {
            (Some(first), _) => first.clone(),
            (None, Some(of_user)) if file::euid() != 0 => of_user.clone(),
            _ => system.clone(),
        };
        directories.extend(of_user);
        directories.push(system);
        Self {
            directories: directories.into(),
            own,
        }
    }

    /// The directories, in the order in which they are searched.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Creates the address of a service, which is found here each time that it is connected to. See [`Address::service`].
    ///
    /// # Errors
    ///
    /// [`Error::Service`] if the text is no name of a service.
    pub fn address(&self, name: &str) -> Result<Address, Error> {
        name::check(name).map_err(|problem| problem.about(name))?;
        let named = Named {
            name: name.into(),
            registry: self.clone(),
        };
        Ok(Address(Place::Service(Service(Arc::new(named)))))
    }

    /// Finds the entry of a service, and checks it and all that it leads through. Connects to nothing.
    ///
    /// The socket may be dead, and its server is not checked before it is connected to.
    ///
    /// # Errors
    ///
    /// - [`Error::Address`] with [`AddressProblem::Missing`] if no directory has such an entry, or if its socket does not exist,
    ///   and with [`AddressProblem::Denied`] if this process may not enter a directory.
    /// - [`Error::Service`] if the text is no name of a service, or if the entry must not be used.
    pub fn find(&self, name: &str) -> Result<ServiceEntry, Error> {
        let (index, _, mut entry) = self.search(name)?;
        let later = self.directories.iter().skip(index + 1);
        let links = later.map(|directory| directory.join(name));
        let exists = |link: &PathBuf| std::fs::symlink_metadata(link).is_ok();
        entry.hides = links.filter(exists).collect();
        Ok(entry)
    }

    /// Returns the names of all entries, sorted, whether they can be used or not. [`find`](Self::find) looks at each.
    ///
    /// Files in the directories that have no service's name are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] for a directory that other users can write to, and [`Error::Address`] for one that this process may not
    /// read.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for path in &self.directories {
            let Some(directory) = open(path, &path.display().to_string())? else {
                continue;
            };
            let found = link::names(directory.fd());
            let found = found.map_err(|error| Address::from(path).os(error))?;
            names.extend(found.into_iter().filter_map(|name| name.into_string().ok()));
        }
        names.retain(|found| name::check(found).is_ok());
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Finds an entry, in the directory of this number, and the socket's file. Does not look what the entry hides.
    fn search(&self, name: &str) -> Result<(usize, Reached, ServiceEntry), Error> {
        name::check(name).map_err(|problem| problem.about(name))?;
        for (index, path) in self.directories.iter().enumerate() {
            let Some(directory) = open(path, name)? else {
                continue;
            };
            let link = path.join(name);
            let Some(found) = follow(directory, name, &link)? else {
                continue;
            };
            let (reached, owner) = found;
            let entry = ServiceEntry {
                name: name.to_owned(),
                link,
                socket: reached.path.clone(),
                owner,
                hides: Vec::new(),
            };
            return Ok((index, reached, entry));
        }
        let searched: Vec<_> = self
            .directories
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let place = format!("service:{name} (in {})", searched.join(", "));
        Err(problem_at(place, AddressProblem::Missing))
    }
}

/// Opens a directory of the registry; `None` if it does not exist.
fn open(path: &Path, name: &str) -> Result<Option<Walk>, Error> {
    match Walk::to_directory(path, Trust::here()) {
        Ok(walk) => Ok(Some(walk)),
        Err(Stop::Missing(_)) => Ok(None),
        Err(stop) => Err(stop.about(name)),
    }
}

/// Follows the entry of a service in a directory to the socket. Returns the entry's owner as well; `None` if there is no entry.
fn follow(directory: Walk, name: &str, link: &Path) -> Result<Option<(Reached, u32)>, Error> {
    let entry = file::entry(directory.fd(), OsStr::new(name));
    let entry = entry.map_err(|error| Address::from(link).os(error))?;
    let Some(entry) = entry else {
        return Ok(None);
    };
    if entry.sort != FileType::Symlink {
        let problem = RegistryProblem::NotALink {
            path: link.to_owned(),
            found: entry.other_than_socket.unwrap_or("a socket"),
        };
        return Err(problem.about(name));
    }
    let reached = directory.follow(&entry, link);
    let reached = reached.map_err(|stop| stop.about(name))?;
    if let Some(found) = reached.entry.other_than_socket {
        let path = reached.path;
        return Err(RegistryProblem::NotASocket { path, found }.about(name));
    }
    Ok(Some((reached, entry.owner)))
}

fn problem_at(address: String, problem: AddressProblem) -> Error {
    Error::Address { address, problem }
}

impl Stop {
    /// The error of a search for this service.
    fn about(self, name: &str) -> Error {
        let at = |path: PathBuf| format!("service:{name} ({})", path.display());
        match self {
            Self::Missing(path) => problem_at(at(path), AddressProblem::Missing),
            Self::Problem(problem) => problem.about(name),
            Self::Os(path, error) => match error.kind() {
                ErrorKind::PermissionDenied => problem_at(at(path), AddressProblem::Denied),
                _ => error.into(),
            },
        }
    }
}

/// A service's name, and where it is looked up.
#[derive(Debug)]
struct Named {
    name: Box<str>,
    registry: Registry,
}

impl Lookup for Named {
    fn parts(&self) -> (&str, &[PathBuf]) {
        (&self.name, &self.registry.directories)
    }

    fn resolve(&self) -> Result<Resolved, Error> {
        let (_, reached, entry) = self.registry.search(&self.name)?;
        let through = file::proc_name(reached.entry.file.as_fd());
        let name = through.and_then(|path| Name::from_path(&path));
        let address = || format!("service:{}", self.name);
        Ok(Resolved {
            name: name.ok_or_else(|| problem_at(address(), AddressProblem::NoProc))?,
            _file: Some(reached.entry.file),
            check: Some(Box::new(move |socket| check_server(&entry, socket))),
        })
    }
}

/// Fails if the server that a seqpacket socket is connected to is neither the user's who owns the entry nor root's.
fn check_server(entry: &ServiceEntry, socket: BorrowedFd<'_>) -> Result<(), Error> {
    let owner = entry.owner;
    let server = peer_credentials(socket)?.uid;
    if [0, owner].contains(&server) {
        return Ok(());
    }
    let server = Some(server).filter(|server| *server != u32::MAX);
    Err(RegistryProblem::OtherServer { server, owner }.about(&entry.name))
}

impl Address {
    /// Creates the address of a service by its name, which the [`Registry`] of this process leads to its socket.
    ///
    /// The registry is determined by the environment as it is now. The entry is found and checked whenever the address is
    /// connected to, also by a connection that [reconnects](crate::Connection::reconnecting). Then it fails as
    /// [`Registry::find`] does, or with [`RegistryProblem::OtherServer`] if the server is not the one meant.
    ///
    /// A server cannot be bound to a service's name: bind a path, and [register](crate::Endpoint::register) it.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] if the text is no name that `#[service]` allows.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::address::Address;
    ///
    /// let address = Address::service("example.files")?;
    /// assert_eq!(address.to_string(), "service:example.files");
    /// assert!(Address::service("../example.files").is_err());
    /// # Ok::<(), jsoncomm::Error>(())
    /// ```
    pub fn service(name: &str) -> Result<Self, Error> {
        Registry::from_env().address(name)
    }
}

/// Makes a folder that no other user can change; `None` if there is none, and the test is skipped.
#[cfg(test)]
pub(crate) fn safe_folder() -> Option<tempfile::TempDir> {
    let parents = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
    let folders = parents.into_iter().flat_map(tempfile::tempdir_in);
    let is_safe = |folder: &tempfile::TempDir| Registry::new([folder.path()]).names().is_ok();
    let found = folders.into_iter().find(is_safe);
    if found.is_none() || !Path::new("/proc/self").exists() {
        jsoncomm_watchdog::skip("there is no /proc, or others could change the temporary files");
        return None;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::{self, Kind};

    #[test]
    fn a_socket_that_is_exchanged_after_it_was_found_is_not_connected_to() {
        let Some(folder) = safe_folder() else { return };
        let bind = |name: &str| {
            let path = folder.path().join(name);
            let bound = socket::socket(Kind::Datagram).unwrap();
            let name = Name::from_path(path.as_os_str()).unwrap();
            socket::bind(bound.as_fd(), &name).unwrap();
            (bound, path)
        };
        let (meant, path) = bind("meant");
        std::os::unix::fs::symlink("meant", folder.path().join("test.a")).unwrap();
        let address = Registry::new([folder.path()]).address("test.a").unwrap();
        let found = address.resolve().unwrap();
        let (_other, other) = bind("other");
        std::fs::rename(other, path).unwrap();
        let connect = || {
            let client = socket::socket(Kind::Datagram).unwrap();
            socket::connect(client.as_fd(), &found.name)
        };
        connect().unwrap();
        drop(meant);
        assert!(
            connect().is_err(),
            "it is another socket than the one found"
        );
    }
}
