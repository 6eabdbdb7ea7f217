//! Descriptions of services: methods, arguments, results and errors, with their types and comments.
//!
//! `#[jsoncomm::service]` describes its trait, and `#[derive(Message)]` an enum of requests, in a constant ([`Describe`]). It has what
//! the code has: names, doc comments, types, what may be absent, which members are descriptors, the service's errors and their codes.
//! [`Description::open_rpc`] writes it as an [OpenRPC] document. A server has a document for each endpoint, which is its reply to
//! `rpc.discover` unless [discovery is off](crate::Endpoint::without_discovery).
//! [`Connection::discover`](crate::Connection::discover) makes that call.
//!
//! A server that is built without this crate's default feature `discover` does not reply to that call. It contains neither descriptions nor
//! the code that writes documents, unless the program itself uses them.
//!
//! # What is known of a type
//!
//! A [`Message`](crate::Message) describes its [`Shape`], and so do the types of the standard library that are messages. These are
//! described as *anything*: a type that only serde knows, a field with functions of its own (`#[serde(with = "...")]`), and a type
//! parameter in a field without `#[fd]`.
//!
//! With the feature `schema`, `#[service(name = "...", schema)]` on a trait and `#[message(schema)]` on a type make such types describe
//! themselves by `schemars::JsonSchema`, which they then have to implement. Messages still use their own shape. With
//! `#[message(serde, schema)]` a type's schema is its shape.
//!
//! # The document
//!
//! Types are [JSON Schema]s. The program's structs and enums are under `components`. A type that is read and written, with different
//! members that may be absent, is there twice: as `Name` and as `Name.written`. These members extend the standard:
//!
//! | member | of | meaning |
//! |---|---|---|
//! | `"x-file-descriptor": true` | the schema of a descriptor | the JSON has its index; the file is never part of the text |
//! | `"x-service": "..."` | the schema of a connection | the service that can be called through it; empty for any |
//! | `"x-kind": ["regular", "read"]` | a schema | each descriptor in it is all of this: the words of [`FdKind`](crate::fds::FdKind) |
//! | `"x-oneway": true` | a method | it has no reply, and no `result` |
//! | `"x-stream": true` | a method | it returns a stream, and `result` is one item |
//! | `"x-restricted": true` | a method | a [rule](crate::Endpoint::authorize_method) at this endpoint decides who may call it. Only in the reply to `rpc.discover` |
//! | `"x-open": true` | the schema of an enum in a reply | readers take variants that it does not have: `#[message(other)]` |
//! | `"x-open-errors": true` | a method | the same of its errors |
//! | `"x-aliases": [...]` | a method, argument, member or variant | older names that are accepted, too. The rest of the document uses the present name |
//! | `"x-services": [{"name": "...", "version": "..."}]` | `info` | the versions of services that have one (`#[service(version = "...")]`); `info.version` is that of the program |
//! | `"x-since": "1.1"` | a method | the version of its service that has added it |
//! | `"x-deprecated": "..."` | a deprecated method | what to use in its place |
//!
//! An error has the variant's number as `code`, the variant's name as `message`, and the schema of its `data` as `data`. The document
//! says that a default exists, and not which: it may be confidential.
//!
//! # A file that is up to date
//!
//! The document can be kept as a file beside the code, for people and for code generators. A test writes the file on request, and fails
//! while it differs from the code:
//!
//! ```
//! # #[jsoncomm::service(name = "example.clock")]
//! # pub trait Clock { fn now(&mut self) -> u64; }
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("clock.json");
//! # let write = true;
//! use jsoncomm::describe::Describe;
//!
//! // let path = concat!(env!("CARGO_MANIFEST_DIR"), "/clock.json");
//! // let write = std::env::var_os("WRITE").is_some();
//! let document = <dyn Clock as Describe>::DESCRIPTION.open_rpc();
//! if write { std::fs::write(&path, &document)?; }
//! assert_eq!(std::fs::read_to_string(&path)?, document, "run this with WRITE=1");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [OpenRPC]: https://spec.open-rpc.org
//! [JSON Schema]: https://json-schema.org/draft-07

mod definitions;
mod discover;
mod document;
#[cfg(feature = "schema")]
mod foreign;
mod schemas;
mod text;

#[cfg(feature = "schema")]
#[cfg_attr(docsrs, doc(cfg(feature = "schema")))]
pub use crate::shape::Schema;
pub use crate::shape::{Definition, Field, Form, Shape, Type, Variant};
pub(crate) use discover::{DISCOVER, Discovery, Document};
use text::Text;

/// Describes itself: implemented for `dyn Trait` by `#[jsoncomm::service]`, and for an enum of requests by
/// `#[derive(Message)]`.
///
/// # Examples
///
/// ```
/// use jsoncomm::describe::Describe;
///
/// /// Tells the time.
/// #[jsoncomm::service(name = "example.clock")]
/// pub trait Clock {
///     /// Seconds since 1970.
///     fn now(&mut self) -> u64;
/// }
///
/// let clock = <dyn Clock as Describe>::DESCRIPTION;
/// assert_eq!((clock.name(), clock.docs()), ("example.clock", "Tells the time."));
/// assert!(clock.open_rpc().contains(r#""description": "Tells the time.""#));
/// ```
pub trait Describe {
    /// What it is.
    const DESCRIPTION: Description;
}

/// What a service is.
///
/// # Examples
///
/// At [`Describe`] and [`Method`].
#[derive(Debug, Clone, Copy)]
pub struct Description {
    name: &'static str,
    docs: &'static str,
    version: Option<&'static str>,
    service_version: Option<&'static str>,
    deprecated: Option<&'static str>,
    methods: &'static [Method],
}

impl Description {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        docs: &'static str,
        version: Option<&'static str>,
        methods: &'static [Method],
    ) -> Self {
        Self {
            name,
            docs,
            version,
            service_version: None,
            deprecated: None,
            methods,
        }
    }

    #[doc(hidden)]
    pub const fn deprecated(mut self, note: &'static str) -> Self {
        self.deprecated = Some(note);
        self
    }

    #[doc(hidden)]
    pub const fn of_version(mut self, version: &'static str) -> Self {
        self.service_version = Some(version);
        self
    }

    /// The service's name, in front of the methods' names on the wire.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The doc comment of the trait or enum.
    pub const fn docs(&self) -> &'static str {
        self.docs
    }

    /// The version of the package that the trait or enum is in, where cargo has compiled it.
    pub const fn version(&self) -> Option<&'static str> {
        self.version
    }

    /// The version of the service: that of `#[service(version = "...")]`. `None` without it.
    pub const fn service_version(&self) -> Option<&'static str> {
        self.service_version
    }

    /// What `#[deprecated]` on the trait or enum says, or nothing; `None` without it.
    pub const fn deprecation(&self) -> Option<&'static str> {
        self.deprecated
    }

    /// The methods, in the order of the trait.
    pub const fn methods(&self) -> &'static [Method] {
        self.methods
    }

    /// Writes the service's OpenRPC document, in lines, with one at the end. It is the same each time.
    pub fn open_rpc(&self) -> String {
        document::document(&[*self], &|_, _| false, Text::in_lines())
    }
}

/// What a method takes and returns.
///
/// # Examples
///
/// ```
/// use jsoncomm::describe::{Describe, Shape, Type};
///
/// #[jsoncomm::service(name = "example.jobs")]
/// pub trait Jobs {
///     /// Ends a job.
///     #[deprecated = "call `stop`"]
///     #[serde(alias = "abort")]
///     fn kill(&mut self, job: u32, signal: Option<u8>) -> Result<bool, String>;
/// }
///
/// let [kill] = <dyn Jobs as Describe>::DESCRIPTION.methods() else { panic!() };
/// assert_eq!((kill.name(), kill.docs(), kill.aliases()), ("kill", "Ends a job.", &["abort"][..]));
/// assert_eq!(kill.deprecation(), Some("call `stop`"));
/// let [job, signal] = kill.parameters() else { panic!() };
/// assert_eq!((job.name(), job.is_required(), signal.is_required()), ("job", true, false));
/// assert!(matches!(kill.result().map(Type::shape), Some(Shape::Boolean)));
/// assert!(matches!(kill.error().map(Type::shape), Some(Shape::Text)));
/// assert!(!kill.is_oneway() && !kill.is_stream());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Method {
    name: &'static str,
    docs: &'static str,
    parameters: &'static [Field],
    answer: Option<Answer>,
    aliases: &'static [&'static str],
    since: Option<&'static str>,
    deprecated: Option<&'static str>,
}

/// What a method replies.
#[derive(Debug, Clone, Copy)]
struct Answer {
    kind: ReplyKind,
    value: Type,
    error: Type,
}

/// How a method replies.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct ReplyKind {
    /// In many parts.
    pub stream: bool,
    /// The names of the errors' codes.
    pub codes: &'static [&'static str],
}

impl Method {
    #[doc(hidden)]
    pub const fn new(name: &'static str, docs: &'static str, parameters: &'static [Field]) -> Self {
        Self {
            name,
            docs,
            parameters,
            answer: None,
            aliases: &[],
            since: None,
            deprecated: None,
        }
    }

    #[doc(hidden)]
    pub const fn added_in(mut self, version: &'static str) -> Self {
        self.since = Some(version);
        self
    }

    #[doc(hidden)]
    pub const fn replying(mut self, kind: ReplyKind, value: Type, error: Type) -> Self {
        self.answer = Some(Answer { kind, value, error });
        self
    }

    #[doc(hidden)]
    pub const fn known_as(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    #[doc(hidden)]
    pub const fn deprecated(mut self, note: &'static str) -> Self {
        self.deprecated = Some(note);
        self
    }

    /// The method's name on the wire, without the service's.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The doc comment.
    pub const fn docs(&self) -> &'static str {
        self.docs
    }

    /// The arguments, by their names on the wire; without `&mut Call`, which is the server's own.
    pub const fn parameters(&self) -> &'static [Field] {
        self.parameters
    }

    /// The reply if the call succeeds, or one item of a stream; `None` if it is one-way.
    pub fn result(&self) -> Option<Type> {
        self.answer.map(|answer| answer.value)
    }

    /// The service's own error; `None` if the method has none.
    pub fn error(&self) -> Option<Type> {
        let error = self.answer?.error;
        (!matches!(error.shape(), Shape::Never)).then_some(error)
    }

    /// Returns true if the method has no reply.
    pub const fn is_oneway(&self) -> bool {
        self.answer.is_none()
    }

    /// Returns true if the method returns a stream.
    pub fn is_stream(&self) -> bool {
        self.answer.is_some_and(|answer| answer.kind.stream)
    }

    /// Older names, which the server takes as well.
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// The version of the service that has added the method: that of `#[since = "..."]`. `None` without it.
    pub const fn since(&self) -> Option<&'static str> {
        self.since
    }

    /// What `#[deprecated]` says, or nothing; `None` without it.
    pub const fn deprecation(&self) -> Option<&'static str> {
        self.deprecated
    }
}
