//! Where a scenario is played: a folder that everybody may enter, and processes of several users.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, io, process};

use rustix::process::geteuid;

use crate::Trouble;

/// Unprivileged users, by their part in a scenario.
pub(crate) const SERVER: u32 = 42_001;
pub(crate) const ABUSER: u32 = 42_002;
pub(crate) const POLITE: u32 = 42_003;

/// A folder of its own, which is removed in the end.
pub(crate) struct Stage {
    folder: PathBuf,
    scenario: &'static str,
}

impl Stage {
    /// Makes a folder for a scenario of this name.
    pub(crate) fn new(scenario: &'static str) -> io::Result<Self> {
        let folder = env::temp_dir().join(format!("abuse-{}-{scenario}", process::id()));
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        Ok(Self { folder, scenario })
    }

    /// Where the server is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Starts this program in a role, as that user if this one may; the socket's path is the role's first argument.
    /// Waits for its first line, which says that it is ready.
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

/// A process of the scenario. It ends with this.
pub(crate) struct Actor {
    process: Child,
    stdin: Option<ChildStdin>,
    says: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// The next line that it prints.
    pub(crate) fn hear(&mut self) -> Result<String, Trouble> {
        Ok(self.says.next().ok_or("a process has ended too early")??)
    }

    /// Has it go on: it waits in [`pause`].
    pub(crate) fn go_on(&mut self) -> Result<(), Trouble> {
        let stdin = self.stdin.as_mut().ok_or("stdin is piped")?;
        Ok(stdin.write_all(b"\n")?)
    }

    /// Its process id.
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

/// Tells the scenario something, from a role.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Waits until the scenario says to go on, from a role.
pub(crate) fn pause() -> io::Result<()> {
    io::stdin().read_exact(&mut [0])
}

/// How many files are open on this machine.
pub(crate) fn open_files() -> Result<u64, Trouble> {
    let all = fs::read_to_string(Path::new("/proc/sys/fs/file-nr"))?;
    let first = all.split_whitespace().next().ok_or("file-nr is empty")?;
    Ok(first.parse()?)
}
