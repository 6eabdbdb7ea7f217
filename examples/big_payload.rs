//! Sends 16 MiB to a server, as JSON and as a descriptor. A JSON text that is too large for a datagram travels in a
//! memfd. It is written, copied and parsed, which the descriptor is not.
//!
//! Run it with `cargo run --release --example big_payload`. It also shows requests as an enum.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use jsoncomm::message::{Packer, encode};
use jsoncomm::{Call, Connection, Handler, Kind, Limits, Message, Reply, Server};
use rustix::fs::{MemfdFlags, memfd_create};

/// Asks for the sum of all bytes.
#[derive(Debug, Message)]
#[message(service = "example.sums", reply = Sum)]
enum Add {
    Text {
        text: String,
    },
    File {
        #[fd]
        file: File,
    },
}

#[derive(Debug, PartialEq, Eq, Message)]
struct Sum {
    sum: u64,
}

struct Adder;

impl Handler<Add> for Adder {
    fn handle(&mut self, _: &mut Call, ask: Add, reply: Reply<Sum>) {
        let sum = match ask {
            Add::Text { text } => sum(text.as_bytes()),
            Add::File { file } => match sum_of(&file) {
                Ok(sum) => sum,
                Err(_) => return, // dropping the reply sends a fault
            },
        };
        reply.send(Sum { sum });
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// Reads a file from its beginning. Its offset is shared with the caller, so it is not used. Reads nothing from a pipe
/// (`ESPIPE`), which could block.
fn sum_of(file: &File) -> io::Result<u64> {
    let (mut part, mut offset, mut total) = (vec![0; 256 << 10], 0, 0);
    loop {
        match file.read_at(&mut part, offset)? {
            0 => return Ok(total),
            length => {
                total += sum(part.get(..length).unwrap_or_default());
                offset += length as u64;
            }
        }
    }
}

/// Longest message in bytes: the text and its envelope.
const MESSAGE: usize = SIZE + 1024;
const SIZE: usize = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("big_payload-{}.sock", process::id()));
    let mut limits = Limits::default();
    limits.message = MESSAGE;
    let mut server = Server::new(limits)?;
    server.bind(&path, Kind::Seqpacket)?.handle::<Add>();
    let handle = server.handle();
    let client = thread::spawn(move || {
        let done = client(&path).map_err(|error| error.to_string());
        handle.stop();
        done
    });
    server.run(&mut Adder)?;
    client.join().map_err(|_| "the client panicked")??;
    let spilled = server.counts().large_messages;
    writeln!(io::stdout(), "messages that came in a memfd: {spilled}")?;
    Ok(())
}

fn client(path: &Path) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(path)?;
    connection.set_message_limit(MESSAGE);
    let text = "0123456789abcdef".repeat(SIZE / 16);
    let mut file = File::from(memfd_create("payload", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    let expected = Sum {
        sum: sum(text.as_bytes()),
    };

    let mut out = io::stdout();
    let mut times = Vec::new();
    for (name, ask) in [
        ("as JSON", Add::Text { text }),
        ("as a descriptor", Add::File { file }),
    ] {
        let (mut json, fds) = (Vec::new(), Packer::new());
        encode(&ask, &mut json, &fds)?;
        let (bytes, count) = (json.len(), fds.len());
        let took = (0..3).map(|_| {
            let begun = Instant::now();
            let sum = connection.request(&ask)?;
            (sum == expected)
                .then(|| begun.elapsed())
                .ok_or("another sum".into())
        });
        let took: Vec<Duration> = took.collect::<Result<_, Box<dyn Error>>>()?;
        times.extend(took.into_iter().min());
        writeln!(
            out,
            "{name}: {bytes} bytes of JSON, {count} descriptors, the same sum"
        )?;
    }
    if let [json, descriptor] = *times {
        let ratio = json.as_secs_f64() / descriptor.as_secs_f64();
        writeln!(out, "as JSON it took {ratio:.1} times as long")?;
    }
    Ok(())
}
