//! What can be wrong with an address.

/// The reason why an address cannot be used.
///
/// | operation | variants |
/// |---|---|
/// | connect, send | [`Missing`](Self::Missing), [`NobodyListens`](Self::NobodyListens), [`OtherKind`](Self::OtherKind), [`NotASocket`](Self::NotASocket) |
/// | bind | [`NoDirectory`](Self::NoDirectory), [`InUse`](Self::InUse), [`NotASocket`](Self::NotASocket), [`Foreign`](Self::Foreign), [`Unlockable`](Self::Unlockable), [`Locked`](Self::Locked), [`Vanished`](Self::Vanished) |
/// | bind with mode or owner | [`NoSuchMode`](Self::NoSuchMode), [`NoSuchOwner`](Self::NoSuchOwner), [`NotAPath`](Self::NotAPath) |
/// | any | [`Denied`](Self::Denied), and [`Empty`](Self::Empty) to [`NoProc`](Self::NoProc): the address itself |
/// | take over a descriptor | [`WrongSocket`](Self::WrongSocket) |
///
/// `Display` continues the address: "does not exist", "is in use".
///
/// # Examples
///
/// ```
/// use jsoncomm::address::AddressProblem;
/// use jsoncomm::{Connection, Error};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("example.sock");
///
/// match Connection::open(&path) {
///     Ok(_) => println!("running"),
///     Err(Error::Address {
///         problem: AddressProblem::Missing | AddressProblem::NobodyListens,
///         ..
///     }) => println!("not started yet"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressProblem {
    /// Nothing with that name exists.
    #[error("does not exist")]
    Missing,
    /// A socket file exists, but no process listens: its server has ended, or has not called listen(2) yet.
    #[error("has no process listening")]
    NobodyListens,
    /// A socket of another type is at the address. See [`Kind`](crate::Kind).
    #[error("has a socket of another kind")]
    OtherKind,
    /// This process has no permission for the file, or for a directory on the way to it.
    #[error("may not be used by this process")]
    Denied,
    /// The directory to bind in does not exist.
    #[error("is in a directory that does not exist")]
    NoDirectory,
    /// Another socket is bound to the address.
    #[error("is in use")]
    InUse,
    /// The file is no socket. Binding does not follow a symbolic link.
    #[error("is {found}, not a socket")]
    NotASocket {
        /// What the file is, as a noun with its article.
        found: &'static str,
    },
    /// The address is a socket file of another user that no process has open, as far as this process can find out. It has
    /// to be removed by its owner.
    #[error("is a dead socket of user {owner}, which this process does not replace")]
    Foreign {
        /// User id of the owner.
        owner: u32,
    },
    /// The address is a dead socket, but the directory cannot be locked to replace it: it may not be read, or its file
    /// system does not support locks.
    #[error("is a dead socket in a directory that cannot be locked")]
    Unlockable,
    /// Another program keeps the directory locked with flock(2).
    #[error("is in a directory that another program keeps locked")]
    Locked,
    /// The mode has other bits than permission bits.
    #[error("cannot have mode {mode:o}: only permission bits, up to 777, are allowed")]
    NoSuchMode {
        /// The mode.
        mode: u32,
    },
    /// The owner or group is 4294967295, which stands for no id.
    #[error("cannot belong to 4294967295, which is no id of a user or group")]
    NoSuchOwner,
    /// A mode or an owner was given for an abstract name, which has neither.
    #[error("is not a path and has no owner or mode")]
    NotAPath,
    /// The path or name is empty.
    #[error("is empty")]
    Empty,
    /// The path contains a NUL byte.
    #[error("contains a NUL byte")]
    Nul,
    /// The path ends in `/`, `.` or `..`, so it does not name a file to bind.
    #[error("does not end in a file name")]
    NoFileName,
    /// The name is too long for the kernel.
    #[error("has a name of {length} bytes where {limit} fit")]
    TooLong {
        /// Length of the abstract name, or of the path's last component, in bytes.
        length: usize,
        /// Largest length that fits, in bytes.
        limit: usize,
    },
    /// `/proc` is not mounted, and is needed for a path of more than 107 bytes or for a mode.
    #[error("needs /proc, which is not mounted")]
    NoProc,
    /// The file was removed while it was being bound.
    #[error("was removed while it was being bound")]
    Vanished,
    /// A descriptor to take over is not the right kind of socket.
    #[error("is not {expected}")]
    WrongSocket {
        /// What it should be, as a noun with its article.
        expected: &'static str,
    },
}
