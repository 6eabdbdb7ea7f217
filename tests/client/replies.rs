//! Replies that are late, wrong, foreign or too many.

use std::convert::Infallible;
use std::sync::mpsc::channel;

use jsoncomm_tests::{Slow, lingering};

use super::*;

#[test]
fn a_late_reply_is_dropped_and_its_descriptors_are_closed() {
    alone!();
    for kind in KINDS {
        let (connection, far) = against(kind, |mut far| {
            let late = far.receive_cancelled_call();
            let id = far.receive();
            far.send(opened(&late, 1), &[null().as_fd()]);
            far.open(&id, 2);
            far
        });
        let before = open_fds();
        time_out(&connection);
        let opened = FilesClient::new(connection.clone()).open("b").unwrap();
        assert_eq!(opened.len, 2);
        drop(opened);
        let far = far.join().unwrap();
        assert_open_fds(before);
        drop((connection, far));
    }
}

#[test]
fn unexpected_descriptors_of_a_reply_are_closed_without_blocking() {
    alone!();
    let before = open_fds();
    for kind in KINDS {
        for result in [r#"{"len":1,"file":1}"#, r#"{"file":0,"len":"1"}"#] {
            let (connection, far) = against(kind, move |mut far| {
                let id = far.receive();
                let Slow { fd, end } = lingering();
                let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
                far.send(text, &[fd.as_fd(), null().as_fd()]);
                (far, end)
            });
            let call = FilesClient::new(connection).start().open("a").unwrap();
            let end = far.join().unwrap();
            let (sender, receiver) = channel();
            let caller = std::thread::spawn(move || sender.send(call.wait().is_ok()));
            let read = receiver.recv_timeout(PATIENCE).unwrap();
            assert_eq!(read, result.ends_with("1}"));
            drop(end);
            caller.join().unwrap().unwrap();
        }
    }
    assert_open_fds(before);
}

#[test]
fn messages_that_are_not_the_reply_are_skipped() {
    alone!();
    for kind in KINDS {
        let (connection, far) = against(kind, |mut far| {
            let null = null();
            let one = &[null.as_fd()];
            for len in 0..3 {
                let id = far.receive();
                let number = id.as_u64().unwrap();
                for wrong in [
                    json!(number + 1),
                    json!(number - 1),
                    json!(0),
                    json!(id.to_string()),
                    json!(-1),
                ] {
                    far.send(opened(&wrong, 99), one);
                }
                // Neither a call nor an incomplete reply is the reply.
                let call = json!({"jsonrpc": "2.0", "id": id, "method": "test.files.open", "params": {"path": "a"}});
                far.send(call.to_string(), one);
                far.send(json!({"jsonrpc": "2.0", "method": "tell"}).to_string(), one);
                far.send(json!({"jsonrpc": "2.0", "result": 1}).to_string(), one);
                far.send(opened(&Value::Null, 99), one);
                far.open(&id, len);
                // Once more: the next call receives it.
                far.open(&id, 99);
            }
            drop(null);
            far
        });
        let files = FilesClient::new(connection);
        for len in 0..3 {
            assert_eq!(files.open("a").unwrap().len, len);
        }
        drop(far.join().unwrap());
    }
}

/// Replies with these texts, in which `ID` is the id, and passes the result of each call to `check`.
fn answered(
    texts: &'static [(&'static str, usize)],
    check: impl Fn(&str, Result<Opened, CallError<FilesError>>),
) {
    alone!();
    for kind in KINDS {
        let before = open_fds();
        let (connection, far) = against(kind, move |mut far| {
            let null = null();
            for (text, fds) in texts {
                let id = far.receive();
                far.send(
                    text.replace("ID", &id.to_string()),
                    &vec![null.as_fd(); *fds],
                );
                // The connection is usable afterwards.
                let id = far.receive();
                far.open(&id, 7);
            }
            drop(null);
            far
        });
        let files = FilesClient::new(connection);
        for (text, _) in texts {
            check(text, files.open("a"));
            assert_eq!(files.open("b").unwrap().len, 7, "after {text}");
        }
        drop((files, far.join().unwrap()));
        assert_open_fds(before);
    }
}

#[test]
fn a_malformed_reply_is_a_decoding_error() {
    answered(
        &[
            ("nope", 0),
            ("nope", 253),
            (r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1"#, 1),
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":0}} x"#,
                1,
            ),
            ("[]", 1),
            ("{}", 1),
            ("7", 1),
            (r#"{"id":ID,"result":{"len":1,"file":0}}"#, 1),
            (
                r#"{"jsonrpc":"1.0","id":ID,"result":{"len":1,"file":0}}"#,
                1,
            ),
            (r#"{"jsonrpc":"2.0","id":ID}"#, 1),
            (r#"{"jsonrpc":"2.0","id":ID,"params":{}}"#, 1),
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":0},"error":{"code":1,"message":"m"}}"#,
                1,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":0},"id":ID}"#,
                1,
            ),
            (r#"{"jsonrpc":"2.0","id":ID,"error":7}"#, 1),
            (r#"{"jsonrpc":"2.0","id":ID,"error":{"message":"m"}}"#, 1),
            (r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1}}"#, 1),
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"code":"1","message":"m"}}"#,
                1,
            ),
        ],
        |text, result| {
            let error = result.unwrap_err();
            assert!(
                matches!(error, CallError::Io(Error::Decode(_))),
                "{text}: {error:?}"
            );
        },
    );
}

#[test]
fn a_result_of_another_shape_names_the_field() {
    answered(
        &[
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":"1","file":0}}"#,
                1,
            ),
            (
                r#"{"jsonrpc":"2.0","result":{"len":-1,"file":0},"id":ID}"#,
                1,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1e400,"file":0}}"#,
                1,
            ),
            (r#"{"jsonrpc":"2.0","id":ID,"result":{"file":0}}"#, 1),
        ],
        |text, result| match result.unwrap_err() {
            CallError::Io(Error::Decode(DecodeError::Shape { field, .. })) => {
                assert_eq!(field.as_deref(), Some("len"), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        },
    );
    answered(
        &[
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":0}}"#,
                0,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":3}}"#,
                3,
            ),
        ],
        |text, result| match result.unwrap_err() {
            CallError::Io(Error::Decode(DecodeError::Descriptor { field, .. })) => {
                assert_eq!(field.as_deref(), Some("file"), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        },
    );
}

#[test]
fn an_invalid_memfd_payload_has_its_own_error() {
    answered(
        &[("<args-via-fd>", 0), ("<args-via-fd>", 1)],
        |text, result| {
            let error = result.unwrap_err();
            assert!(
                matches!(error, CallError::Io(Error::Payload { .. })),
                "{text}: {error:?}"
            );
        },
    );
}

#[test]
fn unknown_members_of_a_reply_are_ignored_and_their_descriptors_closed() {
    answered(
        &[
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":0}}"#,
                253,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":2}}"#,
                3,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"result":{"len":1,"file":0,"mode":7,"log":1}}"#,
                2,
            ),
            (
                r#"{"cost":[{"a":1}],"jsonrpc":"2.0","id":ID,"result":{"file":0,"len":1},"more":false}"#,
                1,
            ),
            (
                r#"{"result":{"len":1,"file":0},"id":ID,"jsonrpc":"2.0","timeout":5}"#,
                1,
            ),
        ],
        |text, result| {
            let opened = result.unwrap();
            assert_eq!(opened.len, 1, "{text}");
            let flags = rustix::io::fcntl_getfd(&opened.file).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        },
    );
}

#[test]
fn a_service_error_is_typed_and_an_unknown_one_is_a_fault() {
    answered(
        &[
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"m","data":{"NotFound":{"path":"p"}}}}"#,
                0,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"data":{"NotFound":{"path":"p","why":1}},"message":"m","code":1}}"#,
                1,
            ),
        ],
        |text, result| match result.unwrap_err() {
            CallError::Service(error) => {
                let path = String::from("p");
                assert_eq!(error, FilesError::NotFound { path }, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        },
    );
    answered(
        &[
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"code":2,"message":"no room","data":{"Full":{"file":0}}}}"#,
                1,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"code":2,"message":"no room","data":"Full"}}"#,
                0,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"code":2,"message":"no room"}}"#,
                1,
            ),
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"code":2,"message":"no room","data":null,"more":1}}"#,
                0,
            ),
        ],
        |text, result| match result.unwrap_err() {
            CallError::Fault(fault) => {
                assert_eq!((fault.code, &*fault.message), (2, "no room"), "{text}");
                assert_eq!(fault.field, None);
            }
            other => panic!("{text}: {other:?}"),
        },
    );
}

#[test]
fn a_fault_with_a_null_id_is_still_a_fault() {
    answered(
        &[
            (
                r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"m","data":{"field":"path"}}}"#,
                0,
            ),
            (
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"m","data":{"field":"path"}}}"#,
                1,
            ),
            (
                r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"m","data":{"x":[],"field":"path"}},"id":null}"#,
                0,
            ),
        ],
        |text, result| match result.unwrap_err() {
            CallError::Fault(fault) => {
                assert_eq!(
                    (fault.code, &*fault.message),
                    (Fault::INVALID_PARAMS, "m"),
                    "{text}"
                );
                assert_eq!(fault.field.as_deref(), Some("path"), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        },
    );
}

#[test]
fn a_fault_without_an_id_belongs_to_the_only_call_in_flight() {
    for kind in KINDS {
        let (near, mut far) = jsoncomm_tests::pair(kind);
        let near = near.as_fd().try_clone_to_owned().unwrap();
        let connection = Connection::from_fd(near).unwrap().with_timeout(PATIENCE);
        let call = connection.start::<u32, Infallible>("example.any", &(1,));
        let call = call.unwrap();
        far.receive::<WithFds<Value>>().unwrap();
        let fault = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}"#;
        send_raw(&far, fault, &[]).unwrap();
        let reply = call.wait();
        assert!(matches!(reply, Err(CallError::Fault(_))), "{reply:?}");
    }
}

#[test]
fn a_fault_without_an_id_does_not_belong_to_a_call_that_was_not_sent() {
    for kind in KINDS {
        let (near, far) = jsoncomm_tests::pair(kind);
        let near = near.as_fd().try_clone_to_owned().unwrap();
        let connection = Connection::from_fd(near).unwrap().with_timeout(PATIENCE);
        let unsent = connection.notify("example.any", &("x".repeat(2 << 20),));
        assert!(matches!(unsent, Err(CallError::NotSent(Error::Encode(_)))));
        let fault = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}"#;
        send_raw(&far, fault, &[]).unwrap();
        let reply: Result<u32, CallError> = connection.call("example.any", &(1,));
        assert!(matches!(reply, Err(CallError::Fault(_))), "{reply:?}");
    }
}
