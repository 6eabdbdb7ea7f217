//! Types of every kind: borrowing, generic, requests, serde's, untyped.

use super::*;

#[derive(Debug, PartialEq, Message)]
struct Borrowing<'a> {
    text: &'a str,
    maybe: Option<&'a str>,
    #[serde(borrow)]
    cow: Cow<'a, str>,
    #[serde(borrow)]
    #[fd]
    inner: Json<&'a str>,
}

#[test]
fn text_is_borrowed_from_the_datagram() {
    let text = br#"{"text":"a","maybe":"b","cow":"c","inner":"d"}"#;
    let read: Borrowing<'_> = decode(text, Fds::new(), UnusedFds::Refuse).unwrap();
    assert!(matches!(read.cow, Cow::Borrowed("c")));
    assert_eq!((read.text, read.maybe, read.inner.0), ("a", Some("b"), "d"));
    assert_eq!(super::text(&read).as_bytes(), text);
    let escaped = br#"{"text":"a","cow":"\n","inner":"d"}"#;
    let read: Borrowing<'_> = decode(escaped, Fds::new(), UnusedFds::Refuse).unwrap();
    assert!(matches!(read.cow, Cow::Owned(_)) && read.maybe.is_none());
}

trait Source {
    type Item;
}

#[derive(Debug)]
struct Nowhere;

impl Source for Nowhere {
    type Item = u8;
}

#[derive(Debug, Message)]
struct Generic<T, F, S: Source, const N: usize, M = u8>
where
    M: Debug,
    Self: Sized,
{
    plain: Vec<T>,
    #[fd]
    fd: Option<F>,
    #[fd]
    array: [F; N],
    item: S::Item,
    #[serde(skip)]
    made: M,
    #[serde(default, skip_serializing_if = "Option::is_none", bound = "")]
    next: Option<Box<u8>>,
    of: PhantomData<M>,
}

#[test]
fn type_parameters_get_the_bounds_their_fields_need() {
    let generic: Generic<u8, File, Nowhere, 1> =
        read(r#"{"plain":[1],"array":[0],"item":2,"of":null}"#, 1).unwrap();
    assert_eq!((generic.item, generic.made, generic.plain.len()), (2, 0, 1));
    let expected = r#"{"plain":[1],"fd":null,"array":[0],"item":2,"of":null}"#;
    assert_eq!(text(&generic), expected);
    #[derive(Message)]
    #[serde(bound(
        serialize = "T: ToString + Serialize",
        deserialize = "T: Deserialize<'__de>"
    ))]
    struct Bound<T> {
        of: T,
    }
    assert_eq!(read::<Bound<u8>>(r#"{"of":1}"#, 0).unwrap().of, 1);
    #[derive(Message)]
    struct Lends<P0, P1> {
        path: P0,
        #[fd]
        sink: P1,
    }
    let null = File::open("/dev/null").unwrap();
    let lent = Lends {
        path: "a",
        sink: null.as_fd(),
    };
    assert_eq!(text(&lent), r#"{"path":"a","sink":0}"#);
    let owned: Lends<String, File> = read(&text(&lent), 1).unwrap();
    assert_eq!(owned.path, "a");
    drop(owned.sink);
}

#[derive(Debug, Message)]
#[message(service = "example.jobs", reply = Tell, error = Failed)]
enum Ask {
    RunAll {
        program: String,
        #[fd]
        stdout: OwnedFd,
    },
    #[serde(rename = "await")]
    Wait {
        job: u32,
        patient: Option<bool>,
    },
    Stop,
}

#[derive(Debug, Message)]
enum Tell {
    Started { job: u32 },
}

#[derive(Debug, Message)]
enum Failed {
    Busy,
    Gone(u8),
}

#[derive(Debug, Message)]
#[message(reply = ())]
#[serde(rename_all = "UPPERCASE")]
enum Bare {
    Echo(String),
    Pair(u8, u8),
}

fn params<R: Request>(request: &R) -> String {
    let (mut text, fds) = (Vec::new(), Packer::new());
    let mut out = serde_json::Serializer::new(&mut text);
    request.pack_params(&fds, &mut out).unwrap();
    String::from_utf8(text).unwrap()
}

fn from_params<R: Request>(method: usize, text: &str, count: usize) -> Result<R, String> {
    let fds = Unpacker::new(nulls(count));
    let mut from = serde_json::Deserializer::from_str(text);
    R::unpack_params(method, &fds, &mut from).map_err(|error| error.to_string())
}

#[test]
fn each_variant_of_a_request_enum_is_a_method() {
    assert_eq!(Ask::SERVICE, "example.jobs");
    assert_eq!(Ask::METHODS, ["run_all", "await", "stop"]);
    assert_eq!((Bare::SERVICE, Bare::METHODS), ("", &["ECHO", "PAIR"][..]));
    let asks = [
        Ask::RunAll {
            program: "ls".into(),
            stdout: File::open("/dev/null").unwrap().into(),
        },
        Ask::Wait {
            job: 1,
            patient: None,
        },
        Ask::Stop,
    ];
    let written = [
        r#"{"program":"ls","stdout":0}"#,
        r#"{"job":1,"patient":null}"#,
        "{}",
    ];
    for (index, (ask, written)) in asks.iter().zip(written).enumerate() {
        assert_eq!((ask.method(), params(ask)), (index, written.to_owned()));
        let count = usize::from(index == 0);
        assert_eq!(
            from_params::<Ask>(index, written, count).unwrap().method(),
            index
        );
    }
    assert!(from_params::<Ask>(0, r#"["ls",0]"#, 1).is_ok());
    assert!(from_params::<Ask>(2, "[]", 0).is_ok());
    for (method, text) in [
        (2, "null"),
        (2, "[1]"),
        (2, r#"{"a":1}"#),
        (1, r#"{"job":1,"z":1}"#),
        (3, "{}"),
    ] {
        assert!(from_params::<Ask>(method, text, 0).is_err(), "{text}");
    }
    // Also strict without an envelope.
    assert_eq!(text(&asks[1]), r#"{"await":{"job":1,"patient":null}}"#);
    let said = refusal::<Ask>(r#"{"await":{"job":1,"z":1}}"#, 0);
    assert_eq!(
        said,
        "await.z: unknown field `z`, expected `job` or `patient`"
    );
    assert_eq!(params(&Bare::Pair(1, 2)), "[1,2]");
    assert_eq!(text(&Bare::Echo("x".into())), r#"{"ECHO":"x"}"#);
}

#[test]
fn the_code_of_an_error_is_the_position_of_its_variant() {
    assert_eq!((Failed::Busy.code(), Failed::Gone(0).code()), (1, 2));
    assert_eq!((Box::new(Failed::Gone(0)).code(), 5_u8.code()), (2, 1));
}

#[test]
fn a_serde_field_is_written_and_read_by_serde() {
    #[derive(Debug, PartialEq, Serialize, Deserialize, Message)]
    #[serde(untagged)]
    #[message(serde)]
    enum Loose<T> {
        Number(T),
        Text {
            #[serde(flatten)]
            rest: BTreeMap<String, u8>,
        },
    }
    let loose: Loose<u8> = read(r#"{"a":1}"#, 0).unwrap();
    assert_eq!(loose.code(), 2);
    assert_eq!(text(&loose), r#"{"a":1}"#);
    assert_eq!(round(&Loose::Number(5)), Loose::Number(5));
    assert!(matches!(loose, Loose::Text { rest } if rest["a"] == 1));
}

#[test]
fn an_untyped_message_keeps_all_descriptors() {
    let message: WithFds<serde_json::Value> = read(r#"{"a":[1,0]}"#, 2).unwrap();
    assert_eq!(message.fds.len(), 2);
    let (text, fds) = written(&message);
    assert_eq!((&*text, fds.len()), (r#"{"a":[1,0]}"#, 2));
    let beside = (File::open("/dev/null").unwrap(), message);
    let (mut text, fds) = (b"before".to_vec(), Packer::new());
    assert!(encode(&beside, &mut text, &fds).is_err());
    assert_eq!(
        (&text[..], fds.len()),
        (&b"before"[..], 0),
        "nothing has happened"
    );
}

#[test]
fn an_uninhabited_type_is_never_read() {
    assert_eq!(
        refusal::<Infallible>("null", 0),
        "a value of a type that has none"
    );
    assert!(read::<Option<Infallible>>("null", 0).unwrap().is_none());
    assert!(refusal::<Json<u8>>("null", 0).contains("expected u8"));
}

#[test]
fn errors_inside_a_result_range_or_bound_name_the_member() {
    use std::ops::{Bound, Range, RangeInclusive};
    type Tried = Option<Result<u8, String>>;
    let either = ", expected `Ok` or `Err`";
    assert_eq!(
        refusal::<Tried>(r#"{"No":1}"#, 0),
        format!("unknown variant `No`{either}")
    );
    assert_eq!(
        refusal::<Vec<Result<u8, u8>>>(r#"[{"Ok":1},{"Err":-1}]"#, 0),
        "[1].Err: invalid value: integer `-1`, expected u8"
    );
    for text in [
        r#""Ok""#,
        "1",
        r#"{"Ok":1,"Err":""}"#,
        "{}",
        r#"{"Ok":1,"Ok":1}"#,
    ] {
        assert!(read::<Tried>(text, 0).is_err(), "{text}");
    }
    assert!(read::<Tried>("null", 0).unwrap().is_none());
    assert_eq!(
        refusal::<Range<u8>>(r#"{"start":1}"#, 0),
        "end: missing field `end`"
    );
    let strange = refusal::<Range<u8>>(r#"{"start":1,"end":2,"step":1}"#, 0);
    assert_eq!(
        strange,
        "step: unknown field `step`, expected `start` or `end`"
    );
    assert_eq!(read::<RangeInclusive<u8>>("[1,5]", 0).unwrap(), 1..=5);
    let bound = refusal::<Bound<u8>>(r#"{"Within":1}"#, 0);
    assert_eq!(
        bound,
        "unknown variant `Within`, expected one of `Unbounded`, `Included`, `Excluded`"
    );
    let beyond = refusal::<Bound<u8>>(r#"{"Included":256}"#, 0);
    assert!(beyond.starts_with("Included: "), "{beyond}");
    // With descriptors inside, like any container.
    let opened: Vec<Result<File, String>> = read(r#"[{"Ok":0},{"Err":"no"}]"#, 1).unwrap();
    assert_eq!(text(&opened), r#"[{"Ok":0},{"Err":"no"}]"#);
    #[derive(Debug, Message)]
    struct Tries {
        #[fd]
        opened: Result<File, String>,
        plain: Result<(), String>,
    }
    let tries: Tries = read(r#"{"opened":{"Ok":0},"plain":{"Err":"x"}}"#, 1).unwrap();
    assert!(tries.opened.is_ok() && tries.plain.is_err());
    assert_eq!(round(&tries).plain, Err("x".into()));
}

mod bare_names {
    #![no_implicit_prelude]

    #[derive(::jsoncomm::Message)]
    #[serde(default = "made", deny_unknown_fields)]
    pub(super) struct Plain<'a> {
        #[serde(borrow, with = "text", skip_serializing_if = "never")]
        pub(super) a: ::std::borrow::Cow<'a, str>,
        #[fd]
        pub(super) b: ::std::vec::Vec<::std::os::fd::OwnedFd>,
    }

    fn made<'a>() -> Plain<'a> {
        Plain {
            a: ::std::convert::From::from("x"),
            b: ::std::vec::Vec::new(),
        }
    }

    fn never<T: ?::std::marker::Sized>(_: &T) -> bool {
        false
    }

    mod text {
        pub(super) use ::serde::Deserialize as _;
        pub(super) use ::std::borrow::Cow;

        #[expect(clippy::ptr_arg, reason = "what serde's `with` asks for")]
        pub(super) fn serialize<S: ::serde::Serializer>(
            text: &Cow<'_, str>,
            out: S,
        ) -> ::std::result::Result<S::Ok, S::Error> {
            out.serialize_str(text)
        }

        pub(super) fn deserialize<'de, D: ::serde::Deserializer<'de>>(
            from: D,
        ) -> ::std::result::Result<Cow<'de, str>, D::Error> {
            ::std::result::Result::map(<&str>::deserialize(from), ::std::convert::From::from)
        }
    }

    #[derive(::jsoncomm::Message)]
    #[message(reply = ())]
    #[serde(tag = "t", content = "c")]
    pub(super) enum Every {
        A,
        B(#[fd] ::std::option::Option<::std::os::fd::OwnedFd>, u8),
        C(u8),
        D { r#in: u8 },
    }

    #[derive(::jsoncomm::Message)]
    pub(super) enum Never {}
}

#[test]
fn generated_code_needs_no_prelude() {
    let plain: bare_names::Plain<'_> = decode(b"{}", Fds::new(), UnusedFds::Refuse).unwrap();
    assert_eq!(
        (text(&plain), plain.b.len()),
        (r#"{"a":"x","b":[]}"#.to_owned(), 0)
    );
    use bare_names::Every;
    for every in [
        Every::A,
        Every::B(None, 1),
        Every::C(1),
        Every::D { r#in: 1 },
    ] {
        assert_eq!(round(&every).method(), every.method());
    }
    assert_eq!(text(&Every::D { r#in: 1 }), r#"{"t":"D","c":{"in":1}}"#);
    assert!(refusal::<bare_names::Never>(r#""A""#, 0).starts_with("unknown variant `A`"));
}

fn takes_unpack<'de, T: Unpack<'de>>(text: &'de str) -> T {
    decode(text.as_bytes(), Fds::new(), UnusedFds::Refuse).unwrap()
}

#[test]
fn plain_types_are_messages() {
    assert_eq!(takes_unpack::<&str>(r#""a""#), "a");
    assert_eq!(takes_unpack::<(u8, Option<i128>)>("[1,-5]"), (1, Some(-5)));
    assert_eq!(text(&["a", "b"].as_slice()), r#"["a","b"]"#);
    assert_eq!(text(&()), "null");
}

#[test]
fn a_type_may_be_recursive() {
    #[derive(Debug, Message)]
    struct Tree {
        #[fd]
        file: Option<File>,
        #[fd]
        #[serde(default)]
        children: Vec<Tree>,
    }
    let text = r#"{"children":[{"file":1},{"children":[{"file":0}]}]}"#;
    let tree: Tree = read(text, 2).unwrap();
    assert_eq!(
        (round(&tree).children.len(), tree.file.is_none()),
        (2, true)
    );
    let said = refusal::<Tree>(r#"{"children":[{},{"children":[{"file":"0"}]}]}"#, 0);
    assert!(said.starts_with("children[1].children[0].file: "), "{said}");
}

#[test]
fn the_path_of_the_library_can_be_set() {
    mod rpc {
        pub(super) use jsoncomm as renamed;
    }
    #[derive(Message)]
    #[message(crate = "rpc::renamed")]
    struct Number {
        number: u8,
    }
    assert_eq!(read::<Number>("[1]", 0).unwrap().number, 1);
}
