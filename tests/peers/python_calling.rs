//! A client in Python calls our server.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::slice::from_ref;

use jsoncomm::socket::DATAGRAM_MAX;
use jsoncomm::{Fault, Kind, Limits};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds};
use rustix::net::sockopt::socket_send_buffer_size;
use serde_json::{Value, json};

use crate::peers::python::{Done, Mode, Python};
use crate::peers::service::{Ask, Clerk, Desk, Papers, seen_by_python};

/// Starts a server of the bare enum.
fn bare(kind: Kind, limits: Limits) -> Running<Clerk> {
    Running::with_limits(limits, kind, Clerk::default(), |endpoint| {
        endpoint.bare::<Ask>()
    })
}

/// Starts a server of the trait and the enum, in the envelope.
fn calls(kind: Kind, limits: Limits) -> Running<Clerk> {
    Running::with_limits(limits, kind, Clerk::default(), |endpoint| {
        endpoint.serve::<dyn Desk>().handle::<Ask>()
    })
}

/// Returns limits that allow messages larger than the largest datagram.
fn roomy() -> Limits {
    let mut limits = Limits::default();
    limits.message = 16 << 20;
    limits
}

/// Returns limits that allow many malformed messages.
fn patient() -> Limits {
    let mut limits = Limits::default();
    limits.malformed = usize::MAX;
    limits
}

/// Returns the JSON of a call.
fn raw(id: &str, method: &str, params: &str) -> Value {
    json!({"text": format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"example.desk.{method}","params":{params}}}"#
    )})
}

#[test]
fn python_gets_replies_from_a_bare_endpoint() {
    alone!();
    let papers = Papers::new();
    let [left, right] = papers.both();
    for kind in KINDS {
        let server = bare(kind, Limits::default());
        let mut python = Python::client(&server.path, kind, Mode::Bare);

        let echo = python.step(&json!({"message": {"Echo": {"text": "größe \u{1F600} \n"}}}));
        assert_eq!(
            echo.reply,
            json!({"Echoed": {"text": "größe \u{1F600} \n"}})
        );
        assert_eq!(echo.files, json!([]));

        let open = python.step(&json!({"message": {"Open": {"path": papers.left}}}));
        assert_eq!(open.reply, json!({"Opened": {"len": 14, "file": 0}}));
        assert_eq!(seen_by_python(&open.files), from_ref(&left));

        let none = python.step(&json!({"message": {"Open": {"path": papers.none()}}}));
        assert_eq!(none.reply, json!({"NotFound": {"path": papers.none()}}));

        // Files are matched by their index, not by their order.
        let swap = python.step(&json!({
            "message": {"Swap": {"text": "t", "left": 1, "right": 0}},
            "open": [papers.right, papers.left],
        }));
        assert_eq!(
            swap.reply,
            json!({"Swapped": {"text": "t", "left": 0, "right": 1}})
        );
        assert_eq!(seen_by_python(&swap.files), [right.clone(), left.clone()]);

        python.end();
        assert_eq!(server.stop().0.files, [left.clone(), right.clone()]);
    }
}

#[test]
fn python_calls_a_service_and_an_enum() {
    alone!();
    let papers = Papers::new();
    let [left, right] = papers.both();
    for kind in KINDS {
        let server = calls(kind, Limits::default());
        let mut python = Python::client(&server.path, kind, Mode::Calls);
        for (service, wrap) in [
            (
                "example.desk",
                (|_, value| value) as fn(&str, Value) -> Value,
            ),
            ("example.window", |tell, value| json!({tell: value})),
        ] {
            let call = |method: &str, params: Value| json!({"method": format!("{service}.{method}"), "params": params});
            let result = |tell: &str, value: Value| Some(wrap(tell, value));

            let echo = python.step(&call("echo", json!({"text": "größe"})));
            assert_eq!(echo.reply["jsonrpc"], "2.0");
            assert_eq!(
                echo.reply.get("result").cloned(),
                result("Echoed", json!({"text": "größe"}))
            );

            let open = python.step(&call("open", json!({"path": papers.left})));
            let opened = json!({"len": 14, "file": 0});
            assert_eq!(open.reply.get("result").cloned(), result("Opened", opened));
            assert_eq!(seen_by_python(&open.files), from_ref(&left));

            let mut swap = call("swap", json!({"text": "t", "left": 1, "right": 0}));
            swap["open"] = json!([papers.right, papers.left]);
            let swap = python.step(&swap);
            let swapped = json!({"text": "t", "left": 0, "right": 1});
            assert_eq!(
                swap.reply.get("result").cloned(),
                result("Swapped", swapped)
            );
            assert_eq!(seen_by_python(&swap.files), [right.clone(), left.clone()]);
        }
        python.end();
        let files = server.stop().0.files;
        assert_eq!(
            files,
            [left.clone(), right.clone(), left.clone(), right.clone()]
        );
    }
}

#[test]
fn python_sees_the_errors_of_a_service_with_code_message_and_data() {
    alone!();
    let papers = Papers::new();
    let none = papers.none();
    for kind in KINDS {
        let server = calls(kind, Limits::default());
        let mut python = Python::client(&server.path, kind, Mode::Calls);
        let open = |path: &dyn AsRef<Path>| json!({"method": "example.desk.open", "params": {"path": path.as_ref()}});

        let missing = python.step(&open(&none)).reply;
        let message = format!("no file {}", none.display());
        let data = json!({"NotFound": {"path": none}});
        assert_eq!(
            missing["error"],
            json!({"code": 1, "message": message, "data": data})
        );
        assert_eq!(missing.get("result"), None);

        let denied = python.step(&open(&"secret")).reply;
        let want = json!({"code": 2, "message": "not allowed", "data": "Denied"});
        assert_eq!(denied["error"], want);
        python.end();
    }
}

#[test]
fn python_sees_faults_with_their_code_and_field() {
    alone!();
    let before = open_fds();
    let papers = Papers::new();
    let two = json!([papers.left, papers.right]);
    let one = json!([papers.left]);
    let no = json!([]);
    let swap = |left: Value, right: Value| json!({"text": "", "left": left, "right": right});
    let cases = [
        ("nothing", json!({}), &no, Fault::METHOD_NOT_FOUND, None),
        (
            "nothing",
            json!({"file": 0}),
            &one,
            Fault::METHOD_NOT_FOUND,
            None,
        ),
        (
            "open",
            json!({"path": 5}),
            &no,
            Fault::INVALID_PARAMS,
            Some("path"),
        ),
        (
            "open",
            json!({"path": null}),
            &no,
            Fault::INVALID_PARAMS,
            Some("path"),
        ),
        ("open", json!({}), &no, Fault::INVALID_PARAMS, Some("path")),
        ("open", json!([]), &no, Fault::INVALID_PARAMS, Some("path")),
        ("open", json!([5]), &no, Fault::INVALID_PARAMS, Some("path")),
        ("open", json!(["a", "b"]), &no, Fault::INVALID_PARAMS, None),
        (
            "open",
            json!({"path": "a", "mode": 1}),
            &no,
            Fault::INVALID_PARAMS,
            Some("mode"),
        ),
        (
            "swap",
            swap(json!("0"), json!(1)),
            &two,
            Fault::INVALID_PARAMS,
            Some("left"),
        ),
        (
            "swap",
            swap(json!(0), json!(-1)),
            &two,
            Fault::INVALID_PARAMS,
            Some("right"),
        ),
        (
            "swap",
            swap(json!(0), json!(null)),
            &two,
            Fault::INVALID_PARAMS,
            Some("right"),
        ),
        (
            "swap",
            swap(json!(0), json!(2)),
            &two,
            Fault::INVALID_DESCRIPTORS,
            Some("right"),
        ),
        (
            "swap",
            swap(json!(0), json!(0)),
            &two,
            Fault::INVALID_DESCRIPTORS,
            Some("right"),
        ),
        (
            "swap",
            swap(json!(0), json!(1)),
            &no,
            Fault::INVALID_DESCRIPTORS,
            Some("left"),
        ),
        (
            "echo",
            json!({"text": ""}),
            &one,
            Fault::INVALID_DESCRIPTORS,
            None,
        ),
        (
            "attach",
            json!({"stream": 0}),
            &one,
            Fault::INVALID_DESCRIPTORS,
            Some("stream"),
        ),
    ];
    for kind in KINDS {
        let server = calls(kind, Limits::default());
        let mut python = Python::client(&server.path, kind, Mode::Calls);
        for (method, params, open, code, field) in &cases {
            let method = format!("example.desk.{method}");
            let done = python.step(&json!({"method": method, "params": params, "open": open}));
            let error = &done.reply["error"];
            assert_eq!(error["code"], *code, "{method} {params}: {error}");
            let data = field.map(|field| json!({"field": field}));
            assert_eq!(
                error.get("data").cloned(),
                data,
                "{method} {params}: {error}"
            );
            assert!(error["message"].is_string(), "{error}");
            assert_eq!(done.files, json!([]));
        }
        python.end();
        let (state, counts) = server.stop();
        assert_eq!(state.files, []);
        assert_eq!((counts.handled, counts.refused), (0, cases.len() as u64));
    }
    drop(papers);
    assert_open_fds(before);
}

#[test]
fn python_gets_a_fault_for_an_invalid_request() {
    alone!();
    let before = open_fds();
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"example.desk.echo","params":{"text":""}}"#;
    let cases = [
        ("not json".to_owned(), "", json!(null), Fault::PARSE_ERROR),
        (
            call[..call.len() - 1].to_owned(),
            "",
            json!(1),
            Fault::PARSE_ERROR,
        ),
        (format!("{call}{call}"), "", json!(1), Fault::PARSE_ERROR),
        (format!("[{call}"), "", json!(null), Fault::PARSE_ERROR),
        ("[]".to_owned(), "", json!(null), Fault::INVALID_REQUEST),
        ("5".to_owned(), "", json!(null), Fault::INVALID_REQUEST),
        ("{}".to_owned(), "", json!(null), Fault::INVALID_REQUEST),
        (
            call.replace("2.0", "1.0"),
            "",
            json!(1),
            Fault::INVALID_REQUEST,
        ),
        (
            call.replace(r#""id":1"#, r#""id":{}"#),
            "",
            json!(null),
            Fault::INVALID_REQUEST,
        ),
        (
            call.replace(r#"{"text":""}"#, "5"),
            "",
            json!(1),
            Fault::INVALID_REQUEST,
        ),
        // A payload that is missing, or that could block its reader.
        (
            "<args-via-fd>".to_owned(),
            "",
            json!(null),
            Fault::INVALID_DESCRIPTORS,
        ),
        (
            "<args-via-fd>".to_owned(),
            "/dev/null",
            json!(null),
            Fault::INVALID_DESCRIPTORS,
        ),
    ];
    for kind in KINDS {
        let server = calls(kind, patient());
        let mut python = Python::client(&server.path, kind, Mode::Calls);
        for (text, open, id, code) in &cases {
            let open: Vec<&str> = open.split_terminator(' ').collect();
            let reply = python.step(&json!({"text": text, "open": open})).reply;
            assert_eq!(reply["error"]["code"], *code, "{text}: {reply}");
            assert_eq!(reply.get("id"), Some(id), "{text}: {reply}");
            assert_eq!(reply["error"].get("data"), None, "{text}: {reply}");
        }
        python.end();
        assert_eq!(server.stop().1.refused, cases.len() as u64);
    }
    assert_open_fds(before);
}

#[test]
fn python_may_pass_arguments_by_position() {
    alone!();
    let papers = Papers::new();
    let [left, right] = papers.both();
    let server = calls(Kind::Seqpacket, Limits::default());
    let mut python = Python::client(&server.path, Kind::Seqpacket, Mode::Calls);
    for service in ["example.desk", "example.window"] {
        let method = format!("{service}.swap");
        let open = [&papers.left, &papers.right];
        let done = python.step(&json!({"method": method, "params": ["t", 0, 1], "open": open}));
        assert!(done.reply["result"].is_object(), "{}", done.reply);
        assert_eq!(seen_by_python(&done.files), [right.clone(), left.clone()]);
    }
    python.end();
    assert_eq!(
        server.stop().0.files,
        [left.clone(), right.clone(), left, right]
    );
}

#[test]
fn python_gets_ids_of_any_type_back() {
    alone!();
    for kind in KINDS {
        let server = calls(kind, Limits::default());
        let mut python = Python::client(&server.path, kind, Mode::Calls);
        for id in [
            r#""a""#,
            r#""größe A\n""#,
            r#""""#,
            "0",
            "-7",
            "18446744073709551615",
        ] {
            let want: Value = serde_json::from_str(id).unwrap();
            let good = python.step(&raw(id, "echo", r#"{"text":"t"}"#)).reply;
            assert_eq!(
                good,
                json!({"jsonrpc": "2.0", "id": want, "result": {"text": "t"}})
            );
            let bad = python.step(&raw(id, "nothing", "{}")).reply;
            assert_eq!(bad["id"], want);
        }
        python.end();
    }
}

#[test]
fn python_gets_no_reply_to_a_notification_or_a_reply() {
    alone!();
    for kind in KINDS {
        let server = calls(kind, Limits::default());
        let mut python = Python::client(&server.path, kind, Mode::Calls);
        let note = |text: &str| {
            let method = "example.desk.note";
            json!({"method": method, "params": {"text": text}, "notify": true})
        };
        python.step(&note("one"));
        for text in [
            r#"{"jsonrpc":"2.0","method":"example.desk.note","params":["two"]}"#,
            r#"{"jsonrpc":"2.0","method":"example.desk.echo","params":{"text":"unheard"}}"#,
            r#"{"jsonrpc":"2.0","method":"example.window.echo","params":{"text":"unheard"}}"#,
            r#"{"jsonrpc":"2.0","method":"example.desk.nothing"}"#,
            r#"{"jsonrpc":"2.0","method":"example.desk.echo","params":{"text":5}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"text":"t"}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":"#,
            r#"{"jsonrpc":"2.0","result":{"text":"t"},"id":{}}"#,
            r#"{"result":{"text":"t"},"id":1}"#,
        ] {
            python.step(&json!({"text": text, "reply": false}));
        }
        // The first message is the reply to the first call that has one.
        let last = python
            .step(&raw(r#""last""#, "echo", r#"{"text":"t"}"#))
            .reply;
        assert_eq!(
            last,
            json!({"jsonrpc": "2.0", "id": "last", "result": {"text": "t"}})
        );
        python.end();
        assert_eq!(server.stop().0.notes, ["one", "two"]);
    }
}

#[test]
fn python_sends_small_messages_inline_and_large_ones_by_memfd() {
    alone!();
    let papers = Papers::new();
    let [left, right] = papers.both();
    let open = [&papers.left, &papers.right];
    // The call is echoed: `swap` exchanges only the files.
    let both = json!({"text": "FILL", "left": 0, "right": 1});
    // With the default and the maximum size of the send buffer, which may be as large as any datagram.
    for (kind, sndbuf) in KINDS
        .iter()
        .flat_map(|kind| [(*kind, None), (*kind, Some(1 << 30))])
    {
        let client = |path: &Path, mode| match sndbuf {
            None => Python::client(path, kind, mode),
            Some(bytes) => Python::client_with_sndbuf(path, kind, mode, bytes),
        };
        let check_sent = |done: &Done, how: &str| {
            let sent = done.how["sent"].as_str().unwrap();
            // The kernel allocates a datagram in one piece, and may not have a piece that large.
            let short = how == "inline" && sent == "memfd because memory is short";
            assert!(sent == how || short, "{sent}, not {how}");
        };

        let server = bare(kind, roomy());
        let mut python = client(&server.path, Mode::Bare);
        for (fill, how) in [(0, "inline"), (1, "memfd")] {
            let echo = json!({"Echo": {"text": "FILL"}});
            let done = python.step(&json!({"message": echo, "fill": fill}));
            check_sent(&done, how);
            assert_eq!(done.reply, json!({"Echoed": {"text": "FILL"}}));
            let swap = json!({"Swap": both});
            let done = python.step(&json!({"message": swap, "fill": fill, "open": open}));
            check_sent(&done, how);
            assert_eq!(done.reply, json!({"Swapped": both}));
            assert_eq!(seen_by_python(&done.files), [right.clone(), left.clone()]);
        }
        python.end();

        let server = calls(kind, roomy());
        let mut python = client(&server.path, Mode::Calls);
        for (fill, how) in [(0, "inline"), (1, "memfd")] {
            let method = "example.desk.swap";
            let call = json!({"method": method, "params": both, "fill": fill, "open": open});
            let done = python.step(&call);
            check_sent(&done, how);
            assert_eq!(done.reply["result"], both);
            assert_eq!(seen_by_python(&done.files), [right.clone(), left.clone()]);
        }
        python.end();
    }
}

#[test]
fn python_receives_replies_of_any_size_with_their_descriptors() {
    alone!();
    let papers = Papers::new();
    let [left, right] = papers.both();
    for kind in KINDS {
        let server = calls(kind, roomy());
        let mut python = Python::client(&server.path, kind, Mode::Calls);
        // Some bytes below the limit, and larger than any datagram.
        for (fill, received) in [(-200_000, "inline"), (DATAGRAM_MAX as i64, "memfd")] {
            let done = python.step(&json!({
                "method": "example.desk.swap",
                "params": {"text": "FILL", "left": 0, "right": 1},
                "fill": fill,
                "open": [&papers.left, &papers.right],
            }));
            assert_eq!(done.how["received"], received);
            let result = json!({"text": "FILL", "left": 0, "right": 1});
            assert_eq!(done.reply["result"], result);
            assert_eq!(seen_by_python(&done.files), [right.clone(), left.clone()]);
        }
        python.end();
    }
}

#[test]
fn python_sends_the_documented_wire_format() {
    alone!();
    let papers = Papers::new();
    let path = papers.directory.path().join("plain.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut python = Python::client(&path, Kind::Datagram, Mode::Bare);
    let mut datagram = vec![0; 1 << 20];
    let step = |text: &str, fill| json!({"text": text, "fill": fill, "reply": false});

    let done = python.step(&step("\"FILL\"", 0));
    let (length, sender) = socket.recv_from(&mut datagram).unwrap();
    let sndbuf = socket_send_buffer_size(UnixDatagram::unbound().unwrap());
    match done.how["sent"].as_str().unwrap() {
        "inline" => assert_eq!(length, sndbuf.unwrap() - 32),
        other => assert_eq!(other, "memfd because memory is short"),
    }
    assert!(
        sender.as_pathname().is_none() && !sender.is_unnamed(),
        "{sender:?}"
    );

    assert_eq!(python.step(&step("\"FILL\"", 1)).how["sent"], "memfd");
    let length = socket.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"<args-via-fd>");
    python.end();
}
