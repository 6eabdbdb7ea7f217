//! A peer in Python as a child process, with a deadline on each read. Killed when dropped.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use jsoncomm::Kind;
use jsoncomm_tests::{PATIENCE, wait_for};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

/// The format of the peer's datagrams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// Bare messages.
    Bare,
    /// JSON-RPC calls.
    Calls,
}

/// A running `peer.py`.
#[derive(Debug)]
pub(crate) struct Python {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Output beyond the last line that was read.
    rest: Vec<u8>,
}

impl Python {
    /// Starts a client that connects to `path`.
    pub(crate) fn client(path: &Path, kind: Kind, mode: Mode) -> Self {
        Self::start("client", path, kind, mode, &[])
    }

    /// Starts a client with another `SO_SNDBUF`, or the maximum of the system.
    pub(crate) fn client_with_sndbuf(path: &Path, kind: Kind, mode: Mode, bytes: u32) -> Self {
        let sndbuf = ["--sndbuf", &bytes.to_string()];
        Self::start("client", path, kind, mode, &sndbuf)
    }

    /// Starts a server at `path`. Returns when clients can connect.
    pub(crate) fn server(path: &Path, kind: Kind, mode: Mode) -> Self {
        let mut server = Self::start("server", path, kind, mode, &[]);
        assert_eq!(server.receive(), json!({"ready": true}));
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

    /// Has the client execute one step, and returns the result.
    pub(crate) fn step(&mut self, wish: &Value) -> Done {
        let stdin = self.stdin.as_mut().expect("it is open until the end");
        writeln!(stdin, "{wish}").expect("the peer reads");
        let mut done = self.receive();
        Done {
            files: done["files"].take(),
            reply: done["reply"].take(),
            how: done,
        }
    }

    /// Waits for the next line that the peer prints.
    pub(crate) fn receive(&mut self) -> Value {
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

    /// Ends the peer, and asserts that it reported no error.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty());
        wait_for(
            process.expect("the peer is our child"),
            Instant::now() + PATIENCE,
        );
        let status = self.child.wait().expect("the peer is our child");
        assert!(status.success(), "python3 ended with {status}");
        assert_eq!(self.rest, b"", "an unread line of output");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of a client's step.
#[derive(Debug)]
pub(crate) struct Done {
    /// The reply of the server; `null` if the step has none.
    pub(crate) reply: Value,
    /// The files of the reply, by index.
    pub(crate) files: Value,
    /// The rest: `bytes`, and how the texts were `sent` and `received`.
    pub(crate) how: Value,
}
