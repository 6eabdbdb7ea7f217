//! `#[service]` in any place where a trait may be, and with any names of methods.

#![deny(warnings, reason = "what is generated gives none")]

mod bare;
mod groups;
mod lints;
mod names;

use std::fmt::Debug;
use std::fs::File;
use std::ops::Shl;

use jsoncomm::message::Request;
use jsoncomm::server::Service;
use jsoncomm::{Call, CallError, Fault, Kind, Message};
use jsoncomm_tests::Running;

use bare::BareClient;

#[test]
fn a_service_needs_no_prelude() {
    let server = Running::start(Kind::Seqpacket, bare::Daemon, |endpoint| {
        endpoint.serve::<dyn bare::Bare>()
    });
    let client = BareClient::new(server.connect());
    let bare::S = client.parameters(&bare::S, &bare::M).unwrap();
    let answered = client.answered("abc", Some("d")).unwrap();
    assert!(matches!(answered, bare::Option::Some { len: 4 }));
    let file = File::open("/dev/null").unwrap();
    assert_eq!(client.opened(&file, b"x").unwrap().held, b'x');
    let refused = client.opened(&file, b"").unwrap_err();
    assert!(matches!(refused, CallError::Service(bare::Error::Some)));
    assert_eq!(client.later().unwrap(), 1);
    client.log(&[], "line").unwrap();
    let bare::S = client.cloned().unwrap();
    assert_eq!(bare::Request::Ask { r#move: 0 }.method(), 0);
}

/// A crate that re-exports this one.
mod framework {
    pub(crate) mod rpc {
        pub(crate) use jsoncomm::*;
    }
}

/// A service that uses the library under another path.
mod renamed {
    use super::framework::rpc as other;

    #[other::service(name = "renamed", crate = "super::framework::rpc")]
    pub(crate) trait Renamed {
        fn size(&mut self, #[fd] file: std::fs::File, of: &str) -> Result<u64, Nothing>;
    }

    #[derive(Debug, other::Message)]
    #[message(crate = "crate::macros::framework::rpc")]
    pub(crate) enum Nothing {
        Nothing,
    }

    impl std::fmt::Display for Nothing {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("nothing")
        }
    }

    pub(crate) struct Daemon;

    impl Renamed for Daemon {
        fn size(&mut self, _file: std::fs::File, of: &str) -> Result<u64, Nothing> {
            u64::try_from(of.len()).map_err(|_| Nothing::Nothing)
        }
    }
}

#[test]
fn a_service_can_set_the_path_of_the_library() {
    let server = Running::start(Kind::Datagram, renamed::Daemon, |endpoint| {
        endpoint.serve::<dyn renamed::Renamed>()
    });
    let client = renamed::RenamedClient::new(server.connect());
    let file = File::open("/dev/null").unwrap();
    assert_eq!(client.size(&file, "1234").unwrap(), 4);
}

/// The names of its types shadow those of the prelude.
mod known {
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(crate) struct File {
        pub(crate) path: String,
    }

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Path(pub(crate) u8);

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(crate) enum Option<T> {
        Only(T),
    }

    #[derive(Debug, jsoncomm::Message)]
    pub(crate) struct TcpStream(#[fd] pub(crate) std::fs::File);

    pub(crate) type Result<E, T> = std::result::Result<T, E>;

    #[jsoncomm::service(name = "known")]
    pub(crate) trait Known {
        fn put(&mut self, file: self::File, path: &self::Path) -> self::Result<String, u8>;
        fn only(&mut self, given: self::Option<u8>) -> u8;
        fn hold(&mut self, #[fd] stream: self::TcpStream) -> u64;
    }

    pub(crate) struct Daemon;

    impl Known for Daemon {
        fn put(&mut self, file: File, path: &Path) -> Result<String, u8> {
            match path.0 {
                0 => Err(file.path),
                path => Ok(path),
            }
        }

        fn only(&mut self, Option::Only(given): Option<u8>) -> u8 {
            given
        }

        fn hold(&mut self, stream: TcpStream) -> u64 {
            stream.0.metadata().map_or(1, |metadata| metadata.len())
        }
    }
}

#[test]
fn argument_types_may_have_any_name() {
    let server = Running::start(Kind::Seqpacket, known::Daemon, |endpoint| {
        endpoint.serve::<dyn known::Known>()
    });
    let client = known::KnownClient::new(server.connect());
    let file = known::File { path: "a".into() };
    assert_eq!(client.put(file.clone(), &known::Path(7)).unwrap(), 7);
    let refused = client.put(file, &known::Path(0)).unwrap_err();
    assert!(matches!(refused, CallError::Service(path) if path == "a"));
    assert_eq!(client.only(known::Option::Only(3)).unwrap(), 3);
    let null = known::TcpStream(File::open("/dev/null").unwrap());
    assert_eq!(client.hold(&null).unwrap(), 0);
}

/// Its methods have names that functions of the stub have, or could have.
#[jsoncomm::service(name = "names")]
#[expect(
    clippy::too_many_arguments,
    clippy::wrong_self_convention,
    clippy::new_ret_no_self,
    reason = "that is the trait's own affair"
)]
trait Names {
    fn new(&mut self) -> u8;
    fn call(&mut self, call: u8) -> u8;
    fn clone(&mut self) -> u8;
    fn start(&mut self) -> u8;
    fn from(&mut self, from: u8) -> u8;
    fn into_iter(&mut self) -> u8;
    fn fmt(&mut self, f: u8) -> u8;
    fn default(&mut self) -> u8;
    fn drop(&mut self) -> u8;
    fn connection(&mut self) -> u8;
    fn mode(&mut self) -> u8;
    fn method(&mut self) -> u8;
    fn r#type(&mut self, r#move: u8) -> u8;
    fn arguments(
        &mut self,
        connection: u8,
        mode: u8,
        method: u8,
        state: u8,
        incoming: u8,
        params: u8,
        fds: u8,
    ) -> u8;
}

struct Named;

impl Names for Named {
    fn new(&mut self) -> u8 {
        1
    }
    fn call(&mut self, call: u8) -> u8 {
        call
    }
    fn clone(&mut self) -> u8 {
        3
    }
    fn start(&mut self) -> u8 {
        4
    }
    fn from(&mut self, from: u8) -> u8 {
        from
    }
    fn into_iter(&mut self) -> u8 {
        6
    }
    fn fmt(&mut self, f: u8) -> u8 {
        f
    }
    fn default(&mut self) -> u8 {
        8
    }
    fn drop(&mut self) -> u8 {
        9
    }
    fn connection(&mut self) -> u8 {
        10
    }
    fn mode(&mut self) -> u8 {
        11
    }
    fn method(&mut self) -> u8 {
        12
    }
    fn r#type(&mut self, r#move: u8) -> u8 {
        r#move
    }
    fn arguments(&mut self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) -> u8 {
        a + b + c + d + e + f + g
    }
}

#[test]
fn a_method_may_have_any_name() {
    #[derive(Message)]
    struct Move {
        r#move: u8,
    }
    let server = Running::start(Kind::Seqpacket, Named, |endpoint| {
        endpoint.serve::<dyn Names>()
    });
    let names: NamesClient = server.connect().into();
    let replies = [
        names.new(),
        names.call(2),
        names.clone(),
        names.start(),
        names.from(5),
        names.into_iter(),
        names.fmt(7),
        names.default(),
        names.drop(),
        names.connection(),
        names.mode(),
        names.method(),
        names.r#type(13),
        names.arguments(1, 2, 3, 4, 2, 1, 1),
    ];
    for (reply, number) in replies.into_iter().zip(1..) {
        assert_eq!(reply.unwrap(), number);
    }
    let copy: NamesClient = Clone::clone(&names);
    assert_eq!(
        copy.mode().unwrap(),
        11,
        "the stub still implements the trait"
    );
    let plain: u8 = server
        .connect()
        .call::<_, std::convert::Infallible>("names.type", &Move { r#move: 9 })
        .unwrap();
    assert_eq!(plain, 9, "on the wire a raw name has no `r#`");
}

/// Some of its methods are disabled.
#[jsoncomm::service(name = "conditional")]
#[expect(
    clippy::wrong_self_convention,
    clippy::new_ret_no_self,
    reason = "that is the trait's own affair"
)]
trait Conditional {
    #[cfg(any())]
    fn never(&mut self, gone: Missing) -> Missing;
    fn always(&mut self) -> u8;
    #[cfg(unix)]
    fn new(&mut self) -> u8;
    #[cfg(any())]
    fn start(&mut self) -> u8;
    #[cfg(any())]
    fn either(&mut self, other: String) -> u8;
    #[cfg(not(any()))]
    #[cfg(unix)]
    fn either(&mut self, number: u8) -> u8;
    #[cfg(any())]
    #[oneway]
    fn log(&mut self);
    #[cfg_attr(unix, doc = "Comes last.")]
    fn last(&mut self) -> u8;
}

struct Conditioned;

impl Conditional for Conditioned {
    fn always(&mut self) -> u8 {
        1
    }
    fn new(&mut self) -> u8 {
        2
    }
    fn either(&mut self, number: u8) -> u8 {
        number
    }
    fn last(&mut self) -> u8 {
        4
    }
}

#[test]
fn a_method_may_be_conditional() {
    let methods = <dyn Conditional as Service<Conditioned>>::METHODS;
    assert_eq!(methods, ["always", "new", "either", "last"]);
    let server = Running::start(Kind::Seqpacket, Conditioned, |endpoint| {
        endpoint.serve::<dyn Conditional>()
    });
    let client: ConditionalClient = server.connect().into();
    assert_eq!(client.always().unwrap(), 1);
    assert_eq!(client.new().unwrap(), 2);
    assert_eq!(client.either(3).unwrap(), 3);
    assert_eq!(client.last().unwrap(), 4);
    let started = client.start().last().unwrap();
    assert_eq!(started.wait().unwrap(), 4, "no method took `start`");
    let gone: Result<u8, CallError> = server.connect().call("conditional.never", &[0_u8; 0]);
    let Err(CallError::Fault(fault)) = gone else {
        unreachable!("{gone:?}");
    };
    assert_eq!(fault.code, Fault::METHOD_NOT_FOUND);
}

/// The trait and its methods have bounds on the state, some through `Self`.
#[jsoncomm::service(name = "asking")]
trait Asking: AsRef<str>
where
    Self: Debug + Iterator<Item = u8>,
    Self::Item: Into<u64>,
    Box<Self>: Send,
    for<'a> &'a Self: Shl<u8, Output = u32>,
    String: From<&'static str>,
{
    fn shown(&mut self) -> String
    where
        Self: Sized + Clone,
        String: From<Self>,
    {
        format!("{} {self:?} {}", self.as_ref(), String::from(self.clone()))
    }

    fn next_one(&mut self, call: &mut Call) -> Option<u64>
    where
        Self: Sync + 'static,
    {
        let _ = call.method();
        self.next().map(Into::into)
    }

    #[cfg(unix)]
    fn shifted(&self, by: u8) -> u32
    where
        Self: Sized,
        String: Clone,
    {
        self << by
    }
}

#[derive(Debug, Clone)]
struct Asked(u8);

impl Asking for Asked {}

impl AsRef<str> for Asked {
    fn as_ref(&self) -> &str {
        "asked"
    }
}

impl Iterator for Asked {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.0.checked_add(1)
    }
}

impl Shl<u8> for &Asked {
    type Output = u32;

    fn shl(self, by: u8) -> u32 {
        u32::from(self.0) << by
    }
}

impl From<Asked> for String {
    fn from(asked: Asked) -> Self {
        asked.0.to_string()
    }
}

#[test]
fn a_trait_and_its_methods_may_have_bounds() {
    let server = Running::start(Kind::Seqpacket, Asked(1), |endpoint| {
        endpoint.serve::<dyn Asking>()
    });
    let client = AskingClient::new(server.connect());
    assert_eq!(client.shown().unwrap(), "asked Asked(1) 1");
    assert_eq!(client.next_one().unwrap(), Some(2));
    assert_eq!(client.shifted(4).unwrap(), 16);
}

/// Only generated code uses it.
mod deprecated {
    #[deprecated = "it is old"]
    #[jsoncomm::service(name = "deprecated.whole")]
    pub(crate) trait Whole {
        fn one(&mut self) -> u8;
    }

    #[jsoncomm::service(name = "deprecated.part")]
    pub(crate) trait Part {
        /// Deprecated, too.
        #[deprecated(note = "call `two`")]
        fn one(&mut self, #[fd] file: std::fs::File) -> u8;
        #[deprecated]
        #[oneway]
        fn log(&mut self);
        fn two(&mut self) -> u8;
    }
}

/// A server that does not use the stub gets no warning about it.
mod served {
    #[jsoncomm::service(name = "served")]
    trait Served {
        fn one(&mut self) -> u8;
    }

    struct Daemon;

    impl Served for Daemon {
        fn one(&mut self) -> u8 {
            1
        }
    }

    #[test]
    fn a_stub_may_be_left_unused() {
        let name = <dyn Served as jsoncomm::server::Service<Daemon>>::NAME;
        assert_eq!(name, "served");
    }
}

#[test]
#[expect(deprecated, reason = "the stub repeats what the trait says")]
fn a_deprecated_method_is_deprecated_in_the_stub() {
    let method = deprecated::PartClient::<jsoncomm::client::Blocking>::log;
    let _ = method;
}

#[test]
#[expect(deprecated, reason = "the stub repeats what the trait says")]
fn a_deprecated_trait_has_a_deprecated_stub() {
    let _ = deprecated::WholeClient::<jsoncomm::client::Blocking>::one;
}

/// Generates a trait.
macro_rules! getter {
    ($name:literal, $trait:ident, $method:ident($argument:ident: $ty:ty, $text:ty)) => {
        #[jsoncomm::service(name = $name)]
        trait $trait {
            fn $method(&mut self, $argument: $ty, text: $text) -> $ty;
        }
    };
}

getter!("getter", Getter, get(given: Option<u8>, &str));

struct Gotten;

impl Getter for Gotten {
    fn get(&mut self, given: Option<u8>, text: &str) -> Option<u8> {
        given.filter(|_| text == "yes")
    }
}

#[test]
fn a_trait_may_be_generated_by_another_macro() {
    let server = Running::start(Kind::Seqpacket, Gotten, |endpoint| {
        endpoint.serve::<dyn Getter>()
    });
    let getter = GetterClient::new(server.connect());
    assert_eq!(getter.get(Some(1), "yes").unwrap(), Some(1));
    assert_eq!(getter.get(Some(1), "no").unwrap(), None);
}
