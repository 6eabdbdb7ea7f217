//! What can be wrong with a service's name and its entry in the registry.

use std::io;
use std::path::PathBuf;

use super::Error;

/// The reason why a service is not found by its name, or cannot be registered. [`Error::Service`] has it.
///
/// A service without an entry is no problem of this kind, but [`AddressProblem::Missing`](super::AddressProblem::Missing).
///
/// | operation | variants |
/// |---|---|
/// | any | [`Empty`](Self::Empty) to [`Reserved`](Self::Reserved): the name itself |
/// | find, connect | [`Foreign`](Self::Foreign) to [`NotASocket`](Self::NotASocket): the entry, and what it leads to |
/// | connect | [`OtherServer`](Self::OtherServer) |
/// | register | [`NotBound`](Self::NotBound) to [`Locked`](Self::Locked), and those of finding: the entry to replace, and the socket |
///
/// # Examples
///
/// ```
/// use jsoncomm::address::{Address, RegistryProblem};
///
/// let error = Address::service("example/files").unwrap_err();
/// let problem = RegistryProblem::of(&error);
/// assert_eq!(problem, Some(&RegistryProblem::Character { byte: b'/' }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryProblem {
    /// The name is empty.
    #[error("a service's name is not empty")]
    Empty,
    /// The name is too long for a file.
    #[error("a service's name of {length} bytes is too long: {limit} fit")]
    TooLong {
        /// Length of the name in bytes.
        length: usize,
        /// Largest length that fits, in bytes.
        limit: usize,
    },
    /// The name contains a byte that no service's name has.
    #[error("a service's name has letters, digits, `_`, `-` and dots, and no '{}'", byte.escape_ascii())]
    Character {
        /// The first such byte.
        byte: u8,
    },
    /// The name begins or ends with a dot, or has two in a row.
    #[error("a service's name has single dots between words")]
    Dots,
    /// The name begins with `rpc.`, or is `rpc`: this is reserved by JSON-RPC.
    #[error("names that begin with `rpc` are reserved")]
    Reserved,
    /// A directory, a link or the socket belongs to a user who is neither root nor this process's.
    #[error("{} belongs to user {owner}, neither to root nor to this process's user", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
    },
    /// A directory can be written to by others than its owner.
    #[error("{} can be changed by other users: its mode is {mode:o}", path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There are more symbolic links on the way than the kernel would follow.
    #[error("{} is behind more than 40 symbolic links", path.display())]
    Loop {
        /// The link at which the search ended.
        path: PathBuf,
    },
    /// The entry is no symbolic link.
    #[error("{} is {found}, not a symbolic link to a socket", path.display())]
    NotALink {
        /// The entry.
        path: PathBuf,
        /// What it is, as a noun with its article.
        found: &'static str,
    },
    /// The entry leads to something that is no socket.
    #[error("{} is {found}, not a socket", path.display())]
    NotASocket {
        /// What the entry leads to.
        path: PathBuf,
        /// What it is, as a noun with its article.
        found: &'static str,
    },
    /// The server that was connected to runs as another user than the owner of the entry or root. The connection is closed,
    /// and nothing was sent.
    #[error("its server runs as {}, not as root or user {owner}, who owns the entry", user(*server))]
    OtherServer {
        /// User id of the server; `None` if the kernel does not tell, or the id is not mapped here.
        server: Option<u32>,
        /// User id of the entry's owner.
        owner: u32,
    },
    /// The endpoint has no path that was bound: it has an abstract name, or its socket was made by another process.
    #[error(
        "the endpoint was not bound to a path by this server; the entry of an activated socket is made by `Symlinks=` of its socket unit"
    )]
    NotBound,
    /// The endpoint serves no service yet.
    #[error("the endpoint serves no service: register after `serve`")]
    NothingServed,
    /// This process may not write to the registry's directory. An administrator can make the entry.
    #[error(
        "{} cannot be written to by this process; an administrator can add this to a file in /etc/tmpfiles.d: {line}",
        directory.display()
    )]
    NotWritable {
        /// The directory of the registry.
        directory: PathBuf,
        /// The lines for [tmpfiles.d(5)](https://man7.org/linux/man-pages/man5/tmpfiles.d.5.html) that make the entries.
        line: String,
    },
    /// The entry leads to another socket, which is open.
    #[error("{} leads to {}, which is in use", entry.display(), socket.display())]
    InUse {
        /// The entry.
        entry: PathBuf,
        /// The socket.
        socket: PathBuf,
    },
    /// Another process keeps the registry locked.
    #[error("another process keeps {} locked", path.display())]
    Locked {
        /// The file that is locked.
        path: PathBuf,
    },
}

impl RegistryProblem {
    /// Returns the problem of an [`Error::Service`]; `None` for any other error.
    pub fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::Service { problem, .. } => problem.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// Makes it the error about a service of this name.
    pub(crate) fn about(self, name: &str) -> Error {
        Error::Service {
            name: name.escape_default().to_string(),
            problem: io::Error::other(self),
        }
    }
}

/// Names a user for people.
fn user(id: Option<u32>) -> String {
    id.map_or_else(
        || String::from("an unknown user"),
        |id| format!("user {id}"),
    )
}
