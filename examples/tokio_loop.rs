//! A server and its client in a tokio runtime of one thread: the descriptor of each is an `AsyncFd`, a task may send
//! the reply to a call, and a call is a future.
//!
//! Run it with `cargo run --example tokio_loop --features tokio`.

use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use std::{env, process};

use jsoncomm::{Call, Connection, Deferred, Kind, Limits, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::{runtime, task};

#[jsoncomm::service(name = "example.hello")]
trait Hello {
    fn greet(&mut self, call: &mut Call, name: &str) -> Deferred<String>;
}

struct Polite;

impl Hello for Polite {
    fn greet(&mut self, call: &mut Call, name: &str) -> Deferred<String> {
        let greeting = format!("Good day, {name}!");
        call.defer(|reply| {
            task::spawn(async move {
                task::yield_now().await; // a real one would wait for something here
                reply.send(greeting);
            });
        })
    }
}

/// Registers a duplicate of a descriptor with the runtime: the same epoll instance or socket.
fn watch(fd: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let duplicate = fd.as_fd().try_clone_to_owned()?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe, and an OwnedFd keeps what that asks for"
    )]
    AsyncFd::with_interest(duplicate, Interest::READABLE)
}

/// Runs a server until it is stopped. The future may be dropped at any time; no call is lost.
async fn serve<S>(server: &mut Server<S>, state: &mut S) -> Result<(), Box<dyn Error>> {
    let epoll = watch(server)?;
    loop {
        let mut ready = epoll.readable().await?;
        if server.run_once(state, Some(Duration::ZERO))? == ControlFlow::Break(()) {
            return Ok(());
        }
        // tokio uses edge-triggered epoll (EPOLLET), which does not report the work that a turn leaves. So the
        // readiness is kept until poll(2) finds the descriptor unreadable. Whatever arrives after that is a new edge.
        let mut fds = [PollFd::new(&epoll, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec::default()))? {
            0 => ready.clear_ready(),
            _ => ready.retain_ready(),
        }
        task::yield_now().await; // a busy server lets other tasks run
    }
}

/// Receives the replies of a connection until the server disconnects and its calls have failed.
async fn drive(connection: Connection) -> io::Result<()> {
    let socket = watch(&connection)?;
    loop {
        let mut ready = socket.readable().await?;
        match connection.run_once() {
            Ok(true) => ready.retain_ready(),
            Ok(false) => ready.clear_ready(),
            Err(_) => return Ok(()),
        }
    }
}

/// The client. Its calls have no deadline; otherwise `drive` would wait for `Connection::next_deadline`, too.
async fn client(connection: Connection) -> Result<(), Box<dyn Error + Send + Sync>> {
    connection.set_driven();
    let hello = HelloClient::new(connection.without_timeout()).start();
    task::spawn(drive(connection));
    for call in ["Ada", "Grace", "Mary"].map(|name| hello.greet(name)) {
        writeln!(io::stdout(), "{}", call?.await?)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("tokio_loop-{}.sock", process::id()));
    let mut server = Server::new(Limits::default())?;
    server.bind(&path, Kind::Seqpacket)?.serve::<dyn Hello>();
    let (handle, connection) = (server.handle(), Connection::open(&path)?);
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let client = task::spawn(async move {
            let done = client(connection).await;
            handle.stop();
            done
        });
        serve(&mut server, &mut Polite).await?;
        client.await?.map_err(|error| -> Box<dyn Error> { error })
    })?;
    let handled = server.counts().handled;
    writeln!(io::stdout(), "calls served from tokio: {handled}")?;
    Ok(())
}
