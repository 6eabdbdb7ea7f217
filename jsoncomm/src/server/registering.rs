//! Registering what an endpoint serves, so that clients find it by name.

use super::Source;
use super::endpoint::Endpoint;
use crate::address::{Bound, Registry};
use crate::error::{Error, RegistryProblem};

impl<S> Endpoint<'_, S> {
    /// Makes an entry in the [`Registry`] for each service that is served here so far, so that clients find it by
    /// [`Address::service`](crate::address::Address::service).
    ///
    /// The directory is the first of `JSONCOMM_REGISTRY`; without that variable `/run/jsoncomm` for root, and
    /// `$XDG_RUNTIME_DIR/jsoncomm` for another user. It is made if only its last part is missing. An entry in it that leads to a
    /// dead socket is replaced; one that leads to this socket already is taken over.
    ///
    /// The entries are removed with the socket's file, if they are still those that were made here: when the endpoint is removed,
    /// or when the server stops or is dropped. [`Server::hand_over`](crate::Server::hand_over) leaves them in place; the next
    /// process takes them over if it registers as well. What a process leaves that is killed is dead, and replaced.
    ///
    /// Processes that register at the same time wait for each other, for up to a second (`.lock` in the directory, mode 0600).
    ///
    /// # Errors
    ///
    /// No entry is made or replaced then, and the endpoint is gone from the returned value, but still served.
    ///
    /// - [`Error::Service`] with [`RegistryProblem::NotWritable`] if this process may not write to the directory. It has the line for
    ///   `tmpfiles.d` with which an administrator makes the entry.
    /// - [`Error::Service`] with [`RegistryProblem::InUse`] if the entry leads to another socket that is open.
    /// - [`Error::Service`] with another [`RegistryProblem`] if the endpoint has no path or serves nothing, or if no client would
    ///   believe the directory or that of the socket; see [`Registry`].
    /// - [`Error::Os`] for what the kernel reports otherwise.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use jsoncomm::{Kind, Server};
    ///
    /// #[jsoncomm::service(name = "example.clock")]
    /// trait Clock {
    ///     fn now(&mut self) -> u64;
    /// }
    ///
    /// fn serve<S: Clock>(server: &mut Server<S>) -> Result<(), jsoncomm::Error> {
    ///     let endpoint = server.bind("/run/clock/socket", Kind::Seqpacket)?;
    ///     endpoint.serve::<dyn Clock>().register()?;
    ///     Ok(())
    /// }
    /// ```
    pub fn register(self) -> Result<Self, Error> {
        self.register_in(&Registry::from_env())
    }

    /// Makes entries as [`register`](Endpoint::register) does, in the first directory of a registry.
    ///
    /// # Errors
    ///
    /// Those of [`register`](Endpoint::register).
    pub fn register_in(mut self, registry: &Registry) -> Result<Self, Error> {
        let Some((routes, bound)) = self.source().and_then(parts) else {
            return Err(RegistryProblem::NotBound.about(""));
        };
        let names = routes.services();
        if names.is_empty() {
            return Err(RegistryProblem::NothingServed.about(""));
        }
        bound.register(registry, &names)?;
        Ok(self)
    }
}

/// Returns what is served at a source, and what holds its address.
fn parts<S>(source: &mut Source<S>) -> Option<(&crate::router::Routes<S>, &mut Bound)> {
    match source {
        Source::Datagrams(endpoint) => Some((&endpoint.routes, endpoint.path.as_deref_mut()?)),
        Source::Listener(source) => Some((&source.routes, source.listener.bound()?)),
        _ => None,
    }
}
