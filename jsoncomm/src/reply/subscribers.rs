//! Several readers of the same stream.

use std::convert::Infallible;

use super::stream::StreamSender;
use crate::error::{EncodeError, SendError};
use crate::message::Pack;

/// The stream senders of several callers that receive the same items.
///
/// Dropping it drops the senders, which ends their streams with the fault [`Fault::NO_REPLY`](crate::Fault::NO_REPLY).
///
/// # Examples
///
/// A server that publishes a value to all subscribers. A slow one gets the newest value only:
///
/// ```
/// use jsoncomm::stream::{Overflow, Subscribers};
/// use jsoncomm::{Call, Stream};
///
/// #[jsoncomm::service(name = "example.thermometer")]
/// trait Thermometer {
///     /// Sends the temperature whenever it changes.
///     fn changes(&mut self, call: &mut Call) -> Stream<f64>;
/// }
///
/// #[derive(Default)]
/// struct Room { subscribers: Subscribers<f64> }
///
/// impl Thermometer for Room {
///     fn changes(&mut self, call: &mut Call) -> Stream<f64> {
///         call.stream(|sender| {
///             sender.set_overflow(Overflow::Latest);
///             self.subscribers.add(sender);
///         })
///     }
/// }
///
/// impl Room {
///     fn measured(&mut self, degrees: f64) {
///         let sent = self.subscribers.send(&degrees);
/// #       assert_eq!(sent.ok(), Some(0));
///     }
/// }
/// # Room::default().measured(21.5);
/// ```
#[derive(Debug)]
pub struct Subscribers<T, E = Infallible> {
    senders: Vec<StreamSender<T, E>>,
}

impl<T: Pack, E> Subscribers<T, E> {
    /// Sends an item to each subscriber, subject to its [`Overflow`](crate::stream::Overflow). Never waits.
    ///
    /// Returns how many took the item. Removes the senders of streams that are no longer wanted.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the item cannot be encoded or exceeds a limit. It has not been sent to any subscriber.
    pub fn send(&mut self, item: &T) -> Result<usize, EncodeError> {
        let (mut sent, mut failed) = (0, None);
        self.senders.retain(|sender| {
            let result = sender.send(item);
            sent += usize::from(result.is_ok());
            let is_open = !matches!(result, Err(SendError::Closed));
            if let Err(SendError::Encode(error)) = result {
                failed = Some(error);
            }
            is_open
        });
        failed.map_or(Ok(sent), Err)
    }
}

impl<T, E> Subscribers<T, E> {
    /// Adds a subscriber. Removes the senders of streams that are no longer wanted.
    pub fn add(&mut self, sender: StreamSender<T, E>) {
        self.senders.retain(StreamSender::is_wanted);
        self.senders.push(sender);
    }

    /// The number of subscribers, including those that disconnected since the last call of [`add`](Subscribers::add) or
    /// [`send`](Subscribers::send).
    pub fn len(&self) -> usize {
        self.senders.len()
    }

    /// Returns true if there is no subscriber.
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// Ends all streams, after the items that wait.
    pub fn end(self) {
        self.senders.into_iter().for_each(StreamSender::end);
    }
}

impl<T, E> Default for Subscribers<T, E> {
    fn default() -> Self {
        Self {
            senders: Vec::new(),
        }
    }
}
