//! Kernels and sandboxes that lack system calls: what needs none of these goes on, and the documented calls are enough.
//!
//! Older kernels are simulated by filters of system calls. What they do otherwise than newer ones is not.

mod filter;
mod job;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use jsoncomm::{CallError, Connection};
use jsoncomm_tests::{PATIENCE, has_linux, needs_proc, skip, this_program};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use seccompiler::SeccompCmpOp;

use self::filter::{Argument, Calls, is, refuse, refuse_all_but};
use self::job::Found;

/// Set in a process that a test has started, with the part of the test that runs there. What a process finds missing it
/// does not look for again.
const PART: &str = "JSONCOMM_TESTS_PART";

/// Runs the test of this thread in another process, as this part of it.
fn in_a_process_of_its_own(part: &str) {
    let test = std::thread::current().name().unwrap().to_owned();
    let mut process = Command::new(this_program());
    let ended = process.args(["--exact", &test]).env(PART, part).output();
    let ended = ended.unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let passed = ended.status.success() && said.contains(" 1 passed");
    assert!(passed, "{part}: {}\n{said}", ended.status);
}

/// Runs the job in a thread where calls are refused.
fn run(restrict: impl FnOnce() + Send + 'static) -> Found {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).ok();
    let thread = std::thread::spawn(move || {
        restrict();
        job::run(&path, pidfd.as_ref())
    });
    thread.join().expect("nothing fails")
}

/// What this machine has, if nothing is refused.
fn unrestricted() -> Found {
    run(|| ())
}

/// A call that the library can do without.
struct Optional {
    name: &'static str,
    calls: fn() -> Calls,
    /// Takes out what it gives.
    without: fn(Found) -> Found,
}

fn option(call: i64, option: i32) -> (i64, Vec<Argument>) {
    (call, vec![is(1, libc::SOL_SOCKET), is(2, option)])
}

/// `SO_PASSRIGHTS`
const PASSRIGHTS: i32 = 83;

/// `P_PIDFD`, of linux/wait.h.
const OF_PIDFD: i32 = 3;

const OPTIONAL: [Optional; 9] = [
    Optional {
        name: "SO_PEERGROUPS",
        calls: || vec![option(libc::SYS_getsockopt, libc::SO_PEERGROUPS)],
        without: |found| Found {
            groups: false,
            ..found
        },
    },
    Optional {
        name: "SO_PEERPIDFD",
        calls: || vec![option(libc::SYS_getsockopt, libc::SO_PEERPIDFD)],
        without: |found| Found {
            pidfd: false,
            ..found
        },
    },
    Optional {
        name: "SO_PASSPIDFD",
        calls: || vec![option(libc::SYS_setsockopt, libc::SO_PASSPIDFD)],
        without: |found| Found {
            sender: false,
            ..found
        },
    },
    Optional {
        name: "SO_PASSRIGHTS",
        calls: || vec![option(libc::SYS_setsockopt, PASSRIGHTS)],
        without: |found| Found {
            refusal: false,
            ..found
        },
    },
    Optional {
        name: "SO_SNDBUF",
        calls: || vec![option(libc::SYS_setsockopt, libc::SO_SNDBUF)],
        without: |found| found,
    },
    Optional {
        name: "netlink",
        calls: || vec![(libc::SYS_socket, vec![is(0, libc::AF_NETLINK)])],
        without: |found| found,
    },
    Optional {
        name: "statx",
        calls: || vec![(libc::SYS_statx, Vec::new())],
        without: |found| Found {
            directories: false,
            ..found
        },
    },
    Optional {
        name: "waitid",
        calls: || vec![(libc::SYS_waitid, Vec::new())],
        without: |found| Found {
            processes: false,
            ..found
        },
    },
    Optional {
        name: "getrlimit",
        calls: || vec![(libc::SYS_prlimit64, Vec::new())],
        without: |found| found,
    },
];

/// How sandboxes refuse a call, and how kernels say that they do not have it. `src/sys/optional` tests more of them.
const ERRNOS: [Errno; 2] = [Errno::PERM, Errno::NOSYS];

#[test]
fn an_optional_call_can_be_refused_and_nothing_else_fails() {
    needs_proc!();
    if !filter::permitted() {
        return;
    }
    let Ok(part) = std::env::var(PART) else {
        let all = unrestricted();
        for optional in OPTIONAL {
            for errno in ERRNOS {
                let (name, errno) = (optional.name, errno.raw_os_error());
                let expected = (optional.without)(all);
                in_a_process_of_its_own(&format!("{name} {errno} {expected:?}"));
            }
        }
        return;
    };
    let [name, errno, expected] = part.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("{part}");
    };
    let errno = Errno::from_raw_os_error(errno.parse().unwrap());
    let optional = OPTIONAL.into_iter().find(|other| other.name == name);
    let calls = optional.unwrap().calls;
    let found = run(move || refuse(&calls(), errno));
    assert_eq!(format!("{found:?}"), expected);
}

#[test]
fn a_child_is_waited_for_and_killed_also_without_pidfds() {
    if !filter::permitted() {
        return;
    }
    let Ok(part) = std::env::var(PART) else {
        for errno in ERRNOS {
            in_a_process_of_its_own(&errno.raw_os_error().to_string());
        }
        return;
    };
    let errno = Errno::from_raw_os_error(part.parse().unwrap());
    let pidfds = [libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal];
    refuse(&pidfds.map(|call| (call, Vec::new())).into(), errno);
    let start = || {
        let mut command = Command::new("sleep");
        command.arg("1000");
        Connection::spawn(command).unwrap()
    };
    let (_connection, mut child) = start();
    assert!(child.pidfd().is_none());
    let soon = Instant::now() + Duration::from_millis(10);
    assert_eq!(child.wait_by(soon).unwrap(), None);
    child.kill().unwrap();
    let later = Instant::now() + PATIENCE;
    let ended = child.wait_by(later).unwrap().unwrap();
    assert_eq!(ended.signal(), Some(9));
    child.kill().unwrap();
    let (connection, mut child) = start();
    child.set_grace(Duration::ZERO);
    drop(child);
    assert!(matches!(
        connection.call::<(), ()>("a.b", &()),
        Err(CallError::Closed)
    ));
}

/// The highest number of a system call in Linux 3.17, on machines where later ones have higher numbers.
fn highest_of_3_17() -> Option<i64> {
    match std::env::consts::ARCH {
        // kexec_file_load
        "x86_64" => Some(320),
        // memfd_create
        "aarch64" => Some(279),
        _ => None,
    }
}

#[test]
fn linux_3_17_is_enough_as_far_as_filters_can_simulate_it() {
    needs_proc!();
    if !filter::permitted() {
        return;
    }
    /// `SO_INCOMING_CPU` of Linux 3.19, the first option after 3.17.
    const FIRST: i64 = 49;
    /// No kernel has so many.
    const LAST: i64 = 600;
    let Some(highest) = highest_of_3_17() else {
        return skip("system calls are not numbered by age here");
    };
    if std::env::var_os(PART).is_none() {
        return in_a_process_of_its_own("all");
    }
    let found = run(move || {
        refuse(
            &vec![(libc::SYS_memfd_create, vec![later_flags()])],
            Errno::INVAL,
        );
        refuse(
            &vec![(libc::SYS_waitid, vec![is(0, OF_PIDFD)])],
            Errno::INVAL,
        );
        let later = Argument {
            at: 2,
            is: SeccompCmpOp::Ge,
            value: FIRST,
        };
        let of = |call| (call, vec![is(1, libc::SOL_SOCKET), later.clone()]);
        let options = vec![of(libc::SYS_getsockopt), of(libc::SYS_setsockopt)];
        refuse(&options, Errno::NOPROTOOPT);
        // The C library has asked for this one when the process started, and relies on it.
        let later = (highest + 1..LAST).filter(|number| *number != libc::SYS_rseq);
        let calls = later.map(|number| (number, Vec::new()));
        refuse(&calls.collect(), Errno::NOSYS);
    });
    let none = Found {
        groups: false,
        pidfd: false,
        sender: false,
        refusal: false,
        directories: false,
        processes: false,
    };
    assert_eq!(found, none);
}

/// Flags of memfd_create(2) above `MFD_CLOEXEC` and `MFD_ALLOW_SEALING`.
fn later_flags() -> Argument {
    Argument {
        at: 1,
        is: SeccompCmpOp::Gt,
        value: 3,
    }
}

/// Returns the text of a section of the page on the architecture.
fn section(heading: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jsoncomm/ARCHITECTURE.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

#[test]
fn newer_kernels_give_what_the_page_says() {
    // Without it, the job does not come to its end.
    needs_proc!();
    let found = unrestricted();
    let gives = [
        ("4.11", (4, 11), found.directories),
        ("4.13", (4, 13), found.groups),
        ("5.4", (5, 4), found.processes),
        ("6.5", (6, 5), found.pidfd && found.sender),
        ("6.16", (6, 16), found.refusal),
    ];
    let page = section("Kernels");
    for (name, version, gives) in gives {
        assert!(page.contains(&format!("\n| {name} |")), "{name}");
        assert_eq!(gives, has_linux(version), "{name}");
    }
}

/// Returns the numbers of the system calls in the second column of the page's table. Not all machines have all of them.
fn documented() -> Calls {
    let section = section("System calls");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let names: BTreeSet<&str> = rows
        .flat_map(|row| row.split('|').nth(2).unwrap().split('`').skip(1).step_by(2))
        .collect();
    assert!(names.len() > 40, "{names:?}");
    let number = |name: &&str| {
        let known = NUMBERS.iter().find(|(other, _)| other == name);
        known.unwrap_or_else(|| panic!("{name}: which number?")).1
    };
    let numbers = names.iter().filter_map(number);
    numbers.map(|number| (number, Vec::new())).collect()
}

#[test]
fn the_documented_system_calls_are_enough() {
    if cfg!(target_env = "musl") {
        return jsoncomm_tests::skip("the list is of glibc: musl calls open(2) for openat(2)");
    }
    needs_proc!();
    if !filter::permitted() {
        return;
    }
    let all = unrestricted();
    let calls = documented();
    assert_eq!(run(move || refuse_all_but(&calls, Errno::PERM)), all);
}

/// The name of a system call and its number; `None` on machines that do not have it.
macro_rules! numbers {
    ($($name:ident $number:ident),* ; $($old:ident $x86:ident),*) => {
        &[
            $((stringify!($name), Some(libc::$number)),)*
            $((stringify!($old), {
                #[cfg(target_arch = "x86_64")]
                let number = Some(libc::$x86);
                #[cfg(not(target_arch = "x86_64"))]
                let number = None;
                number
            }),)*
        ]
    };
}

const NUMBERS: &[(&str, Option<i64>)] = numbers!(
    accept4 SYS_accept4,
    bind SYS_bind,
    brk SYS_brk,
    clock_gettime SYS_clock_gettime,
    clone SYS_clone,
    clone3 SYS_clone3,
    close SYS_close,
    connect SYS_connect,
    dup3 SYS_dup3,
    epoll_create1 SYS_epoll_create1,
    epoll_ctl SYS_epoll_ctl,
    epoll_pwait SYS_epoll_pwait,
    eventfd2 SYS_eventfd2,
    execve SYS_execve,
    exit SYS_exit,
    exit_group SYS_exit_group,
    fchmod SYS_fchmod,
    fchmodat SYS_fchmodat,
    fchownat SYS_fchownat,
    fcntl SYS_fcntl,
    flock SYS_flock,
    fstat SYS_fstat,
    futex SYS_futex,
    getdents64 SYS_getdents64,
    geteuid SYS_geteuid,
    getpeername SYS_getpeername,
    getpid SYS_getpid,
    getrandom SYS_getrandom,
    getsockname SYS_getsockname,
    getsockopt SYS_getsockopt,
    gettid SYS_gettid,
    inotify_add_watch SYS_inotify_add_watch,
    inotify_init1 SYS_inotify_init1,
    ioctl SYS_ioctl,
    listen SYS_listen,
    madvise SYS_madvise,
    memfd_create SYS_memfd_create,
    mkdirat SYS_mkdirat,
    mmap SYS_mmap,
    mprotect SYS_mprotect,
    mremap SYS_mremap,
    munmap SYS_munmap,
    newfstatat SYS_newfstatat,
    openat SYS_openat,
    ppoll SYS_ppoll,
    prctl SYS_prctl,
    pread64 SYS_pread64,
    prlimit64 SYS_prlimit64,
    pwrite64 SYS_pwrite64,
    read SYS_read,
    readlinkat SYS_readlinkat,
    recvfrom SYS_recvfrom,
    recvmsg SYS_recvmsg,
    renameat SYS_renameat,
    rseq SYS_rseq,
    rt_sigprocmask SYS_rt_sigprocmask,
    sched_getaffinity SYS_sched_getaffinity,
    sched_yield SYS_sched_yield,
    sendmsg SYS_sendmsg,
    sendto SYS_sendto,
    set_robust_list SYS_set_robust_list,
    setsockopt SYS_setsockopt,
    shutdown SYS_shutdown,
    sigaltstack SYS_sigaltstack,
    socket SYS_socket,
    socketpair SYS_socketpair,
    statx SYS_statx,
    symlinkat SYS_symlinkat,
    timerfd_create SYS_timerfd_create,
    timerfd_settime SYS_timerfd_settime,
    uname SYS_uname,
    unlinkat SYS_unlinkat,
    waitid SYS_waitid,
    write SYS_write;
    epoll_wait SYS_epoll_wait,
    poll SYS_poll,
    readlink SYS_readlink
);
