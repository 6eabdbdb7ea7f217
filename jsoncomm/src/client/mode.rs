//! How a stub makes its calls.

use std::fmt;

use super::{Connection, PendingCall};
use crate::error::CallError;
use crate::message::{Message, Pack};

/// How the methods of a stub make their calls. Sealed: the modes are [`Blocking`] and [`Started`].
///
/// The stub of a trait `Files` is `FilesClient<M>`:
///
/// | type | made by | a method returns |
/// |---|---|---|
/// | `FilesClient`, which is `FilesClient<Blocking>` | `FilesClient::new(connection)` | the reply, as `Result<T, CallError<E>>` |
/// | `FilesClient<Started>` | `client.start()` | at once, `Result<PendingCall<T, E>, CallError<E>>` |
///
/// A method that returns a [`Stream`](crate::Stream) returns `Result<Items<T, E>, CallError<E>>` in both, and a
/// `#[oneway]` method `Result<(), CallError>`.
///
/// # Examples
///
/// A stub that is kept in a struct is named with its mode:
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
/// use jsoncomm::client::Started;
/// use jsoncomm::{CallError, Connection};
///
/// /// Adds in one round trip what another program would add in two.
/// struct Pair { counter: CounterClient<Started> }
///
/// impl Pair {
///     // `add` is a method of the trait: `fn add(&mut self, number: u64) -> u64`.
///     fn add(&self, first: u64, second: u64) -> Result<u64, CallError> {
///         let (first, second) = (self.counter.add(first)?, self.counter.add(second)?);
///         first.wait()?;
///         second.wait()
///     }
/// }
///
/// let pair = Pair { counter: CounterClient::new(Connection::open(&path)?).start() };
/// assert_eq!(pair.add(1, 2)?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CallMode: sealed::Sealed + Clone + fmt::Debug {
    /// What a method of the stub returns that has one reply.
    type Output<T, E>;

    #[doc(hidden)]
    fn call<T: Message, E: Message>(
        connection: &Connection,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Output<T, E>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Blocking {}
    impl Sealed for super::Started {}
}

/// The mode of a stub whose methods wait for the reply.
///
/// It is the default: `FilesClient` is `FilesClient<Blocking>`.
///
/// # Examples
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
/// use jsoncomm::client::Blocking;
/// use jsoncomm::Connection;
///
/// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
/// let counter: CounterClient<Blocking> = CounterClient::new(Connection::open(&path)?);
/// assert_eq!(counter.add(1)?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Blocking {}

impl CallMode for Blocking {
    type Output<T, E> = Result<T, CallError<E>>;

    fn call<T: Message, E: Message>(
        connection: &Connection,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Output<T, E> {
        connection.call(method, params)
    }
}

/// The mode of a stub whose methods send the call and return a [`PendingCall`].
///
/// # Examples
///
/// ```
#[doc = include_str!("../../doc/counter.txt")]
/// use jsoncomm::client::Started;
/// use jsoncomm::Connection;
///
/// // The stub of a trait with `fn add(&mut self, number: u64) -> u64`.
/// let counter = CounterClient::new(Connection::open(&path)?);
/// let counter: CounterClient<Started> = counter.start();
/// assert_eq!(counter.add(1)?.wait()?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Started {}

impl CallMode for Started {
    type Output<T, E> = Result<PendingCall<T, E>, CallError<E>>;

    fn call<T: Message, E: Message>(
        connection: &Connection,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Output<T, E> {
        connection.start(method, params)
    }
}
