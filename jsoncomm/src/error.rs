//! Errors of the library, one type per audience.
//!
//! - [`Error`]: an operation on a socket, a server or a connection failed; [`AddressProblem`]: what is wrong with an
//!   address.
//! - [`CallError`]: a call failed, [`Fault`] if the other side's framework refused it.
//! - [`SendError`]: an item of a stream was not accepted.
//! - [`EncodeError`], [`DecodeError`]: a value cannot be written as a message, or a message is not the expected one.
//!
//! Expected results such as "would block" are not errors; each function lists them in its return type.

mod address;
mod call;
mod fault;
mod handover;
mod message;
mod registry;
mod session;
mod stream;

use std::io;

use crate::sys::OsError;

pub use address::AddressProblem;
pub use call::CallError;
pub use fault::Fault;
pub(crate) use fault::caught;
pub use handover::HandoverProblem;
pub use message::{DecodeError, EncodeError, FdProblem};
pub use registry::RegistryProblem;
pub use session::SessionProblem;
pub use stream::SendError;

/// The reason why an operation on a socket, a server or a connection failed.
///
/// A failed operation has had no effect: nothing was sent or queued. Descriptors to be sent still belong to the caller;
/// received ones are closed.
///
/// | operation | typical variants | what to do |
/// |---|---|---|
/// | bind, connect | [`Address`](Self::Address) | see [`AddressProblem`] |
/// | connect to a service by its name, register | [`Service`](Self::Service) | see [`RegistryProblem`] |
/// | send | [`Encode`](Self::Encode), [`Deadline`](Self::Deadline), [`Full`](Self::Full) | change the message, or send it later |
/// | receive | those of [`is_bad_message`](Self::is_bad_message) | receive the next message |
/// | receive | [`Deadline`](Self::Deadline) | receive again |
/// | start a child | [`Spawn`](Self::Spawn) | report it |
/// | serve or call the parent | [`NoParent`](Self::NoParent) | report that the program is not for the command line |
/// | any | [`Closed`](Self::Closed), [`Forked`](Self::Forked) | connect again |
/// | any | [`Os`](Self::Os) | report it; if memory or descriptors have run out, try again later |
///
/// `Display` describes the error and errors of this crate that it wraps. What the kernel reported is in
/// [`source`](std::error::Error::source).
///
/// # Examples
///
/// ```
/// use jsoncomm::address::AddressProblem;
/// use jsoncomm::socket::Socket;
/// use jsoncomm::{Error, Kind};
///
/// match Socket::connect("/nowhere/at/all", Kind::Seqpacket) {
///     Err(Error::Address { problem: AddressProblem::Missing, .. }) => println!("not started yet"),
///     Err(error) => return Err(error),
///     Ok(_) => unreachable!(),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{operation} failed")]
    Os {
        /// The manual-page name of the call. For people: do not compare it, use `source`.
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
        /// What is wrong with it.
        problem: AddressProblem,
    },
    /// A service cannot be found by its name, or not be registered.
    #[error("service {name}: {problem}")]
    Service {
        /// The name, escaped for printing.
        name: String,
        /// What is wrong: it wraps a [`RegistryProblem`], which [`RegistryProblem::of`] returns.
        problem: io::Error,
    },
    /// A session could not be opened.
    #[error("no session: {0}")]
    Session(SessionProblem),
    /// What another process has handed over cannot be taken, or passed on.
    #[error("handover: {0}")]
    Handover(HandoverProblem),
    /// A value could not be written as a message; nothing was sent.
    #[error(transparent)]
    Encode(EncodeError),
    /// A received message is not of the expected type. It is discarded and its descriptors are closed.
    #[error(transparent)]
    Decode(DecodeError),
    /// The kernel truncated a received message. It is discarded and its descriptors are closed.
    #[error("message of {length} bytes was truncated")]
    Truncated {
        /// Length of the whole datagram in bytes.
        length: usize,
    },
    /// Descriptors of a received message were lost (`MSG_CTRUNC` in [recvmsg(2)]): this process may open no more of them,
    /// or a security module refused them. The message is discarded and its other descriptors are closed.
    ///
    /// [recvmsg(2)]: https://man7.org/linux/man-pages/man2/recvmsg.2.html
    #[error(
        "descriptors were lost on receipt: at the limit of open files, or refused by a security module"
    )]
    DescriptorsLost,
    /// A received message is larger than the limit. It is discarded and its descriptors are closed.
    #[error("received message of {size} bytes exceeds {limit}")]
    TooLarge {
        /// Size of the message in bytes.
        size: u64,
        /// [`Limits::message`](crate::Limits::message), in bytes.
        limit: usize,
    },
    /// The text of a large message cannot be read: descriptor 0 is missing, is no memfd, or is one that does not allow
    /// reading, for example because it was opened for writing only. The descriptors are closed.
    #[error("large payload: {reason}")]
    Payload {
        /// What is wrong with descriptor 0.
        reason: &'static str,
        /// What the kernel reported when it was read.
        #[source]
        source: Option<io::Error>,
    },
    /// A descriptor cannot be polled (`EPERM` of [epoll_ctl(2)]): it is a regular file or a directory, which is always
    /// ready.
    ///
    /// [epoll_ctl(2)]: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html
    #[error("the descriptor cannot be polled: a regular file or a directory is always ready")]
    NotPollable,
    /// The deadline has passed, or the timeout has elapsed.
    #[error("deadline passed")]
    Deadline,
    /// There is no room to send, and the connection does not wait for it because an event loop drives it.
    #[error("no room to send, and a connection driven by an event loop does not wait for it")]
    Full,
    /// A call or a stream was polled while no event loop drives its connection, so that nothing would wake the task. The
    /// call is cancelled. See [`Connection::set_driven`](crate::Connection::set_driven).
    #[error(
        "no event loop drives the connection: register it with Server::drive, or call set_driven and run_once"
    )]
    NotDriven,
    /// A program could not be started, for example because it does not exist.
    #[error("program {program} cannot be started")]
    Spawn {
        /// The program, escaped for printing.
        program: String,
        /// What the kernel reported.
        #[source]
        source: io::Error,
    },
    /// This process was not started with a connection to its parent, or has taken it over already. See
    /// [`child`](crate::child).
    #[error("no connection to the parent process: {reason}")]
    NoParent {
        /// What is missing.
        reason: &'static str,
    },
    /// The peer has closed its socket, or no process has the socket at the address open any more.
    #[error("closed by the peer")]
    Closed,
    /// The object was made before [fork(2)] in the parent process, which still uses it. Nothing was done. Make a new one in
    /// this process.
    ///
    /// [fork(2)]: https://man7.org/linux/man-pages/man2/fork.2.html
    #[error("made before fork(2), in another process: make a new one in this one")]
    Forked,
}

impl Error {
    /// Returns true if the error concerns one received message only, so that the next one can be received.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::Kind;
    /// use jsoncomm::socket::Socket;
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
    #[must_use = "receiving can go on only if this is true"]
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

impl From<OsError> for Error {
    fn from(error: OsError) -> Self {
        Self::Os {
            operation: error.operation,
            source: error.into(),
        }
    }
}
