//! `jsoncomm peer`: which process serves an address.

use std::fs;

use jsoncomm::message::RawMessage;
use jsoncomm::socket::{DATAGRAM_MAX, Socket};
use jsoncomm::{Error, Kind};
use rustix::net::sockopt::{set_socket_passcred, socket_send_buffer_size};

use crate::args::Peer;
use crate::deadline::{Clock, Deadline};
use crate::json::Json;
use crate::problem::Problem;
use crate::{output, standard, words};

/// The part of `SO_SNDBUF` that the kernel uses itself, in bytes (measured on Linux 6.18).
const SNDBUF_OVERHEAD: usize = 32;

/// A call that every server replies to, if only with a fault: the kernel reports who sends the reply.
const QUESTION: &str = r#"{"jsonrpc":"2.0","id":1,"method":"rpc.peer"}"#;

pub(crate) fn run(peer: Peer) -> Result<(), Problem> {
    let (place, words) = words::read(peer.words)?;
    words.end()?;
    standard::check_output()?;
    let deadline = Clock::start(peer.reach.timeout).calling();
    let mut link = place.reach(&peer.reach, deadline)?;
    let socket = &mut link.end;
    let found = ask(socket, deadline)?;
    let kind = match socket.kind() {
        Kind::Seqpacket => "seqpacket",
        Kind::Datagram => "datagram",
    };
    let unknown = || Json::Scalar("null".into());
    let number = |number: Option<u32>| number.map_or_else(unknown, Json::number);
    let pid = found.as_ref().and_then(jsoncomm::Peer::pid);
    // The number may be reused by now, or we may not see the process's program.
    let program = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    let program = program.map(|path| Json::string(&path.to_string_lossy()));
    let buffer = socket_send_buffer_size(&*socket).map_err(Problem::here("getsockopt"))?;
    let inline = buffer.saturating_sub(SNDBUF_OVERHEAD).min(DATAGRAM_MAX);
    let about = Json::object([
        ("kind", Json::string(kind)),
        ("uid", number(found.as_ref().map(jsoncomm::Peer::uid))),
        ("gid", number(found.as_ref().and_then(jsoncomm::Peer::gid))),
        ("pid", number(pid)),
        ("executable", program.unwrap_or_else(unknown)),
        ("send_buffer", Json::number(buffer)),
        ("largest_inline", Json::number(inline)),
    ]);
    output::result(&about.to_string())
}

/// Makes the server send a reply. A server that sends none is identified by the process that called listen(2), if at all.
fn ask(socket: &mut Socket, deadline: Deadline) -> Result<Option<jsoncomm::Peer>, Problem> {
    set_socket_passcred(&*socket, true).map_err(Problem::here("setsockopt"))?;
    socket.set_timeout(deadline.left());
    socket
        .send(&RawMessage::new(QUESTION))
        .map_err(Problem::of_socket)?;
    loop {
        socket.set_timeout(deadline.left());
        match socket.receive_raw() {
            Ok((raw, _)) => return Ok(raw.peer),
            Err(Error::Deadline | Error::Closed) if socket.peer().is_some() => {
                return Ok(socket.peer());
            }
            Err(error) if error.is_bad_message() => {}
            Err(error) => return Err(Problem::of_socket(error)),
        }
    }
}
