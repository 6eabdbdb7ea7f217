//! Why an item of a stream was not accepted.

use super::EncodeError;

/// The reason why [`StreamSender::send`](crate::stream::StreamSender::send) did not accept an item.
///
/// After all but `Closed` the stream continues without the item.
///
/// # Examples
///
/// ```
/// use jsoncomm::stream::{SendError, StreamSender};
///
/// /// Sends lines while the reader keeps up. Returns how many were sent.
/// fn send_lines(sender: &StreamSender<String>, lines: &[String]) -> Result<usize, SendError> {
///     for (sent, line) in lines.iter().enumerate() {
///         match sender.send(line) {
///             Ok(()) => {}
///             Err(SendError::Full) => return Ok(sent), // `on_room` reports when to continue
///             Err(error) => return Err(error),
///         }
///     }
///     Ok(lines.len())
/// }
/// ```
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
