//! Which trace a call belongs to, as its client says.

use jsoncomm::message::WithFds;
use jsoncomm::server::TestCall;
use jsoncomm::socket::Socket;
use jsoncomm::{Call, Connection, Deferred, Fault, Stream, TraceParent};
use jsoncomm_tests::{KINDS, PATIENCE, Running, send_text};
use serde_json::Value;

const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[jsoncomm::service(name = "test.teller")]
trait Teller {
    fn trace(&mut self, call: &mut Call) -> Option<String>;
    fn later(&mut self, call: &mut Call) -> Deferred<Option<String>>;
    fn again(&mut self, call: &mut Call) -> Stream<String>;
    #[oneway]
    fn keep(&mut self, call: &mut Call);
    fn kept(&mut self) -> Vec<Option<String>>;
}

#[derive(Default)]
struct Desk {
    kept: Vec<Option<String>>,
}

fn told(call: &Call) -> Option<String> {
    call.trace_parent().map(|trace| trace.to_string())
}

impl Teller for Desk {
    fn trace(&mut self, call: &mut Call) -> Option<String> {
        told(call)
    }

    fn later(&mut self, call: &mut Call) -> Deferred<Option<String>> {
        let told = told(call);
        call.defer(|reply| {
            reply.send(told);
        })
    }

    fn again(&mut self, call: &mut Call) -> Stream<String> {
        let told = told(call);
        call.stream(|sink| sink.feed(told.into_iter().map(Ok)))
    }

    fn keep(&mut self, call: &mut Call) {
        self.kept.push(told(call));
    }

    fn kept(&mut self) -> Vec<Option<String>> {
        self.kept.clone()
    }
}

fn start(kind: jsoncomm::Kind) -> Running<Desk> {
    Running::start(kind, Desk::default(), |endpoint| {
        endpoint.serve::<dyn Teller>()
    })
}

#[test]
fn a_handler_gets_the_trace_that_its_caller_has_passed_and_no_other() {
    let trace: TraceParent = TEXT.parse().unwrap();
    for kind in KINDS {
        let server = start(kind);
        let plain = server.connect();
        let traced: Connection = plain.with_trace(trace);
        let (plain, traced) = (TellerClient::new(plain), TellerClient::new(traced));
        for _ in 0..2 {
            assert_eq!(traced.trace().unwrap().as_deref(), Some(TEXT));
            assert_eq!(plain.trace().unwrap(), None);
        }
        assert_eq!(traced.later().unwrap().as_deref(), Some(TEXT));
        let items: Vec<_> = traced.again().unwrap().map(Result::unwrap).collect();
        assert_eq!(items, [TEXT]);
        traced.keep().unwrap();
        plain.keep().unwrap();
        let other = trace.with_parent_id(1).unwrap();
        let batching = server.connect().with_trace(other).batching();
        let other = other.to_string();
        let batched = TellerClient::new(batching).start();
        let calls = [batched.trace().unwrap(), batched.trace().unwrap()];
        for call in calls {
            assert_eq!(call.wait().unwrap().as_ref(), Some(&other));
        }
        assert_eq!(plain.kept().unwrap(), [Some(TEXT.to_owned()), None]);
    }
}

#[test]
fn a_malformed_trace_is_ignored_and_a_repeated_one_refused() {
    for kind in KINDS {
        let server = start(kind);
        let mut client = Socket::connect(&server.path, kind).unwrap();
        client.set_timeout(Some(PATIENCE));
        let mut ask = |members: &str| -> Value {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"test.teller.trace"{members}}}"#);
            send_text(&client, text.as_bytes(), &[]).unwrap();
            client.receive::<WithFds<Value>>().unwrap().0.json
        };
        let good = format!(r#","traceparent":"{TEXT}""#);
        for members in [
            format!(r#"{good},"params":{{}}"#),
            format!(r#","params":{{}}{good}"#),
            format!(r#","params":{{}},"timeout":1000{good},"x":1"#),
        ] {
            assert_eq!(ask(&members)["result"], TEXT, "{members}");
        }
        for bad in [
            "7",
            "null",
            r#""""#,
            r#""00-0-0-0""#,
            "[]",
            r#"{"a":"b"}"#,
            r#""\u0030""#,
        ] {
            let reply = ask(&format!(r#","traceparent":{bad},"params":{{}}"#));
            assert_eq!(reply.get("result"), Some(&Value::Null), "{bad}: {reply}");
        }
        let twice = ask(&format!(r#"{good}{good},"params":{{}}"#));
        assert_eq!(twice["error"]["code"], Fault::INVALID_REQUEST, "{twice}");
    }
}

#[test]
fn a_call_of_a_unit_test_can_have_a_trace() {
    let trace: TraceParent = TEXT.parse().unwrap();
    let mut test = TestCall::new().in_trace(trace);
    assert_eq!(Desk::default().trace(test.call()).as_deref(), Some(TEXT));
    assert_eq!(Desk::default().trace(TestCall::new().call()), None);
}
