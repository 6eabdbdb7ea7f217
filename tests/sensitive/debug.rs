//! `Debug`: as std derives it, but for the values of sensitive fields.

use std::fmt::Debug;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use jsoncomm::Message;
use jsoncomm::message::Unknown;
use serde::{Deserialize, Serialize};

/// The same types as std prints them, with the mark in place of the secret.
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
fn a_struct_is_printed_as_std_does_but_for_the_value() {
    let want = r#"Login { user: "alice", password: <sensitive>, type: Some(1) }"#;
    assert_eq!(format!("{:?}", login()), want);
    alike(&login(), &login_of_std());
    alike(&Some(vec![login()]), &Some(vec![login_of_std()]));
}

#[test]
fn a_tuple_struct_is_printed_as_std_does_but_for_the_value() {
    assert_eq!(format!("{:?}", Pair(7, 271_828)), "Pair(7, <sensitive>)");
    alike(&Pair(7, 271_828), &std_derive::Pair(7, Mark));
}

#[test]
fn each_variant_is_printed_as_std_does_but_for_the_value() {
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

/// Parameters of every sort, and a type that belongs to one.
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

/// Printed by no derive.
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
fn a_descriptor_is_not_printed_and_a_sensitive_field_need_not_be_printable() {
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
    Other(#[sensitive] Unknown),
}

#[test]
fn how_a_type_travels_does_not_change_how_it_is_printed() {
    let transparent = Transparent { key: 271_828 };
    assert_eq!(
        format!("{transparent:?}"),
        "Transparent { key: <sensitive> }"
    );
    assert_eq!(format!("{:?}", Delegated::Key(271_828)), "Key(<sensitive>)");
    let name = Delegated::Name { name: "a".into() };
    assert_eq!(format!("{name:?}"), r#"Name { name: "a" }"#);
    let other = Newer::Other(Unknown {
        name: "Pin".into(),
        content: Some("271828".into()),
    });
    assert_eq!(format!("{other:?}"), "Other(<sensitive>)");
}
