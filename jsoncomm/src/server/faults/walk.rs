//! Every system call of the scenario, failing in every way it can, one at a time.
//!
//! Each run must not panic or hang, must leave nothing behind, must end every call with a reply or an error, and its server
//! must continue when the fault is over.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use super::{far, run, turns};
use crate::sys::inject::{self, Plan};
use crate::transport::Kind;

/// The errors that each system call may report (see its manual page), except those that only a wrong call causes.
#[rustfmt::skip]
fn errnos(call: &str) -> &'static [Errno] {
    type E = Errno;
    match call {
        "accept4" => &[E::INTR, E::CONNABORTED, E::MFILE, E::NFILE, E::NOMEM, E::NOBUFS, E::PERM, E::PROTO],
        "bind" => &[E::ACCESS, E::ADDRINUSE, E::NOMEM, E::NOSPC, E::ROFS, E::NOENT],
        "chmod" | "fchmod" | "fchownat" => &[E::PERM, E::ROFS, E::IO, E::NOMEM],
        "connect" => &[E::INTR, E::AGAIN, E::CONNREFUSED, E::ACCESS, E::PERM, E::NOMEM, E::NOENT, E::PROTOTYPE],
        "dup3" => &[E::INVAL, E::MFILE],
        "epoll_create1" => &[E::MFILE, E::NFILE, E::NOMEM],
        "epoll_ctl" => &[E::NOMEM, E::NOSPC],
        "epoll_wait" => &[E::INTR],
        "eventfd" | "timerfd_create" => &[E::MFILE, E::NFILE, E::NOMEM, E::NODEV],
        "fcntl" => &[E::MFILE, E::PERM, E::BUSY, E::INVAL],
        "flock" => &[E::INTR, E::NOLCK, E::OPNOTSUPP],
        "fstat" | "fstatat" | "stat" => &[E::NOMEM, E::ACCESS, E::IO],
        "getpeername" | "getsockname" => &[E::NOBUFS],
        "getrlimit" => &[E::PERM, E::NOSYS],
        "getsockopt" => &[E::NOBUFS, E::NOMEM, E::NOPROTOOPT, E::ACCESS, E::MFILE, E::NODATA, E::RANGE],
        "ioctl" => &[E::NOMEM, E::ACCESS],
        "listen" => &[E::ADDRINUSE, E::ACCESS],
        "memfd_create" => &[E::MFILE, E::NFILE, E::NOMEM, E::ACCESS, E::NOSYS],
        "openat" => &[E::INTR, E::MFILE, E::NFILE, E::NOMEM, E::ACCESS, E::LOOP],
        "poll" => &[E::INTR, E::NOMEM],
        "pread" => &[E::INTR, E::IO, E::NOMEM],
        "pwrite" => &[E::INTR, E::NOSPC, E::FBIG, E::DQUOT, E::IO, E::NOMEM],
        "recv" | "send" => &[E::INTR, E::NOMEM, E::NOBUFS, E::CONNREFUSED],
        "recvmsg" => &[E::INTR, E::NOMEM, E::NOBUFS, E::CONNRESET, E::CONNREFUSED, E::ACCESS],
        "sendto" => &[
            E::INTR, E::AGAIN, E::NOMEM, E::NOBUFS, E::PERM, E::ACCESS, E::CONNREFUSED, E::CONNRESET, E::PIPE,
            E::MSGSIZE, E::NOTCONN,
        ],
        "sendmsg" => &[
            E::INTR, E::AGAIN, E::NOMEM, E::NOBUFS, E::PERM, E::ACCESS, E::CONNREFUSED, E::CONNRESET, E::PIPE,
            E::MSGSIZE, E::TOOMANYREFS, E::NOTCONN, E::INVAL,
        ],
        "setsockopt" => &[E::NOMEM, E::NOBUFS, E::PERM, E::NOPROTOOPT, E::INVAL],
        "shutdown" => &[E::NOTCONN, E::NOBUFS],
        "socket" | "socketpair" => &[E::MFILE, E::NFILE, E::NOMEM, E::NOBUFS, E::ACCESS],
        "timerfd_settime" => &[E::CANCELED],
        "unlinkat" => &[E::ACCESS, E::BUSY, E::ROFS, E::IO],
        other => panic!("what can {other} report?"),
    }
}

fn open_fds() -> usize {
    if !jsoncomm_watchdog::has_proc() {
        return 0;
    }
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until `fds` descriptors are open: another thread may still be closing some. Returns false if that takes too long.
fn all_are_closed(fds: usize) -> bool {
    turns().any(|()| {
        std::thread::yield_now();
        open_fds() == fds
    })
}

/// Runs a case. Returns what is wrong, if anything.
fn check(
    kind: Kind,
    path: &Path,
    plan: Option<Plan>,
) -> Result<BTreeMap<&'static str, usize>, String> {
    let fds = open_fds();
    let call = plan.as_ref().map(|plan| plan.call);
    let counts = catch_unwind(AssertUnwindSafe(|| run(kind, path, plan)));
    inject::end();
    let counts = counts.map_err(|panic| match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic
            .downcast::<&str>()
            .map_or_else(|_| "panic".into(), |message| (*message).into()),
    })?;
    if !all_are_closed(fds) {
        return Err(format!("{fds} descriptors before, {} after", open_fds()));
    }
    // A server that cannot stat or remove the file leaves it.
    let removable = !matches!(call, Some("fstatat" | "unlinkat"));
    match std::fs::remove_file(path) {
        Ok(()) if removable => Err("the socket's file is left".into()),
        _ => Ok(counts),
    }
}

/// Runs every case.
fn walk(kind: Kind, path: &Path) {
    // All failures are reported at the end.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut cases, mut wrong) = (0, Vec::new());
    for (call, count) in check(kind, path, None).unwrap() {
        let times = || (0..count).map(|time| time..time + 1);
        for (errno, times) in errnos(call)
            .iter()
            .flat_map(|errno| times().map(move |times| (*errno, times)))
        {
            let case = format!("{kind:?}, {call} number {times:?}, {errno}");
            cases += 1;
            if let Err(what) = check(kind, path, Some(Plan { call, times, errno })) {
                wrong.push(format!("{case}: {what}"));
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(
        wrong.is_empty(),
        "{} of {cases} cases: {wrong:#?}",
        wrong.len()
    );
    assert!(cases >= 600, "only {cases} cases");
    eprintln!("{cases} cases");
}

#[test]
#[ignore = "alone in its process, by the test below"]
fn walk_seqpacket() {
    let directory = tempfile::tempdir().unwrap();
    walk(Kind::Seqpacket, &directory.path().join("faults.sock"));
}

#[test]
#[ignore = "alone in its process, by the test below"]
fn walk_datagram() {
    let directory = tempfile::tempdir().unwrap();
    walk(Kind::Datagram, &far(directory.path()).join("faults.sock"));
}

/// Runs a test in a process of its own, so that no other test opens and closes descriptors.
fn alone(test: &str) {
    let test = format!("server::faults::walk::{test}");
    let output = Command::new(jsoncomm_watchdog::this_program())
        .args([
            "--exact",
            &test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let cases = said.lines().find(|line| line.ends_with("cases"));
    eprintln!("{}", cases.unwrap());
}

#[test]
fn on_seqpacket_each_call_can_fail_in_each_way_each_time() {
    alone("walk_seqpacket");
}

#[test]
fn on_datagram_each_call_can_fail_in_each_way_each_time() {
    alone("walk_datagram");
}
