//! `polkit`: a rule that asks a program, without blocking the server. A stand-in plays `pkcheck`.

use std::time::Instant;

use jsoncomm::client::PendingCall;
use jsoncomm_tests::{has_linux, has_proc, skip, wait_until};

use super::*;

/// Writes its own process id and its arguments to a file, and exits with the status that the test writes to its pipe.
const STAND_IN: &str = r#"#!/bin/sh
cd "${0%/*}" || exit 9
mkfifo "pipe.$$"
echo "$$ $*" >> asked
read -r status < "pipe.$$"
exit "$status"
"#;

/// A running `polkit`, and the stand-in.
struct Power {
    child: Child,
    folder: TempDir,
    /// Questions that have been seen.
    seen: usize,
}

impl Power {
    /// `None` where the kernel does not tell who calls.
    fn start() -> Option<Self> {
        if !has_linux((6, 5)) || !has_proc() {
            skip("pidfds of peers need Linux 6.5 and /proc");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pkcheck");
        // Written by a process of its own: a file that a child of another test has open for writing cannot be executed.
        let written = Command::new("sh")
            .args([
                "-c",
                r#"printf %s "$1" > "$2" && chmod 755 "$2""#,
                "sh",
                STAND_IN,
            ])
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        std::fs::write(folder.path().join("asked"), "").unwrap();
        let mut child = Command::new(built_example("polkit", &[]))
            .arg(folder.path().join("power.sock"))
            .arg(program)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        let seen = 0;
        Some(Self {
            child,
            folder,
            seen,
        })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("power.sock")
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.socket()).unwrap();
        connection.with_timeout(PATIENCE)
    }

    fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.folder.path().join("asked")).unwrap();
        let lines = asked
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines.map(|line| line.trim().to_owned()).collect()
    }

    /// Waits for the next question. Returns the process that asks it, and its arguments.
    fn next(&mut self) -> (u32, String) {
        wait_until(|| self.asked().len() > self.seen);
        let question = self.asked().swap_remove(self.seen);
        self.seen += 1;
        let (process, arguments) = question.split_once(' ').unwrap();
        (process.parse().unwrap(), arguments.to_owned())
    }

    fn answer(&self, process: u32, status: &str) {
        let pipe = self.folder.path().join(format!("pipe.{process}"));
        std::fs::write(pipe, format!("{status}\n")).unwrap();
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that wait for an answer end without it.
        for question in self.asked() {
            let process = question.split(' ').next().and_then(|id| id.parse().ok());
            if let Some(process) = process.and_then(Pid::from_raw) {
                if is_stand_in(process, self.folder.path()) {
                    let _ = kill_process(process, Signal::KILL);
                }
            }
        }
    }
}

/// Returns true if the process runs our stand-in: its id could be that of another by now.
fn is_stand_in(process: Pid, folder: &Path) -> bool {
    let id = process.as_raw_nonzero();
    let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let folder = folder.as_os_str().as_encoded_bytes();
    line.windows(folder.len()).any(|part| part == folder)
}

/// Returns this process as polkit wants it.
fn own_process() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, behind) = stat.rsplit_once(')').unwrap();
    let start = behind.split_whitespace().nth(19).unwrap();
    let user = rustix::process::getuid().as_raw();
    format!("{},{start},{user}", std::process::id())
}

fn reboot(connection: &Connection) -> PendingCall<String> {
    connection.start("example.power.reboot", &(5,)).unwrap()
}

fn uptime(connection: &Connection) {
    let uptime: Result<u64, CallError> = connection.call("example.power.uptime", &());
    uptime.unwrap();
}

#[track_caller]
fn assert_refused(result: Result<String, CallError>) {
    let Err(CallError::Fault(fault)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(fault.code, Fault::NOT_AUTHORIZED);
}

#[test]
fn polkit_grants_by_exit_status_0_only_and_remembers_it_for_the_process() {
    let Some(mut power) = Power::start() else {
        return;
    };
    let connection = power.connect();
    for status in ["1", "2", "3", "127", "killed"] {
        let call = reboot(&connection);
        let (process, arguments) = power.next();
        let want = "--action-id org.example.power.reboot --process ";
        assert_eq!(arguments, format!("{want}{}", own_process()));
        // Others are served meanwhile, and so is the same caller.
        uptime(&connection);
        uptime(&power.connect());
        if status == "killed" {
            let process = Pid::from_raw(process.try_into().unwrap()).unwrap();
            kill_process(process, Signal::KILL).unwrap();
        } else {
            power.answer(process, status);
        }
        assert_refused(call.wait());
    }
    let call = reboot(&connection);
    let (process, _) = power.next();
    power.answer(process, "0");
    assert_eq!(call.wait().unwrap(), "would reboot in 5 s");
    // Remembered, also for another connection of the process.
    for connection in [connection, power.connect()] {
        assert_eq!(reboot(&connection).wait().unwrap(), "would reboot in 5 s");
    }
    assert_eq!(power.asked().len(), power.seen);
    // Another process of the same user is asked about.
    let script = "import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(60)
s.connect(sys.argv[1])
s.send(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"example.power.reboot\",\"params\":[5]}')
print(s.recv(65536).decode())";
    let other = Command::new("python3")
        .args(["-c", script])
        .arg(power.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (process, arguments) = power.next();
    assert!(
        arguments.contains(&format!(" {},", other.id())),
        "{arguments}"
    );
    power.answer(process, "1");
    let reply = text(&other.wait_with_output().unwrap());
    assert!(
        reply.contains(&Fault::NOT_AUTHORIZED.to_string()),
        "{reply}"
    );
}

#[test]
fn polkit_asks_two_questions_of_a_user_at_a_time_and_a_grant_answers_those_that_wait() {
    let Some(mut power) = Power::start() else {
        return;
    };
    let connection = power.connect();
    let mut calls: Vec<_> = (0..8).map(|_| reboot(&connection)).collect();
    let (first, _) = power.next();
    let (second, _) = power.next();
    uptime(&connection);
    assert_eq!(power.asked().len(), 2);
    power.answer(first, "1");
    // It takes the place of the first.
    let (third, _) = power.next();
    uptime(&connection);
    assert_eq!(power.asked().len(), 3);
    power.answer(third, "0");
    // Its call and all that waited behind it.
    let since = Instant::now();
    let (mut granted, mut refused) = (0, 0);
    while granted < 6 {
        let (_, result) = PendingCall::wait_any(&mut calls).unwrap();
        match result {
            Ok(_) => granted += 1,
            other => {
                assert_refused(other);
                refused += 1;
            }
        }
        assert!(since.elapsed() < PATIENCE);
    }
    assert_eq!((refused, power.asked().len()), (1, 3));
    power.answer(second, "1");
    assert_refused(calls.remove(0).wait());
}

#[test]
fn polkit_kills_the_question_of_a_caller_that_has_gone() {
    let Some(mut power) = Power::start() else {
        return;
    };
    let connection = power.connect();
    let call = reboot(&connection);
    let (process, _) = power.next();
    drop((call, connection));
    let process = Pid::from_raw(process.try_into().unwrap()).unwrap();
    wait_until(|| !is_stand_in(process, power.folder.path()));
    uptime(&power.connect());
}
