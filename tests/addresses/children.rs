//! What depends on the whole process: its directory, umask, user, descriptors and `/proc`.
//!
//! Such a test does its work in a child process: this program, started in another way.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::*;

/// Set in the child. Its value is the directory to work in.
const CHILD: &str = "JSONCOMM_TESTS_CHILD";

/// File that the child leaves when its work is done.
const DONE: &str = "done";

/// Runs `work` in a child process, in the directory. It must be the last call of a test: the child runs the same test
/// and comes through here as well. `start` returns the command that starts the child.
fn in_child(directory: &Path, start: impl FnOnce(PathBuf) -> Command, work: impl FnOnce()) {
    if let Some(directory) = std::env::var_os(CHILD) {
        std::env::set_current_dir(directory).unwrap();
        work();
        File::create(DONE).unwrap();
        return;
    }
    let test = std::thread::current().name().unwrap().to_owned();
    let child = start(jsoncomm_tests::program_file())
        .args(["--exact", &test])
        .env(CHILD, directory)
        .output();
    let child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return skip("a user has no access to the test's own program");
        }
        Err(error) => panic!("{error}"),
    };
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    // Missing if no test has this name.
    std::fs::remove_file(directory.join(DONE)).unwrap();
}

/// Returns a directory of a user other than root, and how to start a process as that user; `None` for a root that
/// cannot be another user.
fn unprivileged() -> Option<(tempfile::TempDir, impl FnOnce(PathBuf) -> Command)> {
    const NOBODY: u32 = 65534;
    let directory = tempfile::tempdir().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        if !can_be_others() {
            return None;
        }
        chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let start = move |program: PathBuf| {
        let mut command = Command::new(program);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    Some((directory, start))
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_relative_path_is_unlinked_after_chdir() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("below")).unwrap();
    in_child(directory.path(), Command::new, || {
        let home = std::env::current_dir().unwrap();
        for kind in KINDS {
            for path in [
                "relative.sock",
                "below/relative.sock",
                "./below/../dots.sock",
            ] {
                Bound::at(path, kind).unwrap().reached_at(path);
                let bound = Bound::at(path, kind).unwrap();
                std::env::set_current_dir("/").unwrap();
                drop(bound);
                std::env::set_current_dir(&home).unwrap();
                assert!(!Path::new(path).exists(), "{path}");
            }
        }
    });
}

#[test]
fn a_relative_path_in_a_deleted_current_directory_is_an_error() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    in_child(directory.path(), Command::new, || {
        let home = std::env::current_dir().unwrap();
        std::fs::create_dir("gone").unwrap();
        std::env::set_current_dir("gone").unwrap();
        std::fs::remove_dir(home.join("gone")).unwrap();
        for kind in KINDS {
            let problem = problem(Bound::at("a.sock", kind));
            assert_eq!(problem, AddressProblem::NoDirectory);
        }
        std::env::set_current_dir(home).unwrap();
    });
}

#[test]
fn a_requested_mode_does_not_depend_on_the_umask() {
    alone!();
    needs_proc!();
    let directory = tempfile::tempdir().unwrap();
    in_child(directory.path(), Command::new, || {
        for mask in [0, 0o022, 0o077, 0o777] {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
            for kind in KINDS {
                let bound = Bound::at("a.sock", kind).unwrap();
                assert_eq!(mode("a.sock"), 0o777 & !mask, "as with any program");
                drop(bound);
                for asked in [0, 0o600, 0o660, 0o666, 0o777] {
                    let bound = Bound::at(Bind::at("a.sock").mode(asked), kind).unwrap();
                    assert_eq!(mode("a.sock"), asked, "under {mask:o}");
                    drop(bound);
                }
            }
        }
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    });
}

#[test]
fn files_without_access_are_refused_and_kept() {
    alone!();
    let Some((directory, start)) = unprivileged() else {
        return;
    };
    in_child(directory.path(), start, || {
        for kind in KINDS {
            let bound = Bound::at(Bind::at("live").mode(0), kind).unwrap();
            let denied = problem(Socket::connect("live", kind));
            assert_eq!(denied, AddressProblem::Denied);
            let denied = problem(Connection::open("live"));
            assert_eq!(denied, AddressProblem::Denied);
            // Without access it is unknown whether the socket is live.
            assert_eq!(problem(Bound::at("live", kind)), AddressProblem::Denied);
            drop(bound);

            drop(UnixDatagram::bind("dead").unwrap());
            set_mode("dead", 0);
            assert_eq!(problem(Bound::at("dead", kind)), AddressProblem::Denied);
            set_mode("dead", 0o600);
            drop(Bound::at("dead", kind).unwrap());

            std::fs::create_dir("closed").unwrap();
            for mode in [0, 0o500] {
                set_mode("closed", mode);
                let denied = problem(Bound::at("closed/a.sock", kind));
                assert_eq!(denied, AddressProblem::Denied, "{mode:o}");
            }
            set_mode("closed", 0);
            let denied = problem(Socket::connect("closed/a.sock", kind));
            assert_eq!(denied, AddressProblem::Denied);
            std::fs::remove_dir("closed").unwrap();
        }
    });
}

#[test]
fn without_a_directory_lock_free_paths_can_be_bound_and_dead_sockets_stay() {
    alone!();
    let Some((directory, start)) = unprivileged() else {
        return;
    };
    in_child(directory.path(), start, || {
        std::fs::create_dir("below").unwrap();
        let path = "below/a.sock";
        for kind in KINDS {
            set_mode("below", 0o300);
            Bound::at(path, kind).unwrap().reached_at(path);
            drop(UnixDatagram::bind(path).unwrap());
            assert_eq!(problem(Bound::at(path, kind)), AddressProblem::Unlockable);
            assert!(Path::new(path).exists());
            set_mode("below", 0o700);
            Bound::at(path, kind).unwrap().reached_at(path);
        }
    });
}

#[test]
fn a_socket_whose_owner_cannot_be_set_is_unlinked() {
    alone!();
    needs_proc!();
    let Some((directory, start)) = unprivileged() else {
        return;
    };
    in_child(directory.path(), start, || {
        for kind in KINDS {
            for at in [Bind::at("a.sock").owner(0), Bind::at("a.sock").group(0)] {
                let error = Bound::at(at, kind).unwrap_err();
                let is_chown = matches!(
                    error,
                    Error::Os {
                        operation: "fchownat",
                        ..
                    }
                );
                assert!(is_chown, "{error:?}");
                assert!(!Path::new("a.sock").exists());
            }
        }
    });
}

/// The standard library opens `/dev/null` in place of closed standard descriptors, so no socket gets their
/// numbers.
#[test]
fn closed_standard_descriptors_do_no_harm() {
    alone!();
    needs_proc!();
    let directory = tempfile::tempdir().unwrap();
    let closed = |program: PathBuf| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]);
        shell.arg(program);
        shell
    };
    in_child(directory.path(), closed, || {
        let before = open_fds();
        let (_directory, deep) = deep();
        let deep = deep.join("a.sock");
        for kind in KINDS {
            for path in [Path::new("a.sock"), &deep] {
                drop(UnixDatagram::bind("a.sock").unwrap());
                Bound::at(path, kind).unwrap().reached_at(path);
                let _ = std::fs::remove_file("a.sock");
            }
            writeln!(std::io::stdout(), "written to /dev/null").unwrap();
        }
        assert_open_fds(before);
    });
}

#[test]
fn without_proc_short_paths_work_and_long_ones_fail_with_the_reason() {
    alone!();
    let directory = tempfile::tempdir().unwrap();
    let hide = "mount -t tmpfs none /proc";
    let hides = Command::new("unshare")
        .args(["-m", "sh", "-c", hide])
        .output();
    if std::env::var_os(CHILD).is_none() && !hides.is_ok_and(|output| output.status.success()) {
        return skip("only root can hide /proc, and not in every container");
    }
    let hidden = |program: PathBuf| {
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sh", "-c", &format!("{hide} && exec \"$0\" \"$@\"")]);
        shell.arg(program);
        shell
    };
    in_child(directory.path(), hidden, || {
        assert!(!Path::new("/proc/self").exists());
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        std::fs::create_dir("d".repeat(120)).unwrap();
        let long = Path::new(&"d".repeat(120)).join("a.sock");
        for kind in KINDS {
            drop(UnixDatagram::bind("a.sock").unwrap());
            let bound = Bound::at(Bind::at("a.sock").mode(0o644), kind).unwrap();
            assert_eq!(problem(Bound::at("a.sock", kind)), AddressProblem::InUse);
            bound.reached_at("a.sock");

            let at = Bind::at("a.sock").mode(0o666);
            assert_eq!(problem(Bound::at(at, kind)), AddressProblem::NoProc);
            assert!(!Path::new("a.sock").exists());
            assert_eq!(problem(Bound::at(&long, kind)), AddressProblem::NoProc);
            File::create(&long).unwrap();
            let needs = problem(Socket::connect(&long, kind));
            assert_eq!(needs, AddressProblem::NoProc);
        }
    });
}
