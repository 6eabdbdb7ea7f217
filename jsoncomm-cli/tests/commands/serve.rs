//! `jsoncomm serve`: programs that handle calls.

use std::io::{BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Stdio};

use jsoncomm::message::{RawError, RawMessage};
use jsoncomm::{CallError, Connection, Fault};
use jsoncomm_tests::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{file, good, jsoncomm, run, said, through, wait};

/// A running `jsoncomm serve`; killed when dropped.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) address: String,
    stderr: BufReader<ChildStderr>,
    directory: TempDir,
}

impl Serving {
    /// Starts a server for `test.it`, and waits until it is ready.
    fn start(options: &[&str], script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("serve.sock").display().to_string();
        let mut command = jsoncomm(&["serve"]);
        command.args(options).args([&address, "test.it", "--"]);
        command.args(["sh", "-c", script, "sh"]);
        Self::of(command, address, directory)
    }

    /// Starts a command that reports that it is ready.
    pub(crate) fn of(
        mut command: std::process::Command,
        address: String,
        directory: TempDir,
    ) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.contains(&address), "{line}");
        Self {
            child,
            address,
            stderr,
            directory,
        }
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.address)
            .unwrap()
            .with_timeout(PATIENCE)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it with a signal. Returns the rest of its output.
    pub(crate) fn stop(mut self, signal: Signal) -> String {
        self.signal(signal);
        self.end()
    }

    /// Waits until it has exited. Asserts that it was successful.
    fn end(&mut self) -> String {
        let status = wait(&mut self.child);
        assert!(status.success(), "{status}");
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        assert!(
            !std::path::Path::new(&self.address).exists(),
            "its socket is left"
        );
        rest
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn call(connection: &Connection, json: &str) -> Result<String, CallError<RawError>> {
    let reply = connection.call::<RawMessage, RawError>("test.it", &RawMessage::new(json))?;
    Ok(reply.json)
}

#[test]
fn arguments_and_the_result_are_passed_byte_for_byte() {
    for kind in ["seqpacket", "datagram"] {
        let serving = Serving::start(&["--kind", kind], "cat");
        let odd = r#"{"z":123456789012345678901234567890,"a":[-0,1E2]}"#;
        assert_eq!(call(&serving.connect(), odd).unwrap(), odd);
        let called = said(&["call", &serving.address, "test.it", odd]);
        assert_eq!(good(called), format!("{odd}\n"));
        // Larger than a pipe holds.
        let large = format!("[\"{}\"]", "x".repeat(900_000));
        assert_eq!(call(&serving.connect(), &large).unwrap(), large);
        assert_eq!(serving.stop(Signal::TERM), "");
    }
}

#[test]
fn a_program_without_output_replies_null_and_one_with_malformed_json_fails() {
    let serving = Serving::start(&[], "read it; test \"$it\" = '[1]' || echo '{'");
    let connection = serving.connect();
    assert_eq!(call(&connection, "[1]").unwrap(), "null");
    match call(&connection, "[2]") {
        Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::INTERNAL_ERROR),
        other => panic!("{other:?}"),
    }
    serving.stop(Signal::INT);
}

#[test]
fn the_failure_of_a_program_becomes_the_service_error() {
    let script = r#"read it; echo "$it"; echo first >&2; echo "no, not $it" >&2; echo >&2; test "$it" = [9] && kill -9 $$; exit 7"#;
    let serving = Serving::start(&[], script);
    let connection = serving.connect();
    for (json, code) in [("[1]", 7), ("[9]", 128 + 9)] {
        let Err(CallError::Service(failure)) = call(&connection, json) else {
            panic!("it fails");
        };
        let message = format!("no, not {json}");
        assert_eq!((failure.code, failure.message), (code, message));
        assert_eq!(failure.data.unwrap().json.trim_end(), json);
    }
    // The output of a hostile program is escaped for the terminal.
    let rest = serving.stop(Signal::TERM);
    assert!(rest.contains("first\nno, not [9]"), "{rest}");

    let serving = Serving::start(&[], r"printf '\033[2J\302\233\n' >&2; exit 1");
    let Err(CallError::Service(failure)) = call(&serving.connect(), "[]") else {
        panic!("it fails");
    };
    assert_eq!(failure.message, "\x1b[2J\u{9b}");
    let rest = serving.stop(Signal::TERM);
    assert_eq!(rest, "\\u{1b}[2J\\u{9b}\n");
}

#[test]
fn a_program_gets_its_descriptors_from_3_on_and_no_others() {
    let script = r#"cat > /dev/null; a=$(cat <&3) b=$(cat <&4)
        test $LISTEN_PID = $$ || exit 1
        test -e /proc/$$/fd/5 && exit 2
        echo "[\"$a\",\"$b\",\"$LISTEN_FDS\",\"$LISTEN_FDNAMES\",\"$JSONCOMM_METHOD\",$JSONCOMM_UID,$JSONCOMM_PID]""#;
    let serving = Serving::start(&[], script);
    let connection = serving.connect();
    for round in ["one", "two"] {
        let mut params = RawMessage::new(r#"{"second":1,"list":[0]}"#);
        for text in [round, "other"] {
            params.fds.push(file(text)).unwrap();
        }
        let reply = connection
            .call::<RawMessage, RawError>("test.it", &params)
            .unwrap();
        let (uid, pid) = (rustix::process::getuid().as_raw(), std::process::id());
        let expected = format!(r#"["{round}","other","2","list[0]:second","test.it",{uid},{pid}]"#);
        assert_eq!(reply.json, expected);
    }
    // A call without descriptors passes none.
    let serving_none = Serving::start(
        &[],
        "echo $LISTEN_FDS; test -e /proc/$$/fd/3 && exit 1; true",
    );
    assert_eq!(call(&serving_none.connect(), "[]").unwrap(), "0");
}

#[test]
fn programs_run_concurrently_up_to_the_limit() {
    let serving = Serving::start(
        &["--jobs", "2"],
        r#"read path; p=${path#??}; read word < "${p%??}"; echo "$word""#,
    );
    let connection = serving.connect();
    let fifos = ["a", "b", "c"].map(|name| {
        let path = serving.path(name);
        let made = run(std::process::Command::new("mkfifo").arg(&path));
        assert_eq!(made.code, Some(0), "{made:?}");
        path
    });
    let start = |path: &String| {
        let params = RawMessage::new(format!("[\"{path}\"]"));
        connection
            .start::<RawMessage, RawError>("test.it", &params)
            .unwrap()
    };
    let [first, second] = [&fifos[0], &fifos[1]].map(start);
    match start(&fifos[2]).wait() {
        Err(CallError::Fault(fault)) => assert_eq!(fault.code, Fault::BUSY),
        other => panic!("{other:?}"),
    }
    // The later one first.
    std::fs::write(&fifos[1], "2\n").unwrap();
    assert_eq!(second.wait().unwrap().json, "2");
    std::fs::write(&fifos[0], "1\n").unwrap();
    assert_eq!(first.wait().unwrap().json, "1");
    serving.stop(Signal::TERM);
}

#[test]
fn a_program_whose_call_is_cancelled_is_terminated() {
    // The pipe stays open while the program lives, and gets its output.
    // It waits for a separate process meanwhile, which ends at the end of file.
    let script = "trap 'echo told >&3; exit' TERM; echo ready >&3; read x <&3 & wait $!";
    let serving = Serving::start(&[], script);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(&ours).lines();
    let mut params = RawMessage::new("[0]");
    params.fds.push(OwnedFd::from(theirs)).unwrap();
    let connection = serving.connect();
    let pending = connection
        .start::<RawMessage, RawError>("test.it", &params)
        .unwrap();
    drop(params);
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    drop(pending);
    assert_eq!(lines.next().unwrap().unwrap(), "told");
    ours.shutdown(Shutdown::Write).unwrap();
    assert!(lines.next().is_none(), "no process is left");
}

#[test]
fn only_the_given_method_is_served() {
    let serving = Serving::start(&[], "echo 1");
    let ended = said(&["call", &serving.address, "test.other"]);
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("unknown method, only test.it"),
        "{ended:?}"
    );
    // A notification runs as well.
    let marker = serving.path("marker");
    let note = Serving::start(&["--once"], &format!("cat > {marker}"));
    let params = "{\"text\":\"seen\"}";
    let ended = said(&["call", "--oneway", &note.address, "test.it", params]);
    assert_eq!(good(ended), "");
    let mut note = note;
    note.end();
    assert_eq!(crate::common::text(marker), params);
}

#[test]
fn serve_stops_after_the_first_reply_if_requested() {
    let mut serving = Serving::start(&["--once"], "echo 7");
    assert_eq!(call(&serving.connect(), "[]").unwrap(), "7");
    assert_eq!(serving.end(), "");
}

#[test]
fn a_signal_lets_running_programs_finish() {
    let serving = Serving::start(&[], "echo ready >&3; read word <&3; echo \"$word\"");
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut params = RawMessage::new("[0]");
    params.fds.push(OwnedFd::from(theirs)).unwrap();
    let connection = serving.connect();
    let pending = connection
        .start::<RawMessage, RawError>("test.it", &params)
        .unwrap();
    let mut ready = [0; 6];
    ours.read_exact(&mut ready).unwrap();
    serving.signal(Signal::TERM);
    // From now on no other client is served. Polling shows when.
    let until = std::time::Instant::now() + PATIENCE;
    while Connection::open(&serving.address).is_ok() {
        assert!(std::time::Instant::now() < until, "it does not stop");
        std::thread::yield_now();
    }
    std::io::Write::write_all(&mut ours, b"7\n").unwrap();
    assert_eq!(pending.wait().unwrap().json, "7");
    let mut serving = serving;
    serving.end();
}

#[test]
fn a_socket_that_cannot_be_served_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (arguments, complaint) in [
        (
            &[file.to_str().unwrap(), "a.b", "--", "true"][..],
            "not a socket",
        ),
        (
            &["/not/there/x.sock", "a.b", "--", "true"],
            "is in a directory that does not exist",
        ),
        (&["fd:0", "a.b", "--", "true"], "fd:0 is not a socket"),
        (&["fd:9", "a.b", "--", "true"], "fd:9 is not open"),
        (
            &["exec:true", "a.b", "--", "true"],
            "a path, or @ and a name",
        ),
        (&["./x.sock", "a.b", "--", "/not/there"], "no such program"),
        (
            &["./x.sock", "a.b", "--mode", "rw", "--", "true"],
            "not a mode",
        ),
        (&["./x.sock", "a.b"], "CMD"),
        (&["./x.sock", "--", "true"], "METHOD is missing"),
    ] {
        let ended = said(&[&["serve"], arguments].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(complaint), "{ended:?}");
    }
    let serving = Serving::start(&[], "echo 1");
    let again = said(&["serve", &serving.address, "a.b", "--", "true"]);
    assert!(again.stderr.contains("is in use"), "{again:?}");
}

/// Returns our end of a socket pair, a reader of it, and a call that passes the other end to the program.
fn watched(json: &str) -> (UnixStream, BufReader<UnixStream>, RawMessage) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut params = RawMessage::new(json);
    params.fds.push(OwnedFd::from(theirs)).unwrap();
    let lines = BufReader::new(ours.try_clone().unwrap());
    (ours, lines, params)
}

fn heard(lines: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line
}

#[track_caller]
fn is_fault(reply: Result<String, CallError<RawError>>, code: i64) -> String {
    match reply {
        Err(CallError::Fault(fault)) if fault.code == code => fault.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_counts_until_it_has_ended_even_if_cancelled() {
    // One ignores SIGTERM, and one is a notification from the start.
    let script = "trap '' TERM; echo ready >&3; read x <&3; echo 1";
    for oneway in [false, true] {
        let serving = Serving::start(&["--jobs", "1"], script);
        let connection = serving.connect();
        let (mut ours, mut lines, params) = watched("[0]");
        if oneway {
            connection.notify("test.it", &params).unwrap();
            assert_eq!(heard(&mut lines), "ready\n");
        } else {
            let pending = connection
                .start::<RawMessage, RawError>("test.it", &params)
                .unwrap();
            assert_eq!(heard(&mut lines), "ready\n");
            drop(pending);
        }
        drop(params);
        is_fault(call(&connection, "[]"), Fault::BUSY);
        // It ends, and there is room.
        std::io::Write::write_all(&mut ours, b"\n").unwrap();
        assert_eq!(heard(&mut lines), "", "its end of the pair is closed");
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            match call(&connection, "[]") {
                Err(CallError::Fault(fault)) if fault.code == Fault::BUSY => {}
                other => break assert_eq!(other.unwrap(), "1"),
            }
            assert!(std::time::Instant::now() < until, "there is no room");
        }
    }
}

#[test]
fn calls_without_free_descriptors_are_refused_as_busy() {
    if !jsoncomm_tests::has_proc() {
        return;
    }
    use rustix::io::Errno;
    use rustix::process::{Resource, Rlimit, prlimit};
    let serving = Serving::start(&[], "echo 1");
    let connection = serving.connect();
    assert_eq!(call(&connection, "[]").unwrap(), "1");
    let pid = Pid::from_raw(serving.child.id().try_into().unwrap());
    let open = std::fs::read_dir(format!("/proc/{}/fd", serving.child.id())).unwrap();
    let open: Vec<u64> = open
        .map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let mut free = (0..).filter(|number| !open.contains(number));
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = |current| {
        let limit = Rlimit {
            current: Some(current),
            maximum,
        };
        prlimit(pid, Resource::Nofile, limit).unwrap()
    };
    // One more is not enough for a program.
    let before = limit(free.nth(1).unwrap());
    let said = is_fault(call(&connection, "[]"), Fault::BUSY);
    let reason = std::io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
    assert!(said.contains(&reason.to_string()), "{said}");
    limit(before.current.unwrap_or(1024));
    assert_eq!(call(&connection, "[]").unwrap(), "1");
}

#[test]
fn the_output_of_a_program_must_be_text_within_the_limit() {
    let script = r#"tr -d '[]' | { read n; printf "\"%0${n}d\"" 0; }"#;
    let serving = Serving::start(&["--limit", "1K"], script);
    let connection = serving.connect();
    for count in [1, 900] {
        let printed = call(&connection, &format!("[{count}]")).unwrap();
        assert_eq!(printed, format!("\"{}\"", "0".repeat(count)));
    }
    let said = is_fault(call(&connection, "[1023]"), Fault::REPLY_TOO_LARGE);
    assert_eq!(said, "the program printed more than 1024 bytes");
    // A message is larger than its result.
    is_fault(call(&connection, "[1022]"), Fault::REPLY_TOO_LARGE);
    let serving = Serving::start(&[], r"printf '\377'");
    let said = is_fault(call(&serving.connect(), "[]"), Fault::INTERNAL_ERROR);
    assert!(said.contains("is not UTF-8"), "{said}");
}

#[test]
fn the_socket_has_the_requested_mode() {
    if !jsoncomm_tests::has_proc() {
        return;
    }
    let mode = |address: &str| {
        let file = std::fs::metadata(address).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777
    };
    for (told, bits) in [("600", 0o600), ("0666", 0o666)] {
        let serving = Serving::start(&["--mode", told], "echo 1");
        assert_eq!(mode(&serving.address), bits);
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("tap.sock").display().to_string();
        let mut tap = jsoncomm(&["tap", "--mode", told, &address, &serving.address]);
        tap.stdout(Stdio::null());
        let tap = Serving::of(tap, address, directory);
        assert_eq!(mode(&tap.address), bits);
    }
}

#[test]
fn an_inherited_socket_is_served_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    for kind in jsoncomm_tests::KINDS {
        let path = directory.path().join(format!("{kind:?}"));
        let bound = jsoncomm_tests::Bound::at(&path, kind).unwrap();
        let socket = std::os::fd::AsFd::as_fd(&bound)
            .try_clone_to_owned()
            .unwrap();
        // The descriptors of the program start at 3 here as well.
        let script = "cat <&3; test -e /proc/$$/fd/4 && exit 9; true";
        let serve = ["serve", "fd:3", "test.it", "--", "sh", "-c", script];
        let mut command = through("3<&0 0</dev/null", &serve);
        command.stdin(socket);
        let elsewhere = tempfile::tempdir().unwrap();
        let serving = Serving::of(command, String::from("fd:3"), elsewhere);
        let connection = Connection::connect(&path, kind)
            .unwrap()
            .with_timeout(PATIENCE);
        for round in ["1", "2"] {
            let mut params = RawMessage::new("[0]");
            params.fds.push(file(round)).unwrap();
            let reply = connection.call::<RawMessage, RawError>("test.it", &params);
            assert_eq!(reply.unwrap().json, round);
        }
        serving.stop(Signal::TERM);
        assert!(path.exists(), "whose file it is not");
        drop(bound);
    }
}

#[test]
fn the_end_of_an_inherited_connection_stops_serve() {
    let (near, far) = jsoncomm_tests::pair(jsoncomm::Kind::Seqpacket);
    let socket = std::os::fd::AsFd::as_fd(&far).try_clone_to_owned().unwrap();
    let mut command = through("3<&0", &["serve", "fd:3", "test.it", "--", "echo", "1"]);
    command.stdin(socket);
    drop(far);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut serving = Serving::of(command, String::from("fd:3"), elsewhere);
    let ours = std::os::fd::AsFd::as_fd(&near)
        .try_clone_to_owned()
        .unwrap();
    drop(near);
    let connection = Connection::from_fd(ours).unwrap().with_timeout(PATIENCE);
    assert_eq!(call(&connection, "[]").unwrap(), "1");
    drop(connection);
    assert_eq!(serving.end(), "");
}

#[test]
fn sighup_stops_serve_cleanly_unless_it_is_ignored() {
    // What a signal does is inherited: nohup(1) may have started the tests.
    let start = |does: &str| {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("serve.sock").display().to_string();
        let mut command = std::process::Command::new("python3");
        let set = format!("import os, signal, sys; signal.signal(signal.SIGHUP, signal.{does})");
        command.args(["-c", &(set + "; os.execv(sys.argv[1], sys.argv[1:])")]);
        command.arg(env!("CARGO_BIN_EXE_jsoncomm"));
        command.args(["serve", &address, "test.it", "--", "echo", "1"]);
        Serving::of(command, address, directory)
    };
    assert_eq!(start("SIG_DFL").stop(Signal::HUP), "");
    // Only there is said which signals are ignored.
    jsoncomm_tests::needs_proc!();
    let serving = start("SIG_IGN");
    serving.signal(Signal::HUP);
    assert_eq!(call(&serving.connect(), "[]").unwrap(), "1");
    serving.stop(Signal::TERM);
}

#[test]
fn serve_works_with_a_low_limit_of_open_files() {
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().join("serve.sock").display().to_string();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_jsoncomm"));
    command.args(["serve", &address, "test.it", "--", "sh", "-c", "cat <&3"]);
    let serving = Serving::of(command, address, directory);
    let mut params = RawMessage::new("[0]");
    params.fds.push(file("7")).unwrap();
    let reply = serving
        .connect()
        .call::<RawMessage, RawError>("test.it", &params);
    assert_eq!(reply.unwrap().json, "7");
}
