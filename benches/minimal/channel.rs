//! ipc-channel = "0.23.1"

use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let (server, name) = IpcOneShotServer::<(IpcReceiver<(u64, u64)>, IpcSender<u64>)>::new()?;
    std::fs::write(path, name)?;
    let (_, (asks, tells)) = server.accept()?;
    loop {
        let (a, b) = asks.recv()?;
        tells.send(a.wrapping_add(b))?;
    }
}
