//! Generated code works where nothing is in scope and names of std mean something else.

#![no_implicit_prelude]

use ::jsoncomm::{Call, Deferred, Message};
use ::std::fs::File;
use ::std::os::fd::OwnedFd;
use ::std::string::String;
use ::std::vec::Vec;

#[derive(Debug, Message)]
#[serde(tag = "kind", content = "of")]
pub(crate) enum Option {
    Some { len: u64 },
    None,
}

#[derive(Message)]
pub(crate) struct Result<T> {
    #[fd]
    pub(crate) file: OwnedFd,
    #[serde(default, rename = "type")]
    pub(crate) r#type: ::std::option::Option<u8>,
    #[sensitive]
    pub(crate) held: T,
}

#[derive(Debug, Message)]
pub(crate) enum Error {
    Some,
}

impl ::std::fmt::Display for Error {
    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
        f.write_str("some")
    }
}

#[derive(Message)]
#[message(service = "bare.requests", reply = Option, error = Error)]
pub(crate) enum Request {
    Ask {
        #[sensitive]
        r#move: u8,
    },
}

/// Type parameters of generated code must not have this name.
#[derive(Debug, Message)]
pub(crate) struct S;
/// See [`S`].
#[derive(Debug, Message)]
pub(crate) struct M;

#[::jsoncomm::service(name = "bare")]
pub(crate) trait Bare
where
    Self: ::std::fmt::Debug,
{
    fn parameters(&mut self, #[fd] s: S, #[fd] m: M) -> S;
    fn answered(&mut self, #[sensitive] text: &str, some: ::std::option::Option<&str>) -> Option;
    fn opened(
        &mut self,
        #[fd] file: File,
        bytes: &[u8],
    ) -> ::std::result::Result<Result<u8>, Error>;
    fn later(&mut self, call: &mut Call) -> Deferred<u8, Error>;
    #[oneway]
    fn log(&mut self, #[fd] sinks: Vec<OwnedFd>, line: String);
    fn cloned(&mut self) -> S
    where
        Self: ::std::marker::Sized + ::std::clone::Clone;
}

#[derive(::std::fmt::Debug, ::std::clone::Clone)]
pub(crate) struct Daemon;

impl Bare for Daemon {
    fn parameters(&mut self, _s: S, _m: M) -> S {
        S
    }

    fn answered(&mut self, text: &str, some: ::std::option::Option<&str>) -> Option {
        match some {
            ::std::option::Option::Some(some) => Option::Some {
                len: (text.len() + some.len()) as u64,
            },
            ::std::option::Option::None => Option::None,
        }
    }

    fn opened(&mut self, file: File, bytes: &[u8]) -> ::std::result::Result<Result<u8>, Error> {
        match bytes {
            [] => ::std::result::Result::Err(Error::Some),
            [held, ..] => ::std::result::Result::Ok(Result {
                file: ::std::convert::From::from(file),
                r#type: ::std::option::Option::None,
                held: *held,
            }),
        }
    }

    fn later(&mut self, call: &mut Call) -> Deferred<u8, Error> {
        call.defer(|reply| reply.send(1))
    }

    fn log(&mut self, _sinks: Vec<OwnedFd>, _line: String) {}

    fn cloned(&mut self) -> S {
        let Daemon = ::std::clone::Clone::clone(self);
        S
    }
}
