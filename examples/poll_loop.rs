//! A server in a program's own loop around poll(2): the server's descriptor is one of several, and the server runs a
//! turn when it is readable. The other descriptor here is a socket that receives new greetings.
//!
//! Run it with `cargo run --example poll_loop`.

use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use std::{env, process, thread};

use jsoncomm::{Connection, Kind, Limits, Server};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

#[jsoncomm::service(name = "example.hello")]
trait Hello {
    fn greet(&mut self, name: &str) -> String;
}

struct Greeter {
    greeting: String,
}

impl Hello for Greeter {
    fn greet(&mut self, name: &str) -> String {
        format!("{}, {name}!", self.greeting)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("poll_loop-{}.sock", process::id()));
    let mut server = Server::new(Limits::default())?;
    server.bind(&path, Kind::Seqpacket)?.serve::<dyn Hello>();
    let (greetings, far) = UnixDatagram::pair()?;
    let handle = server.handle();
    let client = thread::spawn(move || {
        let done = client(&path, &far).map_err(|error| error.to_string());
        handle.stop();
        done
    });

    let greeting = "Good day".into();
    let mut greeter = Greeter { greeting };
    loop {
        let mut fds = [
            PollFd::new(&server, PollFlags::IN),
            PollFd::new(&greetings, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [serve, greet] = fds.map(|fd| fd.revents().contains(PollFlags::IN));
        // One turn. If work is left, the descriptor stays readable.
        if serve && server.run_once(&mut greeter, Some(Duration::ZERO))? == ControlFlow::Break(()) {
            break;
        }
        if greet {
            let mut text = [0; 64];
            let len = greetings.recv(&mut text)?;
            let text = text.get(..len).unwrap_or_default();
            greeter.greeting = String::from_utf8_lossy(text).into_owned();
            greetings.send(b"taken")?;
        }
    }
    client.join().map_err(|_| "the client panicked")??;
    let handled = server.counts().handled;
    writeln!(io::stdout(), "calls served from poll(2): {handled}")?;
    Ok(())
}

/// The client: calls, changes the greeting through the other socket, and calls again.
fn client(path: &Path, greetings: &UnixDatagram) -> Result<(), Box<dyn Error>> {
    let hello = HelloClient::new(Connection::open(path)?);
    writeln!(io::stdout(), "{}", hello.greet("Ada")?)?;
    greetings.send(b"Welcome back")?;
    greetings.recv(&mut [0; 8])?; // it has been received
    writeln!(io::stdout(), "{}", hello.greet("Ada")?)?;
    Ok(())
}
