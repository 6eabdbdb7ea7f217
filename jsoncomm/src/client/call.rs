//! Making calls.

use std::time::{Duration, Instant};

use serde::Serializer;

use super::send::Sending;
use super::slot::Slot;
use super::{Connection, Items, PAUSE_MAX, PendingCall, Revival};
use crate::describe::{DISCOVER, Text};
use crate::error::{CallError, Error};
use crate::message::{Message, NoArguments, Pack, PackContent, Packer, Request};
use crate::sys::wait;
use crate::transport::Kind;

impl Connection {
    /// Calls a method by its whole name and waits for the answer. `params` is written as an object or an
    /// array: a struct or a tuple.
    ///
    /// # Errors
    ///
    /// [`CallError::Service`] and [`CallError::Fault`] are the server's answers. After
    /// [`CallError::Deadline`] and [`CallError::Closed`] the call may have been carried out or not; the server
    /// is told that its answer is not wanted any more. After [`CallError::NotSent`] it has not been. Descriptors of an
    /// answer that `T` does not take are closed.
    pub fn call<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<T, CallError<E>> {
        let deadline = self.deadline();
        let mut pause = Duration::from_millis(1);
        let mut repeated = false;
        loop {
            match self.attempt(method, params, deadline) {
                Err(CallError::Closed) if self.may_repeat() => {}
                // An attempt before may have been.
                Err(CallError::NotSent(error)) if repeated => {
                    return Err(CallError::from_error(error));
                }
                answer => return answer,
            }
            repeated = true;
            // It may take a while until a server is there again; others may call meanwhile.
            match time_left(deadline) {
                Some(Duration::ZERO) => return Err(CallError::Deadline),
                left => wait::pause(left.map_or(pause, |left| left.min(pause))),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Calls once.
    fn attempt<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        let timeout = match self.revival {
            Revival::Never | Revival::Reconnect => self.timeout,
            Revival::Repeat => time_left(deadline),
        };
        let shared = &*self.shared;
        let (id, call) = shared
            .encode_call(method, params, timeout)
            .map_err(CallError::NotSent)?;
        let sending = Sending {
            deadline,
            driven: false,
            reconnect: self.may_reconnect(),
        };
        let mut table = match shared.send(call, sending) {
            Ok(table) => table,
            Err(Error::Closed) => {
                let table = shared.lock();
                // A server that turned us away has said why before it closed.
                if table.line.kind() != Kind::Seqpacket {
                    return Err(CallError::Closed);
                }
                table
            }
            Err(error) => return Err(CallError::NotSent(error)),
        };
        table.insert(id, Slot::one());
        shared.wait_for_reply(table, id, deadline)
    }

    /// Says whether a call may go to another server. The loop that drives a connection waits for the socket as it is.
    fn may_reconnect(&self) -> bool {
        self.revival != Revival::Never && !self.shared.is_driven()
    }

    /// Says whether a call that found no server may be made again.
    fn may_repeat(&self) -> bool {
        self.revival == Revival::Repeat && self.may_reconnect() && self.shared.dial.is_some()
    }

    /// Starts a call without waiting for its answer. Any number may be in flight on one connection and be
    /// answered in any order; each has the connection's deadline from now on.
    ///
    /// Waits only for room to send, and takes in answers meanwhile.
    ///
    /// Answers that have come are kept when the server dies, with one exception: on
    /// [`Kind::Datagram`] the first call after its death has the kernel throw away what is in
    /// the socket. That is not looked at before each call, so answers that came in the last 50 ms can be lost; their
    /// calls end with [`CallError::Closed`].
    ///
    /// # Errors
    ///
    /// [`CallError::NotSent`], for example with [`Error::Deadline`] when there was no room in time;
    /// [`CallError::Closed`]. In each case nothing has been sent.
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
    pub fn start<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<PendingCall<T, E>, CallError<E>> {
        let deadline = self.deadline();
        let id = self.begin(method, params, self.timeout, deadline, Slot::one())?;
        Ok(PendingCall::new(self.clone(), id, deadline))
    }

    /// Starts a call that is answered in many parts. The connection's deadline holds for sending it and then for
    /// each part.
    ///
    /// # Errors
    ///
    /// As [`start`](Connection::start).
    ///
    /// # Examples
    ///
    /// At [`Items`], with a stub.
    pub fn stream<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<Items<T, E>, CallError<E>> {
        // The server is not told of a deadline: it would be one for the whole.
        let id = self.begin(method, params, None, self.deadline(), Slot::many())?;
        Ok(Items::new(self.clone(), id))
    }

    /// Sends a call that is waited for later; returns its id.
    fn begin<E>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
        slot: Slot,
    ) -> Result<u64, CallError<E>> {
        let call = self.shared.encode_call(method, params, timeout);
        let (id, call) = call.map_err(CallError::NotSent)?;
        let mut table = self
            .shared
            .send(call, self.sending(deadline))
            .map_err(CallError::not_sent)?;
        table.insert(id, slot);
        Ok(id)
    }

    /// How a call is sent that is not waited for.
    fn sending(&self, deadline: Option<Instant>) -> Sending {
        Sending {
            deadline,
            driven: self.shared.is_driven(),
            reconnect: self.may_reconnect(),
        }
    }

    /// Sends a request of an enum and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`call`](Connection::call).
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
    ///     Tell::Exited { code } => println!("it has ended already, with {code}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request<R: Request>(&self, request: &R) -> Result<R::Reply, CallError<R::Error>> {
        self.call(&request.full_name(), &Content(request))
    }

    /// Calls a method that does not answer. Returns when the kernel has the call; whether the server
    /// accepts it is not known.
    ///
    /// # Errors
    ///
    /// As [`start`](Connection::start).
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
        let call = self.shared.encode_oneway(method, params);
        let call = call.map_err(CallError::NotSent)?;
        let sent = self.shared.send(call, self.sending(self.deadline()));
        sent.map_err(CallError::not_sent)?.notified = true;
        Ok(())
    }

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
        let document: Text = self.call(DISCOVER, &NoArguments)?;
        Ok(document.0)
    }
}

fn time_left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|at| at.saturating_duration_since(Instant::now()))
}

/// The content of a request, without the variant's name.
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
