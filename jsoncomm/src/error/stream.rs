//! Why an item of a stream was not accepted.

use super::EncodeError;

/// The reason why [`StreamSender::send`](crate::stream::StreamSender::send) did not accept an item.
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
