//! Polite clients, which make calls and check every reply.

use std::fs::File;
use std::os::fd::AsFd;

use jsoncomm::client::PendingCall;
use jsoncomm::{CallError, Connection, Fault};
use rustix::fs::fstat;

use crate::raw::pipe;
use crate::server::WorkClient;
use crate::tally::Client;
use crate::{PATIENCE, Trouble};

/// Connects, and makes a few hundred calls of all kinds.
pub(crate) fn act(client: &mut Client) -> Result<(), Trouble> {
    let connection = Connection::connect(&client.path, client.kind)?;
    let work = WorkClient::new(connection.with_timeout(PATIENCE));
    for _ in 0..client.random.below(500) {
        if client.is_over() {
            break;
        }
        one(client, &work)?;
    }
    Ok(())
}

/// Makes one call, or a few that belong together.
pub(crate) fn one(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    match client.random.below(10) {
        0..3 => echo(client, work),
        3 => many(client, work),
        4 => swap(client, work),
        5 => later(client, work),
        6 => count(client, work),
        7 => copies(client, work),
        8 => tell(client, work),
        _ => faults(client, work),
    }
}

/// Sends texts of all sizes; the larger ones do not fit into a datagram.
fn text(client: &mut Client) -> String {
    let most = match client.random.below(20) {
        0 => 1_000_000,
        1..5 => 100_000,
        _ => 200,
    };
    "x".repeat(client.random.size(most))
}

fn echo(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let text = text(client);
    if work.echo(&text)? != text {
        return Err("another text came back".into());
    }
    client.tally.count("echo");
    Ok(())
}

fn many(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let texts: Vec<String> = (0..client.random.below(32))
        .map(|number| number.to_string().repeat(50))
        .collect();
    let calls = texts.iter().map(|text| work.start().echo(text));
    let calls: Vec<PendingCall<String>> = calls.collect::<Result<_, _>>()?;
    for (call, text) in calls.into_iter().zip(&texts).rev() {
        if call.wait()? != *text {
            return Err("the reply to another call came".into());
        }
    }
    client
        .tally
        .count_many("echo in flight", texts.len() as u64);
    Ok(())
}

fn swap(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let files = (0..=client.random.below(6)).map(|_| pipe());
    let files: Vec<_> = files.collect::<Result<_, _>>()?;
    let ends: Vec<_> = files.iter().map(|(end, _)| end.as_fd()).collect();
    let back = work.swap(&ends)?.files;
    let same = |(back, end): (&_, &_)| -> Result<bool, Trouble> { Ok(inode(back)? == inode(end)?) };
    for pair in back.iter().zip(&ends) {
        if !same(pair)? {
            return Err("another descriptor came back".into());
        }
    }
    if back.len() != ends.len() {
        return Err("not as many descriptors came back".into());
    }
    client.tally.count("swap");
    Ok(())
}

fn inode(file: &impl AsFd) -> Result<u64, Trouble> {
    Ok(fstat(file)?.st_ino)
}

fn later(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let random = &mut client.random;
    let numbers: Vec<u64> = (0..=random.below(15)).collect();
    let calls = numbers
        .iter()
        .map(|n| work.start().later(*n, random.below(20)));
    let mut calls: Vec<PendingCall<u64>> = calls.collect::<Result<_, _>>()?;
    // Some are cancelled.
    let given_up = calls.split_off(random.size(calls.len() + 1));
    for (number, call) in (0..).zip(calls) {
        if call.wait()? != number {
            return Err("another number came".into());
        }
        client.tally.count("deferred");
    }
    client
        .tally
        .count_many("deferred, cancelled", given_up.len() as u64);
    Ok(())
}

fn count(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let end = client.random.below(200);
    let mut next = 0;
    for number in work.count(end)? {
        if number? != next {
            return Err("a number of the stream is lost".into());
        }
        next += 1;
    }
    if next != end {
        return Err("the end of the stream is lost".into());
    }
    client.tally.count("stream, read to its end");
    Ok(())
}

fn copies(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let null = File::open("/dev/null")?;
    let count = client.random.below(20);
    // Half of them are dropped early.
    let take = count >> client.random.below(2);
    let mut items = work.copies(count, &null)?;
    for number in 0..take {
        let item = items.next().ok_or("the stream is too short")??;
        if item.number != number || inode(&item.file)? != inode(&null)? {
            return Err("another descriptor came".into());
        }
    }
    client.tally.count("stream of descriptors");
    Ok(())
}

/// Sends one end of a pipe; when the server has closed it, the pipe has an end of file.
fn tell(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let (near, far) = pipe()?;
    work.tell(&far)?;
    drop(far);
    // Calls of one connection are read in order. Waiting for the pipe would deadlock: while replies of a stream are
    // unread, the server reads nothing from this connection.
    work.waiting()?;
    rustix::io::ioctl_fionbio(&near, true)?;
    if !matches!(rustix::io::read(&near, &mut [0]), Ok(0)) {
        return Err("a descriptor was not closed".into());
    }
    client.tally.count("one-way");
    Ok(())
}

/// Makes calls that fail, and checks their faults.
fn faults(client: &mut Client, work: &WorkClient) -> Result<(), Trouble> {
    let (what, wanted, reply) = match client.random.below(2) {
        0 => ("fault: dropped", Fault::NO_REPLY, work.forget()),
        _ => ("fault: handler", Fault::INTERNAL_ERROR, work.panic()),
    };
    match reply {
        Err(CallError::Fault(fault)) if fault.code == wanted => client.tally.count(what),
        other => return Err(format!("{what} was {other:?}").into()),
    }
    Ok(())
}
