//! Several readers of the same items.

use std::convert::Infallible;

use super::stream::StreamSender;
use crate::error::{EncodeError, SendError};
use crate::message::Pack;

/// Several sinks for the same items: whoever has asked to be told of something.
///
/// # Examples
///
/// A server that pushes what happens to everybody who has subscribed, and keeps only the newest for those who
/// are slow:
///
/// ```
/// use jsoncomm::stream::{Overflow, Subscribers};
/// use jsoncomm::{Call, Stream};
///
/// #[jsoncomm::service(name = "example.thermometer")]
/// trait Thermometer {
///     /// Every change of the temperature, until the caller drops the stream.
///     fn changes(&mut self, call: &mut Call) -> Stream<f64>;
/// }
///
/// #[derive(Default)]
/// struct Room { subscribers: Subscribers<f64> }
///
/// impl Thermometer for Room {
///     fn changes(&mut self, call: &mut Call) -> Stream<f64> {
///         call.stream(|sink| {
///             sink.set_overflow(Overflow::Latest);
///             self.subscribers.add(sink);
///         })
///     }
/// }
///
/// impl Room {
///     /// Called by a timer, say.
///     fn measured(&mut self, degrees: f64) {
///         let told = self.subscribers.send(&degrees);
/// #       assert_eq!(told.ok(), Some(0));
///     }
/// }
/// # Room::default().measured(21.5);
/// ```
#[derive(Debug)]
pub struct Subscribers<T, E = Infallible> {
    sinks: Vec<StreamSender<T, E>>,
}

impl<T, E> Default for Subscribers<T, E> {
    fn default() -> Self {
        Self { sinks: Vec::new() }
    }
}

impl<T, E> Subscribers<T, E> {
    /// Adds one, and forgets those that nobody reads any more.
    pub fn add(&mut self, sink: StreamSender<T, E>) {
        self.sinks.retain(StreamSender::is_wanted);
        self.sinks.push(sink);
    }

    /// How many there are, counting those whose reader has gone since the last call.
    pub fn len(&self) -> usize {
        self.sinks.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Ends all their streams well.
    pub fn end(self) {
        self.sinks.into_iter().for_each(StreamSender::end);
    }
}

impl<T: Pack, E> Subscribers<T, E> {
    /// Sends an item to each, as its overflow says, and forgets those that nobody reads any more. Says how many
    /// took it.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the item cannot be written; it has then been sent to nobody.
    pub fn send(&mut self, item: &T) -> Result<usize, EncodeError> {
        let (mut took, mut failed) = (0, None);
        self.sinks.retain(|sink| match sink.send(item) {
            Ok(()) => {
                took += 1;
                true
            }
            Err(SendError::Encode(error)) => {
                failed = Some(error);
                true
            }
            Err(SendError::Full | SendError::NoDescriptors) => true,
            Err(SendError::Closed) => false,
        });
        failed.map_or(Ok(took), Err)
    }
}
