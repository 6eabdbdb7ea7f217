//! serde = { version = "1", features = ["derive"] }
//! tokio = { version = "1", default-features = false, features = ["net", "rt"] }
//! zlink = { version = "0.8", default-features = false, features = ["service", "tokio", "tracing"] }

use zlink::tokio::unix;
use zlink::{Server, introspect, service};

#[derive(Debug, serde::Serialize, serde::Deserialize, introspect::Type)]
struct Sum {
    sum: u64,
}

struct Desk;

#[service(interface = "bench.adder")]
impl Desk {
    async fn add(&mut self, a: u64, b: u64) -> Sum {
        Sum {
            sum: a.wrapping_add(b),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::new(unix::bind(path)?, Desk);
        Ok(server.run().await?)
    })
}
