//! Making calls.

use std::marker::PhantomData;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use serde::Serializer;

use super::handle::Handle;
use super::reply::read_reply;
use super::send::Outgoing;
use super::table::Table;
use super::{Connection, Items, PendingCall, Recovery, time_left};
use crate::describe::{DISCOVER, Document};
use crate::error::{CallError, Error};
use crate::message::{Message, NoArguments, Pack, PackContent, Packer, Request};
use crate::sys::wait;

/// The longest pause before a call that may be repeated is sent again.
const BACKOFF_MAX: Duration = Duration::from_millis(100);

impl Connection {
    /// Calls a method by its full name and waits for the reply.
    ///
    /// `params` is written as an object or an array: a struct or a tuple. Descriptors in it are duplicated, the caller
    /// keeps its own. `T` is the result and `E` the service's error; descriptors of a reply that they do not take are
    /// closed.
    ///
    /// # Errors
    ///
    /// | error | when | carried out? |
    /// |---|---|---|
    /// | [`CallError::Service`] | the method has failed with an error of the service | yes |
    /// | [`CallError::Fault`] | the server could not carry out the call, or its reply cannot be sent | its code tells |
    /// | [`CallError::Deadline`] | no reply came in time; the call is cancelled | unknown |
    /// | [`CallError::Closed`] | the server has closed | unknown |
    /// | [`CallError::Stream`] | the method replies with a stream: use [`stream`](Connection::stream) | unknown |
    /// | [`CallError::NotSent`] | the call could not be encoded or sent | no |
    /// | [`CallError::Io`] | the reply could not be received or decoded | unknown |
    ///
    /// The connection stays usable after each of them. Once the server has closed, each call fails with
    /// [`CallError::Closed`], until a clone that is [`reconnecting`](Connection::reconnecting) has connected again.
    pub fn call<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<T, CallError<E>> {
        let deadline = self.deadline();
        let mut backoff = Duration::from_millis(1);
        let mut repeated = false;
        loop {
            match self.attempt(method, params, deadline) {
                Err(CallError::Closed) if self.may_repeat() => {}
                // An earlier attempt may have been carried out.
                Err(CallError::NotSent(error)) if repeated => {
                    return Err(CallError::from_error(error));
                }
                reply => return reply,
            }
            repeated = true;
            match time_left(deadline) {
                Some(Duration::ZERO) => return Err(CallError::Deadline),
                left => wait::pause(left.map_or(backoff, |left| left.min(backoff))),
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn attempt<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        let timeout = match self.recovery {
            Recovery::None | Recovery::Reconnect => self.timeout,
            Recovery::Repeat => time_left(deadline),
        };
        let shared = &*self.shared;
        let id = shared.next_id();
        let call = shared.encode(method, params, Some((id, timeout)), self.trace.as_deref())?;
        let mut table = match shared.send(call, deadline, true, self.may_reconnect()) {
            Ok(table) => table,
            // A server that rejects a connection sends the reason before it closes.
            Err(Error::Closed) if !shared.lock().is_datagram() => shared.lock(),
            Err(why) => return Err(why.into()),
        };
        let received = !table.insert(id).is_empty();
        if let Some(entry) = received.then(|| table.pop(id)).flatten() {
            drop(table);
            return read_reply(entry);
        }
        shared.wait_for_reply(table, id, deadline)
    }

    /// Returns true if a call may connect again. An event loop waits for the socket as it is.
    pub(super) fn may_reconnect(&self) -> bool {
        self.recovery != Recovery::None && !self.shared.is_driven()
    }

    fn may_repeat(&self) -> bool {
        let repeats = self.recovery == Recovery::Repeat && self.may_reconnect();
        repeats && self.shared.connector.is_some()
    }

    /// Sends a request that is a variant of an enum, and waits for the reply.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Connection::call).
    ///
    /// # Examples
    ///
    /// ```
    /// use jsoncomm::{Connection, Message};
    /// # use jsoncomm::{Call, Handler, Kind, Limits, Reply, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("jobs.sock");
    ///
    /// #[derive(Debug, Message)]
    /// #[message(service = "example.jobs", reply = Tell)]
    /// enum Ask { Run { program: String }, Wait { job: u32 } }
    ///
    /// #[derive(Debug, Message)]
    /// enum Tell { Started { job: u32 }, Exited { code: i32 } }
    /// # struct Jobs;
    /// # impl Handler<Ask> for Jobs {
    /// #     fn handle(&mut self, _: &mut Call, _: Ask, reply: Reply<Tell>) {
    /// #         reply.send(Tell::Started { job: 1 });
    /// #     }
    /// # }
    /// # let mut server = Server::new(Limits::default())?;
    /// # server.bind(&path, Kind::Seqpacket)?.handle::<Ask>();
    /// # std::thread::spawn(move || server.run(&mut Jobs));
    ///
    /// let jobs = Connection::open(&path)?;
    /// match jobs.request(&Ask::Run { program: "true".into() })? {
    ///     Tell::Started { job } => println!("job {job}"),
    ///     Tell::Exited { code } => println!("it has exited already, with {code}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request<R: Request>(&self, request: &R) -> Result<R::Reply, CallError<R::Error>> {
        self.call(&request.full_name(), &Content(request))
    }

    /// Sends a call without waiting for its reply.
    ///
    /// Waits only for room to send, until the deadline that this connection gives the call, and receives replies to other
    /// calls meanwhile. Any number of calls may be in flight on a connection, and be replied to in any order.
    ///
    /// Replies that have come before the server closes are kept, with one exception: if a [`Kind::Datagram`] server is
    /// gone, the next call that is sent has the kernel discard what is in the socket. Replies that came in the 10 ms
    /// before, or while that call waited for room, can be lost then: their calls end with [`CallError::Closed`].
    ///
    /// # Errors
    ///
    /// [`CallError::Closed`] if the server has closed; [`CallError::NotSent`] for all else, such as
    /// [`Error::Deadline`] if there was no room in time. Nothing has been sent.
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::client::PendingCall;
    /// use jsoncomm::{CallError, Connection};
    ///
    /// let connection = Connection::open(&path)?;
    /// let first: PendingCall<u64> = connection.start("example.counter.add", &(1,))?;
    /// let second: PendingCall<u64> = connection.start("example.counter.add", &(2,))?;
    /// assert_eq!((second.wait()?, first.wait()?), (3, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Kind::Datagram`]: crate::Kind::Datagram
    /// [`Error::Deadline`]: crate::Error::Deadline
    pub fn start<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<PendingCall<T, E>, CallError<E>> {
        let handle = self.send_call(method, params, false)?;
        let types = PhantomData;
        Ok(PendingCall { handle, types })
    }

    /// Sends a call whose reply comes in many parts; does not wait for the first.
    ///
    /// Waits only for room to send. The timeout of this connection holds for sending, and anew for each part.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Connection::start).
    ///
    /// # Examples
    ///
    /// See [`Items`], which has one with a stub.
    pub fn stream<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<Items<T, E>, CallError<E>> {
        let handle = self.send_call(method, params, true)?;
        let types = PhantomData;
        Ok(Items { handle, types })
    }

    /// Sends a call whose reply is not waited for.
    fn send_call(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
        streamed: bool,
    ) -> Result<Handle, Error> {
        self.shared.check_in_flight()?;
        let (id, deadline) = (self.shared.next_id(), self.deadline());
        // The server of a stream is told no timeout: to it, that would be one for the whole stream.
        let timeout = self.timeout.filter(|_| !streamed);
        let (reply, trace) = (Some((id, timeout)), self.trace.as_deref());
        let mut call = self.shared.encode(method, params, reply, trace)?;
        call.streamed = streamed;
        let mut table = self.send(call, Some(id), deadline)?;
        table.insert(id).streamed = streamed;
        drop(table);
        Ok(Handle {
            connection: self.clone(),
            id,
            deadline: deadline.filter(|_| !streamed),
            done: false,
        })
    }

    /// Sends or gathers a call whose reply is not waited for. `id` is `None` if it has none. Returns with the table locked.
    fn send(
        &self,
        call: Outgoing<'_>,
        id: Option<u64>,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, Table>, Error> {
        let (waits, reconnect) = (self.shared.waits_for_room(), self.may_reconnect());
        if self.batching && call.fds.is_empty() {
            return self.shared.gather(call, id, deadline, waits, reconnect);
        }
        let mut table = self.shared.send(call, deadline, waits, reconnect)?;
        table.notified |= id.is_none();
        Ok(table)
    }

    /// Calls a method that has no reply.
    ///
    /// Waits only for room to send. Returns when the kernel has the call; the server may still refuse it, and nothing
    /// reports that.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Connection::start).
    ///
    /// # Examples
    ///
    /// ```
    #[doc = include_str!("../../doc/counter.txt")]
    /// use jsoncomm::{CallError, Connection};
    ///
    /// let connection = Connection::open(&path)?;
    /// connection.notify("example.counter.set", &(40,))?;
    /// let sum: Result<u64, CallError> = connection.call("example.counter.add", &(2,));
    /// assert_eq!(sum?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn notify(&self, method: &str, params: &(impl Pack + ?Sized)) -> Result<(), CallError> {
        let trace = self.trace.as_deref();
        let call = self.shared.encode(method, params, None, trace)?;
        drop(self.send(call, None, self.deadline())?);
        Ok(())
    }

    /// Asks the server which methods it has, and waits for the reply.
    ///
    /// It is an OpenRPC document, JSON without white space: see [`describe`](crate::describe).
    ///
    /// # Errors
    ///
    /// Those of [`call`](Connection::call). [`CallError::Fault`] with
    /// [`Fault::METHOD_NOT_FOUND`](crate::Fault::METHOD_NOT_FOUND) if the server does not describe itself.
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
        let document: Document = self.call(DISCOVER, &NoArguments)?;
        Ok(document.0)
    }
}

/// The content of a request, without the name of its variant.
struct Content<'r, R>(&'r R);

impl<R: PackContent> Pack for Content<'_, R> {
    fn pack<'a, S: Serializer>(
        &'a self,
        fds: &Packer<'a>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        self.0.pack_content(fds, serializer)
    }
}
