//! Times calls, one after another on one connection.
//!
//! ```text
//! cargo run --release --example ping              both sides, in two processes
//! ping serve PATH [--datagram]                    only the server, for example under strace -c
//! ping call PATH COUNT                            only the client
//! ```

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jsoncomm::{Connection, Kind, Limits, Server};

/// A minimal service.
#[jsoncomm::service(name = "example.ping")]
trait Ping {
    /// Adds one.
    fn ping(&mut self, n: u64) -> u64;
    /// Ends the server.
    #[oneway]
    fn stop(&mut self);
}

struct Pong {
    handle: jsoncomm::server::ServerHandle<Self>,
}

impl Ping for Pong {
    fn ping(&mut self, n: u64) -> u64 {
        n.wrapping_add(1)
    }

    fn stop(&mut self) {
        self.handle.stop();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", path] => serve(path.as_ref(), Kind::Seqpacket),
        ["serve", path, "--datagram"] => serve(path.as_ref(), Kind::Datagram),
        ["call", path, count] => call(path.as_ref(), count.parse()?),
        [] => both(),
        _ => Err("usage: ping [serve PATH [--datagram] | call PATH COUNT]".into()),
    }
}

fn serve(path: &Path, kind: Kind) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(Limits::default())?;
    server.bind(path, kind)?.serve::<dyn Ping>();
    let handle = server.handle();
    writeln!(io::stdout(), "ready")?;
    server.run(&mut Pong { handle })?;
    Ok(())
}

fn call(path: &Path, count: u32) -> Result<(), Box<dyn Error>> {
    let ping = PingClient::new(Connection::open(path)?);
    let mut times = Vec::new();
    for n in 0..count {
        let start = Instant::now();
        ping.ping(n.into())?;
        times.push(start.elapsed());
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    let micros = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e6;
    let (median, p99) = (micros(at(50)), micros(at(99)));
    writeln!(
        io::stdout(),
        "{count} calls, median {median:.1} us, p99 {p99:.1} us"
    )?;
    ping.stop()?;
    Ok(())
}

fn both() -> Result<(), Box<dyn Error>> {
    for kind in ["--seqpacket", "--datagram"] {
        let path = env::temp_dir().join(format!("ping-{}.sock", std::process::id()));
        let mut server = Command::new(env::current_exe()?)
            .arg("serve")
            .arg(&path)
            .args((kind == "--datagram").then_some(kind))
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = server.stdout.take().ok_or("no pipe")?;
        BufReader::new(stdout).read_line(&mut String::new())?;
        write!(io::stdout(), "{kind:12} ")?;
        call(&path, 20_000)?;
        server.wait()?;
    }
    Ok(())
}
