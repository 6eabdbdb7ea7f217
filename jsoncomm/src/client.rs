//! Blocking calls with a deadline.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serializer;

use crate::address::Address;
use crate::envelope::{self, Envelope, ErrorObject, Id, Part};
use crate::error::{CallError, DecodeError, Error, Fault};
use crate::fds::Fds;
use crate::limits::Limits;
use crate::line::{self, BUFFER_KEPT, Inbox, Kind, Line};
use crate::message::{self, Message, Pack, PackContent, Packer, Request, Surplus, Unpacker};
use crate::socket;

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
    shared: Arc<Mutex<Shared>>,
    timeout: Option<Duration>,
}

/// What the clones of a connection share.
#[derive(Debug)]
struct Shared {
    line: Line,
    inbox: Inbox,
    text: Vec<u8>,
    next_id: u64,
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
            shared: Arc::new(Mutex::new(Shared {
                line,
                inbox: Inbox::default(),
                text: Vec::new(),
                next_id: random >> 12,
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
        self.lock().line.set_limit(bytes);
    }

    /// Calls a method by its whole name and waits for the answer. `params` is written as an object or an
    /// array: a struct or a tuple.
    ///
    /// # Errors
    ///
    /// [`CallError::Service`] and [`CallError::Fault`] are the server's answers. After
    /// [`CallError::Deadline`] and [`CallError::Closed`] the call may have been carried out or not.
    /// [`CallError::Io`] holding [`Error::Encode`] says that nothing was sent. Descriptors of an answer that
    /// `T` does not take are closed.
    pub fn call<T: Message, E: Message>(
        &self,
        method: &str,
        params: &(impl Pack + ?Sized),
    ) -> Result<T, CallError<E>> {
        let deadline = self.deadline();
        let mut shared = self.lock();
        let id = shared.next_id;
        shared.next_id += 1;
        match shared.send(Some(id), method, params, self.timeout, deadline) {
            Ok(()) => {}
            // A server that turned us away has said why before it closed.
            Err(Error::Closed) if shared.line.kind() == Kind::Seqpacket => {}
            Err(error) => return Err(CallError::from_error(error)),
        }
        loop {
            if let Some(answer) = shared.answer(id, deadline) {
                return answer;
            }
        }
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
        self.lock()
            .send(None, method, params, None, deadline)
            .map_err(CallError::from_error)
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout
            .and_then(|timeout| Instant::now().checked_add(timeout))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic while it was held left at most an answer unread, which its id will tell.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn send(
        &mut self,
        id: Option<u64>,
        method: &str,
        params: &(impl Pack + ?Sized),
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let budget = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let timeout = timeout.map(|timeout| budget(timeout).max(1));
        self.text.clear();
        let fds = Packer::new();
        envelope::write_call(&mut self.text, id, method, params, timeout, &fds)
            .map_err(Error::Encode)?;
        let sent = self
            .line
            .send_by(&self.text, &fds.into_fds(), None, deadline);
        self.text.shrink_to(BUFFER_KEPT);
        sent
    }

    /// Receives one datagram. `None` when it is not the answer to this call.
    fn answer<T: Message, E: Message>(
        &mut self,
        id: u64,
        deadline: Option<Instant>,
    ) -> Option<Result<T, CallError<E>>> {
        let mut datagram = match self.line.receive_by(&mut self.inbox, deadline) {
            Ok(datagram) => datagram,
            Err(error) => return Some(Err(CallError::from_error(error))),
        };
        let text = self.inbox.text(&datagram);
        let damage = datagram
            .damage
            .take()
            .map(|error| Err(CallError::Io(error)));
        let mut envelope = match Envelope::open(text) {
            Ok(envelope) => envelope,
            // Nothing says whose answer it should have been.
            Err(fault) => return Some(damage.unwrap_or_else(|| Err(unreadable(&fault)))),
        };
        let ours = match envelope.id() {
            Some(found) => *found == Id::Number(id),
            // A fault about something that the server could not read.
            None => envelope.has_null_id() && envelope.part() == Some(Part::Error),
        };
        if !ours || envelope.method().is_some() {
            return None;
        }
        Some(damage.unwrap_or_else(|| read(&mut envelope, datagram.fds)))
    }
}

/// Reads what an answer says. Descriptors that the types do not take are closed.
fn read<T: Message, E: Message>(envelope: &mut Envelope<'_>, fds: Fds) -> Result<T, CallError<E>> {
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
