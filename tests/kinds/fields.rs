//! Where a kind can be asked for: wherever `#[fd]` can stand.

use super::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use jsoncomm::message::{Packer, encode};
use jsoncomm::stream::StreamSender;
use jsoncomm::{Call, Deferred, Stream};

/// A file that is read to the end, as a type of its own.
#[derive(Debug, Message)]
struct Input(#[fd(directory, read)] File);

#[derive(Debug, Message)]
enum Choice {
    One(#[fd(directory)] File),
    Pair(u8, #[fd(directory)] OwnedFd),
    Named {
        #[fd(directory)]
        file: Option<File>,
    },
}

#[derive(Debug, Message)]
#[serde(tag = "kind", content = "of")]
enum Tagged {
    One(#[fd(directory)] File),
}

#[derive(Debug, Message)]
struct Generic<T> {
    #[fd(directory)]
    held: T,
}

/// The kind is asked of each descriptor inside, beside what is asked there.
#[derive(Debug, Message)]
struct Around {
    #[fd(directory)]
    inner: Inner,
    #[fd]
    any: Option<OwnedFd>,
}

#[derive(Debug, Message)]
struct Inner {
    #[fd(read)]
    file: OwnedFd,
}

#[derive(Debug, Message)]
struct Places {
    #[fd(directory)]
    maybe: Option<File>,
    #[fd(directory)]
    list: Vec<OwnedFd>,
    #[fd(directory)]
    map: BTreeMap<String, Arc<OwnedFd>>,
    #[fd(directory)]
    pair: (OwnedFd, [OwnedFd; 1]),
    #[fd]
    any: Vec<OwnedFd>,
}

/// Reads a message with a directory and a device, in this order.
fn read<M: Message>(text: &str) -> Result<M, DecodeError> {
    let files = ["/", "/dev/null"].map(|path| OwnedFd::from(File::open(path).unwrap()));
    decode(
        text.as_bytes(),
        Fds::from(Vec::from(files)),
        UnusedFds::Close,
    )
}

/// Returns the field that refuses the device, and checks what is said of it.
fn refused<M: Message + std::fmt::Debug>(text: &str) -> String {
    let Err(DecodeError::Descriptor { field, problem }) = read::<M>(text) else {
        panic!("{text}");
    };
    let FdProblem::Unfit {
        index: 1,
        wanted,
        came,
    } = problem
    else {
        panic!("{text}: {problem}");
    };
    assert!(wanted.contains(FdKind::DIRECTORY), "{text}: {wanted}");
    assert_eq!(came.to_string(), "device, read", "{text}");
    field.unwrap_or_default()
}

#[test]
fn a_kind_is_checked_in_each_place_where_a_descriptor_can_be() {
    alone!();
    let before = open_fds();
    read::<Input>("0").unwrap();
    assert_eq!(refused::<Input>("1"), "");
    read::<Choice>(r#"{"One":0}"#).unwrap();
    assert_eq!(refused::<Choice>(r#"{"One":1}"#), "One");
    assert_eq!(refused::<Choice>(r#"{"Pair":[5,1]}"#), "Pair[1]");
    read::<Choice>(r#"{"Named":{"file":null}}"#).unwrap();
    assert_eq!(refused::<Choice>(r#"{"Named":{"file":1}}"#), "Named.file");
    assert_eq!(refused::<Tagged>(r#"{"of":1,"kind":"One"}"#), "of");
    assert_eq!(refused::<Tagged>(r#"{"kind":"One","of":1}"#), "of");
    read::<Generic<Vec<Option<File>>>>(r#"{"held":[0,null]}"#).unwrap();
    assert_eq!(
        refused::<Generic<Vec<Option<File>>>>(r#"{"held":[0,1]}"#),
        "held[1]"
    );
    let places = |from: &str, to: &str| {
        let fitting = r#"{"maybe":null,"list":[],"map":{},"pair":[0,[7]],"any":[1]}"#;
        fitting.replace(from, to)
    };
    for (from, to, field) in [
        (r#""maybe":null"#, r#""maybe":1"#, "maybe"),
        (r#""list":[]"#, r#""list":[0,1]"#, "list[1]"),
        (r#""map":{}"#, r#""map":{"a":1}"#, "map.a"),
        (r#"[0,[7]]"#, r#"[0,[1]]"#, "pair[1][0]"),
    ] {
        assert_eq!(refused::<Places>(&places(from, to)), field);
    }
    assert_open_fds(before);
}

#[test]
fn a_kind_around_a_message_is_asked_of_each_descriptor_inside() {
    read::<Around>(r#"{"inner":{"file":0},"any":1}"#).unwrap();
    let field = refused::<Around>(r#"{"inner":{"file":1},"any":0}"#);
    assert_eq!(field, "inner.file");
    let untyped = read::<Generic<WithFds<u8>>>(r#"{"held":7}"#);
    let Err(DecodeError::Descriptor { problem, .. }) = untyped else {
        panic!("{untyped:?}");
    };
    let FdProblem::Unfit { index: 1, .. } = problem else {
        panic!("{problem}");
    };
}

#[test]
fn what_does_not_fit_is_not_written() {
    let file = || OwnedFd::from(File::open("/dev/null").unwrap());
    let directory = || OwnedFd::from(File::open("/").unwrap());
    let places = Places {
        maybe: None,
        list: vec![directory(), file()],
        map: BTreeMap::new(),
        pair: (directory(), [directory()]),
        any: vec![file()],
    };
    let (mut text, fds) = (b"before".to_vec(), Packer::new());
    let error = encode(&places, &mut text, &fds).unwrap_err();
    let said = "list: descriptor 1 is `device, read`, and not `directory`";
    assert_eq!(error.to_string(), said);
    assert_eq!(
        (&text[..], fds.len()),
        (&b"before"[..], 0),
        "nothing is left of it"
    );
}

#[test]
fn of_a_sensitive_field_no_more_is_told_than_its_name() {
    #[derive(Message)]
    struct Secret {
        #[fd(directory)]
        #[sensitive]
        file: File,
    }

    let Err(error) = read::<Secret>(r#"{"file":1}"#) else {
        panic!("it is no directory");
    };
    assert_eq!(
        error.to_string(),
        "file: not the descriptor that is expected"
    );
    let file = File::open("/dev/null").unwrap();
    let error = encode(&Secret { file }, &mut Vec::new(), &Packer::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "file: not the descriptor that is expected"
    );
}

#[jsoncomm::service(name = "test.returns")]
trait Returns {
    fn one(&mut self, fits: bool) -> Input;
    fn later(&mut self, call: &mut Call, fits: bool) -> Deferred<Input>;
    fn each(&mut self, call: &mut Call) -> Stream<Input>;
    fn lists(
        &mut self,
        #[fd(directory)] maybe: Option<OwnedFd>,
        #[fd(directory)] all: Vec<OwnedFd>,
        #[fd(directory)] held: Generic<File>,
    ) -> usize;
}

struct Giver;

fn input(fits: bool) -> Input {
    Input(File::open(if fits { "/" } else { "/dev/null" }).unwrap())
}

impl Returns for Giver {
    fn one(&mut self, fits: bool) -> Input {
        input(fits)
    }

    fn later(&mut self, call: &mut Call, fits: bool) -> Deferred<Input> {
        call.defer(|reply| reply.send(input(fits)))
    }

    fn each(&mut self, call: &mut Call) -> Stream<Input> {
        call.stream(|items: StreamSender<Input>| {
            items.send(&input(true)).unwrap();
            let refused = items.send(&input(false)).unwrap_err();
            assert!(
                refused.to_string().contains("not `directory, read`"),
                "{refused}"
            );
            items.end();
        })
    }

    fn lists(&mut self, maybe: Option<OwnedFd>, all: Vec<OwnedFd>, _: Generic<File>) -> usize {
        usize::from(maybe.is_some()) + all.len()
    }
}

#[test]
fn a_result_or_item_that_does_not_fit_is_not_sent() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = Running::start(kind, Giver, |endpoint| endpoint.serve::<dyn Returns>());
        let returns = ReturnsClient::new(server.connect());
        returns.one(true).unwrap();
        returns.later(true).unwrap();
        for refused in [returns.one(false), returns.later(false)] {
            let Err(CallError::Fault(fault)) = refused else {
                panic!("{refused:?}");
            };
            let said = "the reply: descriptor 0 is `device, read`, and not `directory, read`";
            assert_eq!((fault.code, &*fault.message), (Fault::INTERNAL_ERROR, said));
        }
        let items: Vec<_> = returns.each().unwrap().collect();
        assert!(matches!(items[..], [Ok(_)]), "{items:?}");
        drop((returns, items));
        server.stop();
    }
    assert_open_fds(before);
}

#[test]
fn a_client_refuses_a_reply_whose_descriptor_does_not_fit() {
    /// A service of that name that asks for no kind.
    #[derive(Debug, Message)]
    struct Any(#[fd] File);

    #[jsoncomm::service(name = "test.returns")]
    trait Lax {
        fn one(&mut self, fits: bool) -> Any;
    }

    impl Lax for Giver {
        fn one(&mut self, fits: bool) -> Any {
            Any(input(fits).0)
        }
    }

    alone!();
    let before = open_fds();
    for kind in KINDS {
        let server = Running::start(kind, Giver, |endpoint| endpoint.serve::<dyn Lax>());
        let returns = ReturnsClient::new(server.connect());
        let refused = returns.one(false);
        let Err(CallError::Io(Error::Decode(DecodeError::Descriptor { problem, .. }))) = refused
        else {
            panic!("{refused:?}");
        };
        let came = FdKind::named("device").unwrap().and(FdKind::READ);
        let wanted = FdKind::DIRECTORY.and(FdKind::READ);
        let expected = FdProblem::Unfit {
            index: 0,
            wanted,
            came,
        };
        assert_eq!(problem, expected);
        returns.one(true).unwrap();
        drop(returns);
        server.stop();
    }
    assert_open_fds(before);
}

#[test]
fn a_stub_checks_options_lists_and_messages_before_it_sends() {
    let server = Running::start(KINDS[1], Giver, |endpoint| endpoint.serve::<dyn Returns>());
    let returns = ReturnsClient::new(server.connect());
    let (directory, device) = (File::open("/").unwrap(), File::open("/dev/null").unwrap());
    let held = |file: &File| Generic {
        held: file.try_clone().unwrap(),
    };
    let (fits, other) = (directory.as_fd(), device.as_fd());
    let count = returns.lists(Some(fits), &[fits, fits], &held(&directory));
    assert_eq!(count.unwrap(), 3);
    for (refused, field) in [
        (
            returns.lists(Some(other), &[fits], &held(&directory)),
            "maybe",
        ),
        (
            returns.lists(None, &[fits, other], &held(&directory)),
            "all",
        ),
        (returns.lists(None, &[], &held(&device)), "held.held"),
    ] {
        let Err(CallError::NotSent(Error::Encode(EncodeError::Descriptor { field: at, .. }))) =
            refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(at.as_deref(), Some(field));
    }
    let (_, counts) = server.stop();
    assert_eq!(counts.handled, 1);
}
