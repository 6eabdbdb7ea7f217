//! Blocking calls with a deadline.

mod pending;
mod turnstile;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serializer;

use crate::address::Address;
use crate::envelope::{self, Envelope, ErrorObject, Id, Part};
use crate::error::{CallError, DecodeError, Error, Fault};
use crate::fds::Fds;
use crate::limits::Limits;
use crate::line::{self, BUFFER_KEPT, Datagram, Heard, Inbox, Kind, Line, Sent};
use crate::message::{self, Message, Pack, PackContent, Packer, Request, Surplus, Unpacker};
use crate::socket;
use crate::sys::control::Wait;
use crate::sys::wait;

pub use pending::{Mode, Pending, Starting, Waiting};
use turnstile::{Entered, Turnstile};

/// How long a call may take unless the program says otherwise.
const DEADLINE: Duration = Duration::from_secs(25);

/// A connection to a server: calls wait for their answer, until a deadline.
///
/// Cheap to clone; clones share one socket and differ in their deadline, 25 s unless told otherwise
/// ([`within`](Connection::within), [`patient`](Connection::patient)). A call that has run out of time
/// leaves the connection usable: its answer is known by its id and dropped, descriptors closed, if it
/// comes after all. Calls from several threads take turns.
///
/// Typed stubs, such as the `FilesClient` of a service trait `Files`, are made from it.
///
/// # Examples
///
/// ```no_run
/// use jsoncomm::{CallError, Connection, Message};
///
/// #[derive(Debug, Message)]
/// struct Path { path: String }
///
/// let connection = Connection::open("/run/example.sock")?;
/// let size: Result<u64, CallError> = connection.call("example.files.size", &Path { path: "a".into() });
/// match size {
///     Ok(size) => println!("{size} bytes"),
///     Err(CallError::Fault(fault)) => println!("refused: {fault}"),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Turnstile<Shared>>,
    timeout: Option<Duration>,
}

/// What the clones of a connection share.
#[derive(Debug)]
struct Shared {
    line: Line,
    inbox: Inbox,
    text: Vec<u8>,
    next_id: u64,
    /// The calls in flight that nobody waits for right now, and their answers if they have come.
    started: HashMap<u64, Option<Held>>,
    /// A call without an id has gone out since the last answer: a fault without one may be its.
    notified: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the server at an address, whichever kind of socket it has.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] for what [connect(2)] reports: `ECONNREFUSED` when nobody listens, `ENOENT` when there
    /// is no such file, `EACCES` when it may not be written.
    ///
    /// [connect(2)]: https://man7.org/linux/man-pages/man2/connect.2.html
    pub fn open(address: impl Into<Address>) -> Result<Self, Error> {
        line::connect_any(&address.into(), &Limits::default()).map(Self::new)
    }

    /// Connects to the server at an address with this kind of socket.
    ///
    /// # Errors
    ///
    /// As [`open`](Connection::open); `EPROTOTYPE` when the socket there is of the other kind.
    pub fn connect(address: impl Into<Address>, kind: Kind) -> Result<Self, Error> {
        line::connect(&address.into(), kind, &Limits::default()).map(Self::new)
    }

    /// Takes over a connected socket, inherited or received.
    ///
    /// # Errors
    ///
    /// As [`Socket::from_fd`](crate::Socket::from_fd).
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let kind = socket::kind_of(fd.as_fd(), socket::Listening::No)?;
        Line::new(fd, kind, &Limits::default()).map(Self::new)
    }

    fn new(line: Line) -> Self {
        // Nobody should be able to guess an id; and 2^52 leaves every JSON reader exact, and room to count.
        let random = RandomState::new().build_hasher().finish();
        Self {
            shared: Arc::new(Turnstile::new(Shared {
                line,
                inbox: Inbox::default(),
                text: Vec::new(),
                next_id: random >> 12,
                started: HashMap::new(),
                notified: false,
            })),
            timeout: Some(DEADLINE),
        }
    }

    /// The same connection with another deadline for each call made through the result.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            timeout: Some(timeout),
        }
    }

    /// The same connection without a deadline: a call waits until the server answers or goes. On
    /// [`Kind::Datagram`] nobody notices when it goes.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            timeout: None,
        }
    }

    /// Sets the longest message in bytes, sent or received, for all clones; the default is that of
    /// [`Limits::message`].
    pub fn set_message_limit(&self, bytes: usize) {
        if let Some(mut shared) = self.enter_patiently() {
            shared.line.set_limit(bytes);
        }
    }

    /// Calls a method by its whole name and waits for the answer. `params` is written as an object or an
    /// array: a struct or a tuple.
    ///
    /// # Errors
    ///
    /// [`CallError::Service`] and [`CallError::Fault`] are the server's answers. After
    /// [`CallError::Deadline`] and [`CallError::Closed`] the call may have been carried out or not; the server
    /// is told that its answer is not wanted any more. [`CallError::Io`] holding [`Error::Encode`] says that
    /// nothing was sent. Descriptors of an answer that `T` does not take are closed.
    pub fn call<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<T, CallError<E>> {
        let deadline = self.deadline();
        let mut shared = self.enter(deadline).map_err(CallError::from_error)?;
        let id = shared.next_id();
        match shared.send(Some(id), method, params, self.timeout, deadline) {
            Ok(()) => {}
            // A server that turned us away has said why before it closed.
            Err(Error::Closed) if shared.line.kind() == Kind::Seqpacket => {}
            Err(error) => return Err(CallError::from_error(error)),
        }
        shared.wait(id, deadline)
    }

    /// Starts a call without waiting for its answer. Any number may be in flight on one connection and be
    /// answered in any order; each has the connection's deadline from now on.
    ///
    /// Waits only for room to send, and takes in answers meanwhile.
    ///
    /// # Errors
    ///
    /// [`CallError::Deadline`] when there was no room in time, [`CallError::Closed`], [`CallError::Io`]; in
    /// each case nothing has been sent.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use jsoncomm::{CallError, Connection, Pending};
    ///
    /// let connection = Connection::open("/run/example.sock")?;
    /// let first: Pending<u64> = connection.start("example.counter.add", &(1,))?;
    /// let second: Pending<u64> = connection.start("example.counter.add", &(2,))?;
    /// println!("{} {}", second.wait()?, first.wait()?);
    /// # Ok(()) }
    /// ```
    pub fn start<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<Pending<T, E>, CallError<E>> {
        let deadline = self.deadline();
        let mut shared = self.enter(deadline).map_err(CallError::from_error)?;
        let id = shared.next_id();
        shared
            .send_and_receive(id, method, params, self.timeout, deadline)
            .map_err(CallError::from_error)?;
        drop(shared);
        Ok(Pending::new(self.clone(), id, deadline))
    }

    /// Sends a request of an enum and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`call`](Connection::call).
    pub fn ask<R: Request>(&self, request: &R) -> Result<R::Reply, CallError<R::Error>> {
        let method = R::METHODS.get(request.method()).copied();
        let method = format!("{}.{}", R::SERVICE, method.unwrap_or_default());
        self.call(&method, &Content(request))
    }

    /// Calls a method that does not answer. Returns when the kernel has the call; whether the server
    /// accepts it is not known.
    ///
    /// # Errors
    ///
    /// [`CallError::Deadline`] when there was no room in time, [`CallError::Closed`] when nobody is there,
    /// otherwise [`CallError::Io`]. In each case nothing has been sent.
    pub fn notify(&self, method: &str, params: &(impl Pack + ?Sized)) -> Result<(), CallError> {
        let deadline = self.deadline();
        let mut shared = self.enter(deadline).map_err(CallError::from_error)?;
        shared.notified = true;
        shared
            .send(None, method, params, None, deadline)
            .map_err(CallError::from_error)
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout
            .and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Waits for calls of other threads to end.
    fn enter(&self, deadline: Option<Instant>) -> Result<Entered<'_, Shared>, Error> {
        self.shared.enter(deadline).ok_or(Error::Deadline)
    }

    /// The same, for what is done in no time; only a call of another thread can delay it.
    fn enter_patiently(&self) -> Option<Entered<'_, Shared>> {
        self.shared.enter(None)
    }
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

impl Shared {
    fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        // After 2^52 calls from a start below it, every JSON reader still holds the id exactly.
        self.next_id += 1;
        id
    }

    /// Writes a call into the buffer.
    fn encode<'a>(
        &mut self,
        id: Option<u64>,
        method: &str,
        params: &'a (impl Pack + ?Sized),
        timeout: Option<Duration>,
    ) -> Result<Packer<'a>, Error> {
        let budget = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let timeout = timeout.map(|timeout| budget(timeout).max(1));
        self.text.clear();
        self.text.shrink_to(BUFFER_KEPT);
        let fds = Packer::new();
        envelope::write_call(&mut self.text, id, method, params, timeout, &fds)
            .map_err(Error::Encode)?;
        Ok(fds)
    }

    /// Sends a call, and waits for room.
    fn send(
        &mut self,
        id: Option<u64>,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let fds = self.encode(id, method, params, timeout)?;
        self.line
            .send_by(&self.text, &fds.into_fds(), None, deadline)
    }

    /// Sends a call that is waited for later. While there is no room, answers are taken in: the server may
    /// be waiting for that itself.
    fn send_and_receive(
        &mut self,
        id: u64,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let fds = self.encode(Some(id), method, params, timeout)?.into_fds();
        while self.line.send(&self.text, &fds, None, Wait::Never)? == Sent::Full {
            self.line.wait(wait::For::Either, deadline)?;
            self.take_in()?;
        }
        self.started.insert(id, None);
        Ok(())
    }

    /// Takes in all answers that have come to calls that were started.
    fn take_in(&mut self) -> Result<(), Error> {
        loop {
            match self.line.receive(&mut self.inbox, Wait::Never)? {
                Heard::Datagram(datagram) => self.keep(datagram),
                Heard::Pending | Heard::Short => return Ok(()),
                Heard::Closed => return Err(Error::Closed),
            }
        }
    }

    /// Keeps the answer to a call that was started; any other is late, repeated or foreign, and is dropped.
    fn keep(&mut self, datagram: Datagram) {
        let text = self.inbox.text(&datagram);
        let id = match Envelope::open(text)
            .ok()
            .and_then(|envelope| envelope.id().cloned())
        {
            Some(Id::Number(id)) => id,
            _ => return,
        };
        if let Some(place @ None) = self.started.get_mut(&id) {
            *place = Some(Held {
                text: text.to_vec(),
                fds: datagram.fds,
                damage: datagram.damage,
            });
        }
    }

    /// Waits for the answer to a call.
    fn wait<T: Message, E: Message>(
        &mut self,
        id: u64,
        deadline: Option<Instant>,
    ) -> Result<T, CallError<E>> {
        if let Some(Some(held)) = self.started.remove(&id) {
            return held.read();
        }
        loop {
            let datagram = match self.line.receive_by(&mut self.inbox, deadline) {
                Ok(datagram) => datagram,
                Err(error) => {
                    if matches!(error, Error::Deadline) {
                        self.cancel(id);
                    }
                    return Err(CallError::from_error(error));
                }
            };
            // Whose fault it is when the id is `null` is plain only while there is one call to blame.
            let sole = !self.notified && self.started.is_empty();
            match answers(self.inbox.text(&datagram), id, sole) {
                Whose::Ours(envelope) => {
                    self.notified = false;
                    return match datagram.damage {
                        None => read(envelope, datagram.fds),
                        Some(damage) => Err(CallError::Io(damage)),
                    };
                }
                // Nothing says whose answer it should have been.
                Whose::Unreadable(fault) => {
                    return Err(datagram
                        .damage
                        .map_or_else(|| unreadable(&fault), CallError::Io));
                }
                Whose::Another => {}
            }
            self.keep(datagram);
        }
    }

    /// Waits until the answer to one of these calls has come; says to which.
    fn wait_any(&mut self, ids: &[u64], deadline: Option<Instant>) -> Result<usize, Error> {
        let has_come = |shared: &Self| {
            ids.iter()
                .position(|id| matches!(shared.started.get(id), Some(Some(_))))
        };
        loop {
            if let Some(position) = has_come(self) {
                return Ok(position);
            }
            let datagram = self.line.receive_by(&mut self.inbox, deadline)?;
            self.keep(datagram);
        }
    }

    /// Tells the server that the answer to a call is not wanted any more, if there is room for that. The
    /// answer is dropped anyway.
    fn cancel(&mut self, id: u64) {
        self.started.remove(&id);
        self.text.clear();
        envelope::write_cancel(&mut self.text, id);
        let _ = self.line.send(&self.text, &[], None, Wait::Never);
    }
}

/// The answer to a call that nobody waits for yet.
#[derive(Debug)]
struct Held {
    text: Vec<u8>,
    fds: Fds,
    damage: Option<Error>,
}

impl Held {
    fn read<T: Message, E: Message>(self) -> Result<T, CallError<E>> {
        if let Some(damage) = self.damage {
            return Err(CallError::Io(damage));
        }
        match Envelope::open(&self.text) {
            Ok(envelope) => read(envelope, self.fds),
            Err(fault) => Err(unreadable(&fault)),
        }
    }
}

/// Whose answer a datagram is.
enum Whose<'t> {
    Ours(Envelope<'t>),
    Another,
    Unreadable(Fault),
}

/// Finds out whether a datagram answers this call. A fault about something that the server could not read
/// does if this is the `sole` call that it can be about.
fn answers(text: &[u8], id: u64, sole: bool) -> Whose<'_> {
    let envelope = match Envelope::open(text) {
        Ok(envelope) => envelope,
        Err(fault) => return Whose::Unreadable(fault),
    };
    let ours = match envelope.id() {
        Some(found) => *found == Id::Number(id),
        None => sole && envelope.has_null_id() && envelope.part() == Some(Part::Error),
    };
    match ours && envelope.method().is_none() {
        true => Whose::Ours(envelope),
        false => Whose::Another,
    }
}

/// Reads what an answer says. Descriptors that the types do not take are closed.
fn read<T: Message, E: Message>(mut envelope: Envelope<'_>, fds: Fds) -> Result<T, CallError<E>> {
    let fds = Unpacker::new(fds);
    let undecodable = |error| CallError::Io(Error::Decode(error));
    match envelope.part() {
        Some(Part::Result) => {
            let result = envelope
                .decode(|text| message::decode_front(text, &fds))
                .map_err(|fault| unreadable(&fault))?
                .map_err(undecodable)?;
            fds.finish(Surplus::Close).map_err(undecodable)?;
            Ok(result)
        }
        Some(Part::Error) => {
            let error = envelope
                .decode(ErrorObject::front)
                .map_err(|fault| unreadable(&fault))?
                .map_err(undecodable)?;
            let data = error.data.filter(|_| !error.is_fault());
            match data.map(|data| message::decode_front(data, &fds)) {
                Some(Ok((error, _))) => Err(CallError::Service(error)),
                // The framework's own, or one that our type does not know.
                Some(Err(_)) | None => Err(CallError::Fault(error.into_fault())),
            }
        }
        Some(Part::Params) | None => Err(unreadable(&Fault::new(
            Fault::NOT_A_CALL,
            "neither result nor error",
        ))),
    }
}

/// Says that the server's answer is none.
fn unreadable<E>(fault: &Fault) -> CallError<E> {
    CallError::Io(Error::Decode(DecodeError::Syntax {
        reason: format!("the answer: {}", fault.message),
    }))
}
