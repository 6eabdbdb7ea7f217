//! Two versions of one service: an old client calls a new server, and the reverse.

use std::os::fd::OwnedFd;

use jsoncomm::fds::Fds;
use jsoncomm::message::{Packer, UnknownVariant, Unpack, Unpacker, UnusedFds, decode, encode};
use jsoncomm::server::Service;
use jsoncomm::{CallError, Fault, Message};
use jsoncomm_tests::{KINDS, Running, alone, assert_open_fds, open_fds};
use serde::de::value::{Error as ValueError, MapDeserializer};

/// The old version.
mod old {
    use jsoncomm::Message;
    use jsoncomm::message::UnknownVariant;

    #[jsoncomm::service(name = "files")]
    pub(crate) trait Files {
        fn get_size(&mut self, path: &str) -> Result<Size, Trouble>;
        fn fetch(&mut self, what: u8) -> Result<Fetched, Trouble>;
    }

    #[derive(Debug, Message, PartialEq)]
    pub(crate) struct Size {
        pub(crate) len: u64,
    }

    #[derive(Debug, Message)]
    pub(crate) enum Fetched {
        Nothing,
        Text(String),
        #[message(other)]
        Other(UnknownVariant),
    }

    #[derive(Debug, Message, PartialEq, thiserror::Error)]
    pub(crate) enum Trouble {
        #[error("no file")]
        NotFound,
        #[message(other)]
        #[error("{0}")]
        Other(UnknownVariant),
    }

    pub(crate) struct Daemon;

    impl Files for Daemon {
        fn get_size(&mut self, path: &str) -> Result<Size, Trouble> {
            match path {
                "none" => Err(Trouble::NotFound),
                path => Ok(Size {
                    len: path.len() as u64,
                }),
            }
        }

        fn fetch(&mut self, what: u8) -> Result<Fetched, Trouble> {
            Ok(match what {
                0 => Fetched::Nothing,
                _ => Fetched::Text("old".into()),
            })
        }
    }
}

/// The new version: one method is renamed, one is new; an argument, a member and variants were added.
mod new {
    use super::OwnedFd;
    use jsoncomm::{Call, Message};

    #[jsoncomm::service(name = "files")]
    pub(crate) trait Files {
        #[serde(rename = "sizeOf", alias = "get_size", alias = "length")]
        fn size_of(
            &mut self,
            call: &mut Call,
            path: &str,
            times: Option<u64>,
            #[serde(default)] plus: u64,
        ) -> Result<Size, Trouble>;
        fn fetch(&mut self, what: u8) -> Result<Fetched, Trouble>;
        fn exists(&mut self, path: &str) -> bool;
    }

    #[derive(Debug, Message, PartialEq)]
    pub(crate) struct Size {
        pub(crate) len: u64,
        #[serde(default)]
        pub(crate) asked_by: String,
    }

    #[derive(Debug, Message)]
    pub(crate) enum Fetched {
        Nothing,
        Text(String),
        File {
            #[fd]
            file: OwnedFd,
            name: String,
        },
        Gone,
    }

    #[derive(Debug, Message, PartialEq, thiserror::Error)]
    pub(crate) enum Trouble {
        #[error("no file")]
        NotFound,
        #[error("come back in {seconds} s")]
        Later { seconds: u8 },
    }

    pub(crate) struct Daemon;

    impl Files for Daemon {
        fn size_of(
            &mut self,
            call: &mut Call,
            path: &str,
            times: Option<u64>,
            plus: u64,
        ) -> Result<Size, Trouble> {
            match path {
                "none" => Err(Trouble::NotFound),
                "busy" => Err(Trouble::Later { seconds: 3 }),
                path => Ok(Size {
                    len: path.len() as u64 * times.unwrap_or(1) + plus,
                    asked_by: call.method().to_owned(),
                }),
            }
        }

        fn fetch(&mut self, what: u8) -> Result<Fetched, Trouble> {
            let null = || std::fs::File::open("/dev/null").map(OwnedFd::from);
            match what {
                0 => Ok(Fetched::Nothing),
                1 => Ok(Fetched::Text("new".into())),
                2 => Ok(Fetched::Gone),
                _ => {
                    let file = null().map_err(|_| Trouble::NotFound)?;
                    let name = "null \"ä\"".to_owned();
                    Ok(Fetched::File { file, name })
                }
            }
        }

        fn exists(&mut self, _path: &str) -> bool {
            true
        }
    }
}

#[test]
fn an_old_client_calls_a_new_server_by_the_old_name() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, new::Daemon, |endpoint| {
            endpoint.serve::<dyn new::Files>()
        });
        let files = old::FilesClient::new(server.connect());
        assert_eq!(files.get_size("abc").unwrap(), old::Size { len: 3 });
        let missing = files.get_size("none").unwrap_err();
        assert!(matches!(
            missing,
            CallError::Service(old::Trouble::NotFound)
        ));
        assert!(matches!(
            files.fetch(1).unwrap(),
            old::Fetched::Text(text) if text == "new"
        ));
    }
}

#[test]
fn a_new_client_calls_a_new_server_by_the_new_name() {
    alone!();
    let methods = <dyn new::Files as Service<new::Daemon>>::METHODS;
    assert_eq!(methods, ["sizeOf", "fetch", "exists"]);
    let server = Running::start(KINDS[0], new::Daemon, |endpoint| {
        endpoint.serve::<dyn new::Files>()
    });
    let size = |len: u64| new::Size {
        len,
        asked_by: "sizeOf".into(),
    };
    let files = new::FilesClient::new(server.connect());
    assert_eq!(files.size_of("abc", Some(2), 1).unwrap(), size(7));
    for name in ["files.sizeOf", "files.get_size", "files.length"] {
        let reply: Result<new::Size, CallError> = server.connect().call(name, &("abc",));
        assert_eq!(reply.unwrap(), size(3), "{name}");
    }
    let reply: Result<new::Size, CallError> = server.connect().call("files.size_of", &("abc",));
    assert!(matches!(reply, Err(CallError::Fault(_))), "it is renamed");
}

#[test]
fn a_new_client_gets_method_not_found_from_an_old_server() {
    alone!();
    let server = Running::start(KINDS[1], old::Daemon, |endpoint| {
        endpoint.serve::<dyn old::Files>()
    });
    let files = new::FilesClient::new(server.connect());
    for unknown in [
        files.exists("a").map(|_| ()).map_err(fault),
        files.size_of("a", None, 0).map(|_| ()).map_err(fault),
    ] {
        assert_eq!(unknown.unwrap_err(), Some(Fault::METHOD_NOT_FOUND));
    }
    assert!(matches!(files.fetch(0).unwrap(), new::Fetched::Nothing));
    // Servers are strict: an unknown argument may be essential.
    let more: Result<new::Size, CallError> = server
        .connect()
        .call("files.get_size", &("abc", 2, "another"));
    assert_eq!(
        more.map_err(fault).unwrap_err(),
        Some(Fault::INVALID_PARAMS)
    );
    let less: Result<new::Size, CallError> = server.connect().call("files.get_size", &("abc",));
    let expected = new::Size {
        len: 3,
        asked_by: String::new(),
    };
    assert_eq!(less.unwrap(), expected, "the member has its default");
}

#[test]
fn an_old_client_keeps_unknown_variants_and_closes_their_descriptors() {
    let other = |name: &str, content: Option<&str>| UnknownVariant {
        name: name.to_owned(),
        content: content.map(str::to_owned),
    };
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, new::Daemon, |endpoint| {
            endpoint.serve::<dyn new::Files>()
        });
        let files = old::FilesClient::new(server.connect());
        files.fetch(0).unwrap();
        let before = open_fds();
        for (what, expected) in [
            (2, other("Gone", None)),
            (3, other("File", Some(r#"{"file":0,"name":"null \"ä\""}"#))),
        ] {
            let fetched = files.fetch(what).unwrap();
            assert!(matches!(fetched, old::Fetched::Other(unknown) if unknown == expected));
        }
        let Err(CallError::Service(trouble)) = files.get_size("busy") else {
            unreachable!("it is busy");
        };
        assert_eq!(trouble.to_string(), "unknown variant Later");
        let expected = other("Later", Some(r#"{"seconds":3}"#));
        assert_eq!(trouble, old::Trouble::Other(expected));
        assert_open_fds(before);
    }
}

#[test]
fn a_tagged_enum_keeps_unknown_variants() {
    #[derive(Debug, Message, PartialEq)]
    #[serde(tag = "kind", content = "of")]
    enum Tagged {
        Known(u8),
        #[message(other)]
        Other(UnknownVariant),
    }
    let read = |text: &str| decode::<Tagged>(text.as_bytes(), Fds::new(), UnusedFds::Refuse);
    let other = |content: Option<&str>| {
        let content = content.map(str::to_owned);
        let name = "New".to_owned();
        Tagged::Other(UnknownVariant { name, content })
    };
    assert_eq!(
        read(r#"{"kind":"Known","of":1}"#).unwrap(),
        Tagged::Known(1)
    );
    assert_eq!(read(r#"{"kind":"New"}"#).unwrap(), other(None));
    let held = read(r#"{"kind":"New","of":{"a": [1, 2]}}"#).unwrap();
    assert_eq!(held, other(Some(r#"{"a":[1,2]}"#)));
    assert_eq!(read(r#"["New", null]"#).unwrap(), other(Some("null")));
    assert!(read(r#"{"kind":"New","of":1,"of":2}"#).is_err(), "twice");
}

/// With `arbitrary_precision` serde_json represents a number as a special map.
#[test]
fn a_number_of_arbitrary_precision_is_not_taken_for_a_variant() {
    let number = MapDeserializer::new([("$serde_json::private::Number", "5.5")].into_iter());
    let read: Result<old::Fetched, ValueError> = old::Fetched::unpack(&Unpacker::default(), number);
    let error = read.unwrap_err().to_string();
    assert_eq!(error, "invalid type: number, expected enum Fetched");
}

#[test]
fn an_unknown_variant_cannot_be_sent_and_is_refused_by_a_server() {
    alone!();
    let mut fds = Fds::new();
    fds.push(std::fs::File::open("/dev/null").unwrap().into())
        .unwrap();
    let strict = decode::<old::Fetched>(br#"{"File":{"file":0}}"#, fds, UnusedFds::Refuse);
    assert!(strict.is_err(), "its descriptor is unused");
    let unknown = decode(br#"{"File":{"file":0}}"#, Fds::new(), UnusedFds::Refuse).unwrap();
    let old::Fetched::Other(_) = &unknown else {
        unreachable!("{unknown:?}");
    };
    let written = encode(&unknown, &mut Vec::new(), &Packer::new()).unwrap_err();
    let why = "the enum variant Fetched::Other is only read: its descriptors are closed";
    assert!(written.to_string().contains(why), "{written}");
}

/// Returns the code of the fault that ended a call.
fn fault<E>(error: CallError<E>) -> Option<i64> {
    match error {
        CallError::Fault(fault) => Some(fault.code),
        _ => None,
    }
}
