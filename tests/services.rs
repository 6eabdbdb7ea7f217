//! Uses of a service trait: mocks, other crates, several services and sockets, unusual signatures.

mod lending;
mod nested;
mod rehearsed;
mod returns;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jsoncomm::{Call, CallError, Connection, Fault, Kind, Limits, Message, Server};
use jsoncomm_examples::{Files, FilesClient, FilesError, Folder, Opened, Put};
use jsoncomm_tests::{KINDS, PATIENCE, Running};

/// A mock for tests of a caller, in place of the server.
#[derive(Debug, Default)]
struct Mock {
    asked: Vec<String>,
}

impl Files for Mock {
    fn open(&mut self, path: &str) -> Result<Opened, FilesError> {
        self.asked.push(path.to_owned());
        Err(FilesError::Denied { path: path.into() })
    }

    fn list(&mut self) -> Result<Vec<String>, FilesError> {
        Ok(vec!["mocked".into()])
    }

    fn put(&mut self, _path: &str, content: OwnedFd) -> Result<Put, FilesError> {
        let mut text = Vec::new();
        let read = File::from(content).read_to_end(&mut text);
        read.map_err(|error| FilesError::Failed {
            reason: error.to_string(),
        })?;
        Ok(Put {
            len: text.len() as u64,
        })
    }
}

#[test]
fn a_trait_of_another_crate_is_implemented_by_a_daemon_and_a_mock() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "hello").unwrap();
    let real = Running::start(
        Kind::Seqpacket,
        Folder::new(folder.path()).unwrap(),
        |endpoint| endpoint.serve::<dyn Files>(),
    );
    let mock = Running::start(Kind::Seqpacket, Mock::default(), |endpoint| {
        endpoint.serve::<dyn Files>()
    });
    let files = FilesClient::new(real.connect());
    assert_eq!(files.list().unwrap(), ["a.txt"]);
    let mut text = String::new();
    let opened = files.open("a.txt").unwrap();
    File::from(opened.file).read_to_string(&mut text).unwrap();
    assert_eq!((&*text, opened.len), ("hello", 5));

    let mocked = FilesClient::new(mock.connect());
    assert_eq!(mocked.list().unwrap(), ["mocked"]);
    assert!(matches!(
        mocked.open("a.txt"),
        Err(CallError::Service(FilesError::Denied { path })) if path == "a.txt"
    ));
    assert_eq!(mock.stop().0.asked, ["a.txt"]);
}

#[test]
fn a_mock_needs_no_server() {
    fn first(files: &mut dyn Files) -> Option<String> {
        files.list().ok()?.into_iter().next()
    }
    assert_eq!(first(&mut Mock::default()).as_deref(), Some("mocked"));
}

/// Counts.
#[jsoncomm::service(name = "example.counter")]
trait Counter {
    /// Adds a number and returns the sum.
    fn add(&mut self, n: u64) -> u64;
}

/// A result with one parameter, as in many crates.
type Fallible<T> = Result<T, Trouble>;

#[derive(Debug, Message, PartialEq, thiserror::Error)]
enum Trouble {
    #[error("first")]
    First,
    #[error("second {0}")]
    Second(u8),
}

#[derive(Debug, Message, PartialEq, Clone)]
struct Point<T> {
    x: T,
    y: T,
}

/// A type with the name of a generated parameter.
type P0 = u8;

/// Functions for serde's attributes.
mod functions {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn five() -> u8 {
        5
    }

    /// Writes a number as a string of that length.
    pub(super) fn serialize<S: Serializer>(length: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&"x".repeat(*length))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        String::deserialize(from).map(|text| text.len())
    }
}

/// An alias of `Option`.
type Maybe = Option<String>;

/// Takes and returns all kinds of types that a signature can have.
#[jsoncomm::service(name = "example.odd-ones")]
trait Odd {
    fn nothing(&mut self) -> Fallible<()>;
    fn fails(&self, code: u8) -> Fallible<u8>;
    #[expect(clippy::too_many_arguments, reason = "each another shape")]
    fn borrowed(
        &mut self,
        call: &mut Call,
        text: &str,
        maybe: Option<&str>,
        path: &Path,
        bytes: &[u8],
        map: &BTreeMap<String, i64>,
        owned: String,
        r#type: (i8, char),
    ) -> String;
    fn descriptors(
        &mut self,
        #[fd] one: File,
        #[fd] maybe: Option<OwnedFd>,
        #[fd] many: Vec<OwnedFd>,
        #[fd] stream: UnixStream,
        #[fd] named: BTreeMap<String, OwnedFd>,
    ) -> Fallible<Vec<usize>>;
    fn generic(&mut self, #[fd] point: Point<u16>) -> Point<u16>;
    fn optional(
        &mut self,
        a: Option<u8>,
        #[serde(default)] b: u8,
        #[serde(rename = "sea")] c: u8,
    ) -> (Option<u8>, u8, u8);
    fn renamed(
        &mut self,
        a: u8,
        #[serde(rename = "skip_count")] b: Option<u8>,
        #[serde(rename = "default_with")] c: Maybe,
    ) -> (u8, Option<u8>, Maybe);
    fn by_functions(
        &mut self,
        #[serde(default = "functions::five")] five: P0,
        text: &str,
        #[serde(with = "functions")] length: usize,
        #[serde(skip_serializing_if = "Option::is_none")] maybe: Option<u8>,
    ) -> (u8, usize, Option<u8>);
    #[oneway]
    fn forget(&mut self, call: &mut Call, text: &str);
}

#[derive(Debug, Default)]
struct Both {
    sum: u64,
    forgotten: Vec<String>,
}

impl Counter for Both {
    fn add(&mut self, n: u64) -> u64 {
        self.sum += n;
        self.sum
    }
}

impl Odd for Both {
    fn nothing(&mut self) -> Fallible<()> {
        Ok(())
    }

    fn fails(&self, code: u8) -> Fallible<u8> {
        match code {
            0 => Err(Trouble::First),
            code => Err(Trouble::Second(code)),
        }
    }

    fn borrowed(
        &mut self,
        call: &mut Call,
        text: &str,
        maybe: Option<&str>,
        path: &Path,
        bytes: &[u8],
        map: &BTreeMap<String, i64>,
        owned: String,
        r#type: (i8, char),
    ) -> String {
        let called = (call.service(), call.method(), call.deadline().is_some());
        format!("{called:?} {text} {maybe:?} {path:?} {bytes:?} {map:?} {owned} {type:?}")
    }

    fn descriptors(
        &mut self,
        mut one: File,
        maybe: Option<OwnedFd>,
        many: Vec<OwnedFd>,
        mut stream: UnixStream,
        named: BTreeMap<String, OwnedFd>,
    ) -> Fallible<Vec<usize>> {
        let mut text = String::new();
        let read = one.read_to_string(&mut text).map_err(|_| Trouble::First)?;
        stream.write_all(b"hi").map_err(|_| Trouble::First)?;
        Ok(vec![
            read,
            usize::from(maybe.is_some()),
            many.len(),
            named.len(),
        ])
    }

    fn generic(&mut self, point: Point<u16>) -> Point<u16> {
        Point {
            x: point.y,
            y: point.x,
        }
    }

    fn optional(&mut self, a: Option<u8>, b: u8, c: u8) -> (Option<u8>, u8, u8) {
        (a, b, c)
    }

    fn renamed(&mut self, a: u8, b: Option<u8>, c: Maybe) -> (u8, Option<u8>, Maybe) {
        (a, b, c)
    }

    fn by_functions(
        &mut self,
        five: u8,
        text: &str,
        length: usize,
        maybe: Option<u8>,
    ) -> (u8, usize, Option<u8>) {
        (five, text.len() + length, maybe)
    }

    fn forget(&mut self, _call: &mut Call, text: &str) {
        self.forgotten.push(text.to_owned());
    }
}

#[test]
fn arguments_of_every_type_arrive_as_sent() {
    for kind in KINDS {
        let server = Running::start(kind, Both::default(), |endpoint| {
            endpoint.serve::<dyn Odd>()
        });
        let odd = OddClient::new(server.connect());
        odd.nothing().unwrap();
        assert!(matches!(
            odd.fails(0),
            Err(CallError::Service(Trouble::First))
        ));
        assert!(matches!(
            odd.fails(7),
            Err(CallError::Service(Trouble::Second(7)))
        ));
        let map = BTreeMap::from([("k".to_owned(), -1)]);
        let said = odd
            .borrowed(
                "t\n\u{1F600}",
                None,
                Path::new("/p"),
                b"\x00\xff",
                &map,
                "o",
                (-7, 'ß'),
            )
            .unwrap();
        let want = "(\"example.odd-ones\", \"borrowed\", true) t\n\u{1F600} None \"/p\" [0, 255] {\"k\": -1} o (-7, 'ß')";
        assert_eq!(said, want);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"four").unwrap();
        file.rewind().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        let named = BTreeMap::from([("n".to_owned(), far.try_clone().unwrap().into())]);
        let many = [file.as_fd(), far.as_fd()];
        let counts = odd.descriptors(&file, Some(near.as_fd()), &many, &far, &named);
        assert_eq!(counts.unwrap(), [4, 1, 2, 1]);
        let mut hi = [0; 2];
        near.read_exact(&mut hi).unwrap();
        assert_eq!(&hi, b"hi");
        let point = odd.generic(&Point { x: 1, y: 2 }).unwrap();
        assert_eq!(point, Point { x: 2, y: 1 });
        assert_eq!(odd.optional(Some(1), 2, 3).unwrap(), (Some(1), 2, 3));
        odd.forget("me").unwrap();
        // Calls are handled in order: after this reply the other has been handled.
        odd.nothing().unwrap();
        assert_eq!(server.stop().0.forgotten, ["me"]);
    }
}

#[test]
fn absent_arguments_get_their_defaults_and_renamed_ones_their_names() {
    #[derive(Message)]
    struct Only {
        sea: u8,
    }
    let server = Running::start(Kind::Seqpacket, Both::default(), |endpoint| {
        endpoint.serve::<dyn Odd>()
    });
    let connection = server.connect();
    let reply: Result<(Option<u8>, u8, u8), CallError> =
        connection.call("example.odd-ones.optional", &Only { sea: 9 });
    assert_eq!(reply.unwrap(), (None, 0, 9));
    let by_position: Result<(Option<u8>, u8, u8), CallError> =
        connection.call("example.odd-ones.optional", &(1_u8, 2_u8, 3_u8));
    assert_eq!(by_position.unwrap(), (Some(1), 2, 3));
}

#[test]
fn a_reply_may_be_borrowed() {
    #[jsoncomm::service(name = "example.lent")]
    trait Lent {
        fn name(&mut self) -> Cow<'_, str>;
    }
    #[derive(Debug)]
    struct Named(String);
    impl Lent for Named {
        fn name(&mut self) -> Cow<'_, str> {
            Cow::Borrowed(&self.0)
        }
    }
    let named = Named("x".to_owned());
    let server = Running::start(Kind::Seqpacket, named, |endpoint| {
        endpoint.serve::<dyn Lent>()
    });
    assert_eq!(LentClient::new(server.connect()).name().unwrap(), "x");
}

#[test]
fn an_argument_may_have_custom_serde_functions() {
    #[derive(Message)]
    struct Sparse {
        text: String,
        length: String,
    }
    let server = Running::start(Kind::Seqpacket, Both::default(), |endpoint| {
        endpoint.serve::<dyn Odd>()
    });
    let odd = OddClient::new(server.connect());
    for maybe in [None, Some(7)] {
        let reply = odd.by_functions(1, "ab", 3, maybe);
        assert_eq!(reply.unwrap(), (1, 5, maybe));
    }
    let [text, length] = ["ab", "xxx"].map(String::from);
    let reply: Result<(u8, usize, Option<u8>), CallError> = server
        .connect()
        .call("example.odd-ones.by_functions", &Sparse { text, length });
    assert_eq!(reply.unwrap(), (5, 5, None));
}

#[test]
fn an_argument_of_any_option_type_is_optional_by_position() {
    let server = Running::start(Kind::Seqpacket, Both::default(), |endpoint| {
        endpoint.serve::<dyn Odd>()
    });
    let connection = server.connect();
    let renamed = |given: &[u8]| -> Result<(u8, Option<u8>, Maybe), CallError> {
        connection.call("example.odd-ones.renamed", given)
    };
    assert_eq!(renamed(&[1]).unwrap(), (1, None, None));
    assert_eq!(renamed(&[1, 2]).unwrap(), (1, Some(2), None));
    let Err(CallError::Fault(fault)) = renamed(&[]) else {
        panic!("the first is not optional");
    };
    assert_eq!(fault.code, Fault::INVALID_PARAMS);
}

#[test]
fn a_socket_argument_of_the_wrong_type_is_refused_by_field() {
    let server = Running::start(Kind::Seqpacket, Both::default(), |endpoint| {
        endpoint.serve::<dyn Odd>()
    });
    let odd = OddClient::new(server.connect());
    let file = File::open("/dev/null").unwrap();
    let refused = odd.descriptors(&file, None, &[], &file, &BTreeMap::new());
    let Err(CallError::Fault(fault)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(fault.code, Fault::INVALID_DESCRIPTORS);
    assert_eq!(fault.field.as_deref(), Some("stream"));
}

#[test]
fn several_services_share_a_socket_and_several_sockets_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::new(Limits::default()).unwrap();
    let paths: Vec<PathBuf> = (0..4)
        .map(|n| directory.path().join(n.to_string()))
        .collect();
    for (path, kind) in paths.iter().zip(KINDS.into_iter().cycle()) {
        let endpoint = server.bind(path, kind).unwrap();
        endpoint.serve::<dyn Counter>().serve::<dyn Odd>();
    }
    let handle = server.handle();
    let running = std::thread::spawn(move || server.run(&mut Both::default()));
    for (round, path) in (1..).zip(&paths) {
        let connection = Connection::open(path).unwrap().with_timeout(PATIENCE);
        let counter = CounterClient::new(connection.clone());
        assert_eq!(
            counter.add(1).unwrap(),
            round,
            "all services share one state"
        );
        OddClient::new(connection).nothing().unwrap();
    }
    handle.stop();
    running.join().unwrap().unwrap();
    for path in &paths {
        assert!(!path.exists(), "the sockets are removed with the server");
    }
}

#[test]
#[should_panic(expected = "method example.counter.add is served twice at one endpoint")]
fn a_method_is_not_served_twice_at_one_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::<Both>::new(Limits::default()).unwrap();
    let endpoint = server.bind(directory.path().join("s"), Kind::Datagram);
    endpoint
        .unwrap()
        .serve::<dyn Counter>()
        .serve::<dyn Counter>();
}
