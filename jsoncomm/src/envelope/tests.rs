//! Which texts are envelopes, with members in any order, and which are refused.

use super::*;

fn params(text: &str) -> Result<(Option<Id<'_>>, String, u64), Fault> {
    let mut envelope = Envelope::open(text.as_bytes(), Depth::MAX)?;
    let value = envelope.decode(|text| {
        let length = Cursor::new(text).skip()?.len();
        Ok((text[..length].to_owned(), length))
    })?;
    let timeout = envelope.timeout.unwrap_or(0);
    Ok((envelope.id.flatten(), value.map_err(Fault::from)?, timeout))
}

#[test]
fn members_are_read_in_any_order() {
    let want = (Some(Id::Number(7)), String::from("{\"a\":[1]}"), 5);
    for text in [
        r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":[1]},"timeout":5}"#,
        r#"{"params":{"a":[1]},"timeout":5,"method":"m","jsonrpc":"2.0","id":7}"#,
        " { \"method\" : \"m\" ,\n\"params\" : {\"a\":[1]} ,\t\"id\":7,\"jsonrpc\":\"2.0\",\"timeout\":5 , \"x\":{\"y\":[]} } \r\n",
        r#"{"jsonrpc":"2.0","id":7,"\u006dethod":"m","params":{"a":[1]},"timeout":5}"#,
    ] {
        assert_eq!(params(text), Ok(want.clone()), "{text}");
    }
}

#[test]
fn absent_params_are_an_empty_object() {
    let text = r#"{"jsonrpc":"2.0","id":"a","method":"m"}"#;
    let (id, params, _) = params(text).unwrap();
    assert_eq!((id, &*params), (Some(Id::Text("\"a\"".into())), "{}"));
}

#[test]
fn an_invalid_request_is_an_error_with_the_reason() {
    let cases = [
        ("", Fault::PARSE_ERROR),
        ("{", Fault::PARSE_ERROR),
        ("nope", Fault::PARSE_ERROR),
        ("{\"jsonrpc\":\"2.0\",}", Fault::PARSE_ERROR),
        ("{\"jsonrpc\":\"2.0\" \"id\":7}", Fault::PARSE_ERROR),
        ("{\"jsonrpc\" \"2.0\"}", Fault::PARSE_ERROR),
        ("\u{feff}{\"jsonrpc\":\"2.0\"}", Fault::PARSE_ERROR),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"m"} x"#,
            Fault::PARSE_ERROR,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{}}}"#,
            Fault::PARSE_ERROR,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":}}"#,
            Fault::PARSE_ERROR,
        ),
        ("7", Fault::INVALID_REQUEST),
        ("[]", Fault::INVALID_REQUEST),
        (r#"{"id":7,"method":"m"}"#, Fault::INVALID_REQUEST),
        (
            r#"{"jsonrpc":"1.0","id":7,"method":"m"}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7.5,"method":"m"}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":5}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"m","params":5}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","params":null,"id":7,"method":"m"}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"id":7,"method":"m"}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","method":"m"}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","params":{},"params":{}}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","params":{},"p\u0061rams":{}}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"m","result":{}}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"m","error":{}}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","result":{},"method":"m","id":7}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"result":{},"method":"m"}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","timeout":-1}"#,
            Fault::INVALID_REQUEST,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","timeout":1e99}"#,
            Fault::INVALID_REQUEST,
        ),
    ];
    for (text, code) in cases {
        assert_eq!(
            params(text).map_err(|fault| fault.code),
            Err(code),
            "{text}"
        );
    }
    let invalid = Envelope::open(b"{\"id\":\"\xff\"}", Depth::MAX)
        .err()
        .unwrap();
    assert_eq!(invalid.code, Fault::PARSE_ERROR);
}

#[test]
fn every_integer_and_string_is_an_id_and_is_echoed() {
    for id in [
        "0",
        "18446744073709551615",
        "-3",
        "99999999999999999999",
        "\"x\\n\"",
    ] {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"m\"}}");
        let id_read = params(&text).unwrap().0.unwrap();
        let mut out = Vec::new();
        write_fault(&mut out, Some(&id_read), &Fault::new(-32601, "m"));
        let want = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32601,\"message\":\"m\"}}}}"
        );
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

#[test]
fn the_id_is_found_in_an_invalid_message() {
    let text = br#"{"jsonrpc":"2.0","method":5,"id":9}"#;
    assert_eq!(find_id(text), Some(Id::Number(9)));
    assert_eq!(find_id(b"{\"id\":9,"), Some(Id::Number(9)));
    assert_eq!(find_id(b"{\"id\":9"), None, "it may have been 90");
    assert_eq!(find_id(b"{\"id\":"), None);
    assert_eq!(find_id(b"nope"), None);
}

#[test]
fn a_reply_is_recognized_by_its_members() {
    let is_response = |text: &str| {
        Envelope::open(text.as_bytes(), Depth::MAX)
            .unwrap()
            .is_response()
    };
    assert!(is_response(r#"{"jsonrpc":"2.0","id":7,"result":1}"#));
    assert!(is_response(r#"{"jsonrpc":"2.0","result":1,"id":7}"#));
    assert!(!is_response(r#"{"jsonrpc":"2.0","id":7,"method":"m"}"#));
}

#[test]
fn a_call_a_notification_and_a_response_are_told_apart_without_an_envelope() {
    let call = || MessageKind::Call(Id::Number(7));
    for (text, kind) in [
        (r#"{"id":7,"method":"m","bad"#, call()),
        (r#"{"result":1,"method":"m","id":7}"#, call()),
        (r#"{"id":7,"id":8}"#, call()),
        // Cut off behind the id, or perhaps within it.
        (r#"{"id":7,"#, call()),
        (r#"{"id":7"#, MessageKind::Unknown),
        (r#"{"params":{"id":7,"x"#, MessageKind::Unknown),
        (r#"{"id":7,"error":1,"bad"#, MessageKind::Response),
        (r#"{"result":1,"id":[]}"#, MessageKind::Response),
        (
            r#"{"params":{"a":[1]},"method":"m"}"#,
            MessageKind::Notification,
        ),
        (r#"{"method":"m","params":{}"#, MessageKind::Unknown),
        (r#"{"method":"m"} {}"#, MessageKind::Unknown),
        (r#"{"method":"m","id":null}"#, MessageKind::Unknown),
        ("{}", MessageKind::Unknown),
        ("nope", MessageKind::Unknown),
        ("", MessageKind::Unknown),
    ] {
        assert_eq!(kind_of(text.as_bytes()), kind, "{text}");
    }
}

#[test]
fn an_error_object_is_a_fault_by_its_code_and_names_the_field() {
    let read = |text| ErrorObject::front(text, Depth::MAX).unwrap().0;
    let fault = read(r#"{"data":{"x":1,"field":"path"},"code":-32602,"message":"m"}"#);
    assert!(fault.is_fault());
    assert_eq!(fault.into_fault().field.as_deref(), Some("path"));
    let error = read(r#"{"code":1,"message":"m","data":[1]}"#);
    assert!(!error.is_fault());
    assert_eq!(error.data, Some("[1]"));
    assert!(ErrorObject::front("{\"code\":1}", Depth::MAX).is_err());
    assert!(ErrorObject::front("5", Depth::MAX).is_err());
}

#[test]
fn the_id_is_found_behind_any_nesting_without_recursion() {
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    let text = format!("{{\"jsonrpc\":\"2.0\",\"x\":{deep},\"method\":\"m\",\"id\":1}}");
    assert!(params(&text).is_err());
    assert_eq!(find_id(text.as_bytes()), Some(Id::Number(1)));
}

#[test]
fn a_text_with_two_messages_is_refused_for_what_it_is_in_any_order() {
    let refused = |members: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":7,{members}}}"#);
        let skipped =
            Envelope::open(text.as_bytes(), Depth::MAX).and_then(|mut envelope| envelope.skip());
        skipped.unwrap_err().message
    };
    let both = "both a call and a response";
    for (members, reason) in [
        (r#""method":"m","params":{},"error":1"#, both),
        (r#""method":"m","params":{},"result":1"#, both),
        (r#""params":{},"error":1,"method":"m""#, both),
        (r#""params":{},"error":1"#, both),
        (r#""error":1,"params":{}"#, both),
        (r#""result":1,"params":{}"#, both),
        (r#""result":1,"method":"m""#, both),
        (r#""result":1,"error":1"#, "both a result and an error"),
        (r#""error":1,"result":1"#, "both a result and an error"),
        (r#""result":1,"result":1"#, "result is repeated"),
        (r#""error":1,"error":1"#, "error is repeated"),
        (
            r#""method":"m","params":{},"params":{}"#,
            "params is repeated",
        ),
        (
            r#""params":{},"params":{},"method":"m""#,
            "params is repeated",
        ),
    ] {
        assert_eq!(refused(members), reason, "{members}");
    }
}
