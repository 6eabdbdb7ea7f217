//! `Debug`: as std derives it, without sensitive values.

use std::fmt::Debug;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use std::time::{Duration, Instant};

use jsoncomm::message::{RawError, RawMessage, UnknownVariant};
use jsoncomm::socket::Socket;
use jsoncomm::{Connection, Limits, Message, Server};
use jsoncomm_tests::{KINDS, PATIENCE, pair};
use serde::{Deserialize, Serialize};

/// A short timeout, after which the loop of the test continues.
const MOMENT: Duration = Duration::from_millis(1);

/// Copies of the types below with std's derive, and the placeholder as their sensitive value.
mod std_derive {
    use std::fmt::{Debug, Formatter, Result};

    pub(super) struct Mark;

    impl Debug for Mark {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.write_str("<sensitive>")
        }
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are printed")]
    pub(super) struct Login {
        pub(super) user: &'static str,
        pub(super) password: Mark,
        pub(super) r#type: Option<u8>,
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are printed")]
    pub(super) struct Pair(pub(super) u8, pub(super) Mark);

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are printed")]
    pub(super) enum Ask {
        Login { inner: Login },
        Pin(Mark),
        Stop,
        Empty {},
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are printed")]
    pub(super) struct Held<T> {
        pub(super) shown: T,
        pub(super) hidden: Mark,
    }
}

use std_derive::Mark;

#[derive(Message, Serialize, Deserialize)]
#[message(crate = "jsoncomm")]
struct Login {
    user: String,
    #[sensitive]
    #[serde(rename = "pass")]
    password: String,
    r#type: Option<u8>,
}

#[derive(Message)]
struct Pair(u8, #[sensitive] u32);

#[derive(Message)]
enum Ask {
    Login {
        #[fd]
        inner: Login,
    },
    Pin(#[sensitive] u32),
    Stop,
    Empty {},
}

#[derive(Message)]
struct Held<T> {
    shown: T,
    #[sensitive]
    hidden: T,
}

fn login() -> Login {
    Login {
        user: "alice".into(),
        password: "hunter2".into(),
        r#type: Some(1),
    }
}

const fn login_of_std() -> std_derive::Login {
    std_derive::Login {
        user: "alice",
        password: Mark,
        r#type: Some(1),
    }
}

/// Asserts that both print the same, on one line and on many.
fn alike(ours: &dyn Debug, std: &dyn Debug) {
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
    assert_eq!(format!("{ours:#?}"), format!("{std:#?}"));
    assert_eq!(format!("{ours:04x?}"), format!("{std:04x?}"));
}

#[test]
fn a_struct_is_printed_like_std_without_sensitive_values() {
    let want = r#"Login { user: "alice", password: <sensitive>, type: Some(1) }"#;
    assert_eq!(format!("{:?}", login()), want);
    alike(&login(), &login_of_std());
    alike(&Some(vec![login()]), &Some(vec![login_of_std()]));
}

#[test]
fn a_tuple_struct_is_printed_like_std_without_sensitive_values() {
    assert_eq!(format!("{:?}", Pair(7, 271_828)), "Pair(7, <sensitive>)");
    alike(&Pair(7, 271_828), &std_derive::Pair(7, Mark));
}

#[test]
fn each_variant_is_printed_like_std_without_sensitive_values() {
    let inner = login_of_std();
    alike(
        &Ask::Login { inner: login() },
        &std_derive::Ask::Login { inner },
    );
    alike(&Ask::Pin(271_828), &std_derive::Ask::Pin(Mark));
    alike(&Ask::Stop, &std_derive::Ask::Stop);
    alike(&Ask::Empty {}, &std_derive::Ask::Empty {});
}

#[test]
fn a_generic_type_is_printed_if_its_parameters_are() {
    let held = Held {
        shown: 7,
        hidden: 271_828,
    };
    let of_std = std_derive::Held {
        shown: 7,
        hidden: Mark,
    };
    alike(&held, &of_std);
}

/// A type with parameters of every kind, and an associated type.
#[derive(Message)]
#[serde(bound(serialize = "", deserialize = ""))]
struct Sorts<'t, T: Iterator + ?Sized, const N: usize>
where
    T: 't,
{
    #[serde(skip)]
    next: Option<T::Item>,
    #[sensitive]
    key: [u8; 2],
    #[serde(skip)]
    of: PhantomData<&'t T>,
}

#[test]
fn a_type_with_parameters_of_every_sort_is_printed() {
    let sorts = Sorts::<'_, std::ops::Range<u8>, 1> {
        next: Some(3),
        key: [27, 18],
        of: PhantomData,
    };
    assert_eq!(sorts.next, Some(3));
    let text = format!("{sorts:?}");
    assert!(text.starts_with("Sorts { next: Some(3), key: <sensitive>, of: PhantomData"));
}

/// A type without `Debug`.
#[derive(Serialize, Deserialize)]
struct Silent;

#[derive(Message)]
struct Files {
    #[fd]
    shown: File,
    #[fd]
    #[sensitive]
    hidden: Vec<OwnedFd>,
    #[sensitive]
    silent: Silent,
    #[sensitive]
    #[serde(skip)]
    cached: Option<u32>,
}

#[test]
fn a_sensitive_descriptor_is_not_printed_and_a_sensitive_field_needs_no_debug() {
    jsoncomm_tests::needs_proc!();
    let files = Files {
        shown: File::open("/dev/null").unwrap(),
        hidden: Vec::new(),
        silent: Silent,
        cached: Some(271_828),
    };
    assert!(files.cached.is_some());
    let text = format!("{files:?}");
    assert!(text.contains("/dev/null"), "{text}");
    let hidden = "hidden: <sensitive>, silent: <sensitive>, cached: <sensitive> }";
    assert!(text.ends_with(hidden), "{text}");
}

#[derive(Message)]
#[serde(transparent)]
struct Transparent {
    #[sensitive]
    key: u32,
}

#[derive(Message, Serialize, Deserialize)]
#[message(serde)]
#[serde(untagged)]
enum Delegated {
    Key(#[sensitive] u32),
    Name { name: String },
}

#[derive(Message)]
enum Newer {
    #[message(other)]
    Other(#[sensitive] UnknownVariant),
}

#[test]
fn serde_attributes_do_not_change_debug_output() {
    let transparent = Transparent { key: 271_828 };
    assert_eq!(
        format!("{transparent:?}"),
        "Transparent { key: <sensitive> }"
    );
    assert_eq!(format!("{:?}", Delegated::Key(271_828)), "Key(<sensitive>)");
    let name = Delegated::Name { name: "a".into() };
    assert_eq!(format!("{name:?}"), r#"Name { name: "a" }"#);
    let other = Newer::Other(UnknownVariant {
        name: "Pin".into(),
        content: Some("271828".into()),
    });
    assert_eq!(format!("{other:?}"), "Other(<sensitive>)");
}

/// Asserts that the password is in no form in the output: as text, or as a list of bytes.
fn silent(shown: &dyn Debug) {
    let bytes = "hunter2".bytes().map(|byte| byte.to_string());
    let bytes: Vec<_> = bytes.collect();
    for text in [format!("{shown:?}"), format!("{shown:#?}")] {
        let flat = text.split_whitespace().collect::<String>();
        for secret in ["hunter2".to_owned(), bytes.join(",")] {
            assert!(!flat.contains(&secret), "{text}");
        }
    }
}

/// Takes a password and returns it.
#[jsoncomm::service(name = "test.keeper", crate = "jsoncomm")]
trait Keeper {
    /// Returns the argument.
    fn keep(&mut self, login: Login) -> Login;
}

impl Keeper for () {
    fn keep(&mut self, login: Login) -> Login {
        login
    }
}

#[test]
fn a_socket_is_printed_without_its_messages() {
    for kind in KINDS {
        let (mut left, mut right) = pair(kind);
        left.send(&login()).unwrap();
        assert_eq!(right.receive::<Login>().unwrap().0.password, "hunter2");
        silent(&left);
        silent(&right);
        left.send(&login()).unwrap();
        let raw = right.receive_raw().unwrap().0;
        assert!(raw.bytes.ends_with(br#""pass":"hunter2","type":1}"#));
        silent(&raw);
        silent(&right);
    }
}

#[test]
fn a_message_of_unknown_type_is_printed_without_its_text() {
    let text = r#"{"user":"alice","pass":"hunter2"}"#;
    let failure = RawError {
        data: Some(RawMessage::new(text)),
        ..RawError::default()
    };
    silent(&failure);
    silent(&failure.data);
    let length = text.len();
    let shown = format!("{:?}", RawMessage::new(text));
    assert!(shown.contains(&format!("{length} bytes")), "{shown}");
}

#[test]
fn a_server_and_a_connection_are_printed_without_their_messages() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keeper.sock");
        let mut server = Server::new(Limits::default()).unwrap();
        server.bind(&path, kind).unwrap().serve::<dyn Keeper>();
        let connection = Connection::open(&path).unwrap().with_timeout(PATIENCE);
        let calls = KeeperClient::new(connection.clone()).start();
        let mut call = calls.keep(login()).unwrap();
        let reply = loop {
            let _ = server.run_once(&mut (), Some(MOMENT)).unwrap();
            silent(&connection);
            silent(&call);
            if let Some(reply) = call.try_wait() {
                break reply;
            }
        };
        assert_eq!(reply.unwrap().password, "hunter2");
        silent(&connection);
        silent(&server);
        // A client that does not read has a backlog of replies.
        let mut stalled = Socket::connect(&path, kind).unwrap();
        let keep = r#"{"jsonrpc":"2.0","id":1,"method":"test.keeper.keep","params":{"login":{"user":"a","pass":"hunter2"}}}"#;
        let keep = RawMessage::new(keep);
        let until = Instant::now() + PATIENCE;
        while server.stats().backlog == 0 {
            assert!(Instant::now() < until, "replies are backlogged");
            let _ = stalled.try_send(&keep).unwrap();
            let _ = server.run_once(&mut (), Some(Duration::ZERO)).unwrap();
        }
        silent(&server);
    }
}
