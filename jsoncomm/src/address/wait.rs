//! Waiting until a server may have come.

use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use super::{Address, Place};
use crate::error::Error;
use crate::sys::inotify::Changes;
use crate::sys::wait::WaitOutcome;

/// The most links that the kernel follows.
const LINKS_MAX: usize = 40;

/// Watches the directories where the socket of an address would come.
#[derive(Debug)]
pub(crate) struct Arrivals {
    changes: Changes,
}

impl Arrivals {
    /// Begins to watch: what changes from now on ends the next wait.
    ///
    /// That is the directory of the socket, and that of each link on the way to it; where one does not exist, the nearest one
    /// above it that does.
    pub(crate) fn at(address: &Address) -> Result<Self, Error> {
        let changes = Changes::new()?;
        for place in address.places() {
            for directory in directories(&place) {
                changes.add(&directory).map_err(|error| address.os(error))?;
            }
        }
        Ok(Self { changes })
    }

    /// Waits for a change.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<WaitOutcome, Error> {
        Ok(self.changes.wait(deadline)?)
    }
}

impl Address {
    /// The paths that can lead to the socket.
    fn places(&self) -> Vec<PathBuf> {
        match &self.0 {
            Place::Service(service) => {
                let (name, directories) = service.0.parts();
                let place = |directory: &PathBuf| directory.join(name);
                directories.iter().map(place).collect()
            }
            Place::Name(_) | Place::Path(_) => {
                self.as_path().map(PathBuf::from).into_iter().collect()
            }
        }
    }
}

/// Returns the directories in which a change can make `path` lead to a socket. Where the path itself is checked is when it is
/// connected to.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..LINKS_MAX {
        let Some(parent) = path.parent() else {
            break;
        };
        let existing = parent.ancestors().find(|directory| directory.is_dir());
        found.extend(existing.map(Path::to_owned));
        // A link whose target is missing may be the parent as well.
        let Some(link) = dangling_link(&path) else {
            break;
        };
        path = link;
    }
    found
}

/// Returns where the first link in a path leads that is not a directory.
fn dangling_link(path: &Path) -> Option<PathBuf> {
    let mut walked = PathBuf::new();
    let mut components = path.components();
    for component in components.by_ref() {
        walked.push(component);
        if matches!(component, Component::Normal(_)) && !walked.is_dir() {
            break;
        }
    }
    let target = std::fs::read_link(&walked).ok()?;
    let base = walked.parent()?;
    Some(base.join(target).join(components.as_path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_directories_to_watch_are_those_of_the_links_and_of_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("registry")).unwrap();
        std::fs::create_dir_all(at("run")).unwrap();
        symlink("../run/a/b.sock", at("registry/example.a")).unwrap();
        let found = directories(&at("registry/example.a"));
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].canonicalize().unwrap(), at("run"));
        assert_eq!(directories(&at("none/there/a")), [directory.path()]);
        symlink("../run/a/b.sock", at("registry/example.a.loop")).unwrap();
        symlink("loop", at("loop")).unwrap();
        assert!(directories(&at("loop")).len() <= LINKS_MAX);
    }
}
