//! Entries that must not be used, and those that may be.

use jsoncomm::Kind;
use jsoncomm::address::Address;
use jsoncomm::socket::Socket;
use jsoncomm_tests::KINDS;

use super::*;

#[test]
fn an_entry_leads_to_the_socket_by_an_absolute_or_relative_link() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    place.link("run", "other name of run");
    for kind in KINDS {
        let long = format!("run/{}.sock", "long".repeat(20));
        let socket = Bound::at(place.at(&long), kind).unwrap();
        place.link(place.at(&long), "registry/test.absolute");
        place.link(format!("../{long}"), "registry/test.relative");
        let around = format!("../other name of run/../{long}");
        place.link(around, "registry/test.around");
        for name in ["test.absolute", "test.relative", "test.around"] {
            let entry = place.registry().find(name).unwrap();
            assert_eq!(entry.name(), name);
            assert_eq!(entry.socket(), place.at(&long));
            assert_eq!(entry.link(), place.at("registry").join(name));
            assert_eq!(entry.owner(), rustix::process::geteuid().as_raw());
            let address = place.registry().address(name).unwrap();
            assert_eq!(address.as_service(), Some(name));
            let mut client = Socket::open(address).unwrap();
            client.send("hello").unwrap();
            fs::remove_file(place.at("registry").join(name)).unwrap();
        }
        drop(socket);
    }
}

#[test]
fn the_first_directory_wins_and_the_entry_tells_what_it_hides() {
    let Some(place) = Place::new() else { return };
    let _socket = place.serve();
    let paths = ["none", "empty", "registry", "second", "third"].map(|name| place.at(name));
    for name in ["empty", "second", "third"] {
        fs::create_dir(place.at(name)).unwrap();
    }
    place.link("dangling", "second/test.files");
    fs::write(place.at("third/test.files"), "").unwrap();
    let registry = Registry::new(paths.clone());
    assert_eq!(registry.directories(), paths);
    let entry = registry.find(NAME).unwrap();
    assert_eq!(entry.link(), place.at("registry/test.files"));
    let hidden = ["second/test.files", "third/test.files"].map(|name| place.at(name));
    assert_eq!(entry.hides(), hidden);
    assert_eq!(
        place.registry().find(NAME).unwrap().hides(),
        [] as [PathBuf; 0]
    );
    assert_eq!(registry.names().unwrap(), [NAME]);
}

#[test]
fn a_service_without_an_entry_or_a_socket_is_missing() {
    let Some(place) = Place::new() else { return };
    let registry = Registry::new(["registry", "none", "run/file"].map(|name| place.at(name)));
    fs::write(place.at("run/file"), "").unwrap();
    let error = registry.find(NAME).unwrap_err();
    assert!(error.to_string().contains("run/file"), "{error}");
    assert_eq!(problem(Err::<(), _>(error)), AddressProblem::Missing);
    for target in ["../run/none", "../none/a", "../run/file/a"] {
        place.link(target, "registry/test.files");
        assert_eq!(problem(registry.find(NAME)), AddressProblem::Missing);
        fs::remove_file(place.at("registry/test.files")).unwrap();
    }
    place.serve();
    let address = place.registry().address(NAME).unwrap();
    // The socket's file has been removed with the socket.
    assert_eq!(problem(Connection::open(address)), AddressProblem::Missing);
}

#[test]
fn no_path_is_a_name() {
    let Some(place) = Place::new() else { return };
    let _socket = place.serve();
    for name in ["../registry/test.files", "..", "", "a/b", ".lock", "rpc"] {
        for error in [
            place.registry().find(name).unwrap_err(),
            place.registry().address(name).unwrap_err(),
            Address::service(name).unwrap_err(),
        ] {
            assert!(RegistryProblem::of(&error).is_some(), "{name}: {error:?}");
        }
    }
}

/// Modes of a directory that others can write to, and with which they could replace a file in it.
const WRITABLE: [u32; 4] = [0o777, 0o775, 0o757, 0o722];

#[test]
fn a_directory_that_others_may_write_to_is_refused_wherever_it_is() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    fs::create_dir_all(place.at("up/run")).unwrap();
    let _socket = place.serve();
    let _other = Bound::at(place.at("up/run/a.sock"), Kind::Seqpacket).unwrap();
    for directory in ["registry", "run", ""] {
        for mode in WRITABLE {
            place.set_mode(directory, mode);
            let path = match directory {
                "" => place.at("registry").parent().unwrap().to_owned(),
                _ => place.at(directory),
            };
            assert_eq!(place.refused(), RegistryProblem::Writable { path, mode });
        }
        for mode in [0o755, 0o700] {
            place.set_mode(directory, mode);
            place.registry().find(NAME).unwrap();
        }
    }
    // Links in links, and directories above that of the socket.
    place.link("../up/run/a.sock", "run/link");
    fs::remove_file(place.at("registry/test.files")).unwrap();
    place.link("../run/link", "registry/test.files");
    place.registry().find(NAME).unwrap();
    let (path, mode) = (place.at("up"), 0o777);
    place.set_mode("up", mode);
    assert_eq!(place.refused(), RegistryProblem::Writable { path, mode });
    let error = place.registry().names();
    assert!(error.is_ok(), "only what an entry leads to");
    place.set_mode("registry", 0o777);
    assert!(place.registry().names().is_err());
}

#[test]
fn a_directory_with_the_sticky_bit_may_only_lead_to_a_directory() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let mode = 0o1777;
    fs::create_dir(place.at("tmp")).unwrap();
    place.set_mode("tmp", mode);
    fs::create_dir(place.at("tmp/own")).unwrap();
    place.set_mode("tmp/own", 0o755);
    let _inside = Bound::at(place.at("tmp/own/a.sock"), Kind::Seqpacket).unwrap();
    let _socket = Bound::at(place.at("tmp/a.sock"), Kind::Seqpacket).unwrap();
    place.link("own/a.sock", "tmp/link");
    place.link("own", "tmp/own link");
    let refused = RegistryProblem::Writable {
        path: place.at("tmp"),
        mode,
    };
    place.link("../tmp/own/a.sock", "registry/test.files");
    place.registry().find(NAME).unwrap();
    for target in ["../tmp/a.sock", "../tmp/link", "../tmp/own link/a.sock"] {
        fs::remove_file(place.at("registry/test.files")).unwrap();
        place.link(target, "registry/test.files");
        assert_eq!(place.refused(), refused, "{target}");
    }
    // As a registry it would let each user squat the names of services that are not there.
    place.link("own/a.sock", "tmp/test.files");
    let error = Registry::new([place.at("tmp")]).find(NAME).unwrap_err();
    assert_eq!(RegistryProblem::of(&error), Some(&refused));
}

#[test]
fn links_in_a_loop_are_refused_and_forty_are_followed() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    place.link("test.files", "registry/test.files");
    let path = place.at("registry/test.files");
    assert_eq!(
        place.refused(),
        RegistryProblem::Loop { path: path.clone() }
    );
    fs::remove_file(&path).unwrap();
    let _socket = Bound::at(place.at("run/0"), Kind::Seqpacket).unwrap();
    for number in 1..=40 {
        place.link(format!("{}", number - 1), &format!("run/{number}"));
    }
    place.link("../run/39", "registry/test.files");
    place.registry().find(NAME).unwrap();
    fs::remove_file(&path).unwrap();
    place.link("../run/40", "registry/test.files");
    let path = place.at("run/1");
    assert_eq!(place.refused(), RegistryProblem::Loop { path });
}

#[test]
fn only_a_link_is_an_entry_and_only_to_a_socket() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let entry = place.at("registry/test.files");
    fs::write(&entry, "../run/a.sock").unwrap();
    let not_a_link = |found| RegistryProblem::NotALink {
        path: entry.clone(),
        found,
    };
    assert_eq!(place.refused(), not_a_link("a file"));
    fs::remove_file(&entry).unwrap();
    let socket = Bound::at(&entry, Kind::Seqpacket).unwrap();
    assert_eq!(place.refused(), not_a_link("a socket"));
    drop(socket);
    fs::create_dir(&entry).unwrap();
    assert_eq!(place.refused(), not_a_link("a directory"));
    fs::remove_dir(&entry).unwrap();
    fs::write(place.at("run/file"), "").unwrap();
    for (target, found) in [
        ("../run/file", "a file"),
        ("../run", "a directory"),
        ("/dev/null", "a special file"),
        ("/", "a directory"),
    ] {
        place.link(target, "registry/test.files");
        match place.refused() {
            RegistryProblem::NotASocket { found: seen, .. } => assert_eq!(seen, found),
            // Of a container's root.
            RegistryProblem::Foreign { .. } => {}
            other => panic!("{other:?}"),
        }
        fs::remove_file(&entry).unwrap();
    }
}

#[test]
fn ten_thousand_other_entries_do_not_hide_one() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    for number in 0..10_000 {
        place.link("nowhere", &format!("registry/test.n{number}"));
    }
    fs::write(place.at("registry/.lock"), "").unwrap();
    fs::write(place.at("registry/no name"), "").unwrap();
    let _socket = place.serve();
    place.registry().find(NAME).unwrap();
    let names = place.registry().names().unwrap();
    assert_eq!(names.len(), 10_001);
    assert_eq!(names.first().unwrap(), NAME);
    assert!(names.is_sorted());
}
