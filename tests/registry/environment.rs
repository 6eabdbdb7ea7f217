//! Where services are registered by the environment of the process.

use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use jsoncomm::{Kind, Limits, Server};
use jsoncomm_tests::can_be_others;

use super::*;

/// An unused user id.
const STRANGER: u32 = 4711;
/// Set to the path of a socket in a process that registers.
const CHILD: &str = "JSONCOMM_TESTS_REGISTERING_CHILD";

#[jsoncomm::service(name = "test.files")]
trait Files {
    fn list(&mut self) -> Vec<String>;
}

struct State;

impl Files for State {
    fn list(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Registers a service and prints where, if a test has started it.
#[test]
fn child_that_registers() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let mut server: Server<State> = Server::new(Limits::default()).unwrap();
    let endpoint = server.bind(&path, Kind::Seqpacket).unwrap();
    let said = match endpoint.serve::<dyn Files>().register() {
        Ok(_) => {
            let entry = Registry::from_env().find(NAME).unwrap();
            entry.link().display().to_string()
        }
        Err(error) => error.to_string(),
    };
    let mut out = std::io::stdout();
    writeln!(out, "\nsays {said}").unwrap();
}

/// Registers in another process with these variables, as this user or, for root, as another. Returns what that says.
fn registers(place: &Place, variables: &[(&str, PathBuf)]) -> String {
    let mut command = Command::new(jsoncomm_tests::this_program());
    command
        .args(["--exact", "registry::environment::child_that_registers"])
        .args(["--nocapture", "--test-threads=1"])
        .env_remove("JSONCOMM_REGISTRY")
        .env_remove("XDG_RUNTIME_DIR")
        .env(CHILD, place.at("own/a.sock"))
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(STRANGER).gid(STRANGER);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("says "));
    line.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_user_registers_in_the_own_runtime_directory_or_where_the_environment_says() {
    needs_proc!();
    if rustix::process::geteuid().is_root() && !can_be_others() {
        return;
    }
    let Some(place) = Place::new() else { return };
    for name in ["own", "other"] {
        fs::create_dir(place.at(name)).unwrap();
        place.set_mode(name, 0o700);
        if rustix::process::geteuid().is_root() {
            chown(place.at(name), Some(STRANGER), Some(STRANGER)).unwrap();
        }
    }
    let own = ("XDG_RUNTIME_DIR", place.at("own"));
    let said = registers(&place, std::slice::from_ref(&own));
    let made = place.at("own/jsoncomm");
    assert_eq!(Path::new(&said), made.join(NAME));
    assert!(made.join(".lock").exists(), "it stays");
    let list = ("JSONCOMM_REGISTRY", place.at("other"));
    let said = registers(&place, &[own, list]);
    assert_eq!(Path::new(&said), place.at("other").join(NAME));
    place.set_mode("registry", 0o555);
    let list = ("JSONCOMM_REGISTRY", place.at("registry"));
    let said = registers(&place, &[list]);
    let line = format!(
        "L+ {} - - - - {}",
        place.at("registry/test.files").display(),
        place.at("own/a.sock").display()
    );
    assert!(said.ends_with(&line), "{said}");
}
