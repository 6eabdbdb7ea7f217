//! Errors, and the exit status of each.

use std::fmt;
use std::io;
use std::path::PathBuf;

use jsoncomm::fds::FdKind;
use jsoncomm::message::RawError;
use jsoncomm::message::{DecodeError, EncodeError};
use jsoncomm::openrpc::NotDocument;
use jsoncomm::{CallError, Error, Fault};

use crate::field::Field;
use crate::json::Misplaced;
use crate::words::Origin;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// An error of the service.
    #[error("{0}")]
    Service(RawError),
    /// An error in the command line.
    #[error("{0}")]
    Usage(String),
    /// The text is not JSON.
    #[error("{from} is not JSON: {reason}")]
    NotJson { from: Origin, reason: String },
    #[error("{0} is empty: JSON is expected")]
    NoText(Origin),
    /// The text is JSON, but not a message.
    #[error("{from}")]
    Json {
        from: Origin,
        #[source]
        error: DecodeError,
    },
    #[error(
        "{0} cannot be the arguments: they are an object, {{\"name\":value}}, or an array, [value]"
    )]
    NoArguments(Origin),
    #[error("{from} is longer than {limit} bytes: --limit raises that")]
    TooLong { from: Origin, limit: usize },
    #[error("--fd {field}: {problem}")]
    Misplaced { field: Field, problem: Misplaced },
    /// An error of a file on the command line.
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// An error of a descriptor that the command line names by its number.
    #[error("fd:{number} is {}", descriptor_trouble(.error))]
    Inherited { number: i32, error: io::Error },
    /// A program that does not exist.
    #[error("{}: no such program", .0.display())]
    NoProgram(PathBuf),
    /// A descriptor that the service would refuse.
    #[error("--fd {field}: the file is `{came}`, and the service asks for `{wanted}`")]
    Unfit {
        field: Field,
        came: FdKind,
        wanted: FdKind,
    },
    /// The library refuses to send the message.
    #[error("the message cannot be sent")]
    Unsendable(#[source] Error),
    #[error("the call of {size} bytes is longer than {limit}: --limit raises that")]
    CallTooLong { size: usize, limit: usize },
    /// This process lacks a resource.
    #[error("{what}")]
    Here {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// The library reports that the server cannot run.
    #[error("cannot serve")]
    Serving(#[source] Error),
    /// The server could not carry out the call.
    #[error(transparent)]
    Fault(Fault),
    /// The method returns a stream.
    #[error("the method returns a stream: call --follow prints its items")]
    Stream,
    #[error("the reply of {size} bytes is longer than {limit}: --limit raises that")]
    ReplyTooLong { size: u64, limit: usize },
    /// An error of a descriptor in the reply.
    #[error("the descriptor at {field} cannot be read")]
    Unreadable {
        field: Field,
        #[source]
        source: io::Error,
    },
    /// The reply is invalid.
    #[error("the reply is invalid")]
    BadReply(#[source] Error),
    #[error("the reply has no descriptor at {0}")]
    NotThere(Field),
    #[error("no method {0} is described")]
    NoMethod(String),
    #[error("the reply is not an OpenRPC document")]
    NoDocument,
    #[error("{word}")]
    NotDocument {
        word: String,
        #[source]
        error: NotDocument,
    },
    #[error("{breaking} of {changes} changes break programs that were built with the old version")]
    Incompatible { breaking: usize, changes: usize },
    #[error("the service does not describe itself: the server has no rpc.discover ({0})")]
    Undescribed(Fault),
    #[error("the services cannot be listed")]
    Registry(#[source] Error),
    #[error("cannot connect")]
    Connect(#[source] Error),
    #[error("cannot connect: fd:{number} is {what}")]
    NoSocket { number: i32, what: String },
    /// An error of the connection to the service.
    #[error("the connection failed")]
    Connection(#[source] Error),
    #[error("the server closed the connection before it replied")]
    Closed,
    #[error("the deadline passed")]
    Deadline,
    /// The server does not read.
    #[error("the deadline passed before the call could be sent")]
    NotSent,
    /// An error of the library that this version does not know.
    #[error("{0}")]
    Other(String),
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// Standard error, where the reply should be written.
    #[error("cannot write to standard error")]
    ErrorOutput(#[source] io::Error),
}

/// Describes what is wrong with a descriptor that the process should have inherited.
pub(crate) fn descriptor_trouble(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists => {
            String::from("not open: jsoncomm has to be started with it")
        }
        _ => format!("unusable: {error}"),
    }
}

impl Problem {
    /// Returns a function that adds the file to an error.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            path: path.into(),
            source,
        }
    }

    /// Returns a function that adds the descriptor to an error.
    pub(crate) fn inherited(number: i32) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Inherited { number, error }
    }

    /// Returns a function that adds the failed operation to an error.
    pub(crate) fn here<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Here {
            what,
            source: source.into(),
        }
    }

    /// Classifies an error of connecting.
    pub(crate) fn of_connecting(error: Error) -> Self {
        match error {
            Error::Deadline => Self::Deadline,
            error => Self::Connect(error),
        }
    }

    /// Classifies an error of a socket with a call in flight.
    pub(crate) fn of_socket(error: Error) -> Self {
        match error {
            Error::Deadline => Self::Deadline,
            Error::Closed => Self::Closed,
            Error::Encode(EncodeError::TooLarge { size, limit }) => {
                Self::CallTooLong { size, limit }
            }
            Error::Encode(_) => Self::Unsendable(error),
            Error::TooLarge { size, limit } => Self::ReplyTooLong { size, limit },
            error if error.is_bad_message() => Self::BadReply(error),
            error @ Error::Address { .. } => Self::Connect(error),
            error => Self::Connection(error),
        }
    }

    /// Classifies the error of a call.
    fn of_call<E: fmt::Display>(error: CallError<E>, service: impl FnOnce(E) -> Self) -> Self {
        match error {
            CallError::Service(error) => service(error),
            CallError::Fault(fault) => Self::Fault(fault),
            CallError::Deadline => Self::Deadline,
            CallError::Closed => Self::Closed,
            CallError::Stream => Self::Stream,
            CallError::NotSent(Error::Deadline) => Self::NotSent,
            CallError::NotSent(error) | CallError::Io(error) => Self::of_socket(error),
            // There are no others yet.
            other => Self::Other(other.to_string()),
        }
    }

    /// Returns the exit status, as in the manual page.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Service(_) | Self::Incompatible { .. } => 1,
            Self::Usage(_)
            | Self::NotJson { .. }
            | Self::NoText(_)
            | Self::Json { .. }
            | Self::NoArguments(_)
            | Self::TooLong { .. }
            | Self::Misplaced { .. }
            | Self::File { .. }
            | Self::Inherited { .. }
            | Self::NoProgram(_)
            | Self::NotDocument { .. }
            | Self::Unfit { .. }
            | Self::Unsendable(_)
            | Self::CallTooLong { .. }
            | Self::Here { .. }
            | Self::Serving(_)
            | Self::Output(_)
            | Self::ErrorOutput(_) => 2,
            Self::Fault(_)
            | Self::Stream
            | Self::ReplyTooLong { .. }
            | Self::Unreadable { .. }
            | Self::BadReply(_)
            | Self::NotThere(_)
            | Self::NoMethod(_)
            | Self::NoDocument
            | Self::Undescribed(_)
            | Self::Other(_) => 3,
            Self::Registry(_)
            | Self::Connect(_)
            | Self::NoSocket { .. }
            | Self::Connection(_)
            | Self::Closed => 4,
            Self::Deadline | Self::NotSent => 124,
        }
    }
}

impl From<CallError<RawError>> for Problem {
    fn from(error: CallError<RawError>) -> Self {
        Self::of_call(error, Self::Service)
    }
}

impl From<CallError> for Problem {
    /// A call without a reply has no errors of a service.
    fn from(error: CallError) -> Self {
        Self::of_call(error, |never| match never {})
    }
}
