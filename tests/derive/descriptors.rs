//! Descriptors are fields, and every refusal names its member and closes them all.

use super::*;

use jsoncomm_tests::{alone, open_fds};

#[test]
fn content_before_its_tag_is_refused_by_name() {
    #[derive(Debug, Message)]
    #[serde(tag = "kind", content = "of")]
    enum Either {
        File(#[fd] File),
    }
    let error = read::<Either>(r#"{"of":0,"kind":"File"}"#, 1).unwrap_err();
    assert_eq!(error.to_string(), "of: `kind` must come before `of`");
    let Either::File(_) = read(r#"{"kind":"File","of":0}"#, 1).unwrap();
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
fn a_descriptor_is_moved_whole_and_keeps_its_kind() {
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
fn a_descriptor_of_another_kind_is_refused() {
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
        decode::<UnixListener>(b"0", written(&stream).1, Surplus::Refuse).map(drop),
        decode::<UnixDatagram>(b"0", written(&stream).1, Surplus::Refuse).map(drop),
        decode::<TcpStream>(b"0", written(&stream).1, Surplus::Refuse).map(drop),
    ] {
        assert!(matches!(wrong, Err(DecodeError::Descriptor { .. })));
    }
}

#[test]
fn every_refusal_names_its_member_and_leaks_nothing() {
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
            "file: invalid type: floating point `1.0`, expected a descriptor index",
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
        (
            "[1]",
            1,
            "file: invalid length 1, expected struct Opened with 2 elements",
        ),
        (
            "[1,0,0]",
            1,
            "invalid length 3, expected struct Opened with 2 elements",
        ),
        ("7", 1, "invalid type: integer `7`, expected struct Opened"),
    ];
    for (text, count, said) in cases {
        let before = open_fds();
        let refused = decode::<Opened>(text.as_bytes(), nulls(count), Surplus::Refuse);
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
fn a_refused_message_closes_what_it_had_taken() {
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
        let refused = decode::<Listing>(text.as_bytes(), nulls(count), Surplus::Refuse);
        assert!(refused.is_err(), "{text}");
        drop(refused);
        assert_eq!(open_fds(), before, "{text}");
    }
}

#[test]
fn a_lenient_reader_closes_the_surplus() {
    alone!();
    let before = open_fds();
    let opened: Opened =
        decode(br#"{"len":1,"file":1,"new":0}"#, nulls(2), Surplus::Close).unwrap();
    assert_eq!(open_fds(), before + 1);
    drop(opened);
    assert_eq!(open_fds(), before);
}

#[test]
fn bad_syntax_and_bad_shape_are_told_apart() {
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
    let error = decode::<Opened>(b"\"\xff\"", Fds::new(), Surplus::Close).unwrap_err();
    assert!(matches!(error, DecodeError::Syntax { .. }));
    #[derive(Debug, Message)]
    struct Deep {
        pair: (u8, u8),
    }
    // serde_json reports these as bad syntax, and it is not.
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
fn a_complaint_does_not_grow_with_the_message() {
    let text = format!(r#"{{"{}":1}}"#, "x".repeat(100_000));
    #[derive(Debug, Message)]
    #[serde(deny_unknown_fields)]
    struct Strict {}
    let error = read::<Strict>(&text, 0).unwrap_err();
    assert!(error.to_string().len() < 1000);
    assert!(error.field().unwrap().starts_with("xxx"));
}
