//! Services by name: whom clients believe, who registers, and waiting for a service.

mod environment;
mod owners;
mod python;
mod registering;
mod trust;
mod waiting;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use jsoncomm::address::{AddressProblem, Registry, RegistryProblem};
use jsoncomm::{Connection, Error};
use jsoncomm_tests::{Bound, needs_proc, skip};
use tempfile::TempDir;

/// The name of the service in these tests.
const NAME: &str = "test.files";

/// A folder with a registry and a place for sockets, which only root and this user can change.
struct Place {
    folder: TempDir,
}

impl Place {
    /// Makes it; `None` where temporary files are not safe from others, and the test is skipped.
    fn new() -> Option<Self> {
        let parents = [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()];
        let Some(parent) = parents.iter().find(|parent| is_safe(parent)) else {
            skip("other users could change each folder of temporary files");
            return None;
        };
        let folder = tempfile::tempdir_in(parent).unwrap();
        let place = Self { folder };
        for name in ["", "registry", "run"] {
            fs::create_dir_all(place.at(name)).unwrap();
            place.set_mode(name, 0o755);
        }
        Some(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().canonicalize().unwrap();
        folder.join(name)
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn registry(&self) -> Registry {
        Registry::new([self.at("registry")])
    }

    /// Makes a link in the folder.
    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.at(name)).unwrap();
    }

    /// Binds a listening socket, with a link to it in the registry.
    fn serve(&self) -> Bound {
        let socket = Bound::at(self.at("run/a.sock"), jsoncomm::Kind::Seqpacket).unwrap();
        self.link(self.at("run/a.sock"), "registry/test.files");
        socket
    }

    /// Connects by name, which fails.
    #[track_caller]
    fn refused(&self) -> RegistryProblem {
        let error = self.registry().find(NAME).unwrap_err();
        let problem = RegistryProblem::of(&error).unwrap_or_else(|| panic!("{error:?}"));
        let address = self.registry().address(NAME).unwrap();
        let connected = Connection::open(address).unwrap_err();
        assert_eq!(RegistryProblem::of(&connected), Some(problem));
        problem.clone()
    }
}

/// Returns true if no other user can replace a folder in this one.
fn is_safe(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let is_kept = |folder: &Path| {
        let data = fs::metadata(folder).unwrap();
        let is_kept = data.mode() & 0o022 == 0 || data.mode() & 0o1000 != 0;
        is_kept && [0, me].contains(&data.uid())
    };
    let real = folder.canonicalize();
    real.is_ok_and(|real| real.ancestors().all(is_kept))
}

/// Returns what is wrong with the address.
#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> AddressProblem {
    match result.unwrap_err() {
        Error::Address { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}
