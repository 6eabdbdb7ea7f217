//! rustix = { version = "1.1.6", default-features = false, features = ["std", "net", "event"] }
//! serde = { version = "1.0.229", features = ["derive"] }
//! serde_json = "1.0.154"

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, accept, bind, listen, recv,
    send, socket,
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Call<'a> {
    id: u64,
    method: &'a str,
    params: Add,
}

#[derive(Deserialize)]
struct Add {
    a: u64,
    b: u64,
}

#[derive(Serialize)]
struct Answer {
    jsonrpc: &'static str,
    id: u64,
    result: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: adder PATH")?;
    let door = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    bind(&door, &SocketAddrUnix::new(path.as_str())?)?;
    listen(&door, 4096)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &door, EventData::new_u64(u64::MAX), EventFlags::IN)?;
    let mut clients: Vec<Option<OwnedFd>> = Vec::new();
    let (mut events, mut room, mut out) = (Vec::with_capacity(64), vec![0; 4096], Vec::new());
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let place = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(slot) = clients.get_mut(place) else {
                let client = accept(&door)?;
                let data = EventData::new_u64(clients.len() as u64);
                epoll::add(&poll, &client, data, EventFlags::IN)?;
                clients.push(Some(client));
                continue;
            };
            let Some(client) = slot else { continue };
            let (length, _) = recv(&*client, &mut room[..], RecvFlags::empty())?;
            match serde_json::from_slice::<Call<'_>>(&room[..length]) {
                Ok(call) if call.method == "bench.adder.add" => {
                    let result = call.params.a.wrapping_add(call.params.b);
                    let (jsonrpc, id) = ("2.0", call.id);
                    out.clear();
                    serde_json::to_writer(
                        &mut out,
                        &Answer {
                            jsonrpc,
                            id,
                            result,
                        },
                    )?;
                    send(&*client, &out, SendFlags::NOSIGNAL)?;
                }
                _ => *slot = None,
            }
        }
    }
}
