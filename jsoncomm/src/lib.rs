#![doc = include_str!("../README.md")]
//!
//! # A tour
//!
//! Each step works without the next ones.
//!
//! 1. **Messages.** `#[derive(Message)]` makes a type a [`Message`]; `#[fd]` marks the fields that are descriptors or
//!    contain some. A [`Socket`](socket::Socket) sends and receives one message at a time.
//!    [`RawMessage`](message::RawMessage) is a message whose type is not known.
//! 2. **Services.** [`service`] makes a trait a service. [`Endpoint::serve`] serves it, and a stub with the trait's name and
//!    `Client` calls it through a [`Connection`]. A [`Handler`] does the same for an enum of requests
//!    ([`Endpoint::handle`], [`Connection::request`]), without JSON-RPC if need be ([`Endpoint::bare`]).
//! 3. **Later replies.** A method that returns [`Deferred`] replies when it can, from any thread.
//! 4. **Streams.** A method that returns [`Stream`] sends many items through a
//!    [`StreamSender`](stream::StreamSender). The client iterates over [`Items`](stream::Items).
//! 5. **Calls in flight.** The methods of a stub's `start()` return a [`PendingCall`](client::PendingCall) at once: wait
//!    for it, await it as a `Future`, or give it a callback. [`Connection::batching`] sends many of them in one datagram.
//! 6. **Event loops.** [`Server::every`], [`after`](Server::after) and [`watch`](Server::watch) call functions between
//!    messages. [`Server::run_once`] runs one turn inside another loop. A [`ServerHandle`](server::ServerHandle) stops or
//!    changes the server from another thread.
//! 7. **Servers that call.** [`Server::drive`] lets a handler call another server without waiting for the reply, and
//!    [`Reply::forward`] passes that reply on.
//! 8. **Children.** [`Connection::spawn`] starts a program that serves this one, with [`Server::adopt_parent`] ([`child`]).
//! 9. **Discovery.** A service describes itself ([`describe`]): as a constant, as an OpenRPC document, and to authorized
//!    clients ([`Connection::discover`]).
//!
//! # Pages
//!
//! - [The wire format](guide::wire), for peers in other languages.
//! - [Choosing socket kind and limits](guide::choosing).
//! - [Services by name](guide::names): the registry, for clients and servers.
//! - [Passing rights](guide::rights): descriptors, sessions, and who may call what.
//! - [Coming from varlink, D-Bus, tarpc, ttrpc or the Python module](guide::moving).
//! - [What stays the same between versions](guide::stability), and which compilers, kernels and machines are tested.
//! - [Which JSON is accepted](message#json).
//!
//! `ARCHITECTURE.md`, beside this crate's manifest, has the modules and their layers.
#![cfg_attr(docsrs, feature(doc_cfg))]

// Tests use the derive, whose output names this crate.
#[cfg(test)]
extern crate self as jsoncomm;

#[cfg(all(test, repository))]
#[macro_use]
extern crate jsoncomm_watchdog;

mod accounts;
pub mod address;
mod busy_poll;
pub mod child;
pub mod client;
pub mod describe;
mod envelope;
mod error;
pub mod fds;
pub mod guide;
mod json;
mod limits;
pub mod message;
pub mod observe;
#[cfg(feature = "openrpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "openrpc")))]
pub mod openrpc;
mod peer;
#[doc(hidden)]
pub mod private;
mod queue;
mod reactor;
mod reply;
mod router;
pub mod server;
mod service;
mod shape;
pub mod socket;
mod sys;
mod trace;
mod transport;

/// Replies of many items: [`Stream`] on the server, [`Items`](stream::Items) on the client.
///
/// A method that returns [`Stream`] gets a [`StreamSender`](stream::StreamSender), which sends items from any thread. Several
/// callers that are to receive the same items are [`Subscribers`](stream::Subscribers).
///
/// ```
/// use jsoncomm::{Call, Connection, Kind, Limits, Server, Stream};
///
/// #[jsoncomm::service(name = "example.numbers")]
/// trait Numbers {
///     /// Sends the numbers below `end`.
///     fn below(&mut self, call: &mut Call, end: u32) -> Stream<u32>;
/// }
///
/// struct Counter;
/// impl Numbers for Counter {
///     fn below(&mut self, call: &mut Call, end: u32) -> Stream<u32> {
///         call.stream(|sender| sender.feed((0..end).map(Ok)))
///     }
/// }
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("numbers.sock");
/// # let mut server = Server::new(Limits::default())?;
/// # server.bind(&path, Kind::Seqpacket)?.serve::<dyn Numbers>();
/// # let handle = server.handle();
/// # let thread = std::thread::spawn(move || server.run(&mut Counter));
///
/// let numbers = NumbersClient::new(Connection::open(&path)?);
/// let items = numbers.below(3)?.collect::<Result<Vec<u32>, _>>()?;
/// assert_eq!(items, [0, 1, 2]);
/// # handle.stop();
/// # thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub mod stream {
    pub use crate::client::Items;
    pub use crate::error::SendError;
    pub use crate::reply::{Overflow, StreamSender, Subscribers};
}

#[doc(inline)]
pub use client::Connection;
pub use error::{CallError, Error, Fault};
pub use limits::Limits;
#[doc(inline)]
pub use message::Message;
pub use peer::Peer;
pub use reply::{Deferred, Reply, Stream};
#[doc(inline)]
pub use server::{Endpoint, Server};
pub use service::{Call, Handler};
pub use trace::{NotTraceParent, TraceParent};
pub use transport::Kind;

/// Implements [`Message`](trait@Message) for a type, so that it can be sent and received with its descriptors.
///
/// A whole program:
///
/// ```
/// use jsoncomm::socket::Socket;
/// use jsoncomm::{Kind, Message};
/// use std::fs::File;
/// use std::os::fd::OwnedFd;
///
/// /// A struct is an object: `{"title":"log","body":0,"marks":[{"line":1,"why":"Todo"}]}`.
/// #[derive(Debug, Message)]
/// struct Page {
///     title: String,
///     /// In the JSON this is an index. The descriptor travels beside the text.
///     #[fd]
///     body: OwnedFd,
///     /// A message without descriptors needs no attribute.
///     marks: Vec<Mark>,
///     /// `None` is `null`, or an absent member.
///     author: Option<String>,
/// }
///
/// #[derive(Debug, PartialEq, Message)]
/// struct Mark { line: u32, why: Reason }
///
/// #[derive(Debug, PartialEq, Message)]
/// enum Reason { Todo, Other { text: String } }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (mut near, mut far) = Socket::pair(Kind::Seqpacket)?;
///     let other = Reason::Other { text: String::from("too long") };
///     near.send(&Page {
///         title: String::from("log"),
///         body: File::open("/dev/null")?.into(),
///         marks: vec![Mark { line: 1, why: Reason::Todo }, Mark { line: 7, why: other }],
///         author: None,
///     })?;
///     let (page, _) = far.receive::<Page>()?;
///     assert_eq!((&*page.title, page.author), ("log", None));
///     assert_eq!(page.marks[0], Mark { line: 1, why: Reason::Todo });
///     assert_eq!(File::from(page.body).metadata()?.len(), 0);
///     Ok(())
/// }
/// ```
#[cfg(feature = "derive")]
pub use jsoncomm_derive::Message;

/// Makes a trait a service that a [`Server`] can serve, and generates the stub that calls it.
///
/// A whole program, server and client:
///
/// ```
/// use jsoncomm::{Call, CallError, Connection, Kind, Limits, Message, Server};
/// use std::{fs::File, os::fd::OwnedFd};
///
/// #[jsoncomm::service(name = "example.notes")]
/// pub trait Notes {
///     /// Opens a note; its descriptor travels in the reply.
///     fn open(&mut self, name: &str) -> Result<Note, NotesError>;
///     /// Appends to the log that the caller passes; returns the caller's user id.
///     fn append(&mut self, call: &mut Call, text: &str, #[fd] log: File) -> Option<u32>;
///     /// Has no reply.
///     #[oneway]
///     fn forget(&mut self, name: String);
/// }
///
/// #[derive(Debug, Message)]
/// pub struct Note { pub len: u64, #[fd] pub content: OwnedFd }
///
/// #[derive(Debug, Message, thiserror::Error)]
/// pub enum NotesError { #[error("no note {name}")] NotFound { name: String } }
///
/// struct Notebook { forgotten: Vec<String> }
///
/// impl Notes for Notebook {
///     fn open(&mut self, name: &str) -> Result<Note, NotesError> {
///         if self.forgotten.iter().any(|forgotten| forgotten == name) {
///             return Err(NotesError::NotFound { name: name.into() });
///         }
///         let file = File::open("/dev/null").map_err(|_| NotesError::NotFound { name: name.into() })?;
///         Ok(Note { len: 0, content: file.into() })
///     }
///     fn append(&mut self, call: &mut Call, text: &str, mut log: File) -> Option<u32> {
///         std::io::Write::write_all(&mut log, text.as_bytes()).ok()?;
///         Some(call.peer()?.uid())
///     }
///     fn forget(&mut self, name: String) { self.forgotten.push(name) }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #   let directory = tempfile::tempdir()?;
/// #   let path = directory.path().join("notes.sock");
///     let mut server = Server::new(Limits::default())?;
///     server.bind(&path, Kind::Seqpacket)?.serve::<dyn Notes>();
///     let handle = server.handle();
///     let thread = std::thread::spawn(move || server.run(&mut Notebook { forgotten: Vec::new() }));
///
///     let notes = NotesClient::new(Connection::open(&path)?);
///     assert_eq!(notes.open("a")?.len, 0);
///     // Arguments are lent, also those that the handler owns: the file stays open here.
///     let log = File::options().write(true).open("/dev/null")?;
///     assert!(notes.append("hello", &log)?.is_some());
///     notes.forget("a")?;
///     match notes.open("a") {
///         Err(CallError::Service(NotesError::NotFound { name })) => assert_eq!(name, "a"),
///         other => unreachable!("{other:?}"),
///     }
///     handle.stop();
///     thread.join().unwrap()?;
///     Ok(())
/// }
/// ```
#[cfg(feature = "derive")]
pub use jsoncomm_derive::service;
