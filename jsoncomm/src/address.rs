//! Where a socket is: an address to connect to, and the file of a bound one.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{AddressProblem, Error};
use crate::sys::file::{self, Identity};
use crate::sys::name::{self, Name};
use crate::sys::socket;

/// The address of a unix socket: a path, or a name in the abstract namespace of Linux ([unix(7)]).
///
/// A path may be as long as the file system allows, also beyond the 107 bytes of `sun_path`. Prefer
/// paths for services: an abstract name ignores file permissions, and anyone in the network namespace
/// can take one that is free.
///
/// ```
/// use jsoncomm::Address;
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
    /// As the kernel names it; a received path is one too.
    Name(Name),
    /// As the program names it.
    Path(PathBuf),
}

impl Address {
    /// Names a socket in the abstract namespace, 1 to 107 bytes of any value.
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

    /// The path, if this is one.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Name(name) => name.path().map(Path::new),
            Place::Path(path) => Some(path),
        }
    }

    /// The abstract name without its leading NUL, if this is one.
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match &self.0 {
            Place::Name(name) => name.abstract_name(),
            Place::Path(_) => None,
        }
    }

    /// Takes over the name that a message came from.
    pub(crate) fn from_name(name: Name) -> Self {
        Self(Place::Name(name))
    }

    /// Finds a name for the kernel. A path too long for it is reached through a descriptor of the file
    /// itself, which the result keeps open.
    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        let path = match &self.0 {
            Place::Name(name) => return Ok(Resolved::plain(*name)),
            Place::Path(path) => path,
        };
        if let Some(name) = Name::from_path(path.as_os_str()) {
            return Ok(Resolved::plain(name));
        }
        if path.as_os_str().is_empty() {
            return Err(self.error(AddressProblem::Empty));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(self.error(AddressProblem::Nul));
        }
        let file = file::open_path(path).map_err(|error| self.os("open", error))?;
        let through = file::proc_name(file.as_fd()).and_then(|path| Name::from_path(&path));
        Ok(Resolved {
            name: through.ok_or_else(|| self.error(AddressProblem::NoProc))?,
            _file: Some(file),
        })
    }

    /// Makes an error about this address.
    fn error(&self, problem: AddressProblem) -> Error {
        Error::Address {
            address: self.to_string(),
            problem,
        }
    }

    /// Says what a system call's error means for who uses this address.
    pub(crate) fn os(&self, operation: &'static str, error: io::Error) -> Error {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => self.error(AddressProblem::Missing),
            ErrorKind::ConnectionRefused => self.error(AddressProblem::NobodyListens),
            ErrorKind::PermissionDenied => self.error(AddressProblem::Denied),
            ErrorKind::AddrInUse => self.error(AddressProblem::InUse),
            _ if socket::is_other_type(&error) => self.error(AddressProblem::OtherKind),
            _ => Error::os(operation)(error),
        }
    }
}

/// What is wrong with a name of this length when only up to `limit` bytes fit.
fn too_long(length: usize, limit: usize) -> AddressProblem {
    match length {
        0 => AddressProblem::Empty,
        _ => AddressProblem::TooLong { length, limit },
    }
}

impl fmt::Display for Address {
    /// Writes a path as it is and an abstract name behind `@`, both escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_path(), self.as_abstract_name()) {
            (Some(path), _) => write!(f, "{}", path.as_os_str().as_encoded_bytes().escape_ascii()),
            (None, Some(name)) => write!(f, "@{}", name.escape_ascii()),
            (None, None) => f.write_str("(unnamed)"),
        }
    }
}

impl<P: AsRef<OsStr>> From<P> for Address {
    /// Takes a path; it is looked at only when it is used.
    fn from(path: P) -> Self {
        Self(Place::Path(PathBuf::from(path.as_ref())))
    }
}

/// A name for the kernel, and what must stay open while it is used.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) name: Name,
    _file: Option<OwnedFd>,
}

impl Resolved {
    fn plain(name: Name) -> Self {
        Self { name, _file: None }
    }
}

/// The file of a bound socket; removes it when dropped, if it is still the same file.
///
/// It stands on a directory descriptor opened when binding, so it finds its file after `chdir` and
/// after something was mounted over the path. It must be dropped before the socket is closed: a bound
/// socket keeps its inode from being used again, and thereby keeps the comparison honest.
#[derive(Debug)]
pub(crate) struct BoundPath {
    directory: OwnedFd,
    file: OsString,
    identity: Identity,
}

impl BoundPath {
    /// Binds `socket` to `path`.
    ///
    /// A path of up to 107 bytes is given to the kernel as it is, so that peers see it as their
    /// address; a longer one through the directory descriptor.
    pub(crate) fn bind(socket: BorrowedFd<'_>, path: &Path) -> Result<Self, Error> {
        let error = |problem| Address::from(path).error(problem);
        let file = path
            .file_name()
            .ok_or_else(|| error(AddressProblem::NoFileName))?;
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(error(AddressProblem::Nul));
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let os = |operation, cause: io::Error| match Address::from(path).os(operation, cause) {
            Error::Address {
                address,
                problem: AddressProblem::Missing,
            } => Error::Address {
                address,
                problem: AddressProblem::NoDirectory,
            },
            other => other,
        };
        let directory = file::open_directory(parent).map_err(|error| os("open", error))?;
        let name = match Name::from_path(path.as_os_str()) {
            Some(name) => name,
            None => name_within(directory.as_fd(), file).map_err(error)?,
        };
        socket::bind(socket, &name).map_err(|error| os("bind", error))?;
        let identity = file::socket_identity(directory.as_fd(), file)
            .map_err(Error::os("stat"))?
            .ok_or_else(|| error(AddressProblem::Vanished))?;
        Ok(Self {
            directory,
            file: file.to_owned(),
            identity,
        })
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

impl Drop for BoundPath {
    fn drop(&mut self) {
        let found = file::socket_identity(self.directory.as_fd(), &self.file);
        if found.is_ok_and(|found| found == Some(self.identity)) {
            // Nobody is left to tell, and a file that stays is found stale by the next start.
            let _ = file::unlink(self.directory.as_fd(), &self.file);
        }
    }
}

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
    fn an_empty_path_is_refused_by_name() {
        let error = Address::from("").resolve().unwrap_err();
        assert_eq!(error.to_string(), "address  is empty");
    }
}
