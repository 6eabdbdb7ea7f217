//! futures-util = { version = "0.3", default-features = false }
//! tarpc = { version = "0.38", features = ["serde1", "serde-transport", "serde-transport-json", "tokio1", "unix"] }
//! tokio = { version = "1", default-features = false, features = ["net", "rt"] }

use futures_util::StreamExt;
use tarpc::context::Context;
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Json;

#[tarpc::service]
trait Adder {
    async fn add(a: u64, b: u64) -> u64;
}

#[derive(Clone)]
struct Desk;

impl Adder for Desk {
    async fn add(self, _: Context, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut incoming = unix::listen(path, Json::default).await?;
        while let Some(transport) = incoming.next().await {
            let channel = BaseChannel::with_defaults(transport?);
            tokio::spawn(channel.execute(Desk.serve()).for_each(|response| async {
                tokio::spawn(response);
            }));
        }
        Ok(())
    })
}
