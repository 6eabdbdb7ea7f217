//! A peer in Python as a child process, with a deadline on each read. Killed when dropped.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use jsoncomm::Kind;
use jsoncomm_tests::{PATIENCE, wait_for};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

/// What the peer puts into a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// The message itself.
    Bare,
    /// JSON-RPC calls.
    Calls,
}

/// One `peer.py` that runs.
#[derive(Debug)]
pub(crate) struct Python {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What has been read beyond the last line.
    rest: Vec<u8>,
}

impl Python {
    /// Starts a client that connects to `path`.
    pub(crate) fn client(path: &Path, kind: Kind, mode: Mode) -> Self {
        Self::start("client", path, kind, mode, &[])
    }

    /// The same with another `SO_SNDBUF`, or the most that the system allows.
    pub(crate) fn client_with_sndbuf(path: &Path, kind: Kind, mode: Mode, bytes: u32) -> Self {
        let sndbuf = ["--sndbuf", &bytes.to_string()];
        Self::start("client", path, kind, mode, &sndbuf)
    }

    /// Starts a server at `path`; it can be connected to when this returns.
    pub(crate) fn server(path: &Path, kind: Kind, mode: Mode) -> Self {
        let mut server = Self::start("server", path, kind, mode, &[]);
        assert_eq!(server.hear(), json!({"ready": true}));
        server
    }

    fn start(role: &str, path: &Path, kind: Kind, mode: Mode, more: &[&str]) -> Self {
        let kind = match kind {
            Kind::Datagram => "dgram",
            Kind::Seqpacket => "seqpacket",
        };
        let mode = match mode {
            Mode::Bare => "bare",
            Mode::Calls => "calls",
        };
        let started = jsoncomm_tests::python(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/peer.py"))
            .args([role, "--kind", kind, "--mode", mode, "--path"])
            .arg(path)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = started.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("these tests need `python3` (3.9 or newer) in PATH"),
            _ => panic!("python3 does not start: {error}"),
        });
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().expect("it is piped"),
            rest: Vec::new(),
            child,
        }
    }

    /// Gives the client one step to do, and says what came of it.
    pub(crate) fn step(&mut self, wish: &Value) -> Done {
        let stdin = self.stdin.as_mut().expect("it is open until the end");
        writeln!(stdin, "{wish}").expect("the peer reads");
        let mut done = self.hear();
        Done {
            files: done["files"].take(),
            answer: done["answer"].take(),
            how: done,
        }
    }

    /// Waits for the next line that the peer prints.
    pub(crate) fn hear(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("the peer prints JSON");
            }
            wait_for(&self.stdout, deadline);
            let mut part = [0; 1 << 16];
            match self.stdout.read(&mut part).expect("the pipe is readable") {
                0 => panic!("python3 has ended; what it printed to standard error says why"),
                length => self.rest.extend_from_slice(&part[..length]),
            }
        }
    }

    /// Lets the peer end, and makes sure that it did so without complaint.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty());
        wait_for(
            process.expect("the peer is our child"),
            Instant::now() + PATIENCE,
        );
        let status = self.child.wait().expect("the peer is our child");
        assert!(status.success(), "python3 ended with {status}");
        assert_eq!(self.rest, b"", "nobody has read this line");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // One that has ended already is no trouble.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of a client's step.
#[derive(Debug)]
pub(crate) struct Done {
    /// What the server answered; `null` if nothing was waited for.
    pub(crate) answer: Value,
    /// The files that came with it, by index.
    pub(crate) files: Value,
    /// The rest: `bytes`, and how the texts were `sent` and `received`.
    pub(crate) how: Value,
}
