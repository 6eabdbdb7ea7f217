//! Why the other side's framework could not carry out a call.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::DecodeError;

/// A call that the other side's framework could not carry out: the error object of a [JSON-RPC 2.0] reply.
///
/// | code | constant | cause | method called? |
/// |---|---|---|---|
/// | -32700 | [`PARSE_ERROR`](Self::PARSE_ERROR) | the datagram is not JSON, or nested too deep | no |
/// | -32600 | [`INVALID_REQUEST`](Self::INVALID_REQUEST) | the JSON is not a call, or the message exceeds [`Limits::message`](crate::Limits::message) or [`Limits::batch`](crate::Limits::batch) | no |
/// | -32601 | [`METHOD_NOT_FOUND`](Self::METHOD_NOT_FOUND) | no service at this address has the method | no |
/// | -32602 | [`INVALID_PARAMS`](Self::INVALID_PARAMS) | an argument is missing, unknown or of the wrong type | no |
/// | -32603 | [`INTERNAL_ERROR`](Self::INTERNAL_ERROR) | the handler panicked, or its reply cannot be written | yes |
/// | -32000 | [`BUSY`](Self::BUSY) | a limit of the server was reached; try again later | usually not |
/// | -32001 | [`NO_REPLY`](Self::NO_REPLY) | the handler dropped its reply | yes |
/// | -32002 | [`SHUTTING_DOWN`](Self::SHUTTING_DOWN) | the server is shutting down | if deferred |
/// | -32003 | [`NOT_AUTHORIZED`](Self::NOT_AUTHORIZED) | the caller is not authorized | no |
/// | -32004 | [`REPLY_TOO_LARGE`](Self::REPLY_TOO_LARGE) | the reply exceeds a limit | yes |
/// | -32005 | [`DEADLINE_EXCEEDED`](Self::DEADLINE_EXCEEDED) | the caller's deadline passed before the handler ran | no |
/// | -32006 | [`CANCELLED`](Self::CANCELLED) | the call was cancelled | possibly |
/// | -32007 | [`INVALID_DESCRIPTORS`](Self::INVALID_DESCRIPTORS) | descriptors are missing, unused or of the wrong kind | no |
///
/// The first five codes are those of the standard, the others of this crate. A foreign peer may use codes of its own. An
/// error that the service itself declares is [`CallError::Service`](crate::CallError::Service), not a fault.
///
/// [JSON-RPC 2.0]: https://www.jsonrpc.org/specification#error_object
///
/// # Examples
///
/// ```
/// use jsoncomm::{CallError, Fault};
///
/// fn advice<E>(error: &CallError<E>) -> &'static str {
///     match error {
///         CallError::Service(_) => "read what the service reports",
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
    /// One of the constants of this type, or a code of a foreign peer.
    pub code: i64,
    /// Description by the other side, for people.
    pub message: String,
    /// Path of the argument that caused [`INVALID_PARAMS`](Self::INVALID_PARAMS) or
    /// [`INVALID_DESCRIPTORS`](Self::INVALID_DESCRIPTORS), such as `items[3].file`.
    pub field: Option<String>,
}

impl Fault {
    /// Makes a fault that concerns no particular argument.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
        }
    }

    /// The datagram is not JSON, or is nested too deep. JSON-RPC: "Parse error".
    pub const PARSE_ERROR: i64 = -32700;
    /// The JSON is not a call, or the message is too long. JSON-RPC: "Invalid Request".
    pub const INVALID_REQUEST: i64 = -32600;
    /// No service at this address has the method. JSON-RPC: "Method not found".
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// An argument is missing, unknown or of the wrong type. JSON-RPC: "Invalid params".
    pub const INVALID_PARAMS: i64 = -32602;
    /// The handler panicked, or its reply cannot be written as JSON. JSON-RPC: "Internal error".
    pub const INTERNAL_ERROR: i64 = -32603;
    /// A limit of the server was reached. Try again later.
    pub const BUSY: i64 = -32000;
    /// The handler dropped its reply without sending one.
    pub const NO_REPLY: i64 = -32001;
    /// The server is shutting down.
    pub const SHUTTING_DOWN: i64 = -32002;
    /// A rule of the endpoint does not authorize the caller, or not for this method.
    pub const NOT_AUTHORIZED: i64 = -32003;
    /// The reply exceeds a limit.
    pub const REPLY_TOO_LARGE: i64 = -32004;
    /// The caller's deadline passed before the handler ran.
    pub const DEADLINE_EXCEEDED: i64 = -32005;
    /// The call was cancelled.
    pub const CANCELLED: i64 = -32006;
    /// Descriptors do not match the message in number, index or kind.
    pub const INVALID_DESCRIPTORS: i64 = -32007;
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

/// Calls a handler or other code of the user that a peer can trigger. A panic becomes a fault of that one call; the panic
/// hook has run by then.
pub(crate) fn caught<T>(handler: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(handler))
        .map_err(|_| Fault::new(Fault::INTERNAL_ERROR, "the handler panicked"))
}
