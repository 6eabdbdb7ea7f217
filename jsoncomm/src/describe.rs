//! What a service is: its methods, what they take and answer, in words and types.
//!
//! `#[jsoncomm::service]` describes its trait, and `#[derive(Message)]` an enum of requests, as a constant
//! ([`Describe`]). It says what the code says: names, doc comments, types, what may be absent, which members are
//! descriptors, the service's errors and their codes. [`Description::open_rpc`] writes it as an [OpenRPC] document.
//! A server has one for each endpoint, and answers the call `rpc.discover` with it unless
//! [told not to](crate::Endpoint::without_discovery); [`Connection::discover`](crate::Connection::discover) is
//! that call.
//!
//! # What is known of a type
//!
//! A [`Message`](crate::Message) tells its [`Shape`], and so do the standard library's types that are messages. A type
//! that only serde knows is *anything*, and so is one with functions of its own (`#[serde(with = "...")]`) and a
//! parameter of a generic type in a field without `#[fd]`.
//!
//! With the feature `schema`, `#[service(name = "...", schema)]` on a trait and `#[message(schema)]` on a type have
//! such types describe themselves by `schemars::JsonSchema`, which they then have to implement; what is a message still
//! tells its own shape. With `#[message(serde, schema)]` a type's own schema is its shape.
//!
//! # The document
//!
//! Types are [JSON Schema]s, structs and enums of the program's under `components`. Where something may be absent when
//! it is read and not when it is written, or the other way round, a type that goes both ways stands there twice, as
//! `Name` and as `Name.written`. Beyond the standard there are these members:
//!
//! - `"x-file-descriptor": true` in the schema of a descriptor, whose index stands in the JSON. No file is ever a
//!   part of the text;
//! - `"x-oneway": true` in a method that is not answered; it has no `result`;
//! - `"x-stream": true` in a method that is answered in parts; its `result` is one of them;
//! - `"x-aliases": [...]` in a method, an argument, a member or a variant: older names, which whoever reads it takes as
//!   well. Everything else in the document is about the name that it has now;
//! - `"x-deprecated": "..."` in a method that is `deprecated`: what to do instead.
//!
//! An error's `code` is the variant's number, its `message` here the variant's name, and its `data` the schema of what
//! comes as `data`. Defaults are not told, only that there is one: they may be nobody else's business.
//!
//! # A file that is up to date
//!
//! For people who read it, and programs that are made from it, the document can be kept as a file beside the code.
//! A test writes it when asked, and fails while it is not what the code says:
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
mod foreign;
mod tree;

#[cfg(feature = "schema")]
#[cfg_attr(docsrs, doc(cfg(feature = "schema")))]
pub use crate::shape::Schema;
pub use crate::shape::{Definition, Field, Form, Shape, Type, Variant};
pub(crate) use discover::{DISCOVER, Discovery, Text};

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
            deprecated: None,
            methods,
        }
    }

    #[doc(hidden)]
    pub const fn deprecated(mut self, note: &'static str) -> Self {
        self.deprecated = Some(note);
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
        document::document(&[*self]).in_lines()
    }
}

/// What a method takes and answers.
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
    stream: bool,
    /// The names of the errors' codes.
    codes: &'static [&'static str],
}

#[doc(hidden)]
impl ReplyKind {
    pub const fn new(stream: bool, codes: &'static [&'static str]) -> Self {
        Self { stream, codes }
    }
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
            deprecated: None,
        }
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

    /// What it answers when all went well, or one item of a stream; `None` if it is one-way.
    pub fn result(&self) -> Option<Type> {
        self.answer.map(|answer| answer.value)
    }

    /// The service's own error; `None` if the method has none.
    pub fn error(&self) -> Option<Type> {
        let error = self.answer?.error;
        (!matches!(error.shape(), Shape::Never)).then_some(error)
    }

    /// Says whether it is not answered.
    pub const fn is_oneway(&self) -> bool {
        self.answer.is_none()
    }

    /// Says whether it is answered in parts.
    pub fn is_stream(&self) -> bool {
        self.answer.is_some_and(|answer| answer.kind.stream)
    }

    /// Older names, which the server takes as well.
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// What `#[deprecated]` says, or nothing; `None` without it.
    pub const fn deprecation(&self) -> Option<&'static str> {
        self.deprecated
    }
}
