//! Making the entries of a server's services, and removing them.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::walk::{Stop, Trust, Walk};
use super::{Registry, follow, name};
use crate::address::location::{Bound, BoundPath, Lock, Registered};
use crate::error::{AddressProblem, Error, RegistryProblem};
use crate::sys::OsError;
use crate::sys::file::{self, Entry, FileType, Identity};
use crate::sys::link;
use crate::sys::name::Name;
use crate::sys::process::Origin;
use crate::sys::socket::{Probe, probe};

/// The file that is locked while entries are made or removed. It stays.
const LOCK: &str = ".lock";
/// An entry that is about to replace another. Only the holder of the lock makes it.
const NEW: &str = ".new";

/// The entries of the services at one socket. Dropping it removes those that still are what this process has made or found.
#[derive(Debug)]
struct Entries {
    /// The registry's directory.
    directory: OwnedFd,
    /// Open, so that no other file can have the same identity.
    links: Vec<(OsString, Entry)>,
    origin: Origin,
}

impl Entries {
    /// Makes one entry, and replaces what has the name.
    fn make(&mut self, name: &str, target: &OsStr) -> Result<(), OsError> {
        let directory = self.directory.as_fd();
        let (new, name) = (OsStr::new(NEW), OsStr::new(name));
        // One that a process left which was killed.
        file::unlink(directory, new)?;
        link::make(target, directory, new)?;
        let made = file::entry(directory, new)?;
        link::rename(directory, new, name)?;
        self.links.extend(made.map(|link| (name.to_owned(), link)));
        Ok(())
    }
}

impl Registered for Entries {
    fn keep(&mut self) {
        self.links.clear();
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        if self.links.is_empty() || !self.origin.is_own_process() {
            return;
        }
        let directory = self.directory.as_fd();
        let lock = link::open_lock(directory, OsStr::new(LOCK)).and_then(Lock::acquire);
        let Ok(Some(_lock)) = lock else {
            // Not reported: an entry that stays leads to a dead socket, and the next start replaces it.
            return;
        };
        for (name, link) in &self.links {
            let there = file::entry(directory, name);
            if there.is_ok_and(|there| there.is_some_and(|there| there.identity == link.identity)) {
                let _ = file::unlink(directory, name);
            }
        }
    }
}

/// A socket that is to be registered.
struct Target {
    path: PathBuf,
    identity: Identity,
}

impl Bound {
    /// Makes the entries of services that are served at this socket. They are removed with it.
    pub(crate) fn register(&mut self, registry: &Registry, names: &[&str]) -> Result<(), Error> {
        let first = names.first().copied().unwrap_or_default();
        let Self::Path(bound) = self else {
            return Err(RegistryProblem::NotBound.about(first));
        };
        for name in names {
            name::check(name).map_err(|problem| problem.about(name))?;
        }
        let target = bound.target(first)?;
        let entries = registry.register(names, &target)?;
        let earlier = bound.entries.replace(Box::new(entries));
        if let Some(mut earlier) = earlier {
            // They are among those that were found now.
            earlier.keep();
        }
        Ok(())
    }
}

impl BoundPath {
    /// Returns the path of the socket without links, if clients can believe in it.
    fn target(&self, service: &str) -> Result<Target, Error> {
        let not_bound = || RegistryProblem::NotBound.about(service);
        let location = self.location.as_ref().ok_or_else(not_bound)?;
        let directory = link::directory_path(location.directory.as_fd());
        let no_proc = |()| Error::Address {
            address: format!("service:{service}"),
            problem: AddressProblem::NoProc,
        };
        let directory = directory.ok_or(()).map_err(no_proc)?;
        Walk::to_directory(&directory, Trust::here()).map_err(|stop| stop.about(service))?;
        Ok(Target {
            path: directory.join(&location.file),
            identity: self.identity,
        })
    }
}

impl Registry {
    /// Makes entries in the registry's own directory, all or none.
    fn register(&self, names: &[&str], target: &Target) -> Result<Entries, Error> {
        let first = names.first().copied().unwrap_or_default();
        let not_writable = |error: OsError| match error.kind() {
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory => RegistryProblem::NotWritable {
                directory: self.own.clone(),
                line: lines(&self.own, names, &target.path),
            }
            .about(first),
            _ => error.into(),
        };
        let directory = match Walk::to_directory(&self.own, Trust::here()) {
            Err(Stop::Missing(_)) => {
                self.make_directory().map_err(not_writable)?;
                Walk::to_directory(&self.own, Trust::here())
            }
            other => other,
        };
        let directory = directory.map_err(|stop| stop.about(first))?;
        let lock = link::open_lock(directory.fd(), OsStr::new(LOCK)).map_err(not_writable)?;
        let lock = Lock::acquire(lock).map_err(not_writable)?;
        let path = self.own.join(LOCK);
        let locked = || RegistryProblem::Locked { path }.about(first);
        let _lock = lock.ok_or_else(locked)?;
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for name in names {
            match self.look(&directory, name, target)? {
                Some(entry) => found.push((OsString::from(name), entry)),
                None => missing.push(*name),
            }
        }
        let mut entries = Entries {
            directory: directory.into_fd(),
            links: Vec::new(),
            origin: Origin::here(),
        };
        for name in missing {
            let made = entries.make(name, target.path.as_os_str());
            made.map_err(not_writable)?;
        }
        entries.links.extend(found);
        Ok(entries)
    }

    /// Makes the registry's own directory in one that exists.
    fn make_directory(&self) -> Result<(), OsError> {
        let parent = self.own.parent().unwrap_or(Path::new("/"));
        let parent = file::open_directory(parent)?;
        let name = self.own.file_name().unwrap_or_default();
        link::make_directory(parent.as_fd(), name)
    }

    /// Looks for an entry that leads to the socket already. `None` if there is none, or a dead one, which may be replaced.
    fn look(&self, directory: &Walk, name: &str, target: &Target) -> Result<Option<Entry>, Error> {
        let entry = file::entry(directory.fd(), OsStr::new(name))?;
        let Some(entry) = entry else {
            return Ok(None);
        };
        let link = self.own.join(name);
        let is_link = entry.sort == FileType::Symlink;
        if is_link && link::target(entry.file.as_fd())? == target.path.as_os_str() {
            return Ok(Some(entry));
        }
        let again = Walk::to_directory(&self.own, Trust::here());
        let again = again.map_err(|stop| stop.about(name))?;
        let reached = match follow(again, name, &link) {
            Ok(Some((reached, _))) => reached,
            Ok(None) => return Ok(None),
            Err(Error::Address {
                problem: AddressProblem::Missing,
                ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if reached.entry.identity == target.identity {
            return Ok(Some(entry));
        }
        if is_dead(reached.entry.file.as_fd()) {
            return Ok(None);
        }
        let (entry, socket) = (link, reached.path);
        Err(RegistryProblem::InUse { entry, socket }.about(name))
    }
}

/// Returns true if no process has the socket of this file open. Connects to no server: the socket that asks is of another
/// type, or sends nothing.
fn is_dead(file: BorrowedFd<'_>) -> bool {
    let name = file::proc_name(file).and_then(|path| Name::from_path(&path));
    name.is_some_and(|name| probe(&name) == Ok(Probe::Dead))
}

/// Returns the lines of tmpfiles.d(5) that make the entries.
fn lines(directory: &Path, names: &[&str], socket: &Path) -> String {
    let line = |name: &&str| {
        let entry = quoted(&directory.join(name));
        format!("L+ {entry} - - - - {}", quoted(socket))
    };
    names.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Writes a path as tmpfiles.d(5) reads it: `%` begins a specifier, and white space ends it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string().replace('%', "%%");
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"'\\".contains(c);
    if path.chars().all(is_plain) {
        return path;
    }
    format!("\"{}\"", path.escape_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_to_install_is_quoted_where_the_path_needs_it() {
        let line = |socket: &str| lines(Path::new("/run/jsoncomm"), &["a.b"], Path::new(socket));
        let start = "L+ /run/jsoncomm/a.b - - - - ";
        assert_eq!(line("/run/a.sock"), format!("{start}/run/a.sock"));
        assert_eq!(line("/run/a b%"), format!("{start}\"/run/a b%%\""));
    }
}
