//! Why a session cannot be opened.

/// The reason why a session cannot be opened. See [`Call::open_session`](crate::Call::open_session).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionProblem {
    /// The server has no sessions of this service. See [`Server::sessions`](crate::Server::sessions).
    #[error("the server has no sessions of this service")]
    NotServed,
    /// The rule of the sessions does not authorize the peer, or the peer is unknown.
    #[error("the peer is not authorized")]
    NotAuthorized,
    /// The server has as many connections as [`Limits::connections`](crate::Limits::connections) allows.
    #[error("too many connections")]
    TooMany,
    /// The peer's user has as many connections as [`Limits::user_connections`](crate::Limits::user_connections) allows.
    #[error("too many connections of this user")]
    TooManyOfUser,
}
