//! `jsoncomm peer`: who answers at an address.

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

/// What the kernel keeps of `SO_SNDBUF` for itself, in bytes (measured on Linux 6.18).
const SNDBUF_OVERHEAD: usize = 32;

/// A call that every server answers, if only with a fault: the kernel says who sends the answer.
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
    // It may be another process by now, or one whose program is none of our business.
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
    output::answer(&about.to_string())
}

/// Has the server say something. One that answers nothing is known by who called listen(2), if at all.
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
