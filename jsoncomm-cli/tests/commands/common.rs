//! The command as a process, and something for it to talk to.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jsoncomm::server::ServerHandle;
use jsoncomm::socket::Socket;
use jsoncomm::{Connection, Kind};
use jsoncomm_examples::{Files, Folder};
use jsoncomm_tests::{PATIENCE, Running};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

/// Returns the command, with an empty standard input and without environment variables that change its output.
pub(crate) fn jsoncomm(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jsoncomm"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["JSONCOMM_ADDRESS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command
}

/// Returns the command as a shell starts it, with its redirections.
pub(crate) fn through(redirect: &str, arguments: &[&str]) -> Command {
    let inner = jsoncomm(arguments);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec \"$@\" {redirect}"), "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null());
    for (variable, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(variable, value),
            None => shell.env_remove(variable),
        };
    }
    shell
}

/// Makes a folder in which only root and this user can change anything; `None` if there is none, and the test is skipped.
pub(crate) fn safe_folder() -> Option<TempDir> {
    let parents = [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()];
    for parent in parents {
        let folder = tempfile::tempdir_in(parent).ok()?;
        let registry = jsoncomm::address::Registry::new([folder.path()]);
        if registry.names().is_ok() {
            return Some(folder);
        }
    }
    jsoncomm_tests::skip("other users could change each folder of temporary files");
    None
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end. Fails after the timeout of a test.
pub(crate) fn run(command: &mut Command) -> Ended {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command.spawn().expect("it starts"))
}

/// Runs the command with these arguments.
pub(crate) fn said(arguments: &[&str]) -> Ended {
    run(&mut jsoncomm(arguments))
}

/// Waits for the end of a child.
pub(crate) fn ended(mut child: Child) -> Ended {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = std::thread::spawn(move || all(stdout));
    let stderr = std::thread::spawn(move || all(stderr));
    let status = wait(&mut child);
    Ended {
        code: status.code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn all(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes).unwrap();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until a child has ended. Kills one that does not end in time.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    if !is_readable(&pidfd, PATIENCE) {
        let _ = child.kill();
        panic!("it does not end");
    }
    child.wait().unwrap()
}

/// Waits until the descriptor is readable. Returns false after a timeout.
pub(crate) fn is_readable(fd: impl AsFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The example `files`, for a new folder.
pub(crate) struct Example {
    pub(crate) server: Running<Folder>,
    pub(crate) folder: TempDir,
}

impl Example {
    pub(crate) fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Folder::new(folder.path()).unwrap();
        let server = Running::start(kind, state, |endpoint| endpoint.serve::<dyn Files>());
        Self { server, folder }
    }

    pub(crate) fn address(&self) -> &str {
        self.server.path.to_str().unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A scripted server. `ID` in a reply is replaced by the id of the call.
pub(crate) struct Double {
    pub(crate) path: PathBuf,
    thread: Option<std::thread::JoinHandle<Vec<String>>>,
    _directory: TempDir,
}

impl Double {
    /// Replies to each call with the next list of replies.
    pub(crate) fn start(replies: Vec<Vec<(String, Vec<OwnedFd>)>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("double.sock");
        let listener = jsoncomm::socket::Listener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            assert!(is_readable(&listener, PATIENCE), "no client connects");
            let mut socket = listener.accept().unwrap().unwrap();
            socket.set_timeout(Some(PATIENCE));
            socket.set_message_limit(64 << 20);
            socket.set_depth_limit(127);
            let mut heard = Vec::new();
            for list in replies {
                let (call, _) = socket.receive_raw().unwrap();
                let call = String::from_utf8(call.bytes).unwrap();
                let id = id_of(&call);
                heard.push(call);
                for (text, fds) in list {
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    let text = text.replace("ID", &id);
                    jsoncomm_tests::send_text(&socket, text.as_bytes(), &fds).unwrap();
                }
            }
            // The caller closes first.
            let _ = socket.receive_raw();
            heard
        });
        Self {
            path,
            thread: Some(thread),
            _directory: directory,
        }
    }

    /// Replies to one call with this result.
    pub(crate) fn result(result: &str, fds: Vec<OwnedFd>) -> Self {
        let reply = format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{result}}}"#);
        Self::start(vec![vec![(reply, fds)]])
    }

    /// Replies to one call with this text.
    pub(crate) fn text(text: &str) -> Self {
        Self::start(vec![vec![(text.to_owned(), Vec::new())]])
    }

    pub(crate) fn address(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Returns the received calls.
    pub(crate) fn heard(mut self) -> Vec<String> {
        self.thread.take().unwrap().join().unwrap()
    }
}

fn id_of(call: &str) -> String {
    let id = call.split("\"id\":").nth(1).unwrap_or("null");
    id.split([',', '}']).next().unwrap().to_owned()
}

/// Returns a regular file with this text.
pub(crate) fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file.into()
}

/// Returns the text of a file.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Receives a message and returns its JSON.
pub(crate) fn heard(socket: &mut Socket) -> String {
    let (raw, _) = socket.receive_raw().unwrap();
    String::from_utf8(raw.bytes).unwrap()
}

/// Reads an open file.
pub(crate) fn contents(file: impl Into<OwnedFd>) -> String {
    let mut text = String::new();
    File::from(file.into()).read_to_string(&mut text).unwrap();
    text
}

/// Asserts that the command was successful, and returns its output.
#[track_caller]
pub(crate) fn good(ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// What the desk calls, and what it has callers call.
#[jsoncomm::service(name = "test.caller")]
pub(crate) trait Caller {
    /// Returns how many bytes it has heard.
    fn hear(&mut self, words: &str) -> usize;
}

/// A service with connections among arguments and results.
#[jsoncomm::service(name = "test.desk")]
pub(crate) trait Greeter {
    fn greet(&mut self, #[fd] caller: CallerClient, #[fd] other: Option<Connection>) -> String;
    fn session(&mut self) -> CallerClient;
}

/// A running server of both.
pub(crate) struct Desk {
    server: Running<Clerk>,
}

pub(crate) struct Clerk {
    handle: Arc<OnceLock<ServerHandle<Self>>>,
}

impl Desk {
    pub(crate) fn start() -> Self {
        let handle = Arc::default();
        let clerk = Clerk {
            handle: Arc::clone(&handle),
        };
        let server = Running::start(Kind::Seqpacket, clerk, |endpoint| {
            endpoint.serve::<dyn Greeter>().serve::<dyn Caller>()
        });
        let _ = handle.set(server.handle.clone());
        Self { server }
    }

    pub(crate) fn address(&self) -> &str {
        self.server.path.to_str().unwrap()
    }
}

impl Greeter for Clerk {
    fn greet(&mut self, caller: CallerClient, _other: Option<Connection>) -> String {
        drop(caller.start().hear("hello"));
        String::from("greeted")
    }

    fn session(&mut self) -> CallerClient {
        let (near, far) = Socket::pair(Kind::Seqpacket).unwrap();
        let [near, far] = [near, far].map(|end| end.as_fd().try_clone_to_owned().unwrap());
        self.handle.get().unwrap().post(move |server| {
            server.adopt(near).unwrap().serve::<dyn Caller>();
        });
        CallerClient::new(Connection::from_fd(far).unwrap())
    }
}

impl Caller for Clerk {
    fn hear(&mut self, words: &str) -> usize {
        words.len()
    }
}
