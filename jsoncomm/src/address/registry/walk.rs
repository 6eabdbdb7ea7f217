//! Walking a path by descriptors, and checking who could change what is on the way.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use crate::error::RegistryProblem;
use crate::sys::OsError;
use crate::sys::file::{self, Entry, FileType, UID_MAP, maps_all};
use crate::sys::link;

/// The most links that the kernel follows in one path.
const LINKS_MAX: usize = 40;
/// The right to write of everybody but the owner.
const WRITABLE: u32 = 0o022;
/// Only the owner of a file, and that of the directory, may rename or remove it.
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;
/// The id that the kernel reports for one that the user namespace does not map.
const OVERFLOW_ID: u32 = 65534;

/// Whose files are believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust {
    /// This process's user, unless its id may stand for others.
    user: Option<u32>,
}

impl Trust {
    /// Root and the effective user of this process.
    pub(super) fn here() -> Self {
        let user = file::euid();
        let is_one = user != OVERFLOW_ID || maps_all(UID_MAP);
        Self {
            user: is_one.then_some(user),
        }
    }

    fn includes(self, owner: u32) -> bool {
        owner == ROOT || Some(owner) == self.user
    }
}

/// The reason why a walk has ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nothing of that name exists.
    Missing(PathBuf),
    Problem(RegistryProblem),
    Os(PathBuf, OsError),
}

impl From<RegistryProblem> for Stop {
    fn from(problem: RegistryProblem) -> Self {
        Self::Problem(problem)
    }
}

/// The file that a path leads to, and a path without links.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) entry: Entry,
    pub(super) path: PathBuf,
}

/// A directory that was reached, with what is left to walk.
#[derive(Debug)]
pub(super) struct Walk {
    directory: OwnedFd,
    path: PathBuf,
    /// Others may write to the directory, but not replace what is there.
    sticky: bool,
    mode: u32,
    /// The rest of the path, from its end.
    rest: Vec<OsString>,
    links: usize,
    trust: Trust,
}

impl Walk {
    /// Walks to a directory that only the trusted can write to.
    pub(super) fn to_directory(path: &Path, trust: Trust) -> Result<Self, Stop> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut walk = Self::at_root(trust)?;
        walk.push(&path);
        match walk.run()? {
            Some(reached) => Err(Stop::Missing(reached.path)),
            None if walk.sticky => Err(walk.writable()),
            None => Ok(walk),
        }
    }

    /// Follows a link in the directory that the walk has reached to a file.
    pub(super) fn follow(mut self, link: &Entry, path: &Path) -> Result<Reached, Stop> {
        self.check_owner(link, path)?;
        self.push_link(link, path)?;
        self.finish()
    }

    /// The directory that the walk has reached.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Returns the directory that the walk has reached.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.directory
    }

    fn at_root(trust: Trust) -> Result<Self, Stop> {
        let path = PathBuf::from("/");
        let directory = file::open_directory(&path);
        let directory = directory.map_err(|error| Stop::Os(path.clone(), error))?;
        let mut walk = Self {
            directory,
            path,
            sticky: false,
            mode: 0,
            rest: Vec::new(),
            links: 0,
            trust,
        };
        walk.go_to_root()?;
        Ok(walk)
    }

    fn go_to_root(&mut self) -> Result<(), Stop> {
        let path = PathBuf::from("/");
        let entry = file::entry(self.fd(), path.as_os_str());
        let entry = entry.map_err(|error| Stop::Os(path.clone(), error))?;
        match entry {
            Some(entry) => self.enter(entry, path),
            None => Err(Stop::Missing(path)),
        }
    }

    /// Adds a path to what is left.
    fn push(&mut self, path: &Path) {
        let names = path
            .components()
            .rev()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some(OsString::from("..")),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
            });
        self.rest.extend(names);
    }

    fn push_link(&mut self, link: &Entry, path: &Path) -> Result<(), Stop> {
        self.links += 1;
        if self.links > LINKS_MAX {
            let path = path.to_owned();
            return Err(RegistryProblem::Loop { path }.into());
        }
        let target = link::target(link.file.as_fd());
        let target = target.map_err(|error| Stop::Os(path.to_owned(), error))?;
        let target = Path::new(&target);
        if target.is_absolute() {
            self.go_to_root()?;
        }
        self.push(target);
        Ok(())
    }

    /// Walks to a file, which is no directory.
    fn finish(mut self) -> Result<Reached, Stop> {
        match self.run()? {
            Some(reached) => Ok(reached),
            None => Err(RegistryProblem::NotASocket {
                path: self.path,
                found: "a directory",
            }
            .into()),
        }
    }

    /// Walks to the end of the path. `None` if that is the directory.
    fn run(&mut self) -> Result<Option<Reached>, Stop> {
        while let Some(name) = self.rest.pop() {
            let path = self.path_of(&name);
            let entry = file::entry(self.fd(), &name);
            let entry = match entry.map_err(|error| Stop::Os(path.clone(), error))? {
                Some(entry) => entry,
                None => return Err(Stop::Missing(path)),
            };
            match entry.sort {
                FileType::Directory => self.enter(entry, path)?,
                // Others can have made a link here to a file that is trusted.
                _ if self.sticky => return Err(self.writable()),
                FileType::Symlink => {
                    self.check_owner(&entry, &path)?;
                    self.push_link(&entry, &path)?;
                }
                _ => {
                    self.check_owner(&entry, &path)?;
                    if self.rest.is_empty() {
                        return Ok(Some(Reached { entry, path }));
                    }
                    return Err(Stop::Missing(path));
                }
            }
        }
        Ok(None)
    }

    fn path_of(&self, name: &OsStr) -> PathBuf {
        if name == ".." {
            let parent = self.path.parent();
            return parent.unwrap_or(&self.path).to_owned();
        }
        self.path.join(name)
    }

    fn enter(&mut self, entry: Entry, path: PathBuf) -> Result<(), Stop> {
        self.check_owner(&entry, &path)?;
        self.directory = entry.file;
        self.path = path;
        self.mode = entry.mode;
        self.sticky = entry.mode & WRITABLE != 0;
        if self.sticky && entry.mode & STICKY == 0 {
            return Err(self.writable());
        }
        Ok(())
    }

    fn check_owner(&self, entry: &Entry, path: &Path) -> Result<(), Stop> {
        if self.trust.includes(entry.owner) {
            return Ok(());
        }
        let (path, owner) = (path.to_owned(), entry.owner);
        Err(RegistryProblem::Foreign { path, owner }.into())
    }

    fn writable(&self) -> Stop {
        let (path, mode) = (self.path.clone(), self.mode);
        RegistryProblem::Writable { path, mode }.into()
    }
}
