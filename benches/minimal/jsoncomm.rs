//! jsoncomm = { path = "JSONCOMM" }

use jsoncomm::{Kind, Limits, Server};

#[jsoncomm::service(name = "bench.adder")]
trait Adder {
    fn add(&mut self, a: u64, b: u64) -> u64;
}

struct Desk;

impl Adder for Desk {
    fn add(&mut self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let mut server = Server::new(Limits::default())?;
    server
        .bind(path.as_str(), Kind::Seqpacket)?
        .serve::<dyn Adder>();
    server.run(&mut Desk)?;
    Ok(())
}
