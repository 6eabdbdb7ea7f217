//! Clients that are slow, and clients that die.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;

use jsoncomm::client::PendingCall;
use jsoncomm::stream::Items;
use jsoncomm::{CallError, Connection, Error};
use rustix::net::{Shutdown, shutdown};

use crate::raw::{Raw, call};
use crate::server::WorkClient;
use crate::tally::Client;
use crate::{PATIENCE, Trouble, polite};

/// Leaves a stream and replies unread for a while. All arrive in the end, except the items of the stream, which may end
/// with a fault because it was read too late.
pub(crate) fn slow(client: &mut Client) -> Result<(), Trouble> {
    let connection = Connection::connect(&client.path, client.kind)?;
    let work = WorkClient::new(connection.with_timeout(PATIENCE));
    let mut stream = work.count(u64::MAX)?;
    for _ in 0..client.random.below(10) {
        read_some(client, &mut stream)?;
        let text = "x".repeat(4096);
        let calls = (0..client.random.below(200)).map(|_| work.start().echo(&text));
        let calls: Vec<PendingCall<String>> = calls.collect::<Result<_, _>>()?;
        client.idle(200);
        client
            .tally
            .count_many("echo, read late", calls.len() as u64);
        for call in calls {
            if call.wait()? != text {
                return Err("another text came back".into());
            }
        }
        polite::one(client, &work)?;
        if client.is_over() {
            break;
        }
    }
    Ok(())
}

fn read_some(client: &mut Client, stream: &mut Items<u64>) -> Result<(), Trouble> {
    for _ in 0..client.random.below(20) {
        match stream.next() {
            Some(Ok(_)) => client.tally.count("item of an endless stream"),
            Some(Err(CallError::Io(Error::Full))) => client.tally.count("stream ended: full"),
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    Ok(())
}

/// Makes calls and disconnects at any point: while calls, replies, streams and descriptors are in flight.
pub(crate) fn dying(client: &mut Client) -> Result<(), Trouble> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let null = File::open("/dev/null")?;
    let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(50_000));
    for id in 0..client.random.below(30) {
        let (method, params, fds) = match client.random.below(6) {
            0 => ("swap", r#"{"files":[0,1]}"#, 2),
            1 => ("copies", r#"{"count":1000000,"file":0}"#, 1),
            2 => ("count", r#"{"end":1000000}"#, 0),
            3 => ("later", r#"{"number":1,"millis":10}"#, 0),
            4 => ("never", "{}", 0),
            _ => ("echo", big.as_str(), 0),
        };
        let fds: Vec<_> = (0..fds).map(|_| null.as_fd()).collect();
        // There is no room while the server waits for this client to read.
        if raw.try_send(&call(id, method, params), &fds).is_err() {
            break;
        }
        client.tally.count("call, maybe without a reply");
        if client.random.once_in(10) {
            // There may be only replies to calls before the last.
            let _ = raw.receive();
        }
    }
    if client.random.once_in(4) {
        let half = [Shutdown::Read, Shutdown::Write, Shutdown::Both];
        let half = half.get(client.random.size(3)).copied();
        shutdown(&raw.0, half.unwrap_or(Shutdown::Both))?;
    }
    client.idle(5);
    client.tally.count("death");
    Ok(())
}

/// Disconnects while its calls are in flight. The server notices when it sends a reply, so these calls get theirs at
/// once or soon.
pub(crate) fn dying_datagram(client: &mut Client) -> Result<(), Trouble> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let null = File::open("/dev/null")?;
    for id in 0..client.random.below(10) {
        let (method, params, fds) = match client.random.below(3) {
            0 => ("swap", r#"{"files":[0]}"#, 1),
            1 => ("later", r#"{"number":1,"millis":10}"#, 0),
            _ => ("echo", r#"{"text":"x"}"#, 0),
        };
        let fds: Vec<_> = (0..fds).map(|_| null.as_fd()).collect();
        match raw.send(&call(id, method, params), &fds) {
            // There was no room for a while: all clients share one receive queue.
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            sent => sent?,
        }
        client.tally.count("call, maybe without a reply");
    }
    client.idle(20);
    client.tally.count("death");
    Ok(())
}
