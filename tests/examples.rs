//! The examples as processes: their output and exit status.

mod activated;
#[cfg(feature = "osbuild")]
mod osbuild;
mod polkit;
mod proofs;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use jsoncomm::{CallError, Connection, Fault};
use jsoncomm_examples::{FilesClient, FilesError};
use jsoncomm_tests::{PATIENCE, built_example};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Returns the command that runs an example.
fn example(name: &str) -> Command {
    example_with(name, &[])
}

/// Returns the command that runs an example that needs features of its package.
fn example_with(name: &str, features: &[&str]) -> Command {
    let mut command = Command::new(built_example(name, features));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn quickstart_reads_a_file_through_a_descriptor_and_refuses_others() {
    jsoncomm_tests::needs_proc!();
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
fn relay_forwards_a_descriptor_and_an_error() {
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
fn subscribe_is_called_back_until_either_side_hangs_up() {
    let said = text(&example("subscribe").output().unwrap());
    let lines = [
        "2 subscribers",
        "told: a is 1",
        "1 is left",
        "told: b is 2",
        "the store has hung up",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), lines, "{said}");
}

#[test]
fn kinds_refuses_what_can_change_and_what_is_no_text() {
    let said = text(&example("kinds").output().unwrap());
    assert_eq!(
        said,
        "not sent: text: descriptor 0 is `regular, memfd, read, write`, and not `memfd(sealed), read`\n\
         kept: 13 bytes\n\
         refused: text: descriptor 0 is `pipe, read`, and not `memfd(sealed), read` (-32007)\n"
    );
}

#[test]
fn metrics_are_written_in_the_text_format_of_prometheus() {
    let output = example("metrics").output().unwrap();
    let text = text(&output);
    for line in [
        "# TYPE jsoncomm_calls_total counter",
        "jsoncomm_calls_total{service=\"example.library\",method=\"lend\"} 2",
        "jsoncomm_calls_total{service=\"example.library\",method=\"take_back\"} 1",
        "jsoncomm_faults_total{service=\"example.library\",method=\"lend\"} 0",
        "# TYPE jsoncomm_connections gauge",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    let time = "jsoncomm_handler_seconds_total{service=\"example.library\",method=\"lend\"} ";
    let time = text.lines().find_map(|line| line.strip_prefix(time));
    assert!(time.unwrap().parse::<f64>().unwrap() > 0.0, "{text}");
}

#[test]
fn pool_replies_in_order_of_completion_and_stops_cancelled_jobs() {
    let said = text(&example("pool").output().unwrap());
    assert!(said.contains("below 1000: 168 primes\n"), "{said}");
    assert!(said.contains("below 100000: 9592 primes\n"), "{said}");
    assert!(said.contains("below 10: 4 primes\n"), "{said}");
    assert!(said.ends_with("stopped by their worker: 1\n"), "{said}");
}

#[test]
fn soak_reports_no_error() {
    jsoncomm_tests::needs_proc!();
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
fn calloop_drives_a_server_and_replies_from_a_timer() {
    let said = text(&example_with("calloop_loop", &["calloop"]).output().unwrap());
    let expected = "two ticks came, in order\ncalls served from calloop: 2\n";
    assert_eq!(said, expected);
}

#[cfg(feature = "tokio")]
#[test]
fn tokio_drives_a_server_whose_tasks_reply_to_async_callers() {
    let said = text(&example_with("tokio_loop", &["tokio"]).output().unwrap());
    let replies = "Good day, Ada!\nGood day, Grace!\nGood day, Mary!\n";
    assert_eq!(said, format!("{replies}calls served from tokio: 3\n"));
}

/// A running `files serve` for a folder.
struct Daemon {
    child: Child,
    socket: PathBuf,
    folder: TempDir,
}

impl Daemon {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::run(Command::new(built_example("files", &[])), folder, options)
    }

    /// Starts the server in Python.
    fn python(options: &[&str]) -> Self {
        Self::run(
            python("files.py"),
            tempfile::tempdir().expect("a folder"),
            options,
        )
    }

    fn run(mut program: Command, folder: TempDir, options: &[&str]) -> Self {
        let socket = folder.path().join("files.sock");
        let mut child = program
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

    fn stub(&self) -> FilesClient {
        FilesClient::new(
            Connection::open(&self.socket)
                .expect("it listens")
                .with_timeout(PATIENCE),
        )
    }

    fn stop(mut self, signal: Signal) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
        let status = self.child.wait().expect("it is ours");
        assert!(!self.socket.exists(), "the socket is removed");
        status
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the command that runs an example in Python, with warnings as errors.
fn python(name: &str) -> Command {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
    jsoncomm_tests::python(examples.join(name))
}

#[test]
fn files_opens_lists_and_stores_and_stops_on_signals() {
    let files = built_example("files", &[]);
    for options in [&[][..], &["--seqpacket"]] {
        let native = || Command::new(&files);
        files_are_served(Daemon::start(options), native, Signal::TERM);
        files_are_served(Daemon::start(options), || python("files.py"), Signal::INT);
        files_are_served(Daemon::python(options), native, Signal::TERM);
        files_are_served(Daemon::python(options), || python("files.py"), Signal::INT);
    }
}

/// Uses each command of a client on a server.
fn files_are_served(daemon: Daemon, client: impl Fn() -> Command, signal: Signal) {
    let ask = |verb: &str, name: &str| {
        let mut command = client();
        command.args([verb, "--socket"]).arg(&daemon.socket);
        command.args(Some(name).filter(|name| !name.is_empty()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let done = |mut command: Command| command.output().expect("it runs");
    let path = |name: &str| daemon.folder.path().join(name);
    std::fs::write(path("a.txt"), "content of a").expect("a file");
    assert_eq!(text(&done(ask("open", "a.txt"))), "content of a");

    // From a regular file, whose descriptor is passed unchanged, and through a pipe.
    let mut put = ask("put", "b.txt");
    put.stdin(File::open(path("a.txt")).expect("a file"));
    assert_eq!(text(&done(put)), "stored 12 bytes\n");
    let piped = ask("put", "c.txt").stdin(Stdio::piped()).spawn();
    let mut piped = piped.expect("it starts");
    let mut stdin = piped.stdin.take().expect("it is piped");
    stdin.write_all(b"piped").expect("it reads");
    drop(stdin);
    let piped = piped.wait_with_output().expect("it ends");
    assert_eq!(text(&piped), "stored 5 bytes\n");
    assert_eq!(text(&done(ask("list", ""))), "a.txt\nb.txt\nc.txt\n");
    let stored = std::fs::read_to_string(path("b.txt")).expect("a file");
    assert_eq!(stored, "content of a");

    let missing = done(ask("open", "none"));
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("NotFound"));
    assert!(daemon.stop(signal).success());
}

#[test]
fn files_in_python_replies_with_the_same_types() {
    for options in [&[][..], &["--seqpacket"]] {
        let daemon = Daemon::python(options);
        let (files, folder) = (daemon.stub(), daemon.folder.path());
        std::fs::write(folder.join("a.txt"), "content of a").unwrap();
        let opened = files.open("a.txt").unwrap();
        let content = std::io::read_to_string(File::from(opened.file)).unwrap();
        assert_eq!((opened.len, &*content), (12, "content of a"));
        let stored = files.put("sub/b.txt", File::open(folder.join("a.txt")).unwrap());
        let path = "sub".to_owned();
        assert_eq!(service_error(stored), FilesError::NotFound { path });
        std::fs::create_dir(folder.join("sub")).unwrap();
        let stored = files.put("sub/b.txt", File::open(folder.join("a.txt")).unwrap());
        assert_eq!(stored.unwrap().len, 12);
        assert_eq!(files.list().unwrap(), ["a.txt"]);
        assert_eq!(files.open("sub/b.txt").unwrap().len, 12);

        symlink("/etc", folder.join("out")).unwrap();
        for path in ["../x", "/etc/passwd", "out/../passwd"] {
            let path = path.to_owned();
            assert_eq!(
                service_error(files.open(&path)),
                FilesError::Denied { path }
            );
        }
        let path = "content".to_owned();
        let (pipe, _far) = UnixStream::pair().unwrap();
        let refused = service_error(files.put("c.txt", pipe));
        assert_eq!(refused, FilesError::NotAFile { path });
        assert!(daemon.stop(Signal::TERM).success());
    }
}

/// Returns the error of the service, or fails.
#[track_caller]
fn service_error<T: std::fmt::Debug>(ended: Result<T, CallError<FilesError>>) -> FilesError {
    match ended {
        Err(CallError::Service(error)) => error,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn files_stops_on_a_signal_and_each_call_in_flight_ends() {
    for options in [&[][..], &["--seqpacket"]] {
        let daemon = Daemon::start(options);
        std::fs::write(daemon.folder.path().join("a.txt"), "content of a").unwrap();
        let (sender, answered) = mpsc::channel();
        let asking: Vec<_> = (0..10).map(|_| (daemon.stub(), sender.clone())).collect();
        let asking: Vec<_> = asking
            .into_iter()
            .map(|(files, sender)| {
                std::thread::spawn(move || {
                    loop {
                        match files.open("a.txt") {
                            Ok(opened) => assert_eq!(opened.len, 12),
                            Err(error) => return error,
                        }
                        let _ = sender.send(());
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
            let told =
                matches!(&end, CallError::Fault(fault) if fault.code == Fault::SHUTTING_DOWN);
            assert!(
                told || matches!(end, CallError::Closed),
                "{options:?}: {end:?}"
            );
        }
    }
}

#[test]
fn files_serves_only_regular_files_in_its_folder() {
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
        "a symlink within the folder is followed"
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
    let (near, _far) = UnixStream::pair().unwrap();
    let refused = files.put("x", near);
    assert!(matches!(
        refused,
        Err(CallError::Service(FilesError::NotAFile { .. }))
    ));
    assert!(daemon.stop(Signal::TERM).success());
}
