//! Why a call failed.

use std::convert::Infallible;
use std::fmt;

use super::{Error, Fault};

/// The reason why a call failed. `E` is the service's own error type.
///
/// | variant | cause | was the method carried out? |
/// |---|---|---|
/// | [`Service`](Self::Service) | the method returned an error of its own | yes |
/// | [`Fault`](Self::Fault) | the server's framework refused the call | see [`Fault`] |
/// | [`Deadline`](Self::Deadline) | no reply came in time | unknown |
/// | [`Closed`](Self::Closed) | the server closed the connection | unknown |
/// | [`Stream`](Self::Stream) | the reply is a stream, but one reply was expected | yes |
/// | [`NotSent`](Self::NotSent) | the call could not be sent | no |
/// | [`Io`](Self::Io) | the reply could not be received or read | unknown |
///
/// If that is unknown, repeat the call only if it is idempotent; see
/// [`Connection::idempotent`](crate::Connection::idempotent).
///
/// A method that has no error of its own fails with `CallError<Infallible>`, which `?` does not turn into a `CallError<E>`. A
/// function that calls methods with different errors returns a `Box<dyn Error>` or an error that converts from each.
///
/// `Display` includes the wrapped [`Error`]; [`source`](std::error::Error::source) continues with what is behind it.
///
/// # Examples
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
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
    /// The method returned an error of its own.
    Service(E),
    /// The server's framework could not carry out the call.
    Fault(Fault),
    /// The call was sent, and no reply came before its deadline. The server is told to cancel it; the connection stays
    /// usable.
    Deadline,
    /// The server closed the connection, or is gone.
    Closed,
    /// The method replies with a stream. Call it with [`Connection::stream`](crate::Connection::stream). The server is told
    /// to cancel the stream.
    Stream,
    /// The call was not sent: [`Error::Encode`] if it cannot be written as a message, [`Error::Deadline`] if there was no
    /// room in time, [`Error::Full`] if there is none and an event loop drives the connection, or an error of connecting
    /// or sending.
    NotSent(Error),
    /// The reply could not be received or read.
    Io(Error),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Deadline => f.write_str("deadline passed"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Stream => {
                f.write_str("the method replies with a stream: call it with Connection::stream")
            }
            Self::NotSent(error) => write!(f, "the call was not sent: {error}"),
            Self::Io(error) if error.is_bad_message() => {
                write!(f, "the reply cannot be read: {error}")
            }
            Self::Io(error) => write!(f, "the reply cannot be received: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {
    /// Returns what is behind the wrapped error, which `Display` already includes.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotSent(error) | Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

/// Converts an error of an operation before the call, such as connecting: nothing has been sent.
///
/// # Examples
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
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
        match error {
            Error::Closed => Self::Closed,
            other => Self::NotSent(other),
        }
    }
}

impl<E> CallError<E> {
    /// Converts an error of receiving a reply.
    pub(crate) fn from_error(error: Error) -> Self {
        match error {
            Error::Deadline => Self::Deadline,
            Error::Closed => Self::Closed,
            other => Self::Io(other),
        }
    }
}
