//! `jsoncomm services`: what is registered, and whether it runs.

use std::fmt;
use std::time::Instant;

use clap::Args;
use jsoncomm::address::{AddressProblem, Registry, ServiceEntry};
use jsoncomm::{Connection, Error};

use crate::args::Timeout;
use crate::deadline::{Clock, Deadline};
use crate::diag::{self, Holder, Holders, Open};
use crate::discover::description;
use crate::problem::Problem;
use crate::{output, standard};
use jsoncomm::openrpc::{Document, Method};

/// Lists the services that are registered by name, and whether they run.
///
/// It looks in the directories of JSONCOMM_REGISTRY, in $XDG_RUNTIME_DIR/jsoncomm and in /run/jsoncomm, and asks the kernel
/// (sock_diag(7)) who has their sockets open. It connects to none, as that would start services that a service manager holds.
///
/// A line has the name, the state, the path of the socket, and who serves it: its user, and the processes where they can be
/// seen. A service is alive, activatable (a service manager has its socket), dead, or listening, if this user may not see which
/// process has it. An entry that must not be used is refused, with the reason. What an entry hides in later directories is
/// named.
#[derive(Debug, Args)]
pub(crate) struct Services {
    /// Print the methods of the services that are alive, which are connected to
    #[arg(long)]
    pub(crate) describe: bool,
    /// The time for everything: seconds, or 200ms, 1.5s, 2m, or none [default: 25]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Timeout>,
}

/// Whether a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A process serves it.
    Alive,
    /// A service manager holds its socket, and will start it when it is used.
    Activatable,
    /// The socket is open, and this user may not see by whom.
    Listening,
    /// No process has the socket open.
    Dead,
    /// The kernel does not tell about sockets.
    Unknown,
    /// The entry must not be used.
    Refused,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Activatable => "activatable",
            Self::Listening => "listening",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        })
    }
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    name: String,
    state: State,
    address: String,
    /// Who serves it, or what is wrong.
    note: String,
}

/// The sockets of this machine.
struct Sockets {
    /// `None` where the kernel does not tell.
    open: Option<Vec<Open>>,
    holders: Holders,
}

impl Sockets {
    fn look() -> Self {
        Self {
            open: diag::open_sockets().ok(),
            holders: Holders::all(),
        }
    }

    /// Returns whether an entry's service runs, and who has its socket open.
    fn state(&self, entry: &ServiceEntry) -> (State, String) {
        let Some(open) = &self.open else {
            return (State::Unknown, String::new());
        };
        let Some(socket) = diag::of_file(open, entry.socket()) else {
            return (State::Dead, String::new());
        };
        let holders = self.holders.of(socket);
        let state = match holders {
            [] => State::Listening,
            _ if holders.iter().all(Holder::is_manager) => State::Activatable,
            _ => State::Alive,
        };
        let names = holders.iter().filter(|holder| !holder.is_manager());
        let names: Vec<_> = names
            .map(|one| format!("{}[{}]", one.name, one.pid))
            .collect();
        let user = socket.user.map(|user| format!("user {user}"));
        let note: Vec<_> = user.into_iter().chain(names).collect();
        (state, note.join(", "))
    }

    fn row(&self, registry: &Registry, name: String) -> Row {
        let (state, address, note) = match registry.find(&name) {
            Ok(entry) => {
                let (state, mut note) = self.state(&entry);
                for hidden in entry.hides() {
                    let comma = if note.is_empty() { "" } else { "; " };
                    note.push_str(&format!("{comma}hides {}", hidden.display()));
                }
                (state, entry.socket().display().to_string(), note)
            }
            Err(error) => {
                let is_missing = matches!(
                    &error,
                    Error::Address {
                        problem: AddressProblem::Missing,
                        ..
                    }
                );
                let state = if is_missing {
                    State::Dead
                } else {
                    State::Refused
                };
                (state, String::from("-"), error.to_string())
            }
        };
        Row {
            name,
            state,
            address,
            note,
        }
    }
}

/// Lists the services of the registry. Connects to none, as that would start those that a service manager holds.
pub(crate) fn run(services: Services) -> Result<(), Problem> {
    standard::check_output()?;
    let deadline = Clock::start(services.timeout).calling();
    let registry = Registry::from_env();
    let names = registry.names().map_err(Problem::Registry)?;
    let sockets = Sockets::look();
    let rows: Vec<Row> = names
        .into_iter()
        .map(|name| sockets.row(&registry, name))
        .collect();
    let names = rows
        .iter()
        .map(|row| row.name.len())
        .max()
        .unwrap_or_default();
    let addresses = rows
        .iter()
        .map(|row| row.address.len())
        .max()
        .unwrap_or_default();
    for row in rows {
        let Row {
            name,
            state,
            address,
            note,
        } = &row;
        let line = format!("{name:names$}  {state:11}  {address:addresses$}  {note}");
        output::line(line.trim_end())?;
        if services.describe && *state == State::Alive {
            describe(&registry, name, deadline)?;
        }
    }
    Ok(())
}

/// Prints the methods of a service that runs.
fn describe(registry: &Registry, name: &str, deadline: Deadline) -> Result<(), Problem> {
    match document(registry, name, deadline.instant()) {
        Ok(Some(document)) => {
            for Method { name, summary, .. } in methods(&document, name) {
                output::line(format!("    {name}  {summary}").trim_end())?;
            }
            Ok(())
        }
        Ok(None) => output::line("    (does not describe itself)"),
        Err(problem) => output::line(&format!("    ({})", output::chain(&problem))),
    }
}

/// Returns the description of a service. The library checks its server before anything is sent.
fn document(registry: &Registry, name: &str, until: Instant) -> Result<Option<Document>, Problem> {
    let address = registry.address(name).map_err(Problem::of_connecting)?;
    let connection = Connection::open_by(address, until).map_err(Problem::of_connecting)?;
    let left = until.saturating_duration_since(Instant::now());
    description(&connection.with_timeout(left))
}

/// Returns the methods of those of the services that are alive.
pub(crate) fn methods_of(registry: &Registry, names: Vec<String>, until: Instant) -> Vec<String> {
    let sockets = Sockets::look();
    let mut found = Vec::new();
    for name in names {
        let entry = registry.find(&name);
        let is_alive = |entry: &ServiceEntry| sockets.state(entry).0 == State::Alive;
        if entry.as_ref().is_ok_and(is_alive) {
            if let Ok(Some(document)) = document(registry, &name, until) {
                found.extend(methods(&document, &name).map(|method| method.name.clone()));
            }
        }
    }
    found
}

/// Returns the methods of one service: others may be served at the same socket.
fn methods<'d>(document: &'d Document, service: &str) -> impl Iterator<Item = &'d Method> {
    let prefix = format!("{service}.");
    let is_of = move |method: &&Method| {
        let rest = method.name.strip_prefix(&*prefix);
        rest.is_some_and(|rest| !rest.contains('.'))
    };
    document.methods.iter().filter(is_of)
}
