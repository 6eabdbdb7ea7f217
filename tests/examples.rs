//! The examples, run as a person runs them: real processes, their output and exit status.

#![expect(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use jsoncomm::{CallError, Connection, Fault};
use jsoncomm_examples::{FilesClient, FilesError};
use jsoncomm_tests::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Makes the command that runs an example. cargo builds it if that has not been done yet.
fn example(name: &str) -> Command {
    example_with(name, "")
}

/// The same for an example that needs a feature of its package.
fn example_with(name: &str, feature: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--quiet", "--package", "jsoncomm-examples"])
        .args((!cfg!(debug_assertions)).then_some("--release"))
        .args(["--features", feature, "--example", name, "--"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn quickstart_reads_a_file_through_a_descriptor_and_is_refused_outside() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let first = std::fs::read_to_string(&readme).unwrap();
    let first = first.lines().next().unwrap();
    let said = text(&example("quickstart").output().unwrap());
    assert!(said.contains(first), "{said}");
    assert!(said.contains("no file not-there.txt"), "{said}");
    assert!(said.contains("not allowed: ../etc/passwd"), "{said}");
    assert!(said.contains("not allowed: /etc/passwd"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other file.txt");
    std::fs::write(&path, "just this\nand that").unwrap();
    let said = text(&example("quickstart").arg(&path).output().unwrap());
    assert!(said.contains("just this\n"), "{said}");
    assert!(said.contains("18 bytes, announced 18"), "{said}");
}

#[test]
fn relay_passes_on_a_descriptor_and_an_error() {
    let said = text(&example("relay").output().unwrap());
    assert!(
        said.contains("a descriptor came through both: //! A server that is a client"),
        "{said}"
    );
    assert!(
        said.contains("so did an error: not allowed: ../Cargo.toml"),
        "{said}"
    );
}

#[test]
fn pool_answers_what_is_done_first_and_stops_what_nobody_waits_for() {
    let said = text(&example("pool").output().unwrap());
    assert!(said.contains("below 1000: 168 primes\n"), "{said}");
    assert!(said.contains("below 100000: 9592 primes\n"), "{said}");
    assert!(said.contains("below 10: 4 primes\n"), "{said}");
    assert!(said.ends_with("stopped by their worker: 1\n"), "{said}");
}

#[test]
fn soak_finds_nothing_off() {
    let said = text(&example("soak").arg("2").output().unwrap());
    assert!(said.ends_with("nothing is off\n"), "{said}");
    for done in ["polite ", "polite datagram", "slow ", "death", "hostile "] {
        assert!(said.contains(done), "{done}: {said}");
    }
}

#[test]
fn poll_loop_serves_beside_another_descriptor() {
    let said = text(&example("poll_loop").output().unwrap());
    let expected = "Good day, Ada!\nWelcome back, Ada!\ncalls served from poll(2): 2\n";
    assert_eq!(said, expected);
}

#[cfg(feature = "calloop")]
#[test]
fn calloop_drives_a_server_and_its_timer_answers() {
    let said = text(&example_with("calloop_loop", "calloop").output().unwrap());
    let expected = "two ticks came, in order\ncalls served from calloop: 2\n";
    assert_eq!(said, expected);
}

#[cfg(feature = "tokio")]
#[test]
fn tokio_drives_a_server_whose_tasks_answer_async_callers() {
    let said = text(&example_with("tokio_loop", "tokio").output().unwrap());
    let answers = "Good day, Ada!\nGood day, Grace!\nGood day, Mary!\n";
    assert_eq!(said, format!("{answers}calls served from tokio: 3\n"));
}

/// A running `files serve` on a folder.
struct Daemon {
    child: Child,
    socket: PathBuf,
    folder: TempDir,
}

impl Daemon {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("files.sock");
        // Built first, and then run itself, so that signals reach it and not cargo.
        let built = example("files").output().expect("cargo runs");
        assert!(
            !built.status.success(),
            "without arguments it says how to use it"
        );
        let mut child = Command::new(binary("files"))
            .args(["serve", "--root"])
            .arg(folder.path())
            .arg("--socket")
            .arg(&socket)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut ready)
            .expect("it says when it is ready");
        assert_eq!(ready, format!("listening on {}\n", socket.display()));
        Self {
            child,
            socket,
            folder,
        }
    }

    fn command(&self, verb: &str, name: Option<&str>) -> Command {
        let mut command = Command::new(binary("files"));
        command
            .arg(verb)
            .arg("--socket")
            .arg(&self.socket)
            .args(name);
        command
    }

    fn stub(&self) -> FilesClient {
        FilesClient::new(
            Connection::open(&self.socket)
                .expect("it listens")
                .within(PATIENCE),
        )
    }

    fn stop(mut self, signal: Signal) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
        let status = self.child.wait().expect("it is ours");
        assert!(!self.socket.exists(), "the socket is removed");
        status
    }
}

/// Where cargo puts an example: beside the folder of this test's own binary.
fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("this test has a path");
    path.pop();
    path.pop();
    path.join("examples").join(name)
}

#[test]
fn files_opens_lists_and_stores_and_stops_on_signals() {
    for (options, signal) in [(&[][..], Signal::TERM), (&["--seqpacket"][..], Signal::INT)] {
        let daemon = Daemon::start(options);
        std::fs::write(daemon.folder.path().join("a.txt"), "content of a").unwrap();
        let open = daemon.command("open", Some("a.txt")).output().unwrap();
        assert_eq!(text(&open), "content of a");

        // From a plain file, whose descriptor is lent as it is, and through a pipe.
        let input = daemon.folder.path().join("a.txt");
        let put = daemon
            .command("put", Some("b.txt"))
            .stdin(File::open(input).unwrap())
            .output();
        assert_eq!(text(&put.unwrap()), "stored 12 bytes\n");
        let mut piped = daemon
            .command("put", Some("c.txt"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        piped.stdin.take().unwrap().write_all(b"piped").unwrap();
        assert_eq!(text(&piped.wait_with_output().unwrap()), "stored 5 bytes\n");
        let list = daemon.command("list", None).output().unwrap();
        assert_eq!(text(&list), "a.txt\nb.txt\nc.txt\n");
        let stored = std::fs::read_to_string(daemon.folder.path().join("b.txt"));
        assert_eq!(stored.unwrap(), "content of a");

        let missing = daemon.command("open", Some("none")).output().unwrap();
        assert!(!missing.status.success());
        assert!(String::from_utf8_lossy(&missing.stderr).contains("NotFound"));
        assert!(daemon.stop(signal).success());
    }
}

#[test]
fn files_stops_on_a_signal_while_all_ask_and_each_call_ends() {
    for options in [&[][..], &["--seqpacket"]] {
        let daemon = Daemon::start(options);
        std::fs::write(daemon.folder.path().join("a.txt"), "content of a").unwrap();
        let (tell, answered) = mpsc::channel();
        let asking: Vec<_> = (0..10).map(|_| (daemon.stub(), tell.clone())).collect();
        let asking: Vec<_> = asking
            .into_iter()
            .map(|(files, tell)| {
                std::thread::spawn(move || {
                    loop {
                        match files.open("a.txt") {
                            Ok(opened) => assert_eq!(opened.len, 12),
                            Err(error) => return error,
                        }
                        let _ = tell.send(());
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            answered.recv_timeout(PATIENCE).unwrap();
        }
        assert!(daemon.stop(Signal::TERM).success());
        for asking in asking {
            let end = asking.join().unwrap();
            let told = matches!(&end, CallError::Fault(fault) if fault.code == Fault::STOPPING);
            assert!(
                told || matches!(end, CallError::Closed),
                "{options:?}: {end:?}"
            );
        }
    }
}

#[test]
fn files_serves_nothing_outside_its_folder_and_nothing_that_could_block() {
    let daemon = Daemon::start(&["--seqpacket"]);
    let (files, folder) = (daemon.stub(), daemon.folder.path());
    symlink("/etc/passwd", folder.join("out")).unwrap();
    symlink("in.txt", folder.join("in")).unwrap();
    std::fs::write(folder.join("in.txt"), "in").unwrap();
    std::fs::create_dir(folder.join("sub")).unwrap();
    let made = Command::new("mkfifo").arg(folder.join("pipe")).status();
    assert!(made.unwrap().success());
    for path in ["..", "../x", "/etc/passwd", "out", "sub/../../x"] {
        let refused = files.open(path);
        assert!(
            matches!(&refused, Err(CallError::Service(FilesError::Denied { path: said })) if said == path),
            "{path}: {refused:?}"
        );
        let input = File::open("/dev/null").unwrap();
        let refused = files.put(path, input);
        assert!(
            matches!(refused, Err(CallError::Service(_))),
            "{path}: {refused:?}"
        );
    }
    assert_eq!(
        files.open("in").unwrap().len,
        2,
        "a link that stays inside is followed"
    );
    for path in ["pipe", "sub"] {
        let refused = files.open(path);
        assert!(
            matches!(
                refused,
                Err(CallError::Service(FilesError::NotAFile { .. }))
            ),
            "{path}: {refused:?}"
        );
    }
    let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
    let refused = files.put("x", near);
    assert!(matches!(
        refused,
        Err(CallError::Service(FilesError::NotAFile { .. }))
    ));
    assert!(daemon.stop(Signal::TERM).success());
}
