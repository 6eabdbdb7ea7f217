//! How a stub makes its calls.

use super::{Connection, PendingCall};
use crate::error::CallError;
use crate::message::{Message, Pack};
use std::fmt;

/// How a stub makes its calls: it waits for each reply ([`Blocking`]), or only starts them ([`Started`]).
pub trait CallMode: Clone + fmt::Debug {
    /// What a stub's method returns, unless it is answered in many parts: those are
    /// [`Items`](crate::stream::Items) either way.
    type Output<T, E>;

    /// Makes a call.
    #[doc(hidden)]
    fn call<T: Message, E: Message>(
        connection: &Connection,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Self::Output<T, E>;
}

/// Each of the stub's methods waits for its answer.
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

/// Each of the stub's methods starts a call and returns what waits for it.
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
