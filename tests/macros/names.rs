//! Names of the program do not collide with those in generated code.

#![allow(
    non_upper_case_globals,
    reason = "what this is about: patterns take constants for themselves"
)]

use jsoncomm::fds::Fds;
use jsoncomm::message::{Packer, UnusedFds, decode, encode};
use jsoncomm::{Kind, Message};
use jsoncomm_tests::Running;

/// Defines constants with names that generated code and the arguments of the trait use.
macro_rules! constants {
    ($($name:ident)*) => {$(
        #[allow(dead_code, reason = "it is only in the way")]
        const $name: u8 = 7;
    )*};
}

constants! { connection f mode fds from out state incoming params index value path text call r#move }
#[allow(dead_code, reason = "it is only in the way")]
static count: u8 = 7;
#[allow(dead_code, non_camel_case_types, reason = "it is only in the way")]
struct unit;

/// Traits with functions of the same names, implemented for all types.
mod blanket {
    #[allow(dead_code, reason = "it is only in the way")]
    pub(super) trait Blanket {
        fn shape(&self) -> u8 {
            7
        }
        fn read(&self) -> u8 {
            7
        }
        fn unpack(&self) -> u8 {
            7
        }
        fn pack(&self) -> u8 {
            7
        }
        fn code(&self) -> u8 {
            7
        }
        fn answer(&self) -> u8 {
            7
        }
        fn call(&self) -> u8 {
            7
        }
        fn as_fd(&self) -> u8 {
            7
        }
        fn as_ref(&self) -> u8 {
            7
        }
        fn borrow(&self) -> u8 {
            7
        }
        fn sensitive(&self) -> u8 {
            7
        }
        fn field(&self) -> u8 {
            7
        }
    }

    impl<T: ?Sized> Blanket for T {}
}
#[allow(unused_imports, reason = "it is only in the way")]
use blanket::Blanket as _;

/// The default of the argument of the same name.
fn limit() -> u8 {
    9
}

#[derive(PartialEq, Message)]
struct Held {
    path: String,
    value: Option<Box<Held>>,
    #[sensitive]
    text: u8,
}

#[jsoncomm::service(name = "names")]
trait Constants {
    #[expect(clippy::too_many_arguments, reason = "each another name")]
    fn one(
        &mut self,
        path: &str,
        connection: u8,
        #[serde(default = "limit")] limit: u8,
        count: Held,
        unit: &Held,
        r#move: Option<&str>,
        text: String,
    ) -> String;
    fn call(&mut self, call: u8, #[fd] fds: std::fs::File) -> u8;
}

struct Daemon;

impl Constants for Daemon {
    fn one(
        &mut self,
        a: &str,
        b: u8,
        c: u8,
        d: Held,
        e: &Held,
        g: Option<&str>,
        h: String,
    ) -> String {
        format!("{a} {b} {c} {} {} {g:?} {h}", d.path, e.path)
    }

    fn call(&mut self, number: u8, _: std::fs::File) -> u8 {
        number
    }
}

#[test]
fn constants_of_any_name_may_be_in_scope() {
    let held = || Held {
        path: "p".into(),
        value: Some(Box::new(Held {
            path: "q".into(),
            value: None,
            text: 1,
        })),
        text: 2,
    };
    let server = Running::start(Kind::Seqpacket, Daemon, |endpoint| {
        endpoint.serve::<dyn Constants>()
    });
    let client = ConstantsClient::new(server.connect());
    let said = client.one("a", 1, 2, held(), &held(), Some("m"), "t");
    assert_eq!(said.unwrap(), r#"a 1 2 p p Some("m") t"#);
    let null = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(client.call(3, &null).unwrap(), 3);
    let mut written = Vec::new();
    let given = held();
    encode(&given, &mut written, &Packer::new()).unwrap();
    let read: Held = decode(&written, Fds::new(), UnusedFds::Refuse).unwrap();
    assert_eq!(read, given);
    assert_eq!(limit(), 9);
}
