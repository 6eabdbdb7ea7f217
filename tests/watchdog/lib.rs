//! A deadline for every test: one that hangs is a failure with a name. And a process of its own for a test that needs one.
//!
//! libtest waits for a test without a limit. A test program has at its root, once,
//!
//! ```text
//! #[macro_use]
//! extern crate jsoncomm_watchdog;
//! ```
//!
//! and from there on `#[test]` is that of this crate: a thread waits for the end of the test, for [`LIMIT`] times
//! the number in the environment variable [`FACTOR`] (for emulators and loaded machines). If the test has not ended by
//! then, that thread prints the test's name and what each thread of the process waits for, kills the processes that
//! this one has started, and aborts. `tests/hangs.rs` shows it, and that every program has the two lines.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

pub use jsoncomm_watchdog_attribute::test;

/// Time limit of a test.
pub const LIMIT: Duration = Duration::from_secs(115);

/// Time limit of a test that runs in another process, whose own limit is shorter and names the test first.
pub const OUTER_LIMIT: Duration = Duration::from_secs(120);

/// Time limit of a test that compiles.
pub const COMPILING: Duration = Duration::from_secs(1800);

/// The environment variable with a factor for all limits.
pub const FACTOR: &str = "JSONCOMM_TESTS_FACTOR";

thread_local! {
    /// Sends the watching thread a new time limit for this thread's test.
    static WATCH: RefCell<Option<Sender<Duration>>> = const { RefCell::new(None) };
}

/// Watches the test of this thread until it is dropped.
#[derive(Debug)]
#[must_use = "the watch ends when this is dropped"]
pub struct Watch(());

/// Watches the test of this thread, which is named after it.
///
/// # Panics
///
/// When the watching thread cannot be started.
#[expect(clippy::expect_used, reason = "a test that is not watched has failed")]
pub fn watch() -> Watch {
    let current = thread::current();
    let test = current.name().unwrap_or("without a name").to_owned();
    let (sender, receiver) = channel();
    let watchdog = thread::Builder::new().name(String::from("watchdog"));
    watchdog
        .spawn(move || wait(&test, &receiver))
        .expect("a thread to watch from");
    WATCH.set(Some(sender));
    Watch(())
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCH.set(None);
    }
}

/// Sets a new time limit for the test of this thread, from now on, times [`FACTOR`].
pub fn allow(time: Duration) {
    WATCH.with_borrow(|watch| {
        if let Some(watch) = watch {
            // The watching thread lives as long as its sender.
            let _ = watch.send(time);
        }
    });
}

/// Set in a process that runs one test only.
pub const ALONE: &str = "JSONCOMM_TESTS_ALONE";

/// Runs a test in its own process: what follows runs only there, and the calling process waits for it. For tests that
/// count descriptors, for example, of which other tests in the same process open some as well.
#[macro_export]
macro_rules! alone {
    () => {
        if !$crate::is_alone() {
            return;
        }
    };
}

/// Returns true if this process runs one test only. Returns false after running the test of this thread in another
/// process of this program, in which it passed.
///
/// # Panics
///
/// When the test has failed there.
#[expect(
    clippy::expect_used,
    reason = "a helper that fails has failed its test"
)]
pub fn is_alone() -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let thread = thread::current();
    let test = thread.name().expect("a thread is named after its test");
    // A test that hangs is reported there first, and then here.
    allow(OUTER_LIMIT);
    let mut alone = Command::new(this_program());
    let ended = alone.args(["--exact", test]).env(ALONE, "").output();
    let ended = ended.expect("this program runs once more");
    let said = String::from_utf8_lossy(&ended.stdout);
    let passed = ended.status.success() && said.contains(" 1 passed");
    let cries = String::from_utf8_lossy(&ended.stderr);
    assert!(passed, "{}\n{said}{cries}", ended.status);
    false
}

/// Returns a path to start this program anew: the file that runs, even if cargo has just replaced it, where there is /proc.
#[must_use]
pub fn this_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        running
    } else {
        env::args_os().next().map(PathBuf::from).unwrap_or_default()
    }
}

/// Returns the path of this program's file, for another program to start it: of that, [`this_program`] would be the other.
#[must_use]
pub fn program_file() -> PathBuf {
    // Where there is no /proc, the first argument says what runs.
    env::current_exe().unwrap_or_else(|_| this_program())
}

/// Skips the rest of a test where there is no /proc that it needs.
#[macro_export]
macro_rules! needs_proc {
    () => {
        if !$crate::has_proc() {
            return;
        }
    };
}

/// Returns true if the test can look into /proc. If not, says that this part of it is skipped.
pub fn has_proc() -> bool {
    let has = Path::new("/proc/self/fd").exists();
    if !has {
        skip("there is no /proc to look into");
    }
    has
}

/// The environment variable with the path of a file to which [`skip`] appends a line: program, test and reason,
/// separated by tabs.
pub const SKIPPED: &str = "JSONCOMM_TESTS_SKIPPED";

/// Says that the test of this thread, or a part of it, cannot run here, because the machine lacks what it needs. Says it
/// once, however often it is called.
///
/// libtest counts a test that returns early as passed. What runs the programs counts those in the file of [`SKIPPED`]
/// as skipped.
///
/// # Panics
///
/// When the line cannot be written: the test would count as passed.
#[expect(
    clippy::expect_used,
    reason = "a test that is skipped in silence has failed"
)]
pub fn skip(reason: &str) {
    let program = program_file();
    let program = program.file_stem().unwrap_or_default().to_string_lossy();
    let current = thread::current();
    let test = current.name().unwrap_or("without a name");
    let line = format!("{program}\t{test}\t{reason}\n");
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.insert(line.clone()) {
        return;
    }
    let Some(path) = env::var_os(SKIPPED) else {
        let _ = write!(stderr(), "skipped: {line}");
        return;
    };
    // In one piece, as many programs append to the file.
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the file of skipped tests can be written");
}

/// Returns this time, times [`FACTOR`]: how long something takes that is not waited for on purpose.
pub fn scaled(time: Duration) -> Duration {
    let factor = env::var(FACTOR).ok();
    let factor = factor.and_then(|text| text.parse::<u32>().ok());
    time.saturating_mul(factor.unwrap_or(1).max(1))
}

/// Waits for the end of a test.
fn wait(test: &str, receiver: &Receiver<Duration>) {
    let mut limit = LIMIT;
    loop {
        let time = scaled(limit);
        match receiver.recv_timeout(time) {
            Ok(other) => limit = other,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => end(test, time),
        }
    }
}

/// Reports a test that hangs, and ends this process and those that it has started.
fn end(test: &str, time: Duration) -> ! {
    let mut report = format!(
        "\ntest {test} hangs: it has not ended within {time:?} ({FACTOR} multiplies that)\n"
    );
    let this = std::process::id();
    for thread in numbers_in(&format!("/proc/{this}/task")) {
        let of = |file| {
            let text = fs::read_to_string(format!("/proc/{this}/task/{thread}/{file}"));
            text.unwrap_or_default().trim().to_owned()
        };
        let (name, place) = (of("comm"), of("wchan"));
        let _ = writeln!(report, "  thread {thread} ({name}) waits in {place}");
    }
    // Not captured, as the output of a macro would be.
    let _ = stderr().write_all(report.as_bytes());
    kill_children(this);
    std::process::abort();
}

/// Kills the children of a process, and theirs.
fn kill_children(process: u32) {
    let mut children = Vec::new();
    add_children(process, &mut children);
    let numbers = children.iter().map(u32::to_string);
    // The shell's own `kill`: this crate is also compiled for the tests of the macros, where rustix would cost time.
    let mut shell = Command::new("sh");
    let _ = shell
        .args(["-c", r#"kill -KILL "$@""#, "sh"])
        .args(numbers)
        .stderr(Stdio::null())
        .status();
}

/// Adds the children of a process, each followed by its own.
fn add_children(process: u32, children: &mut Vec<u32>) {
    for thread in numbers_in(&format!("/proc/{process}/task")) {
        let list = fs::read_to_string(format!("/proc/{process}/task/{thread}/children"));
        let list = list.unwrap_or_default();
        for child in list.split_whitespace().flat_map(str::parse) {
            add_children(child, children);
            children.push(child);
        }
    }
}

/// Returns the numbers that entries of a directory are named by.
fn numbers_in(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.collect()
}
