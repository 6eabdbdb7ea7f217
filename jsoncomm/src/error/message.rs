//! Why bytes and descriptors are not a message, and why a value cannot be written as one.

use crate::sys::kind::FdKind;

/// Why received bytes and descriptors are not the message that was asked for.
///
/// The message is gone and its descriptors are closed; the next one can be received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not one JSON value in UTF-8.
    #[error("not JSON: {reason}")]
    Syntax {
        /// What the reader stumbled over, with line and column.
        reason: String,
    },
    /// More arrays and objects are open at once than the limit allows.
    #[error("nested deeper than {limit}")]
    TooDeep {
        /// [`Limits::depth`](crate::Limits::depth).
        limit: usize,
    },
    /// The JSON is well-formed, but not of the type's shape.
    #[error("{}{reason}", at(field))]
    Shape {
        /// The member in question, as a path such as `items.file`; `None` for the message as a whole.
        field: Option<String>,
        /// What was found and what was expected.
        reason: String,
    },
    /// A descriptor is missing, named twice, of the wrong kind, or left over.
    #[error("{}{problem}", at(field))]
    Descriptor {
        /// The member that names it; `None` for one that no member names.
        field: Option<String>,
        /// What is wrong with it.
        problem: FdProblem,
    },
}

impl DecodeError {
    /// Names the member that is to blame, as a path such as `items.file`, where there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::message::{UnusedFds, decode};
    /// use jsoncomm::fds::Fds;
    /// use jsoncomm::Message;
    ///
    /// #[derive(Debug, Message)]
    /// struct Range { from: u64, to: u64 }
    ///
    /// let text = br#"{"from":1,"to":"the end"}"#;
    /// let error = decode::<Range>(text, Fds::new(), UnusedFds::Refuse).unwrap_err();
    /// assert_eq!(error.field(), Some("to"));
    /// ```
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Syntax { .. } | Self::TooDeep { .. } => None,
            Self::Shape { field, .. } | Self::Descriptor { field, .. } => field.as_deref(),
        }
    }
}

/// What is wrong with a descriptor of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FdProblem {
    /// The index is not below the number of descriptors that came.
    #[error("descriptor {index} is missing, {count} came")]
    Missing {
        /// The index that the JSON names.
        index: u64,
        /// How many descriptors came with the message.
        count: usize,
    },
    /// Two members name the same descriptor.
    #[error("descriptor {index} is named twice")]
    Repeated {
        /// The index that the JSON names.
        index: u64,
    },
    /// It is not what the type needs.
    #[error("descriptor {index} is not {expected}")]
    Kind {
        /// The index that the JSON names.
        index: u64,
        /// What it should be, as a noun with its article.
        expected: &'static str,
    },
    /// It is a connection whose other end belongs to another user than the one who sent it, or to one that is not known.
    ///
    /// [Passing rights](crate::guide::rights) says why it is refused, and how to allow it.
    #[error("descriptor {index} is not a connection to a process of the sender's user")]
    Foreign {
        /// The index that the JSON names.
        index: u64,
    },
    /// It is a connection, and its sender has as many as [`Limits::user_connections`](crate::Limits::user_connections)
    /// allows.
    #[error("descriptor {index} exceeds the connections of the sender's user")]
    OverBudget {
        /// The index that the JSON names.
        index: u64,
    },
    /// It is a connection that cannot be sent: calls on it are in flight or gathered, or another process has made it.
    #[error("descriptor {index} is a connection with calls in flight, or of another process")]
    InUse {
        /// The index that the JSON would name.
        index: u64,
    },
    /// It is not what `#[fd(...)]` asks for.
    #[error("descriptor {index} is `{came}`, and not `{wanted}`")]
    Unfit {
        /// The index that the JSON names.
        index: u64,
        /// What it should be.
        wanted: FdKind,
        /// What it is.
        came: FdKind,
    },
    /// It is none that a `#[sensitive]` member may name; of such a member no more is told.
    #[error("not the descriptor that is expected")]
    Withheld,
    /// No member names it.
    #[error("descriptor {index} is not named by any field")]
    Surplus {
        /// Its place in the message.
        index: usize,
    },
}

/// Returns `field: `, or nothing.
fn at(field: &Option<String>) -> String {
    let at = field.iter().map(|field| format!("{field}: "));
    at.collect()
}

/// Why a value cannot be written as a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The type's own serialization failed, for example a map with keys that are not strings.
    #[error("{} cannot be written as JSON: {reason}", field.as_deref().unwrap_or("the message"))]
    Json {
        /// The member that is to blame, as a path such as `files[1].path`, without the keys of maps; `None` for the message
        /// as a whole.
        field: Option<String>,
        /// What serde reported.
        reason: String,
    },
    /// A descriptor cannot be sent.
    #[error("{}{problem}", at(field))]
    Descriptor {
        /// The member that names it, as a path such as `items[3].file`, without the keys of maps; `None` for the message as
        /// a whole.
        field: Option<String>,
        /// What is wrong with it.
        problem: FdProblem,
    },
    /// A floating-point number is NaN or infinite, which JSON cannot say.
    #[error("{}not a finite number", at(field))]
    NotFinite {
        /// The member that is to blame, as a path such as `items[3].weight`, without the keys of maps; `None` for
        /// the message as a whole.
        field: Option<String>,
    },
    /// The message holds more descriptors than one datagram carries.
    #[error("{count} descriptors exceed {limit}")]
    FdCount {
        /// How many the message holds.
        count: usize,
        /// How many fit: 253, or 252 beside a large payload.
        limit: usize,
    },
    /// The JSON text is longer than the limit.
    #[error("message of {size} bytes exceeds {limit}")]
    TooLarge {
        /// Length of the JSON text in bytes.
        size: usize,
        /// [`Limits::message`](crate::Limits::message).
        limit: usize,
    },
    /// The JSON text has more arrays and objects open at once than the limit allows.
    #[error("message nested deeper than {limit}")]
    TooDeep {
        /// [`Limits::depth`](crate::Limits::depth).
        limit: usize,
    },
}
