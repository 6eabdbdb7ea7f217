//! What can be wrong with what one process hands over to the next.

/// The reason why a [`Handover`](crate::server::Handover) could not be passed on or received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverProblem {
    /// The descriptor is not one that [`Handover::to_fd`](crate::server::Handover::to_fd) returns.
    #[error("the descriptor is none")]
    Other,
    /// Another version of the library has made it, in a format that this one does not know.
    #[error("it has format {found}, and this version of the library reads format {known}")]
    Format {
        /// The format.
        found: u32,
        /// The format that this version reads and writes.
        known: u32,
    },
    /// A user who is neither root nor this process's has made it. It would decide who the peers are.
    #[error("it was made by user {uid}, who is neither root nor this process's user")]
    Foreign {
        /// That user.
        uid: u32,
    },
    /// What belongs to it is missing: it has been received before, or its sender ended too early.
    #[error("it is not complete, or has been received before")]
    Incomplete,
    /// Its content is not what a server has written.
    #[error("it is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// It is larger than what can be queued in a socket.
    #[error("it does not fit into a socket")]
    TooLarge,
}
