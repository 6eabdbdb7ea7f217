#![doc = include_str!("../README.md")]
//!
//! # A tour
//!
//! From the bottom up, each step of use without the next:
//!
//! 1. [`Socket`](socket::Socket) sends and receives one typed message at a time: the bare wire. `#[derive(Message)]` makes a
//!    type a [`Message`], with `#[fd]` on the fields that are descriptors, or hold some. [`message::WithFds`]
//!    and [`message::RawMessage`] are for what has no type, [`RawDatagram`](socket::RawDatagram) for what need be no message.
//! 2. [`Server::bind`] and [`Endpoint::bare`] answer bare messages with a [`Handler`].
//! 3. [`Endpoint::handle`] serves the same enum of requests as methods, in JSON-RPC 2.0 envelopes, and
//!    [`Connection::request`] calls them. A [`Reply`] may be kept and answered later, from any thread.
//! 4. [`service`] makes a trait a service: [`Endpoint::serve`] serves it, and a stub with the trait's name and
//!    `Client` calls it through a [`Connection`]. A method that returns [`Deferred`] answers when it can, from
//!    any thread, and learns when nobody waits any more.
//! 5. A stub's `start()` has its methods return a [`PendingCall`](client::PendingCall) at once: many calls in flight on one connection.
//! 6. A method that returns [`Stream`] answers in many parts: the server has a [`StreamSender`](stream::StreamSender) for them, or several as
//!    [`Subscribers`](stream::Subscribers) to push to; the client iterates over [`Items`](stream::Items).
//! 7. [`Server::every`], [`after`](Server::after) and [`watch`](Server::watch) call back between calls; a
//!    [`ServerHandle`](server::ServerHandle) changes the server from elsewhere; [`Server::run_once`] lets a foreign loop drive it.
//! 8. [`Server::drive`] and [`PendingCall::on_complete`](client::PendingCall::on_complete) let a handler call another server without waiting for it, and
//!    [`Reply::forward`] passes the answer on. [`Items::for_each`](stream::Items::for_each) does the same for streams. A [`PendingCall`](client::PendingCall) is a
//!    `Future`, and [`Items::poll_next`](stream::Items::poll_next) is for runtimes as well.
//! 9. A service describes itself ([`describe`]): as a constant for programs, as an OpenRPC document for people and
//!    tools, and over the wire to whoever asks ([`Connection::discover`]).
//!
//! # Pages
//!
//! - [The wire](guide::wire), for peers in other languages.
//! - [Which kind of socket, and which limits](guide::choosing).
//! - [Coming from varlink, D-Bus, tarpc, ttrpc or the Python module](guide::moving).
//! - [Which JSON is taken, and which is not](message#json).
//!
//! # The rooms
//!
//! A room imports only from those on lower floors, by full path. Only `reactor` names mio, only `sys` makes
//! system calls, only `json` and `envelope` name serde_json.
//!
//! | floor | room | what for |
//! |---|---|---|
//! | 0 | `sys` | system calls under their manual-page names; `sys/control.rs` has all `unsafe` code |
//! | 1 | `fds`, `limits`, `error`, `busy_poll` | the owned descriptors of a datagram; every bound; what can go wrong; whether to look before sleeping |
//! | 2 | `json`, `shape`, `address`, `peer` | JSON text to serde and back; what a type looks like; where; who |
//! | 3 | [`message`] | a typed value to JSON and descriptors, and back |
//! | 4 | `envelope`, [`describe`], `transport`, `accounts`, `observe` | JSON-RPC objects, without I/O; what a service is; a socket without types; what each user costs; what is noticed |
//! | 5 | `socket`, `queue` | typed messages; replies that wait for room or for the loop |
//! | 6 | `reply`, `reactor` | answers that outlive their handler; readiness, timers, waking |
//! | 7 | `client` | calls, waited for or in flight |
//! | 8 | `service` | what handlers and generated code meet, at both ends |
//! | 9 | `router` | what is served at an endpoint |
//! | 10 | `server` | endpoints, turns, admission, timers, changes from outside |
//! | 11 | `lib`, `private`, [`guide`] | names for users; names for generated code; pages to read |
//!
//! A datagram goes `sys`, `transport`, `server`, `router`, `envelope`, `service`, handler, and back by the same
//! stairs.
#![cfg_attr(docsrs, feature(doc_cfg))]

// For what the derive emits, in tests.
#[cfg(test)]
extern crate self as jsoncomm;

#[cfg(test)]
#[macro_use]
extern crate jsoncomm_watchdog;

mod accounts;
pub mod address;
mod busy_poll;
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
mod transport;

/// Replies in many parts: [`Stream`] on the server, [`Items`](stream::Items) on the client.
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
pub use transport::Kind;

/// Makes a type that can be sent and received, descriptors included.
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
///     /// In the JSON it is an index; the descriptor itself goes beside it.
///     #[fd]
///     body: OwnedFd,
///     /// A message without descriptors is a field like any other.
///     marks: Vec<Mark>,
///     /// Without it, `null` or nothing at all.
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

/// Makes a trait that can be served, and a stub that calls it.
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
///     /// Appends to the log that is passed, and says who it was for.
///     fn append(&mut self, call: &mut Call, text: &str, #[fd] log: File) -> Option<u32>;
///     /// Is not answered.
///     #[oneway]
///     fn forget(&mut self, name: &str);
/// }
///
/// #[derive(Debug, Message)]
/// pub struct Note { pub len: u64, #[fd] pub content: OwnedFd }
///
/// #[derive(Debug, Message, thiserror::Error)]
/// pub enum NotesError { #[error("no note {name}")] NotFound { name: String } }
///
/// struct Desk { forgotten: Vec<String> }
///
/// impl Notes for Desk {
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
///     fn forget(&mut self, name: &str) { self.forgotten.push(name.into()) }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #   let directory = tempfile::tempdir()?;
/// #   let path = directory.path().join("notes.sock");
///     let mut server = Server::new(Limits::default())?;
///     server.bind(&path, Kind::Seqpacket)?.serve::<dyn Notes>();
///     let remote = server.handle();
///     let thread = std::thread::spawn(move || server.run(&mut Desk { forgotten: Vec::new() }));
///
///     let notes = NotesClient::new(Connection::open(&path)?);
///     assert_eq!(notes.open("a")?.len, 0);
///     // Sending lends: the file stays ours.
///     let log = File::options().write(true).open("/dev/null")?;
///     assert!(notes.append("hello", &log)?.is_some());
///     notes.forget("a")?;
///     match notes.open("a") {
///         Err(CallError::Service(NotesError::NotFound { name })) => assert_eq!(name, "a"),
///         other => unreachable!("{other:?}"),
///     }
///     remote.stop();
///     thread.join().unwrap()?;
///     Ok(())
/// }
/// ```
#[cfg(feature = "derive")]
pub use jsoncomm_derive::service;
