//! Work on untrusted files in a sandbox: a worker process that has a connection to its parent and nothing else. It gets the files as
//! descriptors, and could not open one itself.
//!
//! Run it with `cargo run --example sandboxed_worker`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::{env, thread};

use jsoncomm::{Connection, Limits, Message, Server};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, getppid, kill_process, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

#[jsoncomm::service(name = "example.words")]
trait Words {
    /// Counts lines and words of a text.
    fn count(&mut self, #[fd] text: File) -> Result<Count, String>;
    /// Tries what a compromised worker would try; returns the results.
    fn misbehave(&mut self) -> Vec<String>;
}

#[derive(Debug, Message)]
struct Count {
    lines: u64,
    words: u64,
}

struct Worker;

impl Words for Worker {
    fn count(&mut self, text: File) -> Result<Count, String> {
        let (mut lines, mut words) = (0, 0);
        for line in BufReader::new(text).lines() {
            lines += 1;
            words += line
                .map_err(|error| error.to_string())?
                .split_whitespace()
                .count() as u64;
        }
        Ok(Count { lines, words })
    }

    fn misbehave(&mut self) -> Vec<String> {
        let new = env::temp_dir().join("sandboxed_worker");
        let kill = || {
            Ok(kill_process(
                getppid().ok_or(io::ErrorKind::NotFound)?,
                Signal::KILL,
            )?)
        };
        let tries: [(_, io::Result<()>); 6] = [
            ("open a file", File::open("/etc/passwd").map(drop)),
            ("make a file", fs::write(new, "")),
            (
                "start a program",
                Command::new("/bin/true").status().map(drop),
            ),
            (
                "start a thread",
                thread::Builder::new().spawn(|| {}).map(drop),
            ),
            (
                "use the network",
                TcpStream::connect("127.0.0.1:9").map(drop),
            ),
            ("kill the caller", kill()),
        ];
        let said = tries.map(|(what, came)| match came {
            Ok(()) => format!("{what}: done"),
            Err(error) => format!("{what}: {error}"),
        });
        said.into()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("--worker") => work(),
        _ => employ(),
    }
}

/// Starts a worker and calls it.
fn employ() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--worker").env_clear();
    let (connection, mut worker) = Connection::spawn(command)?;
    let words = WordsClient::new(connection);
    let mut out = io::stdout();
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("sandboxed_worker.rs");
    let Count {
        lines,
        words: found,
    } = words.count(File::open(text)?)?;
    writeln!(
        out,
        "the worker has read this file: {lines} lines, {found} words"
    )?;
    for tried in words.misbehave()? {
        writeln!(out, "the worker tries to {tried}")?;
    }
    // Closes the connection, upon which the worker ends.
    if worker.wait()?.success() {
        Ok(writeln!(out, "the worker has ended")?)
    } else {
        Err("the worker has failed".into())
    }
}

/// Drops all privileges, and then serves the process that started it, until that ends the connection.
fn work() -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(Limits::default())?;
    server.adopt_parent()?.serve::<dyn Words>();
    give_up_rights()?;
    server.run(&mut Worker)?;
    Ok(())
}

/// Drops privileges to the user `nobody` if it is root, sets resource limits, and allows only the system calls that
/// serving needs.
fn give_up_rights() -> Result<(), Box<dyn Error>> {
    let (nobody, nogroup) = (Uid::from_raw(65534), Gid::from_raw(65534));
    // This process has one thread, so these are the privileges of the whole process.
    if rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(nogroup, nogroup, nogroup)?;
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    for (resource, most) in [
        (Resource::Nofile, 16),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
        (Resource::As, 256 << 20),
    ] {
        let (current, maximum) = (Some(most), Some(most));
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    // Any other system call fails, so that a mistake in the list shows as an error.
    #[allow(clippy::useless_conversion, reason = "on 32 bits it converts")]
    let kept = SYSTEM_CALLS
        .iter()
        .map(|number| (i64::from(*number), Vec::new()))
        .collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(
        kept,
        refuse,
        SeccompAction::Allow,
        env::consts::ARCH.try_into()?,
    )?;
    apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}

/// The system calls that a server makes while it serves, allocates memory, and exits.
const SYSTEM_CALLS: &[libc::c_long] = &[
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_shutdown,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_timerfd_settime,
    libc::SYS_clock_gettime,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_getppid,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_exit_group,
];
