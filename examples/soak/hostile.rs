//! Hostile clients. Each attack is one bout: it connects, attacks for a while, and disconnects.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::sockopt::set_socket_linger;

use crate::Trouble;
use crate::raw::{Raw, call, cancel, pipe};
use crate::tally::Client;

/// An attack: its name, and the function that runs it.
pub(crate) type Attack = (&'static str, fn(&mut Client) -> io::Result<()>);

/// All attacks; there is one client for each.
pub(crate) const ATTACKS: [Attack; 12] = [
    ("malformed messages", malformed),
    ("253 descriptors", descriptors),
    ("calls, replies unread", deaf),
    ("calls, replies read", busy),
    ("texts of 1 MB", heavy),
    ("wrong ids", ids),
    ("cancels", cancels),
    ("half messages, bad memfds", halves),
    ("connects and disconnects", visitors),
    ("lingering descriptors", lingering),
    ("streams unread", streams),
    ("deferred calls", waiting),
];

/// The attacks that a datagram server withstands for its other clients, as documented: those that read their replies at
/// once.
const ON_DATAGRAMS: [usize; 4] = [0, 1, 5, 7];

pub(crate) fn act(client: &mut Client) -> Result<(), Trouble> {
    bout(client, client.number);
    // A client that reconnects all the time delays others that connect, and the test would do little.
    client.idle(50);
    Ok(())
}

pub(crate) fn act_datagram(client: &mut Client) -> Result<(), Trouble> {
    let choice = client.random.size(ON_DATAGRAMS.len());
    bout(client, ON_DATAGRAMS.get(choice).copied().unwrap_or(0));
    client.idle(5);
    Ok(())
}

/// Runs one bout. How it ends for the attacker does not matter.
pub(crate) fn bout(client: &mut Client, number: usize) {
    let Some((name, attack)) = ATTACKS.get(number % ATTACKS.len()) else {
        return;
    };
    let end = match attack(client) {
        Ok(()) => "",
        Err(error) if is_cut(&error) => ": disconnected",
        Err(error) if error.kind() == ErrorKind::WouldBlock => ": no reply",
        Err(error) => return client.tally.wrong(&format!("{name}: {error}")),
    };
    client.tally.count(&format!("{name}{end}"));
}

fn is_cut(error: &io::Error) -> bool {
    let kinds = [
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionReset,
        ErrorKind::UnexpectedEof,
    ];
    kinds.contains(&error.kind())
}

/// How long a bout lasts.
fn end(client: &mut Client) -> Instant {
    let most = u64::try_from(client.bout.as_millis()).unwrap_or(0);
    let time = Duration::from_millis(most / 2 + client.random.below(most / 2));
    client.until.min(Instant::now() + time)
}

/// Counts a reply by its fault.
fn note(client: &mut Client, reply: &str) {
    let code = reply.split_once(r#""error":{"code":"#).map(|(_, rest)| {
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    });
    match code {
        Some(code) => client.tally.count(&format!("fault {code}")),
        None => client.tally.count("reply"),
    }
}

fn ask(client: &mut Client, raw: &Raw, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    raw.send(text, fds)?;
    let reply = raw.receive()?;
    note(client, &reply);
    Ok(())
}

fn malformed(client: &mut Client) -> io::Result<()> {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":{}"#,
        "[".repeat(50_000)
    );
    let texts: [&[u8]; 10] = [
        b"{",
        b"[]",
        b"nul",
        b"\xEF\xBB\xBF{}",
        b"{\"id\":\"\xFF\"}",
        br#"{"jsonrpc":"2.0","id":1e400,"method":"soak.work.never"}"#,
        br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"soak.work.never"}"#,
        br#"{"jsonrpc":"2.0","id":1,"method":"soak.work.none","params":{}}"#,
        br#"{"jsonrpc":"2.0","id":1,"method":"soak.work.waiting","params":{"x":1}}"#,
        deep.as_bytes(),
    ];
    let raw = Raw::connect(&client.path, client.kind)?;
    for _ in 0..20 {
        let text = texts.get(client.random.size(texts.len()));
        ask(client, &raw, text.copied().unwrap_or_default(), &[])?;
    }
    Ok(())
}

fn descriptors(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let null = File::open("/dev/null")?;
    let fds = vec![null.as_fd(); 253];
    for id in 0..5 {
        ask(client, &raw, &call(id, "waiting", "{}"), &fds)?;
    }
    Ok(())
}

/// Sends while there is room, and reads nothing.
fn deaf(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let (end, null) = (end(client), File::open("/dev/null")?);
    let echo = call(1, "echo", &format!(r#"{{"text":"{}"}}"#, "x".repeat(2000)));
    let swap = call(2, "swap", r#"{"files":[0]}"#);
    while Instant::now() < end {
        let sent = if client.random.once_in(2) {
            raw.try_send(&swap, &[null.as_fd()])
        } else {
            raw.try_send(&echo, &[])
        };
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            sent => sent?,
        }
    }
    Ok(())
}

fn busy(client: &mut Client) -> io::Result<()> {
    pelt(client, &call(1, "echo", r#"{"text":"x"}"#), &[])
}

/// Keeps 32 calls in flight, as many as are read in one turn.
fn pelt(client: &mut Client, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let end = end(client);
    for _ in 0..32 {
        raw.send(text, fds)?;
    }
    while Instant::now() < end {
        let reply = raw.receive()?;
        note(client, &reply);
        raw.send(text, fds)?;
    }
    Ok(())
}

/// Sends the largest messages, in memfds.
fn heavy(client: &mut Client) -> io::Result<()> {
    let params = if client.random.once_in(2) {
        format!(r#"{{"files":[{}0]}}"#, "0,".repeat(500_000))
    } else {
        format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000_000))
    };
    let memfd = memfd_create("soak", MemfdFlags::CLOEXEC)?;
    let mut memfd = File::from(memfd);
    memfd.write_all(&call(1, "echo", &params))?;
    pelt(client, b"<args-via-fd>", &[memfd.as_fd()])
}

/// Sends replies without a call, calls that share an id, and ids of every kind.
fn ids(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    for _ in 0..10 {
        let id = client.random.next();
        raw.send(
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":7}}"#).as_bytes(),
            &[],
        )?;
        let id = ["null", "-1", r#""\ud800""#, r#""x""#, "[]", "1.5"]
            .get(client.random.size(6))
            .copied();
        let (start, rest) = (
            r#"{"jsonrpc":"2.0","id":"#,
            r#","method":"soak.work.waiting"}"#,
        );
        let text = format!("{start}{}{rest}", id.unwrap_or_default());
        ask(client, &raw, text.as_bytes(), &[])?;
        for _ in 0..2 {
            raw.send(&call(7, "later", r#"{"number":1,"millis":1}"#), &[])?;
        }
        for _ in 0..2 {
            let reply = raw.receive()?;
            note(client, &reply);
        }
    }
    Ok(())
}

fn cancels(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let end = end(client);
    while Instant::now() < end {
        let id = client.random.below(8);
        raw.send(&call(id, "never", "{}"), &[])?;
        for id in (0..8).filter(|_| client.random.once_in(2)) {
            raw.send(&cancel(id), &[])?;
        }
        raw.send(&cancel(id), &[])?;
        // At least this call was cancelled.
        let reply = raw.receive()?;
        note(client, &reply);
    }
    Ok(())
}

/// Sends half a message, none, and payloads that are too large, missing, or not in a memfd.
fn halves(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let whole = call(1, "echo", r#"{"text":"xxxxxxxxxxxxxxxxxxxxxxxx"}"#);
    let half = whole
        .get(..client.random.size(whole.len()))
        .unwrap_or_default();
    // Reading this one would never end.
    let (tap, _sink) = pipe()?;
    let sparse = memfd_create("soak", MemfdFlags::CLOEXEC)?;
    ftruncate(&sparse, 1 << 40)?;
    let fds: [&[BorrowedFd<'_>]; 4] = [&[], &[tap.as_fd()], &[sparse.as_fd()], &[raw.0.as_fd()]];
    for fds in fds {
        ask(client, &raw, b"<args-via-fd>", fds)?;
    }
    raw.send(half, &[])?;
    Ok(())
}

fn visitors(client: &mut Client) -> io::Result<()> {
    for number in 0..20 {
        let raw = Raw::connect(&client.path, client.kind)?;
        if number % 2 == 0 {
            raw.send(&call(1, "echo", r#"{"text":"unread"}"#), &[])?;
        }
    }
    Ok(())
}

/// Sends a descriptor whose close(2) blocks: a connection whose other end reads nothing.
fn lingering(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nonblocking(true)?;
    while near.write(&[0; 1 << 16]).is_ok() {}
    near.set_nonblocking(false)?;
    set_socket_linger(&near, Some(Duration::from_secs(3600)))?;
    for _ in 0..3 {
        ask(client, &raw, &call(1, "waiting", "{}"), &[near.as_fd()])?;
    }
    raw.send(&call(2, "never", "{}"), &[near.as_fd()])?;
    // close(2) of the last descriptor blocks until the other end is closed.
    let closed = thread::spawn(move || drop(near));
    client.idle(50);
    drop(far);
    closed.join().map_err(|_| io::Error::other("close"))
}

/// Opens streams and reads none of them.
fn streams(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    let null = File::open("/dev/null")?;
    for id in 0..100 {
        let sent = match id % 2 {
            0 => raw.try_send(
                &call(id, "count", &format!(r#"{{"end":{}}}"#, u64::MAX)),
                &[],
            ),
            _ => {
                let copies = call(id, "copies", r#"{"count":1000000,"file":0}"#);
                raw.try_send(&copies, &[null.as_fd()])
            }
        };
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            sent => sent?,
        }
    }
    let rest = end(client).saturating_duration_since(Instant::now());
    thread::park_timeout(rest);
    Ok(())
}

/// Makes more deferred calls than it may.
fn waiting(client: &mut Client) -> io::Result<()> {
    let raw = Raw::connect(&client.path, client.kind)?;
    for id in 0..100 {
        raw.send(&call(id, "never", "{}"), &[])?;
    }
    for _ in crate::server::DEFERRED..100 {
        let reply = raw.receive()?;
        note(client, &reply);
    }
    client.idle(50);
    Ok(())
}
