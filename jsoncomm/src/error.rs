//! What can go wrong, one type per audience.
//!
//! [`DecodeError`] says why bytes are not the message that was asked for, [`Error`] why an operation on
//! a socket or a server failed, [`AddressProblem`] what is wrong with an address, [`Fault`] what the other side says it could not do, and [`CallError`]
//! adds the service's own errors, for callers. "Would block" is an outcome and no error, so it is not
//! here.

mod message;

pub use message::{DecodeError, EncodeError, FdProblem};

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sys::OsError;

/// Why an operation on a socket, a server or a connection failed.
///
/// A failed operation has not happened: nothing was sent, nothing is queued, and descriptors are
/// closed or still their owner's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a system call.
    #[error("{operation} failed")]
    Os {
        /// The system call, by its manual-page name.
        operation: &'static str,
        /// What the kernel reported.
        #[source]
        source: io::Error,
    },
    /// The address cannot be used.
    #[error("address {address} {problem}")]
    Address {
        /// The address, escaped for printing.
        address: String,
        /// Why not.
        problem: AddressProblem,
    },
    /// A value could not be written as a message; nothing was sent.
    #[error(transparent)]
    Encode(EncodeError),
    /// A message was received that is not of the expected type; it is gone, its descriptors are closed.
    #[error(transparent)]
    Decode(DecodeError),
    /// A message was cut short by the kernel; what came of it is closed.
    #[error("message of {length} bytes was truncated")]
    Truncated {
        /// True length of the datagram in bytes, where the kernel tells.
        length: usize,
    },
    /// Descriptors of a received message were lost (`MSG_CTRUNC` in [recvmsg(2)]): this process may have no more open,
    /// or a security module refused them. The message is gone, and what came of it is closed.
    ///
    /// [recvmsg(2)]: https://man7.org/linux/man-pages/man2/recvmsg.2.html
    #[error(
        "descriptors were lost on receipt: at the limit of open files, or refused by a security module"
    )]
    DescriptorsLost,
    /// A received message is larger than the limit; it is gone.
    #[error("received message of {size} bytes exceeds {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// [`Limits::message`](crate::Limits::message).
        limit: usize,
    },
    /// The text of a large payload cannot be read: its descriptor is missing, is no memfd that can be read without
    /// waiting, or is one that cannot be read at all, such as one that was opened for writing only. It is closed.
    #[error("large payload: {reason}")]
    Payload {
        /// What is wrong with it.
        reason: &'static str,
        /// What the kernel reported, where it was asked to read it.
        #[source]
        source: Option<io::Error>,
    },
    /// A descriptor cannot be waited for (`EPERM` of [epoll_ctl(2)]).
    ///
    /// [epoll_ctl(2)]: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html
    #[error("the descriptor cannot be polled: a regular file or a directory is always ready")]
    NotPollable,
    /// The time allowed has passed.
    #[error("deadline passed")]
    Deadline,
    /// There is no room to send now, and the sender must not wait: an event loop drives its connection.
    #[error("no room to send")]
    Full,
    /// A call or a stream was polled, and no event loop drives its connection, so that nothing would wake the task:
    /// see [`Connection::set_driven`](crate::Connection::set_driven). It is cancelled.
    #[error(
        "no event loop drives the connection: register it with Server::drive, or call set_driven and turn"
    )]
    NotDriven,
    /// The peer has closed its socket, or there is nobody at the address.
    #[error("closed by the peer")]
    Closed,
    /// It was made in another process, of which this one is a forked child ([fork(2)]), and is still in use there.
    /// Nothing was done. Make a new one here.
    ///
    /// [fork(2)]: https://man7.org/linux/man-pages/man2/fork.2.html
    #[error("made before fork(2), in another process: make a new one in this one")]
    Forked,
}

impl From<OsError> for Error {
    fn from(error: OsError) -> Self {
        Self::Os {
            operation: error.operation,
            source: error.into(),
        }
    }
}

impl Error {
    /// Says whether the trouble is in one received message, so that receiving can go on.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::socket::Socket;
    /// use jsoncomm::Kind;
    ///
    /// let (mut left, mut right) = Socket::pair(Kind::Seqpacket)?;
    /// left.send("seven")?;
    /// left.send(&7)?;
    /// let number = loop {
    ///     match right.receive::<u32>() {
    ///         Ok((number, _sender)) => break number,
    ///         Err(error) if error.is_bad_message() => println!("skipped: {error}"),
    ///         Err(error) => return Err(error),
    ///     }
    /// };
    /// assert_eq!(number, 7);
    /// # Ok::<(), jsoncomm::Error>(())
    /// ```
    pub fn is_bad_message(&self) -> bool {
        matches!(
            self,
            Self::Decode(_)
                | Self::Truncated { .. }
                | Self::DescriptorsLost
                | Self::TooLarge { .. }
                | Self::Payload { .. }
        )
    }
}

/// Why [`StreamSender::send`](crate::stream::StreamSender::send) did not take an item.
///
/// After all but `Closed` the stream continues without the item.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The stream has no room, and [`Overflow::Refuse`](crate::stream::Overflow::Refuse) is set. See
    /// [`StreamSender::on_room`](crate::stream::StreamSender::on_room).
    #[error("the stream has no room")]
    Full,
    /// The reader stopped reading or disconnected, or the stream has ended.
    #[error("the stream is closed")]
    Closed,
    /// The item cannot be encoded or exceeds a limit.
    #[error(transparent)]
    Encode(EncodeError),
    /// The process has no descriptors left to duplicate those of the item.
    #[error("the process has no descriptors left")]
    NoDescriptors,
}

/// Why an address cannot be used.
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
    /// There is nothing of that name to connect to.
    #[error("does not exist")]
    Missing,
    /// A file is there, but no socket is open behind it: its server has gone, or has not called listen(2) yet.
    #[error("has nobody listening")]
    NobodyListens,
    /// A socket is there, of another type.
    #[error("has a socket of another kind")]
    OtherKind,
    /// The file, or a directory on the way to it, may not be used by this process.
    #[error("may not be used")]
    Denied,
    /// The directory to bind in does not exist.
    #[error("has no directory")]
    NoDirectory,
    /// Another socket has the address.
    #[error("is in use")]
    InUse,
    /// A file is there that is no socket. Binding does not follow a symbolic link.
    #[error("is {found}, not a socket")]
    NotASocket {
        /// What it is, as a noun with its article.
        found: &'static str,
    },
    /// A socket is there that no process has open, as far as can be told, but it belongs to somebody else.
    #[error("is a dead socket of user {owner}")]
    Foreign {
        /// The user it belongs to.
        owner: u32,
    },
    /// A dead socket is there, and the directory cannot be locked to replace it: it may not be read, or its
    /// file system knows no locks.
    #[error("is a dead socket in a directory that cannot be locked")]
    Unlockable,
    /// Another program keeps the directory locked with flock(2).
    #[error("is in a directory that another program keeps locked")]
    Locked,
    /// The mode that was asked for is more than permission bits.
    #[error("cannot have the mode {mode:o}")]
    NoSuchMode {
        /// The mode.
        mode: u32,
    },
    /// The owner or group that was asked for is the number that means nobody.
    #[error("cannot belong to nobody")]
    NoSuchOwner,
    /// A mode or an owner was asked for, which only a file has.
    #[error("is not a path and has no owner or mode")]
    NotAPath,
    /// The path or name is empty.
    #[error("is empty")]
    Empty,
    /// The path contains a NUL byte.
    #[error("contains a NUL byte")]
    Nul,
    /// The path ends in `/`, `.` or `..`, so there is nothing to bind.
    #[error("does not end in a file name")]
    NoFileName,
    /// The name is too long for the kernel.
    #[error("has a name of {length} bytes where {limit} fit")]
    TooLong {
        /// Length of the abstract name, or of the path's last component, in bytes.
        length: usize,
        /// How many bytes fit.
        limit: usize,
    },
    /// What is asked for needs `/proc`, and it is not mounted: a path of more than 107 bytes does.
    #[error("needs /proc, which is not mounted")]
    NoProc,
    /// The file that was bound is not there any more.
    #[error("vanished while it was bound")]
    Vanished,
    /// A descriptor to take over is not the right sort of socket.
    #[error("is not {expected}")]
    WrongSocket {
        /// What it should be, as a noun with its article.
        expected: &'static str,
    },
}

/// Why the other side's framework could not carry a call through: an error object of JSON-RPC 2.0
/// with one of the codes that are associated constants here.
///
/// # Examples
///
/// ```
/// use jsoncomm::{CallError, Fault};
///
/// fn advice<E>(error: &CallError<E>) -> &'static str {
///     match error {
///         CallError::Service(_) => "read what the service says",
///         CallError::Fault(Fault { code: Fault::BUSY, .. }) => "try again later",
///         CallError::Fault(Fault { code: Fault::METHOD_NOT_FOUND, .. }) => "update the server",
///         _ => "find out what is wrong",
///     }
/// }
///
/// let busy: CallError = CallError::Fault(Fault::new(Fault::BUSY, "too many calls"));
/// assert_eq!(advice(&busy), "try again later");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
#[non_exhaustive]
pub struct Fault {
    /// Which fault: one of this type's constants, or a code that a foreign peer made up.
    pub code: i64,
    /// What the other side says about it.
    pub message: String,
    /// The argument that is to blame, for [`Fault::INVALID_PARAMS`] and [`Fault::INVALID_DESCRIPTORS`].
    pub field: Option<String>,
}

impl Fault {
    /// The datagram is not JSON, or nested too deep to be read.
    pub const PARSE_ERROR: i64 = -32700;
    /// The JSON is not a call.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No service at this address has the method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// An argument is missing, unknown or of the wrong type.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The handler panicked, or its answer cannot be written as JSON.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// A limit of the server was reached.
    pub const BUSY: i64 = -32000;
    /// The handler gave its reply away unanswered.
    pub const NO_REPLY: i64 = -32001;
    /// The server is stopping.
    pub const SHUTTING_DOWN: i64 = -32002;
    /// The caller is not admitted.
    pub const NOT_AUTHORIZED: i64 = -32003;
    /// The answer exceeds a limit.
    pub const REPLY_TOO_LARGE: i64 = -32004;
    /// The caller's deadline passed before the handler ran.
    pub const DEADLINE_EXCEEDED: i64 = -32005;
    /// The call was cancelled.
    pub const CANCELLED: i64 = -32006;
    /// The descriptors do not match the message in number, index or kind.
    pub const INVALID_DESCRIPTORS: i64 = -32007;

    /// Makes a fault that blames no particular argument.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        let code = match error {
            DecodeError::Syntax { .. } | DecodeError::TooDeep { .. } => Self::PARSE_ERROR,
            DecodeError::Shape { .. } => Self::INVALID_PARAMS,
            DecodeError::Descriptor { .. } => Self::INVALID_DESCRIPTORS,
        };
        Self {
            code,
            message: error.to_string(),
            field: error.field().map(str::to_owned),
        }
    }
}

/// How a call ended when it did not end well. `E` is the service's own error type.
///
/// Trouble with the transport and the service's answer "no such file" never share a variant.
///
/// # Examples
///
/// ```
#[doc = include_str!("../doc/counter.txt")]
/// use jsoncomm::{CallError, Connection};
///
/// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
/// let counter = CounterClient::new(Connection::open(&path)?);
/// match counter.add(1) {
///     Ok(sum) => assert_eq!(sum, 1),
///     Err(CallError::Service(never)) => match never {},
///     Err(CallError::Fault(fault)) => println!("the server cannot do it: {fault}"),
///     Err(CallError::Deadline | CallError::Closed) => println!("it may or may not have been added"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError<E = Infallible> {
    /// The service answered, with an error of its own.
    Service(E),
    /// The other side could not carry the call through.
    Fault(Fault),
    /// The call was sent, and no answer came in time. It may or may not have been carried out.
    Deadline,
    /// The server has gone. The call may or may not have been carried out.
    Closed,
    /// The method answers in many parts, of which the first came in place of an answer: call it with
    /// [`Connection::stream`](crate::Connection::stream). The server is told to send no more.
    Stream,
    /// The call was not sent, for this reason: [`Error::Encode`] when it cannot be written as a message,
    /// [`Error::Deadline`] when there was no room in time, [`Error::Full`] when there is none and an event loop drives
    /// the connection, and what sending and connecting anew report. It has not been carried out.
    NotSent(Error),
    /// The answer could not be received or read. The call may or may not have been carried out.
    Io(Error),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Deadline => f.write_str("deadline passed"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Stream => f.write_str("the method answers with a stream"),
            Self::NotSent(error) => write!(f, "the call was not sent: {error}"),
            Self::Io(error) if error.is_bad_message() => {
                write!(f, "the answer cannot be read: {error}")
            }
            Self::Io(error) => write!(f, "the call failed on its way: {error}"),
        }
    }
}

/// The source is what lies behind the error that `Display` shows.
impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotSent(error) | Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

/// For what comes before a call, such as connecting: nothing has been sent.
///
/// # Examples
///
/// ```
#[doc = include_str!("../doc/counter.txt")]
/// use jsoncomm::{CallError, Connection};
/// use std::path::Path;
///
/// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
/// fn sum(path: &Path) -> Result<u64, CallError> {
///     CounterClient::new(Connection::open(path)?).add(2)
/// }
/// assert_eq!(sum(&path)?, 2);
/// assert!(matches!(sum(Path::new("/nowhere")), Err(CallError::NotSent(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<E> From<Error> for CallError<E> {
    fn from(error: Error) -> Self {
        Self::not_sent(error)
    }
}

impl<E> CallError<E> {
    /// Sorts the reasons why a call was not sent.
    pub(crate) fn not_sent(error: Error) -> Self {
        match error {
            Error::Closed => Self::Closed,
            other => Self::NotSent(other),
        }
    }

    /// Sorts trouble of the socket into the variant a caller acts on.
    pub(crate) fn from_error(error: Error) -> Self {
        match error {
            Error::Deadline => Self::Deadline,
            Error::Closed => Self::Closed,
            other => Self::Io(other),
        }
    }
}

/// Runs a handler, or whatever else of the program a peer can cause; one that panics costs its own call and nothing
/// else. The panic hook has had its say by then.
pub(crate) fn caught<T>(handler: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(handler))
        .map_err(|_| Fault::new(Fault::INTERNAL_ERROR, "the handler panicked"))
}
