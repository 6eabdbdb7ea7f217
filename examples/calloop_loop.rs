//! A server in a calloop event loop: its descriptor is a `Generic` source. A timer of the same loop shares the state
//! without a lock, and replies to calls between the server's turns.
//!
//! Run it with `cargo run --example calloop_loop --features calloop`.

use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use std::{env, process, thread};

use calloop::generic::Generic;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, Interest, LoopSignal, Mode, PostAction};
use jsoncomm::{Call, Connection, Deferred, Kind, Limits, Reply, Server};

#[jsoncomm::service(name = "example.clock")]
trait Clock {
    /// Replies with the number of the next tick when it happens.
    fn next(&mut self, call: &mut Call) -> Deferred<u32>;
}

#[derive(Default)]
struct Ticks {
    count: u32,
    waiting: Vec<Reply<u32>>,
}

impl Clock for Ticks {
    fn next(&mut self, call: &mut Call) -> Deferred<u32> {
        call.defer(|reply| self.waiting.push(reply))
    }
}

/// The data that calloop passes to every callback.
struct Program {
    server: Server<Ticks>,
    ticks: Ticks,
    signal: LoopSignal,
}

/// The server's descriptor is readable: runs one turn. If work is left, calloop calls again.
fn turn(program: &mut Program) -> io::Result<PostAction> {
    let turn = program
        .server
        .run_once(&mut program.ticks, Some(Duration::ZERO));
    if turn.map_err(io::Error::other)? == ControlFlow::Break(()) {
        program.signal.stop();
    }
    Ok(PostAction::Continue)
}

/// The timer has expired: replies to all waiting calls.
fn tick(ticks: &mut Ticks) -> TimeoutAction {
    ticks.count += 1;
    for reply in ticks.waiting.drain(..) {
        // This makes the server's descriptor readable; its next turn sends the reply.
        reply.send(ticks.count);
    }
    TimeoutAction::ToDuration(Duration::from_millis(5))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("calloop_loop-{}.sock", process::id()));
    let mut server = Server::new(Limits::default())?;
    server.bind(&path, Kind::Seqpacket)?.serve::<dyn Clock>();
    let handle = server.handle();

    let mut events = EventLoop::try_new()?;
    // The program owns the server, so the source gets a duplicate of its descriptor: the same epoll instance.
    let duplicate = server.as_fd().try_clone_to_owned()?;
    let source = Generic::new(duplicate, Interest::READ, Mode::Level);
    let sources = events.handle();
    sources.insert_source(source, |_, _, program| turn(program))?;
    let timer = Timer::from_duration(Duration::from_millis(5));
    sources.insert_source(timer, |_, (), program: &mut Program| {
        tick(&mut program.ticks)
    })?;

    let client = thread::spawn(move || {
        let done = client(&path).map_err(|error| error.to_string());
        handle.stop();
        done
    });
    let mut program = Program {
        server,
        ticks: Ticks::default(),
        signal: events.get_signal(),
    };
    events.run(None, &mut program, |_| {})?;
    client.join().map_err(|_| "the client panicked")??;
    let handled = program.server.counts().handled;
    writeln!(io::stdout(), "calls served from calloop: {handled}")?;
    Ok(())
}

/// The client: waits for two ticks in turn.
fn client(path: &Path) -> Result<(), Box<dyn Error>> {
    let clock = ClockClient::new(Connection::open(path)?);
    let (first, second) = (clock.next()?, clock.next()?);
    if first < second {
        Ok(writeln!(io::stdout(), "two ticks came, in order")?)
    } else {
        Err(format!("tick {second} came after tick {first}").into())
    }
}
