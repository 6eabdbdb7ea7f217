//! What can go wrong, and the exit status of each.

use std::io;
use std::path::PathBuf;

use jsoncomm::message::Failure;
use jsoncomm::{CallError, Error, Fault};

use crate::field::Field;
use crate::json::{Malformed, Misplaced};

/// Why the command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The service's own answer.
    #[error("{0}")]
    Service(Failure),
    /// The command line says too much or too little.
    #[error("{0}")]
    Usage(String),
    #[error("the JSON of the command line is none")]
    Json(#[source] Malformed),
    #[error("--fd {field}: {problem}")]
    Misplaced { field: Field, problem: Misplaced },
    /// A file that the command line names.
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The library refuses to send it.
    #[error("this is not sent")]
    Unsendable(#[source] Error),
    /// Something this process needs is not to be had.
    #[error("{what}")]
    Here {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// The same, as the library says it.
    #[error("it cannot be served")]
    Serving(#[source] Error),
    /// The other side could not carry the call through.
    #[error(transparent)]
    Fault(Fault),
    /// The method answers in many parts.
    #[error("the method answers with a stream: call --follow prints its items")]
    Stream,
    /// What came is no answer.
    #[error("the answer cannot be used")]
    Answer(#[source] Error),
    #[error("the answer names no descriptor at {0}")]
    NotThere(Field),
    #[error("no method {0} is described")]
    NoMethod(String),
    #[error("the answer is no OpenRPC document")]
    NoDocument,
    #[error("cannot connect")]
    Connect(#[source] Error),
    #[error("the server closed the connection before it answered")]
    Closed,
    #[error("the deadline passed")]
    Deadline,
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Problem {
    /// A function that says which file an error is about.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            path: path.into(),
            source,
        }
    }

    /// A function that says what this process cannot do.
    pub(crate) fn here<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Here {
            what,
            source: source.into(),
        }
    }

    /// Sorts an error of a socket on which a call is under way.
    pub(crate) fn of_socket(error: Error) -> Self {
        match error {
            Error::Deadline => Self::Deadline,
            Error::Closed => Self::Closed,
            Error::Encode(_) => Self::Unsendable(error),
            error if error.is_bad_message() => Self::Answer(error),
            error => Self::Connect(error),
        }
    }

    /// The exit status, as the manual page has them.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Service(_) => 1,
            Self::Usage(_)
            | Self::Json(_)
            | Self::Misplaced { .. }
            | Self::File { .. }
            | Self::Unsendable(_)
            | Self::Here { .. }
            | Self::Serving(_)
            | Self::Output(_) => 2,
            Self::Fault(_)
            | Self::Stream
            | Self::Answer(_)
            | Self::NotThere(_)
            | Self::NoMethod(_)
            | Self::NoDocument => 3,
            Self::Connect(_) | Self::Closed => 4,
            Self::Deadline => 124,
        }
    }
}

impl From<CallError<Failure>> for Problem {
    fn from(error: CallError<Failure>) -> Self {
        match error {
            CallError::Service(failure) => Self::Service(failure),
            CallError::Fault(fault) => Self::Fault(fault),
            CallError::Deadline => Self::Deadline,
            CallError::Closed => Self::Closed,
            CallError::Stream => Self::Stream,
            CallError::Io(error) => Self::of_socket(error),
            // There are no others yet.
            other => Self::Usage(other.to_string()),
        }
    }
}
