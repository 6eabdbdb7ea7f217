//! A privileged helper that opens files for others by an allow list. The kernel reports which user calls, the list says
//! which files that user gets, and the caller receives a descriptor with just these rights.
//!
//! Run it with `cargo run --example open_broker`. As root it starts two clients of other users, each a process of its
//! own; otherwise one, of the same user.

use std::env;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use jsoncomm::address::Bind;
use jsoncomm::{Call, Connection, Kind, Limits, Message, Server};
use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;

#[jsoncomm::service(name = "example.broker")]
trait Broker {
    /// Opens a file for reading, if the list allows that for the caller's user.
    fn read(&mut self, call: &mut Call, path: &str) -> Result<Opened, BrokerError>;
    /// Opens a file for appending.
    fn append(&mut self, call: &mut Call, path: &str) -> Result<Opened, BrokerError>;
}

#[derive(Debug, Message)]
struct Opened {
    #[fd]
    file: File,
}

#[derive(Debug, Message, thiserror::Error)]
enum BrokerError {
    #[error("not on the list")]
    NotListed,
    #[error("{reason}")]
    Failed { reason: String },
}

/// One entry of the list: this user may open this file in this way.
struct Rule {
    uid: u32,
    path: PathBuf,
    access: OFlags,
}

const READ: OFlags = OFlags::RDONLY;
const APPEND: OFlags = OFlags::WRONLY.union(OFlags::APPEND);

struct List(Vec<Rule>);

impl Broker for List {
    fn read(&mut self, call: &mut Call, path: &str) -> Result<Opened, BrokerError> {
        self.open(call, path, READ)
    }

    fn append(&mut self, call: &mut Call, path: &str) -> Result<Opened, BrokerError> {
        self.open(call, path, APPEND)
    }
}

impl List {
    fn open(&self, call: &Call, path: &str, access: OFlags) -> Result<Opened, BrokerError> {
        // An unknown peer gets no rights, and no peer learns which other files exist.
        let uid = call.peer().ok_or(BrokerError::NotListed)?.uid();
        let wanted =
            |rule: &&Rule| (rule.uid, &*rule.path, rule.access) == (uid, Path::new(path), access);
        let rule = self.0.iter().find(wanted).ok_or(BrokerError::NotListed)?;
        // Refuses a link to another file, and a file whose open would block.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::open(&rule.path, access | flags, Mode::empty()) {
            Ok(file) => Ok(Opened { file: file.into() }),
            Err(error) => Err(BrokerError::Failed {
                reason: error.to_string(),
            }),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match &*env::args().skip(1).collect::<Vec<_>>() {
        [socket, journal] => client(socket, journal),
        _ => broker(),
    }
}

/// Serves its clients one after the other.
fn broker() -> Result<(), Box<dyn Error>> {
    let here = |name| env::temp_dir().join(format!("open_broker-{}.{name}", process::id()));
    let (socket, journal) = (here("sock"), here("journal"));
    let own = geteuid().as_raw();
    // The second user may only append to it.
    let (reader, writer) = if own == 0 {
        (12_345, 12_346)
    } else {
        (own, own)
    };
    let rule = |uid, access| Rule {
        uid,
        path: journal.clone(),
        access,
    };
    let mut list = List(vec![rule(reader, READ), rule(writer, APPEND)]);

    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&journal)?;
    file.write_all(b"only for its owner\n")?;
    let mut server = Server::new(Limits::default())?;
    server
        .bind(Bind::at(&socket).mode(0o666), Kind::Seqpacket)?
        .serve::<dyn Broker>();
    let (handle, path) = (server.handle(), journal.clone());
    let clients = thread::spawn(move || {
        let users = if own == 0 {
            vec![writer, reader, own]
        } else {
            vec![own]
        };
        let run = |user| {
            let mut client = Command::new("/proc/self/exe");
            client.args([&socket, &path]).uid(user).status()
        };
        let ended: io::Result<Vec<_>> = users.into_iter().map(run).collect();
        handle.stop();
        ended
    });
    let served = server.run(&mut list);
    let ended = clients.join().map_err(|_| "the clients' thread panicked")?;
    fs::remove_file(&journal)?;
    served?;
    if ended?.iter().all(process::ExitStatus::success) {
        Ok(())
    } else {
        Err("a client failed".into())
    }
}

/// Tries everything, and prints the results.
fn client(socket: &str, journal: &str) -> Result<(), Box<dyn Error>> {
    let broker = BrokerClient::new(Connection::open(socket)?);
    let mut out = io::stdout();
    let user = geteuid().as_raw();
    if let Err(error) = File::open(journal) {
        writeln!(out, "user {user} opens it itself: {error}")?;
    }
    match broker.append(journal) {
        Ok(Opened { mut file }) => {
            writeln!(file, "user {user} was here")?;
            let read = file.read(&mut [0]).is_ok();
            writeln!(out, "user {user} adds a line, and can read: {read}")?;
        }
        Err(error) => writeln!(out, "user {user} would add a line: {error}")?,
    }
    match broker.read(journal) {
        Ok(Opened { mut file }) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let write = file.write(b"!").is_ok();
            writeln!(
                out,
                "user {user} reads {} lines, and can write: {write}",
                text.lines().count()
            )?;
        }
        Err(error) => writeln!(out, "user {user} would read: {error}")?,
    }
    match broker.read("/etc/shadow") {
        Ok(_) => Err("it is not on the list".into()),
        Err(error) => Ok(writeln!(out, "user {user} asks for /etc/shadow: {error}")?),
    }
}
