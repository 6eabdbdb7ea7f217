//! A deadline for every test: one that hangs is a failure with a name. And a process of its own for a test that needs one.
//!
//! libtest waits for a test for as long as it takes. A program of tests says once, at its root,
//!
//! ```text
//! #[macro_use]
//! extern crate jsoncomm_watchdog;
//! ```
//!
//! and from there on `#[test]` is the one of this crate: a thread waits for the end of the test, for [`LIMIT`] times
//! the number in the environment variable [`FACTOR`] (for emulators and loaded machines). If the test has not ended by
//! then, that thread prints the test's name and what each thread of the process waits for, kills the processes that
//! this one has started, and aborts. `tests/hangs.rs` shows it, and that every program has the two lines.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{Write as _, stderr};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{env, fs, thread};

pub use jsoncomm_watchdog_attribute::test;

/// How long a test may take.
pub const LIMIT: Duration = Duration::from_secs(115);

/// How long a test may take that has another process do its work and is watched there: what hangs is named there first.
pub const OUTER_LIMIT: Duration = Duration::from_secs(120);

/// How long a test may take that compiles.
pub const COMPILING: Duration = Duration::from_secs(1800);

/// The environment variable with a number that each limit is multiplied by.
pub const FACTOR: &str = "JSONCOMM_TESTS_FACTOR";

thread_local! {
    /// Tells the watch on this thread's test how long it may take from now on.
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
    let (tell, told) = channel();
    let watchdog = thread::Builder::new().name(String::from("watchdog"));
    watchdog
        .spawn(move || wait(&test, &told))
        .expect("a thread to watch from");
    WATCH.set(Some(tell));
    Watch(())
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCH.set(None);
    }
}

/// Gives the test of this thread so long from now on, times [`FACTOR`].
pub fn allow(time: Duration) {
    WATCH.with_borrow(|watch| {
        if let Some(watch) = watch {
            // The thread is there for as long as its sender.
            let _ = watch.send(time);
        }
    });
}

/// Set in a process that runs one test only.
pub const ALONE: &str = "JSONCOMM_TESTS_ALONE";

/// Gives a test a process of its own: what follows runs only there, and the process of all tests waits for it.
/// A process has its descriptors in common, for example, so that counting them counts those of other tests as well.
#[macro_export]
macro_rules! alone {
    () => {
        if !$crate::is_alone() {
            return;
        }
    };
}

/// Whether this process runs one test only. If not, the test whose thread this is has passed in one that does:
/// the same program once more.
///
/// # Panics
///
/// When it has failed there.
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
    // What hangs is named where it hangs, and then here.
    allow(OUTER_LIMIT);
    // Also when cargo has just put another in its place.
    let mut alone = Command::new("/proc/self/exe");
    let ended = alone.args(["--exact", test]).env(ALONE, "").output();
    let ended = ended.expect("this program runs once more");
    let said = String::from_utf8_lossy(&ended.stdout);
    let passed = ended.status.success() && said.contains(" 1 passed");
    let cries = String::from_utf8_lossy(&ended.stderr);
    assert!(passed, "{}\n{said}{cries}", ended.status);
    false
}

/// Waits for the end of a test.
fn wait(test: &str, told: &Receiver<Duration>) {
    let factor: u32 = env::var(FACTOR)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let mut limit = LIMIT;
    loop {
        let time = limit.saturating_mul(factor.max(1));
        match told.recv_timeout(time) {
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
    // Not captured, as a macro's output would be.
    let _ = stderr().write_all(report.as_bytes());
    kill_children(this);
    std::process::abort();
}

/// Kills what a process has started, and what that has started.
fn kill_children(process: u32) {
    let mut children = Vec::new();
    add_children(process, &mut children);
    let numbers = children.iter().map(u32::to_string);
    // The shell's own `kill`: this crate is compiled for the macros' tests as well, and rustix would be once more.
    let mut shell = Command::new("sh");
    let _ = shell
        .args(["-c", r#"kill -KILL "$@""#, "sh"])
        .args(numbers)
        .stderr(Stdio::null())
        .status();
}

/// Adds the children of a process, each after its own.
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

/// The numbers that the entries of a directory are named by.
fn numbers_in(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.collect()
}
