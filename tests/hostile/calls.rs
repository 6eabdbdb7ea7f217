//! Messages that are no valid calls: each gets its documented error.

use super::*;

#[test]
fn malformed_json_is_refused_with_its_id_if_readable() {
    alone!();
    let cases: [(&[u8], Option<u64>); 13] = [
        (b"nope", None),
        (b" ", None),
        (b"{", None),
        (b"{\"jsonrpc\":\"2.0\",\"id\":", None),
        (
            br#"{"jsonrpc":"2.0","id":5,"method":"test.vault.ping","params":{"number":1}"#,
            Some(5),
        ),
        (
            br#"{"jsonrpc":"2.0","id":5,"method":"test.vault.ping","params":{"number":1}} x"#,
            Some(5),
        ),
        (
            br#"{"jsonrpc":"2.0","id":5,"method":"test.vault.ping","params":{"number":1},}"#,
            Some(5),
        ),
        (
            br#"{"jsonrpc":"2.0","id":5,"method":"test.vault.ping","params":{"number":NaN}}"#,
            Some(5),
        ),
        (
            br#"{"jsonrpc":"2.0","method":"test.vault.ping","params":{"number":01},"id":5}"#,
            None,
        ),
        (b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":5}", None),
        (b"{\0\"\0i\0d\0\"\0:\x005\0}\0", None),
        (b"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"\xff\"}", None),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"a\nb\"}",
            Some(5),
        ),
    ];
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        let all = vec![null.as_fd(); 253];
        for (text, id) in cases {
            for fds in [0, 1, 253] {
                fixture.assert_refused(text, &all[..fds], id, Fault::PARSE_ERROR, None);
            }
        }
        let mut refused = 3 * cases.len() as u64;
        if kind == Kind::Datagram {
            fixture.assert_refused("", &[], None::<u64>, Fault::PARSE_ERROR, None);
            fixture.assert_refused("", &all, None::<u64>, Fault::PARSE_ERROR, None);
            refused += 2;
        }
        drop(null);
        let pings = fixture.pings;
        let (_, counts) = fixture.stop();
        assert_eq!((counts.refused, counts.handled), (refused, pings));
        assert_eq!(counts.received, refused + pings);
    }
}

#[test]
fn an_invalid_request_is_refused_with_its_id_if_readable() {
    alone!();
    let ping = r#""method":"test.vault.ping","params":{"number":1}"#;
    let cases = [
        (String::from("7"), None),
        (String::from("null"), None),
        (String::from("\"test.vault.ping\""), None),
        (String::from("[]"), None),
        (String::from("{}"), None),
        (String::from(r#"{"jsonrpc":"2.0","id":5}"#), Some(5)),
        (format!(r#"{{"id":5,{ping}}}"#), Some(5)),
        (format!(r#"{{"jsonrpc":"1.0","id":5,{ping}}}"#), Some(5)),
        (format!(r#"{{"jsonrpc":2.0,"id":5,{ping}}}"#), Some(5)),
        (format!(r#"{{"jsonrpc":"2.0","id":null,{ping}}}"#), None),
        (format!(r#"{{"jsonrpc":"2.0","id":5.5,{ping}}}"#), None),
        (format!(r#"{{"jsonrpc":"2.0","id":[5],{ping}}}"#), None),
        (
            format!(r#"{{"jsonrpc":"2.0","id":"{}",{ping}}}"#, "x".repeat(255)),
            None,
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,"id":6,{ping}}}"#),
            Some(5),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,{ping},"id":6}}"#),
            Some(5),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","jsonrpc":"2.0","id":5,{ping}}}"#),
            Some(5),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,{ping},"method":"test.vault.ping"}}"#),
            Some(5),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,{ping},"p\u0061rams":{{"number":1}}}}"#),
            Some(5),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,{ping},"result":1}}"#),
            Some(5),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,{ping},"timeout":-1}}"#),
            Some(5),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,{ping},"timeout":"soon"}}"#),
            Some(5),
        ),
        (
            String::from(r#"{"jsonrpc":"2.0","id":5,"method":7}"#),
            Some(5),
        ),
        (call(5, "ping", "null"), Some(5)),
        (call(5, "ping", "7"), Some(5)),
        (call(5, "ping", "\"x\""), Some(5)),
    ];
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        for (text, id) in &cases {
            fixture.assert_refused(text, &[], *id, Fault::INVALID_REQUEST, None);
            fixture.assert_refused(text, &[null.as_fd()], *id, Fault::INVALID_REQUEST, None);
        }
        drop(null);
        let pings = fixture.pings;
        let (_, counts) = fixture.stop();
        let refused = 2 * cases.len() as u64;
        assert_eq!((counts.refused, counts.handled), (refused, pings));
    }
}

#[test]
fn an_unknown_method_is_refused_before_its_arguments_are_read() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        let all = vec![null.as_fd(); 253];
        for method in ["none", "", "ping.", "Ping", "\\u0000", &"x".repeat(100_000)] {
            for fds in [0, 253] {
                let text = call(5, method, r#"{"number":"x"}"#);
                fixture.assert_refused(text, &all[..fds], 5, Fault::METHOD_NOT_FOUND, None);
            }
        }
        let text = r#"{"jsonrpc":"2.0","method":"test.none.at_all","id":"a\"b"}"#;
        fixture.assert_refused(text, &[], "a\"b", Fault::METHOD_NOT_FOUND, None);
        // A notification gets no reply.
        fixture.assert_ignored(r#"{"jsonrpc":"2.0","method":"test.none.at_all"}"#, &all);
        drop(null);
        let (_, counts) = fixture.stop();
        assert_eq!(counts.refused, 14);
    }
}

#[test]
fn a_bad_argument_is_refused_with_invalid_params_and_its_name() {
    alone!();
    let cases = [
        ("ping", "{}", Some("number")),
        ("ping", r#"{"number":"1"}"#, Some("number")),
        ("ping", r#"{"number":-1}"#, Some("number")),
        ("ping", r#"{"number":1.5}"#, Some("number")),
        ("ping", r#"{"number":1e999}"#, Some("number")),
        ("ping", r#"{"number":18446744073709551616}"#, Some("number")),
        ("ping", r#"{"number":null}"#, Some("number")),
        ("ping", r#"{"number":1,"number":1}"#, Some("number")),
        ("ping", r#"{"number":1,"n\u0075mber":1}"#, Some("number")),
        (
            "ping",
            r#"{"number":1,"read_only":true}"#,
            Some("read_only"),
        ),
        ("ping", "[]", Some("number")),
        ("ping", "[1,2]", None),
        ("swap", r#"{"label":7,"file":0}"#, Some("label")),
        ("swap", r#"{"label":"\ud800","file":0}"#, Some("label")),
        ("swap", r#"{"file":0}"#, Some("label")),
        (
            "swap",
            r#"{"label":"x","file":0,"mode":{"deep":[{}]}}"#,
            Some("mode"),
        ),
    ];
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        for (method, params, field) in cases {
            let fds = &[null.as_fd()][usize::from(method == "ping")..];
            let text = call(5, method, params);
            fixture.assert_refused(&text, fds, 5, Fault::INVALID_PARAMS, field);
            fixture.assert_ignored(text.replace(r#""id":5,"#, ""), fds);
        }
        drop(null);
        let (_, counts) = fixture.stop();
        assert_eq!(counts.refused, 2 * cases.len() as u64);
    }
}

#[test]
fn descriptors_that_do_not_match_the_call_are_refused_and_closed() {
    alone!();
    let cases = [
        ("swap", r#"{"label":"x","file":0}"#, 0, Some("file")),
        ("swap", r#"{"label":"x","file":1}"#, 1, Some("file")),
        ("swap", r#"{"label":"x","file":253}"#, 253, Some("file")),
        (
            "swap",
            r#"{"label":"x","file":18446744073709551615}"#,
            1,
            Some("file"),
        ),
        ("swap", r#"{"label":"x","file":0}"#, 2, None),
        ("swap", r#"{"label":"x","file":0}"#, 253, None),
        ("swap", r#"{"label":"x","file":252}"#, 253, None),
        ("join", r#"{"left":0,"right":0}"#, 1, Some("right")),
        ("join", r#"{"left":0,"right":0}"#, 2, Some("right")),
        ("join", r#"{"left":1,"right":2}"#, 2, Some("right")),
        ("join", "[0,1]", 3, None),
        ("ping", r#"{"number":1}"#, 1, None),
        ("ping", r#"{"number":1}"#, 253, None),
    ];
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        let all = vec![null.as_fd(); 253];
        for (method, params, fds, field) in cases {
            let text = call(5, method, params);
            fixture.assert_refused(&text, &all[..fds], 5, Fault::INVALID_DESCRIPTORS, field);
            fixture.assert_ignored(text.replace(r#""id":5,"#, ""), &all[..fds]);
        }
        for index in ["-1", "0.0", "\"0\"", "null", "[0]", "{}", "true"] {
            let params = format!(r#"{{"label":"x","file":{index}}}"#);
            fixture.send(call(5, "swap", &params), &[null.as_fd()]);
            let (reply, _) = fixture.receive();
            let code = reply["error"]["code"].as_i64().unwrap();
            let codes = [Fault::INVALID_PARAMS, Fault::INVALID_DESCRIPTORS];
            assert!(codes.contains(&code), "{index}: {reply}");
            assert_eq!(reply["error"]["data"]["field"], "file", "{index}: {reply}");
            fixture.assert_healthy();
        }
        // A notification that is refused leaves nothing behind either.
        fixture.assert_ignored(
            r#"{"jsonrpc":"2.0","method":"test.vault.tell","params":{"sink":1}}"#,
            &all[..1],
        );
        fixture.assert_ignored(
            r#"{"jsonrpc":"2.0","method":"test.vault.tell","params":{"sink":0}}"#,
            &all[..1],
        );
        drop(null);
        let (state, counts) = fixture.stop();
        assert_eq!(state.tells, 1);
        assert_eq!(counts.refused, 2 * cases.len() as u64 + 7 + 1);
    }
}

#[test]
fn a_message_that_looks_like_a_reply_gets_none() {
    alone!();
    let cases = [
        r#"{"jsonrpc":"2.0","id":5,"result":1}"#,
        r#"{"jsonrpc":"2.0","result":{"file":0},"id":5}"#,
        r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#,
        r#"{"id":5,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":5,"result":1,"error":1}"#,
        r#"{"jsonrpc":"2.0","id":5,"result":1} x"#,
        r#"{"jsonrpc":"2.0","id":5,"result":"#,
        r#"{"jsonrpc":"2.0","id":{},"result":1}"#,
        r#"{"error":nope"#,
    ];
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        for text in cases {
            fixture.assert_ignored(text, &[]);
            fixture.assert_ignored(text, &[null.as_fd()]);
        }
        drop(null);
        let (_, counts) = fixture.stop();
        assert_eq!(counts.refused, 2 * cases.len() as u64);
    }
}

#[test]
fn a_notification_runs_and_gets_no_reply() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let null = null();
        fixture.count_fds();
        fixture.assert_ignored(
            r#"{"jsonrpc":"2.0","method":"test.vault.ping","params":[1]}"#,
            &[],
        );
        let text = r#"{"jsonrpc":"2.0","method":"test.vault.swap","params":["x",0]}"#;
        fixture.assert_ignored(text, &[null.as_fd()]);
        let reply = fixture.ask(call(5, "tell", "[0]"), &[null.as_fd()]);
        assert_eq!(reply, json!({"jsonrpc": "2.0", "id": 5, "result": null}));
        fixture.assert_healthy();
        drop(null);
        let (state, counts) = fixture.stop();
        assert_eq!((state.tells, counts.refused, counts.undelivered), (1, 0, 0));
    }
}

#[test]
fn a_cancel_request_gets_a_reply_if_it_has_an_id() {
    alone!();
    for kind in KINDS {
        let mut fixture = Fixture::start(kind);
        let wish = r#"{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":7}}"#;
        fixture.assert_ignored(wish, &[]);
        for wish in [
            wish.replace(r#""method""#, r#""id":5,"method""#),
            wish.replace("}}", r#"},"id":5}"#),
        ] {
            let reply = fixture.ask(wish, &[]);
            assert_eq!(reply, json!({"jsonrpc": "2.0", "id": 5, "result": null}));
        }
        fixture.stop();
    }
}
