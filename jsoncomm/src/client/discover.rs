//! Asking a server what it serves.

use super::Connection;
use crate::describe::{DISCOVER, NoParams, Text};
use crate::error::CallError;

impl Connection {
    /// Asks the server what it serves; waits for the answer. It is an OpenRPC document: JSON without white space, of
    /// which [`describe`](crate::describe) says more.
    ///
    /// # Errors
    ///
    /// As [`call`](Connection::call). A server that does not tell answers
    /// [`Fault::METHOD_NOT_FOUND`](crate::Fault::METHOD_NOT_FOUND).
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::Connection;
    ///
    /// let document = Connection::open(&path)?.discover()?;
    /// assert!(document.starts_with(r#"{"openrpc":"1."#));
    /// assert!(document.contains(r#""name":"example.counter.add""#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "rpc.discover")]
    #[doc(alias = "OpenRPC")]
    pub fn discover(&self) -> Result<String, CallError> {
        let document: Text = self.call(DISCOVER, &NoParams)?;
        Ok(document.0)
    }
}
