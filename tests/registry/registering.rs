//! Servers that register their services.

use std::sync::Barrier;
use std::time::Duration;

use jsoncomm::address::Address;
use jsoncomm::server::Handover;
use jsoncomm::{Endpoint, Kind, Limits, Server};
use jsoncomm_tests::{KINDS, alone, assert_open_fds, open_fds, servers_are_gone};

use super::*;

#[jsoncomm::service(name = "test.files")]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

#[jsoncomm::service(name = "test.clock")]
trait Clock {
    fn now(&mut self) -> u64;
}

#[derive(Debug)]
struct State;

impl Files for State {
    fn list(&mut self) -> Vec<String> {
        Vec::new()
    }
}

impl Clock for State {
    fn now(&mut self) -> u64 {
        7
    }
}

fn server() -> Server<State> {
    Server::new(Limits::default()).unwrap()
}

/// Binds in the folder, and registers both services there.
fn register(
    place: &Place,
    server: &mut Server<State>,
    path: &str,
    kind: Kind,
) -> Result<(), Error> {
    let endpoint = server.bind(place.at(path), kind).unwrap();
    let endpoint = endpoint.serve::<dyn Files>().serve::<dyn Clock>();
    endpoint.register_in(&place.registry()).map(drop)
}

#[test]
fn a_registered_service_is_called_by_name_and_its_entry_goes_with_the_server() {
    alone!();
    needs_proc!();
    let before = open_fds();
    for kind in KINDS {
        let Some(place) = Place::new() else { return };
        let mut server = server();
        register(&place, &mut server, "run/a.sock", kind).unwrap();
        assert_eq!(place.registry().names().unwrap(), ["test.clock", NAME]);
        let handle = server.handle();
        let thread = std::thread::spawn(move || {
            server.run(&mut State).unwrap();
            server
        });
        let clock = place.registry().address("test.clock").unwrap();
        let clock = ClockClient::new(Connection::open(clock).unwrap());
        assert_eq!(clock.now().unwrap(), 7);
        handle.stop();
        let server = thread.join().unwrap();
        drop(server);
        assert_eq!(place.registry().names().unwrap(), [""; 0]);
        drop(clock);
    }
    servers_are_gone();
    assert_open_fds(before);
}

#[test]
fn a_removed_endpoint_is_not_registered_any_more() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let mut server = server();
    let endpoint = server.bind(place.at("run/a"), Kind::Seqpacket).unwrap();
    let endpoint = endpoint.serve::<dyn Files>();
    let endpoint = endpoint.register_in(&place.registry()).unwrap();
    // What is served since then is registered as well.
    let endpoint = endpoint.serve::<dyn Clock>();
    let endpoint = endpoint.register_in(&place.registry()).unwrap();
    assert_eq!(place.registry().names().unwrap(), ["test.clock", NAME]);
    endpoint.remove();
    assert_eq!(place.registry().names().unwrap(), [""; 0]);
}

#[test]
fn an_entry_of_a_dead_server_is_replaced_and_that_of_a_live_one_is_not() {
    needs_proc!();
    for kind in KINDS {
        let Some(place) = Place::new() else { return };
        place.link("../run/never there", "registry/test.clock");
        // Killed: the file of the socket and the entry stay.
        let dead = std::os::unix::net::UnixDatagram::bind(place.at("run/dead")).unwrap();
        place.link("../run/dead", "registry/test.files");
        let mut first = server();
        let error = register(&place, &mut first, "run/first", kind).unwrap_err();
        let in_use = RegistryProblem::InUse {
            entry: place.at("registry/test.files"),
            socket: place.at("run/dead"),
        };
        assert_eq!(RegistryProblem::of(&error), Some(&in_use));
        let still = fs::read_link(place.at("registry/test.clock")).unwrap();
        assert_eq!(still, Path::new("../run/never there"), "all or none");
        drop(dead);
        register(&place, &mut first, "run/second", kind).unwrap();
        for name in [NAME, "test.clock"] {
            let found = place.registry().find(name).unwrap();
            assert_eq!(found.socket(), place.at("run/second"));
        }
        assert_eq!(fs::read_dir(place.at("registry")).unwrap().count(), 3);
    }
}

#[test]
fn an_entry_that_another_program_has_made_meanwhile_is_not_removed() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let mut server = server();
    register(&place, &mut server, "run/a.sock", Kind::Seqpacket).unwrap();
    let made = fs::read_link(place.at("registry/test.files")).unwrap();
    fs::remove_file(place.at("registry/test.files")).unwrap();
    place.link(made, "registry/test.files");
    drop(server);
    assert_eq!(place.registry().names().unwrap(), [NAME]);
}

#[test]
fn only_this_user_can_open_the_file_that_is_locked() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let mut server = server();
    register(&place, &mut server, "run/a.sock", Kind::Seqpacket).unwrap();
    let lock = fs::metadata(place.at("registry/.lock")).unwrap();
    assert_eq!(lock.mode() & 0o777, 0o600);
    // Somebody else who has it can delay a start, and no more.
    let held = fs::File::open(place.at("registry/.lock")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = register(&place, &mut server, "run/b.sock", Kind::Seqpacket).unwrap_err();
    let path = place.at("registry/.lock");
    assert_eq!(
        RegistryProblem::of(&error),
        Some(&RegistryProblem::Locked { path })
    );
}

#[test]
fn a_registry_that_a_server_makes_can_be_read_by_others_whatever_the_umask() {
    alone!();
    needs_proc!();
    for umask in [0, 0o022, 0o077] {
        let Some(place) = Place::new() else { return };
        fs::remove_dir(place.at("registry")).unwrap();
        let mut server = server();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        register(&place, &mut server, "run/a.sock", Kind::Seqpacket).unwrap();
        let made = fs::metadata(place.at("registry")).unwrap();
        assert_eq!(made.mode() & 0o7777, 0o755);
        let lock = fs::metadata(place.at("registry/.lock")).unwrap();
        assert_eq!(lock.mode() & 0o777, 0o600);
    }
}

#[test]
fn where_a_server_may_not_register_the_error_has_the_line_to_install() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let mut server = server();
    let directory = place.at("no/such");
    let endpoint = server
        .bind(place.at("run/a.sock"), Kind::Seqpacket)
        .unwrap();
    let endpoint = endpoint.serve::<dyn Files>();
    let error = endpoint
        .register_in(&Registry::new([&directory]))
        .unwrap_err();
    let socket = place.at("run/a.sock");
    let line = format!(
        "L+ {}/test.files - - - - {}",
        directory.display(),
        socket.display()
    );
    let expected = RegistryProblem::NotWritable { directory, line };
    assert_eq!(RegistryProblem::of(&error), Some(&expected), "{error}");
    // It is still served.
    Connection::open(&socket).unwrap();
}

#[test]
fn nothing_is_registered_where_no_client_would_believe_it() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let mut server = server();
    for (directory, other) in [("run", "registry"), ("registry", "run")] {
        place.set_mode(directory, 0o777);
        let result = register(&place, &mut server, "run/a.sock", Kind::Seqpacket);
        let error = result.unwrap_err();
        let (path, mode) = (place.at(directory), 0o777);
        let expected = RegistryProblem::Writable { path, mode };
        assert_eq!(RegistryProblem::of(&error), Some(&expected));
        place.set_mode(directory, 0o755);
        place.set_mode(other, 0o755);
        fs::remove_file(place.at("run/a.sock")).unwrap();
    }
    assert_eq!(place.registry().names().unwrap(), [""; 0]);
}

#[test]
fn an_endpoint_without_a_path_or_a_service_is_not_registered() {
    let Some(place) = Place::new() else { return };
    let mut server = server();
    let refused = |result: Result<_, Error>| match result {
        Ok(_) => panic!("registered"),
        Err(error) => RegistryProblem::of(&error).cloned().unwrap(),
    };
    let name = format!("jsoncomm-tests-registering-{}", std::process::id());
    let name = Address::abstract_name(name).unwrap();
    let endpoint = server
        .bind(name, Kind::Seqpacket)
        .unwrap()
        .serve::<dyn Files>();
    let problem = refused(endpoint.register_in(&place.registry()).map(drop));
    assert_eq!(problem, RegistryProblem::NotBound);
    let endpoint = server.bind(place.at("run/a"), Kind::Seqpacket).unwrap();
    let problem = refused(endpoint.register_in(&place.registry()).map(drop));
    assert_eq!(problem, RegistryProblem::NothingServed);
}

#[test]
fn servers_that_register_at_the_same_time_all_have_their_entries() {
    needs_proc!();
    let Some(place) = Place::new() else { return };
    let barrier = Barrier::new(2);
    for _ in 0..20 {
        fs::remove_dir_all(place.at("registry")).unwrap();
        std::thread::scope(|scope| {
            let start = |path: &'static str, clock: bool| {
                let (place, barrier) = (&place, &barrier);
                scope.spawn(move || {
                    let mut server = server();
                    let endpoint = server.bind(place.at(path), Kind::Seqpacket).unwrap();
                    let endpoint = match clock {
                        true => endpoint.serve::<dyn Clock>(),
                        false => endpoint.serve::<dyn Files>(),
                    };
                    barrier.wait();
                    endpoint.register_in(&place.registry()).unwrap();
                    barrier.wait();
                    let names = place.registry().names().unwrap();
                    barrier.wait();
                    names
                })
            };
            for names in [start("run/a", true), start("run/b", false)] {
                assert_eq!(names.join().unwrap(), ["test.clock", NAME]);
            }
        });
        assert_eq!(place.registry().names().unwrap(), [""; 0]);
    }
}

#[test]
fn a_server_that_hands_over_leaves_its_entries_to_the_next() {
    needs_proc!();
    for kind in KINDS {
        let Some(place) = Place::new() else { return };
        let mut first = server();
        register(&place, &mut first, "run/a.sock", kind).unwrap();
        let handover = first.hand_over(&mut State, Duration::ZERO).unwrap();
        drop(first);
        assert_eq!(place.registry().names().unwrap(), ["test.clock", NAME]);
        let mut next = server();
        let fd = handover.to_fd().unwrap();
        let serve = |_: &str, endpoint: Endpoint<'_, State>| {
            let endpoint = endpoint.serve::<dyn Files>().serve::<dyn Clock>();
            endpoint.register_in(&place.registry()).map(drop)
        };
        next.take_over(Handover::from_fd(fd).unwrap(), serve)
            .unwrap();
        assert_eq!(place.registry().names().unwrap(), ["test.clock", NAME]);
        let _ = next.run_once(&mut State, Some(Duration::ZERO)).unwrap();
        drop(next);
        assert_eq!(place.registry().names().unwrap(), [""; 0]);
    }
}

#[test]
fn a_client_that_reconnects_finds_the_service_at_its_new_socket() {
    needs_proc!();
    for kind in KINDS {
        let Some(place) = Place::new() else { return };
        let start = |path| {
            let mut server = server();
            register(&place, &mut server, path, kind).unwrap();
            let handle = server.handle();
            (handle, std::thread::spawn(move || server.run(&mut State)))
        };
        let (first, thread) = start("run/first");
        let address = place.registry().address("test.clock").unwrap();
        let connection = Connection::open(address).unwrap().reconnecting();
        let clock = ClockClient::new(connection);
        assert_eq!(clock.now().unwrap(), 7);
        first.stop();
        thread.join().unwrap().unwrap();
        let (second, thread) = start("run/second");
        assert_eq!(clock.now().unwrap(), 7);
        second.stop();
        thread.join().unwrap().unwrap();
    }
}
