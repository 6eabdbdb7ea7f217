//! What a scenario needs: a folder that all users may enter, and processes of several users.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, io, process};

use rustix::process::geteuid;

use crate::Trouble;

/// Unprivileged users, by role.
pub(crate) const SERVER: u32 = 42_001;
pub(crate) const ABUSER: u32 = 42_002;
pub(crate) const POLITE: u32 = 42_003;

/// A temporary folder, which is removed when dropped.
pub(crate) struct Stage {
    folder: PathBuf,
    scenario: &'static str,
}

impl Stage {
    /// Creates a folder for the scenario of this name.
    pub(crate) fn new(scenario: &'static str) -> io::Result<Self> {
        let folder = env::temp_dir().join(format!("abuse-{}-{scenario}", process::id()));
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        Ok(Self { folder, scenario })
    }

    /// Returns the address of the server.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Starts this program in a role, as that user if this process is root. The socket's path is the role's first
    /// argument. Waits for its first line, which says that it is ready.
    pub(crate) fn start(&self, user: u32, role: &str, rest: &[&str]) -> Result<Actor, Trouble> {
        let mut command = Command::new("/proc/self/exe");
        command.args([self.scenario, role]).arg(self.socket());
        command.args(rest).current_dir("/");
        if geteuid().is_root() {
            command.uid(user).gid(user);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let says = process.stdout.take().ok_or("stdout is piped")?;
        let stdin = process.stdin.take();
        let says = BufReader::new(says).lines();
        let mut actor = Actor {
            process,
            stdin,
            says,
        };
        actor.hear()?;
        Ok(actor)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process of the scenario. Dropping it kills the process.
pub(crate) struct Actor {
    process: Child,
    stdin: Option<ChildStdin>,
    says: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Returns the next line that it prints.
    pub(crate) fn hear(&mut self) -> Result<String, Trouble> {
        Ok(self.says.next().ok_or("a process has ended too early")??)
    }

    /// Makes it continue after [`pause`].
    pub(crate) fn go_on(&mut self) -> Result<(), Trouble> {
        let stdin = self.stdin.as_mut().ok_or("stdin is piped")?;
        Ok(stdin.write_all(b"\n")?)
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Prints a line for the scenario, from a role.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Waits until the scenario lets this role continue.
pub(crate) fn pause() -> io::Result<()> {
    io::stdin().read_exact(&mut [0])
}

/// Returns how many files are open on this machine.
pub(crate) fn open_files() -> Result<u64, Trouble> {
    let all = fs::read_to_string(Path::new("/proc/sys/fs/file-nr"))?;
    let first = all.split_whitespace().next().ok_or("file-nr is empty")?;
    Ok(first.parse()?)
}
