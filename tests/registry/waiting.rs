//! Clients that are started before their service.

use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jsoncomm::address::Address;
use jsoncomm::{Error, Kind};
use jsoncomm_tests::{KINDS, PATIENCE, wait_until};

use super::*;

/// Starts to wait in another thread, and returns once that sleeps.
fn wait_for(address: impl Into<Address>) -> JoinHandle<Result<Connection, Error>> {
    let address = address.into();
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        sender.send(rustix::thread::gettid()).unwrap();
        Connection::open_when_ready(address, Instant::now() + PATIENCE)
    });
    let id = receiver.recv().unwrap().as_raw_nonzero();
    // It sleeps in poll(2) only, after it has looked.
    let state = format!("/proc/self/task/{id}/stat");
    wait_until(|| {
        fs::read_to_string(&state).is_ok_and(|stat| {
            let (_, stat) = stat.rsplit_once(") ").unwrap();
            stat.starts_with('S')
        })
    });
    thread
}

#[test]
fn a_client_is_connected_when_its_service_comes() {
    needs_proc!();
    for kind in KINDS {
        let Some(place) = Place::new() else { return };
        fs::remove_dir(place.at("registry")).unwrap();
        fs::remove_dir(place.at("run")).unwrap();
        let address = place.registry().address(NAME).unwrap();
        let client = wait_for(address);
        // Step by step: each could be the last.
        fs::create_dir(place.at("registry")).unwrap();
        place.link("../run/a.sock", "registry/test.files");
        fs::create_dir(place.at("run")).unwrap();
        let _socket = Bound::at(place.at("run/a.sock"), kind).unwrap();
        client.join().unwrap().unwrap();
    }
}

#[test]
fn a_client_is_connected_when_the_entry_comes_after_the_socket() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let _socket = Bound::at(place.at("run/a.sock"), Kind::Seqpacket).unwrap();
    let client = wait_for(place.registry().address(NAME).unwrap());
    place.link("../run/a.sock", "registry/test.files");
    client.join().unwrap().unwrap();
}

#[test]
fn a_client_waits_for_a_path_and_for_a_dead_socket_to_be_replaced() {
    needs_proc!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    for _ in 0..2 {
        let client = wait_for(&path);
        let socket = Bound::at(&path, Kind::Seqpacket).unwrap();
        client.join().unwrap().unwrap();
        let kept = directory.path().join("kept");
        // Without its own file to remove, the socket leaves a dead one.
        fs::hard_link(&path, &kept).unwrap();
        drop(socket);
        fs::rename(&kept, &path).unwrap();
    }
}

#[test]
fn waiting_ends_at_the_deadline_with_what_is_missing_or_at_once_with_what_is_wrong() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let wait = |time| {
        let address = place.registry().address(NAME).unwrap();
        Connection::open_when_ready(address, Instant::now() + time)
    };
    assert_eq!(
        problem(wait(Duration::from_millis(20))),
        AddressProblem::Missing
    );
    place.link("/dev/null", "registry/test.files");
    let error = wait(PATIENCE).unwrap_err();
    assert!(RegistryProblem::of(&error).is_some(), "{error:?}");
    let name = Address::abstract_name(format!("jsoncomm-tests-{}", std::process::id())).unwrap();
    let waited = Connection::open_when_ready(name, Instant::now() + PATIENCE);
    assert_eq!(problem(waited), AddressProblem::NobodyListens);
}
