//! Files and servers of other users. Only root can make them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{chown, lchown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use jsoncomm::address::Address;
use jsoncomm::socket::{Listener, Socket};
use jsoncomm_tests::can_be_others;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

use super::*;

/// An unused user id.
const STRANGER: u32 = 4711;

/// Returns a folder in which root gives files away.
fn place_of_others() -> Option<Place> {
    if can_be_others() { Place::new() } else { None }
}

#[test]
fn an_entry_or_what_it_leads_through_is_refused_if_another_user_owns_it() {
    needs_proc!();
    let Some(place) = place_of_others() else {
        return;
    };
    let _socket = place.serve();
    let root = place.at("registry").parent().unwrap().to_owned();
    let own = |path: &Path, owner| lchown(path, Some(owner), Some(owner)).unwrap();
    for path in [
        root,
        place.at("registry"),
        place.at("registry/test.files"),
        place.at("run"),
        place.at("run/a.sock"),
    ] {
        own(&path, STRANGER);
        let owner = STRANGER;
        let expected = RegistryProblem::Foreign {
            path: path.clone(),
            owner,
        };
        assert_eq!(place.refused(), expected);
        own(&path, 0);
        place.registry().find(NAME).unwrap();
    }
}

#[test]
fn a_squatter_gets_no_client_and_hides_no_service_of_later_directories_in_silence() {
    needs_proc!();
    let Some(place) = place_of_others() else {
        return;
    };
    let _socket = place.serve();
    fs::create_dir(place.at("squat")).unwrap();
    let both = Registry::new([place.at("squat"), place.at("registry")]);
    both.find(NAME).unwrap();
    // The squatter leads clients to the right socket for now.
    place.link(place.at("run/a.sock"), "squat/test.files");
    for path in ["squat", "squat/test.files"] {
        lchown(place.at(path), Some(STRANGER), Some(STRANGER)).unwrap();
        let error = both.find(NAME).unwrap_err();
        assert!(RegistryProblem::of(&error).is_some(), "{error:?}");
        chown(place.at("squat"), Some(0), Some(0)).unwrap();
    }
}

/// Binds a socket as root, listens as the user in its argument, and keeps that open until its standard input ends.
const SERVER: &str = r#"import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
os.setresuid(int(sys.argv[2]), int(sys.argv[2]), 0)
s.listen()
os.setresuid(0, 0, 0)
print("listens", flush=True)
sys.stdin.read()
s.setblocking(False)
try:
    accepted, _ = s.accept()
    print(accepted.recv(100))
except BlockingIOError:
    print("nobody")"#;

#[test]
fn a_server_of_another_user_behind_a_right_entry_gets_no_message() {
    needs_proc!();
    let Some(place) = place_of_others() else {
        return;
    };
    place.link("../run/a.sock", "registry/test.files");
    for user in [0, STRANGER] {
        let path = place.at("run/a.sock");
        let mut server = Command::new("python3")
            .args(["-c", SERVER])
            .arg(&path)
            .arg(user.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "listens");
        let address = place.registry().address(NAME).unwrap();
        let connected = Connection::open(address);
        if user == 0 {
            connected.unwrap();
        } else {
            let error = connected.unwrap_err();
            let (server, owner) = (Some(user), 0);
            let expected = RegistryProblem::OtherServer { server, owner };
            assert_eq!(RegistryProblem::of(&error), Some(&expected), "{error}");
        }
        drop(server.stdin.take());
        let seen = lines.next().unwrap().unwrap();
        assert_eq!(seen, "b''", "connected and closed without a message");
        server.wait().unwrap();
        fs::remove_file(&path).unwrap();
    }
}

/// Set in a process that says which registry it uses.
const CHILD: &str = "JSONCOMM_TESTS_REGISTRY_CHILD";

/// Prints the directories of its registry, if a test has started it.
#[test]
fn child_that_prints_its_registry() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let registry = Registry::from_env();
    let mut out = std::io::stdout();
    for directory in registry.directories() {
        writeln!(out, "\nsearches {}", directory.display()).unwrap();
    }
    let user = rustix::process::geteuid().as_raw();
    writeln!(out, "\nis {user}").unwrap();
}

/// Returns the directories that a program searches, and its effective user.
fn searched(program: &Path) -> (Vec<String>, u32) {
    let output = Command::new(program)
        .args([
            "--exact",
            "registry::owners::child_that_prints_its_registry",
        ])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .env("JSONCOMM_REGISTRY", ":relative:/one:/two")
        .env("XDG_RUNTIME_DIR", "/run/user/4711")
        .current_dir("/")
        .uid(STRANGER)
        .gid(STRANGER)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let after = |start: &'static str| {
        said.lines()
            .filter_map(move |line| line.strip_prefix(start))
    };
    let user = after("is ").next().unwrap_or_else(|| panic!("{said}"));
    let searched = after("searches ").map(str::to_owned).collect();
    (searched, user.parse().unwrap())
}

#[test]
fn the_variables_are_ignored_by_a_program_with_more_rights_than_its_caller() {
    let Some(place) = place_of_others() else {
        return;
    };
    let program = place.at("program");
    fs::copy(jsoncomm_tests::this_program(), &program).unwrap();
    place.set_mode("program", 0o755);
    let system = "/run/jsoncomm".to_owned();
    let own = "/run/user/4711/jsoncomm".to_owned();
    let all = vec!["/one".to_owned(), "/two".to_owned(), own, system.clone()];
    assert_eq!(searched(&program), (all, STRANGER));
    place.set_mode("program", 0o4755);
    let (directories, user) = searched(&program);
    if user != 0 {
        return skip("the folder of temporary files is mounted with nosuid");
    }
    assert_eq!(directories, [system]);
}

#[test]
fn root_does_not_believe_in_the_registry_of_another_user() {
    needs_proc!();
    let Some(place) = place_of_others() else {
        return;
    };
    let _socket = place.serve();
    for path in ["registry", "registry/test.files", "run", "run/a.sock"] {
        lchown(place.at(path), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    assert!(matches!(place.refused(), RegistryProblem::Foreign { .. }));
    let error = Address::service("a/b").unwrap_err();
    assert!(error.to_string().starts_with("service a/b: "), "{error}");
}

#[test]
fn a_service_of_another_user_is_found_if_root_has_made_its_socket_and_entry() {
    needs_proc!();
    let Some(place) = place_of_others() else {
        return;
    };
    place.link("../run/a.sock", "registry/test.files");
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(
        &socket,
        &SocketAddrUnix::new(place.at("run/a.sock")).unwrap(),
    )
    .unwrap();
    listen(&socket, 7).unwrap();
    // Only this thread is the service's user.
    let service = std::thread::spawn(|| {
        set_thread_res_uid(None, Some(Uid::from_raw(STRANGER)), None).unwrap();
        let listener = Listener::from_fd(socket).unwrap();
        set_thread_res_uid(None, Some(Uid::ROOT), None).unwrap();
        listener
    });
    let listener = service.join().unwrap();
    let mut client = Socket::open(place.registry().address(NAME).unwrap()).unwrap();
    client.send("hello").unwrap();
    let mut accepted = listener.accept().unwrap().unwrap();
    assert_eq!(accepted.receive::<String>().unwrap().0, "hello");
}
