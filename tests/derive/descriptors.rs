//! Descriptors as fields. An error names the field, and all descriptors are closed.

use super::*;
use jsoncomm::message::UnknownVariant;

use jsoncomm_tests::{alone, open_fds};

#[derive(Debug, Message)]
#[serde(tag = "kind", content = "of")]
enum Either {
    File(#[fd] File),
    Big {
        number: u128,
        #[fd]
        inner: Option<Box<Either>>,
    },
    Several(u8, String),
    Nothing,
    #[message(other)]
    Other(UnknownVariant),
}

#[test]
fn content_may_come_before_its_tag() {
    let Either::File(_) = read(r#"{"of":0,"kind":"File"}"#, 1).unwrap() else {
        unreachable!();
    };
    let big = r#"{ "of" : {"number":340282366920938463463374607431768211455,"inner":{"of":{"number":1,"inner":{"of":0 ,"kind":"File"}},"kind":"Big"}} , "x":[], "kind":"Big" }"#;
    let Either::Big { number, inner } = read(big, 1).unwrap() else {
        unreachable!();
    };
    assert_eq!(number, u128::MAX);
    let inner = inner.map(|inner| *inner);
    assert!(matches!(
        inner,
        Some(Either::Big {
            number: 1,
            inner: Some(_)
        })
    ));
    let several = read(r#"{"of":[1,"\u00e4"],"kind":"Several"}"#, 0).unwrap();
    assert!(matches!(several, Either::Several(1, text) if text == "ä"));
    let nothing = read(r#"{"of":null,"kind":"Nothing"}"#, 0).unwrap();
    assert!(matches!(nothing, Either::Nothing));
    let Either::Other(unknown) = read(r#"{"of":{"a":[1.50]},"kind":"New"}"#, 0).unwrap() else {
        unreachable!();
    };
    assert_eq!(
        (&*unknown.name, unknown.content.as_deref()),
        ("New", Some(r#"{"a":[1.50]}"#))
    );
}

#[test]
fn errors_in_content_before_its_tag_read_as_behind_it() {
    let refused = |text: &str, count| refusal::<Either>(text, count);
    for (of, count, reason) in [
        (r#"{"number":-1}"#, 0, "of.number: number out of range"),
        (
            r#"{"number":1,"inner":{"kind":"File","of":7}}"#,
            0,
            "of.inner.of: descriptor 7 is missing, 0 came",
        ),
        (
            r#"{"number":1,"x":{"a":1,"a":2}}"#,
            0,
            r#"of: key "a" is repeated"#,
        ),
        (
            "7",
            0,
            "of: invalid type: integer `7`, expected struct variant Either::Big",
        ),
        (
            r#"{"number":1}"#,
            1,
            "descriptor 0 is not named by any field",
        ),
    ] {
        assert_eq!(
            refused(&format!(r#"{{"kind":"Big","of":{of}}}"#), count),
            reason
        );
        assert_eq!(
            refused(&format!(r#"{{"of":{of},"kind":"Big"}}"#), count),
            reason
        );
    }
    for (text, reason) in [
        (r#"{"of":0}"#, "kind: missing field `kind`"),
        (
            r#"{"of":0,"of":0,"kind":"File"}"#,
            "of: duplicate field `of`",
        ),
        (
            r#"{"of":0,"kind":"File","of":0}"#,
            "of: duplicate field `of`",
        ),
        (
            r#"{"of":0,"kind":"File","kind":"File"}"#,
            "kind: duplicate field `kind`",
        ),
        (
            r#"{"of":{,"kind":"File"}"#,
            "not JSON: key must be a string at line 1 column 8",
        ),
        (
            r#"{"of":0,"kind":7}"#,
            "kind: invalid type: integer `7`, expected variant of adjacently tagged enum Either",
        ),
    ] {
        assert_eq!(refused(text, 1), reason);
    }
}

#[test]
fn content_before_its_tag_obeys_the_depth_limit() {
    // With the enum itself there are two levels around each.
    let nested = |levels: usize| {
        let open = r#"{"of":{"number":1,"inner":"#.repeat(levels);
        format!(r#"{open}null{}"#, r#"},"kind":"Big"}"#.repeat(levels))
    };
    assert!(read::<Either>(&nested(63), 0).is_ok());
    let error = read::<Either>(&nested(64), 0).unwrap_err();
    assert!(
        matches!(error, DecodeError::TooDeep { limit: 127 }),
        "{error}"
    );
}

#[test]
fn sensitive_content_before_its_tag_is_not_in_errors() {
    #[derive(Message)]
    #[serde(tag = "kind", content = "of")]
    enum Login {
        Password(#[sensitive] BTreeMap<String, u8>),
    }
    let Login::Password(read) = read(r#"{"of":{"a":1},"kind":"Password"}"#, 0).unwrap();
    assert_eq!(read.len(), 1);
    for of in [
        r#"{"secret":1,"secret":2}"#,
        r#"{"secret":"secret"}"#,
        r#""secret""#,
    ] {
        let said = refusal::<Login>(&format!(r#"{{"of":{of},"kind":"Password"}}"#), 0);
        assert_eq!(said, "of: not what is expected");
    }
}

#[test]
fn another_deserializer_needs_the_tag_first() {
    let fds = Unpacker::new(nulls(1));
    let mut from = serde_json::Deserializer::from_str(r#"{"of":0,"kind":"File"}"#);
    let error = Either::unpack(&fds, &mut from).unwrap_err().to_string();
    assert!(error.starts_with("`kind` must come before `of`"), "{error}");
}

#[derive(Debug, Message)]
struct Opened {
    len: u64,
    #[fd]
    file: OwnedFd,
}

#[derive(Debug, Message)]
struct All {
    #[fd]
    maybe: Option<File>,
    #[fd]
    many: Vec<OwnedFd>,
    #[fd]
    two: [OwnedFd; 2],
    #[fd]
    mixed: (u8, Box<File>, String),
    #[fd]
    named: BTreeMap<String, OwnedFd>,
    #[fd]
    hashed: HashMap<u8, Opened>,
    #[fd]
    items: Vec<Opened>,
}

#[test]
fn descriptors_are_indices_in_the_order_of_the_fields() {
    let fd = || OwnedFd::from(File::open("/dev/null").unwrap());
    let opened = || Opened { len: 1, file: fd() };
    let all = All {
        maybe: Some(fd().into()),
        many: vec![fd(), fd()],
        two: [fd(), fd()],
        mixed: (1, Box::new(fd().into()), "x".into()),
        named: [("n".to_owned(), fd())].into(),
        hashed: [(5, opened())].into(),
        items: vec![opened(), opened()],
    };
    let expected = r#"{"maybe":0,"many":[1,2],"two":[3,4],"mixed":[1,5,"x"],"named":{"n":6},"#;
    let rest =
        r#""hashed":{"5":{"len":1,"file":7}},"items":[{"len":1,"file":8},{"len":1,"file":9}]}"#;
    assert_eq!(text(&all), format!("{expected}{rest}"));
    let back = round(&all);
    assert_eq!((back.many.len(), back.items.len()), (2, 2));
}

#[test]
fn an_absent_or_null_optional_descriptor_is_none() {
    #[derive(Debug, Message)]
    struct Maybe {
        #[fd]
        file: Option<File>,
        #[fd]
        #[serde(default)]
        many: Vec<File>,
        #[fd]
        #[serde(skip)]
        kept: Option<File>,
    }
    for text in ["{}", r#"{"file":null}"#, r#"{"many":[]}"#] {
        let maybe: Maybe = read(text, 0).unwrap();
        assert!(maybe.file.is_none() && maybe.many.is_empty() && maybe.kept.is_none());
    }
}

#[test]
fn a_received_descriptor_is_the_same_open_file_with_its_type() {
    let (left, right) = UnixStream::pair().unwrap();
    let back: (UnixStream,) = round(&(left,));
    std::io::Write::write_all(&mut &back.0, b"x").unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut &right, &mut byte).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp6 = TcpListener::bind("[::1]:0").ok();
    let stream = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = UnixDatagram::unbound().unwrap();
    round(&((tcp, stream, udp), datagram, tcp6));
}

#[test]
fn a_descriptor_of_the_wrong_type_is_refused() {
    let kinds = [
        (
            refusal::<UnixStream>("0", 1),
            "a connected unix stream socket",
        ),
        (refusal::<UnixListener>("0", 1), "a listening unix socket"),
        (refusal::<UnixDatagram>("0", 1), "a unix datagram socket"),
        (refusal::<TcpStream>("0", 1), "a connected TCP socket"),
        (refusal::<TcpListener>("0", 1), "a listening TCP socket"),
        (refusal::<UdpSocket>("0", 1), "a UDP socket"),
    ];
    for (said, expected) in kinds {
        assert_eq!(said, format!("descriptor 0 is not {expected}"));
    }
    let (stream, _) = UnixStream::pair().unwrap();
    for wrong in [
        decode::<UnixListener>(b"0", written(&stream).1, UnusedFds::Refuse).map(drop),
        decode::<UnixDatagram>(b"0", written(&stream).1, UnusedFds::Refuse).map(drop),
        decode::<TcpStream>(b"0", written(&stream).1, UnusedFds::Refuse).map(drop),
    ] {
        assert!(matches!(wrong, Err(DecodeError::Descriptor { .. })));
    }
}

#[test]
fn every_error_names_its_member_and_leaks_no_descriptor() {
    alone!();
    let cases = [
        (
            r#"{"len":1,"file":1}"#,
            1,
            "file: descriptor 1 is missing, 1 came",
        ),
        (
            r#"{"len":1,"file":0}"#,
            0,
            "file: descriptor 0 is missing, 0 came",
        ),
        (
            r#"{"len":1,"file":18446744073709551615}"#,
            1,
            "file: descriptor 18446744073709551615 is missing, 1 came",
        ),
        (
            r#"{"len":1,"file":0}"#,
            2,
            "descriptor 1 is not named by any field",
        ),
        (r#"{"len":1}"#, 0, "file: missing field `file`"),
        (
            r#"{"len":-1,"file":0}"#,
            1,
            "len: invalid value: integer `-1`, expected u64",
        ),
        (
            r#"{"file":0,"len":1,"len":1}"#,
            1,
            "len: duplicate field `len`",
        ),
        (
            r#"{"len":1,"file":1.0}"#,
            2,
            "file: invalid type: floating point number, expected a descriptor index",
        ),
        (
            r#"{"len":1,"file":-1}"#,
            2,
            "file: invalid type: integer `-1`, expected a descriptor index",
        ),
        (
            r#"{"len":1,"file":"0"}"#,
            1,
            r#"file: invalid type: string "0", expected a descriptor index"#,
        ),
        (
            r#"{"len":1,"file":true}"#,
            2,
            "file: invalid type: boolean `true`, expected a descriptor index",
        ),
        (
            r#"{"len":1,"file":null}"#,
            1,
            "file: invalid type: null, expected a descriptor index",
        ),
        (
            r#"{"len":1,"file":[0]}"#,
            1,
            "file: invalid type: sequence, expected a descriptor index",
        ),
        ("[1]", 1, "file: missing field `file`"),
        (
            "[1,0,0]",
            1,
            "invalid length 3, expected struct Opened with 2 elements",
        ),
        ("7", 1, "invalid type: integer `7`, expected struct Opened"),
    ];
    for (text, count, said) in cases {
        let before = open_fds();
        let refused = decode::<Opened>(text.as_bytes(), nulls(count), UnusedFds::Refuse);
        assert_eq!(refused.unwrap_err().to_string(), said, "{text}");
        assert_eq!(open_fds(), before, "{text}");
    }
    let twice = refusal::<(Opened, Vec<Opened>)>(
        r#"[{"len":1,"file":0},[{"len":1,"file":1},{"len":1,"file":0}]]"#,
        2,
    );
    assert_eq!(twice, "[1][1].file: descriptor 0 is named twice");
    let doubled = refusal::<HashMap<String, File>>(r#"{"a":0,"a":1}"#, 2);
    assert_eq!(doubled, "the same key twice");
}

#[test]
fn a_refused_message_closes_descriptors_already_taken() {
    alone!();
    let before = open_fds();
    for (text, count) in [
        (r#"{"items":[{"len":1,"file":0},{"len":1,"file":1},{}]}"#, 3),
        (r#"{"items":[{"len":1,"file":0}"#, 2),
        (r#"{"items":[{"len":1,"file":0}]} x"#, 1),
        (r#"{"items":[{"len":1,"file":0}]}"#, 2),
        (r#"{"items":[{"len":1,"file":0},{"len":1,"file":0}]}"#, 1),
    ] {
        #[derive(Debug, Message)]
        struct Listing {
            #[fd]
            items: Vec<Opened>,
        }
        let refused = decode::<Listing>(text.as_bytes(), nulls(count), UnusedFds::Refuse);
        assert!(refused.is_err(), "{text}");
        drop(refused);
        assert_eq!(open_fds(), before, "{text}");
    }
}

#[test]
fn a_lenient_reader_closes_unused_descriptors() {
    alone!();
    jsoncomm_tests::needs_proc!();
    let before = open_fds();
    let opened: Opened =
        decode(br#"{"len":1,"file":1,"new":0}"#, nulls(2), UnusedFds::Close).unwrap();
    assert_eq!(open_fds(), before + 1);
    drop(opened);
    assert_eq!(open_fds(), before);
}

#[test]
fn syntax_errors_and_type_errors_are_told_apart() {
    for text in [
        "",
        " ",
        "{",
        "[1",
        "{]",
        "nul",
        r#"{"len":1,"file":0}}"#,
        "[1,0]1",
        "\u{1}",
    ] {
        let error = read::<Opened>(text, 1).unwrap_err();
        assert!(
            matches!(error, DecodeError::Syntax { .. }),
            "{text}: {error}"
        );
    }
    let error = decode::<Opened>(b"\"\xff\"", Fds::new(), UnusedFds::Close).unwrap_err();
    assert!(matches!(error, DecodeError::Syntax { .. }));
    #[derive(Debug, Message)]
    struct Deep {
        pair: (u8, u8),
    }
    // serde_json reports these as syntax errors, which they are not.
    for text in [
        r#"{"pair":[1,2,3]}"#,
        r#"{"pair":[1,2,{}]}"#,
        &format!("{}1{}", "[".repeat(200), "]".repeat(200)),
    ] {
        let error = read::<Deep>(text, 0).unwrap_err();
        assert!(
            matches!(error, DecodeError::Shape { .. }),
            "{text}: {error}"
        );
    }
    assert!(refusal::<Deep>(r#"{"pair":[1,2,3]}"#, 0).starts_with("pair: "));
}

#[test]
fn an_error_text_does_not_grow_with_the_message() {
    let text = format!(r#"{{"{}":1}}"#, "x".repeat(100_000));
    #[derive(Debug, Message)]
    #[serde(deny_unknown_fields)]
    struct Strict {}
    let error = read::<Strict>(&text, 0).unwrap_err();
    assert!(error.to_string().len() < 1000);
    assert!(error.field().unwrap().starts_with("xxx"));
}

#[test]
fn ends_of_pipes_are_received_as_their_own_types() {
    use std::io::{Read, Write};
    use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
    use std::sync::Arc;

    #[derive(Debug, Message)]
    struct Child {
        #[fd]
        stdin: ChildStdin,
        #[fd]
        stdout: ChildStdout,
        #[fd]
        stderr: ChildStderr,
        #[fd]
        shared: Arc<OwnedFd>,
    }
    let mut cat = Command::new("cat");
    cat.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut cat = cat.spawn().unwrap();
    let child = Child {
        stdin: cat.stdin.take().unwrap(),
        stdout: cat.stdout.take().unwrap(),
        stderr: cat.stderr.take().unwrap(),
        shared: Arc::new(File::open("/dev/null").unwrap().into()),
    };
    let mut back = round(&child);
    back.stdin.write_all(b"meow").unwrap();
    drop((back.stdin, child.stdin));
    let mut said = String::new();
    back.stdout.read_to_string(&mut said).unwrap();
    assert_eq!((&*said, Arc::strong_count(&back.shared)), ("meow", 1));
    assert!(cat.wait().unwrap().success());

    let written = |fd: OwnedFd| -> Fds {
        let mut fds = Fds::new();
        fds.push(fd).unwrap();
        fds
    };
    let null = || File::open("/dev/null").unwrap().into();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let refused = decode::<ChildStdout>(b"0", written(writer), UnusedFds::Refuse);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "descriptor 0 is not a pipe to read"
    );
    let refused = decode::<ChildStdin>(b"0", written(reader), UnusedFds::Refuse);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "descriptor 0 is not a pipe to write"
    );
    assert!(decode::<ChildStderr>(b"0", written(null()), UnusedFds::Refuse).is_err());
    assert!(decode::<ChildStdin>(b"0", written(null()), UnusedFds::Refuse).is_err());
}

#[test]
fn a_message_that_is_only_sent_may_borrow_descriptors() {
    use std::os::fd::BorrowedFd;

    #[derive(Debug, Message)]
    struct Lent<'a> {
        #[fd]
        one: BorrowedFd<'a>,
        #[fd]
        maybe: Option<&'a File>,
        #[fd]
        all: Vec<BorrowedFd<'a>>,
        path: &'a str,
    }
    #[derive(Debug, Message)]
    struct Owned {
        #[fd]
        one: OwnedFd,
        #[fd]
        maybe: Option<File>,
        #[fd]
        all: Vec<OwnedFd>,
        path: String,
    }
    let null = File::open("/dev/null").unwrap();
    let lent = Lent {
        one: null.as_fd(),
        maybe: Some(&null),
        all: vec![null.as_fd()],
        path: "a",
    };
    let (text, fds) = written(&lent);
    let owned: Owned = decode(text.as_bytes(), fds, UnusedFds::Refuse).unwrap();
    assert_eq!(
        (owned.all.len(), owned.maybe.is_some(), &*owned.path),
        (1, true, "a")
    );
    drop(owned.one);
}
