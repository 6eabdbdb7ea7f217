//! `activated`, with a service manager that does what systemd does: binds, starts on the first call, listens to
//! what the service says, and keeps the sockets.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use jsoncomm::socket::Socket;
use jsoncomm::{Call, Connection, Deferred, Kind};
use jsoncomm_tests::{Bound, PATIENCE, built_example, wait_for};
use rustix::net::sockopt::set_socket_passcred;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, kill_process, pidfd_open};
use tempfile::TempDir;

/// The interface of the service.
#[jsoncomm::service(name = "example.settings")]
trait Settings {
    fn user(&mut self, call: &mut Call) -> Option<u32>;
    fn reloaded(&mut self, call: &mut Call) -> Deferred<u32>;
}

struct Manager {
    everyone: Bound,
    own: UnixDatagram,
    notifications: Receiver<String>,
    /// Address that the service sends its notifications to.
    notify: OsString,
    notify_address: SocketAddr,
    directory: TempDir,
    program: PathBuf,
    /// It keeps a descriptor for the service (`FileDescriptorStoreMax=1`).
    keeps: bool,
    /// The descriptors that the service has it keep.
    store: Receiver<OwnedFd>,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let notify = directory.path().join("notify.sock");
        let address = SocketAddr::from_pathname(&notify).unwrap();
        Self::listening(directory, notify.into(), address)
    }

    /// Makes a service manager with an abstract address.
    fn at_an_abstract_name() -> Self {
        let name = format!("jsoncomm-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self::listening(directory, format!("@{name}").into(), address)
    }

    fn listening(directory: TempDir, notify: OsString, notify_address: SocketAddr) -> Self {
        let path = |name| directory.path().join(name);
        let own = UnixDatagram::bind(path("own.sock")).unwrap();
        // As `PassCredentials=yes` does: queued messages carry the credentials of their sender.
        set_socket_passcred(&own, true).unwrap();
        let listener = UnixDatagram::bind_addr(&notify_address).unwrap();
        let listener = Socket::from_fd(listener.into()).unwrap();
        let (sender, notifications) = mpsc::channel();
        let (keep, store) = mpsc::channel();
        thread::spawn(move || listen(listener, &sender, &keep));
        Self {
            everyone: Bound::at(path("everyone.sock"), Kind::Seqpacket).unwrap(),
            own,
            notifications,
            notify,
            notify_address,
            directory,
            // Before the first call, whose deadline compiling could exceed.
            program: built_example("activated", &[]),
            keeps: false,
            store,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Connects to one of the sockets, whether or not the service runs.
    fn client(&self, name: &str) -> SettingsClient {
        let connection = Connection::open(self.path(name)).unwrap();
        SettingsClient::new(connection.with_timeout(PATIENCE))
    }

    /// Starts the service, which exits after this many idle seconds. The shell moves the descriptors to their
    /// numbers and sets LISTEN_PID to its own process id, which `exec` keeps.
    fn start(&self, idle: &str) -> Service {
        Service(self.spawn(idle, Stdio::inherit()))
    }

    fn spawn(&self, idle: &str, stderr: Stdio) -> Child {
        let script = r#"export LISTEN_PID=$$ WATCHDOG_PID=$$
            exec "$0" "$1" 3<&0 4<&1 </dev/null >/dev/null"#;
        self.command(script, idle).stderr(stderr).spawn().unwrap()
    }

    /// Starts the service with what the one before has left in the store, after its sockets.
    fn start_with(&self, stored: OwnedFd) -> Service {
        let script = r#"export LISTEN_PID=$$ WATCHDOG_PID=$$
            exec "$0" "$1" 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>/dev/null"#;
        let mut command = self.command(script, "3600");
        command.env("LISTEN_FDS", "3");
        command.env("LISTEN_FDNAMES", "everyone:own:handover");
        Service(command.stderr(stored).spawn().unwrap())
    }

    fn command(&self, script: &str, idle: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(&self.program)
            .arg(idle)
            .stdin(self.everyone.as_fd().try_clone_to_owned().unwrap())
            .stdout(OwnedFd::from(self.own.try_clone().unwrap()))
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", "everyone:own")
            .env("NOTIFY_SOCKET", &self.notify)
            .env("WATCHDOG_USEC", "20000")
            .env("FDSTORE", if self.keeps { "1" } else { "0" });
        command
    }

    /// Returns what the service has left in the store.
    fn stored(&self) -> OwnedFd {
        self.wait_for_notification("FDSTORE=1\nFDNAME=handover\nFDPOLL=0\n");
        self.store.recv_timeout(PATIENCE).unwrap()
    }

    /// Returns the next notification of the service.
    fn receive(&self) -> String {
        self.notifications.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits for this notification, and skips those that feed the watchdog.
    fn wait_for_notification(&self, notification: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let received = self.receive();
            if received == notification {
                return;
            }
            assert_eq!(received, "WATCHDOG=1\n");
            assert!(Instant::now() < until, "only the watchdog is fed");
        }
    }

    /// Asserts that the service, which has ended, has sent no further notification.
    fn assert_no_more_notifications(&self) {
        self.send("end");
        self.wait_for_notification("end");
    }

    fn send(&self, text: &str) {
        let socket = UnixDatagram::unbound().unwrap();
        let sent = socket.send_to_addr(text.as_bytes(), &self.notify_address);
        sent.unwrap();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.send("");
    }
}

/// Receives notifications at once, because a service waits until they are received. An empty one ends the thread.
fn listen(mut notify: Socket, sender: &Sender<String>, keep: &Sender<OwnedFd>) {
    while let Ok((said, _)) = notify.receive_raw() {
        if said.bytes.is_empty() {
            return;
        }
        let _ = sender.send(String::from_utf8_lossy(&said.bytes).into_owned());
        for fd in said.fds {
            let _ = keep.send(fd);
        }
    }
}

/// A process, killed if the test has failed.
struct Service(Child);

impl Service {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        let process = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).unwrap();
        wait_for(process, Instant::now() + PATIENCE);
        self.0.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn activated_replies_to_calls_queued_before_it_started_and_exits_when_idle() {
    let manager = Manager::new();
    let (everyone, own) = (manager.client("everyone.sock"), manager.client("own.sock"));
    let queued = [&everyone, &own].map(|client| client.start().user().unwrap());
    let service = manager.start("0.05");
    assert_eq!(manager.receive(), "READY=1\n");
    let user = Some(geteuid().as_raw());
    for call in queued {
        assert_eq!(call.wait().unwrap(), user);
    }
    // It does not exit while a client is connected.
    for _ in 0..10 {
        assert_eq!(manager.receive(), "WATCHDOG=1\n");
    }
    assert_eq!(everyone.user().unwrap(), user);
    assert_eq!(own.user().unwrap(), user);
    drop(everyone);
    manager.wait_for_notification("STOPPING=1\n");
    assert!(service.end().success());

    let queued = own.start().user().unwrap();
    wait_for(&manager.own, Instant::now() + PATIENCE); // as systemd does
    let service = manager.start("0.05");
    assert_eq!(queued.wait().unwrap(), user, "nothing was shut down");
    manager.wait_for_notification("READY=1\n");
    manager.wait_for_notification("STOPPING=1\n");
    assert!(service.end().success());
}

#[test]
fn activated_shuts_down_cleanly_during_a_call() {
    for name in ["everyone.sock", "own.sock"] {
        let manager = Manager::new();
        let service = manager.start("3600");
        assert_eq!(manager.receive(), "READY=1\n");
        let client = manager.client(name);
        let begun = client.start().reloaded().unwrap();
        let user = client.user().unwrap(); // its handler has started

        service.signal(Signal::TERM);
        manager.wait_for_notification("STOPPING=1\n");
        let late = manager.client(name).start().user().unwrap();
        service.signal(Signal::HUP);
        assert_eq!(
            begun.wait().unwrap(),
            1,
            "the call in progress gets its reply"
        );
        assert!(service.end().success());
        manager.assert_no_more_notifications();

        let service = manager.start("3600");
        assert_eq!(late.wait().unwrap(), user, "the next process replies");
        service.signal(Signal::TERM);
        assert!(service.end().success());
    }
}

#[test]
fn activated_is_restarted_under_its_clients_by_a_service_manager_with_a_store() {
    let mut manager = Manager::new();
    manager.keeps = true;
    let mut service = manager.start("3600");
    assert_eq!(manager.receive(), "READY=1\n");
    let clients = ["everyone.sock", "own.sock"].map(|name| manager.client(name));
    let user = Some(geteuid().as_raw());
    for _ in 0..3 {
        for client in &clients {
            assert_eq!(client.user().unwrap(), user);
        }
        let begun = clients[0].start().reloaded().unwrap();
        let _ = clients[0].user().unwrap(); // its handler has started
        service.signal(Signal::TERM);
        manager.wait_for_notification("STOPPING=1\n");
        let queued = [0, 1].map(|client: usize| clients[client].start().user().unwrap());
        service.signal(Signal::HUP);
        assert_eq!(begun.wait().unwrap(), 1, "it gets its reply");
        let stored = manager.stored();
        assert!(service.end().success());
        // Nobody serves now.
        let late = manager.client("everyone.sock").start().user().unwrap();
        let kept = stored.try_clone().unwrap();
        service = manager.start_with(stored);
        manager.wait_for_notification("FDSTOREREMOVE=1\nFDNAME=handover\n");
        manager.wait_for_notification("READY=1\n");
        // What it has kept is empty by now, and keeps no connection open.
        drop(kept);
        for call in queued.into_iter().chain([late]) {
            assert_eq!(call.wait().unwrap(), user);
        }
    }
    service.signal(Signal::TERM);
    manager.wait_for_notification("STOPPING=1\n");
    drop(manager.stored());
    assert!(service.end().success());
    // The store was emptied, as by `systemctl stop`.
    let [everyone, _own] = clients;
    assert!(everyone.user().is_err());
}

#[test]
fn activated_notifies_a_service_manager_at_an_abstract_address() {
    let manager = Manager::at_an_abstract_name();
    let service = manager.start("3600");
    assert_eq!(manager.receive(), "READY=1\n");
    service.signal(Signal::TERM);
    manager.wait_for_notification("STOPPING=1\n");
    assert!(service.end().success());
}

#[test]
fn activated_logs_why_it_cannot_notify_its_service_manager() {
    let mut manager = Manager::new();
    manager.notify = manager.path("nowhere").into();
    let child = manager.spawn("0", Stdio::piped());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("NOTIFY_SOCKET: No such file"), "{said}");
}

#[test]
fn activated_does_not_start_without_sockets() {
    let alone = Command::new(built_example("activated", &[]))
        .output()
        .unwrap();
    assert!(!alone.status.success());
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(said.contains("no sockets"), "{said}");
}
