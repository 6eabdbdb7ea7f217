//! tokio = { version = "1", default-features = false, features = ["net", "rt"] }
//! zbus = { version = "6.2.1", default-features = false, features = ["p2p", "service", "tokio"] }

use zbus::{Guid, connection::Builder};

struct Desk;

#[zbus::interface(name = "bench.Adder")]
impl Desk {
    fn add(&self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(path)?;
        let mut connections = Vec::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let builder = Builder::unix_stream(stream.into_std()?).p2p();
            let builder = builder.server(Guid::generate()).serve_at("/adder", Desk);
            connections.push(builder.build().await?);
        }
    })
}
