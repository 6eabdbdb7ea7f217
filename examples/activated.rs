//! A service for systemd: it takes over the sockets that the service manager has bound, reports that it is ready and
//! that its loop runs, reloads on SIGHUP, exits when it is idle, shuts down in order, and is restarted without losing a
//! connection: the service manager keeps them meanwhile.
//!
//! The units are in `examples/systemd`. To see the first call start it, without installing them:
//!
//! ```text
//! cargo build --example activated
//! systemd-socket-activate --seqpacket --fdname=everyone --listen=/tmp/activated.sock \
//!     target/debug/examples/activated 10
//! ```
//!
//! The argument is the number of seconds without work after which it exits; 30 by default.

use std::error::Error;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::time::Duration;
use std::{env, iter, process};

use jsoncomm::fds::inherited_fd;
use jsoncomm::server::{Control, Handover};
use jsoncomm::{Call, Deferred, Endpoint, Limits, Reply, Server};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::geteuid;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

#[jsoncomm::service(name = "example.settings")]
trait Settings {
    /// Returns the caller's user, as reported by the kernel.
    fn user(&mut self, call: &mut Call) -> Option<u32>;
    /// Replies with the number of reloads after the settings have been read again.
    fn reloaded(&mut self, call: &mut Call) -> Deferred<u32>;
}

#[derive(Default)]
struct State {
    reloads: u32,
    waiting: Vec<Reply<u32>>,
    /// The next process is to go on with the connections.
    is_replaced: bool,
}

/// Pending calls get this long to complete.
const GRACE: Duration = Duration::from_secs(5);

/// The name of the descriptor that the service manager keeps between two processes.
const STORED: &str = "handover";

impl Settings for State {
    fn user(&mut self, call: &mut Call) -> Option<u32> {
        Some(call.peer()?.uid())
    }

    fn reloaded(&mut self, call: &mut Call) -> Deferred<u32> {
        self.waiting.retain(Reply::is_wanted);
        call.defer(|reply| self.waiting.push(reply))
    }
}

impl State {
    fn reload(&mut self) {
        self.reloads += 1;
        for reply in self.waiting.drain(..) {
            reply.send(self.reloads);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = env::args().nth(1).map_or(Ok(30.0), |first| first.parse())?;
    let mut server = Server::new(Limits::default())?;
    let mut state = State::default();
    adopt(&mut server)?;
    on_signal(&mut server, SIGHUP, |state, _| state.reload())?;
    for signal in [SIGTERM, SIGINT] {
        on_signal(&mut server, signal, |state, control| {
            tell(NotifyState::Stopping);
            // The number of descriptors that the service manager keeps (`FileDescriptorStoreMax=`).
            state.is_replaced = env::var("FDSTORE").is_ok_and(|most| most != "0");
            if state.is_replaced {
                control.stop();
            } else {
                control.shut_down(GRACE);
            }
        })?;
    }
    // The watchdog messages are sent from the loop, so they stop when it does.
    if let Some(limit) = sd_notify::watchdog_enabled() {
        server.every(limit / 2, |_, _| tell(NotifyState::Watchdog))?;
    }
    leave_when_idle(&mut server, Duration::try_from_secs_f64(seconds)?)?;
    tell(NotifyState::Ready);
    server.run(&mut state)?;
    if state.is_replaced {
        store(&server.hand_over(&mut state, GRACE)?)?;
    }
    Ok(())
}

/// Serves on the sockets that were passed. Those of the process before, if it was restarted, include the others.
fn adopt(server: &mut Server<State>) -> Result<(), Box<dyn Error>> {
    let mut sockets = sockets()?;
    if sockets.is_empty() {
        return Err("no sockets: have it started by its .socket units".into());
    }
    if let Some(stored) = sockets.iter().position(|(_, name)| name == STORED) {
        let handover = Handover::from_fd(sockets.swap_remove(stored).0)?;
        server.take_over(handover, serve)?;
        // The service manager's copy would be passed to the next process again.
        tell(NotifyState::Custom(&format!(
            "FDSTOREREMOVE=1\nFDNAME={STORED}"
        )));
        return Ok(());
    }
    for (socket, name) in sockets {
        serve(&name, server.adopt(socket)?.named(&*name))?;
    }
    Ok(())
}

/// Serves at an endpoint. `FileDescriptorName` says what its socket is for; the socket knows its kind.
fn serve(name: &str, endpoint: Endpoint<'_, State>) -> Result<(), jsoncomm::Error> {
    let endpoint = endpoint.serve::<dyn Settings>();
    match name {
        "everyone" => {}
        "own" => {
            let own = geteuid().as_raw();
            let _ = endpoint.authorize(move |peer| [0, own].contains(&peer.uid()));
        }
        _ => {
            let _ = writeln!(io::stderr(), "nothing is served on a socket named {name}");
            endpoint.remove();
        }
    }
    Ok(())
}

/// Has the service manager keep all sockets for the next process.
fn store(handover: &Handover) -> Result<(), Box<dyn Error>> {
    let fd = handover.to_fd()?;
    // Without FDPOLL=0 it would drop a descriptor that has hung up, which this one has.
    let what = format!("FDSTORE=1\nFDNAME={STORED}\nFDPOLL=0");
    notify(&NotifyState::Custom(&what), Some(&fd))?;
    Ok(())
}

/// Takes over the sockets that the service manager has passed, with their names, as sd_listen_fds(3) describes. That
/// function would make them close-on-exec; [`inherited_fd`] does so with each that it takes over.
fn sockets() -> io::Result<Vec<(OwnedFd, String)>> {
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != process::id().to_string() {
        return Ok(Vec::new());
    }
    let count = variable("LISTEN_FDS").parse().unwrap_or(0);
    let names = variable("LISTEN_FDNAMES");
    // The default name of a socket.
    let names = names.split(':').chain(iter::repeat("unknown"));
    (3..)
        .take(count)
        .zip(names)
        .map(|(number, name)| Ok((inherited_fd(number)?, name.to_owned())))
        .collect()
}

/// Notifies the service manager, if there is one. Logs a failure.
fn tell(what: NotifyState<'_>) {
    if let Err(error) = notify(&what, None) {
        let _ = writeln!(io::stderr(), "NOTIFY_SOCKET: {error}");
    }
}

/// Sends a message as sd_notify(3) describes, with a descriptor if there is one. `sd_notify::notify` takes a name in the
/// abstract namespace, which begins with `@`, for a path.
fn notify(what: &NotifyState<'_>, fd: Option<&OwnedFd>) -> io::Result<()> {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match socket.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&socket)?,
    };
    let text = format!("{what}\n");
    let manager = UnixDatagram::unbound()?;
    manager.connect_addr(&address)?;
    let fds: Vec<_> = fd.into_iter().map(AsFd::as_fd).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let parts = [IoSlice::new(text.as_bytes())];
    sendmsg(&manager, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Runs `call` on the loop when the signal arrives.
fn on_signal(
    server: &mut Server<State>,
    signal: i32,
    mut call: impl FnMut(&mut State, &mut Control<State>) + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let (signals, raise) = UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, raise)?;
    let mut unread = signals.try_clone()?;
    server.watch(signals, move |state, control| {
        // Signals that arrive before this are coalesced.
        let _ = io::copy(&mut unread, &mut io::sink());
        call(state, control);
    })?;
    Ok(())
}

/// Exits after this long without a message, a connection or a pending call.
///
/// It exits without `shut_down`: new messages stay in the sockets, which the service manager holds as well, and start
/// the next instance.
fn leave_when_idle(server: &mut Server<State>, idle: Duration) -> Result<(), jsoncomm::Error> {
    let before = server.counts().received;
    server.after(idle, move |_, control| {
        control.post(move |server| {
            let stats = server.stats();
            let busy = stats.connections + stats.deferred + stats.backlog;
            if busy == 0 && stats.counts.received == before {
                tell(NotifyState::Stopping);
                server.handle().stop();
            } else {
                // If there is no timer, the service runs until it is stopped.
                let _ = leave_when_idle(server, idle);
            }
        });
    })?;
    Ok(())
}
