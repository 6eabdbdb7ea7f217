//! Arbitrary text with 0 to 5 descriptors, through a real socket, into messages of every shape.
//!
//! The input is a [`Header`] and the text. What can be read is written and read again, with the same result. A type
//! without descriptors is read as with serde's own derive.

#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::str;

use jsoncomm::fds::Fds;
use jsoncomm::message::{Packer, UnknownVariant, UnusedFds, WithFds, decode, encode};
use jsoncomm::socket::{Received, Socket};
use jsoncomm::{Kind, Message};
use jsoncomm_fuzz::{Cargo, Header, VIA_FD, assert_nothing_leaks};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

/// Descriptors at every depth, and in every container.
#[derive(Debug, Message)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    number: i64,
    #[serde(default, alias = "title")]
    text: Option<String>,
    #[fd]
    file: Option<File>,
    #[fd]
    #[serde(default)]
    more: Vec<OwnedFd>,
    #[fd]
    #[serde(default)]
    by_name: BTreeMap<String, Option<OwnedFd>>,
    #[fd]
    both: Option<(OwnedFd, [File; 1])>,
    #[fd]
    socket: Option<UnixStream>,
    #[fd]
    inner: Option<Box<Envelope>>,
    #[fd]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parcels: Vec<Parcel>,
    #[fd]
    tagged: Option<Tagged>,
}

#[derive(Debug, Message)]
enum Parcel {
    Empty,
    File(#[fd] File),
    Pair(u8, #[fd] OwnedFd),
    #[serde(rename = "named", alias = "Named")]
    Struct {
        name: String,
        #[fd]
        parcel: Option<Box<Parcel>>,
    },
    Map(#[fd] BTreeMap<u8, OwnedFd>),
}

/// An enum with a tag, which comes first.
#[derive(Debug, Message)]
#[serde(tag = "t", content = "c", rename_all = "snake_case")]
enum Tagged {
    UnitOnly,
    OneFile(#[fd] File),
    Several {
        #[fd]
        files: Vec<File>,
        count: u16,
    },
}

/// A type that cannot be written.
#[derive(Debug, Message)]
enum Newer {
    Old {
        number: u8,
    },
    #[message(other)]
    Other(UnknownVariant),
}

/// Types that are read by the library and by serde, to compare.
macro_rules! twins {
    ($($(#[$attribute:meta])* $kind:ident $name:ident $body:tt)*) => {
        mod ours {
            use super::*;
            $(#[derive(Debug, Message)] $(#[$attribute])* pub(super) $kind $name $body)*
        }
        mod serdes {
            use super::*;
            $(#[derive(Debug, Serialize, Deserialize)] $(#[$attribute])* pub(super) $kind $name $body)*
        }
        fn compare_with_serde(text: &[u8]) {
            $(compare::<ours::$name, serdes::$name>(text);)*
        }
    };
}

twins! {
    struct Plain {
        number: i64,
        #[serde(default, alias = "title")]
        text: Option<String>,
        #[serde(default)]
        float: f64,
        #[serde(default)]
        wide: i128,
        #[serde(default)]
        list: Vec<(bool, char)>,
        #[serde(default)]
        map: BTreeMap<i8, Option<Box<u16>>>,
    }
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Strict {
        number: u8,
        #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        unit_only: Option<()>,
    }
    #[serde(default)]
    struct Defaults {
        pub(super) number: u8,
        pub(super) list: Vec<u8>,
    }
    #[serde(rename_all = "camelCase")]
    enum Choice {
        UnitOnly,
        Newtype(Option<u8>),
        #[serde(alias = "pair")]
        Tuple(u8, #[serde(default)] String),
        #[serde(rename_all = "UPPERCASE")]
        Struct { number: u8, #[serde(default)] text: String },
    }
}

impl Default for ours::Defaults {
    fn default() -> Self {
        let (number, list) = (7, vec![1]);
        Self { number, list }
    }
}

impl Default for serdes::Defaults {
    fn default() -> Self {
        let (number, list) = (7, vec![1]);
        Self { number, list }
    }
}

/// Reads and writes a text with both.
fn compare<O, S>(text: &[u8])
where
    O: Message + Debug,
    S: Serialize + for<'de> Deserialize<'de> + Debug,
{
    // We refuse a repeated key and deep nesting, which serde accepts.
    let Ok(ours) = decode::<O>(text, Fds::new(), UnusedFds::Refuse) else {
        return;
    };
    // From bytes serde would not check the encoding of what it skips.
    let serdes = str::from_utf8(text)
        .ok()
        .and_then(|text| serde_json::from_str::<S>(text).ok());
    let serdes = serdes.expect("what we read, serde reads");
    assert_eq!(format!("{ours:?}"), format!("{serdes:?}"));
    assert_eq!(
        written(&ours).0,
        serde_json::to_vec(&serdes).expect("a text")
    );
}

/// Two connected sockets, and descriptors to send.
struct Ends {
    from: Socket,
    to: Socket,
}

impl Ends {
    fn new(kind: Kind) -> Self {
        let (from, mut to) = Socket::pair(kind).expect("a pair");
        to.set_surplus(UnusedFds::Close);
        Self { from, to }
    }

    /// Receives a message as this type.
    fn receive<M: Message>(&mut self) -> Option<M> {
        match self.to.try_receive::<M>() {
            Ok(Received::Message(message, _)) => Some(message),
            Ok(other) => panic!("a message was sent, {} came", name_of(&other)),
            Err(error) => {
                assert!(error.is_bad_message(), "{error}");
                assert!(error.to_string().len() < 4096, "the error is too long");
                None
            }
        }
    }

    /// Reads a text with its descriptors, writes the message, and reads it again.
    fn there_and_back<M: Message>(&mut self, cargo: &Cargo, header: Header, text: &[u8]) {
        assert!(cargo.send(&self.from, header, text));
        let Some(message) = self.receive::<M>() else {
            return;
        };
        let valid: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(text);
        assert!(valid.is_ok() || text == VIA_FD, "no JSON was read");
        let first = written(&message);
        self.from.send(&message).expect("what was read is written");
        let again = self.receive::<M>().expect("what was written is read");
        assert_eq!(written(&again), first);
    }

    /// Reads a type that cannot be written.
    fn there<M: Message>(&mut self, cargo: &Cargo, header: Header, text: &[u8]) {
        assert!(cargo.send(&self.from, header, text));
        self.receive::<M>();
    }
}

fn name_of<M>(received: &Received<M>) -> &'static str {
    match received {
        Received::Message(..) => "a message",
        Received::Pending => "nothing",
        Received::Closed => "the end",
    }
}

/// Returns a message's text, and the files of its descriptors.
fn written<M: Message>(message: &M) -> (Vec<u8>, Vec<(u64, u64)>) {
    let (mut text, fds) = (Vec::new(), Packer::new());
    encode(message, &mut text, &fds).expect("what was read is written");
    let file = |fd| {
        let stat = rustix::fs::fstat(fd).expect("an open descriptor");
        (stat.st_dev, stat.st_ino)
    };
    (text, fds.into_fds().into_iter().map(file).collect())
}

thread_local! {
    static CARGO: Cargo = Cargo::new();
    static ENDS: RefCell<[Ends; 2]> =
        RefCell::new([Kind::Seqpacket, Kind::Datagram].map(Ends::new));
}

fuzz_target!(|input: &[u8]| {
    let Some((header, text)) = input.split_first() else {
        return;
    };
    let header = Header(*header);
    if text.is_empty() && !header.is_spilled() {
        return; // An empty packet looks like the end of a connection.
    }
    CARGO.with(|cargo| {
        ENDS.with_borrow_mut(|ends| {
            let ends = &mut ends[usize::from(header.is_other())];
            ends.there_and_back::<Envelope>(cargo, header, text);
            ends.there_and_back::<Parcel>(cargo, header, text);
            ends.there_and_back::<Tagged>(cargo, header, text);
            ends.there_and_back::<Vec<Option<OwnedFd>>>(cargo, header, text);
            ends.there_and_back::<WithFds<serde_json::Value>>(cargo, header, text);
            ends.there::<Newer>(cargo, header, text);
        });
    });
    compare_with_serde(text);
    if let Ok(text) = str::from_utf8(text).map(String::from) {
        let serdes = serde_json::to_vec(&text).expect("a text");
        assert_eq!(written(&text).0, serdes, "a string, whatever is in it");
    }
    assert_nothing_leaks();
});
