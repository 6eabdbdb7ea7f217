//! Modes and owners of the files that are bound.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Returns permission bits, owner and group.
fn access(path: &Path) -> (u32, u32, u32) {
    let data = std::fs::symlink_metadata(path).unwrap();
    (data.mode() & 0o7777, data.uid(), data.gid())
}

/// Returns the user and group of this process.
fn me() -> (u32, u32) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    (uid.as_raw(), gid.as_raw())
}

/// Returns a user and group that files can be given to: arbitrary ones for root, otherwise the own ones.
fn other_owner(directory: &Path) -> (u32, u32) {
    let file = directory.join("to give away");
    File::create(&file).unwrap();
    let others = (54_321, 54_322);
    let given = chown(&file, Some(others.0), Some(others.1));
    std::fs::remove_file(&file).unwrap();
    given.map_or_else(|_| me(), |()| others)
}

#[test]
fn owner_group_and_mode_are_set_as_requested() {
    alone!();
    needs_proc!();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (mine, my) = me();
        let (owner, group) = other_owner(directory.path());
        let at = || Bind::at(&path);
        for (at, expected) in [
            (at().mode(0o604), (0o604, mine, my)),
            (at().group(group), (0o660, mine, group)),
            (at().owner(owner), (0o600, owner, my)),
            (at().owner(owner).group(group), (0o660, owner, group)),
            (
                at().mode(0o666).owner(owner).group(group),
                (0o666, owner, group),
            ),
            (at().mode(0).group(group), (0, mine, group)),
        ] {
            let bound = Bound::at(at.clone(), kind).unwrap();
            assert_eq!(access(&path), expected, "{at:?}");
            drop(bound);
            assert!(!path.exists());
        }
    }
}

#[test]
fn modes_beyond_permission_bits_and_invalid_owners_are_refused() {
    alone!();
    needs_proc!();
    let before = open_fds();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        for mode in [0, 1, 0o776, 0o777] {
            let bound = Bound::at(Bind::at(&path).mode(mode), kind).unwrap();
            assert_eq!(access(&path).0, mode);
            drop(bound);
        }
        for mode in [0o1000, 0o4755, 0o10_0600, u32::MAX] {
            let problem = problem(Bound::at(Bind::at(&path).mode(mode), kind));
            assert_eq!(problem, AddressProblem::NoSuchMode { mode });
        }
        for at in [
            Bind::at(&path).owner(u32::MAX),
            Bind::at(&path).group(u32::MAX),
        ] {
            assert_eq!(problem(Bound::at(at, kind)), AddressProblem::NoSuchOwner);
        }
        let name = Address::abstract_name(path.as_os_str().as_encoded_bytes()).unwrap();
        for at in [
            Bind::at(name.clone()).mode(0o600),
            Bind::at(name.clone()).owner(0),
            Bind::at(name.clone()).group(0),
        ] {
            assert_eq!(problem(Bound::at(at, kind)), AddressProblem::NotAPath);
        }
        assert!(!path.exists());
        Bound::at(Bind::at(name.clone()), kind)
            .unwrap()
            .reached_at(name);
    }
    assert_open_fds(before);
}

#[test]
fn only_the_own_user_can_connect_before_owner_and_mode_are_set() {
    alone!();
    needs_proc!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let (mine, my) = me();
    let (owner, group) = other_owner(directory.path());
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        move || {
            let mut seen = std::collections::HashSet::new();
            let mut last = None;
            while !stop.load(Ordering::Relaxed) {
                let data = std::fs::symlink_metadata(&path).ok();
                let now = data.map(|data| (data.mode() & 0o7777, data.uid(), data.gid()));
                // Mode and owner are read one after the other: only a pair that is seen twice is consistent.
                seen.extend(now.filter(|_| now == last));
                last = now;
            }
            seen
        }
    });
    for kind in KINDS {
        for _ in 0..500 {
            let at = Bind::at(&path).mode(0o666).owner(owner).group(group);
            drop(Bound::at(at, kind).unwrap());
        }
    }
    stop.store(true, Ordering::Relaxed);
    for (mode, uid, gid) in watcher.join().unwrap() {
        let is_settling =
            mode == 0o600 && [mine, owner].contains(&uid) && [my, group].contains(&gid);
        let is_whole = (mode, uid, gid) == (0o666, owner, group);
        assert!(is_settling || is_whole, "{mode:o} {uid} {gid}");
    }
}
