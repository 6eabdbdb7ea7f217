//! Connections between a process and its child.

use std::process::Command;

use super::Connection;
use crate::child::{self, Child};
use crate::error::Error;

impl Connection {
    /// Starts a program as a [child], and connects to the server that it is to run there with
    /// [`Server::adopt_parent`](crate::Server::adopt_parent).
    ///
    /// Dropping the [`Child`] closes the connection and ends the process. So keep it for as long as there are calls.
    /// Dropping the connection ends a worker too, which can then be [waited](Child::wait) for.
    ///
    /// Waits until the child has executed the program, not until it serves: calls queue in the socket meanwhile. The command is
    /// used up, and whatever it owns is closed here.
    ///
    /// # Errors
    ///
    /// | error | when |
    /// |---|---|
    /// | [`Error::Spawn`] | the program cannot be executed, or there is no room for a process |
    /// | [`Error::Os`] | no sockets can be made, for a lack of descriptors or memory |
    ///
    /// No process is left, and everything that was opened is closed.
    ///
    /// # Examples
    ///
    /// [`child`](crate::child#examples) has both sides. This server was written in another language:
    ///
    /// ```
    /// use jsoncomm::{CallError, Connection};
    /// use std::process::Command;
    ///
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "test -S /dev/fd/$JSONCOMM_PARENT_FD"]);
    /// let (connection, mut child) = Connection::spawn(command)?;
    /// let sum: Result<u64, CallError> = connection.call("example.sums.add", &(30, 4));
    /// assert!(matches!(sum, Err(CallError::Closed))); // that program only looks, and ends
    /// assert!(child.wait()?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn(command: Command) -> Result<(Self, Child), Error> {
        let (near, mut child) = child::spawn(command)?;
        // On errors the child is ended by its drop, after the socket is closed.
        let connection = Self::from_fd(near)?;
        child.closes(&connection.shared.fd);
        Ok((connection, child))
    }

    /// Connects to the parent process, which has started this one with [`Server::spawn`](crate::Server::spawn).
    ///
    /// Calls end with [`CallError::Closed`](crate::CallError::Closed) once the parent has ended.
    ///
    /// # Errors
    ///
    /// [`Error::NoParent`] if this process was not started so, or has taken the connection over already. Nothing has changed.
    pub fn from_parent() -> Result<Self, Error> {
        Self::from_fd(child::take_parent()?)
    }
}
