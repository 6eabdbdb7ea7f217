//! Calls without a reply: errors that are known at once are returned to the caller.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use jsoncomm::message::EncodeError;
use jsoncomm::message::Json;
use jsoncomm::socket::Socket;
use jsoncomm::{CallError, Connection, Endpoint, Error, Fault, Kind, Limits};
use jsoncomm_tests::{KINDS, PATIENCE, Running, alone, assert_open_fds, open_fds, send_raw};
use serde_json::Value;

#[jsoncomm::service(name = "test.log")]
trait Log {
    #[oneway]
    fn line(&mut self, text: &str);
    #[oneway]
    fn sink(&mut self, #[fd] sinks: Vec<OwnedFd>);
    fn lines(&mut self) -> (usize, usize);
}

#[derive(Debug, Default)]
struct Lines {
    texts: usize,
    sinks: usize,
}

impl Log for Lines {
    fn line(&mut self, text: &str) {
        self.texts += text.len();
    }

    fn sink(&mut self, sinks: Vec<OwnedFd>) {
        self.sinks += sinks.len();
    }

    fn lines(&mut self) -> (usize, usize) {
        (self.texts, self.sinks)
    }
}

#[test]
fn one_way_calls_run_in_order_and_leak_nothing() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, Lines::default(), |endpoint| {
            endpoint.serve::<dyn Log>()
        });
        let log = LogClient::new(server.connect());
        assert_eq!(log.lines().unwrap(), (0, 0));
        let before = open_fds();
        let null = File::open("/dev/null").unwrap();
        for _ in 0..100 {
            log.line("four").unwrap();
            log.sink(&[null.as_fd(), null.as_fd()]).unwrap();
        }
        assert_eq!(log.lines().unwrap(), (400, 200));
        drop(null);
        assert_open_fds(before);
    }
}

#[test]
fn a_one_way_call_above_the_limit_is_an_error_and_not_sent() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, Lines::default(), |endpoint| {
            endpoint.serve::<dyn Log>()
        });
        let log = LogClient::new(server.connect());
        let error = log.line(&"x".repeat(1 << 20)).unwrap_err();
        let CallError::NotSent(Error::Encode(EncodeError::TooLarge { limit, .. })) = error else {
            panic!("{error:?}");
        };
        assert_eq!(limit, 1 << 20);
        let null = File::open("/dev/null").unwrap();
        let error = log.sink(&[null.as_fd(); 254]).unwrap_err();
        let CallError::NotSent(Error::Encode(EncodeError::FdCount { count, .. })) = error else {
            panic!("{error:?}");
        };
        assert_eq!(count, 254);
        assert_eq!(log.lines().unwrap(), (0, 0));
    }
}

#[test]
fn a_one_way_call_under_backpressure_ends_at_its_deadline() {
    alone!();
    for kind in KINDS {
        let (near, _far_that_reads_nothing) = Socket::pair(kind).unwrap();
        let near = near.as_fd().try_clone_to_owned().unwrap();
        let connection = Connection::from_fd(near).unwrap();
        let log = LogClient::new(connection.with_timeout(Duration::from_millis(20)));
        let error = loop {
            if let Err(error) = log.line(&"x".repeat(10_000)) {
                break error;
            }
        };
        assert!(
            matches!(error, CallError::NotSent(Error::Deadline)),
            "{error:?}"
        );
    }
}

#[test]
fn a_one_way_call_to_a_closed_server_fails_with_closed() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, Lines::default(), |endpoint| {
            endpoint.serve::<dyn Log>()
        });
        let log = LogClient::new(server.connect());
        log.line("heard").unwrap();
        server.stop();
        let error = log.line("not heard").unwrap_err();
        assert!(matches!(error, CallError::Closed), "{error:?}");
    }
}

/// Sends a one-way call and a call, each with a descriptor, to a server that must refuse both with this code. Asserts that
/// the only reply is the call's.
fn assert_only_the_call_is_replied_to(
    limits: Limits,
    kind: Kind,
    code: i64,
    serve: impl FnOnce(Endpoint<'_, Lines>) -> Endpoint<'_, Lines>,
) {
    let server = Running::with_limits(limits, kind, Lines::default(), serve);
    let mut raw = Socket::connect(&server.path, kind).unwrap();
    raw.set_timeout(Some(PATIENCE));
    let null = File::open("/dev/null").unwrap();
    for id in ["", r#","id":7"#] {
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"test.log.sink","params":{{"sinks":[0]}}{id}}}"#);
        send_raw(&raw, text.as_bytes(), &[null.as_fd()]).unwrap();
    }
    let (Json(reply), _) = raw.receive::<Json<Value>>().unwrap();
    assert_eq!(
        (&reply["id"], &reply["error"]["code"]),
        (&7.into(), &code.into())
    );
    let (state, counts) = server.stop();
    assert_eq!((state.sinks, counts.refused_with(code)), (0, 2));
}

#[test]
fn a_one_way_call_with_too_many_descriptors_is_counted_and_gets_no_fault() {
    alone!();
    for kind in KINDS {
        let mut limits = Limits::default();
        limits.descriptors = 0;
        let code = Fault::INVALID_DESCRIPTORS;
        assert_only_the_call_is_replied_to(limits, kind, code, |endpoint| {
            endpoint.serve::<dyn Log>()
        });
    }
}

#[test]
fn a_one_way_call_of_an_unauthorized_datagram_sender_is_counted_and_gets_no_fault() {
    alone!();
    let (limits, code) = (Limits::default(), Fault::NOT_AUTHORIZED);
    assert_only_the_call_is_replied_to(limits, Kind::Datagram, code, |endpoint| {
        endpoint.authorize(|_| false).serve::<dyn Log>()
    });
}
