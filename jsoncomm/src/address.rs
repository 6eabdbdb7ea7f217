//! Addresses of sockets, and how to bind one.
//!
//! An [`Address`] is a path, an abstract name, or the name of a service, which a [`Registry`] leads to its socket. Functions that
//! connect or bind take a path or an [`Address`]; binding also takes a [`Bind`], which sets the mode, owner and group of the
//! socket's file.
//!
//! ```
//! use jsoncomm::address::{Address, Bind};
//! use jsoncomm::{Connection, Kind, Limits, Server};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("example.sock");
//!
//! let mut server: Server<()> = Server::new(Limits::default())?;
//! server.bind(Bind::at(&path).mode(0o600), Kind::Seqpacket)?;
//! let name = Address::abstract_name(format!("example-{}", std::process::id()))?;
//! server.bind(name.clone(), Kind::Seqpacket)?;
//!
//! let by_path = Connection::open(&path)?;
//! let by_name = Connection::open(name)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bind;
mod location;
mod registry;
mod wait;

use std::ffi::OsStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::sys::file;
use crate::sys::name::{self, Name};
use crate::sys::{OsError, opaque_debug};

pub use crate::error::{AddressProblem, RegistryProblem};
pub use bind::Bind;
pub(crate) use location::{Bound, SocketFile};
#[cfg(all(test, repository, feature = "derive"))]
pub(crate) use registry::safe_folder;
pub use registry::{Registry, ServiceEntry};
pub(crate) use wait::Arrivals;

/// The address of a unix socket: a path, a name in Linux's abstract namespace ([unix(7)]), or the name of a service.
///
/// | | path | abstract name | name of a service |
/// |---|---|---|---|
/// | made from | any string or path | [`Address::abstract_name`] | [`Address::service`], [`Registry::address`] |
/// | length | whatever the file system allows | 1 to 107 bytes | 1 to 255 bytes |
/// | who may connect | who may write to the file | everybody in the network namespace | who may write to the socket's file, and believes the entry |
/// | who may bind | who may write to the directory | everybody in the network namespace | nobody: bind a path, and [register](crate::Endpoint::register) it |
/// | printed as | `/run/example.sock` | `@example` | `service:example.files` |
///
/// Paths longer than the 107 bytes of `sun_path` are reached through `/proc/self/fd`, which leaves about 90 bytes for the
/// name of a file to bind. Connecting follows symbolic links. [`Bind`] describes binding.
///
/// # Abstract names
///
/// Prefer paths for services. An abstract name has no owner and no mode; only
/// [`Endpoint::authorize`](crate::Endpoint::authorize) keeps strangers out. While a service does not run, any process can bind
/// its name and receive its clients.
///
/// The kernel has a namespace for each type of socket. Binding takes the name in all of them, so that no other process can
/// receive clients that connect with another [`Kind`](crate::Kind) while the service runs. A socket that was
/// [adopted](crate::Server::adopt) has its name in its own type only.
///
/// # Examples
///
/// ```
/// use jsoncomm::address::Address;
///
/// assert_eq!(Address::from("/run/example.sock").to_string(), "/run/example.sock");
/// assert_eq!(Address::abstract_name("example")?.to_string(), "@example");
/// # Ok::<(), jsoncomm::Error>(())
/// ```
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(Place);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// A name of the kernel: an abstract name, or the path of a received message.
    Name(Name),
    /// A path of the program.
    Path(PathBuf),
    /// The name of a service.
    Service(Service),
}

/// The name of a service, which is looked up when it is connected to. Behind a pointer to functions, so that a program that
/// makes none does not contain them.
#[derive(Debug, Clone)]
struct Service(Arc<dyn Lookup>);

trait Lookup: fmt::Debug + Send + Sync {
    /// Returns the name, and the directories where it is looked up.
    fn parts(&self) -> (&str, &[PathBuf]);
    /// Finds the socket.
    fn resolve(&self) -> Result<Resolved, Error>;
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        self.0.parts() == other.0.parts()
    }
}

impl Eq for Service {}

impl Hash for Service {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.parts().hash(state);
    }
}

impl Address {
    /// Creates the address of a name in the abstract namespace: 1 to 107 bytes of any value.
    ///
    /// Every process in the network namespace can bind it or connect to it; see [above](Address#abstract-names).
    ///
    /// # Errors
    ///
    /// [`Error::Address`] for an empty or longer name.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Result<Self, Error> {
        let name = name.as_ref();
        Name::from_abstract(name)
            .map(|name| Self(Place::Name(name)))
            .ok_or_else(|| Error::Address {
                address: format!("@{}", name.escape_ascii()),
                problem: too_long(name.len(), name::PATH_MAX),
            })
    }

    /// The path, if the address is one.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Name(name) => name.path().map(Path::new),
            Place::Path(path) => Some(path),
            Place::Service(_) => None,
        }
    }

    /// The abstract name without its leading NUL, if the address is one.
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match &self.0 {
            Place::Name(name) => name.abstract_name(),
            Place::Path(_) | Place::Service(_) => None,
        }
    }

    /// The name of the service, if the address is one.
    pub fn as_service(&self) -> Option<&str> {
        match &self.0 {
            Place::Service(service) => Some(service.0.parts().0),
            Place::Name(_) | Place::Path(_) => None,
        }
    }

    /// The address that a message came from.
    pub(crate) fn from_name(name: Name) -> Self {
        Self(Place::Name(name))
    }

    /// Returns a name for the kernel. A longer path is reached through a descriptor of the file, which the result keeps
    /// open.
    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        let plain = |name| Resolved {
            name,
            _file: None,
            check: None,
        };
        let path = match &self.0 {
            Place::Name(name) => return Ok(plain(*name)),
            Place::Path(path) => path,
            Place::Service(service) => return service.0.resolve(),
        };
        if let Some(name) = Name::from_path(path.as_os_str()) {
            return Ok(plain(name));
        }
        self.check_path(path)?;
        let file = file::open_path(path).map_err(|error| self.os(error))?;
        let through = file::proc_name(file.as_fd()).and_then(|path| Name::from_path(&path));
        Ok(Resolved {
            name: through.ok_or_else(|| self.error(AddressProblem::NoProc))?,
            _file: Some(file),
            check: None,
        })
    }

    /// Refuses paths that the kernel would read as another address.
    fn check_path(&self, path: &Path) -> Result<(), Error> {
        let bytes = path.as_os_str().as_encoded_bytes();
        let problem = match bytes {
            [] => AddressProblem::Empty,
            _ if bytes.contains(&0) => AddressProblem::Nul,
            _ => return Ok(()),
        };
        Err(self.error(problem))
    }

    /// Returns an error about this address.
    pub(crate) fn error(&self, problem: AddressProblem) -> Error {
        Error::Address {
            address: self.to_string(),
            problem,
        }
    }

    /// Tells a dead socket from a file that is not a socket: connect(2) reports `ECONNREFUSED` for both.
    #[cold]
    fn refused(&self) -> AddressProblem {
        match self.as_path().and_then(file::no_socket) {
            Some(found) => AddressProblem::NotASocket { found },
            None => AddressProblem::NobodyListens,
        }
    }

    /// Converts the error of a system call that uses this address.
    pub(crate) fn os(&self, error: OsError) -> Error {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => self.error(AddressProblem::Missing),
            ErrorKind::ConnectionRefused => self.error(self.refused()),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                self.error(AddressProblem::Denied)
            }
            ErrorKind::AddrInUse => self.error(AddressProblem::InUse),
            _ if error.is_other_type() => self.error(AddressProblem::OtherKind),
            _ => error.into(),
        }
    }
}

/// The problem with a name of `length` bytes where up to `limit` fit.
fn too_long(length: usize, limit: usize) -> AddressProblem {
    if length == 0 {
        AddressProblem::Empty
    } else {
        AddressProblem::TooLong { length, limit }
    }
}

impl fmt::Display for Address {
    /// Writes a path, an abstract name after `@`, both escaped, or a service's name after `service:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.as_service() {
            return write!(f, "service:{name}");
        }
        match (self.as_path(), self.as_abstract_name()) {
            (Some(path), _) => write!(f, "{}", path.as_os_str().as_encoded_bytes().escape_ascii()),
            (None, Some(name)) => write!(f, "@{}", name.escape_ascii()),
            (None, None) => f.write_str("(unnamed)"),
        }
    }
}

impl<P: AsRef<OsStr>> From<P> for Address {
    /// Takes a path, which is checked when it is used.
    fn from(path: P) -> Self {
        Self(Place::Path(PathBuf::from(path.as_ref())))
    }
}

/// Refuses a connected socket whose server is not the one meant.
type Check = Box<dyn Fn(BorrowedFd<'_>) -> Result<(), Error>>;

/// A name for the kernel, and the descriptor that must stay open while it is used.
pub(crate) struct Resolved {
    pub(crate) name: Name,
    _file: Option<OwnedFd>,
    /// Refuses a connection to the wrong server.
    check: Option<Check>,
}

impl Resolved {
    /// Fails if a socket that was connected to the name has another server than the address allows. Only seqpacket sockets
    /// know their server.
    pub(crate) fn check_server(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.check.as_ref().map_or(Ok(()), |check| check(socket))
    }
}
opaque_debug!(Resolved);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_escaped() {
        assert_eq!(Address::from("/run/a\nb").to_string(), "/run/a\\nb");
        let name = Address::abstract_name(b"a\0\xff").unwrap();
        assert_eq!(name.to_string(), "@a\\x00\\xff");
    }

    #[test]
    fn an_empty_path_is_refused() {
        let error = Address::from("").resolve().unwrap_err();
        assert_eq!(error.to_string(), "address  is empty");
    }
}
