//! Services by name: `jsoncomm services`, addresses by name, and completion.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use jsoncomm::Kind;
use jsoncomm::address::Registry;
use jsoncomm_examples::{Files, Folder};
use jsoncomm_tests::{has_proc, skip};
use tempfile::TempDir;

use crate::common::{good, jsoncomm, run, safe_folder};

/// A registry with the example `files`, and the folder of both.
struct Place {
    folder: TempDir,
}

impl Place {
    /// Makes it; `None` where other users could change temporary files, and the test is skipped.
    fn new() -> Option<Self> {
        if !has_proc() {
            return None;
        }
        let folder = safe_folder()?;
        std::fs::create_dir(folder.path().join("registry")).unwrap();
        Some(Self { folder })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn registry(&self) -> Registry {
        Registry::new([self.at("registry")])
    }

    /// Returns the command with this registry only.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = jsoncomm(arguments);
        command
            .env("JSONCOMM_REGISTRY", self.at("registry"))
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(self.folder.path());
        command
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.at("registry").join(name)).unwrap();
    }

    /// Serves the example, registered, until the returned server is dropped.
    fn serve(&self) -> Serving {
        let mut state = Folder::new(self.folder.path()).unwrap();
        let mut server = jsoncomm::Server::new(jsoncomm::Limits::default()).unwrap();
        let endpoint = server.bind(self.at("a.sock"), Kind::Seqpacket).unwrap();
        let endpoint = endpoint.serve::<dyn Files>();
        endpoint.register_in(&self.registry()).unwrap();
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run(&mut state).unwrap());
        Serving(Some((handle, thread)))
    }
}

/// A running server.
struct Serving(
    Option<(
        jsoncomm::server::ServerHandle<Folder>,
        std::thread::JoinHandle<()>,
    )>,
);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some((handle, thread)) = self.0.take() {
            handle.stop();
            thread.join().unwrap();
        }
    }
}

#[test]
fn services_are_listed_with_their_state_and_none_is_connected_to() {
    let Some(place) = Place::new() else { return };
    let _serving = place.serve();
    place.link(place.at("none"), "test.dangling");
    let dead = std::os::unix::net::UnixListener::bind(place.at("dead")).unwrap();
    drop(dead);
    place.link(place.at("dead"), "test.dead");
    place.link("/dev/null", "test.refused");
    // It would be noticed here.
    let quiet = std::os::unix::net::UnixListener::bind(place.at("quiet")).unwrap();
    quiet.set_nonblocking(true).unwrap();
    place.link(place.at("quiet"), "test.quiet");
    let table = good(run(&mut place.command(&["services", "--describe"])));
    let mut lines = table.lines();
    let first = lines.next().unwrap();
    let words: Vec<_> = first.split_whitespace().take(3).collect();
    let socket = place.at("a.sock").display().to_string();
    assert_eq!(words, ["example.files", "alive", &socket], "{table}");
    assert!(
        first.contains(&format!("[{}]", std::process::id())),
        "{table}"
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("    example.files.open  "),
        "{table}"
    );
    let mut state = |name: &str| {
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(state("test.dangling"), "dead");
    assert_eq!(state("test.dead"), "dead");
    assert_eq!(state("test.quiet"), "alive");
    assert_eq!(state("test.refused"), "refused");
    drop(quiet);
}

#[test]
fn listing_without_describing_connects_to_nothing() {
    let Some(place) = Place::new() else { return };
    let quiet = std::os::unix::net::UnixListener::bind(place.at("quiet")).unwrap();
    quiet.set_nonblocking(true).unwrap();
    place.link(place.at("quiet"), "test.quiet");
    good(run(&mut place.command(&["services"])));
    let accepted = quiet.accept().unwrap_err();
    assert_eq!(accepted.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_socket_that_a_service_manager_holds_is_activatable_and_not_asked() {
    let Some(place) = Place::new() else { return };
    // What decides is the name of the process that has the socket.
    let script = "import ctypes, socket, sys\n\
        PR_SET_NAME = 15\n\
        assert ctypes.CDLL(None).prctl(PR_SET_NAME, b'systemd') == 0\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
        s.bind(sys.argv[1])\n\
        s.listen()\n\
        print('listens', flush=True)\n\
        sys.stdin.read()\n\
        s.setblocking(False)\n\
        s.accept()";
    let mut manager = Command::new("python3")
        .args(["-c", script])
        .arg(place.at("a.sock"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 7];
    let stdout = manager.stdout.as_mut().unwrap();
    std::io::Read::read_exact(stdout, &mut ready).unwrap();
    place.link(place.at("a.sock"), "test.late");
    let table = good(run(&mut place.command(&["services", "--describe"])));
    let words: Vec<_> = table.split_whitespace().take(2).collect();
    assert_eq!(words, ["test.late", "activatable"], "{table}");
    let output = manager.wait_with_output().unwrap();
    let cries = String::from_utf8_lossy(&output.stderr);
    assert!(cries.contains("BlockingIOError"), "{cries}");
}

#[test]
fn a_service_is_called_and_described_by_its_name_and_by_that_of_a_method() {
    let Some(place) = Place::new() else { return };
    let serving = place.serve();
    let list = "example.files.list";
    for words in [&["service:example.files", list][..], &[list]] {
        let told = good(run(&mut place.command(&[&["call"], words].concat())));
        assert!(told.starts_with('['), "{told}");
        let told = good(run(&mut place.command(&[&["describe"], words].concat())));
        assert!(told.starts_with("example.files.list("), "{told}");
    }
    let told = good(run(&mut place.command(&["list", "service:example.files"])));
    assert!(told.starts_with("example.files.open"), "{told}");
    // An address in the environment comes before the name of the method.
    let elsewhere = &mut place.command(&["call", list]);
    let told = run(elsewhere.env("JSONCOMM_ADDRESS", place.at("elsewhere")));
    assert_eq!(told.code, Some(4), "{told:?}");
    drop(serving);
    let told = run(&mut place.command(&["call", list]));
    assert_eq!(told.code, Some(4), "{told:?}");
    assert!(told.stderr.contains("service:example.files"), "{told:?}");
    let told = run(&mut place.command(&["call", "service:example/files", list]));
    assert_eq!(told.code, Some(2), "{told:?}");
}

#[test]
fn a_registry_that_others_may_change_is_not_listed() {
    use std::os::unix::fs::PermissionsExt;
    let Some(place) = Place::new() else { return };
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(place.at("registry"), mode).unwrap();
    let told = run(&mut place.command(&["services"]));
    assert_eq!(told.code, Some(4), "{told:?}");
    assert!(
        told.stderr.contains("can be changed by other users"),
        "{told:?}"
    );
}

/// Returns what the command offers for the last of these words.
fn offered(place: &Place, words: &[&str]) -> Vec<String> {
    let arguments = [&["complete", "--"], words].concat();
    let told = good(run(&mut place.command(&arguments)));
    told.lines().map(str::to_owned).collect()
}

#[test]
fn services_and_methods_are_completed() {
    let Some(place) = Place::new() else { return };
    let _serving = place.serve();
    place.link("none", "test.dead");
    let services = ["service:example.files", "service:test.dead"];
    assert_eq!(offered(&place, &["call", "ser"]), services);
    assert_eq!(offered(&place, &["list", "service:t"]), services[1..]);
    let methods = [
        "example.files.open",
        "example.files.list",
        "example.files.put",
    ];
    assert_eq!(offered(&place, &["call", "ex"]), methods);
    assert_eq!(offered(&place, &["call", "example.files.l"]), methods[1..2]);
    assert_eq!(offered(&place, &["describe", services[0], ""]), methods);
    assert_eq!(offered(&place, &["describe", "./a.sock", ""]), [""; 0]);
    assert_eq!(
        offered(&place, &["call", "example.files.list", ""]),
        services
    );
    assert_eq!(offered(&place, &["list", ""]), services);
    assert_eq!(offered(&place, &["call"]), [""; 0]);
}

/// Runs a script in a shell with the registry, and returns what it prints; `None` if the shell is not installed.
fn through_shell(place: &Place, shell: &str, script: &str) -> Option<String> {
    if Command::new(shell).arg("--version").output().is_err() {
        skip(&format!("{shell} is not installed"));
        return None;
    }
    let mut command = Command::new(shell);
    command
        .arg("-c")
        .arg(script)
        .current_dir(place.folder.path());
    for (name, value) in place.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let folder = Path::new(env!("CARGO_BIN_EXE_jsoncomm")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    Some(good(run(command.env("PATH", path))))
}

#[test]
fn bash_completes_names_also_behind_a_colon() {
    let Some(place) = Place::new() else { return };
    let _serving = place.serve();
    let complete = |line: &str| {
        let script = format!(
            "source <(jsoncomm completions bash); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; \
             COMP_WORDS=($COMP_LINE); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _jsoncomm_names jsoncomm \"${{COMP_WORDS[-1]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        through_shell(&place, "bash", &script)
    };
    let Some(methods) = complete("jsoncomm call example.files.l") else {
        return;
    };
    assert!(methods.contains("example.files.list\n"), "{methods}");
    let behind = complete("jsoncomm call service:exa").unwrap();
    assert!(
        behind.lines().any(|line| line == "example.files"),
        "{behind}"
    );
}

#[test]
fn fish_completes_names() {
    let Some(place) = Place::new() else { return };
    let _serving = place.serve();
    let script = "jsoncomm completions fish | source; complete -C 'jsoncomm call example.files.l'; \
                  complete -C 'jsoncomm list service:exa'";
    let Some(offered) = through_shell(&place, "fish", script) else {
        return;
    };
    assert_eq!(offered, "example.files.list\nservice:example.files\n");
}

/// What a person types into zsh, and what is on the line after the tabulator.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell "TERM=dumb zsh -f -i"
zpty -w shell 'PS1=; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D'
zpty -w shell 'source <(jsoncomm completions zsh); print rea''dy'
zpty -r -m shell line '*ready*'
zpty -w -n shell $'jsoncomm call example.files.l\t'
zpty -r -m shell line '*example.files.list*'
zpty -w -n shell $'\x15jsoncomm list service:exa\t'
zpty -r -m shell line '*service:example.files*'
print completed
zpty -d shell
"#;

#[test]
fn zsh_completes_names() {
    let Some(place) = Place::new() else { return };
    let _serving = place.serve();
    if let Some(said) = through_shell(&place, "zsh", ZSH) {
        assert_eq!(said, "completed\n");
    }
}
