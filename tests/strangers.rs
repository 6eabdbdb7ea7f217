//! Peers of other users, of other user namespaces and of other network namespaces.
//!
//! Creating such peers needs privileges. Where even root in a container lacks them, the tests are skipped.

mod in_flight;
mod networks;
mod users;

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use jsoncomm::{Call, Deferred, Peer, Reply};
use jsoncomm_tests::skip;
use rustix::process::{Signal, set_parent_process_death_signal};

#[jsoncomm::service(name = "test.gate")]
trait Gate {
    /// Returns the user of the caller.
    fn who(&mut self, call: &mut Call) -> Option<u32>;
    /// Returns a descriptor.
    fn open(&mut self) -> Opened;
    /// Gets its reply from `release`.
    fn keep(&mut self, call: &mut Call) -> Deferred<u64>;
    fn release(&mut self) -> usize;
}

#[derive(Debug, jsoncomm::Message)]
struct Opened {
    #[fd]
    file: OwnedFd,
}

#[derive(Debug, Default)]
struct Guard {
    kept: Vec<Reply<u64>>,
}

impl Gate for Guard {
    fn who(&mut self, call: &mut Call) -> Option<u32> {
        call.peer().map(Peer::uid)
    }

    fn open(&mut self) -> Opened {
        let file = File::open("/dev/null").unwrap().into();
        Opened { file }
    }

    fn keep(&mut self, call: &mut Call) -> Deferred<u64> {
        call.defer(|reply| self.kept.push(reply))
    }

    fn release(&mut self) -> usize {
        let count = self.kept.len();
        for reply in self.kept.drain(..) {
            reply.send(7);
        }
        count
    }
}

/// Set in a process that a test has started elsewhere. Its value is the path of a socket.
const ELSEWHERE: &str = "JSONCOMM_TESTS_ELSEWHERE";

/// Another process, in its own namespaces. It runs a test of this program that acts only there.
struct Other {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: ChildStdin,
}

impl Other {
    /// Starts it by unshare(1) with these options; `None` where that is not permitted, and the test is skipped.
    fn start(options: &[&str], test: &str, path: &Path) -> Option<Self> {
        let permitted = Command::new("unshare").args(options).arg("true").output();
        if !permitted.is_ok_and(|output| output.status.success()) {
            skip(&format!("unshare {} is not permitted", options.join(" ")));
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(options).arg(jsoncomm_tests::program_file());
        Some(Self::spawn(&mut command, test, path))
    }

    /// Starts it as another user. Needs root.
    fn start_as(user: u32, test: &str, path: &Path) -> Self {
        // That user may have no access to the file of the program.
        let mut command = Command::new(jsoncomm_tests::this_program());
        command.uid(user).gid(user).current_dir("/");
        Self::spawn(&mut command, test, path)
    }

    fn spawn(command: &mut Command, test: &str, path: &Path) -> Self {
        let mut process = command
            .args(["--exact", &format!("strangers::{test}")])
            .args(["--nocapture", "--test-threads=1"])
            .env(ELSEWHERE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            lines: BufReader::new(process.stdout.take().unwrap()).lines(),
            stdin: process.stdin.take().unwrap(),
            process,
        }
    }

    /// Returns the next line of its output.
    #[track_caller]
    fn receive(&mut self) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        let line = lines.find_map(|line| Some(line.split_once("says ")?.1.to_owned()));
        line.unwrap()
    }

    /// Lets it continue.
    fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the path that this process was started with, if a test has started it.
fn elsewhere() -> Option<PathBuf> {
    let path = env::var_os(ELSEWHERE)?;
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    Some(path.into())
}

/// Sends a line to the test that has started this process.
fn report(text: impl std::fmt::Display) {
    let mut out = std::io::stdout();
    out.write_all(format!("\nsays {text}\n").as_bytes())
        .unwrap();
    out.flush().unwrap();
}

/// Waits until that test lets this process continue, or ends.
fn wait() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
